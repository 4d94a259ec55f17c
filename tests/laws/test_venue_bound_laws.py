"""Bounds of health under the venues' standard models: attacked, and found out where they are wrong.

1. Wherever the market stands within the ranges, health keeps to its bounds; for everyone there is one.
2. Controls: without one end of one range, or without one term, the attack finds accounts outside. A term that no attack
   misses would not be tested by law 1.
3. Bounds are near what can truly happen: bounds far away would let nothing rest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.margin.deribit_standard_book import MODEL as DERIBIT_STANDARD
from flows.margin.dydx_book import MODEL as DYDX
from flows.margin.model import MarginModel, OpenOrders, PositionColumns
from flows.market.columns import InstrumentColumns
from flows.market.instant import Instant
from flows.pricing.kinds import FUTURE
from flows.screening import deribit_standard, dydx
from flows.screening.position_bounds import NEED, OF_MAINTENANCE, ROWS, SHORT, SPREAD, SQUARE, UPWARD, WORTH
from flows.screening.ranges import HIGH, LOW, Accounts, Boundaries, HealthBounds, OpensBounds, Ranges
from schemas.events import InstrumentListed
from schemas.parameters import DeribitFutureRates, DydxParameters
from tests.laws.attack import Bands, Findings, Float64Array, Int64Array, Scene, attack, boundaries, opened
from tests.laws.worlds import INVERSE as PAID_IN_COINS
from tests.laws.worlds import SPOT, Listing, Setting, a_world, futures, linear_venue, options, perpetuals


def _coin_venue() -> list[InstrumentListed]:
    return [*perpetuals(**PAID_IN_COINS), *futures(**PAID_IN_COINS), *options(**PAID_IN_COINS, tick_size="0.0005")]


def _both() -> list[InstrumentListed]:
    coins = [
        msgspec.structs.replace(it, instrument=f"{it.instrument}-COIN") for it in _coin_venue()
    ]  # fmt: skip
    return [*linear_venue(), *coins]


def _deep_puts() -> list[InstrumentListed]:
    """Return puts that are worth more than their underlying, in dollars and in coins."""
    return [
        msgspec.structs.replace(it, strike=str(round(2.4 * SPOT[it.underlying])))
        for it in _both()
        if it.kind == "option" and it.option_type == "put" and "-1P" in it.instrument
    ]


@dataclass(frozen=True)
class _Case:
    """A model on a venue, with parameters by which every term of it binds for somebody."""

    model: MarginModel
    opens: OpensBounds
    listing: Listing
    parameters: Mapping[str, Any]

    def setting(self) -> Setting:
        return Setting(
            self.model, listing=self.listing, parameters={self.model.name: self.parameters}, orders=0.2
        )  # fmt: skip


_STEEP: Final = {"default_futures": {"slope_per_coin": 0.2}, "futures": {}}
CASES: Final = {
    "deribit-standard in dollars": _Case(DERIBIT_STANDARD, deribit_standard.open_bounds, linear_venue, _STEEP),
    "deribit-standard in coins": _Case(DERIBIT_STANDARD, deribit_standard.open_bounds, _coin_venue, _STEEP),
    "deribit-standard in both": _Case(DERIBIT_STANDARD, deribit_standard.open_bounds, _both, {}),
    "deribit-standard, deep puts": _Case(
        DERIBIT_STANDARD, deribit_standard.open_bounds, _deep_puts,
        {"option_initial": 0.5, "option_initial_min": 0.4, "option_maintenance": 0.4},
    ),
    "dydx-v4": _Case(DYDX, dydx.open_bounds, perpetuals, {}),
}  # fmt: skip


@dataclass
class _Blind:
    """Bounds that are told ranges with something left out, and whose tables are tampered with."""

    inner: HealthBounds
    sees: Callable[[Ranges], Ranges]
    tampers: Callable[[Any], None]

    def write(self, ranges: Ranges, members: Int64Array) -> None:
        """Write what is seen."""
        self.inner.write(self.sees(ranges), members)

    def slack(self, ranges: Ranges, accounts: Accounts, boundaries: Boundaries, rows: Int64Array) -> Float64Array:
        """Return what is left by what is seen."""
        self.tampers(self.inner)
        self.tampers = _nothing
        return self.inner.slack(self.sees(ranges), accounts, boundaries, rows)


def _nothing(_: Any) -> None:
    pass


def _all(ranges: Ranges) -> Ranges:
    return ranges


def _found(
    case: _Case,
    bands: Bands,
    seed: int,
    sees: Callable[[Ranges], Ranges] = _all,
    tampers: Callable[[Any], None] = _nothing,
) -> Findings:
    scene = Scene(a_world(case.setting(), seed), bands)
    return attack(scene, opened(scene, lambda *of: _Blind(case.opens(*of), sees, tampers)), seed=seed, points=24)


@cache
def _holds(name: str, bands: Bands) -> bool:
    return not any(_found(CASES[name], bands, seed).violations for seed in range(2))


def _is_found_out(name: str, bands: Bands, **wrong: Any) -> bool:
    """Whether one of a few worlds shows that something is wrong, and none does where nothing is."""
    assert _holds(name, bands)
    return any(_found(CASES[name], bands, seed, **wrong).violations for seed in range(6))


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=5)
@given(
    st.integers(0, 2**32), st.sampled_from([0.0001, 0.0016, 0.0064, 0.0256, 0.1]), st.sampled_from([0.1, 1.0, 5.0]),
    st.sampled_from([0.0, 0.2]),
)  # fmt: skip
def test_health_keeps_to_its_bounds(name: str, seed: int, width: float, vol: float, tie: float) -> None:
    """Law 1: an account outside would be a decision missed."""
    findings = _found(CASES[name], Bands(width, vol=vol, tie=tie, rate=vol), seed)

    assert findings.violations == []
    assert findings.bounded == 1.0


@pytest.mark.parametrize("name", CASES)
def test_bounds_are_near_what_happens(name: str) -> None:
    """Law 3: for half of the accounts, four fifths of what may be lost by the bound are truly lost somewhere."""
    tightness = np.concatenate([_found(CASES[name], Bands(0.0064, tie=0.1), seed).tightness for seed in range(4)])

    assert np.median(tightness) > 0.8


def _without(field: str, end: int) -> Callable[[Ranges], Ranges]:
    """Return ranges in which one end is where the other is."""

    def sees(ranges: Ranges) -> Ranges:
        pair = getattr(ranges, field)
        return replace(ranges, **{field: np.stack([pair[1 - end], pair[1 - end]])})

    return sees


_WIDE: Final = {
    "vol": Bands(0.0016, vol=100.0),
    "rate": Bands(0.0016, rate=100.0),
    "time": Bands(0.0001, seconds=7200.0),
}
_RANGES: Final = {
    "deribit-standard in dollars": ("spot", "ratio", "vol", "rate", "time", "price", "haircut"),
    "deribit-standard in coins": ("spot", "ratio", "vol", "time", "price", "tie", "haircut"),
    "dydx-v4": ("spot", "ratio", "price", "haircut"),
}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in _RANGES.items() for field in fields])
@pytest.mark.parametrize("end", [LOW, HIGH])
def test_an_end_of_a_range_that_is_left_out_is_found_out(name: str, field: str, end: int) -> None:
    """Control 2: every range counts, at both ends."""
    bands = _WIDE.get(field, Bands(0.0064, ratio=1.0, tie=1.0, haircut=2.0))

    assert _is_found_out(name, bands, sees=_without(field, end))


def _lanes(first: int, factor: float) -> Callable[[Any], None]:
    def tampers(bounds: Any) -> None:
        bounds._table[:, first : first + 2] *= factor

    return tampers


def _swapped(first: int) -> Callable[[Any], None]:
    def tampers(bounds: Any) -> None:
        bounds._table[:, first : first + 2] = bounds._table[:, [first + 1, first]]

    return tampers


_TERMS: Final = {
    "worth": _lanes(WORTH, 0.0),
    "worth, turned round": _lanes(WORTH, -1.0),
    "worth, at the other end": _swapped(WORTH),
    "need": _lanes(NEED, 0.0),
    "need, turned round": _lanes(NEED, -1.0),
    "need, at the other end": _swapped(NEED),
    "size": _lanes(SQUARE, 0.0),
    "size, turned round": _lanes(SQUARE, -1.0),
    "spread": _lanes(SPREAD, 0.0),
    "spread, turned round": _lanes(SPREAD, -1.0),
}


_HAVE_NO: Final = {"dydx-v4": ("size", "spread")}


@pytest.mark.parametrize(
    ("name", "term"),
    [
        (name, term)
        for name in ("deribit-standard in dollars", "deribit-standard in coins", "dydx-v4")
        for term in _TERMS
        if not term.startswith(_HAVE_NO.get(name, ()))
    ],
)
def test_a_term_that_is_left_out_is_found_out(name: str, term: str) -> None:
    """Control 2: every term counts, and which way."""
    assert _is_found_out(name, Bands(0.0064), tampers=_TERMS[term])


_RATES: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "deribit-standard in dollars": {
        "the floor": {"option_initial_min": 0.075},
        "what is out of the money": {"option_initial": 0.10},
        "maintenance": {"option_maintenance": 0.0},
        "futures": {"default_futures": DeribitFutureRates(initial=0.0, maintenance=0.0, slope_per_coin=0.2)},
    },
    "deribit-standard, deep puts": {"maintenance": {"option_maintenance": 0.0}},
    "dydx-v4": {"the tier": {"default_tier": "fx", "tier_of": {}}},
}


@pytest.mark.parametrize(("name", "left_out"), [(name, it) for name, rates in _RATES.items() for it in rates])
def test_a_rate_that_is_left_out_is_found_out(name: str, left_out: str) -> None:
    """Control 2: every rate binds for somebody."""

    def opens(columns: InstrumentColumns, parameters: Any, instant: Instant) -> HealthBounds:
        changed = parameters.model_copy(update=_RATES[name][left_out])
        return CASES[name].opens(columns, changed, instant)

    assert _holds(name, Bands(0.0064))
    scenes = [Scene(a_world(CASES[name].setting(), seed), Bands(0.0064)) for seed in range(3)]
    assert any(attack(scene, opened(scene, opens), seed=1, points=24).violations for scene in scenes)


def test_a_deep_put_needs_a_share_of_its_mark() -> None:
    """Control 2: by the spot alone, a put that is worth more than that would be thought to need less."""

    def by_the_spot_alone(bounds: Any) -> None:
        columns = bounds._columns
        for direction in (0, UPWARD):
            for i in range(columns.count):
                row = bounds._table[ROWS * i + SHORT + OF_MAINTENANCE + direction]
                sign = 1.0 if direction == UPWARD else -1.0
                row[NEED : NEED + 2] = sign * columns.quantity[i] * 0.4 * columns.spot[columns.underlying[i]]

    assert _is_found_out("deribit-standard, deep puts", Bands(0.0001), tampers=by_the_spot_alone)


def _instruments(columns: PositionColumns | OpenOrders | None, row: int) -> set[int]:
    assert columns is not None
    start = columns.offset[row]
    return {int(i) for i in columns.instrument[start : start + columns.count[row]]}


def _slack_between(scene: Scene, opens: OpensBounds) -> Float64Array:
    rows = scene.world.risk.book.customer_rows
    between = boundaries(scene.health_at(scene.here, rows))["between"]
    return opened(scene, opens).slack(scene.ranges, scene.accounts(), between, rows)


def test_who_holds_what_is_not_known_has_no_bound() -> None:
    """Where an instrument has no box, those who hold it, or may yet buy or sell it, have no bound; all others do."""
    case = CASES["deribit-standard in dollars"]
    scene = Scene(a_world(case.setting(), 1), Bands(0.0064))
    scene.ranges.known[:5] = False
    book = scene.world.risk.book

    slack = _slack_between(scene, case.opens)

    unknown = np.array(
        [
            bool((_instruments(book.positions, row) | _instruments(book.open_orders, row)) & set(range(5)))
            for row in book.customer_rows
        ]
    )
    assert unknown.any()
    assert (slack[unknown] == -np.inf).all()
    assert np.isfinite(slack[~unknown]).all()


def test_dydx_bounds_perpetuals_alone() -> None:
    """Who holds anything else has no finite margin, and no bound."""

    def listing() -> list[InstrumentListed]:
        return [*perpetuals(), *futures()[:1]]

    def opens(columns: InstrumentColumns, parameters: Any, instant: Instant) -> HealthBounds:
        return dydx.open_bounds(columns, DydxParameters(), instant)

    scene = Scene(a_world(Setting(DERIBIT_STANDARD, listing=listing), 1), Bands(0.0064))
    book = scene.world.risk.book
    future = int(np.flatnonzero(scene.columns.kind == FUTURE)[0])

    slack = _slack_between(scene, opens)

    holds = np.array([future in _instruments(book.positions, row) for row in book.customer_rows])
    assert 0 < holds.sum() < holds.shape[0]
    assert (slack[holds] == -np.inf).all()
    assert np.isfinite(slack[~holds]).all()
