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
from schemas.results import ResultKind
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
