"""Arrivals and intakes with sensible defaults, and the events of ``tests.builders`` as one source's.

Times are nanoseconds after ``START``. ``**changes`` may put anything into any field: a test says what is wrong.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from flows.intake.decode import Arrival, Stream, canonical
from flows.intake.ledger import Intake, IntakeOut
from schemas.events import (
    AccountOpened,
    AssetListed,
    Collateral,
    Event,
    Fill,
    FillBusted,
    InstrumentListed,
    MarkPrice,
    OraclePrice,
    OrdersOpen,
    WithdrawalRequested,
)
from schemas.ledger import Frame, FrameKind, Genesis, decode_frame
from tests import builders

_Event = TypeVar("_Event", bound=Event)

SECOND = 1_000_000_000
# 2026-01-01, on a whole settlement period of any length that divides a day.
START = 1_767_225_600 * SECOND
MODELS = ("tidegate-portfolio", "tidegate-standard")


def _at_venue(event: _Event, at: int, changes: dict[str, Any], **defaults: Any) -> _Event:
    """Return an event of the one source of these tests, with what this file and then the test changes."""
    head = {
        "event_id": f"{event.__struct_config__.tag}-{event.source_sequence}",
        "event_time_ns": START + at,
        "source": "venue",
    }
    return msgspec.structs.replace(event, **(head | defaults | changes))


def event_asset(asset: str = "USDC", *, at: int = 0, sequence: int = 0, **changes: Any) -> AssetListed:
    """List an asset with six decimals."""
    return _at_venue(builders.an_asset(asset, number=sequence), at, changes, event_id=f"asset-{asset}")


def event_instrument(
    instrument: str = "BTC-PERP", *, at: int = 0, sequence: int = 0, **changes: Any
) -> InstrumentListed:
    """List a linear perpetual on BTC: ticks of 0.5, lots of 0.001."""
    listed = builders.a_perpetual(instrument, number=sequence, quote="USD")
    return _at_venue(listed, at, changes, event_id=f"instrument-{instrument}")


def event_account(account: str, *, at: int = 0, sequence: int = 0, **changes: Any) -> AccountOpened:
    """Open a cross account under the standard model."""
    return _at_venue(builders.an_account(account, number=sequence), at, changes, event_id=f"account-{account}")


def event_price(sequence: int = 1, *, at: int = 0, **changes: Any) -> OraclePrice:
    """Observe BTC/USD at 40,000."""
    return _at_venue(builders.a_price("40000", number=sequence, publish_time_ns=START + at), at, changes)


def event_mark(sequence: int = 1, *, at: int = 0, **changes: Any) -> MarkPrice:
    """Mark BTC-PERP at 40,000."""
    return _at_venue(builders.a_mark("40000", number=sequence), at, changes)


def event_fill(sequence: int = 1, *, at: int = 0, **changes: Any) -> Fill:
    """Alice buys 0.01 BTC-PERP from bob at 40,000.5."""
    fill = builders.a_fill(
        "40000.5", "0.01", buyer_fee="0.2", seller_fee="-0.05", fill_id=f"f-{sequence}", number=sequence
    )
    return _at_venue(fill, at, changes)


def event_bust(fill_id: str, sequence: int = 1, *, at: int = 0, **changes: Any) -> FillBusted:
    """Undo a fill."""
    return _at_venue(builders.a_bust(fill_id, number=sequence), at, changes)


def event_transfer(sequence: int = 1, *, at: int = 0, **changes: Any) -> Collateral:
    """Confirm a deposit of 1,000 USDC by alice."""
    return _at_venue(builders.a_transfer(transfer_id=f"t-{sequence}", number=sequence), at, changes)


def event_open_orders(sequence: int = 1, *, at: int = 0, **changes: Any) -> OrdersOpen:
    """Say that alice has 0.02 BTC-PERP left to buy, and 0.03 to sell."""
    return _at_venue(builders.open_orders("0.02", "0.03", number=sequence), at, changes)


def event_withdrawal(sequence: int = 1, *, at: int = 0, **changes: Any) -> WithdrawalRequested:
    """Ask for 100 USDC back, for alice."""
    return _at_venue(builders.a_withdrawal(withdrawal_id=f"w-{sequence}", number=sequence), at, changes)


def event_venue() -> list[Event]:
    """List USDC, BTC and BTC-PERP, and open alice, bob and carol, all a second before the start."""
    return [
        event_asset("USDC", at=-SECOND),
        event_asset("BTC", decimals=8, at=-SECOND),
        event_instrument(at=-SECOND),
        event_account("alice", at=-SECOND),
        event_account("bob", at=-SECOND),
        event_account("carol", at=-SECOND),
    ]


def to_line(event: Event) -> bytes:
    """Return an event as a line of a log, without its line feed."""
    return canonical(event)


def to_row(event: Event) -> dict[str, Any]:
    """Return an event as a table row: nested fields are JSON strings, absent ones null."""
    row: dict[str, Any] = dict.fromkeys(type(event).__struct_fields__)
    row |= msgspec.to_builtins(event)
    for name in ("svi", "points", "parameters"):
        if row.get(name) is not None:
            row[name] = msgspec.json.encode(row[name]).decode()
    return row


def arrivals(events: Iterable[Event], topic: str = "log") -> list[Arrival]:
    """Return events as the arrivals of one stream."""
    stream = Stream(topic)
    return [(event, canonical(event), stream, place, place) for place, event in enumerate(events, 1)]


def an_intake(**changes: Any) -> Intake:
    """Return an intake with one-second settlement periods and 16 shards."""
    shard_count = changes.pop("shard_count", 16)
    genesis = Genesis(ledger_id="test", **({"settlement_period_ns": SECOND} | changes))
    return Intake(genesis, shard_count=shard_count, margin_models=MODELS)


def run(intake: Intake, given: Sequence[Arrival], *, batch: int = 10**9, finish: bool = True) -> IntakeOut:
    """Step an intake through arrivals in batches; return all its passages as one."""
    total = IntakeOut()
    for start in range(0, len(given), batch):
        for out in intake.step(given[start : start + batch]):
            _add(total, out)
    if finish:
        _add(total, intake.finish())
    return total


def _add(total: IntakeOut, out: IntakeOut) -> None:
    total.frames += out.frames
    total.dead_letters += out.dead_letters
    total.counts.add(out.counts)


def frames_of(events: Iterable[Event], **changes: Any) -> list[Frame]:
    """Return the frames of events behind the venue's listings, without genesis, listings and barriers."""
    intake = an_intake(**changes)
    out = run(intake, arrivals([*event_venue(), *events]))
    assert not out.dead_letters, out.dead_letters
    frames = [decode_frame(data) for data in out.frames]
    return [frame for frame in frames[1:] if frame.kind is not FrameKind.BARRIER]


def reasons_of(events: Iterable[Event], **changes: Any) -> list[str]:
    """Return why events behind the venue's listings are refused, in order."""
    out = run(an_intake(**changes), arrivals([*event_venue(), *events]))
    return [letter.reason.value for letter in out.dead_letters]
