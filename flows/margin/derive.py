"""Derive's building blocks: what its three margin models share, as arrays in, arrays out.

1. Time is years of 365 days; a year has 31,536,000 seconds. Amounts are signed, long above 0. Money is in the
   numeraire (the venue's USD).
2. An option is worth Black-76 on its forward times the discount that the model gives: exactly 0 or the discounted
   forward at strike 0, the discounted strike or 0 at forward 0, and intrinsic at expiry.
3. Spot moves multiply only the variable part of a forward; what has been averaged into a settlement price stays.
4. Sums run in the order of the options, then of the expiries, in plain loops: a result depends on the account alone,
   and on no CPU.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.pricing.black76 import black76, undiscounted_price
from flows.pricing.polynomials import exp, log_ratio, power

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]

YEAR_SECONDS: Final = 31_536_000.0
MONTH_SECONDS: Final = 2_592_000.0
# The venue's bound of total variance, and the reach of a smile's flat wings in multiples of sqrt(a + b sigma).
TOTAL_VARIANCE_MAX: Final = 144.0
WING_MULTIPLE: Final = 4.0
# Beyond any ratio of a strike to a forward: the log-moneyness of strike 0.
_LOG_MONEYNESS_MAX: Final = 1e3
# Where a skew has no reach at all, any moneyness is beyond it.
_REACH_MIN: Final = 1e-12


def checked(name: str, values: npt.ArrayLike, low: float = -np.inf, high: float = np.inf) -> Float64Array:
    """Return ``values`` as float64 with one axis; refuse what is not finite or out of range.

    Raises
    ------
    ValueError : with the name, the place and the value.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has {array.ndim} axes where there is one")
    wrong = np.flatnonzero(~(np.isfinite(array) & (array >= low) & (array <= high)))
    if wrong.size:
        bounds = "finite" if low == -np.inf else f"finite and >= {low:g}" if high == np.inf else f"{low:g} to {high:g}"
        raise ValueError(f"{name}[{wrong[0]}] is {array[wrong[0]]}, which is not {bounds}")
    return array


def checked_number(name: str, value: float, low: float = -np.inf, high: float = np.inf) -> float:
    """Return ``value``; refuse it as ``checked`` does."""
    if not (np.isfinite(value) and low <= value <= high):
        bounds = "finite" if low == -np.inf else f"finite and >= {low:g}" if high == np.inf else f"{low:g} to {high:g}"
        raise ValueError(f"{name} is {value}, which is not {bounds}")
    return value


@dataclass(frozen=True, slots=True)
class Expiries:
    """The expiries that an account's options have, each (e,).

    ``seconds`` to expiry, >= 0; ``forward_fixed`` is what the settlement average already holds, ``forward_variable``
    what spot still moves, quote per underlying, >= 0; ``rate`` continuously compounded, annual, signed; confidences 0
    to 1.
    """

    seconds: Float64Array
    forward_fixed: Float64Array
    forward_variable: Float64Array
    forward_confidence: Float64Array
    rate: Float64Array
    rate_confidence: Float64Array
    vol_confidence: Float64Array

    def __post_init__(self) -> None:
        """Refuse what is not finite, out of range or of another length."""
        for name in ("seconds", "forward_fixed", "forward_variable"):
            checked(name, getattr(self, name), 0.0)
        checked("rate", self.rate)
        for name in ("forward_confidence", "rate_confidence", "vol_confidence"):
            checked(name, getattr(self, name), 0.0, 1.0)
        same_length(self)

    @property
    def time_to_expiry(self) -> Float64Array:
        """Return (e,), years."""
        return self.seconds / YEAR_SECONDS

    @property
    def forward(self) -> Float64Array:
        """Return (e,), quote per underlying."""
        return self.forward_fixed + self.forward_variable


@dataclass(frozen=True, slots=True)
class Options:
    """An account's options, each (n,): ``expiry`` is a place in its ``Expiries``, ``amount`` signed underlying."""

    expiry: Int64Array
    strike: Float64Array
    is_call: BoolArray
    amount: Float64Array
    implied_vol: Float64Array

    def __post_init__(self) -> None:
        """Refuse what is not finite, out of range or of another length."""
        checked("strike", self.strike, 0.0)
        checked("amount", self.amount)
        checked("implied_vol", self.implied_vol, 0.0)
        same_length(self)

    @property
    def count(self) -> int:
        """Return n."""
        return int(self.strike.shape[0])


@dataclass(frozen=True, slots=True)
class Perpetual:
    """At most one perpetual of the underlying; ``amount`` 0 where there is none, and then nothing else matters.

    ``unrealised`` profit and unpaid ``funding`` are of the account, signed.
    """

    amount: float = 0.0
    price: float = 0.0
    confidence: float = 1.0
    unrealised: float = 0.0
    funding: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is not finite, out of range or of another length."""
        for name in ("amount", "unrealised", "funding"):
            checked_number(f"perpetual {name}", getattr(self, name))
        checked_number("perpetual price", self.price, 0.0)
        checked_number("perpetual confidence", self.confidence, 0.0, 1.0)

    @property
    def value(self) -> float:
        """Return what the account has earned and not been paid."""
        return self.unrealised + self.funding


class MarginValues:
    """Our numbers beside the venue's margin values, of results that have ``equity`` and both values."""

    __slots__ = ()

    equity: float
    initial_value: float
    maintenance_value: float

    @property
    def initial_margin(self) -> float:
        """Return what equity must cover to open; what collateral is cut by is part of it."""
        return self.equity - self.initial_value

    @property
    def maintenance_margin(self) -> float:
        """Return what equity must cover to stay; what collateral is cut by is part of it."""
        return self.equity - self.maintenance_value

    @property
    def health(self) -> float:
        """Return equity beyond maintenance margin; below 0 the account liquidates."""
        return self.maintenance_value


def same_length(columns: Expiries | Options) -> None:
    """Refuse columns of different lengths, and places that are not there.

    Raises
    ------
    ValueError : with the names and lengths.
    """
    lengths = {field.name: getattr(columns, field.name).shape[0] for field in fields(columns)}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns differ in length: {lengths}")


def places_exist(options: Options, expiries: Expiries) -> None:
    """Refuse options whose expiry is not listed.

    Raises
    ------
    ValueError : with the first such place.
    """
    count = expiries.seconds.shape[0]
    wrong = np.flatnonzero((options.expiry < 0) | (options.expiry >= count))
    if wrong.size:
        raise ValueError(f"option {wrong[0]} is of expiry {options.expiry[wrong[0]]}, and there are {count}")


def option_prices(
    *,
    forward: Float64Array,
    strike: Float64Array,
    time_to_expiry: Float64Array,
    implied_vol: Float64Array,
    discount: Float64Array,
    is_call: BoolArray,
) -> Float64Array:
    """Return prices per unit of underlying (METHODOLOGIES of the venue, Black-76 on moneyness).

    Parameters
    ----------
    forward, strike : (n,), quote per underlying, >= 0
    time_to_expiry : (n,), years, >= 0
    implied_vol : (n,), annualised, >= 0
    discount : (n,), > 0
    is_call : (n,)

    Returns
    -------
    (n,), quote, >= 0, at most discounted forward (calls) or strike (puts).
    """
    out = np.empty(forward.shape[0])
    _option_prices(forward, strike, implied_vol * np.sqrt(time_to_expiry), discount, is_call, out)
    return out


def scenario_values(
    expiries: Expiries,
    options: Options,
    *,
    discount: Float64Array,
    spot_multiple: Float64Array,
    implied_vol: Float64Array,
) -> Float64Array:
    """Return what every expiry is worth in every scenario.

    Parameters
    ----------
    discount : (e,), > 0
    spot_multiple : (s,), of the forwards' variable part, >= 0
    implied_vol : (s, n), annualised, >= 0

    Returns
    -------
    (s, e), signed quote: the sum of amount × price over the expiry's options, in their order.
    """
    out = np.zeros((spot_multiple.shape[0], expiries.seconds.shape[0]))
    _scenario_values(
        expiries.forward_fixed, expiries.forward_variable, np.sqrt(expiries.time_to_expiry), discount, options.expiry,
        options.strike, options.is_call, options.amount, spot_multiple, implied_vol, out,
    )  # fmt: skip
    return out


def call_deltas(
    *, forward: Float64Array, strike: Float64Array, time_to_expiry: Float64Array, implied_vol: Float64Array
) -> Float64Array:
    """Return a call's undiscounted derivative by its forward; parameters as of ``option_prices``.

    Returns
    -------
    (n,), 0 to 1; 1 at strike 0, else 0 at forward 0.
    """
    live = (forward > 0.0) & (strike > 0.0)
    deltas = np.where(strike > 0.0, 0.0, 1.0)
    count = int(live.sum())
    deltas[live] = black76(
        forward=forward[live],
        strike=strike[live],
        time_to_expiry=time_to_expiry[live],
        implied_vol=implied_vol[live],
        rate=np.zeros(count),
        is_call=np.ones(count, np.bool_),
    ).delta
    return deltas


def expiry_sums(values: Float64Array, expiry: Int64Array, expiry_count: int) -> Float64Array:
    """Return (e,), the sums of (n,) ``values`` by expiry, in the order of the options."""
    # bincount of nothing would be of integers.
    return np.bincount(expiry, weights=values, minlength=expiry_count).astype(np.float64)


def total(values: Float64Array) -> float:
    """Return the sum of (n,) ``values`` from first to last; numpy's own order depends on the CPU."""
    return float(np.add.accumulate(values)[-1]) if values.size else 0.0


def exponentials(exponent: Float64Array) -> Float64Array:
    """Return e^x of each, (n,)."""
    out = np.empty(exponent.shape[0])
    _exponentials(exponent, out)
    return out


def log_moneyness(strike: Float64Array, forward: Float64Array) -> Float64Array:
    """Return ln(strike / forward), each (n,); ±1000 where one of them is 0, and 0 where both are."""
    out = np.empty(strike.shape[0])
    _log_moneyness(strike, forward, out)
    return out


def vol_multipliers(
    seconds: Float64Array,
    *,
    vol_up: float,
    vol_down: float,
    power_short: float,
    power_long: float,
    seconds_min: float,
) -> tuple[Float64Array, Float64Array]:
    """Return by what vols are multiplied where they move up, and where down, each (e,).

    ``range × (30 days / time)^power`` above 1 or below it, down to 0; the short power holds up to 30 days. Time is at
    least ``seconds_min``, and a second.
    """
    up, down = np.empty(seconds.shape[0]), np.empty(seconds.shape[0])
    _vol_multipliers(seconds, vol_up, vol_down, power_short, power_long, max(seconds_min, 1.0), up, down)
    return up, down


def skew_multipliers(
    moneyness: Float64Array, root_time: Float64Array, *, cap: float, cap_per_root_year: float, reach: Float64Array
) -> Float64Array:
    """Return by what a skew multiplies vols: 1 ± cap, in proportion to moneyness within ``reach``.

    Parameters
    ----------
    moneyness : (n,), log of strike over forward, or its magnitude
    root_time : (n,), sqrt of years; the cap is ``cap + cap_per_root_year × root_time``
    reach : (n,), log-moneyness at which the cap is reached, >= 0

    Returns
    -------
    (n,); may be negative, where a cap is beyond ±1. Above moneyness 0 it is at most 1 + cap, below it at least 1 - cap;
    a negative cap is thus a floor of the move, as the venue computes it.
    """
    out = np.empty(moneyness.shape[0])
    _skew_multipliers(moneyness, root_time, cap, cap_per_root_year, reach, out)
    return out


def net_short_options(options: Options, expiry_count: int) -> float:
    """Return how many options are short after each strike's call and put have offset each other, >= 0.

    At one strike of one expiry a long call offsets a short put and the other way round; two shorts add up.
    """
    assert expiry_count >= 0
    if options.count == 0:
        return 0.0
    order = np.lexsort((options.strike, options.expiry))
    expiry, strike = options.expiry[order], options.strike[order]
    new = np.concatenate(([False], (expiry[1:] != expiry[:-1]) | (strike[1:] != strike[:-1])))
    pair = np.cumsum(new)
    amount, is_call = options.amount[order], options.is_call[order]
    calls = np.bincount(pair, weights=np.where(is_call, amount, 0.0))
    puts = np.bincount(pair, weights=np.where(is_call, 0.0, amount))
    opposite = np.sign(calls) * np.sign(puts) < 0.0
    apart = np.maximum(-calls, 0.0) + np.maximum(-puts, 0.0)
    return total(np.where(opposite, np.maximum(-(calls + puts), 0.0), apart))


def confidence_charges(
    confidence: Float64Array, notional: Float64Array, *, threshold: float, charge: float
) -> Float64Array:
    """Return ``(1 - confidence) × charge × notional`` where confidence is below the threshold, 0 elsewhere, (n,)."""
    return np.where(confidence < threshold, (1.0 - confidence) * charge * notional, 0.0)


def smile_vols(
    strike: Float64Array,
    *,
    a: float,
    b: float,
    rho: float,
    m: float,
    sigma: float,
    forward: float,
    time_to_expiry: float,
) -> Float64Array:
    """Return the vols of a raw-SVI smile as the venue's feed reads it.

    Moneyness is by the forward and time of the fit itself, held within ±4 sqrt(a + b sigma); total variance is at most
    144. Strike 0 has vol 0.

    Parameters
    ----------
    strike : (n,), quote per underlying, >= 0
    a, b, rho, m, sigma : of raw SVI in total variance
    forward, time_to_expiry : of the fit, > 0

    Returns
    -------
    (n,), annualised.

    Raises
    ------
    ValueError : total variance is negative somewhere.
    """
    k = smile_moneyness(strike, a=a, b=b, sigma=sigma, forward=forward)
    variance = a + b * (rho * (k - m) + np.sqrt((k - m) * (k - m) + sigma * sigma))
    if (variance < 0.0).any():
        raise ValueError(f"the smile's total variance is {variance.min()} at strike {strike[variance.argmin()]}")
    vol: Float64Array = np.sqrt(np.minimum(variance, TOTAL_VARIANCE_MAX) / time_to_expiry)
    return np.where(strike == 0.0, 0.0, vol)


def smile_moneyness(strike: Float64Array, *, a: float, b: float, sigma: float, forward: float) -> Float64Array:
    """Return the log-moneyness at which a smile is read, (n,): flat wings begin at ±4 sqrt(a + b sigma)."""
    bound = float(WING_MULTIPLE * np.sqrt(max(a + b * sigma, 0.0)))
    return np.clip(log_moneyness(strike, np.full(strike.shape, forward)), -bound, bound)


def funding_rate(
    *, index: float, impact_bid: float, impact_ask: float, convergence_hours: float, static_rate: float, cap: float
) -> float:
    """Return a perpetual's funding per hour, as a fraction of the index, positive where longs pay."""
    premium = (max(0.0, impact_bid - index) - max(0.0, index - impact_ask)) / index
    return min(max(premium / convergence_hours + static_rate, -cap), cap)


def funding_payment(*, amount: float, index: float, rate: float, hours: float) -> float:
    """Return what a holder of ``amount`` receives over some hours, signed."""
    return -amount * rate * index * hours


def borrow_rate(
    *, supply: float, borrow: float, rate_min: float, slope: float, slope_high: float, utilisation_optimal: float
) -> float:
    """Return the annual rate that borrowers of cash pay, by how much of ``supply`` is borrowed."""
    utilisation = min(borrow / supply, 1.0) if supply > 0.0 else 0.0
    below = min(utilisation, utilisation_optimal)
    return rate_min + below * slope + (utilisation - below) * slope_high


def interest_factor(*, rate: float, seconds: float) -> float:
    """Return the interest on a debt of 1 over some time."""
    return float(exponentials(np.array([rate * seconds / YEAR_SECONDS]))[0]) - 1.0


def accrued_balances(
    balances: Float64Array, *, rate: float, seconds: float, fee_ratio: float, fee_to: int
) -> Float64Array:
    """Return balances of cash after some time, (n,): debts grow, the fee is taken, lenders share the rest.

    The fee is lent at once: whoever receives it shares in the rest with it.

    Parameters
    ----------
    balances : (n,), signed
    rate : annual, of debts
    fee_ratio : 0 to 1, of the interest
    fee_to : place of the balance that receives the fee, >= 0 there
    """
    factor = interest_factor(rate=rate, seconds=seconds)
    debts, supplies = np.minimum(balances, 0.0), np.maximum(balances, 0.0)
    interest = -total(debts) * factor
    supplies[fee_to] += interest * fee_ratio
    supply = total(supplies)
    shared = interest * (1.0 - fee_ratio) / supply if supply > 0.0 else 0.0
    return supplies * (1.0 + shared) + debts * (1.0 + factor)


@njit(forceinline=True, error_model="numpy")
def _price(forward: float, strike: float, total_vol: float, is_call: bool) -> float:  # noqa: FBT001 - a kernel
    if strike <= 0.0:
        return forward if is_call else 0.0
    if forward <= 0.0:
        return 0.0 if is_call else strike
    return undiscounted_price(forward, strike, total_vol, is_call)


@njit(cache=True, error_model="numpy")
def _option_prices(
    forward: Float64Array,
    strike: Float64Array,
    total_vol: Float64Array,
    discount: Float64Array,
    is_call: BoolArray,
    out: Float64Array,
) -> None:
    for i in range(forward.shape[0]):
        out[i] = _price(forward[i], strike[i], total_vol[i], is_call[i]) * discount[i]


@njit(cache=True, error_model="numpy")
def _scenario_values(
    forward_fixed: Float64Array,
    forward_variable: Float64Array,
    root_time: Float64Array,
    discount: Float64Array,
    expiry: Int64Array,
    strike: Float64Array,
    is_call: BoolArray,
    amount: Float64Array,
    spot_multiple: Float64Array,
    implied_vol: Float64Array,
    out: Float64Array,
) -> None:
    for s in range(spot_multiple.shape[0]):
        for i in range(strike.shape[0]):
            e = expiry[i]
            forward = forward_fixed[e] + spot_multiple[s] * forward_variable[e]
            price = _price(forward, strike[i], implied_vol[s, i] * root_time[e], is_call[i])
            out[s, e] += amount[i] * (price * discount[e])


@njit(cache=True, error_model="numpy")
def _exponentials(exponent: Float64Array, out: Float64Array) -> None:
    for i in range(exponent.shape[0]):
        out[i] = exp(exponent[i])


@njit(cache=True, error_model="numpy")
def _log_moneyness(strike: Float64Array, forward: Float64Array, out: Float64Array) -> None:
    for i in range(strike.shape[0]):
        if strike[i] > 0.0 and forward[i] > 0.0:
            out[i] = log_ratio(strike[i], forward[i])
        elif strike[i] == forward[i]:
            out[i] = 0.0
        else:
            out[i] = _LOG_MONEYNESS_MAX if strike[i] > 0.0 else -_LOG_MONEYNESS_MAX


@njit(cache=True, error_model="numpy")
def _vol_multipliers(
    seconds: Float64Array,
    vol_up: float,
    vol_down: float,
    power_short: float,
    power_long: float,
    seconds_min: float,
    up: Float64Array,
    down: Float64Array,
) -> None:
    for e in range(seconds.shape[0]):
        exponent = power_short if seconds[e] <= MONTH_SECONDS else power_long
        reach = power(MONTH_SECONDS / max(seconds[e], seconds_min), exponent)
        up[e] = 1.0 + vol_up * reach
        down[e] = max(1.0 - vol_down * reach, 0.0)


@njit(cache=True, error_model="numpy")
def _skew_multipliers(
    moneyness: Float64Array,
    root_time: Float64Array,
    cap: float,
    cap_per_root_year: float,
    reach: Float64Array,
    out: Float64Array,
) -> None:
    for i in range(moneyness.shape[0]):
        most = cap + cap_per_root_year * root_time[i]
        x = moneyness[i] * most / max(reach[i], _REACH_MIN)
        # The venue bounds each side by itself: a cap below 0 then bounds from the other side.
        out[i] = 1.0 + (min(x, most) if moneyness[i] >= 0.0 else max(x, -most))
