"""What both of our own models add: for the oracle's confidence, and for what is large against its market."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.margin.add_ons import concentration
from flows.margin.registry import margin_models
from flows.market.instant import Instant
from flows.market.step import Market
from schemas.instruments import InstrumentKind
from tests.flows.margin.builders import MODELS, a_book, a_market
from tests.flows.market.builders import a_frame, a_price, some_parameters

INSTALLED = margin_models()
both_models = pytest.mark.parametrize("model", MODELS)
# A lot of the linear perpetual on BTC is 0.001 coins at 50,000.
LOT = 50.0


def _find(market: Market, kind: InstrumentKind, underlying: str = "BTC", payoff: str = "linear") -> int:
    return next(
        it.index
        for it in market.listings.instruments
        if (it.kind, it.underlying, it.payoff.value) == (kind, underlying, payoff)
    )


def _needs(instant: Instant, model: str, holdings: dict[int, int]) -> tuple[float, float]:
    book = a_book([[0, 0]], [holdings])
    initial, maintenance = INSTALLED[model].requirements(instant.margin_tables[model], book.positions, np.array([0]))
    return float(initial[0]), float(maintenance[0])


def _added(model: str, holdings: dict[int, int], confidence: float = 0.0, **parameters: Any) -> float:
    """Return by how much maintenance margin is above that of an oracle that is sure and markets without end."""
    market, _ = a_market(some_parameters(model, **parameters))
    doubtful = market.step(a_frame(a_price(50_000.0, confidence=confidence, seconds=1), seconds=1))
    plain, _ = a_market(some_parameters(model, confidence_multiple=0.0))
    sure = plain.step(a_frame(a_price(50_000.0, seconds=1), seconds=1))
    initial, maintenance = (
        there - here
        for there, here in zip(_needs(doubtful, model, holdings), _needs(sure, model, holdings), strict=True)
    )
    factor = 1.25 if model == "tidegate-portfolio" else 1.0
    assert initial == pytest.approx(factor * maintenance, abs=1e-9)
    return maintenance


@both_models
@pytest.mark.parametrize("lots", [40, -40])
def test_a_doubtful_price_is_paid_for_by_the_notional(model: str, lots: int) -> None:
    """Half a percent of doubt costs half a percent of what is held, long or short, times the multiple."""
    perpetual = _find(a_market()[0], InstrumentKind.PERPETUAL)

    assert _added(model, {perpetual: lots}, confidence=250.0) == pytest.approx(40 * LOT * 0.005)
    assert _added(model, {perpetual: lots}, confidence=250.0, confidence_multiple=3.0) == pytest.approx(
        40 * LOT * 0.015
    )


@both_models
def test_doubt_is_not_hedged_away(model: str) -> None:
    """Options and inverse lots count whole as well, and a hedge counts on both of its sides."""
    market = a_market()[0]
    held = {
        0: 3,
        _find(market, InstrumentKind.PERPETUAL): 10,
        _find(market, InstrumentKind.PERPETUAL, payoff="inverse"): -7,
        _find(market, InstrumentKind.PERPETUAL, "ETH"): 1_000,
    }

    added = _added(model, held, confidence=250.0)

    assert added == pytest.approx((3 * LOT + 10 * LOT + 7 * 100.0) * 0.005)


@both_models
def test_a_sure_oracle_costs_nothing(model: str) -> None:
    """The control: without doubt or with a multiple of 0, margins are what they were."""
    perpetual = _find(a_market()[0], InstrumentKind.PERPETUAL)

    assert _added(model, {perpetual: 40}) == 0.0
    assert _added(model, {perpetual: 40}, confidence=250.0, confidence_multiple=0.0) == 0.0


@both_models
@pytest.mark.parametrize(("lots", "share"), [
    (100, 0.0), (200, 0.0), (300, 0.1 * 0.5), (-600, 0.1 * 2.0), (1_400, 0.5), (14_000, 0.5),
])  # fmt: skip
def test_what_is_beyond_the_depth_of_its_market_is_added(model: str, lots: int, share: float) -> None:
    """The depth is 10,000, which is 200 lots; the rate is a tenth for each depth beyond, and the cap a half."""
    perpetual = _find(a_market()[0], InstrumentKind.PERPETUAL)

    added = _added(
        model, {perpetual: lots}, market_depth={"BTC": 10_000.0}, concentration_rate=0.1, concentration_cap=0.5
    )

    assert added == pytest.approx(share * abs(lots) * LOT, abs=1e-9)


@both_models
def test_size_is_gross_and_by_underlying(model: str) -> None:
    """A hedge must be unwound on both sides; another underlying's size is another market's."""
    market = a_market()[0]
    perpetual, future = _find(market, InstrumentKind.PERPETUAL), _find(market, InstrumentKind.FUTURE)
    ether = _find(market, InstrumentKind.PERPETUAL, "ETH")

    added = _added(
        model, {perpetual: 200, future: -200, ether: 5_000}, market_depth={"BTC": 10_000.0}, concentration_rate=0.1
    )

    # Twice the depth, so once beyond it.
    assert added == pytest.approx(0.1 * 400 * LOT)


sizes = st.floats(0.0, 1e15)


@given(gross=sizes, more=sizes, inverse_depth=st.floats(0.0, 1.0), rate=st.floats(0.0, 1.0), cap=st.floats(0.0, 1.0))
def test_concentration_rises_with_size(
    gross: float, more: float, inverse_depth: float, rate: float, cap: float
) -> None:
    """Boxes bound it by its ends: it never falls while notional grows, is never negative, never above its cap."""
    small, large = (concentration(it, inverse_depth, rate, cap) for it in (gross, gross + more))

    assert 0.0 <= small <= large
    assert large <= cap * (gross + more)
