"""Replay: an event log, or a written ledger, through the whole pipeline into a run directory, resumable at any moment.

1. The same inputs and description give the same bytes, whatever engine, process count and crash.
2. The wall clock decides when to commit and what to show, and nothing else.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from flows.intake.decode import Arrival, Stream
from flows.intake.ledger import Counts, Intake
from flows.intake.stage import IntakeStage
from flows.intake.written import LedgerStage, next_frame_of
from flows.margin.registry import margin_models, parameter_sets
from flows.market.listings import Listings
from flows.market.step import Market
from flows.passages import EventBatch, RiskCheckpoint, RiskStage, WritingStage
from flows.pipeline import Stages
from flows.risk.stage import LocalRisk, StateClock
from flows.risk.step import Risk
from flows.screening.diagnostics import Diagnostics
from flows.screening.observer import Observer
from flows.settlement.stage import SettlementStage
from flows.settlement.step import Settlement
from flows.snapshot.stage import SnapshotStage
from flows.snapshot.step import Snapshot
from infra.files.ledger import WrittenLedger
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
from schemas.ledger import Frame, Genesis, GenesisRecord, decode_frame

BATCH_EVENTS: Final = 4096
_OVERRIDES: Final = Stream("replay:parameters")


class EmptyLogError(Exception):
    """The inputs hold no event that could be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A replay. The first group belongs to the run; the second changes no byte of it.

    ``ledger``, a folder of frames, stands for ``inputs``: it has its own genesis and shards, and what intake would do
    (``until_ns``, ``parameters``) is done.
    """

    inputs: list[Path]
    out: Path
    genesis: Genesis
    ledger: Path | None = None
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
    # Watches the screen, of one process.
    observer: Observer | None = None


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

    ``frames_left_out`` stand behind the last barrier of a written ledger. ``seconds`` and ``diagnostics`` are of this
    process, from the first event taken to the last commit: a resumed run
    has forgotten those before.
    """

    summary: dict[str, Any]
    seconds: float
    resumed_at_frame: int | None
    diagnostics: Diagnostics
    frames_left_out: int = 0


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
        return _of_events(options, show) if options.ledger is None else _of_ledger(options, options.ledger, show)


def _of_events(options: Options, show: Callable[[Progress], None]) -> Replayed:
    work = options.out.with_name(options.out.name + ".sorting")
    log = EventLog(
        options.inputs,
        work=work,
        on_scan=lambda done: show(Progress(scanning=True, bytes_done=done)),
    )
    try:
        directory, commit = RunDirectory.prepare(options.out, _description(options))

        def input_from(checkpoint: bytes | None, commit_due: Callable[[], bool]) -> tuple[IntakeStage, Iterable[Any]]:
            intake = _intake(options, checkpoint)
            batches = _batches(log.blocks(dict(intake.positions), BATCH_EVENTS), options, is_new=checkpoint is None)
            return IntakeStage(intake, checkpoint_due=commit_due, is_new=checkpoint is None), batches

        return _run(options, log, input_from, directory, commit, show)
    finally:
        log.close()
        if work.is_dir() and not any(work.iterdir()):
            work.rmdir()


def _of_ledger(options: Options, folder: Path, show: Callable[[Progress], None]) -> Replayed:
    ledger = WrittenLedger(folder)
    first = ledger.genesis()
    [record] = first.market
    assert isinstance(record, GenesisRecord), "frame 0 holds the genesis"
    options = replace(
        options,
        genesis=record.genesis,
        shard_count=first.shard_count,
        inputs=ledger.files,
        until_ns=None,
        parameters={},
    )
    directory, commit = RunDirectory.prepare(options.out, _description(options))

    def input_from(checkpoint: bytes | None, commit_due: Callable[[], bool]) -> tuple[LedgerStage, Iterable[Any]]:
        next_frame = 0 if checkpoint is None else next_frame_of(checkpoint)
        return LedgerStage(checkpoint_due=commit_due), ledger.periods(next_frame)

    replayed = _run(options, ledger, input_from, directory, commit, show)
    return replace(replayed, frames_left_out=ledger.behind)


class _Input(Protocol):
    """What is read, for progress."""

    bytes_total: int

    @property
    def bytes_read(self) -> int:
        """How much of it has been read."""


# The first stage, from its checkpoint if there is one, and what it takes from there on.
_InputFrom = Callable[[bytes | None, Callable[[], bool]], tuple[WritingStage, Iterable[Any]]]


def _run(
    options: Options,
    log: _Input,
    input_from: _InputFrom,
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
        with _Stages(options, directory, commit, input_from, commit_due) as (stages, batches):
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
        self,
        options: Options,
        directory: RunDirectory,
        commit: Commit | None,
        input_from: _InputFrom,
        commit_due: Callable[[], bool],
    ) -> None:
        self._pool: RiskPool | None = None
        clock = StateClock(options.snapshot_period_ns, None if commit is None else commit.state_period)
        if commit is None:
            written: bytes | None = None
            settlement, snapshot, listings = Settlement(), Snapshot(), Listings()
            risk_checkpoint, previous = None, None
        else:
            states, risk_checkpoint, barrier = directory.read_checkpoint(commit, options.shard_count)
            written = states["intake"]
            settlement = Settlement.restore(states["settlement"])
            snapshot = Snapshot()
            snapshot.restore(states["snapshot"])
            listings = Market.restore(Risk.market_checkpoint(risk_checkpoint.market)).listings
            previous = decode_frame(barrier), barrier
        first, self.batches = input_from(written, commit_due)
        self.stages = Stages(
            first,
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
            observer=options.observer,
        )
        return LocalRisk(risk, clock=clock, previous=None if previous is None else previous[0])

    def __enter__(self) -> tuple[Stages, Iterable[Any]]:
        """Return the stages and what the first of them takes."""
        return self.stages, self.batches

    def __exit__(self, *error: object) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.__exit__(None, None, None)


def _intake(options: Options, checkpoint: bytes | None) -> Intake:
    models = margin_models()
    sets = parameter_sets(models)
    if checkpoint is not None:
        return Intake.restore(checkpoint, parameter_sets=sets)
    return Intake(options.genesis, shard_count=options.shard_count, margin_models=tuple(models), parameter_sets=sets)


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
