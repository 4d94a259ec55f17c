"""The risk stage as a Bytewax operator: wiring, nothing else."""

from bytewax import operators as op
from bytewax.dataflow import Stream, operator

from flows.passages import Decided, RiskStage, Written


@operator
def risk(step_id: str, up: Stream[Written], stage: RiskStage) -> Stream[Decided]:
    """Run each passage through the stage's step, in order."""
    return op.map("step", up, stage.step)
