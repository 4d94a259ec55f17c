"""The comparison with recorded liquidations, on a run and records made by hand."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from infra.imports.hyperliquid import FILL_OFFSET_NS, Records
from infra.imports.inputs import nanoseconds
from infra.reports.hyperliquid import Comparison, Run, Why, WhyAlarm, compare
from infra.reports.hyperliquid_plot import plot_comparison

NOON = datetime(2023, 4, 20, 12, 0, 0, tzinfo=UTC)
TIME = pl.Datetime("ms", "UTC")


def moment(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def the_records(*, recorded: float = 0.85, leverage_type: str = "Cross") -> Records:
    """Alice deposits 10.85, buys 100 ARB at 1.10 and is liquidated when the venue marks it at 1.00."""
    fills = [
        (moment(10), "alice", "ARB", "Bid", 1.10, 100.0, True),
        (moment(20), "bob", "ARB", "Ask", 1.02, 5.0, True),
        (moment(60), "alice", "ARB", "Ask", 0.99, 100.0, True),
    ]
    return Records(
        fills=pl.DataFrame(fills, ["time", "user", "coin", "side", "px", "sz", "crossed"], orient="row").cast(
            {"time": TIME}
        ),
        transfers=pl.DataFrame(
            [(moment(0), "alice", 10.85)], ["time", "user", "delta_usd"], orient="row"
        ).cast({"time": TIME}),
        liquidations=pl.DataFrame(
            [(moment(60), "alice", 100.0, recorded, leverage_type)],
            ["time", "user", "liquidated_ntl_pos", "liquidated_account_value", "leverage_type"],
            orient="row",
        ).cast({"time": TIME}),
        candles=None,
        rounds=None,
        stablecoin=None,
    )  # fmt: skip


def the_run(tiers: list[tuple[float, str, str, str, float]], *, deposit: int = 10_850_000) -> Run:
    """The ledger's records of the same, and tier changes as (seconds, account, from, to, equity); a frame a second."""
    events = [
        (moment(0), 0, "alice", "transfer", None, 0, deposit),
        (moment(10), FILL_OFFSET_NS, "alice", "fill", "ARB-PERP", 1000, -110_000_000),
        (moment(20), FILL_OFFSET_NS, "bob", "fill", "ARB-PERP", -50, 5_100_000),
        (moment(60), FILL_OFFSET_NS, "alice", "fill", "ARB-PERP", -1000, 99_000_000),
    ]
    return Run(
        events=pl.DataFrame(
            [((time - NOON).seconds, nanoseconds(time) + offset, *rest) for time, offset, *rest in events],
            ["frame", "event_time_ns", "account", "kind", "instrument", "lots", "units"],
            orient="row",
        ),
        tiers=pl.DataFrame(
            [(int(at), nanoseconds(moment(at)), account, after, equity) for at, account, _, after, equity in tiers],
            {"frame": pl.Int64, "time_ns": pl.Int64, "account": pl.String, "tier_to": pl.String, "equity": pl.Float64},
            orient="row",
        ),
        instruments=pl.DataFrame([("ARB-PERP", "ARB", 0.1)], ["instrument", "underlying", "lot_size"], orient="row"),
    )


def the_comparison(
    tiers: list[tuple[float, str, str, str, float]], *, recorded: float = 0.85, leverage_type: str = "Cross"
) -> Comparison:
    return compare(the_run(tiers), the_records(recorded=recorded, leverage_type=leverage_type))


def test_a_liquidation_that_we_saw_coming_agrees_and_leads() -> None:
    """Fails if equity is not taken the moment before the liquidation's fills, or the lead is counted wrongly."""
    out = the_comparison([(20, "alice", "healthy", "warning", 1.9), (52, "alice", "warning", "liquidating", 0.9)])

    [row] = out.rows
    assert row.equity == pytest.approx(0.85)
    assert row.difference_ratio == pytest.approx(0.0)
    assert row.tier_at_venue_mark == "liquidating"
    assert row.trigger_price == pytest.approx(99.15 / 99.0)
    assert row.lead_seconds == pytest.approx(8.5)
    assert row.why == Why.AGREES.value
    assert (out.equity_agrees, out.rebuild_differences, out.false_alarms) == (1, 0, 0)


def test_what_the_liquidation_s_own_frame_decides_comes_after_it() -> None:
    """Fails if a tier is counted as early because a frame carries the time of its first record."""
    run = the_run([(20, "alice", "healthy", "warning", 1.9), (40, "alice", "warning", "bankrupt", -0.15)])
    frames = pl.col("frame")
    one_frame = Run(
        run.events.with_columns(pl.when(frames >= 40).then(40).otherwise(frames).alias("frame")),
        run.tiers,
        run.instruments,
    )

    assert compare(run, the_records()).rows[0].tier == "bankrupt"
    assert compare(one_frame, the_records()).rows[0].tier == "warning"


def test_a_price_that_did_not_follow_is_told_from_a_history_that_is_incomplete() -> None:
    """Fails if a difference of marks is blamed on the records, or the other way round."""
    price = the_comparison([(20, "alice", "healthy", "warning", 1.9)])
    richer = the_comparison([(20, "alice", "healthy", "warning", 1.9)], recorded=0.1)
    poorer = the_comparison([(20, "alice", "healthy", "warning", 1.9)], recorded=2.5)
    isolated = the_comparison([], leverage_type="Isolated")

    assert price.rows[0].why == Why.OUR_PRICE.value
    assert price.rows[0].mark_difference_bp == pytest.approx(200.0)
    assert richer.rows[0].why == Why.MONEY_LEFT.value
    assert poorer.rows[0].why == Why.MONEY_CAME.value
    assert isolated.rows[0].why == Why.ISOLATED.value


def test_books_that_differ_from_the_published_files_are_counted() -> None:
    """Fails if a lost cent in our ledger would pass as agreement."""
    out = compare(the_run([], deposit=10_850_001), the_records())

    assert out.rebuild_differences == 1


def test_an_account_that_only_we_liquidate_is_an_alarm_with_its_reason() -> None:
    """Fails if false alarms are not counted, or those without a deposit are blamed on prices."""
    out = the_comparison([(21, "bob", "healthy", "bankrupt", -0.1), (30, "bob", "bankrupt", "healthy", 3.0)])

    [alarm] = out.alarms
    assert (alarm.account, alarm.episodes, alarm.seconds) == ("bob", 1, 9.0)
    assert alarm.why == WhyAlarm.NO_DEPOSIT.value
    assert out.accounts_liquidating == 1


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    """Fails if a comparison with empty panels cannot be drawn."""
    path = tmp_path / "picture.png"

    plot_comparison(the_comparison([]), path)

    assert path.read_bytes().startswith(b"\x89PNG")
