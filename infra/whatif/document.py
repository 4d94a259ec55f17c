"""``PORTFOLIO.json`` and ``CHANGE.json``: what a person writes, checked, and turned into a scene.

1. Keys that are not known, keys that are written twice and numbers that are no decimal strings are refused.
2. What is listed and observed becomes the events that a venue would send, then ledger records as intake writes them;
   one frame of them is the market's only step. Nothing is priced here.
3. Every observation is as young as the portfolio, so nothing is too old.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from flows.intake.registry import Registry
from flows.margin.model import MarginModel
from flows.margin.registry import parameter_sets
from flows.market.listings import Account
from flows.market.step import Market
from infra.whatif.market import MovableMarket, Move, Moves, frame_of
from infra.whatif.scene import Deposit, Holdings, Scene, Trade, WhatIfError
from schemas.events import (
    AccountOpened,
    AssetListed,
    Event,
    InstrumentListed,
    MarkPrice,
    OracleForward,
    OraclePrice,
    OracleRate,
    OracleVol,
    ParametersChanged,
    Svi,
    VolPoint,
)
from schemas.failures import Refused
from schemas.ids import FIRST_ACCOUNT_NUMBER, is_id
from schemas.instruments import InstrumentKind, MarginMode
from schemas.ledger import Genesis, GenesisRecord, MarketRecord
from schemas.money import decimal_parts

_LEDGER: Final = "what-if"
_SOURCE: Final = "portfolio"


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
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("write a moment like 2026-02-05T08:00Z") from None
    return text


def _moves_above_minus_one(text: str) -> str:
    if float(_decimal(text)) <= -1.0:
        raise ValueError("a move is a ratio above -1: -0.1 is ten percent down")
    return text


DecimalText = Annotated[str, AfterValidator(_decimal)]
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
    haircut: DecimalText | None = None


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
    """What is observed: index prices by underlying, rates by currency, marks by instrument."""

    prices: dict[Id, DecimalText] = Field(default_factory=dict)
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


class AccountEntry(_Document):
    """The account."""

    account: Id = "portfolio"
    margin_model: Id
    margin_mode: str = MarginMode.CROSS.value
    balances: dict[Id, DecimalText] = Field(default_factory=dict)
    positions: list[PositionEntry] = Field(default_factory=list)


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
        raw = json.loads(path.read_bytes(), object_pairs_hook=_without_repetition)
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise WhatIfError(f"{path}: {place + ': ' if place else ''}{first['msg']}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise WhatIfError(f"{path}: {error}") from error


def read_parameters(path: Path) -> dict[str, dict[str, Any]]:
    """Return parameter sets by name, not yet validated; raise ``WhatIfError`` where the file is not that."""
    try:
        sets = json.loads(path.read_bytes(), object_pairs_hook=_without_repetition)
    except (OSError, ValueError, RecursionError) as error:
        raise WhatIfError(f"{path}: {error}") from error
    if not isinstance(sets, dict) or not all(isinstance(values, dict) for values in sets.values()):
        raise WhatIfError(f'{path}: write an object like {{"ladder": {{"watch_multiple": 1.3}}}}')
    return sets


def portfolio_scene(
    portfolio: Portfolio,
    models: Mapping[str, MarginModel],
    *,
    model: str | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> Scene:
    """Return the scene of a portfolio.

    Parameters
    ----------
    models : those installed, by name.
    model : judge by this one, instead of the account's own.
    parameters : sets that replace the portfolio's.

    Raises
    ------
    WhatIfError : whatever intake would refuse, with its place in the document.
    """
    name = chosen_model(model or portfolio.account.margin_model, models)
    genesis = Genesis(ledger_id=_LEDGER, numeraire=portfolio.numeraire)
    registry = Registry(
        numeraire=genesis.numeraire, shard_count=1, margin_models=list(models), window_ns=genesis.duplicate_window_ns,
        parameter_sets=parameter_sets(models),
    )  # fmt: skip
    records: list[MarketRecord] = [GenesisRecord(genesis)]
    for place, event in _events(portfolio, name, {**portfolio.parameters, **(parameters or {})}):
        with _at(place):
            record, _ = registry.market(event)
        registry.apply(record)
        records.append(record)
    market = Market(models)
    time_ns = moment_ns(portfolio.time)
    instant = market.step(frame_of(records, time_ns=time_ns, number=0))
    account = portfolio.account
    scene = Scene(
        MovableMarket(market, instant, models[name], models),
        registry,
        Account(int(FIRST_ACCOUNT_NUMBER), account.account, name, MarginMode(account.margin_mode)),
        Holdings((0,) * len(portfolio.assets)),
    )
    for asset, amount in account.balances.items():
        with _at(f"account.balances.{asset}"):
            scene = scene.with_deposit(Deposit(asset, amount))
    for number, position in enumerate(account.positions):
        with _at(f"account.positions.{number}"):
            scene = _with_position(scene, position)
    return scene


def chosen_model(name: str, models: Mapping[str, MarginModel]) -> str:
    """Return the name of an installed margin model; raise ``WhatIfError`` where it is none."""
    if name not in models:
        raise WhatIfError(f"no margin model {name!r} is installed; there are {', '.join(models)}")
    return name


def moment_ns(text: str) -> int:
    """Return a moment in nanoseconds; without a zone it is UTC."""
    moment = datetime.fromisoformat(text)
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return int(aware.replace(microsecond=0).timestamp()) * 1_000_000_000 + aware.microsecond * 1_000


def _events(
    portfolio: Portfolio, model: str, parameters: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, Event]]:
    """Yield what a venue would send to bring this market and account about, each with its place in the document."""
    time_ns = moment_ns(portfolio.time)
    named: dict[str, Any] = {
        "event_id": _SOURCE, "event_time_ns": time_ns, "source": _SOURCE, "source_sequence": 0,
    }  # fmt: skip
    market = portfolio.market
    for number, it in enumerate(portfolio.assets):
        yield f"assets.{number}", AssetListed(**named, asset=it.asset, decimals=it.decimals)
    for number, instrument in enumerate(portfolio.instruments):
        fields = instrument.model_dump(exclude={"expiry"})
        yield (
            f"instruments.{number}",
            InstrumentListed(
                **named, **fields, expiry_ns=None if instrument.expiry is None else moment_ns(instrument.expiry)
            ),
        )
    for name, values in _with_haircuts(portfolio, parameters).items():
        yield f"parameters.{name}", ParametersChanged(**named, name=name, parameters=dict(values))
    yield (
        "account",
        AccountOpened(
            **named, account=portfolio.account.account, margin_model=model, margin_mode=portfolio.account.margin_mode
        ),
    )
    prices = {it.asset: it.price for it in portfolio.assets if it.price is not None} | market.prices
    for name, price in prices.items():
        if name != portfolio.numeraire:
            feed = f"{name}/{portfolio.numeraire}"
            yield (
                f"price of {name}",
                OraclePrice(**named, feed=feed, price=price, confidence="0", publish_time_ns=time_ns),
            )
    for currency, rate in market.rates.items():
        yield f"market.rates.{currency}", OracleRate(**named, currency=currency, rate=rate)
    for number, forward in enumerate(market.forwards):
        yield (
            f"market.forwards.{number}",
            OracleForward(
                **named,
                underlying=forward.underlying,
                expiry_ns=moment_ns(forward.expiry),
                forward=forward.forward,
            ),
        )
    for number, smile in enumerate(market.smiles):
        yield (
            f"market.smiles.{number}",
            OracleVol(
                **named,
                underlying=smile.underlying,
                expiry_ns=moment_ns(smile.expiry),
                svi=None if smile.svi is None else Svi(**smile.svi.model_dump()),
                points=None if smile.points is None else [VolPoint(**it.model_dump()) for it in smile.points],
            ),
        )
    for name, price in market.marks.items():
        yield f"market.marks.{name}", MarkPrice(**named, instrument=name, price=price)


def _with_haircuts(portfolio: Portfolio, parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the parameter sets, with the assets' own haircuts among those of collateral."""
    sets = dict(parameters)
    own = {it.asset: float(it.haircut) for it in portfolio.assets if it.haircut is not None}
    if own:
        collateral = sets.get("collateral", {})
        # A set given beside the portfolio is meant to change it, so it comes last.
        sets["collateral"] = {**collateral, "haircuts": own | collateral.get("haircuts", {})}
    return sets


def _with_position(scene: Scene, position: PositionEntry) -> Scene:
    for instrument in scene.market.listings.instruments:
        if instrument.instrument == position.instrument and instrument.kind is not InstrumentKind.OPTION:
            if instrument.kind is InstrumentKind.SPOT:
                raise WhatIfError(f"{position.instrument} is spot: write what is held among the balances")
            if position.entry_price is None:
                raise WhatIfError(f"{position.instrument} needs an entry_price")
    return scene.with_position(position.instrument, position.quantity, position.entry_price)


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Say of whatever is refused inside where it stands in the document."""
    try:
        yield
    except Refused as refused:
        raise WhatIfError(f"{place}: {refused.message}") from refused
    except WhatIfError as error:
        raise WhatIfError(f"{place}: {error}") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} is written twice")
    return found
