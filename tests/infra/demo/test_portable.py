"""The demo's own arithmetic, judged by mpmath."""

import mpmath
import numpy as np
import pytest

from infra.demo.portable import exponential, gaussian, generator, logarithm, normal_cdf, option_price


def test_exponential_and_logarithm_agree_with_mpmath() -> None:
    """Fails where a coefficient or the argument reduction is wrong."""
    exponents = np.linspace(-32.0, 5.0, 75)
    ratios = np.linspace(0.2, 5.0, 97)

    powers, logs = exponential(exponents), logarithm(ratios)

    assert powers == pytest.approx([float(mpmath.exp(x)) for x in exponents], rel=1e-13)
    assert logs == pytest.approx([float(mpmath.log(x)) for x in ratios], abs=1e-7)


def test_normal_cdf_agrees_with_mpmath() -> None:
    """Fails where the published approximation was mistyped."""
    points = np.linspace(-9.0, 9.0, 181)

    values = normal_cdf(points)

    assert values == pytest.approx([float(mpmath.ncdf(x)) for x in points], abs=7.5e-8)


def test_gaussian_has_mean_zero_and_variance_one() -> None:
    """Fails where the sum of uniforms is not centred or scaled."""
    draws = gaussian(generator(1, 1), 50_000)

    moments = [float(np.mean(draws)), float(np.var(draws))]

    assert moments == pytest.approx([0.0, 1.0], abs=0.02)
    assert float(np.abs(draws).max()) <= 6.0


def test_option_prices_satisfy_put_call_parity() -> None:
    """Fails where puts are not priced from the same distribution as calls."""
    forward, strike = np.full(5, 100.0), np.array([70.0, 90.0, 100.0, 110.0, 140.0])
    variance = np.full(5, 0.04)

    calls = option_price(forward=forward, strike=strike, total_variance=variance, is_call=np.ones(5, dtype=bool))
    puts = option_price(forward=forward, strike=strike, total_variance=variance, is_call=np.zeros(5, dtype=bool))

    assert calls - puts == pytest.approx(forward - strike, abs=1e-9)
    assert calls[2] == pytest.approx(100.0 * (2.0 * float(mpmath.ncdf(0.1)) - 1.0), abs=1e-4)
