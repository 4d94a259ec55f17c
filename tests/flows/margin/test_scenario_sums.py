"""Whether an account's sums stay in registers: a fall to scalar code is silent, and costs a factor of six."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from flows.margin.portfolio_book import of_one_underlying
from flows.margin.scenario_sums import LANES, add_position, kept, no_sums, put
from flows.pricing.grid import aligned_rows
from flows.pricing.polynomials import fma

_MULTIPLY_ADD = re.compile(r"\tvfn?m(?:add|sub)\d+(pd|sd)\t[^\n]*%([xyz])mm")
_LANES_OF = {"x": 2, "y": 4, "z": 8}


def multiply_adds(kernel: Callable[..., Any], *arguments: Any) -> tuple[int, int]:
    """Return how many lanes a kernel's packed multiply-adds have in all, and how many scalar ones there are."""
    compiled = njit(error_model="numpy")(kernel)
    compiled(*arguments)
    found = _MULTIPLY_ADD.findall(next(iter(compiled.inspect_asm().values())))
    return sum(_LANES_OF[width] for kind, width in found if kind == "pd"), sum(kind == "sd" for kind, _ in found)


def _book() -> tuple[Any, ...]:
    table, whole = aligned_rows(3, LANES), np.zeros(1, np.int64)
    held = (whole, whole + 3, np.arange(3, dtype=np.uint32), np.array([5, -7, 2]), whole)
    return table, np.zeros(3, np.int32), np.zeros(1), 0.1, 0.5, 1.25, 1.0, *held, np.zeros(1), np.zeros(1), whole


def test_a_position_is_vector_code() -> None:
    """A whole row at a time, wherever the loop is written out; and nothing of it one by one."""
    packed, scalar = multiply_adds(of_one_underlying.py_func, *_book())

    assert packed >= LANES
    assert packed % LANES == 0
    assert scalar == 0


def _with_a_term_apart(table: Any, lots: Any, out: Any) -> None:
    flat, apart, sums = table.reshape(-1), 0.0, no_sums()
    for p in range(lots.shape[0]):
        apart = fma(float(lots[p]), flat[p], apart)
        sums = add_position(float(lots[p]), flat, np.uint64(p * LANES), sums)
    put(sums, out, np.uint64(0))
    out[0] = apart


def test_scalar_code_would_be_seen() -> None:
    """The control: a term that is kept beside the row shows as a scalar multiply-add."""
    packed, scalar = multiply_adds(_with_a_term_apart, aligned_rows(3, LANES), np.arange(3), np.zeros(LANES))

    assert packed >= LANES
    assert scalar > 0


@njit(error_model="numpy")
def _sums_of(table: Any, lots: Any, out: Any) -> None:
    flat, waiting = table.reshape(-1), np.zeros(LANES)
    for p in range(lots.shape[0]):
        put(
            add_position(float(lots[p]), flat, np.uint64(p * LANES), kept(waiting, np.uint64(0))), waiting, np.uint64(0)
        )
    out[:] = waiting


def test_terms_take_their_side() -> None:
    """Lanes 0 to 27 take lots, then long lots, short lots and their size; the last takes nothing."""
    table, out = aligned_rows(3, LANES), np.zeros(LANES)
    table[:] = np.arange(1.0, LANES + 1.0) * np.array([[1.0], [10.0], [100.0]])
    lots = np.array([5, -7, 2])

    _sums_of(table, lots, out)

    assert out[:28].tolist() == (lots @ table[:, :28]).tolist()
    assert out[28:].tolist() == [205.0 * 29.0, 70.0 * 30.0, 275.0 * 31.0, 0.0]
