"""Who watches a screen is told what it took, and what several processes say adds up."""

from collections.abc import Callable
from dataclasses import dataclass, field

from flows.margin.registry import margin_models
from flows.market.instant import Instant
from flows.market.step import Market
from flows.pipeline import run_plain
from flows.risk.book import Book
from flows.risk.evaluation import Evaluation
from flows.risk.stage import LocalRisk, StateClock
from flows.risk.step import Risk
from flows.screening.diagnostics import Diagnostics
from flows.screening.diagnostics import together as counted_together
from flows.screening.exhaustive import POLICY as EXHAUSTIVE
from flows.screening.observer import Residence, together
from flows.screening.policy import Int64Array, Sight, Work
from tests.builders import SECOND_NS
from tests.flows.running import Published, arrivals, batches_of, run, some_stages, with_risk
from tests.flows.screening.test_shadow import FALL

LIVES = Residence(((0.01, 2),), (("open orders", 1),), ((0.5, 40.0),))


class _Settled:
    """Decides everyone, tells of one box at every instant, and says where everyone lives."""

    name = "settled"
    exact = True

    def screen(self, sight: Sight) -> "_Settled":
        """Return itself, for one process."""
        self._everyone = EXHAUSTIVE.screen(sight)
        self._observer = sight.observer
        return self

    def rows(self, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return all, and tell of a box."""
        if self._observer is not None:
            self._observer.box_built(underlying=0, width=0.01, slot=0, low=1.0, high=2.0, time_ns=instant.time_ns)
        return self._everyone.rows(instant, touched)

    def decided(self, instant: Instant, rows: Int64Array, evaluation: Evaluation) -> None:
        """Remember nothing."""

    def violations(self, rows: Int64Array, evaluation: Evaluation) -> int:  # noqa: ARG002
        """Return that nothing is bounded."""
        return 0

    def work(self) -> Work:
        """Return five placements a frame."""
        return Work(placements=5)

    def residence(self) -> Residence:
        """Return always the same."""
        return LIVES


@dataclass
class _Seen:
    boxes: int = 0
    evaluated: list[int] = field(default_factory=list)
    lives: set[Residence] = field(default_factory=set)

    def box_built(self, **_box: object) -> None:
        """Count it."""
        self.boxes += 1

    def box_left(self, **_box: object) -> None:
        """Do nothing."""

    def frame(
        self, _market: Market, _instant: Instant, *, evaluated: int, residence: Callable[[], Residence], **_: object
    ) -> None:
        """Keep what was told."""
        self.evaluated.append(evaluated)
        self.lives.add(residence())


def test_an_observer_is_told_of_every_frame_and_changes_none() -> None:
    """Fails where an observed run publishes otherwise, a frame is not told, or what was evaluated is told wrongly."""
    seen = _Seen()
    models = margin_models()
    risk = Risk(
        Market(), Book(range(4), shard_count=4, models=tuple(models)), models=models, screening=_Settled(),
        observer=seen,
    )  # fmt: skip
    stage = LocalRisk(risk, clock=StateClock(60 * SECOND_NS))
    published = Published()
    run_plain(batches_of(arrivals(FALL), 1_000), with_risk(some_stages(), stage), published.take)

    diagnostics = stage.diagnostics
    assert published.digest() == run(FALL).digest()
    assert len(seen.evaluated) == seen.boxes == diagnostics.instants
    assert sum(seen.evaluated) == diagnostics.evaluations
    assert seen.lives == {diagnostics.residence} == {LIVES}


def test_frames_are_counted_by_what_they_took() -> None:
    """Fails where a frame falls into another bin than its power of two, or bins are lost."""
    diagnostics = Diagnostics()
    for evaluated in (0, 1, 2, 3, 4, 1_000, 0):
        diagnostics = diagnostics.after(Work(placements=5), evaluated=evaluated, exhaustive=1_000, accounts=1_000)

    assert diagnostics.frames_by_evaluations == (2, 1, 2, 1, 0, 0, 0, 0, 0, 0, 1)
    assert diagnostics.frames_by_placements == (0, 0, 0, 7)
    assert diagnostics.placements == 35


def test_processes_add_up() -> None:
    """Fails where a process's accounts are lost, or the least slack of any is not the run's."""
    one = Residence(((0.01, 2), (0.02, 3)), (("open orders", 1),), ((0.5, 40.0),))
    other = Residence(((0.02, 4),), (("open orders", 2), ("near a boundary", 1)), ((0.5, 30.0),))

    assert together([one, other]) == Residence(
        ((0.01, 2), (0.02, 7)), (("near a boundary", 1), ("open orders", 3)), ((0.5, 30.0),)
    )
    parts = [Diagnostics(residence=one, frames_by_evaluations=(1, 2)), Diagnostics(frames_by_evaluations=(0, 1, 5))]
    assert counted_together(parts).residence == one
    assert counted_together(parts).frames_by_evaluations == (1, 3, 5)
