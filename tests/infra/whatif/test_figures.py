"""What a portfolio's numbers are, and that their parts are theirs."""

from math import erf, exp, log, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.whatif.figures import figures
from infra.whatif.market import Move
from infra.whatif.scenarios import UNNAMED
from infra.whatif.scene import Deposit, Scene, Trade, WhatIfError
from tests.infra.whatif.builders import MODELS, a_call, a_perpetual, a_scene

DAYS = 14 + 8 / 24


def black(forward: float, strike: float, vol: float, years: float) -> float:
    """Return a call's undiscounted price, written down once more."""
    width = vol * sqrt(years)
    d = log(forward / strike) / width + width / 2

    def normal(x: float) -> float:
        return (1 + erf(x / sqrt(2))) / 2

    return forward * normal(d) - strike * normal(d - width)


def test_a_perpetual_by_hand() -> None:
    """Fails where gain, haircut or rates of one position are not what a person computes."""
    scene = a_scene([a_perpetual("0.5")], price="61000", balances={"USDC": "10000", "BTC": "0.1"})

    found = figures(scene)

    assert found.equity == pytest.approx(10_000 + 0.5 * 1_000 + 0.1 * 61_000 * 0.9, rel=1e-12)
    assert found.initial_margin == pytest.approx(0.10 * 0.5 * 61_000, rel=1e-12)
    assert found.maintenance_margin == pytest.approx(0.05 * 0.5 * 61_000, rel=1e-12)
    assert found.health == found.equity - found.maintenance_margin
    assert (found.tier, found.greeks[0].delta_per_price) == ("healthy", 0.5)


def test_a_short_call_by_hand() -> None:
    """Fails where a short option's mark is not owed, or its rate, distance or time is another."""
    mark = black(60_000, 70_000, 0.6, DAYS / 365)

    found = figures(a_scene([a_call("-1")], balances={"USDC": "20000"}))

    assert found.equity == pytest.approx(20_000 - mark, rel=1e-9)
    assert found.initial_margin == pytest.approx(0.10 * 60_000, rel=1e-12)
    assert found.maintenance_margin == pytest.approx(0.075 * 60_000, rel=1e-12)
    assert found.positions[0].value == pytest.approx(-mark, rel=1e-9)


def test_open_orders_by_hand() -> None:
    """Fails where orders do not count in initial margin, count elsewhere, or are not a part that adds up."""
    orders = [{"instrument": "BTC-PERP", "buys": "0.2", "sells": "1.5"}, {"instrument": "BTC-70000-C", "buys": "1"}]
    without, found = (
        figures(a_scene([a_perpetual("0.5")], open_orders=told, model="tidegate-standard")) for told in ([], orders)
    )

    # The worst of each: selling turns the position round, 1.0 short, and the call that may be bought needs its price.
    call = black(60_000, 70_000, 0.6, DAYS / 365)
    assert found.initial_margin == pytest.approx(0.10 * 1.0 * 60_000 + call, rel=1e-9)
    assert (found.equity, found.maintenance_margin) == (without.equity, without.maintenance_margin)
    assert found.positions == without.positions
    assert found.parts is not None and without.parts is not None
    assert [part for part in found.parts if part.name != "open orders"] == without.parts
    assert sum(part.initial for part in found.parts) == pytest.approx(found.initial_margin, rel=1e-12)
    assert [(it.instrument, it.buys, it.sells) for it in found.open_orders] == [
        ("BTC-PERP", "0.200", "1.500"),
        ("BTC-70000-C", "1.00", "0.00"),
    ]


def test_an_option_with_its_premium_outside_the_balance() -> None:
    """Fails where an entry price is not taken from the balance, an average between ticks included."""
    found = figures(a_scene([{**a_call("-2"), "entry_price": "353.25"}]))

    assert found.assets[0].cash == "10706.500000"


quantities = st.integers(-500, 500).filter(bool).map(lambda lots: f"{lots / 1000:.3f}")
# All but one that has no options.
models = st.sampled_from(sorted(set(MODELS) - {"dydx-v4"}))


@settings(max_examples=25)
@given(first=quantities, second=quantities, ticks=st.integers(110_000, 130_000), model=models)
def test_after_a_trade_is_a_portfolio_that_has_it(first: str, second: str, ticks: int, model: str) -> None:
    """A what-if is no model of a trade: it equals, to the bit, the portfolio in which the trade was done."""
    price = f"{ticks / 2}"
    before = a_scene([a_perpetual(first), a_call("-0.5")], model=model)

    after = before.changed([Trade("BTC-PERP", second, price)], [Deposit("USDC", "123.456")])

    done = a_scene(
        [a_perpetual(first), a_call("-0.5"), a_perpetual(second, price)], model=model,
        balances={"USDC": "10123.456"},
    )  # fmt: skip
    assert after.holdings == done.holdings
    assert figures(after) == figures(done)


@pytest.mark.parametrize("model", ["tidegate-standard", "tidegate-portfolio", "derive-pmrm2"])
def test_a_moved_market_is_a_market_at_those_prices(model: str) -> None:
    """Fails where moved prices and vols are priced by other rules than prices and vols that were told."""
    positions = [a_perpetual("0.5"), a_call("-1")]
    smile = {"underlying": "BTC", "expiry": "2026-03-27T08:00Z", "points": [{"strike": "70000", "implied_vol": "0.9"}]}
    market = {"prices": {"BTC": "75000"}, "marks": {"BTC-PERP": "75375"}, "smiles": [smile]}
    calm = {"prices": {"BTC": "60000"}, "marks": {"BTC-PERP": "60300"}}
    calm_smile = smile | {"points": [{"strike": "70000", "implied_vol": "0.6"}]}
    balances = {"USDC": "10000", "BTC": "0.1"}
    before = a_scene(positions, model=model, balances=balances, market=calm | {"smiles": [calm_smile]})

    moved = figures(before.changed([], [], {"BTC": Move(spot=1.25, vol=1.5)}))

    told = figures(a_scene(positions, model=model, balances=balances, market=market))
    assert moved.equity == pytest.approx(told.equity, rel=1e-12)
    assert moved.maintenance_margin == pytest.approx(told.maintenance_margin, rel=1e-12)


@settings(max_examples=25)
@given(perpetual=quantities, calls=st.integers(-200, 200).filter(bool), model=models)
def test_parts_add_up(perpetual: str, calls: int, model: str) -> None:
    """Fails where what counts of assets is not equity, or steps of collateral and positions not the requirement."""
    scene = a_scene(
        [a_perpetual(perpetual), a_call(f"{calls / 100:.2f}")], model=model, balances={"USDC": "-500", "BTC": "0.7"}
    )

    found = figures(scene)

    assert sum(it.counted for it in found.assets) == pytest.approx(found.equity, abs=1e-6)
    for total, collateral, shares in (
        (found.initial_margin, found.collateral.initial_margin, [it.initial_margin for it in found.positions]),
        (
            found.maintenance_margin,
            found.collateral.maintenance_margin,
            [it.maintenance_margin for it in found.positions],
        ),
    ):
        assert collateral + sum(it.step for it in shares) == pytest.approx(total, abs=1e-6)
    assert (found.collateral.maintenance_margin > 0.0) == model.startswith("derive")
    if found.parts is not None:
        assert UNNAMED not in [it.name for it in found.parts]
        assert sum(it.maintenance for it in found.parts) == pytest.approx(found.maintenance_margin, abs=1e-6)


def test_another_set_of_parameters() -> None:
    """Fails where a set in the file changes nothing, or is not the one that is returned."""
    scene = a_scene([a_perpetual("0.5")], parameters={"tidegate-standard": {"linear_maintenance": 0.1}})

    found = figures(scene)
    used = scene.market.parameters("tidegate-standard")

    assert found.maintenance_margin == pytest.approx(3_000, rel=1e-12)
    assert used is not None and used.model_dump()["linear_maintenance"] == 0.1


def test_what_cannot_be_valued_is_named() -> None:
    """Fails where a portfolio without a smile, or beyond its model, is given a number."""
    unpriced = a_scene([a_call("-1")], market={"prices": {"BTC": "60000"}})
    uncovered = a_scene([a_call("-1")], model="dydx-v4")

    assert "BTC-70000-C" in refusal(unpriced)
    assert "dydx-v4" in refusal(uncovered)


def refusal(scene: Scene) -> str:
    with pytest.raises(WhatIfError) as caught:
        figures(scene)
    return str(caught.value)


def test_a_trade_without_a_price_is_done_at_the_mark() -> None:
    """Fails where a trade at the mark, to the tick, moves equity by more than that tick."""
    before = a_scene(market={"prices": {"BTC": "60000.2"}})

    after = before.changed([Trade("BTC-PERP", "1")], [])

    assert figures(after).equity - figures(before).equity == pytest.approx(0.2, abs=1e-9)


@pytest.mark.parametrize(
    ("trade", "word"),
    [
        (Trade("BTC-PERP", "0.0005", "60000"), "0.001"),
        (Trade("BTC-PERP", "1", "60000.3"), "0.5"),
        (Trade("ETH-PERP", "1", "3000"), "ETH-PERP"),
        (Trade("BTC-PERP", "0", "60000"), "not positive"),
    ],
)
def test_a_trade_that_intake_refuses(trade: Trade, word: str) -> None:
    """Fails where a trade off lot, off tick or of nothing is done all the same."""
    with pytest.raises(WhatIfError, match=word):
        a_scene().with_trade(trade)


def test_an_isolated_account_keeps_to_its_underlying() -> None:
    """Fails where an isolated account may trade what intake would refuse it."""
    listing = {"quote": "USDC", "settlement_asset": "USDC", "tick_size": "0.5", "lot_size": "0.001"}
    account = {"margin_model": "tidegate-standard", "margin_mode": "isolated", "positions": [a_perpetual("0.5")]}
    scene = a_scene(
        instruments=[
            {"instrument": "BTC-PERP", "kind": "perpetual", "underlying": "BTC", **listing},
            {"instrument": "ETH-PERP", "kind": "perpetual", "underlying": "ETH", **listing},
        ],
        market={"prices": {"BTC": "60000", "ETH": "3000"}},
        account={**account, "balances": {"USDC": "10000", "BTC": "1"}},
    )

    found = figures(scene)

    assert found.equity == pytest.approx(10_000, rel=1e-12)
    assert sum(it.counted for it in found.assets) == found.equity
    with pytest.raises(WhatIfError, match="isolated"):
        scene.with_trade(Trade("ETH-PERP", "1", "3000"))


def test_an_inverse_position() -> None:
    """Fails where an inverse perpetual is not worth coins, bought for coins."""
    inverse = {"instrument": "BTC-INV", "kind": "perpetual", "underlying": "BTC", "quote": "USD", "payoff": "inverse"}
    scene = a_scene(
        instruments=[{**inverse, "settlement_asset": "BTC", "tick_size": "0.5", "lot_size": "10"}],
        market={"prices": {"BTC": "60000"}},
        account={
            "margin_model": "tidegate-standard",
            "balances": {"BTC": "1"},
            "positions": [{"instrument": "BTC-INV", "quantity": "30000", "entry_price": "50000"}],
        },
    )

    found = figures(scene)

    gain = 30_000 / 50_000 - 30_000 / 60_000
    assert found.equity == pytest.approx((1 + gain) * 60_000 * 0.9, rel=1e-9)
    assert found.greeks[0].delta_per_price == pytest.approx(30_000 / 60_000, rel=1e-12)


def test_a_discounted_option_by_hand() -> None:
    """Fails where the rate of the file does not discount, or the forward of the file is not the one priced on."""
    smile = {"underlying": "BTC", "expiry": "2026-03-27T08:00Z", "points": [{"strike": "70000", "implied_vol": "0.6"}]}
    market = {
        "prices": {"BTC": "60000"},
        "smiles": [smile],
        "rates": {"USDC": "0.05"},
        "forwards": [{"underlying": "BTC", "expiry": "2026-03-27T08:00Z", "forward": "60500"}],
    }

    found = figures(a_scene([a_call("1")], market=market))

    years = DAYS / 365
    assert found.positions[0].mark_price == pytest.approx(
        exp(-0.05 * years) * black(60_500, 70_000, 0.6, years), rel=1e-9
    )


@pytest.mark.parametrize("payoff", ["linear", "inverse"])
def test_vanna_and_volga_are_what_vega_gains(payoff: str) -> None:
    """Fails where a second derivative is not the difference of vegas in markets moved a little either way."""
    settles = "USDC" if payoff == "linear" else "BTC"
    option = {
        "instrument": "C", "kind": "option", "underlying": "BTC", "quote": "USDC", "settlement_asset": settles,
        "payoff": payoff, "tick_size": "0.0001", "lot_size": "0.01", "strike": "66000", "option_type": "call",
        "expiry": "2026-03-27T08:00Z",
    }  # fmt: skip
    smile = {"underlying": "BTC", "expiry": "2026-03-27T08:00Z", "points": [{"strike": "66000", "implied_vol": "0.6"}]}
    market = {"prices": {"BTC": "60000"}, "smiles": [smile], "rates": {"USDC": "0.05"}}
    account = {
        "margin_model": "tidegate-standard",
        "balances": {"BTC": "1"},
        "positions": [a_call("-3") | {"instrument": "C"}],
    }
    scene = a_scene(instruments=[option], market=market, account=account)
    step = 1e-4

    def vega(**move: float) -> float:
        moved = scene.changed([], [], {"BTC": Move(**move)})
        # Coins that it settles in are held at their price.
        coin = 1.0 if payoff == "linear" else move.get("spot", 1.0)
        return figures(moved).greeks[0].vega_per_vol / coin

    (found,) = figures(scene).greeks

    vanna = (vega(spot=1 + step) - vega(spot=1 - step)) / (2 * step * 60_000.0)
    volga = (vega(vol=1 + step) - vega(vol=1 - step)) / (2 * step * 0.6)
    assert found.vanna_per_price_vol == pytest.approx(vanna, rel=1e-6)
    assert found.volga_per_vol_squared == pytest.approx(volga, rel=1e-6)
    assert "vol" in found.units["vanna_per_price_vol"]


def test_a_doubtful_oracle_costs_collateral() -> None:
    """Fails where the band of a price that the file tells is not the engine's: twice the band, once more taken off."""
    market = {"prices": {"BTC": "60000"}, "confidences": {"BTC": "1200"}}

    sure, doubtful = (
        figures(a_scene(balances={"BTC": "1"}, market=it)) for it in ({"prices": {"BTC": "60000"}}, market)
    )

    assert sure.equity == pytest.approx(60_000 * 0.9)
    assert doubtful.equity == pytest.approx(60_000 * (0.9 - 0.02))
    (coins,) = doubtful.assets
    assert coins.haircut == pytest.approx(0.12)
