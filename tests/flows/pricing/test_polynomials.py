"""exp, log and Mills' ratio against 40 digits."""

import mpmath
import numpy as np
import pytest
from numba import njit

from flows.pricing.polynomials import density, exp, log_ratio, mills, power


@njit
def _exp(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        out[i] = exp(x[i])


@njit
def _log_ratio(a, b, out):  # type: ignore[no-untyped-def]
    for i in range(a.shape[0]):
        out[i] = log_ratio(a[i], b[i])


@njit
def _mills(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        out[i] = mills(x[i])


@njit
def _density(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        out[i] = density(x[i])


@njit
def _power(x, y, out):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        out[i] = power(x[i], y)


def _worst(got: np.ndarray, exact: list[mpmath.mpf]) -> float:
    return float(max(abs(mpmath.mpf(float(g)) / e - 1) for g, e in zip(got, exact, strict=True)))


@pytest.fixture(autouse=True)
def _forty_digits():  # type: ignore[no-untyped-def]
    with mpmath.workdps(40):
        yield


def test_exp_is_within_two_ulp() -> None:
    """A wrong coefficient or a lost low part of ln 2 shows here."""
    x = np.concatenate([np.linspace(-708.0, 709.0, 1500), np.linspace(-1e-3, 1e-3, 101), [0.0]])
    out = np.empty_like(x)

    _exp(x, out)

    assert _worst(out, [mpmath.exp(float(v)) for v in x]) < 4.5e-16


def test_exp_is_zero_below_its_range() -> None:
    """Far tails must vanish and not be subnormal, NaN or wrapped."""
    x = np.array([-708.5, -1e6, -1e300, -np.inf])
    out = np.ones_like(x)

    _exp(x, out)

    assert out.tolist() == [0.0] * 4


def test_log_ratio_keeps_relative_accuracy_near_one() -> None:
    """ln(a / b) by first dividing would lose digits where a is near b."""
    rng = np.random.default_rng(1)
    a = np.concatenate([10 ** rng.uniform(-8, 8, 1000), 100.0 * (1.0 + 10 ** rng.uniform(-15, -1, 500))])
    b = np.concatenate([10 ** rng.uniform(-8, 8, 1000), np.full(500, 100.0)])
    out = np.empty_like(a)

    _log_ratio(a, b, out)

    pairs = [(g, mpmath.log(mpmath.mpf(float(x)) / mpmath.mpf(float(y)))) for g, x, y in zip(out, a, b, strict=True)]
    assert all(g == 0.0 if e == 0 else abs(mpmath.mpf(float(g)) / e - 1) < 4.5e-16 for g, e in pairs)


def test_mills_ratio_is_within_a_few_ulp_up_to_the_far_tail() -> None:
    """The polynomials must hold over the whole half-line, not only where they were sampled."""
    z = np.concatenate([np.linspace(0.0, 12.0, 800), np.linspace(12.0, 60.0, 200), [1e3, 1e6]])
    out = np.empty_like(z)

    _mills(z, out)

    def exact(v: float) -> mpmath.mpf:
        if v > 1e2:  # erfc underflows even here; its asymptotic series is exact to these digits
            return mpmath.nsum(lambda k: (-1) ** k * mpmath.fac2(2 * k - 1) / mpmath.mpf(v) ** (2 * k + 1), [0, 4])
        return mpmath.erfc(v / mpmath.sqrt(2)) / 2 * mpmath.sqrt(2 * mpmath.pi) * mpmath.exp(mpmath.mpf(v) ** 2 / 2)

    assert _worst(out, [exact(float(v)) for v in z]) < 7e-16


def test_mills_ratio_has_no_end() -> None:
    """The powers of its two polynomials would overflow: infinity over infinity is no tail."""
    z = np.array([1e19, 1e27, 1e100, 1e300])
    out = np.empty_like(z)

    _mills(z, out)

    assert out[0] == pytest.approx(1e-19, rel=1e-15)
    assert (out[1:] == out[1]).all()
    assert 0.0 < out[1] <= 1e-19


def test_density_and_power_follow_exp() -> None:
    """Both are compositions: a wrong constant shows at once."""
    x = np.linspace(-8.0, 8.0, 201)
    densities, powers = np.empty_like(x), np.empty_like(x)

    _density(x, densities)
    _power(np.exp(x), 0.3, powers)

    assert _worst(densities, [mpmath.npdf(float(v)) for v in x]) < 8e-15
    assert _worst(powers, [mpmath.mpf(float(np.exp(v))) ** mpmath.mpf(0.3) for v in x]) < 2e-15


def test_bits_do_not_depend_on_the_place_in_an_array() -> None:
    """Vector body and scalar remainder must be the same operations: attesters cut arrays in other places."""
    z = np.abs(np.random.default_rng(2).normal(size=1003)) * 5.0
    whole, single = np.empty_like(z), np.empty_like(z)

    _mills(z, whole)
    for i in range(z.shape[0]):
        _mills(z[i : i + 1], single[i : i + 1])

    assert whole.tobytes() == single.tobytes()
