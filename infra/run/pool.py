"""The risk stage over several processes: frames go to all, each takes its shards, parts are merged at the barrier.

1. What is published does not depend on how many workers there are, nor on which holds which shard.
2. A worker that dies or halts ends the run at once, with its reason; the run resumes from the last commit.
"""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import BinaryIO, Self, cast

import numpy as np

from flows.market.instant import Instant
from flows.passages import Decided, RiskCheckpoint, RiskPeriod, Written
from flows.risk.stage import FrameReader, StateClock
from flows.risk.step import merge_results
from flows.screening.diagnostics import Diagnostics, together
from flows.screening.shadow import JudgedOtherwise
from flows.settlement.netting import summed
from flows.snapshot.rows import StatePart
from infra.run.messages import Failed, Frames, PeriodPart, Start, decode_instant, receive_from_worker, send
from schemas.ledger import Frame, FrameKind
from schemas.results import DELTA, RESULT


class WorkerFailed(Exception):  # noqa: N818 - says what happened
    """A risk worker stopped; the message says why."""


class RiskPool:
    """Risk workers as one stage. Use it as a context: leaving it ends the workers.

    Parameters
    ----------
    worker_count : processes, 1 to the number of shards.
    checkpoint : state to start from, with ``previous`` (frame bytes) the barrier it was taken at.
    """

    def __init__(
        self,
        *,
        worker_count: int,
        shard_count: int,
        clock: StateClock,
        screening: str,
        shadow: float = 0.0,
        checkpoint: RiskCheckpoint | None = None,
        previous: tuple[Frame, bytes] | None = None,
    ) -> None:
        self._clock = clock
        self._reader = FrameReader(None if previous is None else previous[0])
        self._first_frame = 0 if previous is None else previous[0].number + 1
        self.diagnostics = Diagnostics()
        self.processes: list[subprocess.Popen[bytes]] = []
        for worker in range(worker_count):
            shards = list(range(worker, shard_count, worker_count))
            process = subprocess.Popen(
                [sys.executable, "-m", "infra.run.risk_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            self.processes.append(process)
            self._send(
                process,
                Start(
                    shards=shards,
                    shard_count=shard_count,
                    market=None if checkpoint is None else checkpoint.market,
                    shard_states=[] if checkpoint is None else [checkpoint.shards[shard] for shard in shards],
                    previous=None if previous is None else previous[1],
                    screening=screening,
                    shadow=shadow,
                ),
            )

    def __enter__(self) -> Self:
        """Return the pool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers."""
        for process in self.processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def step(self, written: Written) -> Decided:
        """Take a passage's frames; answer its barrier."""
        frames = [self._reader.read(data) for data in written.frames]
        barrier = frames[-1] if frames and frames[-1].kind is FrameKind.BARRIER else None
        state_due = barrier is not None and self._clock.is_due(barrier, last=written.last)
        message = Frames(list(written.frames), barrier is not None, state_due, written.checkpoint is not None)
        for process in self.processes:
            self._send(process, message)
        if barrier is None:
            return Decided(written, frames, None, None)
        parts = [self._receive(process) for process in self.processes]
        self.diagnostics = together(part.diagnostics for part in parts)
        period = RiskPeriod(
            barrier=barrier,
            first_frame=self._first_frame,
            results=merge_results([np.frombuffer(part.results, RESULT) for part in parts]),
            deltas=summed([np.frombuffer(part.deltas, DELTA) for part in parts]),
            state_hash=(_sum(part.state_hash[0] for part in parts), _sum(part.state_hash[1] for part in parts)),
            state=_state(parts) if state_due else None,
        )
        self._first_frame = barrier.number + 1
        checkpoint = None
        if written.checkpoint is not None:
            shards = {shard: data for part in parts for shard, data in part.shards.items()}
            markets = [part.market for part in parts if part.market is not None]
            checkpoint = RiskCheckpoint(markets[0], dict(sorted(shards.items())), self._clock.last_period)
        return Decided(written, frames, period, checkpoint)

    def _send(self, process: "subprocess.Popen[bytes]", message: Start | Frames) -> None:
        try:
            send(cast(BinaryIO, process.stdin), message)
        except BrokenPipeError:
            self._receive(process)
            raise

    def _receive(self, process: "subprocess.Popen[bytes]") -> PeriodPart:
        answer = receive_from_worker(cast(BinaryIO, process.stdout))
        if isinstance(answer, PeriodPart):
            return answer
        if isinstance(answer, Failed) and answer.judged_otherwise:
            raise JudgedOtherwise(answer.message)
        if isinstance(answer, Failed):
            raise WorkerFailed(f"a risk worker halted: {answer.message}")
        raise WorkerFailed(f"a risk worker ended with code {process.wait()}: run the command again to resume")


def _sum(halves: Iterable[int]) -> int:
    return sum(halves) % 2**64


def _state(parts: Sequence[PeriodPart]) -> tuple[Instant, list[StatePart]]:
    instants = [part.instant for part in parts if part.instant is not None]
    return decode_instant(instants[0]), [StatePart.decode(part.state) for part in parts if part.state is not None]
