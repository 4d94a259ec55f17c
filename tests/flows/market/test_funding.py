"""Funding is paid on a mark that decides, once, and whole; until there is one it is owed."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.market.funding import Funding
from flows.market.instant import CashPerLot, FundingOwed, Instant
from flows.market.step import Market
from schemas.ledger import FrameKind, FundingRecord
from tests.flows.market.builders import a_dollar, a_frame, a_price, a_venue, an_instrument, at


def _market() -> Market:
    market = Market()
    market.step(a_frame(*a_venue(an_instrument(0), an_instrument(1, payoff="inverse"))))
    return market


def _fall_due(market: Market, rate: float, *, seconds: float, instrument: int = 0) -> Instant:
    return market.step(a_frame(FundingRecord(instrument, rate, at(seconds)), seconds=seconds))


def test_rates_of_a_perpetual_that_was_never_priced_are_owed_until_it_is() -> None:
    """It has no value, and its funding is not nothing: both rates are paid at once, on its first mark."""
    market = _market()

    first = _fall_due(market, 0.0001, seconds=1.0)
    second = _fall_due(market, 0.0003, seconds=2.0)
    priced = market.step(a_frame(a_price(60_000.0, seconds=3.0), a_dollar(seconds=3.0), seconds=3.0))
    later = market.step(a_frame(a_price(61_000.0, seconds=4.0), seconds=4.0))

    assert [(it.payments, it.funding_owed) for it in (first, second)] == [
        ([], [FundingOwed(0, 1)]),
        ([], [FundingOwed(0, 2)]),
    ]
    assert (priced.payments, priced.funding_owed) == ([CashPerLot(0, -24_000, False)], [])
    assert later.payments == []


def test_a_rate_that_falls_due_on_a_stale_mark_waits_for_a_fresh_one() -> None:
    """The last price is one that nothing else may be decided by; what is paid is on the next."""
    market = _market()
    market.step(a_frame(a_price(50_000.0), a_dollar()))

    stale = _fall_due(market, 0.0001, seconds=181.0)
    fresh = market.step(a_frame(a_price(25_000.0, seconds=200.0), a_dollar(seconds=200.0), seconds=200.0))

    assert (stale.payments, stale.funding_owed) == ([], [FundingOwed(0, 1)])
    assert fresh.payments == [CashPerLot(0, -2_500, False)]


def test_a_stale_settlement_asset_defers_what_is_paid_in_it_alone() -> None:
    """Both are on bitcoin; one pays in dollars that have no price, the other in coins."""
    market = _market()
    market.step(a_frame(a_price(), a_dollar()))
    market.step(a_frame(a_price(seconds=181.0), seconds=181.0))

    instant = market.step(a_frame(FundingRecord(0, 0.001, at(182)), FundingRecord(1, 0.001, at(182)), seconds=182.0))

    assert instant.payments == [CashPerLot(1, -200, False)]
    assert instant.funding_owed == [FundingOwed(0, 1)]


def test_owed_rates_come_before_those_of_the_frame_that_ends_the_wait() -> None:
    """In order of time, then of instrument."""
    market = _market()
    _fall_due(market, 0.0002, seconds=1.0, instrument=1)
    _fall_due(market, 0.0001, seconds=1.0)

    instant = market.step(
        a_frame(a_price(seconds=2.0), a_dollar(seconds=2.0), FundingRecord(0, 0.0004, at(2)), seconds=2.0)
    )

    assert [(it.instrument, it.units) for it in instant.payments] == [(0, -5_000), (1, -40), (0, -20_000)]


@pytest.mark.parametrize("kind", [FrameKind.EVENTS, FrameKind.HEARTBEAT])
def test_a_restored_market_owes_the_same(kind: FrameKind) -> None:
    """Fails where a rate is lost or paid twice by a crash between its falling due and its price."""
    lasting = _market()
    _fall_due(lasting, 1e-7 / 3.0, seconds=1.0)
    _fall_due(lasting, 0.0001, seconds=2.0)

    restored = Market.restore(lasting.checkpoint())

    assert restored.checkpoint() == lasting.checkpoint()
    for frame in (a_frame(seconds=3.0, kind=kind), a_frame(a_price(seconds=4.0), a_dollar(seconds=4.0), seconds=4.0)):
        left, right = lasting.step(frame), restored.step(frame)
        assert (left.payments, left.funding_owed) == (right.payments, right.funding_owed)
    assert right.payments[0].units < 0


# (a rate falls due, value of a lot, whether it can be decided by)
moments = st.lists(
    st.tuples(st.none() | st.floats(-0.01, 0.01), st.floats(1e-9, 1e6), st.booleans()), min_size=1, max_size=60
)


@given(moments)
def test_everything_that_fell_due_is_paid_once_on_the_first_price_that_decides(
    moments: list[tuple[float | None, float, bool]],
) -> None:
    """Law: the sum paid is within half a unit of each rate times the first value from its time on that decides."""
    funding = Funding()
    paid, exact, waiting = 0, Fraction(0), Fraction(0)

    for rate, value, decidable in moments:
        due = [] if rate is None else [FundingRecord(0, rate, 0)]
        payments, owed = funding.fall_due(due, value=np.array([value]), decidable=np.array([decidable]), decimals=[6])
        paid += sum(it.units for it in payments)
        waiting += Fraction(rate or 0.0)
        if decidable:
            exact -= Fraction(value) * waiting * 10**6
            waiting = Fraction(0)

        assert len(owed) == (len(due) if not decidable else 0)
        assert decidable or not payments
        assert abs(paid - exact) <= Fraction(1, 2)
