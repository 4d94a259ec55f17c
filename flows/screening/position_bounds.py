"""Bounds of models whose margin is a sum over positions, from lines per lot of either side.

Terms as in ``unit_sums``. A position of n lots is worth n × worth and needs n × (need + n × square): worth and needs
are lines, below for what is bounded from below. What pays for its own mark, a long option, is worth and needs the same:
its share is (slope - multiple) × mark. ``spread`` is by how much its two lines differ, and is lost where the multiple
exceeds the slope; or as often as lots are margined that are not held.
"""

from typing import Final

import numpy as np
from numba import njit

from flows.margin.fetching import AHEAD, fetch_positions
from flows.margin.model import PositionColumns, UInt32Array
from flows.market.columns import InstrumentColumns
from flows.market.instant import Instant
from flows.pricing.grid import aligned_rows
from flows.screening.open_order_bounds import with_open_orders
from flows.screening.ranges import (
    HIGH,
    LOW,
    MAINTENANCE,
    NO_BOUNDARY,
    Accounts,
    Boundaries,
    Int8Array,
    Ranges,
)
from flows.screening.unit_sums import (
    LEAST,
    ROUNDING,
    BoolArray,
    Float64Array,
    Int32Array,
    Int64Array,
    Pairs,
    equity_lines,
    known_balances,
    least_of_parts,
    narrow_balances,
    other_balances,
)

# Eight doubles, a cache line, for every instrument, side, direction and margin: both ends of each line, units per lot.
# Needs are negative where they are taken off, upward positive; spread is never positive.
WORTH: Final = 0
NEED: Final = 2
SQUARE: Final = 4
SPREAD: Final = 6
LANES: Final = 8
# Rows of an instrument: of long lots, then of short; of each below, then upward; of each initial, then maintenance.
ROWS: Final = 8
SHORT: Final = 4
UPWARD: Final = 2
OF_MAINTENANCE: Final = 1


class PositionBounds:
    """Bounds of such a model over one set of ranges; a model says how its rows are written.

    Parameters
    ----------
    bounded : (K,), whether the model and lines hold for an instrument. grain, worth_max : as of ``position_slack``.
    """

    def __init__(
        self, columns: InstrumentColumns, instant: Instant, bounded: BoolArray, *, grain: float, worth_max: float
    ) -> None:
        self._columns = columns
        self._pairs = Pairs.among(columns)
        self._bounded = self._pairs.bounded & bounded
        self._grain, self._worth_max = grain, worth_max
        self._table = aligned_rows(ROWS * columns.count, LANES)
        self._known = np.zeros(columns.count, np.bool_)
        self._unit = instant.asset_unit

    def write(self, ranges: Ranges, members: Int64Array) -> None:
        """Take the ranges of some instruments of one underlying anew."""
        self._known[members] = ranges.known[members] & self._bounded[members]
        members = members[self._known[members]]
        if members.shape[0]:
            self._lay_out(ranges, members)

    def _lay_out(self, ranges: Ranges, members: Int64Array) -> None:
        """Write the rows of members, of one underlying and at least one, all known."""
        raise NotImplementedError

    def slack(self, ranges: Ranges, accounts: Accounts, boundaries: Boundaries, rows: Int64Array) -> Float64Array:
        """Return (n, 2), how far accounts stay from the boundaries below and above."""

        def slack_of(margined: PositionColumns, between: Boundaries, chosen: Int64Array) -> Float64Array:
            return position_slack(
                self._table, self._known, self._pairs, ranges, accounts, self._unit, margined, between, chosen,
                grain=self._grain, worth_max=self._worth_max,
            )  # fmt: skip

        return with_open_orders(slack_of, accounts, boundaries, rows)


def position_slack(
    table: Float64Array,
    known: BoolArray,
    pairs: Pairs,
    ranges: Ranges,
    accounts: Accounts,
    asset_unit: Float64Array,
    margined: PositionColumns,
    boundaries: Boundaries,
    rows: Int64Array,
    *,
    grain: float = 0.0,
    worth_max: float = np.inf,
) -> Float64Array:
    """Return (n, 2), as of ``HealthBounds.slack``.

    Parameters
    ----------
    table : (8 K, 8). known : (K,), whether an instrument's rows are written.
    margined : the positions of which margins are taken; those of ``accounts``, or others.
    grain : numeraire, by which a position's margin may be off what its lines say. worth_max : numeraire; a position
        that may be worth more is not bounded.
    """
    out = np.empty((rows.shape[0], 2))
    held = accounts.positions
    unit_price = pairs.unit_price(ranges)
    _slack(
        table, known, pairs.of, pairs.underlying, pairs.asset, pairs.tied, unit_price[LOW], unit_price[HIGH],
        ranges.spot, ranges.price, ranges.haircut, ranges.asset_known, asset_unit, accounts.cash, accounts.isolated,
        held.offset, held.count, held.instrument, held.lots, margined.offset, margined.count, margined.instrument,
        margined.lots, margined is held, boundaries.below_of, boundaries.below, boundaries.above_of, boundaries.above,
        grain, worth_max, rows, out,
    )  # fmt: skip
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def _slack(
    table: Float64Array,
    known: BoolArray,
    pair_of: Int32Array,
    underlying: Int64Array,
    asset: Int64Array,
    tied: BoolArray,
    unit_low: Float64Array,
    unit_high: Float64Array,
    spot: Float64Array,
    price: Float64Array,
    haircut: Float64Array,
    asset_known: BoolArray,
    asset_unit: Float64Array,
    cash: Int64Array,
    isolated: BoolArray,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    margined_offset: Int64Array,
    margined_count: Int64Array,
    margined_instrument: UInt32Array,
    margined_lots: Int64Array,
    as_held: bool,  # noqa: FBT001 - a kernel
    below_of: Int8Array,
    below: Float64Array,
    above_of: Int8Array,
    above: Float64Array,
    grain: float,
    worth_max: float,
    rows: Int64Array,
    out: Float64Array,
) -> None:
    groups_max, assets = underlying.shape[0], asset_unit.shape[0]
    sums = np.empty((2, groups_max, LANES))
    seen, held = np.full(groups_max, -1), np.empty(groups_max, np.int64)
    part, beyond, lines = np.empty((groups_max, 2)), np.empty((groups_max, 2)), np.empty((spot.shape[1], 2))
    units, intercept, slope = np.empty(assets), np.empty(assets), np.empty(assets)
    settles = np.empty(assets, np.bool_)
    last = rows.shape[0] - 1
    for n in range(rows.shape[0]):
        fetch_positions(offset, instrument, lots, rows[min(n + AHEAD, last)])
        row = rows[n]
        start, end_of_held = offset[row], offset[row] + count[row]
        covered = known_balances(cash, row, asset_unit, asset_known, units)
        groups = 0
        for book in range(1 if as_held else 2):
            first, end_of_book = start, end_of_held
            if book == 1:
                first, end_of_book = margined_offset[row], margined_offset[row] + margined_count[row]
            for p in range(first, end_of_book):
                i = instrument[p] if book == 0 else margined_instrument[p]
                many = lots[p] if book == 0 else margined_lots[p]
                pair = np.int64(pair_of[i])
                covered &= known[i] and asset_known[asset[pair]]
                if seen[pair] != n:
                    seen[pair] = n
                    held[groups] = pair
                    groups += 1
                    sums[:, pair] = 0.0
                lot = float(abs(many))
                line = ROWS * np.int64(i) + (SHORT if many < 0 else 0)
                if lot * max(abs(table[line, WORTH]), abs(table[line, WORTH + 1])) * unit_high[pair] > worth_max:
                    covered = False
                for side in range(2):
                    of = below_of[n] if side == 0 else above_of[n]
                    wanted = line + UPWARD * side + (OF_MAINTENANCE if of == MAINTENANCE else 0)
                    if book == 0:
                        for lane in range(WORTH, NEED):
                            sums[side, pair, lane] += lot * table[wanted, lane]
                    if book == 1 or as_held:
                        for lane in range(NEED, LANES):
                            size = lot * lot if SQUARE <= lane < SPREAD else lot
                            sums[side, pair, lane] += size * table[wanted, lane]
            if book == 0 and isolated[row] and groups > 0:
                narrow_balances(held, groups, asset, units)
        if not covered:
            out[n] = -np.inf
            continue
        positions = margined_count[row]
        for side in range(2):
            of, multiple = (below_of[n], below[n]) if side == 0 else (above_of[n], above[n])
            if of == NO_BOUNDARY:
                out[n, side] = np.inf
                continue
            upward = side == 1
            for k in range(groups):
                pair = held[k]
                for end in range(2):
                    part[pair, end], beyond[pair, end] = sums[side, pair, WORTH + end], -sums[side, pair, SPREAD + end]
            equity_lines(
                held, groups, underlying, asset, tied, spot, haircut, units, upward, part, beyond, settles,
                intercept, slope,
            )  # fmt: skip
            for k in range(groups):
                pair = held[k]
                straight = slope[asset[pair]]
                lost = max(multiple - straight, 0.0) if as_held else multiple
                for end in range(2):
                    need = sums[side, pair, NEED + end] + sums[side, pair, SQUARE + end]
                    part[pair, end] = (
                        straight * part[pair, end] + multiple * need + lost * sums[side, pair, SPREAD + end]
                    )
            total = least_of_parts(
                held, groups, underlying, asset, tied, unit_low, unit_high, units, upward, part, settles, intercept,
                slope, lines,
            )  # fmt: skip
            total += other_balances(units, settles, price, haircut, upward)
            size = 0.0
            for j in range(assets):
                size += abs(units[j]) * price[HIGH, j]
            out[n, side] = total - multiple * grain * positions - ROUNDING * size - LEAST
