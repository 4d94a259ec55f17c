"""Pricing kernels beside their peers: ``python -m tests.bench.pricing [--peers PYTHON]``.

One core; processor seconds, medians of rounds in which engines take turns. What counts is the ratio inside one run. The
options are 500 instruments under 27 scenarios: what a tick prices, and what stays in a processor's cache. ``PYTHON`` is
an interpreter with the peers that need an environment of their own (see ``pricing_peers.py``); by default this one.

NumPy is timed twice. As it comes, most of its time goes to its intermediate arrays, whose memory glibc gives back to
the system and takes again; all other figures are with freed memory kept.
"""

import argparse
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from flows.calibration.implied_vol import implied_vols
from flows.pricing import polynomials
from flows.pricing.black76 import black76, black76_price
from tests.bench.timing import MEMORY_KEPT, keep_freed_memory, medians, processor

COUNT: Final = 500 * 27
_ROUNDS: Final = 41
_GCC: Final = shutil.which("gcc")
_HERE: Final = Path(__file__).resolve().parent
Float64Array = npt.NDArray[np.float64]
Columns = dict[str, npt.NDArray[Any]]


def main(peers: str) -> None:
    """Measure, and print one line for each engine."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    columns, quotes = _options(), _quotes()
    print(
        f"{COUNT:,} options, one core of {processor()}; numpy {version('numpy')}, scipy {version('scipy')}, "
        f"numba {version('numba')}, {_gcc_version()}; medians of {_ROUNDS} rounds"
    )
    as_it_comes = _medians({"numpy + scipy ndtr, as it comes": lambda: numpy_greeks(**columns)})
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as place:
        engines: dict[str, Callable[[], object]] = {
            "tidegate": lambda: black76(**columns),
            "numpy + scipy ndtr": lambda: numpy_greeks(**columns),
        }
        if _GCC is None:
            print("no gcc here: no C kernels")
        else:
            engines["C, same polynomials"] = _c_kernel(_GCC, Path(place), _C_FLAGS, columns)
            engines["C, libmvec"] = _c_kernel(_GCC, Path(place), [*_C_FLAGS, *_LIBRARY_FLAGS], columns)
        inversion: dict[str, Callable[[], object]] = {"tidegate": lambda: implied_vols(**quotes)}
        taken = {"greeks": _medians(engines) | as_it_comes, "implied vol": _medians(inversion)}
        found = _peers(peers, Path(place), columns, quotes)
    for task, own in taken.items():
        print(f"\n{task}")
        first = own["tidegate"]
        for name, seconds in own.items():
            _print(name, seconds / COUNT, first / COUNT)
        for key, peer in found.items():
            of, _, name = key.partition("/")
            if of == task and "missing" in peer:
                print(f"  {name}: {peer['missing']}")
            elif of == task:
                remark = f" ({peer['remark']})" if peer["remark"] else ""
                _print(f"{name} {peer['version']}{remark}", peer["seconds"], first / COUNT)


def numpy_greeks(
    *,
    forward: Float64Array,
    strike: Float64Array,
    time_to_expiry: Float64Array,
    implied_vol: Float64Array,
    rate: Float64Array,
    is_call: npt.NDArray[np.bool_],
) -> tuple[Float64Array, ...]:
    """Return the eight outputs as anybody would write them with NumPy and scipy."""
    root = np.sqrt(time_to_expiry)
    v = implied_vol * root
    d1 = np.log(forward / strike) / v + 0.5 * v
    d2 = d1 - v
    discount = np.exp(-rate * time_to_expiry)
    sign = np.where(is_call, 1.0, -1.0)
    n1 = ndtr(sign * d1)
    density = discount * np.exp(-0.5 * d1 * d1) / np.sqrt(2.0 * np.pi)
    price = discount * sign * (forward * n1 - strike * ndtr(sign * d2))
    vega = forward * density * root
    return (
        price,
        discount * sign * n1,
        density / (forward * v),
        vega,
        -0.5 * vega * implied_vol / time_to_expiry + rate * price,
        -time_to_expiry * price,
        -density * d2 / implied_vol,
        vega * d1 * d2 / implied_vol,
    )


def _options() -> Columns:
    rng = np.random.default_rng(1)
    forward = 60_000.0 * np.exp(rng.normal(0.0, 0.1, COUNT))
    return {
        "forward": forward,
        "strike": forward * np.exp(rng.normal(0.0, 0.3, COUNT)),
        "time_to_expiry": rng.uniform(1.0 / 365.0, 1.0, COUNT),
        "implied_vol": rng.uniform(0.3, 1.5, COUNT),
        "rate": rng.uniform(-0.05, 0.1, COUNT),
        "is_call": rng.random(COUNT) < 0.5,
    }


def _quotes() -> Columns:
    """Return out-of-the-money prices, to four deviations from the money."""
    rng = np.random.default_rng(2)
    columns = {name: column for name, column in _options().items() if name != "rate"}
    away = rng.uniform(-4.0, 4.0, COUNT) * columns["implied_vol"] * np.sqrt(columns["time_to_expiry"])
    columns["strike"] = columns["forward"] * np.exp(away)
    columns["is_call"] = away >= 0.0
    price = black76_price(**columns)
    rest = _without_vol(columns)
    found = implied_vols(price=price, **rest).implied_vol
    assert np.abs(found / columns["implied_vol"] - 1.0).max() < 1e-12, "what is timed must be right"
    return {"price": price, **rest}


def _without_vol(columns: Columns) -> Columns:
    return {name: column for name, column in columns.items() if name != "implied_vol"}


_C_FLAGS: Final = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
_LIBRARY_FLAGS: Final = ["-DLIBRARY", "-ffast-math"]


def _c_kernel(gcc: str, place: Path, flags: list[str], columns: Columns) -> Callable[[], object]:
    """Return the C kernel on these columns, with the vectors, of 256 or 512 bits, that are faster here."""
    (place / "polynomials.h").write_text(_header())
    candidates: dict[str, Callable[[], object]] = {}
    for width in ("256", "512"):
        target = place / f"kernel{len(list(place.iterdir()))}"
        source = ["-c", str(_HERE / "pricing_kernel.c"), f"-I{place}", f"-mprefer-vector-width={width}"]
        # Linked without -ffast-math, which would switch subnormal numbers off for the whole process.
        subprocess.run([gcc, *flags, "-fPIC", *source, "-o", f"{target}.o"], check=True)
        subprocess.run([gcc, "-shared", f"{target}.o", "-o", f"{target}.so", "-lmvec", "-lm"], check=True)
        candidates[width] = _call(ctypes.CDLL(f"{target}.so"), columns)
    timed = _medians(candidates)
    return candidates[min(timed, key=timed.__getitem__)]


def _header() -> str:
    """Return the polynomials in C, unrolled: gcc vectorises no loop with loops inside."""
    schemes = {
        "exp": _halves(polynomials._EXP),
        "log": _halves(polynomials._LOG),
        "mills_over": _horner((*polynomials._MILLS_OVER, 1.0), "x"),
        "mills_under": _horner((*polynomials._MILLS_UNDER, 1.0), "x"),
    }
    return "\n".join(f"INLINE double {name}_polynomial(double x) {{ return {it}; }}" for name, it in schemes.items())


def _halves(table: tuple[float, ...]) -> str:
    """Return the sum of even and odd powers."""
    return f"fma({_horner(table[1::2], 'x * x')}, x, {_horner(table[::2], 'x * x')})"


def _horner(table: tuple[float, ...], x: str) -> str:
    scheme = repr(table[-1])
    for coefficient in table[-2::-1]:
        scheme = f"fma({scheme}, {x}, {coefficient!r})"
    return scheme


def _call(library: ctypes.CDLL, columns: Columns) -> Callable[[], object]:
    out = np.empty((8, COUNT))
    names = ("forward", "strike", "time_to_expiry", "implied_vol", "rate", "is_call")
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*(columns[name] for name in names), *out)]
    call = library.greeks
    call(ctypes.c_long(COUNT), *pointers)
    expected = numpy_greeks(**columns)
    scale = columns["forward"].max()
    assert all(np.abs(got - value).max() < 1e-9 * scale for got, value in zip(out, expected, strict=True))
    # The closure keeps the arrays alive whose addresses it passes.
    return lambda: (call(ctypes.c_long(COUNT), *pointers), out, columns)


def _medians(engines: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    return medians(engines, rounds=_ROUNDS, calls=4)


def _peers(python: str, place: Path, columns: Columns, quotes: Columns) -> dict[str, dict[str, Any]]:
    arrays = {_short(name): column for name, column in columns.items()}
    arrays |= {f"iv_{_short(name)}": column for name, column in quotes.items()}
    stored: Any = arrays
    np.savez(place / "options.npz", **stored)
    done = subprocess.run(
        [python, str(_HERE / "pricing_peers.py"), str(place / "options.npz")],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1",
            "MALLOC_TRIM_THRESHOLD_": str(MEMORY_KEPT), "MALLOC_MMAP_THRESHOLD_": str(MEMORY_KEPT),
        },
    )  # fmt: skip
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _short(name: str) -> str:
    return name.removeprefix("implied_").removeprefix("is_").removesuffix("_to_expiry")


def _gcc_version() -> str:
    if _GCC is None:
        return "no gcc"
    return subprocess.run([_GCC, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def _print(name: str, seconds: float, own: float) -> None:
    ratio = "" if seconds == own else f"   tidegate is {seconds / own:,.2f} times as fast"
    print(f"  {name:58}{1e-6 / seconds:>10,.2f} M/s{ratio}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pricing")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    main(parser.parse_args().peers)
