"""Events to lines, in order: what every generated log goes through.

1. Lines leave in the total order of intake: time, type, source, the source's own number.
2. A source numbers its events as they leave, from 1; ``event_id`` is the source and that number.
3. Every ``REDELIVERY`` th good event leaves twice, as a queue that delivers at least once would do it.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec

from schemas.events import TYPE_RANK, Event, Fill

REDELIVERY: Final = 499
# What is written in place of an event: another event, or bytes that are none.
Edit = Callable[[Event], Event | bytes]

_encode = msgspec.json.Encoder().encode
_Entry = tuple[int, int, str, int, type[Event], dict[str, Any], Edit | None]


class Journal:
    """Events that wait for their time."""

    def __init__(self) -> None:
        self._waiting: list[_Entry] = []
        self._order = 0
        self._good = 0
        self._numbers: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self.duplicates = 0
        self.last_fill: Fill | None = None

    def add(self, time_ns: int, source: str, kind: type[Event], edit: Edit | None = None, /, **fields: Any) -> None:
        """Let an event of these fields happen at ``time_ns``."""
        self._order += 1
        self._waiting.append((time_ns, TYPE_RANK[kind], source, self._order, kind, fields, edit))

    def lines(self, until_ns: int) -> list[bytes]:
        """Return the lines of everything before ``until_ns``, without line ends."""
        waiting = self._waiting
        waiting.sort()
        end = bisect_left(waiting, (until_ns,))
        due, self._waiting = waiting[:end], waiting[end:]
        written: list[bytes] = []
        for time_ns, _, source, _, kind, fields, edit in due:
            self._numbers[source] += 1
            number = self._numbers[source]
            event = kind(
                event_id=f"{source}-{number}",
                event_time_ns=time_ns,
                source=source,
                source_sequence=number,
                **fields,
            )
            if edit is not None:
                edited = edit(event)
                written.append(edited if isinstance(edited, bytes) else _encode(edited))
                continue
            line = _encode(event)
            written.append(line)
            self.types[str(kind.__struct_config__.tag)] += 1
            if isinstance(event, Fill):
                self.last_fill = event
            self._good += 1
            if self._good % REDELIVERY == 0:
                written.append(line)
                self.duplicates += 1
        return written
