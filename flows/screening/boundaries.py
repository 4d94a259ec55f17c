"""Between which boundaries an account stands: where its tier, or what it has ordered, would next be another.

1. A boundary is ``equity = multiple × margin``, as the ladder has them (``flows.liquidation.ladder``).
2. An account in partial liquidation has orders that close a fraction of every position (``flows.liquidation.sizing``).
   The fraction is ``1 - equity / (maintenance × (1 + buffer))``, so an order grows where equity falls below
   ``(1 - f) × (1 + buffer) × maintenance``, f being the least share of a position that is ordered closed: one boundary
   more below. A position that may yet be closed whole, for being small, has none that is safe.
3. From takeover on everything is ordered closed, and orders grow no more.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.margin.model import UInt32Array
from flows.market.instant import Instant
from flows.risk.book import Book
from flows.risk.evaluation import Evaluation
from flows.screening.ranges import INITIAL, MAINTENANCE, NO_BOUNDARY, Boundaries
from schemas.results import Tier

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

_TIERS: Final = len(Tier)
# The spot may fall by a fifth within the widest box from anywhere in it, and so may a position's notional, twice.
_NOTIONAL_FALLS_TO: Final = 0.5
_OUTWARD: Final = 1e-12
# No equity is so many times the margin: whoever has this boundary below is never safe from it.
_NEVER_SAFE: Final = 1e300


def boundaries_of(book: Book, instant: Instant, rows: Int64Array) -> Boundaries:
    """Return the boundaries of accounts as they stand, by book row."""
    ladder = instant.ladder
    below_of, above_of = np.full(_TIERS, NO_BOUNDARY, np.int8), np.full(_TIERS, NO_BOUNDARY, np.int8)
    below, above = np.zeros(_TIERS), np.zeros(_TIERS)
    for tier, of, multiple in (
        (Tier.HEALTHY, INITIAL, ladder.watch_multiple),
        (Tier.WATCH, INITIAL, 1.0),
        (Tier.WARNING, MAINTENANCE, 1.0),
        (Tier.LIQUIDATING, MAINTENANCE, ladder.takeover_multiple),
        (Tier.TAKEOVER, MAINTENANCE, 0.0),
    ):
        below_of[tier], below[tier] = of, multiple
        # The next one has it above.
        above_of[tier + 1], above[tier + 1] = of, multiple
    tier_of = book.tier[rows]
    out = Boundaries(below_of[tier_of], below[tier_of], above_of[tier_of], above[tier_of])
    closing = np.flatnonzero(tier_of == int(Tier.LIQUIDATING))
    if closing.shape[0]:
        positions = book.positions
        multiples = np.empty(closing.shape[0])
        _multiples(
            rows[closing], positions.offset, positions.count, positions.instrument, positions.lots, book.order_lots,
            instant.notional, instant.liquidation.buffer, instant.liquidation.close_all_notional, multiples,
        )  # fmt: skip
        out.below[closing] = np.maximum(out.below[closing], multiples)
    return out


def distance(boundaries: Boundaries, evaluation: Evaluation, chosen: Int64Array) -> Float64Array:
    """Return (n, 2), how far the chosen accounts of an evaluation stay from the boundaries below and above.

    Infinite where there is none.
    """
    equity, initial, maintenance = (
        of[chosen] for of in (evaluation.equity, evaluation.initial_margin, evaluation.maintenance_margin)
    )
    out = np.full((chosen.shape[0], 2), np.inf)
    for side, (of, multiple, sign) in enumerate(
        ((boundaries.below_of, boundaries.below, 1.0), (boundaries.above_of, boundaries.above, -1.0))
    ):
        margin = np.where(of == INITIAL, initial, maintenance)
        out[:, side] = np.where(of == NO_BOUNDARY, np.inf, sign * (equity - multiple * margin))
    return out


@njit(cache=True, error_model="numpy")
def _multiples(
    rows: Int64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    order_lots: Int64Array,
    notional: Float64Array,
    buffer: float,
    close_all_notional: float,
    out: Float64Array,
) -> None:
    for n in range(rows.shape[0]):
        row = rows[n]
        closed = 1.0
        small = False
        for p in range(offset[row], offset[row] + count[row]):
            size, ordered = abs(lots[p]), abs(order_lots[p])
            if ordered < size:
                closed = min(closed, ordered / size)
                small |= size * notional[instrument[p]] * _NOTIONAL_FALLS_TO < close_all_notional
        out[n] = _NEVER_SAFE if small else (1.0 - closed * (1.0 - _OUTWARD)) * (1.0 + buffer) * (1.0 + _OUTWARD)
