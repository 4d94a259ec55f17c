"""Lines over a range of spot lie below, and above, what they are lines of.

1. An option at any spot, ratio and total vol within the ranges is worth no less than its line below and no more than
   its line above; in coins likewise.
2. What a short option needs keeps to its lines, whose corrections at the kinks are needed.
3. Over no range at all, lines are what they are lines of.
4. Below the greater of two lines lies one of them, and in the middle none lies higher.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.pricing.black76 import black76_price
from flows.screening.lines import (
    discounts,
    greater_below,
    option_lines,
    short_option_need,
    short_option_need_above,
    short_option_need_below,
)

_SHARES = st.floats(0.0, 1.0)


def _between(low: float, high: float, share: float) -> float:
    return min(max(low + share * (high - low), low), high)


def _at(spot: float, ends: tuple[float, float], line: tuple[float, float]) -> float:
    """Return a line's value; at its beginning where it has no length."""
    share = (spot - ends[0]) / (ends[1] - ends[0]) if ends[1] > ends[0] else 0.0
    return line[0] + share * (line[1] - line[0])


def _price(forward: float, strike: float, vol: float, is_call: bool) -> float:
    one = np.ones(1)
    found = black76_price(
        forward=forward * one, strike=strike * one, time_to_expiry=one, implied_vol=vol * one,
        is_call=np.array([is_call]),
    )  # fmt: skip
    return float(found[0])


@given(
    st.floats(0.2, 5.0), st.floats(0.0, 0.3), st.floats(0.8, 1.2), st.floats(0.0, 0.05), st.floats(0.0, 3.0),
    st.floats(0.0, 0.5), st.booleans(), st.booleans(), _SHARES, _SHARES, _SHARES,
)  # fmt: skip
def test_an_option_stays_between_its_lines(
    moneyness: float, width: float, ratio: float, basis: float, vol: float, band: float, is_call: bool, in_coins: bool,
    spot_share: float, ratio_share: float, vol_share: float,
) -> None:  # fmt: skip
    """Law 1, and law 3 where nothing has a width."""
    spot_low, spot_high, ratio_high, vol_high = 100.0, 100.0 * (1.0 + width), ratio + basis, vol + band
    strike = 100.0 * moneyness
    lines = option_lines(spot_low, spot_high, ratio, ratio_high, strike, vol, vol_high, is_call, in_coins)
    at = _between(ratio, ratio_high, ratio_share)
    spot = _between(spot_low, spot_high, spot_share)

    worth = _price(spot * at, strike, _between(vol, vol_high, vol_share), is_call) / (at if in_coins else 1.0)
    below, above = _at(spot, (spot_low, spot_high), lines[:2]), _at(spot, (spot_low, spot_high), lines[2:])

    assert below <= worth <= above
    if width == 0.0 and basis == 0.0 and band == 0.0:
        assert above - below <= 1e-10 * (strike + spot_high)


_NEED = (
    st.floats(0.5, 2.0), st.floats(0.0, 0.5), st.floats(0.0, 2.0), st.floats(0.0, 2.0), st.booleans(), _SHARES,
)  # fmt: skip


@given(*_NEED)
def test_what_a_short_needs_stays_between_its_lines(
    moneyness: float, width: float, most: float, least: float, is_call: bool, share: float
) -> None:
    """Law 2, whichever of the rates is more."""
    ends, strike = (100.0, 100.0 * (1.0 + width)), 100.0 * moneyness
    spot = _between(*ends, share)
    above = short_option_need_above(*ends, strike, most, least, is_call)
    below = short_option_need_below(*ends, strike, most, least, is_call)

    need = short_option_need(spot, strike, most, least, is_call)

    assert _at(spot, ends, below) <= need + 1e-12
    assert need <= _at(spot, ends, above) + 1e-12
    if width == 0.0:
        assert above[0] - below[0] <= 1e-8


@pytest.mark.parametrize("is_call", [True, False])
def test_a_kink_is_beyond_the_chord(is_call: bool) -> None:
    """Control: between its ends alone, what is needed would be taken for too little, and for too much."""
    ends = (100.0, 150.0)

    for strike, over in ((125.0, True), (131.0 if is_call else 113.0, False)):
        spots = np.linspace(*ends, 1001)
        needs = np.array([short_option_need(float(spot), strike, 0.15, 0.1, is_call) for spot in spots])
        chord = np.interp(spots, ends, needs[[0, -1]])
        lines = short_option_need_above if over else short_option_need_below
        moved = np.interp(spots, ends, lines(*ends, strike, 0.15, 0.1, is_call))

        assert ((needs > chord) if over else (needs < chord)).any()
        assert ((needs <= moved) if over else (needs >= moved)).all()


@given(st.floats(-0.5, 0.5), st.floats(0.0, 0.2), st.floats(0.0, 3.0), st.floats(0.0, 0.2), _SHARES, _SHARES)
def test_a_discount_is_within_its_range(
    rate: float, band: float, time: float, length: float, rate_share: float, time_share: float
) -> None:
    """Rates of either sign."""
    least, greatest = discounts(rate, rate + band, time, time + length)

    at = np.exp(-_between(rate, rate + band, rate_share) * _between(time, time + length, time_share))

    assert least <= at <= greatest


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4), _SHARES)
def test_below_a_maximum_lies_the_line_that_is_greater_in_the_middle(ends: list[float], share: float) -> None:
    """Law 4: the greater of the ends of lines that cross would lie above their maximum; the lesser line loses bound."""
    line, other = (ends[0], ends[1]), (ends[2], ends[3])
    found = greater_below(*line, *other)

    for at in (0.0, share, 1.0):
        assert _at(at, (0.0, 1.0), found) <= max(_at(at, (0.0, 1.0), line), _at(at, (0.0, 1.0), other))
    assert sum(found) >= max(sum(line), sum(other))
