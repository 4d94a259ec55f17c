"""Option prices to implied vols (Black-76, undiscounted), and which prices carry none.

1. The vol is found from the time value of the out-of-the-money option of the same strike (parity), as a share of
   ``low = min(F, K)``: with ``s = vol * sqrt(T)``, ``x = ln(low / high)``, ``d1 = x / s + s / 2``, the share is
   ``n(d1) * (mills(-d1) - mills(s - d1))``. The equation is solved in its logarithm, or, where the share is above one
   half, in that of what is missing to 1: both are nearly quadratic, in the far wing as at the money.
2. Three steps of third order from a guess that is within a few per cent, the same operations for every price: no
   branch, no loop that ends early. Out of the money the relative error is below 1e-14 for s from 2e-7 to 4, at any
   strike, judged by mpmath; beyond, it is what the rounding of the price itself leaves.
3. A price at or below intrinsic value, at or above its upper bound, or with what distinguishes it from one of them
   lost in the price's own rounding, carries no information; nor does one whose s is outside 2e-7 to 19.8, or whose
   inputs are outside 1e-150 to 1e150. It gets NaN and ``informative`` false, never a guess.

The difference of two Mills' ratios loses its digits where s is small. Mills' ratio is a polynomial P in
``t = (z - 5) / (z + 6)`` over ``z + 3 / 2`` here, so the difference is s times an expression in P and its divided
difference, which one Horner scheme gives: nothing cancels. Its coefficients are a Chebyshev interpolant for z >= -1/2,
computed with 60 digits. The guess is Bachelier's formula inverted, by a rational fit within 1 % of its solution.

References
----------
Black (1976), J. Financial Economics 3; Householder (1970), "The numerical treatment of a single nonlinear equation",
for the steps; Hagan & Woodward (1999), "Equivalent Black volatilities", for what a normal vol is as a lognormal one.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.pricing.polynomials import exp, fma, log, log_ratio

Float64Array1D = npt.NDArray[np.float64]
BoolArray1D = npt.NDArray[np.bool_]

# Total deviations (vol times root of time) that are told: 2e-7 is 0.02 % a year over half an hour.
_DEVIATION_MIN: Final = 2e-7
_DEVIATION_MAX: Final = 19.8
# A distance from a bound below this share of the price is rounding noise of float64.
_NOISE_RATIO: Final = 1e-12
# Within these, sums and ratios of prices are normal numbers.
_PRICE_MIN: Final = 1e-150
_PRICE_MAX: Final = 1e150
_SHARE_MIN: Final = 1e-300
_FLOAT_MAX: Final = float(np.finfo(np.float64).max)

_SQRT_2_PI: Final = 2.5066282746310002
_LOG_SQRT_2_PI: Final = 0.9189385332046727
# Keeps the guess's 0 / 0 at the money a ratio of two small numbers.
_NUDGE: Final = 1e-9
# The Mills difference is taken up to this d1; beyond, N(d1) is no small number and nothing cancels either.
_D1_SPLIT: Final = 0.5
_MILLS: Final = (
    1.2532526806495525, -0.45021341240614066, 0.31515660210593016, -0.1600854546720461, 0.029944008151189253,
    0.04820603868381906, -0.07305232760839564, 0.062271375750450754, -0.03842552871860963, 0.017488265997494756,
    -0.005290274385395525, 0.000517647618210239, 0.00041542882104300417, -0.00021672565085873298,
    1.5109084671987872e-05, 2.5449502392900904e-05, -8.343159938298014e-06, -2.021569176624528e-06,
    1.6191868608267163e-06, 8.166729670179414e-08, -2.5784094136870895e-07, 9.99550588129953e-09,
    3.413007399957556e-08, -2.882352540985919e-09, -2.7370443726112753e-09, 2.864074631148422e-10,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImpliedVols:
    """Vols of quoted prices.

    Attributes
    ----------
    implied_vol : (n,), annualised, > 0; NaN where ``informative`` is false.
    informative : (n,), the price determines a vol.
    """

    implied_vol: Float64Array1D
    informative: BoolArray1D


def implied_vols(
    *,
    price: Float64Array1D,
    forward: Float64Array1D,
    strike: Float64Array1D,
    time_to_expiry: Float64Array1D,
    is_call: BoolArray1D,
) -> ImpliedVols:
    """Return the vols at which Black-76 gives these prices.

    Parameters
    ----------
    price : (n,), quote per underlying, undiscounted; NaN where there is no quote.
    forward, strike : (n,), quote per underlying, > 0.
    time_to_expiry : (n,), years ACT/365.
    is_call : (n,).

    References
    ----------
    Black (1976), J. Financial Economics 3, eq. 16, inverted.
    """
    prices, forwards, strikes, times = (
        np.ascontiguousarray(values, dtype=np.float64) for values in (price, forward, strike, time_to_expiry)
    )
    calls = np.ascontiguousarray(is_call, dtype=np.bool_)
    vols = np.empty(prices.shape)
    informative = np.empty(prices.shape, dtype=np.bool_)
    _implied_vols(prices, forwards, strikes, times, calls, vols, informative)
    return ImpliedVols(implied_vol=vols, informative=informative)


def vega(
    *, forward: Float64Array1D, strike: Float64Array1D, time_to_expiry: Float64Array1D, implied_vol: Float64Array1D
) -> Float64Array1D:
    """Return the sensitivity of the price to the vol, (n,), quote per 1.00 of vol, >= 0; 0 at expiry."""
    root = np.sqrt(np.maximum(time_to_expiry, 0.0))
    deviation = np.maximum(implied_vol * root, _DEVIATION_MIN)
    h, t = np.log(forward / strike) / deviation, 0.5 * deviation
    out: Float64Array1D = np.sqrt(forward * strike) * root * np.exp(-0.5 * (h * h + t * t)) / _SQRT_2_PI
    return out


@njit(cache=True, error_model="numpy")
def _implied_vols(
    price: Float64Array1D,
    forward: Float64Array1D,
    strike: Float64Array1D,
    time_to_expiry: Float64Array1D,
    is_call: BoolArray1D,
    vols: Float64Array1D,
    informative: BoolArray1D,
) -> None:
    for i in range(price.shape[0]):
        f = forward[i]
        k = strike[i]
        t = time_to_expiry[i]
        p = price[i]
        low = min(f, k)
        high = max(f, k)
        time_value = p - max(f - k if is_call[i] else k - f, 0.0)
        missing = low - time_value
        noise = _NOISE_RATIO * p
        # Comparisons with NaN are false.
        good = (
            (low >= _PRICE_MIN)
            & (high <= _PRICE_MAX)
            & (t > 0.0)
            & (t <= _FLOAT_MAX)
            & (time_value > noise)
            & (time_value >= _SHARE_MIN * max(low, 1.0))
            & (missing > noise)
        )
        s = _deviation(
            low if good else 1.0, high if good else 1.0, time_value if good else 0.25, missing if good else 0.75
        )
        told = good & (s > _DEVIATION_MIN) & (s < _DEVIATION_MAX)
        vols[i] = s / np.sqrt(t if good else 1.0) if told else np.nan
        informative[i] = told


@njit(forceinline=True, error_model="numpy")
def _deviation(low: float, high: float, time_value: float, missing: float) -> float:
    """Return s; ``time_value + missing`` is ``low``."""
    x = log_ratio(low, high)
    # How the value that is matched moves with s: what is missing to the bound falls.
    sign = -1.0 if time_value > missing else 1.0
    target = log_ratio(min(time_value, missing), low)
    s = _guess(x, target, (high - low) / low, time_value / low, sign)
    s = _step(s, x, target, sign)
    s = _step(s, x, target, sign)
    return _step(s, x, target, sign)


@njit(forceinline=True, error_model="numpy")
def _guess(x: float, target: float, distance: float, share: float, sign: float) -> float:
    """Return a first s: of a normal distribution, or by the leading term of the far tail above one half."""
    money = _SQRT_2_PI * share
    y = max(log(distance + money * (1.0 + _NUDGE)) - target - _LOG_SQRT_2_PI, 0.5 * _NUDGE)
    square = fma(0.38062942711358205, y, 1.0) / fma(fma(0.1915182157948822, y, 1.9785287337249404), y, 1.0)
    normal = (_NUDGE * money - x) / (y * np.sqrt(square))
    lognormal = normal * (1.0 + min(normal * normal, 16.0) / 24.0)
    tail = max(-2.0 * target - 1.0, 0.0)
    root: float = np.sqrt(tail) + np.sqrt(tail - 2.0 * x)
    return root if sign < 0.0 else lognormal


@njit(forceinline=True, error_model="numpy")
def _step(s: float, x: float, target: float, sign: float) -> float:
    """Return the next s, by Householder's method of third order on ``ln(value) - target``."""
    h = x / s
    t = 0.5 * s
    d1 = h + t
    z1 = max(-d1, -_D1_SPLIT)
    z2 = t - h
    p, q = _polynomial_and_difference((z1 - 5.0) / (z1 + 6.0), (z2 - 5.0) / (z2 + 6.0))
    difference = s * (p - 11.0 * q * (z2 + 1.5) / ((z1 + 6.0) * (z2 + 6.0))) / ((z1 + 1.5) * (z2 + 1.5))
    z3 = max(d1, 0.0)
    total = _polynomial((z3 - 5.0) / (z3 + 6.0)) / (z3 + 1.5) + p / (z2 + 1.5)
    inside = difference if d1 <= _D1_SPLIT else _SQRT_2_PI * exp(0.5 * d1 * d1) - total
    # In units of n(d1), which is also the slope of either value up to its sign.
    value = total if sign < 0.0 else inside
    over_slope = sign * value
    residual = log(value) - fma(0.5 * d1, d1, _LOG_SQRT_2_PI) - target
    newton = -residual * over_slope
    r = 1.0 / s
    second = (h - t) * (h + t) * r - 1.0 / over_slope
    third = fma(second, second - 1.0 / over_slope, -3.0 * h * h * r * r - 0.25)
    numerator = fma(0.5 * second, newton, 1.0)
    denominator = fma(newton, fma(third / 6.0, newton, second), 1.0)
    return min(max(s + newton * numerator / denominator, 0.125 * s), 8.0 * s)


@njit(forceinline=True, error_model="numpy")
def _polynomial_and_difference(t1: float, t2: float) -> tuple[float, float]:
    """Return P(t2) and (P(t1) - P(t2)) / (t1 - t2)."""
    p = _MILLS[25]
    q = p
    p = fma(p, t2, _MILLS[24])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[23])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[22])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[21])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[20])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[19])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[18])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[17])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[16])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[15])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[14])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[13])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[12])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[11])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[10])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[9])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[8])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[7])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[6])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[5])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[4])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[3])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[2])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[1])
    q = fma(q, t1, p)
    p = fma(p, t2, _MILLS[0])
    return p, q


@njit(forceinline=True, error_model="numpy")
def _polynomial(t: float) -> float:
    """Return P(t)."""
    p = _MILLS[25]
    p = fma(p, t, _MILLS[24])
    p = fma(p, t, _MILLS[23])
    p = fma(p, t, _MILLS[22])
    p = fma(p, t, _MILLS[21])
    p = fma(p, t, _MILLS[20])
    p = fma(p, t, _MILLS[19])
    p = fma(p, t, _MILLS[18])
    p = fma(p, t, _MILLS[17])
    p = fma(p, t, _MILLS[16])
    p = fma(p, t, _MILLS[15])
    p = fma(p, t, _MILLS[14])
    p = fma(p, t, _MILLS[13])
    p = fma(p, t, _MILLS[12])
    p = fma(p, t, _MILLS[11])
    p = fma(p, t, _MILLS[10])
    p = fma(p, t, _MILLS[9])
    p = fma(p, t, _MILLS[8])
    p = fma(p, t, _MILLS[7])
    p = fma(p, t, _MILLS[6])
    p = fma(p, t, _MILLS[5])
    p = fma(p, t, _MILLS[4])
    p = fma(p, t, _MILLS[3])
    p = fma(p, t, _MILLS[2])
    p = fma(p, t, _MILLS[1])
    return fma(p, t, _MILLS[0])
