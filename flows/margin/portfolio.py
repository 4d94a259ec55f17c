"""``tidegate-portfolio``: the worst of a set of scenarios for each underlying, offsets, and what size costs.

1. Per underlying, an account's loss in a scenario is the sum of its positions' losses, times the scenario's weight; the
   worst scenario counts, and at least 0.
2. Losses of different underlyings are added. Within an offset group, A being their sum and J the worst loss of all of
   them in one scenario, A - f (A - J) is asked; ``offset_share`` is f.
3. Contingencies: |lots| × notional × ``linear_contingency`` for futures and perpetuals, and short lots × notional ×
   ``short_option_contingency`` for options; then the add-ons of ``flows.margin.add_ons``.
4. Maintenance is the sum of all times ``maintenance_factor``, initial times ``initial_factor``.
5. Sums run in instrument order, underlyings in the order of the account's first instrument of each, then offset groups
   in the order of the parameters.
6. A profit or a term that is no number makes the requirement none, and never a smaller one.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np

from flows.margin.add_ons import concentration, confidence_charge, inverse_depths, notional
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
from flows.margin.model import NO_OPEN_ORDERS, Float64Array, Int64Array, OpenOrders, PositionColumns
from flows.margin.portfolio_book import of_one_underlying, of_several_underlyings
from flows.margin.scenario_sums import CHARGE, LANES, LONG, NOTIONAL, SCENARIOS, SHORT
from flows.market.columns import InstrumentColumns, Int32Array
from flows.market.listings import Listings
from flows.pricing.grid import aligned_rows, scenario_profits
from flows.pricing.kinds import OPTION
from schemas.parameters import PortfolioParameters

_VOLS: Final = {-1: "down", 0: "none", 1: "up"}
# Beyond this a sum of products with lots could overflow, and what overflows could be lost in a minimum.
_PROFIT_MAX: Final = 1e250


@dataclass(frozen=True, slots=True)
class PortfolioTables:
    """What an account's requirement reads.

    Attributes
    ----------
    rows : (K, 32 B), numeraire per long lot under each scenario, times its weight, in B blocks as ``scenario_sums``
        describes them; lanes without a scenario are 0, as if nothing happened.
    group : (K,), the underlying.
    offset_group : (U,), the offset group of an underlying, -1 where it has none; offset_share : (C,), in [0, 1).
    inverse_depth : (U,), one over the depth of its market, per numeraire.
    """

    rows: Float64Array
    scenario_count: int
    group: Int32Array
    offset_group: Int64Array
    offset_share: Float64Array
    inverse_depth: Float64Array
    concentration_rate: float
    concentration_cap: float
    maintenance_factor: float
    initial_factor: float

    @property
    def profit(self) -> Float64Array:
        """(K, S), numeraire per long lot under each scenario, times its weight."""
        return self.rows[:, _lanes(self.scenario_count)]

    @property
    def contingency(self) -> Float64Array:
        """(K, 2), contingency of a long lot and of a short lot, numeraire."""
        return self.rows[:, [LONG, SHORT]] - self.rows[:, [CHARGE]]

    @property
    def notional(self) -> Float64Array:
        """(K,), of a lot, numeraire."""
        return self.rows[:, NOTIONAL]

    @property
    def confidence_charge(self) -> Float64Array:
        """(K,), of a lot, numeraire; in what is summed it is in both terms of size."""
        return self.rows[:, CHARGE]


class PortfolioMargin:
    """The model; without state."""

    name = "tidegate-portfolio"

    def tables(self, columns: InstrumentColumns, parameters: PortfolioParameters) -> PortfolioTables:
        """Return every instrument's scenario row and terms."""
        rows = aligned_rows(columns.count, LANES * -(-len(parameters.scenarios) // SCENARIOS))
        _fill(columns, parameters, np.arange(columns.count), rows)
        return _tables(columns, parameters, rows)

    def update(
        self, previous: PortfolioTables, columns: InstrumentColumns, parameters: PortfolioParameters,
        members: Int64Array,
    ) -> PortfolioTables:  # fmt: skip
        """Return the tables with the rows of ``members`` anew."""
        rows = aligned_rows(*previous.rows.shape)
        rows[:] = previous.rows
        _fill(columns, parameters, members, rows)
        return _tables(columns, parameters, rows)

    def requirements(
        self, tables: PortfolioTables, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return ``(initial, maintenance)``, each (n,), numeraire."""
        initial, maintenance = np.empty(rows.shape[0]), np.empty(rows.shape[0])
        if tables.rows.shape[1] == LANES:
            others = np.empty(rows.shape[0], np.int64)
            aside = of_one_underlying(
                tables.rows, tables.group, tables.inverse_depth, tables.concentration_rate, tables.concentration_cap,
                tables.initial_factor, tables.maintenance_factor,
                positions.offset, positions.count, positions.instrument, positions.lots, rows,
                initial, maintenance, others,
            )  # fmt: skip
            others = others[:aside]
        else:
            others = np.arange(rows.shape[0])
        if others.shape[0]:
            self._write(tables, positions, NO_OPEN_ORDERS, rows, others, initial, maintenance)
        return initial, maintenance

    def initial_with_open_orders(
        self, tables: PortfolioTables, positions: PositionColumns, open_orders: OpenOrders, rows: Int64Array
    ) -> Float64Array:
        """Return initial margin with the worst fills of open orders, (n,), numeraire."""
        initial, unused = np.empty(rows.shape[0]), np.empty(rows.shape[0])
        self._write(tables, positions, open_orders, rows, np.arange(rows.shape[0]), initial, unused)
        return initial

    def _write(
        self, tables: PortfolioTables, positions: PositionColumns, open_orders: OpenOrders, rows: Int64Array,
        places: Int64Array, initial: Float64Array, maintenance: Float64Array,
    ) -> None:  # fmt: skip
        of_several_underlyings(
            tables.rows, tables.group, tables.offset_group, tables.offset_share,
            tables.inverse_depth, tables.concentration_rate, tables.concentration_cap,
            tables.initial_factor, tables.maintenance_factor,
            positions.offset, positions.count, positions.instrument, positions.lots, rows, places,
            open_orders.offset, open_orders.count, open_orders.instrument, open_orders.buys, open_orders.sells,
            initial, maintenance,
        )  # fmt: skip

    def breakdown(
        self, tables: PortfolioTables, parameters: PortfolioParameters, listings: Listings, positions: PositionColumns,
        row: int,
    ) -> Breakdown:  # fmt: skip
        """Return losses, contingencies and add-ons by underlying, and what offset groups take off."""
        parts, groups = [], []
        factors = tables.initial_factor, tables.maintenance_factor
        apart: dict[int, list[tuple[float, list[float]]]] = {}
        for underlying, held in grouped(positions, row, lambda i: listings.instruments[i].underlying).items():
            scenarios = [
                ScenarioProfit(
                    scenario_name(spot, _VOLS[vol], weight),
                    {i: float(tables.profit[i, place]) * lots for i, lots in held},
                )
                for place, (spot, vol, weight) in enumerate(parameters.scenarios)
            ]
            counts, loss = worst_of(scenarios)
            contingency = sum(abs(lots) * float(tables.contingency[i, 1 if lots < 0 else 0]) for i, lots in held)
            charge = sum(abs(lots) * float(tables.confidence_charge[i]) for i, lots in held)
            gross = sum(abs(lots) * float(tables.notional[i]) for i, lots in held)
            g = int(tables.group[held[0][0]])
            large = concentration(
                gross, float(tables.inverse_depth[g]), tables.concentration_rate, tables.concentration_cap
            )
            named = {LOSS: loss, "contingency": contingency, "confidence": charge, "concentration": large}
            parts += [
                Part(name, underlying, amount * factors[0], amount * factors[1])
                for name, amount in named.items()
                if amount or name in {LOSS, "contingency"}
            ]
            groups.append(ScenarioGroup(underlying, scenarios, counts, tables.maintenance_factor))
            apart.setdefault(int(tables.offset_group[g]), []).append((loss, [it.profit for it in scenarios]))
        for group, members in sorted(apart.items()):
            if group >= 0:
                together = max(0.0, -min(map(sum, zip(*(profits for _, profits in members), strict=True))))
                offset = float(tables.offset_share[group]) * (sum(loss for loss, _ in members) - together)
                names = " and ".join(parameters.offset_groups[group].underlyings)
                if offset:
                    parts.append(Part("offset", names, -offset * factors[0], -offset * factors[1]))
        return Breakdown(parts, groups)


MODEL = PortfolioMargin()


def offset_share(correlation: float) -> float:
    """Return f, the share of what losses gain by being taken together that a stressed correlation lets count.

    With ρ the correlation, f is 1 - √((1 - ρ) / 2) for ρ > 0, and 0 else. So an account that is exposed by x_g to
    underlying g, in scenarios that move all of them up or all down, each by its own standard move, is asked for at
    least √(xᵀRx) under *every* correlation matrix R whose entries are ρ or more.

    Take P for the sum of what is long and N for that of what is short, P >= N; then A = P + N and J = P - N. No two of
    one side are correlated by more than 1, and no two of opposite sides by less than ρ: xᵀRx <= P² + N² - 2ρPN. For
    P = 1 and N = t, what is asked, 1 + t (1 - 2f), is straight in t, and √(1 + t² - 2ρt) is convex. They meet at t = 0,
    and at t = 1 the former is not below the latter: 2 (1 - f) = √(2 - 2ρ). f = ρ, which is nearer at hand, breaks this
    for ρ > ½.
    """
    return 1.0 - sqrt((1.0 - correlation) / 2.0) if correlation > 0.0 else 0.0


def _tables(columns: InstrumentColumns, parameters: PortfolioParameters, rows: Float64Array) -> PortfolioTables:
    group_of = {name: place for place, it in enumerate(parameters.offset_groups) for name in it.underlyings}
    return PortfolioTables(
        rows=rows,
        scenario_count=len(parameters.scenarios),
        group=columns.underlying,
        offset_group=np.array([group_of.get(name, -1) for name in columns.underlyings], np.int64),
        offset_share=np.array(
            [offset_share(it.correlation - it.stress) for it in parameters.offset_groups], np.float64
        ),
        inverse_depth=inverse_depths(columns, parameters),
        concentration_rate=parameters.concentration_rate,
        concentration_cap=parameters.concentration_cap,
        maintenance_factor=parameters.maintenance_factor,
        initial_factor=parameters.initial_factor,
    )


def _lanes(scenarios: int) -> Int64Array:
    """Return where in a row the scenarios stand."""
    place = np.arange(scenarios)
    return place + place // SCENARIOS * (LANES - SCENARIOS)


def _fill(columns: InstrumentColumns, parameters: PortfolioParameters, members: Int64Array, rows: Float64Array) -> None:
    scenarios = np.array(parameters.scenarios, np.float64)
    lanes = np.zeros((rows.shape[1], 3))
    lanes[:, 0] = 1.0
    lanes[_lanes(len(scenarios))] = scenarios
    spot_multiple, vol_direction, weight = lanes.T.copy()
    scenario_profits(
        columns,
        members,
        spot_multiple=spot_multiple,
        vol_direction=vol_direction,
        vol_up=parameters.vol_up,
        vol_down=parameters.vol_down,
        vol_power_short=parameters.vol_power_short,
        vol_power_long=parameters.vol_power_long,
        vol_days_min=parameters.vol_days_min,
        out=rows,
    )
    profit = rows[members] * weight
    size = notional(columns)[members]
    option = columns.kind[members] == OPTION
    charge = confidence_charge(columns, parameters)[members]
    profit[:, LONG] = np.where(option, 0.0, size * parameters.linear_contingency) + charge
    profit[:, SHORT] = (
        size * np.where(option, parameters.short_option_contingency, parameters.linear_contingency) + charge
    )
    profit[:, NOTIONAL] = size
    profit[:, CHARGE] = charge
    profit[~(np.abs(profit) < _PROFIT_MAX).all(axis=1), LONG] = np.nan
    rows[members] = profit
