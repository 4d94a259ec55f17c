"""Framing: what shares a frame, when time passes, and what a repeated or damaged thing leaves behind."""

from collections.abc import Iterable

import numpy as np
import pytest

from flows.intake.decode import Stream, decode
from flows.intake.ledger import Intake
from schemas.checkpoint import CheckpointError, open_envelope, seal_envelope
from schemas.events import Event, InstrumentHalted, SettlementPrice
from schemas.failures import Origin
from schemas.ids import HOUSE_NUMBER
from schemas.ledger import (
    Frame,
    FrameKind,
    Genesis,
    check_link,
    decode_frame,
    decode_positions,
    encode_frame,
    leg_shards,
)
from tests.flows.intake.builders import (
    MODELS,
    SECOND,
    START,
    an_intake,
    arrivals,
    event_account,
    event_bust,
    event_fill,
    event_instrument,
    event_mark,
    event_price,
    event_transfer,
    event_venue,
    event_withdrawal,
    frames_of,
    run,
)

DAY = 86_400 * SECOND


def _shape(frames: Iterable[Frame]) -> list[tuple[int, int, int]]:
    """Return (time since the start, market records, account records) of frames."""
    return [(frame.time_ns - START, len(frame.market), frame.legs.shape[0]) for frame in frames]


def _all_frames(events: Iterable[Event], **changes: int) -> list[Frame]:
    intake = an_intake(**changes)
    out = run(intake, arrivals([*event_venue(), *events]))
    assert not out.dead_letters
    return [decode_frame(data) for data in (intake.genesis_frame(), *out.frames)]


def test_market_records_behind_account_records_open_a_frame() -> None:
    """An account would be decided at a price that came after its fill."""
    together = [event_price(1, at=1), event_mark(2, at=1), event_fill(1, at=1), event_fill(2, at=1)]
    in_turn = [event_price(1, at=1), event_fill(1, at=2), event_price(2, at=3), event_fill(2, at=4)]

    frames = frames_of(together), frames_of(in_turn)

    assert _shape(frames[0]) == [(1, 2, 4)]
    assert _shape(frames[1]) == [(1, 1, 2), (3, 1, 2)]


def test_a_second_value_of_an_observation_opens_a_frame() -> None:
    """Two prices of one source in one instant: the first would never be checked."""
    same = [event_price(1), event_price(2)]
    others = [event_price(1), event_price(2, source="other"), event_price(3, feed="ETH/USD"), event_mark(4)]

    assert _shape(frames_of(same)) == [(0, 1, 0), (0, 1, 0)]
    assert _shape(frames_of(others)) == [(0, 4, 0)]


@pytest.mark.parametrize(("span", "times"), [(0, [0, 3, 6]), (3, [0, 6]), (10, [0])])
def test_observations_share_a_frame_within_its_span(span: int, times: list[int]) -> None:
    """The span is a promise about how old a price in an instant may be."""
    events = [event_price(place, at=at, source=f"s{at}") for place, at in enumerate((0, 3, 6))]

    frames = frames_of(events, frame_span_ns=span)

    assert [time for time, _, _ in _shape(frames)] == times


def test_a_listing_never_shares_a_frame_with_another_time() -> None:
    """The span is for observations alone: what changes the venue has its own instant."""
    events = [event_price(1), event_account("dave", at=1), event_price(2, at=2)]

    frames = frames_of(events, frame_span_ns=10)

    assert _shape(frames) == [(0, 1, 0), (1, 1, 0), (2, 1, 0)]


def test_account_records_join_the_frame_of_their_period() -> None:
    """A frame for every fill would make the ledger large; a frame over two periods would split settlement."""
    fills = [event_fill(place, at=at) for place, at in enumerate((0, 1, SECOND - 1, SECOND, SECOND + 5))]

    assert _shape(frames_of(fills)) == [(0, 0, 6), (SECOND, 0, 4)]


def test_a_frame_has_a_greatest_size_and_an_event_is_never_split() -> None:
    """A frame without a bound could not be held in memory; half a fill would not conserve."""
    fills = [event_fill(place, at=place) for place in range(4)]

    frames = frames_of(fills, frame_records_max=3)

    assert _shape(frames)[-2:] == [(0, 0, 4), (2, 0, 4)]


def test_legs_name_their_event_in_order() -> None:
    """``explain`` finds the fill of a leg by its sequence."""
    (frame,) = frames_of([event_transfer(1), event_fill(2, at=1), event_bust("f-2", at=2), event_withdrawal(4, at=3)])

    assert frame.references == ["t-1", "f-2", "f-2", "w-4"]
    assert frame.legs["sequence"].tolist() == [0, 1, 1, 2, 2, 3]
    assert frame.legs["index"].tolist() == list(range(6))
    assert (frame.legs["time_ns"] - START).tolist() == [0, 1, 1, 2, 2, 3]


def test_a_barrier_closes_each_period_that_had_a_frame() -> None:
    """A period without a barrier is never settled; one without frames needs none."""
    frames = _all_frames([event_price(1, at=5), event_price(2, at=3 * SECOND), event_fill(3, at=3 * SECOND + 7)])

    barriers = [(frame.period, frame.time_ns) for frame in frames if frame.kind is FrameKind.BARRIER]
    first = START // SECOND
    assert barriers == [(period, (period + 1) * SECOND - 1) for period in (first - 1, first, first + 3)]
    for frame in frames[1:]:
        assert frame.period == frame.time_ns // SECOND
    assert frames[-1].kind is FrameKind.BARRIER


def test_the_chain_links_from_the_genesis() -> None:
    """A gap or a fork in the ledger must not go unseen."""
    frames = _all_frames([event_price(1), event_fill(2, at=200 * SECOND)])

    previous = None
    for frame in frames:
        check_link(previous, frame)
        previous = frame
    assert frames[0].kind is FrameKind.GENESIS
    times = [frame.time_ns for frame in frames]
    assert times == sorted(times)


def test_silence_has_heartbeats_and_a_jump_has_few() -> None:
    """Staleness must fire in silence, and a clock that jumps by years must not flood the ledger."""
    quiet = frames_of([event_price(1), event_price(2, at=200 * SECOND)])
    jump = frames_of([event_price(1), event_price(2, at=1000 * DAY)])

    beats = [frame.time_ns - START for frame in quiet if frame.kind is FrameKind.HEARTBEAT]
    assert beats == [60 * SECOND, 120 * SECOND, 180 * SECOND]
    assert [frame.kind for frame in jump] == [FrameKind.EVENTS, *[FrameKind.HEARTBEAT] * 10, FrameKind.EVENTS]


def test_an_expiry_in_silence_has_its_frame() -> None:
    """Options must expire at their second, not at the next price."""
    expiries = [DAY, DAY, DAY + 30 * SECOND]
    listed = [event_instrument(f"F{place}", kind="future", expiry_ns=START + at) for place, at in enumerate(expiries)]
    events = [*listed, event_price(1, at=DAY - 1), event_fill(2, at=DAY - 1), event_price(3, at=DAY + 40 * SECOND)]

    frames = frames_of(events)

    beats = [frame.time_ns - START for frame in frames if frame.kind is FrameKind.HEARTBEAT]
    assert beats[-2:] == [DAY, DAY + 30 * SECOND]


def test_a_fill_at_an_expiry_opens_its_frame() -> None:
    """An account decided in the frame before would still hold the option."""
    listed = event_instrument("F", kind="future", expiry_ns=START + 10)
    fills = [event_fill(1, at=5), event_fill(2, at=10), event_fill(3, at=11)]

    frames = frames_of([listed, *fills])

    assert _shape(frames) == [(0, 1, 2), (10, 0, 4)]
    skipped = frames_of([listed, event_fill(1, at=5), event_fill(2, at=11)])
    assert _shape(skipped) == [(0, 1, 2), (10, 0, 0), (11, 0, 2)]
    priced = frames_of([listed, event_price(1, at=3), *fills])
    assert _shape(priced) == [(0, 1, 0), (3, 1, 2), (10, 0, 4)]


def test_late_events_take_their_place_at_the_end() -> None:
    """Live inputs may be late by a little: time must not go backwards, and nothing may be lost."""
    events = [event_price(1, at=2 * SECOND), event_fill(2, at=SECOND), event_price(3, at=SECOND, source="b")]

    frames = frames_of(events)

    assert _shape(frames) == [(2 * SECOND, 1, 2), (2 * SECOND, 1, 0)]
    assert frames[0].legs["time_ns"].tolist() == [START + SECOND] * 2


def test_what_is_older_than_the_window_is_refused() -> None:
    """Behind the window a repeat cannot be told from a new event."""
    events = [event_price(1, at=DAY + 5), event_fill(2, at=4), event_fill(3, at=5)]

    out = run(an_intake(), arrivals([*event_venue(), *events]))

    assert [(letter.reason.value, letter.event_time_ns) for letter in out.dead_letters] == [("too_old", START + 4)]


def test_repeats_are_dropped_and_conflicts_refused() -> None:
    """A fill that counts twice makes money out of nothing."""
    first = event_fill(1, at=1)
    given = [
        first,
        first,
        event_fill(2, at=1, fill_id="f-1"),
        event_fill(2, at=1, fill_id="f-1", quantity="0.010"),
        event_fill(3, at=1, fill_id="f-1", quantity="0.02"),
        event_fill(4, at=1, fill_id="f-1", buyer="nobody"),
        event_fill(1, at=1, price="1"),
        event_price(1, at=2, event_id="fill-1"),
        event_fill(5, at=3),
    ]

    out = run(an_intake(), arrivals([*event_venue(), *given]))

    assert out.counts.fills == 2
    assert out.counts.duplicates == 3
    assert [letter.reason.value for letter in out.dead_letters] == ["conflict"] * 4


def test_a_refused_event_may_be_sent_again() -> None:
    """An account that is opened a moment late must not cost a fill."""
    fill = event_fill(1, at=5, buyer="dave")

    out = run(an_intake(), arrivals([*event_venue(), fill, event_account("dave", at=6), fill]))

    assert [letter.reason.value for letter in out.dead_letters] == ["unknown_account"]
    assert out.counts.fills == 1


def test_refused_events_leave_no_trace() -> None:
    """A poisoned event with a time far ahead must not make all others too old, nor bring heartbeats."""
    good = [event_price(1, at=1), event_fill(2, at=2)]
    poison = event_fill(9, at=1000 * DAY, buyer="nobody")

    with_poison, without = _heads([good[0], poison, good[1]]), _heads(good)

    assert with_poison == without


def _heads(events: list[Event]) -> list[bytes]:
    return [decode_frame(data).content_head for data in run(an_intake(), arrivals([*event_venue(), *events])).frames]


def test_barriers_carry_the_positions_before_them() -> None:
    """Who goes on from a barrier must read exactly what is behind it."""
    events = arrivals([*event_venue(), event_price(1, at=1), event_price(2, at=2 * SECOND)])
    letter = decode(b"{", Origin("log", 0, 8))
    stream = Stream("log")
    given = [*events[:7], (letter, b"{", stream, 8, 8), (events[7][0], events[7][1], stream, 9, 9)]

    frames = [decode_frame(data) for data in run(an_intake(), given).frames]

    barriers = [decode_positions(frame) for frame in frames if frame.kind is FrameKind.BARRIER]
    assert barriers == [{"log:0": 6}, {"log:0": 8}, {"log:0": 9}]
    assert all(decode_positions(frame) is None for frame in frames if frame.kind is not FrameKind.BARRIER)


def test_a_passage_ends_at_its_barrier() -> None:
    """The stages behind intake take one barrier at a time."""
    given = arrivals([*event_venue(), *[event_price(place, at=place * SECOND) for place in range(4)]])

    passages = list(an_intake().step(given))

    kinds = [[decode_frame(data).kind for data in passage.frames] for passage in passages]
    assert kinds == [[FrameKind.EVENTS, FrameKind.BARRIER]] * 4 + [[]]
    assert [passage.closes_period for passage in passages] == [True] * 4 + [False]


def test_after_the_end_a_new_period_begins() -> None:
    """A second barrier for one period would settle it twice."""
    intake = an_intake()
    first = run(intake, arrivals([*event_venue(), event_price(1, at=1)]))

    second = run(intake, arrivals([event_price(2, at=2)]))

    periods = [
        frame.period for frame in map(decode_frame, [*first.frames, *second.frames]) if frame.kind is FrameKind.BARRIER
    ]
    assert periods == sorted(set(periods))
    assert second.counts.barriers == 1


def test_a_damaged_checkpoint_is_refused() -> None:
    """A flipped bit in the memory would be decided by for ever."""
    data = an_intake().checkpoint()

    for broken in (b"", data[:-1], data[:40] + bytes([data[40] ^ 1]) + data[41:], b"XXXX" + data[4:]):
        with pytest.raises(CheckpointError):
            Intake.restore(broken)
    with pytest.raises(CheckpointError, match="version 9"):
        Intake.restore(seal_envelope("intake", 9, open_envelope("intake", 1, data)))


def test_every_passage_of_a_long_silence_can_be_gone_on_from() -> None:
    """A resume in the middle of a gap must not begin to count its heartbeats anew."""
    given = arrivals([*event_venue(), event_price(1), event_price(2, at=DAY)])
    whole = run(an_intake(), given).frames
    first = an_intake()

    frames: list[bytes] = []
    for passage in first.step(given):
        frames += passage.frames
        if passage.closes_period:
            second = Intake.restore(first.checkpoint())
            rest = run(second, given[second.positions.get("log:0", 0) :])
            assert frames + rest.frames == whole


@pytest.mark.parametrize(
    "behind",
    [
        # A second price of one source, and one that a listing keeps from sharing the span.
        [event_price(1), event_price(2, source="b"), event_price(3)],
        [event_price(1), event_price(2, at=1, source="b")],
        [event_account("dave"), event_price(1), event_price(2, at=1, source="b")],
        # An isolated account that is bound, and one that was refused.
        [
            event_account("iso", margin_mode="isolated"),
            event_instrument("ETH-PERP", underlying="ETH"),
            event_fill(1, buyer="iso", at=1),
            event_fill(2, buyer="iso", at=2, instrument="ETH-PERP"),
        ],
        # A halt, and a settlement.
        [
            InstrumentHalted(
                event_id="h", event_time_ns=START, source="venue", source_sequence=1, instrument="BTC-PERP"
            ),
            event_fill(1, at=1),
        ],
        [
            event_instrument("F", kind="future", expiry_ns=START + 1),
            SettlementPrice(
                event_id="s",
                event_time_ns=START + 1,
                source="venue",
                source_sequence=1,
                underlying="BTC",
                expiry_ns=START + 1,
                price="1",
            ),
            event_mark(2, at=2, instrument="F"),
        ],
        # A transfer, a withdrawal and a fill under other event ids, and a bust that comes twice.
        [
            event_transfer(1, status="pending"),
            event_transfer(2, at=1, transfer_id="t-1"),
            event_transfer(3, at=2, transfer_id="t-1"),
        ],
        [event_withdrawal(1), event_withdrawal(2, at=1, withdrawal_id="w-1")],
        [event_fill(1), event_fill(2, at=1, fill_id="f-1"), event_bust("f-1", 3, at=2), event_bust("f-1", 4, at=3)],
    ],
)
def test_a_stop_anywhere_forgets_nothing(behind: list[Event]) -> None:
    """Each piece of the memory decides something: lost on a restart, it would be decided otherwise."""
    given = arrivals([*event_venue(), *behind])
    whole = run(an_intake(frame_span_ns=10), given)

    for stop in range(len(given)):
        first = an_intake(frame_span_ns=10)
        before = run(first, given[:stop], finish=False)
        after = run(Intake.restore(first.checkpoint()), given[stop:])

        assert before.frames + after.frames == whole.frames
        assert before.dead_letters + after.dead_letters == whole.dead_letters


def test_the_genesis_is_checked() -> None:
    """A period of length zero has no number."""
    with pytest.raises(ValueError, match="settlement_period_ns"):
        Intake(Genesis(ledger_id="x", settlement_period_ns=0), shard_count=1, margin_models=MODELS)
    with pytest.raises(ValueError, match="shard_count"):
        Intake(Genesis(ledger_id="x"), shard_count=0, margin_models=MODELS)


def test_a_frame_encoded_from_columns_is_the_frame_that_was_packed() -> None:
    """Two writers of one format: what tests and tools encode from arrays must be what intake packs."""
    fills = [event_fill(place, at=place, buyer=buyer) for place, buyer in enumerate(("alice", "carol", "house"))]
    data = run(an_intake(), arrivals([*event_venue(), event_price(1), *fills])).frames[2]
    frame = decode_frame(data)

    system = frame.legs["account"] == HOUSE_NUMBER
    homes = np.where(system, frame.legs["counterparty"], frame.legs["account"])
    again, head = encode_frame(
        number=frame.number,
        kind=frame.kind,
        time_ns=frame.time_ns,
        period=frame.period,
        shard_count=frame.shard_count,
        market=frame.market,
        legs=frame.legs.copy(),
        leg_shards=leg_shards([("alice", "bob", "carol")[number - 8] for number in homes], frame.shard_count),
        references=frame.references,
        previous_head=frame.previous_head,
    )

    assert (again, head) == (data, frame.content_head)
