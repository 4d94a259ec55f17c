"""Laws of our own two models' bounds, attacked: on what settles in dollars, in coins and in both, with open orders.

1. Wherever the market stands within the ranges, health keeps to its bounds on either side.
2. Parameters are chosen so that every term binds for somebody: offsets, size, confidence, haircuts, credit.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.margin.model import MarginModel
from flows.margin.portfolio import MODEL as PORTFOLIO
from flows.margin.standard import MODEL as STANDARD
from flows.screening import portfolio_bounds, standard_bounds
from flows.screening.ranges import OpensBounds
from schemas.events import InstrumentListed
from tests.laws.attack import Bands, Scene, attack, opened
from tests.laws.worlds import INVERSE, Listing, Setting, a_world, futures, linear_venue, options, perpetuals


def _coin_venue() -> list[InstrumentListed]:
    listed = [*perpetuals(**INVERSE), *futures(**INVERSE), *options(**INVERSE, tick_size="0.0005")]
    return [msgspec.structs.replace(it, instrument=f"{it.instrument}-COIN") for it in listed]


def _both() -> list[InstrumentListed]:
    return [*_coin_venue(), *linear_venue()]


def _ordered_in_coins() -> list[InstrumentListed]:
    """Open orders are of what is listed first, and settle in coins; what is held seldom does."""
    return [_coin_venue()[0], *linear_venue()]


_OPENS: Final[dict[MarginModel, OpensBounds]] = {
    PORTFOLIO: portfolio_bounds.open_bounds,
    STANDARD: standard_bounds.open_bounds,
}
_TERMS: Final[Mapping[str, Mapping[str, Any]]] = {
    "tidegate-portfolio": {
        "offset_groups": [{"underlyings": ["BTC", "ETH"], "correlation": 0.9, "stress": 0.1}],
        "market_depth": {"BTC": 20_000.0}, "confidence_multiple": 2.0, "linear_contingency": 0.02,
        "initial_factor": 1.6,
    },
    "tidegate-standard": {"market_depth": {"ETH": 10_000.0}, "confidence_multiple": 2.0, "long_option_credit": 0.3},
    "collateral": {"haircuts": {"USDC": 0.05, "BTC": 0.3, "ETH": 0.2}},
}  # fmt: skip


@pytest.mark.parametrize("listing", [linear_venue, _coin_venue, _both, _ordered_in_coins])
@pytest.mark.parametrize("model", _OPENS, ids=lambda model: model.name)
@settings(max_examples=6)
@example(seed=1, width=0.0001, vol=0.1, tie=0.0)
@given(
    st.integers(0, 2**32), st.sampled_from([0.0001, 0.0016, 0.0064, 0.0256, 0.1]), st.sampled_from([0.1, 1.0]),
    st.sampled_from([0.0, 0.2]),
)  # fmt: skip
def test_health_keeps_to_its_bounds(
    model: MarginModel, listing: Listing, seed: int, width: float, vol: float, tie: float
) -> None:
    """Law 1: an account outside would be a decision missed."""
    setting = Setting(model, listing=listing, parameters=_TERMS, orders=0.4)
    scene = Scene(a_world(setting, seed), Bands(width, vol=vol, tie=tie))

    findings = attack(scene, opened(scene, _OPENS[model]), seed=seed, points=24)

    assert findings.violations == []
    assert findings.bounded == 1.0
