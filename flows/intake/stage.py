"""The intake stage: arrivals in, passages of frames out, each ending at a barrier or with its input."""

from collections.abc import Callable, Iterator

from flows.intake.ledger import Intake, IntakeOut
from flows.passages import EventBatch, Written


class IntakeStage:
    """One intake for the whole ledger.

    Parameters
    ----------
    checkpoint_due : asked at every barrier; where true, all stages' checkpoints travel with it. When it says so
        changes no byte of what is published, so it may look at a clock.
    is_new : the ledger begins here: the genesis frame comes first.
    """

    def __init__(self, intake: Intake, *, checkpoint_due: Callable[[], bool], is_new: bool) -> None:
        self.intake = intake
        self._checkpoint_due = checkpoint_due
        self._genesis: list[bytes] = [intake.genesis_frame()] if is_new else []

    def step(self, batch: EventBatch) -> Iterator[Written]:
        """Take a batch; yield its passages, and after the last batch the end of the ledger."""
        for out in self.intake.step(batch.arrivals):
            yield self._written(out, last=False)
        if batch.last:
            yield self._written(self.intake.finish(), last=True)

    def _written(self, out: IntakeOut, *, last: bool) -> Written:
        frames, self._genesis = [*self._genesis, *out.frames], []
        out.counts.frames = len(frames)
        wanted = out.closes_period and (last or self._checkpoint_due())
        checkpoint = self.intake.checkpoint() if wanted else None
        return Written(frames, out.dead_letters, out.counts, last, checkpoint)
