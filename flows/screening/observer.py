"""Where accounts live, and who watches them move: for summaries and pictures, outside all that is published.

1. An observer is told; what it does with it changes no decision, and no screen asks it anything.
2. Where accounts live is counted when it is asked for, at a few frames, and not at every one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flows.market.instant import Instant
from flows.market.step import Market
from flows.screening.policy import Work


@dataclass(frozen=True, slots=True)
class Residence:
    """Where the accounts of a process live, behind a frame. Empty where a screen has nothing to say.

    Attributes
    ----------
    residents_by_width : (width, accounts), rising in width: how many rest in boxes that reach so far up and down, as a
        fraction of the price.
    hot_by_reason : (reason in words, accounts), why accounts are looked at whenever what they hold moves.
    slack_quantiles : (quantile 0 to 1, numeraire), rising: how far accounts that rest were from the nearest end of
        their tier, at the worst point of their boxes, when they were placed.
    """

    residents_by_width: tuple[tuple[float, int], ...] = ()
    hot_by_reason: tuple[tuple[str, int], ...] = ()
    slack_quantiles: tuple[tuple[float, float], ...] = ()


@runtime_checkable
class Residential(Protocol):
    """A screen that knows where accounts live."""

    def residence(self) -> Residence:
        """Return where they live, as of the last frame."""


class Observer(Protocol):
    """Watches one process's screen."""

    def box_built(self, *, underlying: int, width: float, slot: int, low: float, high: float, time_ns: int) -> None:
        """Take that a box stands from ``time_ns`` on, for spots of an underlying from ``low`` to ``high``.

        Boxes of one underlying and width are told apart by ``slot``; one that is built where another stands ends it.
        """

    def box_left(self, *, underlying: int, width: float, slot: int, time_ns: int) -> None:
        """Take that a box is torn down, and no other stands in its place yet."""

    def frame(
        self, market: Market, instant: Instant, /, *, evaluated: int, work: Work, residence: Callable[[], Residence]
    ) -> None:
        """Take what a frame took, behind its decisions; ``residence`` counts where accounts live, if called."""


def together(parts: Iterable[Residence]) -> Residence:
    """Return where the accounts of several processes live; of slacks, the least of any process at each quantile."""
    residents: dict[float, int] = {}
    hot: dict[str, int] = {}
    slack: dict[float, float] = {}
    for part in parts:
        for width, accounts in part.residents_by_width:
            residents[width] = residents.get(width, 0) + accounts
        for reason, accounts in part.hot_by_reason:
            hot[reason] = hot.get(reason, 0) + accounts
        for quantile, numeraire in part.slack_quantiles:
            slack[quantile] = min(slack.get(quantile, numeraire), numeraire)
    return Residence(tuple(sorted(residents.items())), tuple(sorted(hot.items())), tuple(sorted(slack.items())))
