"""``tidegate replay``: any event log through the whole pipeline."""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flows.margin.registry import MarginModelError, margin_models, parameter_sets
from flows.risk.book import BookOverflow
from flows.screening.diagnostics import Diagnostics
from flows.screening.observer import Residence
from flows.screening.shadow import JudgedOtherwise
from flows.settlement.netting import ConservationError, SettlementOverflowError
from flows.settlement.step import SettlementError
from infra.chain.chain import ChainHaltedError, ChainUnavailableError
from infra.chain.outbox import OutboxError
from infra.cli.arguments import duration_ns, moment_ns, moment_text
from infra.cli.output import DIFFERS, WRONG_USE, console, errors, fail, note, print_facts, print_json
from infra.files.append import ShorterThanCommitted
from infra.files.documents import DocumentError, read_parameters
from infra.files.ledger import NoLedgerError
from infra.files.snapshots import SnapshotError
from infra.files.sources import SourceError
from infra.run import replay as runs
from infra.run.directory import RunDirectoryError
from infra.run.kernels import prepared_kernels
from infra.run.pool import WorkerFailed
from infra.run.screening import DEFAULT, JUDGE, UnknownScreeningPolicy
from schemas.checkpoint import CheckpointError
from schemas.failures import Refused
from schemas.ledger import Genesis, LedgerError
from schemas.parameters import validate

_REASONS_SHOWN: Final = 4


class Engine(StrEnum):
    """What drives the steps."""

    PLAIN = "plain"
    BYTEWAX = "bytewax"


class ChainKind(StrEnum):
    """Where batches settle."""

    EMBEDDED = "embedded"
    NONE = "none"


# What a person can mend, said in one line. Anything else is a fault of ours and leaves with its traceback.
HALTS = (
    BookOverflow,
    ChainHaltedError,
    ChainUnavailableError,
    CheckpointError,
    ConservationError,
    LedgerError,
    MarginModelError,
    OSError,
    OutboxError,
    OverflowError,
    RunDirectoryError,
    SettlementError,
    SettlementOverflowError,
    ShorterThanCommitted,
    SnapshotError,
    WorkerFailed,
    runs.EmptyLogError,
)

Workers = Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes of the risk stage.")]
EngineOption = Annotated[Engine, typer.Option("--engine", help="A plain loop, or the same steps under Bytewax.")]
Shards = Annotated[int, typer.Option("--shards", min=1, max=4096, help="Shards of the ledger; fixed for a run.")]
ChainOption = Annotated[ChainKind, typer.Option("--chain", help="An embedded EVM, or no chain.")]
Exhaustive = Annotated[
    bool, typer.Option("--exhaustive", help="Evaluate every account at every instant: the same bytes, slowly.")
]
ScreeningName = Annotated[
    str,
    typer.Option("--screening", metavar="POLICY", help="Who chooses the accounts that an instant evaluates."),
]
ShadowFraction = Annotated[
    float,
    typer.Option(
        "--shadow",
        min=0.0,
        max=1.0,
        metavar="P",
        help="Judge this fraction of frames on the way; exit 3 if one differs.",
    ),
]
BoxPicture = Annotated[
    Path | None,
    typer.Option("--box-picture", metavar="FILE.png", help="Draw the boxes of `--screening boxes` about the market."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]


def replay(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="Directory of the run; an unfinished one is resumed.")],
    logs: Annotated[
        list[Path] | None, typer.Argument(metavar="LOG…", help="Event logs: .ndjson (.gz, .zst) or .parquet.")
    ] = None,
    *,
    ledger: Annotated[
        Path | None,
        typer.Option("--ledger", metavar="DIR", help="Decide the frames of a written ledger, instead of events."),
    ] = None,
    period: Annotated[str, typer.Option("--period", help="Settlement period.")] = "1m",
    snapshots: Annotated[str, typer.Option("--snapshots", help="Period of full-state snapshots.")] = "1h",
    until: Annotated[str | None, typer.Option("--until", help="Leave out events from this moment on (UTC).")] = None,
    params: Annotated[
        Path | None,
        typer.Option("--params", help="JSON file {name: {…}}: parameter sets instead of the log's own."),
    ] = None,
    ledger_id: Annotated[str, typer.Option("--ledger-id", help="Name of the ledger, in its genesis.")] = "replay",
    commit_every: Annotated[
        str, typer.Option("--commit-every", help="At most so much work is repeated after a crash.")
    ] = "5s",
    workers: Workers = 1,
    engine: EngineOption = Engine.PLAIN,
    shards: Shards = 16,
    chain: ChainOption = ChainKind.EMBEDDED,
    screening: ScreeningName = DEFAULT,
    exhaustive: Exhaustive = False,
    shadow: ShadowFraction = 0.0,
    box_picture: BoxPicture = None,
    as_json: Json = False,
) -> None:
    """Replay event logs: ledger, margins and tiers, settlement batches, snapshots. Resumes where it was stopped."""
    _check_input(context, logs, ledger)
    options = runs.Options(
        inputs=[path.resolve() for path in logs or []],
        out=out,
        ledger=ledger,
        genesis=Genesis(ledger_id=ledger_id, settlement_period_ns=duration_ns("--period", period)),
        shard_count=shards,
        snapshot_period_ns=duration_ns("--snapshots", snapshots),
        until_ns=None if until is None else moment_ns("--until", until),
        chain=chain.value,
        parameters={} if params is None else _parameters(params),
        screening=JUDGE if exhaustive else screening,
        shadow=shadow,
        engine=engine.value,
        worker_count=workers,
        commit_seconds=duration_ns("--commit-every", commit_every) / 1e9,
    )
    replayed = run(options, box_picture)
    warn_of_damage(replayed, out)
    if replayed.frames_left_out:
        note(f"{replayed.frames_left_out:,} frames behind the last barrier are left out: their period is not closed")
    if as_json:
        print_json(replayed.summary | screened(replayed) | {"seconds": replayed.seconds, "out": str(out)})
    else:
        show_summary(replayed)
        suggest(out)
    fail_where_bounds_are_wrong(replayed)


def _check_input(context: typer.Context, logs: list[Path] | None, ledger: Path | None) -> None:
    """Exit unless there is one input; what a ledger says already cannot be said again."""
    if ledger is None:
        if not logs:
            fail("nothing to replay: name event logs, or a ledger with --ledger", WRONG_USE)
        return
    if logs:
        fail("--ledger stands for event logs: leave out one of them", WRONG_USE)
    for name in ("period", "until", "params", "ledger_id", "shards"):
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            fail(f"--{name.replace('_', '-')} is decided when a ledger is written, and --ledger reads one", WRONG_USE)


def run(options: runs.Options, box_picture: Path | None = None) -> runs.Replayed:
    """Run a replay with progress on stderr, and draw its boxes; say in one line what stopped it, and exit."""
    if box_picture is not None:
        return _drawn(options, box_picture)
    if options.worker_count > options.shard_count:
        fail(f"--workers {options.worker_count} is more than --shards {options.shard_count}", WRONG_USE)
    try:
        with prepared_kernels(note), showing_progress() as show:
            return runs.replay(options, show)
    except SourceError as error:
        fail(str(error), WRONG_USE)
    except (UnknownScreeningPolicy, RunDirectoryError, NoLedgerError) as error:
        fail(str(error), WRONG_USE)
    except JudgedOtherwise as error:
        fail(f"{error}; {options.out} is at its last commit before it", DIFFERS)
    except KeyboardInterrupt:
        fail(f"stopped; the same command resumes the run in {options.out}", 130)
    except HALTS as error:
        fail(f"{error}")


def _drawn(options: runs.Options, picture: Path) -> runs.Replayed:
    if picture.suffix.lower() != ".png":
        fail(f"--box-picture {picture}: name a .png file", WRONG_USE)
    if not picture.absolute().parent.is_dir():
        fail(f"--box-picture {picture}: there is no such folder", WRONG_USE)
    if options.worker_count > 1:
        fail("--box-picture shows the boxes of one process: leave out --workers", WRONG_USE)
    from infra.reports.boxes import BoxLog, plot_boxes

    log = BoxLog()
    replayed = run(replace(options, observer=log))
    try:
        plot_boxes(log, picture)
    except (ValueError, OSError) as error:
        fail(f"--box-picture {picture}: {error}; the run itself is complete")
    errors.print(f"wrote {picture}", markup=False)
    return replayed


def screened(replayed: runs.Replayed) -> dict[str, Any]:
    """Return what screening took: it depends on the policy, the process count and where the run was resumed."""
    taken = asdict(replayed.diagnostics)
    residence: dict[str, Any] = taken.pop("residence")
    return taken | residence


def fail_where_bounds_are_wrong(replayed: runs.Replayed) -> None:
    """Exit as from a difference where a bound excluded what an account came to: a proof is wrong."""
    violations = replayed.diagnostics.bound_violations
    if violations:
        fail(f"{violations:,} evaluations were outside the bounds that screening had for them", DIFFERS)


def suggest(out: Path) -> None:
    """Say what can be done with a finished run."""
    command = "tidegate" if shutil.which("tidegate") else sys.argv[0]
    console.print(f"\nThe run is in {out}. What next:", markup=False)
    console.print(f'  {command} query "FROM closest_to_liquidation" --out {out}', markup=False)
    console.print(f"  {command} verify {out}", markup=False)


def warn_of_damage(replayed: runs.Replayed, out: Path) -> None:
    """Say on stderr that inputs could not be read to their end: their events are missing, not refused."""
    damaged = replayed.summary["tallies"].get("dead_letters.unreadable_row", 0)
    if damaged:
        dead_letters = out / "dead_letters.ndjson"
        errors.print(
            f"tidegate: {damaged:,} places of the inputs are damaged, see unreadable_row in {dead_letters}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


@contextmanager
def showing_progress() -> Iterator[Callable[[runs.Progress], None]]:
    """Show how far a replay is, with the time that is left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("reading", total=None, note="")

        def show(progress: runs.Progress) -> None:
            if progress.scanning:
                bar.update(task, description="checking order", completed=progress.bytes_done)
                return
            counts = progress.counts
            bar.update(
                task,
                description="replaying",
                total=progress.bytes_total,
                completed=progress.bytes_done,
                note=f"{moment_text(progress.ledger_time_ns)}  {counts.accepted:,} events",
            )

        yield show


def show_summary(replayed: runs.Replayed) -> None:
    """Print what a run's end is worth knowing."""
    summary = replayed.summary
    tallies: Mapping[str, int] = summary["tallies"]
    seconds = replayed.seconds
    if replayed.resumed_at_frame is not None:
        console.print(f"resumed behind frame {replayed.resumed_at_frame:,}")
    print_facts(
        f"Replayed to {moment_text(summary['ledger_time_ns'])}",
        {
            "events": summary["events"],
            "accepted": f"{summary['accepted']:,} ({summary['fills']:,} fills, {summary['transfers']:,} transfers)",
            "duplicates dropped": summary["duplicates"],
            "dead letters": _dead_letters(summary["dead_letters"], tallies),
            "frames": summary["frames"],
            "tier changes": f"{tallies.get('tier_changed', 0):,}" + _worst_tiers(tallies),
            "liquidation orders": _counts(tallies, "order", "opened", "grown", "cancelled"),
            "withdrawals": _counts(tallies, "withdrawal", "accepted", "refused"),
            "settlement": _settlement(summary),
            "accounts evaluated": _evaluations(replayed.diagnostics),
            **_residence(replayed.diagnostics.residence),
            "digest": summary["digest"],
            "time": f"{seconds:.1f} s, {summary['events'] / seconds:,.0f} events/s"
            if replayed.resumed_at_frame is None
            else f"{seconds:.1f} s",
        },
    )


def _evaluations(diagnostics: Diagnostics) -> str:
    text = f"{diagnostics.evaluations:,} of {diagnostics.exhaustive_evaluations:,}"
    if diagnostics.shadowed_frames:
        text += f"; {diagnostics.shadowed_frames:,} frames judged, none differs"
    return text


def _residence(residence: Residence) -> dict[str, str]:
    """Return where accounts live at the end, under policies that know it."""
    lines = {}
    if residence.residents_by_width:
        lines["accounts in boxes"] = ", ".join(
            f"{accounts:,} of ±{100.0 * width:.3g} %" for width, accounts in residence.residents_by_width if accounts
        )
    if residence.hot_by_reason:
        lines["accounts that are hot"] = ", ".join(f"{count:,} {reason}" for reason, count in residence.hot_by_reason)
    return lines


def _counts(tallies: Mapping[str, int], noun: str, *verbs: str) -> str:
    return ", ".join(f"{tallies.get(f'{noun}_{verb}', 0):,} {verb}" for verb in verbs)


def _dead_letters(count: int, tallies: Mapping[str, int]) -> str:
    reasons = sorted(
        ((number, name.removeprefix("dead_letters.")) for name, number in tallies.items() if name.startswith("dead_")),
        key=lambda reason: (-reason[0], reason[1]),
    )
    shown = ", ".join(f"{name} {number}" for number, name in reasons[:_REASONS_SHOWN])
    more = f", {len(reasons) - _REASONS_SHOWN} more reasons" if len(reasons) > _REASONS_SHOWN else ""
    return f"{count:,}" + (f" ({shown}{more})" if shown else "")


def _worst_tiers(tallies: Mapping[str, int]) -> str:
    named = [(name, tallies.get(f"to_{name}", 0)) for name in ("liquidating", "takeover", "bankrupt")]
    return " (" + ", ".join(f"{count:,} to {name}" for name, count in named) + ")"


def _settlement(summary: Mapping[str, Any]) -> str:
    barriers, batches = summary["barriers"], summary["batches"]
    text = f"{batches:,} batches of {barriers:,} periods"
    if summary["chain_batch"] is None:
        return text + ", no chain"
    return text + f"; on chain: batch {summary['chain_batch']:,}, root 0x{summary['chain_root'][:16]}…"


def _parameters(path: Path) -> dict[str, dict[str, Any]]:
    try:
        sets = read_parameters(path)
        known = parameter_sets(margin_models())
        for name, values in sets.items():
            validate(name, values, known)
    except DocumentError as error:
        fail(f"--params {error}", WRONG_USE)
    except MarginModelError as error:
        fail(str(error))
    except Refused as refused:
        fail(f"--params {path}: {refused.message}", WRONG_USE)
    return sets
