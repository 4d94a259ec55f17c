"""Prices to vols and back, and prices that carry none."""

from math import inf, nan

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.calibration.implied_vol import implied_vols, vega


def black76(forward: float, strike: float, time: float, vol: float, call: bool) -> float:
    """Price an option with 60 digits: the judge."""
    with mpmath.workdps(60):
        deviation = mpmath.mpf(vol) * mpmath.sqrt(mpmath.mpf(time))
        d1 = mpmath.log(mpmath.mpf(forward) / strike) / deviation + deviation / 2
        sign = 1 if call else -1
        price = sign * (forward * mpmath.ncdf(sign * d1) - strike * mpmath.ncdf(sign * (d1 - deviation)))
        return float(price)


def vol_of(price: float, forward: float, strike: float, time: float, call: bool) -> tuple[float, bool]:
    out = implied_vols(
        price=np.array([price]),
        forward=np.array([forward]),
        strike=np.array([strike]),
        time_to_expiry=np.array([time]),
        is_call=np.array([call]),
    )
    return float(out.implied_vol[0]), bool(out.informative[0])


@settings(max_examples=150, deadline=None)
@given(
    deviations=st.floats(-6.0, 6.0),
    time=st.floats(1e-4, 3.0),
    vol=st.floats(0.05, 5.0),
)
def test_out_of_the_money_prices_give_their_vol_back(deviations: float, time: float, vol: float) -> None:
    """Fails if the inversion loses more than nine digits anywhere within six deviations of the money."""
    forward = 70_000.0
    strike = float(forward * np.exp(deviations * vol * np.sqrt(time)))
    call = strike >= forward

    found, informative = vol_of(black76(forward, strike, time, vol, call), forward, strike, time, call)

    assert informative
    assert found == pytest.approx(vol, rel=1e-9)


def test_a_put_in_the_money_has_the_vol_of_the_call() -> None:
    """Fails if parity is broken: both options of a strike must tell the same vol."""
    price = black76(70_000.0, 80_000.0, 0.25, 0.6, call=False)

    found, informative = vol_of(price, 70_000.0, 80_000.0, 0.25, call=False)

    assert informative
    assert found == pytest.approx(0.6, rel=1e-9)


@pytest.mark.parametrize(
    ("price", "forward", "strike", "time", "call"),
    [
        (0.0, 100.0, 110.0, 0.5, True),
        (-1.0, 100.0, 110.0, 0.5, True),
        (10.0, 100.0, 90.0, 0.5, True),
        (9.0, 100.0, 90.0, 0.5, True),
        (100.0, 100.0, 110.0, 0.5, True),
        (90.0, 100.0, 90.0, 0.5, False),
        (nan, 100.0, 110.0, 0.5, True),
        (inf, 100.0, 110.0, 0.5, True),
        (5.0, 100.0, 110.0, 0.0, True),
        (5.0, 100.0, 110.0, -0.1, True),
        (5.0, 0.0, 110.0, 0.5, True),
        (5.0, 100.0, 0.0, 0.5, True),
    ],
    ids=[
        "worthless", "negative", "intrinsic", "below intrinsic", "call at its bound", "put at its bound", "no quote",
        "infinite", "at expiry", "after expiry", "no forward", "no strike",
    ],
)  # fmt: skip
def test_a_price_without_information_gives_no_vol(
    price: float, forward: float, strike: float, time: float, call: bool
) -> None:
    """Fails if a vol is made up where the price determines none, or NumPy warns on the way."""
    with np.errstate(all="raise", under="ignore"):
        found, informative = vol_of(price, forward, strike, time, call)

    assert not informative
    assert np.isnan(found)


def test_vega_is_the_slope_of_the_price() -> None:
    """Fails if vega is off by a factor (per point, per root of time)."""
    step = 1e-5
    up = black76(70_000.0, 75_000.0, 0.1, 0.7 + step, call=True)
    down = black76(70_000.0, 75_000.0, 0.1, 0.7 - step, call=True)

    one = np.array([1.0])
    out = vega(forward=70_000.0 * one, strike=75_000.0 * one, time_to_expiry=0.1 * one, implied_vol=0.7 * one)

    assert out[0] == pytest.approx((up - down) / (2.0 * step), rel=1e-6)
