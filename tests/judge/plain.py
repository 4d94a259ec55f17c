"""The risk path, judged plainly: frames in, decisions, deltas and roots out, one account after the other.

This is the engine's behaviour written down a second time, in dictionaries and loops: slow, and short enough to be read
as its description. It shares with the engine the ledger's records and the parameter sets, and nothing else.

At each frame, in this order: the market takes its records; payments that fall due are made; account records are
booked, each withdrawal decided at its place; then *every* account is margined anew and gets its tier and orders.

1. Cash and positions are integers. Fees, transfers and withdrawals have the fees and bridge accounts against them.
2. An account that holds what has no price keeps its tier, and says when it begins and ends to wait.
3. Open orders, which traders have at the venue, count in initial margin as if the worst of them filled, and in nothing
   else. They are what was told last of an account and instrument, until that expires.
4. A liquidation closes the same fraction of every position, rounded up to lots. One order is open a position: it is
   published when it is opened, grows or is cancelled, and shrinks silently as liquidation fills come in.
5. ``near_ties`` names every decision that floats of another implementation may take otherwise: a number within 1e-9 of
   its boundary, relative to what it was summed from.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from math import ceil, isfinite
from typing import Any, cast

from schemas.ids import BRIDGE_NUMBER, FEES_NUMBER, FIRST_ACCOUNT_NUMBER
from schemas.ledger import AccountRecord, Frame, FrameKind, LegFlag, LegKind, decode_frame
from schemas.parameters import LadderParameters, LiquidationParameters
from schemas.results import MARKET, DeltaKind, ResultKind, Tier
from tests.judge.derive import MARGINS_COLLATERAL
from tests.judge.margin import initial_with_open_orders, requirement
from tests.judge.market import Market, Payment
from tests.judge.settlement import Holdings, state_hash, state_root

TIE = 1e-9


@dataclass(frozen=True)
class Row:
    """One published result; the fields of ``schemas.results.RESULT`` that are decided."""

    frame: int
    time_ns: int
    account: int
    index: int
    kind: ResultKind
    tier_from: int = 0
    tier_to: int = 0
    instrument: int = 0
    lots: int = 0
    amount: int = 0
    equity: float = 0.0
    initial_margin: float = 0.0
    maintenance_margin: float = 0.0


@dataclass(frozen=True)
class Leg:
    """One account record, in the order of ``schemas.ledger.LEG``."""

    index: int
    sequence: int
    kind: int
    flags: int
    asset: int
    account: int
    instrument: int
    counterparty: int
    lots: int
    cash: int
    fee: int
    price_ticks: int
    time_ns: int


@dataclass
class Account:
    """What one account holds and how it stands; nothing in it is ever zero."""

    model: str = ""
    isolated: bool = False
    cash: dict[int, int] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)
    orders: dict[int, int] = field(default_factory=dict)
    open_orders: dict[int, tuple[int, int]] = field(default_factory=dict)
    tier: Tier = Tier.HEALTHY
    suspended: bool = False


@dataclass(frozen=True)
class Health:
    """An account's numbers; ``gross`` is what its equity was summed from, in size."""

    known: bool
    equity: float
    initial: float
    maintenance: float
    gross: float


@dataclass(frozen=True)
class Period:
    """What a barrier publishes."""

    barrier: Frame
    rows: list[Row]
    deltas: Holdings
    state_hash: tuple[int, int]
    root: bytes


class Judge:
    """Takes a ledger's frames, one by one, from the genesis."""

    def __init__(self) -> None:
        self.market = Market()
        self.accounts: dict[int, Account] = defaultdict(Account)
        self.holdings: Holdings = {}
        self.near_ties: list[tuple[int, int, str]] = []
        self._frame = self._time_ns = -1
        self._rows: list[Row] = []
        self._said: dict[int, list[Row]] = {}
        self._changes: Holdings = defaultdict(int)
        self._assets_known: list[bool] = []
        self._values_known: list[bool] = []

    def step(self, data: bytes) -> Period | None:
        """Take one frame; return what its barrier publishes, if it is one."""
        frame = decode_frame(data)
        self._frame, self._time_ns = frame.number, frame.time_ns
        if frame.kind is FrameKind.BARRIER:
            return self._close(frame)
        self._said = defaultdict(list)
        payments = self.market.step(frame)
        for record in frame.market:
            if isinstance(record, AccountRecord):
                self.accounts[record.number] = Account(record.margin_model, record.margin_mode == "isolated")
        self._end_open_orders()
        cancelled: list[tuple[int, int, int]] = []
        for payment in payments:
            self._pay(payment, cancelled)
        for instrument, waiting in self.market.put_aside:
            self._say(MARKET, ResultKind.FUNDING_OWED, instrument=instrument, amount=waiting)
        for leg in frame.legs.tolist():
            self._book(Leg(*leg), cancelled)
        for number in sorted(self.accounts):
            if number >= FIRST_ACCOUNT_NUMBER:
                self._decide(number, [order for order in cancelled if order[0] == number])
        self._tell_what_is_known()
        for account in sorted(self._said):
            self._rows.extend(replace(row, index=place) for place, row in enumerate(self._said[account]))
        return None

    def _say(self, account: int, kind: ResultKind, **fields: Any) -> None:
        self._said[account].append(Row(self._frame, self._time_ns, account, 0, kind, **fields))

    def _end_open_orders(self) -> None:
        """Drop what is open in instruments that have expired."""
        for account in self.accounts.values():
            for instrument in list(account.open_orders):
                expiry_ns = self.market.instruments[instrument].expiry_ns
                if expiry_ns is not None and expiry_ns <= self._time_ns:
                    del account.open_orders[instrument]

    # -- integers ----------------------------------------------------------------------------------------------------

    def _move(self, number: int, asset: int, units: int) -> None:
        cash = self.accounts[number].cash
        cash[asset] = cash.get(asset, 0) + units
        if cash[asset] == 0:
            del cash[asset]
        self._changes[number, int(DeltaKind.ASSET), asset] += units

    def _trade(self, number: int, instrument: int, lots: int) -> None:
        positions = self.accounts[number].positions
        positions[instrument] = positions.get(instrument, 0) + lots
        if positions[instrument] == 0:
            del positions[instrument]
        self._changes[number, int(DeltaKind.POSITION), instrument] += lots

    def _pay(self, payment: Payment, cancelled: list[tuple[int, int, int]]) -> None:
        """Pay every holder for each long lot; an expiry closes positions, and cancels their orders."""
        asset = self.market.instruments[payment.instrument].settlement_asset
        for number, account in sorted(self.accounts.items()):
            lots = account.positions.get(payment.instrument)
            if lots is None:
                continue
            self._move(number, asset, lots * payment.units)
            if payment.closes:
                self._trade(number, payment.instrument, -lots)
                if order := account.orders.pop(payment.instrument, 0):
                    cancelled.append((number, payment.instrument, order))
            if number >= FIRST_ACCOUNT_NUMBER:
                kind = ResultKind.EXPIRY_SETTLED if payment.closes else ResultKind.FUNDING_PAID
                self._say(number, kind, instrument=payment.instrument, lots=lots, amount=lots * payment.units)

    def _book(self, leg: Leg, cancelled: list[tuple[int, int, int]]) -> None:
        """Book one account record; add orders that lost their position to ``cancelled``."""
        if leg.kind in {LegKind.FILL, LegKind.BUST}:
            self._move(leg.account, leg.asset, leg.cash - leg.fee)
            self._move(FEES_NUMBER, leg.asset, leg.fee)
            if leg.lots:
                self._trade(leg.account, leg.instrument, leg.lots)
                self._fit_order(leg, cancelled)
        elif leg.kind == LegKind.SPOT_BASE:
            self._move(leg.account, leg.asset, leg.cash)
        elif leg.kind == LegKind.TRANSFER:
            self._move(leg.account, leg.asset, leg.cash)
            self._move(BRIDGE_NUMBER, leg.asset, -leg.cash)
        elif leg.kind == LegKind.WITHDRAWAL:
            self._decide_withdrawal(leg)
        elif leg.kind == LegKind.OPEN_ORDERS:
            told = self.accounts[leg.account].open_orders
            buys, sells = told.pop(leg.instrument, (0, 0))
            left = (leg.lots, sells) if leg.flags & LegFlag.BUYER else (buys, leg.lots)
            if any(left):
                told[leg.instrument] = left

    def _fit_order(self, leg: Leg, cancelled: list[tuple[int, int, int]]) -> None:
        """Let a liquidation fill work off the open order; cancel or shrink what no longer fits the position."""
        account = self.accounts[leg.account]
        order = account.orders.pop(leg.instrument, 0)
        held = account.positions.get(leg.instrument, 0)
        if leg.flags & LegFlag.LIQUIDATION and order * leg.lots > 0:
            left = max(abs(order) - abs(leg.lots), 0)
            order = left if order > 0 else -left
        if order and (held == 0 or order * held > 0):
            cancelled.append((leg.account, leg.instrument, order))
        elif order:
            account.orders[leg.instrument] = order if abs(order) <= abs(held) else -held

    def _decide_withdrawal(self, leg: Leg) -> None:
        """Pay out if, without the amount, initial margin is kept and nothing of the asset is owed."""
        units = -leg.cash
        account = self.accounts[leg.account]
        self._move(leg.account, leg.asset, -units)
        self._move(BRIDGE_NUMBER, leg.asset, units)
        health = self.health(account)
        self._tie(leg.account, "withdrawal", health.equity, health.initial, health)
        net, gross = self._net(account, leg.asset)
        if account.positions and 0.0 < abs(net) <= TIE * gross:
            self.near_ties.append((self._frame, leg.account, "withdrawal, net of the asset"))
        covered = health.known and health.equity >= health.initial
        priced = all(self.market.worth[ordered].known for ordered in account.open_orders)
        accepted = covered and account.tier < Tier.WARNING and net >= 0.0 and priced
        if not accepted:
            self._move(leg.account, leg.asset, units)
            self._move(BRIDGE_NUMBER, leg.asset, -units)
        self._say(
            leg.account,
            ResultKind.WITHDRAWAL_ACCEPTED if accepted else ResultKind.WITHDRAWAL_REFUSED,
            instrument=leg.asset,
            lots=leg.sequence,
            amount=units,
            equity=health.equity if health.known else 0.0,
            initial_margin=health.initial if health.known else 0.0,
        )

    # -- decisions ---------------------------------------------------------------------------------------------------

    def health(self, account: Account) -> Health:
        """Return an account's equity and requirements at this frame."""
        market = self.market
        settles = {market.instruments[held].settlement_asset for held in account.positions}
        known = all(market.worth[held].known for held in account.positions)
        equity = gross = 0.0
        for asset in range(len(market.assets)):
            price, price_known = market.asset_price(asset)
            if asset in account.cash and not price_known:
                known = False
            net, size = self._net(account, asset)
            gross += size * price
            if net < 0.0:
                equity += net * price
            elif not account.isolated or not account.positions or asset in settles:
                haircut = 0.0 if account.model in MARGINS_COLLATERAL else market.haircut(asset)
                equity += net * price * (1.0 - haircut)
        if not known:
            return Health(known, equity, 0.0, 0.0, gross)
        held = (account.model, account.positions, account.cash)
        narrow = account.isolated and bool(account.positions)
        initial, maintenance = requirement(market, *held, narrow=narrow)
        if account.open_orders:
            initial = initial_with_open_orders(market, *held, account.open_orders, narrow=narrow)
        # What its model does not cover has no finite requirement.
        return Health(isfinite(initial), equity, initial, maintenance, gross)

    def _net(self, account: Account, asset: int) -> tuple[float, float]:
        """Return the balance of an asset with the positions that settle in it, and the sum of the parts' sizes."""
        net = account.cash.get(asset, 0) / 10 ** self.market.assets[asset].decimals
        gross = abs(net)
        for held, lots in sorted(account.positions.items()):
            if self.market.instruments[held].settlement_asset == asset:
                value = self.market.worth[held].value * lots
                net += value
                gross += abs(value)
        return net, gross

    def _decide(self, number: int, cancelled: list[tuple[int, int, int]]) -> None:
        account = self.accounts[number]
        health = self.health(account)
        if health.known == account.suspended:
            account.suspended = not health.known
            kind = ResultKind.DECISION_SUSPENDED if account.suspended else ResultKind.DECISION_RESUMED
            self._say(number, kind, tier_from=account.tier, tier_to=account.tier)
        tier = self._tier(number, health) if health.known else account.tier
        if tier != account.tier:
            self._say(
                number, ResultKind.TIER_CHANGED, tier_from=account.tier, tier_to=tier, equity=health.equity,
                initial_margin=health.initial, maintenance_margin=health.maintenance,
            )  # fmt: skip
            account.tier = tier
        for _, instrument, order in cancelled:
            self._say(number, ResultKind.ORDER_CANCELLED, instrument=instrument, amount=order)
        if health.known:
            self._order(number, health)

    def _tier(self, number: int, health: Health) -> Tier:
        ladder = cast(LadderParameters, self.market.parameters["ladder"])
        tier = Tier.HEALTHY
        for worse, boundary in (
            (Tier.WATCH, ladder.watch_multiple * health.initial),
            (Tier.WARNING, health.initial),
            (Tier.LIQUIDATING, health.maintenance),
            (Tier.TAKEOVER, ladder.takeover_multiple * health.maintenance),
            (Tier.BANKRUPT, 0.0),
        ):
            self._tie(number, worse.name, health.equity, boundary, health)
            if health.equity < boundary:
                tier = worse
        return tier

    def _tie(self, number: int, what: str, equity: float, boundary: float, health: Health) -> None:
        # Without positions both sides are products of the same numbers, and have the same sign everywhere; open orders
        # alone still sum up to an initial margin.
        account = self.accounts[number]
        summed = account.positions or (account.open_orders and boundary > 0.0)
        if summed and abs(equity - boundary) <= TIE * max(health.gross, health.initial):
            self.near_ties.append((self._frame, number, what))

    def _order(self, number: int, health: Health) -> None:
        """Bring an account's orders up to its tier."""
        account = self.accounts[number]
        rules = cast(LiquidationParameters, self.market.parameters["liquidation"])
        if account.tier < Tier.LIQUIDATING:
            for instrument, order in sorted(account.orders.items()):
                self._say(number, ResultKind.ORDER_CANCELLED, instrument=instrument, amount=order)
            account.orders.clear()
            return
        fraction = 1.0
        if account.tier == Tier.LIQUIDATING:
            fraction = min(1.0, max(0.0, 1.0 - health.equity / (health.maintenance * (1.0 + rules.buffer))))
        for instrument, held in sorted(account.positions.items()):
            size, before = abs(held), account.orders.get(instrument, 0)
            wanted = min(size, ceil(fraction * size))
            if 0.0 < fraction < 1.0 and abs(fraction * size - round(fraction * size)) <= TIE * size:
                self.near_ties.append((self._frame, number, "lots of an order"))
            notional = size * self.market.worth[instrument].notional
            if abs(notional - rules.close_all_notional) <= TIE * notional:
                self.near_ties.append((self._frame, number, "whole or in part"))
            if notional < rules.close_all_notional:
                wanted = size
            if wanted > abs(before):
                order = -wanted if held > 0 else wanted
                kind = ResultKind.ORDER_GROWN if before else ResultKind.ORDER_OPENED
                self._say(number, kind, instrument=instrument, lots=order, amount=before)
                account.orders[instrument] = order

    def _tell_what_is_known(self) -> None:
        """Say which prices were lost and found since the frame before; a new one that has no price is not lost."""
        assets = [self.market.asset_price(asset)[1] for asset in range(len(self.market.assets))]
        values = [worth.known for worth in self.market.worth]
        for what, before, now in ((0, self._assets_known, assets), (1, self._values_known, values)):
            was = before + [False] * (len(now) - len(before))
            for kind, wanted in ((ResultKind.FEED_STALE, False), (ResultKind.FEED_FRESH, True)):
                for place, (old, new) in enumerate(zip(was, now, strict=True)):
                    if new is wanted and old is not wanted:
                        self._say(MARKET, kind, instrument=place, amount=what)
        self._assets_known, self._values_known = assets, values

    # -- barriers ----------------------------------------------------------------------------------------------------

    def _close(self, barrier: Frame) -> Period:
        deltas = {key: amount for key, amount in sorted(self._changes.items()) if amount}
        for key, amount in deltas.items():
            self.holdings[key] = self.holdings.get(key, 0) + amount
            if self.holdings[key] == 0:
                del self.holdings[key]
        totals = [0, 0]
        for number, account in self.accounts.items():
            if number >= FIRST_ACCOUNT_NUMBER:
                held = [(it, lots, account.orders.get(it, 0)) for it, lots in account.positions.items()]
                halves = state_hash(
                    number, tier=account.tier, suspended=account.suspended, cash=account.cash, held=held,
                    open_orders=account.open_orders,
                )  # fmt: skip
                for half, value in enumerate(halves):
                    totals[half] = (totals[half] + value) % 2**64
        rows, self._rows, self._changes = self._rows, [], defaultdict(int)
        return Period(barrier, rows, deltas, (totals[0], totals[1]), state_root(self.holdings) if deltas else b"")
