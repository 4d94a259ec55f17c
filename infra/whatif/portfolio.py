"""A portfolio as a scene: the events that a venue would send to bring it about, in intake's registry and a market.

1. What is listed and observed becomes ledger records as intake writes them; one frame of them is the market's only
   step. Nothing is priced here.
2. Every observation is as young as the portfolio, so nothing is too old.
3. What nothing listed could read is refused, and so are smiles that are crossed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from flows.intake.registry import Registry
from flows.margin.model import MarginModel
from flows.margin.registry import parameter_sets
from flows.market.listings import Account
from flows.market.step import Market
from infra.whatif.document import ForwardEntry, Portfolio, PositionEntry, SmileEntry, moment_ns
from infra.whatif.market import MovableMarket, frame_of
from infra.whatif.scene import Holdings, Scene, WhatIfError
from infra.whatif.smiles import Smile, crossed
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
from schemas.ids import FIRST_ACCOUNT_NUMBER
from schemas.instruments import InstrumentKind, MarginMode
from schemas.ledger import Genesis, GenesisRecord, MarketRecord, SviRecord, VolPointsRecord

_LEDGER: Final = "what-if"
_SOURCE: Final = "portfolio"


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
    _check_expiries(portfolio)
    _check_observations(portfolio)
    records: list[MarketRecord] = [GenesisRecord(genesis)]
    smiles: dict[str, SviRecord | VolPointsRecord] = {}
    for place, event in _events(portfolio, name, {**portfolio.parameters, **(parameters or {})}):
        with _at(place):
            record, _ = registry.market(event)
        registry.apply(record)
        records.append(record)
        if isinstance(record, SviRecord | VolPointsRecord):
            smiles[place] = record
    market = Market(models)
    time_ns = moment_ns(portfolio.time)
    instant = market.step(frame_of(records, time_ns=time_ns, number=0))
    fault = crossed([_smile(market, place, record) for place, record in smiles.items()])
    if fault is not None:
        raise WhatIfError(": ".join(fault))
    account = portfolio.account
    scene = Scene(
        MovableMarket(market, instant, models[name], models),
        registry,
        Account(int(FIRST_ACCOUNT_NUMBER), account.account, name, MarginMode(account.margin_mode)),
        Holdings((0,) * len(portfolio.assets)),
    )
    for asset, amount in account.balances.items():
        with _at(f"account.balances.{asset}"):
            scene = scene.with_balance(asset, amount)
    for number, position in enumerate(account.positions):
        with _at(f"account.positions.{number}"):
            if position in account.positions[:number]:
                raise WhatIfError(f"{position.instrument} stands here as it stands before: write their sum")
            scene = _with_position(scene, position)
    for number, left in enumerate(account.open_orders):
        with _at(f"account.open_orders.{number}"):
            if left.instrument in [it.instrument for it in account.open_orders[:number]]:
                raise WhatIfError(f"{left.instrument} stands before: write what is left of all its orders")
            scene = scene.with_open_orders(left.instrument, left.buys, left.sells)
    return scene


def chosen_model(name: str, models: Mapping[str, MarginModel]) -> str:
    """Return the name of an installed margin model; raise ``WhatIfError`` where it is none."""
    if name not in models:
        raise WhatIfError(f"no margin model {name!r} is installed; there are {', '.join(models)}")
    return name


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
        yield "parameters", ParametersChanged(**named, name=name, parameters=dict(values))
    yield (
        "account",
        AccountOpened(
            **named, account=portfolio.account.account, margin_model=model, margin_mode=portfolio.account.margin_mode
        ),
    )
    prices = {
        it.asset: (f"assets.{number}.price", it.price)
        for number, it in enumerate(portfolio.assets)
        if it.price is not None
    }
    prices |= {name: (f"market.prices.{name}", price) for name, price in market.prices.items()}
    for name, (place, price) in prices.items():
        if name == portfolio.numeraire and float(price) != 1.0:
            raise WhatIfError(f"{place}: prices are in {name}, so its own is 1")
        if name != portfolio.numeraire:
            feed = f"{name}/{portfolio.numeraire}"
            yield (
                place,
                OraclePrice(
                    **named,
                    feed=feed,
                    price=price,
                    confidence=market.confidences.get(name, "0"),
                    publish_time_ns=time_ns,
                ),
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
    collateral = sets.get("collateral", {})
    told = collateral.get("haircuts", {})
    if own and isinstance(told, dict):  # what else it may be is for the set's validation
        # A set given beside the portfolio is meant to change it, so it comes last.
        sets["collateral"] = {**collateral, "haircuts": own | told}
    return sets


def _check_expiries(portfolio: Portfolio) -> None:
    for number, it in enumerate(portfolio.instruments):
        if it.expiry is not None and moment_ns(it.expiry) <= moment_ns(portfolio.time):
            raise WhatIfError(f"instruments.{number}: {it.instrument} expired at {it.expiry}; it is {portfolio.time}")


def _check_observations(portfolio: Portfolio) -> None:
    """Refuse what is observed of nothing that is listed, or twice: a misspelt name would be priced without it."""
    listed, market = portfolio.instruments, portfolio.market
    underlyings, currencies = {it.underlying for it in listed}, {it.quote for it in listed}
    expiries = {(it.underlying, moment_ns(it.expiry)) for it in listed if it.expiry is not None}
    for name in market.prices:
        if name not in underlyings and name not in {it.asset for it in portfolio.assets}:
            raise WhatIfError(f"market.prices.{name}: neither an asset nor the underlying of an instrument")
    priced = {*market.prices, *(it.asset for it in portfolio.assets if it.price is not None)} - {portfolio.numeraire}
    for name in market.confidences:
        if name not in priced:
            raise WhatIfError(f"market.confidences.{name}: no price that it could be of")
    for currency in market.rates:
        if currency not in currencies:
            raise WhatIfError(f"market.rates.{currency}: no instrument is quoted in it")
    told: tuple[tuple[str, Sequence[ForwardEntry | SmileEntry]], ...] = (
        ("forwards", market.forwards), ("smiles", market.smiles),
    )  # fmt: skip
    for kind, entries in told:
        seen = set()
        for number, entry in enumerate(entries):
            key = (entry.underlying, moment_ns(entry.expiry))
            if key not in expiries:
                raise WhatIfError(f"market.{kind}.{number}: nothing on {entry.underlying} expires at {entry.expiry}")
            if key in seen:
                raise WhatIfError(f"market.{kind}.{number}: another one of {entry.underlying} for {entry.expiry}")
            seen.add(key)


def _smile(market: Market, place: str, record: SviRecord | VolPointsRecord) -> Smile:
    """Return a smile as the market reads it."""
    columns = market.columns
    underlying = columns.underlying_index(record.underlying)
    members = np.flatnonzero((columns.underlying == underlying) & (columns.expiry_ns == record.expiry_ns))
    first, strikes = int(members[0]), columns.strike[members]
    return Smile(
        place, record, float(columns.forward[first]), float(columns.time_to_expiry[first]),
        tuple(strikes[strikes > 0.0].tolist()),
    )  # fmt: skip


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
