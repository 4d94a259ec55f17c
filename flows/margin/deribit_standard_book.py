"""``deribit-standard`` over whole books: numbers per lot once an instant, a sum over positions for each account.

1. The rules are those of ``flows.margin.deribit_standard``, as requirements against equity with every position marked.
   They are not rounded here: the two differ by what rounding at 9 decimals moves, and this one is never below it by
   more than half of that for each position.
2. Requirements of different settlement assets are added in the numeraire.
3. A spot pair needs nothing: it is its balances.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from flows.margin.model import Float64Array, Int64Array, PositionColumns, UInt32Array
from flows.market.columns import InstrumentColumns, Int8Array, Int32Array
from flows.pricing.kinds import OPTION, SPOT
from schemas.parameters import DeribitFutureRates, DeribitStandardParameters

_LONG_INITIAL: Final = 0
_LONG_MAINTENANCE: Final = 1
_SHORT_INITIAL: Final = 2
_SHORT_MAINTENANCE: Final = 3
_SLOPE: Final = 4
_COLUMNS: Final = 5


@dataclass(frozen=True, slots=True)
class DeribitStandardTables:
    """Numbers of each instrument, numeraire, >= 0.

    ``per_lot`` (K, 5): initial and maintenance of a long lot, then of a short one; and by how much each lot makes every
    lot of its position dearer.
    """

    per_lot: Float64Array


class DeribitStandardModel:
    """The model; without state."""

    name = "deribit-standard"

    def tables(self, columns: InstrumentColumns, parameters: DeribitStandardParameters) -> DeribitStandardTables:
        """Return the requirement per lot and side of every instrument."""
        per_lot = np.zeros((columns.count, _COLUMNS))
        _fill(columns, parameters, np.arange(columns.count), per_lot)
        return DeribitStandardTables(per_lot)

    def update(
        self,
        previous: DeribitStandardTables,
        columns: InstrumentColumns,
        parameters: DeribitStandardParameters,
        members: Int64Array,
    ) -> DeribitStandardTables:
        """Return the tables with the rows of ``members`` anew."""
        per_lot = previous.per_lot.copy()
        _fill(columns, parameters, members, per_lot)
        return DeribitStandardTables(per_lot)

    def requirements(
        self, tables: DeribitStandardTables, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return ``(initial, maintenance)``, each (n,), numeraire."""
        initial = np.empty(rows.shape[0])
        maintenance = np.empty(rows.shape[0])
        _requirements(
            tables.per_lot, positions.offset, positions.count, positions.instrument, positions.lots, rows,
            initial, maintenance,
        )  # fmt: skip
        return initial, maintenance


MODEL = DeribitStandardModel()


def _fill(
    columns: InstrumentColumns, parameters: DeribitStandardParameters, members: Int64Array, per_lot: Float64Array
) -> None:
    chosen: list[DeribitFutureRates] = [
        parameters.futures.get(name, parameters.default_futures) for name in columns.underlyings
    ]
    rates = np.array([(it.initial, it.maintenance, it.slope_per_coin) for it in chosen]).reshape(-1, 3)
    _per_lot(
        members, columns.kind, columns.inverse, columns.call, columns.underlying, columns.quantity, columns.strike,
        columns.mark_price, columns.forward, columns.index_price, columns.settlement_price, rates,
        parameters.option_initial, parameters.option_initial_min, parameters.option_maintenance, per_lot,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _per_lot(
    members: Int64Array,
    kind: Int8Array,
    inverse: Int8Array,
    call: Int8Array,
    underlying: Int32Array,
    quantity: Float64Array,
    strike: Float64Array,
    mark_price: Float64Array,
    forward: Float64Array,
    index_price: Float64Array,
    settlement_price: Float64Array,
    rates: Float64Array,
    option_initial: float,
    option_initial_min: float,
    option_maintenance: float,
    out: Float64Array,
) -> None:
    for place in range(members.shape[0]):
        i = members[place]
        out[i, :] = 0.0
        if kind[i] == SPOT or (forward[i] <= 0.0 and mark_price[i] <= 0.0):  # unknown, or settled
            continue
        in_coins = inverse[i] != 0
        scale = settlement_price[i]
        mark = mark_price[i]
        if kind[i] == OPTION:
            f = forward[i]
            is_call = call[i] != 0
            unit = 1.0 if in_coins else index_price[i]
            outside = max(strike[i] - f, 0.0) if is_call else max(f - strike[i], 0.0)
            initial = max(option_initial - outside / f, option_initial_min) * unit
            maintenance = option_maintenance * unit
            if not is_call:
                maintenance = max(maintenance, option_maintenance * mark)
                initial = max(initial, maintenance)
            scale *= quantity[i]
            out[i, _LONG_INITIAL] = mark * scale
            out[i, _LONG_MAINTENANCE] = mark * scale
            out[i, _SHORT_INITIAL] = initial * scale
            out[i, _SHORT_MAINTENANCE] = maintenance * scale
        else:
            coins = quantity[i] / mark if in_coins else quantity[i]
            size = (coins if in_coins else coins * mark) * scale
            rate = rates[underlying[i]]
            out[i, _LONG_INITIAL] = out[i, _SHORT_INITIAL] = size * rate[0]
            out[i, _LONG_MAINTENANCE] = out[i, _SHORT_MAINTENANCE] = size * rate[1]
            out[i, _SLOPE] = size * coins * rate[2]


@njit(cache=True, error_model="numpy")
def _requirements(
    per_lot: Float64Array,
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
        total_initial = 0.0
        total_maintenance = 0.0
        for p in range(offset[row], offset[row] + count[row]):
            i = instrument[p]
            size = float(abs(lots[p]))
            side = _SHORT_INITIAL if lots[p] < 0 else _LONG_INITIAL
            slope = size * per_lot[i, _SLOPE]
            total_initial += size * (per_lot[i, side] + slope)
            total_maintenance += size * (per_lot[i, side + 1] + slope)
        initial[n] = total_initial
        maintenance[n] = total_maintenance
