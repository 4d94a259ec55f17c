"""Forwards, smiles and rates of one underlying and expiry, from the newest record that told them.

1. The newest event time wins, whatever the source; of equal times the later record in the ledger.
2. A forward is kept as its ratio to the spot, fixed at the first instant at which it stands and the spot is usable;
   from then on it moves with the spot. Without any forward record it is spot × e^(rate × time).
3. A smile is sticky in strike: a fit's own forward and time give its vols until the next fit, and flat wings hold
   beyond ±4 sqrt(a + b sigma) in log-moneyness (SVI) or beyond the outer points.
4. Age makes a forward or a smile stale, at a time that is known in advance; it never makes it zero.
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
    for i in range(strike.shape[0]):
        k = strike[i]
        if k <= points[0]:
            out[i] = vols[0]
        elif k >= points[last]:
            out[i] = vols[last]
        else:
            j = np.searchsorted(points, k, side="right") - 1
            weight = (k - points[j]) / (points[j + 1] - points[j])
            out[i] = vols[j] + weight * (vols[j + 1] - vols[j])
