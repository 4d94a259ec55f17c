"""Laws of the venues' margin models, over random accounts.

1. More collateral never makes an account less healthy (dYdX), and its ratio never riskier.  2. Positions in another
order give the same integers.  3. Requirements are at least what they are without rounding, and by less than a quantum
for each step.  4. What a liquidation leaves is at least its share: closing at the bankruptcy price never lowers the
ratio of collateral to requirement.  5. The order of liquidation is total.  6. Deribit: a book twice as large needs
twice the scenario loss while nothing is capped; standard margin at least twice.  7. Joining two portfolios never needs
more than both apart, while gains count for nothing beyond offsetting losses.
"""

from dataclasses import replace
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flows.margin.deribit_account import DeribitAccount, DeribitFuture, DeribitOption, DeribitPosition
from flows.margin.deribit_portfolio import deribit_portfolio
from flows.margin.deribit_standard import deribit_standard
from flows.margin.dydx import (
    DydxAccount,
    DydxMarket,
    DydxPosition,
    bankruptcy_quote,
    compare_risk,
    dydx_margin,
    fillable_price,
)
from schemas.instruments import OptionType, Payoff
from schemas.parameters import (
    DeribitPortfolioParameters,
    DeribitRiskMatrix,
    DeribitStandardParameters,
    DydxParameters,
    DydxTier,
)

PPM = st.integers(1, 1_000_000)
MARKET = st.builds(
    DydxMarket,
    market=st.just("X"),
    price=st.integers(1, 10**12),
    price_exponent=st.integers(-9, -2),
    atomic_resolution=st.integers(-10, -4),
    tier=st.builds(DydxTier, initial_margin_ppm=PPM, maintenance_fraction_ppm=PPM),
    funding_index=st.integers(-(10**9), 10**9),
)
SIZES = st.integers(-(10**14), 10**14).filter(bool)
QUOTE = st.integers(-(10**15), 10**15)


@st.composite
def dydx_accounts(draw: st.DrawFn) -> tuple[DydxAccount, dict[str, DydxMarket]]:
    """Return an account with one to four positions, and its markets."""
    names = [f"M{place}" for place in range(draw(st.integers(1, 4)))]
    markets = {name: replace(draw(MARKET), market=name) for name in names}
    positions = tuple(DydxPosition(name, draw(SIZES), draw(st.integers(-(10**9), 10**9))) for name in names)
    return DydxAccount(draw(QUOTE), positions), markets


@given(dydx_accounts(), st.integers(1, 10**15))
@settings(max_examples=60)
def test_more_collateral_never_lowers_health(drawn: tuple[DydxAccount, dict[str, DydxMarket]], deposit: int) -> None:
    """Law 1: a deposit raises health by itself, exactly, and never moves an account forward in the queue."""
    account, markets = drawn

    before = dydx_margin(account, markets)
    after = dydx_margin(replace(account, quote_balance=account.quote_balance + deposit), markets)

    assert (after.health - before.health, after.free_margin - before.free_margin) == (deposit, deposit)
    pair = [(it.net_collateral, it.maintenance_margin) for it in (after, before)]
    assert compare_risk(pair[0], pair[1]) <= 0


@given(dydx_accounts())
@settings(max_examples=30)
def test_the_order_of_positions_changes_no_integer(drawn: tuple[DydxAccount, dict[str, DydxMarket]]) -> None:
    """Law 2: a float sum would, and two honest nodes would disagree."""
    account, markets = drawn

    margins = [dydx_margin(replace(account, positions=order), markets) for order in permutations(account.positions)]

    assert len({replace(it, positions=()) for it in margins}) == 1


@given(dydx_accounts())
@settings(max_examples=60)
def test_requirements_round_up_by_less_than_a_quantum_a_step(drawn: tuple[DydxAccount, dict[str, DydxMarket]]) -> None:
    """Law 3: one step to initial margin, two to maintenance; never down, and never by more."""
    account, markets = drawn

    for it in dydx_margin(account, markets).positions:
        tier = markets[it.market].tier
        base = Fraction(abs(it.notional) * tier.initial_margin_ppm, 10**6)
        maintenance = base * tier.maintenance_fraction_ppm / 10**6
        assert 0 <= it.initial_margin - base < 1
        assert 0 <= it.maintenance_margin - maintenance < 2
        assert it.initial_margin >= it.maintenance_margin


@given(dydx_accounts(), st.integers(0, 3), st.integers(1, 1_000_000))
@settings(max_examples=60)
def test_closing_at_the_bankruptcy_price_keeps_the_ratio(
    drawn: tuple[DydxAccount, dict[str, DydxMarket]], chosen: int, portion_ppm: int
) -> None:
    """Law 4: rounded against the venue it would be drained a quantum at a time."""
    account, markets = drawn
    before = dydx_margin(account, markets)
    position = account.positions[chosen % len(account.positions)]
    size = max(abs(position.base_quantums) * portion_ppm // 10**6, 1)
    delta = -size if position.base_quantums > 0 else size
    assume(before.maintenance_margin > 0)

    quote = bankruptcy_quote(account, markets, market=position.market, delta_base_quantums=delta)

    changed = tuple(
        replace(it, base_quantums=it.base_quantums + delta, funding_index=markets[it.market].funding_index)
        if it.market == position.market
        else replace(it, funding_index=markets[it.market].funding_index)
        for it in account.positions
    )
    after = dydx_margin(DydxAccount(before.settled_balance + quote, changed), markets)
    assert after.net_collateral * before.maintenance_margin >= before.net_collateral * after.maintenance_margin


@given(dydx_accounts())
@settings(max_examples=60)
def test_a_fillable_price_never_favours_the_liquidated(drawn: tuple[DydxAccount, dict[str, DydxMarket]]) -> None:
    """Law 4, the other side: a long sells at or below the oracle price, a short buys at or above."""
    account, markets = drawn
    margin = dydx_margin(account, markets)
    assume(margin.maintenance_margin > 0)

    for position, it in zip(account.positions, margin.positions, strict=True):
        delta = -1 if position.base_quantums > 0 else 1
        parameters = DydxParameters(spread_to_maintenance_ppm=1_000_000)
        price = fillable_price(account, markets, market=it.market, delta_base_quantums=delta, parameters=parameters)
        oracle = Fraction(it.notional, position.base_quantums)
        assert price <= oracle if position.base_quantums > 0 else price >= oracle


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 9)), min_size=3, max_size=3))
@settings(max_examples=100)
def test_the_order_of_liquidation_is_total(pairs: list[tuple[int, int]]) -> None:
    """Law 5: a before b before c is a before c; otherwise sorting would depend on where it began."""
    a, b, c = pairs

    assert compare_risk(a, b) == -compare_risk(b, a)
    if compare_risk(a, b) >= 0 and compare_risk(b, c) >= 0:
        assert compare_risk(a, c) >= 0


DAY_NS = 86_400 * 10**9
AMOUNTS = st.floats(0.01, 20.0).flatmap(lambda size: st.sampled_from([size, -size]))
FUTURES = st.builds(
    DeribitFuture,
    instrument=st.just("future"), underlying=st.just("BTC"), payoff=st.just(Payoff.INVERSE), amount=AMOUNTS,
    mark_price=st.floats(40_000.0, 90_000.0), expiry_ns=st.sampled_from([None, 7 * DAY_NS, 200 * DAY_NS]),
)  # fmt: skip
OPTIONS = st.builds(
    DeribitOption,
    instrument=st.just("option"), underlying=st.just("BTC"), payoff=st.just(Payoff.INVERSE),
    option_type=st.sampled_from(OptionType), amount=AMOUNTS, mark_price=st.floats(0.0, 0.4),
    underlying_price=st.floats(40_000.0, 90_000.0), strike=st.floats(20_000.0, 150_000.0),
    implied_vol=st.floats(0.05, 3.0), expiry_ns=st.sampled_from([DAY_NS, 7 * DAY_NS, 200 * DAY_NS]),
)  # fmt: skip
BOOKS = st.lists(st.one_of(FUTURES, OPTIONS), min_size=1, max_size=6)
# Nothing is capped, dampened or charged by size: what is left is additive but for the worst case.
PLAIN = DeribitPortfolioParameters(
    inverse={"BTC": DeribitRiskMatrix(extended_dampener=0.0, delta_shock_threshold=1e15)}
)


def _account(positions: list[DeribitPosition]) -> DeribitAccount:
    return DeribitAccount("BTC", Payoff.INVERSE, 65_000.0, 0, tuple(positions))


def _times(positions: list[DeribitPosition], times: int) -> list[DeribitPosition]:
    return [replace(position, amount=times * position.amount) for position in positions]


@given(BOOKS, st.integers(2, 9))
@settings(max_examples=40)
def test_a_larger_book_needs_as_much_larger_a_margin(positions: list[DeribitPosition], times: int) -> None:
    """Law 6: exactly so many times the portfolio margin (nine decimals aside), at least so many times the standard."""
    once, many = (deribit_portfolio(_account(it), PLAIN) for it in (positions, _times(positions, times)))
    rates = DeribitStandardParameters()
    small, large = (deribit_standard(_account(it), rates) for it in (positions, _times(positions, times)))

    assert many.worst_case == pytest.approx(times * once.worst_case, rel=1e-12, abs=1e-12)
    assert many.roll_shock == pytest.approx(times * once.roll_shock, rel=1e-12, abs=1e-12)
    assert large.initial_margin >= times * small.initial_margin - times * len(positions) * 1e-9
    assert large.maintenance_margin >= times * small.maintenance_margin - times * len(positions) * 1e-9
    assert small.initial_margin >= small.maintenance_margin >= 0.0


@given(BOOKS, BOOKS)
@settings(max_examples=40)
def test_a_joined_portfolio_never_needs_more_than_its_parts(
    left: list[DeribitPosition], right: list[DeribitPosition]
) -> None:
    """Law 7: otherwise an account would be split to save margin."""
    apart = [deribit_portfolio(_account(it), PLAIN).risk_matrix_margin for it in (left, right)]

    joined = deribit_portfolio(_account(left + right), PLAIN).risk_matrix_margin

    assert joined <= sum(apart) * (1.0 + 1e-12) + 3e-9


@given(BOOKS)
@settings(max_examples=40)
def test_the_steps_only_ever_take_away(positions: list[DeribitPosition]) -> None:
    """Law 7, step by step: dampener and offset bring a scenario nearer to zero and never past it, and losses stay."""
    margin = deribit_portfolio(_account(positions), DeribitPortfolioParameters())

    standard = margin.scenarios.standard
    assert (margin.dampened[:standard] == margin.pre_aggregated[:standard]).all()
    assert (np.abs(margin.dampened) <= np.abs(margin.pre_aggregated)).all()
    assert (margin.dampened * margin.pre_aggregated >= 0.0).all()
    losses = margin.dampened <= 0.0
    assert (margin.aggregated[losses] == margin.dampened[losses]).all()
    assert (margin.aggregated[~losses] <= margin.dampened[~losses]).all()
