"""The fair order: one total order over all events, which no file name and no split of files can change.

1. Events are ordered by time, then type rank, source, source sequence, event id, and at last by content, so that
   only events that are the same in every respect are tied.
2. A dead letter has no place of its own: it comes directly after what stood before it in its stream.
3. What has been taken from a stream is always a prefix of it: positions are enough to go on after a stop.
"""

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heapreplace
from typing import Any

from flows.intake.decode import Arrival, canonical
from schemas.events import TYPE_RANK, Event
from schemas.failures import DeadLetter


class _Content:
    """The canonical bytes of an event, written only if a comparison gets as far as this."""

    __slots__ = ("event",)

    def __init__(self, event: Event) -> None:
        self.event = event

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and canonical(self.event) == canonical(other.event)

    def __lt__(self, other: "_Content") -> bool:
        return canonical(self.event) < canonical(other.event)

    __hash__ = None  # type: ignore[assignment]  # ordered, never a key


OrderKey = tuple[int, int, str, int, str, _Content]


def order_key(event: Event) -> OrderKey:
    """Return what the fair order compares."""
    return (
        event.event_time_ns,
        TYPE_RANK[type(event)],
        event.source,
        event.source_sequence,
        event.event_id,
        _Content(event),
    )


def merge(streams: Iterable[Iterable[Arrival]]) -> Iterator[Arrival]:
    """Yield the arrivals of streams, each in the fair order, as one stream in the fair order.

    Notes
    -----
    A stream is followed without touching the heap for as long as it is earlier than all others: one stream, or bursts
    of one, cost a comparison an event.
    """
    iterators: list[Iterator[Arrival]] = []
    heap: list[Any] = []
    for index, stream in enumerate(streams):
        iterator = iter(stream)
        iterators.append(iterator)
        for arrival in iterator:
            event = arrival[0]
            if isinstance(event, DeadLetter):
                yield arrival
                continue
            heap.append((order_key(event), index, arrival))
            break
    heapify(heap)
    while len(heap) > 1:
        _, index, arrival = heap[0]
        yield arrival
        # The second smallest is one of the root's two children.
        limit = min(entry[0][0] for entry in heap[1:3])
        for arrival in iterators[index]:
            event = arrival[0]
            if isinstance(event, DeadLetter) or event.event_time_ns < limit:
                yield arrival
                continue
            heapreplace(heap, (order_key(event), index, arrival))
            break
        else:
            heappop(heap)
    if heap:
        _, index, arrival = heap[0]
        yield arrival
        yield from iterators[index]
