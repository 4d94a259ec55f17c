"""Hyperliquid's published records of February to May 2023, as events.

What is real: every fill, transfer and price. What is ours, and said in the summary:

1. The counterparty of every fill is ``house``: market makers are left out of the published records, so the other
   side of most trades is unknown.
2. Records carry whole seconds. Within a second, what was deposited and what was printed comes at its beginning and
   what was traded half a second later, so that an account is decided at the new price before it trades on it.
3. BTC and ETH are priced by Binance candle closes (at closing time) and Chainlink rounds. Every other coin is priced
   by its own fills, the last of each second, liquidation fills left out: those print at the bankruptcy price, about
   1 % away from the market.
4. The venue's recorded liquidations reach no price, no parameter and no tier. They label fills
   (``liquidation_id``) and keep their prices, on both sides of the trade, out of the marks: as a live feed's own
   flag would.
5. Nothing is thinned: one price event a candle, a round, or a second of fills.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, cast

import msgspec
import polars as pl
import xxhash

from infra.imports.inputs import WrongInputError, find_file, first_match, nanoseconds, read_columns
from infra.imports.parameters import parameter_events
from schemas.events import (
    AccountOpened,
    AssetListed,
    Collateral,
    Event,
    Fill,
    InstrumentListed,
    OraclePrice,
    ParametersChanged,
)
from schemas.ids import HOUSE
from schemas.money import from_float

SOURCE: Final = "hyperliquid"
COLLATERAL_ASSET: Final = "USDC"
# Records within a second have no order of their own: see invariant 2.
FILL_OFFSET_NS: Final = 500_000_000
_SECOND_NS: Final = 1_000_000_000
_DAY_NS: Final = 86_400 * _SECOND_NS
# In 2023 every coin of the venue allowed leverage up to 50: initial margin 2 %, maintenance half of it.
INITIAL_RATE: Final = 0.02
MAINTENANCE_RATE: Final = 0.01
# Below this share of maintenance margin the venue's backstop takes position and collateral.
TAKEOVER_MULTIPLE: Final = 2.0 / 3.0
# A coin that nobody traded for a week has no price: its holders' decisions wait.
PRICE_AGE_NS_MAX: Final = 7 * _DAY_NS
_CANDLE_SYMBOLS: Final = {"BTCUSDT": "BTC/USD", "ETHUSDT": "ETH/USD"}
_CANDLE_MINUTES: Final = {"1m": 1, "3m": 3}
_MARKED_OUTSIDE: Final = ("BTC", "ETH")

UsdcPrice = Literal["market", "par"]

_FILL_COLUMNS: Final = ("time", "user", "coin", "side", "px", "sz", "crossed")
_TRANSFER_COLUMNS: Final = ("time", "user", "delta_usd")
_LIQUIDATION_COLUMNS: Final = (
    "time",
    "user",
    "liquidated_ntl_pos",
    "liquidated_account_value",
    "leverage_type",
)


@dataclass(frozen=True, slots=True)
class Records:
    """The venue's records, in their original columns, and where prices are looked for."""

    fills: pl.DataFrame
    transfers: pl.DataFrame
    liquidations: pl.DataFrame
    candles: pl.DataFrame | None
    rounds: pl.DataFrame | None
    stablecoin: pl.DataFrame | None


class ImportSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was imported, and what of it is not the venue's own record."""

    traders: int
    accounts: int
    fills: int
    repeated_fills: int
    liquidation_fills: int
    transfers: int
    liquidations: int
    price_events: dict[str, int]
    instruments: dict[str, dict[str, str]]
    notes: list[str]


def read_records(inputs: list[Path], prices: Path | None) -> Records:
    """Return the records found in ``inputs`` (files, or folders that hold them) and in the folder ``prices``.

    Raises
    ------
    WrongInputError : a file cannot be found, or lacks its columns.
    """
    found = {
        name: find_file(inputs, f"hyperliquid_2023_{name}.parquet")
        for name in ("fills", "ledger_updates", "liquidations")
    }
    candles = first_match(prices, "binance_spot_candles*.parquet")
    rounds = first_match(prices, "chainlink_rounds*.parquet")
    stablecoin = first_match(prices, "multi_exchange_1m*.parquet")
    return Records(
        fills=read_columns(found["fills"], _FILL_COLUMNS),
        transfers=read_columns(found["ledger_updates"], _TRANSFER_COLUMNS),
        liquidations=read_columns(found["liquidations"], _LIQUIDATION_COLUMNS),
        candles=None if candles is None else read_columns(candles, ("symbol", "interval", "open_time", "close")),
        rounds=None if rounds is None else read_columns(rounds, ("feed", "round_id", "price", "time")),
        stablecoin=None
        if stablecoin is None
        else read_columns(stablecoin, ("exchange", "symbol", "open_time", "close")),
    )


def events(records: Records, usdc: UsdcPrice = "market") -> tuple[list[Event], ImportSummary]:
    """Return the records as events (unsorted, unnumbered) and a summary.

    Parameters
    ----------
    usdc : what a USDC is worth in USD: ``market`` takes Kraken's closes where there are any (the depeg of March
        2023) and 1 elsewhere, ``par`` takes 1 throughout, as the venue did.

    Raises
    ------
    WrongInputError : there are no fills.
    """
    if records.fills.is_empty():
        raise WrongInputError("there are no fills in the file of fills")
    fills = records.fills.sort("time", maintain_order=True)
    start_ns, _ = _span(records)
    out: list[Event] = [*_parameters(start_ns, sorted(set(fills["coin"])))]
    out.append(
        AssetListed(
            event_id=f"asset-{COLLATERAL_ASSET}",
            event_time_ns=start_ns,
            source=SOURCE,
            source_sequence=0,
            asset=COLLATERAL_ASSET,
            decimals=6,
        )
    )
    listed = list(_instruments(fills, start_ns))
    out.extend(listed)
    out.extend(_openings(fills, records.transfers))
    out.extend(_transfers(records.transfers))
    trades = list(_fills(fills, _liquidated(records)))
    out.extend(trades)
    priced = price_events(records, usdc)
    out.extend(priced)
    return out, _summary(records, trades, listed, priced, usdc)


def price_events(records: Records, usdc: UsdcPrice = "market") -> list[OraclePrice]:
    """Return every price of the log alone: what the engine could know, for comparisons with what the venue knew."""
    start_ns, end_ns = _span(records)
    fills = records.fills.sort("time", maintain_order=True)
    return [
        *_fill_prices(fills, _liquidated(records)),
        *(() if records.candles is None else _candle_prices(records.candles, start_ns, end_ns)),
        *(() if records.rounds is None else _round_prices(records.rounds, start_ns, end_ns)),
        *_usdc_prices(records.stablecoin if usdc == "market" else None, start_ns, end_ns),
    ]


def scale(values: pl.Series) -> int:
    """Return the number n, negative for whole tens, such that every value is a whole number of 10**-n, n smallest.

    Floats count by their shortest decimal form, which is what was published.
    """
    exponents = [_exponent(value) for value in values.unique().to_list() if value]
    return -min(exponents, default=0)


def power_of_ten(exponent: int) -> str:
    """Return 10**exponent as a plain decimal string."""
    return format(Decimal(1).scaleb(exponent), "f")


def fill_ids(fills: pl.DataFrame) -> Iterator[str]:
    """Yield an id a fill, from its content and how often that content came before.

    Published fills have no ids, and hundreds of rows are identical to another: order fills against several resting
    orders at one price. They are trades of their own, so the occurrence is a part of the id.
    """
    occurrences: Counter[str] = Counter()
    for time, user, coin, side, px, sz, crossed in fills.select(_FILL_COLUMNS).iter_rows():
        content = f"{nanoseconds(time)}|{user}|{coin}|{side}|{px!r}|{sz!r}|{crossed}"
        occurrences[content] += 1
        yield f"{xxhash.xxh3_128_hexdigest(content.encode())}-{occurrences[content]}"


def liquidation_id(time: datetime, user: str) -> str:
    """Return the id by which fills of a recorded liquidation are labelled."""
    return f"liquidation-{nanoseconds(time) // _SECOND_NS}-{user}"


def instrument_id(coin: str) -> str:
    """Return the perpetual of a coin."""
    return f"{coin}-PERP"


def _exponent(value: float) -> int:
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    if not isinstance(exponent, int):
        raise WrongInputError(f"{value} is not a price or size")
    return exponent


def _liquidated(records: Records) -> set[tuple[datetime, str]]:
    return set(records.liquidations.select("time", "user").iter_rows())


def _span(records: Records) -> tuple[int, int]:
    """Return the day on which the records begin and an hour after they end."""
    times = [frame["time"] for frame in (records.fills, records.transfers) if not frame.is_empty()]
    first = min(nanoseconds(cast(datetime, series.min())) for series in times)
    last = max(nanoseconds(cast(datetime, series.max())) for series in times)
    return first // _DAY_NS * _DAY_NS, last + 3_600 * _SECOND_NS


def _parameters(start_ns: int, coins: list[str]) -> Iterator[ParametersChanged]:
    sets: dict[str, dict[str, Any]] = {
        "tidegate-standard": {
            "linear_initial": INITIAL_RATE,
            "linear_maintenance": MAINTENANCE_RATE,
            "linear_rates": {coin: [INITIAL_RATE, MAINTENANCE_RATE] for coin in coins},
        },
        "oracle": {"price_age_ns_max": PRICE_AGE_NS_MAX},
        "collateral": {"haircuts": {COLLATERAL_ASSET: 0.0}},
        "ladder": {"takeover_multiple": TAKEOVER_MULTIPLE},
    }
    return parameter_events(sets, time_ns=start_ns, source=SOURCE)


def _instruments(fills: pl.DataFrame, start_ns: int) -> Iterator[InstrumentListed]:
    for coin in sorted(set(fills["coin"])):
        own = fills.filter(pl.col("coin") == coin)
        yield InstrumentListed(
            event_id=f"instrument-{coin}",
            event_time_ns=start_ns,
            source=SOURCE,
            source_sequence=0,
            instrument=instrument_id(coin),
            kind="perpetual",
            underlying=coin,
            quote="USD",
            settlement_asset=COLLATERAL_ASSET,
            payoff="linear",
            multiplier="1",
            tick_size=power_of_ten(-scale(own["px"])),
            lot_size=power_of_ten(-scale(own["sz"])),
        )


def _openings(fills: pl.DataFrame, transfers: pl.DataFrame) -> Iterator[AccountOpened]:
    """Yield an account for everyone seen, at the second at which they are seen first."""
    first: dict[str, int] = {}
    seen = pl.concat([transfers.select("time", "user"), fills.select("time", "user")]).sort("time", maintain_order=True)
    for time, user in seen.iter_rows():
        first.setdefault(user, nanoseconds(time))
    for user, time_ns in first.items():
        yield AccountOpened(
            event_id=f"account-{user}",
            event_time_ns=time_ns,
            source=SOURCE,
            source_sequence=0,
            account=user,
            margin_model="tidegate-standard",
            margin_mode="cross",
        )


def _transfers(transfers: pl.DataFrame) -> Iterator[Collateral]:
    occurrences: Counter[str] = Counter()
    for time, user, delta in transfers.sort("time", maintain_order=True).select(_TRANSFER_COLUMNS).iter_rows():
        amount = from_float(delta)
        content = f"{nanoseconds(time)}|{user}|{amount}"
        occurrences[content] += 1
        transfer = f"{xxhash.xxh3_128_hexdigest(content.encode())}-{occurrences[content]}"
        yield Collateral(
            event_id=f"transfer-{transfer}",
            event_time_ns=nanoseconds(time),
            source=SOURCE,
            source_sequence=0,
            transfer_id=transfer,
            account=user,
            asset=COLLATERAL_ASSET,
            amount=amount,
            chain="arbitrum",
            status="confirmed",
        )


def _fills(fills: pl.DataFrame, liquidated: set[tuple[datetime, str]]) -> Iterator[Fill]:
    for fill, row in zip(fill_ids(fills), fills.select(_FILL_COLUMNS).iter_rows(), strict=True):
        time, user, coin, side, px, sz, _ = row
        buys = _buys(side)
        yield Fill(
            event_id=f"fill-{fill}",
            event_time_ns=nanoseconds(time) + FILL_OFFSET_NS,
            source=SOURCE,
            source_sequence=0,
            fill_id=fill,
            instrument=instrument_id(coin),
            price=from_float(px),
            quantity=from_float(sz),
            buyer=user if buys else HOUSE,
            seller=HOUSE if buys else user,
            buyer_fee="0",
            seller_fee="0",
            liquidation_id=liquidation_id(time, user) if (time, user) in liquidated else None,
        )


def _buys(side: str) -> bool:
    if side not in ("Bid", "Ask"):
        raise WrongInputError(f"a fill's side is Bid or Ask, not {side!r}")
    return side == "Bid"


def _fill_prices(fills: pl.DataFrame, liquidated: set[tuple[datetime, str]]) -> Iterator[OraclePrice]:
    """Yield the last price of each second of coins that are priced nowhere else, liquidation trades left out.

    Of a liquidation both sides may be in the records: who took the position over prints the same price.
    """
    columns = fills.select("time", "user", "coin", "px")
    forced = {(time, coin, px) for time, user, coin, px in columns.iter_rows() if (time, user) in liquidated}
    last: dict[tuple[str, datetime], float] = {}
    for time, _, coin, px in columns.iter_rows():
        if coin not in _MARKED_OUTSIDE and (time, coin, px) not in forced:
            last[coin, time] = px
    for (coin, time), px in last.items():
        yield _price(f"{coin}/USD", "fills", px, nanoseconds(time), f"fills-{coin}-{nanoseconds(time)}")


def _candle_prices(candles: pl.DataFrame, start_ns: int, end_ns: int) -> Iterator[OraclePrice]:
    """Yield every one-minute close, and three-minute closes where there is no candle of a minute."""
    for symbol, feed in _CANDLE_SYMBOLS.items():
        closes: dict[str, dict[int, float]] = {}
        for interval, minutes in _CANDLE_MINUTES.items():
            own = (
                candles.filter(pl.col("symbol").eq(symbol) & pl.col("interval").eq(interval))
                .select((pl.col("open_time") + timedelta(minutes=minutes)).alias("time"), "close")
                .unique("time", keep="first")
                .sort("time")
            )
            pairs = ((nanoseconds(time), close) for time, close in own.iter_rows())
            closes[interval] = {time_ns: close for time_ns, close in pairs if start_ns <= time_ns <= end_ns}
        for time_ns, close in closes["1m"].items():
            yield _price(feed, "binance", close, time_ns, f"binance-{symbol}-1m-{time_ns}")
        minute = 60 * _SECOND_NS
        for time_ns, close in closes["3m"].items():
            if not any(time_ns - back * minute in closes["1m"] for back in range(3)):
                yield _price(feed, "binance", close, time_ns, f"binance-{symbol}-3m-{time_ns}")


def _round_prices(rounds: pl.DataFrame, start_ns: int, end_ns: int) -> Iterator[OraclePrice]:
    own = rounds.filter(pl.col("feed").is_in(list(_CANDLE_SYMBOLS.values()))).sort("time", "feed")
    for feed, round_id, price, time in own.select("feed", "round_id", "price", "time").iter_rows():
        time_ns = nanoseconds(time)
        if start_ns <= time_ns <= end_ns:
            yield _price(feed, "chainlink", price, time_ns, f"chainlink-{feed}-{round_id}")


def _usdc_prices(stablecoin: pl.DataFrame | None, start_ns: int, end_ns: int) -> Iterator[OraclePrice]:
    """Yield Kraken's USDC/USD closes from its first to its last, and 1 every hour before and after.

    One source carries both: with two, a stale one would stay in the median for as long as prices may age here.
    """
    closes: dict[int, float] = {}
    if stablecoin is not None:
        own = stablecoin.filter(pl.col("exchange").eq("kraken") & pl.col("symbol").eq("USDCUSD"))
        for time, close in own.select("open_time", "close").iter_rows():
            time_ns = nanoseconds(time) + 60 * _SECOND_NS
            if start_ns <= time_ns <= end_ns:
                closes[time_ns] = close
    first, last = (min(closes), max(closes)) if closes else (end_ns + 1, end_ns + 1)
    hours = range(start_ns, end_ns + 1, 3_600 * _SECOND_NS)
    values = {time_ns: 1.0 for time_ns in hours if not first <= time_ns <= last} | closes
    for time_ns in sorted(values):
        yield _price("USDC/USD", "usdc-reference", values[time_ns], time_ns, f"usdc-reference-{time_ns}")


def _price(feed: str, source: str, price: float, time_ns: int, event_id: str) -> OraclePrice:
    return OraclePrice(
        event_id=event_id,
        event_time_ns=time_ns,
        source=source,
        source_sequence=0,
        feed=feed,
        price=from_float(price),
        confidence="0",
        publish_time_ns=time_ns,
    )


def _summary(
    records: Records,
    trades: list[Fill],
    listed: list[InstrumentListed],
    priced: list[OraclePrice],
    usdc: UsdcPrice,
) -> ImportSummary:
    traders = set(records.fills["user"])
    marked = ", ".join(sorted(item.underlying for item in listed if item.underlying not in _MARKED_OUTSIDE))
    counts = Counter(f"{event.feed} {event.source}" for event in priced)
    isolated = records.liquidations.filter(pl.col("leverage_type") == "Isolated").height
    notes = [
        f"{marked or 'no coin'}: marked from their own fills (source fills): the last of each second, no liquidations",
        "BTC, ETH: Binance closes every minute (every three where there is no minute candle) and Chainlink rounds",
        "USDC/USD: "
        + (
            "Kraken closes where there are any, 1 before and after" if usdc == "market" else "1, as the venue counts it"
        ),
        "counterparty of every fill: house (market makers are not in the records)",
        "records have whole seconds: fills stand half a second after the prices and transfers of their second",
        f"maintenance {MAINTENANCE_RATE:.1%}, initial {INITIAL_RATE:.1%} for every coin, whose leverage went to 50",
        f"a price may be {PRICE_AGE_NS_MAX // _DAY_NS} days old: coins trade rarely",
        "fees and funding are not in the records",
        f"every account is cross; {isolated} of {records.liquidations.height} liquidations were of isolated positions",
    ]
    if records.candles is None:
        notes.append("no Binance candles were found: BTC and ETH are not priced by them")
    if records.rounds is None:
        notes.append("no Chainlink rounds were found")
    if usdc == "market" and records.stablecoin is None:
        notes.append("no USDC/USD closes were found: 1 throughout")
    return ImportSummary(
        traders=len(traders),
        accounts=len(traders | set(records.transfers["user"])),
        fills=len(trades),
        repeated_fills=records.fills.height - records.fills.unique(_FILL_COLUMNS).height,
        liquidation_fills=sum(fill.liquidation_id is not None for fill in trades),
        transfers=records.transfers.height,
        liquidations=records.liquidations.height,
        price_events=dict(sorted(counts.items())),
        instruments={item.instrument: {"tick_size": item.tick_size, "lot_size": item.lot_size} for item in listed},
        notes=notes,
    )
