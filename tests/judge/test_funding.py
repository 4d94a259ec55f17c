"""Funding that falls due while nobody knows the mark, judged."""

from fractions import Fraction
from typing import Any

import pytest

from flows.market.funding import Funding
from schemas.events import Event
from schemas.results import ResultKind
from tests.builders import SECOND_NS, TIME_NS, a_fill, a_funding_rate, a_perpetual, a_price, a_venue
from tests.flows.running import Published, run
from tests.judge.compare import compare
from tests.judge.days import MINUTE_NS

# Rates fall due on a perpetual that has no price yet, on one whose price is lost, and on both when they have one.
A_SILENT_ORACLE: list[Event] = [
    *a_venue(),
    a_perpetual("ETH-PERP", number=21, underlying="ETH", lot_size="0.01"),
    a_fill(quantity="0.2", time_ns=TIME_NS + 1),
    a_fill("3000", "2", instrument="ETH-PERP", number=2, time_ns=TIME_NS + 1),
    a_funding_rate("0.0001234567", number=1, time_ns=TIME_NS + SECOND_NS),
    a_funding_rate("0.0001234567", number=2, instrument="ETH-PERP", time_ns=TIME_NS + SECOND_NS),
    *[
        a_funding_rate(
            f"-0.00{n}", number=n, instrument=("BTC-PERP", "ETH-PERP")[n % 2], time_ns=TIME_NS + n * MINUTE_NS
        )
        for n in range(4, 10)
    ],
    a_price("3100", feed="ETH/USD", number=3, time_ns=TIME_NS + 10 * MINUTE_NS),
    a_price("1", feed="USDC/USD", confidence="0", number=4, time_ns=TIME_NS + 10 * MINUTE_NS),
    a_price("42000", number=5, time_ns=TIME_NS + 11 * MINUTE_NS),
    a_funding_rate("0.0007", number=10, time_ns=TIME_NS + 11 * MINUTE_NS),
]


def _paid(published: Published) -> list[tuple[int, int]]:
    """Return instrument and units of what alice, long, received."""
    rows = published.of(ResultKind.FUNDING_PAID)
    return [(int(row["instrument"]), int(row["amount"])) for row in rows[rows["account"] == 8]]


def test_funding_without_a_price_is_judged_alike() -> None:
    """Fails where they differ on what waits, for how long, and on which mark it is paid."""
    published = run(A_SILENT_ORACLE)

    comparison = compare(published)

    assert comparison.near_ties == []
    assert published.of(ResultKind.FUNDING_OWED)["amount"].tolist() == [1, 1, 2, 2, 3, 3, 4]
    owed = 6_200 * 10**6 * (Fraction("0.021") - Fraction("0.0001234567"))
    # One payment for all four rates; 200 lots of a rounding each.
    assert [units for instrument, units in _paid(published) if instrument == 1] == [pytest.approx(float(owed), abs=200)]


def test_an_engine_that_pays_on_any_price_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without the rule what falls due before the first price is never paid, and the rest on an old one."""
    whole = Funding.fall_due

    def on_any_price(self: Funding, *due: Any, decidable: Any, **rest: Any) -> Any:
        return whole(self, *due, decidable=decidable | True, **rest)

    kept = _paid(run(A_SILENT_ORACLE))
    monkeypatch.setattr(Funding, "fall_due", on_any_price)
    published = run(A_SILENT_ORACLE)

    assert sum(units for instrument, units in kept if instrument == 1) > 100 * 10**6
    assert sum(units for instrument, units in _paid(published) if instrument == 1) == 0
    with pytest.raises(AssertionError, match="the judge says"):
        compare(published)
