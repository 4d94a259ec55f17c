"""A screening policy that misses: it proves that a comparison would notice.

The module is also a policy for worker processes: ``POLICY`` leaves out the first account that is opened.
"""

import numpy as np

from flows.market.instant import Instant
from flows.risk.evaluation import Evaluation
from flows.screening.exhaustive import POLICY as EXHAUSTIVE
from flows.screening.policy import Int64Array, Sight, Work
from schemas.ids import FIRST_ACCOUNT_NUMBER


class _Everyone:
    """Leaves nobody out, but says of one account, whenever it is judged, that its bound had excluded it."""

    def __init__(self, sight: Sight, number: int) -> None:
        self._book = sight.book
        self._everyone = EXHAUSTIVE.screen(sight)
        self._number = number

    def rows(self, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return whom the judge decides."""
        return self._everyone.rows(instant, touched)

    def decided(self, instant: Instant, rows: Int64Array, evaluation: Evaluation) -> None:
        """Remember nothing."""

    def work(self) -> Work:
        """Return what the judge says."""
        return self._everyone.work()

    def violations(self, rows: Int64Array, evaluation: Evaluation) -> int:
        """Return 1 where the account is among those that are judged."""
        assert evaluation.equity.shape == rows.shape
        return int(np.count_nonzero(rows == self._book.row(self._number)))


class ViolatesBound:
    """Exhaustive, and without a miss; but a bound of one account is wrong."""

    name = "violates-bound"
    exact = True

    def __init__(self, number: int = FIRST_ACCOUNT_NUMBER) -> None:
        self._number = number

    def screen(self, sight: Sight) -> _Everyone:
        """Return the screening of one process."""
        return _Everyone(sight, self._number)


class _Blind:
    def __init__(self, sight: Sight, number: int) -> None:
        self._book = sight.book
        self._everyone = EXHAUSTIVE.screen(sight)
        self._number = number

    def rows(self, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return whom the judge decides, but for one."""
        rows = self._everyone.rows(instant, touched)
        missed = self._book.row(self._number)
        return rows if missed in touched else rows[rows != missed]

    def decided(self, instant: Instant, rows: Int64Array, evaluation: Evaluation) -> None:
        """Remember nothing."""

    def work(self) -> Work:
        """Return placements, so that work above a pass is seen."""
        return Work(placements=2, hot_accounts=1, bound_violations=3)

    def violations(self, rows: Int64Array, evaluation: Evaluation) -> int:  # noqa: ARG002
        """Return 0: nothing is bounded here."""
        return 0


class MissesAccount:
    """Exhaustive but for one account, which is decided only where a record touches it."""

    name = "misses-account"
    exact = True

    def __init__(self, number: int = FIRST_ACCOUNT_NUMBER) -> None:
        self._number = number

    def screen(self, sight: Sight) -> _Blind:
        """Return the screening of one process."""
        return _Blind(sight, self._number)


class _Forgetful(_Blind):
    def rows(self, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return whom the judge decides, but for those who have orders open already."""
        rows = self._everyone.rows(instant, touched)
        kept: Int64Array = rows[(self._book.order_count[rows] == 0) | np.isin(rows, touched)]
        return kept


class ForgetsOrders:
    """Exhaustive but for accounts with open orders, which a falling market must grow."""

    name = "forgets-orders"
    exact = True

    def screen(self, sight: Sight) -> _Forgetful:
        """Return the screening of one process."""
        return _Forgetful(sight, -1)


POLICY = MissesAccount()
