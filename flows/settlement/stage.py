"""The settlement stage: periods in, batches out."""

from flows.passages import Decided, Settled
from flows.settlement.step import Settlement


class SettlementStage:
    """One settlement for all shards: it waits for the whole period."""

    def __init__(self, settlement: Settlement) -> None:
        self.settlement = settlement

    def step(self, decided: Decided) -> Settled:
        """Settle the period that a passage closes, if it closes one."""
        batch = None
        if decided.period is not None:
            period = decided.period
            batch = self.settlement.step(period.barrier, period.first_frame, [period.deltas])
        checkpoint = self.settlement.checkpoint() if decided.checkpoint is not None else None
        return Settled(decided, batch, checkpoint)
