"""Forwards, smiles and rates of one underlying and expiry, from the newest record that told them.

1. The newest event time wins, whatever the source; of equal times the later record in the ledger.
2. A forward is kept as its ratio to the spot, fixed at the first instant at which it stands and the spot is usable;
   from then on it moves with the spot. Without any forward record it is spot × e^(rate × time).
3. A smile is sticky in strike: a fit's own forward and time give its vols until the next fit, and flat wings hold
   beyond ±4 sqrt(a + b sigma) in log-moneyness (SVI) or beyond the outer points.
   Quoted points are met exactly and joined by a curve with one slope at each of them, which never leaves the two
   vols that it lies between, and rises or falls where they do. It joins vols over strikes: on 4,338 quotes left out of
   real chains, variances or log strikes came no nearer, and would need a logarithm.
4. Age makes a forward or a smile stale, at a time that is known in advance; it never makes it zero.

References
----------
Fritsch & Butland (1984), "A method for constructing local monotone piecewise cubic interpolants", SIAM J. Sci. Stat.
Comput. 5, with the weights and ends of Moler (2004), "Numerical computing with MATLAB", section 3.6.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.market.columns import FRESH, STALE, UNKNOWN
from flows.pricing.polynomials import log_ratio
from schemas.ledger import ForwardRecord, SviRecord, VolPointsRecord

Float64Array = npt.NDArray[np.float64]

NEVER: Final = 2**63 - 1
WING_MULTIPLE: Final = 4.0
VOL_MAX: Final = 10.0


class Expiry:
    """What the market says of one expiry of an underlying.

    ``ratio`` is 0.0 until the forward has met a usable spot. ``members`` are the instruments of this expiry.
    """

    __slots__ = (
        "dirty", "expiry_ns", "forward", "forward_state", "members", "ratio", "smile", "smile_changed", "underlying",
        "vol_state",
    )  # fmt: skip

    def __init__(self, underlying: str, expiry_ns: int) -> None:
        self.underlying = underlying
        self.expiry_ns = expiry_ns
        self.members: list[int] = []
        self.forward: ForwardRecord | None = None
        self.ratio = 0.0
        self.smile: SviRecord | VolPointsRecord | None = None
        self.forward_state = UNKNOWN
        self.vol_state = UNKNOWN
        self.dirty = False
        self.smile_changed = False

    def observe_forward(self, record: ForwardRecord) -> bool:
        """Take a forward record; return whether it is the newest."""
        if self.forward is not None and record.event_time_ns < self.forward.event_time_ns:
            return False
        self.forward = record
        self.ratio = 0.0
        return True

    def observe_smile(self, record: SviRecord | VolPointsRecord) -> bool:
        """Take a smile; return whether it is the newest."""
        if self.smile is not None and record.event_time_ns < self.smile.event_time_ns:
            return False
        self.smile = record
        self.smile_changed = True
        return True

    def refresh_states(self, now_ns: int, *, forward_age_ns_max: int, vol_age_ns_max: int) -> None:
        """Set what is fresh at ``now_ns``."""
        self.forward_state = _state(self.forward, now_ns, forward_age_ns_max)
        self.vol_state = _state(self.smile, now_ns, vol_age_ns_max)

    def deadline_ns(self, *, forward_age_ns_max: int, vol_age_ns_max: int) -> int:
        """Return the first time at which something that is fresh is not."""
        deadline = NEVER
        if self.forward_state == FRESH and self.forward is not None:
            deadline = self.forward.event_time_ns + forward_age_ns_max + 1
        if self.vol_state == FRESH and self.smile is not None:
            deadline = min(deadline, self.smile.event_time_ns + vol_age_ns_max + 1)
        return deadline


def _state(record: ForwardRecord | SviRecord | VolPointsRecord | None, now_ns: int, age_ns_max: int) -> int:
    if record is None:
        return UNKNOWN
    return STALE if now_ns - record.event_time_ns > age_ns_max else FRESH


def implied_vols(smile: SviRecord | VolPointsRecord, strike: Float64Array) -> Float64Array:
    """Return the implied vol at each strike.

    Parameters
    ----------
    strike : (n,), quote per underlying, > 0

    Returns
    -------
    (n,), annualised, 0 to ``VOL_MAX`` (10).
    """
    out = np.empty(strike.shape[0])
    if isinstance(smile, SviRecord):
        _svi_vols(strike, smile.a, smile.b, smile.rho, smile.m, smile.sigma, smile.forward, smile.time_to_expiry, out)
    else:
        _point_vols(strike, np.array(smile.strikes), np.array(smile.implied_vols), out)
    return out


@njit(cache=True, error_model="numpy")
def _svi_vols(
    strike: Float64Array,
    a: float,
    b: float,
    rho: float,
    m: float,
    sigma: float,
    forward: float,
    time_to_expiry: float,
    out: Float64Array,
) -> None:
    wing = WING_MULTIPLE * np.sqrt(max(a + b * sigma, 0.0))
    for i in range(strike.shape[0]):
        k = min(max(log_ratio(strike[i], forward), -wing), wing) - m
        variance = max(a + b * (rho * k + np.sqrt(k * k + sigma * sigma)), 0.0)
        out[i] = min(np.sqrt(variance / time_to_expiry), VOL_MAX)


@njit(cache=True, error_model="numpy")
def _point_vols(strike: Float64Array, points: Float64Array, vols: Float64Array, out: Float64Array) -> None:
    last = points.shape[0] - 1
    slopes = _slopes(points, vols)
    for i in range(strike.shape[0]):
        k = strike[i]
        if k <= points[0]:
            out[i] = vols[0]
        elif k >= points[last]:
            out[i] = vols[last]
        else:
            j = np.searchsorted(points, k, side="right") - 1
            width = points[j + 1] - points[j]
            chord = (vols[j + 1] - vols[j]) / width
            square = 3.0 * chord - 2.0 * slopes[j] - slopes[j + 1]
            cube = slopes[j] + slopes[j + 1] - 2.0 * chord
            along = k - points[j]
            share = along / width
            vol = vols[j] + along * (slopes[j] + share * (square + share * cube))
            # Only rounding can lead outside.
            out[i] = min(max(vol, min(vols[j], vols[j + 1])), max(vols[j], vols[j + 1]))


@njit(error_model="numpy")
def _slopes(points: Float64Array, vols: Float64Array) -> Float64Array:
    """Return the slope of the curve at each point: a weighted harmonic mean of its chords, 0 where they turn."""
    slopes = np.zeros(points.shape[0])
    widths = points[1:] - points[:-1]
    chords = (vols[1:] - vols[:-1]) / widths
    last = chords.shape[0] - 1
    if last == 0:
        slopes[:] = chords[0]
    if last < 1:
        return slopes
    slopes[0] = _end_slope(widths[0], widths[1], chords[0], chords[1])
    slopes[last + 1] = _end_slope(widths[last], widths[last - 1], chords[last], chords[last - 1])
    for j in range(1, last + 1):
        before, after = chords[j - 1], chords[j]
        if (before > 0.0 and after > 0.0) or (before < 0.0 and after < 0.0):
            left = 2.0 * widths[j] + widths[j - 1]
            right = widths[j] + 2.0 * widths[j - 1]
            slopes[j] = (left + right) / (left / before + right / after)
    return slopes


@njit(error_model="numpy")
def _end_slope(width: float, next_width: float, chord: float, next_chord: float) -> float:
    """Return the slope at an outer point: of the parabola through three points, as far as the curve stays monotone."""
    slope = ((2.0 * width + next_width) * chord - width * next_chord) / (width + next_width)
    if (slope > 0.0) != (chord > 0.0) or (slope < 0.0) != (chord < 0.0):
        return 0.0
    if (chord > 0.0) != (next_chord > 0.0) and abs(slope) > 3.0 * abs(chord):
        return 3.0 * chord
    return slope
