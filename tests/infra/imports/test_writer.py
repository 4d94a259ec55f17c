"""Event log files: order, numbering, and nothing left behind."""

import gzip
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from infra.imports.writer import arrange, write_log
from schemas.events import TYPE_RANK, AccountOpened, AnyEvent, Event, OraclePrice


def a_price(time_ns: int, source: str = "atlas", event_id: str = "") -> OraclePrice:
    return OraclePrice(
        event_id=event_id or f"{source}-{time_ns}",
        event_time_ns=time_ns,
        source=source,
        source_sequence=0,
        feed="BTC/USD",
        price="50000",
        confidence="0",
        publish_time_ns=time_ns,
    )


def an_account(time_ns: int, account: str) -> AccountOpened:
    return AccountOpened(
        event_id=account,
        event_time_ns=time_ns,
        source="venue",
        source_sequence=0,
        account=account,
        margin_model="tidegate-standard",
        margin_mode="cross",
    )


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["atlas", "borealis"]), st.booleans()), max_size=30))
def test_order_is_total_and_every_source_counts_from_one(rows: list[tuple[int, str, bool]]) -> None:
    """Fails if a log is not in intake's order (time, type, source, sequence), or a source's numbers have gaps."""
    events: list[Event] = [
        a_price(time, source, f"p{i}") if price else an_account(time, f"a{i}")
        for i, (time, source, price) in enumerate(rows)
    ]

    out = arrange(events)

    keys = [(e.event_time_ns, TYPE_RANK[type(e)], e.source, e.source_sequence) for e in out]
    assert keys == sorted(keys)
    for source in {e.source for e in out}:
        numbers = [e.source_sequence for e in out if e.source == source]
        assert numbers == list(range(1, len(numbers) + 1))
    assert sorted(e.event_id for e in out) == sorted(e.event_id for e in events)


@pytest.mark.parametrize("suffix", [".ndjson", ".ndjson.zst", ".ndjson.gz"])
def test_every_line_decodes_to_the_event_that_was_written(tmp_path: Path, suffix: str) -> None:
    """Fails if a compression or the encoding changes an event, or the summary miscounts."""
    events: list[Event] = [a_price(1_700_000_000_000_000_002), an_account(1_700_000_000_000_000_001, "alice")]
    path = tmp_path / f"log{suffix}"

    summary = write_log(path, events)

    raw = path.read_bytes()
    if suffix.endswith(".zst"):
        raw = zstandard.ZstdDecompressor().decompressobj().decompress(raw)
    elif suffix.endswith(".gz"):
        raw = gzip.decompress(raw)
    decoded = [msgspec.json.decode(line, type=AnyEvent) for line in raw.splitlines()]
    assert decoded == arrange(events)
    assert (summary.events, summary.by_type) == (2, {"account.opened": 1, "oracle.price": 1})
    assert (summary.first_time_ns, summary.last_time_ns) == (1_700_000_000_000_000_001, 1_700_000_000_000_000_002)


def test_a_repeated_event_id_leaves_the_old_log_and_nothing_else(tmp_path: Path) -> None:
    """Fails if a failed import damages an earlier log or leaves an unfinished file."""
    path = tmp_path / "log.ndjson"
    write_log(path, [a_price(1)])
    before = path.read_bytes()

    with pytest.raises(ValueError, match="used twice"):
        write_log(path, [a_price(1, event_id="x"), a_price(2, event_id="x")])

    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["log.ndjson"]


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    """Fails if a log is written under a name that no reader would recognise."""
    with pytest.raises(ValueError, match=r"\.ndjson"):
        write_log(tmp_path / "log.csv", [a_price(1)])
