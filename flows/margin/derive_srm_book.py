"""``derive-srm`` over whole books: charges per lot once an instant, and each expiry's worst payoff for each account.

1. The rules are those of ``flows.margin.derive_srm``. Requirements are against equity with every position at the
   market's mark, so that equity beyond them is the venue's margin value: a long option's mark is part of them whole.
2. The market has one confidence, that a price is usable; collateral is cash, with the engine's own haircuts. So there
   is no oracle contingency and no spot collateral. A stable asset's price is that of the settlement asset.
3. Linear options and perpetuals are covered. An account with anything else has no finite requirement, and so is not
   decided; spot pairs are balances, and what has settled is nothing.
4. Initial margin is at least maintenance margin, also where parameters say otherwise, and both are at least 0.
5. Sums run in instrument order within an account; expiries in the order of its first instrument of each.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from flows.margin.breakdown import LOSS, Breakdown, Part, ScenarioGroup, ScenarioProfit, floors, group_name, grouped
from flows.margin.derive import option_prices
from flows.margin.derive_pmrm2_book import dense, sorts
from flows.margin.derive_srm import isolated_charges
from flows.margin.model import Float64Array, Int64Array, PositionColumns, UInt32Array
from flows.market.columns import InstrumentColumns, Int8Array, Int32Array
from flows.market.listings import Listings
from schemas.derive_parameters import DeriveSrmParameters

# How an instrument counts, as ``sorts`` says.
_NOTHING: Final = 0
_IS_OPTION: Final = 1
_IS_LINEAR: Final = 2
_NOT_COVERED: Final = 3


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
    depeg : (K,), what a short option or a perpetual of either side sets aside by the lot, initially, >= 0.
    expiry : (K,), dense. uncovered : (K, 2), what uncovered calls cost beyond the worst payoff, initially and to stay.
    """

    sort: Int8Array
    call: Int8Array
    isolated: Float64Array
    mark: Float64Array
    strike: Float64Array
    size: Float64Array
    forward: Float64Array
    depeg: Float64Array
    expiry: Int32Array
    uncovered: Float64Array


class DeriveSrmModel:
    """The model; without state."""

    name = "derive-srm"

    def tables(self, columns: InstrumentColumns, parameters: DeriveSrmParameters) -> DeriveSrmTables:
        """Return the charges per lot of every instrument."""
        sort = sorts(columns)
        _, group = dense(columns.underlying, columns.settlement_asset)
        _, expiry = dense(group, columns.expiry_ns)
        isolated, uncovered = np.zeros((columns.count, 2)), np.zeros((columns.count, 2))
        unit = columns.settlement_price
        for place, name in enumerate(columns.underlyings):
            rates = parameters.market(name)
            mine = columns.underlying == place
            linear = np.flatnonzero(mine & (sort == _IS_LINEAR))
            held = columns.quantity[linear] * columns.mark_price[linear] * unit[linear]
            isolated[linear, 0] = held * rates.perpetual_initial
            isolated[linear, 1] = held * rates.perpetual_maintenance
            options = np.flatnonzero(mine & (sort == _IS_OPTION) & (columns.forward > 0.0))
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
        gap = np.maximum(parameters.peg_threshold - unit, 0.0) * parameters.peg_factor
        return DeriveSrmTables(
            sort=sort,
            call=columns.call.copy(),
            isolated=isolated,
            mark=np.where(sort == _IS_OPTION, columns.value * unit, 0.0),
            strike=columns.strike * unit,
            size=columns.quantity.copy(),
            forward=columns.forward * columns.quantity * unit,
            depeg=np.where(sort == _NOTHING, 0.0, columns.notional * unit * gap),
            expiry=expiry,
            uncovered=uncovered,
        )

    def requirements(
        self, tables: DeriveSrmTables, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return ``(initial, maintenance)``, each (n,), numeraire; infinite where a position is not covered."""
        initial = np.empty(rows.shape[0])
        maintenance = np.empty(rows.shape[0])
        most = int(positions.count[rows].max(initial=0))
        _requirements(
            tables.sort, tables.call, tables.isolated, tables.mark, tables.strike, tables.size, tables.forward,
            tables.depeg, tables.expiry, tables.uncovered, positions.offset, positions.count, positions.instrument,
            positions.lots, rows, np.empty(most, np.int64), np.empty(most), initial, maintenance,
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
            if sort == _IS_LINEAR:
                lone = [sum(abs(lots) * float(tables.isolated[i, side]) for i, lots in held) for side in range(2)]
                parts.append(Part("perpetuals", of, *lone))
            elif sort == _IS_OPTION:
                expiry_ns = listings.instruments[held[0][0]].expiry_ns
                assert expiry_ns is not None, "an option expires"
                of = f"{of}, {np.datetime64(expiry_ns, 'ns').astype('datetime64[m]')}Z"
                group, initial = _expiry_group(tables, of, held)
                worth = sum(lots * float(tables.mark[i]) for i, lots in held)
                counted = 0.0 if group.counts is None else group.scenarios[group.counts].profit
                parts += [Part("marks of options", of, worth, worth), Part(LOSS, of, -initial, -counted)]
                groups.append(group)
            depeg = sum((abs(lots) if sort == _IS_LINEAR else max(-lots, 0.0)) * float(tables.depeg[i])
                        for i, lots in held)  # fmt: skip
            if depeg:
                parts.append(Part("depeg", of, depeg, 0.0))
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


@njit(cache=True, error_model="numpy")
def _requirements(
    sort: Int8Array,
    call: Int8Array,
    isolated: Float64Array,
    mark: Float64Array,
    strike: Float64Array,
    size: Float64Array,
    forward: Float64Array,
    depeg: Float64Array,
    expiry: Int32Array,
    uncovered: Float64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    rows: Int64Array,
    held: Int64Array,
    amount: Float64Array,
    initial: Float64Array,
    maintenance: Float64Array,
) -> None:
    for n in range(rows.shape[0]):
        first, last = offset[rows[n]], offset[rows[n]] + count[rows[n]]
        opened = 0.0
        kept = 0.0
        covered = True
        for p in range(first, last):
            i = instrument[p]
            if sort[i] == _NOT_COVERED:
                covered = False
            elif sort[i] == _IS_LINEAR:
                many = abs(float(lots[p]))
                opened += many * (isolated[i, 0] + depeg[i])
                kept += many * isolated[i, 1]
            elif sort[i] == _IS_OPTION:
                seen = False
                for earlier in range(first, p):
                    j = instrument[earlier]
                    seen = seen or (sort[j] == _IS_OPTION and expiry[j] == expiry[i])
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
                    if sort[j] != _IS_OPTION or expiry[j] != expiry[i]:
                        continue
                    many = float(lots[q])
                    held[options] = j
                    amount[options] = many * size[j]
                    options += 1
                    worth += many * mark[j]
                    if many < 0.0:
                        alone_initial -= many * isolated[j, 0]
                        alone_maintenance -= many * isolated[j, 1]
                        opened -= many * depeg[j]
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
        maintenance[n] = max(kept, 0.0) if covered else np.inf
        initial[n] = max(opened, maintenance[n])
