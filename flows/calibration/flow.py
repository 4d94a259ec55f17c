"""The calibration stage as a Bytewax operator: wiring, nothing else."""

from bytewax import operators as op
from bytewax.dataflow import Stream, operator

from flows.calibration.step import Calibration, CalibrationOut, Quotes


@operator
def calibration(step_id: str, up: Stream[Quotes], stage: Calibration) -> Stream[CalibrationOut]:
    """Fit each snapshot of a chain, in order."""
    return op.map("step", up, stage.step)
