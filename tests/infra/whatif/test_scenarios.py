"""Parts and scenarios add up to the margin that decided, under every model that takes its numbers apart."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.margin.breakdown import LOSS, ExplainedMarginModel
from flows.margin.portfolio import MODEL as PORTFOLIO
from infra.whatif.figures import Figures, figures
from infra.whatif.scenarios import UNNAMED
from infra.whatif.scene import Scene
from tests.infra.whatif.builders import MODELS, a_call, a_perpetual, a_scene

EXPLAINED = sorted(name for name, model in MODELS.items() if isinstance(model, ExplainedMarginModel))
WITH_SCENARIOS = ["deribit-pm", "derive-pmrm", "derive-pmrm2", "derive-srm", "tidegate-portfolio"]
NEAR, FAR = "2026-03-14T08:00Z", "2026-06-26T08:00Z"
STRIKES = ("50000", "60000", "75000")


def _listings() -> list[dict[str, Any]]:
    """Return perpetuals on two underlyings, and calls and puts of three strikes and two expiries on the first."""
    money = {"quote": "USDC", "settlement_asset": "USDC"}
    options = [
        {"instrument": f"BTC-{expiry[5:7]}-{strike}-{option_type[0].upper()}", "kind": "option", "underlying": "BTC",
         "tick_size": "1", "lot_size": "0.01", "strike": strike, "option_type": option_type, "expiry": expiry, **money}
        for expiry in (NEAR, FAR) for strike in STRIKES for option_type in ("call", "put")
    ]  # fmt: skip
    perpetuals = [
        {"instrument": f"{name}-PERP", "kind": "perpetual", "underlying": name, "tick_size": "0.5",
         "lot_size": "0.001", **money}
        for name in ("BTC", "ETH")
    ]  # fmt: skip
    return perpetuals + options


LISTINGS = _listings()


def _scene(
    model: str,
    lots: list[int],
    *,
    stable: str = "1",
    rate: str = "0.04",
    doubt: str = "0",
    coins: str = "0",
    buys: str = "0",
    **parameters: Any,
) -> Scene:
    """Return the scene of so many lots of each listing, in order; ``doubt`` is the band of BTC's price.

    ``buys`` are left of orders in its perpetual, and half as much of sells in the other's.
    """
    entry = {"BTC-PERP": "59000", "ETH-PERP": "3100"}
    positions = [
        {"instrument": it["instrument"], "quantity": f"{count / (1000 if it['kind'] == 'perpetual' else 100):.3f}",
         "entry_price": entry.get(it["instrument"])}
        for it, count in zip(LISTINGS, lots, strict=True) if count
    ]  # fmt: skip
    smiles = [
        {"underlying": "BTC", "expiry": expiry, "points": [{"strike": k, "implied_vol": v} for k, v in vols]}
        for expiry, vols in (
            (NEAR, zip(STRIKES, ("0.9", "0.6", "0.8"), strict=True)),
            (FAR, zip(STRIKES, ("0.7", "0.65", "0.62"), strict=True)),
        )
    ]
    return a_scene(
        positions, model=model, balances={"USDC": "100000", "BTC": coins}, instruments=LISTINGS,
        assets=[
            {"asset": "USDC", "decimals": 6, "price": stable, "haircut": "0"}, {"asset": "BTC", "haircut": "0.1"},
        ],
        market={
            "prices": {"BTC": "60000", "ETH": "3000"}, "confidences": {"BTC": doubt}, "smiles": smiles,
            "rates": {"USDC": rate},
        },
        open_orders=[
            {"instrument": "BTC-PERP", "buys": buys}, {"instrument": "ETH-PERP", "sells": f"{float(buys) / 2:.3f}"},
        ],
        parameters={model: parameters} if parameters else {},
    )  # fmt: skip


def _adds_up(found: Figures) -> None:
    assert found.parts is not None
    size = max((abs(it.initial) for it in found.parts), default=1.0)
    assert all(it.name != UNNAMED for it in found.parts)
    assert sum(it.initial for it in found.parts) == pytest.approx(found.initial_margin, abs=1e-9 * size)
    assert sum(it.maintenance for it in found.parts) == pytest.approx(found.maintenance_margin, abs=1e-9 * size)
    assert found.scenarios is not None
    losses = {it.of: it for it in found.parts if it.name == LOSS}
    assert list(losses) == [it.of for it in found.scenarios]
    for group in found.scenarios:
        assert losses[group.of].maintenance == pytest.approx(group.loss * group.factor, abs=1e-9 * size)
        for scenario in group.all:
            assert scenario.profit == pytest.approx(
                sum(scenario.positions.values()) + scenario.adjustment, abs=1e-9 * size
            )
        if group.counts is not None:
            assert group.counts in group.all
            assert group.loss == -group.counts.profit > 0.0


lots = st.lists(st.one_of(st.just(0), st.integers(-300, 300)), min_size=len(LISTINGS), max_size=len(LISTINGS))


@pytest.mark.parametrize("model", EXPLAINED)
@settings(max_examples=40)
@given(
    lots=lots,
    stable=st.sampled_from(["1", "0.97"]),
    rate=st.sampled_from(["0.04", "0", "-0.02"]),
    doubt=st.sampled_from(["0", "900", "2400"]),
    coins=st.sampled_from(["0", "0.5"]),
    buys=st.sampled_from(["0", "0.4"]),
)
@example(lots=[0] * len(LISTINGS), stable="1", rate="0", doubt="0", coins="0", buys="0")
def test_parts_and_scenarios_add_up(model: str, lots: list[int], **market: str) -> None:
    """Fails where a part is missing or counted twice, or the scenario that is shown is not the one that decided."""
    _adds_up(figures(_scene(model, lots, **market)))


# Depths that a few lots exceed, and losses that offset each other.
TERMS: dict[str, dict[str, Any]] = {
    "tidegate-standard": {"market_depth": {"BTC": 5_000.0, "ETH": 300.0}},
    "tidegate-portfolio": {
        "market_depth": {"BTC": 5_000.0, "ETH": 300.0},
        "offset_groups": [{"underlyings": ["BTC", "ETH"], "correlation": 0.8, "stress": 0.1}],
    },
}


@pytest.mark.parametrize("model", sorted(TERMS))
@settings(max_examples=60)
@given(
    lots=lots,
    eth=st.sampled_from([-2_000, 0, 900]),
    doubt=st.sampled_from(["0", "900"]),
    buys=st.sampled_from(["0", "0.4"]),
)
def test_every_term_of_ours_is_a_part(model: str, lots: list[int], eth: int, doubt: str, buys: str) -> None:
    """Fails where offsets, concentration, confidence or open orders are in a margin and not among its parts."""
    held = [lots[0], eth, *lots[2:]]

    found = figures(_scene(model, held, doubt=doubt, buys=buys, **TERMS[model]))

    _adds_up(found)
    named = {it.name for it in found.parts or []}
    assert ("confidence" in named) == (doubt != "0" and any(held[:1] + held[2:]))
    assert ("open orders" in named) == (buys != "0")


def test_terms_by_hand() -> None:
    """Fails where a term is shown under another's name: one bitcoin of 60,000, a band of 900 and a depth of 5,000."""
    found = figures(_scene("tidegate-portfolio", [1000, -2000, *[0] * (len(LISTINGS) - 2)], doubt="900",
                           **TERMS["tidegate-portfolio"]))  # fmt: skip

    parts = {(it.name, it.of): it.maintenance for it in found.parts or []}
    assert parts["confidence", "BTC"] == pytest.approx(900.0)
    assert parts["contingency", "BTC"] == pytest.approx(600.0)
    assert parts["concentration", "BTC"] == pytest.approx(min(0.05 * 60_000 * (60_000 / 5_000 - 1), 0.5 * 60_000))
    # Apart, each loses in its own worst scenario; together, what one loses the other gains.
    share = 1.0 - ((1.0 - 0.7) / 2.0) ** 0.5
    apart = parts[LOSS, "BTC"] + parts[LOSS, "ETH"]
    joint = max(0.4 * 0.5 * 60_000 - 0.4 * 0.5 * 6_000, 0.0)
    assert parts["offset", "BTC and ETH"] == pytest.approx(-share * (apart - joint))


def test_models_that_work_by_scenarios_show_them() -> None:
    """Fails where a model that has scenarios does not say which, or one that has none shows some."""
    held = [500, 0, -100, *[0] * (len(LISTINGS) - 3)]

    shown = [name for name in EXPLAINED if figures(_scene(name, held)).scenarios]

    assert set(WITH_SCENARIOS) <= set(shown)
    assert "tidegate-standard" not in shown


def test_underlyings_have_scenarios_of_their_own() -> None:
    """Fails where a loss on one underlying is shown in the scenarios of another."""
    found = figures(_scene("tidegate-portfolio", [1000, -2000, *[0] * (len(LISTINGS) - 2)]))

    assert found.scenarios is not None
    btc, eth = found.scenarios
    assert (btc.of, eth.of) == ("BTC", "ETH")
    assert btc.counts is not None and eth.counts is not None
    assert btc.counts.positions == {"BTC-PERP": pytest.approx(-0.5 * 0.4 * 60_000.0)}
    assert eth.counts.positions == {"ETH-PERP": pytest.approx(-0.35 * 0.6 * 2 * 3_000.0)}


def test_two_losses_of_a_spread() -> None:
    """A short call that a long call covers: the difference of strikes is less than the short by itself."""
    held = [0] * len(LISTINGS)
    held[LISTINGS.index(next(it for it in LISTINGS if it["instrument"] == "BTC-06-60000-C"))] = -100
    held[LISTINGS.index(next(it for it in LISTINGS if it["instrument"] == "BTC-06-75000-C"))] = 100

    (group,) = figures(_scene("derive-srm", held)).scenarios or []

    by_name = {it.scenario: it.profit for it in group.all}
    assert group.counts is not None and group.counts.scenario == "each short option by itself"
    assert by_name["settles at 75000"] == pytest.approx(-15_000.0)
    assert by_name["settles at 60000"] == 0.0
    assert by_name["each short option by itself"] > by_name["settles at 75000"]


def test_a_dampener_is_no_position() -> None:
    """Fails where what is done to a sum of positions is hidden in one of them."""
    (group,) = figures(a_scene([a_perpetual("1")], model="deribit-pm")).scenarios or []

    far = next(it for it in group.all if it.scenario == "spot x 0.34, vol up")
    assert far.positions == {"BTC-PERP": pytest.approx(-0.16 * 60_000.0)}
    assert far.profit == pytest.approx(far.positions["BTC-PERP"] + far.adjustment)
    assert far.adjustment > 0.0


def test_what_a_model_does_not_name_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A control: a breakdown that forgets a part is found out, by a part of its own that makes up for it."""
    scene = a_scene([a_perpetual("1"), a_call("-1")], model="tidegate-portfolio")
    whole = type(PORTFOLIO).breakdown

    def forgetful(*arguments: Any) -> Any:
        found = whole(*arguments)
        return type(found)([it for it in found.parts if it.name != "contingency"], found.groups)

    monkeypatch.setattr(type(PORTFOLIO), "breakdown", forgetful)
    found = figures(scene)

    assert found.parts is not None
    assert found.parts[-1].name == UNNAMED
    assert found.parts[-1].maintenance == pytest.approx(0.01 * 2 * 60_000.0)
    assert sum(it.maintenance for it in found.parts) == pytest.approx(found.maintenance_margin)


def test_a_model_that_does_not_say_has_none() -> None:
    """Fails where a model without a breakdown is refused, or given somebody else's."""
    scene = a_scene([a_perpetual("1")], model="dydx-v4")

    found = figures(scene)

    assert (found.parts, found.scenarios) == (None, None)


@pytest.mark.parametrize("model", ["deribit-pm", "tidegate-portfolio", "tidegate-standard"])
@pytest.mark.parametrize("coins", ["30000", "-30000", "9000000"])
def test_coin_settled_positions_add_up(model: str, coins: str) -> None:
    """Fails where a part of coins is shown in coins, or a large delta's shock is missing."""
    inverse = {"instrument": "BTC-INV", "kind": "perpetual", "underlying": "BTC", "quote": "USD", "payoff": "inverse"}
    scene = a_scene(
        instruments=[LISTINGS[0], inverse | {"settlement_asset": "BTC", "tick_size": "0.5", "lot_size": "10"}],
        market={"prices": {"BTC": "60000"}},
        account={
            "margin_model": model,
            "balances": {"BTC": "1"},
            "positions": [
                a_perpetual("1"), {"instrument": "BTC-INV", "quantity": coins, "entry_price": "50000"},
            ],
        },
    )  # fmt: skip

    _adds_up(figures(scene))
