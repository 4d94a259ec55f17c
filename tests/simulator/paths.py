"""What the market does: seeded paths, one frame a tick.

1. A path is noise around a *course*: what spots, vols and the dollar coin do during the event in its middle. The event
   takes an hour, or the whole of a shorter path.
2. Every tick moves every spot; one smile of an underlying is refitted every three seconds, in turn, with its forward.
3. ``expiry`` spans the first expiry, which pays out in its middle; ``lone-jump`` needs the venue of fifty: one
   underlying jumps 5 % every tick, and nothing else moves.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from schemas.ledger import ForwardRecord, MarketRecord, PriceRecord, SettlementRecord, SviRecord
from tests.builders import SECOND_NS, TIME_NS
from tests.simulator.venue import HOUR_NS, YEAR_NS, Venue, fifty_underlyings, two_underlyings

Float64Array = npt.NDArray[np.float64]

_SOURCE: Final = "simulator"
_VOL_OF_VOL: Final = 0.8
_CARRY: Final = 0.04
_CONFIDENCE: Final = 1e-4
_REFIT_NS: Final = 3 * SECOND_NS
_REQUOTE_NS: Final = 60 * SECOND_NS
_JUMPER: Final = 7
_JUMP: Final = 0.05
_GAPS: Final = ((0.3, -0.04), (0.55, -0.05), (0.8, -0.04))
_FALL: Final = float(np.log(0.7))


def _nothing(_event: float) -> float:
    return 0.0


def _crash(event: float) -> float:
    gaps = sum(jump for place, jump in _GAPS if event >= place)
    return float((_FALL - sum(jump for _, jump in _GAPS)) * event + gaps)


def _depeg(event: float) -> float:
    return float(0.12 * np.sin(np.pi * event))


@dataclass(frozen=True, slots=True)
class Course:
    """What happens by progress of the event, 0 to 1.

    Attributes
    ----------
    venue : where. spot, vol : change of all log spots, and of all log implied vols, since the beginning.
    depeg : what the dollar coin is short of a dollar. spot_vol : annualised noise; event_vol : while the event lasts.
    """

    venue: Callable[..., Venue] = two_underlyings
    spot: Callable[[float], float] = _nothing
    vol: Callable[[float], float] = _nothing
    depeg: Callable[[float], float] = _nothing
    spot_vol: float = 0.6
    event_vol: float = 0.6
    lone: bool = False
    at_expiry: bool = False


COURSES: Final[dict[str, Course]] = {
    "calm": Course(),
    "crash": Course(spot=_crash, vol=lambda event: 0.65 * min(1.0, 1.5 * event), event_vol=1.5),
    "vol-doubling": Course(vol=lambda event: float(np.log(2.0)) * event),
    "vol-crush": Course(vol=lambda event: float(np.log(0.45)) if event >= 0.5 else 0.0),
    "depeg": Course(depeg=_depeg),
    "expiry": Course(at_expiry=True),
    "lone-jump": Course(venue=fifty_underlyings, lone=True),
}


class MarketPath(Protocol):
    """What happens to a market, tick after tick.

    Attributes
    ----------
    ticks : how many there are; tick_ns : from one to the next. start_ns : before the first.
    synthetic : what was not recorded, in sentences; empty where nothing was.
    """

    venue: Venue
    ticks: int
    tick_ns: int
    start_ns: int
    synthetic: tuple[str, ...]

    def opening(self) -> list[MarketRecord]:
        """Return the whole market, as it stands before the first tick."""

    def __iter__(self) -> Iterator[tuple[int, list[MarketRecord]]]:
        """Yield (time, records), tick after tick; once."""


class Path:
    """One path over a venue.

    Parameters
    ----------
    tick_ns : from one tick to the next.
    narrow : linear perpetuals and options are all that is listed.
    """

    synthetic: tuple[str, ...] = ()

    def __init__(self, name: str, *, hours: float, seed: int, tick_ns: int = SECOND_NS, narrow: bool = False) -> None:
        self.course = COURSES[name]
        self.venue = self.course.venue(narrow=narrow)
        self.ticks = max(1, round(hours * HOUR_NS / tick_ns))
        self.tick_ns = tick_ns
        span_ns = self.ticks * tick_ns
        middle_ns = self.venue.first_expiry_ns if self.course.at_expiry else TIME_NS + HOUR_NS + span_ns // 2
        self.start_ns = middle_ns - span_ns // 2
        event_ns = min(HOUR_NS, span_ns)
        self._event = middle_ns - event_ns // 2, event_ns
        self._rng = np.random.Generator(np.random.PCG64([seed, *name.encode()]))
        count = len(self.venue.underlyings)
        self._noise = np.zeros(count)
        self._vol_noise = np.zeros(count)
        self._smiles = [(place, expiry) for place in range(count) for expiry in self.venue.expiries(place)]
        self._next_smile = 0
        self._settled: set[tuple[int, int]] = set()

    def opening(self) -> list[MarketRecord]:
        """Return the whole market, as it stands before the first tick."""
        records = self._quotes(self.start_ns, range(len(self.venue.underlyings)))
        records.append(self._dollar(self.start_ns))
        for place, expiry in self._smiles:
            records += self._surface(self.start_ns, place, expiry)
        return records

    def __iter__(self) -> Iterator[tuple[int, list[MarketRecord]]]:
        """Yield (time, records), tick after tick; once."""
        for tick in range(1, self.ticks + 1):
            now = self.start_ns + tick * self.tick_ns
            yield now, self._lone(tick, now) if self.course.lone else self._tick(tick, now)

    def _tick(self, tick: int, now_ns: int) -> list[MarketRecord]:
        course = self.course
        count = self._noise.shape[0]
        years = self.tick_ns / YEAR_NS
        vol = course.event_vol if 0.0 < self._progress(now_ns) < 1.0 else course.spot_vol
        common, own = self._rng.standard_normal(), self._rng.standard_normal(count)
        self._noise += vol * np.sqrt(years) * (0.8 * common + 0.6 * own) - 0.5 * vol * vol * years
        self._vol_noise += _VOL_OF_VOL * np.sqrt(years) * self._rng.standard_normal(count)
        records = self._quotes(now_ns, range(count))
        if course.depeg is not _nothing or self._is_due(tick, _REQUOTE_NS):
            records.append(self._dollar(now_ns))
        records += self._settlements(now_ns)
        for _ in range(self._due_since_last(tick, _REFIT_NS)):
            place, expiry = self._smiles[self._next_smile]
            self._next_smile = (self._next_smile + 1) % len(self._smiles)
            if expiry > now_ns:
                records += self._surface(now_ns, place, expiry)
        return records

    def _lone(self, tick: int, now_ns: int) -> list[MarketRecord]:
        self._noise[_JUMPER] += _JUMP if self._noise[_JUMPER] <= 0.0 else -_JUMP
        records = self._quotes(now_ns, [_JUMPER])
        if self._is_due(tick, _REQUOTE_NS):
            # Told again, unchanged: a price that nobody tells grows too old.
            records = self._quotes(now_ns, range(self._noise.shape[0]))
            records.append(self._dollar(now_ns))
        if self._is_due(tick, HOUR_NS // 2):
            for place, expiry in self._smiles:
                records += self._surface(now_ns, place, expiry)
        return records

    def _is_due(self, tick: int, every_ns: int) -> bool:
        return self._due_since_last(tick, every_ns) > 0

    def _due_since_last(self, tick: int, every_ns: int) -> int:
        return tick * self.tick_ns // every_ns - (tick - 1) * self.tick_ns // every_ns

    def _progress(self, now_ns: int) -> float:
        begin_ns, length_ns = self._event
        return min(max((now_ns - begin_ns) / length_ns, 0.0), 1.0)

    def _spots(self, now_ns: int) -> Float64Array:
        spots: Float64Array = self.venue.spot * np.exp(self._noise + self.course.spot(self._progress(now_ns)))
        return spots

    def _quotes(self, now_ns: int, places: "range | list[int]") -> list[MarketRecord]:
        spots = self._spots(now_ns)
        names = self.venue.underlyings
        return [
            PriceRecord(f"{names[place]}/USD", _SOURCE, float(spots[place]), float(spots[place]) * _CONFIDENCE, now_ns)
            for place in places
        ]

    def _dollar(self, now_ns: int) -> PriceRecord:
        short = self.course.depeg(self._progress(now_ns))
        noise = 1e-4 * self._rng.standard_normal() * (short > 0.0)
        return PriceRecord("USDC/USD", _SOURCE, 1.0 - short + noise, _CONFIDENCE + 0.05 * short, now_ns)

    def _surface(self, now_ns: int, place: int, expiry: int) -> list[MarketRecord]:
        """Return forward and smile: at the money the vol is 60 % times what course and noise make of it."""
        years = (expiry - now_ns) / YEAR_NS
        spot = float(self._spots(now_ns)[place])
        basis = 2e-5 * self._rng.standard_normal()
        forward = spot * float(np.exp(_CARRY * years + basis))
        log_vol = self.course.vol(self._progress(now_ns)) + self._vol_noise[place] + 0.002 * self._rng.standard_normal()
        total = (0.6 * float(np.exp(log_vol))) ** 2 * years
        width = float(np.sqrt(total))
        name = self.venue.underlyings[place]
        return [
            ForwardRecord(name, expiry, _SOURCE, forward, now_ns),
            SviRecord(
                name, expiry, _SOURCE, 0.7 * total, 0.3 * width, -0.2, 0.0, width, forward, years, now_ns,
            ),
        ]  # fmt: skip

    def _settlements(self, now_ns: int) -> list[MarketRecord]:
        due = [smile for smile in self._smiles if smile[1] <= now_ns and smile not in self._settled]
        self._settled.update(due)
        spots = self._spots(now_ns)
        names = self.venue.underlyings
        return [SettlementRecord(names[place], expiry, f"{spots[place]:.2f}") for place, expiry in due]
