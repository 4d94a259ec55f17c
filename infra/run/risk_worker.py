"""A risk worker: some shards in a process of their own, driven over stdin and stdout by the run that started it.

It ends when its stdin closes, so it never outlives a run that was killed.
"""

import signal
import sys
from dataclasses import replace
from typing import BinaryIO

from flows.risk.stage import FrameReader, state_of
from flows.risk.step import Period, Risk
from flows.screening.shadow import JudgedOtherwise
from infra.run.kernels import prepared_kernels
from infra.run.messages import Failed, Frames, PeriodPart, Start, encode_instant, receive_in_worker, send
from infra.run.risk import risk_of
from schemas.ledger import decode_frame


def main() -> None:
    """Serve until the pipe closes; a failure is told to the run before this process exits."""
    # Ctrl-C reaches every process of a terminal: the run says what was stopped, and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Anything that prints by accident must not fall into the message stream.
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr
    try:
        with prepared_kernels(lambda notice: sys.stderr.write(f"tidegate: a risk worker: {notice}\n")):
            _serve(sys.stdin.buffer, answers)
    except JudgedOtherwise as error:
        send(answers, Failed(str(error), judged_otherwise=True))
        raise SystemExit(1) from error
    except Exception as error:
        send(answers, Failed(f"{type(error).__name__}: {error}"))
        raise SystemExit(1) from error


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    start = receive_in_worker(requests)
    if start is None:
        return
    assert isinstance(start, Start), "the first message says what to hold"
    risk = risk_of(
        start.shards,
        shard_count=start.shard_count,
        screening=start.screening,
        shadow=start.shadow,
        market=start.market,
        shard_states=start.shard_states,
    )
    previous = None if start.previous is None else decode_frame(start.previous, start.shards)
    reader = FrameReader(previous, frozenset(start.shards))
    while True:
        request = receive_in_worker(requests)
        if request is None:
            return
        assert isinstance(request, Frames), "a worker starts once"
        period: Period | None = None
        for data in request.frames:
            period = risk.step(reader.read(data)) or period
        if request.closes_period:
            assert period is not None, "a passage that closes a period ends with its barrier"
            send(answers, _part(risk, period, request))


def _part(risk: Risk, period: Period, request: Frames) -> PeriodPart:
    market, shards = risk.checkpoint() if request.checkpoint_due else (None, {})
    state = state_of(risk, risk.models).encode() if request.state_due else None
    assert risk.instant is not None, "a period has a frame before its barrier"
    return PeriodPart(
        results=period.results.tobytes(),
        deltas=period.deltas.tobytes(),
        state_hash=period.state_hash,
        state=state,
        instant=encode_instant(risk.instant) if request.state_due and 0 in risk.book.shards else None,
        market=market,
        shards=shards,
        # Counting where accounts live takes a pass over them: with the full state, which is there at the end, too.
        diagnostics=replace(risk.diagnostics, residence=risk.residence()) if request.state_due else risk.diagnostics,
    )


if __name__ == "__main__":
    main()
