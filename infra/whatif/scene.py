"""A scene: one account in one market, which trades, money and moves can change without touching either.

1. Money and positions are the integers that a ledger would hold: a trade is put into numbers by intake's registry and
   refused as intake would refuse it.
2. Every number is ``flows.risk.evaluation.evaluate`` of a book: a hypothetical account is another row of it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Final

import numpy as np

from flows.intake.registry import Registry, Tradable
from flows.margin.model import MarginModel
from flows.market.instant import Instant
from flows.market.listings import Account, Instrument
from flows.risk.book import Book
from flows.risk.evaluation import Evaluation, evaluate
from infra.whatif.market import MovableMarket, Moves
from schemas.events import Fill, OrdersOpen, ParametersChanged
from schemas.failures import FailureReason, Refused
from schemas.ids import BRIDGE_NUMBER, FIRST_ACCOUNT_NUMBER, HOUSE, HOUSE_NUMBER
from schemas.instruments import InstrumentKind, MarginMode, Payoff
from schemas.ledger import NO_INSTRUMENT, LegFlag, LegKind, ParametersRecord, empty_legs
from schemas.money import between_customers, decimal_parts, fraction, from_units, in_range, to_units

_SOURCE: Final = "what-if"
_TRADE: Final = re.compile(r"(?P<instrument>\S+)\s+(?P<quantity>[+-]?[0-9.]+)(?:\s*@\s*(?P<price>\S+))?")
_DEPOSIT: Final = re.compile(r"(?P<asset>\S+)\s+(?P<amount>[+-]?[0-9.]+)")


class WhatIfError(Exception):
    """What is asked cannot be answered; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade that might be done: ``quantity`` is signed; without a ``price`` it is done at the mark, to the tick."""

    instrument: str
    quantity: str
    price: str | None = None
    fee: str = "0"

    @classmethod
    def of(cls, text: str) -> "Trade":
        """Return the trade of a text such as ``BTC-PERP +0.5 @ 60000``."""
        found = _TRADE.fullmatch(text.strip())
        if found is None:
            raise WhatIfError(f'trade {text!r}: write it like "BTC-PERP +0.5 @ 60000", or without the price')
        return cls(found["instrument"], found["quantity"].removeprefix("+"), found["price"])


@dataclass(frozen=True, slots=True)
class Deposit:
    """Money that might come, or go where ``amount`` is negative."""

    asset: str
    amount: str

    @classmethod
    def of(cls, text: str) -> "Deposit":
        """Return the deposit of a text such as ``USDC 1000``."""
        found = _DEPOSIT.fullmatch(text.strip())
        if found is None:
            raise WhatIfError(f'deposit {text!r}: write it like "USDC 1000", with a minus for a withdrawal')
        return cls(found["asset"], found["amount"].removeprefix("+"))


@dataclass(frozen=True, slots=True)
class Holdings:
    """What an account holds: ``units`` by asset, and ``lots`` by instrument index, rising, never 0.

    ``open_orders`` are what its orders have left, in lots: (instrument index, buys, sells), rising, never both 0.
    """

    units: tuple[int, ...]
    lots: tuple[tuple[int, int], ...] = ()
    open_orders: tuple[tuple[int, int, int], ...] = ()

    def with_cash(self, asset: int, units: int) -> "Holdings":
        """Return the holdings with so many more units of an asset."""
        after = in_range(self.units[asset] + units)
        return replace(self, units=(*self.units[:asset], after, *self.units[asset + 1 :]))

    def with_lots(self, instrument: int, lots: int) -> "Holdings":
        """Return the holdings with so many more lots of an instrument."""
        held = dict(self.lots)
        held[instrument] = in_range(held.get(instrument, 0) + lots)
        return replace(self, lots=tuple(sorted((index, count) for index, count in held.items() if count)))

    def with_open_orders(self, instrument: int, buys: int, sells: int) -> "Holdings":
        """Return the holdings with other open orders in an instrument; both 0: none."""
        told = {left[0]: left for left in self.open_orders}
        told.pop(instrument, None)
        if buys or sells:
            told[instrument] = (instrument, buys, sells)
        return replace(self, open_orders=tuple(left for _, left in sorted(told.items())))


@dataclass(frozen=True, slots=True)
class Numbers:
    """The four numbers that decide an account, in the numeraire."""

    equity: float
    initial_margin: float
    maintenance_margin: float

    @property
    def health(self) -> float:
        """Equity beyond maintenance margin; below 0 the account is liquidated."""
        return self.equity - self.maintenance_margin


@dataclass(frozen=True, slots=True)
class Scene:
    """One account in one market.

    Attributes
    ----------
    registry : intake's, with everything that is listed; trades are refused by it.
    moves : how the market stands beside the one that was given.
    frame : the ledger's frame that the scene was taken behind; None without a ledger.
    """

    market: MovableMarket
    registry: Registry
    account: Account
    holdings: Holdings
    moves: Moves = field(default_factory=dict)
    frame: int | None = None

    @property
    def model(self) -> MarginModel:
        """The margin model that the account is judged by."""
        return self.market.model

    def instant(self, moves: Moves | None = None) -> Instant:
        """Return the market of this scene, with further moves on top of its own."""
        return self.market.instant(_joined(self.moves, moves or {}))

    def evaluate(self, instant: Instant, accounts: Sequence[Holdings]) -> Evaluation:
        """Return the numbers of accounts like this one, one for each of some holdings."""
        book, rows = self.book(accounts)
        return evaluate(book, instant, rows, {self.model.name: self.model})

    def book(self, accounts: Sequence[Holdings]) -> tuple[Book, "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
        """Return a book of accounts like this one, and their rows."""
        book = Book((0,), shard_count=1, models=(self.model.name,))
        for _ in self.market.listings.assets:
            book.add_asset()
        for place in range(len(accounts)):
            opened = replace(self.account, number=FIRST_ACCOUNT_NUMBER + place, margin_model=self.model.name)
            book.add_account(opened)
        instruments = self.market.listings.instruments
        entries = (
            [
                (place, int(LegKind.TRANSFER), 0, asset, NO_INSTRUMENT, int(BRIDGE_NUMBER), 0, units)
                for place, held in enumerate(accounts)
                for asset, units in enumerate(held.units)
                if units
            ]
            + [
                (place, int(LegKind.FILL), 0, instruments[index].settlement_asset, index, int(HOUSE_NUMBER), lots, 0)
                for place, held in enumerate(accounts)
                for index, lots in held.lots
            ]
            + [
                (place, int(LegKind.OPEN_ORDERS), flags, instruments[index].settlement_asset, index, 0, lots, 0)
                for place, held in enumerate(accounts)
                for index, buys, sells in held.open_orders
                for flags, lots in ((int(LegFlag.BUYER), buys), (0, sells))
            ]
        )
        legs = empty_legs(len(entries))
        for leg, (place, kind, flags, asset, instrument, counterparty, lots, cash) in enumerate(entries):
            legs[leg]["account"] = FIRST_ACCOUNT_NUMBER + place
            legs[leg]["kind"] = kind
            legs[leg]["flags"] = flags
            legs[leg]["asset"] = asset
            legs[leg]["instrument"] = instrument
            legs[leg]["counterparty"] = counterparty
            legs[leg]["lots"] = lots
            legs[leg]["cash"] = cash
        book.apply(legs, book.rows_of(legs))
        return book, np.array([book.row(FIRST_ACCOUNT_NUMBER + place) for place in range(len(accounts))], np.int64)

    def changed(self, trades: Sequence[Trade], deposits: Sequence[Deposit], moves: Moves | None = None) -> "Scene":
        """Return the scene after trades and deposits, in this order, in a market moved so.

        Raises
        ------
        WhatIfError : as ``with_trade`` and ``with_deposit``; a move of a name that nothing here has.
        """
        scene = self
        for trade in trades:
            scene = scene.with_trade(trade)
        for deposit in deposits:
            scene = scene.with_deposit(deposit)
        for name in moves or {}:
            if self.market.price_of(name) <= 0.0:
                raise WhatIfError(f"move of {name}: neither an underlying nor an asset with a price has this name")
        return replace(scene, moves=_joined(scene.moves, moves or {}))

    def with_parameters(self, sets: Mapping[str, Mapping[str, Any]]) -> "Scene":
        """Return the scene with parameter sets replaced, each as a whole.

        Raises
        ------
        WhatIfError : a set that does not exist or does not validate.
        """
        records = []
        for name, values in sets.items():
            event = ParametersChanged(
                event_id=_SOURCE, event_time_ns=self.market.time_ns, source=_SOURCE, source_sequence=0, name=name,
                parameters=dict(values),
            )  # fmt: skip
            try:
                record, _ = self.registry.market(event)
            except Refused as refused:
                raise WhatIfError(f"parameters: {refused.message}") from refused
            assert isinstance(record, ParametersRecord), "that is what parameters.changed becomes"
            records.append(record)
        return replace(self, market=self.market.with_parameters(records)) if records else self

    def with_deposit(self, deposit: Deposit) -> "Scene":
        """Return the scene with money put in, or taken out.

        Raises
        ------
        WhatIfError : an asset that is not listed, or an amount that is none.
        """
        try:
            return self.with_balance(deposit.asset, deposit.amount)
        except Refused as refused:
            raise WhatIfError(f"deposit of {deposit.asset}: {refused.message}") from refused

    def with_balance(self, name: str, amount: str) -> "Scene":
        """Return the scene with so much more of an asset.

        Raises
        ------
        Refused : an asset that is not listed, or an amount that is none.
        """
        for asset in self.market.listings.assets:
            if asset.asset == name:
                units = to_units(amount, asset.decimals)
                return replace(self, holdings=self.holdings.with_cash(asset.index, units))
        known = ", ".join(asset.asset for asset in self.market.listings.assets)
        raise Refused(FailureReason.UNKNOWN_ASSET, f"no such asset; there are {known}")

    def with_trade(self, trade: Trade) -> "Scene":
        """Return the scene after a trade with the house: lots, cash and fee as intake would book them.

        Raises
        ------
        WhatIfError : whatever intake would refuse: name, tick, lot, an instrument that does not trade.
        """
        priced = trade if trade.price is not None else replace(trade, price=self._mark_to_tick(trade.instrument))
        try:
            return self._booked(priced)
        except Refused as refused:
            raise WhatIfError(f"trade of {trade.instrument}: {refused.message}") from refused

    def with_open_orders(self, instrument: str, buys: str, sells: str) -> "Scene":
        """Return the scene with other open orders in an instrument.

        Raises
        ------
        Refused : whatever intake would refuse: name, lot, an instrument that does not trade.
        """
        event = OrdersOpen(
            event_id=_SOURCE, event_time_ns=self.market.time_ns, source=_SOURCE, source_sequence=0,
            account=self.account.account, instrument=instrument, buys=buys, sells=sells,
        )  # fmt: skip
        left = self.registry.open_orders(event, self.market.time_ns)
        self._check_isolated(left.tradable)
        holdings = self.holdings.with_open_orders(left.tradable.record.index, left.buys, left.sells)
        return replace(self, holdings=holdings)

    def with_position(self, instrument: str, quantity: str, entry_price: str | None) -> "Scene":
        """Return the scene with a position that was opened at some average price; None: its cost is in the balance.

        An average price need not be a whole number of ticks.

        Raises
        ------
        Refused : an unknown name, an amount that is none, or no whole lots.
        """
        index, lots = self._lots(instrument, quantity)
        held = self.instrument(index)
        holdings = self.holdings.with_lots(index, lots)
        if entry_price is not None:
            price, size = fraction(entry_price), lots * held.lot_quantity
            inverse = held.payoff is Payoff.INVERSE and held.kind is not InstrumentKind.OPTION
            if price < 0 or (inverse and price == 0):
                raise Refused(FailureReason.BAD_VALUE, f"entry_price {entry_price} is not positive")
            unit = 10 ** self.market.listings.assets[held.settlement_asset].decimals
            paid = between_customers((-size / price if inverse else size * price) * unit)
            holdings = holdings.with_cash(held.settlement_asset, in_range(-paid))
        return replace(self, holdings=holdings)

    def _lots(self, instrument: str, quantity: str) -> tuple[int, int]:
        """Return ``(instrument index, signed lots)`` of a signed quantity."""
        size = quantity.removeprefix("-")
        known = [it for it in self.market.listings.instruments if it.instrument == instrument]
        # An unknown name is intake's to refuse; a known one stands at its smallest price, for its lots alone.
        price = self.registry.tradable(known[0].index).record.tick_size if known else "1"
        tradable, _, _, lots, *_ = self.registry.trade(self._fill(Trade(instrument, size, price)))
        return tradable.record.index, -lots if quantity.startswith("-") else lots

    def _booked(self, trade: Trade) -> "Scene":
        fill = self._fill(trade)
        booked = self.registry.trade(fill)
        self.registry.admit(fill, booked)
        tradable, _, _, lots, cash, buyer_fee, seller_fee, _ = booked
        self._check_isolated(tradable)
        sign = -1 if trade.quantity.startswith("-") else 1
        holdings = self.holdings.with_cash(tradable.record.settlement_asset, sign * cash - buyer_fee - seller_fee)
        if tradable.kind is InstrumentKind.SPOT:
            units = sign * lots * tradable.base_units_per_lot
            return replace(self, holdings=holdings.with_cash(tradable.record.base_asset, units))
        return replace(self, holdings=holdings.with_lots(tradable.record.index, sign * lots))

    def _fill(self, trade: Trade) -> Fill:
        """Return a priced trade with the house as a venue would send it."""
        assert trade.price is not None, "a trade is booked at its price"
        sells = trade.quantity.startswith("-")
        name = self.account.account
        return Fill(
            event_id=_SOURCE, event_time_ns=self.market.time_ns, source=_SOURCE, source_sequence=0, fill_id=_SOURCE,
            instrument=trade.instrument, price=trade.price, quantity=trade.quantity.removeprefix("-"),
            buyer=HOUSE if sells else name, seller=name if sells else HOUSE, buyer_fee="0" if sells else trade.fee,
            seller_fee=trade.fee if sells else "0",
        )  # fmt: skip

    def instrument(self, index: int) -> Instrument:
        """Return a listed instrument."""
        return self.market.listings.instruments[index]

    def _check_isolated(self, tradable: Tradable) -> None:
        if self.account.margin_mode is not MarginMode.ISOLATED:
            return
        for index, _ in self.holdings.lots:
            if self.instrument(index).underlying != tradable.record.underlying:
                raise Refused(
                    FailureReason.ISOLATED_ACCOUNT,
                    f"{self.account.account} is isolated and trades {self.instrument(index).underlying}, "
                    f"not {tradable.record.underlying}",
                )

    def _mark_to_tick(self, name: str) -> str:
        """Return the present mark of an instrument, at the nearest tick, as a price."""
        for instrument in self.market.listings.instruments:
            if instrument.instrument == name:
                instant = self.instant()
                if not instant.value_decidable[instrument.index]:
                    raise WhatIfError(f"trade of {name}: it has no mark now, write its price")
                tick_size = self.registry.tradable(instrument.index).record.tick_size
                units, decimals = decimal_parts(tick_size)
                ticks = round(Fraction(float(instant.mark_price[instrument.index])) / instrument.tick_size)
                return from_units(ticks * units, decimals)
        raise WhatIfError(f"trade of {name}: no such instrument is listed")


def _joined(first: Moves, second: Moves) -> Moves:
    """Return two moves behind each other as one."""
    joined = dict(first)
    for name, move in second.items():
        before = joined.get(name)
        joined[name] = (
            move if before is None else replace(move, spot=before.spot * move.spot, vol=before.vol * move.vol)
        )
    return joined
