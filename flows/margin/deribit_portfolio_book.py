"""``deribit-pm`` over whole books: a row of scenarios per lot once an instant, sums and a worst case for each account.

1. The rules and their order are those of ``flows.margin.deribit_portfolio``, for each *group* of an account: what
   settles in one asset, on one underlying, with one payoff. Requirements of groups are added in the numeraire.
2. Rows are laid out with the eight extended scenarios first, and padded with scenarios in which nothing happens, so
   that groups of different risk matrices have one width.
3. Nothing is rounded here, and what is not of positions (orders, spot, protection of market makers) is not known here.
   A gain is worth nothing by itself, so what reduces gains is left out.
4. Sums run in instrument order within an account; groups and expiries in the order of its first instrument of each.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from flows.margin.breakdown import (
    LOSS,
    Breakdown,
    Part,
    ScenarioGroup,
    ScenarioProfit,
    group_name,
    grouped,
    scenario_name,
    worst_of,
)
from flows.margin.deribit_portfolio import EXTENDED_MOVES, SETTLEMENT_NS, growth, option_profits, scenarios_of
from flows.margin.grouping import dense
from flows.margin.model import Float64Array, Int64Array, PositionColumns, UInt32Array
from flows.market.columns import InstrumentColumns, Int8Array, Int32Array
from flows.market.listings import Listings
from flows.market.valuation import YEAR_NS
from flows.pricing.black76 import undiscounted_greeks
from flows.pricing.grid import aligned_rows, padded
from flows.pricing.kinds import OPTION, SPOT
from schemas.instruments import Payoff
from schemas.parameters import DeribitPortfolioParameters, DeribitRiskMatrix

_EXTENDED: Final = len(EXTENDED_MOVES)
# Columns of ``DeribitPortfolioTables.group_numbers``.
_PRICE: Final = 0
_SHOCK_THRESHOLD: Final = 1
_SHOCK_PER_COIN: Final = 2
_SHOCK_MAX: Final = 3
_COIN: Final = 4
_MAINTENANCE: Final = 5
_NUMBERS: Final = 6


@dataclass(frozen=True, slots=True)
class DeribitPortfolioTables:
    """What an account's requirement reads; amounts of a group in its settlement asset.

    Attributes
    ----------
    vector : (K, S), profit of a long lot under each scenario; extended ones first, scaled.
    delta : (K,), coins of a long lot.
    group, expiry : (K,), dense.
    group_first, expiry_first : (G,), (X,), the first instrument of each.
    expiry_move : (X,), what an expiry's delta may move.
    dampener : (G, 8), by how much the sum of an extended scenario is drawn toward zero.
    group_numbers : (G, 6): numeraire per settlement asset; delta shock's threshold in coins, rate per coin and limit;
        settlement assets per coin; maintenance factor.
    """

    vector: Float64Array
    delta: Float64Array
    group: Int32Array
    expiry: Int32Array
    group_first: Int64Array
    expiry_first: Int64Array
    expiry_move: Float64Array
    dampener: Float64Array
    group_numbers: Float64Array


class DeribitPortfolioModel:
    """The model; without state."""

    name = "deribit-pm"

    def tables(self, columns: InstrumentColumns, parameters: DeribitPortfolioParameters) -> DeribitPortfolioTables:
        """Return every instrument's scenario row, and the numbers of every group and expiry."""
        matrices = [*parameters.inverse.values(), *parameters.linear.values(), parameters.default_matrix]
        width = padded(np.zeros(max(scenarios_of(it).move.shape[0] for it in matrices)), 0.0).shape[0]
        group_first, group = dense(columns.underlying, columns.settlement_asset, columns.inverse)
        expiry_first, expiry = dense(group, columns.expiry_ns)
        return _tables(
            columns, parameters, np.arange(columns.count), vector=aligned_rows(columns.count, width),
            delta=np.zeros(columns.count), group=group, expiry=expiry, group_first=group_first,
            expiry_first=expiry_first,
        )  # fmt: skip

    def update(
        self,
        previous: DeribitPortfolioTables,
        columns: InstrumentColumns,
        parameters: DeribitPortfolioParameters,
        members: Int64Array,
    ) -> DeribitPortfolioTables:
        """Return the tables with the rows of ``members`` anew."""
        vector = aligned_rows(*previous.vector.shape)
        vector[:] = previous.vector
        return _tables(
            columns, parameters, members, vector=vector, delta=previous.delta.copy(), group=previous.group,
            expiry=previous.expiry, group_first=previous.group_first, expiry_first=previous.expiry_first,
        )  # fmt: skip

    def requirements(
        self, tables: DeribitPortfolioTables, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return ``(initial, maintenance)``, each (n,), numeraire."""
        initial = np.empty(rows.shape[0])
        maintenance = np.empty(rows.shape[0])
        _requirements(
            tables.vector, tables.delta, tables.group, tables.expiry, tables.expiry_move, tables.dampener,
            tables.group_numbers, positions.offset, positions.count, positions.instrument, positions.lots, rows,
            initial, maintenance,
        )  # fmt: skip
        return initial, maintenance

    def breakdown(
        self, tables: DeribitPortfolioTables, parameters: DeribitPortfolioParameters, listings: Listings,
        positions: PositionColumns, row: int,
    ) -> Breakdown:  # fmt: skip
        """Return the losses and shocks of every group."""
        parts, groups = [], []
        for g, held in grouped(positions, row, lambda i: int(tables.group[i])).items():
            it = listings.instruments[held[0][0]]
            table = parameters.inverse if it.payoff is Payoff.INVERSE else parameters.linear
            scenarios = _scenarios(tables, table.get(it.underlying, parameters.default_matrix), g, held)
            counts, loss = worst_of(scenarios)
            numbers = tables.group_numbers[g]
            unit, factor = float(numbers[_COIN] * numbers[_PRICE]), float(numbers[_MAINTENANCE])
            size = abs(sum(lots * float(tables.delta[i]) for i, lots in held))
            above = max(size - float(numbers[_SHOCK_THRESHOLD]), 0.0)
            shock = size * min(float(numbers[_SHOCK_PER_COIN]) * above, float(numbers[_SHOCK_MAX]))
            nets: dict[int, float] = {}
            for i, lots in held:
                x = int(tables.expiry[i])
                nets[x] = nets.get(x, 0.0) + lots * float(tables.delta[i])
            roll = sum(abs(net) * float(tables.expiry_move[x]) for x, net in nets.items())
            of = group_name(listings, held[0][0])
            for name, amount in ((LOSS, loss), ("roll shock", roll * unit), ("delta shock", shock * unit)):
                parts.append(Part(name, of, amount, amount * factor))
            groups.append(ScenarioGroup(of, scenarios, counts, factor))
        return Breakdown(parts, groups)


MODEL = DeribitPortfolioModel()


def _tables(
    columns: InstrumentColumns,
    parameters: DeribitPortfolioParameters,
    members: Int64Array,
    *,
    vector: Float64Array,
    delta: Float64Array,
    group: Int32Array,
    expiry: Int32Array,
    group_first: Int64Array,
    expiry_first: Int64Array,
) -> DeribitPortfolioTables:
    """Return the tables, with the rows of ``members`` written into ``vector`` and ``delta``."""
    matrices = [_matrix(columns, parameters, int(first)) for first in group_first]
    dampener = np.zeros((len(matrices), _EXTENDED))
    numbers = np.zeros((len(matrices), _NUMBERS))
    for g, matrix in enumerate(matrices):
        _group_numbers(columns, int(group_first[g]), matrix, dampener[g], numbers[g])
        chosen = members[group[members] == g]
        if chosen.shape[0]:
            _fill(columns, matrix, chosen, vector, delta)
    of_expiry = [matrices[group[first]] for first in expiry_first]
    growths = np.array([it.annualised_move for it in of_expiry]) * columns.time_to_expiry[expiry_first]
    expiry_move = np.zeros(len(of_expiry))
    _expiry_moves(growths, np.array([it.annualised_move_min for it in of_expiry]), expiry_move)
    return DeribitPortfolioTables(
        vector, delta, group, expiry, group_first, expiry_first, expiry_move, dampener, numbers
    )


def _scenarios(
    tables: DeribitPortfolioTables, matrix: DeribitRiskMatrix, g: int, held: list[tuple[int, float]]
) -> list[ScenarioProfit]:
    """Return a group's scenarios in the numeraire, extended ones first."""
    told = scenarios_of(matrix)
    price = float(tables.group_numbers[g, _PRICE])
    found = []
    for place, s in enumerate(np.roll(np.arange(told.move.shape[0]), _EXTENDED)):
        vol = ("down", "none", "up")[int(told.vol[s]) + 1]
        positions = {i: lots * float(tables.vector[i, place]) * price for i, lots in held}
        adjustment = 0.0
        if place < _EXTENDED:
            profit = sum(positions.values())
            adjustment = min(profit + float(tables.dampener[g, place]) * price, 0.0) - profit
        found.append(ScenarioProfit(scenario_name(1.0 + float(told.move[s]), vol), positions, adjustment))
    return found


def _matrix(columns: InstrumentColumns, parameters: DeribitPortfolioParameters, first: int) -> DeribitRiskMatrix:
    table = parameters.inverse if columns.inverse[first] else parameters.linear
    return table.get(columns.underlyings[columns.underlying[first]], parameters.default_matrix)


def _group_numbers(
    columns: InstrumentColumns, first: int, matrix: DeribitRiskMatrix, dampener: Float64Array, numbers: Float64Array
) -> None:
    inverse = columns.inverse[first] != 0
    index = float(columns.index_price[first])
    if index <= 0.0:  # not told yet: nothing of the group can be held and decided
        return
    far = np.array(EXTENDED_MOVES)
    dampener[:] = (np.maximum(np.abs(far) / matrix.price_range, 1.0) - 1.0) * matrix.extended_dampener
    if inverse:
        dampener /= (1.0 + np.sign(far) * matrix.price_range) * index
    numbers[_PRICE] = columns.settlement_price[first]
    numbers[_SHOCK_THRESHOLD] = matrix.delta_shock_threshold / index
    numbers[_SHOCK_PER_COIN] = matrix.delta_shock_per_coin
    numbers[_SHOCK_MAX] = matrix.delta_shock_max
    numbers[_COIN] = 1.0 if inverse else index
    numbers[_MAINTENANCE] = matrix.maintenance_factor


def _fill(
    columns: InstrumentColumns,
    matrix: DeribitRiskMatrix,
    members: Int64Array,
    vector: Float64Array,
    delta: Float64Array,
) -> None:
    """Write the rows of members of one group."""
    scenarios = scenarios_of(matrix)
    order = np.roll(np.arange(scenarios.move.shape[0]), _EXTENDED)
    move = scenarios.move[order]
    scale = np.ones(move.shape[0])
    far = move[:_EXTENDED]
    scale[:_EXTENDED] = matrix.extended_factor * (matrix.price_range / np.abs(far))
    if columns.inverse[members[0]]:
        scale[:_EXTENDED] *= (1.0 + far) / (1.0 + np.sign(far) * matrix.price_range)
    _vectors(
        members, columns.kind, columns.inverse, columns.call, columns.quantity, columns.strike, columns.mark_price,
        columns.forward, columns.implied_vol, columns.time_to_expiry, move, scenarios.vol[order], scale,
        matrix.vol_up, matrix.vol_down, matrix.vol_up_min, matrix.vol_power_short, matrix.vol_power_long,
        YEAR_NS / SETTLEMENT_NS, vector, delta,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _expiry_moves(growths: Float64Array, least: Float64Array, out: Float64Array) -> None:
    for x in range(growths.shape[0]):
        out[x] = max(growth(growths[x]), least[x])


@njit(cache=True, error_model="numpy")
def _vectors(
    members: Int64Array,
    kind: Int8Array,
    inverse: Int8Array,
    call: Int8Array,
    quantity: Float64Array,
    strike: Float64Array,
    mark_price: Float64Array,
    forward: Float64Array,
    implied_vol: Float64Array,
    time_to_expiry: Float64Array,
    move: Float64Array,
    vol: Float64Array,
    scale: Float64Array,
    vol_up: float,
    vol_down: float,
    vol_up_min: float,
    vol_power_short: float,
    vol_power_long: float,
    settlements_per_year: float,
    vector: Float64Array,
    delta: Float64Array,
) -> None:
    scenarios = move.shape[0]
    profits = np.empty(scenarios)
    for place in range(members.shape[0]):
        i = members[place]
        row = vector[i]
        row[:] = 0.0
        delta[i] = 0.0
        if kind[i] == SPOT or (forward[i] <= 0.0 and mark_price[i] <= 0.0):  # unknown, or settled
            continue
        lot = quantity[i]
        if kind[i] == OPTION:
            time = time_to_expiry[i]
            lot *= min(time * settlements_per_year, 1.0)
            option_profits(
                forward[i], strike[i], time, implied_vol[i], call[i], inverse[i], move, vol, vol_up, vol_down,
                vol_up_min, vol_power_short, vol_power_long, profits,
            )  # fmt: skip
            delta[i] = lot * undiscounted_greeks(
                forward[i], strike[i], implied_vol[i], np.sqrt(time), call[i] != 0
            )[1]  # fmt: skip
        elif inverse[i] != 0:
            lot /= mark_price[i]
            delta[i] = lot
            for s in range(scenarios):
                profits[s] = move[s] / (1.0 + move[s])
        else:
            delta[i] = lot
            for s in range(scenarios):
                profits[s] = mark_price[i] * move[s]
        for s in range(scenarios):
            row[s] = lot * profits[s] * scale[s]


@njit(cache=True, error_model="numpy")
def _requirements(
    vector: Float64Array,
    delta: Float64Array,
    group: Int32Array,
    expiry: Int32Array,
    expiry_move: Float64Array,
    dampener: Float64Array,
    numbers: Float64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    rows: Int64Array,
    initial: Float64Array,
    maintenance: Float64Array,
) -> None:
    scenarios = vector.shape[1]
    groups = numbers.shape[0]
    sums = np.empty((groups, scenarios))
    total_delta = np.empty(groups)
    roll = np.empty(groups)
    group_of_account = np.full(groups, -1, np.int64)
    touched = np.empty(groups, np.int64)
    expiries = expiry_move.shape[0]
    net = np.empty(expiries)
    expiry_of_account = np.full(expiries, -1, np.int64)
    held = np.empty(expiries, np.int64)
    group_of_expiry = np.empty(expiries, np.int64)
    for n in range(rows.shape[0]):
        row = rows[n]
        group_count = 0
        expiry_count = 0
        for p in range(offset[row], offset[row] + count[row]):
            i = instrument[p]
            g = group[i]
            size = float(lots[p])
            if group_of_account[g] != n:
                group_of_account[g] = n
                touched[group_count] = g
                group_count += 1
                total_delta[g] = 0.0
                roll[g] = 0.0
                for s in range(scenarios):
                    sums[g, s] = 0.0
            for s in range(scenarios):
                sums[g, s] += size * vector[i, s]
            total_delta[g] += size * delta[i]
            x = expiry[i]
            if expiry_of_account[x] != n:
                expiry_of_account[x] = n
                held[expiry_count] = x
                expiry_count += 1
                net[x] = 0.0
                group_of_expiry[x] = g
            net[x] += size * delta[i]
        for k in range(expiry_count):
            x = held[k]
            roll[group_of_expiry[x]] += abs(net[x]) * expiry_move[x]
        total_initial = 0.0
        total_maintenance = 0.0
        for k in range(group_count):
            g = touched[k]
            worst = 0.0
            for s in range(scenarios):
                value = sums[g, s]
                if s < _EXTENDED:
                    value = min(value + dampener[g, s], 0.0)
                worst = min(worst, value)
            size = abs(total_delta[g])
            above = size - numbers[g, _SHOCK_THRESHOLD]
            shock = size * min(numbers[g, _SHOCK_PER_COIN] * above, numbers[g, _SHOCK_MAX]) if above > 0.0 else 0.0
            margin = ((shock + roll[g]) * numbers[g, _COIN] - worst) * numbers[g, _PRICE]
            total_initial += margin
            total_maintenance += margin * numbers[g, _MAINTENANCE]
        initial[n] = total_initial
        maintenance[n] = total_maintenance
