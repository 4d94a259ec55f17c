"""How records, payments and hashes change the book's columns: the kernels of ``flows.risk.book``.

1. A kernel changes integers in place and writes each change into the journal; it never wraps, it says so and stops.
2. A kernel that runs out of room stops in front of the record that needs it, with nothing of that record done.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.ids import BRIDGE_NUMBER, FEES_NUMBER
from schemas.ledger import NO_INSTRUMENT, LegFlag, LegKind
from schemas.results import DeltaKind

Int64Array = npt.NDArray[np.int64]

# What a kernel may do to a row; the values are compiled into it.
_FILL, _BUST, _TRANSFER, _SPOT_BASE = (
    int(LegKind.FILL), int(LegKind.BUST), int(LegKind.TRANSFER), int(LegKind.SPOT_BASE),
)  # fmt: skip
_LIQUIDATION = int(LegFlag.LIQUIDATION)
_ASSET, _POSITION = int(DeltaKind.ASSET), int(DeltaKind.POSITION)
_NO_INSTRUMENT = int(NO_INSTRUMENT)
_FEES, _BRIDGE = int(FEES_NUMBER), int(BRIDGE_NUMBER)
ENTRIES_A_LEG = 6  # journal entries that one leg may write
OVERFLOW = -1
# What fits: -2^63 does not, whose size is no 64-bit number.
_LARGEST, _SMALLEST = 2**63 - 1, -(2**63 - 1)
# Products at or above this, as floats, may not fit a signed 64-bit integer.
_PRODUCT_END = 9.2e18


@njit(cache=True)
def add(a: int, b: int) -> tuple[int, bool]:
    """Return ``a + b`` and whether it stays within 64 bits; else the sum means nothing."""
    # Asked before it is added: compilers may assume that signed sums do not wrap, and drop a check of the wrapped one.
    fits = a <= _LARGEST - b if b >= 0 else a >= _SMALLEST - b
    return a + b, fits


@njit(cache=True)
def _journal_entry(journal, used, account, kind, market, amount):  # type: ignore[no-untyped-def]
    n = used[0]
    journal[n].account = account
    journal[n].kind = kind
    journal[n].market = market
    journal[n].amount = amount
    used[0] = n + 1


@njit(cache=True)
def find(instruments, start, count, instrument) -> int:  # type: ignore[no-untyped-def]
    """Return the place of an instrument among an account's, or where it would be inserted."""
    low: int = start
    high = start + count
    while low < high:
        middle = (low + high) // 2
        if instruments[middle] < instrument:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _remove(place, row, offset, count, instruments, lots, entry, order):  # type: ignore[no-untyped-def]
    end = offset[row] + count[row] - 1
    for i in range(place, end):
        instruments[i] = instruments[i + 1]
        lots[i] = lots[i + 1]
        entry[i] = entry[i + 1]
        order[i] = order[i + 1]
    lots[end] = 0
    entry[end] = 0
    order[end] = 0
    count[row] -= 1


@njit(cache=True)
def _trade(  # type: ignore[no-untyped-def]
    row, instrument, traded, cash, liquidation, offset, count, capacity, instruments, lots, entry, order, pool_used,
    orders, orphans, orphan_count,
):  # fmt: skip
    """Add ``traded`` lots; return (status, orphan count). Status 1: the pool is full and nothing was changed."""
    place = find(instruments, offset[row], count[row], instrument)
    if place == offset[row] + count[row] or instruments[place] != instrument:
        if count[row] == capacity[row]:
            size = max(4, 2 * capacity[row])
            start = pool_used[0]
            if start + size > lots.shape[0]:
                return 1, orphan_count
            for i in range(count[row]):
                source = offset[row] + i
                instruments[start + i] = instruments[source]
                lots[start + i] = lots[source]
                entry[start + i] = entry[source]
                order[start + i] = order[source]
            place += start - offset[row]
            offset[row] = start
            capacity[row] = size
            pool_used[0] = start + size
        for i in range(offset[row] + count[row], place, -1):
            instruments[i] = instruments[i - 1]
            lots[i] = lots[i - 1]
            entry[i] = entry[i - 1]
            order[i] = order[i - 1]
        instruments[place] = instrument
        lots[place] = 0
        entry[place] = 0
        order[place] = 0
        count[row] += 1
    before = lots[place]
    after, fits = add(before, traded)
    if not fits:
        return OVERFLOW, orphan_count
    if before == 0 or (before > 0) == (traded > 0):
        entry[place] += cash
    elif after == 0:
        entry[place] = 0
    elif (after > 0) == (before > 0):
        entry[place] = np.int64(np.rint(entry[place] * (after / before)))
    else:
        entry[place] = np.int64(np.rint(cash * (after / traded)))
    lots[place] = after
    open_order = order[place]
    if open_order != 0:
        if liquidation and (open_order > 0) == (traded > 0):
            left = abs(open_order) - abs(traded)
            open_order = 0 if left <= 0 else (left if open_order > 0 else -left)
        if after == 0 or (open_order != 0 and (open_order > 0) == (after > 0)):
            # Closed, or turned around: an order that is still open would now add to the position.
            if open_order != 0:
                orphans[orphan_count, 0] = row
                orphans[orphan_count, 1] = instrument
                orphans[orphan_count, 2] = open_order
                orphan_count += 1
            open_order = 0
        elif abs(open_order) > abs(after):
            open_order = -after
        if open_order == 0:
            orders[row] -= 1
        order[place] = open_order
    if after == 0:
        _remove(place, row, offset, count, instruments, lots, entry, order)
    return 0, orphan_count


@njit(cache=True)
def apply_legs(  # type: ignore[no-untyped-def]
    done, legs, rows, part, account, cash, offset, count, capacity, instruments, lots, entry, order, pool_used, orders,
    dirty, journal, used, orphans,
) -> tuple[int, int, int]:  # fmt: skip
    """Book legs from ``done`` on; return (how far it came, orphans, status)."""
    orphan_count = 0
    for i in range(done, legs.shape[0]):
        leg = legs[i]
        row = rows[i]
        kind = leg.kind
        if kind in (_FILL, _BUST):
            if leg.lots != 0:
                status, orphan_count = _trade(
                    row, leg.instrument, leg.lots, leg.cash, (leg.flags & _LIQUIDATION) != 0, offset, count, capacity,
                    instruments, lots, entry, order, pool_used, orders, orphans, orphan_count,
                )  # fmt: skip
                if status == 1:
                    return i, orphan_count, 0
                if status == OVERFLOW:
                    return i, orphan_count, OVERFLOW
                _journal_entry(journal, used, account[row], _POSITION, leg.instrument, leg.lots)
            paid, fits = add(leg.cash, -leg.fee)
            balance, fits2 = add(cash[row, leg.asset], paid)
            if not (fits and fits2):
                return i, orphan_count, OVERFLOW
            cash[row, leg.asset] = balance
            _journal_entry(journal, used, account[row], _ASSET, leg.asset, paid)
            if leg.fee != 0:
                fees = part[row] + _FEES
                balance, fits = add(cash[fees, leg.asset], leg.fee)
                if not fits:
                    return i, orphan_count, OVERFLOW
                cash[fees, leg.asset] = balance
                _journal_entry(journal, used, _FEES, _ASSET, leg.asset, leg.fee)
            dirty[row] = True
        elif kind in (_TRANSFER, _SPOT_BASE):
            balance, fits = add(cash[row, leg.asset], leg.cash)
            if not fits:
                return i, orphan_count, OVERFLOW
            cash[row, leg.asset] = balance
            _journal_entry(journal, used, account[row], _ASSET, leg.asset, leg.cash)
            if kind == _TRANSFER:
                bridge = part[row] + _BRIDGE
                balance, fits = add(cash[bridge, leg.asset], -leg.cash)
                if not fits:
                    return i, orphan_count, OVERFLOW
                cash[bridge, leg.asset] = balance
                _journal_entry(journal, used, _BRIDGE, _ASSET, leg.asset, -leg.cash)
            dirty[row] = True
    return legs.shape[0], orphan_count, 0


@njit(cache=True)
def holders_of(rows, offset, count, instruments, instrument) -> tuple[Int64Array, Int64Array]:  # type: ignore[no-untyped-def]
    """Return the rows that hold an instrument and the places where they do."""
    found = np.empty(rows, np.int64)
    places = np.empty(rows, np.int64)
    n = 0
    for row in range(rows):
        place = find(instruments, offset[row], count[row], instrument)
        if place < offset[row] + count[row] and instruments[place] == instrument:
            found[n] = row
            places[n] = place
            n += 1
    return found[:n].copy(), places[:n].copy()


@njit(cache=True)
def pay_holders(  # type: ignore[no-untyped-def]
    holders, places, instrument, asset, units_per_lot, closes, account, cash, count, offset, instruments, lots, entry,
    order, orders, dirty, journal, used,
) -> tuple[Int64Array, int]:  # fmt: skip
    """Pay each holder; return (units, status)."""
    paid = np.empty(holders.shape[0], np.int64)
    for n in range(holders.shape[0]):
        row = holders[n]
        place = places[n]
        held = lots[place]
        units = held * units_per_lot
        if abs(float(held) * float(units_per_lot)) >= _PRODUCT_END:
            return paid, OVERFLOW
        balance, fits = add(cash[row, asset], units)
        if not fits:
            return paid, OVERFLOW
        cash[row, asset] = balance
        paid[n] = units
        if units != 0:
            _journal_entry(journal, used, account[row], _ASSET, asset, units)
        if closes:
            _journal_entry(journal, used, account[row], _POSITION, instrument, -held)
            if order[place] != 0:
                orders[row] -= 1
            _remove(place, row, offset, count, instruments, lots, entry, order)
        dirty[row] = True
    return paid, 0


@njit(cache=True)
def _mix(h, value):  # type: ignore[no-untyped-def]
    """One round of splitmix64 over a running hash."""
    h = (h ^ np.uint64(value)) * np.uint64(0x9E3779B97F4A7C15)
    h ^= h >> np.uint64(30)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@njit(cache=True)
def hash_rows(  # type: ignore[no-untyped-def]
    rows, account, tier, suspended, cash, offset, count, instruments, lots, order, open_offset, open_count,
    open_instruments, buys, sells, hashes, total,
) -> None:  # fmt: skip
    """Bring the hashes of rows up to date, and with them their sum over all rows, modulo 2^64.

    Open orders stand behind a mark that no instrument has; a row without any has the hash that it would have in a
    ledger without them.
    """
    for row in rows:
        for half in range(2):
            h = _mix(np.uint64(half + 1), account[row])
            h = _mix(h, np.uint64(tier[row]) * np.uint64(2) + np.uint64(suspended[row]))
            for asset in range(cash.shape[1]):
                if cash[row, asset] != 0:
                    h = _mix(_mix(h, np.uint64(asset)), cash[row, asset])
            for place in range(offset[row], offset[row] + count[row]):
                h = _mix(_mix(_mix(h, np.uint64(instruments[place])), lots[place]), order[place])
            if row < open_count.shape[0] and open_count[row] > 0:
                h = _mix(h, np.uint64(_NO_INSTRUMENT))
                for place in range(open_offset[row], open_offset[row] + open_count[row]):
                    h = _mix(_mix(_mix(h, np.uint64(open_instruments[place])), buys[place]), sells[place])
            total[half] += h - hashes[row, half]
            hashes[row, half] = h
