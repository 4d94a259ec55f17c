"""What one account's requirement is made of: an optional protocol by which a margin model takes its numbers apart.

It is for people who ask about one account; nothing is decided by it.

1. Parts add up to both margins of ``requirements``, but for the rounding of their sums.
2. A group of positions that is judged by scenarios has a part named ``LOSS``. Its maintenance is ``factor`` times the
   loss in the scenario that counts, and 0 where none does.
3. A scenario's profit is the sum of its positions' and of its adjustment: what the model does to the sum.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from flows.margin.model import PositionColumns
from flows.market.listings import Listings
from schemas.instruments import Payoff

LOSS: Final = "scenario loss"
THE_WORST_COUNTS: Final = "the worst counts"

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Part:
    """A named addend of both margins, numeraire; ``of`` says of what: an underlying, an expiry; all where empty."""

    name: str
    of: str
    initial: float
    maintenance: float


@dataclass(frozen=True, slots=True)
class ScenarioProfit:
    """What a group of positions gains in one scenario, numeraire, negative for a loss.

    ``positions`` is by instrument index, in the order of instruments.
    """

    name: str
    positions: dict[int, float]
    adjustment: float = 0.0

    @property
    def profit(self) -> float:
        """Return what the model counts."""
        return sum(self.positions.values()) + self.adjustment


@dataclass(frozen=True, slots=True)
class ScenarioGroup:
    """Positions that are judged by scenarios together; ``of`` is that of its part ``LOSS``.

    ``counts`` is the place of the scenario that maintenance margin counts, None where none loses; ``rule`` says how it
    is chosen.
    """

    of: str
    scenarios: list[ScenarioProfit]
    counts: int | None
    factor: float
    rule: str = THE_WORST_COUNTS


@dataclass(frozen=True, slots=True)
class Breakdown:
    """An account's requirement, taken apart; no groups where a model has no scenarios."""

    parts: list[Part] = field(default_factory=list)
    groups: list[ScenarioGroup] = field(default_factory=list)


@runtime_checkable
class ExplainedMarginModel(Protocol):
    """A margin model that can say what an account's requirement is made of."""

    def breakdown(
        self, tables: Any, parameters: Any, listings: Listings, positions: PositionColumns, row: int
    ) -> Breakdown:
        """Return the parts and scenarios of a row that the model covers; arguments as ``requirements`` has them.

        ``parameters`` are those that ``tables`` were made with; ``listings`` has the names.
        """


def grouped(positions: PositionColumns, row: int, key: Callable[[int], _Key]) -> dict[_Key, list[tuple[int, float]]]:
    """Return a row's ``(instrument, lots)`` by a key of the instrument, keys in the order of their first instrument."""
    found: dict[_Key, list[tuple[int, float]]] = {}
    first = int(positions.offset[row])
    for place in range(first, first + int(positions.count[row])):
        instrument = int(positions.instrument[place])
        found.setdefault(key(instrument), []).append((instrument, float(positions.lots[place])))
    return found


def worst_of(scenarios: Sequence[ScenarioProfit]) -> tuple[int | None, float]:
    """Return the place of the worst scenario and its loss, > 0; None and 0 where none loses."""
    place = min(range(len(scenarios)), key=lambda it: scenarios[it].profit)
    profit = scenarios[place].profit
    return (place, -profit) if profit < 0.0 else (None, 0.0)


def scenario_name(spot_multiple: float, vol: str, weight: float = 1.0) -> str:
    """Return how a scenario is written: by what spot is multiplied, and how vols move."""
    return f"spot x {spot_multiple:g}, vol {vol}" + ("" if weight == 1.0 else f", weight {weight:g}")


def group_name(listings: Listings, instrument: int) -> str:
    """Return what positions on one underlying that settle in one asset are called."""
    it = listings.instruments[instrument]
    inverse = ", inverse" if it.payoff is Payoff.INVERSE else ""
    return f"{it.underlying} in {listings.assets[it.settlement_asset].asset}{inverse}"


def floors(parts: Sequence[Part]) -> list[Part]:
    """Return the part that keeps maintenance at 0 and initial margin at maintenance, where it is needed."""
    initial, maintenance = sum(it.initial for it in parts), sum(it.maintenance for it in parts)
    kept = max(maintenance, 0.0)
    opened = max(initial, kept)
    if kept == maintenance and opened == initial:
        return []
    return [Part("floor", "", opened - initial, kept - maintenance)]
