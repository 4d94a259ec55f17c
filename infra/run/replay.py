"""Replay: an event log through the whole pipeline, into a run directory, resumable at any moment.

1. The same inputs and description give the same bytes, whatever engine, process count and crash.
2. The wall clock decides when to commit and what to show, and nothing else.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from flows.intake.decode import Arrival, Stream
from flows.intake.ledger import Counts, Intake
from flows.intake.stage import IntakeStage
from flows.margin.registry import margin_models, parameter_sets
from flows.market.listings import Listings
from flows.market.step import Market
from flows.passages import EventBatch, RiskCheckpoint, RiskStage
from flows.pipeline import Stages
from flows.risk.stage import LocalRisk, StateClock
from flows.risk.step import Risk
from flows.screening.diagnostics import Diagnostics
from flows.settlement.stage import SettlementStage
from flows.settlement.step import Settlement
from flows.snapshot.stage import SnapshotStage
from flows.snapshot.step import Snapshot
from infra.files.snapshots import build_database
from infra.files.sources import EventLog
from infra.run.directory import Commit, Description, RunDirectory, locked
from infra.run.engines import ENGINES
from infra.run.pool import RiskPool
from infra.run.publisher import DEAD_LETTERS, Publisher
from infra.run.risk import risk_of
from infra.run.screening import DEFAULT, whose_decisions
from infra.run.summary import summarise
from schemas.events import Event, ParametersChanged
from schemas.failures import DeadLetter
from schemas.ledger import Frame, Genesis, decode_frame

BATCH_EVENTS: Final = 4096
_OVERRIDES: Final = Stream("replay:parameters")


class EmptyLogError(Exception):
    """The inputs hold no event that could be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A replay. The first group belongs to the run; the second changes no byte of it."""

    inputs: list[Path]
    out: Path
    genesis: Genesis
    shard_count: int = 16
    snapshot_period_ns: int = 3_600_000_000_000
    until_ns: int | None = None
    chain: str = "embedded"
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # An exact policy changes no byte either: what belongs to the run is whose decisions it has.
    screening: str = DEFAULT

    shadow: float = 0.0
    engine: str = "plain"
    worker_count: int = 1
    commit_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay is. ``scanning``: files are looked through for their order, no event has been taken."""

    scanning: bool
    bytes_done: int
    bytes_total: int = 0
    ledger_time_ns: int = 0
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True)
class Replayed:
    """A finished replay.

    ``seconds`` and ``diagnostics`` are of this process, from the first event taken to the last commit: a resumed run
    has forgotten those before.
    """

    summary: dict[str, Any]
    seconds: float
    resumed_at_frame: int | None
    diagnostics: Diagnostics


def replay(options: Options, show: Callable[[Progress], None] = lambda progress: None) -> Replayed:
    """Run, or resume, a replay to its end.

    Raises
    ------
    RunDirectoryError : ``out`` cannot be used for this.
    SourceError : an input is missing or no event log.
    JudgedOtherwise : the shadow found a decision that is not the judge's; the run stays at its last commit.
    LedgerError, CheckpointError, ConservationError, BookOverflow, ChainHaltedError, WorkerFailed : a halt; the run
        stays at its last commit.
    """
    with locked(options.out):
        return _replay(options, show)


def _replay(options: Options, show: Callable[[Progress], None]) -> Replayed:
    work = options.out.with_name(options.out.name + ".sorting")
    log = EventLog(
        options.inputs,
        work=work,
        on_scan=lambda done: show(Progress(scanning=True, bytes_done=done)),
    )
    try:
        directory, commit = RunDirectory.prepare(options.out, _description(options))
        return _run(options, log, directory, commit, show)
    finally:
        log.close()
        if work.is_dir() and not any(work.iterdir()):
            work.rmdir()


def _run(
    options: Options,
    log: EventLog,
    directory: RunDirectory,
    commit: Commit | None,
    show: Callable[[Progress], None],
) -> Replayed:
    started = time.monotonic()
    publisher = Publisher(
        directory,
        commit,
        chain=options.chain,
        on_passage=lambda counts, time_ns: show(
            Progress(
                scanning=False,
                bytes_done=log.bytes_read,
                bytes_total=log.bytes_total,
                ledger_time_ns=time_ns,
                counts=publisher.counts,
            )
        ),
    )
    last_commit = started

    def commit_due() -> bool:
        nonlocal last_commit
        now = time.monotonic()
        if now - last_commit < options.commit_seconds:
            return False
        last_commit = now
        return True

    try:
        with _Stages(options, directory, commit, commit_due) as (stages, positions):
            batches = _batches(log.blocks(positions, BATCH_EVENTS), options, is_new=commit is None)
            ENGINES[options.engine](batches, stages, publisher.publish)
            diagnostics = stages.risk.diagnostics
        last = publisher.last_commit
        summary: dict[str, Any] = {}
        if last is not None and last.finished:
            head = publisher.chain_head()
            chain = None if head is None else (head.number, head.root)
            summary = summarise(options.genesis.ledger_id, last, chain)
    finally:
        publisher.close()
    if not summary:
        refused = publisher.counts.dead_letters
        raise EmptyLogError(
            "the inputs hold no event that could be taken"
            + (f"; refused: {refused:,}, see {directory.path / DEAD_LETTERS}" if refused else "")
        )
    build_database(directory.path)
    directory.write_summary(summary)
    return Replayed(summary, time.monotonic() - started, None if commit is None else commit.frame, diagnostics)


def _description(options: Options) -> Description:
    return Description(
        genesis=options.genesis,
        shard_count=options.shard_count,
        inputs=sorted((str(path), path.stat().st_size) for path in options.inputs),
        until_ns=options.until_ns,
        snapshot_period_ns=options.snapshot_period_ns,
        chain=options.chain,
        parameters={name: dict(values) for name, values in options.parameters.items()},
        screening=whose_decisions(options.screening),
    )


class _Stages:
    """The stages of a run, new or from its last commit; leaving it ends the worker processes."""

    def __init__(
        self, options: Options, directory: RunDirectory, commit: Commit | None, commit_due: Callable[[], bool]
    ) -> None:
        self._pool: RiskPool | None = None
        models = margin_models()
        sets = parameter_sets(models)
        clock = StateClock(options.snapshot_period_ns, None if commit is None else commit.state_period)
        if commit is None:
            intake = Intake(
                options.genesis, shard_count=options.shard_count, margin_models=tuple(models), parameter_sets=sets
            )
            settlement, snapshot, listings = Settlement(), Snapshot(), Listings()
            risk_checkpoint, previous = None, None
        else:
            states, risk_checkpoint, barrier = directory.read_checkpoint(commit, options.shard_count)
            intake = Intake.restore(states["intake"], parameter_sets=sets)
            settlement = Settlement.restore(states["settlement"])
            snapshot = Snapshot()
            snapshot.restore(states["snapshot"])
            listings = Market.restore(Risk.market_checkpoint(risk_checkpoint.market)).listings
            previous = decode_frame(barrier), barrier
        self.positions = dict(intake.positions)
        self.stages = Stages(
            IntakeStage(intake, checkpoint_due=commit_due, is_new=commit is None),
            self._risk(options, clock, risk_checkpoint, previous),
            SettlementStage(settlement),
            SnapshotStage(snapshot, listings),
        )

    def _risk(
        self,
        options: Options,
        clock: StateClock,
        checkpoint: RiskCheckpoint | None,
        previous: tuple[Frame, bytes] | None,
    ) -> RiskStage:
        if options.worker_count > 1:
            self._pool = RiskPool(
                worker_count=options.worker_count,
                shard_count=options.shard_count,
                clock=clock,
                screening=options.screening,
                shadow=options.shadow,
                checkpoint=checkpoint,
                previous=previous,
            )
            return self._pool
        risk = risk_of(
            range(options.shard_count),
            shard_count=options.shard_count,
            screening=options.screening,
            shadow=options.shadow,
            market=None if checkpoint is None else checkpoint.market,
            shard_states=[] if checkpoint is None else list(checkpoint.shards.values()),
        )
        return LocalRisk(risk, clock=clock, previous=None if previous is None else previous[0])

    def __enter__(self) -> tuple[Stages, dict[str, int]]:
        """Return the stages and the positions from which input goes on."""
        return self.stages, self.positions

    def __exit__(self, *error: object) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.__exit__(None, None, None)


def _batches(blocks: Iterable[list[Arrival]], options: Options, *, is_new: bool) -> Iterator[EventBatch]:
    """Yield the input as batches, with parameters replaced and cut off as the options say, and its end marked."""
    waiting: list[Arrival] | None = None
    for block in blocks:
        chosen = _chosen(block, options)
        if is_new and options.parameters and chosen:
            chosen, is_new = [*_overrides(options, chosen), *chosen], False
        if waiting is not None:
            yield EventBatch(waiting)
        waiting = chosen
        if options.until_ns is not None and len(chosen) < len(block) and _is_beyond(block[-1][0], options.until_ns):
            break
    yield EventBatch(waiting or [], last=True)


def _chosen(block: list[Arrival], options: Options) -> list[Arrival]:
    if options.until_ns is None and not options.parameters:
        return block
    return [
        arrival
        for arrival in block
        if not (
            (options.until_ns is not None and _is_beyond(arrival[0], options.until_ns))
            or (isinstance(arrival[0], ParametersChanged) and arrival[0].name in options.parameters)
        )
    ]


def _is_beyond(event: Event | DeadLetter, until_ns: int) -> bool:
    return isinstance(event, Event) and event.event_time_ns >= until_ns


def _overrides(options: Options, chosen: list[Arrival]) -> list[Arrival]:
    """Return the parameter sets of the options as events at the time of the first event."""
    first_ns = next((arrival[0].event_time_ns for arrival in chosen if arrival[0].event_time_ns > 0), 0)
    arrivals: list[Arrival] = []
    for place, (name, values) in enumerate(sorted(options.parameters.items()), 1):
        event = ParametersChanged(
            event_id=f"replay-parameters-{name}",
            event_time_ns=first_ns,
            source="replay",
            source_sequence=place,
            name=name,
            parameters=dict(values),
        )
        arrivals.append((event, msgspec.json.encode(event), _OVERRIDES, place, place))
    return arrivals
