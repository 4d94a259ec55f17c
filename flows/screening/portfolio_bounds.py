"""Bounds of ``tidegate-portfolio``: what an account's health is at least, and at most, over a box.

A boundary is ``equity = multiple × margin``; k is multiple × the margin's factor. Terms as in ``unit_sums``.

1. With a long taking ``low`` and a short taking ``high`` of ``flows.screening.bounds``, the sum of an account's lines
   of a pair is a line below what its positions are worth at the mark (M) and in each scenario (W_s); the other way
   round it is a line above.
2. The model asks ``k × max(0, -min over s of w_s (W_s - M))`` of an underlying. With equity's part, ``b M``, that is
   the least over s of ``b M + k w_s (W_s - M)``, and of ``b M``: each is ``k w_s W_s + (b - k w_s) M``, bounded by
   W_s's lower line and by the line of M that the sign of its factor asks for. Several pairs of one underlying share its
   spot and its scenario: their parts are added, scenario by scenario.
3. Contingencies and confidence charges are lines in the spot, and are taken at the same end. What concentration asks
   rises with the notional: its greatest is at the upper end.
4. A minimum of lines is concave, so its least is at an end of the spot's range; and sums over underlyings, which move
   apart, are least where each is.
5. Of an offset group with share f, ``(1 - f)`` of that counts, and f of the least over s of the *sum* of the group's
   underlyings, each at its own worse end.
6. In each scenario open orders add the least of no fill, all buys and all sells, each a line or bounded by one: a
   minimum of lines again. Size is the greater of two lines, with a minus: concave, too.

The upper bound mirrors all of it; of a minimum over scenarios it takes the least of each scenario's greatest.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.margin.add_ons import concentration, inverse_depths
from flows.margin.fetching import AHEAD, fetch_positions
from flows.margin.model import NO_OPEN_ORDERS, UInt32Array
from flows.margin.portfolio import PortfolioTables
from flows.margin.scenario_sums import (
    LANES,
    add_row,
    combined,
    greater,
    kept,
    least_lane,
    lesser,
    no_sums,
    plus,
    put,
)
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
from schemas.parameters import PortfolioParameters

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Int8Array = npt.NDArray[np.int8]
BoolArray = npt.NDArray[np.bool_]

# Lanes behind the scenarios, counted from the end of what belongs to one end of the spot's range. Row 2 i is read for
# what a long is worth at least and a short at most, row 2 i + 1 the other way round; the sum of lots × lane is then
# what is wanted of every lane. NEED is what lots need at most, with lots of the row's first side; OTHER_NEED is what
# they need at least, with lots of its second side, negative. The notional is counted upward in the first use, downward
# in the other.
_MARK: Final = 5
_OTHER_MARK: Final = 4
_NEED: Final = 3
_OTHER_NEED: Final = 2
_NOTIONAL: Final = 1
_TERMS: Final = 5
_UNKNOWN: Final = -1
# A chain of nobody.
_NONE: Final = np.uint64(2**64 - 1)


class PortfolioBounds:
    """Bounds over one set of ranges."""

    def __init__(self, columns: InstrumentColumns, parameters: PortfolioParameters, instant: Instant) -> None:
        tables = instant.margin_tables["tidegate-portfolio"]
        assert isinstance(tables, PortfolioTables)
        self._columns, self._parameters = columns, parameters
        self._pairs = Pairs.among(columns)
        scenarios = np.array(parameters.scenarios, np.float64)
        self._shocks = Shocks(
            scenarios[:, 0].copy(), scenarios[:, 1].copy(), parameters.vol_up, parameters.vol_down,
            parameters.vol_power_short, parameters.vol_power_long, parameters.vol_days_min,
        )  # fmt: skip
        count = scenarios.shape[0]
        half = LANES * -(-(count + _TERMS) // LANES)
        # Weights of scenarios by lane; and behind them, which lanes are scenarios.
        self._shares = aligned_rows(2, half)
        self._shares[0, :count] = scenarios[:, 2]
        self._shares[1, :count] = 1.0
        self._rows = aligned_rows(2 * columns.count, 2 * half)
        self._offset_group, self._offset_share = tables.offset_group, tables.offset_share
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
        box = InstrumentBox.of(columns, ranges, members)
        lines = instrument_bounds(box, self._shocks).rows
        u = int(columns.underlying[members[0]])
        spot = ranges.spot[:, u]
        kind, quantity = columns.kind[members], columns.quantity[members]
        is_option = kind == OPTION
        in_coins = (columns.inverse[members] != 0) & ~is_option
        charge = parameters.confidence_multiple * ranges.confidence[:, u]
        _lay_out(
            self._rows, members, lines, self._shares[0], spot, quantity, kind == SPOT, in_coins,
            np.where(is_option, 0.0, parameters.linear_contingency),
            np.where(is_option, parameters.short_option_contingency, parameters.linear_contingency),
            charge, self._shocks.spot_multiple.shape[0],
        )  # fmt: skip

    def slack(self, ranges: Ranges, accounts: Accounts, boundaries: Boundaries, rows: Int64Array) -> Float64Array:
        """Return (n, 2), how far accounts stay from the boundaries below and above."""
        out = np.empty((rows.shape[0], 2))
        pairs, parameters, positions = self._pairs, self._parameters, accounts.positions
        unit_price = pairs.unit_price(ranges)
        orders = NO_OPEN_ORDERS if accounts.open_orders is None else accounts.open_orders
        _slack(
            self._rows.reshape(-1), self._pair, pairs.underlying, pairs.asset,
            pairs.tied, unit_price[LOW], unit_price[HIGH], self._shares.reshape(-1), ranges.spot,
            parameters.initial_factor, parameters.maintenance_factor, self._offset_group, self._offset_share,
            self._inverse_depth, parameters.concentration_rate, parameters.concentration_cap, ranges.price,
            ranges.haircut, ranges.asset_known, self._unit, accounts.cash, positions.offset, positions.count,
            positions.instrument, positions.lots, accounts.isolated, orders.offset, orders.count, orders.instrument,
            orders.buys, orders.sells, boundaries.below_of, boundaries.below, boundaries.above_of, boundaries.above,
            rows, out,
        )  # fmt: skip
        return out


def open_bounds(columns: InstrumentColumns, parameters: Any, instant: Instant) -> PortfolioBounds:
    """Return the model's bounds, with nothing written yet."""
    return PortfolioBounds(columns, parameters, instant)


@njit(cache=True, error_model="numpy")
def _lay_out(
    table: Float64Array,
    members: Int64Array,
    lines: Float64Array,
    weight: Float64Array,
    spot: Float64Array,
    quantity: Float64Array,
    is_spot: BoolArray,
    in_coins: BoolArray,
    long_rate: Float64Array,
    short_rate: Float64Array,
    charge: Float64Array,
    scenarios: int,
) -> None:
    """Write the rows of ``members``; ``lines`` are theirs, ``charge`` is the least and greatest rate of confidence."""
    half, line_half = table.shape[1] // 2, lines.shape[1] // 2
    for place in range(members.shape[0]):
        first, second = table[2 * members[place]], table[2 * members[place] + 1]
        low, high = lines[2 * place], lines[2 * place + 1]
        for end in range(2):
            at, line_at, last = end * half, end * line_half, (end + 1) * half
            for s in range(scenarios):
                first[at + s] = weight[s] * low[line_at + 1 + s]
                second[at + s] = weight[s] * high[line_at + 1 + s]
            first[last - _MARK] = second[last - _OTHER_MARK] = low[line_at]
            second[last - _MARK] = first[last - _OTHER_MARK] = high[line_at]
            notional = 0.0 if is_spot[place] else quantity[place] * (1.0 if in_coins[place] else spot[end])
            first[last - _NEED] = notional * (long_rate[place] + charge[1])
            first[last - _OTHER_NEED] = -notional * (short_rate[place] + charge[0])
            second[last - _NEED] = -notional * (short_rate[place] + charge[1])
            second[last - _OTHER_NEED] = notional * (long_rate[place] + charge[0])
            first[last - _NOTIONAL] = notional
            second[last - _NOTIONAL] = -notional


@njit(cache=True, error_model="numpy", nogil=True)
def _slack(
    flat: Float64Array,
    pair_of: Int32Array,
    pair_underlying: Int64Array,
    pair_asset: Int64Array,
    pair_tied: BoolArray,
    unit_low: Float64Array,
    unit_high: Float64Array,
    shares: Float64Array,
    spot: Float64Array,
    initial_factor: float,
    maintenance_factor: float,
    offset_group: Int64Array,
    offset_share: Float64Array,
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
    half = shares.shape[0] // 2
    weight, is_scenario = shares[:half], shares[half:]
    width = 2 * half
    lanes = np.uint64(LANES)
    pairs, underlyings, offsets = pair_underlying.shape[0], offset_group.shape[0], offset_share.shape[0]
    # An account's sums by pair and side; the chain of its positions in a pair.
    sums = np.empty((2, pairs * width))
    held, held_by = np.empty(pairs, np.int64), np.full(pairs, -1)
    first_of, last_of = np.empty(pairs, np.uint64), np.empty(pairs, np.uint64)
    next_of = np.empty(count[rows].max() if rows.shape[0] else 0, np.uint64)
    parts, gross, met_by = np.empty(underlyings * width), np.empty(underlyings), np.full(underlyings, -1)
    met = np.empty(underlyings, np.int64)
    joint, joined_by = np.empty(offsets * half), np.full(offsets, -1)
    assets = asset_unit.shape[0]
    units, slope, settles = np.empty(assets), np.empty(assets), np.empty(assets, np.bool_)
    last = rows.shape[0] - 1
    for n in range(rows.shape[0]):
        fetch_positions(offset, instrument, lots, rows[min(n + AHEAD, last)])
        row = np.uint64(rows[n])
        start, positions = np.uint64(offset[row]), np.uint64(count[row])
        having = order_count[row] if order_count.shape[0] else 0
        covered, groups = known_balances(cash, rows[n], asset_unit, asset_known, units), 0
        # Each pair's positions become a chain: its sums stay in registers while others' follow.
        q = np.uint64(0)
        while q < positions:
            found = pair_of[np.uint64(instrument[start + q])]
            if found < 0:
                covered = False
                break
            pair = np.uint64(found)
            if held_by[pair] != n:
                held_by[pair] = n
                held[groups] = pair
                groups += 1
                first_of[pair] = q
            else:
                next_of[last_of[pair]] = q
            last_of[pair] = q
            q += np.uint64(1)
        if isolated[row] and positions > 0:
            # Before open orders: what they may settle in is not held.
            narrow_balances(held, groups, pair_asset, units)
        for o in range(order_offset[row] if having else 0, order_offset[row] + having if having else 0):
            found = pair_of[order_instrument[o]]
            covered &= found >= 0
            pair = np.uint64(max(found, 0))
            if held_by[pair] != n:
                held_by[pair] = n
                held[groups] = pair
                groups += 1
                first_of[pair] = _NONE
        for k in range(groups):
            covered &= asset_known[pair_asset[held[k]]]
        if not covered:
            out[n] = -np.inf
            continue
        for side in range(2):
            of = below_of[n] if side == 0 else above_of[n]
            if of == NO_BOUNDARY:
                out[n, side] = np.inf
                continue
            multiple = below[n] if side == 0 else above[n]
            factor = multiple * (initial_factor if of == INITIAL else maintenance_factor)
            mine = sums[side]
            upward = side == 1
            for k in range(groups):
                pair = np.uint64(held[k])
                chain, ends = first_of[pair], last_of[pair]
                block = np.uint64(0)
                while block < np.uint64(width):
                    # Two blocks at a time: a row is a multiple of them.
                    first, second = no_sums(), no_sums()
                    q = chain
                    while q != _NONE:
                        size = lots[start + q]
                        other = np.uint64((size < 0) != upward)
                        line = (np.uint64(2) * np.uint64(instrument[start + q]) + other) * np.uint64(width) + block
                        first = add_row(float(size), flat, line, first)
                        second = add_row(float(size), flat, line + lanes, second)
                        if q == ends:
                            break
                        q = next_of[q]
                    at = pair * np.uint64(width) + block
                    put(first, mine, at)
                    put(second, mine, at + lanes)
                    block += np.uint64(2) * lanes
            if having and of == INITIAL:
                _add_open_orders(
                    flat, half, weight, pair_of, offset[row], count[row], instrument, lots, order_offset[row], having,
                    order_instrument, buys, sells, side, mine,
                )  # fmt: skip
            # Equity's line in each asset, and what is of no underlying.
            rest, doubt, size_of_all, one = 0.0, 0.0, 0.0, np.int64(-1)
            several = False
            settles[:] = False
            for k in range(groups):
                pair = held[k]
                a = pair_asset[pair]
                settles[a] = True
                if one >= 0 and one != a:
                    several = True
                one = a
            others = other_balances(units, settles, price, haircut, upward)
            for j in range(assets):
                size_of_all += abs(units[j]) * price[HIGH, j]
            for j in range(assets):
                if not settles[j]:
                    continue
                net_low = net_high = 0.0
                middle, doubted = 1.0, 0.0
                tied = False
                for k in range(groups):
                    pair = held[k]
                    if pair_asset[pair] != j:
                        continue
                    tied = pair_tied[pair]
                    middle = 0.5 * (unit_low[pair] + unit_high[pair])
                    doubted = 0.5 * (unit_high[pair] - unit_low[pair])
                    least, most = np.inf, -np.inf
                    for end in range(2):
                        top = pair * width + (end + 1) * half
                        coins = units[j] * spot[end, pair_underlying[pair]] if tied else 0.0
                        mark, beyond = mine[top - _MARK], mine[top - _OTHER_MARK]
                        least = min(least, coins + (beyond if upward else mark))
                        most = max(most, coins + (mark if upward else beyond))
                        size_of_all += abs(mark) * middle
                    net_low += least
                    net_high += most
                    if several:
                        doubt += doubted * factor * _widest(mine, pair * width, half, weight, is_scenario)
                if not tied:
                    net_low += units[j]
                    net_high += units[j]
                intercept, slope[j] = equity_line(net_low, net_high, haircut[LOW, j], haircut[HIGH, j], upward)
                rest += middle * (intercept + (0.0 if tied else slope[j] * units[j]))
                doubt += doubted * max(abs(net_low), abs(net_high)) if several else 0.0
            # By underlying: in each scenario, at either end of the spot.
            meeting = 0
            needs = 0.0
            for k in range(groups):
                pair = held[k]
                u, a = pair_underlying[pair], pair_asset[pair]
                middle = 0.5 * (unit_low[pair] + unit_high[pair])
                coins = units[a] if pair_tied[pair] else 0.0
                is_first = met_by[u] != 2 * n + side
                if is_first:
                    met_by[u] = 2 * n + side
                    met[meeting] = u
                    meeting += 1
                    gross[u] = 0.0
                scaled, straight = middle * factor, middle * slope[a]
                for end in range(2):
                    begin = pair * width + end * half
                    top = begin + half
                    # What of lines at the mark counts with a factor below zero is taken from the other side.
                    mark, beyond = mine[top - _MARK], mine[top - _OTHER_MARK]
                    need = mine[top - (_OTHER_NEED if upward else _NEED)]
                    aside = straight * coins * spot[end, u] - factor * need
                    place = np.uint64(u * width + end * half)
                    block = np.uint64(0)
                    while block < np.uint64(half):
                        part = combined(
                            kept(mine, np.uint64(begin) + block), shares, block, scaled, straight, mark, beyond, aside
                        )
                        put(part if is_first else plus(part, parts, place + block), parts, place + block)
                        block += lanes
                    needs += factor * need
                base = pair * width
                gross[u] += -mine[base + half - _NOTIONAL] if upward else mine[base + width - _NOTIONAL]
            total = rest
            for k in range(meeting):
                u = met[k]
                size_of_all += 8.0 * gross[u]
                added = concentration(gross[u], inverse_depth[u], concentration_rate, concentration_cap)
                c = offset_group[u]
                share = offset_share[c] if c >= 0 else 0.0
                is_first = c >= 0 and joined_by[c] != 2 * n + side
                least = np.inf
                place, block = np.uint64(u * width), np.uint64(0)
                while block < np.uint64(half):
                    at_low, at_high = kept(parts, place + block), kept(parts, place + np.uint64(half) + block)
                    part = greater(at_low, at_high) if upward else lesser(at_low, at_high)
                    least = min(least, least_lane(part))
                    if share > 0.0:
                        start_of = np.uint64(c * half) + block
                        put(part if is_first else plus(part, joint, start_of), joint, start_of)
                    block += lanes
                total += (1.0 - share) * least - factor * added
                needs += factor * added
                if share > 0.0:
                    joined_by[c] = 2 * n + side
            for c in range(offsets):
                if joined_by[c] == 2 * n + side:
                    least = np.inf
                    block = np.uint64(0)
                    while block < np.uint64(half):
                        least = min(least, least_lane(kept(joint, np.uint64(c * half) + block)))
                        block += lanes
                    total += offset_share[c] * least
            if one >= 0 and not several:
                # All of it but what is in the numeraire already goes with one price.
                pair = held[0]
                relative = (unit_high[pair] - unit_low[pair]) / (unit_high[pair] + unit_low[pair])
                doubt = relative * (abs(total) + needs)
            total += -others if upward else others
            outward = doubt + ROUNDING * size_of_all + LEAST
            out[n, side] = -(total + outward) if upward else total - outward


@njit(error_model="numpy")
def _widest(mine: Float64Array, at: int, half: int, weight: Float64Array, is_scenario: Float64Array) -> float:
    """Return the greatest that a scenario may change what a pair is worth by."""
    widest = 0.0
    for end in range(2):
        top = at + (end + 1) * half
        spread = abs(mine[top - _MARK] - mine[top - _OTHER_MARK])
        for lane in range(half):
            if is_scenario[lane] > 0.0:
                change = abs(mine[at + end * half + lane] - weight[lane] * mine[top - _MARK])
                widest = max(widest, change + weight[lane] * spread)
    return widest


@njit(error_model="numpy")
def _add_open_orders(
    flat: Float64Array,
    half: int,
    weight: Float64Array,
    pair_of: Int32Array,
    start: int,
    positions: int,
    instrument: UInt32Array,
    lots: Int64Array,
    first_order: int,
    order_count: int,
    order_instrument: UInt32Array,
    buys: Int64Array,
    sells: Int64Array,
    side: int,
    mine: Float64Array,
) -> None:
    """Add the worst fills of an account's open orders to its sums of one side."""
    width = 2 * half
    p, end_of_positions = start, start + positions
    for o in range(first_order, first_order + order_count):
        i = order_instrument[o]
        while p < end_of_positions and instrument[p] < i:
            p += 1
        size = lots[p] if p < end_of_positions and instrument[p] == i else 0
        bought, sold = size + buys[o], size - sells[o]
        at = pair_of[i] * width
        first, second = 2 * np.int64(i) * width, (2 * np.int64(i) + 1) * width
        for lane in range(half - _TERMS):
            w = weight[lane]
            found = np.empty((2, 2))
            for end in range(2):
                place, top = end * half + lane, (end + 1) * half
                low, high = flat[first + place], flat[second + place]
                mark_low, mark_high = w * flat[first + top - _MARK], w * flat[second + top - _MARK]
                if side == 0:
                    found[0, end], found[1, end] = buys[o] * (low - mark_high), sells[o] * (mark_low - high)
                else:
                    found[0, end], found[1, end] = buys[o] * (high - mark_low), sells[o] * (mark_high - low)
            if side == 0:
                mine[at + lane] += min(0.0, found[0, 0], found[1, 0])
                mine[at + half + lane] += min(0.0, found[0, 1], found[1, 1])
            else:
                # The least of lines is not below any of them between the ends: one of them, at both.
                chosen = 0 if found[0].sum() <= found[1].sum() else 1
                if found[chosen].sum() < 0.0:
                    mine[at + lane] += found[chosen, 0]
                    mine[at + half + lane] += found[chosen, 1]
        more = float(max(abs(bought), abs(sold)) - abs(size))
        terms = np.empty((2, 2))
        for end in range(2):
            top = (end + 1) * half
            if side == 0:
                long_term, short_term = flat[first + top - _NEED], -flat[second + top - _NEED]
            else:
                long_term, short_term = flat[second + top - _OTHER_NEED], -flat[first + top - _OTHER_NEED]
            held = _size_term(size, long_term, short_term)
            terms[0, end] = _size_term(bought, long_term, short_term) - held
            terms[1, end] = _size_term(sold, long_term, short_term) - held
            notional = more * flat[first + top - _NOTIONAL]
            mine[at + top - _NOTIONAL] += notional if side == 0 else -notional
        chosen = 0 if terms[0].sum() >= terms[1].sum() else 1
        for end in range(2):
            top = at + (end + 1) * half
            if side == 0:
                mine[top - _NEED] += max(terms[0, end], terms[1, end])
            else:
                mine[top - _OTHER_NEED] += terms[chosen, end]


@njit(forceinline=True, error_model="numpy")
def _size_term(lots: int, long_term: float, short_term: float) -> float:
    return float(lots) * long_term if lots >= 0 else float(-lots) * short_term
