"""``tidegate-portfolio`` over whole books: what the accounts of any rows need, from the tables of an instant.

1. An account on one underlying is summed in registers, and that is all: a position costs one load of a table row.
2. Any other account is summed underlying by underlying, each in registers, and the sums wait in memory for each other.
   Both give the same bits where both apply: the same operations in the same order.
3. Open orders come after positions. In each scenario an instrument adds the worst of no fill, all buys and all sells,
   which is the worst of all fills; size is the larger of what either side would leave, by the term and by the notional.
4. Nothing depends on which rows are asked for together, and nothing is allocated for an account.
"""

import numpy as np
from numba import njit

from flows.margin.add_ons import concentration
from flows.margin.fetching import AHEAD, fetch_positions
from flows.margin.model import Float64Array, Int64Array, UInt32Array
from flows.margin.scenario_sums import (
    LANES,
    LONG,
    NOTIONAL,
    SHORT,
    add_fills,
    add_position,
    kept,
    no_sums,
    plus,
    put,
    term,
    worst,
)
from flows.market.columns import Int32Array


@njit(cache=True, error_model="numpy", nogil=True)
def of_one_underlying(
    table: Float64Array,
    group: Int32Array,
    inverse_depth: Float64Array,
    concentration_rate: float,
    concentration_cap: float,
    initial_factor: float,
    maintenance_factor: float,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    rows: Int64Array,
    initial: Float64Array,
    maintenance: Float64Array,
    others: Int64Array,
) -> int:
    """Write what accounts on one underlying need; put the places of others aside, and return how many they are.

    A row has one block. A position costs one load of a row, and nothing leaves the registers.
    """
    flat = table.reshape(-1)
    aside = 0
    last = rows.shape[0] - 1
    for n in range(rows.shape[0]):
        fetch_positions(offset, instrument, lots, rows[min(n + AHEAD, last)])
        row = np.uint64(rows[n])
        p = np.uint64(offset[row])
        end = p + np.uint64(count[row])
        total = 0.0
        if p < end:
            g = group[np.uint64(instrument[p])]
            sums = no_sums()
            while p < end:
                i = np.uint64(instrument[p])
                if group[i] != g:
                    break
                sums = add_position(float(lots[p]), flat, i * np.uint64(LANES), sums)
                p += np.uint64(1)
            if p < end:
                others[aside] = n
                aside += 1
            total = term(sums, LONG) + term(sums, SHORT)
            total += concentration(
                term(sums, NOTIONAL), inverse_depth[np.uint64(g)], concentration_rate, concentration_cap
            )
            total -= worst(sums)
        initial[n] = total * initial_factor
        maintenance[n] = total * maintenance_factor
    return aside


@njit(cache=True, error_model="numpy", nogil=True)
def of_several_underlyings(
    table: Float64Array,
    group: Int32Array,
    offset_group: Int64Array,
    offset_share: Float64Array,
    inverse_depth: Float64Array,
    concentration_rate: float,
    concentration_cap: float,
    initial_factor: float,
    maintenance_factor: float,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    rows: Int64Array,
    places: Int64Array,
    order_offset: Int64Array,
    order_count: Int64Array,
    order_instrument: UInt32Array,
    buys: Int64Array,
    sells: Int64Array,
    initial: Float64Array,
    maintenance: Float64Array,
) -> None:
    """Write what the accounts of ``rows[places]`` need, whatever they are made of.

    ``order_count`` is empty where open orders do not count.
    """
    flat, width, lanes = table.reshape(-1), np.uint64(table.shape[1]), np.uint64(LANES)
    underlyings, offsets = offset_group.shape[0], offset_share.shape[0]
    waiting, held, held_by = np.empty(underlyings * width), np.empty(underlyings, np.int64), np.full(underlyings, -1)
    joint, apart, joined_by = np.empty(offsets * width), np.empty(offsets), np.full(offsets, -1)
    first_of, last_of = np.empty(underlyings, np.uint64), np.empty(underlyings, np.uint64)
    next_of = np.empty(count[rows[places]].max() if places.shape[0] else 0, np.uint64)
    last = places.shape[0] - 1
    for place in range(places.shape[0]):
        fetch_positions(offset, instrument, lots, rows[np.uint64(places[min(place + AHEAD, last)])])
        n = places[place]
        row = np.uint64(rows[n])
        p = np.uint64(offset[row])
        end = p + np.uint64(count[row])
        groups = 0
        # Each underlying's positions become a chain, so that its sums need not wait while others follow.
        q = np.uint64(0)
        while p + q < end:
            g = group[np.uint64(instrument[p + q])]
            at = np.uint64(g)
            if held_by[at] != n:
                held_by[at] = n
                held[groups] = g
                groups += 1
                first_of[at] = q
            else:
                next_of[last_of[at]] = q
            last_of[at] = q
            q += np.uint64(1)
        for k in range(groups):
            at = np.uint64(held[k])
            ends = last_of[at]
            block = np.uint64(0)
            while block < width:
                sums = no_sums()
                q = first_of[at]
                while True:
                    i = np.uint64(instrument[p + q])
                    sums = add_position(float(lots[p + q]), flat, i * width + block, sums)
                    if q == ends:
                        break
                    q = next_of[q]
                put(sums, waiting, at * width + block)
                block += lanes
        p = np.uint64(offset[row])
        o = np.uint64(order_offset[row]) if order_count.shape[0] else np.uint64(0)
        o_end = o + np.uint64(order_count[row]) if order_count.shape[0] else o
        while o < o_end:
            i = np.uint64(order_instrument[o])
            while p < end and instrument[p] < i:
                p += np.uint64(1)
            size = lots[p] if p < end and instrument[p] == i else 0
            at = np.uint64(group[i])
            fresh = held_by[at] != n
            if fresh:
                held_by[at] = n
                held[groups] = np.int64(at)
                groups += 1
            block = np.uint64(0)
            while block < width:
                start = at * width + block
                sums = no_sums() if fresh else kept(waiting, start)
                put(add_fills(float(buys[o]), float(sells[o]), flat, i * width + block, sums), waiting, start)
                block += lanes
            start, place_of = at * width, i * width
            long_term, short_term = flat[place_of + np.uint64(LONG)], flat[place_of + np.uint64(SHORT)]
            bought, sold = size + buys[o], size - sells[o]
            size_term = max(_size_term(bought, long_term, short_term), _size_term(sold, long_term, short_term))
            waiting[start + np.uint64(LONG)] += size_term - _size_term(size, long_term, short_term)
            more = float(max(abs(bought), abs(sold)) - abs(size))
            waiting[start + np.uint64(NOTIONAL)] += more * flat[place_of + np.uint64(NOTIONAL)]
            o += np.uint64(1)
        total = 0.0
        for k in range(groups):
            at = np.uint64(held[k])
            c = offset_group[at]
            least = 0.0
            block = np.uint64(0)
            while block < width:
                sums = kept(waiting, at * width + block)
                least = min(least, worst(sums))
                if c >= 0:
                    start = np.uint64(c) * width + block
                    put(sums if joined_by[c] != n else plus(sums, joint, start), joint, start)
                block += lanes
            start = at * width
            total += waiting[start + np.uint64(LONG)] + waiting[start + np.uint64(SHORT)]
            total += concentration(
                waiting[start + np.uint64(NOTIONAL)], inverse_depth[at], concentration_rate, concentration_cap
            )
            if c < 0:
                total -= least
            else:
                apart[c] = -least if joined_by[c] != n else apart[c] - least
                joined_by[c] = n
        for c in range(offsets):
            if joined_by[c] == n:
                together = 0.0
                block = np.uint64(0)
                while block < width:
                    together = max(together, -worst(kept(joint, np.uint64(c) * width + block)))
                    block += lanes
                total += apart[c] - offset_share[c] * (apart[c] - together)
        initial[n] = total * initial_factor
        maintenance[n] = total * maintenance_factor


@njit(forceinline=True, error_model="numpy")
def _size_term(lots: int, long_term: float, short_term: float) -> float:
    """Return what a position needs for its size alone."""
    return float(lots) * long_term if lots >= 0 else float(-lots) * short_term
