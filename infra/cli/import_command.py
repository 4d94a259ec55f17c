"""``tidegate import``: public data into an event log, with a word on what of it is not the public data's own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from infra.cli.arguments import duration_ns, moment_ns, moment_text
from infra.cli.output import WRONG_USE, console, errors, fail, note, print_facts, print_json
from infra.imports.writer import LOG_SUFFIXES, LogSummary, write_log
from schemas.events import Event

_PERPETUALS_PATTERN: Final = "deribit_perp_minute_at_snapshots*.parquet"

Tell = Callable[[str, int, int], None]


class Kind(Enum):
    """A public format."""

    HYPERLIQUID_2023 = "hyperliquid-2023"
    DERIBIT_CHAIN = "deribit-chain"


class Smiles(Enum):
    """What is told of an expiry: a fit, its quoted points, or points where a fit is refused."""

    FIT = "fit"
    POINTS = "points"
    FIT_OR_POINTS = "fit-or-points"


class Usdc(Enum):
    """What a USDC is worth."""

    MARKET = "market"
    PAR = "par"


def import_(
    *,
    kind: Annotated[Kind, typer.Argument(help="Which public format.", show_default=False)],
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Its files, or a folder.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", help="The event log: .ndjson, .ndjson.zst or .ndjson.gz.", show_default=False)
    ],
    prices: Annotated[
        Path | None, typer.Option("--prices", help="hyperliquid-2023: folder of price files.", show_default=False)
    ] = None,
    usdc: Annotated[
        Usdc, typer.Option("--usdc", help="hyperliquid-2023: USDC at its market price, or at 1 as the venue has it.")
    ] = Usdc.MARKET,
    start: Annotated[str, typer.Option("--from", help="deribit-chain: first moment, ISO 8601, UTC.")] = "2026-02-04",
    until: Annotated[str, typer.Option("--until", help="deribit-chain: last moment.")] = "2026-02-07",
    every: Annotated[str, typer.Option("--every", help="deribit-chain: step between snapshots, like 30s, 5m.")] = "5m",
    accounts: Annotated[int, typer.Option("--accounts", min=1, max=999_999, help="deribit-chain: synthetic.")] = 20_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="deribit-chain: of the synthetic book.")] = 1,
    smiles: Annotated[
        Smiles,
        typer.Option("--smiles", help="deribit-chain: a fit, the quoted points, or points where a fit is refused."),
    ] = Smiles.FIT,
    fits: Annotated[
        Path | None, typer.Option("--fits", help="deribit-chain: write every fit as JSON.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="deribit-chain: write a plot of the fits, .png.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Turn public data into an event log that `tidegate replay` reads.

    hyperliquid-2023: fills, transfers and liquidations of 2023 (three Parquet files, or their folder).
    deribit-chain: option chain snapshots (one Parquet file), interpolated in between, with a synthetic book.
    """
    if not out.name.endswith(LOG_SUFFIXES):
        fail(f"{out.name}: name the log .ndjson, .ndjson.zst or .ndjson.gz", WRONG_USE)
    missing = [str(path) for path in files if not path.exists()]
    if missing:
        fail(f"no such file or folder: {', '.join(missing)}", WRONG_USE)
    # Loading polars and scipy takes a second that the other commands should not pay.
    from infra.imports.inputs import WrongInputError

    try:
        with _telling() as tell:
            if kind is Kind.HYPERLIQUID_2023:
                events, summary = _hyperliquid(files, prices, usdc, tell)
            else:
                window = moment_ns("--from", start), moment_ns("--until", until)
                events, summary = _deribit(files, window, duration_ns("--every", every), accounts, seed, smiles, tell)
                if fits is not None:
                    fits.write_bytes(msgspec.json.format(msgspec.json.encode(summary.rows)))
                if plot is not None:
                    _plot(summary, plot)
            log = write_log(out, events, lambda done, total: tell("writing", done, total))
    except WrongInputError as error:
        fail(str(error), WRONG_USE)
    except OSError as error:
        fail(f"cannot write: {error}")
    if as_json:
        print_json({"kind": kind.value, "log": log, "import": summary})
    else:
        _show(log, summary)


def _hyperliquid(files: list[Path], prices: Path | None, usdc: Usdc, tell: Tell) -> tuple[list[Event], Any]:
    from infra.imports import hyperliquid

    tell("reading", 0, 1)
    records = hyperliquid.read_records(files, prices)
    tell("reading", 1, 1)
    return hyperliquid.events(records, usdc.value)


def _deribit(
    files: list[Path], window: tuple[int, int], every_ns: int, accounts: int, seed: int, smiles: Smiles, tell: Tell
) -> tuple[list[Event], Any]:
    from flows.calibration.step import SmileKind
    from infra.imports import deribit
    from infra.run.kernels import prepared_kernels

    if len(files) != 1:
        fail("deribit-chain takes one file of snapshots", WRONG_USE)
    if window[0] >= window[1]:
        fail("--from must lie before --until", WRONG_USE)
    perpetuals = next(iter(sorted(files[0].parent.glob(_PERPETUALS_PATTERN))), None)
    tell("reading", 0, 1)
    snapshots = deribit.read_snapshots(files[0], *window, perpetuals)
    tell("reading", 1, 1)
    with prepared_kernels(note):
        kind = SmileKind(smiles.value)
        return deribit.events(snapshots, every_ns=every_ns, accounts=accounts, seed=seed, smiles=kind, progress=tell)


def _plot(summary: Any, path: Path) -> None:
    from infra.reports.surfaces import plot_fits

    plot_fits(summary.rows, path)


def _show(log: LogSummary, summary: Any) -> None:
    facts: dict[str, Any] = {"log": log.path, "events": log.events, "size": f"{log.bytes / 1e6:.1f} MB"}
    facts["from"], facts["until"] = moment_text(log.first_time_ns), moment_text(log.last_time_ns)
    facts |= {f"events of {source}": count for source, count in log.by_source.items()}
    for name, value in msgspec.to_builtins(summary).items():
        if isinstance(value, int | float | str):
            facts[name] = round(value, 3) if isinstance(value, float) else value
        elif isinstance(value, dict) and name not in {"instruments", "events", "price_events"}:
            facts[name] = ", ".join(f"{key} {item:,}" for key, item in value.items()) or "none"
    print_facts("imported", facts)
    for name, title in (("notes", "what to know"), ("synthetic", "what is synthetic")):
        lines = getattr(summary, name, [])
        if lines:
            console.print(f"\n{title}", style="bold")
            for line in lines:
                console.print(f"  {line}", soft_wrap=True, markup=False)


@contextmanager
def _telling() -> Iterator[Tell]:
    """Yield a function that shows how far a named part of the work is, on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}/{task.total:,}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=errors, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def tell(part: str, done: int, total: int) -> None:
            if part not in tasks:
                tasks[part] = progress.add_task(part, total=total)
            progress.update(tasks[part], completed=done, total=total)

        yield tell
