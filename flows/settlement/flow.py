"""The settlement stage as a Bytewax operator: wiring, nothing else."""

from bytewax import operators as op
from bytewax.dataflow import Stream, operator

from flows.passages import Decided, Settled
from flows.settlement.stage import SettlementStage


@operator
def settlement(step_id: str, up: Stream[Decided], stage: SettlementStage) -> Stream[Settled]:
    """Run each passage through the stage's step, in order."""
    return op.map("step", up, stage.step)
