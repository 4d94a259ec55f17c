"""What accounts' health is at least and at most while the market stays within their boxes.

A boundary of the ladder is ``equity = multiple × margin``. For an account, the least of ``equity - multiple × margin``
over the product of its boxes is bounded from the lines of ``flows.screening.bounds``:

1. With a long taking ``low`` and a short taking ``high``, the sum of an account's lines on one underlying is a line
   below what its positions are worth there, at the mark (M) and in each scenario (W_s); the other way round it is a
   line above. All of it is in the one asset that the account's positions settle in.
2. Equity counts the net of that asset by a function that is concave in it: the line between its values at the least
   and the greatest net lies below it, ``a + b × net`` with b in [1 - haircut, 1]; any of its tangents above.
3. ``tidegate-portfolio`` asks ``k × max(0, -min over s of w_s (W_s - M))`` of an underlying, k being multiple × factor.
   With equity's part that is the least over s of ``b M + k w_s (W_s - M)``, and of ``b M``: each is
   ``k w_s W_s + (b - k w_s) M``, bounded by W_s's lower line and by the line of M that the sign of its factor asks for.
   A minimum of lines is concave, so its least is at an end of the spot's range; and sums over underlyings, which move
   apart, are least where each is.
4. Of an offset group with share f, ``(1 - f)`` of that counts, and f of the least over s of the *sum* of the group's
   underlyings, each at its own worse end.
5. ``tidegate-standard`` asks a number a lot and side, whose greatest over the box is in the tables.
6. Contingencies, confidence and concentration rise with spot and confidence: their greatest is at the upper ends.
7. The asset's price multiplies the whole: at its low end where that is positive, at its high end where it is not.
8. Balances of other assets count at the low end of price and the high end of haircut if owned, at the high end of
   price if owed.

The upper bound mirrors this; of a minimum over scenarios it takes the least of each scenario's greatest.

An account that any of this does not cover is *hot*: inverse positions, positions that settle in several assets, another
margin model, open orders, an order of liquidation that is open, a tier from liquidating on, a suspended decision.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.margin.add_ons import concentration
from schemas.results import Tier

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
UInt32Array = npt.NDArray[np.uint32]
UInt16Array = npt.NDArray[np.uint16]
UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

# How an account's margin model is bounded.
NOT_BOUNDED: Final = 0
STANDARD: Final = 1
PORTFOLIO: Final = 2

# Columns of ``needs_high`` and ``needs_low``.
LONG_INITIAL: Final = 0
LONG_MAINTENANCE: Final = 1
SHORT_INITIAL: Final = 2
SHORT_MAINTENANCE: Final = 3
LONG_TERM: Final = 4
SHORT_TERM: Final = 5
NOTIONAL: Final = 6
NEEDS: Final = 7

# Tiers, as kernels see them.
HEALTHY: Final = int(Tier.HEALTHY)
WARNING: Final = int(Tier.WARNING)

# Rounding of the engine's own sums, relative to what is added up, and in the numeraire.
_ROUNDING: Final = 1e-10
_LEAST: Final = 1e-6


@dataclass(frozen=True, slots=True)
class LevelTables:
    """The boxes of one level as columns: K instruments, U underlyings, A assets.

    Attributes
    ----------
    lines : (2 K, W), as in ``InstrumentBounds``. covered : (K,), the instrument's box stands and covers it.
    needs_high, needs_low : (K, 7), the greatest and the least over the box, per lot, numeraire: initial and maintenance
        of a long and of a short lot under ``tidegate-standard``; contingency and confidence of a long and of a short
        lot under ``tidegate-portfolio``; notional.
    asset_covered : (A,), whether the asset's box stands.
    price_low, price_high, haircut_low, haircut_high : (A,).
    """

    lines: Float64Array
    covered: BoolArray
    needs_high: Float64Array
    needs_low: Float64Array
    asset_covered: BoolArray
    price_low: Float64Array
    price_high: Float64Array
    haircut_low: Float64Array
    haircut_high: Float64Array


@dataclass(frozen=True, slots=True)
class Terms:
    """What the two models ask beyond lines and lots, and where the ladder's boundaries lie.

    Attributes
    ----------
    weight : (S,), of scenarios. initial_factor, maintenance_factor : of ``tidegate-portfolio``.
    offset_group : (U,), -1 for none; offset_share : (C,).
    inverse_depth : (2, U), rate, cap : (2,), of concentration, by model: standard, portfolio.
    watch_multiple : of initial margin.
    """

    weight: Float64Array
    initial_factor: float
    maintenance_factor: float
    offset_group: Int64Array
    offset_share: Float64Array
    inverse_depth: Float64Array
    concentration_rate: Float64Array
    concentration_cap: Float64Array
    watch_multiple: float


@dataclass(frozen=True, slots=True)
class Accounts:
    """The book's columns that are read, by row."""

    cash: Int64Array
    offset: Int64Array
    count: Int64Array
    instrument: UInt32Array
    lots: Int64Array
    isolated: BoolArray
    tier: UInt8Array
    bounded_as: UInt8Array


def keeps_its_tier(
    tables: LevelTables,
    terms: Terms,
    accounts: Accounts,
    *,
    group: Int32Array,
    settlement_asset: UInt16Array,
    asset_unit: Float64Array,
    rows: Int64Array,
) -> BoolArray:
    """Return (n,) whether no boundary of the ladder is reached by ``rows`` anywhere in their boxes of this level.

    Rows are of a tier below ``LIQUIDATING``. ``group`` (K,) is the underlying; ``asset_unit`` (A,) whole assets a unit.
    """
    out = np.zeros(rows.shape[0], np.bool_)
    _keeps_its_tier(
        tables.lines, tables.covered, tables.needs_high, tables.needs_low, tables.asset_covered, tables.price_low,
        tables.price_high, tables.haircut_low, tables.haircut_high, terms.weight, terms.initial_factor,
        terms.maintenance_factor, terms.offset_group, terms.offset_share, terms.inverse_depth,
        terms.concentration_rate, terms.concentration_cap, terms.watch_multiple, accounts.cash, accounts.offset,
        accounts.count, accounts.instrument, accounts.lots, accounts.isolated, accounts.tier, accounts.bounded_as,
        group, settlement_asset, asset_unit, rows, out,
    )  # fmt: skip
    return out


@njit(cache=True, error_model="numpy")
def _keeps_its_tier(
    lines: Float64Array,
    covered: BoolArray,
    needs_high: Float64Array,
    needs_low: Float64Array,
    asset_covered: BoolArray,
    price_low: Float64Array,
    price_high: Float64Array,
    haircut_low: Float64Array,
    haircut_high: Float64Array,
    weight: Float64Array,
    initial_factor: float,
    maintenance_factor: float,
    offset_group: Int64Array,
    offset_share: Float64Array,
    inverse_depth: Float64Array,
    concentration_rate: Float64Array,
    concentration_cap: Float64Array,
    watch_multiple: float,
    cash: Int64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    isolated: BoolArray,
    tier: UInt8Array,
    bounded_as: UInt8Array,
    group: Int32Array,
    settlement_asset: UInt16Array,
    asset_unit: Float64Array,
    rows: Int64Array,
    out: BoolArray,
) -> None:
    underlyings, width = offset_group.shape[0], lines.shape[1]
    half, scenarios = width // 2, weight.shape[0]
    assets = asset_unit.shape[0]
    offsets = offset_share.shape[0]
    low, high = np.empty((underlyings, width)), np.empty((underlyings, width))
    needed, gross = np.empty((underlyings, 4)), np.empty((underlyings, 2))
    held_by, held = np.full(underlyings, -1), np.empty(underlyings, np.int64)
    joint = np.empty((offsets, 1 + scenarios))
    joined_by = np.full(offsets, -1)
    for n in range(rows.shape[0]):
        row = rows[n]
        start, end = offset[row], offset[row] + count[row]
        standard = bounded_as[row] == STANDARD
        # Standard accounts need the mark alone; portfolio accounts that only from above, where no boundary lies there.
        two_sided = tier[row] != HEALTHY
        groups, asset, covers = 0, np.int64(-1), True
        for p in range(start, end):
            i = instrument[p]
            if not covered[i] or (asset >= 0 and settlement_asset[i] != asset):
                covers = False
                break
            asset = np.int64(settlement_asset[i])
            g = group[i]
            size = float(lots[p])
            if held_by[g] != n:
                held_by[g] = n
                held[groups] = g
                groups += 1
                low[g] = 0.0
                high[g] = 0.0
                needed[g] = 0.0
                gross[g] = 0.0
            under, over = (lines[2 * i], lines[2 * i + 1]) if size > 0.0 else (lines[2 * i + 1], lines[2 * i])
            if standard:
                for c in (0, half):
                    low[g, c] += size * under[c]
                    high[g, c] += size * over[c]
            else:
                _add(size, under, low[g])
                if two_sided:
                    _add(size, over, high[g])
                else:
                    high[g, 0] += size * over[0]
                    high[g, half] += size * over[half]
            lot = abs(size)
            if standard:
                side = LONG_INITIAL if size > 0.0 else SHORT_INITIAL
                needed[g, 0] += lot * needs_high[i, side]
                needed[g, 1] += lot * needs_high[i, side + 1]
                needed[g, 2] += lot * needs_low[i, side]
            else:
                side = LONG_TERM if size > 0.0 else SHORT_TERM
                needed[g, 0] += lot * needs_high[i, side]
                needed[g, 2] += lot * needs_low[i, side]
            gross[g, 0] += lot * needs_high[i, NOTIONAL]
            gross[g, 1] += lot * needs_low[i, NOTIONAL]
        if not covers:
            continue
        # Balances of other assets, and how much is added up at all.
        others_low, others_high, size_of_all = 0.0, 0.0, 0.0
        narrow = isolated[row] and end > start
        for j in range(assets):
            units = cash[row, j] * asset_unit[j]
            if units != 0.0 and not asset_covered[j]:
                covers = False
            size_of_all += abs(units) * price_high[j]
            if j == asset or units == 0.0:
                continue
            if units < 0.0:
                others_low += units * price_high[j]
                others_high += units * price_low[j]
            elif not narrow:
                others_low += units * (1.0 - haircut_high[j]) * price_low[j]
                others_high += units * (1.0 - haircut_low[j]) * price_high[j]
        if asset >= 0 and not asset_covered[asset]:
            covers = False
        if not covers:
            continue
        net_low = net_high = owned = 0.0
        if asset >= 0:
            owned = cash[row, asset] * asset_unit[asset]
            net_low = net_high = owned
        for k in range(groups):
            g = held[k]
            net_low += min(low[g, 0], low[g, half])
            net_high += max(high[g, 0], high[g, half])
            size_of_all += 8.0 * gross[g, 0]
        outward = _ROUNDING * size_of_all + _LEAST

        model = 0 if standard else 1
        now = tier[row]
        # The boundary below: watch of initial, initial, maintenance; and the one above, for all but the healthy.
        for upward in range(2):
            if upward == 1 and now == HEALTHY:
                break
            of_maintenance = upward == 0 and now == WARNING
            multiple = watch_multiple if now == upward else 1.0
            factor = multiple * (maintenance_factor if of_maintenance else initial_factor)
            # Equity's line in the net.
            beta, alpha = 1.0, 0.0
            if asset >= 0:
                if upward == 1:
                    beta = 1.0 - haircut_low[asset] if net_low + net_high > 0.0 else 1.0
                elif net_low >= 0.0:
                    beta = 1.0 - haircut_high[asset]
                elif net_high > 0.0:
                    beta = ((1.0 - haircut_high[asset]) * net_high - net_low) / (net_high - net_low)
                    alpha = net_low - beta * net_low
            worth = alpha + beta * owned
            need = 0.0
            for k in range(groups):
                g = held[k]
                size = gross[g, upward]
                added = concentration(
                    size, inverse_depth[model, g], concentration_rate[model], concentration_cap[model]
                )
                if standard:
                    asked = needed[g, 2] if upward == 1 else needed[g, 1 if of_maintenance else 0]
                    need += multiple * (asked + added)
                    if upward == 1:
                        worth += beta * max(high[g, 0], high[g, half])
                    else:
                        worth += beta * min(low[g, 0], low[g, half])
                    continue
                need += factor * ((needed[g, 2] if upward == 1 else needed[g, 0]) + added)
                c = offset_group[g]
                share = offset_share[c] if c >= 0 else 0.0
                apart = _apart_high(low[g], high[g], half, weight, beta, factor) if upward == 1 else (
                    _apart_low(low[g], high[g], half, weight, beta, factor)
                )  # fmt: skip
                worth += (1.0 - share) * apart
                if c >= 0 and share > 0.0:
                    if joined_by[c] != 2 * n + upward:
                        joined_by[c] = 2 * n + upward
                        joint[c] = 0.0
                    _join(low[g], high[g], half, weight, beta, factor, upward == 1, joint[c])
            if not standard:
                for c in range(offsets):
                    if joined_by[c] == 2 * n + upward:
                        worth += offset_share[c] * joint[c].min()
            if upward == 0:
                price = 0.0 if asset < 0 else (price_low[asset] if worth >= 0.0 else price_high[asset])
                covers = worth * price + others_low - need >= outward
            else:
                price = 0.0 if asset < 0 else (price_high[asset] if worth >= 0.0 else price_low[asset])
                covers = worth * price + others_high - need < -outward
            if not covers:
                break
        out[n] = covers


@njit(forceinline=True, error_model="numpy")
def _add(size: float, line: Float64Array, sums: Float64Array) -> None:
    for c in range(sums.shape[0]):
        sums[c] += size * line[c]


@njit(forceinline=True, error_model="numpy")
def _part(near: Float64Array, far: Float64Array, at: int, s: int, beta: float, weighted: float) -> float:
    """Return a line on the near side of ``beta M + weighted (W_s - M)`` at one end.

    ``near`` are an account's lines on the side wanted, low or high, and ``far`` those on the other.
    """
    rest = beta - weighted
    mark: float = near[at] if rest >= 0.0 else far[at]
    scenario: float = near[at + 1 + s]
    return weighted * scenario + rest * mark


@njit(forceinline=True, error_model="numpy")
def _scenario_low(low: Float64Array, high: Float64Array, half: int, s: int, beta: float, weighted: float) -> float:
    """Return the least of an underlying's part in a scenario, over both ends."""
    return min(_part(low, high, 0, s, beta, weighted), _part(low, high, half, s, beta, weighted))


@njit(forceinline=True, error_model="numpy")
def _scenario_high(low: Float64Array, high: Float64Array, half: int, s: int, beta: float, weighted: float) -> float:
    """Return the greatest of it."""
    return max(_part(high, low, 0, s, beta, weighted), _part(high, low, half, s, beta, weighted))


@njit(error_model="numpy")
def _apart_low(
    low: Float64Array, high: Float64Array, half: int, weight: Float64Array, beta: float, factor: float
) -> float:
    """Return the least of an underlying's part over scenarios, nothing happening among them."""
    least: float = beta * min(low[0], low[half])
    for s in range(weight.shape[0]):
        least = min(least, _scenario_low(low, high, half, s, beta, factor * weight[s]))
    return least


@njit(error_model="numpy")
def _apart_high(
    low: Float64Array, high: Float64Array, half: int, weight: Float64Array, beta: float, factor: float
) -> float:
    """Return the least over scenarios of the greatest."""
    least: float = beta * max(high[0], high[half])
    for s in range(weight.shape[0]):
        least = min(least, _scenario_high(low, high, half, s, beta, factor * weight[s]))
    return least


@njit(error_model="numpy")
def _join(
    low: Float64Array,
    high: Float64Array,
    half: int,
    weight: Float64Array,
    beta: float,
    factor: float,
    upward: bool,  # noqa: FBT001 - a kernel
    joint: Float64Array,
) -> None:
    """Add an underlying's part to its group's, scenario by scenario; the first place is that nothing happens."""
    joint[0] += beta * (max(high[0], high[half]) if upward else min(low[0], low[half]))
    for s in range(weight.shape[0]):
        weighted = factor * weight[s]
        joint[1 + s] += (
            _scenario_high(low, high, half, s, beta, weighted)
            if upward
            else _scenario_low(low, high, half, s, beta, weighted)
        )
