"""The risk stage of one process: passages in, periods out.

1. Frames must continue each other; a gap or a broken chain stops the stage before anything is decided on it.
2. A full state is added at the first barrier of each snapshot period of ledger time, and at the end of input.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from flows.margin.model import MarginModel
from flows.passages import Decided, RiskCheckpoint, RiskPeriod, Written
from flows.risk.evaluation import evaluate
from flows.risk.step import Risk
from flows.screening.diagnostics import Diagnostics
from flows.snapshot.rows import StatePart, state_part
from schemas.ledger import Frame, FrameKind, check_link, decode_frame


class StateClock:
    """Says at which barriers the full state is due: a function of the barriers' times alone."""

    def __init__(self, period_ns: int, last_period: int | None = None) -> None:
        self._period_ns = period_ns
        self.last_period = last_period

    def is_due(self, barrier: Frame, *, last: bool) -> bool:
        """Return whether the state belongs to this barrier, and remember that it was given."""
        period = barrier.time_ns // self._period_ns
        if period == self.last_period and not last:
            return False
        self.last_period = period
        return True


class FrameReader:
    """Decodes frames and holds them to their order."""

    def __init__(self, previous: Frame | None, shards: Collection[int] | None = None) -> None:
        self._previous = previous
        self._shards = shards

    def read(self, data: bytes) -> Frame:
        """Return the next frame, with the legs of the reader's shards.

        Raises
        ------
        LedgerError : damaged, or not the frame that follows.
        """
        frame = decode_frame(data, self._shards)
        check_link(self._previous, frame)
        self._previous = frame
        return frame


def state_of(risk: Risk, models: Mapping[str, MarginModel]) -> StatePart:
    """Return this process's part of the full state, as it stands after the last frame."""
    assert risk.instant is not None, "a state is taken after a frame"
    return state_part(risk.book, risk.instant, lambda book, instant, rows: evaluate(book, instant, rows, models))


class LocalRisk:
    """All shards in this process.

    Parameters
    ----------
    previous : the barrier that ``risk`` was restored at, None at the beginning.
    """

    def __init__(self, risk: Risk, *, clock: StateClock, previous: Frame | None = None) -> None:
        self.risk = risk
        self._clock = clock
        self._reader = FrameReader(previous)
        self._first_frame = 0 if previous is None else previous.number + 1

    @property
    def diagnostics(self) -> Diagnostics:
        """What screening took, and where accounts live now."""
        return replace(self.risk.diagnostics, residence=self.risk.residence())

    def step(self, written: Written) -> Decided:
        """Take a passage's frames; answer its barrier."""
        frames = []
        period = None
        for data in written.frames:
            frame = self._reader.read(data)
            frames.append(frame)
            closed = self.risk.step(frame)
            if closed is None:
                continue
            state = None
            if self._clock.is_due(frame, last=written.last):
                assert self.risk.instant is not None, "a period has a frame before its barrier"
                state = self.risk.instant, [state_of(self.risk, self.risk.models)]
            period = RiskPeriod(frame, self._first_frame, closed.results, closed.deltas, closed.state_hash, state)
            self._first_frame = frame.number + 1
        checkpoint = None
        if written.checkpoint is not None:
            assert frames, "a checkpoint belongs to a barrier"
            assert frames[-1].kind is FrameKind.BARRIER, "checkpoints are taken at barriers"
            market, shards = self.risk.checkpoint()
            checkpoint = RiskCheckpoint(market, shards, self._clock.last_period)
        return Decided(written, frames, period, checkpoint)
