"""Boxes decide as the judge does, on every path, under every model, whatever traders and the venue do meanwhile."""

import pytest

from infra.run.screening import screening_policy
from tests.simulator.judged import Run, judged_run
from tests.simulator.paths import COURSES

POLICY = screening_policy("boxes")


@pytest.mark.parametrize("path", COURSES)
def test_every_path_is_decided_alike(path: str) -> None:
    """Fails where an account that was left out should have been decided, or was outside its bounds."""
    run = Run(accounts=150, path=path, hours=1 / 15, seed=5, activity=3.0, open_orders=0.15)

    report = judged_run(run, POLICY)

    assert report.is_sound, report.first_difference
    assert report.judged_ticks == 240
    assert report.evaluated_share < 0.9


def test_deribit_s_standard_model_rests() -> None:
    """Fails where bounds of the model are not used, or one of its accounts that was left out stands otherwise."""
    run = Run(accounts=150, path="crash", hours=1 / 15, seed=5, open_orders=0.15, models=("deribit-standard",))

    report = judged_run(run, POLICY)

    assert report.is_sound, report.first_difference
    assert report.evaluated_share < 0.9
    assert "of models without bounds" not in dict(report.diagnostics.residence.hot_by_reason)
