"""What an account's lines add up to in the numeraire: by what its positions settle in, over a box.

A *pair* is an underlying and the asset in which instruments of it settle. Within it everything is a line in the spot of
the underlying, in one unit: the settlement asset, or for inverse instruments what its coin is worth at the spot.

What is bounded from below is ``equity - multiple × margin``, or, *upward*, ``multiple × margin - equity``. Either is a
sum of parts of its pairs: slope × worth - what is needed, where worth is signed likewise, and the slope is equity's.

1. Equity counts the net of an asset, n, by ``n - haircut × max(n, 0)``, which rises with n: a line below n may stand
   for it. It is concave: between the least and the greatest that stands for n it lies above its chord. Upward, where -n
   stands for the net, it is convex, and any tangent lies below.
2. The unit's price multiplies all that is in it, so a line below may stand for that, too. Two bounds hold, and the
   greater one counts. Apart: every asset at the worse end of its price, every underlying at the worse end of its spot
   for each asset. Together: prices at the middle of their ranges and every underlying at one end for all assets, less
   half of each price's range times the most that there is in that asset.
3. Sums of lines are least where each underlying is at its worse end; a spot is one number for all pairs of it.
4. A balance of an asset in which nothing settles counts at the low end of price and the high end of haircut if owned,
   at the high end of price if owed; upward the other way round.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.market.columns import InstrumentColumns
from flows.pricing.kinds import SPOT
from flows.screening.ranges import HIGH, LOW, Ranges

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

# Rounding of the engine's own sums, relative to what is added up, and in the numeraire.
ROUNDING: Final = 1e-10
LEAST: Final = 1e-6


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
        coin_of = columns.assets.underlying.astype(np.int64)[settles_in]
        is_tied = coin_of == columns.underlying
        return Pairs(
            of=of.astype(np.int32),
            bounded=np.where(columns.inverse != 0, is_tied, coin_of < 0) | (columns.kind == SPOT),
            underlying=columns.underlying[first].astype(np.int64),
            asset=settles_in[first],
            tied=is_tied[first],
            an_instrument=first,
        )

    def unit_price(self, ranges: Ranges) -> Float64Array:
        """Return (2, P), least and greatest price of the unit of each pair."""
        return np.where(self.tied, ranges.tie[:, self.an_instrument], ranges.price[:, self.asset])


@njit(forceinline=True, error_model="numpy")
def known_balances(
    cash: Int64Array, row: int, asset_unit: Float64Array, asset_known: BoolArray, units: Float64Array
) -> bool:
    """Write (A,) whole assets that an account owns; return whether all of them are known that it owns or owes."""
    known = True
    columns = min(units.shape[0], cash.shape[1])
    for j in range(columns):
        units[j] = cash[row, j] * asset_unit[j]
        known &= units[j] == 0.0 or asset_known[j]
    for j in range(columns, units.shape[0]):
        units[j] = 0.0
    return known


@njit(forceinline=True, error_model="numpy")
def balance(
    units: float,
    price_low: float,
    price_high: float,
    factor_low: float,
    factor_high: float,
    upward: bool,  # noqa: FBT001 - a kernel
) -> float:
    """Return the least that a balance counts; an owned one by a factor, which may be negative."""
    if upward:
        if units < 0.0:
            return -units * price_low
        most = units * factor_high
        return -most * (price_high if most >= 0.0 else price_low)
    if units < 0.0:
        return units * price_high
    least = units * factor_low
    return least * (price_low if least >= 0.0 else price_high)


@njit(forceinline=True, error_model="numpy")
def narrow_balances(held: Int64Array, groups: int, asset: Int64Array, units: Float64Array) -> None:
    """Drop what an isolated account owns that none of the pairs ``held[:groups]`` of its positions settles in."""
    for j in range(units.shape[0]):
        counts = units[j] <= 0.0
        for k in range(groups):
            counts |= asset[held[k]] == j
        if not counts:
            units[j] = 0.0


@njit(error_model="numpy")
def other_balances(
    units: Float64Array,
    settles: BoolArray,
    price: Float64Array,
    haircut: Float64Array,
    upward: bool,  # noqa: FBT001 - a kernel
) -> float:
    """Return the least that balances count in which nothing settles."""
    total = 0.0
    for j in range(units.shape[0]):
        if settles[j] or units[j] == 0.0:
            continue
        total += balance(units[j], price[LOW, j], price[HIGH, j], 1.0 - haircut[HIGH, j], 1.0 - haircut[LOW, j], upward)
    return total


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


@njit(error_model="numpy")
def equity_lines(
    held: Int64Array,
    groups: int,
    underlying: Int64Array,
    asset: Int64Array,
    tied: BoolArray,
    spot: Float64Array,
    haircut: Float64Array,
    units: Float64Array,
    upward: bool,  # noqa: FBT001 - a kernel
    worth: Float64Array,
    beyond: Float64Array,
    settles: BoolArray,
    intercept: Float64Array,
    slope: Float64Array,
) -> None:
    """Write which assets an account's positions settle in, (A,), and equity's line in the net of each.

    ``held[:groups]`` are its pairs, and ``worth`` (P, 2) the lines of their worth, signed; the coins that are owned of
    a tied pair's asset are added to it here. ``beyond`` (P, 2), >= 0, is by how much the net may be above its lines
    where the slope is to hold for the net itself and not for them alone.
    """
    settles[:] = False
    sign = -1.0 if upward else 1.0
    for k in range(groups):
        pair = held[k]
        j = asset[pair]
        if not settles[j]:
            settles[j] = True
            # The least and the greatest of the net meanwhile.
            intercept[j] = slope[j] = 0.0 if tied[pair] else sign * units[j]
        if tied[pair]:
            for end in range(2):
                worth[pair, end] += sign * units[j] * spot[end, underlying[pair]]
        intercept[j] += min(worth[pair, 0], worth[pair, 1])
        slope[j] += max(worth[pair, 0] + beyond[pair, 0], worth[pair, 1] + beyond[pair, 1])
    for j in range(settles.shape[0]):
        if not settles[j]:
            continue
        least, most = (-slope[j], -intercept[j]) if upward else (intercept[j], slope[j])
        intercept[j], slope[j] = equity_line(least, most, haircut[LOW, j], haircut[HIGH, j], upward)


@njit(error_model="numpy")
def least_of_parts(
    held: Int64Array,
    groups: int,
    underlying: Int64Array,
    asset: Int64Array,
    tied: BoolArray,
    unit_low: Float64Array,
    unit_high: Float64Array,
    units: Float64Array,
    upward: bool,  # noqa: FBT001 - a kernel
    part: Float64Array,
    settles: BoolArray,
    intercept: Float64Array,
    slope: Float64Array,
    lines: Float64Array,
) -> float:
    """Return the least of all that settles anywhere, numeraire: parts (P, 2), and what is owned of these assets.

    ``lines`` (U, 2) is room.
    """
    sign = -1.0 if upward else 1.0
    apart = together = 0.0
    assets = 0
    for k in range(groups):
        lines[underlying[held[k]]] = 0.0
    for j in range(settles.shape[0]):
        if not settles[j]:
            continue
        assets += 1
        first = True
        least = most = 0.0
        low = high = 1.0
        for k in range(groups):
            pair = held[k]
            if asset[pair] != j:
                continue
            low, high = unit_low[pair], unit_high[pair]
            if first:
                first = False
                rest = intercept[j] + (0.0 if tied[pair] else slope[j] * sign * units[j])
                least = most = rest
                together += 0.5 * (low + high) * rest
            least += min(part[pair, 0], part[pair, 1])
            most += max(part[pair, 0], part[pair, 1])
            for end in range(2):
                lines[underlying[pair], end] += 0.5 * (low + high) * part[pair, end]
        apart += least * (low if least >= 0.0 else high)
        together -= 0.5 * (high - low) * max(abs(least), abs(most))
    if assets <= 1:
        return apart
    for k in range(groups):
        u = underlying[held[k]]
        together += min(lines[u, 0], lines[u, 1])
        lines[u] = 0.0
    return max(apart, together)
