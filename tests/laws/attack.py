"""Bounds of health, attacked: wherever the market stands within the ranges, health keeps to them.

1. The judge is the engine itself: its columns are moved to a point, priced, and margined anew. What is bounded is what
   would have been computed; nothing of it is written here a second time.
2. A point has one number between 0 and 1 for each range: spot, confidence and time by underlying; ratio, vol and rate
   by instrument, all apart; price, haircut and confidence by asset. Only what the market itself ties goes together: an
   asset that is an underlying's spot has its price, times the tie where something inverse settles in it.
3. Points are corners, ends and random ones of all ranges at once; then, for some accounts, a search of their own: one
   coordinate at a time, and all of one kind together, towards the smallest distance between health and bound.
4. Boundaries lie at multiples near to and far from where accounts stand, of both margins, and on both sides.

``attack`` says what it found, and how tight the bounds are where it searched.
"""

import copy
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from flows.market.columns import (
    FORWARD_RATIO,
    FORWARD_STATE,
    FRESH,
    IMPLIED_VOL,
    NEVER_EXPIRES,
    RATE,
    VENUE_MARK,
)
from flows.market.instant import Instant
from flows.market.valuation import YEAR_NS, price
from flows.pricing.kinds import OPTION, SPOT
from flows.risk.evaluation import evaluate
from flows.screening.ranges import (
    HIGH,
    INITIAL,
    LOW,
    MAINTENANCE,
    NO_BOUNDARY,
    Accounts,
    Boundaries,
    HealthBounds,
    OpensBounds,
    Ranges,
)
from tests.laws.worlds import World

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BELOW: Final = 0
ABOVE: Final = 1
_MARK_BAND: Final = 0.1
_NOTHING: Final = 1e-3


@dataclass(frozen=True)
class Bands:
    """How far everything moves either way, for a width of the spot; of what is not a ratio, in its own unit."""

    width: float
    ratio: float = 0.25
    vol: float = 1.5
    rate: float = 0.1
    confidence: float = 0.1
    tie: float = 0.0
    price: float = 1.0
    haircut: float = 0.25
    seconds: float = 1_800.0


@dataclass(frozen=True)
class Violation:
    """Health outside its bound: ``exact`` at the point is below ``bound``. ``where`` says which boundary."""

    row: int
    where: str
    bound: float
    exact: float
    point: Float64Array


@dataclass(frozen=True)
class Findings:
    """What an attack found.

    ``tightness`` : of every search, what was truly lost over what the bound says may be lost, at most 1.
    ``bounded`` : the share of (account, boundary) that has a bound at all. ``evaluations`` : points tried.
    """

    violations: list[Violation]
    tightness: Float64Array
    bounded: float
    evaluations: int


class Scene:
    """A world, the ranges about it, and the market at any point of them.

    Attributes
    ----------
    ranges : about the market as it is. end_ns, begin_ns : (U,). size : how many coordinates a point has.
    places : by kind of coordinate, where they stand in a point. here : the point at which the market stands.
    """

    def __init__(self, world: World, bands: Bands) -> None:
        self.world = world
        market = world.risk.market
        self.columns = copy.deepcopy(market.columns)
        self.columns._expose()
        self._model = world.setting.model
        self._parameters = market.parameters(self._model.name)
        columns = self.columns
        underlyings, instruments, assets = len(columns.underlyings), columns.count, columns.assets.price.shape[0]
        self.option = columns.kind == OPTION
        self.linear = ~self.option & (columns.kind != SPOT)
        self.dated = columns.expiry_ns != NEVER_EXPIRES
        self.begin_ns = columns.priced_at_ns.copy()
        self.end_ns = self.begin_ns + round(bands.seconds * 1e9)
        for u in range(underlyings):
            to_come = columns.expiry_ns[(columns.underlying == u) & (columns.expiry_ns > self.begin_ns[u])]
            self.end_ns[u] = min(self.end_ns[u], int(to_come.min(initial=2**62)) - 1)
        self.inverse_in = np.full(assets, -1)
        for i in np.flatnonzero(columns.inverse != 0):
            self.inverse_in[columns.settlement_asset[i]] = columns.underlying[i]
        self.spot_of = np.where(columns.assets.underlying >= 0, columns.assets.underlying, self.inverse_in)
        self.ranges = self._ranges(bands)
        ends = {
            "spot": self.ranges.spot, "confidence": self.ranges.confidence,
            "time": np.array([[0.0], [1.0]]) * np.ones(underlyings), "ratio": self.ranges.ratio,
            "vol": self.ranges.vol, "rate": self.ranges.rate, "tie": self._ties(bands), "price": self.ranges.price,
            "haircut": self.ranges.haircut, "doubt": self.ranges.asset_confidence,
        }  # fmt: skip
        self.places: dict[str, Int64Array] = {}
        self.size = 0
        for name, pair in ends.items():
            self.places[name] = np.arange(self.size, self.size + pair.shape[1])
            self.size += pair.shape[1]
        assert self.size == 4 * assets + 3 * underlyings + 3 * instruments
        self._ends = np.concatenate(list(ends.values()), axis=1).astype(np.float64)
        self.here = self._share_of_now()

    def _ranges(self, bands: Bands) -> Ranges:
        columns, instant, w = self.columns, self.world.instant, bands.width
        underlyings, instruments, assets = len(columns.underlyings), columns.count, columns.assets.price.shape[0]
        ranges = Ranges.of(underlyings, instruments, assets)

        def spread(of: Float64Array, values: Float64Array, band: float) -> None:
            of[LOW], of[HIGH] = values / (1.0 + band * w), values * (1.0 + band * w)

        def shift(of: Float64Array, values: Float64Array, band: float, *, least: float = 0.0) -> None:
            of[LOW], of[HIGH] = np.maximum(values - band * w, least), values + band * w

        index = columns.spot[columns.underlying]
        spread(ranges.spot, columns.spot, 1.0)
        shift(ranges.confidence, columns.confidence, bands.confidence)
        spread(ranges.ratio, np.where(self.option, columns.forward, columns.mark_price) / index, bands.ratio)
        spread(ranges.vol, columns.implied_vol, bands.vol)
        shift(ranges.rate, columns.rate, bands.rate, least=-np.inf)
        spread(ranges.tie, np.ones(instruments), bands.tie)
        spread(ranges.price, columns.assets.price, bands.price)
        shift(ranges.haircut, instant.haircut, bands.haircut)
        shift(ranges.asset_confidence, columns.assets.confidence, bands.confidence)
        for place, at_ns in ((LOW, self.end_ns), (HIGH, self.begin_ns)):
            years = np.maximum((columns.expiry_ns - at_ns[columns.underlying]) / YEAR_NS, 0.0)
            ranges.time[place] = np.where(self.dated, years, 0.0)
        tied = np.flatnonzero(self.spot_of >= 0)
        ranges.price[:, tied] = ranges.spot[:, self.spot_of[tied]] * self._ties(bands)[:, tied]
        ranges.known[:] = (columns.decidable != 0) & (columns.settled == 0)
        ranges.asset_known[:] = instant.asset_decidable
        return ranges

    def _ties(self, bands: Bands) -> Float64Array:
        """Return (2, A), by what an asset's price may differ from the spot that it is tied to."""
        far: Float64Array = np.where(self.inverse_in >= 0, 1.0 + bands.tie * bands.width, 1.0)
        return np.array([1.0 / far, far])

    def _share_of_now(self) -> Float64Array:
        columns, instant = self.columns, self.world.instant
        index = columns.spot[columns.underlying]
        ratio = np.where(self.option, columns.forward, columns.mark_price) / index
        now = np.concatenate(
            [
                columns.spot, columns.confidence, np.zeros(self.begin_ns.shape[0]), ratio, columns.implied_vol,
                columns.rate, np.ones(self.inverse_in.shape[0]), columns.assets.price, instant.haircut,
                columns.assets.confidence,
            ]
        )  # fmt: skip
        width = self._ends[HIGH] - self._ends[LOW]
        share = np.divide(now - self._ends[LOW], width, out=np.zeros(self.size), where=width > 0.0)
        here: Float64Array = np.clip(share, 0.0, 1.0)
        return here

    def market_at(self, point: Float64Array) -> Instant:
        """Return the instant at a point; the columns are overwritten by the next."""
        columns, instant = self.columns, self.world.instant
        low, high = self._ends
        at = np.clip(low + point * (high - low), low, high)
        value = {name: at[places] for name, places in self.places.items()}
        tied = self.spot_of >= 0
        asset_price = np.where(tied, value["spot"][self.spot_of] * value["tie"], value["price"])
        asset_price = np.clip(asset_price, self.ranges.price[LOW], self.ranges.price[HIGH])
        columns.spot[:] = value["spot"]
        columns.confidence[:] = value["confidence"]
        columns.reals[FORWARD_RATIO, : columns.count] = np.where(self.dated, value["ratio"], columns.forward_ratio)
        columns.codes[FORWARD_STATE, : columns.count][self.dated] = FRESH
        mark = value["ratio"] * value["spot"][columns.underlying]
        columns.reals[VENUE_MARK, : columns.count] = np.where(self.linear, mark, np.nan)
        columns.reals[IMPLIED_VOL, : columns.count] = value["vol"]
        columns.reals[RATE, : columns.count] = value["rate"]
        columns.assets = replace(columns.assets, price=asset_price, confidence=value["doubt"])
        for u in range(len(columns.underlyings)):
            passed = round((int(self.end_ns[u]) - int(self.begin_ns[u])) * float(point[self.places["time"][u]]))
            price(
                np.flatnonzero(columns.underlying == u), int(self.begin_ns[u]) + passed, _MARK_BAND, columns.reals,
                columns.codes, columns.greeks, columns.expiry_ns, columns.underlying, columns.settlement_asset,
                columns.spot, columns.spot_state, asset_price, columns.assets.decidable,
            )  # fmt: skip
        return replace(
            instant,
            value=columns.value,
            notional=columns.notional,
            asset_price=asset_price,
            haircut=value["haircut"],
            margin_tables=instant.margin_tables | {self._model.name: self._model.tables(columns, self._parameters)},
        )

    def health_at(self, point: Float64Array, rows: Int64Array) -> Float64Array:
        """Return equity, initial and maintenance margin at a point, (3, n)."""
        seen = evaluate(self.world.risk.book, self.market_at(point), rows, self.world.risk.models)
        assert not seen.undecidable.any(), "an account became undecidable within the ranges"
        return np.array([seen.equity, seen.initial_margin, seen.maintenance_margin])

    def accounts(self) -> Accounts:
        """Return the book as bounds read it."""
        book = self.world.risk.book
        return Accounts(cash=book.cash, positions=book.positions, isolated=book.isolated, open_orders=book.open_orders)

    def concerns(self, row: int) -> list[Int64Array]:
        """Return the coordinates, and groups of them, by which an account's health may move."""
        positions, columns, places = self.world.risk.book.positions, self.columns, self.places
        start = int(positions.offset[row])
        held = positions.instrument[start : start + int(positions.count[row])].astype(np.int64)
        related = np.unique(columns.underlying[held])
        members = np.flatnonzero(np.isin(columns.underlying, related))
        groups = [places[kind][[u]] for kind in ("spot", "time", "confidence") for u in related]
        groups += [places[kind][[i]] for kind in ("ratio", "vol", "rate") for i in held]
        groups += [places[kind][members] for kind in ("ratio", "vol", "rate")]
        groups += [places[kind][[a]] for kind in ("tie", "price", "haircut", "doubt") for a in range(len(self.spot_of))]
        return [group for group in groups if (self._ends[HIGH, group] > self._ends[LOW, group]).any() or len(group) > 1]


def opened(scene: Scene, opens: OpensBounds) -> HealthBounds:
    """Return bounds over the scene's ranges, written underlying by underlying."""
    market = scene.world.risk.market
    columns = market.columns
    bounds = opens(columns, market.parameters(scene.world.setting.model.name), scene.world.instant)
    for u in range(len(columns.underlyings)):
        bounds.write(scene.ranges, np.flatnonzero(columns.underlying == u))
    return bounds


def boundaries(now: Float64Array) -> dict[str, Boundaries]:
    """Return boundaries near to and far from where n accounts stand; ``now`` as of ``health_at``."""
    n = now.shape[1]
    out: dict[str, Boundaries] = {}
    for name, of in (("initial", INITIAL), ("maintenance", MAINTENANCE)):
        stands = now[0] / np.maximum(now[of], _NOTHING)
        for multiple in (0.0, 2.0 / 3.0, 1.0, 1.2):
            out[f"{multiple:.2f} of {name}"] = _both(of, np.full(n, multiple), np.full(n, multiple))
        out[f"near, of {name}"] = _both(of, np.clip(0.98 * stands, 0.0, 5.0), np.clip(1.02 * stands, 0.0, 5.0))
    initial, maintenance = np.full(n, INITIAL, np.int8), np.full(n, MAINTENANCE, np.int8)
    out["between"] = Boundaries(maintenance, np.ones(n), initial, np.full(n, 1.2))
    out["none below"] = Boundaries(np.full(n, NO_BOUNDARY, np.int8), np.zeros(n), maintenance, np.ones(n))
    out["none above"] = Boundaries(initial, np.full(n, 1.2), np.full(n, NO_BOUNDARY, np.int8), np.zeros(n))
    return out


def _both(of: int, below: Float64Array, above: Float64Array) -> Boundaries:
    which = np.full(below.shape[0], of, np.int8)
    return Boundaries(which, below, which, above)


def distances(health: Float64Array, of: Boundaries) -> Float64Array:
    """Return (n, 2): how far accounts are from the boundaries below and above; infinity where there is none."""
    out = np.full((health.shape[1], 2), np.inf)
    for side, which, multiple, sign in (
        (BELOW, of.below_of, of.below, 1.0),
        (ABOVE, of.above_of, of.above, -1.0),
    ):
        margin = np.where(which == INITIAL, health[1], health[2])
        out[:, side] = np.where(which == NO_BOUNDARY, np.inf, sign * (health[0] - multiple * margin))
    return out


def attack(
    scene: Scene, bounds: HealthBounds, *, seed: int, points: int = 40, searches: int = 6, sweeps: int = 2
) -> Findings:
    """Attack the bounds; ``searches`` are of accounts, half of them the most promising, half at random."""
    rng = np.random.default_rng(seed)
    rows = scene.world.risk.book.customer_rows
    now = scene.health_at(scene.here, rows)
    named = boundaries(now)
    slack = np.array([bounds.slack(scene.ranges, scene.accounts(), of, rows) for of in named.values()])
    _says_where_no_boundary_is(slack, named)
    tried = [scene.here, *_points(scene, points, rng)]
    # (P, B, n, 2): a bound is wrong where one of these is below it.
    healths = [scene.health_at(at, rows) for at in tried]
    found = np.array([[distances(health, of) for of in named.values()] for health in healths])
    least, at = found.min(axis=0), found.argmin(axis=0)
    violations = [
        Violation(int(rows[n]), _where(named, b, side), slack[b, n, side], least[b, n, side], tried[at[b, n, side]])
        for b, n, side in np.argwhere(least < slack)
    ]
    sides = np.isfinite(found[0])
    bounded = sides & np.isfinite(slack)
    tightness: list[float] = []
    evaluations = len(tried)
    for b, n, side in _targets(found[0], least, slack, bounded, searches, rng):
        of = list(named.values())[b]
        its = Boundaries(of.below_of[[n]], of.below[[n]], of.above_of[[n]], of.above[[n]])
        worst, point, steps = _search(scene, int(rows[n]), its, side, tried[at[b, n, side]], sweeps)
        evaluations += steps
        if worst < slack[b, n, side]:
            violations.append(Violation(int(rows[n]), _where(named, b, side), slack[b, n, side], worst, point))
        feared = found[0, b, n, side] - slack[b, n, side]
        if feared > _NOTHING:
            tightness.append((found[0, b, n, side] - worst) / feared)
    return Findings(violations, np.array(tightness), float(bounded.sum() / sides.sum()), evaluations)


def _says_where_no_boundary_is(slack: Float64Array, named: dict[str, Boundaries]) -> None:
    assert not np.isnan(slack).any()
    for b, of in enumerate(named.values()):
        for side, which in ((BELOW, of.below_of), (ABOVE, of.above_of)):
            found = slack[b, :, side]
            assert (found[which != NO_BOUNDARY] < np.inf).all(), "a boundary without a bound"
            assert np.isinf(found[which == NO_BOUNDARY]).all(), "a bound without a boundary"


def _points(scene: Scene, points: int, rng: np.random.Generator) -> list[Float64Array]:
    """Return corners, corners with everything of a kind at one end, and points inside."""
    out = [np.zeros(scene.size), np.ones(scene.size)]
    for place in range(points):
        if place % 3 == 2:
            out.append(rng.random(scene.size))
            continue
        point = rng.integers(0, 2, scene.size).astype(np.float64)
        if place % 3 == 1:
            for places in scene.places.values():
                point[places] = rng.integers(0, 2)
        out.append(point)
    return out


def _where(named: dict[str, Boundaries], b: int, side: int) -> str:
    return f"{list(named)[b]}, {'above' if side == ABOVE else 'below'}"


def _targets(
    now: Float64Array,
    least: Float64Array,
    slack: Float64Array,
    bounded: BoolArray,
    searches: int,
    rng: np.random.Generator,
) -> list[tuple[int, int, int]]:
    """Return (boundary, account, side) to search: where most of the bound is used up already, and some others."""
    used = np.full(now.shape, -np.inf)
    used[bounded] = (now[bounded] - least[bounded]) / np.maximum(now[bounded] - slack[bounded], 1e-9)
    order = np.argsort(used, axis=None)[::-1]
    known = int(bounded.sum())
    promising = order[: min(searches // 2, known)]
    rest = order[promising.shape[0] : known]
    others = rng.choice(rest, min(searches - promising.shape[0], rest.shape[0]), replace=False)
    shape = now.shape
    return [
        (int(b), int(n), int(side))
        for b, n, side in (np.unravel_index(flat, shape) for flat in np.concatenate([promising, others]))
    ]


def _search(
    scene: Scene, row: int, its: Boundaries, side: int, start: Float64Array, sweeps: int
) -> tuple[float, Float64Array, int]:
    """Return the least distance found for one account, where, and in how many steps: downhill by coordinates."""
    rows = np.array([row])

    def distance(point: Float64Array) -> float:
        return float(distances(scene.health_at(point, rows), its)[0, side])

    point, worst, steps = start.copy(), distance(start), 1
    for reach in (0.5, 0.1, 0.02)[:sweeps]:
        for group in scene.concerns(row):
            stands = float(point[group[0]])
            for share in (0.0, 1.0, max(stands - reach, 0.0), min(stands + reach, 1.0)):
                if (point[group] == share).all():
                    continue
                moved = point.copy()
                moved[group] = share
                found = distance(moved)
                steps += 1
                if found < worst:
                    worst, point = found, moved
    return worst, point, steps
