"""``deribit-pm``: the risk matrix, step by step."""

from typing import Any

import numpy as np
import pytest

from flows.margin.deribit_account import DeribitAccount, DeribitFuture, DeribitOption, DeribitPosition
from flows.margin.deribit_portfolio import (
    DAMPENER_UNCONFIRMED,
    DELTA_SHOCK_UNCONFIRMED,
    GAINS_LIMIT_UNCONFIRMED,
    LINEAR_UNCONFIRMED,
    OPTIONS_UNCONFIRMED,
    deribit_portfolio,
    scenarios_of,
)
from schemas.instruments import OptionType, Payoff
from schemas.parameters import DeribitPortfolioParameters, DeribitRiskMatrix

MS_NS = 1_000_000
DAY_NS = 86_400 * 10**9
DEFAULTS = DeribitPortfolioParameters()


def _perpetual(amount: float, payoff: Payoff = Payoff.INVERSE) -> DeribitFuture:
    return DeribitFuture("BTC-PERPETUAL", "BTC", payoff, amount, 70_000.0)


def _option(option_type: OptionType, amount: float, *, strike: float = 70_000.0, expiry_ns: int = 30 * DAY_NS,
            payoff: Payoff = Payoff.INVERSE) -> DeribitOption:  # fmt: skip
    return DeribitOption(
        instrument=option_type.value, underlying="BTC", payoff=payoff, option_type=option_type, amount=amount,
        mark_price=0.05, underlying_price=70_000.0, strike=strike, implied_vol=0.6, expiry_ns=expiry_ns,
    )  # fmt: skip


def _account(*positions: DeribitPosition, time_ns: int = 0) -> DeribitAccount:
    payoff = positions[0].payoff if positions else Payoff.INVERSE
    return DeribitAccount("BTC", payoff, 70_000.0, time_ns, positions)


def _matrix(**changes: Any) -> DeribitPortfolioParameters:
    return DeribitPortfolioParameters(inverse={"BTC": DeribitRiskMatrix(**changes)})


def test_the_worked_example_of_17_june_2024() -> None:
    """Two futures of a published account, from the move of -16 % to the margins, to the digits that were published."""
    june_28_ns = 1_719_561_600_000 * MS_NS
    account = DeribitAccount(
        "BTC", Payoff.INVERSE, 65_666.19, 1_718_619_740_501 * MS_NS,
        (
            DeribitFuture("BTC-PERPETUAL", "BTC", Payoff.INVERSE, 0.314538364, 65_910.57),
            DeribitFuture("BTC-28JUN24", "BTC", Payoff.INVERSE, -0.001187534, 67_371.75, june_28_ns),
        ),
        mmp_margin=0.06, open_orders_margin=0.000018212,
    )  # fmt: skip

    margin = deribit_portfolio(account, DEFAULTS)

    assert margin.pre_aggregated[0] == pytest.approx((0.314538364 - 0.001187534) * (-0.16 / 0.84), rel=1e-13)
    assert margin.aggregated[24] == 0.0  # +16 % is a gain, worth nothing
    assert margin.pre_aggregated[27] == pytest.approx(margin.pre_aggregated[0], rel=1e-13)  # -66 %, scaled
    assert margin.dampened[27] == 0.0
    assert (margin.worst_index, margin.worst_bucket, margin.worst_side, margin.worst_source) == (
        0,
        1,
        "left",
        "standard",
    )
    assert [roll.expiry_ns for roll in margin.rolls] == [None, june_28_ns]
    assert margin.roll_shock == pytest.approx(0.00315725898, rel=1e-13)
    assert margin.risk_matrix_margin == pytest.approx(0.06284313098, rel=1e-13)
    assert (margin.initial_margin, margin.unconfirmed) == (0.122861343, ())
    assert margin.maintenance_margin == pytest.approx(0.050274504784, rel=1e-13)


def test_scenarios_go_by_move_then_vol_then_the_extended_ones() -> None:
    """The 1-based index that the venue states counts in this order."""
    scenarios = scenarios_of(DeribitRiskMatrix(price_range=0.16))

    assert scenarios.standard == 27
    assert scenarios.move[:27:3] == pytest.approx([-0.16, -0.12, -0.08, -0.04, 0.0, 0.04, 0.08, 0.12, 0.16])
    assert scenarios.vol[:3].tolist() == [-1.0, 0.0, 1.0]
    assert scenarios.move[27:].tolist() == [-0.66, -0.33, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert (scenarios.vol[27:] == 1.0).all()


def test_an_empty_account_needs_what_is_not_of_positions() -> None:
    """And no scenario of nothing is a loss."""
    account = DeribitAccount("BTC", Payoff.INVERSE, 70_000.0, 0, spot_margin=0.25)

    margin = deribit_portfolio(account, DEFAULTS)

    assert (margin.worst_case, margin.initial_margin, margin.maintenance_margin) == (0.0, 0.25, 0.0)


def test_a_long_put_hedges_a_long_perpetual() -> None:
    """What the venue grants to portfolios: the hedge lowers the requirement. Options are marked as unconfirmed."""
    bare = deribit_portfolio(_account(_perpetual(10.0)), DEFAULTS)
    hedged = deribit_portfolio(_account(_perpetual(10.0), _option(OptionType.PUT, 10.0)), DEFAULTS)

    assert hedged.maintenance_margin < 0.6 * bare.maintenance_margin
    assert (bare.unconfirmed, hedged.unconfirmed) == ((), (OPTIONS_UNCONFIRMED,))


def test_an_option_is_repriced_under_each_vol() -> None:
    """At no move a long gains from the higher vol, loses from the lower, and nothing happens at its own."""
    vector = deribit_portfolio(_account(_option(OptionType.CALL, 1.0)), DEFAULTS).vectors[0]

    down, same, up = vector[12:15]
    assert down < 0.0 < up
    assert same == pytest.approx(0.0, abs=1e-15)


def test_an_option_fades_in_its_last_half_hour() -> None:
    """Its delta and its risk decay in a line to nothing at expiry."""
    option = _option(OptionType.CALL, -1.0, strike=35_000.0)

    def margin(seconds_left: int) -> tuple[float, float]:
        found = deribit_portfolio(_account(option, time_ns=option.expiry_ns - seconds_left * 10**9), DEFAULTS)
        return found.delta, found.worst_case

    assert margin(1_800)[0] == pytest.approx(-1.0)
    assert margin(450) == pytest.approx(tuple(0.25 * it for it in margin(1_800)), rel=1e-12)
    assert margin(0) == (0.0, 0.0)


def test_a_large_delta_is_shocked_up_to_its_most() -> None:
    """Above 20 M USD by coins above it, and never by more than a tenth."""
    margins = [
        deribit_portfolio(_account(_perpetual(coins)), DEFAULTS) for coins in (285.0, 2_000.0 / 7, 1_000.0, 9_000.0)
    ]

    assert [it.delta_shock for it in margins] == pytest.approx([0.0, 0.0, 1_000.0 * 5e-5 * (5_000.0 / 7), 900.0])
    assert [it.unconfirmed for it in margins] == [(), (), (DELTA_SHOCK_UNCONFIRMED,), (DELTA_SHOCK_UNCONFIRMED,)]


def test_a_gain_counts_by_its_offset_and_no_more_than_the_limit() -> None:
    """A limit in dollars, in coins at the index price."""
    margin = deribit_portfolio(
        _account(_perpetual(1_000.0)),
        _matrix(
            profit_offset=0.5, profit_offset_max=70_000.0 * 20.0, extended_dampener=0.0, delta_shock_threshold=1e12
        ),
    )

    assert margin.aggregated[15] == pytest.approx(0.5 * 1_000.0 * 0.04 / 1.04)
    assert margin.aggregated[24] == 20.0
    assert set(margin.unconfirmed) == {GAINS_LIMIT_UNCONFIRMED, DAMPENER_UNCONFIRMED}


def test_a_linear_account_is_margined_in_dollars() -> None:
    """The same moves on the mark, the index for coins of delta; the result says that this is inferred."""
    margin = deribit_portfolio(_account(_perpetual(-2.0, Payoff.LINEAR)), DEFAULTS)

    assert margin.worst_case == pytest.approx(2.0 * 70_000.0 * 0.16)
    assert margin.roll_shock == pytest.approx(2.0 * 70_000.0 * 0.01)
    assert margin.unconfirmed == (LINEAR_UNCONFIRMED,)


def test_expiries_do_not_offset_each_others_roll() -> None:
    """A calendar spread has no delta and still a charge on each side, of the later by time."""
    later = DeribitFuture("LATER", "BTC", Payoff.INVERSE, -5.0, 71_000.0, 365 * DAY_NS)

    margin = deribit_portfolio(_account(_perpetual(5.0), later), DEFAULTS)

    assert margin.delta == 0.0
    assert [roll.move for roll in margin.rolls] == pytest.approx([0.01, np.expm1(0.075)], rel=1e-13)
    assert margin.roll_shock == pytest.approx(5.0 * (0.01 + np.expm1(0.075)))
