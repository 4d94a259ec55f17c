"""Which accounts an instant must evaluate.

A policy is found by its name through the entry-point group ``tidegate.screening``. Whatever it skips, what is
published must equal what the exhaustive policy publishes, byte for byte.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from flows.market.instant import Instant
from flows.risk.book import Book

Int64Array = npt.NDArray[np.int64]


class ScreeningPolicy(Protocol):
    """Chooses rows; its own memory is diagnostics, never part of what is published."""

    name: str

    def rows(self, book: Book, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return the rows of customers to decide at this instant, rising, without repeats.

        ``touched`` are the rows that the frame's own records and payments changed, rising, customers only.
        """
