"""What lies between snapshots: exact at them, valid everywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.calibration.points import QuotedPoints
from flows.calibration.step import svi_event
from flows.calibration.svi import Slice
from infra.imports.interpolation import SmileTrack, Track, blend


def slices() -> st.SearchStrategy[Slice]:
    """Any slice that intake accepts, the lowest variance at zero included."""

    def of(lowest: float, b: float, rho: float, m: float, sigma: float, time: float) -> Slice:
        a = (lowest - b * sigma * (1.0 - rho * rho) ** 0.5) * time
        return Slice(a=a, b=b * time, rho=rho, m=m, sigma=sigma, time_to_expiry=time)

    return st.builds(
        of,
        lowest=st.floats(0.0, 1.0),
        b=st.floats(0.0, 2.0),
        rho=st.floats(-0.999, 0.999),
        m=st.floats(-1.0, 1.0),
        sigma=st.floats(1e-3, 2.0),
        time=st.floats(1e-3, 2.0),
    )


def test_a_track_is_its_values_and_geometric_in_between() -> None:
    """Fails if a real snapshot is changed by interpolation, or an end is extrapolated."""
    track = Track()
    track.add(100, 4.0)
    track.add(300, 9.0)

    assert [track.at(time) for time in (0, 100, 300, 999)] == [4.0, 4.0, 9.0, 9.0]
    assert track.at(200) == pytest.approx(6.0)


def test_a_track_refuses_to_go_back() -> None:
    """Fails if two snapshots of one time are taken silently."""
    track = Track()
    track.add(100, 4.0)

    with pytest.raises(ValueError, match="not later"):
        track.add(100, 5.0)


@given(before=slices(), after=slices(), share=st.floats(0.0, 1.0), time=st.floats(1e-4, 2.0))
def test_a_blend_of_two_accepted_slices_is_accepted(before: Slice, after: Slice, share: float, time: float) -> None:
    """Fails if intake would refuse an interpolated smile, as numbers or as the decimals that go on the wire."""
    out = blend(before, after, share, time)
    wire = svi_event(out, 50_000.0)

    for a, b, rho, sigma in (
        (out.a, out.b, out.rho, out.sigma),
        (float(wire.a), float(wire.b), float(wire.rho), float(wire.sigma)),
    ):
        assert b >= 0.0
        assert abs(rho) < 1.0
        assert sigma > 0.0
        assert a + b * sigma * (1.0 - rho * rho) ** 0.5 >= -1e-15


def test_between_a_fit_and_points_lie_points_with_vols_between() -> None:
    """Fails if a smile of points breaks the track of fits, or its strikes do not follow the forward."""
    known = Slice(a=0.01, b=0.12, rho=-0.35, m=0.03, sigma=0.15, time_to_expiry=0.25)
    quoted = QuotedPoints(np.array([40e3, 50e3, 60e3]), np.array([0.9, 0.8, 0.85]), np.full(3, 0.01), 50_000.0, 0.2)
    track = SmileTrack()
    track.add(1_000, known)
    track.add(2_000, quoted)

    between, held = track.at(1_500, 0.22, 55_000.0), track.at(3_000, 0.1, 50_000.0)

    assert isinstance(between, QuotedPoints)
    assert between.strike == pytest.approx([44e3, 55e3, 66e3])
    assert between.vol == pytest.approx(0.5 * (known.implied_vol(quoted.k) + quoted.vol))
    assert isinstance(held, QuotedPoints)
    assert held.vol == pytest.approx(quoted.vol)


@given(known=slices(), time=st.floats(1e-3, 2.0))
def test_a_held_smile_keeps_its_vols(known: Slice, time: float) -> None:
    """Fails if vols, rather than total variances, are not what is carried to another time to expiry."""
    track = SmileTrack()
    track.add(1_000, known)
    k = np.linspace(-0.5, 0.5, 7)

    held = track.at(5_000, time, 50_000.0)

    assert held is not None
    assert held.implied_vol(k) == pytest.approx(known.implied_vol(k), rel=1e-6, abs=1e-6)
    assert track.at(999, time, 50_000.0) is None
