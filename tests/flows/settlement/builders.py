"""Barriers and deltas with sensible defaults."""

from schemas.ledger import Frame, FrameKind, empty_legs
from schemas.results import Deltas, empty_deltas

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 500_000_000


def barrier(number: int, kind: FrameKind = FrameKind.BARRIER) -> Frame:
    """The barrier frame ``number``, which closes period ``number``."""
    return Frame(
        number=number,
        kind=kind,
        time_ns=START_NS + number * PERIOD_NS,
        period=number,
        shard_count=1,
        market=[],
        legs=empty_legs(),
        references=[],
        previous_head=bytes(32),
        content_head=number.to_bytes(32),
        positions=b"",
    )


def rows(*entries: tuple[int, int, int, int]) -> Deltas:
    """Deltas from (account, kind, market, amount)."""
    deltas = empty_deltas(len(entries))
    for at, entry in enumerate(entries):
        deltas[at] = entry
    return deltas
