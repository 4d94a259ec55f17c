"""Smiles: SVI and points to vols in strike."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from flows.market.surface import Expiry, implied_vols
from schemas.ledger import SviRecord, VolPointsRecord
from tests.flows.market.builders import a_smile, at


def test_svi_gives_the_vol_of_its_formula_on_its_own_forward_and_time() -> None:
    """Sticky strike: what the market does after the fit must not enter."""
    smile = a_smile(days=30, forward=51_000.0)
    strikes = np.array([30_000.0, 48_000.0, 51_000.0, 60_000.0])

    got = implied_vols(smile, strikes)

    for strike, vol in zip(strikes, got, strict=True):
        k = math.log(strike / 51_000.0) - 0.01
        variance = 0.02 + 0.08 * (-0.3 * k + math.sqrt(k * k + 0.04))
        assert vol == pytest.approx(math.sqrt(variance / (30 / 365)), rel=1e-14)


def test_svi_wings_are_flat_beyond_four_deviations() -> None:
    """A linear wing of total variance would give a far strike any vol."""
    wing = 4.0 * math.sqrt(0.02 + 0.08 * 0.2)
    edge = 50_000.0 * math.exp(wing)

    inside, at_edge, beyond, far = implied_vols(a_smile(), np.array([0.9 * edge, edge, 2.0 * edge, 1e9]))

    assert inside < at_edge
    assert beyond == far == pytest.approx(at_edge, rel=1e-12)


def points_of(strikes: Sequence[float], vols: Sequence[float]) -> VolPointsRecord:
    return VolPointsRecord("BTC", at(0), "a", list(strikes), list(vols), at(0))


# Strikes rise by at least a millionth, as decimals of a venue do.
QUOTED = st.lists(
    st.tuples(st.integers(1, 10**9), st.floats(0.001, 10.0)), min_size=1, max_size=20, unique_by=lambda point: point[0]
).map(lambda points: ([1e-6 * strike for strike, _ in sorted(points)], [vol for _, vol in sorted(points)]))
Quoted = tuple[list[float], list[float]]


def strikes_around(strikes: list[float]) -> np.ndarray:
    """Return strikes below, at, between and above the quoted ones, rising."""
    ends = [0.5 * strikes[0], *strikes, 2.0 * strikes[-1]]
    return np.unique(np.concatenate([np.linspace(left, right, 23) for left, right in pairwise(ends)]))


def test_points_are_met_and_joined_by_a_curve_and_flat_outside() -> None:
    """Extrapolating a slope would reach negative vols; straight lines would give 0.7 and 0.65 in between."""
    smile = points_of([40_000.0, 50_000.0, 70_000.0], [0.8, 0.6, 0.7])

    got = implied_vols(smile, np.array([1.0, 40_000.0, 45_000.0, 50_000.0, 60_000.0, 70_000.0, 1e9]))

    # The chords are -2e-5 and 5e-6. The parabola through the points slopes by -17/600,000 on the left; on the right by
    # more than three chords, which is as much as a monotone curve can.
    left = 0.7 - 10_000.0 / 8.0 * 17.0 / 600_000.0
    right = 0.65 - 20_000.0 / 8.0 * 1.5e-5
    assert got == pytest.approx([0.8, 0.8, left, 0.6, right, 0.7, 0.7], rel=1e-14)


def test_one_point_is_flat_and_two_are_a_line() -> None:
    """The limits of too few points for a slope."""
    strikes = np.array([1.0, 40_000.0, 45_000.0, 50_000.0, 1e9])

    assert implied_vols(points_of([45_000.0], [0.7]), strikes) == pytest.approx(0.7, rel=0.0)
    two = implied_vols(points_of([40_000.0, 50_000.0], [0.8, 0.6]), strikes)
    assert two == pytest.approx([0.8, 0.8, 0.7, 0.6, 0.6], rel=1e-15)


@given(quoted=QUOTED)
def test_a_curve_through_points_stays_between_neighbours_and_meets_them(quoted: Quoted) -> None:
    """Law: an overshoot would charge or credit a vol that nobody quoted."""
    strikes, vols = quoted
    probes = strikes_around(strikes)

    got = implied_vols(points_of(strikes, vols), probes)

    assert implied_vols(points_of(strikes, vols), np.array(strikes)).tolist() == vols
    place = np.clip(np.searchsorted(strikes, probes, side="right") - 1, 0, len(strikes) - 1)
    next_place = np.clip(np.searchsorted(strikes, probes, side="left"), 0, len(strikes) - 1)
    ends = np.array(vols)[place], np.array(vols)[next_place]
    assert (got >= np.minimum(*ends)).all()
    assert (got <= np.maximum(*ends)).all()


@given(quoted=QUOTED, falls=st.booleans())
def test_a_curve_through_rising_points_rises(quoted: Quoted, falls: bool) -> None:
    """Law: a fold between two points would turn a skew around."""
    strikes, vols = quoted[0], sorted(quoted[1], reverse=falls)

    steps = np.diff(implied_vols(points_of(strikes, vols), strikes_around(strikes)))

    assert ((-steps if falls else steps) >= -1e-14).all()


@given(quoted=QUOTED.filter(lambda quoted: len(quoted[0]) > 1))
def test_the_curve_is_that_of_another_implementation(quoted: Quoted) -> None:
    """A wrong weight, end or cubic differs from scipy's."""
    strikes, vols = quoted
    probes = np.clip(strikes_around(strikes), strikes[0], strikes[-1])
    # It works in powers of the strike and lets slopes overflow that ours does not.
    with np.errstate(all="ignore"):
        expected = PchipInterpolator(strikes, vols)(probes)

    assert implied_vols(points_of(strikes, vols), probes) == pytest.approx(expected, rel=1e-9)


def test_the_curve_has_one_slope_at_each_point() -> None:
    """Straight lines have two, and the vanna and skew of a position would jump with the strike."""
    strikes, vols = [40_000.0, 44_000.0, 50_000.0, 56_000.0, 70_000.0], [0.9, 0.75, 0.6, 0.62, 0.7]
    step = 1e-3

    for strike in strikes[1:-1]:
        left, middle, right = implied_vols(points_of(strikes, vols), np.array([strike - step, strike, strike + step]))
        assert (right - middle) / step == pytest.approx((middle - left) / step, abs=1e-9)


def test_the_newest_smile_stays() -> None:
    """A late message of another source must not turn the surface back."""
    expiry = Expiry("BTC", at(0))

    assert expiry.observe_smile(a_smile(seconds=10))
    assert not expiry.observe_smile(a_smile(seconds=9))
    assert expiry.observe_smile(a_smile(seconds=10, a=0.03))
    smile = expiry.smile
    assert isinstance(smile, SviRecord)
    assert smile.a == 0.03
