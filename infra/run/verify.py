"""Verify: a recorded run is decided again from its ledger, and held against what it published.

1. The ledger's own digests and hash chain are checked frame by frame on the way.
2. Results and batches must come out byte for byte; the first difference is named by frame, row and field.
3. The chain's transactions are executed again from the outbox, and every snapshot file against the manifest.
4. Every other file is what the last commit says: dead letters and the description by their digests, the summary by
   its numbers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from flows.passages import RiskPeriod
from flows.settlement.batch import Batch, encode_batch
from flows.settlement.step import Settlement
from infra.chain.batches import read_batches
from infra.files.append import digest_of
from infra.files.ledger import LedgerPosition, ledger_digest, read_frames
from infra.files.snapshots import damaged_files
from infra.run.directory import DESCRIPTION, Commit, RunDirectory, RunDirectoryError
from infra.run.publisher import BATCHES, DEAD_LETTERS, LEDGER, OUTBOX, RESULTS, next_digest
from infra.run.risk import risk_of
from infra.run.summary import summarise
from schemas.results import RESULT, Results


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a run and its repetition part: what, at which frame, and both sides in words."""

    what: str
    frame: int
    recorded: str
    repeated: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was checked, and the first difference if there is one."""

    frames: int
    results: int
    batches: int
    chain_batches: int | None
    digest: str
    difference: Difference | None


class _Differs(Exception):  # noqa: N818 - says what happened
    def __init__(self, what: str, frame: int, recorded: object, repeated: object) -> None:
        super().__init__(what)
        self.difference = Difference(what, frame, str(recorded), str(repeated))


def verify(path: Path, show: Callable[[int, int], None] = lambda done, total: None) -> Verified:
    """Return what a run's repetition says of it.

    Parameters
    ----------
    show : called with frames done and frames in all.

    Raises
    ------
    RunDirectoryError : there is no run, or it was never committed.
    LedgerError, BatchesError, SnapshotError : a file is damaged.
    """
    directory = RunDirectory.open(path)
    commit = directory.last_commit()
    if commit is None:
        raise RunDirectoryError(f"{path} holds a run without a commit: run it again")
    checked = _Checked()
    try:
        _decide_again(directory, commit, checked, show)
        _chain_again(directory, commit, checked)
        _snapshots_again(path, commit)
        _files_again(directory, commit)
        _summary_again(directory, commit, checked)
    except _Differs as differs:
        return checked.verified(differs.difference)
    return checked.verified(None)


@dataclass(slots=True)
class _Checked:
    frames: int = 0
    results: int = 0
    batches: int = 0
    chain_batches: int | None = None
    root: bytes = b""
    digest: bytes = bytes(32)

    def verified(self, difference: Difference | None) -> Verified:
        """Return the answer."""
        return Verified(self.frames, self.results, self.batches, self.chain_batches, self.digest.hex(), difference)


def _decide_again(directory: RunDirectory, commit: Commit, checked: _Checked, show: Callable[[int, int], None]) -> None:
    description = directory.description()
    shard_count = description.shard_count
    risk = risk_of(range(shard_count), shard_count=shard_count, screening=description.screening)
    settlement = Settlement()
    recorded = read_batches(directory.path / BATCHES)
    position = msgspec.convert(commit.ledger, LedgerPosition)
    first_frame = 0
    with (directory.path / RESULTS).open("rb") as results:
        for frame in read_frames(directory.path / LEDGER, until=position):
            period = risk.step(frame)
            checked.frames += 1
            if period is None:
                continue
            _compare_results(results, period.results, frame.number)
            whole = RiskPeriod(frame, first_frame, period.results, period.deltas, period.state_hash, None)
            batch = settlement.step(frame, first_frame, [period.deltas])
            if batch is not None:
                _compare_batches(recorded, batch)
                checked.batches += 1
                checked.root = batch.new_root
            checked.results += period.results.shape[0]
            checked.digest = next_digest(checked.digest, whole, batch)
            first_frame = frame.number + 1
            show(checked.frames, position.next_frame)
        if results.tell() != commit.results:
            raise _Differs("results", commit.frame, f"{commit.results} bytes", f"{results.tell()} bytes")
    if checked.digest.hex() != commit.digest:
        raise _Differs("digest", commit.frame, commit.digest, checked.digest.hex())


def _compare_results(recorded: BinaryIO, repeated: Results, frame: int) -> None:
    data = recorded.read(repeated.nbytes)
    if data == repeated.tobytes():
        return
    rows = np.frombuffer(data[: len(data) // RESULT.itemsize * RESULT.itemsize], RESULT)
    for place in range(repeated.shape[0]):
        if place >= rows.shape[0]:
            raise _Differs(f"result row {place} of the period", int(repeated["frame"][place]), "missing", "there")
        if rows[place].tobytes() != repeated[place].tobytes():
            names = [name for name in RESULT.names or () if rows[place][name] != repeated[place][name]]
            raise _Differs(
                f"result row {place} of the period: {', '.join(names)}",
                int(repeated["frame"][place]),
                _values(rows[place], names),
                _values(repeated[place], names),
            )
    raise _Differs("results", frame, f"{len(data)} bytes", f"{repeated.nbytes} bytes")


def _values(row: np.void, names: list[str]) -> dict[str, Any]:
    return {name: row[name].item() for name in names}


def _compare_batches(recorded: Iterator[Batch], repeated: Batch) -> None:
    batch = next(recorded, None)
    if batch is None:
        raise _Differs(f"batch {repeated.number}", repeated.last_frame, "missing", "there")
    if encode_batch(batch) != encode_batch(repeated):
        fields = [name for name in batch.__struct_fields__ if getattr(batch, name) != getattr(repeated, name)]
        raise _Differs(
            f"batch {repeated.number}: {', '.join(fields)}",
            repeated.last_frame,
            {name: _short(getattr(batch, name)) for name in fields},
            {name: _short(getattr(repeated, name)) for name in fields},
        )


def _short(value: Any) -> str:
    return value[:16].hex() if isinstance(value, bytes) else str(value)


def _chain_again(directory: RunDirectory, commit: Commit, checked: _Checked) -> None:
    if directory.description().chain == "none":
        return
    path = directory.path
    # Opening would make an empty one, and a missing outbox must not read as a run without a chain.
    if not (path / OUTBOX).exists():
        raise _Differs("chain", commit.frame, f"{OUTBOX} is missing", f"{checked.batches} batches")
    # Seconds of imports that a run without a chain does not need.
    from infra.chain.outbox import Outbox  # noqa: PLC0415
    from infra.chain.verify import verify as verify_chain  # noqa: PLC0415

    outbox = Outbox(path / OUTBOX, durable=False)
    try:
        answer = verify_chain(read_batches(path / BATCHES), outbox)
    finally:
        outbox.close()
    checked.chain_batches = answer.batches
    if answer.mismatch is not None:
        mismatch = answer.mismatch
        raise _Differs(f"chain, batch {mismatch.number}: {mismatch.what}", 0, mismatch.expected, mismatch.found)


def _snapshots_again(path: Path, commit: Commit) -> None:
    for name in damaged_files(path):
        raise _Differs("snapshot file", commit.frame, name, "its checksum in the manifest")


def _files_again(directory: RunDirectory, commit: Commit) -> None:
    path = directory.path
    found = {
        DESCRIPTION: directory.description_digest(),
        LEDGER: ledger_digest(path / LEDGER, msgspec.convert(commit.ledger, LedgerPosition)).hex(),
        RESULTS: _digest_of(path / RESULTS, commit.results),
        BATCHES: _digest_of(path / BATCHES, commit.batches),
        DEAD_LETTERS: _digest_of(path / DEAD_LETTERS, commit.dead_letters),
    }
    for name, digest in found.items():
        if commit.digests.get(name) != digest:
            raise _Differs(f"digest of {name}", commit.frame, commit.digests.get(name), digest)


def _digest_of(path: Path, length: int) -> str:
    return digest_of(path, length).hex() if path.is_file() else "missing"


def _summary_again(directory: RunDirectory, commit: Commit, checked: _Checked) -> None:
    """Compare the summary with what the commit and the chain say; a run that has not ended has none."""
    if not directory.is_summarised:
        return
    # Without a batch there is no contract to ask, and a chain says as little as none.
    chain = None if checked.chain_batches is None or not checked.root else (checked.chain_batches, checked.root)
    repeated = summarise(directory.description().genesis.ledger_id, commit, chain)
    recorded = directory.summary()
    names = sorted(name for name in {*repeated, *recorded} if recorded.get(name) != repeated.get(name))
    if names:
        raise _Differs(
            f"summary: {', '.join(names)}",
            commit.frame,
            {name: recorded.get(name) for name in names},
            {name: repeated.get(name) for name in names},
        )
