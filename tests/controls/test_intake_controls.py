"""Without the duplicate window, and without the hash chain: what would be lost, beside what the guards do."""

from collections.abc import Callable

import pytest

from flows.intake.duplicates import IdTable
from flows.intake.ledger import Counts
from flows.margin.registry import margin_models
from flows.market.step import Market
from flows.passages import Written
from flows.pipeline import run_plain
from flows.risk.book import Book
from flows.risk.stage import LocalRisk, StateClock
from flows.risk.step import Risk
from flows.screening.exhaustive import POLICY
from schemas.events import Event
from schemas.ids import FIRST_ACCOUNT_NUMBER
from schemas.ledger import FrameKind, LedgerError, decode_frame, encode_frame
from schemas.results import ResultKind
from tests.builders import SECOND_NS, TIME_NS, a_fill, a_price, a_venue
from tests.flows.running import Published, arrivals, batches_of, run, some_stages

ALICE = FIRST_ACCOUNT_NUMBER
PERPETUAL = 0
Tampering = Callable[[list[bytes]], list[bytes]]


def redelivered() -> list[Event]:
    """Return one fill that its topic delivers twice."""
    fill = a_fill(quantity="0.1", time_ns=TIME_NS + SECOND_NS)
    return [*a_venue(), fill, fill, a_price("50100", number=3, time_ns=TIME_NS + 2 * SECOND_NS)]


def lots_of_alice(events: list[Event]) -> tuple[int, Published]:
    """Return alice's settled position, and the run."""
    stages, published = some_stages(), Published()
    run_plain(batches_of(arrivals(events), 1_000), stages, published.take)
    return stages.settlement.settlement.positions(ALICE)[PERPETUAL], published


def test_a_redelivered_fill_counts_once() -> None:
    """Fails where the duplicate window lets a repeated fill through."""
    lots, published = lots_of_alice(redelivered())

    assert lots == 100
    assert published.dead_letters == []


def test_without_the_window_a_redelivered_fill_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where something else also catches the repetition, so that the test above would not show the window."""
    monkeypatch.setattr(IdTable, "get", lambda _table, _key, _ledger_time_ns: None)

    lots, _ = lots_of_alice(redelivered())

    assert lots == 200


# -- the hash chain ----------------------------------------------------------------------------------------------------


def a_fall() -> list[Event]:
    """Return a fill and a fall, each price in a frame of its own: alice, 0.9 BTC long, is liquidated at 41,000."""
    falls = [
        a_price(str(50_000 - 1_500 * n), number=10 + n, time_ns=TIME_NS + n * SECOND_NS // 10) for n in range(1, 7)
    ]
    return [*a_venue(), a_fill(quantity="0.9", time_ns=TIME_NS + 1), *falls]


def a_risk() -> LocalRisk:
    """Return a risk stage at the beginning of a ledger."""
    models = margin_models()
    book = Book(range(4), shard_count=4, models=tuple(models))
    risk = Risk(Market(), book, models=models, screening=POLICY)
    return LocalRisk(risk, clock=StateClock(60 * SECOND_NS))


def read_back(frames: list[bytes]) -> list[tuple[int, int]]:
    """Return (frame, kind) of what a risk stage decides when it is given these frames."""
    stage = a_risk()
    said: list[tuple[int, int]] = []
    for place, data in enumerate(frames):
        decided = stage.step(Written([data], [], Counts(), place == len(frames) - 1, None))
        if decided.period is not None:
            rows = decided.period.results
            said.extend(zip(rows["frame"].tolist(), rows["kind"].tolist(), strict=True))
    return said


def without_a_frame(frames: list[bytes]) -> list[bytes]:
    """Return the ledger without the frame whose price liquidates alice: the last that is no barrier."""
    place = max(place for place, data in enumerate(frames) if decode_frame(data).kind is FrameKind.EVENTS)
    return frames[:place] + frames[place + 1 :]


def with_another_frame(frames: list[bytes]) -> list[bytes]:
    """Return the ledger with that frame forged: it is whole by itself, and holds nothing."""
    place = max(place for place, data in enumerate(frames) if decode_frame(data).kind is FrameKind.EVENTS)
    old = decode_frame(frames[place])
    forged, _ = encode_frame(
        number=old.number,
        kind=old.kind,
        time_ns=old.time_ns,
        period=old.period,
        shard_count=old.shard_count,
        market=[],
        legs=old.legs.copy(),
        leg_shards=old.legs["index"].astype("u2"),
        references=[],
        previous_head=old.previous_head,
    )
    return [*frames[:place], forged, *frames[place + 1 :]]


def orders(said: list[tuple[int, int]]) -> int:
    """Count orders that were opened."""
    return sum(kind == ResultKind.ORDER_OPENED for _, kind in said)


@pytest.mark.parametrize(("tampered", "message"), [(without_a_frame, "gap"), (with_another_frame, "hash chain")])
def test_a_ledger_that_was_tampered_with_stops_the_stage(tampered: Tampering, message: str) -> None:
    """Fails where a frame may be missing or exchanged without a halt at the frame behind it."""
    frames = run(a_fall()).frames
    assert orders(read_back(frames)) == 1

    with pytest.raises(LedgerError, match=message):
        read_back(tampered(frames))


@pytest.mark.parametrize("tampered", [without_a_frame, with_another_frame])
def test_without_the_chain_a_liquidation_goes_missing_unnoticed(
    monkeypatch: pytest.MonkeyPatch, tampered: Tampering
) -> None:
    """Fails where another check stops the stage, so that the test above would not show the chain."""
    frames = run(a_fall()).frames
    monkeypatch.setattr("flows.risk.stage.check_link", lambda _previous, _frame: None)

    said = read_back(tampered(frames))

    assert orders(said) == 0
