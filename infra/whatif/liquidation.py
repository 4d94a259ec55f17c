"""At which price of one underlying an account is liquidated, everything else standing still.

1. The price solves ``equity(P) = maintenance margin(P)``, both as the engine computes them at P. Marks and forwards of
   the underlying keep their ratio to it, and so does the asset of its name, as collateral too.
2. The nearest root on either side of the present price is given. The search goes outward from a millionth to a million
   times the price, looks between its steps where health turns without crossing, and never guesses: where an account
   cannot be decided any more, it stops and says so.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from infra.whatif.figures import numbers
from infra.whatif.market import Move
from infra.whatif.scene import Scene

_FARTHEST: Final = 1e6
# Steps of half a percent near the present price, growing to ten percent far away.
_STEP_FIRST: Final = 0.005
_STEP_GROWTH: Final = 1.03
_STEP_LAST: Final = 0.1
# Health turns at the middle one of three.
_NEIGHBOURS: Final = 3


@dataclass(frozen=True, slots=True)
class LiquidationPrices:
    """Where an account is liquidated if one price moves alone; numeraire per underlying.

    ``below`` and ``above`` are None where there is no such price on that side. ``searched_from`` and ``searched_to``
    is how far was looked: nearer where the account cannot be decided beyond.
    """

    underlying: str
    price: float
    below: float | None
    above: float | None
    searched_from: float
    searched_to: float


def liquidation_prices(scene: Scene) -> list[LiquidationPrices]:
    """Return the liquidation prices for everything whose price an account depends on, in order of listing."""
    return [_prices(scene, name) for name in price_names(scene)]


def price_names(scene: Scene) -> list[str]:
    """Return the underlyings held, then the assets held that are no linear contract's settlement asset."""
    listings = scene.market.listings
    names = dict.fromkeys(scene.instrument(index).underlying for index, _ in scene.holdings.lots)
    # What contracts pay in is held still: its price is the currency's, not an underlying's.
    paid_in = {
        it.settlement_asset
        for it in listings.instruments
        if it.underlying != listings.assets[it.settlement_asset].asset
    }
    for asset, units in zip(listings.assets, scene.holdings.units, strict=True):
        if units and asset.index not in paid_in and asset.asset != scene.market.numeraire:
            names[asset.asset] = None
    return [name for name in names if scene.market.price_of(name) > 0.0]


def _prices(scene: Scene, name: str) -> LiquidationPrices:
    own = scene.moves.get(name)
    price = scene.market.price_of(name) * (1.0 if own is None else own.spot)

    def health(multiple: float) -> float:
        found = numbers(scene, scene.instant({name: Move(spot=multiple)}))
        return np.nan if found is None else found.health

    below, lowest = _nearest(health, _outward(down=True))
    above, highest = _nearest(health, _outward(down=False))
    return LiquidationPrices(
        name, price, None if below is None else below * price, None if above is None else above * price,
        lowest * price, highest * price,
    )  # fmt: skip


def _outward(*, down: bool) -> Iterator[float]:
    """Yield multiples of the present price from 1 to the farthest, in growing steps."""
    distance, step = 0.0, _STEP_FIRST
    farthest = float(np.log(_FARTHEST))
    while distance < farthest:
        yield float(np.exp(-distance if down else distance))
        distance += step
        step = min(step * _STEP_GROWTH, _STEP_LAST)
    yield 1.0 / _FARTHEST if down else _FARTHEST


def _nearest(health: Callable[[float], float], multiples: Iterator[float]) -> tuple[float | None, float]:
    """Return ``(the nearest root, how far was looked)``; the root is None where there is none."""
    seen: list[tuple[float, float]] = []
    for multiple in multiples:
        value = health(multiple)
        if not np.isfinite(value):
            return None, seen[-1][0] if seen else 1.0
        seen.append((multiple, value))
        if value == 0.0:
            return multiple, multiple
        if len(seen) > 1 and (seen[-2][1] > 0.0) != (value > 0.0):
            return _root(health, seen[-2][0], multiple), multiple
        if len(seen) >= _NEIGHBOURS:
            touched = _between(health, seen[-_NEIGHBOURS:])
            if touched is not None:
                return touched, multiple
    return None, seen[-1][0]


def _between(health: Callable[[float], float], three: list[tuple[float, float]]) -> float | None:
    """Return the root nearest to the first of three neighbours where health turns toward zero between them, if any."""
    (first, one), (_, two), (last, three_) = three
    sign = 1.0 if two > 0.0 else -1.0
    if not (sign * two <= sign * one and sign * two <= sign * three_):
        return None
    low, high = min(first, last), max(first, last)
    turned = minimize_scalar(lambda x: sign * health(x), bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    if turned.fun > 0.0:
        return None
    return _root(health, first, float(turned.x))


def _root(health: Callable[[float], float], one: float, other: float) -> float:
    low, high = sorted((one, other))
    return float(brentq(health, low, high, xtol=1e-300, rtol=4 * np.finfo(float).eps))
