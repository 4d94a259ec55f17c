"""The demo's crowd: accounts that deposit, trade, are called and liquidated, and ask for their money back.

It keeps books of its own, roughly: to size trades, to let losers trade less, and to know whom to liquidate. The
liquidator is open-loop. It reads nothing from the engine, so its fills and the engine's orders agree only roughly.

1. No account trades before its first deposit is confirmed, nor in what is halted, expired or settled.
2. Trades move an account towards its target; its appetite falls with its losses and does not come back.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from infra.demo import market as plot
from infra.demo.journal import Journal
from infra.demo.market import within
from infra.demo.population import PORTFOLIO, Member, Temper
from infra.demo.portable import Float64Array, generator
from infra.demo.quotes import Prices, Quotes
from infra.demo.venue import ASSET_INDEX, ASSETS, MINUTE_NS, SECOND_NS, START_NS, UNDERLYINGS
from schemas.events import AccountOpened, Collateral, Fill, FillBusted, WithdrawalRequested
from schemas.instruments import InstrumentKind, MarginMode
from schemas.money import from_units

HOUSE: Final = -1
_CHAINS: Final = ("ethereum", "arbitrum", "base")
_FILLS_PER_ACCOUNT_AND_MINUTE: Final = 0.0125
_HOUSE_SHARE: Final = 0.4
_TRANSFERS_PER_ACCOUNT_AND_MINUTE: Final = 0.00015
_TAKER_FEE, _MAKER_REBATE, _LIQUIDATION_FEE = 0.0005, 0.0001, 0.0025
_OPTION_FEE, _OPTION_FEE_CAP = 0.0003, 0.125
# What the model counts of each asset, and takes for its maintenance rates. Portfolio margin of a naked position is
# some three times the rate.
_COUNTED: Final = (1.0, 0.95, 0.9, 0.85)
_RATES: Final = (0.04, 0.05)
_SHORT_OPTION_RATE: Final = 0.075
_PORTFOLIO_MULTIPLE: Final = 3.0
_CALLED_BELOW: Final = 1.4
_CALL_INTERVAL_NS: Final = 4 * MINUTE_NS


@dataclass(frozen=True, slots=True)
class _Trade:
    """One trade in the books, kept so that it can be undone."""

    fill_id: str
    buyer: int
    seller: int
    instrument: int
    lots: int
    price: float


@dataclass(slots=True)
class _Books:
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


class Crowd:
    """The members of the venue and what they do; every method is called in the order of time."""

    def __init__(self, quotes: Quotes, journal: Journal, members: list[Member], seed: int) -> None:
        self.quotes, self.path, self.journal, self.members = quotes, quotes.path, journal, members
        self.liquidation_fills = 0
        self._random = generator(seed, 30)
        self._wanted = [
            (number, instrument, lots) for number, member in enumerate(members) for instrument, lots in member.targets
        ]
        self._to_join = sorted(((self._opens(number), number) for number in range(len(members))), reverse=True)
        self._makers = [number for number, member in enumerate(members) if member.temper is Temper.MAKER]
        self._portfolio = np.array([member.margin_model == PORTFOLIO for member in members])
        self._books = _Books(
            held=np.zeros((len(quotes.listed), len(members))),
            balance=np.zeros((len(ASSETS), len(members))),
            opening_equity=np.zeros(len(members)),
            appetite=np.ones(len(members)),
            ready_ns=[START_NS + 2 * self.path.duration_ns] * len(members),
            called_ns=[0] * len(members),
        )
        self._to_bust: _Trade | None = None
        self._fills = self._transfers = self._withdrawals = 0

    # What the day does to them.

    def halt(self, instrument: int, *, halted: bool) -> None:
        """Stop trading an instrument, or go on."""
        (self._books.halted.add if halted else self._books.halted.discard)(instrument)

    def settle(self, instrument: int, payout: float) -> None:
        """Close every position of an instrument at ``payout`` USD a contract."""
        books = self._books
        books.balance[0] += books.held[instrument] * (payout * self.quotes.quantity[instrument])
        books.held[instrument] = 0.0
        books.closed.add(instrument)

    def bust(self, time_ns: int) -> None:
        """Undo the fill that was marked for it."""
        trade = self._to_bust
        if trade is not None:
            self.journal.add(time_ns, "venue", FillBusted, fill_id=trade.fill_id)
            self._move(trade.buyer, trade.instrument, -trade.lots, trade.price)
            self._move(trade.seller, trade.instrument, trade.lots, trade.price)

    def isolated_trader(self) -> tuple[str, int]:
        """Return an isolated account that has traded ("" for none), and the other underlying's perpetual."""
        for number, member in enumerate(self.members):
            if member.margin_mode is MarginMode.ISOLATED:
                traded = np.flatnonzero(self._books.held[:, number])
                if len(traded) > 0:
                    return member.account, 1 - self.quotes.listed[int(traded[0])].underlying
        return "", 0

    def reorganise(self, begins: int) -> None:
        """Let a chain take back a deposit that was confirmed, and one that was only announced."""
        first, second = [number for number, member in enumerate(self.members) if member.joins == 0.0][:2]
        asset, units = self.members[first].asset, self.members[first].units
        transfer = self._deposit(first, asset, units, begins + 10 * SECOND_NS, announced=False)
        self._collateral(first, asset, units, begins + 40 * SECOND_NS, transfer, "reverted")
        self._book(first, asset, -units)
        asset, units = self.members[second].asset, self.members[second].units
        for seconds, status in ((20, "pending"), (50, "reverted")):
            when = begins + seconds * SECOND_NS
            self._collateral(second, asset, units, when, "deposit-never-confirmed", status)

    # What they do.

    def may_trade(self, number: int, instrument: int, time_ns: int) -> bool:
        """Return whether an account has collateral by then, and the instrument has not expired."""
        return time_ns >= self._books.ready_ns[number] and instrument not in self._books.closed

    def join(self, begins: int) -> None:
        """Open the accounts of this minute and send their first deposits."""
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
            delay = int((0.0005 + 0.008 * self._random.random()) * self.path.duration_ns)
            self._deposit(number, member.asset, member.units, opens + delay, announced=self._random.random() < 0.2)
            price = self.quotes.asset_price(0, ASSET_INDEX[member.asset])
            decimals = ASSETS[ASSET_INDEX[member.asset]][1]
            self._books.opening_equity[number] = member.units / 10.0**decimals * price
            trading = START_NS + int(plot.TRADING_STARTS * self.path.duration_ns)
            self._books.ready_ns[number] = max(opens + delay + SECOND_NS, trading)

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
        self._books.balance[index, number] += units / 10.0 ** ASSETS[index][1]

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

    def trade(self, minute: int, prices: Prices) -> None:
        """Let accounts move towards what they want, against makers and the house."""
        begins = START_NS + minute * MINUTE_NS
        passed = self.path.fraction(begins)
        stress = float(self.path.stress[int(self.path.first_of_minute[minute])])
        if passed < plot.TRADING_STARTS or not self._wanted:
            return
        rate = _FILLS_PER_ACCOUNT_AND_MINUTE * len(self.members) * (2.0 if passed < plot.OPENING_ENDS else 1.0)
        if within(passed, (plot.CRASH_STARTS, plot.CRASH_ENDS)):
            rate *= 1.5
        count = int(rate + self._random.random())
        times = np.sort(self._random.integers(begins, begins + MINUTE_NS, count)).tolist()
        picks = self._random.integers(0, len(self._wanted), count).tolist()
        draws = self._random.random((count, 5)).tolist()
        books = self._books
        for time_ns, pick, (aim, part, side, maker, noise) in zip(times, picks, draws, strict=True):
            number, at, target = self._wanted[pick]
            if not self.may_trade(number, at, time_ns) or at in books.halted:
                continue
            held = int(books.held[at, number])
            wish = int(target * (0.8 + 0.3 * aim) * float(books.appetite[number])) - held
            # In stress few add to what they have.
            if stress > 0.0 and wish * target > 0 and aim < 0.8:
                continue
            lots = int(wish * (0.6 + 0.4 * part))
            if abs(lots) * 50 < abs(target):
                lots = wish if abs(wish) * 50 >= abs(target) else 0
            if lots == 0:
                continue
            other = HOUSE if side < _HOUSE_SHARE else self._makers[int(maker * len(self._makers))]
            self._fill(time_ns, number, other, at, lots, self._ticks_near(time_ns, minute, at, prices, noise))
        if minute % 2 == 0:
            self._lay_off(begins + MINUTE_NS - SECOND_NS, minute, prices)

    def _ticks_near(self, time_ns: int, minute: int, at: int, prices: Prices, noise: float) -> int:
        """Return a trade price around the mark, in ticks >= 1."""
        first, last = int(self.path.first_of_minute[minute]), int(self.path.first_of_minute[minute + 1])
        if at < len(self.quotes.linears):
            instants = self.path.time_ns[first:last]
            instant = first + int(np.searchsorted(instants, time_ns, side="right")) - 1
            mark = self.quotes.linear_price(instant, at) / self.quotes.tick[at]
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
        liquidation: str | None = None,
    ) -> None:
        """Write one fill of ``lots`` (signed, of the taker) against a maker account or the house."""
        one = self.quotes.listed[at]
        price = ticks * self.quotes.tick[at]
        taker_fee, maker_fee = self._fees(at, abs(lots), price, liquidation=liquidation is not None)
        if maker == HOUSE:
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
        if self._to_bust is None and at == 0 and self.path.fraction(time_ns) > plot.BUSTED_FILL:
            self._to_bust = _Trade(fill_id, buyer, seller, at, abs(lots), price)

    def _fees(self, at: int, lots: int, price: float, *, liquidation: bool) -> tuple[str, str]:
        """Return (taker's, maker's) fee in the settlement asset; the maker's is a rebate."""
        one = self.quotes.listed[at]
        quantity = lots * self.quotes.quantity[at]
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
        return "house" if number == HOUSE else self.members[number].account

    def _move(self, number: int, at: int, lots: int, price: float) -> None:
        """Book one side of a trade; the house's is not kept."""
        if number == HOUSE:
            return
        one = self.quotes.listed[at]
        self._books.held[at, number] += lots
        quantity = lots * self.quotes.quantity[at]
        if one.inverse:
            self._books.balance[ASSET_INDEX[UNDERLYINGS[one.underlying]], number] += quantity / price
        else:
            self._books.balance[0, number] -= quantity * price

    def _lay_off(self, time_ns: int, minute: int, prices: Prices) -> None:
        """Let one maker sell half of its largest position to the house."""
        number = self._makers[(minute // 2) % len(self._makers)]
        worth = np.abs(self._books.held[:, number] * prices.usd_per_lot)
        at = int(np.argmax(worth))
        lots = -int(self._books.held[at, number]) // 2
        if lots == 0 or at in self._books.halted or at in self._books.closed:
            return
        self._fill(time_ns, number, HOUSE, at, lots, self._ticks_near(time_ns, minute, at, prices, 0.5))

    # The model's own, rough, watch over its accounts.

    def watch(self, minute: int, prices: Prices) -> None:
        """Estimate accounts; in stress, liquidate and call the weak."""
        instant = int(self.path.first_of_minute[minute])
        begins = START_NS + minute * MINUTE_NS
        stressed = float(self.path.stress[instant]) > 0.0
        if minute % (1 if stressed and self.path.fraction(begins) < plot.SHOULDER_ENDS else 10) != 0:
            return
        equity, required = self._estimates(instant, prices)
        books = self._books
        known = books.opening_equity > 0.0
        ratio = np.divide(equity, books.opening_equity, out=np.ones_like(equity), where=known)
        # Appetite falls with losses at once and never comes back above what losses left.
        books.appetite = np.minimum(books.appetite, np.clip(ratio, 0.0, 1.0))
        if not stressed:
            return
        for number in np.flatnonzero(equity < _CALLED_BELOW * required).tolist():
            if books.ready_ns[number] > begins:
                continue
            if equity[number] < required[number]:
                self._liquidate(number, minute, prices)
            elif begins - books.called_ns[number] >= _CALL_INTERVAL_NS and self._random.random() < 0.15:
                books.called_ns[number] = begins
                when = begins + int((2.0 + 8.0 * self._random.random()) * MINUTE_NS)
                self._deposit(number, self.members[number].asset, self._share(number, 0.33), when, announced=True)

    def _estimates(self, instant: int, prices: Prices) -> tuple[Float64Array, Float64Array]:
        """Return (equity, maintenance) of every account in USD, each (N,)."""
        books = self._books
        equity = np.zeros(len(self.members))
        for asset, share in enumerate(_COUNTED):
            balance = books.balance[asset]
            equity += np.where(balance > 0.0, balance * share, balance) * self.quotes.asset_price(instant, asset)
        required = np.zeros(len(self.members))
        spot = self.path.index[instant].tolist()
        for at, one in enumerate(self.quotes.listed):
            if at in books.closed:
                continue
            held = books.held[at]
            equity += held * prices.usd_per_lot[at]
            size = self.quotes.quantity[at] * (1.0 if one.inverse else spot[one.underlying])
            if one.kind is InstrumentKind.OPTION:
                required += np.maximum(-held, 0.0) * (_SHORT_OPTION_RATE * size)
            else:
                required += np.abs(held) * (_RATES[one.underlying] * size)
        return equity, np.where(self._portfolio, _PORTFOLIO_MULTIPLE * required, required)

    def _liquidate(self, number: int, minute: int, prices: Prices) -> None:
        """Close half of every position against the house, a little off the mark."""
        begins = START_NS + minute * MINUTE_NS
        books = self._books
        books.appetite[number] *= 0.4
        time_ns = begins + int(self._random.integers(SECOND_NS, 50 * SECOND_NS))
        for at in np.flatnonzero(books.held[:, number]).tolist():
            if at in books.closed or at in books.halted:
                continue
            held = int(books.held[at, number])
            lots = -((abs(held) + 1) // 2) if held > 0 else (abs(held) + 1) // 2
            ticks = self._ticks_near(time_ns, minute, at, prices, 0.0 if held > 0 else 1.0)
            self.liquidation_fills += 1
            self._fill(time_ns, number, HOUSE, at, lots, ticks, f"model-{self.liquidation_fills:06d}")

    # Collateral on the way.

    def transfer(self, minute: int) -> None:
        """Let some deposit more, and some ask for money back."""
        begins = START_NS + minute * MINUTE_NS
        if self.path.fraction(begins) < plot.OPENING_ENDS / 2.0:
            return
        for move in (self._deposit_more, self._withdraw):
            for _ in range(int(len(self.members) * _TRANSFERS_PER_ACCOUNT_AND_MINUTE + self._random.random())):
                number = int(self._random.integers(len(self.members)))
                when = begins + int(self._random.integers(MINUTE_NS))
                if self._books.ready_ns[number] <= begins:
                    move(number, when)

    def _deposit_more(self, number: int, when: int) -> None:
        """Deposit a little; now and then the chain reorganises, and takes it back."""
        share, fate, announced = self._random.random(3).tolist()
        asset, units = self.members[number].asset, self._share(number, 0.2 * share)
        transfer = self._deposit(number, asset, units, when + 4 * MINUTE_NS, announced=announced < 0.5)
        if fate < 0.03:
            self._collateral(number, asset, units, when + 9 * MINUTE_NS, transfer, "reverted")
            self._book(number, asset, -units)

    def _withdraw(self, number: int, when: int) -> None:
        """Ask for a little, or for far more than there is; makers do not."""
        share, greed = self._random.random(2).tolist()
        member = self.members[number]
        if member.temper is Temper.MAKER:
            return
        greedy = greed < 0.2
        units = self._share(number, 2.5 if greedy else 0.12 * share)
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

    def _share(self, number: int, share: float) -> int:
        """Return about a share of an account's first deposit, in whole thousandths of its asset, at least one."""
        member = self.members[number]
        step: int = 10 ** (ASSETS[ASSET_INDEX[member.asset]][1] - 3)
        steps = max(int(member.units * share) // step, 1)
        return steps * step
