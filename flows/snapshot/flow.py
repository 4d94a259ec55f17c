"""The snapshot stage as a Bytewax operator: wiring, nothing else."""

from bytewax import operators as op
from bytewax.dataflow import Stream, operator

from flows.passages import Settled, Shown
from flows.snapshot.stage import SnapshotStage


@operator
def snapshot(step_id: str, up: Stream[Settled], stage: SnapshotStage) -> Stream[Shown]:
    """Run each passage through the stage's step, in order."""
    return op.map("step", up, stage.step)
