"""Snapshot files: one consistent state at any moment, the same bytes, and a directory that can be moved."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from flows.snapshot.step import Snapshot, SnapshotFile
from flows.snapshot.tables import SCHEMAS
from infra.files.query import SnapshotQuery
from infra.files.snapshots import (
    DATABASE,
    SnapshotError,
    SnapshotStore,
    build_database,
    damaged_files,
    parquet_bytes,
    read_manifest,
)
from tests.flows.snapshot import world as w

LISTINGS, HISTORY = w.a_history(processes=2)
COUNT = "SELECT count(*) AS rows, max(frame) AS frame FROM accounts"


def _cuts() -> list[list[SnapshotFile]]:
    snapshot = Snapshot(rows_max=1)
    return [w.run(snapshot, LISTINGS, [barrier]) for barrier in HISTORY]


def _published(directory: Path, cuts: Sequence[Sequence[SnapshotFile]]) -> SnapshotStore:
    directory.mkdir(exist_ok=True)
    store = SnapshotStore(directory)
    for cut in cuts:
        store.publish(cut)
    return store


def _contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def _seen(directory: Path) -> list[dict[str, object]]:
    with SnapshotQuery(directory) as snapshots:
        return snapshots.query(COUNT).rows.to_pylist()


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all three barriers published and its database built."""
    directory = tmp_path_factory.mktemp("snapshots") / "run"
    _published(directory, _cuts())
    build_database(directory)
    return directory


def test_the_same_history_gives_the_same_bytes(run_directory: Path, tmp_path: Path) -> None:
    """Parquet files and manifest are functions of the rows alone."""
    again = tmp_path / "again"

    _published(again, _cuts())

    expected = {path: data for path, data in _contents(run_directory).items() if path != DATABASE}
    assert _contents(again) == expected


def test_manifest_describes_its_files(run_directory: Path) -> None:
    """Rows, sizes and frames are true, and nothing is damaged."""
    manifest = read_manifest(run_directory)

    files = [file for file in manifest.files if file.rows]

    assert damaged_files(run_directory) == []
    for file in files:
        frames = pq.read_table(run_directory / file.path, columns=["frame"]).column("frame").to_pylist()
        assert (file.rows, file.first_frame, file.last_frame) == (len(frames), frames[0], frames[-1])
        assert file.bytes == (run_directory / file.path).stat().st_size


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """A flipped bit in a published file is found by its hash."""
    _published(tmp_path, _cuts()[:1])
    name = read_manifest(tmp_path).files[-1].path
    data = bytearray((tmp_path / name).read_bytes())

    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(bytes(data))

    assert damaged_files(tmp_path) == [name]


def test_an_empty_table_exists_with_its_columns(tmp_path: Path) -> None:
    """Before the first barrier every table and view can be asked, and says nothing."""
    SnapshotStore(tmp_path)

    with SnapshotQuery(tmp_path) as snapshots:
        answers = {name: snapshots.query(f"FROM {name}").rows for name in SCHEMAS}
        checks = snapshots.check()

    assert {name: rows.num_rows for name, rows in answers.items()} == dict.fromkeys(SCHEMAS, 0)
    assert all(rows.column_names == [*SCHEMAS[name].names, "day"] for name, rows in answers.items())
    assert all(answer.rows.num_rows == 0 for answer in checks.values())


def test_a_crash_before_the_manifest_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that no manifest lists are not seen; the next publication takes their place."""
    first, second, third = _cuts()
    store = _published(tmp_path, [first])

    with monkeypatch.context() as patch:
        patch.setattr(SnapshotStore, "_publish_manifest", _crash)
        with pytest.raises(KeyboardInterrupt):
            store.publish(second)
    after_crash = _seen(tmp_path)
    resumed = SnapshotStore(tmp_path)
    resumed.roll_back(resumed.position)
    resumed.publish(second)
    resumed.publish(third)

    assert after_crash == [{"rows": 3, "frame": 2}]
    assert _seen(tmp_path) == [{"rows": 9, "frame": 6}]


def test_roll_back_returns_to_a_commit(tmp_path: Path) -> None:
    """A resumed run ends with the bytes of one that was never interrupted."""
    first, second, third = _cuts()
    whole = tmp_path / "whole"
    _published(whole, [first, second, third])
    store = _published(tmp_path / "run", [first])
    committed = store.position
    store.publish(second)

    resumed = SnapshotStore(tmp_path / "run")
    resumed.roll_back(committed)
    rolled_back = _seen(tmp_path / "run")
    resumed.publish(second)
    resumed.publish(third)

    assert rolled_back == [{"rows": 3, "frame": 2}]
    assert _contents(tmp_path / "run") == _contents(whole)


def test_roll_back_refuses_what_is_lost(tmp_path: Path) -> None:
    """A commit that names more than is there cannot be resumed from, and the error says what to do."""
    store = _published(tmp_path, _cuts()[:1])

    (tmp_path / read_manifest(tmp_path).files[-1].path).unlink()

    with pytest.raises(SnapshotError, match="restore"):
        store.roll_back(store.position + 1)
    with pytest.raises(SnapshotError, match="missing"):
        store.roll_back(store.position)


def test_a_moved_directory_works(run_directory: Path, tmp_path: Path) -> None:
    """A run is copied to an analyst's machine: the query and the database file go on working there."""
    moved = tmp_path / "it's moved=here"
    _copy(run_directory, moved)

    with SnapshotQuery(moved) as snapshots:
        asked = snapshots.query(COUNT).rows.to_pylist()
    # A process of its own: the database is opened from inside the directory, as an analyst would.
    script = f"import duckdb; print(duckdb.connect({DATABASE!r}, read_only=True).execute({COUNT!r}).fetchall())"
    opened = subprocess.run([sys.executable, "-c", script], cwd=moved, capture_output=True, text=True, check=True)

    assert asked == [{"rows": 9, "frame": 6}]
    assert opened.stdout.strip() == "[(9, 6)]"


def test_database_answers_every_view_from_elsewhere(run_directory: Path) -> None:
    """With the search path set, no view depends on where the reader stands."""
    with duckdb.connect(str(run_directory / DATABASE), read_only=True) as connection:
        connection.execute(f"SET file_search_path = '{run_directory}'")
        names = [row[0] for row in connection.execute("SHOW TABLES").fetchall()]

        counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in names}

    assert set(names) > set(SCHEMAS)
    assert counts["closest_to_liquidation"] == 2


def test_database_is_in_a_format_of_duckdb_1(run_directory: Path) -> None:
    """Older readers must open it: the storage version in the file's header is that of 1.0 (64), not the newest."""
    header = (run_directory / DATABASE).read_bytes()[:32]

    magic, version = header[8:12], int.from_bytes(header[12:20], "little")

    assert (magic, version) == (b"DUCK", 64)


def test_building_again_replaces_the_database(run_directory: Path) -> None:
    """A rebuild leaves one whole file and nothing beside it."""
    build_database(run_directory)

    left = sorted(path.name for path in run_directory.iterdir())

    assert left == ["snapshot", DATABASE]


@pytest.mark.parametrize("path", ["snapshot/../secret.parquet", "/etc/passwd", "snapshot/accounts/link.parquet"])
def test_a_manifest_cannot_lead_outside(tmp_path: Path, path: str) -> None:
    """A manifest that was tampered with must not open other files to queries."""
    _published(tmp_path / "run", _cuts()[:1])
    manifest = tmp_path / "run" / "snapshot" / "manifest.json"
    (tmp_path / "run" / "secret.parquet").write_bytes(parquet_bytes(SCHEMAS["accounts"].empty_table()))
    (tmp_path / "run" / "snapshot" / "accounts" / "link.parquet").symlink_to(tmp_path / "run" / "secret.parquet")

    manifest.write_text(manifest.read_text().replace("snapshot/accounts/columns.parquet", path))

    with pytest.raises(SnapshotError, match="not a snapshot file"):
        SnapshotQuery(tmp_path / "run")


@pytest.mark.parametrize("damage", [b"", b"{", b'{"schema_version": 99, "files": []}'])
def test_a_damaged_manifest_is_one_clear_error(tmp_path: Path, damage: bytes) -> None:
    """Whatever the manifest holds, a reader gets a sentence and no traceback."""
    SnapshotStore(tmp_path)

    (tmp_path / "snapshot" / "manifest.json").write_bytes(damage)

    with pytest.raises(SnapshotError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def _crash(store: SnapshotStore) -> None:
    raise KeyboardInterrupt


def _copy(source: Path, target: Path) -> None:
    for name, data in _contents(source).items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
