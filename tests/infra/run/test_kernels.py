"""Kernels are compiled once, announced when they are, and never outlive their sources."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.run.kernels import NOTICE, digest_of, discard, read_sources

ROOT = Path(__file__).resolve().parents[3]
PRICE_ONE = """
import numpy as np
from flows.pricing import black76
from infra.run.kernels import prepared_kernels
with prepared_kernels(print):
    one = np.ones(1)
    black76.black76_price(forward=one, strike=one, time_to_expiry=one, implied_vol=one, is_call=one > 0)
stats = black76._black76_price.stats
print(sum(stats.cache_hits.values()), "hits", sum(stats.cache_misses.values()), "misses")
"""


def _lines(code: str, cache: Path) -> list[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_second_start_compiles_nothing(tmp_path: Path) -> None:
    """Fails if a kernel is not kept, is thrown away without a reason, or is compiled in silence."""
    first = _lines(PRICE_ONE, tmp_path)
    second = _lines(PRICE_ONE, tmp_path)

    assert first == [NOTICE, "0 hits 1 misses"]
    assert second == ["1 hits 0 misses"]


def test_a_replays_second_start_compiles_nothing(tmp_path: Path) -> None:
    """Fails if any kernel on a replay's path has no cache, or its types differ from start to start."""
    code = "import sys; from infra.cli.main import main; sys.argv = ['tidegate', *sys.argv[1:]]; main()"
    command = [sys.executable, "-c", code, "demo", "--hours", "1", "--accounts", "20", "--chain", "none", "--json"]

    starts = [
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ})
        for _ in range(2)
    ]

    assert NOTICE not in starts[1].stderr
    assert starts[0].stdout.split('"seconds"')[0] == starts[1].stdout.split('"seconds"')[0]


def test_kernels_of_other_sources_are_discarded(tmp_path: Path) -> None:
    """Fails if a stale kernel survives, or a fresh one or another module's does not."""
    for name in ("price.one-1.nbi", "price.one-1.1.nbc", "prices.two-1.nbi", "price.pyc"):
        (tmp_path / name).touch()

    removed = [discard(tmp_path, "price", unless=digest) for digest in ("first", "first", "second")]

    assert removed == [2, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["price.digest", "price.pyc", "prices.two-1.nbi"]


SOURCES = {
    "flows.a.kernel": b"from flows.b import between\n",
    "flows.b.between": b"import numpy\nfrom flows.c.formula import f\n",
    "flows.c.formula": b"from flows.a.kernel import nothing\n",
    "flows.c.other": b"",
}


@pytest.mark.parametrize(("changed", "seen"), [
    ("flows.a.kernel", True), ("flows.b.between", True), ("flows.c.formula", True), ("flows.c.other", False),
])  # fmt: skip
def test_a_change_of_what_a_kernel_may_inline_is_seen(changed: str, seen: bool) -> None:
    """Fails if a kernel goes on with a formula as it was, or is compiled again for a change that is not its own."""
    before = digest_of("flows.a.kernel", SOURCES)

    after = digest_of("flows.a.kernel", SOURCES | {changed: SOURCES[changed] + b"# changed"})

    assert (after != before) == seen


def test_the_kernels_sources_are_found() -> None:
    """Fails if imports are read wrongly: pricing inlines polynomials, and margin inlines pricing."""
    sources = read_sources(ROOT / "flows")

    for kernel, inlined in (("pricing.black76", "pricing.polynomials"), ("margin.portfolio", "pricing.black76")):
        changed = sources | {f"flows.{inlined}": sources[f"flows.{inlined}"] + b"#"}
        assert digest_of(f"flows.{kernel}", sources) != digest_of(f"flows.{kernel}", changed)
