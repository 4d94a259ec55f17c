"""Quotes to surfaces: one snapshot of a chain in, forwards and smiles out as events, or a reason why not.

1. An expiry whose fit is not good enough emits no smile, or its quoted points where ``SmileKind`` allows that: else the
   last good one stays in force and ages, and the age limit of ``oracle`` parameters is what stops decisions. Its
   forward is emitted all the same.
2. Expiries are fitted in rising order, each against the one before that was accepted, so that no accepted smile
   undercuts an earlier one where both are quoted.
3. The same snapshots give the same events: nothing here depends on time, chance, or the order of quotes.
"""

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

import numpy as np
import numpy.typing as npt

from flows.calibration.implied_vol import implied_vols
from flows.calibration.points import QuotedPoints
from flows.calibration.svi import ARBITRAGE_TOLERANCE, PARAMETERS, Earlier, Fit, Float64Array1D, Slice, fit_slice
from schemas.events import Event, OracleForward, OracleVol, Svi, VolPoint
from schemas.money import from_float

BoolArray1D = npt.NDArray[np.bool_]
Int64Array1D = npt.NDArray[np.int64]

_YEAR_NS: Final = 365 * 86_400 * 1_000_000_000
# A quote tighter than this, in vol, is no more certain than one as wide: snapshots are polled over seconds.
_HALF_SPREAD_MIN: Final = 0.0025
# Wider than this in vol a quote says nothing about the smile.
_SPREAD_MAX: Final = 0.50
# Decimals of what is emitted: a float64's worth of a number near one.
_DECIMALS: Final = 15
_STRIKE_DECIMALS: Final = 6


class SmileKind(Enum):
    """What is told of an expiry: a fit, its quoted points, or points where a fit is refused."""

    FIT = "fit"
    POINTS = "points"
    FIT_OR_POINTS = "fit-or-points"


class RefusalReason(Enum):
    """Why an expiry's fit, or its points, were not emitted; checked in this order."""

    EXPIRED = "expired"
    TOO_FEW_QUOTES = "too_few_quotes"
    POOR_FIT = "poor_fit"
    BUTTERFLY = "butterfly"
    CALENDAR = "calendar"


@dataclass(frozen=True, slots=True)
class Quotes:
    """A snapshot of one underlying's option chain.

    Shapes: n options, in any order. Prices are quote per underlying (an inverse option's price times its forward);
    NaN where there is no quote.
    """

    time_ns: int
    source: str
    underlying: str
    expiry_ns: Int64Array1D
    strike: Float64Array1D
    is_call: BoolArray1D
    bid: Float64Array1D
    ask: Float64Array1D
    forward: Float64Array1D


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fit must reach: quotes, and weighted root mean square residual in vol (0.02 is two vol points).

    Points, which have no residual, need quotes alone: two make a skew.
    """

    quotes_min: int = 6
    points_min: int = 2
    rms_vol_max: float = 0.03


@dataclass(frozen=True, slots=True)
class ExpiryReport:
    """What became of one expiry in one snapshot.

    ``fit`` is kept for a refused one where there was any. ``refused`` is the reason against what was asked for first,
    and ``points`` are what was emitted instead of a fit; ``in_force_ns`` is the time of the smile that holds after
    this snapshot, None where there never was one.
    """

    time_ns: int
    underlying: str
    expiry_ns: int
    forward: float
    fit: Fit | None
    refused: RefusalReason | None
    in_force_ns: int | None
    points: QuotedPoints | None = None

    @property
    def smile(self) -> Slice | QuotedPoints | None:
        """What was emitted, None where nothing was."""
        if self.points is not None:
            return self.points
        return self.fit.slice if self.fit is not None and self.refused is None else None


@dataclass(frozen=True, slots=True)
class CalibrationOut:
    """Events in order, and a report for every expiry of the snapshot."""

    events: list[Event]
    reports: list[ExpiryReport]


@dataclass(slots=True)
class Calibration:
    """The stage's memory: how many events each source has emitted, and when each expiry was last fitted well."""

    limits: Limits = field(default_factory=Limits)
    kind: SmileKind = SmileKind.FIT
    sequence: dict[str, int] = field(default_factory=dict)
    fitted_at_ns: dict[tuple[str, int], int] = field(default_factory=dict)

    def step(self, quotes: Quotes) -> CalibrationOut:
        """Fit every expiry of one snapshot.

        Parameters
        ----------
        quotes : later than every snapshot of this underlying before.
        """
        events: list[Event] = []
        reports: list[ExpiryReport] = []
        earlier: Earlier | None = None
        for expiry_ns in sorted({int(value) for value in quotes.expiry_ns}):
            rows = np.flatnonzero(quotes.expiry_ns == expiry_ns)
            forward = float(np.median(quotes.forward[rows]))
            fit, points, refused = self._calibrate(quotes, rows, expiry_ns, forward, earlier)
            if refused is not RefusalReason.EXPIRED:
                events.append(self._forward(quotes, expiry_ns, forward))
            report = ExpiryReport(
                time_ns=quotes.time_ns,
                underlying=quotes.underlying,
                expiry_ns=expiry_ns,
                forward=forward,
                fit=fit,
                refused=refused,
                in_force_ns=self.fitted_at_ns.get((quotes.underlying, expiry_ns)),
                points=points,
            )
            if report.smile is not None:
                events.append(self._smile(quotes, expiry_ns, forward, report.smile))
                self.fitted_at_ns[quotes.underlying, expiry_ns] = quotes.time_ns
                earlier = fit if points is None else points
                report = replace(report, in_force_ns=quotes.time_ns)
            reports.append(report)
        return CalibrationOut(events, reports)

    def _calibrate(
        self, quotes: Quotes, rows: npt.NDArray[np.intp], expiry_ns: int, forward: float, earlier: Earlier | None
    ) -> tuple[Fit | None, QuotedPoints | None, RefusalReason | None]:
        """Return a fit, the points that are emitted, and the reason against what was asked for first."""
        time_to_expiry = (expiry_ns - quotes.time_ns) / _YEAR_NS
        if time_to_expiry <= 0.0:
            return None, None, RefusalReason.EXPIRED
        fit, refused = None, None
        if self.kind is not SmileKind.POINTS:
            fit, refused = self._fit(quotes, rows, time_to_expiry, earlier)
            if refused is None or self.kind is SmileKind.FIT:
                return fit, None, refused
        points, against = self._points(quotes, rows, time_to_expiry, forward, earlier)
        return fit, points, refused or against

    def _points(
        self,
        quotes: Quotes,
        rows: npt.NDArray[np.intp],
        time_to_expiry: float,
        forward: float,
        earlier: Earlier | None,
    ) -> tuple[QuotedPoints | None, RefusalReason | None]:
        strike, _, vol, weight = smile(quotes, rows, time_to_expiry)
        # Near the money a put and a call may each be out of the money on their own forward: the tighter one counts.
        order = np.lexsort((-weight, strike))
        strike, vol, weight = strike[order], vol[order], weight[order]
        first = np.concatenate([[True], strike[1:] > strike[:-1]])
        if first.sum() < self.limits.points_min or strike.size == 0:
            return None, RefusalReason.TOO_FEW_QUOTES
        points = QuotedPoints(strike[first], vol[first], 1.0 / weight[first], forward, time_to_expiry)
        if points.butterfly_min() < -1.0:
            return None, RefusalReason.BUTTERFLY
        if points.calendar_min(earlier) < -ARBITRAGE_TOLERANCE:
            return None, RefusalReason.CALENDAR
        return points, None

    def _fit(
        self, quotes: Quotes, rows: npt.NDArray[np.intp], time_to_expiry: float, earlier: Earlier | None
    ) -> tuple[Fit | None, RefusalReason | None]:
        _, k, vol, weight = smile(quotes, rows, time_to_expiry)
        if k.size < max(self.limits.quotes_min, PARAMETERS):
            return None, RefusalReason.TOO_FEW_QUOTES
        fit = fit_slice(k=k, implied_vol=vol, weight=weight, time_to_expiry=time_to_expiry, earlier=earlier)
        if fit.rms_vol > self.limits.rms_vol_max:
            return fit, RefusalReason.POOR_FIT
        if fit.butterfly_min < -ARBITRAGE_TOLERANCE:
            return fit, RefusalReason.BUTTERFLY
        if fit.calendar_min < -ARBITRAGE_TOLERANCE:
            return fit, RefusalReason.CALENDAR
        return fit, None

    def _forward(self, quotes: Quotes, expiry_ns: int, forward: float) -> OracleForward:
        return OracleForward(
            event_id=f"{quotes.source}-forward-{quotes.underlying}-{expiry_ns}-{quotes.time_ns}",
            event_time_ns=quotes.time_ns,
            source=quotes.source,
            source_sequence=self._next(quotes.source),
            underlying=quotes.underlying,
            expiry_ns=expiry_ns,
            forward=from_float(forward),
        )

    def _smile(self, quotes: Quotes, expiry_ns: int, forward: float, emitted: Slice | QuotedPoints) -> OracleVol:
        return OracleVol(
            event_id=f"{quotes.source}-vol-{quotes.underlying}-{expiry_ns}-{quotes.time_ns}",
            event_time_ns=quotes.time_ns,
            source=quotes.source,
            source_sequence=self._next(quotes.source),
            underlying=quotes.underlying,
            expiry_ns=expiry_ns,
            svi=svi_event(emitted, forward) if isinstance(emitted, Slice) else None,
            points=points_event(emitted) if isinstance(emitted, QuotedPoints) else None,
        )

    def _next(self, source: str) -> int:
        self.sequence[source] = self.sequence.get(source, 0) + 1
        return self.sequence[source]


def smile(
    quotes: Quotes, rows: npt.NDArray[np.intp], time_to_expiry: float
) -> tuple[Float64Array1D, Float64Array1D, Float64Array1D, Float64Array1D]:
    """Return ``(strike, k, implied_vol, weight)`` of the quotes that say something, in rising ``k``.

    The out-of-the-money side of each strike, two-sided, with the vol of its mid price; the weight is one over half the
    spread in vol. Each row's own forward is used: a snapshot is polled over seconds, and the market moves under it.
    """
    forward, strike, call = quotes.forward[rows], quotes.strike[rows], quotes.is_call[rows]
    bid, ask = quotes.bid[rows], quotes.ask[rows]
    mid = 0.5 * (bid + ask)
    times = np.full(rows.size, time_to_expiry)
    low, middle, high = (
        implied_vols(price=price, forward=forward, strike=strike, time_to_expiry=times, is_call=call)
        for price in (bid, mid, ask)
    )
    with np.errstate(invalid="ignore"):
        usable = (
            low.informative
            & middle.informative
            & high.informative
            & np.where(call, strike >= forward, strike < forward)
            & (bid > 0.0)
            & (ask >= bid)
            & (high.implied_vol - low.implied_vol <= _SPREAD_MAX)
        )
    k = np.log(strike[usable] / forward[usable])
    half_spread = 0.5 * (high.implied_vol[usable] - low.implied_vol[usable])
    # Near expiry a wing's vol is sharp in price only where there is some vega left: the spread says so by itself.
    weight = 1.0 / np.maximum(half_spread, _HALF_SPREAD_MIN)
    order = np.lexsort((strike[usable], k))
    return strike[usable][order], k[order], middle.implied_vol[usable][order], weight[order]


def points_event(points: QuotedPoints) -> list[VolPoint]:
    """Return points as they go on the wire."""
    return [
        VolPoint(strike=from_float(round(strike, _STRIKE_DECIMALS)), implied_vol=from_float(round(vol, _DECIMALS)))
        for strike, vol in zip(points.strike.tolist(), points.vol.tolist(), strict=True)
    ]


def svi_event(fitted: Slice, forward: float) -> Svi:
    """Return the slice as it goes on the wire, still within intake's bounds after rounding to decimals."""
    a, b, rho, m, sigma = (
        round(value, _DECIMALS) for value in (fitted.a, fitted.b, fitted.rho, fitted.m, fitted.sigma)
    )
    lowest = a + b * sigma * float(np.sqrt(1.0 - rho * rho))
    if lowest < 0.0:
        a = round(a - lowest + 10.0**-_DECIMALS, _DECIMALS)
    return Svi(
        a=from_float(a),
        b=from_float(b),
        rho=from_float(rho),
        m=from_float(m),
        sigma=from_float(sigma),
        forward=from_float(forward),
        time_to_expiry=from_float(round(fitted.time_to_expiry, _DECIMALS)),
    )
