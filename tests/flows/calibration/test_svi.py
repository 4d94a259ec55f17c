"""Slices: known parameters recovered, invariants of what goes to intake, arbitrage seen."""

from math import erf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.calibration.svi import ARBITRAGE_TOLERANCE, Fit, Slice, fit_slice

KNOWN = Slice(a=0.01, b=0.12, rho=-0.35, m=0.03, sigma=0.15, time_to_expiry=0.25)


def fitted(slice_: Slice, k: np.ndarray, noise: np.ndarray | float = 0.0, earlier: Fit | None = None) -> Fit:
    return fit_slice(
        k=k,
        implied_vol=slice_.implied_vol(k) + noise,
        weight=np.ones_like(k),
        time_to_expiry=slice_.time_to_expiry,
        earlier=earlier,
    )


def test_known_parameters_are_recovered() -> None:
    """Fails if the optimiser stops away from an exact solution."""
    k = np.linspace(-0.6, 0.6, 25)

    fit = fitted(KNOWN, k)

    for name in ("a", "b", "rho", "m", "sigma"):
        assert getattr(fit.slice, name) == pytest.approx(getattr(KNOWN, name), abs=1e-6)
    assert fit.rms_vol < 1e-8


@settings(max_examples=40, deadline=None)
@given(
    vol=st.floats(0.2, 2.0),
    time=st.floats(0.001, 2.0),
    skew=st.floats(-0.3, 0.3),
    smile=st.floats(0.0, 0.4),
    noise=st.lists(st.floats(-0.02, 0.02), min_size=15, max_size=15),
)
def test_any_smile_gives_a_slice_that_intake_accepts(
    vol: float, time: float, skew: float, smile: float, noise: list[float]
) -> None:
    """Fails if a fit leaves b >= 0, |rho| < 1, sigma > 0, lowest variance >= 0; or is worse than a flat smile."""
    z = np.linspace(-2.5, 2.5, 15)
    k = z * vol * np.sqrt(time)
    quoted = vol * (1.0 + 0.2 * skew * z + 0.1 * smile * z * z) + np.array(noise)

    fit = fit_slice(k=k, implied_vol=quoted, weight=np.ones(15), time_to_expiry=time)

    found = fit.slice
    assert found.b >= 0.0
    assert abs(found.rho) < 1.0
    assert found.sigma > 0.0
    assert found.variance_min >= -1e-15
    if fit.butterfly_min > 0.05:
        assert fit.rms_vol <= float(np.std(quoted)) + 1e-6


def test_the_butterfly_check_is_the_sign_of_the_density() -> None:
    """Fails if g is wrong: it must agree in sign with the second difference of call prices over strikes."""
    arbitrageable = Slice(a=-0.0410, b=0.1331, rho=0.3060, m=0.3586, sigma=0.4153, time_to_expiry=1.0)
    k = np.linspace(-1.5, 1.5, 241)

    g = arbitrageable.butterfly(k)

    strikes, deviation = np.exp(k), np.sqrt(arbitrageable.total_variance(k))
    d1 = -k / deviation + deviation / 2.0
    ncdf = np.vectorize(lambda x: 0.5 * (1.0 + erf(x / 2**0.5)))
    calls = ncdf(d1) - strikes * ncdf(d1 - deviation)
    width = np.diff(strikes)
    slopes = np.diff(calls) / width
    density = np.diff(slopes)
    clear = np.abs(g[1:-1]) > 0.02
    assert np.array_equal(np.sign(density[clear]), np.sign(g[1:-1][clear]))
    # Gatheral and Jacquier's example after Vogt has arbitrage; a check that never fires would be no check.
    assert g.min() < -0.02


def test_butterfly_arbitrage_in_quotes_is_fitted_away() -> None:
    """Fails if the second, penalised fit does not bring the density above the tolerance."""
    k = np.linspace(-1.5, 1.5, 31)
    arbitrageable = Slice(a=-0.0410, b=0.1331, rho=0.3060, m=0.3586, sigma=0.4153, time_to_expiry=1.0)

    fit = fitted(arbitrageable, k)

    assert fit.butterfly_min >= -ARBITRAGE_TOLERANCE
    assert 0.0 < fit.rms_vol < 0.05


def test_a_later_slice_does_not_undercut_an_earlier_one() -> None:
    """Fails if calendar arbitrage between accepted slices goes unseen or is not fitted away where it is small."""
    k = np.linspace(-0.5, 0.5, 21)
    earlier = fitted(KNOWN, k)
    lower = Slice(a=0.0095, b=0.1195, rho=-0.35, m=0.03, sigma=0.15, time_to_expiry=0.26)

    alone = fitted(lower, k)
    after = fitted(lower, k, earlier=earlier)

    assert np.min(alone.slice.total_variance(k) - earlier.slice.total_variance(k)) < 0.0
    assert after.calendar_min >= -ARBITRAGE_TOLERANCE


def test_too_few_quotes_and_bad_values_are_errors() -> None:
    """Fails if a fit is made of nothing."""
    k = np.linspace(-0.1, 0.1, 4)
    with pytest.raises(ValueError, match="do not determine"):
        fitted(KNOWN, k)
    k = np.linspace(-0.1, 0.1, 6)
    with pytest.raises(ValueError, match="finite"):
        fit_slice(k=k, implied_vol=np.full(6, np.nan), weight=np.ones(6), time_to_expiry=0.1)
    with pytest.raises(ValueError, match="positive"):
        fit_slice(k=k, implied_vol=np.full(6, 0.5), weight=np.ones(6), time_to_expiry=0.0)
