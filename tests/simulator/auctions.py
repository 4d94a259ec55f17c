"""How a venue closes what must be liquidated: auctions of open liquidation orders, and the house behind them.

1. An auction ends at a tick with a chance that makes it last ten seconds on average. Then all orders of an account
   fill: whole, or a random part of each, never more than is left of the position, at a price a little worse than the
   mark. Their other side is the house, or one time in four a trader who is not in trouble.
2. From an account that the ladder has for takeover the house takes every position at the mark. From a bankrupt one it
   takes the balances, too: the price makes each of them 0, and the fund pays what is owed where nothing was traded.
3. Sizes and prices come from the instant before. Nothing fills that cannot be priced, or that has expired meanwhile.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from flows.market.instant import Instant
from flows.risk.book import Book
from schemas.ids import HOUSE_NUMBER
from schemas.ledger import LegFlag, Legs
from schemas.results import Tier
from tests.builders import SECOND_NS
from tests.simulator.frames import fills, transfers

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]

_LASTS_NS: Final = 10 * SECOND_NS
_WHOLE: Final = 0.5  # of auctions
_TO_TRADERS: Final = 0.25
_DISCOUNT: Final = 0.003  # of notional
_HOUSE: Final = int(HOUSE_NUMBER)


class Auctions:
    """Draws what auctions fill, tick after tick."""

    def __init__(self, *, tick_ns: int, seed: int) -> None:
        self._chance = -float(np.expm1(-tick_ns / _LASTS_NS))
        self._rng = np.random.Generator(np.random.PCG64([seed, 4]))

    def fills(self, now_ns: int, instant: Instant, book: Book, may_trade: BoolArray) -> list[Legs]:
        """Return the records of a tick.

        Parameters
        ----------
        may_trade : (K,), whether an instrument can still be traded at this tick.
        """
        first = book.rows - book.customer_rows.shape[0]
        due = first + np.flatnonzero((book.tier[first:] >= int(Tier.LIQUIDATING)) & ~book.suspended[first:])
        rows = due[self._rng.random(due.shape[0]) < self._chance]
        return list(self._ended(rows, now_ns, instant, book, may_trade)) if rows.shape[0] else []

    def _ended(
        self, rows: Int64Array, now_ns: int, instant: Instant, book: Book, may_trade: BoolArray
    ) -> Iterator[Legs]:
        """Yield both sides of what fills of the orders of some accounts, and what the fund pays."""
        positions = book.positions
        other = self._other_sides(rows, book)
        count = rows.shape[0]
        part = np.where(self._rng.random(count) < _WHOLE, 1.0, self._rng.random(count))
        is_taken = book.tier[rows] >= int(Tier.TAKEOVER)
        part[is_taken], other[is_taken] = 1.0, _HOUSE
        places = positions.places(rows)
        of = np.repeat(np.arange(count), positions.count[rows])
        instrument = positions.instrument[places].astype(np.int64)
        ordered = book.order_lots[places]
        kept = (ordered != 0) & may_trade[instrument]
        of, instrument, ordered = of[kept], instrument[kept], ordered[kept]
        lots = np.sign(ordered) * np.ceil(part[of] * np.abs(ordered)).astype(np.int64)
        asset = instant.settlement_asset[instrument].astype(np.int64)
        units = np.rint(instant.value[instrument] / instant.asset_unit[asset]).astype(np.int64)
        worse = _DISCOUNT * instant.notional[instrument] / (instant.asset_price[asset] * instant.asset_unit[asset])
        discount = np.where(is_taken[of], 0.0, np.ceil(np.abs(lots) * worse)).astype(np.int64)
        cash = -lots * units - discount
        is_emptied = book.tier[rows] >= int(Tier.BANKRUPT)
        is_emptied &= np.bincount(of, minlength=count) == positions.count[rows]
        left = np.where(is_emptied[:, None], book.cash[rows], 0)
        np.add.at(left, (of, asset), np.where(is_emptied[of], cash, 0))
        # The first fill of each account in each asset has it all in its price.
        groups, first = np.unique(of * book.assets + asset, return_index=True)
        filled = groups // book.assets, groups % book.assets
        cash[first] -= left[filled]
        left[filled] = 0
        account = book.account[rows].astype(np.int64)
        side = fills(account[of], other[of], instrument, asset, lots, cash, now_ns)
        side["flags"] = int(LegFlag.LIQUIDATION)
        yield side
        yield fills(other[of], account[of], instrument, asset, -lots, -cash, now_ns)
        for asset_index in range(book.assets):
            owed = np.flatnonzero(left[:, asset_index])
            yield transfers(account[owed], asset_index, -left[owed, asset_index], now_ns)

    def _other_sides(self, rows: Int64Array, book: Book) -> Int64Array:
        """Return the account number on the other side of each account's fills."""
        count = rows.shape[0]
        drawn = self._rng.integers(book.rows - book.customer_rows.shape[0], book.rows, count)
        willing = (self._rng.random(count) < _TO_TRADERS) & (drawn != rows)
        willing &= (book.tier[drawn] < int(Tier.WARNING)) & ~book.isolated[drawn] & ~book.suspended[drawn]
        return np.where(willing, book.account[drawn].astype(np.int64), _HOUSE)
