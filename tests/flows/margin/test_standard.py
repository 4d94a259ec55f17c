"""``tidegate-standard``: rates per position."""

import numpy as np
import pytest

from flows.margin.standard import MODEL
from flows.market.instant import Instant
from flows.market.step import Market
from schemas.instruments import InstrumentKind, OptionType, Payoff
from tests.flows.margin.builders import a_book, a_market
from tests.flows.market.builders import a_frame, a_price, some_parameters


def _find(market: Market, kind: str, **wanted: object) -> int:
    for instrument in market.listings.instruments:
        facts = {
            "payoff": instrument.payoff.value, "strike": None if instrument.strike is None else int(instrument.strike),
            "option_type": None if instrument.option_type is None else instrument.option_type.value,
            "underlying": instrument.underlying,
        }  # fmt: skip
        if instrument.kind is InstrumentKind(kind) and all(facts[name] == value for name, value in wanted.items()):
            return instrument.index
    raise AssertionError(wanted)


def _requirement(instant: Instant, instrument: int, lots: int) -> tuple[float, float]:
    book = a_book([[0, 0]], [{instrument: lots}])
    initial, maintenance = MODEL.requirements(instant.margin_tables["tidegate-standard"], book.positions, np.array([0]))
    return float(initial[0]), float(maintenance[0])


@pytest.mark.parametrize(("payoff", "notional"), [("linear", 50.0), ("inverse", 100.0)])
@pytest.mark.parametrize("lots", [7, -7])
def test_a_perpetual_needs_its_rate_of_notional_on_either_side(payoff: str, notional: float, lots: int) -> None:
    """Notional is in the numeraire, whatever the payoff."""
    market, instant = a_market()

    got = _requirement(instant, _find(market, "perpetual", payoff=payoff, underlying="BTC"), lots)

    assert got == pytest.approx((0.10 * 7 * notional, 0.05 * 7 * notional))


def test_rates_by_underlying_replace_the_default() -> None:
    """And only of the underlying that is named."""
    market, instant = a_market(some_parameters("tidegate-standard", linear_rates={"BTC": [0.02, 0.01]}))

    assert _requirement(instant, _find(market, "perpetual", underlying="BTC"), 1) == pytest.approx((1.0, 0.5))
    assert _requirement(instant, _find(market, "perpetual", underlying="ETH"), 1) == pytest.approx((0.3, 0.15))


@pytest.mark.parametrize(("option_type", "strike", "initial"), [
    ("call", 50_000, 0.15), ("call", 40_000, 0.15), ("call", 65_000, 0.10), ("put", 40_000, 0.10),
    ("put", 50_000, 0.15),
])  # fmt: skip
@pytest.mark.parametrize(("payoff", "quantity"), [("linear", 0.001), ("inverse", 0.1)])
def test_a_short_option_needs_less_the_further_it_is_out_of_the_money(
    option_type: str, strike: int, initial: float, payoff: str, quantity: float
) -> None:
    """Initial is reduced by the distance and not below its minimum; maintenance is flat."""
    market, instant = a_market()

    got = _requirement(instant, _find(market, "option", payoff=payoff, option_type=option_type, strike=strike), -1)

    assert got == pytest.approx((initial * quantity * 50_000.0, 0.075 * quantity * 50_000.0))


def test_a_deep_put_is_maintained_by_its_mark() -> None:
    """Below a strike far above the spot the mark is the larger base; initial never falls below maintenance."""
    market, _ = a_market()
    instant = market.step(a_frame(a_price(10_000.0, seconds=1), seconds=1))
    put = _find(market, "option", payoff="linear", option_type="put", strike=65_000)

    initial, maintenance = _requirement(instant, put, -1)

    assert maintenance == pytest.approx(0.075 * float(instant.value[put]) * 0.99)
    assert initial == pytest.approx(max(0.15 * 10.0, maintenance))
    assert maintenance > 0.15 * 10.0


@pytest.mark.parametrize(("credit", "share"), [(0.0, 1.0), (0.4, 0.6)])
def test_a_long_option_needs_what_it_does_not_lend(credit: float, share: float) -> None:
    """With no credit its value adds exactly nothing to free margin."""
    market, instant = a_market(some_parameters("tidegate-standard", long_option_credit=credit))
    call = _find(market, "option", payoff="inverse", option_type="call", strike=50_000)

    worth = 3 * float(instant.value[call]) * 50_000.0
    assert _requirement(instant, call, 3) == pytest.approx((share * worth, share * worth))


def test_kinds_are_told_apart() -> None:
    """The finder of these tests must find what it is asked for."""
    market, _ = a_market()

    found = market.listings.instruments[_find(market, "option", payoff="inverse", option_type="put", strike=65_000)]

    assert (found.payoff, found.option_type) == (Payoff.INVERSE, OptionType.PUT)
    assert found.strike == 65_000
