"""Quoted vols of one expiry to a raw-SVI slice, checked for arbitrage.

Total variance over log moneyness ``k = ln(strike / forward)``::

    w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2))

1. A slice that comes out is one that intake accepts: b >= 0, |rho| < 1, sigma > 0, a + b sigma sqrt(1 - rho^2) >= 0.
2. The fit is deterministic: starting points come from a fixed grid of (m, sigma), on which the other three are a
   linear problem (the quasi-explicit method); the best of them is polished in vols.
3. A slice is fitted as the quotes are; only where that shows arbitrage is it fitted again with the arbitrage as a
   penalty. What still has some beyond ``ARBITRAGE_TOLERANCE`` is for the caller to refuse.

References
----------
Gatheral & Jacquier (2014), "Arbitrage-free SVI volatility surfaces", eqs. 2.1 and 3.1; Zeliade Systems (2009),
"Quasi-explicit calibration of Gatheral's SVI model".
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

Float64Array1D = npt.NDArray[np.float64]

# g(k) of the butterfly check and differences of total variance (as vol) may be this far below zero.
ARBITRAGE_TOLERANCE: Final = 1e-4
# Checks reach this share of the quoted range beyond it on either side: nobody quotes there, but positions live there.
CHECK_MARGIN: Final = 0.25
CHECK_POINTS: Final = 61
PARAMETERS: Final = 5
_RHO_MAX: Final = 0.999
_SIGMA_MIN: Final = 1e-4
_PENALTY: Final = 30.0
_PENALTY_MARGIN: Final = 2e-3
_VARIANCE_MIN: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Slice:
    """One expiry's raw SVI and the time to expiry, in years, of its fit."""

    a: float
    b: float
    rho: float
    m: float
    sigma: float
    time_to_expiry: float

    def total_variance(self, k: Float64Array1D) -> Float64Array1D:
        """Return w at log moneyness ``k``, (n,), vol squared times years, >= 0."""
        x = k - self.m
        out: Float64Array1D = self.a + self.b * (self.rho * x + np.sqrt(x * x + self.sigma * self.sigma))
        return out

    def implied_vol(self, k: Float64Array1D) -> Float64Array1D:
        """Return the annualised vol at log moneyness ``k``, (n,), >= 0."""
        out: Float64Array1D = np.sqrt(np.maximum(self.total_variance(k), 0.0) / self.time_to_expiry)
        return out

    def butterfly(self, k: Float64Array1D) -> Float64Array1D:
        """Return Durrleman's g at ``k``, (n,): the implied density is >= 0 exactly where g is."""
        x = k - self.m
        root = np.sqrt(x * x + self.sigma * self.sigma)
        w = np.maximum(self.total_variance(k), _VARIANCE_MIN)
        slope = self.b * (self.rho + x / root)
        curvature = self.b * self.sigma * self.sigma / (root * root * root)
        out: Float64Array1D = (
            (1.0 - 0.5 * k * slope / w) ** 2 - 0.25 * slope * slope * (1.0 / w + 0.25) + 0.5 * curvature
        )
        return out

    @property
    def variance_min(self) -> float:
        """The lowest total variance of the slice, at any strike."""
        return self.a + self.b * self.sigma * float(np.sqrt(1.0 - self.rho * self.rho))


class Earlier(Protocol):
    """The smile of the expiry before, whatever it is made of: total variance, and where it is quoted."""

    @property
    def k_min(self) -> float:
        """The lowest quoted log moneyness."""

    @property
    def k_max(self) -> float:
        """The highest quoted log moneyness."""

    def total_variance(self, k: Float64Array1D) -> Float64Array1D:
        """Return vol squared times years at log moneyness ``k``, (n,)."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A slice and how well it holds.

    Attributes
    ----------
    rms_vol, max_vol : residuals against the quoted vols, weighted root mean square and largest; 0.01 is a vol point.
    butterfly_min : lowest g(k) over the checked range.
    calendar_min : lowest excess over the earlier slice's total variance in the common range, as a vol of this slice;
        inf where there is no earlier slice.
    k_min, k_max : quoted range.
    """

    slice: Slice
    quotes: int
    rms_vol: float
    max_vol: float
    butterfly_min: float
    calendar_min: float
    k_min: float
    k_max: float

    def total_variance(self, k: Float64Array1D) -> Float64Array1D:
        """Return that of the slice."""
        return self.slice.total_variance(k)


def fit_slice(
    *,
    k: Float64Array1D,
    implied_vol: Float64Array1D,
    weight: Float64Array1D,
    time_to_expiry: float,
    earlier: Earlier | None = None,
) -> Fit:
    """Return the slice nearest to the quoted vols.

    Parameters
    ----------
    k : (n,), ln(strike / forward), n >= 5.
    implied_vol : (n,), annualised, > 0.
    weight : (n,), >= 0, any scale: how much a quote's residual counts.
    time_to_expiry : years ACT/365, > 0.
    earlier : the smile of the expiry before, which this one must not undercut.

    Raises
    ------
    ValueError : fewer quotes than parameters, or a value out of range.
    """
    if k.size < PARAMETERS:
        raise ValueError(f"{k.size} quotes do not determine {PARAMETERS} parameters")
    if not (np.isfinite(k).all() and np.isfinite(implied_vol).all() and np.isfinite(weight).all()):
        raise ValueError("quotes must be finite")
    if time_to_expiry <= 0.0 or (implied_vol <= 0.0).any() or (weight < 0.0).any() or not (weight > 0.0).any():
        raise ValueError("time to expiry and vols must be positive, weights not negative and not all zero")
    # In units of its own deviation a short expiry looks like a long one to the optimiser.
    scale = float(np.average(implied_vol, weights=weight)) * float(np.sqrt(time_to_expiry))
    problem = _Problem(
        k=k / scale,
        deviation=implied_vol * np.sqrt(time_to_expiry) / scale,
        weight=weight / np.sqrt(np.mean(weight * weight)),
        scale=scale,
        time_to_expiry=time_to_expiry,
        earlier=earlier,
    )
    unknowns = _polish(problem, _start(problem))
    first = _assess(unknowns, problem)
    if min(first.butterfly_min, first.calendar_min) >= -ARBITRAGE_TOLERANCE:
        return first
    return _assess(_polish_penalised(problem, unknowns), problem)


@dataclass(frozen=True, slots=True)
class _Problem:
    """Quotes in scaled units: moneyness and total deviation by the average deviation ``scale``."""

    k: Float64Array1D
    deviation: Float64Array1D
    weight: Float64Array1D
    scale: float
    time_to_expiry: float
    earlier: Earlier | None

    def checked(self) -> Float64Array1D:
        """Return where butterflies are checked, in log moneyness: the quoted range and a margin."""
        low, high = self.quoted()
        margin = CHECK_MARGIN * (high - low)
        return np.linspace(low - margin, high + margin, CHECK_POINTS)

    def common(self) -> Float64Array1D | None:
        """Return where both expiries are quoted: beyond, either slice is extrapolation that no quote supports."""
        if self.earlier is None:
            return None
        low, high = self.quoted()
        low, high = max(low, self.earlier.k_min), min(high, self.earlier.k_max)
        return np.linspace(low, high, CHECK_POINTS) if low < high else None

    def floor(self, k: Float64Array1D) -> Float64Array1D:
        """Return the earlier slice's total deviation at log moneyness ``k``, in scaled units."""
        assert self.earlier is not None
        out: Float64Array1D = np.sqrt(np.maximum(self.earlier.total_variance(k), 0.0)) / self.scale
        return out

    def quoted(self) -> tuple[float, float]:
        """Return the lowest and the highest quoted log moneyness."""
        return float(self.k.min()) * self.scale, float(self.k.max()) * self.scale


# The unknowns are (lowest variance, b, rho, m, sigma): the bound of invariant 1 is then a box.
_Unknowns = npt.NDArray[np.float64]
_LOWER: Final = np.array([0.0, 0.0, -_RHO_MAX, -10.0, _SIGMA_MIN])
_UPPER: Final = np.array([100.0, 100.0, _RHO_MAX, 10.0, 100.0])


def _start(problem: _Problem) -> _Unknowns:
    """Return the best slice over a grid of (m, sigma), each with its linear least squares solution."""
    m, sigma = np.meshgrid(np.linspace(-2.0, 2.0, 17), np.geomspace(0.05, 6.0, 13), indexing="ij")
    x = problem.k[:, None, None] - m
    root = np.sqrt(x * x + sigma * sigma)
    # Residuals of variance are residuals of vol times twice the vol.
    weight = (problem.weight / (2.0 * problem.deviation))[:, None, None]
    columns = np.stack([np.broadcast_to(weight, root.shape), x * weight + 0.0 * root, root * weight], axis=-1)
    target = (problem.deviation * problem.deviation * problem.weight / (2.0 * problem.deviation))[:, None, None]
    normal = np.einsum("nijp,nijq->ijpq", columns, columns) + 1e-9 * np.eye(3)
    right = np.einsum("nijp,nij->ijp", columns, np.broadcast_to(target, root.shape))
    solved = np.linalg.solve(normal, right[..., None])[..., 0]
    b = np.maximum(solved[..., 2], 1e-6)
    rho = np.clip(solved[..., 1] / b, -0.95, 0.95)
    lowest = np.maximum(solved[..., 0] + b * sigma * np.sqrt(1.0 - rho * rho), 0.0)
    grid = np.stack([lowest, b, rho, m, sigma])
    residual = _deviations(grid, problem.k[:, None, None]) - problem.deviation[:, None, None]
    cost = np.sum((problem.weight[:, None, None] * residual) ** 2, axis=0)
    i, j = np.unravel_index(int(np.argmin(cost)), cost.shape)
    return np.asarray(grid[:, i, j], dtype=np.float64)


def _deviations(unknowns: _Unknowns, k: Float64Array1D) -> Float64Array1D:
    """Return the total deviation at scaled moneyness, broadcast over the unknowns' trailing axes; never zero."""
    lowest, b, rho, m, sigma = unknowns
    x = k - m
    variance = lowest + b * (rho * x + np.sqrt(x * x + sigma * sigma) - sigma * np.sqrt(1.0 - rho * rho))
    out: Float64Array1D = np.sqrt(np.maximum(variance, _VARIANCE_MIN))
    return out


def _polish(problem: _Problem, start: _Unknowns) -> _Unknowns:
    def residuals(unknowns: _Unknowns) -> Float64Array1D:
        out: Float64Array1D = problem.weight * (_deviations(unknowns, problem.k) - problem.deviation)
        return out

    def jacobian(unknowns: _Unknowns) -> npt.NDArray[np.float64]:
        _, b, rho, m, sigma = unknowns
        x = problem.k - m
        root = np.sqrt(x * x + sigma * sigma)
        rest = np.sqrt(1.0 - rho * rho)
        by_vol = problem.weight / (2.0 * _deviations(unknowns, problem.k))
        return np.stack(
            [
                by_vol,
                by_vol * (rho * x + root - sigma * rest),
                by_vol * b * (x + sigma * rho / rest),
                by_vol * b * (-rho - x / root),
                by_vol * b * (sigma / root - rest),
            ],
            axis=-1,
        )

    solved = least_squares(residuals, _inside(start), jac=jacobian, bounds=(_LOWER, _UPPER), max_nfev=200)
    return np.asarray(solved.x, dtype=np.float64)


def _polish_penalised(problem: _Problem, start: _Unknowns) -> _Unknowns:
    """Fit again, with arbitrage in the checked ranges as residuals beside the quotes'."""
    k, common = problem.checked(), problem.common()
    floor = None if common is None else problem.floor(common)
    strength = _PENALTY * np.sqrt(problem.k.size / CHECK_POINTS)

    def residuals(unknowns: _Unknowns) -> Float64Array1D:
        butterfly = _slice(unknowns, problem).butterfly(k)
        # Aim a little above zero, or the penalty's balance with the quotes stops a little below.
        parts = [
            problem.weight * (_deviations(unknowns, problem.k) - problem.deviation),
            strength * np.minimum(butterfly - _PENALTY_MARGIN, 0.0),
        ]
        if floor is not None and common is not None:
            excess = _deviations(unknowns, common / problem.scale) - floor
            parts.append(strength * np.minimum(excess - _PENALTY_MARGIN, 0.0))
        return np.concatenate(parts)

    solved = least_squares(residuals, _inside(start), bounds=(_LOWER, _UPPER), max_nfev=200)
    return np.asarray(solved.x, dtype=np.float64)


def _assess(unknowns: _Unknowns, problem: _Problem) -> Fit:
    """Return the slice of the unknowns with its residuals, in vols, and its arbitrage."""
    as_vol = problem.scale / np.sqrt(problem.time_to_expiry)
    difference = (_deviations(unknowns, problem.k) - problem.deviation) * as_vol
    fitted = _slice(unknowns, problem)
    common = problem.common()
    excess = None if common is None else _deviations(unknowns, common / problem.scale) - problem.floor(common)
    k_min, k_max = problem.quoted()
    return Fit(
        slice=fitted,
        quotes=problem.k.size,
        rms_vol=float(np.sqrt(np.average(difference * difference, weights=problem.weight * problem.weight))),
        max_vol=float(np.max(np.abs(difference))),
        butterfly_min=float(np.min(fitted.butterfly(problem.checked()))),
        calendar_min=float("inf") if excess is None else float(np.min(excess) * as_vol),
        k_min=k_min,
        k_max=k_max,
    )


def _inside(unknowns: _Unknowns) -> _Unknowns:
    """Return the point a little inside the bounds, as the optimiser wants it."""
    out: _Unknowns = np.clip(unknowns, _LOWER + 1e-9, _UPPER - 1e-9)
    return out


def _slice(unknowns: _Unknowns, problem: _Problem) -> Slice:
    lowest, b, rho, m, sigma = (float(value) for value in unknowns)
    a = lowest - b * sigma * float(np.sqrt(1.0 - rho * rho))
    return Slice(
        a=a * problem.scale * problem.scale,
        b=b * problem.scale,
        rho=rho,
        m=m * problem.scale,
        sigma=sigma * problem.scale,
        time_to_expiry=problem.time_to_expiry,
    )
