"""The flows joined, for one machine: events in, everything that a barrier publishes out.

Sources and sinks are arguments. ``run_plain`` is the whole engine in a loop; ``dataflow`` wires the same steps as a
Bytewax dataflow. Both give the same bytes, and a test holds them to it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from flows.intake.flow import intake
from flows.passages import RiskStage, Shown, WritingStage
from flows.risk.flow import risk
from flows.settlement.flow import settlement
from flows.settlement.stage import SettlementStage
from flows.snapshot.flow import snapshot
from flows.snapshot.stage import SnapshotStage


@dataclass(frozen=True, slots=True)
class Stages:
    """The memory of each stage; steps change it in place."""

    intake: WritingStage
    risk: RiskStage
    settlement: SettlementStage
    snapshot: SnapshotStage


def run_plain(batches: Iterable[Any], stages: Stages, publish: Callable[[Shown], None]) -> None:
    """Run every batch through the stages, in order, one after the other."""
    for batch in batches:
        for written in stages.intake.step(batch):
            decided = stages.risk.step(written)
            settled = stages.settlement.step(decided)
            publish(stages.snapshot.step(settled))


def dataflow(source: Source[Any], stages: Stages, sink: Sink[Shown]) -> Dataflow:
    """Return the same as a dataflow for one worker.

    State lives in the stages and not in Bytewax's recovery store: its epochs are wall-clock time, ours are barriers.
    """
    flow = Dataflow("tidegate")
    events = op.input("events", flow, source)
    written = intake("intake", events, stages.intake)
    decided = risk("risk", written, stages.risk)
    settled = settlement("settlement", decided, stages.settlement)
    shown = snapshot("snapshot", settled, stages.snapshot)
    op.output("publish", shown, sink)
    return flow
