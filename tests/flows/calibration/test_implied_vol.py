"""Prices to vols and back, and prices that carry none."""

from math import inf, nan

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.calibration import implied_vol as module
from flows.calibration.implied_vol import implied_vols, vega
from flows.pricing.black76 import black76_price
from tests.flows.pricing.test_vector_code import vector_code


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
    """Fails if the inversion loses a digit of twelve anywhere within six deviations of the money.

    Down to a deviation of 5e-4, where the difference of two normal probabilities has lost four; above four the price is
    so near its bound that its own rounding shows.
    """
    forward = 70_000.0
    strike = float(forward * np.exp(deviations * vol * np.sqrt(time)))
    call = strike >= forward

    found, informative = vol_of(black76(forward, strike, time, vol, call), forward, strike, time, call)

    assert informative
    assert found == pytest.approx(vol, rel=1e-12 if vol * np.sqrt(time) < 4.0 else 1e-9)


@pytest.mark.parametrize(("low", "high", "far", "near", "error"), [
    (3e-3, 4.0, -10.0, 0.0, 1e-14), (2.1e-7, 3e-3, -10.0, 0.1, 1e-14), (1e-6, 8.0, -35.0, -10.0, 1e-14),
    (4.0, 8.0, -20.0, 4.0, 1e-12),
], ids=["usual", "tiny", "far wing", "large"])  # fmt: skip
def test_inversion_is_right_to_the_last_digits(low: float, high: float, far: float, near: float, error: float) -> None:
    """Fails if three steps are too few from the guess, or a difference cancels; d1 is from far to near."""
    rng = np.random.default_rng(3)
    n = 300
    deviation = np.exp(rng.uniform(np.log(low), np.log(high), n))
    d1 = np.minimum(rng.uniform(far, near, n), 0.5 * deviation)
    x = np.maximum((d1 - 0.5 * deviation) * deviation, -600.0)
    forward = 10 ** rng.uniform(-2, 5, n)
    call = rng.random(n) < 0.5
    strike = forward * np.exp(np.where(call, -x, x))
    columns = zip(forward, strike, np.ones(n), deviation, call, strict=True)
    price = np.array([black76(float(f), float(k), t, float(s), bool(c)) for f, k, t, s, c in columns])

    got = implied_vols(price=price, forward=forward, strike=strike, time_to_expiry=np.ones(n), is_call=call)

    assert got.informative.all()
    assert np.abs(got.implied_vol / deviation - 1.0).max() <= error


def test_a_vol_does_not_depend_on_its_place_in_an_array() -> None:
    """Fails if vector body and scalar remainder differ, or a lane that is no price disturbs its neighbours."""
    rng = np.random.default_rng(4)
    n = 203
    forward, time, vol = rng.uniform(50, 150, n), rng.uniform(0.01, 2, n), rng.uniform(0.2, 2, n)
    call = rng.random(n) < 0.5
    price = black76_price(
        forward=forward, strike=np.full(n, 100.0), time_to_expiry=time, implied_vol=vol, is_call=call
    )  # fmt: skip
    price[::7] = nan

    whole = implied_vols(
        price=price, forward=forward, strike=np.full(n, 100.0), time_to_expiry=time, is_call=call
    )  # fmt: skip

    single = [
        vol_of(float(price[i]), float(forward[i]), 100.0, float(time[i]), bool(call[i])) for i in range(n)
    ]  # fmt: skip
    assert whole.implied_vol.tobytes() == np.array([vol for vol, _ in single]).tobytes()
    assert whole.informative.tolist() == [informative for _, informative in single]
    assert not whole.informative[::7].any()


def test_the_solver_is_vector_code() -> None:
    """Fails if a branch or library call makes the solver scalar, which costs a factor of ten and changes nothing."""
    columns = [np.ones(64) for _ in range(4)]
    flags = [np.ones(64, dtype=np.bool_) for _ in range(2)]

    packed, library = vector_code(module._implied_vols.py_func, *columns, flags[0], np.ones(64), flags[1])

    assert packed >= 400
    assert not library


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
        (100.0 - 1e-12, 100.0, 110.0, 0.5, True),
        (10.0 + 1e-12, 100.0, 90.0, 0.5, True),
        (1e-9, 1e160, 1e160, 0.5, True),
        (1e-8, 1.0, 1.0, 1.0, True),
        (nan, 100.0, 110.0, 0.5, True),
        (inf, 100.0, 110.0, 0.5, True),
        (5.0, 100.0, 110.0, 0.0, True),
        (5.0, 100.0, 110.0, -0.1, True),
        (5.0, 0.0, 110.0, 0.5, True),
        (5.0, 100.0, 0.0, 0.5, True),
    ],
    ids=[
        "worthless", "negative", "intrinsic", "below intrinsic", "call at its bound", "put at its bound",
        "a rounding below its bound", "a rounding above intrinsic", "no such forward", "a deviation below the least",
        "no quote", "infinite", "at expiry", "after expiry", "no forward", "no strike",
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
