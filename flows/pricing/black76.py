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

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.pricing.polynomials import (
    DENSITY_MAX,
    density,
    exp,
    fma,
    log_of_quotient,
    log_ratio,
    log_ratio_parts,
    mills,
)

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
UInt8Array = npt.NDArray[np.uint8]

# Below this v the forward cannot reach a strike that differs from it in any double.
_V_MIN = 1e-150
# Below this share of v, e1 is a difference that has lost its digits.
_NEAR = 2.0**-8
_BLOCK = 2_048
# What a loop leaves to be looked at.
_CANCELS = np.uint8(1)
_BAD = np.uint8(2)
_FLOAT_MAX = float(np.finfo(np.float64).max)


class OptionValues:
    """Prices and Greeks, each (n,).

    They are rows of one table, taken when asked for: to make eight arrays at once costs as much as 500 options.
    """

    __slots__ = ("_rows",)

    def __init__(self, rows: Float64Array) -> None:
        self._rows = rows

    def _row(self, place: int) -> Float64Array:
        row: Float64Array = self._rows[place]
        return row

    @property
    def price(self) -> Float64Array:
        """Value in quote."""
        return self._row(0)

    @property
    def delta(self) -> Float64Array:
        """Derivative by the forward."""
        return self._row(1)

    @property
    def gamma(self) -> Float64Array:
        """Second derivative by the forward."""
        return self._row(2)

    @property
    def vega(self) -> Float64Array:
        """Derivative by the vol: per 1.00 of it."""
        return self._row(3)

    @property
    def theta(self) -> Float64Array:
        """Change per year of calendar time that passes, the forward held fixed."""
        return self._row(4)

    @property
    def rho(self) -> Float64Array:
        """Derivative by the rate, the forward held fixed: per 1.00 of it."""
        return self._row(5)

    @property
    def vanna(self) -> Float64Array:
        """What delta gains per 1.00 of vol."""
        return self._row(6)

    @property
    def volga(self) -> Float64Array:
        """What vega gains per 1.00 of vol."""
        return self._row(7)


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
    out = np.empty((8, forward.shape[0]))
    if not _black76(forward, strike, time_to_expiry, implied_vol, rate, is_call, out):
        for name, array, low in (
            ("forward", forward, 5e-324), ("strike", strike, 5e-324), ("time_to_expiry", time_to_expiry, 0.0),
            ("implied_vol", implied_vol, 0.0), ("rate", rate, -np.inf),
        ):  # fmt: skip
            if not (np.isfinite(array).all() and (array >= low).all()):
                raise ValueError(f"{name} is not finite or out of range")
    return OptionValues(out)


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
    moneyness, density_scale, e1, e2 = _distances(forward, strike, vol * root_time)
    n1 = density(e1)
    upper = n1 * mills(abs(e1))
    below = n1 * mills(abs(e2))
    values = _from_tails(
        forward, strike, vol, root_time, is_call, 1.0, moneyness, density_scale, e1, n1, upper, below
    )  # fmt: skip
    return values[0], values[1], values[2], values[3], values[4]


@njit(forceinline=True, error_model="numpy")
def _distances(forward: float, strike: float, total_vol: float) -> tuple[float, float, float, float]:
    """Return low / high, 1 / (F v), e1 and e2: three divisions, which all that follows does without.

    e2 is <= 0 up to rounding of its parts: low <= high, and then v / 2 <= -ln / v + v / 2.
    """
    v = max(total_vol, _V_MIN)
    low = min(forward, strike)
    high = max(forward, strike)
    moneyness = low / high
    density_scale = 1.0 / (forward * v)
    e1 = max(fma(log_of_quotient(low, high, moneyness), forward * density_scale, 0.5 * v), -DENSITY_MAX)
    return moneyness, density_scale, e1, e1 - v


@njit(forceinline=True, error_model="numpy")
def _from_tails(
    forward: float,
    strike: float,
    vol: float,
    root_time: float,
    is_call: bool,
    discount: float,
    moneyness: float,
    density_scale: float,
    e1: float,
    n1: float,
    upper: float,
    below: float,
) -> tuple[float, float, float, float, float, float, float]:
    """Return price, delta, gamma, vega, theta (of the decay alone), vanna and volga, all discounted.

    ``moneyness``, ``density_scale`` and ``e1`` as of ``_distances``; ``n1`` is n(e1), ``upper`` N(-abs(e1)), ``below``
    N(e2) high / low.
    """
    total_vol = vol * root_time
    low = min(forward, strike)
    v = max(total_vol, _V_MIN)
    call_is_outside = forward <= strike
    in_low = upper if e1 < 0.0 else 1.0 - upper
    alive = total_vol > _V_MIN
    outside = low * max(in_low - below, 0.0) if alive else 0.0
    call_value = forward - strike
    price = discount * (outside + max(call_value if is_call else -call_value, 0.0))
    # Out-of-the-money tail of N(d1): N(e1) where the call is outside, N(e2) = n(e1) mills(-e2) low / high else.
    tail = in_low if call_is_outside else below * moneyness
    size = tail if call_is_outside == is_call else 1.0 - tail
    delta = discount * (size if is_call else -size)
    # n(d1), which is n(e1), or n(e2) = n(e1) low / high, over F v.
    gamma = discount * ((n1 if call_is_outside else n1 * moneyness) * density_scale) if alive else 0.0
    by_forward = gamma * forward
    vega = by_forward * root_time * forward * v
    theta = -0.5 * ((by_forward * vol) * (forward * vol))
    vanna, volga = _second(forward, strike, root_time, gamma, e1, e1 - v)
    return price, delta, gamma, vega, theta, vanna, volga


@njit(forceinline=True, error_model="numpy")
def _second(forward: float, strike: float, root_time: float, gamma: float, e1: float, e2: float) -> tuple[float, float]:
    """Return vanna and volga of one option, discounted as its gamma is."""
    d2 = e2 if forward <= strike else -e1
    per_vol = gamma * forward * root_time
    return -per_vol * d2, (per_vol * forward * root_time) * (e1 * e2)


@njit(forceinline=True, error_model="numpy")
def _unrounded_e(forward: float, strike: float, vol: float, time: float, v: float) -> tuple[float, float]:
    """Return e1 and e2 where e1 nearly vanishes: the sum of two numbers that cancel, taken of unrounded ones."""
    ratio, ratio_low = log_ratio_parts(min(forward, strike), max(forward, strike))
    square = vol * vol
    variance = square * time
    variance_low = fma(vol, vol, -square) * time + fma(square, time, -variance)
    # The first addition is exact: its parts are within a factor of two.
    total = fma(0.5, variance, ratio) + fma(0.5, variance_low, ratio_low)
    return total / v, (total - variance) / v


@njit(cache=True, error_model="numpy")
def _black76(
    forward: Float64Array,
    strike: Float64Array,
    time_to_expiry: Float64Array,
    implied_vol: Float64Array,
    rate: Float64Array,
    is_call: BoolArray,
    out: Float64Array,
) -> bool:
    """Write the eight outputs into the rows of ``out``, (8, n); return whether every input was finite and in range.

    In blocks that stay in a near cache, and each in four loops: one loop would hold so many operations that a processor
    sees no two of its rounds at once, and more constants than it has registers.
    """
    count = forward.shape[0]
    marks = np.empty(_BLOCK, dtype=np.uint8)
    good = True
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        f, k, t = forward[start:stop], strike[start:stop], time_to_expiry[start:stop]
        vol, r, call = implied_vol[start:stop], rate[start:stop], is_call[start:stop]
        # Row by row: a slice of a whole table would not be known to be contiguous.
        price, delta, gamma = out[0][start:stop], out[1][start:stop], out[2][start:stop]
        vega, theta, rho = out[3][start:stop], out[4][start:stop], out[5][start:stop]
        vanna, volga = out[6][start:stop], out[7][start:stop]
        # Rows that are written last carry what the loops tell each other.
        root, moneyness, density_scale, e1, discount, n1, upper, below = (
            rho,
            delta,
            gamma,
            vanna,
            volga,
            vega,
            theta,
            price,
        )
        _first_loop(f, k, t, vol, r, root, moneyness, density_scale, e1, below, discount)
        _second_loop(e1, n1, upper)
        _third_loop(n1, below)
        marks[:] = 0
        _fourth_loop(f, k, t, vol, r, call, price, delta, gamma, vega, theta, rho, vanna, volga, marks)
        good &= _look_again(f, k, t, vol, gamma, vanna, volga, marks)
    return good


@njit(error_model="numpy")
def _first_loop(
    forward: Float64Array,
    strike: Float64Array,
    time_to_expiry: Float64Array,
    implied_vol: Float64Array,
    rate: Float64Array,
    root_time: Float64Array,
    moneyness: Float64Array,
    density_scale: Float64Array,
    e1: Float64Array,
    e2: Float64Array,
    discount: Float64Array,
) -> None:
    for i in range(forward.shape[0]):
        t = time_to_expiry[i]
        root = np.sqrt(t)
        root_time[i] = root
        moneyness[i], density_scale[i], e1[i], e2[i] = _distances(forward[i], strike[i], implied_vol[i] * root)
        discount[i] = exp(-rate[i] * t)


@njit(error_model="numpy")
def _second_loop(e1: Float64Array, n1: Float64Array, upper: Float64Array) -> None:
    for i in range(e1.shape[0]):
        at = density(e1[i])
        n1[i] = at
        upper[i] = at * mills(abs(e1[i]))


@njit(error_model="numpy")
def _third_loop(n1: Float64Array, below: Float64Array) -> None:
    """Put ``below`` in the place of e2."""
    for i in range(n1.shape[0]):
        below[i] = n1[i] * mills(abs(below[i]))


@njit(error_model="numpy")
def _fourth_loop(
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
    marks: UInt8Array,
) -> None:
    for i in range(forward.shape[0]):
        f, k, t, vol, r = forward[i], strike[i], time_to_expiry[i], implied_vol[i], rate[i]
        root, e1 = rho[i], vanna[i]
        values = _from_tails(f, k, vol, root, is_call[i], volga[i], delta[i], gamma[i], e1, vega[i], theta[i], price[i])
        p = values[0]
        price[i] = p
        delta[i] = values[1]
        gamma[i] = values[2]
        vega[i] = values[3]
        theta[i] = values[4] + r * p
        rho[i] = -t * p
        vanna[i] = values[5]
        volga[i] = values[6]
        # Comparisons with NaN are false. A sum that overflows is looked at again by who raises.
        good = (min(f, k) > 0.0) & (min(t, vol) >= 0.0) & (f + k + t + vol + abs(r) <= _FLOAT_MAX)
        marks[i] = (_CANCELS if abs(e1) < _NEAR * (vol * root) else 0) if good else _BAD


@njit(error_model="numpy")
def _look_again(
    forward: Float64Array,
    strike: Float64Array,
    time_to_expiry: Float64Array,
    implied_vol: Float64Array,
    gamma: Float64Array,
    vanna: Float64Array,
    volga: Float64Array,
    marks: UInt8Array,
) -> bool:
    """Write vanna and volga again where marked for it; return whether no input was marked as bad."""
    good = True
    # Eight are skipped at once where none is marked.
    words = marks.view(np.int64)
    for word in range(words.shape[0]):
        if words[word] != 0:
            for i in range(8 * word, 8 * word + 8):
                if marks[i] == _BAD:
                    good = False
                elif marks[i] == _CANCELS:
                    vol = implied_vol[i]
                    root = np.sqrt(time_to_expiry[i])
                    e1, e2 = _unrounded_e(forward[i], strike[i], vol, time_to_expiry[i], vol * root)
                    vanna[i], volga[i] = _second(forward[i], strike[i], root, gamma[i], e1, e2)
    return good


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
