"""What Derive's two portfolio models share over whole books: a grid by lot once an instant, then sums by account.

A model says how options are repriced and by what losses and holdings are multiplied; everything else is here.

1. A requirement is the sum of an account's *groups*, in the numeraire: what settles in one asset on one underlying.
   Groups never offset each other.
2. It is against equity without haircuts, with every position at the market's mark. So what collateral may lose, or
   does not count, is part of it; and where the model's mark is not the market's, the difference.
3. Collateral that follows an underlying moves with its spot, and a debt in it against the account. Cash counts whole.
4. A forward is moved by spot as a whole: nothing of it is averaged before it settles.
5. An account with what is not covered has no finite requirement, and so is not decided.
6. Initial margin is at least maintenance margin, also where parameters say otherwise.
7. Sums run in instrument order within an account, then in asset order; groups, expiries and strikes in the order in
   which they come up.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np
from numba import njit

from flows.margin.derive import YEAR_SECONDS, Options, confidence_charges, option_prices
from flows.margin.derive_markets import IS_LINEAR, IS_OPTION, NO_GROUP, NOT_COVERED, NOTHING, Markets, markets_of
from flows.margin.grouping import dense
from flows.margin.model import BoolArray, Float64Array, Int64Array, PositionColumns, UInt32Array
from flows.market.columns import InstrumentColumns, Int8Array, Int32Array
from flows.pricing.grid import aligned_rows
from schemas.derive_parameters import SKEWS, DerivePmrm2Parameters, DerivePmrmParameters

Parameters = TypeVar("Parameters", DerivePmrmParameters, DerivePmrm2Parameters)

# Columns of ``values``; the scenarios follow.
MARK: Final = 0
BASIS_UP: Final = 1
BASIS_DOWN: Final = 2
SCENARIOS: Final = 3
_LANES: Final = 8

# Columns of an account's sums by group.
_BASIS: Final = 0
_LINEAR: Final = 1
_SHORT: Final = 2
_ASIDE: Final = 3


@dataclass(frozen=True, slots=True)
class Factors:
    """By what a model multiplies, of G groups.

    ``loss_initial`` (G,), ``loss_maintenance`` : of the worst loss. ``set_aside_initial`` (G,) : of what maintenance
    sets aside, initially. ``perpetual_…``, ``option_…`` : set aside of the notional of perpetuals and of uncovered
    short options; what ``…_initial`` say comes on top.
    """

    loss_initial: Float64Array
    loss_maintenance: float
    set_aside_initial: Float64Array
    perpetual_maintenance: float
    option_maintenance: float
    perpetual_initial: float
    option_initial: float


@dataclass(frozen=True, slots=True)
class CollateralTables:
    """What a whole unit of each asset adds to a requirement, numeraire; shapes (A,), all 0 for cash.

    Attributes
    ----------
    unit : whole assets per unit. group : where the asset stands with its underlying, ``NO_GROUP`` where with none.
    worth : what follows spot. uncounted : of a positive balance, set aside at any rate.
    maintenance, initial : set aside of a balance of either sign; initially, what the latter says comes on top.
    charged : what a low confidence is charged on. confidence : of its price, and of its underlying's.
    """

    unit: Float64Array
    group: Int64Array
    worth: Float64Array
    uncounted: Float64Array
    maintenance: Float64Array
    initial: Float64Array
    charged: Float64Array
    confidence: Float64Array


@dataclass(frozen=True, slots=True)
class DerivePortfolioTables:
    """What an account's requirement reads; money in the numeraire.

    Attributes
    ----------
    values : (K, 3 + S, padded), of a long lot: options are worth this at mark, with forwards up and down, and in each
        scenario; perpetuals gain this.
    sort, call : (K,), how the instrument counts, and whether it is a call.
    surplus : (K,), by how much the market's mark of a long lot exceeds the model's.
    notional : (K,), per lot. oracle : (K,), of it, what a low confidence sets aside initially.
    group, expiry, pair : (K,), dense: of one underlying and settlement asset; of one expiry; of one strike of it.
    static_long, static_short, basis_scale : (X,), by expiry.
    weight, spot_move : (S,); skew : (S,), 1 where a scenario is a skew.
    group_confidence : (G,). confidence_threshold, confidence_charge : below which it is charged, and how much.
    """

    values: Float64Array
    sort: Int8Array
    call: Int8Array
    surplus: Float64Array
    notional: Float64Array
    oracle: Float64Array
    group: Int32Array
    expiry: Int32Array
    pair: Int32Array
    static_long: Float64Array
    static_short: Float64Array
    basis_scale: Float64Array
    weight: Float64Array
    spot_move: Float64Array
    skew: Int8Array
    factors: Factors
    collateral: CollateralTables
    group_confidence: Float64Array
    confidence_threshold: float
    confidence_charge: float


class DerivePortfolioModel(ABC, Generic[Parameters]):
    """A portfolio model over whole books; without state."""

    name: str
    margins_collateral: Final = True

    @abstractmethod
    def discount(self, time: Float64Array, rate: Float64Array) -> Float64Array:
        """Return by what options are discounted, (n,), from years and rates >= 0."""

    @abstractmethod
    def moved_vols(
        self, options: Options, seconds: Float64Array, forward: Float64Array, parameters: Parameters
    ) -> dict[str, Float64Array]:
        """Return the vols of n options under every move, by its name."""

    @abstractmethod
    def static_discounts(
        self, time: Float64Array, rate: Float64Array, parameters: Parameters
    ) -> tuple[Float64Array, Float64Array]:
        """Return by what a positive and a negative expiry is multiplied, each (X,)."""

    @abstractmethod
    def factors(self, settlement_price: Float64Array, parameters: Parameters) -> Factors:
        """Return by what losses and holdings are multiplied, from what each group settles in, (G,)."""

    @abstractmethod
    def collateral(self, columns: InstrumentColumns, markets: Markets, parameters: Parameters) -> CollateralTables:
        """Return what each asset adds as collateral."""

    def tables(self, columns: InstrumentColumns, parameters: Parameters) -> DerivePortfolioTables:
        """Return every instrument's values, and the numbers of every group, expiry and asset."""
        width = -(-(SCENARIOS + len(parameters.scenarios)) // _LANES) * _LANES
        values = aligned_rows(columns.count, width)
        surplus = np.zeros(columns.count)
        return self._tables(columns, parameters, np.arange(columns.count), values, surplus)

    def update(
        self, previous: DerivePortfolioTables, columns: InstrumentColumns, parameters: Parameters, members: Int64Array
    ) -> DerivePortfolioTables:
        """Return the tables with the rows of ``members`` anew."""
        values = aligned_rows(*previous.values.shape)
        values[:] = previous.values
        return self._tables(columns, parameters, members, values, previous.surplus.copy())

    def requirements(
        self, tables: DerivePortfolioTables, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return ``(initial, maintenance)``, each (n,), numeraire; infinite where a position is not covered."""
        initial = np.empty(rows.shape[0])
        maintenance = np.empty(rows.shape[0])
        factors, collateral = tables.factors, tables.collateral
        pair_count = int(tables.pair.max(initial=-1)) + 1
        cash, narrow = positions.cash_and_narrow(rows)
        _requirements(
            tables.values, tables.sort, tables.call, tables.surplus, tables.notional, tables.oracle, tables.group,
            tables.expiry, tables.pair, pair_count, tables.static_long, tables.static_short, tables.basis_scale,
            tables.weight, tables.spot_move, tables.skew, factors.loss_initial, factors.loss_maintenance,
            factors.set_aside_initial,
            (
                factors.perpetual_maintenance, factors.option_maintenance, factors.perpetual_initial,
                factors.option_initial,
            ),
            collateral.unit, collateral.group, collateral.worth, collateral.uncounted, collateral.maintenance,
            collateral.initial, collateral.charged, collateral.confidence, tables.group_confidence,
            tables.confidence_threshold, tables.confidence_charge, positions.offset, positions.count,
            positions.instrument, positions.lots, cash, narrow, rows, initial, maintenance,
        )  # fmt: skip
        return initial, maintenance

    def _tables(
        self,
        columns: InstrumentColumns,
        parameters: Parameters,
        members: Int64Array,
        values: Float64Array,
        surplus: Float64Array,
    ) -> DerivePortfolioTables:
        """Return the tables, with the rows of ``members`` written into ``values`` and ``surplus``."""
        markets = markets_of(columns, parameters.confidence_band)
        self._fill(columns, parameters, members, markets.sort, values, surplus)
        expiry_first, expiry = dense(markets.group, columns.expiry_ns)
        _, pair = dense(expiry, columns.strike)
        time = columns.time_to_expiry[expiry_first]
        static_long, static_short = self.static_discounts(
            time, np.maximum(columns.rate[expiry_first], 0.0), parameters
        )  # fmt: skip
        notional = columns.notional * columns.settlement_price
        scenarios = parameters.scenarios
        return DerivePortfolioTables(
            values=values,
            sort=markets.sort,
            call=columns.call.copy(),
            surplus=surplus,
            notional=notional,
            oracle=confidence_charges(
                markets.confidence[markets.group],
                notional,
                threshold=parameters.confidence_threshold,
                charge=parameters.confidence_charge,
            ),
            group=markets.group,
            expiry=expiry,
            pair=pair,
            static_long=static_long,
            static_short=static_short,
            basis_scale=parameters.basis_add + parameters.basis_per_year * time,
            weight=np.array([scenario.weight for scenario in scenarios]),
            spot_move=np.array([scenario.spot_multiple - 1.0 for scenario in scenarios]),
            skew=np.array([scenario.vol_move in SKEWS for scenario in scenarios], np.int8),
            factors=self.factors(markets.settlement_price, parameters),
            collateral=self.collateral(columns, markets, parameters),
            group_confidence=markets.confidence,
            confidence_threshold=parameters.confidence_threshold,
            confidence_charge=parameters.confidence_charge,
        )

    def _fill(
        self,
        columns: InstrumentColumns,
        parameters: Parameters,
        members: Int64Array,
        sort: Int8Array,
        values: Float64Array,
        surplus: Float64Array,
    ) -> None:
        """Write the rows of members; of what is not known yet, zeros."""
        values[members] = 0.0
        surplus[members] = 0.0
        scenarios = parameters.scenarios
        linear = members[sort[members] == IS_LINEAR]
        scale = columns.quantity[linear] * columns.mark_price[linear] * columns.settlement_price[linear]
        for place, scenario in enumerate(scenarios):
            if scenario.vol_move not in SKEWS:
                values[linear, SCENARIOS + place] = scale * (scenario.spot_multiple - 1.0)

        options = members[(sort[members] == IS_OPTION) & (columns.forward[members] > 0.0)]
        count = options.shape[0]
        forward, strike = columns.forward[options], columns.strike[options]
        time = columns.time_to_expiry[options]
        discount = self.discount(time, np.maximum(columns.rate[options], 0.0))
        is_call = columns.call[options] != 0
        scale = columns.quantity[options] * columns.settlement_price[options]
        held = Options(np.arange(count), strike, is_call, np.ones(count), columns.implied_vol[options])
        vols = self.moved_vols(held, time * YEAR_SECONDS, forward, parameters)
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
        surplus[options] = columns.value[options] * columns.settlement_price[options] - values[options, MARK]


@njit(cache=True, error_model="numpy")
def _requirements(
    values: Float64Array,
    sort: Int8Array,
    call: Int8Array,
    surplus: Float64Array,
    notional: Float64Array,
    oracle: Float64Array,
    group: Int32Array,
    expiry: Int32Array,
    pair: Int32Array,
    pair_count: int,
    static_long: Float64Array,
    static_short: Float64Array,
    basis_scale: Float64Array,
    weight: Float64Array,
    spot_move: Float64Array,
    skew: Int8Array,
    loss_initial: Float64Array,
    loss_maintenance: float,
    set_aside_initial: Float64Array,
    rates: tuple[float, float, float, float],
    asset_unit: Float64Array,
    asset_group: Int64Array,
    asset_worth: Float64Array,
    asset_uncounted: Float64Array,
    asset_maintenance: Float64Array,
    asset_initial: Float64Array,
    asset_charged: Float64Array,
    asset_confidence: Float64Array,
    group_confidence: Float64Array,
    confidence_threshold: float,
    confidence_charge: float,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    cash: Int64Array,
    narrow: BoolArray,
    rows: Int64Array,
    initial: Float64Array,
    maintenance: Float64Array,
) -> None:
    perpetual_maintenance, option_maintenance, perpetual_initial, option_initial = rates
    scenarios = weight.shape[0]
    width = SCENARIOS + scenarios
    group_count, expiry_count = loss_initial.shape[0], static_long.shape[0]
    assets = min(asset_unit.shape[0], cash.shape[1])
    profit = np.empty((group_count, scenarios))
    # Of each group: basis contingency, notional of perpetuals and of short options, what collateral sets aside.
    sums_of_group = np.empty((group_count, 4))
    group_of_account = np.full(group_count, -1, np.int64)
    groups_held = np.empty(group_count, np.int64)
    sums = np.empty((expiry_count, width))
    group_of_expiry = np.empty(expiry_count, np.int64)
    expiry_of_account = np.full(expiry_count, -1, np.int64)
    expiries_held = np.empty(expiry_count, np.int64)
    call_notional = np.empty(pair_count)
    put_notional = np.empty(pair_count)
    group_of_pair = np.empty(pair_count, np.int64)
    pair_of_account = np.full(pair_count, -1, np.int64)
    pairs_held = np.empty(pair_count, np.int64)
    for n in range(rows.shape[0]):
        row = rows[n]
        groups = 0
        expiries = 0
        pairs = 0
        extra = 0.0
        on_top = 0.0
        covered = True
        for p in range(offset[row], offset[row] + count[row]):
            i = instrument[p]
            if sort[i] == NOTHING:
                continue
            if sort[i] == NOT_COVERED:
                covered = False
                continue
            size = float(lots[p])
            g = group[i]
            if group_of_account[g] != n:
                group_of_account[g] = n
                groups_held[groups] = g
                groups += 1
                sums_of_group[g, :] = 0.0
                profit[g, :] = 0.0
            on_top += abs(size) * oracle[i]
            if sort[i] == IS_LINEAR:
                sums_of_group[g, _LINEAR] += abs(size) * notional[i]
                for s in range(scenarios):
                    profit[g, s] += weight[s] * size * values[i, SCENARIOS + s]
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
                group_of_pair[k] = g
                call_notional[k] = 0.0
                put_notional[k] = 0.0
            if call[i] != 0:
                call_notional[k] += size * notional[i]
            else:
                put_notional[k] += size * notional[i]
        # An isolated account that holds positions has no collateral but cash.
        for a in range(assets):
            whole = cash[row, a] * asset_unit[a]
            if whole == 0.0 or (whole > 0.0 and narrow[n]):
                continue
            extra += max(whole, 0.0) * asset_uncounted[a]
            g = asset_group[a]
            if g == NO_GROUP:
                extra += max(whole, 0.0) * asset_maintenance[a]
                on_top += max(whole, 0.0) * asset_initial[a]
                continue
            if group_of_account[g] != n:
                group_of_account[g] = n
                groups_held[groups] = g
                groups += 1
                sums_of_group[g, :] = 0.0
                profit[g, :] = 0.0
            sums_of_group[g, _ASIDE] += abs(whole) * asset_maintenance[a]
            on_top += abs(whole) * asset_initial[a]
            for s in range(scenarios):
                profit[g, s] += weight[s] * whole * (asset_worth[a] * spot_move[s])
        least = 1.0
        for held in range(groups):
            least = min(least, group_confidence[groups_held[held]])
        for a in range(assets):
            whole = cash[row, a] * asset_unit[a]
            if whole == 0.0 or (whole > 0.0 and narrow[n]) or (whole < 0.0 and asset_group[a] == NO_GROUP):
                continue
            # What follows no underlying is as little sure as the least sure of those that the account holds.
            sure = asset_confidence[a] if asset_group[a] != NO_GROUP else min(asset_confidence[a], least)
            if sure < confidence_threshold:
                on_top += (1.0 - sure) * confidence_charge * abs(whole) * asset_charged[a]
        for held in range(expiries):
            x = expiries_held[held]
            g = group_of_expiry[x]
            mark = sums[x, MARK]
            worse = min(sums[x, BASIS_UP], sums[x, BASIS_DOWN]) - mark
            sums_of_group[g, _BASIS] += min(worse, 0.0) * basis_scale[x]
            for s in range(scenarios):
                worth = sums[x, SCENARIOS + s]
                change = worth * (static_long[x] if worth >= 0.0 else static_short[x]) - mark
                profit[g, s] += weight[s] * (-abs(change) if skew[s] != 0 else change)
        for held in range(pairs):
            k = pairs_held[held]
            calls, puts = call_notional[k], put_notional[k]
            if (calls < 0.0 and puts > 0.0) or (calls > 0.0 and puts < 0.0):
                sums_of_group[group_of_pair[k], _SHORT] += max(-(calls + puts), 0.0)
            else:
                sums_of_group[group_of_pair[k], _SHORT] += max(-calls, 0.0) + max(-puts, 0.0)
        kept = extra
        opened = extra + on_top
        for held in range(groups):
            g = groups_held[held]
            worst = sums_of_group[g, _BASIS]
            for s in range(scenarios):
                worst = min(worst, profit[g, s])
            aside = (
                sums_of_group[g, _ASIDE]
                + sums_of_group[g, _LINEAR] * perpetual_maintenance
                + sums_of_group[g, _SHORT] * option_maintenance
            )
            kept += aside - worst * loss_maintenance
            opened += aside * set_aside_initial[g] - worst * loss_initial[g]
            opened += sums_of_group[g, _LINEAR] * perpetual_initial + sums_of_group[g, _SHORT] * option_initial
        maintenance[n] = max(kept, 0.0) if covered else np.inf
        initial[n] = max(opened, maintenance[n])
