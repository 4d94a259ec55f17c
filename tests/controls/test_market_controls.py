"""What each guard of the market saves: one venue with it, and the same venue without.

Without the staleness limit and without the exclusion of outliers somebody is liquidated on a wrong price; without
haircuts that follow vol and doubt, collateral leaves that the next fall asks for.
"""

from collections.abc import Sequence

import numpy as np
import pytest

from flows.market.oracle import AGGREGATIONS, Aggregate, MedianAggregation, OracleAggregation
from schemas.events import Event
from schemas.ledger import PriceRecord
from schemas.parameters import OracleParameters
from schemas.results import ResultKind, Tier
from tests.builders import (
    SECOND_NS,
    TIME_NS,
    a_fill,
    a_parameters_change,
    a_price,
    a_transfer,
    a_venue,
    a_withdrawal,
    an_asset,
)
from tests.flows.running import Published, run

MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
ORDERS = (ResultKind.ORDER_OPENED, ResultKind.ORDER_GROWN)


def a_dead_feed(**oracle: int) -> list[Event]:
    """Return a fall to 42,000 that the oracle then repeats no more; hours later alice, long, takes 600 USDC out.

    At 42,000 she needs what she takes. Nobody knows what the price is now.
    """
    later = TIME_NS + 2 * HOUR_NS
    return [
        *a_venue(),
        a_parameters_change("oracle", dict(oracle)),
        a_fill(quantity="0.9", time_ns=TIME_NS + SECOND_NS),
        a_price("42000", number=3, time_ns=TIME_NS + 2 * SECOND_NS),
        a_transfer("-600", number=4, time_ns=later),
    ]


def test_nobody_is_liquidated_on_a_stale_price() -> None:
    """Fails where a price of two hours ago still decides."""
    published = run(a_dead_feed())

    assert published.of(*ORDERS).shape[0] == 0
    assert published.of(ResultKind.DECISION_SUSPENDED).shape[0] == 2
    assert published.of(ResultKind.FEED_STALE).shape[0] > 0


def test_without_the_age_limit_a_stale_price_liquidates() -> None:
    """Fails where another rule saves alice, so that the test above would not show the limit."""
    published = run(a_dead_feed(price_age_ns_max=24 * HOUR_NS))

    assert published.of(*ORDERS).shape[0] == 1


def a_broken_source() -> list[Event]:
    """Return two sources at 50,000 and one that forgets a decimal point, times 1,000; bob is 0.1 BTC short."""
    at = TIME_NS + 2 * SECOND_NS
    return [
        *a_venue(),
        a_fill(quantity="0.1", time_ns=TIME_NS + SECOND_NS),
        a_price("50010", source="borealis", number=3, time_ns=at),
        a_price("50020", number=3, time_ns=at),
        a_price("50020000", source="cygnus", number=3, time_ns=at),
        a_price("50030", number=4, time_ns=at + SECOND_NS),
    ]


class Mean:
    """What an engine without the guards would do: the mean of all sources, believed whatever they say."""

    name = "median"

    def aggregate(self, fresh: Sequence[PriceRecord], parameters: OracleParameters) -> Aggregate:  # noqa: ARG002
        """Return the mean."""
        price = float(np.mean([observation.price for observation in fresh])) if fresh else 0.0
        return Aggregate(bool(fresh), price, 0.0, len(fresh), len(fresh))


class Inclusive(MedianAggregation):
    """The median without the exclusion of outliers; the limit on confidence stands."""

    def aggregate(self, fresh: Sequence[PriceRecord], parameters: OracleParameters) -> Aggregate:
        """Return the median of all."""
        return super().aggregate(fresh, parameters.model_copy(update={"outlier_ratio": float("inf")}))


def with_aggregation(monkeypatch: pytest.MonkeyPatch, aggregation: OracleAggregation) -> Published:
    """Run the broken source through another way to make one price of many."""
    monkeypatch.setitem(AGGREGATIONS, "median", aggregation)
    return run(a_broken_source())


def test_a_source_that_is_a_thousand_times_off_moves_nothing() -> None:
    """Fails where one of three sources can liquidate, or can stop decisions."""
    published = run(a_broken_source())

    assert published.of(*ORDERS).shape[0] == 0
    assert published.of(ResultKind.DECISION_SUSPENDED).shape[0] == 0


def test_without_exclusion_the_confidence_stops_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where the second line, the width of the band, does not hold by itself: nobody decides, nobody is hurt."""
    published = with_aggregation(monkeypatch, Inclusive())

    assert published.of(*ORDERS).shape[0] == 0
    assert published.of(ResultKind.DECISION_SUSPENDED).shape[0] == 2


def test_without_either_one_source_liquidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a third rule saves bob, so that the tests above would not show the two."""
    published = with_aggregation(monkeypatch, Mean())

    assert published.of(*ORDERS)["account"].tolist() == [9]


def a_withdrawal_after_a_gap(**collateral: float) -> list[Event]:
    """Return a fall of a coin by 30 % at once, after which alice, long a dollar perpetual, takes out most of her coins.

    With her own haircut of 5 % what is left covers her initial margin. An hour later the coin falls as far again, and
    the perpetual's index with it.
    """
    at = TIME_NS + 2 * MINUTE_NS
    return [
        *a_venue(),
        an_asset("ETH", 8, number=3),
        a_parameters_change("collateral", {"haircuts": {"ETH": 0.05, "USDC": 0.0}, **collateral}),
        a_price("4000", feed="ETH/USD", confidence="0", number=3),
        a_transfer("-10000", account="alice", number=3),
        a_transfer("10", account="alice", asset="ETH", number=4),
        a_price("2800", feed="ETH/USD", confidence="0", number=4, time_ns=at),
        a_price("50000", confidence="0", number=5, time_ns=at),
        a_price("1", feed="USDC/USD", confidence="0", number=6, time_ns=at),
        a_fill(quantity="0.5", time_ns=at),
        a_withdrawal("8.65", asset="ETH", time_ns=at + 1),
        a_price("1960", feed="ETH/USD", confidence="0", number=7, time_ns=at + MINUTE_NS),
        a_price("40000", confidence="0", number=8, time_ns=at + MINUTE_NS),
    ]


def test_collateral_that_has_just_crashed_cannot_leave() -> None:
    """Fails where the haircut is that of a calm day: what a second fall asks for would be gone."""
    published = run(a_withdrawal_after_a_gap())

    assert published.of(ResultKind.WITHDRAWAL_REFUSED).shape[0] == 1
    assert Tier.BANKRUPT not in published.of(ResultKind.TIER_CHANGED)["tier_to"]


def test_without_haircuts_that_follow_vol_the_second_fall_is_the_venues_loss() -> None:
    """Fails where another rule keeps alice's coins in, so that the test above would not show the haircut."""
    published = run(a_withdrawal_after_a_gap(vol_multiple=0.0))

    assert published.of(ResultKind.WITHDRAWAL_ACCEPTED).shape[0] == 1
    assert Tier.BANKRUPT in published.of(ResultKind.TIER_CHANGED)["tier_to"]


def a_withdrawal_in_doubt(**collateral: float) -> list[Event]:
    """Return a coin whose oracle doubts its price by 4 %; alice, long a dollar perpetual, takes out all that she can.

    The doubt was right: the coin is worth less, and the perpetual's index falls.
    """
    at = TIME_NS + SECOND_NS
    return [
        *a_venue(),
        an_asset("ETH", 8, number=3),
        a_parameters_change("collateral", {"haircuts": {"ETH": 0.05, "USDC": 0.0}, **collateral}),
        a_price("4000", feed="ETH/USD", confidence="160", number=3),
        a_price("50000", confidence="0", number=4),
        a_transfer("-10000", account="alice", number=3),
        a_transfer("10", account="alice", asset="ETH", number=4),
        a_fill(quantity="1", time_ns=at),
        a_withdrawal("8.65", asset="ETH", time_ns=at + 1),
        a_price("3840", feed="ETH/USD", confidence="0", number=5, time_ns=at + SECOND_NS),
        a_price("44900", confidence="0", number=6, time_ns=at + SECOND_NS),
    ]


def test_collateral_of_doubtful_worth_cannot_leave_to_the_last_coin() -> None:
    """Fails where a price is believed to the last digit whatever its oracle says of it."""
    published = run(a_withdrawal_in_doubt())

    assert published.of(ResultKind.WITHDRAWAL_REFUSED).shape[0] == 1
    assert Tier.BANKRUPT not in published.of(ResultKind.TIER_CHANGED)["tier_to"]


def test_without_the_charge_for_doubt_the_doubt_is_the_venues_loss() -> None:
    """Fails where another rule keeps alice's coins in, so that the test above would not show the charge."""
    published = run(a_withdrawal_in_doubt(confidence_multiple=0.0))

    assert published.of(ResultKind.WITHDRAWAL_ACCEPTED).shape[0] == 1
    assert Tier.BANKRUPT in published.of(ResultKind.TIER_CHANGED)["tier_to"]
