"""Laws of the boxes, attacked: wherever the market stands within an account's boxes, it keeps its tier.

1. The judge is the engine itself: the market's columns are moved to a point of the boxes, priced and margined anew.
2. Points are corners, ends, and random ones, of every box of a level at once; vols, ratios and marks of different
   instruments move apart.
3. Parameters are chosen so that every term binds for somebody: offsets, size, confidence, haircuts.
4. Controls: with a term of the bound left out, the same attack finds somebody whose tier changes.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from flows.intake.decode import Stream, decode_lines
from flows.intake.ledger import Intake
from flows.liquidation.ladder import tiers
from flows.margin.registry import margin_models
from flows.market.columns import FORWARD_RATIO, FORWARD_STATE, FRESH, IMPLIED_VOL, RATE, VENUE_MARK, Float64Array
from flows.market.instant import Instant
from flows.market.step import Market
from flows.market.valuation import price
from flows.pricing.kinds import OPTION, SPOT
from flows.risk.book import Book
from flows.risk.evaluation import evaluate
from flows.risk.step import Risk
from flows.screening import boxes
from flows.screening.boxes import BoxScreen
from flows.screening.portfolio_bounds import PortfolioBounds
from flows.screening.ranges import Ranges
from flows.screening.standard_bounds import StandardBounds
from flows.screening.standing import SLOTS, WIDTHS
from schemas.events import Event
from schemas.ledger import Genesis, decode_frame
from schemas.results import Tier
from tests.builders import (
    DAY_NS,
    SECOND_NS,
    TIME_NS,
    a_fill,
    a_forward,
    a_future,
    a_parameters_change,
    a_perpetual,
    a_price,
    a_rate,
    a_smile,
    a_transfer,
    an_account,
    an_asset,
    an_option,
)

ACCOUNTS = 240
SPOT_PRICE = {"BTC": 50_000.0, "ETH": 2_500.0}
EXPIRIES = (TIME_NS + 2 * 3_600 * SECOND_NS, TIME_NS + 9 * DAY_NS, TIME_NS + 45 * DAY_NS)
OFFSETS = {"underlyings": ["BTC", "ETH"], "correlation": 0.9, "stress": 0.1}
TERMS: dict[str, dict[str, Any]] = {
    "tidegate-portfolio": {
        "offset_groups": [OFFSETS], "market_depth": {"BTC": 20_000.0}, "confidence_multiple": 2.0,
        "linear_contingency": 0.02, "initial_factor": 1.6,
    },
    "tidegate-standard": {"market_depth": {"ETH": 10_000.0}, "confidence_multiple": 2.0, "long_option_credit": 0.3},
    "collateral": {"haircuts": {"USDC": 0.05, "BTC": 0.3}},
}  # fmt: skip


@dataclass
class _World:
    """A risk stage whose accounts have just been placed."""

    risk: Risk
    screen: BoxScreen
    instant: Instant


def _listing(rng: np.random.Generator, number: Iterator[int]) -> Iterator[Event]:
    yield an_asset("USDC", 6, number=next(number))
    yield an_asset("BTC", 8, number=next(number))
    for name, parameters in TERMS.items():
        yield a_parameters_change(name, parameters, number=next(number))
    yield a_price("0.999", feed="USDC/USD", confidence="0.0005", number=next(number))
    yield a_rate("0.05", currency="USDC", number=next(number))
    for underlying, spot in SPOT_PRICE.items():
        yield a_price(str(spot), feed=f"{underlying}/USD", confidence=str(spot * 2e-4), number=next(number))
        yield a_perpetual(f"{underlying}-PERP", underlying=underlying, number=next(number))
        for place, expiry_ns in enumerate(EXPIRIES):
            yield a_forward(
                str(spot * (1.0 + 0.002 * place)), underlying=underlying, expiry_ns=expiry_ns, number=next(number)
            )
            yield a_smile(
                underlying=underlying, expiry_ns=expiry_ns, forward=str(spot), number=next(number),
                time_to_expiry=f"{(expiry_ns - TIME_NS) / DAY_NS / 365.0:.9f}",
                a=f"{0.3 * (expiry_ns - TIME_NS) / DAY_NS / 365.0:.9f}",
            )  # fmt: skip
            yield a_future(f"{underlying}-F{place}", underlying=underlying, expiry_ns=expiry_ns, number=next(number))
            for step in range(8):
                yield an_option(
                    f"{underlying}-{place}-{step}", underlying=underlying, expiry_ns=expiry_ns, number=next(number),
                    strike=str(round(spot * (0.85 + 0.043 * step))), option_type="call" if step % 2 else "put",
                )  # fmt: skip
    for a in range(ACCOUNTS):
        yield an_account(
            f"a{a}", number=next(number), margin_model="tidegate-portfolio" if a % 2 else "tidegate-standard",
            margin_mode="isolated" if a % 7 == 0 else "cross",
        )  # fmt: skip
    for a in range(ACCOUNTS):
        yield a_transfer(f"{np.exp(rng.uniform(np.log(300.0), np.log(2e4))):.6f}", account=f"a{a}", number=next(number))
        if a % 3 == 0:
            coins = np.exp(rng.uniform(np.log(0.005), np.log(0.2)))
            yield a_transfer(f"{coins:.8f}", asset="BTC", account=f"a{a}", number=next(number))


def _trading(rng: np.random.Generator, number: Iterator[int]) -> Iterator[Event]:
    """Books of one to eight positions; isolated accounts on one underlying."""
    for a in range(ACCOUNTS):
        for _ in range(rng.integers(1, 9)):
            underlying = "BTC" if a % 7 == 0 or rng.random() < 0.5 else "ETH"
            chosen = int(rng.integers(0, 36))
            kind = f"{chosen % 3}-{chosen // 3 % 8}" if chosen < 24 else ("PERP" if chosen < 30 else f"F{chosen % 3}")
            # The other side is the house: it keeps its orders to itself, and the accounts apart.
            buys = bool(rng.integers(0, 2))
            yield a_fill(
                f"{SPOT_PRICE[underlying] * (0.03 if chosen < 24 else 1.0):.0f}",
                f"{rng.integers(1, 20) * (0.01 if underlying == 'BTC' else 0.2):.2f}",
                instrument=f"{underlying}-{kind}",
                buyer=f"a{a}" if buys else "house", seller="house" if buys else f"a{a}", number=next(number),
            )  # fmt: skip


def _world(seed: int) -> _World:
    rng = np.random.default_rng(seed)
    models = margin_models()
    intake = Intake(Genesis(ledger_id="laws", settlement_period_ns=10**18), shard_count=4, margin_models=tuple(models))
    book = Book(range(4), shard_count=4, models=tuple(models))
    risk = Risk(Market(), book, models=models, screening=boxes.POLICY)
    risk.step(decode_frame(intake.genesis_frame()))
    last = a_price("0.999", feed="USDC/USD", confidence="0.0005", number=10**6, time_ns=TIME_NS + 60 * SECOND_NS)
    number = count(1)
    events = [*_listing(rng, number), *_trading(rng, number), last]
    for out in intake.step(decode_lines([msgspec.json.encode(event) for event in events], Stream("laws"), 1)):
        assert not out.dead_letters, out.dead_letters[0].message
        for data in out.frames:
            risk.step(decode_frame(data))
    assert risk.instant is not None
    screen = risk._screen
    assert isinstance(screen, BoxScreen)
    return _World(risk, screen, risk.instant)


def _between(ends: Float64Array, share: Float64Array) -> Float64Array:
    low, high = ends
    at: Float64Array = np.clip(low + share * (high - low), low, high)
    return at


def _moved(world: _World, slot: int, rng: np.random.Generator, *, corner: bool) -> Instant:
    """Return the market at a point that lies in every standing box of a slot."""
    market, standing, instant = world.risk.market, world.screen._standing, world.instant
    assert standing is not None
    ranges = standing.ranges[slot]

    def share(size: int) -> Float64Array:
        return rng.integers(0, 2, size).astype(np.float64) if corner else rng.random(size)

    columns = copy.deepcopy(market.columns)
    columns._expose()
    assets = columns.assets.price.shape[0]
    stands = ranges.asset_known
    asset_price = np.where(stands, _between(ranges.price, share(assets)), instant.asset_price)
    haircut = np.where(stands, _between(ranges.haircut, share(assets)), instant.haircut)
    for u in np.flatnonzero(standing.stands[slot]):
        members = np.flatnonzero(columns.underlying == u)
        spot = float(_between(ranges.spot[:, [u]], share(1))[0])
        columns.spot[u] = spot
        columns.confidence[u] = _between(ranges.confidence[:, [u]], share(1))[0]
        ratio = _between(ranges.ratio[:, members], share(members.shape[0]))
        option = columns.kind[members] == OPTION
        columns.reals[FORWARD_RATIO, members[option]] = ratio[option]
        columns.codes[FORWARD_STATE, members[option]] = FRESH
        linear = ~option & (columns.kind[members] != SPOT)
        columns.reals[VENUE_MARK, members[linear]] = ratio[linear] * spot
        for place, of in ((IMPLIED_VOL, ranges.vol), (RATE, ranges.rate)):
            columns.reals[place, members] = _between(of[:, members], share(members.shape[0]))
        begin_ns, end_ns = int(columns.priced_at_ns[u]), int(standing._until_ns[slot, members].min())
        price(
            members, begin_ns + int((end_ns - begin_ns) * share(1)[0]), 0.1, columns.reals, columns.codes,
            columns.greeks, columns.expiry_ns, columns.underlying, columns.settlement_asset, columns.spot,
            columns.spot_state, asset_price, columns.assets.decidable,
        )  # fmt: skip
    return replace(
        instant,
        value=columns.value,
        notional=columns.notional,
        asset_price=asset_price,
        haircut=haircut,
        margin_tables={
            name: world.risk.models[name].tables(columns, market.parameters(name)) for name in instant.margin_tables
        },
    )


def _residents(world: _World, slot: int) -> npt.NDArray[np.int64]:
    return np.sort(world.screen.residents.of(slot).astype(np.int64))


def _changed(world: _World, seed: int, *, points: int = 12) -> list[tuple[int, int]]:
    """Return (row, slot) of the residents who changed their tier at some point within their boxes."""
    rng = np.random.default_rng(seed)
    book, found = world.risk.book, []
    for slot in range(SLOTS):
        residents = _residents(world, slot)
        for point in range(points if residents.shape[0] else 0):
            instant = _moved(world, slot, rng, corner=point % 3 != 2)
            seen = evaluate(book, instant, residents, world.risk.models)
            now = tiers(seen.equity, seen.initial_margin, seen.maintenance_margin, instant.ladder)
            found += [(int(row), slot) for row in residents[now != book.tier[residents]]]
    return found


@pytest.fixture(scope="module")
def worlds() -> list[_World]:
    return [_world(seed) for seed in range(4)]


def test_residents_keep_their_tier_wherever_the_market_stands(worlds: list[_World]) -> None:
    """Law: a resident whose tier changes within its boxes would be a decision missed."""
    for seed, world in enumerate(worlds):
        assert _changed(world, seed) == []


def test_the_boxes_are_of_use(worlds: list[_World]) -> None:
    """A screen in which everyone is hot misses nothing either: people live at most widths, in every tier."""
    slots = np.concatenate([w.screen.residents.slot[w.risk.book.customer_rows] for w in worlds])
    resting = np.concatenate([w.risk.book.tier[w.risk.book.customer_rows] for w in worlds])[slots < SLOTS]

    assert set(range(4, WIDTHS)) <= set((slots // 2).tolist())
    assert {int(tier) for tier in Tier} == set(resting.tolist())
    assert (slots == SLOTS).sum() < 0.2 * slots.shape[0]


@pytest.mark.parametrize("left_out", ["haircut", "asset price", "confidence", "spot", "vol", "time", "joint"])
def test_bounds_that_leave_something_out_are_found_out(left_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: people are placed by a bound with one range or term missing; the attack finds one who changes."""
    _leave_out(left_out, monkeypatch)

    assert any(_changed(_world(seed), seed, points=24) for seed in range(4))


def _leave_out(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"haircut": "haircut", "asset price": "price", "confidence": "confidence", "spot": "spot", "vol": "vol",
              "time": "time"}  # fmt: skip

    def narrowed(ranges: Ranges) -> Ranges:
        if what not in fields:
            return ranges
        low, high = getattr(ranges, fields[what])
        middle = 0.5 * (low + high)
        return replace(ranges, **{fields[what]: np.array([middle, middle])})

    for kind in (PortfolioBounds, StandardBounds):
        write, slack = kind.write, kind.slack

        def blind_write(self: Any, ranges: Ranges, *rest: Any, write: Any = write) -> Any:
            return write(self, narrowed(ranges), *rest)

        def blind_slack(self: Any, ranges: Ranges, *rest: Any, slack: Any = slack) -> Any:
            if what == "joint" and isinstance(self, PortfolioBounds):
                self._offset_share = np.minimum(self._offset_share, 0.3) + 0.3
            return slack(self, narrowed(ranges), *rest)

        monkeypatch.setattr(kind, "write", blind_write)
        monkeypatch.setattr(kind, "slack", blind_slack)
