"""Without the conservation checks: money that nobody paid would be in a signed batch."""

import pytest

from flows.risk.book import Book
from flows.settlement.netting import ConservationError
from schemas.results import DeltaKind, Deltas
from tests.builders import SECOND_NS, TIME_NS, a_fill, a_venue
from tests.flows.running import Published, run

EVENTS = [*a_venue(), a_fill(time_ns=TIME_NS + 5 * SECOND_NS)]
GUARDS = ("flows.settlement.netting.check_conservation", "flows.settlement.holdings._refuse_nonzero")


def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the book report one unit more than it booked, once positions change hands."""
    take = Book.take_deltas

    def generous(book: Book) -> Deltas:
        deltas = take(book)
        if (deltas["kind"] == DeltaKind.POSITION).any():
            deltas["amount"][0] += 1
        return deltas

    monkeypatch.setattr(Book, "take_deltas", generous)


def guards_off(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let checks pass everything."""
    for name in names:
        monkeypatch.setattr(name, lambda *_arguments: None)


def sum_of_batches(published: Published) -> int:
    """Return what all batches together add to the world, in any unit."""
    return sum(int(batch.deltas()["amount"].sum()) for batch in published.batches)


def test_a_unit_from_nowhere_halts_at_its_barrier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a period may be settled that does not sum to zero; the message names market and amount."""
    plant(monkeypatch)

    with pytest.raises(ConservationError, match=r"period .* \+1 units"):
        run(EVENTS)


@pytest.mark.parametrize("off", GUARDS)
def test_either_check_alone_halts(monkeypatch: pytest.MonkeyPatch, off: str) -> None:
    """Fails where the two checks, of the deltas and of what was stored, are not independent."""
    plant(monkeypatch)
    guards_off(monkeypatch, off)

    with pytest.raises(ConservationError):
        run(EVENTS)


def test_without_both_a_unit_from_nowhere_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where something else halts, so that the tests above would not show the checks."""
    plant(monkeypatch)
    guards_off(monkeypatch, *GUARDS)

    published = run(EVENTS)

    assert sum_of_batches(published) == 1


def test_without_a_fault_batches_sum_to_zero() -> None:
    """Fails where the control above would find its unit in any run."""
    published = run(EVENTS)

    assert sum_of_batches(published) == 0
