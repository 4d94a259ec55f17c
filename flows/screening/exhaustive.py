"""The judge: every account is decided at every instant at which the market moved.

1. Nothing is skipped but what cannot have changed: accounts that no record touched, in a market that did not move.
"""

import numpy as np
import numpy.typing as npt

from flows.market.instant import Instant
from flows.risk.book import Book

Int64Array = npt.NDArray[np.int64]


class Exhaustive:
    """Evaluate all."""

    name = "exhaustive"

    def rows(self, book: Book, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return all customers if anything moved, else those touched."""
        if instant.everything_moved or instant.moved.any() or instant.asset_moved.any():
            return book.customer_rows
        return touched


POLICY = Exhaustive()
