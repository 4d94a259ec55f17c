"""Straight lines over a range of spot, below and above what instruments are worth and what they need.

A line is its values at the two ends of the range. Lines are in *units*: of what is linear the settlement asset, of what
is inverse the coin at the spot, so that amounts in coins are multiplied by the spot; price or tie of the unit is apart.

1. An undiscounted price is convex in the forward, and rises with total vol: a tangent at the least vol lies below it, a
   chord at the greatest above. The forward is ratio × spot: a call rises with the ratio, and a put falls.
2. In coins an option is worth price(F) / F. Times the spot that is price(ratio × spot) / ratio. A price is homogeneous
   in forward and strike, so it is one on the spot itself at the strike over the ratio: convex in the spot, and monotone
   in the ratio as above.
3. The ends of what is above two lines, each the greater of theirs, give a line above their maximum. Below a maximum is
   either line; the one that is greater in the middle is taken.
4. A function of straight pieces differs most from its chord at a kink: moved by that, the chord is above it, or below.

Outward means by ``OUTWARD`` of all that is added up in a value: some thousand times what a kernel's rounding moves.
"""

from typing import Final

import numpy as np
from numba import njit

from flows.pricing.black76 import undiscounted_greeks, undiscounted_price
from flows.pricing.polynomials import exp

OUTWARD: Final = 1e-12


@njit(forceinline=True, error_model="numpy")
def option_lines(
    spot_low: float,
    spot_high: float,
    ratio_low: float,
    ratio_high: float,
    strike: float,
    vol_low: float,
    vol_high: float,
    is_call: bool,  # noqa: FBT001 - a kernel
    in_coins: bool,  # noqa: FBT001 - a kernel
) -> tuple[float, float, float, float]:
    """Return a line below an undiscounted option on one underlying, and one above: (low, low, high, high), units.

    ``vol_low``, ``vol_high`` are total vols, >= 0. The ends of the line above are >= 0, those of the one below may be
    negative, its middle is not but for rounding.
    """
    cheap, dear = (ratio_low, ratio_high) if is_call else (ratio_high, ratio_low)
    outward = OUTWARD * (ratio_high * spot_high + strike)
    begin, end = spot_low * cheap, spot_high * cheap
    middle = 0.5 * (begin + end)
    worth, delta, _, _, _ = undiscounted_greeks(middle, strike, vol_low, 1.0, is_call)
    below_begin = worth + delta * (begin - middle) - outward
    below_end = worth + delta * (end - middle) - outward
    above_begin = undiscounted_price(spot_low * dear, strike, vol_high, is_call) + outward
    above_end = undiscounted_price(spot_high * dear, strike, vol_high, is_call) + outward
    if in_coins:
        return below_begin / cheap, below_end / cheap, above_begin / dear, above_end / dear
    return below_begin, below_end, above_begin, above_end


@njit(forceinline=True, error_model="numpy")
def discounts(rate_low: float, rate_high: float, time_low: float, time_high: float) -> tuple[float, float]:
    """Return the least and greatest e^(-rate × time); the exponent is a product, whose extremes are at corners."""
    least, greatest = np.inf, 0.0
    for rate in (rate_low, rate_high):
        for time in (time_low, time_high):
            discount = exp(-rate * time)
            least, greatest = min(least, discount), max(greatest, discount)
    return least * (1.0 - OUTWARD), greatest * (1.0 + OUTWARD)


@njit(forceinline=True, error_model="numpy")
def factor_below(begin: float, end: float, least: float, greatest: float) -> tuple[float, float]:
    """Return a line below a line times any factor within [least, greatest], >= 0: concave, so at its ends."""
    return min(begin * least, begin * greatest), min(end * least, end * greatest)


@njit(forceinline=True, error_model="numpy")
def greater_below(begin: float, end: float, other_begin: float, other_end: float) -> tuple[float, float]:
    """Return a line below the maximum of two lines."""
    if begin + end >= other_begin + other_end:
        return begin, end
    return other_begin, other_end


@njit(forceinline=True, error_model="numpy")
def short_option_need(
    spot: float,
    strike: float,
    most: float,
    least: float,
    is_call: bool,  # noqa: FBT001 - a kernel
) -> float:
    """Return ``max(most - outside / spot, least) × spot``: what a short option needs before its mark.

    ``outside`` is how far it is out of the money at the spot; ``strike`` is over the forward's ratio where the forward
    is what counts.
    """
    outside = max(strike - spot, 0.0) if is_call else max(spot - strike, 0.0)
    return max(most * spot - outside, least * spot)


@njit(forceinline=True, error_model="numpy")
def short_option_need_above(
    spot_low: float,
    spot_high: float,
    strike: float,
    most: float,
    least: float,
    is_call: bool,  # noqa: FBT001 - a kernel
) -> tuple[float, float]:
    """Return a line above ``short_option_need``; its one kink that bends downward is at the strike."""
    begin = short_option_need(spot_low, strike, most, least, is_call)
    end = short_option_need(spot_high, strike, most, least, is_call)
    if spot_low < strike < spot_high:
        chord = begin + (end - begin) * ((strike - spot_low) / (spot_high - spot_low))
        over = max(short_option_need(strike, strike, most, least, is_call) - chord, 0.0)
        begin, end = begin + over, end + over
    outward = OUTWARD * (strike + (1.0 + most + least) * spot_high)
    return begin + outward, end + outward


@njit(forceinline=True, error_model="numpy")
def short_option_need_below(
    spot_low: float,
    spot_high: float,
    strike: float,
    most: float,
    least: float,
    is_call: bool,  # noqa: FBT001 - a kernel
) -> tuple[float, float]:
    """Return a line below ``short_option_need``; its one kink that bends upward is where the least begins to count."""
    begin = short_option_need(spot_low, strike, most, least, is_call)
    end = short_option_need(spot_high, strike, most, least, is_call)
    # most × spot - outside = least × spot, outside being strike - spot of a call and spot - strike of a put.
    slope = 1.0 + most - least if is_call else 1.0 - most + least
    if slope > 0.0:
        kink = strike / slope
        if spot_low < kink < spot_high:
            chord = begin + (end - begin) * ((kink - spot_low) / (spot_high - spot_low))
            under = max(chord - short_option_need(kink, strike, most, least, is_call), 0.0)
            begin, end = begin - under, end - under
    outward = OUTWARD * (strike + (1.0 + most + least) * spot_high)
    return begin - outward, end - outward
