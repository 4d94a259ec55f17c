"""What both of our own models ask beyond the market's moves: for a doubtful oracle, and for positions that are large.

1. Confidence: ``confidence_multiple`` × the confidence ratio of the underlying's index price × notional, of every lot
   held, long or short. An index price that is wrong by its whole confidence is paid for in advance.
2. Concentration: with notional G on an underlying, ``rate × G × (G / depth - 1)`` beyond the market's depth, and at
   most ``cap × G``. It rises with G and never falls. An underlying without a depth has none.
3. Notional is gross: a hedged position has to be closed on both sides.
"""

import numpy as np
from numba import njit

from flows.margin.model import Float64Array
from flows.market.columns import InstrumentColumns
from flows.pricing.kinds import SPOT
from schemas.parameters import AddOnParameters


def notional(columns: InstrumentColumns) -> Float64Array:
    """Return (K,) notional of a lot, numeraire, >= 0; 0 of spot, which is no position."""
    return np.where(columns.kind == SPOT, 0.0, np.maximum(columns.notional, 0.0))


def confidence_charge(columns: InstrumentColumns, parameters: AddOnParameters) -> Float64Array:
    """Return (K,) what a lot needs for its index price's confidence, numeraire, >= 0."""
    ratio = parameters.confidence_multiple * columns.confidence
    return ratio[columns.underlying] * notional(columns)


def inverse_depths(columns: InstrumentColumns, parameters: AddOnParameters) -> Float64Array:
    """Return (U,) one over the depth of each underlying's market, per numeraire; 0 where none is named."""
    return np.array([1.0 / parameters.market_depth.get(name, np.inf) for name in columns.underlyings], np.float64)


@njit(forceinline=True, error_model="numpy")
def concentration(gross: float, inverse_depth: float, rate: float, cap: float) -> float:
    """Return what a gross notional needs for its size, numeraire, >= 0."""
    return min(rate * gross * max(gross * inverse_depth - 1.0, 0.0), cap * gross)
