"""A run over Hyperliquid's records of 2023, held against the liquidations that the venue recorded.

What is compared, for each recorded liquidation, is the last moment before its fills:

1. *Equity*: cash and positions as our ledger has them, against ``liquidated_account_value``. An account with one coin
   is valued at the venue's own mark (recorded notional over position), so that a difference is a difference of
   history and not of price. Agreement is a difference of at most 0.5 % of the recorded notional.
2. *Decision*: the tier that our rules give the account at the venue's own mark.
3. *Time*: the tier that the run had the account in, by the prices that it was given, and the lead over the venue: since
   when it was liquidating, or (negative) when our price first went where it would have been, had nobody closed it.
4. *Why*: one reason for each that does not agree, from the order of ``Why``.

The positions and cash of the run are compared with an independent rebuild from the published files: exactly, in
integers. A difference there is a fault of ours, not of the records.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from statistics import median
from typing import Any, Final, cast

import msgspec
import polars as pl

from infra.files.query import SnapshotQuery
from infra.imports.hyperliquid import (
    FILL_OFFSET_NS,
    INITIAL_RATE,
    MAINTENANCE_RATE,
    TAKEOVER_MULTIPLE,
    Records,
    UsdcPrice,
    price_events,
)
from infra.imports.inputs import nanoseconds
from schemas.ids import SYSTEM_ACCOUNTS

AGREEMENT: Final = 0.005
_UNITS: Final = 10**6
_SECOND_NS: Final = 1_000_000_000
_DAY_NS: Final = 86_400 * _SECOND_NS
_LIQUIDATING: Final = frozenset({"liquidating", "takeover", "bankrupt"})
_NO_FRAME: Final = 2**63
_HEALTHY: Final = "healthy"

_EVENTS: Final = """
SELECT frame, event_time_ns, account, kind, instrument, lots, cash_units - fee_units AS units
FROM account_events WHERE kind IN ('fill', 'transfer') ORDER BY frame, row_index
"""
_TIERS: Final = """
SELECT frame, time_ns, account, tier_to, equity
FROM tier_changes ORDER BY frame, row_index
"""
_INSTRUMENTS: Final = "SELECT instrument, underlying, lot_size FROM instruments"


class Why(Enum):
    """Why a recorded liquidation and our run do not say the same; the first that holds."""

    AGREES = "agrees"
    ISOLATED = "isolated"
    NO_POSITION = "no position"
    SEVERAL_COINS = "several coins"
    MONEY_LEFT = "money left"
    MONEY_CAME = "money came"
    ABOVE_MAINTENANCE = "above maintenance"
    BETWEEN_CLOSES = "between closes"
    OUR_PRICE = "our price"


class WhyAlarm(Enum):
    """Why our run liquidates an account that the venue never did; the first that holds."""

    NO_DEPOSIT = "no deposit"
    INCOMPLETE = "incomplete"
    PRICE = "price"


EXPLANATIONS: Final[dict[str, str]] = {
    Why.AGREES.value: "equity agrees, and our run was liquidating when the venue did",
    Why.ISOLATED.value: "margin was isolated at the venue; here every account is cross",
    Why.NO_POSITION.value: "the account holds nothing in the records",
    Why.SEVERAL_COINS.value: "one recorded value for several positions: the venue's marks cannot be told apart",
    Why.MONEY_LEFT.value: "equity too high: a withdrawal, transfer between accounts, funding or fee is not recorded",
    Why.MONEY_CAME.value: "equity too low: a deposit, transfer between accounts or funding is not recorded",
    Why.ABOVE_MAINTENANCE.value: "equity agrees, but is above maintenance margin even at the venue's own mark",
    Why.BETWEEN_CLOSES.value: "the price went there between two candle closes, which are all that the run was given",
    Why.OUR_PRICE.value: "our price (the coin's last fill, another market's close) was not where the venue's mark was",
    WhyAlarm.NO_DEPOSIT.value: "no deposit in the records: the account starts with nothing",
    WhyAlarm.INCOMPLETE.value: "the account owes money without a position: records are missing",
    WhyAlarm.PRICE.value: "equity fell below 1 % of notional by our prices",
}


class LiquidationRow(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded liquidation. Money is USDC; ratios are of the recorded notional; seconds lead if positive."""

    time_utc: str
    account: str
    leverage_type: str
    coins: list[str]
    notional: float
    recorded_value: float
    equity: float | None
    difference_ratio: float | None
    tier_at_venue_mark: str | None
    trigger_price: float | None
    mark_difference_bp: float | None
    tier: str
    lead_seconds: float | None
    why: str


class AlarmRow(msgspec.Struct, frozen=True, kw_only=True):
    """An account that our run liquidates and the venue never did."""

    account: str
    first_utc: str
    episodes: int
    seconds: float
    lowest_equity: float
    why: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The whole comparison. ``..._where_equity_agrees`` counts among the ``equity_agrees``."""

    liquidations: int
    liquidated_accounts: int
    single_coin: int
    equity_agrees: int
    rebuild_differences: int
    liquidating_at_venue_mark: int
    liquidating_at_venue_mark_where_equity_agrees: int
    liquidating_by_our_prices: int
    liquidating_by_our_prices_where_equity_agrees: int
    lead_seconds_median_where_equity_agrees: float | None
    mark_difference_bp_median: float | None
    why: dict[str, int]
    accounts_liquidating: int
    false_alarms: int
    false_alarms_why: dict[str, int]
    usdc: str
    rows: list[LiquidationRow]
    alarms: list[AlarmRow]


@dataclass(frozen=True, slots=True)
class Run:
    """What a run says: account events and tier changes in order, and the instruments.

    Columns: events ``frame, event_time_ns, account, kind, instrument, lots, units``; tiers ``frame, time_ns, account,
    tier_to, equity``; instruments ``instrument, underlying, lot_size``.
    """

    events: pl.DataFrame
    tiers: pl.DataFrame
    instruments: pl.DataFrame


def read_run(directory: Path) -> Run:
    """Return what the snapshots of a run say.

    Raises
    ------
    SnapshotError, QueryError : the directory holds no readable snapshots.
    """
    with SnapshotQuery(directory) as query:
        frames = [pl.DataFrame(query.query(text).rows) for text in (_EVENTS, _TIERS, _INSTRUMENTS)]
    return Run(*frames)


def compare(run: Run, records: Records, usdc: UsdcPrice = "market") -> Comparison:
    """Return the run held against the recorded liquidations.

    Parameters
    ----------
    records : the files that the run's log was imported from.
    usdc : the price of USDC that it was imported with.
    """
    histories = _histories(run)
    tiers = _tier_histories(run)
    marks = _Marks.of(records, usdc)
    rows: list[LiquidationRow] = []
    differences = 0
    for liquidation in records.liquidations.sort("time", "user").iter_rows(named=True):
        account, time_ns = liquidation["user"], nanoseconds(liquidation["time"])
        history = histories.get(account, _History())
        before = history.at(time_ns + FILL_OFFSET_NS - 1)
        differences += before.exact() != _rebuilt(records, account, liquidation["time"])
        # A frame decides after all of its records, at the time of its first: what the liquidation's own frame decided
        # came after it, whatever its time says.
        frame = history.frame_from(time_ns + FILL_OFFSET_NS)
        earlier = [change for change in tiers.get(account, []) if change.frame < frame]
        rows.append(_row(liquidation, before, earlier, marks))
    return _comparison(rows, _alarms(records, histories, tiers), tiers, differences, usdc)


# -- the run's books -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Standing:
    """Cash in units and lots by instrument, with the instruments' coins and lot sizes."""

    units: int
    lots: dict[str, int]
    coins: dict[str, tuple[str, Decimal]]

    def quantities(self) -> dict[str, Decimal]:
        """Return signed quantities by coin."""
        return {self.coins[name][0]: count * self.coins[name][1] for name, count in sorted(self.lots.items())}

    def exact(self) -> tuple[int, dict[str, Decimal]]:
        return self.units, self.quantities()


@dataclass(slots=True)
class _History:
    """One account's cash and positions after each of its events."""

    frames: list[int] = field(default_factory=list)
    times_ns: list[int] = field(default_factory=list)
    standings: list[_Standing] = field(default_factory=list)
    coins: dict[str, tuple[str, Decimal]] = field(default_factory=dict)

    def add(self, frame: int, time_ns: int, units: int, instrument: str | None, lots: int) -> None:
        last = self.standings[-1] if self.standings else _Standing(0, {}, self.coins)
        held = dict(last.lots)
        if instrument is not None and lots:
            held[instrument] = held.get(instrument, 0) + lots
            if not held[instrument]:
                del held[instrument]
        self.frames.append(frame)
        self.times_ns.append(time_ns)
        self.standings.append(_Standing(last.units + units, held, self.coins))

    def at(self, time_ns: int) -> _Standing:
        """Return the standing after everything up to a time."""
        place = bisect_right(self.times_ns, time_ns)
        return self.standings[place - 1] if place else _Standing(0, {}, self.coins)

    def frame_from(self, time_ns: int) -> int:
        """Return the frame of the first event at or after a time; past every frame where there is none."""
        place = bisect_left(self.times_ns, time_ns)
        return self.frames[place] if place < len(self.frames) else _NO_FRAME


def _histories(run: Run) -> dict[str, _History]:
    # Lot sizes are powers of ten: the shortest decimal of the double is the size itself.
    coins = {name: (underlying, Decimal(repr(lot_size))) for name, underlying, lot_size in run.instruments.iter_rows()}
    histories: dict[str, _History] = {}
    columns = ("frame", "event_time_ns", "account", "instrument", "lots", "units")
    for frame, time_ns, account, instrument, lots, units in run.events.select(columns).iter_rows():
        if account not in SYSTEM_ACCOUNTS:
            history = histories.setdefault(account, _History(coins=coins))
            history.add(frame, time_ns, units, instrument, lots or 0)
    return histories


@dataclass(frozen=True, slots=True)
class _TierChange:
    frame: int
    time_ns: int
    tier: str
    equity: float


def _tier_histories(run: Run) -> dict[str, list[_TierChange]]:
    histories: dict[str, list[_TierChange]] = {}
    columns = ("frame", "time_ns", "account", "tier_to", "equity")
    for frame, time_ns, account, tier, equity in run.tiers.select(columns).iter_rows():
        histories.setdefault(account, []).append(_TierChange(frame, time_ns, tier, equity))
    return histories


def _rebuilt(records: Records, account: str, time: datetime) -> tuple[int, dict[str, Decimal]]:
    """Return cash in units and quantities by coin before the fills of a second, from the published files alone."""
    cash = Decimal(0)
    quantities: dict[str, Decimal] = {}
    deltas = records.transfers.filter(pl.col("user").eq(account) & pl.col("time").le(time))["delta_usd"]
    for delta in deltas:
        cash += Decimal(repr(delta))
    fills = records.fills.filter(pl.col("user").eq(account) & pl.col("time").lt(time))
    for coin, side, px, sz in fills.select("coin", "side", "px", "sz").iter_rows():
        signed = Decimal(repr(sz)) * (1 if side == "Bid" else -1)
        cash -= signed * Decimal(repr(px))
        quantities[coin] = quantities.get(coin, Decimal(0)) + signed
    held = {coin: quantity for coin, quantity in sorted(quantities.items()) if quantity}
    return int(cash * _UNITS), held


@dataclass(frozen=True, slots=True)
class _Marks:
    """The prices that the run was given: the median of every source's last, as the engine takes it; and candles."""

    series: dict[str, tuple[list[int], list[float]]]
    candles: pl.DataFrame | None

    @classmethod
    def of(cls, records: Records, usdc: UsdcPrice) -> "_Marks":
        last: dict[str, dict[str, float]] = {}
        series: dict[str, tuple[list[int], list[float]]] = {}
        for event in sorted(price_events(records, usdc), key=lambda event: event.event_time_ns):
            sources = last.setdefault(event.feed.partition("/")[0], {})
            sources[event.source] = float(event.price)
            times, prices = series.setdefault(event.feed.partition("/")[0], ([], []))
            times.append(event.event_time_ns)
            prices.append(median(sources.values()))
        return cls(series, records.candles)

    def at(self, coin: str, time_ns: int) -> float | None:
        """Return the price of a coin, None before its first."""
        times, prices = self.series.get(coin, ([], []))
        place = bisect_right(times, time_ns)
        return prices[place - 1] if place else None

    def first_beyond(self, coin: str, time_ns: int, trigger: float, *, long: bool) -> int | None:
        """Return when the price next falls (short: rises) to the trigger, within a day; None if it does not."""
        times, prices = self.series.get(coin, ([], []))
        for place in range(bisect_right(times, time_ns), len(times)):
            if times[place] > time_ns + _DAY_NS:
                break
            if prices[place] <= trigger if long else prices[place] >= trigger:
                return times[place]
        return None

    def within_candle(self, coin: str, time: datetime, trigger: float, *, long: bool) -> bool:
        """Return whether the candle around a time reached the trigger, though its close may not have."""
        if self.candles is None:
            return False
        for interval, minutes in (("1m", 1), ("3m", 3)):
            around = self.candles.filter(
                pl.col("symbol").eq(f"{coin}USDT")
                & pl.col("interval").eq(interval)
                & pl.col("open_time").le(time)
                & pl.col("open_time").gt(time - timedelta(minutes=minutes))
            )
            if not around.is_empty():
                if long:
                    return cast(float, around["low"].min()) <= trigger
                return cast(float, around["high"].max()) >= trigger
        return False


# -- one liquidation -------------------------------------------------------------------------------------------------


def _row(liquidation: dict[str, Any], before: _Standing, tiers: Sequence[_TierChange], marks: _Marks) -> LiquidationRow:
    time: datetime = liquidation["time"]
    time_ns = nanoseconds(time)
    notional, recorded = float(liquidation["liquidated_ntl_pos"]), float(liquidation["liquidated_account_value"])
    isolated = liquidation["leverage_type"] == "Isolated"
    quantities = {coin: float(quantity) for coin, quantity in before.quantities().items()}
    tier, lead = _last_tier(tiers, time_ns + FILL_OFFSET_NS)
    equity = trigger = apart = at_mark = None
    why = Why.ISOLATED if isolated else Why.SEVERAL_COINS if quantities else Why.NO_POSITION
    if len(quantities) == 1:
        [(coin, quantity)] = quantities.items()
        cash, long = before.units / _UNITS, quantity > 0.0
        equity = cash + notional * (1.0 if long else -1.0)
        at_mark = _tier_of(equity, notional)
        trigger = -cash / (quantity - MAINTENANCE_RATE * abs(quantity))
        ours = marks.at(coin, time_ns)
        apart = None if ours is None else 1e4 * (ours * abs(quantity) / notional - 1.0)
        if lead is None:
            reached_ns = marks.first_beyond(coin, time_ns, trigger, long=long)
            lead = None if reached_ns is None else (time_ns + FILL_OFFSET_NS - reached_ns) / _SECOND_NS
        if not isolated:
            within = marks.within_candle(coin, time, trigger, long=long)
            why = _why((equity - recorded) / notional, at_mark, tier, within=within)
    return LiquidationRow(
        time_utc=f"{time.astimezone(UTC):%F %T}",
        account=liquidation["user"],
        leverage_type=liquidation["leverage_type"],
        coins=sorted(quantities),
        notional=notional,
        recorded_value=recorded,
        equity=equity,
        difference_ratio=None if equity is None else (equity - recorded) / notional,
        tier_at_venue_mark=at_mark,
        trigger_price=trigger,
        mark_difference_bp=apart,
        tier=tier,
        lead_seconds=lead,
        why=why.value,
    )


def _why(difference: float, at_mark: str, tier: str, *, within: bool) -> Why:
    if difference > AGREEMENT:
        return Why.MONEY_LEFT
    if difference < -AGREEMENT:
        return Why.MONEY_CAME
    if tier in _LIQUIDATING:
        return Why.AGREES
    if at_mark not in _LIQUIDATING:
        return Why.ABOVE_MAINTENANCE
    return Why.BETWEEN_CLOSES if within else Why.OUR_PRICE


def _tier_of(equity: float, notional: float) -> str:
    """Return the tier of one position by the parameters of the import."""
    maintenance, initial = MAINTENANCE_RATE * notional, INITIAL_RATE * notional
    if equity < 0.0:
        return "bankrupt"
    if equity < TAKEOVER_MULTIPLE * maintenance:
        return "takeover"
    if equity < maintenance:
        return "liquidating"
    return "warning" if equity < initial else _HEALTHY


def _last_tier(tiers: Sequence[_TierChange], time_ns: int) -> tuple[str, float | None]:
    """Return the last tier, and for how many seconds at a time it has been a liquidating one without a break."""
    if not tiers:
        return _HEALTHY, None
    if tiers[-1].tier not in _LIQUIDATING:
        return tiers[-1].tier, None
    since = len(tiers) - 1
    while since and tiers[since - 1].tier in _LIQUIDATING:
        since -= 1
    return tiers[-1].tier, (time_ns - tiers[since].time_ns) / _SECOND_NS


# -- false alarms ----------------------------------------------------------------------------------------------------


def _episodes(tiers: Sequence[_TierChange]) -> Iterator[tuple[int, int, float]]:
    """Yield each unbroken stay in liquidating tiers: from, until (its last change, if it never ends), lowest equity."""
    since: int | None = None
    lowest = 0.0
    for change in tiers:
        if change.tier in _LIQUIDATING:
            lowest = change.equity if since is None else min(lowest, change.equity)
            since = change.time_ns if since is None else since
        elif since is not None:
            yield since, change.time_ns, lowest
            since = None
    if since is not None:
        yield since, tiers[-1].time_ns, lowest


def _alarms(records: Records, histories: dict[str, _History], tiers: dict[str, list[_TierChange]]) -> list[AlarmRow]:
    liquidated = set(records.liquidations["user"])
    funded = set(records.transfers["user"])
    out = []
    for account in sorted(set(tiers) - liquidated):
        episodes = list(_episodes(tiers[account]))
        if not episodes:
            continue
        first = episodes[0][0]
        last = max(change.frame for change in tiers[account])
        out.append(
            AlarmRow(
                account=account,
                first_utc=f"{datetime.fromtimestamp(first / _SECOND_NS, UTC):%F %T}",
                episodes=len(episodes),
                seconds=sum(until - since for since, until, _ in episodes) / _SECOND_NS,
                lowest_equity=min(lowest for _, _, lowest in episodes),
                why=_why_alarm(histories[account], last, funded=account in funded).value,
            )
        )
    return out


def _why_alarm(history: _History, last_frame: int, *, funded: bool) -> WhyAlarm:
    if not funded:
        return WhyAlarm.NO_DEPOSIT
    owes = any(
        not standing.lots and standing.units < 0
        for frame, standing in zip(history.frames, history.standings, strict=True)
        if frame <= last_frame
    )
    return WhyAlarm.INCOMPLETE if owes else WhyAlarm.PRICE


# -- all of it -------------------------------------------------------------------------------------------------------


def _comparison(
    rows: list[LiquidationRow],
    alarms: list[AlarmRow],
    tiers: dict[str, list[_TierChange]],
    differences: int,
    usdc: UsdcPrice,
) -> Comparison:
    single = [row for row in rows if row.difference_ratio is not None]
    agreeing = [row for row in single if abs(row.difference_ratio or 0.0) <= AGREEMENT]
    leads = [row.lead_seconds for row in agreeing if row.lead_seconds is not None]
    apart = [abs(row.mark_difference_bp) for row in single if row.mark_difference_bp is not None]
    liquidating = sum(any(change.tier in _LIQUIDATING for change in changes) for changes in tiers.values())
    return Comparison(
        liquidations=len(rows),
        liquidated_accounts=len({row.account for row in rows}),
        single_coin=len(single),
        equity_agrees=len(agreeing),
        rebuild_differences=differences,
        liquidating_at_venue_mark=sum(row.tier_at_venue_mark in _LIQUIDATING for row in single),
        liquidating_at_venue_mark_where_equity_agrees=sum(row.tier_at_venue_mark in _LIQUIDATING for row in agreeing),
        liquidating_by_our_prices=sum(row.tier in _LIQUIDATING for row in rows),
        liquidating_by_our_prices_where_equity_agrees=sum(row.tier in _LIQUIDATING for row in agreeing),
        lead_seconds_median_where_equity_agrees=median(leads) if leads else None,
        mark_difference_bp_median=median(apart) if apart else None,
        why={why.value: sum(row.why == why.value for row in rows) for why in Why},
        accounts_liquidating=liquidating,
        false_alarms=len(alarms),
        false_alarms_why={why.value: sum(alarm.why == why.value for alarm in alarms) for why in WhyAlarm},
        usdc=usdc,
        rows=rows,
        alarms=alarms,
    )
