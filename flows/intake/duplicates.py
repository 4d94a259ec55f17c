"""What was seen within the duplicate window: exact, compact, and the same after a restart.

1. An id is known if an event that carries it was accepted at most ``window_ns`` of ledger time ago. Refused events
   leave no trace: they may be repaired and sent again.
2. Whether an id is known depends on ledger time alone, never on when rows are evicted or on how input was batched.
3. A fill's row keeps both legs, so that it can be undone, and so that the same fill under another event id is
   recognised by its numbers.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numba
import numpy as np
import numpy.typing as npt
import xxhash

UInt64Array = npt.NDArray[np.uint64]
UInt32Array = npt.NDArray[np.uint32]

# Rows collect in a dict and are moved to the table in blocks, because a numpy call for each id costs more than the id.
_RECENT_ROWS_MAX: Final = 16_384
_INDEX_SLOTS_MIN: Final = 1 << 12

content_hash = xxhash.xxh3_64_intdigest
_digest_128 = xxhash.xxh3_128_digest

# key, ledger time, content hash
EVENT_ROW: Final = struct.Struct("<16sqQ")
# key, ledger time, lots, buyer's cash, buyer's fee, seller's fee, price in ticks, instrument, buyer, seller, flags
FILL_ROW: Final = struct.Struct("<16sq5qIIII")
_TIME = struct.Struct("<16xq")


def id_key(text: str) -> bytes:
    """Return the key of an id: 128 bits, so that no two ids that ever meet share one."""
    return _digest_128(text.encode())


class IdTable:
    """Rows by 128-bit key, in the order of ledger time: a log of fixed-width rows and a hash index over it.

    A row starts with its key (16 bytes) and its ledger time (int64); the rest is the caller's. A key that is neither
    in ``recent`` (rows that are not in the table yet) nor in ``found`` (places of the keys last looked up) is not
    known: callers in a hurry may ask these two first.
    """

    def __init__(self, row_bytes: int, window_ns: int) -> None:
        self._words = row_bytes // 8
        self._window_ns = window_ns
        self._rows: UInt64Array = np.empty((1024, self._words), dtype=np.uint64)
        self._start = 0
        self._end = 0
        # Row number + 1 by hash slot, 0 where empty. Row numbers of evicted rows stay until the index is rebuilt.
        self._index: UInt32Array = np.zeros(_INDEX_SLOTS_MIN, dtype=np.uint32)
        self.recent: dict[bytes, bytes] = {}
        self.found: dict[bytes, int] = {}

    def look_up(self, keys: Sequence[bytes]) -> None:
        """Find the rows of a block of keys at once; ``get`` answers from here until the next block."""
        self.found.clear()
        if self._end == self._start or not keys:
            return
        queries = np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(-1, 2)
        found = _find(self._rows, self._index, queries)
        for place in np.flatnonzero(found >= 0).tolist():
            # Rows that left the window may be among them: ``get`` looks at their time.
            self.found[keys[place]] = int(found[place])

    def get(self, key: bytes, ledger_time_ns: int) -> bytes | None:
        """Return the row of a key of the last block, if it is within the window, else None."""
        row = self.recent.get(key)
        if row is None:
            place = self.found.get(key)
            if place is None:
                return None
            row = self._rows[place].tobytes()
        return row if _TIME.unpack_from(row)[0] >= ledger_time_ns - self._window_ns else None

    def put(self, key: bytes, row: bytes) -> None:
        """Add the row of a key that is not known; rows come in the order of ledger time."""
        self.recent.pop(key, None)
        self.recent[key] = row

    def replace(self, key: bytes, row: bytes) -> None:
        """Exchange the row of a known key; its time stays."""
        if key in self.recent:
            self.recent[key] = row
        else:
            self._rows[self.found[key]] = np.frombuffer(row, dtype=np.uint64)

    def settle(self, ledger_time_ns: int) -> None:
        """Move what collected into the table, if it is much, and evict what left the window; ends the block."""
        if len(self.recent) < _RECENT_ROWS_MAX:
            return
        block = np.frombuffer(b"".join(self.recent.values()), dtype=np.uint64).reshape(-1, self._words)
        self.recent.clear()
        self.found.clear()
        self._append(block, ledger_time_ns - self._window_ns)

    def dump(self, ledger_time_ns: int) -> bytes:
        """Return the rows within the window, in order."""
        horizon = ledger_time_ns - self._window_ns
        first = _first_since(self._rows, self._start, self._end, horizon)
        recent = [row for row in self.recent.values() if _TIME.unpack_from(row)[0] >= horizon]
        return b"".join((self._rows[first : self._end].tobytes(), *recent))

    def load(self, data: bytes) -> None:
        """Take the rows of a ``dump``."""
        rows = np.frombuffer(data, dtype=np.uint64).reshape(-1, self._words)
        self._append(rows, np.iinfo(np.int64).min)

    def __len__(self) -> int:
        """Return the number of rows held, evictable ones included."""
        return self._end - self._start + len(self.recent)

    def _append(self, block: UInt64Array, horizon: int) -> None:
        self._start = int(_first_since(self._rows, self._start, self._end, horizon))
        count = self._end - self._start + block.shape[0]
        if self._end + block.shape[0] > self._rows.shape[0]:
            kept = self._rows[self._start : self._end]
            # Half of the room is free again after a move, so moving costs a constant a row.
            if count * 2 > self._rows.shape[0]:
                rows = np.empty((max(1024, count * 2), self._words), dtype=np.uint64)
                rows[: kept.shape[0]] = kept
                self._rows = rows
            else:
                self._rows[: kept.shape[0]] = kept
            self._start, self._end = 0, kept.shape[0]
            self._rebuild(count)
        first = self._end
        self._rows[first : first + block.shape[0]] = block
        self._end += block.shape[0]
        if self._end * 2 > self._index.shape[0]:
            self._rebuild(self._end)
        else:
            _insert(self._rows, self._index, first, self._end)

    def _rebuild(self, count: int) -> None:
        slots = _INDEX_SLOTS_MIN
        while slots < count * 2:
            slots *= 2
        if slots > self._index.shape[0]:
            self._index = np.zeros(slots, dtype=np.uint32)
        else:
            self._index[:] = 0
        _insert(self._rows, self._index, self._start, self._end)


@numba.njit(cache=True)
def _find(rows: UInt64Array, index: UInt32Array, queries: UInt64Array) -> npt.NDArray[np.int64]:
    """Return the row of each key (n, 2), -1 where there is none."""
    mask = np.uint64(index.shape[0] - 1)
    found = np.full(queries.shape[0], -1, dtype=np.int64)
    for place in range(queries.shape[0]):
        slot = np.int64(queries[place, 0] & mask)
        while index[slot] != 0:
            row = np.int64(index[slot]) - 1
            if rows[row, 0] == queries[place, 0] and rows[row, 1] == queries[place, 1]:
                found[place] = row
                break
            slot = np.int64(np.uint64(slot + 1) & mask)
    return found


@numba.njit(cache=True)
def _insert(rows: UInt64Array, index: UInt32Array, first: int, end: int) -> None:
    """Index rows ``first`` to ``end``; a later row takes the place of an earlier one with its key."""
    mask = np.uint64(index.shape[0] - 1)
    for row in range(first, end):
        slot = np.int64(rows[row, 0] & mask)
        while index[slot] != 0:
            other = np.int64(index[slot]) - 1
            if rows[other, 0] == rows[row, 0] and rows[other, 1] == rows[row, 1]:
                break
            slot = np.int64(np.uint64(slot + 1) & mask)
        index[slot] = np.uint32(row + 1)


@numba.njit(cache=True)
def _first_since(rows: UInt64Array, first: int, end: int, time_ns: int) -> int:
    """Return the first of rows ``first`` to ``end``, which are in the order of time, that is not before ``time_ns``."""
    while first < end:
        middle = (first + end) // 2
        if np.int64(rows[middle, 2]) < time_ns:
            first = middle + 1
        else:
            end = middle
    return first


class _Dump(msgspec.Struct, frozen=True, array_like=True):
    events: bytes
    fills: bytes


class Duplicates:
    """The events and fills accepted within the window."""

    def __init__(self, window_ns: int) -> None:
        self.window_ns = window_ns
        self.events = IdTable(EVENT_ROW.size, window_ns)
        self.fills = IdTable(FILL_ROW.size, window_ns)

    def look_up(self, event_keys: Sequence[bytes], fill_keys: Iterable[bytes]) -> None:
        """Prepare the keys of a block of arrivals; every key asked for later must be among them."""
        self.events.look_up(event_keys)
        self.fills.look_up(list(fill_keys))

    def settle(self, ledger_time_ns: int) -> None:
        """Tidy up behind a block; changes no answer."""
        self.events.settle(ledger_time_ns)
        self.fills.settle(ledger_time_ns)

    def dump(self, ledger_time_ns: int) -> bytes:
        """Return everything within the window as plain bytes."""
        return msgspec.msgpack.encode(_Dump(self.events.dump(ledger_time_ns), self.fills.dump(ledger_time_ns)))

    def load(self, data: bytes) -> None:
        """Take a ``dump``; raise ``msgspec.MsgspecError`` if it is not one."""
        state = msgspec.msgpack.decode(data, type=_Dump)
        self.events.load(state.events)
        self.fills.load(state.fills)
