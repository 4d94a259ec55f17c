"""The demo day: a synthetic crash day of a synthetic venue, as an event log.

Everything in it is made by a seeded model; no account, price or trade is real. It exists to show the whole pipeline on
one day that has most of what a bad day has: jumps, a vol spike, a depeg, a failing oracle source, an expiry, a halt,
a busted trade, reverted deposits, margin calls, redelivered and malformed input.

1. The same ``(seed, accounts, hours)`` give the same bytes on every machine (``infra.demo.portable``).
2. Lines leave in time order, a minute of the day at a time: memory does not grow with the length of the log.
3. Every refusal that intake should make of this log is counted by reason, so a run can be held against it.
4. The liquidator is open-loop: it follows the model's own rough estimate of each account, and reads nothing from the
   engine. So orders of the engine and liquidation fills of the log agree only roughly.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

import msgspec
import numpy as np
import zstandard

from infra.demo import market as plot
from infra.demo.faults import Fault, Scene, faults
from infra.demo.journal import Journal
from infra.demo.market import SOURCES, MarketPath, market_path, within
from infra.demo.population import PORTFOLIO, Temper, population
from infra.demo.portable import Float64Array, generator, logarithm, option_price
from infra.demo.venue import (
    ASSET_INDEX,
    ASSETS,
    COLLATERAL_IN_THE_CRASH,
    HOUR_NS,
    MINUTE_NS,
    PARAMETERS_AT_START,
    SECOND_NS,
    START_NS,
    UNDERLYINGS,
    expiries,
    listings,
)
from schemas.events import (
    AccountOpened,
    AssetListed,
    Collateral,
    Fill,
    FillBusted,
    FundingRate,
    InstrumentHalted,
    InstrumentListed,
    MarkPrice,
    OracleForward,
    OraclePrice,
    OracleRate,
    OracleVol,
    ParametersChanged,
    SettlementPrice,
    Svi,
    WithdrawalRequested,
)
from schemas.instruments import InstrumentKind, MarginMode
from schemas.money import from_units

SEED: Final = 20_260_313
ACCOUNTS: Final = 3_000
HOURS: Final = 24.0
# Bytes for one (seed, accounts, hours) may change only together with this number.
MODEL_VERSION: Final = 1

_HOURS_MAX: Final = 72.0
_MINUTES_MIN: Final = 30
_ACCOUNTS_MIN: Final = 20
_PERPETUALS: Final = 3
_INVERSE: Final = 2
_CHAINS: Final = ("ethereum", "arbitrum", "base")
_SETTLED_AFTER_NS: Final = 50 * SECOND_NS
_FAULT_AFTER_NS: Final = 30 * SECOND_NS
_FILLS_PER_ACCOUNT_AND_MINUTE: Final = 0.0125
_HOUSE_SHARE: Final = 0.4
_TAKER_FEE, _MAKER_REBATE, _LIQUIDATION_FEE = 0.0005, 0.0001, 0.0025
_OPTION_FEE, _OPTION_FEE_CAP = 0.0003, 0.125


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a generated log holds, and what intake should find in it.

    ``duplicates`` are lines written twice; ``faults`` are the expected dead letters by reason.
    """

    synthetic: bool
    model_version: int
    seed: int
    accounts: int
    hours: float
    lines: int
    bytes: int
    sha256: str
    market_instants: int
    first_time_ns: int
    last_time_ns: int
    events: dict[str, int]
    duplicates: int
    faults: dict[str, int]
    liquidation_fills: int


class _Writer(Protocol):
    def write(self, data: bytes, /) -> int: ...


@dataclass(slots=True)
class _Prices:
    """What instruments cost in one minute: (K,) ticks, and USD a lot (signed: an inverse lot is a debt in coins)."""

    ticks: list[int]
    usd_per_lot: Float64Array


@dataclass(slots=True)
class _Trade:
    """One trade in the model's books, kept so that it can be undone."""

    fill_id: str
    buyer: int
    seller: int
    instrument: int
    lots: int
    price: float


@dataclass(slots=True)
class _State:
    """The model's own books, by listing order and account.

    ``held`` is (K, N) lots, ``balance`` (A, N) whole assets. Lots are whole numbers far below 2**53, so floats keep
    them exactly, and sums over instruments run row by row, in order.
    """

    held: Float64Array
    balance: Float64Array
    opening_equity: Float64Array
    appetite: Float64Array
    ready_ns: list[int]
    called_ns: list[int]
    closed: set[int] = field(default_factory=set)
    halted: set[int] = field(default_factory=set)


class DemoDay:
    """One day to be written. ``lines`` may be called once; ``summary`` is complete after it.

    Parameters
    ----------
    seed : >= 0
    accounts : customer accounts, >= 20
    hours : length of the day, 0.5 to 72, in whole minutes; the plot is stretched to it
    """

    def __init__(self, *, seed: int = SEED, accounts: int = ACCOUNTS, hours: float = HOURS) -> None:
        minutes = round(hours * 60.0)
        if seed < 0 or accounts < _ACCOUNTS_MIN or minutes < _MINUTES_MIN or hours > _HOURS_MAX:
            raise ValueError(
                f"a demo day needs seed >= 0, {_ACCOUNTS_MIN} accounts or more, {_MINUTES_MIN / 60} to {_HOURS_MAX} hours; "
                f"got seed {seed}, {accounts} accounts, {hours} hours"
            )
        self.seed, self.accounts, self.minutes = seed, accounts, minutes
        self.path: MarketPath = market_path(seed=seed, minutes=minutes)
        self.listed = listings()
        self.expiries_ns = expiries(START_NS + round(minutes * plot.EXPIRY) * MINUTE_NS)
        self.journal = Journal()
        self.fault_counts: Counter[str] = Counter()
        self.liquidation_fills = 0
        self._random = generator(seed, 20)
        self._tick = [one.tick for one in self.listed]
        self._quantity = [one.quantity_per_lot for one in self.listed]
        self._linears = [at for at, one in enumerate(self.listed) if one.kind is not InstrumentKind.OPTION]
        self._expiring = [at for at, one in enumerate(self.listed) if one.expiry == 0]
        self._options = [at for at, one in enumerate(self.listed) if one.kind is InstrumentKind.OPTION]
        self._option_group = np.array([self.listed[at].underlying * 3 + self.listed[at].expiry for at in self._options])
        self._option_strike = np.array([float(self.listed[at].strike) for at in self._options])
        self._option_call = np.array([self.listed[at].is_call for at in self._options])
        prices = self._prices(0)
        self.members = population(
            seed=seed,
            accounts=accounts,
            listed=self.listed,
            unit_value=np.abs(prices.usd_per_lot),
            spot=self.path.index[0],
        )
        self._wanted = [
            (number, instrument, lots)
            for number, member in enumerate(self.members)
            for instrument, lots in member.targets
        ]
        self._to_join = sorted(((self._opens(number), number) for number in range(accounts)), reverse=True)
        self._makers = [number for number, member in enumerate(self.members) if member.temper is Temper.MAKER]
        self._portfolio = np.array([member.margin_model == PORTFOLIO for member in self.members])
        never = START_NS + 2 * self.path.duration_ns
        self._state = _State(
            held=np.zeros((len(self.listed), accounts)),
            balance=np.zeros((len(ASSETS), accounts)),
            opening_equity=np.zeros(accounts),
            appetite=np.ones(accounts),
            ready_ns=[never] * accounts,
            called_ns=[0] * accounts,
        )
        self._faults = faults()
        self._to_bust: _Trade | None = None
        self._bust_done = False
        self._fills = self._transfers = self._withdrawals = 0
        self._lines = self._bytes = 0
        self._digest = sha256()

    def lines(self) -> Iterator[list[bytes]]:
        """Yield the log's lines, without line ends, a minute of the day at a time."""
        for minute in range(self.minutes):
            begins = START_NS + minute * MINUTE_NS
            if minute == 0:
                self._list_everything()
            prices = self._prices(int(self.path.first_of_minute[minute]))
            self._market(minute)
            self._join(begins)
            self._plot(begins)
            self._trade(minute, prices)
            self._watch(minute, prices)
            self._transfer(minute, prices)
            self._spoil(begins, prices)
            written = self.journal.lines(begins + MINUTE_NS)
            block = b"\n".join([*written, b""])
            self._digest.update(block)
            self._lines += len(written)
            self._bytes += len(block)
            yield written

    def summary(self) -> Summary:
        """Return what was written so far."""
        return Summary(
            synthetic=True,
            model_version=MODEL_VERSION,
            seed=self.seed,
            accounts=self.accounts,
            hours=self.minutes / 60.0,
            lines=self._lines,
            bytes=self._bytes,
            sha256=self._digest.hexdigest(),
            market_instants=len(self.path.time_ns),
            first_time_ns=START_NS,
            last_time_ns=START_NS + self.path.duration_ns - 1,
            events=dict(sorted(self.journal.types.items())),
            duplicates=self.journal.duplicates,
            faults=dict(sorted(self.fault_counts.items())),
            liquidation_fills=self.liquidation_fills,
        )

    # What exists.

    def _list_everything(self) -> None:
        add = self.journal.add
        for asset, decimals in ASSETS:
            add(START_NS, "venue", AssetListed, asset=asset, decimals=decimals)
        for one in self.listed:
            add(START_NS, "venue", InstrumentListed, **one.fields(self.expiries_ns))
        for name, parameters in PARAMETERS_AT_START:
            add(START_NS, "operator", ParametersChanged, name=name, parameters=parameters)

    def _join(self, begins: int) -> None:
        """Open the accounts of this minute and send their first deposits."""
        random = self._random
        while self._to_join and self._to_join[-1][0] < begins + MINUTE_NS:
            opens, number = self._to_join.pop()
            member = self.members[number]
            self.journal.add(
                opens,
                "venue",
                AccountOpened,
                account=member.account,
                margin_model=member.margin_model,
                margin_mode=member.margin_mode.value,
            )
            delay = int((0.0005 + 0.008 * random.random()) * self.path.duration_ns)
            self._deposit(number, member.asset, member.units, opens + delay, announced=random.random() < 0.2)
            price = self._asset_price(0, ASSET_INDEX[member.asset])
            decimals = ASSETS[ASSET_INDEX[member.asset]][1]
            self._state.opening_equity[number] = member.units / 10.0**decimals * price
            trading = START_NS + int(plot.TRADING_STARTS * self.path.duration_ns)
            self._state.ready_ns[number] = max(opens + delay + SECOND_NS, trading)

    def _opens(self, number: int) -> int:
        """Return when an account opens."""
        return START_NS + int(self.members[number].joins * self.path.duration_ns)

    def _deposit(self, number: int, asset: str, units: int, time_ns: int, *, announced: bool) -> str:
        """Let a deposit be confirmed at ``time_ns``; return its transfer id."""
        self._transfers += 1
        transfer = f"deposit-{self._transfers:06d}"
        if announced:
            pending = max(time_ns - 3 * MINUTE_NS, (time_ns + self._opens(number)) // 2)
            self._collateral(number, asset, units, pending, transfer, "pending")
        self._collateral(number, asset, units, time_ns, transfer, "confirmed")
        self._book(number, asset, units)
        return transfer

    def _book(self, number: int, asset: str, units: int) -> None:
        """Keep a change of collateral in the model's books."""
        index = ASSET_INDEX[asset]
        self._state.balance[index, number] += units / 10.0 ** ASSETS[index][1]

    def _collateral(self, number: int, asset: str, units: int, time_ns: int, transfer: str, status: str) -> None:
        chain = _CHAINS[number % len(_CHAINS)]
        self.journal.add(
            time_ns,
            f"{chain}-watcher",
            Collateral,
            transfer_id=transfer,
            account=self.members[number].account,
            asset=asset,
            amount=from_units(units, ASSETS[ASSET_INDEX[asset]][1]),
            chain=chain,
            status=status,
        )

    # The market.

    def _prices(self, instant: int) -> _Prices:
        """Return what every instrument costs at an instant; an expired one keeps its last intrinsic value."""
        path = self.path
        now = int(path.time_ns[instant])
        # For the last minute of an expiry's life and after it, its smile is that of one minute left.
        smiles = [
            path.smile(instant, underlying, expiry_ns)
            for underlying in range(len(UNDERLYINGS))
            for expiry_ns in self.expiries_ns
        ]
        group = self._option_group
        forward = np.array([smile.forward for smile in smiles])[group]
        a = np.array([smile.a for smile in smiles])[group]
        b = np.array([smile.b for smile in smiles])[group]
        rho = np.array([smile.rho for smile in smiles])[group]
        sigma = np.array([smile.sigma for smile in smiles])[group]
        moneyness = logarithm(self._option_strike / forward)
        variance = a + b * (rho * moneyness + np.sqrt(moneyness * moneyness + sigma * sigma))
        premium = option_price(
            forward=forward, strike=self._option_strike, total_variance=variance, is_call=self._option_call
        )
        linear = [self._linear_price(instant, at) for at in self._linears]
        price = np.concatenate([linear, premium])
        ticks = np.maximum(np.rint(price / np.array(self._tick)), 1.0).astype(np.int64)
        usd = price * np.array(self._quantity)
        usd[_INVERSE] = -self._quantity[_INVERSE] * float(path.index[instant, 0]) / linear[_INVERSE]
        if now >= self.expiries_ns[0]:
            usd[self._expiring] = 0.0
        return _Prices(ticks=ticks.tolist(), usd_per_lot=usd)

    def _linear_price(self, instant: int, at: int) -> float:
        """Return the mark of a perpetual or future."""
        one = self.listed[at]
        if one.expiry < 0:
            return float(self.path.index[instant, one.underlying] * (1.0 + self.path.premium[instant, at]))
        return self.path.forward(instant, one.underlying, self.expiries_ns[one.expiry])

    def _asset_price(self, instant: int, asset: int) -> float:
        if ASSETS[asset][0] in UNDERLYINGS:
            return float(self.path.index[instant, UNDERLYINGS.index(ASSETS[asset][0])])
        return float((self.path.usdc if asset == 0 else self.path.usdt)[instant])

    def _market(self, minute: int) -> None:
        """Publish the minute's observations."""
        path, add = self.path, self.journal.add
        first, last = int(path.first_of_minute[minute]), int(path.first_of_minute[minute + 1])
        latency = self._random.integers(150_000_000, 900_000_000, (last - first, len(SOURCES))).tolist()
        for instant in range(first, last):
            now = int(path.time_ns[instant])
            passed = path.fraction(now)
            confidence = 0.0002 + 0.002 * float(path.stress[instant])
            for source, name in enumerate(SOURCES):
                if instant % (2, 3, 2)[source] != (0, 0, 1)[source]:
                    continue
                if source == plot.FAILING_SOURCE and within(passed, plot.SOURCE_SILENT):
                    continue
                published = now - latency[instant - first][source]
                for underlying, coin in enumerate(UNDERLYINGS):
                    price = float(path.observed[instant, source, underlying])
                    add(
                        now,
                        name,
                        OraclePrice,
                        feed=f"{coin}/USD",
                        price=f"{price:.2f}",
                        confidence=f"{price * confidence:.2f}",
                        publish_time_ns=published,
                    )
                if source != plot.FAILING_SOURCE and instant % 12 in {0, 7}:
                    self._stablecoins(instant, name, published, passed)
            if instant % 2 == 0:
                for at in range(_PERPETUALS):
                    self._mark(instant, at)
            if instant % 6 == 0:
                for at in range(_PERPETUALS, self._options[0]):
                    if now < self.expiries_ns[self.listed[at].expiry]:
                        self._mark(instant, at)
        now = int(path.time_ns[first])
        stressed = float(path.stress[first]) > 0.3 and path.fraction(now) < plot.SHOULDER_ENDS
        if stressed or minute % 5 == 0:
            self._surfaces(first)
        if minute % 30 == 0:
            add(now, "curves", OracleRate, currency="USD", rate="0.0425")
        if minute > 0 and (now - START_NS) % HOUR_NS == 0:
            for at in range(_PERPETUALS):
                rate = min(max(float(path.premium[first, at]) / 8.0, -0.002), 0.002)
                add(now, "venue", FundingRate, instrument=self.listed[at].instrument, rate=f"{rate:.8f}")

    def _stablecoins(self, instant: int, source: str, published: int, passed: float) -> None:
        for coin, price in (("USDC", self.path.usdc), ("USDT", self.path.usdt)):
            if coin == "USDT" and within(passed, plot.USDT_SILENT):
                continue
            self.journal.add(
                int(self.path.time_ns[instant]),
                source,
                OraclePrice,
                feed=f"{coin}/USD",
                price=f"{float(price[instant]):.6f}",
                confidence="0.000200",
                publish_time_ns=published,
            )

    def _mark(self, instant: int, at: int) -> None:
        one = self.listed[at]
        ticks = max(round(self._linear_price(instant, at) / self._tick[at]), 1)
        self.journal.add(
            int(self.path.time_ns[instant]), "marks", MarkPrice, instrument=one.instrument, price=one.price(ticks)
        )

    def _surfaces(self, instant: int) -> None:
        """Publish forwards and refitted smiles of the expiries that are still to come."""
        now = int(self.path.time_ns[instant])
        for underlying, coin in enumerate(UNDERLYINGS):
            for expiry_ns in self.expiries_ns:
                if now >= expiry_ns:
                    continue
                smile = self.path.smile(instant, underlying, expiry_ns)
                self.journal.add(
                    now,
                    "surfaces",
                    OracleForward,
                    underlying=coin,
                    expiry_ns=expiry_ns,
                    forward=f"{smile.forward:.4f}",
                )
                svi = Svi(
                    a=f"{smile.a:.12f}",
                    b=f"{smile.b:.10f}",
                    rho=f"{smile.rho:.6f}",
                    m=f"{smile.m:.6f}",
                    sigma=f"{smile.sigma:.10f}",
                    forward=f"{smile.forward:.4f}",
                    time_to_expiry=f"{smile.time_to_expiry:.12f}",
                )
                self.journal.add(now, "surfaces", OracleVol, underlying=coin, expiry_ns=expiry_ns, svi=svi)

    # The plot.

    def _plot(self, begins: int) -> None:
        """Let what the day is about happen at its minute."""
        add = self.journal.add
        if begins == self.expiries_ns[0]:
            self._settle(begins)
        if self._at(begins, plot.HAIRCUT_RAISED):
            add(begins, "operator", ParametersChanged, name="collateral", parameters=COLLATERAL_IN_THE_CRASH)
        for edge, halted in zip(plot.HALT, (True, False), strict=True):
            if self._at(begins, edge):
                add(begins, "venue", InstrumentHalted, instrument=self.listed[_INVERSE].instrument, halted=halted)
                (self._state.halted.add if halted else self._state.halted.discard)(_INVERSE)
        if self._at(begins, plot.REORGANISED):
            self._reorganise(begins)
        if self._at(begins, plot.BUSTED) and self._to_bust is not None:
            trade, self._to_bust, self._bust_done = self._to_bust, None, True
            add(begins + 7 * SECOND_NS, "venue", FillBusted, fill_id=trade.fill_id)
            self._move(trade.buyer, trade.instrument, -trade.lots, trade.price)
            self._move(trade.seller, trade.instrument, trade.lots, trade.price)

    def _reorganise(self, begins: int) -> None:
        """Let a chain take back a deposit that was confirmed, and one that was only announced."""
        first = len(self._makers)
        member = self.members[first]
        transfer = self._deposit(first, member.asset, member.units, begins + 10 * SECOND_NS, announced=False)
        self._collateral(first, member.asset, member.units, begins + 40 * SECOND_NS, transfer, "reverted")
        self._book(first, member.asset, -member.units)
        member = self.members[first + 1]
        for seconds, status in ((20, "pending"), (50, "reverted")):
            when = begins + seconds * SECOND_NS
            self._collateral(first + 1, member.asset, member.units, when, "deposit-never-confirmed", status)

    def _at(self, begins: int, fraction: float) -> bool:
        """Return whether a place of the plot lies in the minute that begins here."""
        return 0 <= START_NS + int(fraction * self.path.duration_ns) - begins < MINUTE_NS

    def _settle(self, expiry_ns: int) -> None:
        """Let the day's expiry pay out at the mean index of the half hour before it."""
        end = int(np.searchsorted(self.path.time_ns, expiry_ns))
        begin = int(np.searchsorted(self.path.time_ns, expiry_ns - HOUR_NS // 2))
        state = self._state
        for underlying, coin in enumerate(UNDERLYINGS):
            window = self.path.index[begin:end, underlying].tolist()
            price = round(sum(window) / len(window), 2)
            self.journal.add(
                expiry_ns + _SETTLED_AFTER_NS,
                "venue",
                SettlementPrice,
                underlying=coin,
                expiry_ns=expiry_ns,
                price=f"{price:.2f}",
            )
            for at, one in enumerate(self.listed):
                if one.expiry != 0 or one.underlying != underlying:
                    continue
                payout = price
                if one.kind is InstrumentKind.OPTION:
                    payout = max(price - one.strike if one.is_call else one.strike - price, 0.0)
                state.balance[0] += state.held[at] * (payout * self._quantity[at])
                state.held[at] = 0.0
                state.closed.add(at)

    # Trading.

    def _trade(self, minute: int, prices: _Prices) -> None:
        """Let accounts move towards what they want, against makers and the house."""
        begins = START_NS + minute * MINUTE_NS
        passed = self.path.fraction(begins)
        stress = float(self.path.stress[int(self.path.first_of_minute[minute])])
        if passed < plot.TRADING_STARTS or not self._wanted:
            return
        rate = _FILLS_PER_ACCOUNT_AND_MINUTE * self.accounts * (2.0 if passed < plot.OPENING_ENDS else 1.0)
        if within(passed, (plot.CRASH_STARTS, plot.CRASH_ENDS)):
            rate *= 1.5
        count = int(rate + self._random.random())
        times = np.sort(self._random.integers(begins, begins + MINUTE_NS, count)).tolist()
        picks = self._random.integers(0, len(self._wanted), count).tolist()
        draws = self._random.random((count, 5)).tolist()
        state = self._state
        for time_ns, pick, (aim, part, side, maker, noise) in zip(times, picks, draws, strict=True):
            number, at, target = self._wanted[pick]
            if time_ns < state.ready_ns[number] or at in state.closed or at in state.halted:
                continue
            held = int(state.held[at, number])
            wish = int(target * (0.8 + 0.3 * aim) * float(state.appetite[number])) - held
            # In stress few add to what they have.
            if stress > 0.0 and wish * target > 0 and aim < 0.8:
                continue
            lots = int(wish * (0.6 + 0.4 * part))
            if abs(lots) * 50 < abs(target):
                lots = wish if abs(wish) * 50 >= abs(target) else 0
            if lots == 0:
                continue
            other = -1 if side < _HOUSE_SHARE else self._makers[int(maker * len(self._makers))]
            self._fill(time_ns, number, other, at, lots, self._ticks_near(time_ns, minute, at, prices, noise), prices)
        if minute % 2 == 0:
            self._lay_off(begins + MINUTE_NS - SECOND_NS, minute, prices)

    def _ticks_near(self, time_ns: int, minute: int, at: int, prices: _Prices, noise: float) -> int:
        """Return a trade price around the mark, in ticks >= 1."""
        first, last = int(self.path.first_of_minute[minute]), int(self.path.first_of_minute[minute + 1])
        if at < self._options[0]:
            instants = self.path.time_ns[first:last]
            instant = first + int(np.searchsorted(instants, time_ns, side="right")) - 1
            mark = self._linear_price(instant, at) / self._tick[at]
            return max(round(mark * (1.0 + 0.0004 * (noise - 0.5))), 1)
        return max(round(prices.ticks[at] * (1.0 + 0.03 * (noise - 0.5))), 1)

    def _fill(
        self,
        time_ns: int,
        taker: int,
        maker: int,
        at: int,
        lots: int,
        ticks: int,
        prices: _Prices,
        liquidation: str | None = None,
    ) -> None:
        """Write one fill of ``lots`` (signed, of the taker) against a maker account, or the house (-1)."""
        one = self.listed[at]
        price = ticks * self._tick[at]
        taker_fee, maker_fee = self._fees(at, abs(lots), price, liquidation is not None)
        if maker < 0:
            maker_fee = "0"
        buyer, seller = (taker, maker) if lots > 0 else (maker, taker)
        self._fills += 1
        fill_id = f"trade-{self._fills:07d}"
        self.journal.add(
            time_ns,
            "venue",
            Fill,
            fill_id=fill_id,
            instrument=one.instrument,
            price=one.price(ticks),
            quantity=one.quantity(abs(lots)),
            buyer=self._name(buyer),
            seller=self._name(seller),
            buyer_fee=taker_fee if lots > 0 else maker_fee,
            seller_fee=maker_fee if lots > 0 else taker_fee,
            liquidation_id=liquidation,
        )
        self._move(buyer, at, abs(lots), price)
        self._move(seller, at, -abs(lots), price)
        if self._to_bust is None and not self._bust_done and at == 0 and self.path.fraction(time_ns) > 0.38:
            self._to_bust = _Trade(fill_id, buyer, seller, at, abs(lots), price)

    def _fees(self, at: int, lots: int, price: float, liquidation: bool) -> tuple[str, str]:
        """Return (taker's, maker's) fee in the settlement asset; the maker's is a rebate."""
        one = self.listed[at]
        quantity = lots * self._quantity[at]
        decimals = 8 if one.inverse else 6
        if one.kind is InstrumentKind.OPTION:
            spot = float(self.path.index[0, one.underlying])
            fee = quantity * min(_OPTION_FEE * spot, _OPTION_FEE_CAP * price)
            rebate = 0.0
        else:
            notional = quantity / price if one.inverse else quantity * price
            fee, rebate = notional * _TAKER_FEE, notional * _MAKER_REBATE
        if liquidation:
            fee = fee / _TAKER_FEE * _LIQUIDATION_FEE
        scale = 10.0**decimals
        return from_units(int(fee * scale) + 1, decimals), from_units(-int(rebate * scale), decimals)

    def _name(self, number: int) -> str:
        return "house" if number < 0 else self.members[number].account

    def _move(self, number: int, at: int, lots: int, price: float) -> None:
        """Book one side of a trade; the house's is not kept."""
        if number < 0:
            return
        one = self.listed[at]
        self._state.held[at, number] += lots
        quantity = lots * self._quantity[at]
        if one.inverse:
            self._state.balance[ASSET_INDEX[UNDERLYINGS[one.underlying]], number] += quantity / price
        else:
            self._state.balance[0, number] -= quantity * price

    def _lay_off(self, time_ns: int, minute: int, prices: _Prices) -> None:
        """Let one maker sell half of its largest position to the house."""
        number = self._makers[(minute // 2) % len(self._makers)]
        worth = np.abs(self._state.held[:, number] * prices.usd_per_lot)
        at = int(np.argmax(worth))
        lots = -int(self._state.held[at, number]) // 2
        if lots == 0 or at in self._state.halted or at in self._state.closed:
            return
        self._fill(time_ns, number, -1, at, lots, self._ticks_near(time_ns, minute, at, prices, 0.5), prices)

    # The model's own, rough, watch over its accounts.

    def _watch(self, minute: int, prices: _Prices) -> None:
        """Estimate accounts; in stress, liquidate and call the weak."""
        instant = int(self.path.first_of_minute[minute])
        begins = START_NS + minute * MINUTE_NS
        stressed = float(self.path.stress[instant]) > 0.0
        if minute % (1 if stressed and self.path.fraction(begins) < plot.SHOULDER_ENDS else 10) != 0:
            return
        equity, required = self._estimates(instant, prices)
        state = self._state
        known = state.opening_equity > 0.0
        ratio = np.divide(equity, state.opening_equity, out=np.ones_like(equity), where=known)
        # Appetite falls with losses at once and never comes back above what losses left.
        state.appetite = np.minimum(state.appetite, np.clip(ratio, 0.0, 1.0))
        if not stressed:
            return
        for number in np.flatnonzero(equity < 1.4 * required).tolist():
            if state.ready_ns[number] > begins:
                continue
            if equity[number] < required[number]:
                self._liquidate(number, minute, prices)
            elif begins - state.called_ns[number] >= 4 * MINUTE_NS and self._random.random() < 0.15:
                state.called_ns[number] = begins
                member = self.members[number]
                when = begins + int((2.0 + 8.0 * self._random.random()) * MINUTE_NS)
                step = 10 ** (ASSETS[ASSET_INDEX[member.asset]][1] - 3)
                self._deposit(number, member.asset, max(member.units // 3 // step, 1) * step, when, announced=True)

    def _estimates(self, instant: int, prices: _Prices) -> tuple[Float64Array, Float64Array]:
        """Return (equity, maintenance) of every account in USD, each (N,)."""
        state = self._state
        equity = np.zeros(self.accounts)
        for asset, share in enumerate((1.0, 0.95, 0.9, 0.85)):
            balance = state.balance[asset]
            equity += np.where(balance > 0.0, balance * share, balance) * self._asset_price(instant, asset)
        required = np.zeros(self.accounts)
        spot = self.path.index[instant].tolist()
        for at, one in enumerate(self.listed):
            if at in state.closed:
                continue
            held = state.held[at]
            equity += held * prices.usd_per_lot[at]
            size = self._quantity[at] * (1.0 if one.inverse else spot[one.underlying])
            if one.kind is InstrumentKind.OPTION:
                required += np.maximum(-held, 0.0) * (0.075 * size)
            else:
                required += np.abs(held) * ((0.04, 0.05)[one.underlying] * size)
        # A portfolio margin of a naked position is some four times the rate.
        return equity, np.where(self._portfolio, 3.0 * required, required)

    def _liquidate(self, number: int, minute: int, prices: _Prices) -> None:
        """Close half of every position against the house, a little off the mark."""
        begins = START_NS + minute * MINUTE_NS
        state = self._state
        state.appetite[number] *= 0.4
        time_ns = begins + int(self._random.integers(SECOND_NS, 50 * SECOND_NS))
        for at in np.flatnonzero(state.held[:, number]).tolist():
            if at in state.closed or at in state.halted:
                continue
            held = int(state.held[at, number])
            lots = -((abs(held) + 1) // 2) if held > 0 else (abs(held) + 1) // 2
            ticks = self._ticks_near(time_ns, minute, at, prices, 0.0 if held > 0 else 1.0)
            self.liquidation_fills += 1
            self._fill(time_ns, number, -1, at, lots, ticks, prices, f"model-{self.liquidation_fills:06d}")

    # Collateral on the way.

    def _transfer(self, minute: int, prices: _Prices) -> None:
        """Let some deposit more and some ask for money back, a few of them for far too much."""
        begins = START_NS + minute * MINUTE_NS
        state, random = self._state, self._random
        if self.path.fraction(begins) < plot.OPENING_ENDS / 2.0:
            return
        for _ in range(int(self.accounts * 0.00015 + random.random())):
            number, when = int(random.integers(self.accounts)), begins + int(random.integers(MINUTE_NS))
            share, fate, announced = random.random(3).tolist()
            member = self.members[number]
            if state.ready_ns[number] > begins:
                continue
            step = 10 ** (ASSETS[ASSET_INDEX[member.asset]][1] - 3)
            units = max(int(member.units * 0.2 * share) // step, 1) * step
            transfer = self._deposit(number, member.asset, units, when + 4 * MINUTE_NS, announced=announced < 0.5)
            if fate < 0.03:
                self._collateral(number, member.asset, units, when + 9 * MINUTE_NS, transfer, "reverted")
                self._book(number, member.asset, -units)
        for _ in range(int(self.accounts * 0.00015 + random.random())):
            number, when = int(random.integers(self.accounts)), begins + int(random.integers(MINUTE_NS))
            share, greed = random.random(2).tolist()
            member = self.members[number]
            if state.ready_ns[number] > begins or member.temper is Temper.MAKER:
                continue
            step = 10 ** (ASSETS[ASSET_INDEX[member.asset]][1] - 3)
            greedy = greed < 0.2
            units = max(int(member.units * (2.5 if greedy else 0.12 * share)) // step, 1) * step
            self._withdrawals += 1
            self.journal.add(
                when,
                "venue",
                WithdrawalRequested,
                withdrawal_id=f"withdrawal-{self._withdrawals:06d}",
                account=member.account,
                asset=member.asset,
                amount=from_units(units, ASSETS[ASSET_INDEX[member.asset]][1]),
            )
            if not greedy:
                self._book(number, member.asset, -units)

    # Bad input.

    def _spoil(self, begins: int, prices: _Prices) -> None:
        """Write the faults of this minute."""
        while self._faults and START_NS + int(self._faults[0].at * self.path.duration_ns) < begins + MINUTE_NS:
            fault = self._faults.pop(0)
            time_ns = begins + _FAULT_AFTER_NS + len(self._faults)
            scene = self._scene(time_ns, prices)
            if fault.reason.value == "isolated_account" and not scene.isolated:
                continue
            self._write_fault(fault, scene)

    def _write_fault(self, fault: Fault, scene: Scene) -> None:
        edit = None if fault.edit is None else fault.edit(scene)
        # An edit that changes nothing marks the line as one that intake refuses.
        self.journal.add(scene.time_ns, fault.source, fault.kind, edit or (lambda event: event), **fault.fields(scene))
        self.fault_counts[fault.reason.value] += 1

    def _scene(self, time_ns: int, prices: _Prices) -> Scene:
        """Return what exists now for a fault to refer to."""
        state, listed = self._state, self.listed
        cross = [
            member.account for member in self.members if member.joins == 0.0 and member.margin_mode is MarginMode.CROSS
        ]

        def parts(at: int) -> tuple[str, str, str]:
            return listed[at].instrument, listed[at].price(prices.ticks[at]), listed[at].quantity(10)

        isolated, foreign = self._isolated_trader()
        expired = next(at for at, one in enumerate(listed) if one.expiry == 0)
        return Scene(
            journal=self.journal,
            time_ns=time_ns,
            buyer=cross[0],
            seller=cross[1],
            instrument=parts(0),
            isolated=isolated,
            foreign=parts(foreign),
            expired=parts(expired),
            halted=parts(min(state.halted, default=_INVERSE)),
        )

    def _isolated_trader(self) -> tuple[str, int]:
        """Return an isolated account that has traded ("" for none), and the other underlying's perpetual."""
        for number, member in enumerate(self.members):
            if member.margin_mode is MarginMode.ISOLATED:
                traded = np.flatnonzero(self._state.held[:, number])
                if len(traded) > 0:
                    return member.account, 1 - self.listed[int(traded[0])].underlying
        return "", 0


def generate(path: Path, *, seed: int = SEED, accounts: int = ACCOUNTS, hours: float = HOURS) -> Summary:
    """Write the demo day as NDJSON to ``path``, compressed if it ends in ``.zst``; return what it holds."""
    day = DemoDay(seed=seed, accounts=accounts, hours=hours)
    with path.open("wb") as file:
        if path.suffix == ".zst":
            with zstandard.ZstdCompressor(level=3).stream_writer(file) as compressed:
                _write(day, compressed)
        else:
            _write(day, file)
    return day.summary()


def _write(day: DemoDay, file: _Writer) -> None:
    for lines in day.lines():
        file.write(b"\n".join([*lines, b""]))
