"""How much of each position a liquidation closes.

1. A partial liquidation closes the same fraction of every position: requirements are homogeneous in them, so closing
   the fraction ``1 - equity / (maintenance × (1 + buffer))`` at the marks restores maintenance and the buffer.
2. Takeover and bankruptcy close everything. Lots are rounded up, and a position under ``close_all_notional`` is
   closed whole, so that no dust remains.
3. One order is open for an account and instrument: it is published again only when it must grow, and cancelled when
   the account has recovered or the position is gone.
4. Orders reduce positions and never turn them: a venue fills at most what is left of the position. So an order that
   a smaller position cuts short is not published again.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.margin.model import PositionColumns
from schemas.parameters import LiquidationParameters
from schemas.results import RESULT, ResultKind, Results, Tier

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

_LIQUIDATING, _TAKEOVER = int(Tier.LIQUIDATING), int(Tier.TAKEOVER)
_OPENED, _GROWN, _CANCELLED = (
    int(ResultKind.ORDER_OPENED), int(ResultKind.ORDER_GROWN), int(ResultKind.ORDER_CANCELLED),
)  # fmt: skip


def orders(
    *,
    rows: Int64Array,
    account: npt.NDArray[np.uint32],
    tier: npt.NDArray[np.uint8],
    equity: Float64Array,
    maintenance: Float64Array,
    notional: Float64Array,
    positions: PositionColumns,
    order_lots: Int64Array,
    order_count: Int64Array,
    liquidation: LiquidationParameters,
) -> Results:
    """Bring the open orders of the given accounts up to their tiers; return what changed.

    Parameters
    ----------
    rows : (n,), book rows; ``equity`` and ``maintenance`` are (n,), the other account columns are the book's own.
    notional : (K,), numeraire per lot, >= 0.
    order_lots, order_count : the book's, changed in place.

    Returns
    -------
    (m,) RESULT rows of order kinds, by row and instrument; frame, time and index are the caller's to fill.
    """
    room = int(positions.count[rows].sum())
    out = np.zeros(room, RESULT)
    used = _orders(
        rows, account, tier, equity, maintenance, notional, positions.offset, positions.count, positions.instrument,
        positions.lots, order_lots, order_count, liquidation.buffer, liquidation.close_all_notional, out,
    )  # fmt: skip
    return out[:used]


@njit(cache=True)
def _orders(  # type: ignore[no-untyped-def]
    rows, account, tier, equity, maintenance, notional, offset, count, instruments, lots, order_lots, order_count,
    buffer, close_all_notional, out,
):  # fmt: skip
    used = 0
    for n in range(rows.shape[0]):
        row = rows[n]
        if tier[row] < _LIQUIDATING:
            fraction = 0.0
        elif tier[row] >= _TAKEOVER:
            fraction = 1.0
        else:
            fraction = min(1.0, max(0.0, 1.0 - equity[n] / (maintenance[n] * (1.0 + buffer))))
        for place in range(offset[row], offset[row] + count[row]):
            held = lots[place]
            size = abs(held)
            wanted = min(size, np.int64(np.ceil(fraction * size)))
            if fraction > 0.0 and size * notional[instruments[place]] < close_all_notional:
                wanted = size
            before = order_lots[place]
            if fraction == 0.0:
                if before == 0:
                    continue
                kind = _CANCELLED
                after = 0
                order_count[row] -= 1
            else:
                if wanted <= abs(before):
                    continue
                kind = _OPENED if before == 0 else _GROWN
                after = -wanted if held > 0 else wanted
                if before == 0:
                    order_count[row] += 1
            order_lots[place] = after
            result = out[used]
            result.account = account[row]
            result.kind = kind
            result.instrument = instruments[place]
            result.lots = after
            result.amount = before
            used += 1
    return used
