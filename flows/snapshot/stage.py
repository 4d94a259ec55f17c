"""The snapshot stage: settled periods in, files out."""

from flows.market.listings import Listings
from flows.passages import Settled, Shown
from flows.snapshot.step import Snapshot, SnapshotFile
from schemas.failures import DeadLetter


class SnapshotStage:
    """One snapshot for all shards.

    Parameters
    ----------
    listings : what was listed up to the barrier that ``snapshot`` was restored at; this stage keeps it up to date.
    """

    def __init__(self, snapshot: Snapshot, listings: Listings) -> None:
        self._snapshot = snapshot
        self._listings = listings
        self._dead_letters: list[DeadLetter] = []

    def step(self, settled: Settled) -> Shown:
        """Take a passage; return the files that its barrier makes due."""
        decided = settled.decided
        self._dead_letters.extend(decided.written.dead_letters)
        for frame in decided.frames:
            for record in frame.market:
                self._listings.apply(record)
            self._snapshot.observe(frame, self._listings)
        files: list[SnapshotFile] = []
        period = decided.period
        if period is not None:
            instant, parts = period.state if period.state is not None else (None, None)
            files = self._snapshot.step(
                period.barrier,
                listings=self._listings,
                instant=instant,
                results=[period.results],
                deltas=period.deltas,
                state_hash=period.state_hash_bytes,
                batches=[] if settled.batch is None else [settled.batch],
                dead_letters=self._dead_letters,
                parts=parts,
            )
            self._dead_letters = []
        if decided.written.last:
            files = [*files, *self._snapshot.flush(self._listings)]
        checkpoint = self._snapshot.checkpoint(self._listings) if decided.checkpoint is not None else None
        return Shown(settled, files, checkpoint)
