"""How many events a second, beside the cost of decoding alone: ``python -m tests.bench.throughput [COUNT]``.

The input is ``infra.demo.stream``: fills, transfers and ticks of 1,000 accounts on four perpetuals. Each line that is
printed does all that the line before it does, and more. Times are of one process, from memory or from a plain file.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from flows.intake.decode import Stream, decode_lines
from flows.intake.ledger import Intake
from flows.margin.registry import margin_models
from infra.demo.stream import small_events, write_small_events
from infra.run.replay import Options, replay
from schemas.events import AnyEvent
from schemas.ledger import Genesis

COUNT: Final = 500_000
_SEED: Final = 1
_ACCOUNTS: Final = 1_000
_BLOCK_LINES: Final = 4_096
_GENESIS: Final = Genesis(ledger_id="bench", settlement_period_ns=3_600_000_000_000)


def main(count: int) -> None:
    """Print one line for each depth of the pipeline."""
    lines = b"".join(small_events(count, seed=_SEED, accounts=_ACCOUNTS)).split(b"\n")[:-1]
    blocks = [lines[at : at + _BLOCK_LINES] for at in range(0, len(lines), _BLOCK_LINES)]
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as place:
        log = Path(place) / "small.ndjson"
        write_small_events(log, count, seed=_SEED, accounts=_ACCOUNTS)
        depths: list[tuple[str, Callable[[], None]]] = [
            ("decode alone (msgspec)", lambda: _decode(blocks)),
            ("decode and check (intake.decode)", lambda: _check(blocks)),
            ("to ledger frames (intake)", lambda: _intake(blocks)),
            ("whole pipeline, one process, no chain", lambda: _replay(log, Path(place) / "run")),
        ]
        # Compiled kernels and cached tables are not what is measured.
        _replay_warm(Path(place))
        first = 0.0
        print(f"{count:,} events")
        for name, work in depths:
            started = time.perf_counter()
            work()
            seconds = time.perf_counter() - started
            first = first or seconds
            print(
                f"{name:40}{count / seconds:>12,.0f} events/s{1e6 * seconds / count:>8.2f} µs{seconds / first:>8.1f}x"
            )


def _decode(blocks: Iterable[list[bytes]]) -> None:
    decode = msgspec.json.Decoder(AnyEvent).decode
    for block in blocks:
        for line in block:
            decode(line)


def _check(blocks: Iterable[list[bytes]]) -> None:
    stream = Stream("small")
    for block in blocks:
        decode_lines(block, stream, 1)


def _intake(blocks: Iterable[list[bytes]]) -> None:
    intake = Intake(_GENESIS, shard_count=16, margin_models=tuple(margin_models()))
    stream, first = Stream("small"), 1
    for block in blocks:
        for _ in intake.step(decode_lines(block, stream, first)):
            pass
        first += len(block)
    intake.finish()
    assert intake.counts.dead_letters == 0, "the stream holds good events only"


def _replay(log: Path, out: Path) -> None:
    replay(Options(inputs=[log], out=out, genesis=_GENESIS, chain="none", snapshot_period_ns=86_400_000_000_000))


def _replay_warm(place: Path) -> None:
    log = place / "warm.ndjson"
    write_small_events(log, 5_000, seed=_SEED, accounts=_ACCOUNTS)
    _replay(log, place / "warm")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)
