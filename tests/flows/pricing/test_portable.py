"""The same bits whatever vector unit the kernels are compiled for."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from flows.calibration.implied_vol import implied_vols
from flows.margin.collateral import equity
from flows.margin.registry import margin_models
from flows.pricing.black76 import black76
from tests.flows.margin.builders import a_market, a_random_book
from tests.flows.pricing.twin import NAMES

ROOT = Path(__file__).resolve().parents[3]


def digest_of_decisions() -> str:
    """Return a hash over Greeks, implied vols, a market's instant, tables, equity and requirements."""
    rng = np.random.default_rng(9)
    n = 1_003
    forward = 10 ** rng.uniform(-2, 5, n)
    values = black76(
        forward=forward, strike=forward * np.exp(rng.normal(0, 1, n)), time_to_expiry=10 ** rng.uniform(-6, 0.5, n),
        implied_vol=10 ** rng.uniform(-2, 0.5, n), rate=rng.uniform(-0.1, 0.1, n), is_call=rng.random(n) < 0.5,
    )  # fmt: skip
    digest = hashlib.sha256()
    inverted = implied_vols(
        price=values.vega * 1e-3, forward=forward, strike=forward, time_to_expiry=np.ones(n), is_call=forward > 0.0
    )
    digest.update(inverted.implied_vol.tobytes() + inverted.informative.tobytes())
    for name in NAMES:
        digest.update(getattr(values, name).tobytes())
    market, instant = a_market()
    book = a_random_book(1, 200, market.columns.count)
    rows = np.arange(200)
    for array in (instant.value, instant.greeks, equity(instant, book.cash, book.positions, book.isolated, rows)):
        digest.update(array.tobytes())
    for name, tables in instant.margin_tables.items():
        for part in margin_models()[name].requirements(tables, book.positions, rows):
            digest.update(part.tobytes())
    return digest.hexdigest()


def test_bits_do_not_depend_on_the_vector_unit() -> None:
    """A contraction, a reordered sum or a library function would differ between this CPU's code and plain x86-64-v3."""
    code = "from tests.flows.pricing.test_portable import digest_of_decisions; print(digest_of_decisions())"
    plain = {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+lzcnt,+movbe,+f16c"}

    other = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **plain}, capture_output=True, text=True, check=True
    )

    assert other.stdout.strip() == digest_of_decisions()
