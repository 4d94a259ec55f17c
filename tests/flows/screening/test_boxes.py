"""Whole runs under the boxes publish what they publish under the exhaustive judge, byte for byte.

The boxes are also proved and attacked by themselves: ``test_bound_laws.py`` and ``test_screening_laws.py`` in
``tests/laws``.
"""

import pytest

from flows.intake.decode import Arrival, Stream, decode_lines
from flows.pipeline import run_plain
from flows.screening.boxes import POLICY as BOXES
from flows.screening.diagnostics import Diagnostics
from flows.screening.exhaustive import POLICY as EXHAUSTIVE
from flows.screening.policy import ScreeningPolicy
from infra.demo.generate import DemoDay
from schemas.events import Event
from schemas.results import ResultKind
from tests.builders import SECOND_NS, TIME_NS, a_fill, a_perpetual, a_price, a_transfer, an_account, an_asset
from tests.flows.running import Published, arrivals, batches_of, some_stages
from tests.flows.test_pipeline import a_bad_day


def _run(inputs: list[Arrival], screening: ScreeningPolicy) -> tuple[Published, Diagnostics]:
    published = Published()
    stages = some_stages(screening=screening)
    run_plain(batches_of(inputs, 1_000), stages, published.take)
    return published, stages.risk.diagnostics


def _a_demo_day(hours: float) -> list[Arrival]:
    lines = [line for block in DemoDay(seed=3, accounts=60, hours=hours).lines() for line in block]
    return decode_lines(lines, Stream("day"), 1)


@pytest.mark.parametrize("day", ["bad", "demo"])
def test_boxes_publish_what_the_judge_publishes(day: str) -> None:
    """A missed account, or one decided by other numbers, would differ."""
    inputs = arrivals(a_bad_day()) if day == "bad" else _a_demo_day(2.0)

    judged, judge = _run(inputs, EXHAUSTIVE)
    screened, boxes = _run(inputs, BOXES)

    assert screened.digest() == judged.digest()
    assert judged.of(ResultKind.TIER_CHANGED).shape[0] > 10
    assert boxes.evaluations < judge.evaluations == judge.exhaustive_evaluations


def test_accounts_of_dydx_rest_until_their_tier_may_change() -> None:
    """Fails where bounds of the model are not used, or a fall through all tiers is seen late."""
    traders = [f"trader-{n}" for n in range(20)]
    day: list[Event] = [an_asset(), a_perpetual(tick_size="0.5", lot_size="0.001")]
    day += [an_account(name, margin_model="dydx-v4", number=n) for n, name in enumerate(traders, 1)]
    day += [a_transfer("10000", account=name, number=n) for n, name in enumerate(traders, 1)]
    day += [a_price("1", feed="USDC/USD", confidence="0"), a_price(number=2)]
    day += [
        a_fill(quantity=f"{0.2 * n:.3f}", buyer=buyer, seller=seller, number=n, time_ns=TIME_NS + n)
        for n, (buyer, seller) in enumerate(zip(traders[::2], traders[1::2], strict=True), 1)
    ]
    walk = [50_000 + 5 * abs(n % 40 - 20) - 150 * max(0, n - 100) for n in range(3, 175)]
    day += [a_price(str(price), number=n, time_ns=TIME_NS + n * SECOND_NS) for n, price in enumerate(walk, 3)]

    judged, judge = _run(arrivals(day), EXHAUSTIVE)
    screened, boxes = _run(arrivals(day), BOXES)

    assert screened.digest() == judged.digest()
    assert judged.of(ResultKind.TIER_CHANGED).shape[0] > 10
    assert boxes.evaluations < 0.5 * judge.evaluations


def test_everyone_lives_somewhere_or_is_hot_for_a_reason() -> None:
    """What a summary says of accounts adds up to all of them; nobody rests in a box that its bounds do not allow."""
    _, boxes = _run(_a_demo_day(2.0), BOXES)
    where = boxes.residence

    opened = sum(count for _, count in where.residents_by_width) + sum(count for _, count in where.hot_by_reason)
    assert opened == 60
    assert sum(count for _, count in where.hot_by_reason) == boxes.hot_accounts
    assert sum(count for _, count in where.residents_by_width) > 30
    assert [width for width, _ in where.residents_by_width] == sorted(width for width, _ in where.residents_by_width)
    assert all(slack >= 0.0 for _, slack in where.slack_quantiles)
