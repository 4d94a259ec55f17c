"""``PORTFOLIO.json`` and ``CHANGE.json``: what a person writes, checked key by key.

1. Keys that are not known, keys that are written twice and numbers that are no decimal strings are refused.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from infra.files.documents import DocumentError, read_json
from infra.whatif.market import Move, Moves
from infra.whatif.scene import Deposit, Trade, WhatIfError
from schemas.events import (
    TIME_NS_MAX,
    TIME_NS_MIN,
)
from schemas.failures import Refused
from schemas.ids import is_id
from schemas.instruments import MarginMode
from schemas.money import decimal_parts
from schemas.parameter_set import first_fault


def _decimal(text: str) -> str:
    try:
        decimal_parts(text)
    except Refused as refused:
        raise ValueError(refused.message) from None
    return text


def _id(text: str) -> str:
    if not is_id(text):
        raise ValueError("an id is 1 to 128 printable ASCII characters without blanks, quotes or backslashes")
    return text


def _moment(text: str) -> str:
    try:
        time_ns = moment_ns(text)
    except (ValueError, OverflowError):
        raise ValueError("write a moment like 2026-02-05T08:00Z") from None
    if not TIME_NS_MIN <= time_ns < TIME_NS_MAX:
        raise ValueError(f"{text} is not between 2009 and 2100")
    return text


def _moves_above_minus_one(text: str) -> str:
    if float(_decimal(text)) <= -1.0:
        raise ValueError("a move is a ratio above -1: -0.1 is ten percent down")
    return text


def _haircut(text: str) -> str:
    if not 0.0 <= float(_decimal(text)) <= 1.0:
        raise ValueError("a haircut is 0 to 1: 0.1 is ten percent")
    return text


DecimalText = Annotated[str, AfterValidator(_decimal)]
HaircutText = Annotated[str, AfterValidator(_haircut)]
MoveText = Annotated[str, AfterValidator(_moves_above_minus_one)]
Id = Annotated[str, AfterValidator(_id)]
Moment = Annotated[str, AfterValidator(_moment)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AssetEntry(_Document):
    """An asset, its price in the numeraire (here or among the market's prices), and its haircut."""

    asset: Id
    decimals: int = Field(default=8, ge=0, le=8)
    price: DecimalText | None = None
    haircut: HaircutText | None = None


class InstrumentEntry(_Document):
    """An instrument, as ``instrument.listed`` has it, with its expiry as a moment."""

    instrument: Id
    kind: str
    underlying: Id
    quote: Id
    settlement_asset: Id
    payoff: str = "linear"
    multiplier: DecimalText = "1"
    tick_size: DecimalText
    lot_size: DecimalText
    strike: DecimalText | None = None
    option_type: str | None = None
    expiry: Moment | None = None


class ForwardEntry(_Document):
    """The forward of an expiry."""

    underlying: Id
    expiry: Moment
    forward: DecimalText


class SviEntry(_Document):
    """Raw SVI, as ``oracle.vol`` has it."""

    a: DecimalText
    b: DecimalText
    rho: DecimalText
    m: DecimalText
    sigma: DecimalText
    forward: DecimalText
    time_to_expiry: DecimalText


class PointEntry(_Document):
    """One quoted implied vol, annualised."""

    strike: DecimalText
    implied_vol: DecimalText


class SmileEntry(_Document):
    """The smile of an expiry: either ``svi`` or ``points`` in rising strikes."""

    underlying: Id
    expiry: Moment
    svi: SviEntry | None = None
    points: list[PointEntry] | None = None


class MarketEntry(_Document):
    """What is observed: index prices by underlying, rates by currency, marks by instrument.

    ``confidences`` are half the widths of the prices' bands, by the names that have a price; 0 where not given.
    """

    prices: dict[Id, DecimalText] = Field(default_factory=dict)
    confidences: dict[Id, DecimalText] = Field(default_factory=dict)
    forwards: list[ForwardEntry] = Field(default_factory=list)
    smiles: list[SmileEntry] = Field(default_factory=list)
    rates: dict[Id, DecimalText] = Field(default_factory=dict)
    marks: dict[Id, DecimalText] = Field(default_factory=dict)


class PositionEntry(_Document):
    """A position. What was paid at ``entry_price`` is taken from the balance; without one, the balance has it already.

    Futures and perpetuals need one: their gain since then is in equity.
    """

    instrument: Id
    quantity: DecimalText
    entry_price: DecimalText | None = None


class OpenOrdersEntry(_Document):
    """What the account's open orders in an instrument have left to buy and to sell."""

    instrument: Id
    buys: DecimalText = "0"
    sells: DecimalText = "0"


class AccountEntry(_Document):
    """The account."""

    account: Id = "portfolio"
    margin_model: Id
    margin_mode: str = MarginMode.CROSS.value
    balances: dict[Id, DecimalText] = Field(default_factory=dict)
    positions: list[PositionEntry] = Field(default_factory=list)
    open_orders: list[OpenOrdersEntry] = Field(default_factory=list)


class Portfolio(_Document):
    """``PORTFOLIO.json``."""

    time: Moment
    numeraire: Id = "USD"
    assets: list[AssetEntry]
    instruments: list[InstrumentEntry] = Field(default_factory=list)
    market: MarketEntry = Field(default_factory=MarketEntry)
    account: AccountEntry
    parameters: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_price_a_name(self) -> "Portfolio":
        for asset in self.assets:
            told = self.market.prices.get(asset.asset)
            if asset.price is not None and told is not None and float(asset.price) != float(told):
                raise ValueError(f"{asset.asset} has two prices, {asset.price} and {told}")
        return self


class TradeEntry(_Document):
    """A trade: ``quantity`` signed; without a price it is done at the mark."""

    instrument: Id
    quantity: DecimalText
    price: DecimalText | None = None
    fee: DecimalText = "0"


class DepositEntry(_Document):
    """Money in, or out where negative."""

    asset: Id
    amount: DecimalText


class MoveEntry(_Document):
    """A move of a name's price and of its options' vols, as ratios: -0.1 is ten percent down."""

    name: Id
    spot: MoveText = "0"
    vol: MoveText = "0"


class Change(_Document):
    """``CHANGE.json``."""

    trades: list[TradeEntry] = Field(default_factory=list)
    deposits: list[DepositEntry] = Field(default_factory=list)
    moves: list[MoveEntry] = Field(default_factory=list)
    parameters: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def parts(self) -> tuple[list[Trade], list[Deposit], Moves]:
        """Return what a scene is changed by."""
        return (
            [Trade(it.instrument, it.quantity, it.price, it.fee) for it in self.trades],
            [Deposit(it.asset, it.amount) for it in self.deposits],
            {it.name: Move(1.0 + float(it.spot), 1.0 + float(it.vol)) for it in self.moves},
        )


_DocumentT = TypeVar("_DocumentT", bound=_Document)


def read_document(path: Path, kind: type[_DocumentT]) -> _DocumentT:
    """Return a document of a kind.

    Raises
    ------
    WhatIfError : it cannot be read, is no JSON, or does not validate; the message names the first fault's place.
    """
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        place, _, words = first_fault(error)
        raise WhatIfError(f"{path}: {place + ': ' if place else ''}{words}") from error
    except DocumentError as error:
        raise WhatIfError(str(error)) from error


def moment_ns(text: str) -> int:
    """Return a moment in nanoseconds; without a zone it is UTC."""
    moment = datetime.fromisoformat(text)
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return int(aware.replace(microsecond=0).timestamp()) * 1_000_000_000 + aware.microsecond * 1_000
