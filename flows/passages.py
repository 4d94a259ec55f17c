"""What passes from one stage to the next inside a process.

Each stage takes the passage of the one before it and wraps it, so the last one carries everything that a barrier
publishes. A passage ends at a barrier or at the end of an input batch, whichever comes first.

1. A passage holds at most one barrier, as its last frame.
2. Checkpoints travel with the barrier at which they were taken. Intake decides at which barriers; every later stage
   takes its own when the marker reaches it, so all of them are of one place in the ledger, whatever the engine does
   between stages.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from flows.intake.decode import Arrival
from flows.intake.ledger import Counts
from flows.market.instant import Instant
from flows.screening.diagnostics import Diagnostics
from flows.settlement.batch import Batch
from flows.snapshot.rows import StatePart
from flows.snapshot.step import SnapshotFile
from schemas.failures import DeadLetter
from schemas.ledger import Frame
from schemas.results import Deltas, Results


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Arrivals in the fair order, events and what could not be decoded; ``last`` is true at the end of input."""

    arrivals: Sequence[Arrival]
    last: bool = False


@dataclass(frozen=True, slots=True)
class WrittenPeriod:
    """Frames of a ledger that is written already, up to a barrier; ``last`` is true at the last barrier."""

    frames: Sequence[bytes]
    last: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """By intake: frames, dead letters, and its checkpoint where one is wanted."""

    frames: Sequence[bytes]
    dead_letters: Sequence[DeadLetter]
    counts: Counts
    last: bool
    checkpoint: bytes | None


@dataclass(frozen=True, slots=True)
class RiskCheckpoint:
    """The market's state, shared by all processes, one sealed file a shard, and when the last full state was given."""

    market: bytes
    shards: dict[int, bytes]
    state_period: int | None


@dataclass(frozen=True, slots=True)
class RiskPeriod:
    """What all shards together publish at a barrier: results in their order, deltas netted.

    ``state`` is the full state where it is due: the instant, and one part a process.
    """

    barrier: Frame
    first_frame: int
    results: Results
    deltas: Deltas
    state_hash: tuple[int, int]
    state: tuple[Instant, Sequence[StatePart]] | None

    @property
    def state_hash_bytes(self) -> bytes:
        """The state hash as 16 bytes."""
        return b"".join(half.to_bytes(8, "little") for half in self.state_hash)


@dataclass(frozen=True, slots=True)
class Decided:
    """By risk: the frames read back, and at a barrier the period."""

    written: Written
    frames: Sequence[Frame]
    period: RiskPeriod | None
    checkpoint: RiskCheckpoint | None


@dataclass(frozen=True, slots=True)
class Settled:
    """By settlement: the period's batch, if it changed any integer."""

    decided: Decided
    batch: Batch | None
    checkpoint: bytes | None


@dataclass(frozen=True, slots=True)
class Shown:
    """By snapshot: the files that are due."""

    settled: Settled
    files: Sequence[SnapshotFile]
    checkpoint: bytes | None


class WritingStage(Protocol):
    """The first stage as the pipeline sees it: it writes the ledger, or reads one that is written."""

    def step(self, batch: Any) -> Iterator[Written]:
        """Take a batch of what the source gives; yield its passages."""


class RiskStage(Protocol):
    """The risk stage as the pipeline sees it: in this process, or spread over several."""

    @property
    def diagnostics(self) -> Diagnostics:
        """What screening took, up to the last barrier at least."""

    def step(self, written: Written) -> Decided:
        """Take a passage's frames; answer its barrier."""
