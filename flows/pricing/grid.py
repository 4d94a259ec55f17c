"""Instruments × scenarios: what a long lot gains or loses when spot and vol jump, in the numeraire.

1. A scenario multiplies the spot, and every forward and mark with it, and the vol of every option; no time passes.
2. Profit is in settlement assets, at the settlement asset's present price: what collateral itself would lose belongs to
   its haircut.
3. Valuation only: scenarios are summed and compared by the margin models. The flat scenario's profit is exactly 0.
"""

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.pricing.black76 import undiscounted_price
from flows.pricing.kinds import OPTION, SPOT
from flows.pricing.linear import lot_value
from flows.pricing.polynomials import exp, power

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int8Array = npt.NDArray[np.int8]

_LANES: Final = 8  # doubles in 64 bytes
_DAYS: Final = 365.0
_REFERENCE_DAYS: Final = 30.0


class PricedInstruments(Protocol):
    """The columns that a revaluation reads, each (K,), as ``InstrumentColumns`` of the market describes them."""

    kind: Int8Array
    inverse: Int8Array
    call: Int8Array
    quantity: Float64Array
    strike: Float64Array
    mark_price: Float64Array
    forward: Float64Array
    implied_vol: Float64Array
    time_to_expiry: Float64Array
    rate: Float64Array
    settlement_price: Float64Array


def aligned_rows(count: int, width: int) -> Float64Array:
    """Return a zeroed (count, width) array that begins at a multiple of 64 bytes; ``width`` a multiple of 8."""
    storage = np.zeros(count * width + _LANES)
    start = (-storage.ctypes.data % 64) // 8
    return storage[start : start + count * width].reshape(count, width)


def padded(values: Float64Array, fill: float) -> Float64Array:
    """Return (m,) values lengthened by ``fill`` to a multiple of 8."""
    width = -(-values.shape[0] // _LANES) * _LANES
    out = np.full(width, fill)
    out[: values.shape[0]] = values
    return out


def scenario_profits(
    columns: PricedInstruments,
    members: Int64Array,
    *,
    spot_multiple: Float64Array,
    vol_direction: Float64Array,
    vol_up: float,
    vol_down: float,
    vol_power_short: float,
    vol_power_long: float,
    vol_days_min: float,
    out: Float64Array,
) -> None:
    """Write the profit of a long lot of each member under each scenario into the members' rows of ``out``.

    Parameters
    ----------
    spot_multiple : (S,), > 0; vol_direction : (S,), -1, 0 or 1; S a multiple of 8.
    vol_up, vol_down : by how much a 30-day vol rises or falls, as a ratio; of other expiries
        times (30 d / time to expiry)^power, the power by whether 30 days are left, the time at least ``vol_days_min``.
    out : (K, S), numeraire per lot.
    """
    _profits(
        members, columns.kind, columns.inverse, columns.call, columns.quantity, columns.strike,
        columns.mark_price, columns.forward, columns.implied_vol, columns.time_to_expiry, columns.rate,
        columns.settlement_price, spot_multiple, vol_direction, vol_up, vol_down, vol_power_short, vol_power_long,
        vol_days_min, out,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _profits(
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
    rate: Float64Array,
    settlement_price: Float64Array,
    spot_multiple: Float64Array,
    vol_direction: Float64Array,
    vol_up: float,
    vol_down: float,
    vol_power_short: float,
    vol_power_long: float,
    vol_days_min: float,
    out: Float64Array,
) -> None:
    scenarios = spot_multiple.shape[0]
    total_vol = np.empty(scenarios)
    for place in range(members.shape[0]):
        i = members[place]
        row = out[i]
        in_coins = inverse[i] != 0
        scale = settlement_price[i]
        if kind[i] == SPOT or (forward[i] <= 0.0 and mark_price[i] <= 0.0):  # unknown, or settled
            row[:] = 0.0
        elif kind[i] == OPTION:
            time = time_to_expiry[i]
            days = time * _DAYS
            stretch = power(
                _REFERENCE_DAYS / max(days, vol_days_min),
                vol_power_short if days <= _REFERENCE_DAYS else vol_power_long,
            )
            base_vol = implied_vol[i] * np.sqrt(time)
            up = base_vol * (1.0 + vol_up * stretch)
            down = base_vol * max(1.0 - vol_down * stretch, 0.0)
            for s in range(scenarios):
                total_vol[s] = up if vol_direction[s] > 0.0 else (down if vol_direction[s] < 0.0 else base_vol)
            is_call = call[i] != 0
            f = forward[i]
            k = strike[i]
            present = undiscounted_price(f, k, base_vol, is_call)
            if in_coins:
                scale *= quantity[i]
                present /= f
                for s in range(scenarios):
                    moved = f * spot_multiple[s]
                    row[s] = scale * (undiscounted_price(moved, k, total_vol[s], is_call) / moved - present)
            else:
                scale *= quantity[i] * exp(-rate[i] * time)
                for s in range(scenarios):
                    row[s] = scale * (undiscounted_price(f * spot_multiple[s], k, total_vol[s], is_call) - present)
        else:
            mark = mark_price[i]
            present = lot_value(quantity[i], mark, in_coins)
            for s in range(scenarios):
                row[s] = scale * (lot_value(quantity[i], mark * spot_multiple[s], in_coins) - present)
