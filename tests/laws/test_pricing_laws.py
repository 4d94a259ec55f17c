"""Laws of option prices that hold for every input.

1. Parity: call - put = forward - strike.  2. Bounds: intrinsic <= price <= forward (call) or strike (put).
3. A price never falls with vol.  4. A price is convex in the forward.  5. Homogeneity: scale forward and strike.
"""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flows.pricing.black76 import black76_price

PRICES = st.floats(1e-3, 1e6)
MONEYNESS = st.floats(-3.0, 3.0).map(np.exp)
TIMES = st.floats(0.0, 5.0)
VOLS = st.floats(0.0, 5.0)
# Of max(forward, strike): some ulp, the kernels' own accuracy.
ULPS = 2e-15


def _price(forward: float, strike: float, time: float, vol: float, *, call: bool) -> float:
    columns = {"forward": forward, "strike": strike, "time_to_expiry": time, "implied_vol": vol}
    return float(black76_price(**{n: np.array([v]) for n, v in columns.items()}, is_call=np.array([call]))[0])


@given(PRICES, MONEYNESS, TIMES, VOLS)
def test_parity(forward: float, moneyness: float, time: float, vol: float) -> None:
    """Law 1: two separate formulas would break it in the last digits."""
    strike = forward * moneyness

    difference = _price(forward, strike, time, vol, call=True) - _price(forward, strike, time, vol, call=False)

    assert abs(difference - (forward - strike)) <= ULPS * max(forward, strike)


@given(PRICES, MONEYNESS, TIMES, VOLS, st.booleans())
def test_bounds(forward: float, moneyness: float, time: float, vol: float, call: bool) -> None:
    """Law 2: a price below intrinsic would be an arbitrage that margin pays for."""
    strike = forward * moneyness
    intrinsic = max(forward - strike if call else strike - forward, 0.0)

    price = _price(forward, strike, time, vol, call=call)

    assert intrinsic <= price <= (forward if call else strike) * (1.0 + ULPS)


@given(PRICES, MONEYNESS, TIMES, VOLS, st.floats(0.0, 1.0), st.booleans())
def test_more_vol_never_cheapens(
    forward: float, moneyness: float, time: float, vol: float, more: float, call: bool
) -> None:
    """Law 3: the bounds of screening rest on it."""
    strike = forward * moneyness

    low = _price(forward, strike, time, vol, call=call)
    high = _price(forward, strike, time, vol + more, call=call)

    assert high >= low - ULPS * max(forward, strike)


@given(PRICES, MONEYNESS, TIMES, VOLS, st.floats(0.001, 0.5), st.booleans())
def test_convex_in_the_forward(
    forward: float, moneyness: float, time: float, vol: float, width: float, call: bool
) -> None:
    """Law 4: likewise; chords lie above and tangents below."""
    strike = forward * moneyness

    below, here, above = (_price(forward * m, strike, time, vol, call=call) for m in (1.0 - width, 1.0, 1.0 + width))

    assert 0.5 * (below + above) >= here - ULPS * max(2.0 * forward, strike)


@given(PRICES, MONEYNESS, TIMES, VOLS, st.integers(-20, 20), st.booleans())
def test_scaling_by_powers_of_two_is_exact(
    forward: float, moneyness: float, time: float, vol: float, exponent: int, call: bool
) -> None:
    """Law 5: units of price must not enter; a power of two changes no mantissa."""
    strike, scale = forward * moneyness, 2.0**exponent

    price = _price(forward, strike, time, vol, call=call)

    assert _price(scale * forward, scale * strike, time, vol, call=call) == scale * price
