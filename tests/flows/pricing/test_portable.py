"""The same bits whatever vector unit the kernels are compiled for."""

import hashlib
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

from flows.calibration.implied_vol import implied_vols
from flows.margin.collateral import equity
from flows.margin.portfolio import MODEL as PORTFOLIO
from flows.margin.registry import margin_models
from flows.market.surface import implied_vols as smile_vols
from flows.pricing.black76 import black76
from schemas.ledger import VolPointsRecord
from tests.flows.margin.builders import a_market, a_random_book, open_orders
from tests.flows.margin.tables import random_tables
from tests.flows.pricing.twin import NAMES

ROOT = Path(__file__).resolve().parents[3]


def digest_of_decisions() -> str:
    """Return a hash over Greeks, implied vols, curves through points, a market's instant, equity and requirements.

    What goes in is made without NumPy's own exp, log and power, whose last bits are those of a vector unit.
    """
    rng = np.random.default_rng(9)
    n = 1_003
    forward = rng.uniform(0.01, 300.0, n) * rng.uniform(0.01, 300.0, n)
    values = black76(
        forward=forward, strike=forward * rng.uniform(0.1, 3.0, n), time_to_expiry=rng.uniform(0.001, 1.5, n) ** 2,
        implied_vol=rng.uniform(0.01, 3.0, n), rate=rng.uniform(-0.1, 0.1, n), is_call=rng.random(n) < 0.5,
    )  # fmt: skip
    digest = hashlib.sha256()
    inverted = implied_vols(
        price=values.vega * 1e-3, forward=forward, strike=forward, time_to_expiry=np.ones(n), is_call=forward > 0.0
    )
    digest.update(inverted.implied_vol.tobytes() + inverted.informative.tobytes())
    for name in NAMES:
        digest.update(getattr(values, name).tobytes())
    for count in (1, 2, 9):
        strikes, vols = np.sort(forward)[:: n // count][:count].tolist(), rng.uniform(0.2, 2.0, count).tolist()
        points = VolPointsRecord("BTC", 1, "a", strikes, vols, 1)
        digest.update(smile_vols(points, forward).tobytes())
    market, instant = a_market()
    book = a_random_book(1, 200, market.columns.count)
    rows = np.arange(200)
    for array in (instant.value, instant.greeks, equity(instant, book.cash, book.positions, book.isolated, rows)):
        digest.update(array.tobytes())
    for name, tables in instant.margin_tables.items():
        for part in margin_models()[name].requirements(tables, book.positions, rows):
            digest.update(part.tobytes())
    for scenarios in (27, 31):
        made_up = random_tables(scenarios, instruments=market.columns.count, underlyings=3, scenarios=scenarios)
        for part in PORTFOLIO.requirements(made_up, book.positions, rows):
            digest.update(part.tobytes())
    told = open_orders([{row % market.columns.count: (row + 1, row % 5)} for row in range(200)])
    digest.update(PORTFOLIO.initial_with_open_orders(made_up, book.positions, told, rows).tobytes())
    return digest.hexdigest()


def units() -> dict[str, dict[str, str]]:
    """Return environments by what their vector unit is; empty where this processor has no such unit."""
    name, features = str(llvm.get_host_cpu_name()), str(llvm.get_host_cpu_features().flatten())
    numpy_core = import_module("numpy._core._multiarray_umath")
    dispatched = [it for it in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__.get(it)]
    host = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    wide = host | {"NUMBA_CPU_FEATURES": f"{features},-prefer-256-bit"}
    return {
        "x86-64-v3": {
            "NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+lzcnt,+movbe,+f16c",
        },
        "256 bits": host | {"NUMBA_CPU_FEATURES": f"{features},+prefer-256-bit"},
        "512 bits": wide if "+avx512f" in features else {},
        "numpy's baseline": {"NPY_DISABLE_CPU_FEATURES": " ".join(dispatched)},
    }  # fmt: skip


@pytest.fixture(scope="module")
def here() -> str:
    """The digest of this process."""
    return digest_of_decisions()


@pytest.mark.parametrize("unit", list(units()))
def test_bits_do_not_depend_on_the_vector_unit(unit: str, here: str) -> None:
    """A contraction, a reordered sum or a library function would differ between one unit's code and another's."""
    environment = units()[unit]
    if not environment:
        pytest.skip(f"this processor has no vectors of {unit}")
    code = "from tests.flows.pricing.test_portable import digest_of_decisions; print(digest_of_decisions())"

    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert other.stdout.strip() == here


def test_the_units_have_vectors_of_their_widths() -> None:
    """The control: where the widths were not taken, the cases above would be one and the same."""
    code = (
        "import numpy as np; from numba import njit; kernel = njit(lambda x: np.sqrt(x) * x + x); kernel(np.ones(64));"
        "print('%zmm' in next(iter(kernel.inspect_asm().values())))"
    )
    widths = {unit: environment for unit, environment in units().items() if unit.endswith("bits") and environment}

    found = {
        unit: subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
        ).stdout.strip()
        for unit, environment in widths.items()
    }  # fmt: skip

    assert found == {unit: str(unit == "512 bits") for unit in widths}
