"""Public events: what venues, oracles and operators send in.

One JSON object a line, or the same columns as Parquet. ``tidegate schema`` prints the JSON Schema of each type,
generated from these classes.

1. Every event names itself: ``type``, ``event_id``, ``event_time_ns``, ``source``, ``source_sequence``.
2. Amounts, prices and rates are decimal strings; times are integer nanoseconds since 1970 UTC.
3. An event grows by optional fields only; a changed meaning is a new type. Unknown fields are refused, so that a
   misspelt optional field is a dead letter and not a silent default.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

DECIMAL_PATTERN: Final = r"^-?[0-9]{1,24}(\.[0-9]{1,24})?$"
ID_PATTERN: Final = r"^[!#-&(-\[\]-~]{1,128}$"

# The patterns are documentation for JSON Schema: checking them again at decoding would double its cost,
# and schemas.money and schemas.ids check every value anyway, with a reason of its own for each fault.
Decimal = Annotated[str, Meta(extra_json_schema={"pattern": DECIMAL_PATTERN})]
Id = Annotated[str, Meta(extra_json_schema={"pattern": ID_PATTERN})]
TimeNs = int

# 2009-01-01 and 2100-01-01: outside, a time is a unit mistake (ms for ns, say) and would open endless silence.
TIME_NS_MIN: Final = 1_230_768_000_000_000_000
TIME_NS_MAX: Final = 4_102_444_800_000_000_000


class Event(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True
):
    """What every event carries.

    ``event_id`` is unique for ever (a repeat with the same content is dropped, with other content refused);
    ``source_sequence`` counts the events of a source and orders its ties.
    """

    event_id: Id
    event_time_ns: TimeNs
    source: Id
    source_sequence: int


class AssetListed(Event, frozen=True, kw_only=True, tag="asset.listed"):
    """An asset that accounts can hold, with the decimals of its smallest unit (0 to 8)."""

    asset: Id
    decimals: int


class InstrumentListed(Event, frozen=True, kw_only=True, tag="instrument.listed"):
    """A tradable instrument.

    ``multiplier`` is the underlying (linear) or quote currency (inverse) that one contract stands for;
    a lot is ``lot_size`` contracts. ``strike``, ``option_type`` and ``expiry_ns`` as the kind demands.
    """

    instrument: Id
    kind: str
    underlying: Id
    quote: Id
    settlement_asset: Id
    payoff: str
    multiplier: Decimal
    tick_size: Decimal
    lot_size: Decimal
    strike: Decimal | None = None
    option_type: str | None = None
    expiry_ns: TimeNs | None = None


class AccountOpened(Event, frozen=True, kw_only=True, tag="account.opened"):
    """A customer account with its margin model and mode (``cross`` or ``isolated``)."""

    account: Id
    margin_model: Id
    margin_mode: str


class InstrumentHalted(Event, frozen=True, kw_only=True, tag="instrument.halted"):
    """Trading in an instrument stops (``halted`` true) or goes on; its positions stay margined."""

    instrument: Id
    halted: bool = True


class RulesChanged(Event, frozen=True, kw_only=True, tag="rules.changed"):
    """From here the ledger is decided by this version of the engine's rules."""

    rules: int


class ParametersChanged(Event, frozen=True, kw_only=True, tag="parameters.changed"):
    """A named parameter set is replaced as a whole; fields left out take their documented defaults."""

    name: Id
    parameters: dict[str, Any]


class OraclePrice(Event, frozen=True, kw_only=True, tag="oracle.price"):
    """One source's price of a feed such as ``BTC/USD``; ``confidence`` is half the width of its band, in price."""

    feed: Id
    price: Decimal
    confidence: Decimal
    publish_time_ns: TimeNs


class OracleForward(Event, frozen=True, kw_only=True, tag="oracle.forward"):
    """The forward of an underlying for one expiry, in quote per underlying."""

    underlying: Id
    expiry_ns: TimeNs
    forward: Decimal


class Svi(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Raw SVI of one expiry as fitted: total variance ``a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2))``.

    ``k`` is ln(strike / ``forward``), and variance is per ``time_to_expiry`` years of the fit: the smile stays
    put in strike until the next fit.
    """

    a: Decimal
    b: Decimal
    rho: Decimal
    m: Decimal
    sigma: Decimal
    forward: Decimal
    time_to_expiry: Decimal


class VolPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One quoted implied vol, annualised (0.65 is 65 %)."""

    strike: Decimal
    implied_vol: Decimal


class OracleVol(Event, frozen=True, kw_only=True, tag="oracle.vol"):
    """The smile of one expiry: either ``svi`` or ``points`` in rising strikes."""

    underlying: Id
    expiry_ns: TimeNs
    svi: Svi | None = None
    points: list[VolPoint] | None = None


class OracleRate(Event, frozen=True, kw_only=True, tag="oracle.rate"):
    """The continuously compounded annual interest rate of a currency."""

    currency: Id
    rate: Decimal


class MarkPrice(Event, frozen=True, kw_only=True, tag="mark.price"):
    """The venue's mark price of a perpetual or future."""

    instrument: Id
    price: Decimal


class FundingRate(Event, frozen=True, kw_only=True, tag="funding.rate"):
    """A funding payment falls due now: longs pay ``rate`` × mark value to shorts (or receive, if negative)."""

    instrument: Id
    rate: Decimal


class SettlementPrice(Event, frozen=True, kw_only=True, tag="settlement.price"):
    """An expiry settles: every option and future of the underlying with this expiry pays out at ``price``."""

    underlying: Id
    expiry_ns: TimeNs
    price: Decimal


class Collateral(Event, frozen=True, kw_only=True, tag="collateral"):
    """A transfer between an account and a chain; ``amount`` is signed and counts once ``status`` is ``confirmed``.

    ``pending`` is shown and not counted; ``reverted`` takes a confirmed amount back (a chain reorganised).
    """

    transfer_id: Id
    account: Id
    asset: Id
    amount: Decimal
    chain: Id
    status: str


class Fill(Event, frozen=True, kw_only=True, tag="fill"):
    """A trade. A side outside the venue's accounts is ``house``. Fees are in the settlement asset, rebates negative."""

    fill_id: Id
    instrument: Id
    price: Decimal
    quantity: Decimal
    buyer: Id
    seller: Id
    buyer_fee: Decimal
    seller_fee: Decimal
    liquidation_id: Id | None = None


class FillBusted(Event, frozen=True, kw_only=True, tag="fill.busted"):
    """An earlier fill, inside the duplicate window, is undone as a whole, fees included."""

    fill_id: Id


class OrdersOpen(Event, frozen=True, kw_only=True, tag="orders.open"):
    """What an account's open orders in an instrument have left to buy and to sell.

    Replaces what was told before of this account and instrument; both ``"0"`` says that none are open. Fills change
    nothing here: the venue says what remains. Spot orders are not margined.
    """

    account: Id
    instrument: Id
    buys: Decimal
    sells: Decimal


class WithdrawalRequested(Event, frozen=True, kw_only=True, tag="withdrawal.requested"):
    """A customer asks for collateral back; decided at this place in the order, against initial margin."""

    withdrawal_id: Id
    account: Id
    asset: Id
    amount: Decimal


AnyEvent = (
    AssetListed
    | InstrumentListed
    | RulesChanged
    | ParametersChanged
    | AccountOpened
    | InstrumentHalted
    | OraclePrice
    | OracleForward
    | OracleVol
    | OracleRate
    | MarkPrice
    | FundingRate
    | SettlementPrice
    | Collateral
    | Fill
    | FillBusted
    | OrdersOpen
    | WithdrawalRequested
)

# Ties of one nanosecond fall in this order: what exists, then the market, then what acts on it.
EVENT_TYPES: Final[tuple[type[Event], ...]] = (
    AssetListed,
    InstrumentListed,
    RulesChanged,
    ParametersChanged,
    AccountOpened,
    InstrumentHalted,
    OraclePrice,
    OracleForward,
    OracleVol,
    OracleRate,
    MarkPrice,
    FundingRate,
    SettlementPrice,
    Collateral,
    Fill,
    FillBusted,
    OrdersOpen,
    WithdrawalRequested,
)
TYPE_RANK: Final[dict[type[Event], int]] = {kind: rank for rank, kind in enumerate(EVENT_TYPES)}
