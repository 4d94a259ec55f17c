"""``derive-pmrm2`` over whole books: every instrument under every scenario once an instant, then sums by account.

1. The rules are those of ``flows.margin.derive_pmrm2``, for each *group* of an account: what settles in one asset on
   one underlying. Requirements of groups are added, in the numeraire; groups never offset each other.
2. Requirements are against equity with every position at the market's mark: where that differs from the model's (at
   negative rates, which the model counts as 0) the difference is part of the requirement.
3. The market has one confidence, that a price is usable, and one forward, all of it moved by spot; collateral is cash,
   with the engine's own haircuts. So there is no oracle contingency, no settlement average and no asset that follows
   spot. A stable asset's price is that of the settlement asset.
4. Linear options and perpetuals are covered. An account with anything else has no finite requirement, and so is not
   decided; spot pairs are balances, and what has settled is nothing.
5. Initial margin is at least maintenance margin, also where parameters say otherwise.
6. Sums run in instrument order within an account; groups, expiries and strikes in the order of its first instrument.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.margin.breakdown import (
    LOSS,
    Breakdown,
    Part,
    ScenarioGroup,
    ScenarioProfit,
    floors,
    group_name,
    grouped,
    scenario_name,
    worst_of,
)
from flows.margin.derive import YEAR_SECONDS, Options, exponentials, option_prices
from flows.margin.derive_pmrm2 import moved_vols, static_discounts
from flows.margin.model import Float64Array, Int64Array, PositionColumns, UInt32Array
from flows.market.columns import InstrumentColumns, Int8Array, Int32Array
from flows.market.listings import Listings
from flows.pricing.grid import aligned_rows
from flows.pricing.kinds import OPTION, PERPETUAL, SPOT
from schemas.derive_parameters import DerivePmrm2Parameters

# Columns of ``values``; the scenarios follow.
_MARK: Final = 0
_BASIS_UP: Final = 1
_BASIS_DOWN: Final = 2
_SCENARIOS: Final = 3
_LANES: Final = 8

# How an instrument counts.
_NOTHING: Final = 0
_IS_OPTION: Final = 1
_IS_LINEAR: Final = 2
_NOT_COVERED: Final = 3


@dataclass(frozen=True, slots=True)
class DerivePmrm2Tables:
    """What an account's requirement reads; money in the numeraire.

    Attributes
    ----------
    values : (K, 3 + S, padded), of a long lot: options are worth this at mark, with forwards up and down, and in each
        scenario; perpetuals gain this.
    sort : (K,), how the instrument counts.
    surplus : (K,), by how much the market's mark of a long lot exceeds the model's.
    notional : (K,), numeraire per lot. call : (K,).
    group, expiry, pair : (K,), dense: of one underlying and settlement asset; of one expiry; of one strike of it.
    static_long, static_short, basis_scale : (X,), by expiry.
    weight : (S,); skew : (S,), 1 where a scenario is a skew.
    initial_factor : (G,), of the worst loss, depeg included.
    contingency : (4,): perpetual and option, maintenance; the same, initial, beyond them.
    """

    values: Float64Array
    sort: Int8Array
    surplus: Float64Array
    notional: Float64Array
    call: Int8Array
    group: Int32Array
    expiry: Int32Array
    pair: Int32Array
    static_long: Float64Array
    static_short: Float64Array
    basis_scale: Float64Array
    weight: Float64Array
    skew: Int8Array
    initial_factor: Float64Array
    maintenance_factor: float
    contingency: Float64Array


class DerivePmrm2Model:
    """The model; without state."""

    name = "derive-pmrm2"

    def tables(self, columns: InstrumentColumns, parameters: DerivePmrm2Parameters) -> DerivePmrm2Tables:
        """Return every instrument's values, and the numbers of every group and expiry."""
        width = -(-(_SCENARIOS + len(parameters.scenarios)) // _LANES) * _LANES
        values = aligned_rows(columns.count, width)
        surplus = np.zeros(columns.count)
        return _tables(columns, parameters, np.arange(columns.count), values, surplus)

    def update(
        self,
        previous: DerivePmrm2Tables,
        columns: InstrumentColumns,
        parameters: DerivePmrm2Parameters,
        members: Int64Array,
    ) -> DerivePmrm2Tables:
        """Return the tables with the rows of ``members`` anew."""
        values = aligned_rows(*previous.values.shape)
        values[:] = previous.values
        return _tables(columns, parameters, members, values, previous.surplus.copy())

    def requirements(
        self, tables: DerivePmrm2Tables, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return ``(initial, maintenance)``, each (n,), numeraire; infinite where a position is not covered."""
        initial = np.empty(rows.shape[0])
        maintenance = np.empty(rows.shape[0])
        pair_count = int(tables.pair.max(initial=-1)) + 1
        _requirements(
            tables.values, tables.sort, tables.surplus, tables.notional, tables.call, tables.group, tables.expiry,
            tables.pair, pair_count, tables.static_long, tables.static_short, tables.basis_scale, tables.weight,
            tables.skew, tables.initial_factor, tables.maintenance_factor, tables.contingency, positions.offset,
            positions.count, positions.instrument, positions.lots, rows, initial, maintenance,
        )  # fmt: skip
        return initial, maintenance

    def breakdown(
        self, tables: DerivePmrm2Tables, parameters: DerivePmrm2Parameters, listings: Listings,
        positions: PositionColumns, row: int,
    ) -> Breakdown:  # fmt: skip
        """Return the loss of every group, and what is set aside."""
        parts, groups = [], []
        perpetual, option, perpetual_more, option_more = (float(it) for it in tables.contingency)
        for g, held in grouped(positions, row, lambda i: int(tables.group[i])).items():
            counted = [(i, lots) for i, lots in held if tables.sort[i] in (_IS_OPTION, _IS_LINEAR)]
            if not counted:
                continue
            of = group_name(listings, counted[0][0])
            scenarios = _scenarios(tables, parameters, counted)
            counts, loss = worst_of(scenarios)
            linear = sum(abs(lots) * float(tables.notional[i]) for i, lots in counted if tables.sort[i] == _IS_LINEAR)
            short = _short_notional(tables, counted)
            surplus = sum(lots * float(tables.surplus[i]) for i, lots in counted)
            parts += [
                Part(LOSS, of, loss * float(tables.initial_factor[g]), loss * tables.maintenance_factor),
                Part("perpetual contingency", of, linear * (perpetual + perpetual_more), linear * perpetual),
                Part("option contingency", of, short * (option + option_more), short * option),
                Part("marks beyond the model's", of, surplus, surplus),
            ]
            groups.append(ScenarioGroup(of, scenarios, counts, tables.maintenance_factor))
        return Breakdown(parts + floors(parts), groups)


MODEL = DerivePmrm2Model()


def dense(*keys: npt.NDArray[np.floating[Any]] | npt.NDArray[np.integer[Any]]) -> tuple[Int64Array, Int32Array]:
    """Return the first row of each distinct key, and (K,) which of them each row has."""
    order = np.lexsort(keys[::-1])
    new = np.zeros(order.shape[0], np.bool_)
    for key in keys:
        new[1:] |= key[order][1:] != key[order][:-1]
    which = np.empty(order.shape[0], np.int32)
    which[order] = np.cumsum(new)
    # The sort is stable, so the first of equal rows is the first of them in instrument order.
    starts = np.flatnonzero(np.concatenate(([True], new[1:]))) if order.shape[0] else np.zeros(0, np.int64)
    return order[starts].astype(np.int64), which


def sorts(columns: InstrumentColumns) -> Int8Array:
    """Return how each instrument counts, (K,): not at all, as an option, as linear, or not covered."""
    linear = columns.inverse == 0
    nothing = (columns.kind == SPOT) | (columns.settled != 0)
    option = linear & (columns.kind == OPTION)
    perpetual = linear & (columns.kind == PERPETUAL)
    covered = np.where(option, _IS_OPTION, np.where(perpetual, _IS_LINEAR, _NOT_COVERED))
    return np.where(nothing, _NOTHING, covered).astype(np.int8)


def _tables(
    columns: InstrumentColumns,
    parameters: DerivePmrm2Parameters,
    members: Int64Array,
    values: Float64Array,
    surplus: Float64Array,
) -> DerivePmrm2Tables:
    """Return the tables, with the rows of ``members`` written into ``values`` and ``surplus``."""
    sort = sorts(columns)
    group_first, group = dense(columns.underlying, columns.settlement_asset)
    expiry_first, expiry = dense(group, columns.expiry_ns)
    _, pair = dense(expiry, columns.strike)
    _fill(columns, parameters, members, sort, values, surplus)
    time = columns.time_to_expiry[expiry_first]
    rate = np.maximum(columns.rate[expiry_first], 0.0)
    static_long, static_short = static_discounts(time, rate, exponentials(-rate * time), parameters)
    gap = np.maximum(parameters.peg_threshold - columns.settlement_price[group_first], 0.0)
    return DerivePmrm2Tables(
        values=values,
        sort=sort,
        surplus=surplus,
        notional=columns.notional * columns.settlement_price,
        call=columns.call.copy(),
        group=group,
        expiry=expiry,
        pair=pair,
        static_long=static_long,
        static_short=static_short,
        basis_scale=parameters.basis_add + parameters.basis_per_year * time,
        weight=np.array([scenario.weight for scenario in parameters.scenarios]),
        skew=np.array([scenario.vol_move in {"linear", "abs"} for scenario in parameters.scenarios], np.int8),
        initial_factor=parameters.initial_factor + gap * parameters.peg_factor,
        maintenance_factor=parameters.maintenance_factor,
        contingency=np.array(
            [
                parameters.perpetual_maintenance,
                parameters.option_maintenance,
                parameters.perpetual_initial,
                parameters.option_initial,
            ]
        ),
    )


def _scenarios(
    tables: DerivePmrm2Tables, parameters: DerivePmrm2Parameters, held: list[tuple[int, float]]
) -> list[ScenarioProfit]:
    """Return a group's scenarios, weighted, and the basis contingency as the last of them."""
    places = [_MARK, _BASIS_UP, _BASIS_DOWN, *range(_SCENARIOS, _SCENARIOS + len(parameters.scenarios))]
    expiries: dict[int, list[tuple[int, float]]] = {}
    for i, lots in held:
        if tables.sort[i] == _IS_OPTION:
            expiries.setdefault(int(tables.expiry[i]), []).append((i, lots))
    worths = {x: [sum(lots * float(tables.values[i, c]) for i, lots in them) for c in places]
              for x, them in expiries.items()}  # fmt: skip
    found = []
    for s, scenario in enumerate(parameters.scenarios):
        c, weight = _SCENARIOS + s, float(tables.weight[s])
        positions = {i: weight * lots * float(tables.values[i, c]) for i, lots in held}
        for x, them in expiries.items():
            discount = float(tables.static_long[x] if worths[x][c] >= 0.0 else tables.static_short[x])
            change = worths[x][c] * discount - worths[x][_MARK]
            # A skew loses whichever way it moves an expiry.
            sign = -1.0 if tables.skew[s] != 0 and change > 0.0 else 1.0
            for i, lots in them:
                gain = float(tables.values[i, c]) * discount - float(tables.values[i, _MARK])
                positions[i] = sign * weight * lots * gain
        found.append(ScenarioProfit(scenario_name(scenario.spot_multiple, scenario.vol_move, weight), positions))
    basis = {i: 0.0 for i, _ in held}
    for x, them in expiries.items():
        worse = _BASIS_UP if worths[x][_BASIS_UP] <= worths[x][_BASIS_DOWN] else _BASIS_DOWN
        if worths[x][worse] < worths[x][_MARK]:
            for i, lots in them:
                loss = float(tables.values[i, worse]) - float(tables.values[i, _MARK])
                basis[i] = lots * loss * float(tables.basis_scale[x])
    return [*found, ScenarioProfit("forwards part from spot", basis)]


def _short_notional(tables: DerivePmrm2Tables, held: list[tuple[int, float]]) -> float:
    """Return what short options are on, calls and puts of one strike netted where they offset each other."""
    pairs: dict[int, list[float]] = {}
    for i, lots in held:
        if tables.sort[i] == _IS_OPTION:
            pairs.setdefault(int(tables.pair[i]), [0.0, 0.0])[int(tables.call[i])] += lots * float(tables.notional[i])
    return sum(
        max(-(puts + calls), 0.0) if puts * calls < 0.0 else max(-puts, 0.0) + max(-calls, 0.0)
        for puts, calls in pairs.values()
    )


def _fill(
    columns: InstrumentColumns,
    parameters: DerivePmrm2Parameters,
    members: Int64Array,
    sort: Int8Array,
    values: Float64Array,
    surplus: Float64Array,
) -> None:
    """Write the rows of members; of what is not known yet, zeros."""
    values[members] = 0.0
    surplus[members] = 0.0
    scenarios = parameters.scenarios
    linear = members[sort[members] == _IS_LINEAR]
    scale = columns.quantity[linear] * columns.mark_price[linear] * columns.settlement_price[linear]
    for place, scenario in enumerate(scenarios):
        if scenario.vol_move not in {"linear", "abs"}:
            values[linear, _SCENARIOS + place] = scale * (scenario.spot_multiple - 1.0)

    options = members[(sort[members] == _IS_OPTION) & (columns.forward[members] > 0.0)]
    count = options.shape[0]
    forward, strike = columns.forward[options], columns.strike[options]
    time = columns.time_to_expiry[options]
    discount = exponentials(-np.maximum(columns.rate[options], 0.0) * time)
    is_call = columns.call[options] != 0
    scale = columns.quantity[options] * columns.settlement_price[options]
    held = Options(np.arange(count), strike, is_call, np.ones(count), columns.implied_vol[options])
    vols = moved_vols(held, time * YEAR_SECONDS, forward, parameters).vols
    moves = [(1.0, "none"), (parameters.basis_up, "none"), (parameters.basis_down, "none")]
    moves += [(scenario.spot_multiple, scenario.vol_move) for scenario in scenarios]
    for place, (multiple, move) in enumerate(moves):
        values[options, place] = scale * option_prices(
            forward=forward * multiple,
            strike=strike,
            time_to_expiry=time,
            implied_vol=vols[move],
            discount=discount,
            is_call=is_call,
        )
    surplus[options] = columns.value[options] * columns.settlement_price[options] - values[options, _MARK]


@njit(cache=True, error_model="numpy")
def _requirements(
    values: Float64Array,
    sort: Int8Array,
    surplus: Float64Array,
    notional: Float64Array,
    call: Int8Array,
    group: Int32Array,
    expiry: Int32Array,
    pair: Int32Array,
    pair_count: int,
    static_long: Float64Array,
    static_short: Float64Array,
    basis_scale: Float64Array,
    weight: Float64Array,
    skew: Int8Array,
    initial_factor: Float64Array,
    maintenance_factor: float,
    contingency: Float64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    rows: Int64Array,
    initial: Float64Array,
    maintenance: Float64Array,
) -> None:
    scenarios = weight.shape[0]
    width = _SCENARIOS + scenarios
    group_count, expiry_count = initial_factor.shape[0], static_long.shape[0]
    profit = np.empty((group_count, scenarios))
    basis = np.empty(group_count)
    group_of_account = np.full(group_count, -1, np.int64)
    groups_held = np.empty(group_count, np.int64)
    sums = np.empty((expiry_count, width))
    group_of_expiry = np.empty(expiry_count, np.int64)
    expiry_of_account = np.full(expiry_count, -1, np.int64)
    expiries_held = np.empty(expiry_count, np.int64)
    call_notional = np.empty(pair_count)
    put_notional = np.empty(pair_count)
    pair_of_account = np.full(pair_count, -1, np.int64)
    pairs_held = np.empty(pair_count, np.int64)
    for n in range(rows.shape[0]):
        row = rows[n]
        groups = 0
        expiries = 0
        pairs = 0
        linear_notional = 0.0
        extra = 0.0
        covered = True
        for p in range(offset[row], offset[row] + count[row]):
            i = instrument[p]
            if sort[i] == _NOTHING:
                continue
            if sort[i] == _NOT_COVERED:
                covered = False
                continue
            size = float(lots[p])
            g = group[i]
            if group_of_account[g] != n:
                group_of_account[g] = n
                groups_held[groups] = g
                groups += 1
                basis[g] = 0.0
                for s in range(scenarios):
                    profit[g, s] = 0.0
            if sort[i] == _IS_LINEAR:
                linear_notional += abs(size) * notional[i]
                for s in range(scenarios):
                    profit[g, s] += weight[s] * size * values[i, _SCENARIOS + s]
                continue
            extra += size * surplus[i]
            x = expiry[i]
            if expiry_of_account[x] != n:
                expiry_of_account[x] = n
                expiries_held[expiries] = x
                expiries += 1
                group_of_expiry[x] = g
                for c in range(width):
                    sums[x, c] = 0.0
            for c in range(width):
                sums[x, c] += size * values[i, c]
            k = pair[i]
            if pair_of_account[k] != n:
                pair_of_account[k] = n
                pairs_held[pairs] = k
                pairs += 1
                call_notional[k] = 0.0
                put_notional[k] = 0.0
            if call[i] != 0:
                call_notional[k] += size * notional[i]
            else:
                put_notional[k] += size * notional[i]
        for held in range(expiries):
            x = expiries_held[held]
            g = group_of_expiry[x]
            mark = sums[x, _MARK]
            worse = min(sums[x, _BASIS_UP], sums[x, _BASIS_DOWN]) - mark
            basis[g] += min(worse, 0.0) * basis_scale[x]
            for s in range(scenarios):
                worth = sums[x, _SCENARIOS + s]
                change = worth * (static_long[x] if worth >= 0.0 else static_short[x]) - mark
                profit[g, s] += weight[s] * (-abs(change) if skew[s] != 0 else change)
        short_notional = 0.0
        for held in range(pairs):
            calls, puts = call_notional[pairs_held[held]], put_notional[pairs_held[held]]
            if (calls < 0.0 and puts > 0.0) or (calls > 0.0 and puts < 0.0):
                short_notional += max(-(calls + puts), 0.0)
            else:
                short_notional += max(-calls, 0.0) + max(-puts, 0.0)
        kept = linear_notional * contingency[0] + short_notional * contingency[1] + extra
        opened = kept + linear_notional * contingency[2] + short_notional * contingency[3]
        for held in range(groups):
            g = groups_held[held]
            worst = basis[g]
            for s in range(scenarios):
                worst = min(worst, profit[g, s])
            kept -= worst * maintenance_factor
            opened -= worst * initial_factor[g]
        maintenance[n] = max(kept, 0.0) if covered else np.inf
        initial[n] = max(opened, maintenance[n])
