"""When accounts are to be looked at again: deadlines by a clock, of which those that it has passed are taken.

1. An account has one deadline by a clock that counts. A later one is set by giving it a new *stamp*: those with an
   older one are dropped where they are met.
2. What is known stands in order, so that an instant reads what is due and no more; what came since waits beside it
   until it is worth sorting in.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]

_YOUNG_MIN: Final = 4_096
# Deadlines that came since are sorted in when they are one in so many.
_YOUNG_SHARE: Final = 8


class Deadlines:
    """Deadlines by one clock."""

    def __init__(self) -> None:
        self._when: Float64Array = np.zeros(0)
        self._row: Int64Array = np.zeros(0, np.int64)
        self._stamp: Int32Array = np.zeros(0, np.int32)
        self._taken = 0
        self._young: list[tuple[Float64Array, Int64Array, Int32Array]] = []
        self._young_count = 0

    def add(self, when: Float64Array, rows: Int64Array, stamps: Int32Array) -> None:
        """Set deadlines of rows, as of their stamps."""
        if when.shape[0]:
            self._young.append((when, rows, stamps))
            self._young_count += when.shape[0]

    def due(self, reading: float, stamp: Int32Array) -> Int64Array:
        """Take the deadlines at or before a reading; return the rows of those that count by ``stamp``, by row."""
        if self._young_count > max(_YOUNG_MIN, (self._when.shape[0] - self._taken) // _YOUNG_SHARE):
            self._sort_in(stamp)
        end = int(np.searchsorted(self._when, reading, side="right"))
        found = []
        if end > self._taken:
            found.append(_counting(self._row[self._taken : end], self._stamp[self._taken : end], stamp))
            self._taken = end
        for place, (when, rows, stamps) in enumerate(self._young):
            due = when <= reading
            if due.any():
                found.append(_counting(rows[due], stamps[due], stamp))
                self._young[place] = (when[~due], rows[~due], stamps[~due])
        self._young = [young for young in self._young if young[0].shape[0]]
        self._young_count = sum(young[0].shape[0] for young in self._young)
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def _sort_in(self, stamp: Int32Array) -> None:
        parts = [(self._when[self._taken :], self._row[self._taken :], self._stamp[self._taken :]), *self._young]
        when, rows, stamps = (np.concatenate(column) for column in zip(*parts, strict=True))
        counts = np.flatnonzero(stamp[rows] == stamps)
        order = counts[np.argsort(when[counts], kind="stable")]
        self._when, self._row, self._stamp = when[order], rows[order], stamps[order]
        self._taken, self._young, self._young_count = 0, [], 0


def _counting(rows: Int64Array, stamps: Int32Array, stamp: Int32Array) -> Int64Array:
    found: Int64Array = rows[stamp[rows] == stamps]
    return found
