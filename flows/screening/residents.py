"""Who lives where: a list of rows for every slot, and one of those that live nowhere and are looked at always.

1. A row is in one list at most. It is put in and taken out at once: the last of a list takes the place that is left.
2. Nothing is done for an account that does not move.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.margin.model import NO_OPEN_ORDERS, OpenOrders, PositionColumns, UInt32Array

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Int16Array = npt.NDArray[np.int16]
UInt64Array = npt.NDArray[np.uint64]
UInt16Array = npt.NDArray[np.uint16]
UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

NOWHERE: Final = -1
_WORD: Final = 64


class Residents:
    """Lists of rows: N rows, J slots; list J is of the hot.

    Attributes
    ----------
    slot : (N,), where a row is: a slot, ``hot``, or NOWHERE. hot : the number of the list of the hot.
    held, owned : (N, words), a bit for each underlying and each asset that a row depends on. families : (N,), a bit for
        each family of instruments.
    counts : (J + 1,), how many rows each list has. by_box : (J + 1, U), how many of them hold an underlying.
    """

    def __init__(self, slots: int) -> None:
        self.hot = slots
        self.slot: Int16Array = np.zeros(0, np.int16)
        self.held: UInt64Array = np.zeros((0, 1), np.uint64)
        self.owned: UInt64Array = np.zeros((0, 1), np.uint64)
        self.families: UInt64Array = np.zeros(0, np.uint64)
        self.by_box: Int64Array = np.zeros((slots + 1, 0), np.int64)
        self._place: Int32Array = np.zeros(0, np.int32)
        self._members: Int32Array = np.zeros((slots + 1, 0), np.int32)
        self.counts: Int64Array = np.zeros(slots + 1, np.int64)

    def grow(self, rows: int, underlyings: int, assets: int) -> None:
        """Make room."""
        had = self.slot.shape[0]
        if rows > had:
            room = max(rows, 2 * had)
            slot, place = np.full(room, NOWHERE, np.int16), np.zeros(room, np.int32)
            slot[:had], place[:had] = self.slot, self._place
            members = np.empty((self.hot + 1, room), np.int32)
            for of, count in enumerate(self.counts.tolist()):
                members[of, :count] = self._members[of, :count]
            families = np.zeros(room, np.uint64)
            families[:had] = self.families
            self.slot, self._place, self._members, self.families = slot, place, members, families
        shape = self.slot.shape[0]
        self.held = _larger(self.held, (shape, -(-max(underlyings, 1) // _WORD)))
        self.owned = _larger(self.owned, (shape, -(-max(assets, 1) // _WORD)))
        if self.by_box.shape[1] < underlyings:
            by_box = np.zeros((self.hot + 1, underlyings), np.int64)
            by_box[:, : self.by_box.shape[1]] = self.by_box
            self.by_box = by_box

    def empty(self) -> None:
        """Let nobody live anywhere."""
        self.slot[:] = NOWHERE
        self.counts[:] = 0
        self.by_box[:] = 0

    def of(self, slot: int) -> Int32Array:
        """Return the rows of a slot, in no order; a view."""
        return self._members[slot, : self.counts[slot]]

    def put(self, rows: Int64Array, slot: int) -> None:
        """Move rows, from wherever they are, to a list or NOWHERE."""
        _put(rows, slot, self.slot, self._place, self._members, self.counts, self.held, self.by_box)

    def describe(
        self,
        rows: Int64Array,
        *,
        positions: PositionColumns,
        open_orders: OpenOrders | None,
        family: UInt8Array,
        underlying: Int32Array,
        settlement_asset: UInt16Array,
        cash: Int64Array,
    ) -> None:
        """Write down what rows depend on: what they hold or may yet trade, and what it settles in.

        They must be NOWHERE.
        """
        orders = NO_OPEN_ORDERS if open_orders is None else open_orders
        _describe(
            rows, positions.offset, positions.count, positions.instrument, orders.offset, orders.count,
            orders.instrument, family, underlying, settlement_asset, cash, self.held, self.owned, self.families,
        )  # fmt: skip

    def of_left(self, slot: int, *, underlyings: UInt64Array, assets: UInt64Array, families: np.uint64) -> Int64Array:
        """Return the rows of a slot that depend on what was left: bits of underlyings, assets, families."""
        rows = self.of(slot)
        out = np.empty(rows.shape[0], np.int64)
        found = _of_left(rows, self.held, self.owned, self.families, underlyings, assets, families, out)
        return out[:found]

    def holding(self, slot: int, underlyings: UInt64Array) -> Int64Array:
        """Return the rows of a slot that hold any of some underlyings."""
        rows = self.of(slot).astype(np.int64)
        return rows[(self.held[rows] & underlyings).any(axis=1)]


def bits(flags: BoolArray, words: int) -> UInt64Array:
    """Return (words,) of (n,) flags, 64 to a word."""
    wide = np.zeros(words * _WORD, np.uint8)
    wide[: flags.shape[0]] = flags
    return np.packbits(wide, bitorder="little").view("<u8").astype(np.uint64)


def flags(of_bits: UInt64Array, count: int) -> BoolArray:
    """Return (count,) flags of bits."""
    return np.unpackbits(of_bits.astype("<u8").view(np.uint8), bitorder="little")[:count].astype(np.bool_)


def _larger(array: UInt64Array, shape: tuple[int, int]) -> UInt64Array:
    if array.shape == shape:
        return array
    grown = np.zeros(shape, np.uint64)
    grown[: array.shape[0], : array.shape[1]] = array
    return grown


def any_of(words: UInt64Array, wanted: UInt64Array) -> BoolArray:
    """Return, (n,), which of n rows of words have any bit of ``wanted``: one word at a time, for there are few."""
    found: BoolArray = (words[:, 0] & wanted[0]) != 0
    for word in range(1, words.shape[1]):
        found |= (words[:, word] & wanted[word]) != 0
    return found


@njit(cache=True, error_model="numpy")
def _put(
    rows: Int64Array,
    to: int,
    slot: Int16Array,
    place: Int32Array,
    members: Int32Array,
    counts: Int64Array,
    held: UInt64Array,
    by_box: Int64Array,
) -> None:
    underlyings = by_box.shape[1]
    for n in range(rows.shape[0]):
        row = rows[n]
        at = slot[row]
        if at == to:
            continue
        if at >= 0:
            counts[at] -= 1
            last = members[at, counts[at]]
            members[at, place[row]] = last
            place[last] = place[row]
        slot[row] = to
        if to >= 0:
            members[to, counts[to]] = row
            place[row] = counts[to]
            counts[to] += 1
        for word in range(held.shape[1]):
            left = held[row, word]
            u = word * 64
            while left != 0 and u < underlyings:
                if left & np.uint64(1):
                    if at >= 0:
                        by_box[at, u] -= 1
                    if to >= 0:
                        by_box[to, u] += 1
                left >>= np.uint64(1)
                u += 1


@njit(cache=True, error_model="numpy")
def _describe(
    rows: Int64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    order_offset: Int64Array,
    order_count: Int64Array,
    order_instrument: UInt32Array,
    family: UInt8Array,
    underlying: Int32Array,
    settlement_asset: UInt16Array,
    cash: Int64Array,
    held: UInt64Array,
    owned: UInt64Array,
    families: UInt64Array,
) -> None:
    for n in range(rows.shape[0]):
        row = rows[n]
        held[row] = 0
        owned[row] = 0
        families[row] = 0
        for p in range(offset[row], offset[row] + count[row]):
            _depends(row, instrument[p], family, underlying, settlement_asset, held, owned, families)
        if order_count.shape[0]:
            for o in range(order_offset[row], order_offset[row] + order_count[row]):
                _depends(row, order_instrument[o], family, underlying, settlement_asset, held, owned, families)
        for j in range(cash.shape[1]):
            if cash[row, j] != 0:
                a = np.uint64(j)
                owned[row, a >> np.uint64(6)] |= np.uint64(1) << (a & np.uint64(63))


@njit(forceinline=True, error_model="numpy")
def _depends(
    row: int,
    instrument: int,
    family: UInt8Array,
    underlying: Int32Array,
    settlement_asset: UInt16Array,
    held: UInt64Array,
    owned: UInt64Array,
    families: UInt64Array,
) -> None:
    u, a = np.uint64(underlying[instrument]), np.uint64(settlement_asset[instrument])
    held[row, u >> np.uint64(6)] |= np.uint64(1) << (u & np.uint64(63))
    owned[row, a >> np.uint64(6)] |= np.uint64(1) << (a & np.uint64(63))
    families[row] |= np.uint64(1) << np.uint64(family[instrument])


@njit(cache=True, error_model="numpy")
def _of_left(
    rows: Int32Array,
    held: UInt64Array,
    owned: UInt64Array,
    families: UInt64Array,
    underlyings: UInt64Array,
    assets: UInt64Array,
    left_families: np.uint64,
    out: Int64Array,
) -> int:
    found = 0
    only_families = not (underlyings.any() or assets.any())
    for n in range(rows.shape[0]):
        row = np.uint64(rows[n])
        hit = (families[row] & left_families) != 0
        if not only_families:
            for word in range(held.shape[1]):
                hit |= (held[row, word] & underlyings[word]) != 0
            for word in range(owned.shape[1]):
                hit |= (owned[row, word] & assets[word]) != 0
        if hit:
            out[found] = rows[n]
            found += 1
    return found
