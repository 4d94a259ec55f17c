"""Initial margin of accounts with open orders: what they would need if the worst of their orders filled.

1. A model that implements ``OpenOrderMarginModel`` knows its worst exactly. For any other: the largest initial margin
   of three books: as held, with every open buy filled, with every open sell filled.
2. Open orders never lower initial margin, and maintenance margin never sees them: a trader cannot be liquidated for
   what has not traded.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numba import njit

from flows.margin.model import (
    Float64Array,
    Int64Array,
    MarginModel,
    OpenOrderMarginModel,
    OpenOrders,
    PositionColumns,
    UInt32Array,
)

BUYS: Final = 1
SELLS: Final = -1


def initial_with_open_orders(
    model: MarginModel,
    tables: Any,
    positions: PositionColumns,
    open_orders: OpenOrders,
    rows: Int64Array,
    initial: Float64Array,
) -> Float64Array:
    """Return initial margin, (n,) for n ``rows`` that have open orders, numeraire.

    Parameters
    ----------
    initial : (n,), the same without open orders.
    """
    if isinstance(model, OpenOrderMarginModel):
        return model.initial_with_open_orders(tables, positions, open_orders, rows)
    worst = initial
    for side in (BUYS, SELLS):
        book = filled(positions, open_orders, rows, side)
        worst = np.maximum(worst, model.requirements(tables, book, rows)[0])
    return worst


def filled(positions: PositionColumns, open_orders: OpenOrders, rows: Int64Array, side: int) -> PositionColumns:
    """Return the positions of ``rows`` with one side of their open orders filled; the other rows are empty."""
    size = int(positions.count[rows].sum() + open_orders.count[rows].sum())
    offset = np.zeros(positions.offset.shape[0], np.int64)
    count = np.zeros(positions.count.shape[0], np.int64)
    instrument = np.empty(size, np.uint32)
    held = np.empty(size, np.int64)
    _fill(
        positions.offset, positions.count, positions.instrument, positions.lots,
        open_orders.offset, open_orders.count, open_orders.instrument,
        open_orders.buys if side == BUYS else open_orders.sells, side, rows, offset, count, instrument, held,
    )  # fmt: skip
    return replace(positions, offset=offset, count=count, instrument=instrument, lots=held)


@njit(cache=True)
def _fill(
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    order_offset: Int64Array,
    order_count: Int64Array,
    order_instrument: UInt32Array,
    order_lots: Int64Array,
    side: int,
    rows: Int64Array,
    offset_out: Int64Array,
    count_out: Int64Array,
    instrument_out: UInt32Array,
    lots_out: Int64Array,
) -> None:
    """Merge two rising columns a row; what nets to no lots is no position."""
    used = 0
    for row in rows:
        offset_out[row] = used
        p, p_end = offset[row], offset[row] + count[row]
        o, o_end = order_offset[row], order_offset[row] + order_count[row]
        while p < p_end or o < o_end:
            if o == o_end or (p < p_end and instrument[p] < order_instrument[o]):
                at, total = instrument[p], lots[p]
                p += 1
            elif p == p_end or order_instrument[o] < instrument[p]:
                at, total = order_instrument[o], side * order_lots[o]
                o += 1
            else:
                at, total = instrument[p], lots[p] + side * order_lots[o]
                p += 1
                o += 1
            if total != 0:
                instrument_out[used], lots_out[used] = at, total
                used += 1
        count_out[row] = used - offset_out[row]
