"""What a scene's numbers are made of: by asset, by position, by scenario, and how they move.

1. Equity is the sum of what counts of each asset. Maintenance margin is what collateral needs and the sum of the
   positions' steps: what each adds to those before it, in instrument order. Both are the engine's numbers of
   hypothetical accounts, taken apart.
2. Where positions offset each other a step depends on the order; ``alone`` and ``marginal`` do not, and do not add up.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from flows.liquidation.ladder import tiers
from flows.margin.breakdown import Part
from flows.margin.model import margins_collateral
from flows.market.instant import Instant
from infra.whatif.greeks import GreekFigures, position_greeks, underlying_greeks
from infra.whatif.scenarios import BreakdownFigures, GroupFigures, breakdown_of
from infra.whatif.scene import Holdings, Numbers, Scene, WhatIfError
from schemas.instruments import MarginMode
from schemas.money import decimal_parts, from_units
from schemas.results import Tier

OPEN_ORDERS: Final = "open orders"


@dataclass(frozen=True, slots=True)
class AssetFigures:
    """One asset's part of equity.

    ``haircut`` is the one in force: the confidence and the annualised realised vol of the price are in it.

    ``cash`` is a decimal string; ``positions_value`` in whole assets, of what settles in it; ``worth`` in the
    numeraire, of both; ``counted`` is what of it is in equity: after the haircut, all of it where it is a debt. The
    haircut is 0 where the margin model margins collateral itself.
    """

    asset: str
    cash: str
    positions_value: float
    price: float
    confidence_ratio: float
    realised_vol: float
    haircut: float
    worth: float
    counted: float


@dataclass(frozen=True, slots=True)
class CollateralFigures:
    """What balances need without any position: nothing, but by a margin model that margins collateral itself."""

    initial_margin: float
    maintenance_margin: float


@dataclass(frozen=True, slots=True)
class Share:
    """A position's part of a requirement: by itself, beyond all others, and as a step of the sum."""

    alone: float
    marginal: float
    step: float


@dataclass(frozen=True, slots=True)
class PositionFigures:
    """One position; money in the numeraire. ``implied_vol`` is None where there is none."""

    instrument: str
    quantity: str
    mark_price: float
    implied_vol: float | None
    value: float
    initial_margin: Share
    maintenance_margin: Share
    greeks: dict[str, float]


@dataclass(frozen=True, slots=True)
class OpenOrderFigures:
    """What the open orders in an instrument have left, as quantities."""

    instrument: str
    buys: str
    sells: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that is said of a scene; money in the numeraire.

    ``parts`` are what both margins are made of, and ``scenarios`` those behind them; both None where the margin model
    does not say. ``positions`` and ``scenarios`` are of the account as it is, without its open orders.
    """

    health: float
    equity: float
    initial_margin: float
    maintenance_margin: float
    free_margin: float
    tier: str
    assets: list[AssetFigures]
    collateral: CollateralFigures
    positions: list[PositionFigures]
    open_orders: list[OpenOrderFigures]
    parts: list[Part] | None
    scenarios: list[GroupFigures] | None
    greeks: list[GreekFigures]


def numbers(scene: Scene, instant: Instant) -> Numbers | None:
    """Return the numbers of a scene's account at an instant; None where they cannot be known."""
    found = scene.evaluate(instant, [scene.holdings])
    if found.undecidable[0]:
        return None
    return Numbers(float(found.equity[0]), float(found.initial_margin[0]), float(found.maintenance_margin[0]))


def figures(scene: Scene) -> Figures:
    """Return everything that is said of a scene.

    Raises
    ------
    WhatIfError : what is held cannot be valued, or the margin model does not cover it; the message names it.
    """
    instant = scene.instant()
    now = numbers(scene, instant)
    if now is None:
        raise WhatIfError(_why_unknown(scene, instant))
    tier = tiers(
        np.array([now.equity]), np.array([now.initial_margin]), np.array([now.maintenance_margin]), instant.ladder
    )
    greeks = position_greeks(scene, instant)
    made_of = _made_of(scene, instant, now)
    return Figures(
        health=now.health,
        equity=now.equity,
        initial_margin=now.initial_margin,
        maintenance_margin=now.maintenance_margin,
        free_margin=now.equity - now.initial_margin,
        tier=Tier(int(tier[0])).name.lower(),
        assets=_assets(scene, instant),
        collateral=_collateral(scene, instant),
        positions=_positions(scene, instant, greeks),
        open_orders=[
            OpenOrderFigures(
                scene.instrument(index).instrument, _quantity(scene, index, buys), _quantity(scene, index, sells)
            )
            for index, buys, sells in scene.holdings.open_orders
        ],
        parts=None if made_of is None else made_of.parts,
        scenarios=None if made_of is None else made_of.scenarios,
        greeks=underlying_greeks(scene, greeks),
    )


def _made_of(scene: Scene, instant: Instant, now: Numbers) -> BreakdownFigures | None:
    """Return what both margins are made of: open orders are a part of their own, beyond what is held."""
    if not scene.holdings.open_orders:
        return breakdown_of(scene, instant, now)
    without = replace(scene, holdings=replace(scene.holdings, open_orders=()))
    held = numbers(without, instant)
    assert held is not None, "an account is decided by what it holds, and this one was"
    made_of = breakdown_of(without, instant, held)
    if made_of is None:
        return None
    part = Part(OPEN_ORDERS, "", now.initial_margin - held.initial_margin, 0.0)
    return replace(made_of, parts=[*made_of.parts, part])


def _why_unknown(scene: Scene, instant: Instant) -> str:
    assets, instruments = scene.market.listings.assets, scene.market.listings.instruments
    unpriced = [
        assets[index].asset
        for index, units in enumerate(scene.holdings.units)
        if units and not instant.asset_decidable[index]
    ]
    unvalued = [
        f"{instruments[index].instrument} cannot be valued: {scene.market.missing(index)}"
        for index, _ in scene.holdings.lots
        if not instant.value_decidable[index]
    ]
    if unpriced:
        return f"no usable price of {', '.join(unpriced)}: what is held cannot be valued"
    if unvalued:
        return unvalued[0] + (f"; so are {len(unvalued) - 1} others" if len(unvalued) > 1 else "")
    return f"margin model {scene.model.name} does not cover what is held"


def _assets(scene: Scene, instant: Instant) -> list[AssetFigures]:
    values = [0.0] * len(scene.holdings.units)
    settles = set()
    for index, lots in scene.holdings.lots:
        settlement = int(instant.settlement_asset[index])
        values[settlement] += float(instant.value[index]) * lots
        settles.add(settlement)
    narrow = scene.account.margin_mode is MarginMode.ISOLATED and bool(settles)
    found = []
    for asset, units in zip(scene.market.listings.assets, scene.holdings.units, strict=True):
        if not units and asset.index not in settles:
            continue
        price = float(instant.asset_price[asset.index])
        haircut = 0.0 if margins_collateral(scene.model) else float(instant.haircut[asset.index])
        confidence, vol = float(instant.asset_confidence[asset.index]), float(instant.realised_vol[asset.index])
        worth = (units * float(instant.asset_unit[asset.index]) + values[asset.index]) * price
        counts = worth < 0.0 or not narrow or asset.index in settles
        counted = worth if worth < 0.0 else worth * (1.0 - haircut)
        found.append(
            AssetFigures(
                asset.asset, from_units(units, asset.decimals), values[asset.index], price, confidence, vol,
                haircut, worth,
                counted if counts else 0.0,
            )
        )  # fmt: skip
    return found


def _collateral(scene: Scene, instant: Instant) -> CollateralFigures:
    margins = scene.evaluate(instant, [Holdings(scene.holdings.units)])
    return CollateralFigures(float(margins.initial_margin[0]), float(margins.maintenance_margin[0]))


def _positions(scene: Scene, instant: Instant, greeks: list[dict[str, float]]) -> list[PositionFigures]:
    held = scene.holdings.lots
    if not held:
        return []
    units, count = scene.holdings.units, len(held)
    accounts = [Holdings(units, held[:size]) for size in range(count + 1)]
    accounts += [Holdings((0,) * len(units), (position,)) for position in held]
    accounts += [Holdings(units, held[:place] + held[place + 1 :]) for place in range(count)]
    margins = scene.evaluate(instant, accounts)

    def shares(margin: np.ndarray[Any, np.dtype[np.float64]]) -> list[Share]:
        prefix, alone, without = margin[: count + 1], margin[count + 1 : 2 * count + 1], margin[2 * count + 1 :]
        return [
            Share(float(alone[n]), float(prefix[count] - without[n]), float(prefix[n + 1] - prefix[n]))
            for n in range(count)
        ]

    found = []
    initial, maintenance = shares(margins.initial_margin), shares(margins.maintenance_margin)
    for place, (index, lots) in enumerate(held):
        instrument = scene.instrument(index)
        asset = int(instant.settlement_asset[index])
        vol = float(instant.implied_vol[index])
        found.append(
            PositionFigures(
                instrument=instrument.instrument,
                quantity=_quantity(scene, index, lots),
                mark_price=float(instant.mark_price[index]),
                implied_vol=vol if vol > 0.0 else None,
                value=float(instant.value[index]) * lots * float(instant.asset_price[asset]),
                initial_margin=initial[place],
                maintenance_margin=maintenance[place],
                greeks=greeks[place],
            )
        )  # fmt: skip
    return found


def _quantity(scene: Scene, instrument: int, lots: int) -> str:
    units, decimals = decimal_parts(scene.registry.tradable(instrument).record.lot_size)
    return from_units(lots * units, decimals)
