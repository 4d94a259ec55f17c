"""``dydx-v4`` over whole books: quote quantums per position, in integers, from the market's prices.

1. The rules are those of ``flows.margin.dydx``: a notional is truncated to quantums (10^-6 numeraire), and each step of
   a requirement is rounded up. Only the notional is a product of floats, and raised by some ulp, so that none is lost
   where it is whole; what follows is exact.
2. The market knows no open interest: initial margin is at its tier's rate, as below the lower cap.
3. Linear perpetuals alone are covered. An account with anything else has no finite requirement, and so is not decided;
   spot pairs are balances, and what has settled is nothing.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from flows.margin.dydx import PPM
from flows.margin.model import Float64Array, Int64Array, PositionColumns, UInt32Array
from flows.market.columns import InstrumentColumns
from flows.pricing.kinds import PERPETUAL, SPOT
from schemas.parameters import DydxParameters

QUANTUMS: Final = 1e6
_RAISED: Final = 1.0 + 2.0**-50
# Above this a notional does not fit 64 bits with what is computed of it.
NOTIONAL_MAX: Final = 9e18


@dataclass(frozen=True, slots=True)
class DydxTables:
    """``quantums`` (K,): notional of a lot, infinite where the model does not cover the instrument.

    ``rates`` (K, 2): initial margin, and the fraction of it that maintains, in parts per million.
    """

    quantums: Float64Array
    rates: Int64Array


class DydxModel:
    """The model; without state."""

    name = "dydx-v4"

    def tables(self, columns: InstrumentColumns, parameters: DydxParameters) -> DydxTables:
        """Return notional and rates of every instrument."""
        tiers = [parameters.tier(name) for name in columns.underlyings]
        rates = np.array([(it.initial_margin_ppm, it.maintenance_fraction_ppm) for it in tiers], np.int64)
        notional = columns.quantity * columns.mark_price * columns.settlement_price * QUANTUMS
        covered = (columns.kind == PERPETUAL) & (columns.inverse == 0)
        nothing = (columns.kind == SPOT) | (columns.settled != 0)
        quantums = np.where(nothing, 0.0, np.where(covered, notional, np.inf))
        return DydxTables(quantums, rates.reshape(-1, 2)[columns.underlying])

    def requirements(
        self, tables: DydxTables, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return ``(initial, maintenance)``, each (n,), numeraire; infinite where a position is not covered."""
        initial = np.empty(rows.shape[0])
        maintenance = np.empty(rows.shape[0])
        _requirements(
            tables.quantums, tables.rates, positions.offset, positions.count, positions.instrument, positions.lots,
            rows, initial, maintenance,
        )  # fmt: skip
        return initial, maintenance


MODEL = DydxModel()


@njit(cache=True, error_model="numpy")
def _ppm_up(value: int, ppm: int) -> int:
    """Return a share in parts per million, rounded up, without a product that overflows."""
    whole = value // PPM
    return whole * ppm + ((value - whole * PPM) * ppm + PPM - 1) // PPM


@njit(cache=True, error_model="numpy")
def _requirements(
    quantums: Float64Array,
    rates: Int64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    rows: Int64Array,
    initial: Float64Array,
    maintenance: Float64Array,
) -> None:
    for n in range(rows.shape[0]):
        row = rows[n]
        total = 0.0
        held = 0.0
        for p in range(offset[row], offset[row] + count[row]):
            i = instrument[p]
            size = abs(float(lots[p])) * quantums[i] * _RAISED
            if not size < NOTIONAL_MAX:
                total = held = np.inf
                continue
            first = _ppm_up(int(size), rates[i, 0])
            total += float(first)
            held += float(_ppm_up(first, rates[i, 1]))
        initial[n] = total / QUANTUMS
        maintenance[n] = held / QUANTUMS
