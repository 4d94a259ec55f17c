"""Whether kernels are vector code: a fall to scalar code is silent, and costs a factor of four."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit

from flows.pricing import black76
from flows.pricing.polynomials import exp, mills

# Arithmetic on packed doubles in 256- or 512-bit registers.
_PACKED = re.compile(r"\tv(?:add|sub|mul|div|sqrt|fn?m(?:add|sub)\d+)pd\t[^\n]*%[yz]mm")
# The functions below have 41 multiply-adds and some more operations.
_PACKED_MIN = 50
# The C library's functions; a loop that calls one for each lane may be packed around the calls.
_LIBRARY = re.compile(r"\$(?:exp|expm1|log|log1p|erf|erfc|pow|sqrt)\b")


def vector_code(kernel: Callable[..., None], *arguments: Any) -> tuple[int, list[str]]:
    """Return how many packed operations a kernel's code has, and which library functions it calls.

    Compiled anew: what comes from the cache keeps no assembly.
    """
    compiled = njit(error_model="numpy")(kernel)
    compiled(*arguments)
    assembly = next(iter(compiled.inspect_asm().values()))
    return len(_PACKED.findall(assembly)), _LIBRARY.findall(assembly)


def _columns(count: int) -> list[np.ndarray]:
    return [np.ones(64) for _ in range(count)]


CALLS = np.ones(64, dtype=np.bool_)


@pytest.mark.parametrize(("kernel", "arguments", "least"), [
    (black76._black76.py_func, (*_columns(5), CALLS, np.empty((8, 64))), 135),
    (black76._black76_price.py_func, (*_columns(4), CALLS, *_columns(1)), 90),
], ids=["greeks", "price"])  # fmt: skip
def test_the_kernel_is_vector_code(kernel: Callable[..., None], arguments: tuple[np.ndarray, ...], least: int) -> None:
    """A library call, an opaque branch or a stride that the compiler does not know shows here.

    ``least`` is a little below what all loops have: where one of the four of the Greeks is scalar, it has some 25 less.
    """
    packed, library = vector_code(kernel, *arguments)

    assert packed >= least
    assert not library


def _polynomials(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(x.shape[0]):
        out[i] = exp(x[i]) * mills(x[i]) + exp(2.0 * x[i])


def _library_call(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(x.shape[0]):
        out[i] = math.exp(x[i]) * mills(x[i]) + exp(2.0 * x[i])


def _way_out(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(x.shape[0]):
        if x[i] < 0.0:
            break
        out[i] = exp(x[i]) * mills(x[i]) + exp(2.0 * x[i])


def test_scalar_code_would_be_caught() -> None:
    """The control: the same formula as vector code, with one library call, and with a way out of the loop."""
    packed, library = vector_code(_polynomials, *_columns(2))
    assert packed >= _PACKED_MIN
    assert not library

    assert vector_code(_library_call, *_columns(2))[1]
    assert vector_code(_way_out, *_columns(2))[0] < _PACKED_MIN
