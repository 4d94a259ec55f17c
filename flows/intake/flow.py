"""The intake stage as a Bytewax operator: wiring, nothing else."""

from bytewax import operators as op
from bytewax.dataflow import Stream, operator

from flows.intake.stage import IntakeStage
from flows.passages import EventBatch, Written


@operator
def intake(step_id: str, up: Stream[EventBatch], stage: IntakeStage) -> Stream[Written]:
    """Run each passage through the stage's step, in order."""
    return op.flat_map("step", up, stage.step)
