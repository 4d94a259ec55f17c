"""Damage valid logs at random: nothing may raise, and every event that was not touched must reach the ledger.

    python -m tests.fuzz.fuzz_intake --seed 1 --seconds 60

Each round is a function of the seed and its number alone, so a failure can be run again by itself (``--round``).
"""

import argparse
import gzip
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import zstandard

from flows.intake.ledger import IntakeOut
from flows.intake.merge import order_key
from infra.files.sources import EventLog
from schemas.events import Collateral, Event, Fill, OrdersOpen, WithdrawalRequested
from schemas.ledger import FrameKind, LegKind, check_link, decode_frame
from tests.flows.intake.builders import (
    SECOND,
    an_intake,
    event_fill,
    event_mark,
    event_open_orders,
    event_price,
    event_transfer,
    event_venue,
    event_withdrawal,
    to_line,
)

_TOKENS = [
    b"NaN", b"-Infinity", b"1e999", b"null", b"[]", b"{}", b'"', b"\\", b":", b",", b"[", b"{", b"\xff", b"\x00",
    b"\\u0000", b"\\ud800", b'"price"', b'"type"', b"-1", b"0", b"99999999999999999999", b"1e3", b"[" * 100,
    b'"x":' * 20, b" ", b"\r", b"\xef\xbb\xbf",
]  # fmt: skip


_BUILDERS: list[tuple[Callable[..., Event], str | None]] = [
    (event_price, None),
    (event_mark, None),
    (event_fill, "fill_id"),
    (event_transfer, "transfer_id"),
    (event_withdrawal, "withdrawal_id"),
    (event_open_orders, None),
]


def _events(rng: random.Random, prefix: str) -> list[Event]:
    """Return events that are valid whichever of them are missing; all their ids begin with ``prefix``."""
    events: list[Event] = []
    at = 0
    for place in range(rng.randrange(1, 60)):
        at += rng.choice([0, 1, SECOND // 2, 3 * SECOND, 100 * SECOND])
        build, own_id = rng.choice(_BUILDERS)
        ids = {"event_id": f"{prefix}{place}"} | ({} if own_id is None else {own_id: f"{prefix}{place}"})
        events.append(build(place, at=at, **ids))
    return events


def _flip(rng: random.Random, line: bytes) -> bytes:
    data = bytearray(line)
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _insert(rng: random.Random, line: bytes) -> bytes:
    place = rng.randrange(len(line) + 1)
    return line[:place] + rng.choice(_TOKENS) + line[place:]


def _cut(rng: random.Random, line: bytes) -> bytes:
    start, end = sorted((rng.randrange(len(line) + 1), rng.randrange(len(line) + 1)))
    return line[:start] + line[end:]


def _double(rng: random.Random, line: bytes) -> bytes:
    start, end = sorted((rng.randrange(len(line) + 1), rng.randrange(len(line) + 1)))
    return line[:end] + line[start:end] + line[end:]


def _swap(rng: random.Random, line: bytes) -> bytes:
    parts = line.split(b",")
    rng.shuffle(parts)
    return b",".join(parts)


def _rubbish(rng: random.Random, line: bytes) -> bytes:
    return rng.randbytes(rng.randrange(len(line)))


def _long(rng: random.Random, line: bytes) -> bytes:
    return line[:-1] + b" " * rng.randrange(60_000, 70_000) + b"}"


_MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [_flip, _insert, _cut, _double, _swap, _rubbish, _long]


def _mutate(rng: random.Random, line: bytes) -> bytes:
    """Damage one line, without making two of it; what it means now must not be what another event means."""
    for _ in range(rng.randrange(1, 3)):
        if line:
            line = rng.choice(_MUTATIONS)(rng, line)
    return line.replace(b"\n", b"\r")


def _references(out: IntakeOut) -> tuple[dict[str, int], int]:
    """Return how often each id of an account event and each observation stands in the ledger."""
    seen: dict[str, int] = {}
    previous = decode_frame(an_intake().genesis_frame())
    for data in out.frames:
        frame = decode_frame(data)
        check_link(previous, frame)
        previous = frame
        if frame.kind is FrameKind.EVENTS:
            for name in frame.references:
                seen[name] = seen.get(name, 0) + 1
            for leg_kind in (LegKind.FILL, LegKind.SPOT_BASE):
                legs = frame.legs[frame.legs["kind"] == leg_kind]
                if int(legs["cash"].sum()) or int(legs["lots"].sum()):
                    raise AssertionError("a fill does not conserve")
    return seen, out.counts.accepted


def fuzz_round(seed: int, number: int, folder: Path) -> None:
    """Write damaged logs, take them in, and look for every event that was left alone.

    Raises
    ------
    AssertionError : a good event did not reach the ledger, or the ledger is wrong. Anything else is a fault too.
    """
    rng = random.Random(f"{seed}/{number}")
    good = _events(rng, "good-")
    # Damaged lines have ids of their own, which no damage turns into a good one's: some stay valid events.
    bad = [_mutate(rng, to_line(event)) for event in _events(rng, "mutant-")]
    files: list[list[bytes]] = [[] for _ in range(rng.randrange(1, 4))]
    files[0] += [to_line(event) for event in event_venue()]
    for event in good:
        rng.choice(files).append(to_line(event))
    for line in bad:
        file = rng.choice(files)
        file.insert(rng.randrange(len(file) + 1), line)
    if rng.random() < 0.3:
        rng.shuffle(files[-1])
    paths = []
    for place, lines in enumerate(files):
        data = b"\n".join(lines) + rng.choice([b"", b"\n"])
        kind = rng.choice(["ndjson", "ndjson.gz", "ndjson.zst"])
        path = folder / f"{number}-{place}.{kind}"
        packed = gzip.compress(data, 1) if kind.endswith("gz") else zstandard.compress(data) if "zst" in kind else data
        # Damage behind the last line costs no event.
        path.write_bytes(packed + (rng.randbytes(20) if kind != "ndjson" and rng.random() < 0.2 else b""))
        paths.append(path)

    intake = an_intake()
    out = IntakeOut()
    log = EventLog(paths, work=folder / "work")
    for block in log.blocks(size=rng.choice([1, 7, 4096])):
        for passage in intake.step(block):
            out.frames += passage.frames
            out.dead_letters += passage.dead_letters
            out.counts.add(passage.counts)
    out.frames += intake.finish().frames
    log.close()

    seen, accepted = _references(out)
    payloads = {letter.payload for letter in out.dead_letters}
    for event in sorted(good, key=order_key):
        assert to_line(event) not in payloads, f"refused: {event}"
        if isinstance(event, Fill | Collateral | OrdersOpen | WithdrawalRequested):
            times = seen.get(event.event_id)
            assert times == 1, f"in the ledger {times} times: {event}"
    assert accepted >= len(good) + len(event_venue())
    written = sum(1 for file in files for line in file if line.strip())
    assert accepted + out.counts.duplicates + out.counts.dead_letters >= written


def main(arguments: list[str] | None = None) -> int:
    """Run rounds until the time is over; name the one that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--round", type=int, default=None, help="run this round alone")
    options = parser.parse_args(arguments)
    until = time.monotonic() + options.seconds
    number = options.round or 0
    with tempfile.TemporaryDirectory() as folder:
        while True:
            try:
                fuzz_round(options.seed, number, Path(folder))
            except BaseException:
                sys.stderr.write(f"failed: --seed {options.seed} --round {number}\n")
                raise
            number += 1
            for path in Path(folder).glob("*.*"):
                path.unlink()
            if options.round is not None or time.monotonic() >= until:
                break
    sys.stdout.write(f"{number} rounds, no fault (seed {options.seed})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
