"""Deribit option chains around a crash, as events: real snapshots, and a marked interpolation between them.

1. Real: every snapshot's index, forwards, quotes (as fitted smiles) and perpetual marks, under the source ``deribit``.
2. Synthetic, and named so: everything between snapshots (source ``deribit-interpolated``), settlement prices, a USDC
   worth one dollar (source ``par``), and the whole book (accounts ``synthetic-000001`` and up, source ``synthetic``).
3. A smile enters only if the calibration accepts it; an expiry without one at the opening is traded by nobody.
4. The same files, window and seed give the same events.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import numpy as np
import polars as pl

from flows.calibration.points import QuotedPoints
from flows.calibration.step import Calibration, ExpiryReport, Quotes, SmileKind, points_event, svi_event
from flows.calibration.svi import Slice
from infra.imports.inputs import WrongInputError, nanoseconds, read_columns
from infra.imports.interpolation import SmileTrack, Track
from infra.imports.parameters import parameter_events
from infra.imports.synthetic_book import SyntheticBook, Tradable, synthetic_book
from schemas.events import (
    AssetListed,
    Event,
    InstrumentListed,
    MarkPrice,
    OracleForward,
    OraclePrice,
    OracleVol,
    ParametersChanged,
    SettlementPrice,
)
from schemas.money import from_float

REAL: Final = "deribit"
INTERPOLATED: Final = "deribit-interpolated"
PAR: Final = "par"
SECOND_NS: Final = 1_000_000_000
_YEAR_NS: Final = 365 * 86_400 * SECOND_NS
DECIMALS: Final = {"BTC": 8, "ETH": 8, "USDC": 6}
OPTION_LOT: Final = {"BTC": "0.1", "ETH": "1"}
OPTION_TICK: Final = "0.0001"
PERPETUAL_MULTIPLIER: Final = {"BTC": "10", "ETH": "1"}
PERPETUAL_TICK: Final = {"BTC": "0.5", "ETH": "0.05"}
# A perpetual's candle belongs to a snapshot this close to it.
_PERPETUAL_SPAN: Final = timedelta(minutes=10)
_CHAIN_COLUMNS: Final = (
    "timestamp",
    "snapshot",
    "currency",
    "instrument_name",
    "option_type",
    "strike",
    "expiry",
    "underlying_price",
    "index_price",
    "bid_price",
    "ask_price",
    "mark_price",
    "mark_iv",
)
_PERPETUAL_COLUMNS: Final = ("time", "coin", "perp_futures_mark_price")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One currency's chain at one time. ``names`` and ``mark_coins`` are by option, as the quotes are."""

    time_ns: int
    currency: str
    index: float
    quotes: Quotes
    names: list[str]
    mark_coins: list[float]
    mark_vols: list[float]
    perpetual: float | None


class FitRow(msgspec.Struct, frozen=True, kw_only=True):
    """How one expiry's smile was fitted in one snapshot; vols in vol points (1 is 1 %).

    ``smile`` says what was told, fit or points, and is null where nothing was; ``refused`` why not what was asked for
    first. ``age_hours`` is how old the smile is that stands after the snapshot, null where none ever stood.
    ``calendar_min`` is the lowest excess over the expiry before, where both are quoted.
    """

    time_ns: int
    underlying: str
    expiry_ns: int
    days_to_expiry: float
    quotes: int
    rms_vol_points: float | None
    max_vol_points: float | None
    mark_rms_vol_points: float | None
    butterfly_min: float | None
    calendar_min_vol_points: float | None
    smile: str | None
    refused: str | None
    in_force_ns: int | None
    age_hours: float | None


class DeribitSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was imported, how the surfaces were fitted, and what is synthetic."""

    snapshots: dict[str, int]
    options: dict[str, int]
    expiries: dict[str, int]
    fits: int
    points: int
    refused: dict[str, int]
    oldest_smile_hours: float
    rms_vol_points_median: float
    rms_vol_points_p95: float
    mark_rms_vol_points_median: float
    events: dict[str, int]
    accounts: int
    styles: dict[str, int]
    within_five_percent_of_maintenance: int
    settlements: int
    synthetic: list[str]
    rows: list[FitRow]


def read_snapshots(chain: Path, start_ns: int, end_ns: int, perpetuals: Path | None = None) -> list[Snapshot]:
    """Return the snapshots between two times, in order of time.

    Parameters
    ----------
    perpetuals : the file of perpetual candles at snapshots; without it, perpetuals are marked at the index.

    Raises
    ------
    WrongInputError : not the published file, or nothing in the window.
    """
    frame = read_columns(chain, _CHAIN_COLUMNS).with_columns(
        pl.col("currency", "snapshot", "option_type", "instrument_name").cast(pl.String),
        pl.col("expiry").dt.cast_time_unit("ns").to_physical().alias("expiry_ns"),
    )
    marks = None if perpetuals is None else read_columns(perpetuals, _PERPETUAL_COLUMNS)
    out = []
    for (_, currency), rows in frame.group_by("snapshot", "currency", maintain_order=True):
        time = cast(datetime, rows["timestamp"].min())
        time_ns = nanoseconds(time)
        if start_ns <= time_ns <= end_ns:
            ordered = rows.sort("expiry_ns", "strike", "option_type")
            out.append(_snapshot(str(currency), time_ns, ordered, _perpetual_mark(marks, str(currency), time)))
    if not out:
        covered = f"{frame['timestamp'].min()!s} to {frame['timestamp'].max()!s}"
        raise WrongInputError(f"{chain.name} has no snapshot in this window: it covers {covered}")
    return sorted(out, key=lambda item: (item.time_ns, item.currency))


def events(
    snapshots: list[Snapshot],
    *,
    every_ns: int,
    accounts: int,
    seed: int,
    smiles: SmileKind = SmileKind.FIT,
    progress: Progress | None = None,
) -> tuple[list[Event], DeribitSummary]:
    """Return the market of the snapshots, what lies between them, and a synthetic book, as events (unnumbered).

    Parameters
    ----------
    every_ns : distance of interpolated instants, at whole multiples of it.
    accounts, seed : of the synthetic book.
    smiles : what is told of an expiry.
    """
    fitted = _Fitted.of(snapshots, smiles, progress)
    opened_ns = max(track.times_ns[0] for track in fitted.index.values()) + SECOND_NS
    market = [
        *_listings(snapshots),
        *_parameters(min(item.time_ns for item in snapshots), every_ns),
        *fitted.events,
        *_between(fitted, every_ns),
        *_settlements(fitted),
    ]
    opening = [event for event in market if event.event_time_ns <= opened_ns]
    tradables = list(_tradables(snapshots, fitted))
    if progress is not None:
        progress("sizing deposits", 0, 1)
    book = synthetic_book(tradables, opening=opening, opened_ns=opened_ns, accounts=accounts, seed=seed)
    return [*market, *book.events], _summary(fitted, market, book, every_ns)


@dataclass(slots=True)
class _Fitted:
    """The snapshots as events, and as tracks to interpolate on."""

    index: dict[str, Track]
    premium: dict[str, Track]
    basis: dict[tuple[str, int], Track]
    smiles: dict[tuple[str, int], SmileTrack]
    events: list[Event]
    reports: list[ExpiryReport]
    rows: list[FitRow]

    @classmethod
    def of(cls, snapshots: list[Snapshot], smiles: SmileKind, progress: Progress | None) -> "_Fitted":
        out = cls({}, {}, {}, {}, [], [], [])
        calibration = Calibration(kind=smiles)
        for count, snapshot in enumerate(snapshots):
            out._take(snapshot, calibration)
            if progress is not None:
                progress("fitting surfaces", count + 1, len(snapshots))
        return out

    def _take(self, snapshot: Snapshot, calibration: Calibration) -> None:
        time_ns, currency = snapshot.time_ns, snapshot.currency
        self.index.setdefault(currency, Track()).add(time_ns, snapshot.index)
        self.events.append(_price(REAL, currency, snapshot.index, time_ns))
        if snapshot.perpetual is not None:
            self.premium.setdefault(currency, Track()).add(time_ns, snapshot.perpetual / snapshot.index)
            self.events.append(_mark(REAL, currency, snapshot.perpetual, time_ns))
        out = calibration.step(snapshot.quotes)
        self.events.extend(out.events)
        self.reports.extend(out.reports)
        for report in out.reports:
            key = currency, report.expiry_ns
            self.basis.setdefault(key, Track()).add(time_ns, report.forward / snapshot.index)
            if report.smile is not None:
                self.smiles.setdefault(key, SmileTrack()).add(time_ns, report.smile)
            self.rows.append(_fit_row(report, snapshot))


def _between(fitted: _Fitted, every_ns: int) -> Iterator[Event]:
    """Yield the interpolated market at every multiple of ``every_ns`` between the first and the last snapshot."""
    for currency, index in fitted.index.items():
        first, last = index.times_ns[0], index.times_ns[-1]
        real = frozenset(index.times_ns)
        expiries = [(expiry_ns, track) for (name, expiry_ns), track in fitted.basis.items() if name == currency]
        for time_ns in range(-(-first // every_ns) * every_ns, last, every_ns):
            if time_ns in real:
                continue
            now = index.at(time_ns)
            yield _price(INTERPOLATED, currency, now, time_ns)
            if currency in fitted.premium:
                yield _mark(INTERPOLATED, currency, now * fitted.premium[currency].at(time_ns), time_ns)
            for expiry_ns, basis in sorted(expiries):
                if basis.times_ns[0] <= time_ns < expiry_ns:
                    yield from _expiry(fitted, currency, expiry_ns, time_ns, now * basis.at(time_ns))
    start = min(track.times_ns[0] for track in fitted.index.values())
    end = max(track.times_ns[-1] for track in fitted.index.values())
    yield _price(PAR, "USDC", 1.0, start)
    for time_ns in range((start // every_ns + 1) * every_ns, end + 1, every_ns):
        yield _price(PAR, "USDC", 1.0, time_ns)


def _expiry(fitted: _Fitted, currency: str, expiry_ns: int, time_ns: int, forward: float) -> Iterator[Event]:
    forward = round(forward, 6)
    yield OracleForward(
        event_id=f"{INTERPOLATED}-forward-{currency}-{expiry_ns}-{time_ns}",
        event_time_ns=time_ns,
        source=INTERPOLATED,
        source_sequence=0,
        underlying=currency,
        expiry_ns=expiry_ns,
        forward=from_float(forward),
    )
    smile = fitted.smiles.get((currency, expiry_ns))
    now = None if smile is None else smile.at(time_ns, (expiry_ns - time_ns) / _YEAR_NS, forward)
    if now is not None:
        yield OracleVol(
            event_id=f"{INTERPOLATED}-vol-{currency}-{expiry_ns}-{time_ns}",
            event_time_ns=time_ns,
            source=INTERPOLATED,
            source_sequence=0,
            underlying=currency,
            expiry_ns=expiry_ns,
            svi=svi_event(now, forward) if isinstance(now, Slice) else None,
            points=points_event(now) if isinstance(now, QuotedPoints) else None,
        )


def _settlements(fitted: _Fitted) -> Iterator[SettlementPrice]:
    """Yield what each expiry inside the window settles at: the interpolated index, as no delivery price is recorded."""
    for currency, expiry_ns in sorted(fitted.basis):
        index = fitted.index[currency]
        if index.times_ns[0] < expiry_ns <= index.times_ns[-1]:
            yield SettlementPrice(
                event_id=f"{INTERPOLATED}-settlement-{currency}-{expiry_ns}",
                event_time_ns=expiry_ns,
                source=INTERPOLATED,
                source_sequence=0,
                underlying=currency,
                expiry_ns=expiry_ns,
                price=from_float(round(index.at(expiry_ns), 2)),
            )


def _listings(snapshots: list[Snapshot]) -> Iterator[Event]:
    """Yield assets and perpetuals at the beginning, and each option when it is first seen."""
    start_ns = min(item.time_ns for item in snapshots)
    for asset, decimals in DECIMALS.items():
        yield AssetListed(
            event_id=f"asset-{asset}",
            event_time_ns=start_ns,
            source=REAL,
            source_sequence=0,
            asset=asset,
            decimals=decimals,
        )
    for currency in sorted({item.currency for item in snapshots}):
        yield InstrumentListed(
            event_id=f"instrument-{currency}-PERPETUAL",
            event_time_ns=start_ns,
            source=REAL,
            source_sequence=0,
            instrument=f"{currency}-PERPETUAL",
            kind="perpetual",
            underlying=currency,
            quote="USD",
            settlement_asset=currency,
            payoff="inverse",
            multiplier=PERPETUAL_MULTIPLIER[currency],
            tick_size=PERPETUAL_TICK[currency],
            lot_size="1",
        )
    seen: set[str] = set()
    for snapshot in snapshots:
        quotes = snapshot.quotes
        for row, name in enumerate(snapshot.names):
            if name in seen or int(quotes.expiry_ns[row]) <= snapshot.time_ns:
                continue
            seen.add(name)
            yield InstrumentListed(
                event_id=f"instrument-{name}",
                event_time_ns=snapshot.time_ns,
                source=REAL,
                source_sequence=0,
                instrument=name,
                kind="option",
                underlying=snapshot.currency,
                quote="USD",
                settlement_asset=snapshot.currency,
                payoff="inverse",
                multiplier="1",
                tick_size=OPTION_TICK,
                lot_size=OPTION_LOT[snapshot.currency],
                strike=from_float(float(quotes.strike[row])),
                option_type="call" if quotes.is_call[row] else "put",
                expiry_ns=int(quotes.expiry_ns[row]),
            )


def _parameters(start_ns: int, every_ns: int) -> Iterator[ParametersChanged]:
    age_ns = 3 * every_ns
    sets: dict[str, dict[str, Any]] = {
        "oracle": {
            # Shorter than the others: a snapshot and the interpolation after it are two sources of one feed, and
            # the older one should leave the median soon.
            "price_age_ns_max": every_ns + every_ns // 2,
            "forward_age_ns_max": age_ns,
            "vol_age_ns_max": age_ns,
            "mark_age_ns_max": age_ns,
        },
        "collateral": {"haircuts": {"USDC": 0.0, "BTC": 0.05, "ETH": 0.075}},
        "tidegate-standard": {"linear_rates": {currency: [0.02, 0.01] for currency in ("BTC", "ETH")}},
        "tidegate-portfolio": {},
    }
    return parameter_events(sets, time_ns=start_ns, source=REAL)


def _tradables(snapshots: list[Snapshot], fitted: _Fitted) -> Iterator[Tradable]:
    """Yield what the book may hold: each currency's perpetual, and its first chain's options of fitted expiries."""
    for currency in sorted(fitted.index):
        snapshot = next(item for item in snapshots if item.currency == currency)
        mark = snapshot.perpetual or snapshot.index
        tick = float(PERPETUAL_TICK[currency])
        yield Tradable(
            instrument=f"{currency}-PERPETUAL",
            underlying=currency,
            index=snapshot.index,
            price=f"{round(mark / tick) * tick:.2f}",
            lot_coins=float(PERPETUAL_MULTIPLIER[currency]) / mark,
            option_type=None,
            deviations=0.0,
            expiry_ns=None,
            lot_size="1",
        )
        quotes = snapshot.quotes
        for row, name in enumerate(snapshot.names):
            expiry_ns = int(quotes.expiry_ns[row])
            smile = fitted.smiles.get((currency, expiry_ns))
            ticks = round(snapshot.mark_coins[row] / float(OPTION_TICK))
            if smile is None or smile.times_ns[0] != snapshot.time_ns or ticks < 1:
                continue
            years = (expiry_ns - snapshot.time_ns) / _YEAR_NS
            k = float(np.log(quotes.strike[row] / quotes.forward[row]))
            yield Tradable(
                instrument=name,
                underlying=currency,
                index=snapshot.index,
                price=f"{ticks / 10_000:.4f}",
                lot_coins=float(OPTION_LOT[currency]),
                option_type="call" if quotes.is_call[row] else "put",
                deviations=k / (snapshot.mark_vols[row] * years**0.5),
                expiry_ns=expiry_ns,
                lot_size=OPTION_LOT[currency],
            )


def _price(source: str, asset: str, price: float, time_ns: int) -> OraclePrice:
    return OraclePrice(
        event_id=f"{source}-price-{asset}-{time_ns}",
        event_time_ns=time_ns,
        source=source,
        source_sequence=0,
        feed=f"{asset}/USD",
        price=from_float(round(price, 4)),
        confidence="0",
        publish_time_ns=time_ns,
    )


def _mark(source: str, currency: str, price: float, time_ns: int) -> MarkPrice:
    return MarkPrice(
        event_id=f"{source}-mark-{currency}-PERPETUAL-{time_ns}",
        event_time_ns=time_ns,
        source=source,
        source_sequence=0,
        instrument=f"{currency}-PERPETUAL",
        price=from_float(round(price, 4)),
    )


def _snapshot(currency: str, time_ns: int, rows: pl.DataFrame, perpetual: float | None) -> Snapshot:
    if currency not in OPTION_LOT:
        raise WrongInputError(f"the chain has currency {currency}: only {', '.join(OPTION_LOT)} are known")
    forward = rows["underlying_price"].to_numpy().astype(np.float64)
    quotes = Quotes(
        time_ns=time_ns,
        source=REAL,
        underlying=currency,
        expiry_ns=rows["expiry_ns"].to_numpy().astype(np.int64),
        strike=rows["strike"].to_numpy().astype(np.float64),
        is_call=(rows["option_type"] == "call").to_numpy(),
        # Coins times forward is the price in quote currency, undiscounted: what Black-76 speaks of.
        bid=rows["bid_price"].to_numpy().astype(np.float64) * forward,
        ask=rows["ask_price"].to_numpy().astype(np.float64) * forward,
        forward=forward,
    )
    return Snapshot(
        time_ns=time_ns,
        currency=currency,
        index=float(np.median(rows["index_price"].to_numpy())),
        quotes=quotes,
        names=rows["instrument_name"].to_list(),
        mark_coins=rows["mark_price"].fill_null(0.0).to_list(),
        mark_vols=rows["mark_iv"].fill_null(0.0).to_list(),
        perpetual=perpetual,
    )


def _perpetual_mark(marks: pl.DataFrame | None, currency: str, time: object) -> float | None:
    if marks is None:
        return None
    near = (
        marks.filter(pl.col("coin") == currency)
        .with_columns((pl.col("time") - pl.lit(time)).abs().alias("apart"))
        .filter(pl.col("apart") <= _PERPETUAL_SPAN)
        .sort("apart")
    )
    return None if near.is_empty() else float(near["perp_futures_mark_price"][0])


def _fit_row(report: ExpiryReport, snapshot: Snapshot) -> FitRow:
    fit, points = report.fit, report.points
    held = points if points is not None else fit
    against_mark = None
    if held is not None:
        quotes = snapshot.quotes
        vols = np.array(snapshot.mark_vols)
        k = np.log(quotes.strike / quotes.forward)
        quoted = (quotes.expiry_ns == report.expiry_ns) & (vols > 0.0) & (k >= held.k_min) & (k <= held.k_max)
        if quoted.any():
            told = held.implied_vol(k[quoted]) if isinstance(held, QuotedPoints) else held.slice.implied_vol(k[quoted])
            difference = told - vols[quoted]
            against_mark = 100.0 * float(np.sqrt(np.mean(difference * difference)))
    return FitRow(
        time_ns=report.time_ns,
        underlying=report.underlying,
        expiry_ns=report.expiry_ns,
        days_to_expiry=round((report.expiry_ns - report.time_ns) / (86_400 * SECOND_NS), 3),
        quotes=points.strike.size if points is not None else 0 if fit is None else fit.quotes,
        rms_vol_points=None if fit is None else 100.0 * fit.rms_vol,
        max_vol_points=None if fit is None else 100.0 * fit.max_vol,
        mark_rms_vol_points=against_mark,
        butterfly_min=None if fit is None else fit.butterfly_min,
        calendar_min_vol_points=None if fit is None or np.isinf(fit.calendar_min) else 100.0 * fit.calendar_min,
        smile=None if report.smile is None else "points" if points is not None else "fit",
        refused=None if report.refused is None else report.refused.value,
        in_force_ns=report.in_force_ns,
        age_hours=None if report.in_force_ns is None else (report.time_ns - report.in_force_ns) / (3_600 * SECOND_NS),
    )


def _summary(fitted: _Fitted, market: list[Event], book: SyntheticBook, every_ns: int) -> DeribitSummary:
    good = [row for row in fitted.rows if row.smile == "fit" and row.rms_vol_points is not None]
    # Points have no residual: they are the quotes.
    rms = np.array([row.rms_vol_points for row in good] or [0.0])
    told = [row for row in fitted.rows if row.smile is not None]
    against_mark = np.array([row.mark_rms_vol_points for row in told if row.mark_rms_vol_points is not None])
    counts = Counter(f"{event.__struct_config__.tag} {event.source}" for event in [*market, *book.events])
    currencies = sorted(fitted.index)
    settlements = sum(isinstance(event, SettlementPrice) for event in market)
    listed = Counter(
        event.underlying for event in market if isinstance(event, InstrumentListed) and event.kind == "option"
    )
    held = [currency for currency in currencies if currency not in fitted.premium]
    return DeribitSummary(
        snapshots={currency: len(fitted.index[currency].times_ns) for currency in currencies},
        options=dict(sorted(listed.items())),
        expiries={currency: sum(name == currency for name, _ in fitted.basis) for currency in currencies},
        fits=len(good),
        points=len(told) - len(good),
        refused=dict(sorted(Counter(row.refused for row in fitted.rows if row.refused is not None).items())),
        oldest_smile_hours=max((row.age_hours for row in fitted.rows if row.age_hours is not None), default=0.0),
        rms_vol_points_median=float(np.median(rms)),
        rms_vol_points_p95=float(np.quantile(rms, 0.95)),
        mark_rms_vol_points_median=float(np.median(against_mark)),
        events=dict(sorted(counts.items())),
        accounts=len(book.accounts),
        styles=dict(sorted(Counter(account.style for account in book.accounts).items())),
        within_five_percent_of_maintenance=book.near_maintenance,
        settlements=settlements,
        synthetic=[
            f"source {INTERPOLATED}: index, forwards, smiles and marks, every {every_ns // SECOND_NS} s",
            f"{settlements} settlement prices: the interpolated index at expiry",
            f"source {PAR}: USDC/USD is 1",
            f"{len(book.accounts)} accounts and all that they hold, from {book.accounts[0].account}, seed {book.seed}",
            *[f"{currency}-PERPETUAL has no recorded mark: it is worth the index" for currency in held],
        ],
        rows=fitted.rows,
    )
