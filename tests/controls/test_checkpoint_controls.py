"""Without the barrier in every checkpoint file: a run that goes on from a state that never was."""

import shutil
from pathlib import Path

import pytest

from flows.intake.ledger import Counts
from flows.margin.registry import margin_models
from flows.passages import RiskCheckpoint, Shown, Written
from flows.pipeline import run_plain
from flows.risk.stage import LocalRisk, StateClock
from flows.risk.step import Risk
from flows.screening.exhaustive import POLICY
from infra.run.directory import COMMIT_VERSION, Commit, RunDirectory, RunDirectoryError
from schemas.ledger import decode_frame
from tests.flows.running import SECOND_NS, Published, arrivals, batches_of, some_stages
from tests.flows.test_pipeline import a_bad_day

SHARDS = 4
EARLIER, LATER = 25, 45


@pytest.fixture(scope="module")
def day() -> Published:
    """The pipeline tests' day, with a checkpoint at every barrier."""
    published = Published()
    stages = some_stages(checkpoints=True, shard_count=SHARDS)
    run_plain(batches_of(arrivals(a_bad_day()), 1_000), stages, published.take)
    return published


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    """A run directory with room for checkpoints."""
    (tmp_path / "checkpoints").mkdir()
    return RunDirectory(tmp_path)


def write(directory: RunDirectory, shown: Shown) -> Commit:
    """Write the checkpoints of one barrier as a run does; return its commit."""
    settled, decided = shown.settled, shown.settled.decided
    assert decided.checkpoint is not None
    assert decided.written.checkpoint is not None
    assert settled.checkpoint is not None
    assert shown.checkpoint is not None
    barrier = decided.frames[-1]
    name = directory.write_checkpoint(
        barrier.number,
        stages={"intake": decided.written.checkpoint, "settlement": settled.checkpoint, "snapshot": shown.checkpoint},
        risk=decided.checkpoint,
        barrier=decided.written.frames[-1],
    )
    return Commit(
        version=COMMIT_VERSION, frame=barrier.number, period=barrier.period, time_ns=barrier.time_ns, ledger=None,
        dead_letters=0, results=0, batches=0, batch_number=0, snapshot=None, digest="", digests={}, counts={},
        tallies={}, state_period=decided.checkpoint.state_period, checkpoint=name, finished=False,
    )  # fmt: skip


def mixed(directory: RunDirectory, day: Published, *files: str) -> Commit:
    """Return the later commit, after some of its files were exchanged for those of the earlier barrier."""
    earlier, later = (write(directory, day.checkpoints[place]) for place in (EARLIER, LATER))
    for file in files:
        shutil.copy(
            directory.checkpoints / earlier.checkpoint / f"{file}.checkpoint",
            directory.checkpoints / later.checkpoint / f"{file}.checkpoint",
        )
    return later


def continued(checkpoint: RiskCheckpoint, barrier: bytes, day: Published) -> list[bytes]:
    """Return the results of every period behind a barrier, decided from these checkpoints."""
    risk = Risk.restore(
        checkpoint.market,
        list(checkpoint.shards.values()),
        shard_count=SHARDS,
        models=margin_models(),
        screening=POLICY,
    )
    previous = decode_frame(barrier)
    stage = LocalRisk(risk, clock=StateClock(60 * SECOND_NS, checkpoint.state_period), previous=previous)
    first = previous.number + 1
    decided = [stage.step(Written([data], [], Counts(), False, None)) for data in day.frames[first:]]
    return [it.period.results.tobytes() for it in decided if it.period is not None]


def test_checkpoints_of_one_barrier_go_on_as_the_run_went_on(directory: RunDirectory, day: Published) -> None:
    """Fails where a checkpoint does not come back from its files as it was."""
    commit = mixed(directory, day)

    _, checkpoint, barrier = directory.read_checkpoint(commit, SHARDS)

    assert continued(checkpoint, barrier, day) == [it.tobytes() for it in day.results[LATER + 1 :]]


@pytest.mark.parametrize("file", ["intake", "settlement", "snapshot", "market", "barrier", "shard-00002"])
def test_a_file_of_another_barrier_is_refused(directory: RunDirectory, day: Published, file: str) -> None:
    """Fails where one stage's state may be older than the others'."""
    commit = mixed(directory, day, file)

    with pytest.raises(RunDirectoryError, match=f"{file}.checkpoint was taken at frame .* cannot be mixed"):
        directory.read_checkpoint(commit, SHARDS)


@pytest.mark.parametrize("file", ["market", "shard-00002"])
def test_without_the_refusal_another_history_is_decided(
    monkeypatch: pytest.MonkeyPatch, directory: RunDirectory, day: Published, file: str
) -> None:
    """Fails where a checksum, or a later stage, stops the mixture: then the test above would not show the refusal."""
    monkeypatch.setattr("infra.run.directory._check_taken_at", lambda _file, _data, _frame: None)
    commit = mixed(directory, day, file)

    _, checkpoint, barrier = directory.read_checkpoint(commit, SHARDS)

    assert continued(checkpoint, barrier, day) != [it.tobytes() for it in day.results[LATER + 1 :]]
