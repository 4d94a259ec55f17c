"""The fair order: one order, whatever the files."""

from hypothesis import given
from hypothesis import strategies as st

from flows.intake.decode import Arrival, Stream, canonical, dead_letter
from flows.intake.merge import merge, order_key
from schemas.events import TYPE_RANK, Event
from schemas.failures import DeadLetter, FailureReason, Origin, Refused
from tests.flows.intake.builders import arrivals, event_fill, event_mark, event_price

events = st.builds(
    lambda build, sequence, at, source, text: build(sequence, at=at, source=source, event_id=text),
    st.sampled_from([event_price, event_fill, event_mark]),
    st.integers(0, 2),
    st.integers(0, 3),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["x", "y"]),
) | st.builds(lambda price: event_price(1, at=1, price=price), st.sampled_from(["1", "2", "3"]))


def _plain_key(event: Event) -> tuple[int, int, str, int, str, bytes]:
    """Return the fair order's key as the design words it."""
    rank = TYPE_RANK[type(event)]
    return (event.event_time_ns, rank, event.source, event.source_sequence, event.event_id, canonical(event))


@given(st.lists(st.tuples(events, st.integers(0, 3)), max_size=40))
def test_merging_is_sorting_whatever_the_split(drawn: list[tuple[Event, int]]) -> None:
    """Which file an event is in must not decide its place, even if all else is tied."""
    files: list[list[Event]] = [[], [], [], []]
    for event, file in drawn:
        files[file].append(event)

    merged = merge(arrivals(sorted(file, key=order_key), f"log-{place}") for place, file in enumerate(files))

    assert [arrival[0] for arrival in merged] == sorted((event for event, _ in drawn), key=_plain_key)


def _letter(place: int) -> Arrival:
    stream = Stream("b")
    letter = dead_letter(Refused(FailureReason.MALFORMED_JSON, ""), Origin("b", 0, place), b"{")
    return letter, b"{", stream, place, place


def test_a_dead_letter_comes_behind_its_predecessor() -> None:
    """What has been taken of a stream must be a prefix of it, or positions would lie."""
    first = arrivals([event_price(1, at=1), event_price(2, at=5)], "a")
    price = arrivals([event_price(3, at=3)], "b")[0]
    second = [_letter(1), (*price[:3], 2, 2), _letter(3), _letter(4)]

    merged = list(merge([first, second]))

    taken = [(arrival[2].topic, arrival[4]) for arrival in merged]
    assert taken == [("b", 1), ("a", 1), ("b", 2), ("b", 3), ("b", 4), ("a", 2)]
    assert [isinstance(arrival[0], DeadLetter) for arrival in merged] == [True, False, False, True, True, False]
