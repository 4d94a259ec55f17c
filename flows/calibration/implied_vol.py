"""Option prices to implied vols (Black-76, undiscounted), and which prices carry none.

This runs upstream of the ledger: scipy is welcome here, because its results enter as events.

1. The vol is found from the time value of the out-of-the-money option of the same strike (parity), in the logarithm of
   price: so a far wing converges as well as the money.
2. A price at or below intrinsic value, at or above its upper bound, or with a time value lost in the rounding of its
   own intrinsic value, carries no information. It gets NaN and ``informative`` false, never a guess.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import erfcx

Float64Array1D = npt.NDArray[np.float64]
BoolArray1D = npt.NDArray[np.bool_]

_SQRT_2: Final = float(np.sqrt(2.0))
_SQRT_2_PI: Final = float(np.sqrt(2.0 * np.pi))
# Total deviation (vol times root of time) is sought in this range: 1e-7 is 0.02 % a year over an hour.
_DEVIATION_MIN: Final = 1e-7
_DEVIATION_MAX: Final = 20.0
_STEPS_MAX: Final = 64
_TOLERANCE: Final = 1e-14
_PRICE_RATIO_TOLERANCE: Final = 1e-9
# A time value below this share of the price is rounding noise of float64.
_TIME_VALUE_RATIO_MIN: Final = 1e-12


@dataclass(frozen=True, slots=True)
class ImpliedVols:
    """Vols of quoted prices.

    Attributes
    ----------
    implied_vol : (n,), annualised, > 0; NaN where ``informative`` is false.
    informative : (n,), the price determines a vol.
    """

    implied_vol: Float64Array1D
    informative: BoolArray1D


def implied_vols(
    *,
    price: Float64Array1D,
    forward: Float64Array1D,
    strike: Float64Array1D,
    time_to_expiry: Float64Array1D,
    is_call: BoolArray1D,
) -> ImpliedVols:
    """Return the vols at which Black-76 gives these prices.

    Parameters
    ----------
    price : (n,), quote per underlying, undiscounted; NaN where there is no quote.
    forward, strike : (n,), quote per underlying, > 0.
    time_to_expiry : (n,), years ACT/365.
    is_call : (n,).

    References
    ----------
    Black (1976), J. Financial Economics 3; the scaled complementary error function as in Jaeckel (2015), "Let's be
    rational", eq. 2.1 and following.
    """
    price, forward, strike, time_to_expiry = (
        np.asarray(values, dtype=np.float64) for values in (price, forward, strike, time_to_expiry)
    )
    call = np.asarray(is_call, dtype=np.bool_)
    with np.errstate(invalid="ignore", divide="ignore"):
        intrinsic = np.maximum(np.where(call, forward - strike, strike - forward), 0.0)
        time_value = price - intrinsic
        bound = np.minimum(forward, strike)
        informative = (
            np.isfinite(price + forward + strike + time_to_expiry)
            & (forward > 0.0)
            & (strike > 0.0)
            & (time_to_expiry > 0.0)
            & (time_value > _TIME_VALUE_RATIO_MIN * price)
            & (time_value < bound)
        )
    vols = np.full(price.shape, np.nan)
    rows = np.flatnonzero(informative)
    if rows.size:
        # x <= 0: the out-of-the-money side; its price is the time value of either side.
        moneyness = -np.abs(np.log(forward[rows] / strike[rows]))
        target = np.log(time_value[rows] / np.sqrt(forward[rows] * strike[rows]))
        deviation, converged = _deviation(moneyness, target)
        vols[rows] = np.where(converged, deviation / np.sqrt(time_to_expiry[rows]), np.nan)
        informative[rows] = converged
    return ImpliedVols(implied_vol=vols, informative=informative)


def log_time_value(*, moneyness: Float64Array1D, deviation: Float64Array1D) -> Float64Array1D:
    """Return the logarithm of an out-of-the-money option's price over sqrt(forward × strike).

    Parameters
    ----------
    moneyness : (n,), -abs(ln(forward / strike)), <= 0.
    deviation : (n,), vol × sqrt(time to expiry), > 0.
    """
    h, t = moneyness / deviation, 0.5 * deviation
    # The scaled function keeps both terms near 1 in the far wing, where the plain one would underflow.
    difference = 0.5 * (erfcx(-(h + t) / _SQRT_2) - erfcx(-(h - t) / _SQRT_2))
    with np.errstate(divide="ignore"):
        out: Float64Array1D = np.log(difference) - 0.5 * (h * h + t * t)
    return out


def log_vega(*, moneyness: Float64Array1D, deviation: Float64Array1D) -> Float64Array1D:
    """Return the logarithm of the derivative of the same price with respect to ``deviation``."""
    h, t = moneyness / deviation, 0.5 * deviation
    out: Float64Array1D = -0.5 * (h * h + t * t) - np.log(_SQRT_2_PI)
    return out


def vega(
    *, forward: Float64Array1D, strike: Float64Array1D, time_to_expiry: Float64Array1D, implied_vol: Float64Array1D
) -> Float64Array1D:
    """Return the sensitivity of the price to the vol, (n,), quote per 1.00 of vol, >= 0; 0 at expiry."""
    root = np.sqrt(np.maximum(time_to_expiry, 0.0))
    deviation = np.maximum(implied_vol * root, _DEVIATION_MIN)
    moneyness = -np.abs(np.log(forward / strike))
    out: Float64Array1D = np.sqrt(forward * strike) * root * np.exp(log_vega(moneyness=moneyness, deviation=deviation))
    return out


def _deviation(moneyness: Float64Array1D, target: Float64Array1D) -> tuple[Float64Array1D, BoolArray1D]:
    """Solve ``log_time_value = target`` by Newton steps inside a bracket that every step narrows."""
    low = np.full(moneyness.shape, _DEVIATION_MIN)
    high = np.full(moneyness.shape, _DEVIATION_MAX)
    # The inflection point of the price: Newton in the price converges from there without leaving the bracket.
    deviation = np.clip(np.sqrt(2.0 * np.abs(moneyness)), 0.1, _DEVIATION_MAX / 2.0)
    converged = np.zeros(moneyness.shape, dtype=np.bool_)
    for _ in range(_STEPS_MAX):
        value = log_time_value(moneyness=moneyness, deviation=deviation)
        below = value < target
        low = np.where(below, deviation, low)
        high = np.where(below, high, deviation)
        with np.errstate(over="ignore", invalid="ignore"):
            slope = np.exp(log_vega(moneyness=moneyness, deviation=deviation) - value)
            proposal = deviation - (value - target) / slope
        inside = np.isfinite(proposal) & (proposal > low) & (proposal < high)
        following = np.where(inside, proposal, 0.5 * (low + high))
        converged |= np.abs(following - deviation) <= _TOLERANCE * deviation + 1e-16
        converged |= np.abs(value - target) <= 4.0 * _TOLERANCE
        deviation = np.where(converged, deviation, following)
        if bool(converged.all()):
            break
    # Near the money at a tiny deviation the difference of two terms near 1 is noisier than a step is small.
    value = log_time_value(moneyness=moneyness, deviation=deviation)
    converged |= np.abs(value - target) <= _PRICE_RATIO_TOLERANCE
    at_edge = (deviation <= 2.0 * _DEVIATION_MIN) | (deviation >= 0.99 * _DEVIATION_MAX)
    return deviation, converged & ~at_edge
