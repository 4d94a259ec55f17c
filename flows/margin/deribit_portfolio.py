"""``deribit-pm``: the risk matrix of one account of portfolio margin, in the venue's order of steps.

1. A scenario moves the index, and every price with it, by a multiple of ``price_range / buckets_count``, under three
   vols: down, same, up. Eight extended scenarios move it much further, at the higher vol.
2. A row of numbers for each position: its profit under each scenario, in the settlement currency at the moved price.
   Extended ones are scaled there and then: the profit in USD by ``price_range`` over the move, and turned into coins at
   the end of the range.
3. Rows are added, position by position. In the sum, extended scenarios are drawn toward zero by a dampener and never
   past it; then gains count by ``profit_offset``, up to a limit. Losses stay.
4. The worst scenario, a charge on each expiry's delta (perpetuals are an expiry), and a charge on a large total delta
   make the risk matrix margin. Initial margin adds what is not of positions; maintenance is a factor of the matrix.

Published numbers confirm futures and perpetuals that settle in coins, and this order of steps, as far as their accounts
reach. What they do not reach is named in ``unconfirmed`` of every result that it went into.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from flows.margin.deribit_account import COIN_DECIMALS, DeribitAccount, DeribitFuture, DeribitOption, DeribitPosition
from flows.margin.model import Float64Array
from flows.pricing.black76 import undiscounted_greeks, undiscounted_price
from flows.pricing.polynomials import exp, power
from schemas.instruments import OptionType, Payoff
from schemas.parameters import DeribitPortfolioParameters, DeribitRiskMatrix

EXTENDED_MOVES: Final = (-0.66, -0.33, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
VOLS: Final = 3
# Options count less and less in the half hour before they expire, as the settlement price forms.
SETTLEMENT_NS: Final = 1_800 * 1_000_000_000
_DAYS: Final = 365.0
_REFERENCE_DAYS: Final = 30.0

OPTIONS_UNCONFIRMED: Final = "options: their revaluation, scaling and delta are from documents"
LINEAR_UNCONFIRMED: Final = "linear: extended scaling and dampener in USD are inferred from those in coins"
GAINS_LIMIT_UNCONFIRMED: Final = "gains: a scenario reached profit_offset_max, whose place is inferred"
DELTA_SHOCK_UNCONFIRMED: Final = "delta shock: its form above the threshold is second-hand"
DAMPENER_UNCONFIRMED: Final = "dampener: it left a gain that profit_offset then reduced; their order is inferred"


@dataclass(frozen=True, slots=True)
class DeribitScenarios:
    """S scenarios, standard ones first: ``move`` (S,) as a fraction, ``vol`` (S,) -1, 0 or 1; ``standard`` their count.

    By rising move, and for each move by rising vol; then the extended ones.
    """

    move: Float64Array
    vol: Float64Array
    standard: int


@dataclass(frozen=True, slots=True)
class DeribitExpiryRoll:
    """The roll charge of one expiry (``None``: perpetuals): net delta in coins, what it may move, and their product."""

    expiry_ns: int | None
    delta: float
    move: float
    shock: float


@dataclass(frozen=True, slots=True)
class DeribitPortfolioMargin:
    """An account, step by step, in its settlement currency; vectors are (S,), in the order of ``scenarios``.

    Attributes
    ----------
    vectors : by position, in the account's order; extended entries scaled.
    pre_aggregated : their sum. dampened : extended entries drawn toward zero. aggregated : gains reduced.
    worst_case : the largest loss, >= 0. worst_index : 0-based; the first of equals.
    worst_bucket : 1-based among the moves of its table. worst_side : left, right or middle. worst_source : standard or
        extended.
    delta : coins of all positions. delta_shock, roll_shock : >= 0, with ``rolls`` by expiry.
    risk_matrix_margin : worst case at 9 decimals, shocks and correlation contingency. initial_margin : likewise at 9.
    unconfirmed : what went into the result and no published number confirms, in words.
    """

    scenarios: DeribitScenarios
    vectors: tuple[Float64Array, ...]
    pre_aggregated: Float64Array
    dampened: Float64Array
    aggregated: Float64Array
    worst_case: float
    worst_index: int
    worst_bucket: int
    worst_side: str
    worst_source: str
    delta: float
    delta_shock: float
    rolls: tuple[DeribitExpiryRoll, ...]
    roll_shock: float
    correlation_contingency: float
    risk_matrix_margin: float
    initial_margin: float
    maintenance_margin: float
    unconfirmed: tuple[str, ...]


def matrix_of(account: DeribitAccount, parameters: DeribitPortfolioParameters) -> DeribitRiskMatrix:
    """Return the risk matrix that an account's underlying and payoff have."""
    table = parameters.inverse if account.payoff is Payoff.INVERSE else parameters.linear
    return table.get(account.underlying, parameters.default_matrix)


def scenarios_of(matrix: DeribitRiskMatrix) -> DeribitScenarios:
    """Return the scenarios of a risk matrix."""
    buckets = matrix.buckets_count
    steps = np.repeat(np.arange(-buckets, buckets + 1, dtype=np.float64), VOLS)
    vols = np.tile(np.array([-1.0, 0.0, 1.0]), 2 * buckets + 1)
    return DeribitScenarios(
        move=np.concatenate([steps * matrix.price_range / buckets, np.array(EXTENDED_MOVES)]),
        vol=np.concatenate([vols, np.ones(len(EXTENDED_MOVES))]),
        standard=steps.shape[0],
    )


def deribit_portfolio(account: DeribitAccount, parameters: DeribitPortfolioParameters) -> DeribitPortfolioMargin:
    """Return the margins of an account, and every step on the way."""
    matrix = matrix_of(account, parameters)
    scenarios = scenarios_of(matrix)
    inverse = account.payoff is Payoff.INVERSE
    vectors = tuple(_vector(position, account, matrix, scenarios) for position in account.positions)
    pre_aggregated = np.zeros(scenarios.move.shape[0])
    for vector in vectors:
        pre_aggregated = pre_aggregated + vector
    dampened = _dampened(pre_aggregated, account, matrix, scenarios)
    limit = matrix.profit_offset_max / account.index_price if inverse else matrix.profit_offset_max
    offset = matrix.profit_offset * dampened
    aggregated = np.where(dampened > 0.0, np.minimum(offset, limit), dampened)
    worst_index = int(np.argmin(aggregated))
    worst_case = max(0.0, -float(aggregated[worst_index]))

    deltas = [_delta(position, account) for position in account.positions]
    delta = _added(deltas)
    delta_shock = _delta_shock(delta, account, matrix)
    rolls = _rolls(deltas, account, matrix)
    roll_shock = _added([it.shock for it in rolls])
    stated = round(worst_case, COIN_DECIMALS)
    risk_matrix_margin = stated + delta_shock + roll_shock + account.correlation_contingency
    initial = risk_matrix_margin + account.spot_margin + account.mmp_margin + account.open_orders_margin

    extended = slice(scenarios.standard, None)
    unconfirmed = (
        (OPTIONS_UNCONFIRMED, any(isinstance(position, DeribitOption) for position in account.positions)),
        (LINEAR_UNCONFIRMED, not inverse and bool(account.positions)),
        (DAMPENER_UNCONFIRMED, bool((dampened[extended] > 0.0).any()) and matrix.profit_offset > 0.0),
        (GAINS_LIMIT_UNCONFIRMED, matrix.profit_offset > 0.0 and bool((offset > limit).any())),
        (DELTA_SHOCK_UNCONFIRMED, delta_shock > 0.0),
    )
    return DeribitPortfolioMargin(
        scenarios=scenarios,
        vectors=vectors,
        pre_aggregated=pre_aggregated,
        dampened=dampened,
        aggregated=aggregated,
        worst_case=worst_case,
        worst_index=worst_index,
        worst_bucket=_bucket(worst_index, scenarios),
        worst_side=_side(float(scenarios.move[worst_index])),
        worst_source="standard" if worst_index < scenarios.standard else "extended",
        delta=delta,
        delta_shock=delta_shock,
        rolls=rolls,
        roll_shock=roll_shock,
        correlation_contingency=account.correlation_contingency,
        risk_matrix_margin=risk_matrix_margin,
        initial_margin=round(initial, COIN_DECIMALS),
        maintenance_margin=matrix.maintenance_factor * risk_matrix_margin,
        unconfirmed=tuple(words for words, applies in unconfirmed if applies),
    )


def _vector(
    position: DeribitPosition, account: DeribitAccount, matrix: DeribitRiskMatrix, scenarios: DeribitScenarios
) -> Float64Array:
    """Return a position's profit under each scenario (S,), extended entries scaled."""
    inverse = account.payoff is Payoff.INVERSE
    if isinstance(position, DeribitFuture):
        move = scenarios.move
        row = position.amount * (move / (1.0 + move)) if inverse else position.amount * position.mark_price * move
    else:
        row = _option_vector(position, account, matrix, scenarios)
    scale = np.ones(row.shape[0])
    far = scenarios.move[scenarios.standard :]
    scale[scenarios.standard :] = matrix.extended_factor * (matrix.price_range / np.abs(far))
    if inverse:
        scale[scenarios.standard :] *= (1.0 + far) / (1.0 + np.sign(far) * matrix.price_range)
    return row * scale


def _option_vector(
    position: DeribitOption, account: DeribitAccount, matrix: DeribitRiskMatrix, scenarios: DeribitScenarios
) -> Float64Array:
    out = np.empty(scenarios.move.shape[0])
    option_profits(
        position.underlying_price, position.strike, account.years_to(position.expiry_ns), position.implied_vol,
        int(position.option_type is OptionType.CALL), int(position.payoff is Payoff.INVERSE),
        scenarios.move, scenarios.vol,
        matrix.vol_up, matrix.vol_down, matrix.vol_up_min, matrix.vol_power_short, matrix.vol_power_long, out,
    )  # fmt: skip
    return out * (position.amount * _settlement_weight(position, account))


def _settlement_weight(position: DeribitOption, account: DeribitAccount) -> float:
    return min(max((position.expiry_ns - account.time_ns) / SETTLEMENT_NS, 0.0), 1.0)


def _dampened(
    values: Float64Array, account: DeribitAccount, matrix: DeribitRiskMatrix, scenarios: DeribitScenarios
) -> Float64Array:
    """Return the vector with its extended entries drawn toward zero, and not past it."""
    far = scenarios.move[scenarios.standard :]
    excess = np.maximum(np.abs(far) / matrix.price_range, 1.0) - 1.0
    most = excess * matrix.extended_dampener
    if account.payoff is Payoff.INVERSE:
        most /= (1.0 + np.sign(far) * matrix.price_range) * account.index_price
    out = values.copy()
    extended = values[scenarios.standard :]
    out[scenarios.standard :] = np.sign(extended) * np.maximum(np.abs(extended) - most, 0.0)
    return out


def _delta(position: DeribitPosition, account: DeribitAccount) -> float:
    """Return a position's delta in coins."""
    if isinstance(position, DeribitFuture):
        return position.amount
    per_contract = float(
        _option_delta(
            position.underlying_price,
            position.strike,
            account.years_to(position.expiry_ns),
            position.implied_vol,
            int(position.option_type is OptionType.CALL),
        )
    )
    return position.amount * per_contract * _settlement_weight(position, account)


def _delta_shock(delta: float, account: DeribitAccount, matrix: DeribitRiskMatrix) -> float:
    size = abs(delta)
    above = size - matrix.delta_shock_threshold / account.index_price
    if above <= 0.0:
        return 0.0
    shock = size * min(matrix.delta_shock_per_coin * above, matrix.delta_shock_max)
    return shock if account.payoff is Payoff.INVERSE else shock * account.index_price


def _rolls(deltas: list[float], account: DeribitAccount, matrix: DeribitRiskMatrix) -> tuple[DeribitExpiryRoll, ...]:
    """Return the roll charge by expiry, perpetuals first, then by rising expiry."""
    net: dict[int | None, float] = {}
    for position, delta in zip(account.positions, deltas, strict=True):
        net[position.expiry_ns] = net.get(position.expiry_ns, 0.0) + delta
    unit = 1.0 if account.payoff is Payoff.INVERSE else account.index_price
    rolls = []
    for expiry_ns in sorted(net, key=lambda it: -1 if it is None else it):
        move = max(float(growth(matrix.annualised_move * account.years_to(expiry_ns))), matrix.annualised_move_min)
        rolls.append(DeribitExpiryRoll(expiry_ns, net[expiry_ns], move, abs(net[expiry_ns]) * move * unit))
    return tuple(rolls)


def _bucket(index: int, scenarios: DeribitScenarios) -> int:
    """Return the 1-based place of a scenario's move in its table."""
    return index // VOLS + 1 if index < scenarios.standard else index - scenarios.standard + 1


def _side(move: float) -> str:
    return "left" if move < 0.0 else "right" if move > 0.0 else "middle"


def _added(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


@njit(cache=True, error_model="numpy")
def growth(x: float) -> float:
    """Return e^x - 1."""
    return exp(x) - 1.0


@njit(cache=True, error_model="numpy")
def _option_delta(forward: float, strike: float, time: float, vol: float, call: int) -> float:
    return undiscounted_greeks(forward, strike, vol, np.sqrt(time), call != 0)[1]


@njit(cache=True, error_model="numpy")
def option_profits(
    forward: float,
    strike: float,
    time: float,
    vol: float,
    call: int,
    inverse: int,
    move: Float64Array,
    vol_direction: Float64Array,
    vol_up: float,
    vol_down: float,
    vol_up_min: float,
    vol_power_short: float,
    vol_power_long: float,
    out: Float64Array,
) -> None:
    """Write one contract's profit under each scenario, in the settlement currency at the moved price, unscaled.

    ``call`` and ``inverse`` are 0 or 1. An expired contract is worth its intrinsic value.
    """
    is_call = call != 0
    root_time = np.sqrt(time)
    days = time * _DAYS
    up = down = vol
    if time > 0.0:
        stretch = power(_REFERENCE_DAYS / days, vol_power_short if days < _REFERENCE_DAYS else vol_power_long)
        up = max(vol * (1.0 + vol_up * stretch), vol_up_min)
        down = max(vol * (1.0 - vol_down * stretch), 0.0)
    present = undiscounted_price(forward, strike, vol * root_time, is_call)
    if inverse != 0:
        present /= forward
    for s in range(move.shape[0]):
        moved = forward * (1.0 + move[s])
        shocked = up if vol_direction[s] > 0.0 else (down if vol_direction[s] < 0.0 else vol)
        worth = undiscounted_price(moved, strike, shocked * root_time, is_call)
        out[s] = (worth / moved if inverse != 0 else worth) - present
