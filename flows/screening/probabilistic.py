"""The probabilistic policy: an account is looked at again before the chance that it reached a boundary gets too large.

1. Not exact: what it leaves out may have changed its tier. The chance of that, for one account between one look and the
   next, is at most ``miss``, where moves of either sign are as likely and Greeks say what moves do (``withstood``). Its
   name says the chance, and belongs to a run's description.
2. A look sets how far each clock of the account's may advance (``clocks``). Clocks run by the moves that happen, so
   nothing is forecast: a market that wakes up is looked at more from its first move on, and an account that one jump
   carries past its boundary is looked at in the instant of the jump.
3. What is found at a look is decided as ever: a miss is a tier seen late, never one that is wrong from then on.
"""

from math import isfinite
from typing import Final

import numpy as np
import numpy.typing as npt

from flows.margin.model import NO_OPEN_ORDERS
from flows.market.instant import Instant
from flows.risk.evaluation import Evaluation
from flows.screening.boundaries import boundaries_of, distance
from flows.screening.clocks import Clocks
from flows.screening.deadlines import Deadlines
from flows.screening.policy import Sight, Work, anything_moved, rising
from flows.screening.ranges import INITIAL, NO_BOUNDARY
from flows.screening.withstood import looks

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]

MISS: Final = 1e-6
_BLOCK_ROWS: Final = 1 << 17  # as many accounts are given deadlines at once


class DeadlineScreen:
    """One process's clocks, and when each account is due by them."""

    def __init__(self, sight: Sight, miss: float) -> None:
        self._market, self._book = sight.market, sight.book
        self._miss = miss
        self._clocks = Clocks()
        self._deadlines: list[Deadlines] = []
        self._of_time = Deadlines()
        self._stamp: Int32Array = np.zeros(0, np.int32)
        self._is_hot: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._begun = False

    def rows(self, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return those touched, and those whose deadline has passed by any of their clocks."""
        clocks = self._clocks
        clocks.advance(self._market.columns, instant)
        self._grow()
        if instant.everything_moved or not self._begun:
            self._begun = True
            return self._book.customer_rows
        if not anything_moved(instant):
            return touched
        found = [touched, self._of_time.due(float(instant.time_ns), self._stamp)]
        for clock in np.flatnonzero(clocks.moved).tolist():
            reading = np.inf if clocks.broke[clock] else float(clocks.reading[clock])
            found.append(self._deadlines[clock].due(reading, self._stamp))
        return rising(self._book.rows, found)

    def decided(self, instant: Instant, rows: Int64Array, evaluation: Evaluation) -> None:
        """Set the rows' next deadlines by what they came to."""
        book = self._book
        boundaries = boundaries_of(book, instant, rows)
        left = distance(boundaries, evaluation, np.arange(rows.shape[0])).min(axis=1)
        left[evaluation.undecidable] = 0.0
        uses_initial = (boundaries.below_of == INITIAL) | (boundaries.above_of == INITIAL)
        multiple = np.maximum(
            np.where(boundaries.below_of == NO_BOUNDARY, 0.0, boundaries.below),
            np.where(boundaries.above_of == NO_BOUNDARY, 0.0, boundaries.above),
        )
        margin = np.where(uses_initial, evaluation.initial_margin, evaluation.maintenance_margin)
        self._is_hot[rows] = ~(left > 0.0)
        self._stamp[rows] += 1
        for start in range(0, rows.shape[0], _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            self._set(instant, rows[block], left[block], multiple[block], margin[block])

    def _set(
        self, instant: Instant, rows: Int64Array, left: Float64Array, multiple: Float64Array, margin: Float64Array
    ) -> None:
        clocks, book = self._clocks, self._book
        found = looks(
            instant, self._market.columns, clocks, rows=rows, left=left, multiple=multiple, margin=margin,
            cash=book.cash, positions=book.positions, open_orders=book.open_orders or NO_OPEN_ORDERS, miss=self._miss,
        )  # fmt: skip
        order = np.argsort(found.clock, kind="stable")
        ends = np.cumsum(np.bincount(found.clock, minlength=clocks.reading.shape[0]))
        start = 0
        for clock, end in enumerate(ends.tolist()):
            mine, start = order[start:end], end
            whose = rows[found.place[mine]]
            self._deadlines[clock].add(clocks.reading[clock] + found.allowance[mine], whose, self._stamp[whose])
        self._of_time.add(found.time_ns, rows, self._stamp[rows])

    def _grow(self) -> None:
        while len(self._deadlines) < self._clocks.reading.shape[0]:
            self._deadlines.append(Deadlines())
        more = self._book.rows - self._stamp.shape[0]
        if more > 0:
            self._stamp = np.pad(self._stamp, (0, max(more, self._stamp.shape[0])))
            self._is_hot = np.pad(self._is_hot, (0, self._stamp.shape[0] - self._is_hot.shape[0]))

    def work(self) -> Work:
        """Return how many accounts are due at any move."""
        return Work(hot_accounts=int(np.count_nonzero(self._is_hot)))

    def violations(self, rows: Int64Array, evaluation: Evaluation) -> int:  # noqa: ARG002
        """Return 0: nothing is bounded here."""
        return 0


class Probabilistic:
    """Look before the chance of a breach exceeds ``miss``, 0 to 1, both excluded.

    Raises
    ------
    ValueError : ``miss`` is no such chance.
    """

    exact = False

    def __init__(self, miss: float = MISS) -> None:
        if not (isfinite(miss) and 0.0 < miss < 1.0):
            raise ValueError(f"a chance of a miss lies between 0 and 1, and {miss:g} does not")
        self.miss = miss
        self.name = f"probabilistic:{miss:g}"

    def screen(self, sight: Sight) -> DeadlineScreen:
        """Return the screening of one process."""
        return DeadlineScreen(sight, self.miss)

    def tuned(self, setting: str) -> "Probabilistic":
        """Return the policy of a chance, as a decimal.

        Raises
        ------
        ValueError : it is none.
        """
        return Probabilistic(float(setting))


POLICY = Probabilistic()
