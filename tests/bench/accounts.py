"""What one market instant costs with many accounts, every one decided: ``python -m tests.bench.accounts [ACCOUNTS]``.

The book comes through intake: deposits, and fills of 12.5 positions an account in 496 instruments on two underlyings,
a third of the accounts on portfolio margin. Then one underlying ticks, then both. Times are medians of one core.
"""

import resource
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from flows.intake.decode import Stream, decode_lines
from flows.intake.ledger import Intake
from flows.margin.registry import margin_models
from flows.market.step import Market
from flows.risk.book import Book
from flows.risk.step import Risk
from flows.screening.exhaustive import POLICY
from schemas.events import Event
from schemas.ledger import Genesis, decode_frame
from tests.builders import (
    EXPIRY_NS,
    TIME_NS,
    a_fill,
    a_forward,
    a_perpetual,
    a_price,
    a_smile,
    a_transfer,
    an_account,
    an_asset,
    an_option,
)

ACCOUNTS: Final = 100_000
_POSITIONS: Final = 12.5
_SHARDS: Final = 16
_STRIKES: Final = 247
_SPOT: Final = {"BTC": 50_000.0, "ETH": 2_500.0}
_TICKS: Final = 30
_BLOCK: Final = 4_096


def _listing(accounts: int) -> Iterator[Event]:
    yield an_asset("USDC", 6, number=1)
    yield a_price("1", feed="USDC/USD", confidence="0", number=1)
    for place, (underlying, spot) in enumerate(_SPOT.items()):
        yield a_price(str(spot), feed=f"{underlying}/USD", number=2 + place)
        yield a_perpetual(f"{underlying}-PERP", number=10 + place, underlying=underlying)
        yield a_forward(str(spot), underlying=underlying, number=2 + place)
        yield a_smile(underlying=underlying, forward=str(spot), number=2 + place)
        for strike in range(_STRIKES):
            yield an_option(
                f"{underlying}-{strike}", number=100 + 1_000 * place + strike, underlying=underlying,
                strike=str(round(spot * (0.5 + strike / _STRIKES))), option_type="call" if strike % 2 else "put",
            )  # fmt: skip
    for number in range(accounts):
        model = "tidegate-portfolio" if number % 3 == 0 else "tidegate-standard"
        yield an_account(f"a{number}", number=number, margin_model=model)
    for number in range(accounts):
        yield a_transfer("250000", account=f"a{number}", number=number)


def _trading(accounts: int) -> Iterator[Event]:
    rng = np.random.Generator(np.random.PCG64(1))
    count = int(accounts * _POSITIONS / 2)
    sides = rng.integers(0, accounts, (count, 2))
    chosen = rng.integers(0, _STRIKES + 1, count)
    which = rng.integers(0, 2, count)
    for number, ((buyer, seller), strike, place) in enumerate(
        zip(sides.tolist(), chosen.tolist(), which.tolist(), strict=True)
    ):
        underlying = ("BTC", "ETH")[place]
        instrument = f"{underlying}-PERP" if strike == _STRIKES else f"{underlying}-{strike}"
        yield a_fill(
            number=number, instrument=instrument, price="1000", quantity="0.01",
            buyer=f"a{buyer}", seller=f"a{seller if seller != buyer else (seller + 1) % accounts}",
        )  # fmt: skip


def main(accounts: int) -> None:
    """Build the book, then time its instants."""
    models = margin_models()
    intake = Intake(
        Genesis(ledger_id="bench", settlement_period_ns=10**18), shard_count=_SHARDS, margin_models=tuple(models)
    )
    book = Book(range(_SHARDS), shard_count=_SHARDS, models=tuple(models))
    risk = Risk(Market(), book, models=models, screening=POLICY)
    risk.step(decode_frame(intake.genesis_frame()))
    started = time.perf_counter()
    events = 0
    for source in (_listing(accounts), _trading(accounts)):
        block: list[bytes] = []
        for event in source:
            block.append(msgspec.json.encode(event))
            events += 1
            if len(block) == _BLOCK:
                _take(intake, risk, block)
                block = []
        _take(intake, risk, block)
    held = int(book.positions.count.sum())
    print(f"{accounts:,} accounts, {held:,} positions, {events:,} events in {time.perf_counter() - started:.0f} s")
    for moved in (("BTC",), ("BTC", "ETH")):
        seconds = [_tick(intake, risk, moved, tick) for tick in range(_TICKS)]
        median = statistics.median(seconds)
        print(
            f"{' and '.join(moved):12} moved: {1e3 * median:7.1f} ms an instant (max {1e3 * max(seconds):.1f}), "
            f"{accounts / median / 1e6:.1f} M accounts/s"
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def _take(intake: Intake, risk: Risk, lines: list[bytes]) -> list[float]:
    seconds = []
    for out in intake.step(decode_lines(lines, Stream("bench"), 1)):
        assert not out.dead_letters, out.dead_letters[0].message
        for data in out.frames:
            frame = decode_frame(data)
            started = time.process_time()
            risk.step(frame)
            seconds.append(time.process_time() - started)
    return seconds


def _tick(intake: Intake, risk: Risk, moved: tuple[str, ...], tick: int) -> float:
    """Return the seconds of the last whole frame that a tick completes: the one before it."""
    time_ns = TIME_NS + (1 + tick + 100 * len(moved)) * 1_000_000_000
    assert time_ns < EXPIRY_NS
    lines = [
        msgspec.json.encode(
            a_price(
                str(_SPOT[underlying] * (1 + 0.001 * ((tick * 7) % 11 - 5))), feed=f"{underlying}/USD",
                number=10_000 * place + 1_000 * len(moved) + tick, time_ns=time_ns, publish_time_ns=time_ns,
            )
        )
        for place, underlying in enumerate(moved, 1)
    ]  # fmt: skip
    return max(_take(intake, risk, lines))


if __name__ == "__main__":
    main(int(sys.argv[1].replace(",", "").replace("_", "")) if len(sys.argv) > 1 else ACCOUNTS)
