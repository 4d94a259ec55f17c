"""What an account is worth: cash and marked positions by asset, haircut where positive, in the numeraire.

1. Per asset an account has one *net*: its cash plus the value of every position that settles in that asset. A haircut
   falls on a positive net alone; a debt counts whole.
2. An isolated account counts a positive net only in assets in which it holds a position (in all of them while it
   holds none); its debts always count.
3. A positive net of an account whose model margins collateral itself counts whole: its requirement has the rest.
4. An account is *undecidable* while it holds an instrument, or a non-zero balance, whose worth cannot be known.
5. Sums run in instrument order, then in asset order, without contraction: a result depends on the account alone.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.margin.fetching import AHEAD, fetch_positions
from flows.margin.model import Float64Array, Int64Array, PositionColumns, UInt32Array

if TYPE_CHECKING:
    from flows.market.instant import Instant

BoolArray = npt.NDArray[np.bool_]
UInt16Array = npt.NDArray[np.uint16]


def equity(
    instant: "Instant",
    cash: Int64Array,
    positions: PositionColumns,
    isolated: BoolArray,
    rows: Int64Array,
    whole: BoolArray | None = None,
) -> Float64Array:
    """Return the equity of accounts at an instant.

    Parameters
    ----------
    cash : (N, C), units of each asset by account row; an asset without a column has no balance, a column without an
        asset must be empty.
    isolated : (N,), whether the account is isolated.
    rows : (n,), the account rows wanted.
    whole : (n,), which of them have a model that margins collateral itself; None for none.

    Returns
    -------
    (n,), numeraire, signed. Meaningful only where ``undecidable`` is false.
    """
    out = np.empty(rows.shape[0])
    _equity(
        instant.value, instant.settlement_asset, instant.asset_unit, instant.asset_price, instant.haircut,
        cash, positions.offset, positions.count, positions.instrument, positions.lots, isolated, rows,
        np.zeros(rows.shape[0], np.bool_) if whole is None else whole, out,
    )  # fmt: skip
    return out


def undecidable(instant: "Instant", cash: Int64Array, positions: PositionColumns, rows: Int64Array) -> BoolArray:
    """Return (n,) whether an account holds something whose worth cannot be known at this instant."""
    out = np.zeros(rows.shape[0], dtype=np.bool_)
    if not (instant.value_decidable.all() and instant.asset_decidable.all()):
        _undecidable(
            instant.value_decidable, instant.asset_decidable, cash,
            positions.offset, positions.count, positions.instrument, rows, out,
        )  # fmt: skip
    return out


def account_greeks(instant: "Instant", positions: PositionColumns, rows: Int64Array) -> Float64Array:
    """Return (n, 5): delta, gamma, vega, theta, rho of each account's positions, in the units of ``Instant.greeks``.

    Deltas and gammas of different underlyings are added as they are: read them by underlying where there are several.
    """
    out = np.zeros((rows.shape[0], 5))
    _account_greeks(instant.greeks, positions.offset, positions.count, positions.instrument, positions.lots, rows, out)
    return out


@njit(cache=True, error_model="numpy")
def _equity(
    value: Float64Array,
    settlement_asset: UInt16Array,
    asset_unit: Float64Array,
    asset_price: Float64Array,
    haircut: Float64Array,
    cash: Int64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    isolated: BoolArray,
    rows: Int64Array,
    whole: BoolArray,
    out: Float64Array,
) -> None:
    assets = asset_price.shape[0]
    columns = min(assets, cash.shape[1])
    net = np.empty(assets)
    held = np.empty(assets, np.bool_)
    last = rows.shape[0] - 1
    for n in range(rows.shape[0]):
        fetch_positions(offset, instrument, lots, rows[min(n + AHEAD, last)])
        row = np.uint64(rows[n])
        for j in range(columns):
            net[j] = cash[row, j] * asset_unit[j]
        for j in range(columns, assets):
            net[j] = 0.0
        held[:] = False
        start = np.uint64(offset[row])
        end = start + np.uint64(count[row])
        p = start
        while p < end:
            i = np.uint64(instrument[p])
            asset = np.uint64(settlement_asset[i])
            net[asset] += value[i] * lots[p]
            held[asset] = True
            p += np.uint64(1)
        narrow = isolated[row] and end > start
        total = 0.0
        for j in range(assets):
            worth = net[j] * asset_price[j]
            if worth < 0.0:
                total += worth
            elif not narrow or held[j]:
                total += worth if whole[n] else worth * (1.0 - haircut[j])
        out[n] = total


@njit(cache=True, error_model="numpy")
def _undecidable(
    value_decidable: BoolArray,
    asset_decidable: BoolArray,
    cash: Int64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    rows: Int64Array,
    out: BoolArray,
) -> None:
    assets = min(asset_decidable.shape[0], cash.shape[1])
    for n in range(rows.shape[0]):
        row = rows[n]
        unknown = False
        for j in range(assets):
            if cash[row, j] != 0 and not asset_decidable[j]:
                unknown = True
        for p in range(offset[row], offset[row] + count[row]):
            if not value_decidable[instrument[p]]:
                unknown = True
        out[n] = unknown


@njit(cache=True, error_model="numpy")
def _account_greeks(
    greeks: Float64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    rows: Int64Array,
    out: Float64Array,
) -> None:
    for n in range(rows.shape[0]):
        row = rows[n]
        for p in range(offset[row], offset[row] + count[row]):
            for g in range(5):
                out[n, g] += greeks[instrument[p], g] * lots[p]
