"""A full re-margin of a million accounts: ``python -m tests.bench.margin [ACCOUNTS]``.

``tidegate-portfolio`` over accounts with 5 to 20 positions in 500 instruments, under 27 scenarios, in float64: tables
of a priced market, through the model's own ``requirements``, contingencies and add-ons included. Beside it: what
anybody would write with scipy, which has the scenarios alone; the least time in which the positions could be read from
memory at all, at the rate of plain reads in this run; and the time to add up the positions' table rows, wherever the
processor keeps them, without telling accounts apart.

Processor seconds of one core, medians of rounds that take turns, with freed memory kept. Two cores: two threads with
half of the accounts each, by the slower thread's own processor time, and by the clock.
"""

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.sparse import csr_matrix

from flows.margin.model import PositionColumns
from flows.margin.portfolio import MODEL, PortfolioTables
from flows.margin.scenario_sums import LANES, SCENARIOS, add_position, no_sums, worst
from flows.market.step import Market
from flows.pricing.grid import aligned_rows
from schemas.parameters import PortfolioParameters
from tests.bench.timing import keep_freed_memory, medians, processor
from tests.flows.market.builders import (
    a_dollar,
    a_frame,
    a_price,
    a_smile,
    a_venue,
    an_instrument,
    an_option,
)

ACCOUNTS: Final = 1_000_000
_INSTRUMENTS: Final = 500
_ROUNDS: Final = 7
_READ: Final = 1 << 26
_SCENARIOS: Final = [(1.0 + 0.04 * move, vol, 1.0) for move in range(-4, 5) for vol in (-1, 0, 1)]
Int64Array = npt.NDArray[np.int64]


def main(accounts: int) -> None:
    """Measure, and print one line for each."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    keep_freed_memory()
    tables, positions, rows = _tables(), _positions(accounts), np.arange(accounts)
    mixed = replace(
        tables, group=np.arange(_INSTRUMENTS, dtype=np.int32) % 2, offset_group=np.array([-1, -1]),
        inverse_depth=np.zeros(2),
    )  # fmt: skip
    offset = replace(mixed, offset_group=np.array([0, 0]), offset_share=np.array([0.4]))
    scipy_margin = _scipy(tables, positions)
    held = int(positions.count.sum())
    read = np.ones(_READ, np.int64)
    print(
        f"{accounts:,} accounts, {held:,} positions, {tables.scenario_count} scenarios, one core of {processor()}; "
        f"scipy {version('scipy')}, numba {version('numba')}; medians of {_ROUNDS} rounds"
    )
    taken = medians(
        {
            "one underlying": lambda: MODEL.requirements(tables, positions, rows),
            "two underlyings, every other instrument": lambda: MODEL.requirements(mixed, positions, rows),
            "two underlyings that offset each other": lambda: MODEL.requirements(offset, positions, rows),
            "scipy csr @ dense, and minimum": scipy_margin,
            "plain read": lambda: _read(read),
            "table rows": lambda: _add_rows(tables.rows.reshape(-1), positions.instrument),
        },
        rounds=_ROUNDS,
    )
    plain, in_cache = taken.pop("plain read"), taken.pop("table rows")
    own = taken["one underlying"]
    for name, seconds in taken.items():
        print(f"  {name:42}{1e3 * seconds:>8.1f} ms{accounts / seconds / 1e6:>8.1f} M accounts/s")
    needed = sum(it.nbytes for it in (positions.instrument, positions.lots, positions.offset, positions.count, rows))
    floor = needed * plain / read.nbytes
    print(f"  {taken['scipy csr @ dense, and minimum'] / own:.2f} times as fast as scipy")
    print(
        f"  memory: {needed / 1e6:.0f} MB at {read.nbytes / plain / 1e9:.1f} GB/s take {1e3 * floor:.1f} ms, "
        f"{floor / own:.2f} of the time"
    )
    print(
        f"  table rows: {held * tables.rows.shape[1] * 8e-9 / in_cache:.0f} GB/s, added up in {1e3 * in_cache:.1f} ms, "
        f"{in_cache / own:.2f} of the time"
    )
    os.sched_setaffinity(0, set(cores))
    if len(cores) > 1:
        _two_cores(lambda part: MODEL.requirements(tables, positions, part), rows, cores, own)


def _two_cores(margin: Callable[[Int64Array], object], rows: Int64Array, cores: list[int], alone: float) -> None:
    taken: list[float] = []
    clock: list[float] = []
    for _ in range(_ROUNDS):
        busy: list[float] = []
        start = threading.Barrier(3)

        def work(part: Int64Array, core: int, start: threading.Barrier = start, busy: list[float] = busy) -> None:
            os.sched_setaffinity(0, {core})
            start.wait()
            began = time.thread_time()
            margin(part)
            busy.append(time.thread_time() - began)

        threads = [
            threading.Thread(target=work, args=(part, core))
            for part, core in zip(np.array_split(rows, 2), cores, strict=False)
        ]
        for thread in threads:
            thread.start()
        start.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        clock.append(time.perf_counter() - began)
        taken.append(max(busy))
    by_thread, by_clock = statistics.median(taken), min(clock)
    print(f"  two cores: {alone / by_thread:.2f} times one by processor time, {alone / by_clock:.2f} by the best clock")


def _tables() -> PortfolioTables:
    """Return tables of a priced market: a perpetual, and options of five expiries around the money."""
    days = (7.0, 30.0, 60.0, 90.0, 180.0)
    listed = [an_instrument(0)] + [
        an_option(
            index, strike=str(25_000 + 500 * (index // 5)), days=days[index % 5], option_type=("call", "put")[index % 2]
        )
        for index in range(1, _INSTRUMENTS)
    ]
    market = Market()
    market.step(a_frame(*a_venue(*listed)))
    market.step(a_frame(a_price(50_000.0), a_dollar(), *[a_smile(days=it) for it in days]))
    return MODEL.tables(market.columns, PortfolioParameters(scenarios=_SCENARIOS, market_depth={"BTC": 1e6}))


def _positions(accounts: int) -> PositionColumns:
    """Return 5 to 20 positions an account, in instruments that rise and do not repeat."""
    rng = np.random.default_rng(1)
    count = rng.integers(5, 21, accounts)
    offset = np.cumsum(count) - count
    # Steps from one instrument to the next, scaled to the width of all of them.
    steps = rng.random(int(count.sum()) + 1) + 0.05
    along = np.cumsum(steps)
    total = along[offset + count] - along[offset] + steps[offset]
    part = (along[:-1] - np.repeat(along[offset] - steps[offset], count)) / np.repeat(total, count)
    place = np.arange(part.shape[0]) - np.repeat(offset, count)
    instrument = (part * (_INSTRUMENTS - 21)).astype(np.int64) + place
    lots = rng.integers(1, 1_000, instrument.shape[0]) * rng.choice([-1, 1], instrument.shape[0])
    return PositionColumns(offset, count, instrument.astype(np.uint32), lots)


def _scipy(tables: PortfolioTables, positions: PositionColumns) -> Callable[[], Any]:
    """Return scenario losses as anybody would write them with scipy, and hold them to ours."""
    ends = np.append(positions.offset, positions.offset[-1] + positions.count[-1])
    book = csr_matrix(
        (positions.lots.astype(np.float64), positions.instrument.astype(np.int32), ends),
        shape=(positions.count.shape[0], _INSTRUMENTS),
    )
    dense = np.ascontiguousarray(tables.profit)

    def margin() -> npt.NDArray[np.float64]:
        worst: npt.NDArray[np.float64] = (book @ dense).min(axis=1)
        return np.maximum(-worst, 0.0)

    rows = aligned_rows(*tables.rows.shape)
    rows[:, :SCENARIOS] = tables.rows[:, :SCENARIOS]
    few = np.arange(1_000)
    own = MODEL.requirements(replace(tables, rows=rows), positions, few)[1]
    assert np.allclose(own, margin()[: few.shape[0]], rtol=1e-12), "what is timed must be right"
    return margin


@njit(error_model="numpy")
def _read(values: Int64Array) -> int:
    found = 0
    for i in range(values.shape[0]):
        found ^= values[i]
    return found


@njit(error_model="numpy")
def _add_rows(flat: npt.NDArray[np.float64], instrument: npt.NDArray[np.uint32]) -> float:
    """Add up every position's row, as if all were one account's: what no order of accounts can do without."""
    sums = no_sums()
    for p in range(instrument.shape[0]):
        sums = add_position(1.0, flat, np.uint64(instrument[p]) * np.uint64(LANES), sums)
    return worst(sums)


if __name__ == "__main__":
    main(int(sys.argv[1].replace(",", "").replace("_", "")) if len(sys.argv) > 1 else ACCOUNTS)
