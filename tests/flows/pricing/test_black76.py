"""Black-76: mpmath judges, the textbook agrees, limits are reached."""

from fractions import Fraction
from typing import TypedDict

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.pricing.black76 import OptionValues, black76, black76_price
from tests.flows.pricing import plain, twin
from tests.flows.pricing.twin import NAMES

Float64Array = npt.NDArray[np.float64]


class Options(TypedDict):
    """The arguments of ``black76``."""

    forward: Float64Array
    strike: Float64Array
    time_to_expiry: Float64Array
    implied_vol: Float64Array
    rate: Float64Array
    is_call: npt.NDArray[np.bool_]


def _chain(count: int, seed: int) -> Options:
    rng = np.random.default_rng(seed)
    forward = 10 ** rng.uniform(-1, 5, count)
    return {
        "forward": forward,
        "strike": forward * np.exp(rng.normal(0.0, 0.3, count)),
        "time_to_expiry": rng.uniform(1.0 / 365.0, 1.0, count),
        "implied_vol": rng.uniform(0.3, 1.5, count),
        "rate": rng.uniform(-0.1, 0.1, count),
        "is_call": rng.random(count) < 0.5,
    }


def _prices(options: Options) -> Float64Array:
    """Return undiscounted prices, of all but the rate."""
    return black76_price(
        forward=options["forward"],
        strike=options["strike"],
        time_to_expiry=options["time_to_expiry"],
        implied_vol=options["implied_vol"],
        is_call=options["is_call"],
    )


def _terms(options: Options, i: int) -> tuple[float, float, float, float]:
    """Return forward, strike, time to expiry and implied vol of one option."""
    forward, strike, time, vol = (
        float(column[i])
        for column in (options["forward"], options["strike"], options["time_to_expiry"], options["implied_vol"])
    )
    return forward, strike, time, vol


def _one(**changes: float | bool) -> OptionValues:
    values: dict[str, float | bool] = {
        "forward": 100.0, "strike": 100.0, "time_to_expiry": 0.5, "implied_vol": 0.6, "rate": 0.03, "is_call": True,
    }  # fmt: skip
    values.update(changes)
    return black76(**{name: np.array([value]) for name, value in values.items()})


def _exact(forward: float, strike: float, time: float, vol: float, *, rate: float, call: bool) -> list[mpmath.mpf]:
    f, k, t, s, r = (mpmath.mpf(float(x)) for x in (forward, strike, time, vol, rate))
    v = s * mpmath.sqrt(t)
    d1 = mpmath.log(f / k) / v + v / 2
    sign = 1 if call else -1
    discount = mpmath.exp(-r * t)
    density = mpmath.npdf(d1)
    price = discount * sign * (f * mpmath.ncdf(sign * d1) - k * mpmath.ncdf(sign * (d1 - v)))
    return [
        price,
        discount * sign * mpmath.ncdf(sign * d1),
        discount * density / (f * v),
        discount * f * density * mpmath.sqrt(t),
        -discount * f * density * s / (2 * mpmath.sqrt(t)) + r * price,
        -t * price,
        -discount * density * (d1 - v) / s,
        discount * f * density * mpmath.sqrt(t) * d1 * (d1 - v) / s,
    ]


def test_realistic_options_are_right_to_12_digits() -> None:
    """Forty digits of mpmath judge every output where an option is worth more than a millionth.

    Vanna and volga change sign within the chain: a difference of rounded numbers would lose their digits there.
    """
    chain = _chain(400, seed=3)

    got = black76(**chain)

    with mpmath.workdps(40):
        for i in range(400):
            exact = _exact(*_terms(chain, i), rate=float(chain["rate"][i]), call=bool(chain["is_call"][i]))
            if exact[0] > 1e-6 * max(chain["forward"][i], chain["strike"][i]):
                for name, value in zip(NAMES, exact, strict=True):
                    error = abs(mpmath.mpf(float(getattr(got, name)[i])) - value)
                    assert error <= 5e-13 * abs(value) + 1e-300, (name, i)


def test_extreme_options_are_right_in_price() -> None:
    """Seconds to expiry, vols of 0.5 % to 500 %, moneyness of a thousand: 1e-15 of the larger side."""
    rng = np.random.default_rng(4)
    n = 400
    forward = 10 ** rng.uniform(-2, 5, n)
    chain: Options = {
        "forward": forward,
        "strike": forward * np.exp(rng.uniform(-7, 7, n) * rng.random(n)),
        "time_to_expiry": 10 ** rng.uniform(-7, 0.7, n),
        "implied_vol": 10 ** rng.uniform(-2.3, 0.7, n),
        "rate": np.zeros(n),
        "is_call": rng.random(n) < 0.5,
    }

    got = _prices(chain)

    with mpmath.workdps(60):
        for i in range(n):
            exact = _exact(*_terms(chain, i), rate=0.0, call=bool(chain["is_call"][i]))[0]
            assert abs(mpmath.mpf(float(got[i])) - exact) <= 1e-15 * max(forward[i], chain["strike"][i]), i


def test_extreme_options_have_the_right_greeks() -> None:
    """The same extremes, wherever an option is worth more than a millionth: an underflow or a lost digit shows."""
    rng = np.random.default_rng(8)
    n = 300
    forward = 10 ** rng.uniform(-2, 5, n)
    time, vol = 10 ** rng.uniform(-7, 0.7, n), 10 ** rng.uniform(-2.3, 0.7, n)
    log_moneyness = np.clip(rng.uniform(-6, 6, n) * vol * np.sqrt(time), -6.9, 6.9)
    chain: Options = {
        "forward": forward, "strike": forward * np.exp(log_moneyness), "time_to_expiry": time, "implied_vol": vol,
        "rate": np.zeros(n), "is_call": rng.random(n) < 0.5,
    }  # fmt: skip

    got = black76(**chain)

    with mpmath.workdps(60):
        for i in range(n):
            exact = _exact(*_terms(chain, i), rate=0.0, call=bool(chain["is_call"][i]))
            if exact[0] > 1e-6 * max(forward[i], chain["strike"][i]):
                for name, value in list(zip(NAMES, exact, strict=True))[1:]:
                    # Rho is the price's multiple, and the price is judged by the larger side, above.
                    scale = abs(value) if name != "rho" else max(forward[i], chain["strike"][i]) * time[i] * 1e-3
                    error = abs(mpmath.mpf(float(getattr(got, name)[i])) - value)
                    assert error <= 1e-12 * scale, (name, i)


def test_the_twin_without_a_compiler_has_the_same_bits() -> None:
    """A fused, reordered or vectorised operation that changes one bit of one output shows, dead options included."""
    rng = np.random.default_rng(7)
    n = 20_003
    vol, time = (
        10 ** rng.uniform(*powers, n) * (rng.random(n) > 0.03) for powers in ((-2.3, 0.7), (-7.0, 0.7))
    )  # fmt: skip
    forward = 10 ** rng.uniform(-2, 5, n)
    away = np.clip(rng.uniform(-12, 12, n) * vol * np.sqrt(time), -6.9, 6.9) * (rng.random(n) > 0.03)
    chain: Options = {
        "forward": forward, "strike": forward * np.exp(away), "time_to_expiry": time, "implied_vol": vol,
        "rate": rng.uniform(-0.1, 0.1, n), "is_call": rng.random(n) < 0.5,
    }  # fmt: skip

    got, expected = black76(**chain), twin.black76(**chain)

    for name in NAMES:
        assert getattr(got, name).tobytes() == expected[name].tobytes(), name


def test_the_twins_fused_operation_is_rounded_once() -> None:
    """Exact rationals judge what the twin is built on, cancellation to the last bit included."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 2_000)) * 10 ** rng.uniform(-5, 5, (2, 2_000))
    c = -a * b * (1.0 + rng.choice([0.0, 1e-16, 1e-10, 1e-3, 1.0, 1e10], 2_000) * rng.normal(size=2_000))

    got = twin.fma(a, b, c)

    exact = [float(Fraction(x) * Fraction(y) + Fraction(z)) for x, y, z in zip(a, b, c, strict=True)]
    assert got.tolist() == exact


def test_kernels_agree_with_the_textbook() -> None:
    """The two kernels and the plain formula are three ways to one number."""
    chain = _chain(500, seed=5)
    chain["rate"] = np.zeros(500)

    values, prices = black76(**chain), _prices(chain)

    for i in range(500):
        arguments = _terms(chain, i)
        call = bool(chain["is_call"][i])
        scale = max(arguments[0], arguments[1])
        assert prices[i] == pytest.approx(plain.black76_price(*arguments, call=call), abs=2e-15 * scale)
        for name, value in plain.black76_greeks(*arguments, call=call).items():
            assert getattr(values, name)[i] == pytest.approx(value, rel=1e-12, abs=1e-14), name
    assert np.abs(values.price - prices).max() <= 1e-15 * chain["strike"].max()


@pytest.mark.parametrize(("name", "by", "sign"), [
    ("delta", "forward", 1.0), ("vega", "implied_vol", 1.0), ("theta", "time_to_expiry", -1.0), ("rho", "rate", 1.0),
])  # fmt: skip
def test_greek_is_the_derivative_of_the_price(name: str, by: str, sign: float) -> None:
    """A wrong sign, factor or unit differs from the central difference."""
    base = {"forward": 103.0, "strike": 100.0, "time_to_expiry": 0.5, "implied_vol": 0.6, "rate": 0.03}

    step = 1e-5 * base[by]

    up = _one(**{**base, by: base[by] + step}).price[0]
    down = _one(**{**base, by: base[by] - step}).price[0]

    assert getattr(_one(**base), name)[0] == pytest.approx(sign * (up - down) / (2.0 * step), rel=1e-6)


def test_gamma_is_the_derivative_of_delta() -> None:
    """Likewise for the second derivative."""
    step = 1e-3

    slope = (_one(forward=103.0 + step).delta[0] - _one(forward=103.0 - step).delta[0]) / (2.0 * step)

    assert _one(forward=103.0).gamma[0] == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(("name", "of"), [("vanna", "delta"), ("volga", "vega")])
@pytest.mark.parametrize("is_call", [True, False])
def test_second_derivative_by_vol_is_the_slope_of_the_first(name: str, of: str, is_call: bool) -> None:
    """A wrong sign or a factor of vol or of root time differs from the central difference."""
    step = 1e-6

    up, down = (
        getattr(_one(forward=103.0, implied_vol=0.6 + s, is_call=is_call), of)[0] for s in (step, -step)
    )  # fmt: skip

    got = getattr(_one(forward=103.0, is_call=is_call), name)[0]
    assert got == pytest.approx((up - down) / (2.0 * step), rel=1e-6)


@settings(max_examples=300)
@given(
    forward=st.floats(1e-50, 1e50), strike=st.floats(1e-50, 1e50), time=st.floats(0.0, 1e3),
    vol=st.floats(0.0, 1e4), rate=st.floats(-0.5, 0.5), is_call=st.booleans(),
)  # fmt: skip
@example(forward=1.0, strike=1.0, time=5e-324, vol=5e-324, rate=0.0, is_call=True)
@example(forward=1.0, strike=1.0, time=1.0, vol=1e-149, rate=0.0, is_call=True)
@example(forward=1e-50, strike=1e-50, time=1.0, vol=1e-149, rate=0.0, is_call=False)
@example(forward=1e-50, strike=1e50, time=1e3, vol=1e4, rate=-0.5, is_call=True)
@example(forward=1.0, strike=1e3, time=1e-7, vol=5e-3, rate=0.0, is_call=False)
def test_every_output_is_finite(
    forward: float, strike: float, time: float, vol: float, rate: float, is_call: bool
) -> None:
    """0 / 0 or inf * 0 in a limit would be NaN, and pass into an account's sums."""
    got = _one(
        forward=forward, strike=strike, time_to_expiry=time, implied_vol=vol, rate=rate, is_call=is_call
    )  # fmt: skip

    assert all(np.isfinite(getattr(got, name)[0]) for name in NAMES)


@pytest.mark.parametrize("dead", [{"time_to_expiry": 0.0}, {"implied_vol": 0.0}])
@pytest.mark.parametrize(("strike", "is_call", "price", "delta"), [
    (90.0, True, 10.0, 1.0), (110.0, True, 0.0, 0.0), (90.0, False, 0.0, 0.0), (110.0, False, 10.0, -1.0),
    (100.0, True, 0.0, 0.5), (100.0, False, 0.0, -0.5),
])  # fmt: skip
def test_an_option_that_cannot_move_is_intrinsic(
    dead: dict[str, float], strike: float, is_call: bool, price: float, delta: float
) -> None:
    """At expiry, or without vol, prices and Greeks are finite limits, not NaN."""
    got = _one(strike=strike, is_call=is_call, rate=0.0, **dead)

    assert got.price[0] == price
    assert got.delta[0] == pytest.approx(delta, abs=1e-15)
    assert [got.gamma[0], got.vega[0], got.theta[0], got.vanna[0], got.volga[0]] == [0.0] * 5


def test_an_enormous_vol_makes_a_call_the_forward_and_a_put_the_strike() -> None:
    """The other limit: no overflow, and the bounds are met exactly."""
    assert _one(strike=70.0, implied_vol=1e4, rate=0.0).price[0] == 100.0
    assert _one(strike=70.0, implied_vol=1e4, rate=0.0, is_call=False).price[0] == 70.0


@pytest.mark.parametrize(
    "bad",
    [
        {"forward": 0.0},
        {"strike": -1.0},
        {"time_to_expiry": -1e-9},
        {"implied_vol": float("nan")},
        {"rate": float("inf")},
    ],
)
def test_an_input_out_of_range_is_refused(bad: dict[str, float]) -> None:
    """NaN must not pass for a price."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        _one(**bad)


@pytest.mark.parametrize("name", ["forward", "strike", "time_to_expiry", "implied_vol", "rate"])
def test_one_bad_input_among_thousands_is_refused(name: str) -> None:
    """The kernel marks what it refuses on its way: a mark lost between blocks would let a NaN pass."""
    chain = _chain(5_000, seed=9)
    black76(**chain)
    columns: dict[str, npt.NDArray[np.float64]] = {**chain}  # type: ignore[dict-item]
    columns[name][2_500] = np.nan

    with pytest.raises(ValueError, match=name):
        black76(**chain)
