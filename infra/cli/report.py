"""``tidegate report``: a run held against what really happened."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from infra.cli.import_command import Usdc
from infra.cli.output import WRONG_USE, console, fail, print_facts, print_json
from infra.files.query import QueryError
from infra.files.snapshots import SnapshotError

if TYPE_CHECKING:
    from infra.reports.hyperliquid import AlarmRow, Comparison, LiquidationRow

_SHORT: Final = 10


class Subject(Enum):
    """What a run is held against."""

    HYPERLIQUID_2023 = "hyperliquid-2023"


def report(
    *,
    subject: Annotated[Subject, typer.Argument(help="What to hold the run against.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Directory of the run.", show_default=False)],
    data: Annotated[
        Path, typer.Option("--data", help="Folder of the records that the run was imported from.", show_default=False)
    ],
    prices: Annotated[
        Path | None, typer.Option("--prices", help="Folder of price files; prices beside --data if left out.")
    ] = None,
    usdc: Annotated[Usdc, typer.Option("--usdc", help="As given to import.")] = Usdc.MARKET,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a picture, .png.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Compare the tiers and equity of a run with the liquidations that the venue recorded, account by account.

    hyperliquid-2023: the run of a log made by `tidegate import hyperliquid-2023`.
    """
    if not out.is_dir():
        fail(f"{out} is not a directory: give the --out directory of a run", WRONG_USE)
    if not data.is_dir():
        fail(f"{data} is not a folder: --data names the folder of the records", WRONG_USE)
    # Loading polars takes a second that the other commands should not pay.
    from infra.imports.hyperliquid import read_records
    from infra.imports.inputs import WrongInputError
    from infra.reports.hyperliquid import compare, read_run

    beside = data.parent / "prices"
    try:
        records = read_records([data], prices if prices is not None else beside if beside.is_dir() else None)
        comparison = compare(read_run(out), records, usdc.value)
    except WrongInputError as error:
        fail(str(error), WRONG_USE)
    except (SnapshotError, QueryError) as error:
        fail(str(error))
    if plot is not None:
        from infra.reports.hyperliquid_plot import plot_comparison

        plot_comparison(comparison, plot)
    if as_json:
        print_json({"subject": subject.value, "run": str(out), "comparison": comparison})
    else:
        _show(comparison)


def _show(comparison: "Comparison") -> None:
    from infra.reports.hyperliquid import EXPLANATIONS

    console.print(_liquidations(comparison.rows))
    console.print()
    console.print(_alarms(comparison.alarms))
    console.print()
    agreeing = comparison.equity_agrees
    lead = comparison.lead_seconds_median_where_equity_agrees
    apart = comparison.mark_difference_bp_median
    facts: dict[str, Any] = {
        "recorded liquidations": f"{comparison.liquidations} of {comparison.liquidated_accounts} accounts",
        "books against an independent rebuild": f"{comparison.rebuild_differences} differ",
        "equity within 0.5 % of notional": f"{agreeing} of {comparison.single_coin} with one coin",
        "of these, liquidating at the venue's mark": comparison.liquidating_at_venue_mark_where_equity_agrees,
        "of these, liquidating by our prices in time": comparison.liquidating_by_our_prices_where_equity_agrees,
        "median lead where equity agrees": "none" if lead is None else f"{lead:,.1f} s",
        "median distance of our price from the venue's mark": "none" if apart is None else f"{apart:.0f} bp",
        "accounts that our run liquidates": comparison.accounts_liquidating,
        "of these, never liquidated by the venue": comparison.false_alarms,
    }
    print_facts("summary", facts)
    for title, why in (("\nwhy", comparison.why), ("\nwhy never by the venue", comparison.false_alarms_why)):
        console.print(title, style="bold")
        for reason, count in why.items():
            if count:
                console.print(f"  {count:>3}  {reason:<18}{EXPLANATIONS[reason]}", soft_wrap=True, markup=False)


def _liquidations(rows: "list[LiquidationRow]") -> Table:
    table = Table(title="recorded liquidations, the moment before their fills", show_edge=False, pad_edge=False)
    for name in ("time (UTC)", "account", "coins"):
        table.add_column(name, no_wrap=True)
    for name in ("notional", "recorded", "ours", "% apart"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("at its mark", no_wrap=True)
    table.add_column("our tier", no_wrap=True)
    table.add_column("lead s", justify="right", no_wrap=True)
    table.add_column("why", no_wrap=True)
    for row in rows:
        apart = row.difference_ratio
        table.add_row(
            row.time_utc[5:],
            row.account[:_SHORT],
            ",".join(row.coins),
            f"{row.notional:,.0f}",
            f"{row.recorded_value:,.2f}",
            "" if row.equity is None else f"{row.equity:,.2f}",
            "" if apart is None else f"{100.0 * apart:,.2f}",
            row.tier_at_venue_mark or "",
            row.tier,
            "" if row.lead_seconds is None else f"{row.lead_seconds:,.1f}",
            row.why,
        )
    return table


def _alarms(rows: "list[AlarmRow]") -> Table:
    table = Table(title="liquidated by our run, never by the venue", show_edge=False, pad_edge=False)
    table.add_column("account")
    table.add_column("first (UTC)")
    for name in ("times", "seconds", "lowest equity"):
        table.add_column(name, justify="right")
    table.add_column("why")
    for row in rows:
        table.add_row(
            row.account[:_SHORT],
            row.first_utc[5:],
            str(row.episodes),
            f"{row.seconds:,.0f}",
            f"{row.lowest_equity:,.2f}",
            row.why,
        )
    return table
