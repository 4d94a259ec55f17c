"""What instruments are worth at a time: the one place that turns inputs into values.

1. A value that cannot be known is marked undecidable; what stands in its columns is for display.
2. An instrument needs a usable price of its settlement asset; an underlying whose index price was ever told needs it
   usable; an option needs a fresh smile, and where a forward was ever told, a fresh one.
3. A perpetual, or a future before its expiry, is worth its fresh venue mark, else its index price or forward. A
   perpetual's mark is held within a band of the index price, so that one book cannot mark the whole venue away.
4. From its expiry on, until it settles, an option or future is worth what it would settle at on the index price.
   A settled instrument is worth nothing and is decidable.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.market.columns import (
    CALL,
    DECIDABLE,
    FORWARD,
    FORWARD_RATIO,
    FORWARD_STATE,
    FRESH,
    IMPLIED_VOL,
    INDEX_PRICE,
    INVERSE,
    KIND,
    MARK_PRICE,
    NOTIONAL,
    QUANTITY,
    RATE,
    SETTLED,
    SETTLEMENT_PRICE,
    STALE,
    STRIKE,
    TIME_TO_EXPIRY,
    UNKNOWN,
    VALUE,
    VENUE_MARK,
    VOL_STATE,
    Float64Array,
    Int8Array,
    Int32Array,
    Int64Array,
    UInt16Array,
)
from flows.pricing.black76 import undiscounted_greeks
from flows.pricing.kinds import FUTURE, OPTION, SPOT
from flows.pricing.linear import lot_delta, lot_gamma, lot_value
from flows.pricing.polynomials import exp

BoolArray = npt.NDArray[np.bool_]

YEAR_NS: Final = 365.0 * 86_400.0 * 1e9
_DAYS: Final = 365.0


@njit(cache=True, error_model="numpy")
def price(
    members: Int64Array,
    now_ns: int,
    mark_band_ratio: float,
    reals: Float64Array,
    codes: Int8Array,
    greeks: Float64Array,
    expiry_ns: Int64Array,
    underlying: Int32Array,
    settlement_asset: UInt16Array,
    spot: Float64Array,
    spot_state: Int8Array,
    asset_price: Float64Array,
    asset_decidable: BoolArray,
) -> None:
    """Price the instruments ``members`` at ``now_ns``, in place; the arrays are those of ``InstrumentColumns``."""
    for place in range(members.shape[0]):
        i = members[place]
        kind = codes[KIND, i]
        quantity = reals[QUANTITY, i]
        index = spot[underlying[i]]
        state = spot_state[underlying[i]]
        unit = asset_price[settlement_asset[i]]
        reals[INDEX_PRICE, i] = index
        reals[SETTLEMENT_PRICE, i] = unit
        for g in range(5):
            greeks[i, g] = 0.0
        if codes[SETTLED, i] != 0:
            reals[VALUE, i] = 0.0
            reals[NOTIONAL, i] = 0.0
            reals[MARK_PRICE, i] = 0.0
            reals[FORWARD, i] = 0.0
            reals[TIME_TO_EXPIRY, i] = 0.0
            codes[DECIDABLE, i] = 1
            continue
        time = max((expiry_ns[i] - now_ns) / YEAR_NS, 0.0) if expiry_ns[i] >= 0 else 0.0
        forward = index
        if time > 0.0:
            told = codes[FORWARD_STATE, i] != UNKNOWN
            forward = index * (reals[FORWARD_RATIO, i] if told else exp(reals[RATE, i] * time))
        reals[TIME_TO_EXPIRY, i] = time
        reals[FORWARD, i] = forward
        known = state == FRESH
        if kind == OPTION:
            known = _price_option(i, unit, time, reals, codes, greeks) and known
        elif kind == SPOT:
            reals[VALUE, i] = 0.0
            reals[MARK_PRICE, i] = index
            reals[NOTIONAL, i] = quantity * index
        else:
            known = _price_linear(i, unit, time, mark_band_ratio, state, reals, codes, greeks)
        codes[DECIDABLE, i] = known and asset_decidable[settlement_asset[i]]


@njit(forceinline=True, error_model="numpy")
def _price_option(
    i: int, unit: float, time: float, reals: Float64Array, codes: Int8Array, greeks: Float64Array
) -> bool:
    """Write an option's outputs, on the index price and forward of its row; return whether its smile is known."""
    index = reals[INDEX_PRICE, i]
    forward = reals[FORWARD, i]
    quantity = reals[QUANTITY, i]
    reals[NOTIONAL, i] = quantity * index
    mark = 0.0
    if index > 0.0:
        undiscounted, delta, gamma, vega, theta = undiscounted_greeks(
            forward, reals[STRIKE, i], reals[IMPLIED_VOL, i], np.sqrt(time), codes[CALL, i] != 0
        )
        ratio = forward / index
        scale = quantity * unit
        if codes[INVERSE, i] != 0:
            # In coins, on the forward of its expiry: undiscounted price / forward needs no rate.
            mark = undiscounted / forward
            per_forward = delta / forward - mark / forward
            greeks[i, 0] = scale * ratio * per_forward
            greeks[i, 1] = scale * ratio * ratio * (gamma / forward - 2.0 * per_forward / forward)
            greeks[i, 2] = scale * vega / forward
            greeks[i, 3] = scale * theta / forward / _DAYS
        else:
            discount = exp(-reals[RATE, i] * time)
            mark = discount * undiscounted
            greeks[i, 0] = scale * discount * delta * ratio
            greeks[i, 1] = scale * discount * gamma * ratio * ratio
            greeks[i, 2] = scale * discount * vega
            greeks[i, 3] = scale * (discount * theta + reals[RATE, i] * mark) / _DAYS
            greeks[i, 4] = -scale * time * mark
    reals[MARK_PRICE, i] = mark
    reals[VALUE, i] = quantity * mark
    return time <= 0.0 or (codes[VOL_STATE, i] == FRESH and codes[FORWARD_STATE, i] != STALE)


@njit(forceinline=True, error_model="numpy")
def _price_linear(
    i: int,
    unit: float,
    time: float,
    mark_band_ratio: float,
    state: int,
    reals: Float64Array,
    codes: Int8Array,
    greeks: Float64Array,
) -> bool:
    """Write a future's or perpetual's outputs; return whether its price is known (invariant 3)."""
    index = reals[INDEX_PRICE, i]
    quantity = reals[QUANTITY, i]
    inverse = codes[INVERSE, i] != 0
    dated = codes[KIND, i] == FUTURE
    venue_mark = reals[VENUE_MARK, i]
    known = state == FRESH
    mark = reals[FORWARD, i] if dated else index
    if not np.isnan(venue_mark) and (not dated or time > 0.0):
        mark = venue_mark
        if not dated and index > 0.0:
            mark = min(max(mark, index * (1.0 - mark_band_ratio)), index * (1.0 + mark_band_ratio))
        known = state != STALE
    elif dated and time > 0.0:
        known = known and codes[FORWARD_STATE, i] != STALE
    base = index if index > 0.0 else mark
    value = 0.0
    if mark > 0.0:
        value = lot_value(quantity, mark, inverse)
        greeks[i, 0] = unit * lot_delta(quantity, mark, base, inverse)
        greeks[i, 1] = unit * lot_gamma(quantity, mark, base, inverse)
    reals[VALUE, i] = value
    reals[MARK_PRICE, i] = mark
    reals[NOTIONAL, i] = quantity if inverse else quantity * base
    return known
