"""Quoted vols of one expiry as they are, where a fit is not wanted or not good enough.

1. Points are told with their own strikes; the market draws the curve between them (``flows.market.surface``), and
   total variances here are that curve's.
2. Prices of rising strikes must leave every butterfly worth something, within the quotes' own spreads: what a quote's
   bid and ask allow is no arbitrage. A fit is held to its density instead, for it has one between strikes.
3. Like a fit, points do not undercut the expiry before, where both are quoted.
"""

from dataclasses import dataclass

import numpy as np

from flows.calibration.svi import CHECK_POINTS, Earlier, Float64Array1D
from flows.market.surface import implied_vols
from flows.pricing.black76 import black76
from schemas.ledger import VolPointsRecord


@dataclass(frozen=True, slots=True)
class QuotedPoints:
    """One expiry's quoted vols, in rising strikes; shapes (n,), n >= 1.

    ``spread`` is half of each quote's spread, in vol.
    """

    strike: Float64Array1D
    vol: Float64Array1D
    spread: Float64Array1D
    forward: float
    time_to_expiry: float

    @property
    def k(self) -> Float64Array1D:
        """Log moneyness of the points, ln(strike / forward)."""
        out: Float64Array1D = np.log(self.strike / self.forward)
        return out

    @property
    def k_min(self) -> float:
        """The lowest quoted log moneyness."""
        return float(self.k[0])

    @property
    def k_max(self) -> float:
        """The highest quoted log moneyness."""
        return float(self.k[-1])

    def implied_vol(self, k: Float64Array1D) -> Float64Array1D:
        """Return the annualised vol at log moneyness ``k``, (n,), > 0."""
        smile = VolPointsRecord("", 0, "", self.strike.tolist(), self.vol.tolist(), 0)
        return implied_vols(smile, self.forward * np.exp(k))

    def total_variance(self, k: Float64Array1D) -> Float64Array1D:
        """Return vol squared times years at log moneyness ``k``, (n,), > 0."""
        vol = self.implied_vol(k)
        return vol * vol * self.time_to_expiry

    def butterfly_min(self) -> float:
        """Return the lowest distance of a price from what its neighbours allow, in half spreads; inf of two points.

        Below -1 somebody could buy a butterfly for less than nothing at quoted prices, or a call spread for less.
        """
        count = self.strike.shape[0]
        found = black76(
            forward=np.full(count, self.forward),
            strike=self.strike,
            time_to_expiry=np.full(count, self.time_to_expiry),
            implied_vol=self.vol,
            rate=np.zeros(count),
            is_call=np.ones(count, np.bool_),
        )
        # Strike 0 is worth the forward, and one far away nothing: between them every price has two neighbours.
        strike = np.concatenate([[0.0], self.strike])
        call = np.concatenate([[self.forward], found.price])
        slack = found.vega * self.spread
        share = (strike[2:] - strike[1:-1]) / (strike[2:] - strike[:-2])
        chord = share * call[:-2] + (1.0 - share) * call[2:]
        floor = 1e-12 * self.forward
        distances = (chord - call[1:-1]) / (slack[:-1] + floor)
        falls = (call[:-1] - call[1:]) / (slack + floor)
        return float(min(distances.min(initial=np.inf), falls.min()))

    def calendar_min(self, earlier: Earlier | None) -> float:
        """Return the lowest excess over the earlier total variance where both are quoted, as a vol; inf without one."""
        if earlier is None:
            return float("inf")
        low, high = max(self.k_min, earlier.k_min), min(self.k_max, earlier.k_max)
        if low >= high:
            return float("inf")
        k = np.linspace(low, high, CHECK_POINTS)
        before = np.sqrt(np.maximum(earlier.total_variance(k), 0.0) / self.time_to_expiry)
        return float(np.min(self.implied_vol(k) - before))
