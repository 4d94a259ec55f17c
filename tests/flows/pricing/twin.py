"""The kernels once more, in NumPy and with no compiler: operation by operation, so that the bits must be equal.

Only the table of coefficients is shared. The fused multiply-add, which NumPy lacks, is made of error-free sums and
products and one rounding to odd.

References
----------
Boldo & Melquiond (2008), "Emulation of a FMA and correctly rounded sums", IEEE Trans. Computers 57, fig. 5; Dekker
(1971), Numerische Mathematik 18, for the exact product.
"""

import numpy as np
import numpy.typing as npt

from flows.pricing import polynomials as table

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

NAMES = ("price", "delta", "gamma", "vega", "theta", "rho", "vanna", "volga")


def two_sum(a: Float64Array, b: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return a + b rounded and its rounding error."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def fma(a: Float64Array | float, b: Float64Array | float, c: Float64Array | float) -> Float64Array:
    """Return a * b + c rounded once, for magnitudes far from overflow and underflow."""
    a, b, c = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (a, b, c)))
    product = a * b
    a_high, b_high = _upper_half(a), _upper_half(b)
    a_low, b_low = a - a_high, b - b_high
    error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    upper, lower = two_sum(c, error)
    total, rest = two_sum(product, upper)
    tail, lost = two_sum(rest, lower)
    # Rounding to odd: a sum that is not exact ends in a one bit, so that the last rounding sees which side it is on.
    bits = tail.view(np.int64)
    away = np.where((lost > 0.0) == (tail > 0.0), 1, -1)
    odd = np.where((lost != 0.0) & (bits & 1 == 0), bits + away, bits)
    return total + odd.view(np.float64)


def _upper_half(x: Float64Array) -> Float64Array:
    scaled = 134217729.0 * x
    return scaled - (scaled - x)


def _polynomial(coefficients: tuple[float, ...], x: Float64Array) -> Float64Array:
    value = np.full(x.shape, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = fma(value, x, coefficient)
    return value


def _halves(coefficients: tuple[float, ...], x: Float64Array) -> Float64Array:
    """Return a polynomial as the sum of its even and its odd powers."""
    return fma(_polynomial(coefficients[1::2], x * x), x, _polynomial(coefficients[::2], x * x))


def _scale(exponent: Int64Array) -> Float64Array:
    """Return 2^exponent of normal numbers."""
    return ((exponent + 1023) << 52).view(np.float64)


def exp(x: Float64Array) -> Float64Array:
    bounded = np.minimum(np.maximum(x, -708.0), 709.0)
    k = fma(bounded, table._LOG2_E, table._MAGIC) - table._MAGIC
    r = fma(k, -table._LN2_LOW, fma(k, -table._LN2_HIGH, bounded))
    value = fma(r * r, _halves(table._EXP, r), r) + 1.0
    return np.where(x >= -708.0, value * _scale(k.astype(np.int64)), 0.0)


def _log_terms(a: Float64Array, b: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    exponent = ((a / b).view(np.int64) - table._HALF_SQRT_BITS) >> 52
    scaled = b * _scale(exponent)
    s = (a - scaled) / (a + scaled)
    return exponent.astype(np.float64), scaled, s, _halves(table._LOG, s * s)


def log_ratio(a: Float64Array, b: Float64Array) -> Float64Array:
    e, _, s, p = _log_terms(a, b)
    return fma(e, table._LN2_HIGH, 2.0 * s + fma(2.0 * s * (s * s), p, e * table._LN2_LOW))


def log_ratio_parts(a: Float64Array, b: Float64Array) -> tuple[Float64Array, Float64Array]:
    e, scaled, s, p = _log_terms(a, b)
    total, lost = two_sum(a, scaled)
    s_low = fma(-s, lost, fma(-s, total, a - scaled)) / total
    whole = e * table._LN2_HIGH
    high = whole + 2.0 * s
    low = 2.0 * s - (high - whole)
    return high, low + fma(2.0, s_low, fma(2.0 * s * (s * s), p, e * table._LN2_LOW))


def mills(z: Float64Array) -> Float64Array:
    bounded = np.minimum(z, table._MILLS_MAX)
    return _polynomial((*table._MILLS_OVER, 1.0), bounded) / _polynomial((*table._MILLS_UNDER, 1.0), bounded)


def density(z: Float64Array) -> Float64Array:
    bounded = np.minimum(np.maximum(z, -table.DENSITY_MAX), table.DENSITY_MAX)
    return exp(fma(-0.5 * bounded, bounded, -table._LOG_SQRT_2PI))


def black76(
    *,
    forward: Float64Array,
    strike: Float64Array,
    time_to_expiry: Float64Array,
    implied_vol: Float64Array,
    rate: Float64Array,
    is_call: npt.NDArray[np.bool_],
) -> dict[str, Float64Array]:
    """Return the eight outputs of ``flows.pricing.black76.black76``."""
    with np.errstate(all="ignore"):
        root = np.sqrt(time_to_expiry)
        total_vol = implied_vol * root
        alive = total_vol > 1e-150
        v = np.maximum(total_vol, 1e-150)
        low, high = np.minimum(forward, strike), np.maximum(forward, strike)
        call_is_outside = forward <= strike
        density_scale = 1.0 / (forward * v)
        e1 = np.maximum(fma(log_ratio(low, high), forward * density_scale, 0.5 * v), -table.DENSITY_MAX)
        n1 = density(e1)
        upper = n1 * mills(np.abs(e1))
        below = n1 * mills(np.abs(e1 - v))
        in_low = np.where(e1 < 0.0, upper, 1.0 - upper)
        outside = np.where(alive, low * np.maximum(in_low - below, 0.0), 0.0)
        intrinsic = np.maximum(np.where(is_call, forward - strike, strike - forward), 0.0)
        discount = exp(-rate * time_to_expiry)
        price = discount * (outside + intrinsic)
        tail = np.where(call_is_outside, in_low, below * (low / high))
        size = np.where(call_is_outside == is_call, tail, 1.0 - tail)
        gamma = np.where(alive, discount * (np.where(call_is_outside, n1, n1 * (low / high)) * density_scale), 0.0)

        ratio, ratio_low = log_ratio_parts(low, high)
        square = implied_vol * implied_vol
        variance = square * time_to_expiry
        variance_low = fma(implied_vol, implied_vol, -square) * time_to_expiry + fma(square, time_to_expiry, -variance)
        total = fma(0.5, variance, ratio) + fma(0.5, variance_low, ratio_low)
        near = np.abs(e1) < 2.0**-8 * total_vol
        f1 = np.where(near, total / v, e1)
        f2 = np.where(near, (total - variance) / v, e1 - v)
        by_forward = gamma * forward
        per_vol = by_forward * root
        return {
            "price": price,
            "delta": discount * np.where(is_call, size, -size),
            "gamma": gamma,
            "vega": per_vol * forward * v,
            "theta": -0.5 * ((by_forward * implied_vol) * (forward * implied_vol)) + rate * price,
            "rho": -time_to_expiry * price,
            "vanna": -per_vol * np.where(call_is_outside, f2, -f1),
            "volga": (per_vol * forward * root) * (f1 * f2),
        }
