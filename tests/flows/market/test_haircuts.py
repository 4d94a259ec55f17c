"""Haircuts follow what the ledger shows of a price: how much it moves, and how sure the oracle is of it."""

from math import log, sqrt
from typing import Any

import pytest

from flows.market.instant import Instant
from flows.market.step import Market
from flows.market.volatility import Volatility
from tests.flows.market.builders import a_dollar, a_frame, a_price, a_venue, an_instrument, some_parameters

MINUTE = 60.0


def _market(**collateral: object) -> Market:
    market = Market()
    market.step(a_frame(*a_venue(an_instrument(0)), some_parameters("collateral", **collateral)))
    market.step(a_frame(a_price(), a_dollar()))
    return market


def _fall(market: Market, price: float, *, seconds: float = MINUTE, **changes: Any) -> Instant:
    return market.step(a_frame(a_price(price, seconds=seconds, **changes), seconds=seconds))


def test_a_gap_lifts_the_haircut_at_its_first_sample() -> None:
    """Three standard deviations of a day, of an average over a week: 30 % at once is about 40 %."""
    market = _market(haircuts={"BTC": 0.05})

    instant = _fall(market, 35_000.0)

    variance_per_day = log(0.7) ** 2 / (7.0 + 1.0 / 1440.0)
    assert float(instant.haircut[1]) == pytest.approx(3.0 * sqrt(variance_per_day), rel=1e-12)
    assert float(instant.realised_vol[1]) == pytest.approx(sqrt(365.0 * variance_per_day), rel=1e-12)
    assert instant.asset_moved.tolist() == [False, True]


def test_a_gap_between_two_samples_waits_for_the_second_and_is_in_it_whole() -> None:
    """A price is sampled once a minute, so that the bid and ask of a busy feed are no vol."""
    market = _market(haircuts={"BTC": 0.05})

    early = _fall(market, 35_000.0, seconds=59.999999999)
    due = _fall(market, 35_000.0, seconds=60.0)

    assert (float(early.haircut[1]), float(early.realised_vol[1])) == (0.05, 0.0)
    assert float(due.haircut[1]) > 0.39


def test_a_calm_market_leaves_the_assets_own_haircut() -> None:
    """A day of minutes with moves of 0.05 % is a vol of 29 % once a day is remembered: three deviations are 4.6 %."""
    market = _market(haircuts={"BTC": 0.05}, vol_decay_ns=86_400_000_000_000)

    haircuts = {float(_fall(market, 50_000.0 + 25.0 * (n % 2), seconds=n * MINUTE).haircut[1]) for n in range(1, 1_440)}

    assert haircuts == {0.05}


@pytest.mark.parametrize(
    ("collateral", "expected"),
    [
        ({"haircuts": {"BTC": 0.9}}, 0.9),
        ({"haircuts": {"BTC": 1.0}}, 1.0),
        ({"vol_multiple": 0.0}, 0.2),
        ({"vol_horizon_ns": 0}, 0.2),
        ({"vol_multiple": 100.0}, 0.95),
        ({"vol_multiple": 100.0, "vol_haircut_max": 0.5}, 0.5),
        ({"vol_multiple": 100.0, "vol_haircut_max": 0.1}, 0.2),
    ],
)
def test_the_larger_of_own_and_capped_vol_haircut_counts(collateral: dict[str, object], expected: float) -> None:
    """The cap is on what vol asks for, not on what an operator demands."""
    assert float(_fall(_market(**collateral), 35_000.0).haircut[1]) == expected


def test_the_confidence_is_taken_off_beyond_the_haircut() -> None:
    """At most everything; and it goes when the oracle is sure again."""
    market = _market(haircuts={"BTC": 0.05}, confidence_multiple=2.0)

    unsure = _fall(market, 50_000.0, seconds=1.0, confidence=500.0)
    sure = _fall(market, 50_000.0, seconds=2.0)
    market.step(a_frame(some_parameters("collateral", haircuts={"BTC": 0.9}, confidence_multiple=20.0), seconds=3.0))
    worthless = _fall(market, 50_000.0, seconds=4.0, confidence=500.0)

    assert [float(it.haircut[1]) for it in (unsure, sure, worthless)] == [0.05 + 0.02, 0.05, 1.0]
    assert [it.asset_moved.tolist() for it in (unsure, sure)] == [[False, True], [False, True]]


def test_an_asset_without_a_usable_price_keeps_its_last_vol() -> None:
    """Silence is no calm: the first price after it finds the vol as it was, and counts the whole time."""
    market = _market(haircuts={"BTC": 0.05})
    before = _fall(market, 35_000.0)

    silent = market.step(a_frame(seconds=3_600.0))
    disputed = _fall(market, 70_000.0, seconds=3_601.0)

    assert (silent.asset_decidable.tolist(), disputed.asset_decidable.tolist()) == ([False, False], [False, True])
    assert (silent.realised_vol[1], silent.haircut[1]) == (before.realised_vol[1], before.haircut[1])
    assert disputed.realised_vol[1] > before.realised_vol[1]


def test_a_disputed_price_is_no_sample() -> None:
    """A liar beside an honest source stops the feed; his price must not be remembered as a move."""
    market = _market(haircuts={"BTC": 0.05})

    instant = _fall(market, 90_000.0, source="b")

    assert not instant.asset_decidable[1]
    assert instant.realised_vol.tolist() == [0.0, 0.0]


def test_the_numeraire_has_neither_vol_nor_doubt() -> None:
    """Its price is one by definition, whatever a feed of its name says."""
    market = Market()
    market.step(a_frame(*a_venue()))
    for minute in range(3):
        instant = market.step(
            a_frame(a_price(1.0 + 0.1 * minute, feed="USD/USD", confidence=0.01, seconds=minute * MINUTE),
                    seconds=minute * MINUTE)
        )  # fmt: skip

    assert instant.realised_vol.tolist() == [0.0, 0.0]


def test_a_restored_market_goes_on_with_the_same_vol() -> None:
    """To the bit, and with the time of the last sample: the next is due when it would have been."""
    lasting = _market(haircuts={"BTC": 0.05})
    _fall(lasting, 35_000.0)

    restored = Market.restore(lasting.checkpoint())

    for seconds in (61.0, 119.0, 120.0, 300.0):
        left, right = (_fall(it, 30_000.0 - seconds, seconds=seconds) for it in (lasting, restored))
        assert left.haircut.tobytes() == right.haircut.tobytes()
        assert left.realised_vol.tobytes() == right.realised_vol.tobytes()


def test_near_samples_average_as_an_exponential() -> None:
    """Two days of equal moves, a decay of one: what is known is the vol times 1 - e^-2."""
    vol = Volatility(100.0, 0)
    for minute in range(1, 2_881):
        vol = vol.sampled(100.1 if minute % 2 else 100.0, minute * 60 * 10**9, sample_ns=10**9, decay_ns=86_400 * 10**9)

    assert vol.variance_per_day == pytest.approx(1_440 * log(1.001) ** 2 * (1.0 - 2.718281828**-2), rel=1e-3)
