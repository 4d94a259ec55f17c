"""``tidegate demo``: the whole pipeline on a synthetic crash day, embedded and offline."""

import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from infra.cli.output import FAILED, console, errors, fail, print_json
from infra.cli.replay import (
    BoxPicture,
    ChainKind,
    ChainOption,
    Engine,
    EngineOption,
    Exhaustive,
    Json,
    ScreeningName,
    ShadowFraction,
    Shards,
    Workers,
    fail_where_bounds_are_wrong,
    run,
    screened,
    show_summary,
    suggest,
)
from infra.demo.generate import ACCOUNTS, HOURS, SEED, generate
from infra.files.query import SnapshotQuery
from infra.run import replay as runs
from infra.run.screening import DEFAULT, JUDGE
from schemas.ledger import Genesis

_PERIOD_NS: Final = 300 * 1_000_000_000
_SNAPSHOTS_NS: Final = 3_600 * 1_000_000_000

_HOURLY: Final = """
SELECT strftime(s.time_utc, '%H:%M') AS "UTC",
       (SELECT round(any_value(price)) FROM asset_prices p WHERE p.frame = s.frame AND p.asset = 'BTC') AS "BTC",
       count(*) FILTER (WHERE a.tier = 'healthy') AS healthy,
       count(*) FILTER (WHERE a.tier = 'watch') AS watch,
       count(*) FILTER (WHERE a.tier = 'warning') AS warning,
       count(*) FILTER (WHERE a.tier = 'liquidating') AS liquidating,
       count(*) FILTER (WHERE a.tier = 'takeover') AS takeover,
       count(*) FILTER (WHERE a.tier = 'bankrupt') AS bankrupt
FROM snapshots s JOIN accounts a USING (frame)
GROUP BY s.frame, s.time_utc ORDER BY s.frame
"""


def demo(
    out: Annotated[Path | None, typer.Option("--out", help="Keep the run in this directory.")] = None,
    *,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed is another day.")] = SEED,
    accounts: Annotated[int, typer.Option("--accounts", min=10, max=100_000, help="Customer accounts.")] = ACCOUNTS,
    hours: Annotated[float, typer.Option("--hours", min=1.0, max=24.0, help="Length of the day.")] = HOURS,
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
    """Run everything on a generated crash day: about a minute, no network. All data is synthetic."""
    with tempfile.TemporaryDirectory(prefix="tidegate-demo-") as temporary:
        place = Path(temporary) if out is None else out
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fail(f"--out {place}: {error.strerror}")
        log = place / log_name(seed, accounts, hours)
        if not log.exists():
            errors.print(f"generating a synthetic crash day (seed {seed}, {accounts:,} accounts, {hours:g} hours)")
            partial = log.with_name(f"unfinished-{log.name}")
            generate(partial, seed=seed, accounts=accounts, hours=hours)
            partial.replace(log)
        replayed = run(
            runs.Options(
                inputs=[log.resolve()],
                out=place / "run",
                genesis=Genesis(ledger_id=f"demo-{seed}", settlement_period_ns=_PERIOD_NS),
                shard_count=shards,
                snapshot_period_ns=_SNAPSHOTS_NS,
                chain=chain.value,
                engine=engine.value,
                worker_count=workers,
                screening=JUDGE if exhaustive else screening,
                shadow=shadow,
            ),
            box_picture,
        )
        with SnapshotQuery(place / "run") as snapshots:
            failed = sorted(name for name, answer in snapshots.check().items() if answer.rows.num_rows)
        if as_json:
            print_json(
                replayed.summary
                | screened(replayed)
                | {"synthetic": True, "seconds": replayed.seconds, "failed_checks": failed}
            )
        else:
            _show(replayed, place / "run", failed)
            if out is not None:
                suggest(place / "run")
            else:
                console.print("\nNothing was kept: --out DIR keeps the run, for tidegate query and tidegate verify.")
    if failed:
        raise typer.Exit(FAILED)
    fail_where_bounds_are_wrong(replayed)


def log_name(seed: int, accounts: int, hours: float) -> str:
    """Return the name of a generated log, which says all that it depends on: another day is another file."""
    return f"crash-day-{seed}-{accounts}-{hours:g}h.ndjson.zst"


def _show(replayed: runs.Replayed, place: Path, failed: list[str]) -> None:
    console.print("A synthetic crash day: every account, price and trade below is generated.\n")
    table = Table(title="Accounts by tier", title_justify="left", box=None, pad_edge=False)
    with SnapshotQuery(place) as snapshots:
        hourly = snapshots.query(_HOURLY, timeout_seconds=60.0, rows_max=None).rows
    for name in hourly.column_names:
        table.add_column(name, justify="right")
    for row in hourly.to_pylist():
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)
    console.print()
    show_summary(replayed)
    console.print(
        "checks of sql/checks: "
        + (f"FAILED: {', '.join(failed)}" if failed else "all pass, cash and positions sum to 0")
    )


def _cell(value: Any) -> str:
    return f"{value:,.0f}" if isinstance(value, float | int) else str(value)
