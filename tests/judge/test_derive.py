"""Derive's models, judged: coins held as collateral through a crash, under a doubting oracle and a depegged dollar."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest

from flows.margin import derive_markets
from flows.margin.collateral import equity
from flows.margin.registry import margin_models
from schemas.events import Event
from schemas.results import ResultKind
from tests.builders import TIME_NS, a_fill, a_parameters_change, a_price, a_transfer, a_venue, a_withdrawal, an_account
from tests.flows.running import run
from tests.judge.compare import compare
from tests.judge.days import MINUTE_NS
from tests.judge.derive import MARGINS_COLLATERAL

CAROL: Final = 10
DECIDED: Final = "the judge says|only one of them says"


def a_crash(model: str) -> list[Event]:
    """Return a day on which carol, long a perpetual on coins alone, loses while the oracle doubts more and more."""
    happenings = [
        *a_venue(),
        an_account("carol", number=3, margin_model=model),
        a_transfer("1", account="carol", asset="BTC", number=3),
        a_parameters_change(model, {"confidence_threshold": 0.9} if model != "derive-srm" else {
            "markets": {"BTC": {"spot_weight": 0.75, "spot_confidence_threshold": 0.9}}
        }),
        a_fill(quantity="1", buyer="carol", number=2, time_ns=TIME_NS + 1),
        *[
            a_price(price, feed=feed, confidence=confidence, number=2 * n + place, time_ns=TIME_NS + n * MINUTE_NS)
            for n, coin in enumerate((50_000, 47_000, 43_000, 39_000, 34_000, 30_500, 28_000, 32_000, 37_000), 1)
            for place, (price, feed, confidence) in enumerate(
                ((f"0.{99 - n}", "USDC/USD", f"0.0{n % 3}"), (str(coin), "BTC/USD", str(120 * n))), 8
            )
        ],
        *[
            a_withdrawal("0.05", account="carol", asset="BTC", number=90 + n, time_ns=TIME_NS + n * MINUTE_NS)
            for n in range(1, 7)
        ],
    ]  # fmt: skip
    return sorted(happenings, key=lambda it: it.event_time_ns)


@pytest.fixture(params=sorted(MARGINS_COLLATERAL))
def model(request: pytest.FixtureRequest) -> str:
    if request.param not in margin_models():
        pytest.skip("the environment was installed before the model was there")
    return str(request.param)


def test_coins_as_collateral_are_judged_alike(model: str) -> None:
    """Fails where equity is cut as well, or a haircut, scenario or charge on collateral differs."""
    published = run(a_crash(model))

    comparison = compare(published)

    assert comparison.near_ties == []
    assert CAROL in published.of(ResultKind.ORDER_OPENED)["account"]
    withdrawals = [published.of(kind).shape[0] for kind in (
        ResultKind.WITHDRAWAL_ACCEPTED, ResultKind.WITHDRAWAL_REFUSED
    )]  # fmt: skip
    assert min(withdrawals) > 0


# -- controls: a judge that cannot disagree proves nothing -------------------------------------------------------------


def _cut_twice(*arguments: Any) -> Any:
    return equity(*arguments[:5])


def _sure(*arguments: Any) -> Any:
    markets = derive_markets.markets_of(*arguments)
    sure = np.ones(max(markets.confidence.shape[0], markets.asset_confidence.shape[0]))
    return replace(
        markets,
        confidence=sure[: markets.confidence.shape[0]],
        asset_confidence=sure[: markets.asset_confidence.shape[0]],
    )


@pytest.mark.parametrize(
    ("place", "fault"),
    [("flows.risk.evaluation.equity", _cut_twice), ("flows.margin.derive_srm_book.markets_of", _sure)],
)
def test_a_planted_fault_in_collateral_is_seen(
    monkeypatch: pytest.MonkeyPatch, place: str, fault: Callable[..., Any]
) -> None:
    """Fails where the comparison would also pass equity after haircuts, or collateral that is never doubted."""
    monkeypatch.setattr(place, fault)
    published = run(a_crash("derive-srm"))

    with pytest.raises(AssertionError, match=DECIDED):
        compare(published)
