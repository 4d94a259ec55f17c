"""European options on a forward: price and Greeks (Black, 1976).

1. Everything is priced from the out-of-the-money side: with ``low = min(F, K)``, ``v = vol * sqrt(T)`` and
   ``e1 = ln(low / high) / v + v / 2``, ``e2 = e1 - v``, an out-of-the-money option is worth
   ``low * (N(e1) - n(e1) * mills(-e2))``, and its in-the-money partner |F - K| more. So calls and puts keep
   parity exactly as far as doubles can, and small prices keep their digits. Where F > K, ``e1 = -d2`` and ``e2 = -d1``.
2. At ``v = 0`` (expiry or no vol) a price is intrinsic, gamma, vega, theta, vanna and volga are 0, and delta is a step
   (one half at the money). Outputs are finite: tested for prices of 1e-50 to 1e50, 1,000 years and a vol of 10,000.
3. Prices are within [intrinsic, F] (call) or [intrinsic, K] (put), discounted.

References
----------
Black (1976), J. Financial Economics 3, eq. 16; Greeks are its derivatives with the forward held fixed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.pricing.polynomials import DENSITY_MAX, density, exp, fma, log_ratio, log_ratio_parts, mills, two_sum

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Below this v the forward cannot reach a strike that differs from it in any double.
_V_MIN = 1e-150
# Where e2 is lower the density is 0, and so is what is multiplied by e2.
_E2_MIN = -1e100
_FLOAT_MAX = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True)
class OptionValues:
    """Prices and Greeks, each (n,).

    ``price`` is in quote; ``delta`` and ``gamma`` are derivatives by the forward; ``vega`` is per 1.00 of vol;
    ``theta`` per year of calendar time passing (the forward held fixed); ``rho`` per 1.00 of rate (likewise);
    ``vanna`` is what delta gains per 1.00 of vol, and ``volga`` what vega gains.
    """

    price: Float64Array
    delta: Float64Array
    gamma: Float64Array
    vega: Float64Array
    theta: Float64Array
    rho: Float64Array
    vanna: Float64Array
    volga: Float64Array


def black76(
    *,
    forward: Float64Array,
    strike: Float64Array,
    time_to_expiry: Float64Array,
    implied_vol: Float64Array,
    rate: Float64Array,
    is_call: BoolArray,
) -> OptionValues:
    """Return prices and Greeks of European options on a forward.

    Parameters
    ----------
    forward, strike : (n,), quote per underlying, > 0
    time_to_expiry : (n,), years ACT/365, >= 0
    implied_vol : (n,), annualised, >= 0
    rate : (n,), continuously compounded, annual
    is_call : (n,)

    Raises
    ------
    ValueError : an input is NaN, infinite or out of range.
    """
    for name, array, low in (
        ("forward", forward, 5e-324), ("strike", strike, 5e-324), ("time_to_expiry", time_to_expiry, 0.0),
        ("implied_vol", implied_vol, 0.0), ("rate", rate, -_FLOAT_MAX),
    ):  # fmt: skip
        if _count_outside(array, low):
            raise ValueError(f"{name} is not finite or out of range")
    out = np.empty((8, forward.shape[0]))
    _black76(forward, strike, time_to_expiry, implied_vol, rate, is_call, *out)
    return OptionValues(*out)


def black76_price(
    *,
    forward: Float64Array,
    strike: Float64Array,
    time_to_expiry: Float64Array,
    implied_vol: Float64Array,
    is_call: BoolArray,
) -> Float64Array:
    """Return undiscounted prices; parameters as of ``black76``, unchecked."""
    out = np.empty(forward.shape[0])
    _black76_price(forward, strike, time_to_expiry, implied_vol, is_call, out)
    return out


@njit(forceinline=True, error_model="numpy")
def undiscounted_price(forward: float, strike: float, total_vol: float, is_call: bool) -> float:
    """Return the price of one option before discounting; ``total_vol`` is vol * sqrt(T)."""
    low = min(forward, strike)
    high = max(forward, strike)
    v = max(total_vol, _V_MIN)
    e1 = max(log_ratio(low, high) / v + 0.5 * v, -DENSITY_MAX)
    e2 = e1 - v
    n1 = density(e1)
    upper = n1 * mills(abs(e1))
    in_low = upper if e1 < 0.0 else 1.0 - upper
    outside = low * max(in_low - n1 * mills(abs(e2)), 0.0) if total_vol > _V_MIN else 0.0
    intrinsic = forward - strike if is_call else strike - forward
    return outside + max(intrinsic, 0.0)


@njit(forceinline=True, error_model="numpy")
def undiscounted_greeks(
    forward: float, strike: float, vol: float, root_time: float, is_call: bool
) -> tuple[float, float, float, float, float]:
    """Return price, delta, gamma, vega and theta of one option before discounting; ``root_time`` is sqrt(T)."""
    total_vol = vol * root_time
    low = min(forward, strike)
    high = max(forward, strike)
    v = max(total_vol, _V_MIN)
    e1 = max(log_ratio(low, high) / v + 0.5 * v, -DENSITY_MAX)
    e2 = e1 - v
    n1 = density(e1)
    upper = n1 * mills(abs(e1))
    # e2 <= 0 up to rounding of its parts: low <= high, and then v / 2 <= -ln / v + v / 2.
    below = n1 * mills(abs(e2))
    in_low = upper if e1 < 0.0 else 1.0 - upper
    alive = total_vol > _V_MIN
    outside = low * max(in_low - below, 0.0) if alive else 0.0
    intrinsic = forward - strike if is_call else strike - forward
    price = outside + max(intrinsic, 0.0)
    # Out-of-the-money tail of N(d1): N(e1) where the call is outside, N(e2) = n(e1) mills(-e2) low / high else.
    tail = in_low if forward <= strike else below * (low / high)
    call_delta = tail if forward <= strike else 1.0 - tail
    put_delta = tail - 1.0 if forward <= strike else -tail
    delta = call_delta if is_call else put_delta
    weight = low * n1  # F n(d1), whichever side is low
    gamma = weight / (forward * forward * v) if alive else 0.0
    vega = weight * root_time if alive else 0.0
    theta = -0.5 * weight * vol / root_time if alive else 0.0
    return price, delta, gamma, vega, theta


@njit(forceinline=True, error_model="numpy")
def undiscounted_second(
    forward: float, strike: float, vol: float, time: float, root_time: float, vega: float
) -> tuple[float, float]:
    """Return vanna and volga of one option before discounting, from its vega.

    Both pass through 0 where d1 or d2 does, a difference of two numbers that nearly agree: it is taken of unrounded
    ones, so that the digits hold there too.
    """
    total_vol = vol * root_time
    v = max(total_vol, _V_MIN)
    ratio, ratio_low = log_ratio_parts(min(forward, strike), max(forward, strike))
    square = vol * vol
    variance = square * time
    variance_low = fma(square, time, -variance) + fma(vol, vol, -square) * time
    total, lost = two_sum(ratio, 0.5 * variance)
    e1 = max((total + (lost + (ratio_low + 0.5 * variance_low))) / v, -DENSITY_MAX)
    e2 = max((ratio - 0.5 * variance) / v, _E2_MIN)
    d2 = e2 if forward <= strike else -e1
    # By v and not by vol, which may be subnormal while the density is already 0.
    alive = total_vol > _V_MIN
    vanna = -(vega / forward) * d2 / v if alive else 0.0
    volga = vega * (e1 * e2) * (root_time / v) if alive else 0.0
    return vanna, volga


@njit(cache=True, error_model="numpy")
def _count_outside(values: Float64Array, low: float) -> int:
    """Return how many are NaN, below ``low`` or infinite; one pass, where NumPy's checks cost half a pricing."""
    outside = 0
    for i in range(values.shape[0]):
        outside += not (low <= values[i] <= _FLOAT_MAX)
    return outside


@njit(cache=True, error_model="numpy")
def _black76(
    forward: Float64Array,
    strike: Float64Array,
    time_to_expiry: Float64Array,
    implied_vol: Float64Array,
    rate: Float64Array,
    is_call: BoolArray,
    price: Float64Array,
    delta: Float64Array,
    gamma: Float64Array,
    vega: Float64Array,
    theta: Float64Array,
    rho: Float64Array,
    vanna: Float64Array,
    volga: Float64Array,
) -> None:
    for i in range(forward.shape[0]):
        t = time_to_expiry[i]
        root = np.sqrt(t)
        values = undiscounted_greeks(forward[i], strike[i], implied_vol[i], root, is_call[i])
        second = undiscounted_second(forward[i], strike[i], implied_vol[i], t, root, values[3])
        discount = exp(-rate[i] * t)
        p = discount * values[0]
        price[i] = p
        delta[i] = discount * values[1]
        gamma[i] = discount * values[2]
        vega[i] = discount * values[3]
        theta[i] = discount * values[4] + rate[i] * p
        rho[i] = -t * p
        vanna[i] = discount * second[0]
        volga[i] = discount * second[1]


@njit(cache=True, error_model="numpy")
def _black76_price(
    forward: Float64Array,
    strike: Float64Array,
    time_to_expiry: Float64Array,
    implied_vol: Float64Array,
    is_call: BoolArray,
    out: Float64Array,
) -> None:
    for i in range(forward.shape[0]):
        out[i] = undiscounted_price(forward[i], strike[i], implied_vol[i] * np.sqrt(time_to_expiry[i]), is_call[i])
