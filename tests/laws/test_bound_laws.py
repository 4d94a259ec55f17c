"""Laws of screening's bounds, attacked: at the corners of a box, at random inside, and by search towards a violation.

1. Wherever the market stands within the box, a long lot is worth at least its ``low`` line there, and at most its
   ``high``, at the mark and under every scenario.
2. The exact values are the engine's own: what is bounded is what would have been computed.
3. Controls: with a term of the bound left out, the same attack finds a violation.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.margin.derive import exponentials
from flows.pricing.black76 import black76_price
from flows.pricing.grid import scenario_profits
from flows.pricing.kinds import FUTURE, OPTION, PERPETUAL, SPOT
from flows.screening.bounds import InstrumentBounds, InstrumentBox, Shocks, instrument_bounds

Float64Array = npt.NDArray[np.float64]

MULTIPLES = np.array([0.5, 0.85, 0.95, 1.0, 1.0, 1.05, 1.15, 2.0])
DIRECTIONS = np.array([1.0, -1.0, 0.0, 1.0, -1.0, 0.0, 1.0, -1.0])
SHOCKS = Shocks(MULTIPLES, DIRECTIONS, 0.5, 0.25, 0.3, 0.13, 1.0)
DAY = 1.0 / 365.0


class _Columns:
    """What ``scenario_profits`` reads."""

    def __init__(self, box: InstrumentBox, at: "_Market") -> None:
        self.kind, self.inverse, self.call = box.kind, box.inverse, box.call
        self.quantity, self.strike = box.quantity, box.strike
        self.mark_price = self.forward = at.spot * at.ratio
        self.implied_vol, self.time_to_expiry, self.rate = at.vol, at.time, at.rate
        self.settlement_price = np.where(box.inverse != 0, at.spot, 1.0)


@dataclass(frozen=True)
class _Market:
    spot: float
    ratio: Float64Array
    vol: Float64Array
    rate: Float64Array
    time: Float64Array


def _random_box(seed: int, *, count: int = 40) -> InstrumentBox:
    """A box of 10 bp to 30 % about 100, options of every moneyness and age, a few futures and perpetuals."""
    rng = np.random.default_rng(seed)
    width = np.exp(rng.uniform(np.log(1e-3), np.log(0.3)))
    kind = rng.choice([OPTION, OPTION, OPTION, OPTION, FUTURE, PERPETUAL, SPOT], count).astype(np.int8)
    time_high = np.exp(rng.uniform(np.log(1e-6), np.log(3.0), count))
    near_thirty = rng.random(count) < 0.2
    time_high[near_thirty] = (30.0 + rng.uniform(0.0, 0.5, int(near_thirty.sum()))) * DAY
    length = rng.choice([0.0, DAY / 24.0, DAY])
    ratio = rng.uniform(0.9, 1.1, count)
    vol = np.exp(rng.uniform(np.log(0.02), np.log(4.0), count))
    rate = rng.uniform(-0.1, 0.2, count)
    basis, band, rates = rng.uniform(0.0, 0.01), rng.uniform(0.0, 2.0 * width), rng.choice([0.0, 0.01])
    return InstrumentBox(
        kind=kind,
        inverse=(rng.random(count) < 0.3).astype(np.int8),
        call=rng.integers(0, 2, count).astype(np.int8),
        quantity=np.exp(rng.uniform(-5.0, 3.0, count)),
        strike=100.0 * np.exp(rng.normal(0.0, 0.4, count)),
        spot_low=100.0 * np.exp(-width),
        spot_high=100.0 * np.exp(width),
        ratio_low=ratio * (1.0 - basis),
        ratio_high=ratio * (1.0 + basis),
        vol_low=vol * np.exp(-band),
        vol_high=vol * np.exp(band),
        rate_low=rate - rates,
        rate_high=rate + rates,
        time_low=np.maximum(time_high - length, 0.0),
        time_high=time_high,
    )


def _at(box: InstrumentBox, spot: float, shares: Float64Array) -> _Market:
    """Return the market at shares (4, K) of the ranges of ratio, vol, rate and time, and one of the spot."""

    def between(low: Float64Array, high: Float64Array, share: Float64Array) -> Float64Array:
        return np.clip(low + share * (high - low), low, high)

    return _Market(
        spot=float(np.clip(box.spot_low + spot * (box.spot_high - box.spot_low), box.spot_low, box.spot_high)),
        ratio=between(box.ratio_low, box.ratio_high, shares[0]),
        vol=between(box.vol_low, box.vol_high, shares[1]),
        rate=between(box.rate_low, box.rate_high, shares[2]),
        time=between(box.time_low, box.time_high, shares[3]),
    )


def _values(box: InstrumentBox, shocks: Shocks, at: _Market) -> Float64Array:
    """Return what the engine finds, (K, 1 + S): the mark, then each scenario."""
    columns = _Columns(box, at)
    option = box.kind == OPTION
    marks = np.where(box.kind == SPOT, 0.0, box.quantity * columns.mark_price)
    undiscounted = black76_price(
        forward=columns.forward, strike=box.strike, time_to_expiry=at.time, implied_vol=at.vol, is_call=box.call != 0
    )
    marks[option] = (box.quantity * exponentials(-at.rate * at.time) * undiscounted)[option]
    # What its coins are worth at the spot.
    in_coins = (box.inverse != 0) & (box.kind != SPOT)
    marks[in_coins] = np.where(
        option, box.quantity * undiscounted / columns.forward * at.spot, -box.quantity / columns.mark_price * at.spot
    )[in_coins]
    profits = np.zeros((marks.shape[0], shocks.spot_multiple.shape[0]))
    scenario_profits(
        columns, np.arange(marks.shape[0]), spot_multiple=shocks.spot_multiple, vol_direction=shocks.vol_direction,
        vol_up=shocks.vol_up, vol_down=shocks.vol_down, vol_power_short=shocks.vol_power_short,
        vol_power_long=shocks.vol_power_long, vol_days_min=shocks.vol_days_min, out=profits,
    )  # fmt: skip
    return np.concatenate([marks[:, None], marks[:, None] + profits], axis=1)


def _slack(box: InstrumentBox, shocks: Shocks, bounds: InstrumentBounds, at: _Market) -> Float64Array:
    """Return the least of (value - low, high - value) by instrument, relative to spot and strike: negative breaks."""
    slots = 1 + shocks.spot_multiple.shape[0]
    half = bounds.rows.shape[1] // 2
    share = (at.spot - box.spot_low) / (box.spot_high - box.spot_low)
    lines = (1.0 - share) * bounds.rows[:, :slots] + share * bounds.rows[:, half : half + slots]
    values = _values(box, shocks, at)
    scale = box.quantity * (1.0 + box.strike + 2.2 * box.spot_high)
    found = np.minimum(values - lines[0::2], lines[1::2] - values).min(axis=1) / scale
    return np.where(bounds.covered, found, np.inf)


def _attack(box: InstrumentBox, shocks: Shocks, seed: int, bounds: InstrumentBounds | None = None) -> float:
    """Return the least slack found: corners, ends, random points, then a search downhill from the worst of them.

    Instruments are independent of each other but for the spot, so one evaluation attacks with all of them. The bounds
    are those of the box, or what a control puts in their place.
    """
    bounds = instrument_bounds(box, shocks) if bounds is None else bounds
    rng = np.random.default_rng(seed)
    count = box.kind.shape[0]
    worst = np.full(count, np.inf)
    shares, spots = np.full((4, count), 0.5), np.full(count, 0.5)
    corners = [np.tile(np.array([[c >> b & 1] for b in range(4)], np.float64), count) for c in range(16)]
    for shape in corners + [rng.random((4, count)) for _ in range(16)]:
        for spot in (0.0, 1.0, 0.5, float(rng.random())):
            slack = _slack(box, shocks, bounds, _at(box, spot, shape))
            better = slack < worst
            worst = np.where(better, slack, worst)
            shares[:, better] = shape[:, better]
            spots[better] = spot
    for step in (0.3, 0.1, 0.03, 0.01):
        for spot in np.unique(np.clip(np.concatenate([spots, spots - step, spots + step]), 0.0, 1.0))[:12]:
            tried = np.clip(shares + rng.uniform(-step, step, shares.shape), 0.0, 1.0)
            slack = _slack(box, shocks, bounds, _at(box, float(spot), tried))
            better = slack < worst
            worst = np.where(better, slack, worst)
            shares[:, better] = tried[:, better]
    return float(worst.min())


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_instruments_stay_between_their_lines(seed: int) -> None:
    """Law 1: a value outside would be a decision missed."""
    assert _attack(_random_box(seed), SHOCKS, seed) >= 0.0


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.floats(0.0, 1.0), st.floats(0.0, 0.5), st.floats(0.5, 60.0), st.floats(0.0, 1.0))
def test_lines_hold_for_every_vol_power(seed: int, short: float, long: float, days_min: float, down: float) -> None:
    """Law 1 where the shock's power jumps at 30 days, its floor lies beyond them, or vols fall to nothing."""
    shocks = replace(SHOCKS, vol_power_short=short, vol_power_long=long, vol_days_min=days_min, vol_down=down)

    assert _attack(_random_box(seed), shocks, seed) >= 0.0


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_a_box_without_width_gives_the_values(seed: int) -> None:
    """Lines that are far from the values at a point would let nothing rest: the bound must be tight where it can be."""
    box = _random_box(seed)
    at = _at(box, 0.5, np.full((4, box.kind.shape[0]), 0.5))
    point = replace(
        box, spot_low=at.spot, spot_high=at.spot, ratio_low=at.ratio, ratio_high=at.ratio, vol_low=at.vol,
        vol_high=at.vol, rate_low=at.rate, rate_high=at.rate, time_low=at.time, time_high=at.time,
    )  # fmt: skip
    bounds = instrument_bounds(point, SHOCKS)
    values = _values(point, SHOCKS, at)

    scale = (box.quantity * (1.0 + box.strike + 2.2 * box.spot_high))[:, None]
    for which in (0, 1):
        line = bounds.rows[which::2, : values.shape[1]]
        assert (abs(line - values) <= 1e-11 * scale)[bounds.covered].all()


_LEFT_OUT: dict[str, Callable[[InstrumentBox], InstrumentBox]] = {
    "low vols": lambda box: replace(box, vol_low=box.vol_high),
    "high vols": lambda box: replace(box, vol_high=box.vol_low),
    "low ratios": lambda box: replace(box, ratio_low=box.ratio_high),
    "high ratios": lambda box: replace(box, ratio_high=box.ratio_low),
    "the end of the time": lambda box: replace(box, time_low=box.time_high),
    "the beginning of the time": lambda box: replace(box, time_high=box.time_low),
    "low rates": lambda box: replace(box, rate_low=box.rate_high),
    "high rates": lambda box: replace(box, rate_high=box.rate_low),
}


@pytest.mark.parametrize("left_out", _LEFT_OUT)
def test_a_bound_that_leaves_a_range_out_is_found_out(left_out: str) -> None:
    """Control: without one of the ranges, the attack finds a violation; with it, none."""
    box = _random_box(3)
    day = replace(
        box, spot_low=99.0, spot_high=101.0, rate_low=box.rate_high - 0.02,
        time_low=np.maximum(box.time_high - DAY, 0.0),
    )  # fmt: skip

    assert _attack(day, SHOCKS, 1) >= 0.0
    assert _attack(day, SHOCKS, 1, instrument_bounds(_LEFT_OUT[left_out](day), SHOCKS)) < -1e-9
