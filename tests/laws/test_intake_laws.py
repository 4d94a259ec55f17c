"""Laws of intake, numbered as in ``flows/intake/ledger.py``: what may not change a ledger, and what must balance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.intake.decode import Arrival
from flows.intake.ledger import Intake
from flows.intake.merge import merge, order_key
from schemas.events import Event
from schemas.ledger import FrameKind, LegKind, decode_frame
from tests.flows.intake.builders import (
    SECOND,
    an_intake,
    arrivals,
    event_account,
    event_bust,
    event_fill,
    event_instrument,
    event_mark,
    event_open_orders,
    event_price,
    event_transfer,
    event_venue,
    event_withdrawal,
    run,
)

_ACCOUNTS = st.sampled_from(["alice", "bob", "carol", "house", "nobody"])


@st.composite
def _events(draw: st.DrawFn) -> list[Event]:
    """Draw a day at the venue: valid events and refused ones, with ties, gaps, busts and repeated ids."""
    events: list[Event] = [
        *event_venue(),
        event_instrument("BTC-SPOT", kind="spot", at=-SECOND),
        event_instrument("BTC-FUT", kind="future", at=-SECOND, expiry_ns=event_price(at=40 * SECOND).event_time_ns),
        event_account("iso", at=-SECOND, margin_mode="isolated"),
    ]
    at = 0
    for place in range(draw(st.integers(0, 25))):
        at += draw(st.sampled_from([0, 0, 1, SECOND // 3, SECOND, 70 * SECOND]))
        number = draw(st.integers(1, 6))
        kind = draw(
            st.sampled_from(["price", "fill", "fill", "fill", "mark", "bust", "transfer", "withdrawal", "open orders"])
        )
        head: dict[str, Any] = {"at": at, "event_id": f"e-{place}", "source": draw(st.sampled_from(["a", "b"]))}
        if kind == "price":
            events.append(event_price(place, **head, price=str(40_000 + number)))
        elif kind == "fill":
            instrument = draw(st.sampled_from(["BTC-PERP", "BTC-SPOT", "BTC-FUT"]))
            sides: dict[str, Any] = {"buyer": draw(_ACCOUNTS), "seller": draw(_ACCOUNTS | st.just("iso"))}
            events.append(event_fill(place, **head, fill_id=f"f-{number}", instrument=instrument, **sides))
        elif kind == "mark":
            events.append(event_mark(place, **head))
        elif kind == "bust":
            events.append(event_bust(f"f-{number}", place, **head))
        elif kind == "transfer":
            status = draw(st.sampled_from(["pending", "confirmed", "reverted"]))
            events.append(event_transfer(place, **head, transfer_id=f"t-{number}", status=status))
        elif kind == "open orders":
            instrument = draw(st.sampled_from(["BTC-PERP", "BTC-SPOT", "BTC-FUT"]))
            account = draw(_ACCOUNTS | st.just("iso"))
            events.append(
                event_open_orders(place, **head, account=account, instrument=instrument, buys=f"0.0{number - 1}")
            )
        else:
            events.append(event_withdrawal(place, **head, withdrawal_id=f"w-{number}"))
    return sorted(events, key=order_key)


def _ledger(given_arrivals: Sequence[Arrival], **changes: int) -> list[bytes]:
    """Return the content heads of a ledger: what does not depend on where its input came from."""
    return [decode_frame(data).content_head for data in run(an_intake(**changes), given_arrivals).frames]


@settings(max_examples=60, deadline=None)
@given(events=_events(), split=st.lists(st.integers(0, 2), min_size=40, max_size=40))
def test_6_a_split_into_files_changes_nothing(events: list[Event], split: list[int]) -> None:
    """Splitting or renaming files must give the same ledger."""
    files: list[list[Event]] = [[], [], []]
    for event, file in zip(events, split, strict=False):
        files[file].append(event)

    merged = list(merge(arrivals(file, f"file-{place}") for place, file in enumerate(files)))

    assert _ledger(merged) == _ledger(arrivals(events))


@settings(max_examples=60, deadline=None)
@given(events=_events(), batch=st.integers(1, 7))
def test_6_batches_of_step_change_nothing(events: list[Event], batch: int) -> None:
    """An engine's batches are never the same twice."""
    given_arrivals = arrivals(events)

    whole, parts = run(an_intake(), given_arrivals), run(an_intake(), given_arrivals, batch=batch)

    assert parts.frames == whole.frames
    assert parts.dead_letters == whole.dead_letters
    assert parts.counts == whole.counts


@settings(max_examples=60, deadline=None)
@given(events=_events(), stop=st.integers(0, 40))
def test_6_a_stop_changes_nothing(events: list[Event], stop: int) -> None:
    """A restored intake must write the frames that the stopped one would have written, byte for byte."""
    given_arrivals = arrivals(events)
    whole = run(an_intake(), given_arrivals)

    first = an_intake()
    before = run(first, given_arrivals[:stop], finish=False)
    second = Intake.restore(first.checkpoint())
    after = run(second, given_arrivals[stop:])

    assert before.frames + after.frames == whole.frames
    assert before.dead_letters + after.dead_letters == whole.dead_letters
    assert second.counts.accepted == whole.counts.accepted
    assert second.counts.frames == len(whole.frames) + 1


@settings(max_examples=60, deadline=None)
@given(events=_events(), at_barrier=st.integers(0, 8))
def test_6_a_stop_at_a_barrier_goes_on_behind_its_positions(events: list[Event], at_barrier: int) -> None:
    """The event that made a barrier due must be read again, and be the first to be."""
    given_arrivals = arrivals(events)
    whole = run(an_intake(), given_arrivals)
    first = an_intake()
    frames: list[bytes] = []

    checkpoint = first.checkpoint()
    for place, passage in enumerate(first.step(given_arrivals)):
        if place <= at_barrier and passage.closes_period:
            frames += passage.frames
            checkpoint = first.checkpoint()
    second = Intake.restore(checkpoint)
    after = run(second, given_arrivals[second.positions.get("log:0", 0) :])

    assert frames + after.frames == whole.frames


@settings(max_examples=60, deadline=None)
@given(events=_events(), repeats=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)), max_size=10))
def test_6_repeats_change_only_counters(events: list[Event], repeats: list[tuple[int, int]]) -> None:
    """An input that is sent again, at once or later, must not be seen in the ledger."""
    given_arrivals = arrivals(events)
    repeated = list(given_arrivals)
    refused = {letter.origin.offset for letter in run(an_intake(), given_arrivals).dead_letters}
    accepted = [arrival for arrival in given_arrivals if arrival[3] not in refused]
    for place, later in repeats:
        arrival = accepted[place % len(accepted)]
        repeated.insert(repeated.index(arrival) + 1 + later, arrival)

    assert _ledger(repeated) == _ledger(given_arrivals)


@settings(max_examples=40, deadline=None)
@given(events=_events(), shards=st.sampled_from([1, 2, 64]))
def test_6_shards_are_no_content(events: list[Event], shards: int) -> None:
    """The order commitment must not depend on how many shards the ledger was cut into."""
    given_arrivals = arrivals(events)

    some, other = _ledger(given_arrivals, shard_count=shards), _ledger(given_arrivals)

    assert some == other


@settings(max_examples=60, deadline=None)
@given(events=_events())
def test_every_fill_conserves_and_lives_where_it_should(events: list[Event]) -> None:
    """Cash and lots of one event must sum to zero by asset and instrument; a leg must be in its shard."""
    out = run(an_intake(), arrivals(events))
    frames = [decode_frame(data) for data in out.frames]

    legs = [leg for frame in frames for leg in frame.legs]
    trades = [leg for leg in legs if leg["kind"] in (LegKind.FILL, LegKind.BUST, LegKind.SPOT_BASE)]

    assert len(legs) == out.counts.account_records
    assert sum(leg["kind"] == LegKind.FILL for leg in trades) == 2 * out.counts.fills
    for frame in frames:
        for sequence in range(len(frame.references)):
            event = frame.legs[frame.legs["sequence"] == sequence]
            traded = event[np.isin(event["kind"], [LegKind.FILL, LegKind.BUST, LegKind.SPOT_BASE])]
            told = event[event["kind"] == LegKind.OPEN_ORDERS]
            assert traded["lots"].sum() == 0
            assert told.shape[0] in (0, 2) and (told["lots"] >= 0).all() and not told["cash"].any()
            for asset in np.unique(traded["asset"]):
                assert traded["cash"][traded["asset"] == asset].sum() == 0


@settings(max_examples=40, deadline=None)
@given(events=_events(), heartbeat=st.sampled_from([SECOND // 2, 10 * SECOND]), span=st.sampled_from([0, SECOND]))
def test_frames_keep_the_rules(events: list[Event], heartbeat: int, span: int) -> None:
    """1 to 5: time never goes back, a period ends once, and nothing comes between an instant and its accounts."""
    out = run(an_intake(heartbeat_ns=heartbeat, frame_span_ns=span), arrivals(events))

    frames = [decode_frame(data) for data in out.frames]

    times = [frame.time_ns for frame in frames]
    assert times == sorted(times)
    assert [frame.number for frame in frames] == list(range(1, len(frames) + 1))
    periods = [frame.period for frame in frames if frame.kind is FrameKind.BARRIER]
    assert periods == sorted(set(periods)) == sorted({frame.period for frame in frames})
    for frame in frames:
        assert frame.period == frame.time_ns // SECOND
        if frame.legs.shape[0]:
            assert int(frame.legs["time_ns"].max()) // SECOND == frame.period
            assert frame.time_ns <= int(frame.legs["time_ns"].min())
        if frame.kind in (FrameKind.BARRIER, FrameKind.HEARTBEAT):
            assert not frame.market
            assert not frame.legs.shape[0]
