"""``dydx-v4``: integers in, integers out."""

from dataclasses import replace
from fractions import Fraction

import pytest

from flows.margin.dydx import (
    DydxAccount,
    DydxMarket,
    DydxPosition,
    LiquidationRefusedError,
    bankruptcy_quote,
    dydx_margin,
    fillable_price,
    initial_margin_ppm,
    insurance_fund_delta,
    liquidatable_notional,
    notional,
    riskiest_first,
)
from schemas.parameters import DydxParameters, DydxTier

TIER = DydxTier(initial_margin_ppm=200_000, maintenance_fraction_ppm=500_000)
# One coin is 10^8 base quantums and costs 50,000 USD: 500 quote quantums a base quantum.
BTC = DydxMarket("BTC", 5_000_000_000, -5, -8, TIER)
MARKETS = {"BTC": BTC}
PARAMETERS = DydxParameters()


def _one_btc(quote_usd: int, *, coins: int = 1) -> DydxAccount:
    return DydxAccount(quote_usd * 10**6, (DydxPosition("BTC", coins * 10**8),))


def test_an_account_is_margined_step_by_step() -> None:
    """A long coin of 50,000 on 44,000 of debt: 10 % of maintenance margin is 5,000, and 6,000 are left."""
    margin = dydx_margin(_one_btc(-44_000), MARKETS)

    assert [it // 10**6 for it in (margin.net_collateral, margin.initial_margin, margin.maintenance_margin)] == [
        6_000, 10_000, 5_000,
    ]  # fmt: skip
    assert (margin.health, margin.free_margin, margin.liquidatable) == (1_000 * 10**6, -4_000 * 10**6, False)


@pytest.mark.parametrize(("base_quantums", "value"), [(3, 1), (-3, -1), (1, 0), (-1, 0)])
def test_a_notional_is_truncated_toward_zero_on_both_sides(base_quantums: int, value: int) -> None:
    """Flooring a short would show it one quantum larger than a long."""
    market = replace(BTC, price=49_999, price_exponent=-3)  # 0.49999 quote quantums a base quantum

    assert notional(market, base_quantums) == value


def test_a_requirement_of_a_fraction_of_a_quantum_is_a_quantum() -> None:
    """Truncation would let dust be held for nothing, as often as one likes."""
    market = replace(BTC, price=100_000, price_exponent=-5)  # 0.01 quote quantums a base quantum

    margin = dydx_margin(DydxAccount(0, (DydxPosition("BTC", 100),)), {"BTC": market})

    assert (margin.positions[0].notional, margin.initial_margin, margin.maintenance_margin) == (1, 1, 1)


def test_funding_is_added_up_before_it_is_rounded_down() -> None:
    """Two halves of a quantum are one quantum, and half of one that is owed is a whole one."""
    markets = {"A": replace(BTC, market="A", funding_index=1), "B": replace(BTC, market="B", funding_index=1)}

    gains = dydx_margin(DydxAccount(0, (DydxPosition("A", -500_000), DydxPosition("B", -500_000))), markets)
    owes = dydx_margin(DydxAccount(0, (DydxPosition("A", 500_000),)), markets)

    assert (gains.funding_settlement, owes.funding_settlement) == (1, -1)
    assert owes.settled_balance == -1


@pytest.mark.parametrize(("interest", "rate"), [(0, 200_000), (10, 200_000), (15, 600_000), (20, 1_000_000),
                                                (30, 1_000_000)])  # fmt: skip
def test_open_interest_lifts_initial_margin_between_its_caps(interest: int, rate: int) -> None:
    """In a line from the tier's rate to all of the notional; maintenance margin stays."""
    tier = TIER.model_copy(update={"open_interest_lower_cap": 500_000 * 10**6, "open_interest_upper_cap": 10**12})
    market = replace(BTC, tier=tier, open_interest=interest * 10**8)

    margin = dydx_margin(_one_btc(0), {"BTC": market})

    assert initial_margin_ppm(market) == rate
    assert (margin.initial_margin, margin.maintenance_margin) == (rate * 50_000, 5_000 * 10**6)


def test_an_accounts_own_rate_only_raises_initial_margin() -> None:
    """A lower one is not a discount, and maintenance margin is the tier's."""
    raised = DydxAccount(0, (DydxPosition("BTC", 10**8, initial_margin_ppm_min=300_000),))
    lowered = DydxAccount(0, (DydxPosition("BTC", 10**8, initial_margin_ppm_min=100_000),))

    assert dydx_margin(raised, MARKETS).initial_margin == 15_000 * 10**6
    assert dydx_margin(lowered, MARKETS) == dydx_margin(_one_btc(0), MARKETS)
    assert dydx_margin(raised, MARKETS).maintenance_margin == 5_000 * 10**6


def test_liquidation_goes_from_the_smallest_ratio_of_collateral() -> None:
    """Healthy accounts are no candidates, and of equal ratios the larger requirement goes first."""
    accounts = {
        "healthy": _one_btc(-40_000), "thin": _one_btc(-46_000), "bankrupt": _one_btc(-51_000),
        "thin_and_large": _one_btc(-92_000, coins=2), "alike": _one_btc(-46_000),
    }  # fmt: skip

    order = riskiest_first((name, dydx_margin(account, MARKETS)) for name, account in accounts.items())

    assert order == ["bankrupt", "thin_and_large", "alike", "thin"]


def test_a_bankrupt_account_is_closed_between_oracle_and_bankruptcy_price() -> None:
    """At the oracle price minus its whole spread where nothing is left; bankruptcy is what it owes."""
    account = _one_btc(-50_000)

    price = fillable_price(account, MARKETS, market="BTC", delta_base_quantums=-(10**8), parameters=PARAMETERS)
    bankruptcy = bankruptcy_quote(account, MARKETS, market="BTC", delta_base_quantums=-(10**8))

    assert price == Fraction(50_000 - 7_500, 100)
    assert bankruptcy == 50_000 * 10**6


@pytest.mark.parametrize(("fill_usd", "delta_usd"), [(48_000, 720), (47_100, 100), (46_000, -1_000)])
def test_a_fill_pays_the_fund_up_to_its_fee_and_is_paid_by_it_below_bankruptcy(fill_usd: int, delta_usd: int) -> None:
    """1.5 % of the fill at most, what is left above 47,000 at most, and all of the loss below."""
    found = insurance_fund_delta(
        _one_btc(-47_000), MARKETS, market="BTC", is_buy=False, fill_base_quantums=10**8,
        subticks=fill_usd * 10**4, quantum_conversion_exponent=-6, parameters=PARAMETERS,
    )  # fmt: skip

    assert found.bankruptcy_quote == 47_000 * 10**6
    assert found.fill_quote == fill_usd * 10**6
    assert found.delta == delta_usd * 10**6


def test_a_small_position_is_liquidated_whole_and_a_large_one_in_part() -> None:
    """A tenth, or 1,000 USD, whichever is more, and never more than there is."""
    most = [liquidatable_notional(BTC, base, PARAMETERS)[1] for base in (10**8, -(10**7), 10**6, -5_000)]

    assert most == [5_000 * 10**6, 1_000 * 10**6, 500 * 10**6, 2_500_000]


@pytest.mark.parametrize("delta", [0, 1, -(10**8) - 1])
def test_a_liquidation_that_does_not_shrink_a_position_is_refused(delta: int) -> None:
    """It would open a position in the name of who is being liquidated."""
    account = _one_btc(-48_000)

    with pytest.raises(LiquidationRefusedError, match="does not shrink"):
        bankruptcy_quote(account, MARKETS, market="BTC", delta_base_quantums=delta)
    with pytest.raises(LiquidationRefusedError, match="does not shrink"):
        fillable_price(account, MARKETS, market="BTC", delta_base_quantums=delta, parameters=PARAMETERS)


def test_an_account_without_requirement_is_refused_and_not_divided_by() -> None:
    """A market at price 0 asks no margin of anyone."""
    markets = {"BTC": replace(BTC, price=0)}

    with pytest.raises(LiquidationRefusedError, match="without maintenance margin"):
        bankruptcy_quote(_one_btc(-1), markets, market="BTC", delta_base_quantums=-1)


def test_a_price_below_zero_is_refused() -> None:
    """A spread of more than the notional has no price."""
    wide = DydxParameters(spread_to_maintenance_ppm=11_000_000)

    with pytest.raises(LiquidationRefusedError, match="below zero"):
        fillable_price(_one_btc(-50_000), MARKETS, market="BTC", delta_base_quantums=-1, parameters=wide)


def test_bad_markets_and_accounts_are_refused() -> None:
    """One clear line each."""
    with pytest.raises(ValueError, match="price is negative"):
        replace(BTC, price=-1)
    with pytest.raises(ValueError, match="open interest is negative"):
        replace(BTC, open_interest=-1)
    with pytest.raises(ValueError, match="one position a market"):
        DydxAccount(0, (DydxPosition("BTC", 1), DydxPosition("BTC", 2)))
    with pytest.raises(ValueError, match="no market is named 'ETH'"):
        dydx_margin(DydxAccount(0, (DydxPosition("ETH", 1),)), MARKETS)
    with pytest.raises(ValueError, match="out of range"):
        dydx_margin(_one_btc(0), {"BTC": replace(BTC, price_exponent=500)})
