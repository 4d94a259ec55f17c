"""Venues' marks of instruments: several sources to one price, and how long it counts.

1. A source's newest mark counts, by event time, until it is older than ``mark_age_ns_max``. The mark of an instrument
   is the median of those that count; without any there is none.
"""

from collections.abc import Iterable

import numpy as np

from flows.market.oracle import NEVER, median
from schemas.ledger import MarkRecord


class Marks:
    """The newest mark of each source by instrument.

    ``deadline_ns`` is not after the first time at which a mark that counts no longer does, and is that time after
    ``mark_aged`` and ``refreshed``.
    """

    def __init__(self) -> None:
        self.deadline_ns = NEVER
        self._newest: dict[int, dict[str, MarkRecord]] = {}
        self._deadlines_ns: dict[int, int] = {}
        self._dirty: list[int] = []

    @property
    def dirty(self) -> bool:
        """Whether some instrument's mark has to be taken anew."""
        return bool(self._dirty)

    def observe(self, record: MarkRecord) -> None:
        """Take a mark, unless it is older than the one before of its source."""
        newest = self._newest.setdefault(record.instrument, {})
        before = newest.get(record.source)
        if before is None or record.event_time_ns >= before.event_time_ns:
            newest[record.source] = record
            self._dirty.append(record.instrument)

    def mark_all(self) -> None:
        """Have every instrument's mark taken anew: what counts may have changed."""
        self._dirty.extend(self._newest)

    def mark_aged(self, now_ns: int) -> None:
        """Have the marks taken anew of which one has grown too old by now."""
        self._dirty.extend(it for it, deadline_ns in self._deadlines_ns.items() if deadline_ns <= now_ns)
        self.deadline_ns = min((it for it in self._deadlines_ns.values() if it > now_ns), default=NEVER)

    def refreshed(self, now_ns: int, age_ns_max: int) -> list[tuple[int, float]]:
        """Return the instruments whose mark has to be taken anew, with that mark; NaN where none counts."""
        found = []
        for instrument in self._dirty:
            fresh = [it for it in self._newest[instrument].values() if now_ns - it.event_time_ns <= age_ns_max]
            deadline_ns = NEVER
            if fresh:
                deadline_ns = min(it.event_time_ns for it in fresh) + age_ns_max + 1
            self._deadlines_ns[instrument] = deadline_ns
            self.deadline_ns = min(self.deadline_ns, deadline_ns)
            found.append((instrument, median([it.price for it in fresh]) if fresh else np.nan))
        self._dirty = []
        return found

    def records(self) -> Iterable[MarkRecord]:
        """Return the newest mark of every source of every instrument."""
        return (mark for newest in self._newest.values() for mark in newest.values())
