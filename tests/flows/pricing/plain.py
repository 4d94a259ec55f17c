"""The textbook, in plain Python: what kernels are compared with where mpmath would be slow."""

import math


def normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def black76_price(forward: float, strike: float, time: float, vol: float, *, call: bool) -> float:
    """Return the undiscounted price of one option by Black's formula as it is printed."""
    sign = 1.0 if call else -1.0
    v = vol * math.sqrt(time)
    if v == 0.0:
        return max(sign * (forward - strike), 0.0)
    d1 = math.log(forward / strike) / v + 0.5 * v
    return sign * (forward * normal_cdf(sign * d1) - strike * normal_cdf(sign * (d1 - v)))


def black76_greeks(forward: float, strike: float, time: float, vol: float, *, call: bool) -> dict[str, float]:
    """Return undiscounted delta, gamma, vega and theta of one living option."""
    sign = 1.0 if call else -1.0
    root = math.sqrt(time)
    v = vol * root
    d1 = math.log(forward / strike) / v + 0.5 * v
    density = math.exp(-0.5 * d1 * d1) / math.sqrt(2.0 * math.pi)
    return {
        "delta": sign * normal_cdf(sign * d1),
        "gamma": density / (forward * v),
        "vega": forward * density * root,
        "theta": -0.5 * forward * density * vol / root,
    }
