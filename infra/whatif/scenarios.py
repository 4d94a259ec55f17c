"""Which scenario is the worst, and what each position loses in it: of models that work by scenarios.

1. The numbers are read from the margin model's own tables of the instant; nothing is priced here.
2. For ``tidegate-portfolio``, the losses in the worst scenarios and the contingencies, times the model's factor, add up
   to its maintenance margin.
"""

from dataclasses import dataclass

from flows.margin.portfolio import PortfolioTables
from flows.market.instant import Instant
from infra.whatif.scene import Scene
from schemas.parameters import PortfolioParameters


@dataclass(frozen=True, slots=True)
class ScenarioProfit:
    """One scenario: ``profit`` in the numeraire, weighted, negative for a loss.

    ``spot`` and ``vol`` say how the market moves: a multiple, and down, none or up.
    """

    spot: float
    vol: str
    weight: float
    profit: float
    positions: dict[str, float]


@dataclass(frozen=True, slots=True)
class UnderlyingScenarios:
    """An underlying's part of maintenance margin: ``(loss + contingency) × factor``.

    ``worst`` is None where no scenario loses anything; ``all`` are in the order of the parameters.
    """

    underlying: str
    worst: ScenarioProfit | None
    loss: float
    contingency: float
    factor: float
    all: list[ScenarioProfit]


_VOLS = {-1: "down", 0: "none", 1: "up"}


def scenarios_of(scene: Scene, instant: Instant) -> list[UnderlyingScenarios] | None:
    """Return the scenarios of each underlying that is held; None where the model's are not known here."""
    tables = instant.margin_tables[scene.model.name]
    parameters = scene.market.parameters(scene.model.name)
    if not isinstance(tables, PortfolioTables) or not isinstance(parameters, PortfolioParameters):
        return None
    held: dict[str, list[tuple[int, int]]] = {}
    for index, lots in scene.holdings.lots:
        held.setdefault(scene.instrument(index).underlying, []).append((index, lots))
    return [_of(scene, tables, parameters, name, positions) for name, positions in held.items()]


def _of(
    scene: Scene,
    tables: PortfolioTables,
    parameters: PortfolioParameters,
    underlying: str,
    positions: list[tuple[int, int]],
) -> UnderlyingScenarios:
    found = []
    for place, (spot, vol, weight) in enumerate(parameters.scenarios):
        parts = {scene.instrument(i).instrument: float(tables.profit[i, place]) * lots for i, lots in positions}
        found.append(ScenarioProfit(spot, _VOLS[vol], weight, sum(parts.values()), parts))
    worst = min(found, key=lambda it: it.profit)
    contingency = sum(abs(lots) * float(tables.contingency[index, 1 if lots < 0 else 0]) for index, lots in positions)
    loses = worst.profit < 0.0
    return UnderlyingScenarios(
        underlying, worst if loses else None, max(-worst.profit, 0.0), contingency, tables.maintenance_factor, found
    )
