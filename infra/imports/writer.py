"""Event log files: public events in their total order, one JSON object a line.

1. A log is sorted by the order that intake uses, and ``source_sequence`` counts each source's events from 1 along it:
   reading the file from its beginning and sorting it are the same thing.
2. A log appears whole or not at all: it is written beside its name and renamed.
"""

import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import zstandard

from schemas.events import TYPE_RANK, Event

LOG_SUFFIXES: Final = (".ndjson", ".jsonl", ".ndjson.zst", ".jsonl.zst", ".ndjson.gz", ".jsonl.gz")
_PROGRESS_EVERY: Final = 4096


class LogSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a log holds: events in all, by type and by source, its time span, and its size on disk."""

    path: str
    events: int
    by_type: dict[str, int]
    by_source: dict[str, int]
    first_time_ns: int
    last_time_ns: int
    bytes: int


def arrange(events: Iterable[Event]) -> list[Event]:
    """Return the events in their total order, each source numbered from 1.

    Events of one nanosecond, type and source keep the order in which they came.
    """
    ordered = sorted(events, key=lambda event: (event.event_time_ns, TYPE_RANK[type(event)], event.source))
    counts: dict[str, int] = {}
    numbered: list[Event] = []
    for event in ordered:
        counts[event.source] = counts.get(event.source, 0) + 1
        numbered.append(msgspec.structs.replace(event, source_sequence=counts[event.source]))
    return numbered


def write_log(path: Path, events: Iterable[Event], progress: Callable[[int, int], None] | None = None) -> LogSummary:
    """Write ``events`` as the log ``path`` and return what it holds.

    Parameters
    ----------
    path : ends in one of ``LOG_SUFFIXES``; replaced if it exists.
    events : in any order; ``source_sequence`` is set here.
    progress : called now and then with events written and events in all.

    Raises
    ------
    ValueError : an unknown suffix, no events, or one event id used twice.
    """
    if not path.name.endswith(LOG_SUFFIXES):
        raise ValueError(f"{path.name}: an event log ends in one of {', '.join(LOG_SUFFIXES)}")
    numbered = arrange(events)
    if not numbered:
        raise ValueError("there are no events to write")
    by_type: dict[str, int] = {}
    by_source: dict[str, int] = {}
    seen: set[str] = set()
    encode = msgspec.json.Encoder().encode
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    with _opened(unfinished, path.name) as file:
        for count, event in enumerate(numbered):
            if event.event_id in seen:
                raise ValueError(f"event id {event.event_id} is used twice")
            seen.add(event.event_id)
            kind = str(event.__struct_config__.tag)
            by_type[kind] = by_type.get(kind, 0) + 1
            by_source[event.source] = by_source.get(event.source, 0) + 1
            file.write(encode(event) + b"\n")
            if progress is not None and count % _PROGRESS_EVERY == 0:
                progress(count, len(numbered))
    unfinished.replace(path)
    if progress is not None:
        progress(len(numbered), len(numbered))
    return LogSummary(
        path=str(path),
        events=len(numbered),
        by_type=dict(sorted(by_type.items())),
        by_source=dict(sorted(by_source.items())),
        first_time_ns=numbered[0].event_time_ns,
        last_time_ns=numbered[-1].event_time_ns,
        bytes=path.stat().st_size,
    )


@contextmanager
def _opened(unfinished: Path, name: str) -> Iterator[Any]:
    """Yield the file to write to, compressed as ``name`` says; leave nothing behind on failure."""
    try:
        with unfinished.open("wb") as raw:
            if name.endswith(".zst"):
                with zstandard.ZstdCompressor(level=6).stream_writer(raw, closefd=False) as compressed:
                    yield compressed
            elif name.endswith(".gz"):
                # A fixed modification time: the same events are the same bytes.
                with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as compressed_gz:
                    yield compressed_gz
            else:
                yield raw
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
