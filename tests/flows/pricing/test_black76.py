"""Black-76: mpmath judges, the textbook agrees, limits are reached."""

from pathlib import Path
from typing import TypedDict

import mpmath
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from numba import njit

from flows.pricing import black76 as module
from flows.pricing.black76 import OptionValues, black76, black76_price
from tests.flows.pricing import plain

REFERENCE = Path(__file__).resolve().parents[4] / "shared/data/greeks/greeks_reference.parquet"
NAMES = ("price", "delta", "gamma", "vega", "theta", "rho")
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
    ]


def test_realistic_options_are_right_to_14_digits() -> None:
    """Forty digits of mpmath judge every output where an option is worth more than a millionth."""
    chain = _chain(400, seed=3)

    got = black76(**chain)

    with mpmath.workdps(40):
        for i in range(400):
            exact = _exact(*_terms(chain, i), rate=float(chain["rate"][i]), call=bool(chain["is_call"][i]))
            if exact[0] > 1e-6 * max(chain["forward"][i], chain["strike"][i]):
                for name, value in zip(NAMES, exact, strict=True):
                    error = abs(mpmath.mpf(float(getattr(got, name)[i])) - value)
                    assert error <= 3e-14 * abs(value) + 1e-300, (name, i)


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
    assert [got.gamma[0], got.vega[0], got.theta[0]] == [0.0, 0.0, 0.0]


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


def test_the_kernels_are_vectorised() -> None:
    """A stray library call or branch silently costs a factor of four: the code must use vector registers throughout."""
    kernel = njit(error_model="numpy")(module._black76.py_func)
    chain = _chain(8, seed=6)

    kernel(
        chain["forward"], chain["strike"], chain["time_to_expiry"], chain["implied_vol"], chain["rate"],
        chain["is_call"], *np.empty((6, 8)),
    )  # fmt: skip

    assembly = next(iter(kernel.inspect_asm().values()))

    assert assembly.count("zmm") + assembly.count("ymm") > 200


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference Greeks beside the repository are not here")
def test_published_greeks_are_reproduced() -> None:
    """Haug's and the vollib table's numbers, each to its own tolerance; forward = spot × e^(b t)."""
    rows = pl.read_parquet(REFERENCE).filter(
        pl.col("quantity").is_in(["value", "delta", "gamma", "vega", "theta"])
        & (pl.col("t") > 0) & (pl.col("vol") > 0) & (pl.col("strike") < 1e9)
    )  # fmt: skip
    checked = 0

    for row in rows.iter_rows(named=True):
        growth = np.exp(row["b"] * row["t"])
        got = _one(
            forward=row["spot"] * growth, strike=row["strike"], time_to_expiry=row["t"], implied_vol=row["vol"],
            rate=row["r"], is_call=row["option_type"] == "call",
        )  # fmt: skip
        by_spot = {
            "value": got.price[0],
            "delta": got.delta[0] * growth,
            "gamma": got.gamma[0] * growth * growth,
            "vega": got.vega[0],
            "theta": got.theta[0] - row["b"] * row["spot"] * growth * got.delta[0],
        }
        assert by_spot[row["quantity"]] == pytest.approx(row["value"], rel=1e-12, abs=max(row["tol"], 1e-9)), row
        checked += 1

    assert checked > 800
