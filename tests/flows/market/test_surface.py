"""Smiles: SVI and points to vols in strike."""

import math

import numpy as np
import pytest

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


def test_points_are_joined_linearly_and_flat_outside() -> None:
    """Extrapolating a slope would reach negative vols."""
    smile = VolPointsRecord("BTC", at(0), "a", [40_000.0, 50_000.0, 70_000.0], [0.8, 0.6, 0.7], at(0))

    got = implied_vols(smile, np.array([1.0, 40_000.0, 45_000.0, 50_000.0, 65_000.0, 70_000.0, 1e9]))

    assert got == pytest.approx([0.8, 0.8, 0.7, 0.6, 0.675, 0.7, 0.7])


def test_the_newest_smile_stays() -> None:
    """A late message of another source must not turn the surface back."""
    expiry = Expiry("BTC", at(0))

    assert expiry.observe_smile(a_smile(seconds=10))
    assert not expiry.observe_smile(a_smile(seconds=9))
    assert expiry.observe_smile(a_smile(seconds=10, a=0.03))
    smile = expiry.smile
    assert isinstance(smile, SviRecord)
    assert smile.a == 0.03
