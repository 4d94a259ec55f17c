"""Liquidation prices, held against portfolios that are written down at those prices."""

from math import log

import numpy as np
import pytest

from infra.whatif.figures import figures, numbers
from infra.whatif.grid import grid
from infra.whatif.liquidation import _nearest, _outward, liquidation_prices
from infra.whatif.market import Move
from infra.whatif.scene import Scene
from tests.infra.whatif.builders import MODELS, a_call, a_perpetual, a_scene


def test_a_long_perpetual_by_hand() -> None:
    """Fails where equity(P) = maintenance(P) of one linear position is solved wrongly."""
    (found,) = liquidation_prices(a_scene([a_perpetual("0.5")]))

    # 10,000 + 0.5 (P - 60,000) = 0.05 × 0.5 P
    assert found.below == pytest.approx(20_000 / 0.475, rel=1e-12)
    assert (found.above, found.price) == (None, 60_000.0)
    assert found.searched_to == pytest.approx(6e10)


def test_a_mark_keeps_its_ratio() -> None:
    """Fails where a venue's mark stands still while its underlying moves."""
    market = {"prices": {"BTC": "60000"}, "marks": {"BTC-PERP": "60300"}}

    (found,) = liquidation_prices(a_scene([a_perpetual("0.5")], market=market))

    # 10,000 + 0.5 (1.005 P - 60,000) = 0.05 × 0.5 P
    assert found.below == pytest.approx(20_000 / (0.5025 - 0.025), rel=1e-12)


@pytest.mark.parametrize("model", sorted(set(MODELS) - {"dydx-v4"}))
@pytest.mark.parametrize("coins", ["0", "0.15"])
def test_at_the_price_health_is_nothing(model: str, coins: str) -> None:
    """Fails where an account written down at its liquidation price has health, or just beyond it none to lose.

    Long perpetual, short calls, and coins as collateral: there is a price on either side.
    """
    positions, balances = [a_perpetual("1"), a_call("-2")], {"USDC": "20000", "BTC": coins}

    (found,) = liquidation_prices(a_scene(positions, model=model, balances=balances))

    assert found.below is not None
    assert found.above is not None
    for price, outward in ((found.below, -1.0), (found.above, 1.0)):
        at, outside, inside = (
            figures(a_scene(positions, model=model, balances=balances, price=f"{price * multiple:.15f}"))
            for multiple in (1.0, 1.0 + outward * 1e-5, 1.0 - outward * 1e-5)
        )
        assert abs(at.health) <= 1e-6 * at.maintenance_margin
        assert outside.health < 0.0 < inside.health


def test_no_price_where_nothing_can_be_lost() -> None:
    """Fails where an account that owes nothing is given a price."""
    (found,) = liquidation_prices(a_scene([a_call("1")]))

    assert (found.below, found.above) == (None, None)
    assert found.searched_from == pytest.approx(0.06)
    assert found.searched_to == pytest.approx(6e10)


def test_an_account_under_water_is_told_where_it_recovers() -> None:
    """Fails where an account that is liquidated now has no price at which it would not be."""
    (found,) = liquidation_prices(a_scene([a_perpetual("0.5")], price="40000"))

    assert found.below is None
    assert found.above == pytest.approx(20_000 / 0.475, rel=1e-12)


def test_a_scene_that_moved_has_the_same_price() -> None:
    """Fails where moves of a scene and of the search are not one move."""
    still = a_scene([a_perpetual("0.5")])

    (found,) = liquidation_prices(still.changed([], [], {"BTC": Move(spot=0.8)}))

    assert found.price == pytest.approx(48_000)
    assert found.below == pytest.approx(20_000 / 0.475, rel=1e-12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("place", [0.1003, 0.7, 3.0])
def test_a_turn_between_two_steps_is_seen(sign: float, place: float) -> None:
    """Fails where health that dips below zero and comes back between two steps is passed over."""

    def health(multiple: float) -> float:
        return sign * ((log(multiple) - place) ** 2 - 1e-8)

    root, _ = _nearest(health, _outward(down=False))

    assert root == pytest.approx(float(np.exp(place - 1e-4)), rel=1e-9)


def test_the_search_stops_where_nothing_is_known() -> None:
    """Fails where a price is guessed beyond what can be decided."""
    root, farthest = _nearest(lambda multiple: float("nan") if multiple < 0.5 else 1.0, _outward(down=True))

    assert root is None
    assert 0.5 <= farthest < 0.55


def test_each_underlying_has_its_own_price() -> None:
    """Fails where other marks move along, or collateral in coins is forgotten."""
    listing = {"quote": "USDC", "settlement_asset": "USDC", "tick_size": "0.5", "lot_size": "0.001"}
    scene = a_scene(
        instruments=[{"instrument": "ETH-PERP", "kind": "perpetual", "underlying": "ETH", **listing}],
        market={"prices": {"BTC": "60000", "ETH": "3000"}},
        account={
            "margin_model": "tidegate-standard",
            "balances": {"BTC": "0.1"},
            "positions": [{"instrument": "ETH-PERP", "quantity": "10", "entry_price": "3000"}],
        },
    )

    eth, btc = liquidation_prices(scene)

    # 0.1 × 60,000 × 0.9 + 10 (P - 3,000) = 0.05 × 10 P, the loss being a debt in USDC
    assert eth.underlying == "ETH"
    assert eth.below == pytest.approx((30_000 - 5_400) / 9.5, rel=1e-12)
    # 0.1 P × 0.9 = 0.05 × 30,000
    assert btc.underlying == "BTC"
    assert btc.below == pytest.approx(1_500 / 0.09, rel=1e-12)


def test_a_grid_is_the_account_in_each_market() -> None:
    """Fails where a cell is not the account evaluated in its market, or rows and columns are exchanged."""
    scene = a_scene([a_perpetual("0.5"), a_call("-1")], model="tidegate-portfolio")

    found = grid(scene, [-0.1, 0.0], [0.0, 0.5, 1.0])

    alone = [
        [numbers(scene, scene.instant({"BTC": Move(1.0 + s, 1.0 + v)})) for v in (0.0, 0.5, 1.0)] for s in (-0.1, 0)
    ]
    assert found.names == ["BTC"]
    assert found.cells == alone
    assert found.cells[1][0] == numbers(scene, scene.instant())


def _two_underlyings(model: str, **moved: float) -> Scene:
    """Return an account long one underlying and short another, written down at prices of which some are others."""
    listing = {"kind": "perpetual", "quote": "USDC", "settlement_asset": "USDC", "tick_size": "0.5"}
    prices = {"BTC": 60_000.0, "ETH": 3_000.0} | moved
    return a_scene(
        instruments=[
            {"instrument": f"{it}-PERP", "underlying": it, "lot_size": "0.001", **listing} for it in ("BTC", "ETH")
        ],
        market={"prices": {it: f"{each:.15f}"[:24] for it, each in prices.items()}},
        account={
            "margin_model": model,
            "balances": {"USDC": "20000"},
            "positions": [
                a_perpetual("1", "58000"), {"instrument": "ETH-PERP", "quantity": "-8", "entry_price": "3100"},
            ],
        },
    )  # fmt: skip


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize(("name", "side"), [("BTC", "below"), ("ETH", "above")])
def test_a_search_by_hand_finds_the_same_price(model: str, name: str, side: str) -> None:
    """Fails where the nearest price on its side is passed over, or another underlying moves along: brute force."""

    def health(price: float) -> float:
        scene = _two_underlyings(model, **{name: price})
        found = numbers(scene, scene.instant())
        assert found is not None
        return found.health

    inside = {"BTC": 60_000.0, "ETH": 3_000.0}[name]
    step = 1.01 if side == "above" else 1 / 1.01
    while health(inside * step) > 0.0:
        inside *= step
    outside = inside * step
    while abs(outside - inside) > 1e-9 * inside:
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if health(middle) > 0.0 else (inside, middle)

    found = {it.underlying: it for it in liquidation_prices(_two_underlyings(model))}

    assert getattr(found[name], side) == pytest.approx(inside, rel=1e-8)
