"""Other libraries' prices and implied vols, timed: ``PYTHON tests/bench/pricing_peers.py INPUT.npz``.

A script of its own that imports nothing of the project: some of these libraries need an old Numba, and so an
environment of their own (``pip install QuantLib fast-vollib py_vollib_vectorized==0.1.1 py_vollib==1.0.1
py_lets_be_rational==1.0.1 numba==0.61.2``). Prints one JSON object: for each peer its version and the seconds an
option, or why there are none.
"""

import importlib.metadata
import json
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Columns = dict[str, npt.NDArray[Any]]

_ROUNDS: Final = 9
# A loop in Python takes a part of the options: its cost for each is the same.
_LOOP: Final = 2_000


def main(path: str) -> None:
    """Time every peer that can be imported."""
    warnings.filterwarnings("ignore")
    with np.load(path) as stored:
        columns = {name: stored[name] for name in stored.files}
    found: dict[str, dict[str, Any]] = {}
    for key, (remark, work) in PEERS.items():
        try:
            version = importlib.metadata.version(key.partition("/")[2].replace("_", "-"))
        except importlib.metadata.PackageNotFoundError:
            found[key] = {"missing": "not installed"}
            continue
        try:
            found[key] = {"version": version, "remark": remark, "seconds": work(columns)}
        except Exception as error:  # noqa: BLE001 - a peer that cannot run here is a line, not an end
            found[key] = {"missing": f"{version} fails: {type(error).__name__}: {error}"}
    print(json.dumps(found))


def quantlib_greeks(columns: Columns) -> float:
    """Return the seconds an option of a calculator for each, asked for all eight."""
    quantlib = import_module("QuantLib")
    names = ("forward", "strike", "time", "vol", "rate", "call")
    rows = list(zip(*(columns[name][:_LOOP].tolist() for name in names), strict=True))

    def work() -> None:
        for forward, strike, t, vol, rate, call in rows:
            payoff = quantlib.PlainVanillaPayoff(quantlib.Option.Call if call else quantlib.Option.Put, strike)
            one = quantlib.BlackCalculator(payoff, forward, vol * math.sqrt(t), math.exp(-rate * t))
            one.value(), one.deltaForward(), one.gammaForward(), one.vega(t)
            one.theta(forward, t), one.rho(t), one.vanna(forward, t), one.volga(t)

    return _seconds(work, _LOOP)


def quantlib_implied(columns: Columns) -> float:
    """Likewise for implied vols."""
    quantlib = import_module("QuantLib")
    names = ("iv_forward", "iv_strike", "iv_price", "iv_call")
    rows = list(zip(*(columns[name][:_LOOP].tolist() for name in names), strict=True))

    def work() -> None:
        for forward, strike, price, call in rows:
            side = quantlib.Option.Call if call else quantlib.Option.Put
            quantlib.blackFormulaImpliedStdDev(side, strike, forward, price, 1.0, 0.0, 0.5, 1e-12)

    return _seconds(work, _LOOP)


def vectorized_greeks(columns: Columns) -> float:
    """Return the seconds an option of py_vollib_vectorized's price and five Greeks."""
    vollib = import_module("py_vollib_vectorized")
    flag, arrays = _flags(columns["call"]), [columns[name] for name in ("forward", "strike", "time", "rate", "vol")]

    def work() -> None:
        vollib.vectorized_black(flag, *arrays, return_as="numpy")
        vollib.get_all_greeks(flag, *arrays, model="black", return_as="dict")

    return _seconds(work, flag.shape[0])


def vectorized_implied(columns: Columns) -> float:
    """Return the seconds an option of its inversion."""
    vollib = import_module("py_vollib_vectorized")
    flag, zero = _flags(columns["iv_call"]), np.zeros(columns["iv_price"].shape)
    arrays = [columns["iv_price"], columns["iv_forward"], columns["iv_strike"], zero, columns["iv_time"]]
    return _seconds(lambda: vollib.vectorized_implied_volatility_black(*arrays, flag, return_as="numpy"), flag.shape[0])


def fast_greeks(columns: Columns) -> float:
    """Return the seconds an option of fast_vollib's price and five Greeks."""
    vollib = import_module("fast_vollib")
    flag, arrays = _flags(columns["call"]), [columns[name] for name in ("forward", "strike", "time", "rate", "vol")]

    def work() -> None:
        vollib.fast_black(flag, *arrays, return_as="numpy", backend="numpy")
        vollib.get_all_greeks(flag, *arrays, model="black", return_as="dict", backend="numpy")

    return _seconds(work, flag.shape[0])


def fast_implied(columns: Columns) -> float:
    """Return the seconds an option of its faster solver."""
    invert = import_module("fast_vollib.jackel").jackel_iv_black
    names = ("iv_price", "iv_forward", "iv_strike", "iv_time", "iv_call")
    arrays = [columns[name] for name in names]
    return _seconds(lambda: invert(*arrays), arrays[0].shape[0])


PEERS: Final[dict[str, tuple[str, Callable[[Columns], float]]]] = {
    "greeks/QuantLib": ("BlackCalculator in a Python loop", quantlib_greeks),
    "greeks/py_vollib_vectorized": ("6 of 8", vectorized_greeks),
    "greeks/fast_vollib": ("6 of 8", fast_greeks),
    "implied vol/QuantLib": ("blackFormulaImpliedStdDev in a Python loop", quantlib_implied),
    "implied vol/py_vollib_vectorized": ("", vectorized_implied),
    "implied vol/fast_vollib": ("its Jaeckel solver", fast_implied),
}


def _flags(call: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.where(call, "c", "p")


def _seconds(work: Callable[[], object], count: int) -> float:
    work()
    taken = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        work()
        taken.append((time.process_time() - started) / count)
    return statistics.median(taken)


if __name__ == "__main__":
    main(sys.argv[1])
