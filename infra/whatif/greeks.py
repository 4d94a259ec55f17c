"""How a scene's positions move with the market: Greeks by position and by underlying, with their units.

1. The first five are those of the snapshot tables; vanna and volga are the pricing kernel's, scaled alike.
2. The settlement asset's own price is held fixed. Forwards keep their ratio to spot.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from flows.market.columns import RATE, TIME_TO_EXPIRY
from flows.market.instant import Instant
from flows.pricing.black76 import black76
from infra.whatif.scene import Scene
from schemas.instruments import InstrumentKind, OptionType, Payoff

# What a Greek is per, in words, in the order of ``Instant.greeks``; {0} is the numeraire, {1} the underlying.
GREEK_UNITS: Final = {
    "delta_per_price": "{0} per 1.00 of the price of {1}",
    "gamma_per_price_squared": "{0} per 1.00 squared of the price of {1}",
    "vega_per_vol": "{0} per 1.00 of vol (100 vol points)",
    "theta_per_day": "{0} per day",
    "rho_per_rate": "{0} per 1.00 of rate (100 %)",
    "vanna_per_price_vol": "{0} per 1.00 of the price of {1} and 1.00 of vol",
    "volga_per_vol_squared": "{0} per 1.00 squared of vol",
}


@dataclass(frozen=True, slots=True)
class GreekFigures:
    """Greeks of all positions on one underlying."""

    underlying: str
    delta_per_price: float
    gamma_per_price_squared: float
    vega_per_vol: float
    theta_per_day: float
    rho_per_rate: float
    vanna_per_price_vol: float
    volga_per_vol_squared: float
    units: dict[str, str]


def position_greeks(scene: Scene, instant: Instant) -> list[dict[str, float]]:
    """Return the Greeks of every position, in the order of what is held."""
    return [
        {
            name: each * lots
            for name, each in zip(
                GREEK_UNITS, [*instant.greeks[index].tolist(), *_vanna_volga(scene, instant, index)], strict=True
            )
        }
        for index, lots in scene.holdings.lots
    ]


def underlying_greeks(scene: Scene, greeks: list[dict[str, float]]) -> list[GreekFigures]:
    """Return the sums of positions' Greeks by underlying."""
    sums: dict[str, dict[str, float]] = {}
    for (index, _), own in zip(scene.holdings.lots, greeks, strict=True):
        total = sums.setdefault(scene.instrument(index).underlying, dict.fromkeys(GREEK_UNITS, 0.0))
        for name, each in own.items():
            total[name] += each
    numeraire = scene.market.numeraire
    return [
        GreekFigures(
            underlying=underlying,
            **total,
            units={name: unit.format(numeraire, underlying) for name, unit in GREEK_UNITS.items()},
        )
        for underlying, total in sums.items()
    ]


def _vanna_volga(scene: Scene, instant: Instant, index: int) -> tuple[float, float]:
    """Return what vega gains per 1.00 of the underlying's price and per 1.00 of vol, of a long lot, numeraire."""
    it = scene.instrument(index)
    forward, price = float(instant.forward[index]), float(instant.index_price[index])
    if it.kind is not InstrumentKind.OPTION or forward <= 0.0 or price <= 0.0:
        return 0.0, 0.0
    assert it.strike is not None, "an option has a strike"
    inverse = it.payoff is Payoff.INVERSE
    found = black76(
        forward=np.array([forward]),
        strike=np.array([float(it.strike)]),
        time_to_expiry=np.array([scene.market.input_of(index, TIME_TO_EXPIRY)]),
        implied_vol=instant.implied_vol[index : index + 1],
        rate=np.array([0.0 if inverse else scene.market.input_of(index, RATE)]),
        is_call=np.array([it.option_type is OptionType.CALL]),
    )
    vega, vanna, volga = float(found.vega[0]), float(found.vanna[0]), float(found.volga[0])
    if inverse:  # worth its undiscounted price over the forward, in coins
        vanna, volga = (vanna - vega / forward) / forward, volga / forward
    scale = float(it.lot_quantity) * float(instant.asset_price[it.settlement_asset])
    return scale * vanna * (forward / price), scale * volga
