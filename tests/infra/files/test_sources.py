"""Event logs on disk: every format, damage, bombs, order, and going on where one stopped."""

import gzip
import json
import random
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from flows.intake.decode import LINE_BYTES_MAX, Arrival
from flows.intake.merge import order_key
from infra.files import sources
from infra.files.sources import EventFile, EventLog, SourceError, merged
from schemas.events import Event
from schemas.failures import DeadLetter
from tests.flows.intake.builders import event_fill, event_price, event_venue, to_line, to_row

EVENTS: list[Event] = sorted(
    [
        *event_venue(),
        *[event_price(place, at=place // 3, source=f"s{place % 2}") for place in range(200)],
        *[event_fill(place, at=place) for place in range(100)],
    ],
    key=order_key,
)
LINES = [to_line(event) for event in EVENTS]


def _write(path: Path, data: bytes) -> Path:
    """Write bytes, packed as the file's name says."""
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


def _flat(blocks: Iterable[Iterable[Arrival]]) -> list[Arrival]:
    return [arrival for block in blocks for arrival in block]


def _events(arrived: list[Arrival]) -> list[Event | DeadLetter]:
    return [arrival[0] for arrival in arrived]


def _parquet(path: Path, events: list[Event], **changes: object) -> Path:
    names = sorted({name for event in events for name in to_row(event)})
    rows = [{name: to_row(event).get(name) for name in names} for event in events]
    table = pa.Table.from_pylist(rows)
    for name, kind in changes.items():
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(kind))
    pq.write_table(table, path, row_group_size=70)
    return path


@pytest.mark.parametrize("name", ["a.ndjson", "a.jsonl", "a.ndjson.gz", "a.ndjson.zst"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
def test_every_packing_gives_the_same_events(tmp_path: Path, name: str, end: bytes) -> None:
    """A log must mean the same however it is packed, with or without a last line feed."""
    path = _write(tmp_path / name, b"\n".join(LINES) + end)

    arrived = _flat(EventFile(path).read())

    assert _events(arrived) == EVENTS
    assert [arrival[1] for arrival in arrived] == LINES
    assert [arrival[3] for arrival in arrived] == list(range(1, len(LINES) + 1))


def test_parquet_gives_the_same_events(tmp_path: Path) -> None:
    """The same columns as Parquet must make the same ledger, typed times included."""
    plain = _parquet(tmp_path / "a.parquet", EVENTS)
    typed = _parquet(tmp_path / "b.parquet", EVENTS, event_time_ns=pa.timestamp("ns", tz="UTC"))

    assert _events(_flat(EventFile(plain).read())) == EVENTS
    assert _events(_flat(EventFile(typed).read())) == EVENTS


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz", "a.ndjson.zst", "a.parquet"])
def test_reading_goes_on_behind_a_position(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume must read what was not read, and nothing twice; also across blocks of reading."""
    path = tmp_path / name
    if name.endswith("parquet"):
        _parquet(path, EVENTS)
    else:
        _write(path, b"\n".join([b"", b"{", *LINES[:9], b"  ", *LINES[9:]]) + b"\n")
    monkeypatch.setattr(sources, "_READ_BYTES", 300)
    whole = _flat(EventFile(path).read())

    for skip in (0, 1, 2, 5, 11, 12, 13, 70, 71, 140, 300, 308, 309, 400):
        rest = _flat(EventFile(path).read(skip))

        assert rest == [arrival for arrival in whole if arrival[4] > skip]


def test_a_bad_line_is_one_dead_letter_in_its_place(tmp_path: Path) -> None:
    """Good lines around a bad one must get through, and its number must be right."""
    path = _write(tmp_path / "a.ndjson", b"\n".join([LINES[0], b"{bad", LINES[1], b"\xff\xfe", LINES[2]]))

    arrived = _flat(EventFile(path).read())

    assert [arrival[0] for arrival in arrived if not isinstance(arrival[0], DeadLetter)] == EVENTS[:3]
    letters = [arrival[0] for arrival in arrived if isinstance(arrival[0], DeadLetter)]
    assert [(one.reason.value, one.origin.offset) for one in letters] == [("malformed_json", 2), ("bad_utf8", 4)]


@pytest.mark.parametrize("length", [LINE_BYTES_MAX + 1, 5 << 20])
def test_an_over_long_line_is_cut_and_refused(tmp_path: Path, length: int) -> None:
    """A line without an end must not fill memory, nor take the next one with it."""
    path = _write(tmp_path / "a.ndjson.gz", LINES[0] + b"\n" + b"x" * length + b"\n" + LINES[1])

    arrived = _flat(EventFile(path).read())

    assert [type(arrival[0]) for arrival in arrived] == [type(EVENTS[0]), DeadLetter, type(EVENTS[1])]
    letter = arrived[1][0]
    assert isinstance(letter, DeadLetter)
    assert letter.reason.value == "line_too_long"
    assert len(letter.payload) == LINE_BYTES_MAX


@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.ndjson.zst"])
@pytest.mark.parametrize(("byte", "mebibytes"), [(b"x", 200), (b"\n", 1)])
def test_a_bomb_does_not_fill_memory(tmp_path: Path, name: str, byte: bytes, mebibytes: int) -> None:
    """Some kilobytes that unpack to one line of 200 MiB, or to a million empty ones."""
    path = tmp_path / name
    blocks = (byte * (1 << 20) for _ in range(mebibytes))
    if name.endswith("gz"):
        with gzip.open(path, "wb", compresslevel=1) as packed:
            for block in blocks:
                packed.write(block)
    else:
        with path.open("wb") as raw, zstandard.ZstdCompressor().stream_writer(raw) as packed:
            for block in blocks:
                packed.write(block)
    tracemalloc.start()

    arrived = _flat(EventFile(path).read())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(arrived) == (1 if byte == b"x" else 0)
    assert peak < 100 << 20


@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.ndjson.zst"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "rubbish behind"])
def test_good_lines_before_damage_count(tmp_path: Path, name: str, damage: str) -> None:
    """A file that was cut by a crash of its writer must give what it has, and say that it was cut."""
    rng = random.Random(1)
    many = [*LINES, *[to_line(event_price(place, at=10**6, feed=str(rng.random()))) for place in range(20_000)]]
    path = _write(tmp_path / name, b"\n".join(many))
    packed = path.read_bytes()
    half = len(packed) // 2
    path.write_bytes(
        {
            "truncated": packed[:half],
            "flipped": packed[:half] + bytes(byte ^ 0x5A for byte in packed[half : half + 400]) + packed[half + 400 :],
            "rubbish behind": packed + b"rubbish",
        }[damage]
    )
    file = EventFile(path)

    arrived = _flat(file.read())

    letter = arrived[-1][0]
    assert isinstance(letter, DeadLetter)
    assert letter.reason.value == "unreadable_row"
    assert [arrival[1] for arrival in arrived[: len(LINES)]] == LINES
    assert len(arrived) > 1000
    assert _flat(file.read(arrived[-2][4])) == arrived[-1:]
    assert _flat(file.read(arrived[-1][4])) == []
    assert file.is_sorted() in (True, False)


def test_a_damaged_parquet_is_one_dead_letter(tmp_path: Path) -> None:
    """A table that cannot be opened must not stop the others."""
    path = _parquet(tmp_path / "a.parquet", EVENTS)
    path.write_bytes(path.read_bytes()[:-100])

    (arrival,) = _flat(EventFile(path).read())

    assert isinstance(arrival[0], DeadLetter)
    assert arrival[0].reason.value == "unreadable_row"


def test_several_members_are_one_file(tmp_path: Path) -> None:
    """Logs are appended to by packing another piece."""
    half = len(LINES) // 2
    pieces = [b"\n".join(LINES[:half]) + b"\n", b"\n".join(LINES[half:])]
    (tmp_path / "a.ndjson.gz").write_bytes(b"".join(map(gzip.compress, pieces)) + bytes(512))
    (tmp_path / "a.ndjson.zst").write_bytes(b"".join(map(zstandard.compress, pieces)))

    for name in ("a.ndjson.gz", "a.ndjson.zst"):
        assert _events(_flat(EventFile(tmp_path / name).read())) == EVENTS


@pytest.mark.parametrize("name", ["none.ndjson", "folder.ndjson", "a.csv", "a.parquet.gz", "plain"])
def test_what_is_no_log_is_named(tmp_path: Path, name: str) -> None:
    """A wrong path must be told at once, not as an empty replay."""
    (tmp_path / "folder.ndjson").mkdir()
    for other in ("a.csv", "a.parquet.gz", "plain"):
        (tmp_path / other).write_text("")

    with pytest.raises(SourceError, match=name):
        EventFile(tmp_path / name)


def test_one_file_given_twice_is_named(tmp_path: Path) -> None:
    """Its events would all be repeats, and its positions would be one."""
    path = _write(tmp_path / "a.ndjson", b"")

    with pytest.raises(SourceError, match="twice"):
        EventLog([path, tmp_path / "." / "a.ndjson"], work=tmp_path)


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz", "a.parquet"])
@pytest.mark.parametrize("run_events", [7, 10_000])
def test_a_file_out_of_order_is_sorted(
    tmp_path: Path, name: str, run_events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of lines in a file must not decide the ledger; memory must not either."""
    monkeypatch.setattr(sources, "_RUN_EVENTS", run_events)
    monkeypatch.setattr(sources, "_ROWS_PER_READ", 5)
    monkeypatch.setattr(sources, "_READ_BYTES", 500)
    shuffled = EVENTS.copy()
    random.Random(3).shuffle(shuffled)
    path = tmp_path / name
    if name.endswith("parquet"):
        _parquet(path, shuffled)
    else:
        _write(path, b"\n".join([*[to_line(event) for event in shuffled[:50]], b"{", *map(to_line, shuffled[50:])]))
    log = EventLog([path], work=tmp_path / "work")

    arrived = _flat(log.blocks())
    again = _flat(EventLog([path], work=tmp_path / "other").blocks({f"{path}:0": 100}))

    assert log.out_of_order == [path]
    assert [event for event in _events(arrived) if not isinstance(event, DeadLetter)] == EVENTS
    assert [arrival[4] for arrival in arrived] == list(range(1, len(arrived) + 1))
    assert again == arrived[100:]
    if not name.endswith("parquet"):
        assert isinstance(arrived[0][0], DeadLetter)
        assert arrived[0][0].origin.offset == 51
        assert shuffled[arrived[1][3] - 1 - (arrived[1][3] > 51)] == arrived[1][0]
    log.close()
    assert not (tmp_path / "work" / "sort-0000").exists()


def test_ties_out_of_order_are_seen(tmp_path: Path) -> None:
    """Only the last part of the order differs: by sequence, and by content."""
    by_sequence = [to_line(event_price(place, event_id="x")) for place in (2, 1)]
    by_content = [to_line(event_price(1, price=price)) for price in ("2", "1")]
    in_order = [to_line(event_price(1, price=price)) for price in ("1", "1", "2")]

    answers = [
        EventFile(_write(tmp_path / f"{place}.ndjson", b"\n".join(lines))).is_sorted()
        for place, lines in enumerate((by_sequence, by_content, in_order))
    ]

    assert answers == [False, False, True]


def test_files_in_any_split_are_one_log(tmp_path: Path) -> None:
    """Formats, order and number of files must not matter, and positions must be enough to go on."""
    rng = random.Random(5)
    names = ["c.ndjson", "a.ndjson.gz", "b.ndjson.zst", "d.parquet"]
    parts: list[list[Event]] = [[], [], [], []]
    for event in EVENTS:
        rng.choice(parts).append(event)
    paths = [
        _parquet(tmp_path / name, part)
        if name.endswith("parquet")
        else _write(tmp_path / name, b"\n".join(map(to_line, part)))
        for name, part in zip(names, parts, strict=True)
    ]

    arrived = _flat(merged(paths, work=tmp_path / "work"))
    positions = {arrival[2].name: arrival[4] for arrival in arrived[:150]}
    rest = _flat(merged(paths, work=tmp_path / "work", positions=positions))

    assert _events(arrived) == EVENTS
    assert _events(rest) == EVENTS[150:]


def test_progress_reaches_its_total(tmp_path: Path) -> None:
    """A progress bar that stops at 80 % looks like a hang."""
    path = _write(tmp_path / "a.ndjson.gz", b"\n".join(LINES))
    table = _parquet(tmp_path / "b.parquet", EVENTS)
    scanned: list[int] = []
    log = EventLog([path, table], work=tmp_path / "work", on_scan=scanned.append)

    for _ in log.blocks():
        pass

    assert log.bytes_read == log.bytes_total == path.stat().st_size + table.stat().st_size
    assert scanned[-1] == log.bytes_total


def test_json_of_a_log_is_what_a_line_is() -> None:
    """The builders of these tests write what users write."""
    assert json.loads(LINES[0])["type"] == "asset.listed"
