"""A venue of fifty underlyings, one of which jumps 5 % every second: nobody else is woken."""

from dataclasses import dataclass, field

import numpy as np

from flows.margin.registry import margin_models
from flows.market.instant import Instant
from flows.market.step import Market
from flows.risk.book import Book
from flows.risk.evaluation import Evaluation
from flows.risk.step import Risk
from flows.screening.policy import Int64Array, Screen, ScreeningPolicy, Sight, Work
from infra.run.screening import screening_policy
from tests.simulator.books import BookBuilder
from tests.simulator.frames import SHARDS, Frames
from tests.simulator.paths import Path

ACCOUNTS = 1_500
TICKS = 50
JUMPER = "U07"


@dataclass
class Watched:
    """A policy, and whom its screen chose at the last instant; its own screen."""

    policy: ScreeningPolicy
    name: str = "watched"
    exact: bool = True
    chosen: set[int] = field(default_factory=set)

    def screen(self, sight: Sight) -> Screen:
        """Return itself, about the policy's screen."""
        self._screen = self.policy.screen(sight)
        return self

    def rows(self, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return whom the policy chooses, and remember."""
        rows = self._screen.rows(instant, touched)
        self.chosen = set(rows.tolist())
        return rows

    def decided(self, instant: Instant, rows: Int64Array, evaluation: Evaluation) -> None:
        """Hand on."""
        self._screen.decided(instant, rows, evaluation)

    def work(self) -> Work:
        """Hand on."""
        return self._screen.work()

    def violations(self, rows: Int64Array, evaluation: Evaluation) -> int:
        """Hand on."""
        return self._screen.violations(rows, evaluation)


@dataclass(frozen=True)
class Woken:
    """Holders of what jumps; and by tick who was evaluated, and how many were placed."""

    holders: set[int]
    evaluated: list[set[int]]
    placed: list[int]


def woken(policy: str) -> Woken:
    """Let one of fifty jump."""
    path = Path("lone-jump", hours=TICKS / 3_600, seed=1)
    models = margin_models()
    watched = Watched(screening_policy(policy))
    book = Book(range(SHARDS), shard_count=SHARDS, models=tuple(models))
    risk = Risk(Market(models), book, models=models, screening=watched)
    frames = Frames()
    BookBuilder(path, frames, risk, risk.step, seed=1).build(ACCOUNTS)
    evaluated, placed = [], []
    for now_ns, records in path:
        before = risk.diagnostics.placements
        risk.step(frames.frame(now_ns, records))
        evaluated.append(watched.chosen)
        placed.append(risk.diagnostics.placements - before)
    pool = path.venue.pools[path.venue.underlyings.index(JUMPER)]
    positions = book.positions
    holders = {
        row
        for row in book.customer_rows.tolist()
        if np.isin(positions.instrument[positions.places(np.array([row]))], pool).any()
    }
    return Woken(holders, evaluated, placed)


def test_only_holders_are_woken() -> None:
    """Fails where an account that does not hold what jumps is evaluated or placed."""
    seen = woken("boxes")

    assert 30 < len(seen.holders) < 0.1 * ACCOUNTS
    assert set().union(*seen.evaluated) <= seen.holders
    assert max(seen.placed) <= len(seen.holders)


def test_the_judge_wakes_everyone() -> None:
    """Control: who was woken is seen."""
    seen = woken("exhaustive")

    assert all(len(rows) == ACCOUNTS for rows in seen.evaluated)
