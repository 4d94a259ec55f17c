"""What lies between two snapshots of a market, where nothing was recorded: interpolated, and only ever named so.

1. At a snapshot the interpolation is the snapshot; before the first and after the last it is held.
2. A blended smile is one that intake accepts, whatever two accepted smiles it lies between: two fits give a fit, and
   where one is of quoted points, so is what lies between, at those points' moneyness.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, log, sqrt

import numpy as np

from flows.calibration.points import QuotedPoints
from flows.calibration.svi import Slice

Smile = Slice | QuotedPoints


@dataclass(slots=True)
class Track:
    """A positive number known at rising times: log-linear in between."""

    times_ns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, time_ns: int, value: float) -> None:
        """Take the value at a time later than all before."""
        if self.times_ns and time_ns <= self.times_ns[-1]:
            raise ValueError(f"{time_ns} is not later than {self.times_ns[-1]}")
        self.times_ns.append(time_ns)
        self.values.append(value)

    def at(self, time_ns: int) -> float:
        """Return the value at a time."""
        before, after, share = _between(self.times_ns, time_ns)
        if before == after:
            return self.values[before]
        return exp((1.0 - share) * log(self.values[before]) + share * log(self.values[after]))


@dataclass(slots=True)
class SmileTrack:
    """One expiry's accepted smiles at rising times."""

    times_ns: list[int] = field(default_factory=list)
    smiles: list[Smile] = field(default_factory=list)

    def add(self, time_ns: int, smile: Smile) -> None:
        """Take the smile of a time later than all before."""
        self.times_ns.append(time_ns)
        self.smiles.append(smile)

    def at(self, time_ns: int, time_to_expiry: float, forward: float) -> Smile | None:
        """Return the smile at a time, with its own time to expiry and forward; None before the first."""
        if not self.times_ns or time_ns < self.times_ns[0]:
            return None
        before, after, share = _between(self.times_ns, time_ns)
        first, second = self.smiles[before], self.smiles[after]
        if isinstance(first, Slice) and isinstance(second, Slice):
            return blend(first, second, share, time_to_expiry)
        return blend_points(first, second, share, time_to_expiry, forward)


def blend_points(before: Smile, after: Smile, share: float, time_to_expiry: float, forward: float) -> QuotedPoints:
    """Return the points ``share`` of the way (0 to 1), at the moneyness of the first smile that has points."""
    points = before if isinstance(before, QuotedPoints) else after
    assert isinstance(points, QuotedPoints), "one of them has points"
    k = points.k
    vol = (1.0 - share) * before.implied_vol(k) + share * after.implied_vol(k)
    return QuotedPoints(forward * np.exp(k), vol, points.spread, forward, time_to_expiry)


def blend(before: Slice, after: Slice, share: float, time_to_expiry: float) -> Slice:
    """Return the slice ``share`` of the way (0 to 1), per year: vols, not total variances, are carried in time."""
    keep = 1.0 - share
    a = (keep * before.a / before.time_to_expiry + share * after.a / after.time_to_expiry) * time_to_expiry
    b = (keep * before.b / before.time_to_expiry + share * after.b / after.time_to_expiry) * time_to_expiry
    rho = keep * before.rho + share * after.rho
    m = keep * before.m + share * after.m
    sigma = keep * before.sigma + share * after.sigma
    # The lowest variance is not linear in the parameters: a blend may fall below zero by a little where both touch it.
    a = max(a, -b * sigma * sqrt(1.0 - rho * rho))
    return Slice(a=a, b=b, rho=rho, m=m, sigma=sigma, time_to_expiry=time_to_expiry)


def _between(times_ns: Sequence[int], time_ns: int) -> tuple[int, int, float]:
    """Return the neighbours of a time and the share of the way between them."""
    after = bisect_right(times_ns, time_ns)
    if after == 0:
        return 0, 0, 0.0
    if after == len(times_ns):
        return after - 1, after - 1, 0.0
    before = after - 1
    return before, after, (time_ns - times_ns[before]) / (times_ns[after] - times_ns[before])
