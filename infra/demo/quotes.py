"""What the demo's instruments cost: the fair prices that marks, trades and the model's own books start from.

1. A price is the same whether it is published as a mark or traded at: both come from here.
2. An option's price is Black-76 on the smile of its expiry, all options of an instant at once.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from infra.demo.market import MarketPath
from infra.demo.portable import Float64Array, logarithm, option_price
from infra.demo.venue import ASSETS, UNDERLYINGS, expiries, listings
from schemas.instruments import InstrumentKind

# Places in the listing.
PERPETUALS: Final = 3
INVERSE: Final = 2


@dataclass(frozen=True, slots=True)
class Prices:
    """What instruments cost at one instant: (K,) ticks, and USD a lot (signed: an inverse lot is a debt in coins)."""

    ticks: list[int]
    usd_per_lot: Float64Array


class Quotes:
    """The listed instruments on one path.

    Parameters
    ----------
    settles_ns : the expiry inside the day
    """

    def __init__(self, path: MarketPath, settles_ns: int) -> None:
        self.path = path
        self.listed = listings()
        self.expiries_ns = expiries(settles_ns)
        self.tick = [one.tick for one in self.listed]
        self.quantity = [one.quantity_per_lot for one in self.listed]
        self.linears = [at for at, one in enumerate(self.listed) if one.kind is not InstrumentKind.OPTION]
        self.expiring = [at for at, one in enumerate(self.listed) if one.expiry == 0]
        options = [one for one in self.listed if one.kind is InstrumentKind.OPTION]
        self._group = np.array([one.underlying * len(self.expiries_ns) + one.expiry for one in options])
        self._strike = np.array([float(one.strike) for one in options])
        self._is_call = np.array([one.is_call for one in options])

    def prices(self, instant: int) -> Prices:
        """Return what every instrument costs at an instant; an expired one keeps its last intrinsic value."""
        path = self.path
        now = int(path.time_ns[instant])
        # For the last minute of an expiry's life and after it, its smile is that of one minute left.
        smiles = [
            path.smile(instant, underlying, expiry_ns)
            for underlying in range(len(UNDERLYINGS))
            for expiry_ns in self.expiries_ns
        ]
        group = self._group
        forward = np.array([smile.forward for smile in smiles])[group]
        a = np.array([smile.a for smile in smiles])[group]
        b = np.array([smile.b for smile in smiles])[group]
        rho = np.array([smile.rho for smile in smiles])[group]
        sigma = np.array([smile.sigma for smile in smiles])[group]
        moneyness = logarithm(self._strike / forward)
        variance = a + b * (rho * moneyness + np.sqrt(moneyness * moneyness + sigma * sigma))
        premium = option_price(forward=forward, strike=self._strike, total_variance=variance, is_call=self._is_call)
        linear = [self.linear_price(instant, at) for at in self.linears]
        price = np.concatenate([linear, premium])
        ticks = np.maximum(np.rint(price / np.array(self.tick)), 1.0).astype(np.int64)
        usd = price * np.array(self.quantity)
        usd[INVERSE] = -self.quantity[INVERSE] * float(path.index[instant, 0]) / linear[INVERSE]
        if now >= self.expiries_ns[0]:
            usd[self.expiring] = 0.0
        return Prices(ticks=ticks.tolist(), usd_per_lot=usd)

    def linear_price(self, instant: int, at: int) -> float:
        """Return the mark of a perpetual or future."""
        one = self.listed[at]
        if one.expiry < 0:
            return float(self.path.index[instant, one.underlying] * (1.0 + self.path.premium[instant, at]))
        return self.path.forward(instant, one.underlying, self.expiries_ns[one.expiry])

    def asset_price(self, instant: int, asset: int) -> float:
        """Return the true price of an asset in USD."""
        if ASSETS[asset][0] in UNDERLYINGS:
            return float(self.path.index[instant, UNDERLYINGS.index(ASSETS[asset][0])])
        return float((self.path.usdc if asset == 0 else self.path.usdt)[instant])
