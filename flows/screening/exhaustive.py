"""The judge: every account is decided at every instant at which the market moved.

1. Nothing is skipped but what cannot have changed: accounts that no record touched, in a market that did not move.
"""

import numpy as np
import numpy.typing as npt

from flows.market.instant import Instant
from flows.risk.evaluation import Evaluation
from flows.screening.policy import Sight, Work, anything_moved

Int64Array = npt.NDArray[np.int64]


class _Everyone:
    """Evaluate all; every account is hot."""

    def __init__(self, sight: Sight) -> None:
        self._book = sight.book

    def rows(self, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return all customers if anything moved, else those touched."""
        return self._book.customer_rows if anything_moved(instant) else touched

    def decided(self, instant: Instant, rows: Int64Array, evaluation: Evaluation) -> None:
        """Remember nothing."""

    def work(self) -> Work:
        """Return that no account is ever left out."""
        return Work(hot_accounts=self._book.customer_rows.shape[0])

    def violations(self, rows: Int64Array, evaluation: Evaluation) -> int:  # noqa: ARG002
        """Return 0: nothing is bounded here."""
        return 0


class Exhaustive:
    """Evaluate all."""

    name = "exhaustive"
    exact = True

    def screen(self, sight: Sight) -> _Everyone:
        """Return the screening of one process."""
        return _Everyone(sight)


POLICY = Exhaustive()
