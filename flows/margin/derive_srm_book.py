"""``derive-srm`` over whole books: charges per lot once an instant, and each expiry's worst payoff for each account.

1. The rules are those of ``flows.margin.derive_srm``, of groups as ``flows.margin.derive_markets`` has them.
2. Requirements are against equity without haircuts, with every position at the market's mark: equity beyond them is the
   venue's margin value. So a long option's mark is part of them whole, and what of the collateral does not count.
3. An asset as collateral has the rates of the market of its own name. A debt counts whole.
4. An account with what is not covered has no finite requirement, and so is not decided.
5. Initial margin is at least maintenance margin, also where parameters say otherwise, and both are at least 0.
6. Sums run in instrument order within an account, then in asset order; expiries in the order of its first instrument
   of each.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from flows.margin.breakdown import LOSS, Breakdown, Part, ScenarioGroup, ScenarioProfit, floors, group_name, grouped
from flows.margin.derive import confidence_charges, option_prices
from flows.margin.derive_markets import IS_LINEAR, IS_OPTION, NO_GROUP, NOT_COVERED, NOTHING, Markets, markets_of
from flows.margin.derive_srm import isolated_charges
from flows.margin.grouping import dense
from flows.margin.model import BoolArray, Float64Array, Int64Array, PositionColumns, UInt32Array
from flows.market.columns import InstrumentColumns, Int8Array, Int32Array
from flows.market.listings import Listings
from schemas.derive_parameters import DeriveSrmParameters


@dataclass(frozen=True, slots=True)
class DeriveSrmTables:
    """What an account's requirement reads; money in the numeraire.

    Attributes
    ----------
    sort : (K,), how the instrument counts. call : (K,).
    isolated : (K, 2), what a short lot needs initially and to stay, <= 0 for options; of a perpetual what a lot needs
        either way, >= 0.
    mark : (K,), of a long lot. size : (K,), of a lot, underlying. strike : (K,), for one
        underlying. forward : (K,), for a lot.
    set_aside : (K,), by a lot of a short option or of a perpetual of either side, initially, for a stable asset below
        its peg and for low confidence, >= 0.
    expiry : (K,), dense. uncovered : (K, 2), what uncovered calls cost beyond the worst payoff, initially and to stay.
    asset_unit : (A,), whole assets per unit. uncounted : (A, 2), what of a positive balance does not count by the whole
        asset, initially and to stay.
    """

    sort: Int8Array
    call: Int8Array
    isolated: Float64Array
    mark: Float64Array
    strike: Float64Array
    size: Float64Array
    forward: Float64Array
    set_aside: Float64Array
    expiry: Int32Array
    uncovered: Float64Array
    asset_unit: Float64Array
    uncounted: Float64Array


class DeriveSrmModel:
    """The model; without state."""

    name = "derive-srm"
    margins_collateral: Final = True

    def tables(self, columns: InstrumentColumns, parameters: DeriveSrmParameters) -> DeriveSrmTables:
        """Return the charges per lot of every instrument, and what of every asset does not count."""
        markets = markets_of(columns, parameters.confidence_band)
        sort = markets.sort
        _, expiry = dense(markets.group, columns.expiry_ns)
        confidence = markets.confidence[markets.group]
        notional = columns.notional * columns.settlement_price
        gap = np.maximum(parameters.peg_threshold - columns.settlement_price, 0.0) * parameters.peg_factor
        set_aside = np.where(sort == NOTHING, 0.0, notional * gap)
        isolated, uncovered = np.zeros((columns.count, 2)), np.zeros((columns.count, 2))
        unit = columns.settlement_price
        for place, name in enumerate(columns.underlyings):
            rates = parameters.market(name)
            mine = columns.underlying == place
            for counts_as, threshold in (
                (IS_OPTION, rates.option_confidence_threshold), (IS_LINEAR, rates.perpetual_confidence_threshold)
            ):  # fmt: skip
                those = np.flatnonzero(mine & (sort == counts_as))
                set_aside[those] += confidence_charges(
                    confidence[those], notional[those], threshold=threshold, charge=rates.confidence_charge
                )
            linear = np.flatnonzero(mine & (sort == IS_LINEAR))
            held = columns.quantity[linear] * columns.mark_price[linear] * unit[linear]
            isolated[linear, 0] = held * rates.perpetual_initial
            isolated[linear, 1] = held * rates.perpetual_maintenance
            options = np.flatnonzero(mine & (sort == IS_OPTION) & (columns.forward > 0.0))
            if options.shape[0] == 0:
                continue
            is_call = columns.call[options] != 0
            mark = option_prices(
                forward=columns.forward[options],
                strike=columns.strike[options],
                time_to_expiry=columns.time_to_expiry[options],
                implied_vol=columns.implied_vol[options],
                discount=np.ones(options.shape[0]),
                is_call=is_call,
            )
            charges = isolated_charges(
                spot=float(columns.index_price[options[0]]),
                strike=columns.strike[options],
                is_call=is_call,
                amount=-columns.quantity[options],
                mark=mark,
                rates=rates.options,
            )
            for side, charge in enumerate(charges):
                isolated[options, side] = charge * unit[options]
            uncovered[options] = (rates.options.uncovered_initial, rates.options.uncovered_maintenance)
        return DeriveSrmTables(
            sort=sort,
            call=columns.call.copy(),
            isolated=isolated,
            mark=np.where(sort == IS_OPTION, columns.value * unit, 0.0),
            strike=columns.strike * unit,
            size=columns.quantity.copy(),
            forward=columns.forward * columns.quantity * unit,
            set_aside=set_aside,
            expiry=expiry,
            uncovered=uncovered,
            asset_unit=columns.assets.unit,
            uncounted=_uncounted(columns, markets, parameters),
        )

    def requirements(
        self, tables: DeriveSrmTables, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return ``(initial, maintenance)``, each (n,), numeraire; infinite where a position is not covered."""
        initial = np.empty(rows.shape[0])
        maintenance = np.empty(rows.shape[0])
        cash, narrow = positions.cash_and_narrow(rows)
        most = int(positions.count[rows].max(initial=0))
        _requirements(
            tables.sort, tables.call, tables.isolated, tables.mark, tables.strike, tables.size, tables.forward,
            tables.set_aside, tables.expiry, tables.uncovered, tables.asset_unit, tables.uncounted, positions.offset,
            positions.count, positions.instrument, positions.lots, cash, narrow, rows, np.empty(most, np.int64),
            np.empty(most), initial, maintenance,
        )  # fmt: skip
        return initial, maintenance

    def breakdown(
        self, tables: DeriveSrmTables, parameters: DeriveSrmParameters, listings: Listings,  # noqa: ARG002 - in tables
        positions: PositionColumns, row: int,
    ) -> Breakdown:  # fmt: skip
        """Return what perpetuals need, and of every expiry of options the loss that counts."""
        parts: list[Part] = []
        groups = []
        for (sort, _), held in grouped(positions, row, lambda i: (int(tables.sort[i]), int(tables.expiry[i]))).items():
            of = group_name(listings, held[0][0])
            if sort == IS_LINEAR:
                lone = [sum(abs(lots) * float(tables.isolated[i, side]) for i, lots in held) for side in range(2)]
                parts.append(Part("perpetuals", of, *lone))
            elif sort == IS_OPTION:
                expiry_ns = listings.instruments[held[0][0]].expiry_ns
                assert expiry_ns is not None, "an option expires"
                of = f"{of}, {np.datetime64(expiry_ns, 'ns').astype('datetime64[m]')}Z"
                group, initial = _expiry_group(tables, of, held)
                worth = sum(lots * float(tables.mark[i]) for i, lots in held)
                counted = 0.0 if group.counts is None else group.scenarios[group.counts].profit
                parts += [Part("marks of options", of, worth, worth), Part(LOSS, of, -initial, -counted)]
                groups.append(group)
            set_aside = sum((abs(lots) if sort == IS_LINEAR else max(-lots, 0.0)) * float(tables.set_aside[i])
                            for i, lots in held)  # fmt: skip
            if set_aside:
                parts.append(Part("depeg and low confidence", of, set_aside, 0.0))
        parts += _collateral_parts(tables, listings, positions, row)
        return Breakdown(parts + floors(parts), groups)


MODEL = DeriveSrmModel()


def _expiry_group(tables: DeriveSrmTables, of: str, held: list[tuple[int, float]]) -> tuple[ScenarioGroup, float]:
    """Return an expiry's payoffs and what its shorts need one by one, and the profit, <= 0, that counts initially."""
    calls = sum(lots * float(tables.forward[i]) for i, lots in held if tables.call[i] != 0)
    uncovered_initial, uncovered = (float(rate) * min(calls, 0.0) for rate in tables.uncovered[held[0][0]])
    prices = [0.0, *dict.fromkeys(float(tables.strike[i]) for i, _ in held)]
    payoffs = []
    for price in prices:
        inside = {
            i: lots * float(tables.size[i]) * max(
                price - float(tables.strike[i]) if tables.call[i] != 0 else float(tables.strike[i]) - price, 0.0
            )
            for i, lots in held
        }  # fmt: skip
        payoffs.append(ScenarioProfit(f"settles at {price:g}", inside, uncovered))
    worst = min(range(len(payoffs)), key=lambda it: payoffs[it].profit)
    least = min(payoffs[worst].profit - uncovered, 0.0)
    if payoffs[worst].profit > uncovered:
        # What the options pay is no loss anywhere; uncovered calls lose beyond the last strike all the same.
        payoffs.append(ScenarioProfit("settles where nothing is paid", {}, uncovered))
        worst = len(payoffs) - 1
    alone = [{i: abs(lots) * float(tables.isolated[i, side]) for i, lots in held if lots < 0.0} for side in range(2)]
    payoffs.append(ScenarioProfit("each short option by itself", alone[1]))
    counts: int | None = worst if payoffs[-1].profit < least + uncovered else len(payoffs) - 1
    if payoffs[counts or 0].profit >= 0.0:
        counts = None
    group = ScenarioGroup(of, payoffs, counts, 1.0, "the worst settlement or each short by itself, whichever is less")
    return group, max(sum(alone[0].values()), least + uncovered_initial)


def _collateral_parts(tables: DeriveSrmTables, listings: Listings, positions: PositionColumns, row: int) -> list[Part]:
    """Return what of each asset does not count."""
    cash, narrow = positions.cash_and_narrow(np.array([row]))
    if cash.shape[1] == 0 or narrow[0]:
        return []
    found = []
    for asset, units in enumerate(cash[row]):
        whole = max(float(units), 0.0) * float(tables.asset_unit[asset])
        if whole and tables.uncounted[asset].any():
            found.append(Part("collateral", listings.assets[asset].asset, *(whole * tables.uncounted[asset]).tolist()))
    return found


def _uncounted(columns: InstrumentColumns, markets: Markets, parameters: DeriveSrmParameters) -> Float64Array:
    """Return what of a whole asset does not count as collateral, (A, 2), numeraire: initially, and to stay.

    As the venue counts a spot's notional in its own money, what counts is worth less where the stable asset is.
    """
    assets = columns.assets
    uncounted = np.zeros((assets.price.shape[0], 2))
    for a, name in enumerate(assets.name):
        if markets.cash[a]:
            continue
        rates = parameters.market(name)
        confidence, unit = markets.asset_confidence[a], markets.stable_price
        home = NO_GROUP if assets.underlying[a] < 0 else markets.home[assets.underlying[a]]
        if home != NO_GROUP:
            confidence, unit = min(confidence, markets.confidence[home]), markets.settlement_price[home]
        counted = unit * rates.spot_weight
        oracle = 0.0
        if rates.spot_weight != 0.0 and confidence < rates.spot_confidence_threshold:
            oracle = (1.0 - confidence) * rates.confidence_charge * unit
        uncounted[a] = 1.0 - counted * rates.spot_initial_scale + oracle, 1.0 - counted
    return uncounted * assets.price[:, None]


@njit(cache=True, error_model="numpy")
def _requirements(
    sort: Int8Array,
    call: Int8Array,
    isolated: Float64Array,
    mark: Float64Array,
    strike: Float64Array,
    size: Float64Array,
    forward: Float64Array,
    set_aside: Float64Array,
    expiry: Int32Array,
    uncovered: Float64Array,
    asset_unit: Float64Array,
    uncounted: Float64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    cash: Int64Array,
    narrow: BoolArray,
    rows: Int64Array,
    held: Int64Array,
    amount: Float64Array,
    initial: Float64Array,
    maintenance: Float64Array,
) -> None:
    assets = min(asset_unit.shape[0], cash.shape[1])
    for n in range(rows.shape[0]):
        first, last = offset[rows[n]], offset[rows[n]] + count[rows[n]]
        opened = 0.0
        kept = 0.0
        covered = True
        for p in range(first, last):
            i = instrument[p]
            if sort[i] == NOT_COVERED:
                covered = False
            elif sort[i] == IS_LINEAR:
                many = abs(float(lots[p]))
                opened += many * (isolated[i, 0] + set_aside[i])
                kept += many * isolated[i, 1]
            elif sort[i] == IS_OPTION:
                seen = False
                for earlier in range(first, p):
                    j = instrument[earlier]
                    seen = seen or (sort[j] == IS_OPTION and expiry[j] == expiry[i])
                if seen:
                    continue
                # The first option of an expiry stands for all of them.
                options = 0
                alone_initial = 0.0
                alone_maintenance = 0.0
                calls = 0.0
                worth = 0.0
                for q in range(p, last):
                    j = instrument[q]
                    if sort[j] != IS_OPTION or expiry[j] != expiry[i]:
                        continue
                    many = float(lots[q])
                    held[options] = j
                    amount[options] = many * size[j]
                    options += 1
                    worth += many * mark[j]
                    if many < 0.0:
                        alone_initial -= many * isolated[j, 0]
                        alone_maintenance -= many * isolated[j, 1]
                        opened -= many * set_aside[j]
                    if call[j] != 0:
                        calls += many * forward[j]
                worst = 0.0
                for at in range(-1, options):
                    price = 0.0 if at < 0 else strike[held[at]]
                    payoff = 0.0
                    for o in range(options):
                        inside = price - strike[held[o]] if call[held[o]] != 0 else strike[held[o]] - price
                        payoff += amount[o] * max(inside, 0.0)
                    worst = min(worst, payoff)
                naked = min(calls, 0.0)
                opened += worth - max(alone_initial, worst + uncovered[i, 0] * naked)
                kept += worth - max(alone_maintenance, worst + uncovered[i, 1] * naked)
        # An isolated account that holds positions has no collateral but cash.
        for a in range(assets):
            if cash[rows[n], a] > 0 and not narrow[n]:
                whole = cash[rows[n], a] * asset_unit[a]
                opened += whole * uncounted[a, 0]
                kept += whole * uncounted[a, 1]
        maintenance[n] = max(kept, 0.0) if covered else np.inf
        initial[n] = max(opened, maintenance[n])
