"""A few hundred random portfolios of every campaign, and that a campaign would see a fault."""

from collections.abc import Callable
from typing import Any

import pytest

from flows.margin import derive
from tests.golden.campaign import ADAPTERS, Report, campaign


def _failing(report: Report) -> list[str]:
    return [
        f"{name}: {it.differing} of {it.count}, worst {it.worst}" for name, it in report.steps.items() if it.differing
    ]


@pytest.mark.parametrize("model", ADAPTERS)
def test_random_accounts_agree_with_the_plain_implementation(model: str) -> None:
    """Fails where a form of one account and its plain twin part somewhere that no named portfolio reaches."""
    report = campaign(seed=0, size=250, models=[model])

    assert _failing(report) == []
    # A margin that is nearly nothing is what large sums leave: those are held to the size of the sums, by the above.
    margins = [it for name, it in report.steps.items() if name.endswith((": im", ": mm", "_margin"))]
    assert margins and max(it.of_itself for it in margins) < 1e-9
    assert max(it.of_size for it in report.steps.values()) < 1e-11


def test_random_books_agree_with_the_plain_judge() -> None:
    """Fails where columns read a charge, a scenario, an expiry, a balance or a parameter otherwise."""
    report = campaign(seed=0, size=200, models=["books"])

    assert _failing(report) == []
    assert max(it.of_itself for it in report.steps.values()) < 1e-9
    assert max(it.of_size for it in report.steps.values()) < 1e-13


def _short_puts_for_free(*arguments: Any) -> float:
    options, count = arguments
    return 0.99 * derive.net_short_options(options, count)


def _no_charge(_confidence: Any, notional: Any, **_rates: float) -> Any:
    return 0.0 * notional


@pytest.mark.parametrize(
    ("place", "fault", "models"),
    [
        ("flows.margin.derive_pmrm2.net_short_options", _short_puts_for_free, ["derive-pmrm2"]),
        ("flows.margin.derive_pmrm.confidence_charges", _no_charge, ["derive-pmrm"]),
        ("flows.margin.derive_srm_book.confidence_charges", _no_charge, ["books"]),
    ],
)
def test_a_planted_fault_is_seen(
    monkeypatch: pytest.MonkeyPatch, place: str, fault: Callable[..., Any], models: list[str]
) -> None:
    """Control: fails where a campaign would also pass a form that charges less."""
    monkeypatch.setattr(place, fault)

    assert _failing(campaign(seed=0, size=80, models=models))
