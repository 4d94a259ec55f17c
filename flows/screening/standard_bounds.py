"""Bounds of ``tidegate-standard``: what an account's health is at least, and at most, over a box.

A boundary is ``equity = multiple × margin``. Terms as in ``unit_sums``.

1. Nothing offsets anything: margin is a sum over positions of lots × what a lot of that side needs, and that is at most
   the greatest over the box, and at least the least.
2. A short option needs ``max(a × spot - outside, b × spot)`` a unit initially, outside being how far it is out of the
   money. Between the strike and the ends both are lines and the first bends downward, so the greatest is at an end or
   at the strike; the least is at least the greater of what either is at least, at the ends.
3. A put's worth enters its maintenance, and a long's all of it: by the lines of its mark, and its unit's price.
4. Notional and the charge for confidence rise with spot and confidence, and what concentration asks with the notional:
   their ends are at the ends.
5. Open orders: an instrument's worst is with all its buys filled or with all its sells; either is bounded as above.
6. Equity is a sum of lines, one for each underlying: least and greatest at the ends of its spot.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.margin.add_ons import concentration, inverse_depths
from flows.margin.fetching import AHEAD, fetch_positions
from flows.margin.model import NO_OPEN_ORDERS, UInt32Array
from flows.market.columns import InstrumentColumns
from flows.market.instant import Instant
from flows.pricing.grid import aligned_rows
from flows.pricing.kinds import OPTION, SPOT
from flows.screening.bounds import InstrumentBox, Shocks, instrument_bounds
from flows.screening.ranges import HIGH, INITIAL, LOW, NO_BOUNDARY, Accounts, Boundaries, Ranges
from flows.screening.unit_sums import (
    LEAST,
    ROUNDING,
    Pairs,
    equity_line,
    known_balances,
    narrow_balances,
    other_balances,
)
from schemas.parameters import StandardParameters

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Int8Array = npt.NDArray[np.int8]
BoolArray = npt.NDArray[np.bool_]

# Eight doubles for every instrument and side, a cache line: of a long in row 2 i, of a short in row 2 i + 1. The worth
# at the mark per lot of that side (a short's is negative): at least, at the spot's two ends, and at most; then needs.
_LEAST_WORTH: Final = 0
_MOST_WORTH: Final = 2
_INITIAL_MOST: Final = 4
_MAINTENANCE_MOST: Final = 5
_INITIAL_LEAST: Final = 6
_MAINTENANCE_LEAST: Final = 7
_LANES: Final = 8
_UNKNOWN: Final = -1
_NO_SHOCKS: Final = Shocks(np.zeros(0), np.zeros(0), 0.0, 0.0, 0.0, 0.0, 1.0)
_OUTWARD: Final = 1e-12


class StandardBounds:
    """Bounds over one set of ranges."""

    def __init__(self, columns: InstrumentColumns, parameters: StandardParameters, instant: Instant) -> None:
        self._columns, self._parameters = columns, parameters
        self._pairs = Pairs.among(columns)
        self._rows = aligned_rows(2 * columns.count, _LANES)
        self._notional = np.zeros((columns.count, 2))
        self._inverse_depth = inverse_depths(columns, parameters)
        # The pair of an instrument, _UNKNOWN while its ranges are not known or no line holds for it.
        self._pair = np.full(columns.count, _UNKNOWN, np.int32)
        self._unit = instant.asset_unit

    def write(self, ranges: Ranges, members: Int64Array) -> None:
        """Take the ranges of some instruments of one underlying anew."""
        columns, parameters = self._columns, self._parameters
        holds = ranges.known[members] & self._pairs.bounded[members]
        self._pair[members] = np.where(holds, self._pairs.of[members], _UNKNOWN)
        members = members[holds]
        if members.shape[0] == 0:
            return
        lines = instrument_bounds(InstrumentBox.of(columns, ranges, members), _NO_SHOCKS).rows
        u = int(columns.underlying[members[0]])
        name = columns.underlyings[u]
        rates = parameters.linear_rates.get(name, (parameters.linear_initial, parameters.linear_maintenance))
        unit_price = self._pairs.unit_price(ranges)[:, self._pairs.of[members]]
        _lay_out(
            members, columns.kind, columns.inverse, columns.call, columns.quantity, columns.strike, lines,
            ranges.spot[LOW, u], ranges.spot[HIGH, u], unit_price[LOW], unit_price[HIGH],
            parameters.confidence_multiple * ranges.confidence[LOW, u],
            parameters.confidence_multiple * ranges.confidence[HIGH, u], rates[0], rates[1], parameters.option_initial,
            parameters.option_initial_min, parameters.option_maintenance, parameters.long_option_credit, self._rows,
            self._notional,
        )  # fmt: skip

    def slack(self, ranges: Ranges, accounts: Accounts, boundaries: Boundaries, rows: Int64Array) -> Float64Array:
        """Return (n, 2), how far accounts stay from the boundaries below and above."""
        out = np.empty((rows.shape[0], 2))
        pairs, parameters, positions = self._pairs, self._parameters, accounts.positions
        unit_price = pairs.unit_price(ranges)
        orders = NO_OPEN_ORDERS if accounts.open_orders is None else accounts.open_orders
        _slack(
            self._rows, self._notional, self._pair, pairs.underlying, pairs.asset, pairs.tied,
            unit_price[LOW], unit_price[HIGH], ranges.spot, self._inverse_depth, parameters.concentration_rate,
            parameters.concentration_cap, ranges.price, ranges.haircut, ranges.asset_known, self._unit, accounts.cash,
            positions.offset, positions.count, positions.instrument, positions.lots, accounts.isolated, orders.offset,
            orders.count, orders.instrument, orders.buys, orders.sells, boundaries.below_of, boundaries.below,
            boundaries.above_of, boundaries.above, rows, out,
        )  # fmt: skip
        return out


def open_bounds(columns: InstrumentColumns, parameters: Any, instant: Instant) -> StandardBounds:
    """Return the model's bounds, with nothing written yet."""
    return StandardBounds(columns, parameters, instant)


@njit(cache=True, error_model="numpy")
def _lay_out(
    members: Int64Array,
    kind: Int8Array,
    inverse: Int8Array,
    call: Int8Array,
    quantity: Float64Array,
    strike: Float64Array,
    lines: Float64Array,
    spot_low: float,
    spot_high: float,
    unit_low: Float64Array,
    unit_high: Float64Array,
    charge_low: float,
    charge_high: float,
    linear_initial: float,
    linear_maintenance: float,
    option_initial: float,
    option_initial_min: float,
    option_maintenance: float,
    long_option_credit: float,
    table: Float64Array,
    notional: Float64Array,
) -> None:
    line_half = lines.shape[1] // 2
    for place in range(members.shape[0]):
        i = members[place]
        long, short = table[2 * i], table[2 * i + 1]
        low, high = lines[2 * place], lines[2 * place + 1]
        for end in range(2):
            long[_LEAST_WORTH + end], long[_MOST_WORTH + end] = low[end * line_half], high[end * line_half]
            short[_LEAST_WORTH + end], short[_MOST_WORTH + end] = -high[end * line_half], -low[end * line_half]
        if kind[i] == SPOT:
            long[_INITIAL_MOST:] = 0.0
            short[_INITIAL_MOST:] = 0.0
            notional[i] = 0.0
            continue
        in_coins = inverse[i] != 0 and kind[i] != OPTION
        size_low = quantity[i] * (1.0 if in_coins else spot_low)
        size_high = quantity[i] * (1.0 if in_coins else spot_high)
        notional[i, 0], notional[i, 1] = size_low * (1.0 - _OUTWARD), size_high * (1.0 + _OUTWARD)
        extra_low, extra_high = charge_low * size_low, charge_high * size_high
        if kind[i] == OPTION:
            is_call = call[i] != 0
            k = strike[i]
            worth_low = max(min(low[0], low[line_half]), 0.0) * unit_low[place]
            worth_high = max(high[0], high[line_half]) * unit_high[place]
            begin, end_value = (
                _asked(option_initial, spot_low, k, is_call),
                _asked(option_initial, spot_high, k, is_call),
            )
            most = max(begin, end_value)
            if spot_low < k < spot_high:
                most = max(most, _asked(option_initial, k, k, is_call))
            initial_high = quantity[i] * max(most, option_initial_min * spot_high)
            initial_low = quantity[i] * max(min(begin, end_value), option_initial_min * spot_low)
            maintenance_high, maintenance_low = option_maintenance * size_high, option_maintenance * size_low
            if not is_call:
                maintenance_high = max(maintenance_high, option_maintenance * worth_high)
                maintenance_low = max(maintenance_low, option_maintenance * worth_low)
                initial_high, initial_low = max(initial_high, maintenance_high), max(initial_low, maintenance_low)
            aside = 1.0 - long_option_credit
            long[_INITIAL_MOST] = long[_MAINTENANCE_MOST] = aside * worth_high
            long[_INITIAL_LEAST] = long[_MAINTENANCE_LEAST] = aside * worth_low
            short[_INITIAL_MOST], short[_INITIAL_LEAST] = initial_high, initial_low
            short[_MAINTENANCE_MOST], short[_MAINTENANCE_LEAST] = maintenance_high, maintenance_low
        else:
            for side in (long, short):
                side[_INITIAL_MOST], side[_INITIAL_LEAST] = linear_initial * size_high, linear_initial * size_low
                side[_MAINTENANCE_MOST] = linear_maintenance * size_high
                side[_MAINTENANCE_LEAST] = linear_maintenance * size_low
        for side in (long, short):
            side[_INITIAL_MOST] = (side[_INITIAL_MOST] + extra_high) * (1.0 + _OUTWARD)
            side[_MAINTENANCE_MOST] = (side[_MAINTENANCE_MOST] + extra_high) * (1.0 + _OUTWARD)
            side[_INITIAL_LEAST] = (side[_INITIAL_LEAST] + extra_low) * (1.0 - _OUTWARD)
            side[_MAINTENANCE_LEAST] = (side[_MAINTENANCE_LEAST] + extra_low) * (1.0 - _OUTWARD)


@njit(forceinline=True, error_model="numpy")
def _asked(rate: float, spot: float, strike: float, is_call: bool) -> float:  # noqa: FBT001 - a kernel
    """Return what a unit of a short option needs initially before its floor, quote."""
    outside = max(strike - spot, 0.0) if is_call else max(spot - strike, 0.0)
    return rate * spot - outside


@njit(cache=True, error_model="numpy", nogil=True)
def _slack(
    table: Float64Array,
    notional: Float64Array,
    pair_of: Int32Array,
    pair_underlying: Int64Array,
    pair_asset: Int64Array,
    pair_tied: BoolArray,
    unit_low: Float64Array,
    unit_high: Float64Array,
    spot: Float64Array,
    inverse_depth: Float64Array,
    concentration_rate: float,
    concentration_cap: float,
    price: Float64Array,
    haircut: Float64Array,
    asset_known: BoolArray,
    asset_unit: Float64Array,
    cash: Int64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    isolated: BoolArray,
    order_offset: Int64Array,
    order_count: Int64Array,
    order_instrument: UInt32Array,
    buys: Int64Array,
    sells: Int64Array,
    below_of: Int8Array,
    below: Float64Array,
    above_of: Int8Array,
    above: Float64Array,
    rows: Int64Array,
    out: Float64Array,
) -> None:
    pairs, underlyings = pair_underlying.shape[0], inverse_depth.shape[0]
    assets = asset_unit.shape[0]
    sums = np.empty((pairs, _LANES))
    held, held_by = np.empty(pairs, np.int64), np.full(pairs, -1)
    gross, met, met_by = np.empty((underlyings, 1)), np.empty(underlyings, np.int64), np.full(underlyings, -1)
    lines = np.empty((underlyings, 2))
    units, settles, needs = np.empty(assets), np.empty(assets, np.bool_), np.empty(4)
    sizes_count = inverse_depth.any()
    last = rows.shape[0] - 1
    for n in range(rows.shape[0]):
        fetch_positions(offset, instrument, lots, rows[min(n + AHEAD, last)])
        row = rows[n]
        start, end_of_positions = offset[row], offset[row] + count[row]
        having = order_count[row] if order_count.shape[0] else 0
        covered, groups, meeting = known_balances(cash, row, asset_unit, asset_known, units), 0, 0
        # Needs of everything, initial and maintenance, at most and at least; what open orders add to the former.
        needs[:] = 0.0
        more_most = more_least = 0.0
        p = np.uint64(start)
        stop = np.uint64(end_of_positions)
        while p < stop:
            # A run of one pair is summed in registers.
            found = pair_of[np.uint64(instrument[p])]
            if found < 0:
                covered = False
                break
            pair = np.uint64(found)
            first = held_by[pair] != n
            if first:
                held_by[pair] = n
                held[groups] = np.int64(pair)
                groups += 1
            s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
            while p < stop:
                i = np.uint64(instrument[p])
                if pair_of[i] != found:
                    break
                lot = float(abs(lots[p]))
                line = np.uint64(2) * i + np.uint64(lots[p] < 0)
                s0 += lot * table[line, 0]
                s1 += lot * table[line, 1]
                s2 += lot * table[line, 2]
                s3 += lot * table[line, 3]
                s4 += lot * table[line, 4]
                s5 += lot * table[line, 5]
                s6 += lot * table[line, 6]
                s7 += lot * table[line, 7]
                p += np.uint64(1)
            for lane, of in enumerate((s0, s1, s2, s3, s4, s5, s6, s7)):
                sums[pair, lane] = of if first else sums[pair, lane] + of
        for k in range(groups):
            u = pair_underlying[held[k]]
            if met_by[u] != n:
                met_by[u] = n
                met[meeting] = u
                meeting += 1
            for lane in range(4):
                needs[lane] += sums[held[k], _INITIAL_MOST + lane]
            covered &= asset_known[pair_asset[held[k]]]
        if isolated[row] and groups > 0:
            narrow_balances(held, groups, pair_asset, units)
        if having:
            at = start
            for o in range(order_offset[row], order_offset[row] + having):
                i = order_instrument[o]
                covered &= pair_of[i] >= 0
                while at < end_of_positions and instrument[at] < i:
                    at += 1
                size = lots[at] if at < end_of_positions and instrument[at] == i else 0
                bought, sold = size + buys[o], size - sells[o]
                for lane in (_INITIAL_MOST, _INITIAL_LEAST):
                    worst = max(_need(table, i, bought, lane), _need(table, i, sold, lane)) - _need(
                        table, i, size, lane
                    )
                    if lane == _INITIAL_MOST:
                        more_most += worst
                    else:
                        more_least += worst
        if not covered:
            out[n] = -np.inf
            continue
        for side in range(2):
            of = below_of[n] if side == 0 else above_of[n]
            if of == NO_BOUNDARY:
                out[n, side] = np.inf
                continue
            upward = side == 1
            multiple = below[n] if side == 0 else above[n]
            need = needs[(2 if upward else 0) + (0 if of == INITIAL else 1)]
            ordered = having and of == INITIAL
            if ordered:
                need += more_least if upward else more_most
            if sizes_count:
                need += _sizes(
                    notional, pair_of, pair_underlying, start, end_of_positions, instrument, lots,
                    order_offset[row] if ordered else 0, having if ordered else 0, order_instrument, buys, sells,
                    upward, gross, inverse_depth, concentration_rate,
                    concentration_cap,
                )  # fmt: skip
            size_of_all = doubt = 0.0
            settles[:] = False
            for k in range(groups):
                settles[pair_asset[held[k]]] = True
            others = other_balances(units, settles, price, haircut, upward)
            total = -others if upward else others
            for j in range(assets):
                size_of_all += abs(units[j]) * price[HIGH, j]
            for k in range(meeting):
                lines[met[k]] = 0.0
            for j in range(assets):
                if not settles[j]:
                    continue
                net_low = net_high = 0.0
                tied = False
                middle, doubted = 1.0, 0.0
                for k in range(groups):
                    pair = held[k]
                    if pair_asset[pair] != j:
                        continue
                    tied = pair_tied[pair]
                    middle = 0.5 * (unit_low[pair] + unit_high[pair])
                    doubted = 0.5 * (unit_high[pair] - unit_low[pair])
                    least, most = np.inf, -np.inf
                    for end in range(2):
                        coins = units[j] * spot[end, pair_underlying[pair]] if tied else 0.0
                        least = min(least, coins + sums[pair, _LEAST_WORTH + end])
                        most = max(most, coins + sums[pair, _MOST_WORTH + end])
                        size_of_all += abs(sums[pair, _LEAST_WORTH + end]) * middle
                    net_low += least
                    net_high += most
                if not tied:
                    net_low += units[j]
                    net_high += units[j]
                intercept, slope = equity_line(net_low, net_high, haircut[LOW, j], haircut[HIGH, j], upward)
                total += middle * (intercept + (0.0 if tied else slope * units[j]))
                doubt += doubted * max(abs(net_low), abs(net_high))
                for k in range(groups):
                    pair = held[k]
                    if pair_asset[pair] != j:
                        continue
                    u = pair_underlying[pair]
                    for end in range(2):
                        coins = units[j] * spot[end, u] if tied else 0.0
                        worth = sums[pair, (_MOST_WORTH if upward else _LEAST_WORTH) + end]
                        lines[u, end] += middle * slope * (coins + worth)
            for k in range(meeting):
                u = met[k]
                total += max(lines[u, 0], lines[u, 1]) if upward else min(lines[u, 0], lines[u, 1])
            total -= multiple * need
            outward = doubt + ROUNDING * (size_of_all + abs(need)) + LEAST
            out[n, side] = -(total + outward) if upward else total - outward


@njit(forceinline=True, error_model="numpy")
def _need(table: Float64Array, instrument: int, lots: int, lane: int) -> float:
    of_a_lot: float = table[2 * np.int64(instrument) + (1 if lots < 0 else 0), lane]
    return float(abs(lots)) * of_a_lot


@njit(error_model="numpy")
def _sizes(
    notional: Float64Array,
    pair_of: Int32Array,
    pair_underlying: Int64Array,
    start: int,
    end_of_positions: int,
    instrument: UInt32Array,
    lots: Int64Array,
    first_order: int,
    order_count: int,
    order_instrument: UInt32Array,
    buys: Int64Array,
    sells: Int64Array,
    upward: bool,  # noqa: FBT001 - a kernel
    gross: Float64Array,
    inverse_depth: Float64Array,
    concentration_rate: float,
    concentration_cap: float,
) -> float:
    """Return what an account's sizes need at most, or upward, at least."""
    column = 0 if upward else 1
    gross[:] = 0.0
    for p in range(start, end_of_positions):
        i = instrument[p]
        gross[pair_underlying[pair_of[i]], 0] += abs(lots[p]) * notional[i, column]
    p = start
    for o in range(first_order, first_order + order_count):
        i = order_instrument[o]
        while p < end_of_positions and instrument[p] < i:
            p += 1
        size = lots[p] if p < end_of_positions and instrument[p] == i else 0
        more = max(abs(size + buys[o]), abs(size - sells[o])) - abs(size)
        gross[pair_underlying[pair_of[i]], 0] += more * notional[i, column]
    total = 0.0
    for u in range(gross.shape[0]):
        if gross[u, 0] > 0.0:
            total += concentration(gross[u, 0], inverse_depth[u], concentration_rate, concentration_cap)
    return total
