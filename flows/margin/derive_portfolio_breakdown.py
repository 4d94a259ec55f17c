"""What a requirement of Derive's portfolio models is made of, for people who ask about one account.

1. Numbers are read from the tables that decide, in plain loops.
2. What collateral gains in a scenario is the adjustment of that scenario: it is no position.
"""

import numpy as np

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
from flows.margin.derive_markets import IS_LINEAR, IS_OPTION, NO_GROUP
from flows.margin.derive_portfolio_book import BASIS_DOWN, BASIS_UP, MARK, SCENARIOS, DerivePortfolioTables
from flows.margin.model import PositionColumns
from flows.market.listings import Listings
from schemas.derive_parameters import DerivePmrm2Parameters, DerivePmrmParameters

_Held = list[tuple[int, float]]


def portfolio_breakdown(
    tables: DerivePortfolioTables,
    parameters: DerivePmrmParameters | DerivePmrm2Parameters,
    listings: Listings,
    positions: PositionColumns,
    row: int,
) -> Breakdown:
    """Return the loss of every group, and what is set aside."""
    factors, collateral = tables.factors, tables.collateral
    parts, groups = [], []
    held = grouped(positions, row, lambda i: int(tables.group[i]))
    balances = _balances(tables, positions, row)
    counted = {
        g: [(i, lots) for i, lots in them if tables.sort[i] in (IS_OPTION, IS_LINEAR)] for g, them in held.items()
    }
    counted = {g: them for g, them in counted.items() if them}
    apart: list[int] = []
    for asset in balances:
        g = int(collateral.group[asset])
        if g == NO_GROUP:
            apart.append(asset)
        else:
            counted.setdefault(g, [])
    least = min((float(tables.group_confidence[g]) for g in counted), default=1.0)
    for g, them in counted.items():
        of = group_name(listings, next(i for i, other in enumerate(tables.group) if other == g))
        amounts = {asset: whole for asset, whole in balances.items() if collateral.group[asset] == g}
        follows = sum(whole * float(collateral.worth[asset]) for asset, whole in amounts.items())
        scenarios = _scenarios(tables, parameters, them, follows)
        counts, loss = worst_of(scenarios)
        again = float(factors.set_aside_initial[g])
        linear = sum(abs(lots) * float(tables.notional[i]) for i, lots in them if tables.sort[i] == IS_LINEAR)
        short = _short_notional(tables, them)
        surplus = sum(lots * float(tables.surplus[i]) for i, lots in them)
        unsure = sum(abs(lots) * float(tables.oracle[i]) for i, lots in them)
        kept = sum(abs(whole) * float(collateral.maintenance[asset]) for asset, whole in amounts.items())
        more = sum(abs(whole) * float(collateral.initial[asset]) for asset, whole in amounts.items())
        unsure += sum(_unsure(tables, asset, whole, 1.0) for asset, whole in amounts.items())
        perpetual, option = factors.perpetual_maintenance, factors.option_maintenance
        parts += [
            Part(LOSS, of, loss * float(factors.loss_initial[g]), loss * factors.loss_maintenance),
            Part(
                "perpetual contingency",
                of,
                linear * (perpetual * again + factors.perpetual_initial),
                linear * perpetual,
            ),
            Part("option contingency", of, short * (option * again + factors.option_initial), short * option),
            Part("marks beyond the model's", of, surplus, surplus),
        ]
        if kept or more:
            parts.append(Part("collateral", of, kept * again + more, kept))
        if unsure:
            parts.append(Part("low confidence", of, unsure, 0.0))
        groups.append(ScenarioGroup(of, scenarios, counts, factors.loss_maintenance))
    parts += [part for asset in apart for part in _apart(tables, listings, asset, balances[asset], least)]
    return Breakdown(parts + floors(parts), groups)


def _balances(tables: DerivePortfolioTables, positions: PositionColumns, row: int) -> dict[int, float]:
    """Return what is held of each asset that is margined, in whole assets."""
    cash, narrow = positions.cash_and_narrow(np.array([row]))
    if cash.shape[1] == 0:
        return {}
    collateral = tables.collateral
    return {
        asset: float(units) * float(collateral.unit[asset])
        for asset, units in enumerate(cash[row])
        if (units > 0 and not narrow[0]) or (units < 0 and collateral.group[asset] != NO_GROUP)
    }


def _unsure(tables: DerivePortfolioTables, asset: int, whole: float, least: float) -> float:
    """Return what a low confidence sets aside of a balance."""
    sure = min(float(tables.collateral.confidence[asset]), least)
    if sure >= tables.confidence_threshold:
        return 0.0
    return (1.0 - sure) * tables.confidence_charge * abs(whole) * float(tables.collateral.charged[asset])


def _apart(tables: DerivePortfolioTables, listings: Listings, asset: int, whole: float, least: float) -> list[Part]:
    """Return what collateral adds that follows no underlying."""
    collateral = tables.collateral
    kept = whole * float(collateral.uncounted[asset] + collateral.maintenance[asset])
    opened = kept + whole * float(collateral.initial[asset])
    unsure = _unsure(tables, asset, whole, least)
    name = listings.assets[asset].asset
    found = [Part("collateral", name, opened, kept), Part("low confidence", name, unsure, 0.0)]
    return [part for part in found if part.initial or part.maintenance]


def _scenarios(
    tables: DerivePortfolioTables,
    parameters: DerivePmrmParameters | DerivePmrm2Parameters,
    held: _Held,
    follows: float,
) -> list[ScenarioProfit]:
    """Return a group's scenarios, weighted, and the basis contingency as the last; ``follows`` spot in collateral."""
    places = [MARK, BASIS_UP, BASIS_DOWN, *range(SCENARIOS, SCENARIOS + len(parameters.scenarios))]
    expiries: dict[int, _Held] = {}
    for i, lots in held:
        if tables.sort[i] == IS_OPTION:
            expiries.setdefault(int(tables.expiry[i]), []).append((i, lots))
    worths = {x: [sum(lots * float(tables.values[i, c]) for i, lots in them) for c in places]
              for x, them in expiries.items()}  # fmt: skip
    found = []
    for s, scenario in enumerate(parameters.scenarios):
        c, weight = SCENARIOS + s, float(tables.weight[s])
        positions = {i: weight * lots * float(tables.values[i, c]) for i, lots in held}
        for x, them in expiries.items():
            discount = float(tables.static_long[x] if worths[x][c] >= 0.0 else tables.static_short[x])
            change = worths[x][c] * discount - worths[x][MARK]
            # A skew loses whichever way it moves an expiry.
            sign = -1.0 if tables.skew[s] != 0 and change > 0.0 else 1.0
            for i, lots in them:
                gain = float(tables.values[i, c]) * discount - float(tables.values[i, MARK])
                positions[i] = sign * weight * lots * gain
        name = scenario_name(scenario.spot_multiple, scenario.vol_move, weight)
        found.append(ScenarioProfit(name, positions, weight * follows * float(tables.spot_move[s])))
    basis = {i: 0.0 for i, _ in held}
    for x, them in expiries.items():
        worse = BASIS_UP if worths[x][BASIS_UP] <= worths[x][BASIS_DOWN] else BASIS_DOWN
        if worths[x][worse] < worths[x][MARK]:
            for i, lots in them:
                loss = float(tables.values[i, worse]) - float(tables.values[i, MARK])
                basis[i] = lots * loss * float(tables.basis_scale[x])
    return [*found, ScenarioProfit("forwards part from spot", basis)]


def _short_notional(tables: DerivePortfolioTables, held: _Held) -> float:
    """Return what short options are on, calls and puts of one strike netted where they offset each other."""
    pairs: dict[int, list[float]] = {}
    for i, lots in held:
        if tables.sort[i] == IS_OPTION:
            pairs.setdefault(int(tables.pair[i]), [0.0, 0.0])[int(tables.call[i])] += lots * float(tables.notional[i])
    return sum(
        max(-(puts + calls), 0.0) if puts * calls < 0.0 else max(-puts, 0.0) + max(-calls, 0.0)
        for puts, calls in pairs.values()
    )
