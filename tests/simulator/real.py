"""Two days that happened, as paths: what was recorded moves the simulator's books.

- ``2025-10-10``: Gemini's trades in BTC and ETH, the last of each tick; BTC's volatility index, hourly; and the marks
  of Binance's coin-margined BTC perpetual, by the minute.
- ``2026-02-05``: Deribit's option chains around the fall of 5 February, about four a day: index, forwards, smiles.

1. What was not recorded is named in ``synthetic``, sentence by sentence.
2. A feed without a trade tells nothing: it grows too old, and decisions wait for it, as they would have.
3. A path lies about the worst of its day. The same files, length and seed give the same path.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from flows.calibration.step import Calibration
from flows.calibration.svi import Slice
from infra.imports.deribit import read_snapshots
from infra.imports.inputs import nanoseconds, read_columns
from infra.imports.interpolation import SmileTrack, Track
from schemas.ledger import ForwardRecord, MarketRecord, MarkRecord, PriceRecord, SettlementRecord, SviRecord
from tests.builders import DAY_NS, SECOND_NS
from tests.simulator.venue import HOUR_NS, YEAR_NS, recorded_underlyings

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

DATA: Final = FilePath(__file__).resolve().parents[3] / "shared" / "data"
_TRADES: Final = "stress_2025_10_10/gemini_trades_2025-10-10.parquet"
_MARKS: Final = "stress_2025_10_10/binance_coinm_btcusd_perp_markprice_1m_2025-10-09_10.parquet"
_VOLS: Final = "options/deribit_dvol_btc_hourly_2021-03_2025-10.parquet"
_CHAIN: Final = "options/deribit_chain_stress_2026-01-28_2026-02-11.parquet"

_NAMES: Final = ("BTC", "ETH")
_INVERSE_PERPETUAL: Final = 1  # the second instrument of BTC
_RECORDED: Final = "recorded"
_SYNTHETIC: Final = "synthetic"
_CONFIDENCE: Final = 1e-4
_REFIT_NS: Final = 3 * SECOND_NS
_REQUOTE_NS: Final = 60 * SECOND_NS
_EXPIRY_DAYS: Final = (1, 2, 7, 14, 21, 30, 60, 90, 180, 270)
_CARRY: Final = 0.04
_ETH_VOLS: Final = 1.3
_BRIDGE_VOL: Final = 0.8
_ALWAYS_SYNTHETIC: Final = ("USDC/USD is 1", "strikes, and all accounts and what they do")


class RecordedPath(ABC):
    """A path over what was recorded of BTC and ETH; ``MarketPath`` says what it is asked for.

    Subclasses set ``synthetic`` and answer by underlying (0 or 1) and time.
    """

    synthetic: tuple[str, ...]

    def __init__(
        self, start_ns: int, end_ns: int, tick_ns: int, expiries: Sequence[Sequence[int]], *, narrow: bool
    ) -> None:
        self.start_ns, self.tick_ns = start_ns, tick_ns
        self.ticks = (end_ns - start_ns) // tick_ns
        spot = [self._spot(place, start_ns) for place in range(len(_NAMES))]
        self.venue = recorded_underlyings(_NAMES, spot, expiries, since_ns=start_ns, narrow=narrow)
        self._smiles = [(place, expiry) for place in range(len(_NAMES)) for expiry in self.venue.expiries(place)]
        self._next_smile = 0

    @abstractmethod
    def _spot(self, place: int, now_ns: int) -> float:
        """Return the last price."""

    @abstractmethod
    def _is_news(self, place: int, before_ns: int, now_ns: int) -> bool:
        """Return whether a price was told between two times, the later one included."""

    @abstractmethod
    def _smile(self, place: int, expiry_ns: int, now_ns: int) -> tuple[float, Slice] | None:
        """Return the forward and the smile of an expiry; None where there is none that could be told."""

    def _mark(self, before_ns: int, now_ns: int) -> float | None:  # noqa: ARG002
        """Return the last mark of BTC's inverse perpetual between two times, the later one included."""
        return None

    def opening(self) -> list[MarketRecord]:
        """Return the whole market, as it stands before the first tick."""
        records: list[MarketRecord] = [self._quote(place, self.start_ns) for place in range(len(_NAMES))]
        records.append(self._dollar(self.start_ns))
        for place, expiry in self._smiles:
            records += self._surface(place, expiry, self.start_ns)
        return records

    def __iter__(self) -> Iterator[tuple[int, list[MarketRecord]]]:
        """Yield (time, records), tick after tick; once."""
        for tick in range(1, self.ticks + 1):
            before, now = self.start_ns + (tick - 1) * self.tick_ns, self.start_ns + tick * self.tick_ns
            yield now, list(self._records(before, now))

    def _records(self, before_ns: int, now_ns: int) -> Iterator[MarketRecord]:
        for place in range(len(_NAMES)):
            if self._is_news(place, before_ns, now_ns):
                yield self._quote(place, now_ns)
        if self._due(before_ns, now_ns, _REQUOTE_NS):
            yield self._dollar(now_ns)
        mark = self._mark(before_ns, now_ns)
        if mark is not None:
            yield MarkRecord(_INVERSE_PERPETUAL, _RECORDED, mark, now_ns)
        for place, expiry in self._smiles:
            if before_ns < expiry <= now_ns:
                yield SettlementRecord(_NAMES[place], expiry, f"{self._spot(place, expiry):.2f}")
        for _ in range(self._due(before_ns, now_ns, _REFIT_NS)):
            place, expiry = self._smiles[self._next_smile]
            self._next_smile = (self._next_smile + 1) % len(self._smiles)
            if expiry > now_ns:
                yield from self._surface(place, expiry, now_ns)

    def _due(self, before_ns: int, now_ns: int, every_ns: int) -> int:
        return (now_ns - self.start_ns) // every_ns - (before_ns - self.start_ns) // every_ns

    def _quote(self, place: int, now_ns: int) -> PriceRecord:
        spot = self._spot(place, now_ns)
        return PriceRecord(f"{_NAMES[place]}/USD", _RECORDED, spot, spot * _CONFIDENCE, now_ns)

    def _dollar(self, now_ns: int) -> PriceRecord:
        return PriceRecord("USDC/USD", _SYNTHETIC, 1.0, _CONFIDENCE, now_ns)

    def _surface(self, place: int, expiry_ns: int, now_ns: int) -> list[MarketRecord]:
        found = self._smile(place, expiry_ns, now_ns)
        if found is None:
            return []
        forward, it = found
        name, years = _NAMES[place], (expiry_ns - now_ns) / YEAR_NS
        return [
            ForwardRecord(name, expiry_ns, _RECORDED, forward, now_ns),
            SviRecord(name, expiry_ns, _RECORDED, it.a, it.b, it.rho, it.m, it.sigma, forward, years, now_ns),
        ]


class TradedDay(RecordedPath):
    """10 October 2025, about 21:15 UTC, when BTC fell by a tenth within minutes."""

    def __init__(self, *, hours: float, seed: int, tick_ns: int, narrow: bool) -> None:  # noqa: ARG002
        """Read what was recorded.

        Raises
        ------
        WrongInputError : a file is not there, or is another; the message says which.
        """
        day = nanoseconds(datetime(2025, 10, 10, tzinfo=UTC))
        # ETH is first traded in the second minute.
        start, end = _window(day + 21 * HOUR_NS + HOUR_NS // 4, hours, day + HOUR_NS // 30, day + DAY_NS)
        trades = read_columns(DATA / _TRADES, ("symbol", "timestamp", "price")).sort("timestamp", maintain_order=True)
        of = [trades.filter(pl.col("symbol") == f"{name}USD") for name in _NAMES]
        self._times: list[Int64Array] = [rows["timestamp"].to_numpy() * 1_000 for rows in of]
        self._prices: list[Float64Array] = [rows["price"].to_numpy() for rows in of]
        self._vols = _vol_index(day)
        self._marks = Track()
        columns = ("open_time", "open")
        for moment, mark in read_columns(DATA / _MARKS, columns).select(columns).iter_rows():
            self._marks.add(moment * 1_000_000, mark)
        self._has_marks = not narrow
        told = [int(((at > start) & (at <= end)).sum()) for at in self._times]
        self.synthetic = (
            f"of {told[0]:,} BTC and {told[1]:,} ETH trades the last of each tick of {tick_ns / SECOND_NS:g} s is told",
            (
                f"expiries, and smiles: at the money the vol is BTC's index, log-linear from the opening of an "
                f"hour to its extreme at half past, {_ETH_VOLS} times as much for ETH; their shape"
            ),
            f"forwards, {_CARRY:.0%} a year above the spot; marks, but for BTC's inverse perpetual",
            *_ALWAYS_SYNTHETIC,
        )
        expiries = [day + number * DAY_NS + 8 * HOUR_NS for number in _EXPIRY_DAYS]
        super().__init__(start, end, tick_ns, [expiries] * len(_NAMES), narrow=narrow)

    def _spot(self, place: int, now_ns: int) -> float:
        return float(self._prices[place][np.searchsorted(self._times[place], now_ns, side="right") - 1])

    def _is_news(self, place: int, before_ns: int, now_ns: int) -> bool:
        first, last = np.searchsorted(self._times[place], (before_ns, now_ns), side="right")
        return bool(first < last)

    def _smile(self, place: int, expiry_ns: int, now_ns: int) -> tuple[float, Slice]:
        years = (expiry_ns - now_ns) / YEAR_NS
        width = self._vols.at(now_ns) * (1.0, _ETH_VOLS)[place] * years**0.5
        forward = self._spot(place, now_ns) * float(np.exp(_CARRY * years))
        return forward, Slice(0.7 * width * width, 0.3 * width, -0.2, 0.0, width, years)

    def _mark(self, before_ns: int, now_ns: int) -> float | None:
        last = bisect_right(self._marks.times_ns, now_ns) - 1
        is_news = self._has_marks and last >= 0 and self._marks.times_ns[last] > before_ns
        return self._marks.values[last] if is_news else None


class QuotedDay(RecordedPath):
    """5 February 2026, about 18:30 UTC: between two snapshots BTC fell from 68,000 to 63,900."""

    def __init__(self, *, hours: float, seed: int, tick_ns: int, narrow: bool) -> None:
        """Read what was recorded, and fit its smiles.

        Raises
        ------
        WrongInputError : the file is not there, or is another; the message says which.
        """
        day = nanoseconds(datetime(2026, 2, 5, tzinfo=UTC))
        start, end = _window(day + 18 * HOUR_NS + HOUR_NS // 2, hours, day, day + 2 * DAY_NS)
        self._start_ns, self._tick_ns = start, tick_ns
        snapshots = read_snapshots(DATA / _CHAIN, start - 8 * HOUR_NS, end + 8 * HOUR_NS)
        self._index = [Track() for _ in _NAMES]
        self._basis: dict[tuple[int, int], Track] = {}
        self._slices: dict[tuple[int, int], SmileTrack] = {}
        calibration = Calibration()
        for snapshot in snapshots:
            place = _NAMES.index(snapshot.currency)
            self._index[place].add(snapshot.time_ns, snapshot.index)
            for report in calibration.step(snapshot.quotes).reports:
                key = place, report.expiry_ns
                self._basis.setdefault(key, Track()).add(snapshot.time_ns, report.forward / snapshot.index)
                if report.smile is not None:
                    self._slices.setdefault(key, SmileTrack()).add(snapshot.time_ns, report.smile)
        inside = sorted({it.time_ns for it in snapshots if start < it.time_ns < end})
        knots = [0, *sorted({(at - start) // tick_ns for at in inside}), (end - start) // tick_ns]
        self._bridges = [_bridge(knots, tick_ns, np.random.PCG64([seed, 6, place])) for place in range(len(_NAMES))]
        self.synthetic = (
            (
                f"everything but {len(inside)} snapshots: index, forwards and smiles go log-linearly from one to the "
                f"next, with a seeded bridge of {_BRIDGE_VOL:.0%} a year upon the index"
            ),
            "settlement prices, the interpolated index; marks of perpetuals, the index",
            *_ALWAYS_SYNTHETIC,
        )
        expiries = [
            sorted(at for (of, at), it in self._slices.items() if of == place and it.times_ns[0] <= start < at)
            for place in range(len(_NAMES))
        ]
        super().__init__(start, end, tick_ns, expiries, narrow=narrow)

    def _spot(self, place: int, now_ns: int) -> float:
        bridge = self._bridges[place]
        return self._index[place].at(now_ns) * float(bridge[(now_ns - self._start_ns) // self._tick_ns])

    def _is_news(self, place: int, before_ns: int, now_ns: int) -> bool:  # noqa: ARG002
        return True

    def _smile(self, place: int, expiry_ns: int, now_ns: int) -> tuple[float, Slice] | None:
        forward = self._spot(place, now_ns) * self._basis[place, expiry_ns].at(now_ns)
        found = self._slices[place, expiry_ns].at(now_ns, (expiry_ns - now_ns) / YEAR_NS, forward)
        return (forward, found) if isinstance(found, Slice) else None


RECORDED: Final[dict[str, type[TradedDay] | type[QuotedDay]]] = {"2025-10-10": TradedDay, "2026-02-05": QuotedDay}


def _window(middle_ns: int, hours: float, first_ns: int, last_ns: int) -> tuple[int, int]:
    """Return a stretch of so many hours about a time, as far as it lies between two others."""
    span = min(round(hours * HOUR_NS), last_ns - first_ns)
    start = min(max(middle_ns - span // 2, first_ns), last_ns - span)
    return start, start + span


def _vol_index(day_ns: int) -> Track:
    """Return the vol index about a day: its opening at each hour, and half an hour later what was farthest from it."""
    track = Track()
    columns = ("time", "dvol_open", "dvol_high", "dvol_low")
    for moment, opened, high, low in read_columns(DATA / _VOLS, columns).select(columns).sort("time").iter_rows():
        now_ns = nanoseconds(moment)
        if day_ns - HOUR_NS <= now_ns <= day_ns + DAY_NS + HOUR_NS:
            track.add(now_ns, opened / 100.0)
            track.add(now_ns + HOUR_NS // 2, (high if high - opened > opened - low else low) / 100.0)
    return track


def _bridge(knots: Sequence[int], tick_ns: int, bits: np.random.BitGenerator) -> Float64Array:
    """Return factors, one a tick, that are 1 at the knots and wander between them."""
    rng = np.random.Generator(bits)
    wandered = np.zeros(knots[-1] + 1)
    for first, last in pairwise(knots):
        count = last - first
        if count:
            steps = np.cumsum(rng.standard_normal(count)) * _BRIDGE_VOL * (tick_ns / YEAR_NS) ** 0.5
            wandered[first + 1 : last + 1] = steps - steps[-1] * np.arange(1, count + 1) / count
    factors: Float64Array = np.exp(wandered)
    return factors
