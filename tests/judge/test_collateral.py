"""Haircuts that follow vol and doubt, judged: a dollar that loses its peg, and a crash of coins held as collateral."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from flows.market.haircuts import haircut_of
from schemas.events import Event
from schemas.results import ResultKind
from tests.builders import TIME_NS, a_fill, a_parameters_change, a_price, a_transfer, a_venue, an_account
from tests.flows.running import run
from tests.judge.compare import compare
from tests.judge.days import MINUTE_NS

# Carol pays with coins that fall by 30 % at once, alice with a dollar that loses its peg under a doubting oracle.
A_DEPEG: list[Event] = [
    *a_venue(),
    an_account("carol", number=3),
    a_transfer("0.05", account="carol", asset="BTC", number=3),
    a_parameters_change("collateral", {"haircuts": {"USDC": 0.0, "BTC": 0.05}}),
    a_fill(quantity="0.9", time_ns=TIME_NS + 1),
    a_fill(quantity="0.05", buyer="carol", number=2, time_ns=TIME_NS + 1),
    *[
        a_price(price, feed=feed, confidence=confidence, number=2 * n + place, time_ns=TIME_NS + n * MINUTE_NS)
        for n, coin in enumerate((50_000, 49_000, 47_000, 47_500, 33_000, 33_100, 32_000, 31_000, 33_000), 1)
        for place, (price, feed, confidence) in enumerate(
            ((f"0.{99 - n}", "USDC/USD", f"0.0{n % 3}"), (str(coin), "BTC/USD", str(10 * n))), 8
        )
    ],
]


def test_a_depeg_and_a_crash_of_collateral_are_judged_alike() -> None:
    """Fails where they differ on haircuts that rise with vol, or on what the oracle's doubt takes."""
    published = run(A_DEPEG)

    comparison = compare(published)

    assert comparison.near_ties == []
    assert set(published.of(ResultKind.ORDER_OPENED)["account"]) == {8, 10}


# -- controls: a judge that cannot disagree proves nothing -------------------------------------------------------------

DECIDED: Final = "the judge says|only one of them says"


def _own_haircuts(*, own: float, **_unread: Any) -> float:
    return own


def _certain_haircuts(*, confidence: float, **rest: Any) -> float:
    return haircut_of(confidence=0.0 * confidence, **rest)


def _simple_return(price: float, before: float) -> float:
    return (price - before) / before


@pytest.mark.parametrize(
    ("module", "name", "fault"),
    [
        ("flows.market.haircuts", "haircut_of", _own_haircuts),
        ("flows.market.haircuts", "haircut_of", _certain_haircuts),
        ("flows.market.volatility", "_log_return", _simple_return),
    ],
)
def test_a_planted_fault_in_haircuts_is_seen(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, fault: Callable[..., Any]
) -> None:
    """Fails where the comparison would also pass haircuts that do not follow vol, doubt or logarithms."""
    monkeypatch.setattr(f"{module}.{name}", fault)
    published = run(A_DEPEG)

    with pytest.raises(AssertionError, match=DECIDED):
        compare(published)
