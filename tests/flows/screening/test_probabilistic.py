"""The probabilistic policy misses as rarely as it says, and looks at few."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.liquidation.ladder import tiers
from flows.margin.registry import margin_models
from flows.market.step import Market
from flows.pipeline import run_plain
from flows.risk.book import Book
from flows.risk.evaluation import evaluate
from flows.risk.step import Risk
from flows.screening import probabilistic, withstood
from flows.screening.deadlines import Deadlines
from flows.screening.policy import ScreeningPolicy
from flows.screening.probabilistic import Probabilistic
from infra.run.screening import UnknownScreeningPolicy, screening_policy, whose_decisions
from schemas.events import Event
from schemas.ledger import Frame
from tests.builders import SECOND_NS, TIME_NS, a_fill, a_price, a_venue
from tests.flows.running import Published, arrivals, batches_of, run, some_stages
from tests.simulator.books import MODELS, BookBuilder
from tests.simulator.frames import SHARDS, Frames
from tests.simulator.paths import Path


@dataclass(slots=True)
class Measured:
    """Looks of accounts below liquidation, tiers seen late, and what judging all would have taken."""

    looks: int = 0
    misses: int = 0
    changes: int = 0
    exhaustive: int = 0


def measured(policy: ScreeningPolicy, path: str, *, accounts: int, ticks: int, seed: int = 1) -> Measured:
    """Run a policy over a path; judge every account at every tick."""
    market_path = Path(path, hours=ticks * 5 / 3600, seed=seed, tick_ns=5 * SECOND_NS)
    models = margin_models()
    risk = Risk(
        Market(models), Book(range(SHARDS), shard_count=SHARDS, models=tuple(models)), models=models, screening=policy
    )
    frames = Frames()

    def take(frame: Frame) -> None:
        risk.step(frame)

    BookBuilder(market_path, frames, risk, take, models=MODELS, seed=seed, show=lambda done, total: None).build(
        accounts
    )
    out = Measured()
    book = risk.book
    late = np.zeros(book.rows, np.bool_)
    for now_ns, records in market_path:
        looked = risk.diagnostics.evaluations
        stood = book.tier.copy()
        risk.step(frames.frame(now_ns, records))
        assert risk.instant is not None
        rows = book.customer_rows
        now = evaluate(book, risk.instant, rows, models)
        judged = tiers(now.equity, now.initial_margin, now.maintenance_margin, risk.instant.ladder)
        wrong = np.zeros(book.rows, np.bool_)
        wrong[rows] = (judged != book.tier[rows]) & ~now.undecidable
        out.looks += risk.diagnostics.evaluations - looked
        out.misses += int((wrong & ~late).sum())
        out.changes += int((stood != book.tier).sum())
        out.exhaustive += rows.shape[0]
        late = wrong
    return out


@pytest.mark.parametrize(("path", "saves"), [("calm", 10.0), ("crash", 2.0), ("vol-doubling", 2.0)])
def test_it_misses_as_rarely_as_it_says(path: str, saves: float) -> None:
    """Fails where tiers are seen late more often, by look, than stated; or nothing is saved, or nothing happens."""
    found = measured(Probabilistic(0.01), path, accounts=2_000, ticks=240)

    assert found.changes > 50
    assert found.misses <= 0.01 * found.looks
    assert found.looks * saves < found.exhaustive


def test_too_long_allowances_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: clocks that may advance further than a chance of 0.01 allows show as misses, by the same measure."""

    def too_long(*arguments: Any, **named: Any) -> withstood.Looks:
        found = withstood.looks(*arguments, **named)
        return replace(found, allowance=found.allowance * 400.0)

    monkeypatch.setattr(probabilistic, "looks", too_long)

    found = measured(Probabilistic(0.01), "crash", accounts=2_000, ticks=240)

    assert found.misses > 0.01 * found.looks


@given(
    miss=st.sampled_from([0.3, 0.1, 0.03]),
    sizes=st.sampled_from(["even", "fat", "waking"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=12)
def test_no_sizes_of_moves_beat_the_allowance(miss: float, sizes: str, seed: int) -> None:
    """Fails where moves of either sign pass a distance more often than stated, on an allowance of their squares."""
    rng = np.random.Generator(np.random.PCG64(seed))
    walks, steps = 4_000, 400
    size = {
        "even": np.ones((walks, steps)),
        "fat": np.abs(rng.standard_t(2.0, (walks, steps))),
        "waking": np.exp(np.linspace(-6.0, 0.0, steps))[None, :].repeat(walks, axis=0),
    }[sizes]
    moves = size * rng.choice([-1.0, 1.0], (walks, steps))
    distance = float(np.sqrt((size[0] ** 2).sum()))
    allowance = distance**2 / (2.0 * np.log(2.0 / miss))
    unlooked = np.cumsum(size**2, axis=1) < allowance
    passed = (np.abs(np.cumsum(moves, axis=1)) >= distance) & unlooked

    share = passed.any(axis=1).mean()

    assert share <= miss + 4.0 * np.sqrt(miss / walks)


@given(data=st.data())
def test_deadlines_are_those_of_a_plain_list(data: st.DataObject) -> None:
    """Fails where a deadline that counts is not taken at the first reading behind it, is taken twice, or is not due."""
    deadlines, stamp, plain = Deadlines(), np.zeros(8, np.int32), dict[int, float]()
    reading = 0.0
    for _ in range(data.draw(st.integers(1, 30))):
        rows = np.array(data.draw(st.lists(st.integers(0, 7), unique=True, max_size=8)), np.int64)
        when = np.array([data.draw(st.integers(0, 40)) for _ in rows], np.float64)
        stamp[rows] += 1
        deadlines.add(when, rows, stamp[rows])
        plain.update(zip(rows.tolist(), when.tolist(), strict=True))
        if data.draw(st.booleans()):
            deadlines._sort_in(stamp)
        reading += data.draw(st.integers(0, 5))
        expected = sorted(row for row, due in plain.items() if due <= reading)
        assert sorted(deadlines.due(reading, stamp).tolist()) == expected
        for row in expected:
            del plain[row]


def test_a_jump_is_looked_at_in_its_instant() -> None:
    """Fails where an account that one move carries past a boundary is left out, though the market had hardly moved."""
    still = [a_price(str(50_000 + n % 2), number=n, time_ns=TIME_NS + n * SECOND_NS) for n in range(2, 60)]
    fall: list[Event] = [
        *a_venue(),
        a_fill(quantity="0.9", time_ns=TIME_NS + 1),
        *still,
        a_price("42000", number=60, time_ns=TIME_NS + 60 * SECOND_NS),
        a_price("50000", number=61, time_ns=TIME_NS + 61 * SECOND_NS),
    ]
    published = Published()
    stages = some_stages(screening=Probabilistic(1e-3))

    run_plain(batches_of(arrivals(fall), 1_000), stages, published.take)

    assert published.digest() == run(fall).digest()
    assert stages.risk.diagnostics.evaluations * 5 < stages.risk.diagnostics.exhaustive_evaluations


def test_the_chance_is_part_of_the_name() -> None:
    """Fails where runs of two chances would pass for one, or a wrong chance leaves as more than a line."""
    assert whose_decisions("probabilistic") == whose_decisions("probabilistic:0.000001") == "probabilistic:1e-06"
    assert screening_policy("probabilistic:0.25").name == "probabilistic:0.25"
    for wrong in ("probabilistic:0", "probabilistic:1", "probabilistic:nan", "probabilistic:often", "boxes:0.1"):
        with pytest.raises(UnknownScreeningPolicy, match=f"^screening policy {wrong.partition(':')[0]}"):
            screening_policy(wrong)
