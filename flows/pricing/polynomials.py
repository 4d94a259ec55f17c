"""exp, log and the normal distribution, with the same bits on every CPU of x86-64-v3.

Library versions differ in the last bit between vendors, versions and vector widths, and attesters re-run the ledger on
machines that we do not choose. These are polynomials with explicit fused multiply-add, which LLVM may vectorise and
may not reorder.

1. The result of every function is a fixed sequence of IEEE operations: it depends on the argument alone, not on the
   place in an array, the vector width or the library.
2. Relative errors, judged by mpmath: ``exp`` 2 ulp, ``log`` and ``log_ratio`` 2 ulp, ``mills`` 2 ulp;
   ``log_ratio_parts`` 2^-58.
3. Where a sum is long it is two shorter ones, of even and of odd powers or of a numerator and a denominator: a
   processor adds to both at once, and waits half as long for the end.

Kernels of other files inline these functions, and Numba's cache looks at a kernel's own file alone: the command line
discards kernels that were compiled from other sources (``infra/run/kernels.py``). Before tests,
remove the ``__pycache__`` folders after a change here.

The polynomials are Chebyshev interpolants computed with 60 digits: of (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2 and of
(atanh(s) / s - 1) / s^2 in s^2 for s^2 <= (sqrt(2) - 1)^2 / (sqrt(2) + 1)^2. Mills' ratio is a quotient of two
polynomials in z, of degrees 10 and 11, that meets it where (z - 4) / (z + 4) is one of the 22 Chebyshev nodes: within
9e-17 for every z >= 0, with positive coefficients, so that nothing cancels. One polynomial in (z - 5) / (z + 5) takes
as many operations, and two divisions where this has one.
"""

from collections.abc import Callable
from typing import Any, Final, cast

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

# Adding this to a double of magnitude below 2^51 leaves its nearest integer in the low bits.
_MAGIC: Final = 6755399441055744.0
_MAGIC_BITS: Final = 0x4338000000000000
_LOG2_E: Final = 1.4426950408889634
_LN2_HIGH: Final = 0.6931471803691238
_LN2_LOW: Final = 1.9082149292705877e-10
_HALF_SQRT_BITS: Final = 0x3FE6A09E667F3BCD  # sqrt(1/2)
_EXPONENT_MIN: Final = -708.0
_EXPONENT_MAX: Final = 709.0
_LOG_SQRT_2PI: Final = 0.9189385332046727
# exp(-z^2 / 2) is 0 beyond this in double precision.
DENSITY_MAX: Final = 38.0

_EXP: Final = (
    0.5000000000000001, 0.16666666666666669, 0.04166666666662413, 0.008333333333330062, 0.0013888888917213717,
    0.00019841269863053618, 2.4801521295954376e-05, 2.7557268459997064e-06, 2.7620088445409746e-07,
    2.510038549551032e-08,
)  # fmt: skip
_LOG: Final = (
    0.3333333333333333, 0.2000000000000044, 0.14285714285401424, 0.11111111195943532, 0.09090897810816391,
    0.07693120354484832, 0.06634373097798298, 0.06543453943982513,
)  # fmt: skip
# Both have one more coefficient, 1.
_MILLS_OVER: Final = (
    1451444.4311114256, 2499061.9855821915, 2124982.652489747, 1156736.2462255775, 442852.36404014286,
    124144.7612225787, 25793.233161042903, 3930.323590091473, 422.47729594743475, 29.18712338281613,
)  # fmt: skip
_MILLS_UNDER: Final = (
    1158085.1024471046, 2917981.1981237344, 3444660.4458678523, 2520398.854135845, 1273312.2515818102,
    467810.6419772239, 128016.71057984451, 26213.710456788765, 3959.510713476024, 423.47729594742714,
    29.187123382816143,
)  # fmt: skip
# Beyond, powers would overflow; the ratio is 1 / z long before.
_MILLS_MAX: Final = 1e20


def _fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:  # noqa: ARG001 - the signature that numba calls
    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), codegen


def _emit_bits_of(typing_context: Any, x: Any) -> Any:  # noqa: ARG001 - likewise
    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), codegen


def _emit_double_of(typing_context: Any, bits: Any) -> Any:  # noqa: ARG001 - likewise
    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), codegen


# a * b + c, rounded once.
fma: Callable[[float, float, float], float] = cast(Any, intrinsic(_fma))
_bits_of: Callable[[float], int] = cast(Any, intrinsic(_emit_bits_of))
_double_of: Callable[[int], float] = cast(Any, intrinsic(_emit_double_of))


@njit(forceinline=True, error_model="numpy")
def exp(x: float) -> float:
    """Return e^x; 0 below -708 (no subnormal results), and e^709 above 709."""
    bounded = min(max(x, _EXPONENT_MIN), _EXPONENT_MAX)
    shifted = fma(bounded, _LOG2_E, _MAGIC)
    k = shifted - _MAGIC
    r = fma(k, -_LN2_HIGH, bounded)
    r = fma(k, -_LN2_LOW, r)
    square = r * r
    even = _EXP[8]
    odd = _EXP[9]
    even = fma(even, square, _EXP[6])
    odd = fma(odd, square, _EXP[7])
    even = fma(even, square, _EXP[4])
    odd = fma(odd, square, _EXP[5])
    even = fma(even, square, _EXP[2])
    odd = fma(odd, square, _EXP[3])
    even = fma(even, square, _EXP[0])
    odd = fma(odd, square, _EXP[1])
    p = fma(square, fma(odd, r, even), r) + 1.0
    scale = _double_of((_bits_of(shifted) - _MAGIC_BITS + 1023) << 52)
    return p * scale if x >= _EXPONENT_MIN else 0.0


@njit(forceinline=True, error_model="numpy")
def two_sum(a: float, b: float) -> tuple[float, float]:
    """Return a + b rounded, and what rounding lost, exactly."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@njit(forceinline=True, error_model="numpy")
def _log_terms(a: float, b: float, quotient: float) -> tuple[float, float, float, float]:
    """Return e, b 2^e, s and (atanh(s) / s - 1) / s^2: ln(a / b) is e ln 2 + 2 atanh(s)."""
    exponent = (_bits_of(quotient) - _HALF_SQRT_BITS) >> 52
    e = _double_of(exponent + _MAGIC_BITS) - _MAGIC
    scaled = b * _double_of((exponent + 1023) << 52)
    s = (a - scaled) / (a + scaled)
    z = s * s
    square = z * z
    even = _LOG[6]
    odd = _LOG[7]
    even = fma(even, square, _LOG[4])
    odd = fma(odd, square, _LOG[5])
    even = fma(even, square, _LOG[2])
    odd = fma(odd, square, _LOG[3])
    even = fma(even, square, _LOG[0])
    odd = fma(odd, square, _LOG[1])
    return e, scaled, s, fma(odd, z, even)


@njit(forceinline=True, error_model="numpy")
def log_ratio(a: float, b: float) -> float:
    """Return ln(a / b) of two positive normal numbers, with full relative accuracy where a is near b."""
    return log_of_quotient(a, b, a / b)


@njit(forceinline=True, error_model="numpy")
def log_of_quotient(a: float, b: float, quotient: float) -> float:
    """Return ``log_ratio`` to who has a / b already."""
    e, _, s, p = _log_terms(a, b, quotient)
    twice = 2.0 * s
    tail = fma(twice * (s * s), p, e * _LN2_LOW)
    return fma(e, _LN2_HIGH, twice + tail)


@njit(forceinline=True, error_model="numpy")
def log_ratio_parts(a: float, b: float) -> tuple[float, float]:
    """Return ln(a / b) in two parts, for what nearly cancels it.

    The second part is below a fiftieth of the first, and carries the error of the sum.
    """
    e, scaled, s, p = _log_terms(a, b, a / b)
    # The numerator is exact: a and scaled are within a factor of two.
    total, lost = two_sum(a, scaled)
    s_low = fma(-s, lost, fma(-s, total, a - scaled)) / total
    twice = 2.0 * s
    whole = e * _LN2_HIGH
    high = whole + twice
    low = twice - (high - whole)
    return high, low + fma(2.0, s_low, fma(twice * (s * s), p, e * _LN2_LOW))


@njit(forceinline=True, error_model="numpy")
def log(x: float) -> float:
    """Return ln(x) of a positive normal number."""
    return log_ratio(x, 1.0)


@njit(forceinline=True, error_model="numpy")
def power(base: float, exponent: float) -> float:
    """Return base^exponent for a positive base, to some ulp times the size of its logarithm."""
    return exp(exponent * log_ratio(base, 1.0))


@njit(forceinline=True, error_model="numpy")
def density(z: float) -> float:
    """Return the standard normal density; 0 beyond ``DENSITY_MAX``."""
    bounded = min(max(z, -DENSITY_MAX), DENSITY_MAX)
    return exp(fma(-0.5 * bounded, bounded, -_LOG_SQRT_2PI))


@njit(forceinline=True, error_model="numpy")
def mills(z: float) -> float:
    """Return N(-z) / n(z) for z >= 0: the upper tail of the normal distribution over its density."""
    bounded = min(z, _MILLS_MAX)
    over = bounded + _MILLS_OVER[9]
    under = bounded + _MILLS_UNDER[10]
    under = fma(under, bounded, _MILLS_UNDER[9])
    over = fma(over, bounded, _MILLS_OVER[8])
    under = fma(under, bounded, _MILLS_UNDER[8])
    over = fma(over, bounded, _MILLS_OVER[7])
    under = fma(under, bounded, _MILLS_UNDER[7])
    over = fma(over, bounded, _MILLS_OVER[6])
    under = fma(under, bounded, _MILLS_UNDER[6])
    over = fma(over, bounded, _MILLS_OVER[5])
    under = fma(under, bounded, _MILLS_UNDER[5])
    over = fma(over, bounded, _MILLS_OVER[4])
    under = fma(under, bounded, _MILLS_UNDER[4])
    over = fma(over, bounded, _MILLS_OVER[3])
    under = fma(under, bounded, _MILLS_UNDER[3])
    over = fma(over, bounded, _MILLS_OVER[2])
    under = fma(under, bounded, _MILLS_UNDER[2])
    over = fma(over, bounded, _MILLS_OVER[1])
    under = fma(under, bounded, _MILLS_UNDER[1])
    over = fma(over, bounded, _MILLS_OVER[0])
    under = fma(under, bounded, _MILLS_UNDER[0])
    return over / under
