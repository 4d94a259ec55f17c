"""``tidegate-standard``: a rate for each position, by itself.

1. Futures and perpetuals: |lots| × notional × rate; rates by underlying where the parameters name it.
2. A short option needs a share of its underlying's value beyond its mark, which equity has already lost: initially
   ``max(option_initial - out_of_the_money / S, option_initial_min)``, to maintain ``option_maintenance``; for a put
   the latter is at least that share of its mark, and initial is at least maintenance.
3. A long option needs what its value does not lend: ``(1 - long_option_credit)`` × value.
4. Nothing offsets anything: a requirement is a sum over positions of lots × a number per lot and side, and over
   underlyings of what concentration asks; confidence and concentration are those of ``flows.margin.add_ons``.
5. Sums run in instrument order, then over underlyings in the order of the account's first instrument of each.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from flows.margin.add_ons import concentration, confidence_charge, inverse_depths, notional
from flows.margin.breakdown import Breakdown, Part, grouped
from flows.margin.fetching import AHEAD, fetch_positions
from flows.margin.model import NO_OPEN_ORDERS, Float64Array, Int64Array, OpenOrders, PositionColumns, UInt32Array
from flows.market.columns import InstrumentColumns, Int8Array, Int32Array
from flows.market.listings import Listings
from flows.pricing.kinds import OPTION, SPOT
from schemas.instruments import InstrumentKind
from schemas.parameters import StandardParameters

_LONG_INITIAL: Final = 0
_LONG_MAINTENANCE: Final = 1
_SHORT_INITIAL: Final = 2
_SHORT_MAINTENANCE: Final = 3


@dataclass(frozen=True, slots=True)
class StandardTables:
    """What an account's requirement reads.

    Attributes
    ----------
    per_lot : (K, 4), initial and maintenance of a long lot, then of a short lot; numeraire, >= 0.
    confidence_charge : (K,), what of all four is for confidence.
    notional : (K,), of a lot, numeraire; group : (K,), the underlying.
    inverse_depth : (U,), one over the depth of its market, per numeraire.
    """

    per_lot: Float64Array
    confidence_charge: Float64Array
    notional: Float64Array
    group: Int32Array
    inverse_depth: Float64Array
    concentration_rate: float
    concentration_cap: float


class StandardMargin:
    """The model; without state."""

    name = "tidegate-standard"

    def tables(self, columns: InstrumentColumns, parameters: StandardParameters) -> StandardTables:
        """Return the requirement per lot and side of every instrument."""
        per_lot = np.zeros((columns.count, 4))
        members = np.arange(columns.count)
        return _tables(columns, parameters, members, per_lot, np.zeros(columns.count), np.zeros(columns.count))

    def update(
        self, previous: StandardTables, columns: InstrumentColumns, parameters: StandardParameters, members: Int64Array
    ) -> StandardTables:
        """Return the tables with the rows of ``members`` anew."""
        per_lot, charge, size = (it.copy() for it in (previous.per_lot, previous.confidence_charge, previous.notional))
        return _tables(columns, parameters, members, per_lot, charge, size)

    def requirements(
        self, tables: StandardTables, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return ``(initial, maintenance)``, each (n,), numeraire."""
        initial = np.empty(rows.shape[0])
        maintenance = np.empty(rows.shape[0])
        _requirements(
            tables.per_lot, positions.offset, positions.count, positions.instrument, positions.lots, rows,
            initial, maintenance,
        )  # fmt: skip
        if tables.inverse_depth.any():
            add_on = _concentration(tables, positions, rows)
            initial += add_on
            maintenance += add_on
        return initial, maintenance

    def initial_with_open_orders(
        self, tables: StandardTables, positions: PositionColumns, open_orders: OpenOrders, rows: Int64Array
    ) -> Float64Array:
        """Return initial margin with the worst fills of open orders, (n,), numeraire.

        Nothing offsets anything, so an instrument's worst is at one of its ends: all buys filled, or all sells.
        """
        initial, unused = np.empty(rows.shape[0]), np.empty(rows.shape[0])
        _requirements(
            tables.per_lot, positions.offset, positions.count, positions.instrument, positions.lots, rows,
            initial, unused,
        )  # fmt: skip
        orders = open_orders.offset, open_orders.count, open_orders.instrument, open_orders.buys, open_orders.sells
        _add_open_orders(
            tables.per_lot,
            positions.offset,
            positions.count,
            positions.instrument,
            positions.lots,
            *orders,
            rows,
            initial,
        )
        if tables.inverse_depth.any():
            initial += _concentration(tables, positions, rows, open_orders)
        return initial

    def breakdown(
        self, tables: StandardTables, parameters: StandardParameters, listings: Listings,  # noqa: ARG002 - in tables
        positions: PositionColumns, row: int,
    ) -> Breakdown:  # fmt: skip
        """Return requirements by underlying and kind, and what is added by underlying."""
        kinds = {InstrumentKind.OPTION: "options", InstrumentKind.SPOT: "spot"}
        by_kind = grouped(
            positions, row,
            lambda i: (kinds.get(listings.instruments[i].kind, "linear"), listings.instruments[i].underlying),
        )  # fmt: skip
        parts = []
        for (name, underlying), held in by_kind.items():
            sums = [
                sum(
                    abs(lots)
                    * float(
                        tables.per_lot[i, side + (_SHORT_INITIAL if lots < 0 else _LONG_INITIAL)]
                        - tables.confidence_charge[i]
                    )
                    for i, lots in held
                )
                for side in range(2)
            ]
            parts.append(Part(name, underlying, *sums))
        for underlying, held in grouped(positions, row, lambda i: listings.instruments[i].underlying).items():
            charge = sum(abs(lots) * float(tables.confidence_charge[i]) for i, lots in held)
            gross = sum(abs(lots) * float(tables.notional[i]) for i, lots in held)
            depth = float(tables.inverse_depth[tables.group[held[0][0]]])
            large = concentration(gross, depth, tables.concentration_rate, tables.concentration_cap)
            named = (("confidence", charge), ("concentration", large))
            parts += [Part(name, underlying, amount, amount) for name, amount in named if amount]
        return Breakdown(parts)


MODEL = StandardMargin()


def _tables(
    columns: InstrumentColumns,
    parameters: StandardParameters,
    members: Int64Array,
    per_lot: Float64Array,
    charge: Float64Array,
    size: Float64Array,
) -> StandardTables:
    """Return tables of these columns, after the rows of ``members`` are written into them."""
    _fill(columns, parameters, members, per_lot)
    charge[members] = confidence_charge(columns, parameters)[members]
    size[members] = notional(columns)[members]
    per_lot[members] += charge[members, None]
    return StandardTables(
        per_lot=per_lot,
        confidence_charge=charge,
        notional=size,
        group=columns.underlying,
        inverse_depth=inverse_depths(columns, parameters),
        concentration_rate=parameters.concentration_rate,
        concentration_cap=parameters.concentration_cap,
    )


def _fill(
    columns: InstrumentColumns, parameters: StandardParameters, members: Int64Array, per_lot: Float64Array
) -> None:
    fallback = (parameters.linear_initial, parameters.linear_maintenance)
    rates = np.array([parameters.linear_rates.get(name, fallback) for name in columns.underlyings]).reshape(-1, 2)
    _per_lot(
        members, columns.kind, columns.call, columns.underlying, columns.strike, columns.value,
        columns.settlement_price, columns.notional, columns.index_price, rates, parameters.option_initial,
        parameters.option_initial_min, parameters.option_maintenance, parameters.long_option_credit, per_lot,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _per_lot(
    members: Int64Array,
    kind: Int8Array,
    call: Int8Array,
    underlying: Int32Array,
    strike: Float64Array,
    value: Float64Array,
    settlement_price: Float64Array,
    notional: Float64Array,
    index_price: Float64Array,
    linear_rates: Float64Array,
    option_initial: float,
    option_initial_min: float,
    option_maintenance: float,
    long_option_credit: float,
    out: Float64Array,
) -> None:
    for place in range(members.shape[0]):
        i = members[place]
        if kind[i] == SPOT or notional[i] <= 0.0:  # nothing is known of it, or it has settled
            for side in range(4):
                out[i, side] = 0.0
        elif kind[i] == OPTION:
            index = index_price[i]
            worth = value[i] * settlement_price[i]
            is_call = call[i] != 0
            outside = max(strike[i] - index, 0.0) if is_call else max(index - strike[i], 0.0)
            initial = max(option_initial - outside / index, option_initial_min) * notional[i]
            maintenance = option_maintenance * notional[i]
            if not is_call:
                maintenance = max(maintenance, option_maintenance * worth)
                initial = max(initial, maintenance)
            out[i, _LONG_INITIAL] = (1.0 - long_option_credit) * worth
            out[i, _LONG_MAINTENANCE] = (1.0 - long_option_credit) * worth
            out[i, _SHORT_INITIAL] = initial
            out[i, _SHORT_MAINTENANCE] = maintenance
        else:
            initial = notional[i] * linear_rates[underlying[i], 0]
            maintenance = notional[i] * linear_rates[underlying[i], 1]
            out[i, _LONG_INITIAL] = initial
            out[i, _LONG_MAINTENANCE] = maintenance
            out[i, _SHORT_INITIAL] = initial
            out[i, _SHORT_MAINTENANCE] = maintenance


@njit(cache=True, error_model="numpy", nogil=True)
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
    last = rows.shape[0] - 1
    for n in range(rows.shape[0]):
        fetch_positions(offset, instrument, lots, rows[min(n + AHEAD, last)])
        row = np.uint64(rows[n])
        total_initial = 0.0
        total_maintenance = 0.0
        p = np.uint64(offset[row])
        end = p + np.uint64(count[row])
        while p < end:
            i = np.uint64(instrument[p])
            size = float(abs(lots[p]))
            side = np.uint64(_SHORT_INITIAL if lots[p] < 0 else _LONG_INITIAL)
            total_initial += size * per_lot[i, side]
            total_maintenance += size * per_lot[i, side + np.uint64(1)]
            p += np.uint64(1)
        initial[n] = total_initial
        maintenance[n] = total_maintenance


@njit(cache=True, error_model="numpy", nogil=True)
def _add_open_orders(
    per_lot: Float64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    order_offset: Int64Array,
    order_count: Int64Array,
    order_instrument: UInt32Array,
    buys: Int64Array,
    sells: Int64Array,
    rows: Int64Array,
    initial: Float64Array,
) -> None:
    """Add to each instrument with open orders what its worst fill needs beyond what is held."""
    for n in range(rows.shape[0]):
        row = rows[n]
        p, end = offset[row], offset[row] + count[row]
        for o in range(order_offset[row], order_offset[row] + order_count[row]):
            i = order_instrument[o]
            while p < end and instrument[p] < i:
                p += 1
            size = lots[p] if p < end and instrument[p] == i else 0
            worst = max(_initial(per_lot, i, size + buys[o]), _initial(per_lot, i, size - sells[o]))
            initial[n] += worst - _initial(per_lot, i, size)


@njit(forceinline=True, error_model="numpy")
def _initial(per_lot: Float64Array, instrument: int, lots: int) -> float:
    of_a_lot: float = per_lot[instrument, _SHORT_INITIAL if lots < 0 else _LONG_INITIAL]
    return float(abs(lots)) * of_a_lot


def _concentration(
    tables: StandardTables, positions: PositionColumns, rows: Int64Array, open_orders: OpenOrders | None = None
) -> Float64Array:
    """Return (n,) what the size of accounts on each underlying needs, open orders filled on their larger side."""
    orders = NO_OPEN_ORDERS if open_orders is None else open_orders
    out = np.empty(rows.shape[0])
    _add_ons(
        tables.notional, tables.group, tables.inverse_depth, tables.concentration_rate, tables.concentration_cap,
        positions.offset, positions.count, positions.instrument, positions.lots,
        orders.offset, orders.count, orders.instrument, orders.buys, orders.sells, rows, out,
    )  # fmt: skip
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def _add_ons(
    notional: Float64Array,
    group: Int32Array,
    inverse_depth: Float64Array,
    concentration_rate: float,
    concentration_cap: float,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    order_offset: Int64Array,
    order_count: Int64Array,
    order_instrument: UInt32Array,
    buys: Int64Array,
    sells: Int64Array,
    rows: Int64Array,
    out: Float64Array,
) -> None:
    underlyings = inverse_depth.shape[0]
    gross, held, held_by = np.empty(underlyings), np.empty(underlyings, np.int64), np.full(underlyings, -1)
    for n in range(rows.shape[0]):
        row = rows[n]
        groups = 0
        first, end = offset[row], offset[row] + count[row]
        # Positions first, then what open orders may add to them.
        o, o_end = (order_offset[row], order_offset[row] + order_count[row]) if order_count.shape[0] else (0, 0)
        for place in range(first, end + o_end - o):
            if place < end:
                i, more = instrument[place], abs(lots[place])
            else:
                at = o + place - end
                i = order_instrument[at]
                while first < end and instrument[first] < i:
                    first += 1
                size = lots[first] if first < end and instrument[first] == i else 0
                more = max(abs(size + buys[at]), abs(size - sells[at])) - abs(size)
            g = group[i]
            if held_by[g] != n:
                held_by[g] = n
                held[groups] = g
                groups += 1
                gross[g] = 0.0
            gross[g] += float(more) * notional[i]
        out[n] = 0.0
        for k in range(groups):
            g = held[k]
            out[n] += concentration(gross[g], inverse_depth[g], concentration_rate, concentration_cap)
