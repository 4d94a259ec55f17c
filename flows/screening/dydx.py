"""Bounds of ``dydx-v4``: what an account's health is at least, and at most, over a box.

A boundary is ``equity = multiple × margin``. Margin is a sum over positions, and so are the bounds: lines in the spot
of what a lot is worth and needs, in the units of ``unit_sums``.

1. A linear perpetual is worth quantity × ratio × spot, a line for each ratio, and needs a share of it: the tier's rate,
   and of that the fraction that maintains.
2. Of a size the engine takes whole quantums, and rounds each step up to them: less than three quantums more than the
   share, and less than one quantum less than it.
3. What does not fit the engine's integers has no finite margin: a position that may become so large is not bounded.
   Neither is anything but a linear perpetual; a spot pair is its balances.
"""

from typing import Any, Final

import numpy as np
from numba import njit

from flows.margin.dydx import PPM
from flows.margin.dydx_book import NOTIONAL_MAX, QUANTUMS
from flows.market.columns import InstrumentColumns
from flows.market.instant import Instant
from flows.pricing.kinds import PERPETUAL, SPOT
from flows.screening.lines import OUTWARD
from flows.screening.position_bounds import NEED, OF_MAINTENANCE, ROWS, SHORT, UPWARD, WORTH, PositionBounds
from flows.screening.ranges import HIGH, LOW, Float64Array, Int8Array, Int64Array, Ranges
from schemas.parameters import DydxParameters

_GRAIN: Final = 3.0 / QUANTUMS
# The numeraire that surely fits, whatever rounding raises it by.
_WORTH_MAX: Final = (1.0 - 1e-9) * NOTIONAL_MAX / QUANTUMS


class DydxBounds(PositionBounds):
    """Bounds over one set of ranges."""

    def __init__(self, columns: InstrumentColumns, parameters: DydxParameters, instant: Instant) -> None:
        bounded = ((columns.kind == PERPETUAL) & (columns.inverse == 0)) | (columns.kind == SPOT)
        super().__init__(columns, instant, bounded, grain=_GRAIN, worth_max=_WORTH_MAX)
        self._parameters = parameters

    def _lay_out(self, ranges: Ranges, members: Int64Array) -> None:
        columns = self._columns
        u = int(columns.underlying[members[0]])
        tier = self._parameters.tier(columns.underlyings[u])
        initial = tier.initial_margin_ppm / PPM
        _lay_out(
            members, columns.kind, columns.quantity, ranges.spot[:, u], ranges.ratio,
            np.array([initial, initial * (tier.maintenance_fraction_ppm / PPM)]), self._table,
        )  # fmt: skip


def open_bounds(columns: InstrumentColumns, parameters: Any, instant: Instant) -> DydxBounds:
    """Return the model's bounds, with nothing written yet."""
    return DydxBounds(columns, parameters, instant)


@njit(cache=True, error_model="numpy")
def _lay_out(
    members: Int64Array,
    kind: Int8Array,
    quantity: Float64Array,
    spot: Float64Array,
    ratio: Float64Array,
    rates: Float64Array,
    table: Float64Array,
) -> None:
    for place in range(members.shape[0]):
        i = members[place]
        rows = table[ROWS * i : ROWS * (i + 1)]
        rows[:] = 0.0
        if kind[i] == SPOT:
            continue
        for end in range(2):
            low, high = quantity[i] * ratio[LOW, i] * spot[end], quantity[i] * ratio[HIGH, i] * spot[end]
            outward = OUTWARD * high
            for margin in (0, OF_MAINTENANCE):
                for side in (0, SHORT):
                    below, upward = rows[side + margin], rows[side + UPWARD + margin]
                    below[WORTH + end] = (-high if side == SHORT else low) - outward
                    upward[WORTH + end] = (low if side == SHORT else -high) - outward
                    below[NEED + end] = -rates[margin] * high - outward
                    upward[NEED + end] = rates[margin] * low - outward
