"""Traders' open orders: some accounts rest a few at the venue, and change or take them back as time goes.

1. Which accounts these are follows from the share and their numbers alone. Each has one to three orders, in instruments
   of an underlying that it holds already; nothing is traded of them.
2. Nothing is open in what has expired.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from flows.risk.book import Book
from schemas.ledger import Legs
from tests.simulator.frames import open_orders
from tests.simulator.venue import Venue

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]

_ORDERS_MAX: Final = 3
_LOTS_MAX: Final = 40
_TAKEN_BACK: Final = 0.3
_MIXED: Final = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: multiples of it are spread evenly


class Resting:
    """Draws what open orders there are, tick after tick."""

    def __init__(self, venue: Venue, *, share: float, seed: int) -> None:
        self._venue = venue
        self._below = np.uint64(min(int(share * 2.0**64), 2**64 - 1))
        self._rng = np.random.Generator(np.random.PCG64([seed, 5]))
        self._rows: Int64Array = np.zeros(0, np.int64)

    def opening(self, now_ns: int, book: Book) -> list[Legs]:
        """Return everybody's first orders."""
        rows = book.customer_rows
        mixed = book.account[rows].astype(np.uint64) * np.uint64(_MIXED)
        self._rows = rows[(mixed < self._below) & (book.positions.count[rows] > 0)]
        each = self._rng.integers(1, _ORDERS_MAX + 1, self._rows.shape[0])
        return self._told(np.repeat(self._rows, each), now_ns, book)

    def changes(self, rate: float, now_ns: int, book: Book) -> list[Legs]:
        """Return orders, ``rate`` on average, that are new, changed or taken back."""
        count = int(self._rng.poisson(rate))
        if count == 0 or self._rows.shape[0] == 0:
            return []
        return self._told(self._rng.choice(self._rows, count), now_ns, book)

    def _told(self, rows: Int64Array, now_ns: int, book: Book) -> list[Legs]:
        rng, venue, positions = self._rng, self._venue, book.positions
        rows = rows[positions.count[rows] > 0]
        count = int(rows.shape[0])
        held = positions.instrument[positions.offset[rows] + rng.integers(0, positions.count[rows])]
        pools = [venue.pools[underlying] for underlying in range(len(venue.pools))]
        begin = np.array([pool[0] for pool in pools])
        length = np.array([pool.shape[0] for pool in pools])
        of = np.searchsorted(begin, held, side="right") - 1
        instrument = begin[of] + np.floor(rng.random(count) * length[of]).astype(np.int64)
        lots = np.where(rng.random(count) < _TAKEN_BACK, 0, rng.integers(1, _LOTS_MAX, count))
        is_buy = rng.random(count) < 0.5
        kept = venue.expiry_ns[instrument] > now_ns
        account = book.account[rows[kept]].astype(np.int64)
        return [open_orders(account, instrument[kept], lots[kept], is_buy[kept], now_ns)]
