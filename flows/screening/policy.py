"""Which accounts an instant must evaluate: the seam between the risk step and whoever saves it work.

A policy is found by its name. It has no memory: a process opens its own *screen*, which has, and asks it once a frame
(but for barriers, at which nothing is decided): first ``rows``, then ``decided`` with what came out.

1. What an account publishes at an instant follows from the instant, from what the account holds, and from how it
   stands (tier, suspension, open liquidation orders). So it may be left out where no record or payment of the frame
   touched it and
   - it is below ``LIQUIDATING`` and has no liquidation order open: orders grow, and are cancelled, at any instant;
   - nothing that it holds began or ceased to be decidable;
   - no boundary of the ladder is reached, in either direction, so that its tier stays what it is.
2. An *exact* policy leaves out nothing else: what is published equals what the exhaustive policy publishes, byte for
   byte. One that is not exact states the chance of a miss, and its name belongs to a run's description.
3. A screen's memory is diagnostics: it is in no checkpoint. A screen that is opened on a restored book sees
   ``everything_moved`` first, and begins anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from flows.margin.model import MarginModel
from flows.market.instant import Instant
from flows.market.step import Market
from flows.risk.book import Book
from flows.risk.evaluation import Evaluation

if TYPE_CHECKING:
    from flows.screening.observer import Observer

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sight:
    """What a screen may read, at any time and as of the last frame; it writes none of it.

    Attributes
    ----------
    market : ``market.columns`` are the inputs from which any row can be priced again, at any corner of a box;
        ``market.parameters(name)`` is the set in force; the margin tables of an instant are in the instant.
    book : positions, balances, tiers, suspensions and orders, by row. Rows are only ever added, behind the others.
    models : margin models by name; ``book.models`` says what ``book.model`` counts.
    observer : is told of boxes that are built and torn down; None where nobody watches.
    """

    market: Market
    book: Book
    models: Mapping[str, MarginModel]
    observer: "Observer | None" = None


@dataclass(frozen=True, slots=True)
class Work:
    """What a screen says of itself, for diagnostics.

    Attributes
    ----------
    placements : accounts whose bounds were computed for the last frame: work beside the evaluations.
    hot_accounts : accounts that must be evaluated at every instant, behind the last frame.
    bound_violations : accounts evaluated for the last frame whose numbers a bound had excluded: 0, or a proof is wrong.
    """

    placements: int = 0
    hot_accounts: int = 0
    bound_violations: int = 0


class Screen(Protocol):
    """One process's screening, opened on an empty book or on a restored one."""

    def rows(self, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return the rows of customers to decide at this instant, rising, without repeats.

        ``touched`` are the rows that the frame's own records and payments changed, and those that it opened: rising,
        customers only. They are in the answer. The book has the frame's records already. What moved says the
        instant; the inputs by which it can move are those of ``InstrumentColumns`` and of its assets.
        """

    def decided(self, instant: Instant, rows: Int64Array, evaluation: Evaluation) -> None:
        """Take what the rows came to; the book has their tiers, suspensions and orders.

        Called after ``rows`` wherever it answered any. Here accounts are placed again, at known numbers.
        """

    def work(self) -> Work:
        """Return what the last frame took, and how it stands."""

    def violations(self, rows: Int64Array, evaluation: Evaluation) -> int:
        """Return how many of these rows stand outside what the screen's bounds allow at the last instant.

        Asked by who judges, behind ``rows`` and ``decided``, about any customers, by numbers that the screen need not
        have. 0 from a screen that has no bounds; above 0 a proof is wrong, even where every tier is right.
        """


class ScreeningPolicy(Protocol):
    """Opens screens; without memory."""

    name: str
    exact: bool

    def screen(self, sight: Sight) -> Screen:
        """Return the screening of one process."""


@runtime_checkable
class TunablePolicy(Protocol):
    """A policy that has a setting, which may follow its name behind a colon."""

    def tuned(self, setting: str) -> ScreeningPolicy:
        """Return the policy with a setting; its name says it.

        Raises
        ------
        ValueError : what is wrong with the setting, in one line.
        """


def rising(rows: int, parts: Iterable[Int64Array]) -> Int64Array:
    """Return the row numbers below ``rows`` that are in any of the parts, rising, without repeats.

    Flags over all rows cost less than sorting those that are hot in a crash, and next to nothing where there are few.
    """
    among = np.zeros(rows, np.bool_)
    for part in parts:
        among[part] = True
    return np.flatnonzero(among)


def anything_moved(instant: Instant) -> bool:
    """Return whether a decision of an account that was not touched may differ from that of the instant before."""
    return bool(instant.everything_moved or instant.moved.any() or instant.asset_moved.any())
