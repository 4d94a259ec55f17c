"""Hyperliquid's records as events: small files made here, and the published ones where they are at hand."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.imports.hyperliquid import (
    FILL_OFFSET_NS,
    ImportSummary,
    Records,
    events,
    power_of_ten,
    read_records,
    scale,
)
from infra.imports.inputs import WrongInputError, nanoseconds
from infra.imports.writer import arrange
from schemas.events import AccountOpened, AnyEvent, Collateral, Event, Fill, InstrumentListed, OraclePrice
from schemas.money import fraction, to_units

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
NOON = datetime(2023, 4, 20, 12, 0, 0, tzinfo=UTC)
ALICE, BOB = "0xa11ce", "0xb0b"


def moment(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def small_folder(folder: Path) -> Path:
    """Write the three files in their original columns: Alice deposits, buys ARB twice alike, and is liquidated."""
    fills: list[tuple[Any, ...]] = [
        (moment(10), ALICE, "ARB", "Bid", 1.4, 100.5, True),
        (moment(10), ALICE, "ARB", "Bid", 1.4, 100.5, True),
        (moment(20), BOB, "BTC", "Ask", 28123.5, 0.001, False),
        (moment(30), BOB, "ARB", "Ask", 1.3902, 7.0, True),
        (moment(40), ALICE, "ARB", "Ask", 1.3765, 201.0, True),
    ]
    time = pl.Datetime("ms", "UTC")
    pl.DataFrame(
        fills,
        schema=["time", "user", "coin", "side", "px", "sz", "crossed"],
        orient="row",
    ).cast({"time": time}).write_parquet(folder / "hyperliquid_2023_fills.parquet")
    pl.DataFrame(
        [(moment(0), ALICE, 5.5), (moment(10), "0xca401", 0.000001), (moment(50), ALICE, -1.25)],
        schema={"time": time, "user": pl.String, "delta_usd": pl.Float64},
        orient="row",
    ).write_parquet(folder / "hyperliquid_2023_ledger_updates.parquet")
    pl.DataFrame(
        [(moment(40), ALICE, 279.4, 2.7, "Cross")],
        schema=["time", "user", "liquidated_ntl_pos", "liquidated_account_value", "leverage_type"],
        orient="row",
    ).cast({"time": time}).write_parquet(folder / "hyperliquid_2023_liquidations.parquet")
    return folder


def small_prices(folder: Path) -> Path:
    """Write two candles of three minutes of which one is covered by a minute candle, and one Chainlink round."""
    pl.DataFrame(
        [
            ("BTCUSDT", "3m", moment(-180), 28000.0),
            ("BTCUSDT", "3m", moment(0), 28100.25),
            ("BTCUSDT", "1m", moment(60), 28050.0),
            ("BTCUSDT", "5m", moment(0), 1.0),
        ],
        schema={"symbol": pl.String, "interval": pl.String, "open_time": pl.Datetime("ms", "UTC"), "close": pl.Float64},
        orient="row",
    ).write_parquet(folder / "binance_spot_candles_test.parquet")
    pl.DataFrame(
        [("BTC/USD", "110680464442257309697", 28010.5, moment(5))],
        schema={"feed": pl.String, "round_id": pl.String, "price": pl.Float64, "time": pl.Datetime("us", "UTC")},
        orient="row",
    ).write_parquet(folder / "chainlink_rounds_test.parquet")
    return folder


def of_type(out: list[Event], kind: type[Event]) -> list[Any]:
    return [event for event in arrange(out) if type(event) is kind]


@pytest.fixture
def small(tmp_path: Path) -> tuple[list[Event], ImportSummary]:
    accounts, prices = tmp_path / "accounts", tmp_path / "prices"
    accounts.mkdir()
    prices.mkdir()
    return events(read_records([small_folder(accounts)], small_prices(prices)))


def test_fills_become_trades_with_the_house(small: tuple[list[Event], ImportSummary]) -> None:
    """Fails if a side is swapped, a split fill is lost, or an amount changes on its way."""
    out, summary = small

    fills: list[Fill] = of_type(out, Fill)

    assert [(f.buyer, f.seller, f.price, f.quantity) for f in fills] == [
        (ALICE, "house", "1.4", "100.5"),
        (ALICE, "house", "1.4", "100.5"),
        ("house", BOB, "28123.5", "0.001"),
        ("house", BOB, "1.3902", "7.0"),
        ("house", ALICE, "1.3765", "201.0"),
    ]
    assert len({f.fill_id for f in fills}) == 5
    assert [f.liquidation_id is not None for f in fills] == [False, False, False, False, True]
    assert (summary.fills, summary.repeated_fills, summary.liquidation_fills) == (5, 1, 1)


def test_an_account_opens_before_it_is_first_touched(small: tuple[list[Event], ImportSummary]) -> None:
    """Fails if intake would meet a transfer or a fill of an account that it does not know yet."""
    ordered = arrange(small[0])

    opened: set[str] = {"house"}
    for event in ordered:
        if isinstance(event, AccountOpened):
            opened.add(event.account)
        elif isinstance(event, Collateral):
            assert event.account in opened
        elif isinstance(event, Fill):
            assert {event.buyer, event.seller} <= opened

    assert opened == {"house", ALICE, BOB, "0xca401"}


def test_other_coins_are_marked_by_the_last_fill_of_a_second_without_liquidations(
    small: tuple[list[Event], ImportSummary],
) -> None:
    """Fails if a liquidation's price (1 % off the market) becomes a mark, or BTC is marked by thin fills."""
    prices: list[OraclePrice] = [p for p in of_type(small[0], OraclePrice) if p.source == "fills"]

    assert [(p.feed, p.price) for p in prices] == [("ARB/USD", "1.4"), ("ARB/USD", "1.3902")]
    # The price stands before the trades of its second.
    assert prices[0].event_time_ns == nanoseconds(moment(10))
    assert of_type(small[0], Fill)[0].event_time_ns == nanoseconds(moment(10)) + FILL_OFFSET_NS


def test_candles_count_when_they_close_and_minutes_win(small: tuple[list[Event], ImportSummary]) -> None:
    """Fails on look-ahead (an open time used as the price's time) or on a candle counted at two intervals."""
    out = of_type(small[0], OraclePrice)

    prices = [(p.source, p.price, p.event_time_ns) for p in out if p.feed == "BTC/USD"]

    assert prices == [
        ("binance", "28000.0", nanoseconds(moment(0))),
        ("chainlink", "28010.5", nanoseconds(moment(5))),
        ("binance", "28050.0", nanoseconds(moment(120))),
    ]


def test_ticks_and_lots_divide_every_price_and_size(small: tuple[list[Event], ImportSummary]) -> None:
    """Fails if intake would refuse a fill as off tick or off lot."""
    out = small[0]
    listed: dict[str, InstrumentListed] = {item.instrument: item for item in of_type(out, InstrumentListed)}

    for fill in of_type(out, Fill):
        item = listed[fill.instrument]
        assert (fraction(fill.price) / fraction(item.tick_size)).denominator == 1
        assert (fraction(fill.quantity) / fraction(item.lot_size)).denominator == 1

    assert (listed["ARB-PERP"].tick_size, listed["ARB-PERP"].lot_size) == ("0.0001", "0.1")
    assert (listed["BTC-PERP"].tick_size, listed["BTC-PERP"].lot_size) == ("0.1", "0.001")


def test_every_event_survives_the_wire(small: tuple[list[Event], ImportSummary]) -> None:
    """Fails if an event is written that the public schema does not read back."""
    for event in small[0]:
        assert msgspec.json.decode(msgspec.json.encode(event), type=AnyEvent) == event


def test_usdc_is_worth_kraken_s_close_while_there_is_one() -> None:
    """Fails if the depeg is lost, or a constant is mixed into the hours that have closes."""
    time = pl.Datetime("us", "UTC")
    fills = pl.DataFrame(
        [(NOON, ALICE, "ARB", "Bid", 1.4, 1.0, True), (NOON + timedelta(hours=3), ALICE, "ARB", "Ask", 1.4, 1.0, True)],
        schema=["time", "user", "coin", "side", "px", "sz", "crossed"],
        orient="row",
    ).with_columns(pl.col("time").cast(time))
    stablecoin = pl.DataFrame(
        [
            ("kraken", "USDCUSD", moment(30), 0.9),
            ("kraken", "USDCUSD", moment(5400), 0.95),
            ("x", "USDCUSD", NOON, 2.0),
        ],
        schema={"exchange": pl.String, "symbol": pl.String, "open_time": time, "close": pl.Float64},
        orient="row",
    )
    none = pl.DataFrame(schema={"time": time, "user": pl.String, "delta_usd": pl.Float64})
    liquidations = pl.DataFrame(schema={"time": time, "user": pl.String, "leverage_type": pl.String})
    records = Records(fills, none, liquidations, candles=None, rounds=None, stablecoin=stablecoin)

    market = [p for p in of_type(events(records, "market")[0], OraclePrice) if p.feed == "USDC/USD"]
    par = [p for p in of_type(events(records, "par")[0], OraclePrice) if p.feed == "USDC/USD"]

    after_noon = [(p.price, p.event_time_ns) for p in market if p.event_time_ns > nanoseconds(NOON)]
    assert after_noon[:3] == [
        ("0.9", nanoseconds(moment(90))),
        ("0.95", nanoseconds(moment(5460))),
        ("1.0", nanoseconds(moment(7200))),
    ]
    assert {p.price for p in par} == {"1.0"}


def test_a_missing_file_and_a_wrong_file_say_what_to_do(tmp_path: Path) -> None:
    """Fails if a user meets a traceback instead of a sentence."""
    with pytest.raises(WrongInputError, match=r"hyperliquid_2023_fills\.parquet is not in"):
        read_records([tmp_path], None)

    small_folder(tmp_path)
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "hyperliquid_2023_fills.parquet")
    with pytest.raises(WrongInputError, match="has no column time"):
        read_records([tmp_path], None)


@given(st.lists(st.decimals(min_value="0.000001", max_value="99999", places=6), min_size=1, max_size=20))
def test_scale_is_the_smallest_that_holds_every_value(values: list[Decimal]) -> None:
    """Fails if a derived tick does not divide a price, or is finer than the data demands."""
    floats = [float(value) for value in values]

    places = scale(pl.Series(floats))

    step = Decimal(power_of_ten(-places))
    assert all(Decimal(repr(value)) % step == 0 for value in floats)
    assert any(Decimal(repr(value)) % (step * 10) != 0 for value in floats)


@pytest.fixture(scope="module")
def published() -> tuple[list[Event], ImportSummary]:
    if not (SHARED / "accounts" / "hyperliquid_2023_fills.parquet").is_file():
        pytest.skip(f"the published records are not at {SHARED}")
    return events(read_records([SHARED / "accounts"], SHARED / "prices"))


def test_the_published_records_are_all_there(published: tuple[list[Event], ImportSummary]) -> None:
    """Fails if a trader, a fill, a transfer or a liquidation is lost, or money changes to the last unit."""
    out, summary = published

    assert (summary.traders, summary.fills, summary.transfers, summary.liquidations) == (254, 35_691, 560, 62)
    assert summary.repeated_fills == 948
    net = sum(to_units(event.amount, 6) for event in out if isinstance(event, Collateral))
    deltas = pl.read_parquet(SHARED / "accounts" / "hyperliquid_2023_ledger_updates.parquet")["delta_usd"]
    assert net == sum(Decimal(repr(delta)) for delta in deltas) * 10**6
    assert len({event.event_id for event in out}) == len(out)


def test_cash_of_every_published_fill_is_exact(published: tuple[list[Event], ImportSummary]) -> None:
    """Fails if six decimals are too few for price × size, so that a fill's cash would be rounded."""
    for event in published[0]:
        if isinstance(event, Fill):
            cash = fraction(event.price) * fraction(event.quantity)
            assert (cash * 10**6).denominator == 1
