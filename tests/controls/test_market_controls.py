"""Without the staleness limit, and without the exclusion of outliers: who would be liquidated on a wrong price."""

from collections.abc import Sequence

import numpy as np
import pytest

from flows.market.oracle import AGGREGATIONS, Aggregate, MedianAggregation, OracleAggregation
from schemas.events import Event
from schemas.ledger import PriceRecord
from schemas.parameters import OracleParameters
from schemas.results import ResultKind
from tests.builders import SECOND_NS, TIME_NS, a_fill, a_parameters_change, a_price, a_transfer, a_venue
from tests.flows.running import Published, run

HOUR_NS = 3_600 * SECOND_NS
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
