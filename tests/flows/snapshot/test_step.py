"""When files are cut: at barriers, by rows and ledger time alone, whatever the checkpoints."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.snapshot.step import Snapshot, SnapshotFile
from schemas.checkpoint import CheckpointError
from tests.flows.snapshot import world as w

LISTINGS, HISTORY = w.a_history(processes=2)


def _files(rows_max: int, span_ns_max: int, restore_after: set[int]) -> list[SnapshotFile]:
    snapshot = Snapshot(rows_max=rows_max, span_ns_max=span_ns_max)
    files: list[SnapshotFile] = []
    for place, barrier in enumerate(HISTORY):
        files += w.run(snapshot, LISTINGS, [barrier])
        if place in restore_after:
            saved = snapshot.checkpoint(LISTINGS)
            snapshot = Snapshot(rows_max=rows_max, span_ns_max=span_ns_max)
            snapshot.restore(saved)
    return files + snapshot.flush(LISTINGS)


def _shown(files: list[SnapshotFile]) -> list[tuple[str, list[dict[str, object]]]]:
    return [(file.relative_path, file.rows.to_pylist()) for file in files]


@settings(max_examples=25)
@given(
    rows_max=st.integers(1, 200),
    span_ns_max=st.integers(0, 3 * w.HOUR_NS),
    restore_after=st.sets(st.integers(0, len(HISTORY) - 1)),
)
def test_checkpoints_change_nothing(rows_max: int, span_ns_max: int, restore_after: set[int]) -> None:
    """Law: stopped and restored at any barriers, the stage hands out the same files."""
    whole = _files(rows_max, span_ns_max, set())

    resumed = _files(rows_max, span_ns_max, restore_after)

    assert _shown(resumed) == _shown(whole)


@settings(max_examples=25)
@given(rows_max=st.integers(1, 200), span_ns_max=st.integers(0, 3 * w.HOUR_NS))
def test_no_row_is_lost_or_doubled(rows_max: int, span_ns_max: int) -> None:
    """Law: wherever files are cut, together they hold each table once, in order, and no path twice."""
    expected = w.tables(processes=2)

    files = _files(rows_max, span_ns_max, set())

    for name, table in expected.items():
        assert [row for file in files if file.table == name for row in file.rows.to_pylist()] == table.to_pylist(), name
    assert len({file.relative_path for file in files}) == len(files)


def test_all_tables_are_cut_together() -> None:
    """A published state shows every table up to the same barrier."""
    snapshot = Snapshot(rows_max=1)

    cuts = [w.run(snapshot, LISTINGS, [barrier]) for barrier in HISTORY]

    for barrier, files in zip(HISTORY, cuts, strict=True):
        barriers = [file for file in files if file.table == "barriers"]
        assert [file.last_frame for file in barriers] == [barrier.barrier.number]
        assert max(file.last_frame for file in files) == barrier.barrier.number
    assert snapshot.flush(LISTINGS) == []


def test_rows_wait_for_their_file() -> None:
    """Many barriers share a file until rows or ledger time say otherwise."""
    by_time = Snapshot(rows_max=10**9, span_ns_max=w.HOUR_NS)

    cuts = [len(w.run(by_time, LISTINGS, [barrier])) > 0 for barrier in HISTORY]

    # The barriers stand at 23:00, 23:30 and 00:30.
    assert cuts == [False, False, True]


def test_a_file_holds_one_day_of_ledger_time() -> None:
    """Midnight UTC parts the rows, and the path names the day and the frames."""
    snapshot = Snapshot(rows_max=10**9, span_ns_max=10**18)
    w.run(snapshot, LISTINGS, HISTORY)

    paths = [file.relative_path for file in snapshot.flush(LISTINGS) if file.table == "accounts"]

    assert paths == [
        "snapshot/accounts/day=2026-02-05/000000000002-000000000004.parquet",
        "snapshot/accounts/day=2026-02-06/000000000006-000000000006.parquet",
    ]


def test_listings_are_written_at_the_frame_that_made_them() -> None:
    """A row of a listing is traced to its frame, not to the file's barrier."""
    tables = w.tables(processes=2)

    frames = tables["instruments"].column("frame").to_pylist() + tables["assets"].column("frame").to_pylist()

    assert frames == [0] * 6
    assert tables["instruments"].column("strike").to_pylist() == [None, None, 2500.0]


def test_a_damaged_checkpoint_is_refused() -> None:
    """One flipped bit must not become rows."""
    snapshot = Snapshot(rows_max=10**9)
    w.run(snapshot, LISTINGS, HISTORY[:1])
    saved = bytearray(snapshot.checkpoint(LISTINGS))

    saved[len(saved) // 2] ^= 1

    with pytest.raises(CheckpointError):
        Snapshot().restore(bytes(saved))
