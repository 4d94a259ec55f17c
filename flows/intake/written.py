"""A ledger that is written already takes the place of intake: its frames are the passages.

1. Nothing is decided here: frames pass as they are. What they cannot tell (duplicates, dead letters) counts as nothing.
2. A checkpoint is the number of the next frame.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import numpy as np

from flows.intake.ledger import Counts
from flows.passages import Written, WrittenPeriod
from schemas.checkpoint import open_envelope, seal_envelope
from schemas.ledger import Frame, FrameKind, LegKind, decode_frame

_NOUN: Final = "ledger position"
_VERSION: Final = 1


class LedgerStage:
    """Reads what intake once wrote.

    Parameters
    ----------
    checkpoint_due : asked at every barrier, as of ``IntakeStage``.
    """

    def __init__(self, *, checkpoint_due: Callable[[], bool]) -> None:
        self._checkpoint_due = checkpoint_due

    def step(self, batch: WrittenPeriod) -> Iterator[Written]:
        """Yield the period as one passage.

        Raises
        ------
        LedgerError : a frame is damaged.
        """
        frames = [decode_frame(data) for data in batch.frames]
        due = batch.last or self._checkpoint_due()
        checkpoint = checkpoint_of(frames[-1].number + 1) if due else None
        yield Written(batch.frames, [], _counts(frames), batch.last, checkpoint)


def checkpoint_of(next_frame: int) -> bytes:
    """Return the checkpoint from which frame ``next_frame`` is read next."""
    return seal_envelope(_NOUN, _VERSION, msgspec.msgpack.encode(next_frame))


def next_frame_of(checkpoint: bytes) -> int:
    """Return where a checkpoint goes on.

    Raises
    ------
    CheckpointError : damaged, or of another stage.
    """
    return msgspec.msgpack.decode(open_envelope(_NOUN, _VERSION, checkpoint), type=int)


def _counts(frames: list[Frame]) -> Counts:
    """Return what intake counted when it accepted what these frames hold."""
    counts = Counts(frames=len(frames))
    for frame in frames:
        counts.barriers += frame.kind is FrameKind.BARRIER
        if frame.kind is FrameKind.EVENTS:
            counts.market_records += len(frame.market)
        kind = frame.legs["kind"]
        counts.account_records += kind.shape[0]
        counts.fills += _events(frame, LegKind.FILL)
        counts.busts += _events(frame, LegKind.BUST)
        counts.transfers += _events(frame, LegKind.TRANSFER) + _events(frame, LegKind.TRANSFER_PENDING)
        counts.withdrawals += _events(frame, LegKind.WITHDRAWAL)
        counts.open_orders += _events(frame, LegKind.OPEN_ORDERS)
        counts.accepted += len(frame.references)
    counts.accepted += counts.market_records
    return counts


def _events(frame: Frame, kind: LegKind) -> int:
    """Return how many events of a frame have legs of a kind."""
    return int(np.unique(frame.legs["sequence"][frame.legs["kind"] == int(kind)]).shape[0])
