"""The run directory: who may write it, and what of it is believed."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from infra.run.directory import COMMIT_VERSION, Commit, Description, RunDirectory, RunDirectoryError, locked
from infra.run.risk import risk_of
from infra.run.screening import DEFAULT
from schemas.checkpoint import CheckpointError
from schemas.ledger import Genesis

ROOT = Path(__file__).resolve().parents[3]
DESCRIPTION = Description(
    genesis=Genesis(ledger_id="test"),
    shard_count=4,
    inputs=[("log.ndjson", 1)],
    until_ns=None,
    snapshot_period_ns=1,
    chain="none",
    parameters={},
    screening=DEFAULT,
)
COMMIT = Commit(
    version=COMMIT_VERSION, frame=7, period=1, time_ns=8, ledger=[0, 10, 8], dead_letters=0, results=96, batches=5,
    batch_number=1, snapshot=3, digest="ab" * 32, digests={"results.bin": "cd" * 16}, counts={"fills": 2},
    tallies={"order_opened": 1}, state_period=None, checkpoint="000000000007", finished=False,
)  # fmt: skip


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    """Two replays into one directory mix their files, and what comes out is a run that was never decided."""
    out = tmp_path / "run"
    code = f"from pathlib import Path; from infra.run.directory import locked\nwith locked(Path({str(out)!r})): input()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code.replace("input()", "print('held'); input()")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as first:  # fmt: skip
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        (out / "something").touch()

        with pytest.raises(RunDirectoryError, match="being written by another run"), locked(out):
            pass
        first.kill()

    with locked(out):
        assert (out / "something").exists()


def test_a_directory_that_stays_empty_is_removed(tmp_path: Path) -> None:
    """A mistyped input leaves a directory behind."""
    with locked(tmp_path / "run"):
        pass

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_file_is_no_directory(tmp_path: Path, place: str) -> None:
    """Somebody's file is overwritten, or the message is the system's own."""
    (tmp_path / "file").touch()

    with pytest.raises(RunDirectoryError, match="is a file, or lies in one"), locked(tmp_path / place):
        pass


@pytest.mark.parametrize("left", [(), ("run.json.tmp",), ("run.json",)])
def test_a_run_killed_while_it_began_begins_again(tmp_path: Path, left: tuple[str, ...]) -> None:
    """A kill in the first milliseconds makes the directory unusable."""
    for name in left:
        (tmp_path / name).write_bytes(msgspec.json.encode(DESCRIPTION))

    directory, commit = RunDirectory.prepare(tmp_path, DESCRIPTION)

    assert commit is None
    assert directory.description() == DESCRIPTION
    assert directory.checkpoints.is_dir()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("results", 95),
        ("batches", 4),
        ("digest", "00" * 32),
        ("digests", {}),
        ("counts", {"fills": 3}),
        ("tallies", {}),
        ("snapshot", 2),
    ],
)
def test_an_edited_commit_is_not_believed(tmp_path: Path, field: str, value: object) -> None:
    """A run goes on from lengths or counts that it never committed, and publishes them as its own."""
    directory, _ = RunDirectory.prepare(tmp_path, DESCRIPTION)
    directory.write_commit(COMMIT)
    assert directory.last_commit() == COMMIT.sealed()

    members = msgspec.json.decode((tmp_path / "commit.json").read_bytes())
    (tmp_path / "commit.json").write_bytes(msgspec.json.encode(members | {field: value}))

    with pytest.raises(RunDirectoryError, match="fails its checksum"):
        directory.last_commit()


def test_a_worker_refuses_the_checkpoint_of_another_shard() -> None:
    """A shard's file given twice goes to two workers: neither alone could tell that another shard is missing."""
    market, shards = risk_of(range(4), shard_count=4, screening=DEFAULT).checkpoint()

    with pytest.raises(CheckpointError, match=r"checkpoints of shards \(0, 3\), where \(0, 2\) belong"):
        risk_of([0, 2], shard_count=4, screening=DEFAULT, market=market, shard_states=[shards[0], shards[3]])
