"""What instruments are worth at least and at most while the market stays within a box.

For every instrument and slot (its mark, then each scenario of a portfolio model) two functions of the spot, both
straight lines over the box and given by their values at its two ends: ``low`` never exceeds what a long lot is worth
anywhere in the box, and ``high`` is never below it. Sums of lines are lines, so an account's worst over a box is at an
end of it.

Why they hold, for an option with total vol v and forward F = spot × ratio × scenario multiple:

1. Its undiscounted price rises with v, so it is bounded at the box's least and greatest v. v is vol × sqrt(time) × the
   scenario's multiple; each factor is bounded by itself, the multiple at the ends of the time and on both sides of
   30 days, where its power changes.
2. It is convex in F: a tangent lies below it, a chord above. F is a line in the spot for a fixed ratio, and a call
   rises with F and a put falls, so a call's ``low`` has the least ratio and its ``high`` the greatest, a put's the
   other way round.
3. Discounting multiplies by a number in [least, greatest]. The least of a line times each of them is concave in the
   spot, so the line through its values at the ends lies below it. A ``high`` is positive: the greatest counts.
4. Vols of different instruments may move apart, as far as each one's band goes: nothing here assumes a common move.

A linear future or perpetual is worth quantity × spot × (mark over spot), which is a line for each ratio.

Inverse instruments are bounded by what their coins are worth at the spot: value in coins × spot. A coin value alone is
neither convex nor monotone where that product is:

5. Of a future or perpetual it is -quantity / (ratio × scenario multiple): the same at every spot, least at the least
   ratio.
6. Of an option it is price(F) / F × spot = price(spot × ratio × multiple) / (ratio × multiple), undiscounted: convex
   in the spot. A price is homogeneous in forward and strike, so it is the price on spot × multiple at the strike over
   the ratio, over the multiple: a call rises with the ratio and a put falls, as above.

Rounding is outward by ``OUTWARD`` of the forward, the strike and what is discounted: some thousand times the kernels'
own error.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.market.columns import InstrumentColumns
from flows.pricing.black76 import undiscounted_greeks, undiscounted_price
from flows.pricing.grid import aligned_rows
from flows.pricing.kinds import OPTION, SPOT
from flows.pricing.polynomials import power
from flows.screening.lines import OUTWARD, discounts
from flows.screening.ranges import HIGH, LOW, Ranges

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int8Array = npt.NDArray[np.int8]
BoolArray = npt.NDArray[np.bool_]

_DAYS: Final = 365.0
_REFERENCE_DAYS: Final = 30.0


@dataclass(frozen=True, slots=True)
class InstrumentBox:
    """Instruments of one underlying, and how far the market may move; shapes (K,) but for the spot.

    Attributes
    ----------
    kind, inverse, call : as in ``InstrumentColumns``. quantity : of a lot. strike : quote per underlying.
    spot_low, spot_high : quote per underlying, 0 < low <= high.
    ratio_low, ratio_high : of options, forward over spot; of futures and perpetuals, mark over spot; > 0.
    vol_low, vol_high : annualised, >= 0. rate_low, rate_high : annual, continuously compounded.
    time_low, time_high : years to expiry at the end and at the beginning of the box, >= 0.
    """

    kind: Int8Array
    inverse: Int8Array
    call: Int8Array
    quantity: Float64Array
    strike: Float64Array
    spot_low: float
    spot_high: float
    ratio_low: Float64Array
    ratio_high: Float64Array
    vol_low: Float64Array
    vol_high: Float64Array
    rate_low: Float64Array
    rate_high: Float64Array
    time_low: Float64Array
    time_high: Float64Array

    @staticmethod
    def of(columns: InstrumentColumns, ranges: Ranges, members: Int64Array) -> "InstrumentBox":
        """Return the box of instruments of one underlying, as ranges say."""
        spot = ranges.spot[:, columns.underlying[members[0]]]
        return InstrumentBox(
            kind=columns.kind[members],
            inverse=columns.inverse[members],
            call=columns.call[members],
            quantity=columns.quantity[members],
            strike=columns.strike[members],
            spot_low=float(spot[LOW]),
            spot_high=float(spot[HIGH]),
            ratio_low=ranges.ratio[LOW, members],
            ratio_high=ranges.ratio[HIGH, members],
            vol_low=ranges.vol[LOW, members],
            vol_high=ranges.vol[HIGH, members],
            rate_low=ranges.rate[LOW, members],
            rate_high=ranges.rate[HIGH, members],
            time_low=ranges.time[LOW, members],
            time_high=ranges.time[HIGH, members],
        )


@dataclass(frozen=True, slots=True)
class Shocks:
    """The scenarios of a portfolio model; ``spot_multiple`` (S,), > 0, and ``vol_direction`` (S,), -1, 0 or 1.

    The rest as in ``flows.pricing.grid.scenario_profits``.
    """

    spot_multiple: Float64Array
    vol_direction: Float64Array
    vol_up: float
    vol_down: float
    vol_power_short: float
    vol_power_long: float
    vol_days_min: float


@dataclass(frozen=True, slots=True)
class InstrumentBounds:
    """Lines by instrument and slot: slot 0 is the mark, slot 1 + s is scenario s.

    Attributes
    ----------
    rows : (2 K, W), per long lot, settlement assets; of inverse instruments, these times the
        spot. Row 2 i is the ``low`` of instrument i and row 2 i + 1 its
        ``high``; columns 0 to S are the slots at the spot's low end, and W / 2 on those at its high end; a slot that
        is not there is 0. A long of q lots is worth at least q × ``low``, a short at least q × ``high``.
    covered : (K,), whether there are bounds.
    """

    rows: Float64Array
    covered: BoolArray


def instrument_bounds(box: InstrumentBox, shocks: Shocks) -> InstrumentBounds:
    """Return the lines of every instrument over the box."""
    count = box.kind.shape[0]
    slots = 1 + shocks.spot_multiple.shape[0]
    rows = aligned_rows(2 * count, 2 * (-(-slots // 8) * 8))
    covered = np.zeros(count, np.bool_)
    spot_multiple = np.concatenate(([1.0], shocks.spot_multiple))
    vol_direction = np.concatenate(([0.0], shocks.vol_direction))
    _lines(
        box.kind, box.inverse, box.call, box.quantity, box.strike, box.spot_low, box.spot_high, box.ratio_low,
        box.ratio_high, box.vol_low, box.vol_high, box.rate_low, box.rate_high, box.time_low, box.time_high,
        spot_multiple, vol_direction, shocks.vol_up, shocks.vol_down, shocks.vol_power_short, shocks.vol_power_long,
        shocks.vol_days_min, rows, covered,
    )  # fmt: skip
    return InstrumentBounds(rows, covered)


@njit(cache=True, error_model="numpy")
def _lines(
    kind: Int8Array,
    inverse: Int8Array,
    call: Int8Array,
    quantity: Float64Array,
    strike: Float64Array,
    spot_low: float,
    spot_high: float,
    ratio_low: Float64Array,
    ratio_high: Float64Array,
    vol_low: Float64Array,
    vol_high: Float64Array,
    rate_low: Float64Array,
    rate_high: Float64Array,
    time_low: Float64Array,
    time_high: Float64Array,
    spot_multiple: Float64Array,
    vol_direction: Float64Array,
    vol_up: float,
    vol_down: float,
    vol_power_short: float,
    vol_power_long: float,
    vol_days_min: float,
    rows: Float64Array,
    covered: BoolArray,
) -> None:
    slots = spot_multiple.shape[0]
    half = rows.shape[1] // 2
    for i in range(kind.shape[0]):
        low, high = rows[2 * i], rows[2 * i + 1]
        if kind[i] == SPOT:
            covered[i] = True
            continue
        covered[i] = True
        in_coins = inverse[i] != 0
        if kind[i] != OPTION and in_coins:
            for s in range(slots):
                least = -quantity[i] / (ratio_low[i] * spot_multiple[s]) * (1.0 + OUTWARD)
                greatest = -quantity[i] / (ratio_high[i] * spot_multiple[s]) * (1.0 - OUTWARD)
                low[s] = low[half + s] = least
                high[s] = high[half + s] = greatest
            continue
        if kind[i] != OPTION:
            least, greatest = quantity[i] * ratio_low[i], quantity[i] * ratio_high[i]
            for s in range(slots):
                m = spot_multiple[s]
                low[s] = least * spot_low * m * (1.0 - OUTWARD)
                low[half + s] = least * spot_high * m * (1.0 - OUTWARD)
                high[s] = greatest * spot_low * m * (1.0 + OUTWARD)
                high[half + s] = greatest * spot_high * m * (1.0 + OUTWARD)
            continue
        is_call = call[i] != 0
        k = strike[i]
        # A call is least on the least forward, a put on the greatest.
        cheap, dear = (ratio_low[i], ratio_high[i]) if is_call else (ratio_high[i], ratio_low[i])
        root_low, root_high = np.sqrt(time_low[i]), np.sqrt(time_high[i])
        v_low, v_high = vol_low[i] * root_low, vol_high[i] * root_high
        stretch_low, stretch_high = _stretches(
            time_low[i] * _DAYS, time_high[i] * _DAYS, vol_power_short, vol_power_long, vol_days_min
        )
        discount_low, discount_high = 1.0, 1.0
        if not in_coins:
            discount_low, discount_high = discounts(rate_low[i], rate_high[i], time_low[i], time_high[i])
        for s in range(slots):
            m = spot_multiple[s]
            multiple_low = multiple_high = 1.0
            if vol_direction[s] > 0.0:
                multiple_low, multiple_high = 1.0 + vol_up * stretch_low, 1.0 + vol_up * stretch_high
            elif vol_direction[s] < 0.0:
                multiple_low = max(1.0 - vol_down * stretch_high, 0.0)
                multiple_high = max(1.0 - vol_down * stretch_low, 0.0)
            outward = OUTWARD * (ratio_high[i] * spot_high * m + k)
            # By what a price is divided: an inverse option's coins are worth so much less than its forward.
            per_low, per_high = (cheap * m, dear * m) if in_coins else (1.0, 1.0)

            begin, end = spot_low * cheap * m, spot_high * cheap * m
            middle = 0.5 * (begin + end)
            worth, delta, _, _, _ = undiscounted_greeks(middle, k, v_low * multiple_low, 1.0, is_call)
            for place, forward in ((s, begin), (half + s, end)):
                line = (worth + delta * (forward - middle) - outward) / per_low
                low[place] = quantity[i] * line * (discount_low if line >= 0.0 else discount_high)

            for place, spot in ((s, spot_low), (half + s, spot_high)):
                line = (undiscounted_price(spot * dear * m, k, v_high * multiple_high, is_call) + outward) / per_high
                high[place] = quantity[i] * line * discount_high


@njit(forceinline=True, error_model="numpy")
def _stretches(
    days_low: float, days_high: float, power_short: float, power_long: float, days_min: float
) -> tuple[float, float]:
    """Return the least and greatest (30 days / days) ** power over a range of days; the power changes at 30."""
    least, greatest = np.inf, 0.0
    for days in (days_low, days_high):
        g = power(_REFERENCE_DAYS / max(days, days_min), power_short if days <= _REFERENCE_DAYS else power_long)
        least, greatest = min(least, g), max(greatest, g)
    if days_low <= _REFERENCE_DAYS < days_high:
        # It is monotone on either side, so what is left is both sides of where the power changes.
        for exponent in (power_short, power_long):
            g = power(_REFERENCE_DAYS / max(_REFERENCE_DAYS, days_min), exponent)
            least, greatest = min(least, g), max(greatest, g)
    return least * (1.0 - OUTWARD), greatest * (1.0 + OUTWARD)
