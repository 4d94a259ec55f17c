"""What the venue says that accounts may yet buy and sell: the open orders of a book's rows, as columns.

They are traders' own orders, resting at the venue. The *liquidation orders* that the engine asks for are another thing:
they stand beside positions, in ``flows.risk.book``.

1. A row's open orders are contiguous, rising by instrument, never both 0. Rows without any take no room here.
2. A leg replaces one side of one account and instrument. Fills change nothing: the venue says what remains.
3. They end with their instrument: behind its expiry nothing is open in it.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.margin.model import OpenOrders
from flows.risk.booking import add, find
from schemas.ledger import LegFlag, Legs

Int64Array = npt.NDArray[np.int64]
UInt32Array = npt.NDArray[np.uint32]

_Integer = TypeVar("_Integer", np.int64, np.uint32)

_BUYER = int(LegFlag.BUYER)
_POOL_MIN = 64
_ROOM_MIN = 4


class OpenOrderColumns:
    """The open orders of a book's rows; empty until a first leg brings one."""

    def __init__(self) -> None:
        self._offset = np.zeros(0, np.int64)
        self._count = np.zeros(0, np.int64)
        self._capacity = np.zeros(0, np.int64)
        self._instrument = np.zeros(_POOL_MIN, np.uint32)
        self._buys = np.zeros(_POOL_MIN, np.int64)
        self._sells = np.zeros(_POOL_MIN, np.int64)
        self._pool_used = np.zeros(1, np.int64)
        # In how many rows each instrument has open orders.
        self._rows_with = np.zeros(_ROOM_MIN, np.int64)

    def __bool__(self) -> bool:
        """Whether any row has open orders."""
        return bool(self._rows_with.any())

    def columns(self, rows: int) -> OpenOrders:
        """Return the open orders of the first ``rows`` rows of the book."""
        self._room(rows)
        return OpenOrders(self._offset[:rows], self._count[:rows], self._instrument, self._buys, self._sells)

    def instruments(self) -> Int64Array:
        """Return the instruments in which any row has open orders, rising."""
        return np.flatnonzero(self._rows_with)

    def tell(self, legs: Legs, rows: Int64Array) -> None:
        """Take legs of open orders, in order; ``rows`` are those of their accounts."""
        self._room(int(rows.max()) + 1)
        self._rows_with = _longer(self._rows_with, int(legs["instrument"].max()) + 1)
        done = 0
        while done < legs.shape[0]:
            done = _tell(
                done, legs["instrument"], legs["lots"], legs["flags"] & _BUYER != 0, rows, self._offset, self._count,
                self._capacity, self._instrument, self._buys, self._sells, self._pool_used, self._rows_with,
            )  # fmt: skip
            if done < legs.shape[0]:
                self._grow_pool(_ROOM_MIN)

    def end(self, instrument: int) -> Int64Array:
        """Drop all open orders in an instrument; return the rows that had some, rising."""
        rows = np.empty(int(self._rows_with[instrument]), np.int64)
        _end(instrument, self._offset, self._count, self._instrument, self._buys, self._sells, rows)
        self._rows_with[instrument] = 0
        return rows

    def put(self, row: int, instrument: UInt32Array, buys: Int64Array, sells: Int64Array) -> None:
        """Set a row that has none to what a checkpoint says."""
        count = instrument.shape[0]
        self._room(row + 1)
        self._rows_with = _longer(self._rows_with, int(instrument.max()) + 1)
        used = int(self._pool_used[0])
        self._grow_pool(used + count - self._instrument.shape[0])
        self._offset[row], self._count[row], self._capacity[row] = used, count, count
        self._instrument[used : used + count] = instrument
        self._buys[used : used + count] = buys
        self._sells[used : used + count] = sells
        self._rows_with[instrument] += 1
        self._pool_used[0] = used + count

    def row_that_overflows(
        self, rows: Int64Array, offset: Int64Array, count: Int64Array, instrument: UInt32Array, lots: Int64Array
    ) -> int:
        """Return the first of ``rows`` whose position, with one side of an open order filled, leaves 64 bits; or -1.

        Parameters
        ----------
        offset, count, instrument, lots : the book's positions, as in ``PositionColumns``.
        """
        self._room(int(rows.max(initial=-1)) + 1)
        first: int = _row_that_overflows(
            rows, offset, count, instrument, lots, self._offset, self._count, self._instrument, self._buys, self._sells
        )
        return first

    def _room(self, rows: int) -> None:
        for name in ("_offset", "_count", "_capacity"):
            setattr(self, name, _longer(getattr(self, name), rows))

    def _grow_pool(self, needed: int) -> None:
        """Make room for ``needed`` more places than there are."""
        if needed > 0:
            for name in ("_instrument", "_buys", "_sells"):
                old = getattr(self, name)
                setattr(self, name, _longer(old, old.shape[0] + needed))


def _longer(column: npt.NDArray[_Integer], length: int) -> npt.NDArray[_Integer]:
    """Return a column of at least this length, at least doubled if it has to grow."""
    if column.shape[0] >= length:
        return column
    longer = np.zeros(max(length, 2 * column.shape[0]), column.dtype)
    longer[: column.shape[0]] = column
    return longer


@njit(cache=True)
def _remove(place, row, offset, count, instruments, buys, sells):  # type: ignore[no-untyped-def]
    for i in range(place, offset[row] + count[row] - 1):
        instruments[i] = instruments[i + 1]
        buys[i] = buys[i + 1]
        sells[i] = sells[i + 1]
    count[row] -= 1


@njit(cache=True)
def _tell(  # type: ignore[no-untyped-def]
    done, instrument, lots, is_buy, rows, offset, count, capacity, instruments, buys, sells, pool_used, rows_with,
) -> int:  # fmt: skip
    """Take legs from ``done`` on; return how far it came: to the end, or to one that the pool has no room for."""
    end: int = rows.shape[0]
    for leg in range(done, end):
        row = rows[leg]
        place = find(instruments, offset[row], count[row], instrument[leg])
        if place == offset[row] + count[row] or instruments[place] != instrument[leg]:
            if lots[leg] == 0:
                continue
            if count[row] == capacity[row]:
                size = max(_ROOM_MIN, 2 * capacity[row])
                start = pool_used[0]
                if start + size > instruments.shape[0]:
                    return leg
                for i in range(count[row]):
                    instruments[start + i] = instruments[offset[row] + i]
                    buys[start + i] = buys[offset[row] + i]
                    sells[start + i] = sells[offset[row] + i]
                place += start - offset[row]
                offset[row] = start
                capacity[row] = size
                pool_used[0] = start + size
            for i in range(offset[row] + count[row], place, -1):
                instruments[i] = instruments[i - 1]
                buys[i] = buys[i - 1]
                sells[i] = sells[i - 1]
            instruments[place] = instrument[leg]
            buys[place] = 0
            sells[place] = 0
            count[row] += 1
            rows_with[instrument[leg]] += 1
        if is_buy[leg]:
            buys[place] = lots[leg]
        else:
            sells[place] = lots[leg]
        if buys[place] == 0 and sells[place] == 0:
            _remove(place, row, offset, count, instruments, buys, sells)
            rows_with[instrument[leg]] -= 1
    return end


@njit(cache=True)
def _end(instrument, offset, count, instruments, buys, sells, rows) -> None:  # type: ignore[no-untyped-def]
    found = 0
    for row in range(count.shape[0]):
        place = find(instruments, offset[row], count[row], instrument)
        if place < offset[row] + count[row] and instruments[place] == instrument:
            _remove(place, row, offset, count, instruments, buys, sells)
            rows[found] = row
            found += 1


@njit(cache=True)
def _row_that_overflows(  # type: ignore[no-untyped-def]
    rows, offset, count, instruments, lots, order_offset, order_count, order_instruments, buys, sells,
) -> int:  # fmt: skip
    for row in rows:
        for o in range(order_offset[row], order_offset[row] + order_count[row]):
            place = find(instruments, offset[row], count[row], order_instruments[o])
            is_held = place < offset[row] + count[row] and instruments[place] == order_instruments[o]
            if is_held and not (add(lots[place], buys[o])[1] and add(lots[place], -sells[o])[1]):
                return row  # type: ignore[no-any-return]
    return -1
