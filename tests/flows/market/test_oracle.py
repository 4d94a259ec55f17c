"""Sources to one price: the incidents that a feed must survive."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.market.oracle import AGGREGATIONS, Aggregate, Feed
from schemas.parameters import OracleParameters
from tests.flows.market.builders import a_price, at

PARAMETERS = OracleParameters()


def _aggregate(*prices: float, confidence: float = 0.0, parameters: OracleParameters = PARAMETERS) -> Aggregate:
    observations = [a_price(price, source=f"s{i}", confidence=confidence) for i, price in enumerate(prices)]
    return AGGREGATIONS[parameters.aggregation].aggregate(observations, parameters)


def test_three_sources_have_their_median() -> None:
    """The mean would follow the outermost source."""
    assert _aggregate(100.0, 101.0, 103.0) == Aggregate(True, 101.0, 1.5, 3, 3)


def test_an_even_number_of_sources_has_the_mean_of_the_middle_two() -> None:
    """Either middle value alone would depend on the order."""
    assert _aggregate(104.0, 100.0, 101.0, 102.0).price == 101.5


@pytest.mark.parametrize("factor", [1000.0, 0.001])
def test_one_source_a_thousand_times_off_moves_nothing(factor: float) -> None:
    """Synthetix 2019, Pyth 2021, Deribit 2019: the outlier is left out at its first update."""
    got = _aggregate(100.0, 100.0, 100.0 * factor)

    assert (got.usable, got.price, got.sources, got.fresh) == (True, 100.0, 2, 3)


def test_two_sources_that_disagree_have_no_price() -> None:
    """Neither can be told from the other: a mean would be believed by nobody."""
    assert not _aggregate(100.0, 100_000.0).usable


def test_no_majority_means_no_price() -> None:
    """Compound 2020: two correlated sources 30 % up against two that are not; and three that all differ."""
    assert not _aggregate(1.0, 1.0, 1.3, 1.3).usable
    assert not _aggregate(100.0, 130.0, 160.0).usable
    assert not _aggregate(70.0, 100.0, 100.0, 130.0).usable


def test_a_majority_outvotes_correlated_sources() -> None:
    """With three honest sources the same two are left out."""
    assert _aggregate(1.0, 1.3, 1.0, 1.3, 1.0).price == 1.0


def test_a_wide_band_stops_the_feed() -> None:
    """Pyth 2021: two publishers near zero with a wide confidence were believed by those who ignored it."""
    assert not _aggregate(100.0, 100.0, confidence=5.1).usable
    assert _aggregate(100.0, 100.0, confidence=4.9).usable


def test_the_band_is_at_least_half_the_spread() -> None:
    """Sources that claim certainty and differ are not certain."""
    assert _aggregate(100.0, 104.0).confidence == 2.0


def test_too_few_sources_have_no_price() -> None:
    """A feed that lost its sources one by one must stop before the last."""
    parameters = OracleParameters(sources_min=2)

    assert not _aggregate(100.0, parameters=parameters).usable
    assert _aggregate(100.0, 100.0, parameters=parameters).usable


def test_a_single_source_venue_follows_its_first_source_alone() -> None:
    """The other aggregation: later sources are shown and do not count, and nobody stands in for the first."""
    parameters = OracleParameters(aggregation="single")
    feed = Feed("BTC/USD")
    feed.observe(a_price(100.0, source="first"), at(0))
    feed.observe(a_price(200.0, source="second", seconds=170), at(170))

    feed.refresh(at(170), parameters)
    assert (feed.aggregate.usable, feed.aggregate.price) == (True, 100.0)
    feed.refresh(at(181), parameters)
    assert not feed.aggregate.usable


def test_an_old_observation_stops_counting_at_a_time_known_before() -> None:
    """Venus 2022: a price that stays where it was, with an old time, must not be lent against."""
    feed = Feed("BTC/USD")
    feed.observe(a_price(100.0), at(0))

    feed.refresh(at(180), PARAMETERS)
    assert feed.aggregate.usable
    assert feed.deadline_ns == at(180) + 1
    assert feed.refresh(at(180) + 1, PARAMETERS)
    assert not feed.aggregate.usable
    assert feed.last_price == 100.0


def test_an_older_observation_never_replaces_a_newer_one() -> None:
    """A delayed message would turn the price back."""
    feed = Feed("BTC/USD")
    feed.observe(a_price(100.0, seconds=10), at(10))

    assert not feed.observe(a_price(90.0, seconds=9), at(11))
    assert feed.observe(a_price(101.0, seconds=10), at(11))
    feed.refresh(at(11), PARAMETERS)

    assert (feed.aggregate.price, feed.refused) == (101.0, 1)


def test_an_observation_from_the_future_is_refused() -> None:
    """A wrong clock would keep a price fresh for ever and lock out the source's later, right ones."""
    feed = Feed("BTC/USD")

    assert not feed.observe(a_price(100.0, seconds=61), at(0))
    assert feed.observe(a_price(100.0, seconds=60), at(0))


@given(st.lists(st.floats(50.0, 150.0), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_the_order_of_sources_changes_nothing(prices: list[float], random: Random) -> None:
    """Invariant 5: an aggregate is of a set."""
    shuffled = list(prices)
    random.shuffle(shuffled)

    assert _aggregate(*shuffled) == _aggregate(*prices)


@given(st.lists(st.floats(99.0, 101.0), min_size=2, max_size=8), st.floats(1e-6, 1e6))
def test_one_liar_cannot_move_the_price_outside_the_honest_range(honest: list[float], lie: float) -> None:
    """Invariant 2: whatever a minority of one says, a price is between honest prices."""
    got = _aggregate(*honest, lie)

    if got.usable and len(honest) > 2:
        assert min(honest) - 1e-9 <= got.price <= max(honest) + 1e-9
