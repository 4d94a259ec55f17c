"""The throughput stream: counted, ordered, repeatable, and in the public schema."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import zstandard

from infra.demo.stream import small_events, write_small_events
from schemas.events import AnyEvent, Collateral, Fill, OraclePrice

COUNT = 12_000


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    """A small stream's lines."""
    data = b"".join(small_events(COUNT, seed=1, accounts=100, days=25.0))
    return data.split(b"\n")[:-1]


def test_every_line_is_an_event_as_msgspec_would_write_it(lines: list[bytes]) -> None:
    """Fails where a template leaves the schema."""
    events = [msgspec.json.decode(line, type=AnyEvent) for line in lines]

    written = [msgspec.json.encode(event) for event in events]

    assert written == lines
    assert len(lines) == COUNT
    assert len({event.event_id for event in events}) == COUNT


def test_lines_are_in_order_and_spread_over_the_days(lines: list[bytes]) -> None:
    """Fails where time goes back or the log is bunched, so that the duplicate window would hold all of it."""
    times = [msgspec.json.decode(line, type=AnyEvent).event_time_ns for line in lines]

    span_days = (times[-1] - times[0]) / 86_400e9

    assert all(before <= after for before, after in pairwise(times))
    assert 24.0 < span_days < 26.0


def test_one_event_in_ten_is_a_tick(lines: list[bytes]) -> None:
    """Fails where the mix changes."""
    kinds = Counter(type(msgspec.json.decode(line, type=AnyEvent)) for line in lines)

    share = kinds[OraclePrice] / COUNT

    assert 0.08 < share < 0.12
    assert kinds[Fill] > 7 * kinds[Collateral]


def test_a_file_holds_the_same_bytes_compressed_or_not(tmp_path: Path, lines: list[bytes]) -> None:
    """Fails where the compressed stream is not finished, or the bytes depend on more than the arguments."""
    plain, compressed = tmp_path / "small.ndjson", tmp_path / "small.ndjson.zst"

    sizes = [write_small_events(path, COUNT, seed=1, accounts=100, days=25.0) for path in (plain, compressed)]

    with compressed.open("rb") as file:
        unpacked = zstandard.ZstdDecompressor().stream_reader(file).read()
    assert plain.read_bytes() == unpacked == b"".join(line + b"\n" for line in lines)
    assert sizes == [len(unpacked)] * 2


def test_too_few_lines_for_the_accounts_are_refused() -> None:
    """Fails where a stream would silently hold fewer accounts than asked for."""
    with pytest.raises(ValueError, match="need at least"):
        list(small_events(10, seed=1, accounts=100))
