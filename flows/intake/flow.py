"""The intake stage as a Bytewax operator: wiring, nothing else."""

from typing import Any

from bytewax import operators as op
from bytewax.dataflow import Stream, operator

from flows.passages import WritingStage, Written


@operator
def intake(step_id: str, up: Stream[Any], stage: WritingStage) -> Stream[Written]:
    """Run each passage through the stage's step, in order."""
    return op.flat_map("step", up, stage.step)
