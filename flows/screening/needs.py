"""What the margin models ask of a lot at most and at least over a box, beside the lines of its worth.

1. ``tidegate-standard`` asks of a short option ``max(a × spot - outside, b × spot)`` a unit, outside being how far it
   is out of the money. Between the strike and the ends both are lines and the first bends downward, so the greatest is
   at an end or at the strike; the least is at least the greater of what either is at least, at the ends.
2. A put's worth enters its maintenance, and a long's all of it: by the lines of its mark.
3. Contingencies, notional and the charge for confidence are lines in the spot; the confidence is the box's greatest,
   or none.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.pricing.kinds import OPTION, SPOT
from flows.screening.health import (
    LONG_INITIAL,
    LONG_MAINTENANCE,
    LONG_TERM,
    NOTIONAL,
    SHORT_INITIAL,
    SHORT_MAINTENANCE,
    SHORT_TERM,
)
from schemas.parameters import PortfolioParameters, StandardParameters

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int8Array = npt.NDArray[np.int8]

_OUTWARD: Final = 1e-12


def write_needs(
    *,
    members: Int64Array,
    underlying: str,
    kind: Int8Array,
    call: Int8Array,
    quantity: Float64Array,
    strike: Float64Array,
    lines: Float64Array,
    spot: tuple[float, float],
    price: tuple[Float64Array, Float64Array],
    confidence: float,
    standard: StandardParameters,
    portfolio: PortfolioParameters,
    needs_high: Float64Array,
    needs_low: Float64Array,
) -> None:
    """Write the rows of ``members``, all of one underlying, into ``needs_high`` and ``needs_low`` (K, 7).

    Columns are by instrument (K,); ``lines`` (2 K, W) has their worth. ``spot`` and ``price`` (of the settlement asset,
    (K,)) are least and greatest; ``confidence`` is the greatest ratio.
    """
    rates = standard.linear_rates.get(underlying, (standard.linear_initial, standard.linear_maintenance))
    _write(
        members, kind, call, quantity, strike, lines, spot[0], spot[1], price[0], price[1], confidence, rates[0],
        rates[1], standard.option_initial, standard.option_initial_min, standard.option_maintenance,
        standard.long_option_credit, standard.confidence_multiple, portfolio.linear_contingency,
        portfolio.short_option_contingency, portfolio.confidence_multiple, needs_high, needs_low,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _write(
    members: Int64Array,
    kind: Int8Array,
    call: Int8Array,
    quantity: Float64Array,
    strike: Float64Array,
    lines: Float64Array,
    spot_low: float,
    spot_high: float,
    price_low: Float64Array,
    price_high: Float64Array,
    confidence: float,
    linear_initial: float,
    linear_maintenance: float,
    option_initial: float,
    option_initial_min: float,
    option_maintenance: float,
    long_option_credit: float,
    standard_confidence: float,
    linear_contingency: float,
    short_option_contingency: float,
    portfolio_confidence: float,
    needs_high: Float64Array,
    needs_low: Float64Array,
) -> None:
    half = lines.shape[1] // 2
    for place in range(members.shape[0]):
        i = members[place]
        high, low = needs_high[i], needs_low[i]
        if kind[i] == SPOT:
            high[:] = 0.0
            low[:] = 0.0
            continue
        notional_low, notional_high = quantity[i] * spot_low, quantity[i] * spot_high
        if kind[i] == OPTION:
            is_call = call[i] != 0
            k = strike[i]
            worth_low = max(min(lines[2 * i, 0], lines[2 * i, half]), 0.0) * price_low[i]
            worth_high = max(lines[2 * i + 1, 0], lines[2 * i + 1, half]) * price_high[i]
            begin, end = _asked(option_initial, spot_low, k, is_call), _asked(option_initial, spot_high, k, is_call)
            most = max(begin, end)
            if spot_low < k < spot_high:
                most = max(most, _asked(option_initial, k, k, is_call))
            initial_high = quantity[i] * max(most, option_initial_min * spot_high)
            initial_low = quantity[i] * max(min(begin, end), option_initial_min * spot_low)
            maintenance_high, maintenance_low = option_maintenance * notional_high, option_maintenance * notional_low
            if not is_call:
                maintenance_high = max(maintenance_high, option_maintenance * worth_high)
                maintenance_low = max(maintenance_low, option_maintenance * worth_low)
                initial_high, initial_low = max(initial_high, maintenance_high), max(initial_low, maintenance_low)
            high[LONG_INITIAL] = high[LONG_MAINTENANCE] = (1.0 - long_option_credit) * worth_high
            low[LONG_INITIAL] = low[LONG_MAINTENANCE] = (1.0 - long_option_credit) * worth_low
            high[SHORT_INITIAL], low[SHORT_INITIAL] = initial_high, initial_low
            high[SHORT_MAINTENANCE], low[SHORT_MAINTENANCE] = maintenance_high, maintenance_low
            high[LONG_TERM] = low[LONG_TERM] = 0.0
            high[SHORT_TERM] = notional_high * short_option_contingency
            low[SHORT_TERM] = notional_low * short_option_contingency
        else:
            for initial, maintenance in ((LONG_INITIAL, LONG_MAINTENANCE), (SHORT_INITIAL, SHORT_MAINTENANCE)):
                high[initial], low[initial] = notional_high * linear_initial, notional_low * linear_initial
                high[maintenance] = notional_high * linear_maintenance
                low[maintenance] = notional_low * linear_maintenance
            high[LONG_TERM] = high[SHORT_TERM] = notional_high * linear_contingency
            low[LONG_TERM] = low[SHORT_TERM] = notional_low * linear_contingency
        for c in range(LONG_TERM):
            high[c] = (high[c] + standard_confidence * confidence * notional_high) * (1.0 + _OUTWARD)
            low[c] *= 1.0 - _OUTWARD
        for c in (LONG_TERM, SHORT_TERM):
            high[c] = (high[c] + portfolio_confidence * confidence * notional_high) * (1.0 + _OUTWARD)
            low[c] *= 1.0 - _OUTWARD
        high[NOTIONAL], low[NOTIONAL] = notional_high * (1.0 + _OUTWARD), notional_low * (1.0 - _OUTWARD)


@njit(forceinline=True, error_model="numpy")
def _asked(rate: float, spot: float, strike: float, is_call: bool) -> float:  # noqa: FBT001 - a kernel
    """Return ``rate × spot`` less how far an option is out of the money."""
    return rate * spot - max(strike - spot if is_call else spot - strike, 0.0)
