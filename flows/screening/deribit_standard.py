"""Bounds of ``deribit-standard``: what an account's health is at least, and at most, over a box.

A boundary is ``equity = multiple × margin``. Margin is a sum over positions, and so are the bounds: lines in the spot
of what a lot is worth and needs, in the units of ``unit_sums``.

1. A linear future or perpetual is worth quantity × ratio × spot, a line for each ratio. An inverse one is worth, at the
   spot, -quantity / ratio: the same at every spot, and what it needs is a share of the same.
2. What size adds is a share of size × coins. Of linear instruments that is a line; of inverse ones it is quantity² over
   ratio² × spot: convex in the spot, so below its chord and above its tangent.
3. An option's mark is bounded as in ``lines``; where it is discounted, by a factor within its range. A long one needs
   its mark and is worth it: both count with one factor, ``position_bounds`` says how.
4. A short one needs ``max(initial - outside / forward, least) × spot``: in coins × spot likewise. It depends on the
   ratio by the strike over it alone, falls with that for calls and rises for puts; kinks as in ``lines``.
5. A put's maintenance is a share of ``max(spot, mark)`` and its initial margin the greater of two needs: maxima of
   lines.
"""

from typing import Any

import numpy as np
from numba import njit

from flows.market.columns import InstrumentColumns
from flows.market.instant import Instant
from flows.pricing.kinds import OPTION, SPOT
from flows.screening.lines import (
    OUTWARD,
    discounts,
    factor_below,
    greater_below,
    option_lines,
    short_option_need_above,
    short_option_need_below,
)
from flows.screening.position_bounds import (
    NEED,
    OF_MAINTENANCE,
    ROWS,
    SHORT,
    SPREAD,
    SQUARE,
    UPWARD,
    WORTH,
    PositionBounds,
)
from flows.screening.ranges import HIGH, LOW, Float64Array, Int8Array, Int64Array, Ranges
from schemas.parameters import DeribitStandardParameters


class DeribitStandardBounds(PositionBounds):
    """Bounds over one set of ranges."""

    def __init__(self, columns: InstrumentColumns, parameters: DeribitStandardParameters, instant: Instant) -> None:
        super().__init__(columns, instant, np.ones(columns.count, np.bool_), grain=0.0, worth_max=np.inf)
        self._parameters = parameters

    def _lay_out(self, ranges: Ranges, members: Int64Array) -> None:
        columns, parameters = self._columns, self._parameters
        u = int(columns.underlying[members[0]])
        rates = parameters.futures.get(columns.underlyings[u], parameters.default_futures)
        _lay_out(
            members, columns.kind, columns.inverse, columns.call, columns.quantity, columns.strike,
            ranges.spot[LOW, u], ranges.spot[HIGH, u], ranges.ratio, ranges.vol, ranges.rate, ranges.time,
            np.array([rates.initial, rates.maintenance]), rates.slope_per_coin, parameters.option_initial,
            parameters.option_initial_min, parameters.option_maintenance, self._table,
        )  # fmt: skip


def open_bounds(columns: InstrumentColumns, parameters: Any, instant: Instant) -> DeribitStandardBounds:
    """Return the model's bounds, with nothing written yet."""
    return DeribitStandardBounds(columns, parameters, instant)


@njit(cache=True, error_model="numpy")
def _lay_out(
    members: Int64Array,
    kind: Int8Array,
    inverse: Int8Array,
    call: Int8Array,
    quantity: Float64Array,
    strike: Float64Array,
    spot_low: float,
    spot_high: float,
    ratio: Float64Array,
    vol: Float64Array,
    rate: Float64Array,
    time: Float64Array,
    future_rates: Float64Array,
    slope_per_coin: float,
    option_initial: float,
    option_initial_min: float,
    option_maintenance: float,
    table: Float64Array,
) -> None:
    for place in range(members.shape[0]):
        i = members[place]
        rows = table[ROWS * i : ROWS * (i + 1)]
        rows[:] = 0.0
        if kind[i] == SPOT:
            continue
        if kind[i] == OPTION:
            _lay_out_option(
                rows, call[i] != 0, inverse[i] != 0, quantity[i], strike[i], spot_low, spot_high, ratio[LOW, i],
                ratio[HIGH, i], vol[LOW, i], vol[HIGH, i], rate[LOW, i], rate[HIGH, i], time[LOW, i], time[HIGH, i],
                option_initial, option_initial_min, option_maintenance,
            )  # fmt: skip
        else:
            _lay_out_future(
                rows, inverse[i] != 0, quantity[i], spot_low, spot_high, ratio[LOW, i], ratio[HIGH, i], future_rates,
                slope_per_coin,
            )  # fmt: skip


@njit(error_model="numpy")
def _lay_out_future(
    rows: Float64Array,
    in_coins: bool,  # noqa: FBT001 - a kernel
    quantity: float,
    spot_low: float,
    spot_high: float,
    ratio_low: float,
    ratio_high: float,
    rates: Float64Array,
    slope_per_coin: float,
) -> None:
    middle = 0.5 * (spot_low + spot_high)
    for end in range(2):
        spot = spot_high if end == 1 else spot_low
        if in_coins:
            size_low, size_high = quantity / ratio_high, quantity / ratio_low
            # 1 / spot, below by its tangent in the middle.
            square_low = size_low * size_low * (2.0 * middle - spot) / (middle * middle)
            square_high = size_high * size_high / spot
            worth_low, worth_high = -size_high, -size_low
        else:
            size_low, size_high = quantity * ratio_low * spot, quantity * ratio_high * spot
            square_low, square_high = quantity * size_low, quantity * size_high
            worth_low, worth_high = size_low, size_high
        outward = OUTWARD * size_high
        for side in (0, SHORT):
            for margin in (0, OF_MAINTENANCE):
                below, upward = rows[side + margin], rows[side + UPWARD + margin]
                below[WORTH + end] = (-worth_high if side == SHORT else worth_low) - outward
                upward[WORTH + end] = (worth_low if side == SHORT else -worth_high) - outward
                below[NEED + end] = -rates[margin] * size_high - outward
                upward[NEED + end] = rates[margin] * size_low - outward
                below[SQUARE + end] = -slope_per_coin * square_high * (1.0 + OUTWARD)
                upward[SQUARE + end] = slope_per_coin * (square_low - OUTWARD * square_high)


@njit(error_model="numpy")
def _lay_out_option(
    rows: Float64Array,
    is_call: bool,  # noqa: FBT001 - a kernel
    in_coins: bool,  # noqa: FBT001 - a kernel
    quantity: float,
    strike: float,
    spot_low: float,
    spot_high: float,
    ratio_low: float,
    ratio_high: float,
    vol_low: float,
    vol_high: float,
    rate_low: float,
    rate_high: float,
    time_low: float,
    time_high: float,
    option_initial: float,
    option_initial_min: float,
    option_maintenance: float,
) -> None:
    begin_low, end_low, begin_high, end_high = option_lines(
        spot_low, spot_high, ratio_low, ratio_high, strike, vol_low * np.sqrt(time_low), vol_high * np.sqrt(time_high),
        is_call, in_coins,
    )  # fmt: skip
    if not in_coins:
        discount_low, discount_high = discounts(rate_low, rate_high, time_low, time_high)
        begin_low, end_low = factor_below(begin_low, end_low, discount_low, discount_high)
        begin_high, end_high = begin_high * discount_high, end_high * discount_high
    cheap, dear = (ratio_low, ratio_high) if is_call else (ratio_high, ratio_low)
    most = short_option_need_above(spot_low, spot_high, strike / dear, option_initial, option_initial_min, is_call)
    least = short_option_need_below(spot_low, spot_high, strike / cheap, option_initial, option_initial_min, is_call)
    share = option_maintenance
    kept_most = (share * spot_low * (1.0 + OUTWARD), share * spot_high * (1.0 + OUTWARD))
    kept_least = (share * spot_low * (1.0 - OUTWARD), share * spot_high * (1.0 - OUTWARD))
    if not is_call:
        kept_most = (max(kept_most[0], share * begin_high), max(kept_most[1], share * end_high))
        kept_least = greater_below(kept_least[0], kept_least[1], share * begin_low, share * end_low)
        most = (max(most[0], kept_most[0]), max(most[1], kept_most[1]))
        least = greater_below(least[0], least[1], kept_least[0], kept_least[1])
    for end in range(2):
        mark_low, mark_high = (end_low, end_high) if end == 1 else (begin_low, begin_high)
        for margin in (0, OF_MAINTENANCE):
            long, short = rows[margin], rows[SHORT + margin]
            long[WORTH + end], long[NEED + end] = quantity * mark_low, -quantity * mark_low
            short[WORTH + end] = -quantity * mark_high
            short[NEED + end] = -quantity * (most[end] if margin == 0 else kept_most[end])
            long, short = rows[UPWARD + margin], rows[SHORT + UPWARD + margin]
            long[WORTH + end], long[NEED + end] = -quantity * mark_high, quantity * mark_high
            short[WORTH + end] = quantity * mark_low
            short[NEED + end] = quantity * (least[end] if margin == 0 else kept_least[end])
            for direction in (0, UPWARD):
                rows[direction + margin, SPREAD + end] = -quantity * (mark_high - mark_low)
