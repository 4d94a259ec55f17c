"""``deribit-standard``: rates that rise with size, and options by their distance."""

import math
from dataclasses import replace
from typing import Any

import pytest

from flows.margin.deribit_account import DeribitAccount, DeribitFuture, DeribitOption, DeribitPosition, coins_of_inverse
from flows.margin.deribit_standard import OPTIONS_UNCONFIRMED, DeribitStandardMargin, deribit_standard
from schemas.instruments import OptionType, Payoff
from schemas.parameters import DeribitStandardParameters

DAY_NS = 86_400 * 10**9
PERPETUAL = DeribitFuture("BTC-PERPETUAL", "BTC", Payoff.INVERSE, 10.0, 50_000.0)
CALL = DeribitOption(
    instrument="CALL", underlying="BTC", payoff=Payoff.INVERSE, option_type=OptionType.CALL, amount=-2.0,
    mark_price=0.03, underlying_price=50_000.0, strike=52_000.0, implied_vol=0.6, expiry_ns=30 * DAY_NS,
)  # fmt: skip


def _margin(*positions: DeribitPosition, orders: float = 0.0) -> DeribitStandardMargin:
    payoff = positions[0].payoff
    account = DeribitAccount("BTC", payoff, 50_000.0, 0, positions, open_orders_margin=orders)
    return deribit_standard(account, DeribitStandardParameters())


@pytest.mark.parametrize("amount", [10.0, -10.0])
def test_a_perpetual_needs_more_of_each_coin_the_more_it_has(amount: float) -> None:
    """2 % and 0.005 % for each of ten coins is 2.05 %, on either side."""
    margin = _margin(replace(PERPETUAL, amount=amount))

    assert margin.positions[0].initial_rate == pytest.approx(0.0205)
    assert (margin.initial_margin, margin.maintenance_margin) == pytest.approx((0.205, 0.105))


def test_a_linear_perpetual_needs_dollars() -> None:
    """The slope still counts coins."""
    margin = _margin(replace(PERPETUAL, payoff=Payoff.LINEAR))

    assert (margin.initial_margin, margin.maintenance_margin) == pytest.approx((10_250.0, 5_250.0))


def test_coins_are_stated_at_nine_decimals() -> None:
    """One dollar at 1,963.31 is 0.000509344 coins, and needs 0.000010187."""
    coins = coins_of_inverse(1.0, 1_963.31)

    margin = _margin(replace(PERPETUAL, amount=coins, mark_price=1_963.31))

    assert (coins, margin.initial_margin, margin.maintenance_margin) == (0.000509344, 0.000010187, 0.000005093)


@pytest.mark.parametrize(("strike", "initial"), [(40_000.0, 0.15), (50_000.0, 0.15), (52_000.0, 0.11), (60_000.0, 0.1)])
def test_a_short_call_needs_less_the_further_it_is_outside(strike: float, initial: float) -> None:
    """From 15 % down to 10 %, and its mark; to maintain 7.5 % and its mark."""
    margin = _margin(replace(CALL, strike=strike))

    assert margin.initial_margin == pytest.approx(2.0 * (initial + 0.03))
    assert margin.maintenance_margin == pytest.approx(2.0 * (0.075 + 0.03))
    assert margin.unconfirmed == (OPTIONS_UNCONFIRMED,)


@pytest.mark.parametrize(("mark", "maintenance"), [(0.4, 0.475), (1.0, 1.075), (3.0, 3.225)])
def test_a_short_put_is_maintained_by_its_mark_where_that_is_more_than_a_coin(mark: float, maintenance: float) -> None:
    """A put can be worth several coins; its initial margin is never below what maintains it."""
    margin = _margin(replace(CALL, option_type=OptionType.PUT, strike=300_000.0, mark_price=mark))

    assert margin.maintenance_margin == pytest.approx(2.0 * maintenance)
    assert margin.initial_margin == pytest.approx(2.0 * max(0.15 + mark, maintenance))


def test_a_linear_option_needs_shares_of_the_index() -> None:
    """In dollars, with its mark in dollars."""
    margin = _margin(replace(CALL, payoff=Payoff.LINEAR, mark_price=1_500.0))

    assert margin.initial_margin == pytest.approx(2.0 * (0.11 * 50_000.0 + 1_500.0))
    assert margin.maintenance_margin == pytest.approx(2.0 * (0.075 * 50_000.0 + 1_500.0))


def test_health_is_the_same_against_equity_with_and_without_options() -> None:
    """A short's mark is counted once, and a long's value margins nothing."""
    short, long = _margin(CALL), _margin(replace(CALL, amount=2.0))

    assert short.maintenance_requirement == pytest.approx(2.0 * 0.075)
    assert (long.initial_margin, long.initial_requirement) == pytest.approx((0.0, 2.0 * 0.03))


def test_orders_add_to_initial_margin_alone() -> None:
    """An order must not liquidate anyone."""
    plain, with_orders = _margin(PERPETUAL), _margin(PERPETUAL, orders=0.5)

    assert with_orders.initial_margin == plain.initial_margin + 0.5
    assert with_orders.maintenance_margin == plain.maintenance_margin
    assert plain.unconfirmed == ()


@pytest.mark.parametrize("changes", [
    {"amount": math.nan}, {"mark_price": -0.1}, {"implied_vol": math.inf}, {"underlying_price": 0.0}, {"strike": -1.0},
    {"implied_vol": -0.1},
])  # fmt: skip
def test_a_bad_option_is_refused_by_name(changes: dict[str, Any]) -> None:
    """A NaN would compare false with everything, and read as health."""
    with pytest.raises(ValueError, match="CALL: "):
        replace(CALL, **changes)


def test_a_position_of_another_account_is_refused() -> None:
    """Coins and dollars are not added up."""
    with pytest.raises(ValueError, match="BTC-PERPETUAL is linear on BTC, and the account is inverse"):
        DeribitAccount("BTC", Payoff.INVERSE, 50_000.0, 0, (replace(PERPETUAL, payoff=Payoff.LINEAR),))
    with pytest.raises(ValueError, match="open_orders_margin must not be negative"):
        DeribitAccount("BTC", Payoff.INVERSE, 50_000.0, 0, open_orders_margin=-1.0)
    with pytest.raises(ValueError, match="index_price must be positive"):
        DeribitAccount("BTC", Payoff.INVERSE, 0.0, 0)
