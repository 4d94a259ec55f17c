"""Every view answers its question on the hand-made history, and each file says what it is."""

from typing import Any

import duckdb
import pytest

import sql
from flows.snapshot.tables import SCHEMAS
from tests.flows.snapshot import world as w

TABLES = w.tables(processes=2)


def _answer(view: str) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        for name in SCHEMAS:
            connection.register(name, TABLES[name])
        rows: list[dict[str, Any]] = connection.sql(sql.views()[view]).to_arrow_table().to_pylist()
    return rows


@pytest.mark.parametrize(("name", "text"), [*sql.tables().items(), *sql.views().items(), *sql.checks().items()])
def test_every_file_opens_with_what_it_is(name: str, text: str) -> None:
    """A reader finds the question, the rule or the row's meaning in the first line."""
    first = text.split("\n", 1)[0]

    assert first.startswith("-- ") and len(first) > 20, name


def test_every_table_has_its_file() -> None:
    """A table without SQL would never be seen; SQL without a table would never be filled."""
    declared = sorted(SCHEMAS)

    found = list(sql.tables())

    assert found == declared
    for name, text in sql.tables().items():
        assert f"CREATE OR REPLACE VIEW {name} AS" in text
        assert all(f"    {column}," in text for column in SCHEMAS[name].names)


def test_closest_to_liquidation_puts_bob_first() -> None:
    """The account nearest its boundary leads; who cannot be decided is left out."""
    rows = _answer("closest_to_liquidation")

    order = [(row["account"], row["tier"], row["frame"]) for row in rows]

    assert order == [("bob", "takeover", 6), ("alice", "healthy", 6)]
    assert rows[0]["distance"] == pytest.approx(93.6 / 350)


def test_exposure_leaves_system_accounts_out() -> None:
    """With the house every net would be zero."""
    rows = _answer("exposure_by_underlying_and_expiry")

    bitcoin = rows[0]

    assert [row["underlying"] for row in rows] == ["BTC", "ETH"]
    assert (bitcoin["accounts"], bitcoin["positions"]) == (2, 2)
    assert bitcoin["delta_per_price"] == pytest.approx(20 * 0.01 + 700 * 10 / 29_600)


def test_tier_history_is_open_at_its_end() -> None:
    """The tier that an account is in now has no end."""
    rows = _answer("tier_history")

    shown = [(row["account"], row["tier_from"], row["tier"], row["until_utc"], row["frame"]) for row in rows]

    assert shown == [("bob", "healthy", "takeover", None, 3)]


def test_what_happened_to_an_account_is_in_ledger_order() -> None:
    """Alice's story is told in the order of the ledger, with ids that lead back to the events."""
    rows = [row for row in _answer("what_happened_to_an_account") if row["account"] in {"alice", "bob"}]

    story = [(row["account"], row["frame"], row["what"], row["reference"]) for row in rows]

    assert story == [
        ("alice", 1, "transfer", "d-1"), ("alice", 1, "fill", "f-1"), ("alice", 1, "open_orders", "o-1"),
        ("alice", 1, "open_orders", "o-1"), ("alice", 3, "open_orders", "o-3"), ("alice", 3, "open_orders", "o-3"),
        ("alice", 3, "withdrawal refused", None), ("alice", 5, "funding", None), ("bob", 1, "transfer", "d-2"),
        ("bob", 3, "tier", None), ("bob", 3, "liquidation order opened", None),
    ]  # fmt: skip


def test_liquidations_are_counted_by_hour() -> None:
    """One takeover in the hour from 23:00, with one order."""
    rows = _answer("liquidations_summary")

    shown = [(row["hour_utc"].hour, row["accounts"], row["accounts_takeover"], row["orders_opened"]) for row in rows]

    assert shown == [(23, 1, 1, 1)]


def test_latest_prices_say_what_is_unknown() -> None:
    """The call has no mark at the last state; its forward is still shown."""
    rows = {row["instrument"]: row for row in _answer("latest_prices")}

    call = rows["ETH-2500-C"]

    assert (call["decidable"], call["mark_price"], call["forward"], call["strike"]) == (False, None, 2405.0, 2500.0)
    assert rows["BTC-PERP"]["mark_price"] == 29_600.0


def test_open_liquidation_orders_name_their_origin() -> None:
    """An open liquidation order leads to the frame that opened it."""
    rows = _answer("open_liquidation_orders")

    shown = [
        (row["account"], row["instrument"], row["liquidation_order_lots"], row["order_frame"], row["tier"])
        for row in rows
    ]

    assert shown == [("bob", "BTC-PERP", -700, 3, "takeover")]


def test_settlement_by_batch_counts_what_moved() -> None:
    """Batch 2 moved two balances; the period of batch 1 moved all six positions."""
    rows = _answer("settlement_by_batch")

    shown = [(row["batch"], row["frames"], row["balances_changed"], row["positions_changed"]) for row in rows]

    assert shown == [(1, 3, 11, 6), (2, 4, 2, 0)]


def test_dead_letters_show_an_example() -> None:
    """An operator sees the reason, how often, and where to look."""
    rows = _answer("dead_letters_by_reason")

    shown = [(row["reason"], row["dead_letters"], row["example_origin"]) for row in rows]

    assert shown == [("unknown_account", 1, "log:0:7")]
