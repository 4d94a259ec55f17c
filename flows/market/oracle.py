"""Many sources to one price of a feed, with a confidence, or the answer that there is none.

1. Only fresh observations count: published at most ``price_age_ns_max`` before the frame. An observation from more
   than a minute ahead of the frame is refused, and an older one never replaces a newer one of its source.
2. No single source moves the price beyond the others: what lies further than ``outlier_ratio`` from the median of all
   is left out, and a strict majority must remain, or there is no price. Two sources that disagree have no price.
3. The price is the median of what remains, the mean of the middle two where their number is even.
4. The confidence is the larger of the median confidence and half the spread; above ``confidence_ratio_max`` of the
   price there is no price. No price is an answer (``usable`` false), never zero.
5. An aggregate depends on the observations and on the frame's time alone, not on the order of
   arrival (but for ``single``, which follows the source that came first).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from flows.market.columns import FRESH, STALE, UNKNOWN
from schemas.ledger import PriceRecord
from schemas.parameters import OracleParameters

FUTURE_NS_MAX: Final = 60_000_000_000
NEVER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One price of a feed at a time; ``price`` and ``confidence`` mean something only where ``usable``.

    ``sources`` counts the observations in the price, ``fresh`` those that were considered.
    """

    usable: bool
    price: float
    confidence: float
    sources: int
    fresh: int


def _unusable(*, sources: int = 0, fresh: int = 0) -> Aggregate:
    """Return that there is no price, and of how many sources there is none."""
    return Aggregate(usable=False, price=0.0, confidence=0.0, sources=sources, fresh=fresh)


NO_PRICE: Final = _unusable()


class OracleAggregation(Protocol):
    """A way to make one price of fresh observations; found by the ``aggregation`` of the oracle parameters."""

    name: str

    def aggregate(self, fresh: Sequence[PriceRecord], parameters: OracleParameters) -> Aggregate:
        """Return the price of observations of distinct sources, in the order in which the sources first appeared."""


class MedianAggregation:
    """The median of the sources that agree (invariants 2 to 4)."""

    name = "median"

    def aggregate(self, fresh: Sequence[PriceRecord], parameters: OracleParameters) -> Aggregate:
        """Return the median of the fresh sources within the outlier band."""
        count = len(fresh)
        if count == 0:
            return NO_PRICE
        prices = [observation.price for observation in fresh]
        kept = fresh
        if count > 1:
            middle = median(prices)
            band = parameters.outlier_ratio * middle
            kept = [observation for observation in fresh if abs(observation.price - middle) <= band]
            if 2 * len(kept) <= count:
                return _unusable(sources=len(kept), fresh=count)
            if len(kept) < count:
                prices = [observation.price for observation in kept]
        if len(kept) < parameters.sources_min:
            return _unusable(sources=len(kept), fresh=count)
        return _judged(
            median(prices),
            max(median([observation.confidence for observation in kept]), 0.5 * (max(prices) - min(prices))),
            len(kept),
            count,
            parameters,
        )


class SingleAggregation:
    """The feed's first source alone; the others are kept and shown, and do not count."""

    name = "single"

    def aggregate(self, fresh: Sequence[PriceRecord], parameters: OracleParameters) -> Aggregate:
        """Return the price of the first of the sources; its absence is told by the caller's filter."""
        if not fresh:
            return NO_PRICE
        return _judged(fresh[0].price, fresh[0].confidence, 1, len(fresh), parameters)


AGGREGATIONS: Final[dict[str, OracleAggregation]] = {
    aggregation.name: aggregation for aggregation in (MedianAggregation(), SingleAggregation())
}


def median(values: Sequence[float]) -> float:
    """Return the median of at least one value: the mean of the middle two where their number is even."""
    count = len(values)
    if count == 1:
        return values[0]
    ordered = sorted(values)
    half = count // 2
    return ordered[half] if count % 2 else 0.5 * (ordered[half - 1] + ordered[half])


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """How a feed stands: for reports and tables.

    ``price`` is the latest usable one (0.0 before any); ``sources`` count in it, ``sources_known`` have ever
    published; ``age_ns`` is that of the newest observation at the last frame; ``refused`` counts observations that
    were out of order or from the future.
    """

    feed: str
    usable: bool
    price: float
    confidence: float
    sources: int
    sources_known: int
    age_ns: int
    refused: int


class Feed:
    """The observations of one feed and their aggregate as it was last taken.

    ``state`` is UNKNOWN before the first observation, then FRESH or STALE as there is a price or not.
    ``last_price`` is the latest usable price, for display while there is none; 0.0 before the first.
    ``last_confidence`` is the confidence of that price over the price: a ratio, 0.0 before the first.
    ``heard`` says that an observation was taken since the last aggregate.
    ``deadline_ns`` is the first time at which an observation that counts now no longer does.
    """

    __slots__ = (
        "aggregate", "asset", "deadline_ns", "dirty", "heard", "last_confidence", "last_price", "name",
        "observations", "refused", "state", "underlying",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.observations: dict[str, PriceRecord] = {}
        self.aggregate = NO_PRICE
        self.state = UNKNOWN
        self.last_price = 0.0
        self.last_confidence = 0.0
        self.refused = 0
        self.deadline_ns = NEVER
        self.dirty = False
        self.heard = False
        # Who reads this feed, by index; -1: nobody.
        self.underlying = -1
        self.asset = -1

    def observe(self, observation: PriceRecord, now_ns: int) -> bool:
        """Take an observation; return whether it counts (invariant 1)."""
        before = self.observations.get(observation.source)
        if observation.publish_time_ns > now_ns + FUTURE_NS_MAX or (
            before is not None and observation.publish_time_ns < before.publish_time_ns
        ):
            self.refused += 1
            return False
        self.observations[observation.source] = observation
        self.heard = True
        return True

    def refresh(self, now_ns: int, parameters: OracleParameters) -> bool:
        """Aggregate anew at ``now_ns``; return whether the state, the usable price or its confidence changed."""
        self.heard = False
        oldest = now_ns - parameters.price_age_ns_max
        observations = list(self.observations.values())
        fresh = [observation for observation in observations if observation.publish_time_ns >= oldest]
        if parameters.aggregation == "single" and fresh and fresh[0] is not observations[0]:
            fresh = []
        self.deadline_ns = NEVER
        if fresh:
            self.deadline_ns = min([it.publish_time_ns for it in fresh]) + parameters.price_age_ns_max + 1
        before = self.state, self.last_price, self.last_confidence
        self.aggregate = AGGREGATIONS[parameters.aggregation].aggregate(fresh, parameters)
        if self.aggregate.usable:
            self.state = FRESH
            self.last_price = self.aggregate.price
            self.last_confidence = self.aggregate.confidence / self.aggregate.price
        elif observations:
            self.state = STALE
        return before != (self.state, self.last_price, self.last_confidence)

    def status(self, now_ns: int) -> FeedStatus:
        """Return how the feed stands, last aggregated as it was, at ``now_ns``."""
        return FeedStatus(
            feed=self.name,
            usable=self.state == FRESH,
            price=self.last_price,
            confidence=self.aggregate.confidence,
            sources=self.aggregate.sources,
            sources_known=len(self.observations),
            age_ns=now_ns - max((it.publish_time_ns for it in self.observations.values()), default=0),
            refused=self.refused,
        )


def _judged(price: float, confidence: float, sources: int, fresh: int, parameters: OracleParameters) -> Aggregate:
    """Return the aggregate, unusable where its band is too wide."""
    return Aggregate(confidence <= parameters.confidence_ratio_max * price, price, confidence, sources, fresh)
