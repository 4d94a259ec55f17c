"""What a requirement is made of, and what each position gains in each scenario: of models that can say so.

1. The numbers are the margin model's own (``flows.margin.breakdown``), read from its tables of the instant.
2. Parts add up to both margins. What a model does not name is a part of its own, so that nothing is hidden.
"""

from dataclasses import dataclass
from math import isclose
from typing import Final

from flows.margin.breakdown import ExplainedMarginModel, Part, ScenarioGroup, ScenarioProfit
from flows.market.instant import Instant
from infra.whatif.scene import Numbers, Scene

UNNAMED: Final = "not named by the model"
# Parts are sums in another order than the margin that they add up to.
_RELATIVE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class ScenarioFigures:
    """One scenario: ``profit`` in the numeraire, as the model counts it, negative for a loss.

    It is the sum of ``positions``, by instrument, and of ``adjustment``: what the model does to their sum.
    """

    scenario: str
    profit: float
    positions: dict[str, float]
    adjustment: float


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """The scenarios of what is judged by them together; ``of`` names it, and its ``scenario loss`` among the parts.

    ``counts`` is the scenario whose loss, times ``factor``, is in maintenance margin, chosen as ``rule`` says; None
    where none loses.
    """

    of: str
    rule: str
    counts: ScenarioFigures | None
    loss: float
    factor: float
    all: list[ScenarioFigures]


@dataclass(frozen=True, slots=True)
class BreakdownFigures:
    """Both margins by named parts, and the scenarios behind them; no scenarios where the model has none."""

    parts: list[Part]
    scenarios: list[GroupFigures]


def breakdown_of(scene: Scene, instant: Instant, now: Numbers) -> BreakdownFigures | None:
    """Return what the numbers of a scene's account at an instant are made of; None where the model does not say."""
    model = scene.model
    if not isinstance(model, ExplainedMarginModel):
        return None
    book, rows = scene.book([scene.holdings])
    listings = scene.market.listings
    found = model.breakdown(
        instant.margin_tables[model.name], scene.market.parameters(model.name), listings, book.positions, int(rows[0])
    )
    names = [it.instrument for it in listings.instruments]
    return BreakdownFigures([*found.parts, *_unnamed(found.parts, now)], [_group(it, names) for it in found.groups])


def _unnamed(parts: list[Part], now: Numbers) -> list[Part]:
    initial = now.initial_margin - sum(it.initial for it in parts)
    maintenance = now.maintenance_margin - sum(it.maintenance for it in parts)
    size = max((abs(number) for it in parts for number in (it.initial, it.maintenance)), default=0.0)
    named = isclose(initial, 0.0, abs_tol=_RELATIVE * size) and isclose(maintenance, 0.0, abs_tol=_RELATIVE * size)
    return [] if named else [Part(UNNAMED, "", initial, maintenance)]


def _group(group: ScenarioGroup, names: list[str]) -> GroupFigures:
    figures = [_scenario(it, names) for it in group.scenarios]
    counts = None if group.counts is None else figures[group.counts]
    return GroupFigures(
        group.of, group.rule, counts, 0.0 if counts is None else -counts.profit, group.factor, figures
    )  # fmt: skip


def _scenario(scenario: ScenarioProfit, names: list[str]) -> ScenarioFigures:
    positions = {names[index]: profit for index, profit in scenario.positions.items()}
    return ScenarioFigures(scenario.name, scenario.profit, positions, scenario.adjustment)
