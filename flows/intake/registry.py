"""What exists, and what may happen to it: the only place that refuses an event against the ledger.

Behind intake every step is total: a leg is never refused, so whatever could go wrong with an event is decided here,
for the event as a whole.

1. Every question is asked first and changes nothing; ``apply``, ``bind`` and ``remember`` then take the answer.
2. Assets, instruments and accounts get dense numbers in the order of the ledger.
3. A fill's cash is rounded once, and both sides carry that integer with opposite signs: half-even between customers;
   against the customer where the other side is the house, who would else pay for what is rounded a million times.
4. A transfer moves from pending to confirmed to reverted, never back; its status and a withdrawal's id are
   remembered for the duplicate window, as a fill's id is.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from math import sqrt
from typing import Any, Final, TypeVar

import msgspec

from flows.intake.decode import check_id
from flows.market.listings import resolve_instrument
from flows.market.payments import fits_settlement
from schemas.events import (
    TIME_NS_MAX,
    TIME_NS_MIN,
    AccountOpened,
    AssetListed,
    Collateral,
    Event,
    Fill,
    FundingRate,
    InstrumentHalted,
    InstrumentListed,
    MarkPrice,
    OracleForward,
    OraclePrice,
    OracleRate,
    OracleVol,
    OrdersOpen,
    ParametersChanged,
    RulesChanged,
    SettlementPrice,
    Svi,
    VolPoint,
    WithdrawalRequested,
)
from schemas.failures import FailureReason, Refused
from schemas.ids import FIRST_ACCOUNT_NUMBER, HOUSE_NUMBER, SYSTEM_ACCOUNTS, is_id, shard_of
from schemas.instruments import InstrumentKind, MarginMode, OptionType, Payoff
from schemas.ledger import (
    RULES_VERSION,
    AccountRecord,
    AssetRecord,
    ForwardRecord,
    FundingRecord,
    HaltRecord,
    InstrumentRecord,
    MarketRecord,
    MarkRecord,
    ParametersRecord,
    PriceRecord,
    RateRecord,
    RulesRecord,
    SettlementRecord,
    SviRecord,
    VolPointsRecord,
)
from schemas.money import DECIMALS_MAX, decimal_parts, fraction, half_even, in_range, rounded_down, rounded_up, to_units
from schemas.parameters import PARAMETER_SETS, ParameterSet, validate

RATE_MAX: Final = 10.0
IMPLIED_VOL_MAX: Final = 10.0
VOL_POINTS_MAX: Final = 512
_POWERS_OF_TEN: Final = tuple(10**power for power in range(25))
_ASSETS_MAX: Final = 0xFFFF
# Prices and sizes repeat; a cache of this many strings an instrument is cheaper than parsing them again.
_CACHED_STRINGS_MAX: Final = 1024

# Nearly all market records, and none that the registry keeps.
_OBSERVATIONS: Final = frozenset((PriceRecord, ForwardRecord, SviRecord, VolPointsRecord, RateRecord, MarkRecord))

# What makes two observations the same one: the second opens a new frame. None: not an observation.
ObservationKey = tuple[str | int, ...] | None
MarketEntry = tuple[MarketRecord, ObservationKey]


@dataclass(slots=True)
class Tradable:
    """An instrument, with the integers that a fill needs.

    ``ticks = price * tick_factor``, ``lots = quantity * lot_factor`` and ``cash = lots * ticks * cash_factor`` (or
    ``lots / ticks * cash_factor`` where ``pays_inverse``), each factor a pair (numerator, denominator).
    """

    record: InstrumentRecord
    kind: InstrumentKind
    pays_inverse: bool
    tick_factor: tuple[int, int]
    lot_factor: tuple[int, int]
    cash_factor: tuple[int, int]
    settlement_decimals: int
    base_units_per_lot: int
    halted: bool = False
    settled: bool = False
    ticks: dict[str, int] = field(default_factory=dict)
    lots: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Holder:
    """An account as fills see it.

    System accounts have no record, and shard -1: the house's part in a fill is in the other side's shard.
    """

    number: int
    shard: int
    record: AccountRecord | None
    isolated: bool = False
    bound_to: str | None = None


# A fill in numbers: instrument, buyer, seller, lots, the buyer's cash, fees of buyer and seller, price in ticks.
Trade = tuple[Tradable, Holder, Holder, int, int, int, int, int]


class TransferStatus(Enum):
    """Where a transfer between an account and a chain stands."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    REVERTED = "reverted"


class Transfer(msgspec.Struct, array_like=True):
    """A transfer within the window; ``seen`` are the statuses so far, in the order in which they came."""

    account: int
    asset: int
    units: int
    chain: str
    seen: list[str]
    time_ns: int


class Withdrawal(msgspec.Struct, array_like=True):
    """A withdrawal request within the window."""

    account: int
    asset: int
    units: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Movement:
    """A transfer or withdrawal in numbers; ``after`` is what its registry entry becomes.

    ``status`` is the transfer's, None for a withdrawal.
    """

    holder: Holder
    asset: int
    units: int
    status: TransferStatus | None
    was_confirmed: bool
    name: str
    after: "Transfer | Withdrawal"


@dataclass(frozen=True, slots=True)
class OrdersLeft:
    """Open orders of an account in an instrument, in lots."""

    holder: Holder
    tradable: Tradable
    buys: int
    sells: int


class RegistryState(msgspec.Struct, array_like=True):
    """The registry as its checkpoint holds it."""

    assets: list[AssetRecord]
    instruments: list[InstrumentRecord]
    halted: list[int]
    settled: list[int]
    accounts: list[AccountRecord]
    bound: dict[int, str]
    transfers: dict[str, Transfer]
    withdrawals: dict[str, Withdrawal]


class Registry:
    """Assets, instruments, accounts, and the movements of money within the window."""

    def __init__(
        self,
        *,
        numeraire: str,
        shard_count: int,
        margin_models: Collection[str],
        window_ns: int,
        parameter_sets: Mapping[str, type[ParameterSet]] = PARAMETER_SETS,
    ) -> None:
        self._numeraire = numeraire
        self._shard_count = shard_count
        self._margin_models = tuple(sorted(margin_models))
        self._window_ns = window_ns
        self._parameter_sets = parameter_sets
        self._assets: dict[str, AssetRecord] = {}
        self._decimals: list[int] = []
        self._instruments: dict[str, Tradable] = {}
        self._by_index: list[Tradable] = []
        self._by_expiry: dict[tuple[str, int], list[Tradable]] = {}
        self._holders: dict[str, Holder] = {
            str(account): Holder(number, -1, None) for number, account in enumerate(SYSTEM_ACCOUNTS)
        }
        self._by_number: list[Holder] = []
        self._transfers: dict[str, Transfer] = {}
        self._withdrawals: dict[str, Withdrawal] = {}
        self._market: dict[type[Event], Callable[[Any], MarketEntry]] = {
            AssetListed: self._asset_listed,
            InstrumentListed: self._instrument_listed,
            RulesChanged: self._rules_changed,
            ParametersChanged: self._parameters_changed,
            AccountOpened: self._account_opened,
            InstrumentHalted: self._instrument_halted,
            OraclePrice: self._oracle_price,
            OracleForward: self._oracle_forward,
            OracleVol: self._oracle_vol,
            OracleRate: self._oracle_rate,
            MarkPrice: self._mark_price,
            FundingRate: self._funding_rate,
            SettlementPrice: self._settlement_price,
        }

    # ---- market events

    def market(self, event: Event) -> MarketEntry:
        """Return the market record of an event, and what it observes; ``apply`` takes it.

        Raises
        ------
        Refused : with the first reason that holds.
        """
        return self._market[type(event)](event)

    def apply(self, record: MarketRecord) -> None:
        """Take what a market record lists, opens, stops or settles; the others change nothing here."""
        if type(record) in _OBSERVATIONS:
            return
        if isinstance(record, AccountRecord):
            isolated = record.margin_mode == MarginMode.ISOLATED.value
            holder = Holder(record.number, shard_of(record.account, self._shard_count), record, isolated)
            self._holders[record.account] = holder
            self._by_number.append(holder)
        elif isinstance(record, InstrumentRecord):
            tradable = self._resolve(record)
            self._instruments[record.instrument] = tradable
            self._by_index.append(tradable)
            if record.expiry_ns is not None:
                self._by_expiry.setdefault((record.underlying, record.expiry_ns), []).append(tradable)
        elif isinstance(record, AssetRecord):
            self._assets[record.asset] = record
            self._decimals.append(record.decimals)
        elif isinstance(record, HaltRecord):
            self._by_index[record.instrument].halted = record.halted
        elif isinstance(record, SettlementRecord):
            for tradable in self._by_expiry[(record.underlying, record.expiry_ns)]:
                tradable.settled = True

    def _asset_listed(self, event: AssetListed) -> MarketEntry:
        check_id(event.asset)
        if not 0 <= event.decimals <= DECIMALS_MAX:
            raise _bad_value(f"decimals {event.decimals} are not 0 to {DECIMALS_MAX}")
        if event.asset in self._assets:
            raise Refused(FailureReason.ALREADY_LISTED, f"asset {event.asset} is listed already")
        if len(self._assets) >= _ASSETS_MAX:
            raise _bad_value(f"more than {_ASSETS_MAX} assets")
        return AssetRecord(len(self._assets), event.asset, event.decimals), None

    def _instrument_listed(self, event: InstrumentListed) -> MarketEntry:
        for text in (event.instrument, event.underlying, event.quote, event.settlement_asset):
            check_id(text)
        for name in ("multiplier", "tick_size", "lot_size"):
            _positive(name, getattr(event, name))
        if event.strike is not None:
            _positive("strike", event.strike)
        if event.expiry_ns is not None:
            _check_time("expiry_ns", event.expiry_ns)
        kind = _member(InstrumentKind, "kind", event.kind)
        payoff = _member(Payoff, "payoff", event.payoff)
        if event.option_type is not None:
            _member(OptionType, "option_type", event.option_type)
        self._check_shape(event, kind, payoff)
        settlement = self._asset(event.settlement_asset)
        if event.quote != self._numeraire:
            self._asset(event.quote)
        base = self._asset(event.underlying) if kind is InstrumentKind.SPOT else None
        record = InstrumentRecord(
            len(self._by_index), event.instrument, event.kind, event.underlying, event.quote, settlement.index,
            -1 if base is None else base.index, event.payoff, event.multiplier, event.tick_size, event.lot_size,
            event.strike, event.option_type, event.expiry_ns,
        )  # fmt: skip
        self._resolve(record)
        if event.instrument in self._instruments:
            raise Refused(FailureReason.ALREADY_LISTED, f"instrument {event.instrument} is listed already")
        return record, None

    def _check_shape(self, event: InstrumentListed, kind: InstrumentKind, payoff: Payoff) -> None:
        """Raise ``Refused`` unless the listing has what its kind needs, and nothing else."""
        is_option = kind is InstrumentKind.OPTION
        expires = is_option or kind is InstrumentKind.FUTURE
        wanted = {"strike": is_option, "option_type": is_option, "expiry_ns": expires}
        for name, is_wanted in wanted.items():
            if (getattr(event, name) is not None) != is_wanted:
                verb = "needs" if is_wanted else "has no"
                raise _bad_value(f"an instrument of kind {event.kind} {verb} {name}")
        if event.expiry_ns is not None and event.expiry_ns <= event.event_time_ns:
            raise _bad_value(f"{event.instrument} expires before it is listed")
        if payoff is Payoff.INVERSE:
            if kind is InstrumentKind.SPOT:
                raise _bad_value("spot is linear")
            if event.settlement_asset != event.underlying:
                raise _bad_value(f"an inverse instrument settles in its underlying, not in {event.settlement_asset}")

    def _rules_changed(self, event: RulesChanged) -> MarketEntry:
        if event.rules != RULES_VERSION:
            raise Refused(FailureReason.UNKNOWN_RULES, f"this engine has rules {RULES_VERSION}, not {event.rules}")
        return RulesRecord(event.rules), None

    def _parameters_changed(self, event: ParametersChanged) -> MarketEntry:
        check_id(event.name)
        parameters = validate(event.name, event.parameters, self._parameter_sets)
        return ParametersRecord(event.name, parameters.model_dump_json()), None

    def _account_opened(self, event: AccountOpened) -> MarketEntry:
        check_id(event.account)
        check_id(event.margin_model)
        mode = _member(MarginMode, "margin_mode", event.margin_mode)
        if event.margin_model not in self._margin_models:
            known = ", ".join(self._margin_models)
            raise Refused(
                FailureReason.UNKNOWN_MARGIN_MODEL, f"no margin model {event.margin_model}; there are {known}"
            )
        if event.account in SYSTEM_ACCOUNTS:
            raise Refused(FailureReason.SYSTEM_ACCOUNT, f"{event.account} is a system account")
        if event.account in self._holders:
            raise Refused(FailureReason.ALREADY_OPENED, f"account {event.account} is open already")
        record = AccountRecord(
            FIRST_ACCOUNT_NUMBER + len(self._by_number), event.account, event.margin_model, mode.value
        )
        return record, None

    def _instrument_halted(self, event: InstrumentHalted) -> MarketEntry:
        tradable = self._open_instrument(event.instrument)
        return HaltRecord(tradable.record.index, event.halted), None

    def _oracle_price(self, event: OraclePrice) -> MarketEntry:
        check_id(event.feed)
        price = _positive("price", event.price)
        confidence = _number(event.confidence)
        if confidence < 0.0:
            raise _bad_value(f"confidence {event.confidence} is negative")
        record = PriceRecord(event.feed, event.source, price, confidence, event.publish_time_ns)
        return record, ("price", event.feed, event.source)

    def _oracle_forward(self, event: OracleForward) -> MarketEntry:
        check_id(event.underlying)
        forward = _positive("forward", event.forward)
        _check_time("expiry_ns", event.expiry_ns)
        record = ForwardRecord(event.underlying, event.expiry_ns, event.source, forward, event.event_time_ns)
        return record, ("forward", event.underlying, event.expiry_ns, event.source)

    def _oracle_vol(self, event: OracleVol) -> MarketEntry:
        check_id(event.underlying)
        _check_time("expiry_ns", event.expiry_ns)
        if (event.svi is None) == (event.points is None):
            raise _bad_value("a smile is either svi or points")
        key = ("vol", event.underlying, event.expiry_ns, event.source)
        if event.svi is not None:
            return _svi_record(event, event.svi), key
        return _points_record(event, event.points or []), key

    def _oracle_rate(self, event: OracleRate) -> MarketEntry:
        check_id(event.currency)
        record = RateRecord(event.currency, event.source, _rate(event.rate), event.event_time_ns)
        return record, ("rate", event.currency, event.source)

    def _mark_price(self, event: MarkPrice) -> MarketEntry:
        price = _positive("price", event.price)
        tradable = self._open_instrument(event.instrument)
        if tradable.kind not in (InstrumentKind.PERPETUAL, InstrumentKind.FUTURE):
            raise _bad_value(
                f"{event.instrument} is of kind {tradable.kind.value}: marks are for perpetuals and futures"
            )
        index = tradable.record.index
        return MarkRecord(index, event.source, price, event.event_time_ns), ("mark", index, event.source)

    def _funding_rate(self, event: FundingRate) -> MarketEntry:
        rate = _rate(event.rate)
        tradable = self._open_instrument(event.instrument)
        if tradable.kind is not InstrumentKind.PERPETUAL:
            raise _bad_value(f"{event.instrument} is {tradable.kind.value}: only perpetuals pay funding")
        return FundingRecord(tradable.record.index, rate, event.event_time_ns), None

    def _settlement_price(self, event: SettlementPrice) -> MarketEntry:
        check_id(event.underlying)
        _positive("price", event.price)
        _check_time("expiry_ns", event.expiry_ns)
        if event.event_time_ns < event.expiry_ns:
            raise _bad_value(f"{event.underlying} settles before its expiry")
        expiring = self._by_expiry.get((event.underlying, event.expiry_ns))
        if expiring is None:
            raise Refused(
                FailureReason.UNKNOWN_INSTRUMENT, f"no instrument on {event.underlying} expires at {event.expiry_ns}"
            )
        if expiring[0].settled:
            raise Refused(FailureReason.INSTRUMENT_SETTLED, f"{event.underlying} {event.expiry_ns} is settled already")
        price = fraction(event.price)
        for tradable in expiring:
            # Behind intake nothing can be refused any more, and a payment that does not fit would halt the ledger.
            if not fits_settlement(resolve_instrument(tradable.record), price, tradable.settlement_decimals):
                raise Refused(
                    FailureReason.AMOUNT_OUT_OF_RANGE,
                    f"a lot of {tradable.record.instrument} would pay more than fits 64 bits at {event.price}",
                )
        return SettlementRecord(event.underlying, event.expiry_ns, event.price), None

    def _open_instrument(self, instrument: str) -> Tradable:
        tradable = self._instrument(instrument)
        if tradable.settled:
            raise Refused(FailureReason.INSTRUMENT_SETTLED, f"{instrument} is settled")
        return tradable

    # ---- fills

    def trade(self, event: Fill) -> Trade:
        """Return a fill in numbers; what its instrument and accounts allow now is ``admit``'s question.

        Raises
        ------
        Refused : unknown names, or price, quantity, fee or cash that cannot be an integer of its unit.
        """
        holders = self._holders
        buyer = holders.get(event.buyer)
        seller = holders.get(event.seller)
        if buyer is None or seller is None:
            raise _unknown_account(event.buyer if buyer is None else event.seller)
        tradable = self._instruments.get(event.instrument)
        if tradable is None:
            raise _unknown_instrument(event.instrument)
        ticks = tradable.ticks.get(event.price)
        if ticks is None:
            ticks = _whole(
                event.price, tradable.tick_factor, tradable.ticks, FailureReason.OFF_TICK, tradable.record.tick_size
            )
        lots = tradable.lots.get(event.quantity)
        if lots is None:
            lots = _whole(
                event.quantity, tradable.lot_factor, tradable.lots, FailureReason.OFF_LOT, tradable.record.lot_size
            )
        if lots <= 0:
            raise _bad_value(f"quantity {event.quantity} is not positive")
        numerator, denominator = tradable.cash_factor
        if tradable.pays_inverse:
            if ticks <= 0:
                raise _bad_value(f"price {event.price} is not positive")
            buyer_cash = _cash(lots * numerator, ticks * denominator, buyer, seller)
        else:
            if ticks < 0:
                raise _bad_value(f"price {event.price} is negative")
            exact = lots * ticks * numerator
            buyer_cash = -exact if denominator == 1 else _cash(-exact, denominator, buyer, seller)
        in_range(buyer_cash)
        if tradable.base_units_per_lot > 1:
            in_range(lots * tradable.base_units_per_lot)
        decimals = tradable.settlement_decimals
        buyer_fee = to_units(event.buyer_fee, decimals)
        seller_fee = to_units(event.seller_fee, decimals)
        return (tradable, buyer, seller, lots, buyer_cash, buyer_fee, seller_fee, ticks)

    def admit(self, event: Fill, trade: Trade) -> None:
        """Raise ``Refused`` unless the instrument trades and the accounts may; ``bind`` takes it."""
        tradable, buyer, seller = trade[:3]
        record = tradable.record
        if event.liquidation_id is not None:
            check_id(event.liquidation_id)
        elif tradable.halted:
            raise Refused(FailureReason.INSTRUMENT_HALTED, f"trading in {event.instrument} is halted")
        if record.expiry_ns is not None and event.event_time_ns >= record.expiry_ns:
            raise Refused(FailureReason.INSTRUMENT_EXPIRED, f"{event.instrument} has expired")
        if tradable.settled:
            raise Refused(FailureReason.INSTRUMENT_SETTLED, f"{event.instrument} is settled")
        if buyer is seller:
            raise Refused(FailureReason.SELF_TRADE, f"{event.buyer} is buyer and seller")
        if buyer.record is None or seller.record is None:
            for account, holder in ((event.buyer, buyer), (event.seller, seller)):
                if holder.record is None and holder.number != HOUSE_NUMBER:
                    raise Refused(FailureReason.SYSTEM_ACCOUNT, f"{account} is a system account: it does not trade")
        if buyer.isolated or seller.isolated:
            for account, holder in ((event.buyer, buyer), (event.seller, seller)):
                if holder.isolated and holder.bound_to not in (None, record.underlying):
                    raise Refused(
                        FailureReason.ISOLATED_ACCOUNT,
                        f"{account} is isolated and trades {holder.bound_to}, not {record.underlying}",
                    )

    def bind(self, trade: Trade) -> None:
        """Bind the isolated accounts of an admitted fill to its underlying."""
        for holder in trade[1:3]:
            if holder.isolated:
                holder.bound_to = trade[0].record.underlying

    def tradable(self, index: int) -> Tradable:
        """Return the instrument with an index."""
        return self._by_index[index]

    def shard(self, number: int) -> int:
        """Return the shard of an account number, -1 for the house."""
        return -1 if number == HOUSE_NUMBER else self._by_number[number - FIRST_ACCOUNT_NUMBER].shard

    # ---- open orders

    def open_orders(self, event: OrdersOpen, ledger_time_ns: int) -> OrdersLeft:
        """Return what is left of an account's open orders in lots; it is remembered by the book, and not here.

        That there are none is taken of an instrument that has expired, too: it is so already.

        Raises
        ------
        Refused : unknown names, no whole lots, or an instrument that the account cannot trade.
        """
        check_id(event.account)
        check_id(event.instrument)
        for text in (event.buys, event.sells):
            if decimal_parts(text)[0] < 0:
                raise _bad_value(f"open orders of {text} are negative")
        holder = self._holders.get(event.account)
        if holder is None:
            raise _unknown_account(event.account)
        tradable = self._instrument(event.instrument)
        record = tradable.record
        if tradable.kind is InstrumentKind.SPOT:
            raise _bad_value(f"{event.instrument} is spot: its orders are covered by balances, not margined")
        buys, sells = (
            _whole(text, tradable.lot_factor, tradable.lots, FailureReason.OFF_LOT, record.lot_size)
            for text in (event.buys, event.sells)
        )
        if (buys or sells) and record.expiry_ns is not None and ledger_time_ns >= record.expiry_ns:
            raise Refused(FailureReason.INSTRUMENT_EXPIRED, f"{event.instrument} has expired: nothing is open there")
        if holder.record is None:
            raise Refused(FailureReason.SYSTEM_ACCOUNT, f"{event.account} is a system account")
        if (buys or sells) and holder.isolated and holder.bound_to not in (None, record.underlying):
            raise Refused(
                FailureReason.ISOLATED_ACCOUNT,
                f"{event.account} is isolated and trades {holder.bound_to}, not {record.underlying}",
            )
        return OrdersLeft(holder, tradable, buys, sells)

    # ---- transfers and withdrawals

    def collateral(self, event: Collateral, ledger_time_ns: int) -> Movement | None:
        """Return a transfer's next step in numbers; None if this step was taken already. ``remember`` takes it.

        Raises
        ------
        Refused : ``conflict`` if the transfer was announced with other content, ``transfer_status`` if its status
            would go backwards or nothing is there to revert.
        """
        check_id(event.transfer_id)
        check_id(event.chain)
        status = _member(TransferStatus, "status", event.status)
        decimal_parts(event.amount)
        known = self._transfers.get(event.transfer_id)
        if known is not None and known.time_ns < ledger_time_ns - self._window_ns:
            known = None
        try:
            holder, asset, units = self._money(event.account, event.asset, event.amount)
            if units == 0:
                raise _bad_value("a transfer of nothing")
        except Refused as refused:
            # A known transfer resolved once, so whatever does not is other content.
            raise refused if known is None else _conflict("transfer", event.transfer_id) from None
        seen: list[str] = []
        if known is not None:
            if (known.account, known.asset, known.units, known.chain) != (holder.number, asset, units, event.chain):
                raise _conflict("transfer", event.transfer_id)
            if event.status in known.seen:
                return None
            seen = known.seen
        before = seen[-1] if seen else None
        allowed = {
            TransferStatus.PENDING: (None,),
            TransferStatus.CONFIRMED: (None, "pending"),
            TransferStatus.REVERTED: ("pending", "confirmed"),
        }
        if before not in allowed[status]:
            raise Refused(
                FailureReason.TRANSFER_STATUS,
                f"transfer {event.transfer_id} is {before or 'unknown'}: it cannot become {event.status}",
            )
        after = Transfer(holder.number, asset, units, event.chain, [*seen, event.status], ledger_time_ns)
        return Movement(holder, asset, units, status, before == "confirmed", event.transfer_id, after)

    def withdrawal(self, event: WithdrawalRequested, ledger_time_ns: int) -> Movement | None:
        """Return a withdrawal request in numbers; None if it was made already. ``remember`` takes it.

        Raises
        ------
        Refused : ``conflict`` if the same withdrawal was requested with other content.
        """
        check_id(event.withdrawal_id)
        decimal_parts(event.amount)
        known = self._withdrawals.get(event.withdrawal_id)
        if known is not None and known.time_ns < ledger_time_ns - self._window_ns:
            known = None
        try:
            holder, asset, units = self._money(event.account, event.asset, event.amount)
            if units <= 0:
                raise _bad_value(f"a withdrawal of {event.amount} is not positive")
        except Refused as refused:
            raise refused if known is None else _conflict("withdrawal", event.withdrawal_id) from None
        if known is not None:
            if (known.account, known.asset, known.units) != (holder.number, asset, units):
                raise _conflict("withdrawal", event.withdrawal_id)
            return None
        after = Withdrawal(holder.number, asset, units, ledger_time_ns)
        return Movement(holder, asset, units, None, was_confirmed=False, name=event.withdrawal_id, after=after)

    def remember(self, movement: Movement) -> None:
        """Remember a transfer's new status, or a withdrawal."""
        # Taken out and put back, so that the dicts stay in the order of time and the oldest can be dropped.
        if isinstance(movement.after, Transfer):
            self._transfers.pop(movement.name, None)
            self._transfers[movement.name] = movement.after
        else:
            self._withdrawals.pop(movement.name, None)
            self._withdrawals[movement.name] = movement.after

    def forget(self, ledger_time_ns: int) -> None:
        """Drop transfers and withdrawals that left the window; changes no answer."""
        horizon = ledger_time_ns - self._window_ns
        _drop_before(self._transfers, horizon)
        _drop_before(self._withdrawals, horizon)

    def _money(self, account: str, asset: str, amount: str) -> tuple[Holder, int, int]:
        holder = self._holders.get(account)
        if holder is None:
            raise _unknown_account(account)
        record = self._asset(asset)
        units = to_units(amount, record.decimals)
        if holder.record is None:
            raise Refused(FailureReason.SYSTEM_ACCOUNT, f"{account} is a system account")
        return holder, record.index, units

    # ---- names

    def _resolve(self, record: InstrumentRecord) -> Tradable:
        base = None if record.base_asset < 0 else self._decimals[record.base_asset]
        return _tradable(record, self._decimals[record.settlement_asset], base)

    def _asset(self, asset: str) -> AssetRecord:
        record = self._assets.get(asset)
        if record is None:
            raise Refused(FailureReason.UNKNOWN_ASSET, f"asset {_shown(asset)} is not listed")
        return record

    def _instrument(self, instrument: str) -> Tradable:
        tradable = self._instruments.get(instrument)
        if tradable is None:
            raise _unknown_instrument(instrument)
        return tradable

    # ---- checkpoint

    def dump(self, ledger_time_ns: int) -> RegistryState:
        """Return everything that the registry knows."""
        self.forget(ledger_time_ns)
        return RegistryState(
            assets=list(self._assets.values()),
            instruments=[tradable.record for tradable in self._by_index],
            halted=[tradable.record.index for tradable in self._by_index if tradable.halted],
            settled=[tradable.record.index for tradable in self._by_index if tradable.settled],
            accounts=[holder.record for holder in self._by_number if holder.record is not None],
            bound={holder.number: holder.bound_to for holder in self._by_number if holder.bound_to is not None},
            transfers=self._transfers,
            withdrawals=self._withdrawals,
        )

    def load(self, state: RegistryState) -> None:
        """Take a ``dump``, into an empty registry."""
        listed: list[MarketRecord] = [*state.assets, *state.instruments, *state.accounts]
        for record in listed:
            self.apply(record)
        for index in state.halted:
            self._by_index[index].halted = True
        for index in state.settled:
            self._by_index[index].settled = True
        for number, underlying in state.bound.items():
            self._by_number[number - FIRST_ACCOUNT_NUMBER].bound_to = underlying
        self._transfers.update(state.transfers)
        self._withdrawals.update(state.withdrawals)


def _tradable(record: InstrumentRecord, settlement_decimals: int, base_decimals: int | None) -> Tradable:
    """Return an instrument with its factors; refuse spot whose lot is no whole number of base units."""
    kind = InstrumentKind(record.kind)
    pays_inverse = record.payoff == Payoff.INVERSE.value and kind is not InstrumentKind.OPTION
    tick = fraction(record.tick_size)
    lot = fraction(record.lot_size)
    quantity = lot * fraction(record.multiplier)
    cash = quantity * 10**settlement_decimals
    cash = cash / tick if pays_inverse else cash * tick
    base_units = 0
    if base_decimals is not None:
        exact = quantity * 10**base_decimals
        if exact.denominator != 1:
            raise _bad_value(f"a lot of {record.instrument} is no whole number of {record.underlying} units")
        base_units = in_range(exact.numerator)
    return Tradable(
        record=record,
        kind=kind,
        pays_inverse=pays_inverse,
        tick_factor=(tick.denominator, tick.numerator),
        lot_factor=(lot.denominator, lot.numerator),
        cash_factor=(cash.numerator, cash.denominator),
        settlement_decimals=settlement_decimals,
        base_units_per_lot=base_units,
    )


def _cash(numerator: int, denominator: int, buyer: Holder, seller: Holder) -> int:
    """Return what a fill adds to the buyer's cash, and takes off the seller's: a ratio, rounded once (invariant 3)."""
    if seller.number == HOUSE_NUMBER:
        return rounded_down(numerator, denominator)
    if buyer.number == HOUSE_NUMBER:
        return rounded_up(numerator, denominator)
    return half_even(numerator, denominator)


def _whole(text: str, factor: tuple[int, int], cache: dict[str, int], reason: FailureReason, step: str) -> int:
    """Return a decimal string as a whole number of steps."""
    integer, decimals = decimal_parts(text)
    count: int
    count, rest = divmod(integer * factor[0], factor[1] * _POWERS_OF_TEN[decimals])
    if rest:
        raise Refused(reason, f"{text} is not a multiple of {step}")
    in_range(count)
    if len(cache) >= _CACHED_STRINGS_MAX:
        cache.clear()
    cache[text] = count
    return count


def _svi_record(event: OracleVol, svi: Svi) -> SviRecord:
    a, b, rho, m, sigma = (_number(text) for text in (svi.a, svi.b, svi.rho, svi.m, svi.sigma))
    forward = _positive("forward", svi.forward)
    time_to_expiry = _positive("time_to_expiry", svi.time_to_expiry)
    if b < 0.0 or not -1.0 < rho < 1.0 or sigma <= 0.0:
        raise _bad_value("svi needs b >= 0, -1 < rho < 1 and sigma > 0")
    if a + b * sigma * sqrt(1.0 - rho * rho) < 0.0:
        raise _bad_value("svi has a negative total variance")
    return SviRecord(
        event.underlying, event.expiry_ns, event.source, a, b, rho, m, sigma, forward, time_to_expiry,
        event.event_time_ns,
    )  # fmt: skip


def _points_record(event: OracleVol, points: list[VolPoint]) -> VolPointsRecord:
    if not 1 <= len(points) <= VOL_POINTS_MAX:
        raise _bad_value(f"a smile has 1 to {VOL_POINTS_MAX} points, not {len(points)}")
    strikes = [_positive("strike", point.strike) for point in points]
    vols = [_positive("implied_vol", point.implied_vol) for point in points]
    if any(later <= earlier for earlier, later in pairwise(strikes)):
        raise _bad_value("strikes do not rise")
    if max(vols) > IMPLIED_VOL_MAX:
        raise _bad_value(f"an implied vol is above {IMPLIED_VOL_MAX}")
    return VolPointsRecord(event.underlying, event.expiry_ns, event.source, strikes, vols, event.event_time_ns)


def _number(text: str) -> float:
    decimal_parts(text)
    return float(text)


def _positive(name: str, text: str) -> float:
    number = _number(text)
    if number <= 0.0:
        raise _bad_value(f"{name} {text} is not positive")
    return number


def _rate(text: str) -> float:
    rate = _number(text)
    if abs(rate) > RATE_MAX:
        raise _bad_value(f"rate {text} is beyond ±{RATE_MAX}")
    return rate


_Member = TypeVar("_Member", bound=Enum)


def _member(kind: type[_Member], name: str, value: str) -> _Member:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(member.value) for member in kind)
        raise _bad_value(f"{name} {_shown(value)} is none of {known}") from None


def _check_time(name: str, time_ns: int) -> None:
    if not TIME_NS_MIN <= time_ns < TIME_NS_MAX:
        raise Refused(
            FailureReason.TIME_OUT_OF_RANGE, f"{name} {time_ns} is not a time in nanoseconds between 2009 and 2100"
        )


def _drop_before(entries: dict[str, Any], horizon: int) -> None:
    # Collected first: deleting from the front of a dict while looking for its front is quadratic.
    old = []
    for key, entry in entries.items():
        if entry.time_ns >= horizon:
            break
        old.append(key)
    for key in old:
        del entries[key]


def _bad_value(message: str) -> Refused:
    return Refused(FailureReason.BAD_VALUE, message)


def _conflict(noun: str, name: str) -> Refused:
    return Refused(FailureReason.CONFLICT, f"{noun} {name} was accepted with other content")


def _unknown_account(account: str) -> Refused:
    return Refused(FailureReason.UNKNOWN_ACCOUNT, f"account {_shown(account)} is not open")


def _unknown_instrument(instrument: str) -> Refused:
    return Refused(FailureReason.UNKNOWN_INSTRUMENT, f"instrument {_shown(instrument)} is not listed")


def _shown(text: str) -> str:
    return text if is_id(text) else ascii(text[:40])
