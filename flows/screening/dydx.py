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
from flows.margin.model import PositionColumns
from flows.market.columns import InstrumentColumns
from flows.market.instant import Instant
from flows.pricing.grid import aligned_rows
from flows.pricing.kinds import PERPETUAL, SPOT
from flows.screening.lines import OUTWARD
from flows.screening.open_order_bounds import with_open_orders
from flows.screening.position_bounds import LANES, NEED, OF_MAINTENANCE, ROWS, SHORT, UPWARD, WORTH, position_slack
from flows.screening.ranges import HIGH, LOW, Accounts, Boundaries, Float64Array, Int8Array, Int64Array, Ranges
from flows.screening.unit_sums import Pairs
from schemas.parameters import DydxParameters

_GRAIN: Final = 3.0 / QUANTUMS
# The numeraire that surely fits, whatever rounding raises it by.
_WORTH_MAX: Final = (1.0 - 1e-9) * NOTIONAL_MAX / QUANTUMS


class DydxBounds:
    """Bounds over one set of ranges."""

    def __init__(self, columns: InstrumentColumns, parameters: DydxParameters, instant: Instant) -> None:
        self._columns, self._parameters = columns, parameters
        self._pairs = Pairs.among(columns)
        is_perpetual = (columns.kind == PERPETUAL) & (columns.inverse == 0)
        self._bounded = self._pairs.bounded & (is_perpetual | (columns.kind == SPOT))
        self._table = aligned_rows(ROWS * columns.count, LANES)
        self._known = np.zeros(columns.count, np.bool_)
        self._unit = instant.asset_unit

    def write(self, ranges: Ranges, members: Int64Array) -> None:
        """Take the ranges of some instruments of one underlying anew."""
        columns = self._columns
        self._known[members] = ranges.known[members] & self._bounded[members]
        members = members[self._known[members]]
        if members.shape[0] == 0:
            return
        u = int(columns.underlying[members[0]])
        tier = self._parameters.tier(columns.underlyings[u])
        initial = tier.initial_margin_ppm / PPM
        _lay_out(
            members, columns.kind, columns.quantity, ranges.spot[:, u], ranges.ratio,
            np.array([initial, initial * (tier.maintenance_fraction_ppm / PPM)]), self._table,
        )  # fmt: skip

    def slack(self, ranges: Ranges, accounts: Accounts, boundaries: Boundaries, rows: Int64Array) -> Float64Array:
        """Return (n, 2), how far accounts stay from the boundaries below and above."""

        def slack_of(margined: PositionColumns, between: Boundaries, chosen: Int64Array) -> Float64Array:
            return position_slack(
                self._table, self._known, self._pairs, ranges, accounts, self._unit, margined, between, chosen,
                grain=_GRAIN, worth_max=_WORTH_MAX,
            )  # fmt: skip

        return with_open_orders(slack_of, accounts, boundaries, rows)


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
