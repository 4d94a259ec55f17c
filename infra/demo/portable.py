"""Arithmetic that gives the demo the same bytes on every machine.

Library ``exp``, ``log`` and normal draws differ in their last bit between CPUs and versions, and a price that stands
near half a tick would then round the other way. What is needed here is built from operations that IEEE 754 rounds
exactly, one array operation at a time. The engine's own kernels are left out on purpose: the log of a seed must not
change when a pricing kernel does.

1. Only ``+ - * /``, ``sqrt``, comparisons and integer draws are used, each on whole arrays (so nothing is contracted).
2. Accuracy is that of a model's input (about 1e-7), not that of a price to be defended.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

# Abramowitz and Stegun (1964), equation 26.2.17: absolute error below 7.5e-8.
_CDF_P: Final = 0.2316419
_CDF_B: Final = (0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429)
_INVERSE_ROOT_TWO_PI: Final = 0.3989422804014327
_UNIFORMS: Final = 12
_SQUARINGS: Final = 6
_LOG_TERMS: Final = 16


def generator(seed: int, stream: int) -> np.random.Generator:
    """Return the random generator of one purpose: streams of one seed are independent of each other."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stream])))


def gaussian(random: np.random.Generator, *shape: int) -> Float64Array:
    """Return nearly normal draws, mean 0 and variance 1, within ±6: the sum of twelve uniforms."""
    total = np.full(shape, -_UNIFORMS / 2.0)
    for _ in range(_UNIFORMS):
        total += random.random(shape)
    return total


def exponential(x: Float64Array) -> Float64Array:
    """Return e^x for |x| <= 40: a Taylor polynomial of x / 64, squared six times."""
    reduced = x / 2.0**_SQUARINGS
    total = np.ones_like(reduced)
    for order in range(12, 0, -1):
        total = 1.0 + total * reduced / order
    for _ in range(_SQUARINGS):
        total = total * total
    return total


def logarithm(x: Float64Array) -> Float64Array:
    """Return ln x for x in 0.2 to 5: the series of 2 artanh((x - 1) / (x + 1))."""
    z = (x - 1.0) / (x + 1.0)
    square = z * z
    total = np.zeros_like(z)
    for order in range(2 * _LOG_TERMS + 1, 0, -2):
        total = total * square + 1.0 / order
    return 2.0 * z * total


def normal_cdf(x: Float64Array) -> Float64Array:
    """Return the standard normal distribution function; beyond ±8 it is taken at 8."""
    size = np.minimum(np.abs(x), 8.0)
    t = 1.0 / (1.0 + _CDF_P * size)
    polynomial = np.zeros_like(t)
    for coefficient in reversed(_CDF_B):
        polynomial = (polynomial + coefficient) * t
    tail = _INVERSE_ROOT_TWO_PI * exponential(-0.5 * size * size) * polynomial
    return np.where(x >= 0.0, 1.0 - tail, tail)


def option_price(
    *,
    forward: Float64Array,
    strike: Float64Array,
    total_variance: Float64Array,
    is_call: npt.NDArray[np.bool_],
) -> Float64Array:
    """Return undiscounted Black-76 prices, in quote per underlying, >= 0.

    Parameters
    ----------
    forward, strike : (n,), quote per underlying, > 0, within a factor of five of each other
    total_variance : (n,), implied vol squared × years, > 0
    is_call : (n,)
    """
    deviation = np.sqrt(total_variance)
    upper = logarithm(forward / strike) / deviation + 0.5 * deviation
    call = forward * normal_cdf(upper) - strike * normal_cdf(upper - deviation)
    return np.maximum(np.where(is_call, call, call - forward + strike), 0.0)
