"""The sink of a run: everything that passes goes into the run directory, and a checkpoint makes a commit.

1. A commit names a barrier; what it names is on the disk before it is.
2. A batch goes to the chain when it is published, through the outbox; the outbox is synced with every commit.
3. The digest covers what must be equal for any engine, process count, shard count, split of input and place of a
   crash: heads of the order, results, deltas, state hashes and batches, barrier by barrier.
"""

import shutil
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import numpy.typing as npt

from flows.intake.ledger import Counts
from flows.passages import RiskPeriod, Shown
from flows.settlement.batch import Batch
from flows.settlement.step import Settlement
from infra.chain.batches import BatchesWriter
from infra.files.append import AppendFile
from infra.files.ledger import LedgerPosition, LedgerWriter, dead_letter_lines
from infra.files.snapshots import SnapshotStore
from infra.run.directory import COMMIT_VERSION, DESCRIPTION, Commit, RunDirectory, RunDirectoryError
from schemas.results import ResultKind, Tier

if TYPE_CHECKING:
    from infra.chain.contract import ContractHead
    from infra.chain.writer import ChainWriter

LEDGER: Final = "ledger"
RESULTS: Final = "results.bin"
DEAD_LETTERS: Final = "dead_letters.ndjson"
BATCHES: Final = "batches.bin"
OUTBOX: Final = "outbox.sqlite"
_EMPTY_DIGEST: Final = bytes(32)


class Publisher:
    """Writes one run.

    Parameters
    ----------
    commit : the last one, None at the beginning; everything behind it is cut off here.
    chain : ``embedded`` or ``none``.
    on_passage : called after each passage, with its counts and ledger time, to show progress.

    Raises
    ------
    RunDirectoryError : a file is not what was committed.
    """

    def __init__(
        self,
        directory: RunDirectory,
        commit: Commit | None,
        *,
        chain: str,
        on_passage: Callable[[Counts, int], None] = lambda counts, time_ns: None,
    ) -> None:
        path = directory.path
        if commit is None:
            _clear(path)
        self._directory = directory
        self._on_passage = on_passage
        self.counts = Counts() if commit is None else Counts(**commit.counts)
        self.tallies: Counter[str] = Counter() if commit is None else Counter(commit.tallies)
        self.digest = _EMPTY_DIGEST if commit is None else bytes.fromhex(commit.digest)
        self.batch_number = 0 if commit is None else commit.batch_number
        self.last_commit = commit
        self._ledger = LedgerWriter(path / LEDGER)
        self._results = AppendFile(path / RESULTS, 0 if commit is None else commit.results)
        self._dead_letters = AppendFile(path / DEAD_LETTERS, 0 if commit is None else commit.dead_letters)
        self._batches = BatchesWriter(path / BATCHES, 0 if commit is None else commit.batches)
        self._snapshot = SnapshotStore(path)
        self._barrier_bytes = b""
        if commit is not None:
            self._ledger.truncate_to(msgspec.convert(commit.ledger, LedgerPosition))
            self._snapshot.roll_back(commit.snapshot)
            self._check(commit)
        self._writer: ChainWriter | None = None
        if chain == "embedded":
            # Seconds of imports that a run without a chain does not need.
            from infra.chain.embedded import embedded_writer  # noqa: PLC0415

            self._writer = embedded_writer(path / OUTBOX, last_batch=self.batch_number, genesis_root=Settlement().root)

    def _digests(self) -> dict[str, str]:
        files = (
            (LEDGER, self._ledger), (RESULTS, self._results), (BATCHES, self._batches),
            (DEAD_LETTERS, self._dead_letters),
        )  # fmt: skip
        described = {DESCRIPTION: self._directory.description_digest()}
        return described | {name: file.digest().hex() for name, file in files}

    def _check(self, commit: Commit) -> None:
        """Refuse to go on from files that have changed: every one was read for it once, and is hashed on from there."""
        for name, digest in self._digests().items():
            if commit.digests.get(name) != digest:
                raise RunDirectoryError(
                    f"{self._directory.path / name} is not as it was committed: restore it from a copy, or run into "
                    "another directory"
                )

    def publish(self, shown: Shown) -> None:
        """Write one passage; commit where it carries checkpoints."""
        settled, decided = shown.settled, shown.settled.decided
        written = decided.written
        self._ledger.append(written.frames)
        self._dead_letters.append(dead_letter_lines(written.dead_letters))
        self.counts.add(written.counts)
        self.tallies.update(f"dead_letters.{letter.reason.value}" for letter in written.dead_letters)
        if decided.period is not None:
            self._take_period(decided.period, settled.batch)
        self._snapshot.publish(shown.files)
        if decided.checkpoint is not None:
            self._commit(shown)
        if decided.frames:
            self._on_passage(written.counts, decided.frames[-1].time_ns)

    def _take_period(self, period: RiskPeriod, batch: Batch | None) -> None:
        self._results.append(period.results.tobytes())
        if batch is not None:
            self._batches.append(batch)
            self.batch_number = batch.number
            if self._writer is not None:
                self._writer.submit(batch)
        self.digest = next_digest(self.digest, period, batch)
        kinds, counts = _counted(period.results["kind"])
        self.tallies.update({ResultKind(kind).name.lower(): count for kind, count in zip(kinds, counts, strict=True)})
        changed = period.results[period.results["kind"] == ResultKind.TIER_CHANGED]
        tiers, counts = _counted(changed["tier_to"])
        self.tallies.update({f"to_{Tier(tier).name.lower()}": count for tier, count in zip(tiers, counts, strict=True)})

    def _commit(self, shown: Shown) -> None:
        settled, decided = shown.settled, shown.settled.decided
        risk, barrier = decided.checkpoint, decided.frames[-1]
        assert risk is not None
        assert decided.written.checkpoint is not None
        assert settled.checkpoint is not None
        assert shown.checkpoint is not None
        if self._writer is not None:
            self._writer.outbox.sync()
        batches = self._batches.sync()
        checkpoint = self._directory.write_checkpoint(
            barrier.number,
            stages={
                "intake": decided.written.checkpoint,
                "settlement": settled.checkpoint,
                "snapshot": shown.checkpoint,
            },
            risk=risk,
            barrier=decided.written.frames[-1],
        )
        commit = Commit(
            version=COMMIT_VERSION,
            frame=barrier.number,
            period=barrier.period,
            time_ns=barrier.time_ns,
            ledger=self._ledger.sync(),
            dead_letters=self._dead_letters.sync(),
            results=self._results.sync(),
            batches=batches,
            batch_number=self.batch_number,
            snapshot=self._snapshot.position,
            digest=self.digest.hex(),
            digests=self._digests(),
            counts={name: getattr(self.counts, name) for name in Counts.__slots__},
            tallies=dict(sorted(self.tallies.items())),
            state_period=risk.state_period,
            checkpoint=checkpoint,
            finished=decided.written.last,
        )
        self._directory.write_commit(commit)
        self.last_commit = commit

    def chain_head(self) -> "ContractHead | None":
        """Return the contract's last batch and root; None without a chain, or before the first batch."""
        if self._writer is None:
            return None
        from infra.chain.contract import HEAD_CALL, decode_head  # noqa: PLC0415

        return decode_head(self._writer.chain.call(self._writer.contract, HEAD_CALL))

    def close(self) -> None:
        """Close every file; what was not committed is cut off by the next run."""
        self._ledger.close()
        self._results.close()
        self._dead_letters.close()
        self._batches.close()
        if self._writer is not None:
            self._writer.outbox.close()


def next_digest(digest: bytes, period: RiskPeriod, batch: Batch | None) -> bytes:
    """Return the run's digest after one more period."""
    hasher = blake2b(digest, digest_size=32)
    hasher.update(period.barrier.content_head)
    hasher.update(period.results.tobytes())
    hasher.update(period.deltas.tobytes())
    hasher.update(period.state_hash_bytes)
    hasher.update(b"" if batch is None else batch.commitment())
    return hasher.digest()


def _counted(values: npt.NDArray[np.uint8]) -> tuple[list[int], list[int]]:
    kinds, counts = np.unique(values, return_counts=True)
    return kinds.tolist(), counts.tolist()


def _clear(path: Path) -> None:
    """Remove what a run left that was killed before its first commit."""
    for name in (LEDGER, "snapshot"):
        shutil.rmtree(path / name, ignore_errors=True)
    for file in path.glob(f"{OUTBOX}*"):
        file.unlink()
