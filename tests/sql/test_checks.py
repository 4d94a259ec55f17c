"""Every check is empty on a sound snapshot, and finds the violation that it is named for."""

from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import sql
from flows.snapshot.tables import SCHEMAS
from tests.flows.snapshot import world as w

Row = dict[str, Any]
Edit = Callable[[list[Row]], object]

SOUND = w.tables(processes=2)


def _offending(check: str, tables: dict[str, pa.Table]) -> list[Row]:
    with duckdb.connect() as connection:
        for name in SCHEMAS:
            connection.register(name, tables[name])
        rows: list[Row] = connection.sql(sql.checks()[check]).to_arrow_table().to_pylist()
    return rows


def _of(rows: list[Row], **wanted: Any) -> Row:
    return next(row for row in rows if all(row[name] == value for name, value in wanted.items()))


def _grown(rows: list[Row], **columns: Any) -> None:
    rows.append({**rows[-1], **columns})


# What breaks each rule: the table, and the smallest edit of its rows.
VIOLATIONS: list[tuple[str, str, Edit]] = [
    ("cash_sums_to_zero", "balances", lambda rows: rows[0].update(units=rows[0]["units"] + 1)),
    ("positions_sum_to_zero", "positions", lambda rows: rows[0].update(lots=rows[0]["lots"] - 1)),
    (
        "equity_equals_collateral_plus_positions", "accounts",
        lambda rows: _of(rows, frame=4, account="bob").update(equity=93.7),
    ),
    (
        "equity_equals_collateral_plus_positions", "asset_prices",
        lambda rows: _of(rows, frame=2, asset="ETH").update(haircut=0.2),
    ),
    ("equity_equals_collateral_plus_positions", "accounts", lambda rows: rows[0].update(equity=None)),
    (
        "equity_equals_collateral_plus_positions", "accounts",
        lambda rows: _of(rows, frame=2, account="carol").update(before_haircuts=True),
    ),
    ("health_is_equity_minus_maintenance", "accounts", lambda rows: rows[1].update(health=rows[1]["health"] + 1e-9)),
    ("health_is_equity_minus_maintenance", "tier_changes", lambda rows: rows[0].update(health=None)),
    ("free_margin_is_equity_minus_initial", "accounts", lambda rows: rows[1].update(free_margin=0.0)),
    ("initial_covers_maintenance", "accounts", lambda rows: rows[2].update(initial_margin=1.0)),
    ("initial_covers_maintenance", "tier_changes", lambda rows: rows[0].update(maintenance_margin=-1.0)),
    (
        "margins_are_null_only_where_undecidable", "accounts",
        lambda rows: _of(rows, frame=6, account="carol").update(equity=0.0),
    ),
    ("margins_are_null_only_where_undecidable", "accounts", lambda rows: rows[0].update(equity=None)),
    ("tiers_follow_from_margins", "accounts", lambda rows: _of(rows, frame=4, account="bob").update(tier="watch")),
    ("tiers_follow_from_margins", "snapshots", lambda rows: _of(rows, frame=4).update(takeover_multiple=0.1)),
    ("tier_changes_follow_from_margins", "tier_changes", lambda rows: rows[0].update(equity=351.0)),
    ("tier_changes_follow_from_margins", "tier_changes", lambda rows: rows[0].update(tier_to="bankrupt")),
    ("tier_changes_follow_from_margins", "tier_changes", lambda rows: rows[0].update(tier_to="healthy")),
    ("tier_history_is_continuous", "tier_changes", lambda rows: rows[0].update(tier_from="watch")),
    ("tier_history_is_continuous", "tier_changes", lambda rows: _grown(rows, frame=5, tier_to="bankrupt")),
    ("tier_history_is_continuous", "accounts", lambda rows: _of(rows, frame=2, account="bob").update(tier="takeover")),
    ("orders_only_for_liquidating_accounts", "orders", lambda rows: rows[0].update(frame=2)),
    ("orders_only_for_liquidating_accounts", "orders", lambda rows: rows[0].update(number=w.ALICE)),
    ("orders_only_grow_until_cancelled", "orders", lambda rows: rows[0].update(order_lots_before=-10)),
    (
        "orders_only_grow_until_cancelled", "orders",
        lambda rows: _grown(rows, action="grown", order_lots_before=-700, lots=-700),
    ),
    ("orders_only_grow_until_cancelled", "orders", lambda rows: _grown(rows, action="cancelled", lots=-5)),
    (
        "orders_oppose_positions", "positions",
        lambda rows: _of(rows, frame=4, account="bob").update(liquidation_order_lots=1),
    ),
    ("open_orders_are_those_told_last", "open_orders", lambda rows: rows.pop()),
    ("open_orders_are_those_told_last", "open_orders", lambda rows: rows[0].update(buy_lots=6)),
    ("open_orders_are_those_told_last", "open_orders", lambda rows: _grown(rows, number=w.BOB)),
    (
        "open_orders_are_those_told_last", "account_events",
        lambda rows: _of(rows, frame=3, side="seller").update(lots=9),
    ),
    (
        "open_orders_are_those_told_last", "instruments",
        lambda rows: _of(rows, instrument="ETH-2500-C").update(expiry_ns=1),
    ),
    ("balances_follow_from_changes", "balances", lambda rows: rows[-1].update(units=rows[-1]["units"] + 1)),
    ("balances_follow_from_changes", "balances", lambda rows: rows.pop()),
    ("balances_follow_from_changes", "net_changes", lambda rows: _of(rows, kind="asset", number=w.BOB).update(units=1)),
    ("positions_follow_from_changes", "positions", lambda rows: rows.pop()),
    ("positions_follow_from_changes", "net_changes", lambda rows: _of(rows, kind="position").update(lots=1)),
    ("changes_sum_to_zero", "net_changes", lambda rows: _of(rows, kind="asset").update(units=1)),
    ("changes_sum_to_zero", "net_changes", lambda rows: _of(rows, kind="position").update(lots=1)),
    ("every_change_is_in_one_batch", "batches", lambda rows: rows.pop()),
    ("every_change_is_in_one_batch", "batches", _grown),
    ("every_change_is_in_one_batch", "batches", lambda rows: rows[0].update(deltas=1)),
    ("every_change_is_in_one_batch", "net_changes", lambda rows: rows[0].update(frame=4)),
    ("batches_are_gapless", "batches", lambda rows: rows[1].update(batch=3)),
    ("batches_are_gapless", "batches", lambda rows: rows[0].update(batch=0)),
    ("batches_are_gapless", "batches", lambda rows: rows[1].update(first_frame=4)),
    ("batch_roots_chain", "batches", lambda rows: rows[1].update(previous_root="00")),
    ("batch_roots_chain", "batches", lambda rows: rows[1].update(new_root=rows[1]["previous_root"])),
    ("batches_close_at_barriers", "batches", lambda rows: rows[1].update(frame=5)),
    ("batches_close_at_barriers", "batches", lambda rows: rows[1].update(order_commitment="00")),
    ("batches_close_at_barriers", "batches", lambda rows: rows[1].update(period=1)),
    ("barriers_rise", "barriers", lambda rows: rows[1].update(period=0)),
    ("barriers_rise", "barriers", _grown),
    ("states_are_whole", "snapshots", lambda rows: rows[0].update(accounts=4)),
    ("states_are_whole", "accounts", lambda rows: rows.pop()),
    ("states_are_whole", "open_orders", lambda rows: rows.pop()),
    ("states_are_whole", "positions", lambda rows: rows.append(rows.pop(0) | {"frame": 5})),
    ("states_are_whole", "barriers", lambda rows: rows.pop(1)),
    ("every_row_names_its_frame", "payments", lambda rows: rows[0].update(frame=None)),
    ("every_row_names_its_frame", "orders", lambda rows: rows[0].update(time_ns=None)),
    ("every_row_names_its_frame", "tier_changes", lambda rows: rows[0].update(frame=7)),
]  # fmt: skip


@pytest.mark.parametrize("check", sorted(sql.checks()))
def test_a_sound_snapshot_passes(check: str) -> None:
    """A check that cries wolf on a sound state would soon be ignored."""
    tables = SOUND

    offending = _offending(check, tables)

    assert offending == []


@pytest.mark.parametrize(("check", "table", "edit"), VIOLATIONS)
def test_a_violation_is_found(check: str, table: str, edit: Edit) -> None:
    """A check that cannot fail checks nothing."""
    rows = SOUND[table].to_pylist()
    edit(rows)
    broken = {**SOUND, table: pa.Table.from_pylist(rows, schema=SCHEMAS[table])}

    offending = _offending(check, broken)

    assert offending


def test_every_check_has_a_violation() -> None:
    """A new check comes with the violation that it finds."""
    planted = {check for check, _, _ in VIOLATIONS}

    checks = set(sql.checks())

    assert planted == checks


@pytest.mark.parametrize("check", sorted(sql.checks()))
def test_an_empty_run_passes(check: str) -> None:
    """Before the first barrier every table is empty, and nothing is wrong."""
    tables = {name: schema.empty_table() for name, schema in SCHEMAS.items()}

    offending = _offending(check, tables)

    assert offending == []
