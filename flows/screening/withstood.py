"""How far the market may move before an account reaches a boundary of its tier, from its Greeks and sizes.

1. A move is counted in *usual moves* of each level, smile and asset, so that one number says how far all of them may go
   at once: ``x``, with ``linear × x + curved × x² / 2`` within what the account has left. That is the condition solved.
2. Sizes are gross: nothing that an account holds is taken to hedge another, so that what it may lose is overstated.
   Margins move with the delta of a long and the notional of a short, and in proportion to themselves.
3. Greeks are local. They are believed for moves of ``BELIEVED``; beyond that an account withstands what notionals alone
   allow.
4. Of what an account has left a tenth is for time. It is looked at again when theta has taken that, and when half of
   the time to an option's expiry is over.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.margin.model import OpenOrders, PositionColumns, UInt32Array
from flows.market.columns import InstrumentColumns
from flows.market.instant import Instant
from flows.screening.clocks import NO_CLOCK, Clocks

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]

BELIEVED: Final = 0.03
_FOR_TIME: Final = 0.1
_DAY_NS: Final = 86_400_000_000_000
# Of an account nothing of which moves.
_FOR_EVER: Final = 1e300


@dataclass(frozen=True, slots=True)
class Looks:
    """When n accounts are to be looked at again.

    Attributes
    ----------
    place, clock, allowance : (p,), of the accounts' clocks: which of the n, which clock, by how much it may advance.
    time_ns : (n,), by when at the latest.
    """

    place: Int64Array
    clock: Int32Array
    allowance: Float64Array
    time_ns: Float64Array


def looks(
    instant: Instant,
    columns: InstrumentColumns,
    clocks: Clocks,
    *,
    rows: Int64Array,
    left: Float64Array,
    multiple: Float64Array,
    margin: Float64Array,
    cash: Int64Array,
    positions: PositionColumns,
    open_orders: OpenOrders,
    miss: float,
) -> Looks:
    """Return when accounts are to be looked at again, at numbers as of this instant.

    Parameters
    ----------
    left : (n,), numeraire to the nearest boundary; ``multiple`` : (n,), of which margin; ``margin`` : (n,), numeraire.
        Where ``left`` is not positive an account is due at once.
    miss : chance of reaching a boundary before the next look, 0 to 1, both excluded.

    Notes
    -----
    Given the sizes of an underlying's moves and no preference for either sign, their sum passes ``y`` anywhere before
    their squares add up to ``q`` with a chance of at most ``2 exp(-y² / 2q)`` (Hoeffding's inequality for martingales),
    whatever the sizes are: a crash or a fat tail spends the allowance, and that is all. So ``q = y² / (2 ln(2F /
    miss))``, for each of an account's F clocks. What a clock stands for is taken to move as one.
    """
    delta = np.abs(instant.greeks[:, 0]) * instant.index_price
    vega = np.abs(instant.greeks[:, 2]) * instant.implied_vol
    counts = int(positions.count[rows].sum())
    if open_orders.count.shape[0]:
        counts += int(open_orders.count[rows].sum())
    room = 3 * counts + rows.shape[0] * cash.shape[1]
    place, clock, allowance = np.empty(room, np.int64), np.empty(room, np.int32), np.empty(room)
    time_ns = np.empty(rows.shape[0])
    used = _looks(
        float(instant.time_ns), clocks.speed, miss, rows, left, multiple, margin,
        positions.offset, positions.count, positions.instrument, positions.lots, cash,
        open_orders.offset, open_orders.count, open_orders.instrument, open_orders.buys, open_orders.sells,
        clocks.level[columns.underlying], clocks.vol, clocks.asset[instant.settlement_asset], clocks.asset,
        columns.expiry_ns, delta, vega, np.abs(instant.greeks[:, 1]) * instant.index_price**2,
        np.abs(instant.greeks[:, 3]), instant.notional,
        np.abs(instant.value) * instant.asset_price[instant.settlement_asset],
        instant.asset_price * instant.asset_unit, place, clock, allowance, time_ns,
    )  # fmt: skip
    return Looks(place[:used], clock[:used], allowance[:used], time_ns)


@njit(cache=True, error_model="numpy")
def _looks(
    now_ns: float,
    speed: Float64Array,
    miss: float,
    rows: Int64Array,
    left: Float64Array,
    multiple: Float64Array,
    margin: Float64Array,
    offset: Int64Array,
    count: Int64Array,
    instrument: UInt32Array,
    lots: Int64Array,
    cash: Int64Array,
    order_offset: Int64Array,
    order_count: Int64Array,
    order_instrument: UInt32Array,
    buys: Int64Array,
    sells: Int64Array,
    level: Int32Array,
    vol: Int32Array,
    coin: Int32Array,
    asset: Int32Array,
    expiry_ns: Int64Array,
    delta: Float64Array,
    vega: Float64Array,
    curves: Float64Array,
    theta: Float64Array,
    notional: Float64Array,
    coin_value: Float64Array,
    asset_value: Float64Array,
    place: Int64Array,
    clock: Int32Array,
    allowance: Float64Array,
    time_ns: Float64Array,
) -> int:
    used = 0
    for n in range(rows.shape[0]):
        row, m = rows[n], multiple[n]
        first = used
        linear = curved = gross = decay = fastest = 0.0
        until = _FOR_EVER
        for p in range(offset[row], offset[row] + count[row]):
            k = instrument[p]
            size = abs(float(lots[p]))
            s = speed[level[k]]
            linear += size * s * (delta[k] + m * (delta[k] if lots[p] > 0 else notional[k]))
            curved += size * s * s * curves[k] * (1.0 + m)
            gross += size * s * notional[k] * (1.0 + m)
            decay += size * theta[k] * (1.0 + m)
            fastest = max(fastest, s)
            coins = size * coin_value[k] * speed[coin[k]]
            linear += coins
            gross += coins
            used = _depends(n, level[k], place, clock, first, used)
            used = _depends(n, coin[k], place, clock, first, used)
            if vol[k] != NO_CLOCK:
                vols = size * vega[k] * speed[vol[k]] * (1.0 + m)
                linear += vols
                gross += vols
                used = _depends(n, vol[k], place, clock, first, used)
                until = min(until, now_ns + 0.5 * (float(expiry_ns[k]) - now_ns))
        if row < order_count.shape[0]:
            for p in range(order_offset[row], order_offset[row] + order_count[row]):
                k = order_instrument[p]
                size = float(buys[p]) + float(sells[p])
                s = speed[level[k]]
                linear += size * s * m * notional[k]
                gross += size * s * m * notional[k]
                fastest = max(fastest, s)
                used = _depends(n, level[k], place, clock, first, used)
                if vol[k] != NO_CLOCK:
                    linear += size * vega[k] * speed[vol[k]] * m
                    gross += size * vega[k] * speed[vol[k]] * m
                    used = _depends(n, vol[k], place, clock, first, used)
        for a in range(cash.shape[1]):
            if cash[row, a] != 0:
                worth = abs(float(cash[row, a])) * asset_value[a] * speed[asset[a]]
                linear += worth
                gross += worth
                used = _depends(n, asset[a], place, clock, first, used)
        linear += m * margin[n] * fastest
        gross += m * margin[n] * fastest
        if not left[n] > 0.0:
            allowance[first:used] = 0.0
            time_ns[n] = now_ns
            continue
        for_moves = (1.0 - _FOR_TIME) * left[n]
        far = linear + np.sqrt(linear * linear + 2.0 * curved * for_moves)
        x = _FOR_EVER if far == 0.0 else 2.0 * for_moves / far
        if fastest > 0.0:
            x = min(x, max(BELIEVED / fastest, for_moves / gross))
        tail = 2.0 * np.log(2.0 * max(used - first, 1) / miss)
        for i in range(first, used):
            y = min(x * speed[clock[i]], 1e100)
            allowance[i] = y * y / tail
        if decay > 0.0:
            until = min(until, now_ns + _FOR_TIME * left[n] / decay * _DAY_NS)
        time_ns[n] = until
    return used


@njit(cache=True, error_model="numpy", inline="always")
def _depends(n: int, wanted: int, place: Int64Array, clock: Int32Array, first: int, used: int) -> int:
    """Note that account n depends on a clock, once; return how many notes there are."""
    for i in range(first, used):
        if clock[i] == wanted:
            return used
    place[used], clock[used] = n, wanted
    return used + 1
