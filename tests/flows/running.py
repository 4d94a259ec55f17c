"""Run events through the whole pipeline in memory, as files and Kafka would."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

from flows.intake.decode import Arrival, Stream, decode_lines
from flows.intake.ledger import Intake
from flows.intake.stage import IntakeStage
from flows.margin.registry import margin_models, parameter_sets
from flows.market.listings import Listings
from flows.market.step import Market
from flows.passages import EventBatch, RiskStage, Shown
from flows.pipeline import Stages, run_plain
from flows.risk.book import Book
from flows.risk.stage import LocalRisk, StateClock
from flows.risk.step import Risk
from flows.screening.exhaustive import POLICY
from flows.screening.policy import ScreeningPolicy
from flows.screening.shadow import Shadow
from flows.settlement.batch import Batch, encode_batch
from flows.settlement.stage import SettlementStage
from flows.settlement.step import Settlement
from flows.snapshot.stage import SnapshotStage
from flows.snapshot.step import Snapshot
from schemas.events import Event
from schemas.failures import DeadLetter
from schemas.ledger import Genesis
from schemas.results import RESULT, ResultKind, Results

SECOND_NS = 1_000_000_000
GENESIS = Genesis(ledger_id="test", settlement_period_ns=SECOND_NS)


def arrivals(events: Iterable[Event], *, name: str = "log") -> list[Arrival]:
    """Return events as they come out of a file."""
    return decode_lines([msgspec.json.encode(event) for event in events], Stream(name), 1)


@dataclass
class Published:
    """Everything that a run published, in order."""

    frames: list[bytes] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    results: list[Results] = field(default_factory=list)
    hashes: list[tuple[int, int]] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    files: list[Any] = field(default_factory=list)
    checkpoints: list[Shown] = field(default_factory=list)

    def take(self, shown: Shown) -> None:
        """Collect one passage."""
        decided = shown.settled.decided
        self.frames.extend(decided.written.frames)
        self.dead_letters.extend(decided.written.dead_letters)
        if decided.period is not None:
            self.results.append(decided.period.results)
            self.hashes.append(decided.period.state_hash)
        if shown.settled.batch is not None:
            self.batches.append(shown.settled.batch)
        self.files.extend(shown.files)
        if shown.checkpoint is not None:
            self.checkpoints.append(shown)

    def all_results(self) -> Results:
        """Return the result rows of the whole run."""
        return np.concatenate(self.results) if self.results else np.zeros(0, RESULT)

    def of(self, *kinds: ResultKind) -> Results:
        """Return the result rows of some kinds."""
        rows = self.all_results()
        return rows[np.isin(rows["kind"], [int(kind) for kind in kinds])]

    def digest(self) -> str:
        """Return a digest of what any process count, engine and shard count must publish alike."""
        digest = blake2b(digest_size=16)
        for part in (
            self.all_results().tobytes(),
            repr(self.hashes).encode(),
            *(encode_batch(batch) for batch in self.batches),
        ):
            digest.update(part)
        for file in self.files:
            digest.update(f"{file.relative_path} {file.rows.num_rows}".encode())
            digest.update(repr(file.rows.drop_columns(_shard_columns(file.rows.column_names)).to_pylist()).encode())
        return digest.hexdigest()


def _shard_columns(names: Sequence[str]) -> list[str]:
    return [name for name in names if name == "shard"]


def some_stages(
    *,
    genesis: Genesis = GENESIS,
    shard_count: int = 4,
    snapshot_period_ns: int = 60 * SECOND_NS,
    checkpoints: bool = False,
    screening: ScreeningPolicy = POLICY,
    shadow: Shadow | None = None,
) -> Stages:
    """Return the stages of a new ledger, all shards in this process."""
    models = margin_models()
    intake = Intake(
        genesis, shard_count=shard_count, margin_models=tuple(models), parameter_sets=parameter_sets(models)
    )
    book = Book(range(shard_count), shard_count=shard_count, models=tuple(models))
    risk = Risk(Market(), book, models=models, screening=screening, shadow=shadow)
    return Stages(
        IntakeStage(intake, checkpoint_due=lambda: checkpoints, is_new=True),
        LocalRisk(risk, clock=StateClock(snapshot_period_ns)),
        SettlementStage(Settlement()),
        SnapshotStage(Snapshot(), Listings()),
    )


def with_risk(stages: Stages, risk: RiskStage) -> Stages:
    """Return stages with another risk stage: one that is spread over processes."""
    return Stages(stages.intake, risk, stages.settlement, stages.snapshot)


def run(events: Sequence[Event], *, batch: int = 1_000, **options: Any) -> Published:
    """Run events through a new ledger with the plain engine."""
    published = Published()
    run_plain(batches_of(arrivals(events), batch), some_stages(**options), published.take)
    return published


def batches_of(inputs: Sequence[Arrival], size: int) -> list[EventBatch]:
    """Cut arrivals into batches."""
    cuts = [inputs[start : start + size] for start in range(0, len(inputs), size)] or [[]]
    return [EventBatch(part, last=place == len(cuts) - 1) for place, part in enumerate(cuts)]
