"""State and history as rows: exact integers, nulls for what is unknown, nothing that depends on processes."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.settlement.netting import SettlementOverflowError
from flows.snapshot.names import Names
from flows.snapshot.rows import StatePart, state_tables
from flows.snapshot.tables import SCHEMAS, Moment
from schemas.ids import HOUSE_NUMBER
from tests.flows.snapshot import world as w


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    """Every table of the hand-made history, from two processes."""
    return w.tables(processes=2)


def _rows(table: pa.Table, **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if all(row[name] == value for name, value in wanted.items())]


def test_every_table_has_its_columns_and_its_frames(tables: dict[str, pa.Table]) -> None:
    """A table with other columns than it declares, or a row without a frame, cannot be traced."""
    expected = set(SCHEMAS)

    found = set(tables)

    assert found == expected
    for name, table in tables.items():
        assert table.schema.equals(SCHEMAS[name])
        assert table.column("frame").null_count == table.column("time_ns").null_count == 0


def test_tables_do_not_depend_on_processes(tables: dict[str, pa.Table]) -> None:
    """An account's process must not show in any table."""
    two = tables

    one = w.tables(processes=1)

    for name in SCHEMAS:
        assert one[name].equals(two[name]), name


def test_system_accounts_are_one_row_without_an_entry_price(tables: dict[str, pa.Table]) -> None:
    """Parts of the house are summed; their average costs depend on shards and are not shown."""
    held = _rows(tables["positions"], frame=2, account="house")

    balances = _rows(tables["balances"], frame=2, account="house")

    assert [(row["instrument"], row["lots"]) for row in held] == [
        ("BTC-USDC-PERP", -20), ("BTC-PERP", -700), ("ETH-2500-C", 40),
    ]  # fmt: skip
    assert all(row["entry_price"] is None and row["unrealised_pnl"] is None for row in held)
    assert [(row["asset"], row["units"]) for row in balances] == [("USDC", 9_600_000_000), ("BTC", -14_000_000)]


def test_entry_price_and_pnl_of_linear_and_inverse(tables: dict[str, pa.Table]) -> None:
    """Both kinds give back the price that was traded, and the profit since, in the numeraire."""
    alice, bob, carol = (_rows(tables["positions"], frame=4, account=name)[0] for name in ("alice", "bob", "carol"))

    # 0.2 BTC from 50,000 to 29,600; 7,000 USD of contracts from 50,000; 4 ETH of calls sold at 100.
    expected_bob = (7000 / 50_000 - 7000 / 29_600) * 29_600

    assert alice["entry_price"] == pytest.approx(50_000, rel=1e-12)
    assert alice["unrealised_pnl"] == pytest.approx(-4_080, rel=1e-12)
    assert bob["entry_price"] == pytest.approx(50_000, rel=1e-12)
    assert bob["unrealised_pnl"] == pytest.approx(expected_bob, rel=1e-12)
    assert carol["entry_price"] == pytest.approx(100, rel=1e-12)
    assert carol["unrealised_pnl"] == pytest.approx(0, abs=1e-9)
    assert (alice["quantity"], bob["quantity"], carol["quantity"]) == (pytest.approx(0.2), 700, pytest.approx(-4))


def test_unknown_is_null_and_never_zero(tables: dict[str, pa.Table]) -> None:
    """Carol's call has no price at the last barrier: no value, no margins, no Greeks are made up."""
    account = _rows(tables["accounts"], frame=6, account="carol")[0]
    position = _rows(tables["positions"], frame=6, account="carol")[0]
    greeks = _rows(tables["greeks"], frame=6, account="carol")[0]
    price = _rows(tables["prices"], frame=6, instrument="ETH-2500-C")[0]

    unknown = [
        *(account[name] for name in ("equity", "initial_margin", "maintenance_margin", "free_margin", "health")),
        *(position[name] for name in ("mark_price", "value", "value_in_settlement_asset", "unrealised_pnl")),
        greeks["delta_per_price"],
        price["mark_price"],
    ]

    assert unknown == [None] * len(unknown)
    assert (account["decidable"], account["suspended"], account["tier"]) == (False, True, "healthy")
    assert greeks["undecidable_positions"] == greeks["positions"] == 1


def test_greeks_are_sums_of_lots(tables: dict[str, pa.Table]) -> None:
    """The house holds both perpetuals on BTC: one row without an expiry, deltas added."""
    rows = _rows(tables["greeks"], frame=2, account="house")

    bitcoin, ether = rows

    assert (bitcoin["underlying"], bitcoin["expiry_ns"], bitcoin["positions"]) == ("BTC", None, 2)
    assert bitcoin["delta_per_price"] == pytest.approx(-20 * 0.01 - 700 * 10 / 50_000)
    assert (ether["underlying"], ether["expiry_ns"]) == ("ETH", w.EXPIRY_NS)
    assert ether["vega_per_vol"] == pytest.approx(40 * 20.0)


def test_account_events_carry_their_reference(tables: dict[str, pa.Table]) -> None:
    """A record leads back to the event that brought it, with its price, fee and side."""
    rows = tables["account_events"].to_pylist()

    fill = rows[2]

    assert [row["reference"] for row in rows] == ["d-1", "d-2", "f-1", "f-1", "o-1", "o-1", "o-2", "o-2", "o-3", "o-3"]
    assert (fill["account"], fill["side"], fill["counterparty"], fill["liquidation"]) == (
        "alice",
        "buyer",
        "house",
        False,
    )
    assert (fill["price"], fill["quantity"], fill["lots"]) == (50_000.0, pytest.approx(0.2), 20)
    assert (fill["cash"], fill["fee"], fill["asset"]) == (Decimal(-10_000), Decimal(5), "USDC")
    assert (rows[0]["kind"], rows[0]["price"], rows[0]["instrument"], rows[0]["side"]) == ("transfer", None, None, None)


def test_funding_that_waits_names_its_perpetual(tables: dict[str, pa.Table]) -> None:
    """How many rates wait is a count, and no amount of money."""
    rows = tables["funding_owed"].to_pylist()

    assert [(row["frame"], row["instrument"], row["rates_waiting"]) for row in rows] == [(3, "BTC-PERP", 2)]


def test_open_orders_are_shown_as_told(tables: dict[str, pa.Table]) -> None:
    """What is open at each full state, in lots and contracts; and each side's record, without a counterparty."""
    rows = tables["open_orders"].to_pylist()
    told = [row for row in tables["account_events"].to_pylist() if row["kind"] == "open_orders"]

    assert [(row["frame"], row["account"], row["instrument"], row["buy_lots"], row["sell_lots"]) for row in rows] == [
        (2, "alice", "BTC-USDC-PERP", 5, 30), (2, "carol", "ETH-2500-C", 2, 0),
        (4, "alice", "BTC-USDC-PERP", 0, 10), (4, "carol", "ETH-2500-C", 2, 0),
        (6, "alice", "BTC-USDC-PERP", 0, 10), (6, "carol", "ETH-2500-C", 2, 0),
    ]  # fmt: skip
    assert (rows[0]["buy_quantity"], rows[0]["sell_quantity"]) == (pytest.approx(0.05), pytest.approx(0.3))
    assert [row["open_orders"] for row in tables["snapshots"].to_pylist()] == [2, 2, 2]
    assert [(row["side"], row["lots"], row["counterparty"], row["price"]) for row in told[:2]] == [
        ("buyer", 5, None, None),
        ("seller", 30, None, None),
    ]


def test_feed_status_names_assets_and_instruments(tables: dict[str, pa.Table]) -> None:
    """One index can mean an asset or an instrument: the row says which."""
    rows = [(row["kind"], row["name"], row["fresh"]) for row in tables["feed_status"].to_pylist()]

    expected = [("asset", "ETH", False), ("instrument", "ETH-2500-C", True)]

    assert rows == expected


@given(
    units=st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=8), asset=st.sampled_from([w.USDC, w.BTC])
)
def test_amounts_are_exact(units: list[int], asset: int) -> None:
    """Law: every 64-bit number of units is the same number as DECIMAL(38, 8), to the last digit."""
    listings, _ = _LISTINGS
    names = Names(listings)

    amounts = names.amount(np.array(units, np.int64), np.full(len(units), asset)).to_pylist()

    assert amounts == [Decimal(unit).scaleb(-w.DECIMALS[asset]) for unit in units]


@given(parts=st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=6))
def test_parts_sum_exactly_or_halt(parts: list[int]) -> None:
    """Law: the parts of a system account add up as Python's integers do, or the sum is refused; it never wraps."""
    listings, history = _LISTINGS
    template = history[0].step["parts"][0]
    chosen = [
        StatePart(
            accounts=template.accounts.slice(0, 0),
            balances=pa.table({"number": [HOUSE_NUMBER], "asset": [w.USDC], "units": [units]}),
            positions=template.positions.slice(0, 0),
            open_orders=template.open_orders.slice(0, 0),
        )
        for units in parts
    ]
    moment, total = Moment(2, w.START_NS, 0), sum(parts)

    if abs(total) > 2**63 - 1:
        with pytest.raises(SettlementOverflowError):
            state_tables(chosen, moment=moment, instant=history[0].step["instant"], listings=listings)
    else:
        state = state_tables(chosen, moment=moment, instant=history[0].step["instant"], listings=listings)
        assert state["balances"].column("units").to_pylist() == ([total] if total else [])


def test_a_part_survives_its_encoding() -> None:
    """What another process sends is what it had."""
    _, history = _LISTINGS
    part = history[1].step["parts"][1]

    back = StatePart.decode(part.encode())

    assert (back.accounts, back.balances, back.positions) == (part.accounts, part.balances, part.positions)


_LISTINGS = w.a_history(processes=2)
