"""Nothing moves without a reason: what a screen compares with its boxes is all that decisions read.

1. An instrument's numbers, Greeks, decidability and rows of margin tables differ from the instant before only where one
   of its inputs does; time is an input of what expires alone. Where something was listed, indices in tables may differ.
2. An asset's price, haircut, confidence and decidability likewise.
3. No reason is found where the instant says that nothing moved.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from flows.market.columns import NEVER_EXPIRES
from flows.market.instant import Instant
from flows.market.step import Market
from flows.screening.policy import anything_moved
from schemas.events import Event
from schemas.ledger import FrameKind, decode_frame
from tests.builders import (
    EXPIRY_NS,
    SECOND_NS,
    TIME_NS,
    a_forward,
    a_future,
    a_mark,
    a_price,
    a_rate,
    a_smile,
    a_venue,
    an_option,
)
from tests.flows.running import run
from tests.judge.days import GAPS_NS, GENESIS, KINDS, Happening, a_random_day, days
from tests.laws.moves import Moves, Watch

BoolArray = npt.NDArray[np.bool_]

BY_INSTRUMENT = (
    "value", "value_decidable", "notional", "greeks", "index_price", "mark_price", "implied_vol", "forward",
)  # fmt: skip
BY_ASSET = ("asset_price", "asset_decidable", "asset_confidence", "haircut")
UNEXPLAINED = "moved without a reason"


def rows_that_differ(before: npt.NDArray[Any], now: npt.NDArray[Any], count: int) -> BoolArray:
    """Return (count,) whether the first rows of two columns differ in any bit of meaning."""
    equal = (before[:count] == now[:count]) | ((before[:count] != before[:count]) & (now[:count] != now[:count]))
    differs: BoolArray = ~equal.all(axis=tuple(range(1, equal.ndim)))
    return differs


def table_columns(tables: Any, count: int, *, listed: bool) -> dict[str, npt.NDArray[Any]]:
    """Return the columns by instrument of one model's tables; places of other tables may count anew by a listing."""
    if not is_dataclass(tables):
        return {}
    columns = {field.name: getattr(tables, field.name) for field in fields(tables)}
    return {
        name: it
        for name, it in columns.items()
        if isinstance(it, np.ndarray) and it.shape[:1] == (count,) and not (listed and it.dtype.kind in "iu")
    }


def check(market: Market, before: Instant, now: Instant, moves: Moves) -> None:
    """Hold two instants that follow each other against the reasons between them."""
    if not anything_moved(now):
        assert not any(np.any(getattr(moves, field.name)) for field in fields(moves)), "a reason, and nothing moved"
    if moves.everything:
        return
    columns = market.columns
    count, assets = before.value.shape[0], before.asset_price.shape[0]
    asset_reasons = moves.asset_price | moves.asset_confidence | moves.haircut | moves.asset_decidable
    by_underlying = moves.spot | moves.confidence
    dated = columns.expiry_ns != NEVER_EXPIRES
    reasons = (
        by_underlying[columns.underlying]
        | (moves.time[columns.underlying] & dated)
        | (moves.forward | moves.vol | moves.rate | moves.mark | moves.settled)
        | (moves.asset_price | moves.asset_decidable)[columns.settlement_asset]
    )[:count]
    found = {name: rows_that_differ(getattr(before, name), getattr(now, name), count) for name in BY_INSTRUMENT}
    for model, tables in now.margin_tables.items():
        mine = table_columns(tables, now.value.shape[0], listed=moves.listed)
        theirs = table_columns(before.margin_tables.get(model), count, listed=moves.listed)
        found |= {
            f"{model}.{name}": rows_that_differ(theirs[name], mine[name], count) for name in mine if name in theirs
        }
    for name, differs in found.items():
        assert not (differs & ~reasons).any(), f"{name} of {np.flatnonzero(differs & ~reasons)} {UNEXPLAINED}"
    for name in BY_ASSET:
        differs = rows_that_differ(getattr(before, name), getattr(now, name), assets)
        assert not (differs & ~asset_reasons[:assets]).any(), f"{name} {UNEXPLAINED}"


def check_all(frames: Iterable[bytes], without: str = "") -> int:
    """Run a ledger's frames through a market and a watch; leave one reason out; return how many instants moved."""
    market = Market()
    watch = Watch(market)
    before: Instant | None = None
    moved = 0
    for data in frames:
        frame = decode_frame(data)
        if frame.kind is FrameKind.BARRIER:
            continue
        now = market.step(frame)
        moves = watch.moves(now)
        if without:
            moves = replace(moves, **{without: np.zeros_like(getattr(moves, without))})
        if before is not None:
            check(market, before, now, moves)
            moved += anything_moved(now) and not moves.everything
        before = now
    return moved


@settings(max_examples=30)
@given(happenings=days)
def test_nothing_moves_without_a_reason(happenings: list[Happening]) -> None:
    """Laws 1 to 3, on short days of every kind of record."""
    check_all(run(a_random_day(happenings), genesis=GENESIS).frames)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_moves_without_a_reason_on_a_long_day(seed: int) -> None:
    """Laws 1 to 3, on 200 records of every kind; Hypothesis prefers short days."""
    rng = np.random.Generator(np.random.PCG64([seed, 9]))
    happenings: list[Happening] = [
        (GAPS_NS[rng.integers(len(GAPS_NS))], KINDS[rng.integers(len(KINDS))], *rng.integers((0, 0, 1), 100).tolist())
        for _ in range(200)
    ]

    assert check_all(run(a_random_day(happenings), genesis=GENESIS).frames) > 50


NOW = TIME_NS + SECOND_NS


def twice(*events: Event) -> list[Event]:
    """Return a venue with dated instruments, and two observations of one thing at one time: an instant for each."""
    return [
        *a_venue(),
        an_option(),
        a_future(),
        a_smile(),
        a_forward(),
        a_rate("0.01"),
        *events,
    ]


@pytest.mark.parametrize(
    ("reason", "events"),
    [
        ("spot", [a_price(it, confidence="0", number=n, time_ns=NOW) for n, it in ((12, "50100"), (13, "50200"))]),
        ("vol", [a_smile(a=a, number=n, time_ns=NOW) for n, a in ((2, "0.005"), (3, "0.006"))]),
        ("forward", [a_forward(it, number=n, time_ns=NOW) for n, it in ((2, "50200"), (3, "50300"))]),
        ("rate", [a_rate(rate, number=n, time_ns=NOW) for n, rate in ((2, "0.02"), (3, "0.03"))]),
        ("mark", [a_mark(mark, number=n, time_ns=NOW) for n, mark in ((2, "50020"), (3, "50030"))]),
        (
            "asset_price",
            [a_price(it, feed="USDC/USD", confidence="0", number=n, time_ns=NOW) for n, it in ((5, "0.9"), (6, "0.8"))],
        ),
        ("time", [a_price("50000", number=12, time_ns=NOW), a_price(number=13, time_ns=EXPIRY_NS - SECOND_NS)]),
    ],
)  # fmt: skip
def test_a_reason_that_is_left_out_is_missed(reason: str, events: Sequence[Event]) -> None:
    """Control: the law fails for a watch that does not see one input, where that input alone moved."""
    frames = run(twice(*events)).frames

    assert check_all(frames) > 0
    with pytest.raises(AssertionError, match=UNEXPLAINED):
        check_all(frames, without=reason)


def test_a_listing_is_no_change_of_what_there_was() -> None:
    """Fails where a new option is not told as listed with all reasons, or gives reasons to the perpetual."""
    market = Market()
    watch = Watch(market)
    frames = [decode_frame(data) for data in run([*a_venue(), an_option(time_ns=TIME_NS)]).frames]
    option = an_option("BTC-20MAR26-51000-C", number=15, strike="51000", time_ns=TIME_NS + 1)
    listing = [decode_frame(data) for data in run([*a_venue(), an_option(time_ns=TIME_NS), option]).frames]

    seen = [(it, watch.moves(market.step(it))) for it in listing if it.kind is not FrameKind.BARRIER]

    assert len(listing) > len(frames)
    _, moves = next(pair for pair in seen if pair[0].time_ns == TIME_NS + 1)
    assert moves.listed
    assert not moves.everything
    assert moves.vol.tolist() == moves.rate.tolist() == [False, False, True]
    assert moves.time.tolist() == [True]
