"""The engine decides, settles and commits what the plain judge does, to the last unit and the last hash."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings

from flows.liquidation.ladder import tiers as ladder_tiers
from flows.market.payments import funding_units
from flows.risk.evaluation import evaluate
from flows.settlement.tree import keccak
from schemas.events import Event
from schemas.parameters import LadderParameters
from schemas.results import ResultKind, Tier
from tests.builders import (
    EXPIRY_NS,
    SECOND_NS,
    TIME_NS,
    a_fill,
    a_forward,
    a_funding_rate,
    a_future,
    a_price,
    a_venue,
    a_withdrawal,
    an_option,
    open_orders,
    quoted_vols,
)
from tests.flows.running import Published, run
from tests.flows.test_pipeline import a_bad_day
from tests.judge.compare import compare
from tests.judge.days import GAPS_NS, GENESIS, KINDS, Happening, a_demo_day, a_random_day, days

# Alice is long 0.9 BTC on 10,000 USDC, of which 8,000 count: from about 41,000 on she is liquidated. Bob, who is short
# as much, would sell more: from the first that is said of it he needs the margin of that.
A_CRASH: list[Event] = [
    *a_venue(),
    a_fill(quantity="0.9", time_ns=TIME_NS + 1),
    open_orders("0.3", "0.6", account="bob", time_ns=TIME_NS + 2 * SECOND_NS + 1),
    a_withdrawal("500", account="bob", time_ns=TIME_NS + 3 * SECOND_NS),
    *[a_funding_rate("0.0000123457", number=n, time_ns=TIME_NS + n * SECOND_NS) for n in range(2, 7)],
    *[
        a_price(str(50_000 - 340 * n), source=("atlas", "borealis")[n % 2], number=n, time_ns=TIME_NS + n * SECOND_NS)
        for n in range(2, 30)
    ],
]

# Bob is short three calls whose strike lies between quoted points, and the vols of those rise until he is liquidated.
A_SKEW: list[Event] = [
    *a_venue(),
    an_option("BTC-46000-C", strike="46000"),
    quoted_vols(),
    a_fill("6000", "3", instrument="BTC-46000-C", time_ns=TIME_NS + 1),
    *[
        quoted_vols(
            tuple(
                (strike, f"{vol + rise * n:.2f}")
                for strike, vol, rise in (
                    ("40000", 0.7, 0.1), ("44000", 0.65, 0.12), ("50000", 0.6, 0.1), ("60000", 0.65, 0.1),
                )
            ),
            number=n,
            time_ns=TIME_NS + n * SECOND_NS,
        )
        for n in range(2, 40)
    ],
]  # fmt: skip


@pytest.fixture(scope="module")
def bad_day() -> Published:
    """The pipeline tests' day."""
    return run(a_bad_day())


def test_the_bad_day_is_judged_alike(bad_day: Published) -> None:
    """Fails where engine and judge differ in any decision, delta, hash or root of a day with everything in it."""
    comparison = compare(bad_day)

    assert comparison.near_ties == []
    assert comparison.rows > 300
    assert comparison.batches > 50


@pytest.mark.parametrize(("seed", "accounts", "hours"), [(8, 100, 1.0), (6, 60, 1.5)])
def test_a_demo_day_is_judged_alike(seed: int, accounts: int, hours: float) -> None:
    """Fails where they differ on a crash with jumps, several oracles, a depeg, a halt, an expiry and busted fills."""
    published = a_demo_day(seed=seed, accounts=accounts, hours=hours)

    comparison = compare(published)

    assert comparison.near_ties == []
    tiers = {Tier(tier) for tier in published.of(ResultKind.TIER_CHANGED)["tier_to"]}
    assert tiers >= {Tier.WATCH, Tier.WARNING, Tier.LIQUIDATING}, "the crash reached nobody: choose another seed"


@pytest.mark.parametrize("seed", range(8))
def test_a_long_random_day_is_judged_alike(seed: int) -> None:
    """Fails where they differ on 150 records of every kind at random; Hypothesis prefers short days."""
    rng = np.random.Generator(np.random.PCG64(seed))
    happenings: list[Happening] = [
        (GAPS_NS[rng.integers(len(GAPS_NS))], KINDS[rng.integers(len(KINDS))], *rng.integers((0, 0, 1), 100).tolist())
        for _ in range(150)
    ]
    published = run(a_random_day(happenings), genesis=GENESIS)

    comparison = compare(published)

    assert comparison.near_ties == []


def test_a_forward_told_before_its_listing_keeps_its_ratio_to_the_spot_of_then() -> None:
    """Fails where the ratio waits for the listing, and so takes a later spot for the one that the forward stood on."""
    second = TIME_NS + SECOND_NS
    ether: dict[str, Any] = {"underlying": "ETH", "expiry_ns": EXPIRY_NS}
    falls = [
        a_price(str(3_300 - 40 * n), feed="ETH/USD", number=n, time_ns=second + n * SECOND_NS) for n in range(2, 20)
    ]
    published = run(
        [
            *a_venue(),
            a_price("3000", feed="ETH/USD", number=50),
            a_forward("3030", **ether),
            a_price("3300", feed="ETH/USD", number=51, time_ns=second),
            a_future("ETH-F", number=52, time_ns=second + 1, lot_size="0.01", **ether),
            a_fill("3333", "27", instrument="ETH-F", number=53, time_ns=second + 2),
            *falls,
        ]
    )

    comparison = compare(published)

    assert comparison.near_ties == []
    assert published.of(ResultKind.ORDER_OPENED)["account"].tolist() == [8]


def test_an_option_between_quoted_points_is_judged_alike() -> None:
    """Fails where engine and judge draw another curve through the points."""
    published = run(A_SKEW)

    comparison = compare(published)

    assert comparison.near_ties == []
    assert Tier.LIQUIDATING in published.of(ResultKind.TIER_CHANGED)["tier_to"]


@settings(max_examples=50)
@given(happenings=days)
def test_random_days_are_judged_alike(happenings: list[Happening]) -> None:
    """Fails where they differ on any short day; shrinks to the records that make the difference."""
    published = run(a_random_day(happenings), genesis=GENESIS)

    comparison = compare(published)

    assume(not comparison.near_ties)


# -- controls: a judge that cannot disagree proves nothing -------------------------------------------------------------


DECIDED = "the judge says|only one of them says"


def _late_tiers(equity: Any, initial: Any, maintenance: Any, ladder: LadderParameters) -> Any:
    return ladder_tiers(equity, initial, maintenance * 0.8, ladder)


def _forgetful_funding(value: float, rate: Fraction, decimals: int, _residual: Fraction) -> tuple[int, Fraction]:
    return funding_units(value, rate, decimals, Fraction(0))


def _blind_to_open_orders(*arguments: Any) -> Any:
    *_, initial = arguments
    return initial


def _small_errors(*arguments: Any) -> Any:
    evaluation = evaluate(*arguments)
    return replace(evaluation, equity=evaluation.equity * (1.0 + 1e-7))


def _straight_lines(smile: Any, strike: Any) -> Any:
    return np.interp(strike, smile.strikes, smile.implied_vols)


@pytest.mark.parametrize(
    ("module", "name", "fault", "says"),
    [
        ("flows.risk.step", "tiers", _late_tiers, DECIDED),
        ("flows.risk.step", "evaluate", _small_errors, DECIDED),
        ("flows.risk.evaluation", "initial_with_open_orders", _blind_to_open_orders, DECIDED),
        ("flows.market.funding", "funding_units", _forgetful_funding, DECIDED),
        ("flows.market.oracle", "median", max, DECIDED),
        ("flows.settlement.step", "leaf_hash", lambda account, entries: keccak(entries), "another state root"),
    ],
)
def test_a_planted_fault_is_seen(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, fault: Callable[..., Any], says: str
) -> None:
    """Fails where the comparison would also pass an engine that is wrong by this much."""
    monkeypatch.setattr(f"{module}.{name}", fault)
    published = run(A_CRASH)

    with pytest.raises(AssertionError, match=says):
        compare(published)


def test_straight_lines_between_quoted_points_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where the comparison of curves would also pass what they were before."""
    monkeypatch.setattr("flows.market.step.implied_vols", _straight_lines)
    published = run(A_SKEW)

    with pytest.raises(AssertionError, match=DECIDED):
        compare(published)


def test_the_same_crash_without_a_fault_is_judged_alike() -> None:
    """Fails where the controls above fail for another reason than their faults."""
    published = run(A_CRASH)

    comparison = compare(published)

    assert comparison.near_ties == []
