"""``tidegate-portfolio``: the worst of a set of scenarios for each underlying, and contingencies.

1. Per underlying, an account's loss in a scenario is the sum of its positions' losses, times the scenario's weight; the
   worst scenario counts, and at least 0. Losses of different underlyings are added and never net.
2. Contingencies: |lots| × notional × ``linear_contingency`` for futures and perpetuals, and short lots × notional ×
   ``short_option_contingency`` for options.
3. Maintenance is their sum times ``maintenance_factor``, initial times ``initial_factor``.
4. Sums run in instrument order, underlyings in the order of the account's first instrument of each.
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
    grouped,
    scenario_name,
    worst_of,
)
from flows.margin.model import Float64Array, Int64Array, PositionColumns, UInt32Array
from flows.market.columns import InstrumentColumns, Int32Array
from flows.market.listings import Listings
from flows.pricing.grid import aligned_rows, padded, scenario_profits
from flows.pricing.kinds import OPTION, SPOT
from flows.pricing.polynomials import fma
from schemas.parameters import PortfolioParameters

_VOLS: Final = {-1: "down", 0: "none", 1: "up"}


@dataclass(frozen=True, slots=True)
class PortfolioTables:
    """What an account's requirement reads.

    Attributes
    ----------
    profit : (K, S), numeraire per long lot under each scenario, times its weight; S padded to a multiple of 8 with
        scenarios in which nothing happens.
    group : (K,), the underlying.
    contingency : (K, 2), numeraire per long lot and per short lot.
    """

    profit: Float64Array
    group: Int32Array
    group_count: int
    contingency: Float64Array
    maintenance_factor: float
    initial_factor: float


class PortfolioMargin:
    """The model; without state."""

    name = "tidegate-portfolio"

    def tables(self, columns: InstrumentColumns, parameters: PortfolioParameters) -> PortfolioTables:
        """Return every instrument's scenario row and contingency."""
        width = padded(np.zeros(len(parameters.scenarios)), 0.0).shape[0]
        profit = aligned_rows(columns.count, width)
        contingency = np.zeros((columns.count, 2))
        members = np.arange(columns.count)
        _fill(columns, parameters, members, profit, contingency)
        return _tables(columns, parameters, profit, contingency)

    def update(
        self, previous: PortfolioTables, columns: InstrumentColumns, parameters: PortfolioParameters,
        members: Int64Array,
    ) -> PortfolioTables:  # fmt: skip
        """Return the tables with the rows of ``members`` anew."""
        profit = aligned_rows(*previous.profit.shape)
        profit[:] = previous.profit
        contingency = previous.contingency.copy()
        _fill(columns, parameters, members, profit, contingency)
        return _tables(columns, parameters, profit, contingency)

    def requirements(
        self, tables: PortfolioTables, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return ``(initial, maintenance)``, each (n,), numeraire."""
        base = np.empty(rows.shape[0])
        _requirements(
            tables.profit, tables.group, tables.group_count, tables.contingency,
            positions.offset, positions.count, positions.instrument, positions.lots, rows, base,
        )  # fmt: skip
        return base * tables.initial_factor, base * tables.maintenance_factor

    def breakdown(
        self, tables: PortfolioTables, parameters: PortfolioParameters, listings: Listings, positions: PositionColumns,
        row: int,
    ) -> Breakdown:  # fmt: skip
        """Return losses and contingencies by underlying."""
        parts, groups = [], []
        factors = tables.initial_factor, tables.maintenance_factor
        by_underlying = grouped(positions, row, lambda i: listings.instruments[i].underlying)
        for underlying, held in by_underlying.items():
            scenarios = [
                ScenarioProfit(
                    scenario_name(spot, _VOLS[vol], weight),
                    {i: float(tables.profit[i, place]) * lots for i, lots in held},
                )
                for place, (spot, vol, weight) in enumerate(parameters.scenarios)
            ]
            counts, loss = worst_of(scenarios)
            contingency = sum(abs(lots) * float(tables.contingency[i, 1 if lots < 0 else 0]) for i, lots in held)
            for name, amount in ((LOSS, loss), ("contingency", contingency)):
                parts.append(Part(name, underlying, amount * factors[0], amount * factors[1]))
            groups.append(ScenarioGroup(underlying, scenarios, counts, tables.maintenance_factor))
        return Breakdown(parts, groups)


MODEL = PortfolioMargin()


def _tables(
    columns: InstrumentColumns, parameters: PortfolioParameters, profit: Float64Array, contingency: Float64Array
) -> PortfolioTables:
    return PortfolioTables(
        profit=profit,
        group=columns.underlying,
        group_count=len(columns.underlyings),
        contingency=contingency,
        maintenance_factor=parameters.maintenance_factor,
        initial_factor=parameters.initial_factor,
    )


def _fill(
    columns: InstrumentColumns,
    parameters: PortfolioParameters,
    members: Int64Array,
    profit: Float64Array,
    contingency: Float64Array,
) -> None:
    scenarios = np.array(parameters.scenarios, np.float64)
    scenario_profits(
        columns,
        members,
        spot_multiple=padded(scenarios[:, 0], 1.0),
        vol_direction=padded(scenarios[:, 1], 0.0),
        vol_up=parameters.vol_up,
        vol_down=parameters.vol_down,
        vol_power_short=parameters.vol_power_short,
        vol_power_long=parameters.vol_power_long,
        vol_days_min=parameters.vol_days_min,
        out=profit,
    )
    profit[members] *= padded(scenarios[:, 2], 0.0)
    kind = columns.kind[members]
    option = kind == OPTION
    notional = np.where(kind == SPOT, 0.0, columns.notional[members])
    contingency[members, 0] = np.where(option, 0.0, notional * parameters.linear_contingency)
    contingency[members, 1] = notional * np.where(
        option, parameters.short_option_contingency, parameters.linear_contingency
    )


@njit(cache=True, error_model="numpy")
def _requirements(
    profit: Float64Array,
    group: Int32Array,
    group_count: int,
    contingency: Float64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    rows: Int64Array,
    out: Float64Array,
) -> None:
    scenarios = profit.shape[1]
    sums = np.empty((group_count, scenarios))
    seen_by = np.full(group_count, -1, np.int64)
    touched = np.empty(group_count, np.int64)
    for n in range(rows.shape[0]):
        row = rows[n]
        groups = 0
        total = 0.0
        for p in range(offset[row], offset[row] + count[row]):
            i = instrument[p]
            g = group[i]
            size = float(lots[p])
            instrument_row = profit[i]
            sum_row = sums[g]
            if seen_by[g] != n:
                seen_by[g] = n
                touched[groups] = g
                groups += 1
                for s in range(scenarios):
                    sum_row[s] = size * instrument_row[s]
            else:
                for s in range(scenarios):
                    sum_row[s] = fma(size, instrument_row[s], sum_row[s])
            total += -size * contingency[i, 1] if size < 0.0 else size * contingency[i, 0]
        for t in range(groups):
            sum_row = sums[touched[t]]
            worst = 0.0
            for s in range(scenarios):
                worst = min(worst, sum_row[s])
            total -= worst
        out[n] = total
