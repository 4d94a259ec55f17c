"""What both of our own models' bounds share: an account's parts by what it settles in, and its equity over a box.

1. A *pair* is an underlying and the asset in which instruments of it settle. Within a pair everything is a line in the
   spot of the underlying, in one unit: settlement assets, or for inverse instruments what those are worth at the spot.
2. Equity counts the net of an asset, ``n``, by ``n - haircut × max(n, 0)``, which is concave: the line between its
   values at the least and the greatest net lies below it, any tangent above. Either is ``a + b n``.
3. The unit's price multiplies all that is in it. Everything that is added up is homogeneous in the prices: with one
   asset, price times the rest. With several, each is taken at the middle of its range, and what is added up cannot
   differ by more than half the range of each price, relative to it, times the greatest that is in that asset.
4. A balance of an asset in which nothing settles counts at the low end of price and the high end of haircut if owned,
   at the high end of price if owed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.market.columns import InstrumentColumns
from flows.pricing.kinds import SPOT
from flows.screening.ranges import Ranges

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

# Rounding of the engine's own sums, relative to what is added up, and in the numeraire.
ROUNDING = 1e-10
LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which pairs there are: shapes (P,), and (K,) of instruments.

    Attributes
    ----------
    of : (K,), the pair of an instrument. bounded : (K,), whether lines hold for it: an inverse instrument must settle
        in the coin of its underlying, and a linear one in no coin of an underlying.
    underlying, asset : (P,). tied : (P,), whether the asset is the coin of the underlying. an_instrument : (P,), one of
        the pair's.
    """

    of: Int32Array
    bounded: BoolArray
    underlying: Int64Array
    asset: Int64Array
    tied: BoolArray
    an_instrument: Int64Array

    @staticmethod
    def among(columns: InstrumentColumns) -> "Pairs":
        """Return the pairs of everything that is listed."""
        settles_in = columns.settlement_asset.astype(np.int64)
        key = columns.underlying.astype(np.int64) * (int(settles_in.max(initial=0)) + 1) + settles_in
        _, first, of = np.unique(key, return_index=True, return_inverse=True)
        coin_of = columns.assets.underlying.astype(np.int64)
        is_coin = coin_of[settles_in] >= 0
        is_tied = coin_of[settles_in] == columns.underlying
        return Pairs(
            of=of.astype(np.int32),
            bounded=np.where(columns.inverse != 0, is_tied, ~is_coin) | (columns.kind == SPOT),
            underlying=columns.underlying[first].astype(np.int64),
            asset=settles_in[first],
            tied=is_tied[first],
            an_instrument=first,
        )

    def unit_price(self, ranges: Ranges) -> Float64Array:
        """Return (2, P), least and greatest price of the unit in which a pair's lines are."""
        return np.where(self.tied, ranges.tie[:, self.an_instrument], ranges.price[:, self.asset])


@njit(forceinline=True, error_model="numpy")
def equity_line(
    net_low: float,
    net_high: float,
    haircut_low: float,
    haircut_high: float,
    upward: bool,  # noqa: FBT001 - a kernel
) -> tuple[float, float]:
    """Return (a, b): equity of a net between two ends is at least ``a + b net``, or upward, at most."""
    if upward:
        return 0.0, 1.0 - haircut_low if net_low + net_high > 0.0 else 1.0
    if net_low >= 0.0:
        return 0.0, 1.0 - haircut_high
    if net_high <= 0.0:
        return 0.0, 1.0
    slope = ((1.0 - haircut_high) * net_high - net_low) / (net_high - net_low)
    return net_low - slope * net_low, slope


@njit(forceinline=True, error_model="numpy")
def other_balance(
    units: float,
    price_low: float,
    price_high: float,
    haircut_low: float,
    haircut_high: float,
    narrow: bool,  # noqa: FBT001 - a kernel
) -> tuple[float, float]:
    """Return the least and greatest that a balance counts, of an asset in which nothing settles.

    ``narrow`` : what is owned of it does not count.
    """
    if units < 0.0:
        return units * price_high, units * price_low
    if narrow:
        return 0.0, 0.0
    return units * (1.0 - haircut_high) * price_low, units * (1.0 - haircut_low) * price_high
