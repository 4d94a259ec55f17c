"""What an evaluation may say of an account (invariants of flows/risk/evaluation.py)."""

from typing import Any

import numpy as np
import pytest

from flows.margin.registry import margin_models
from flows.pipeline import run_plain
from flows.risk.evaluation import evaluate
from flows.risk.stage import LocalRisk
from tests.builders import TIME_NS, a_fill, a_venue
from tests.flows.running import Published, arrivals, batches_of, some_stages


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_decides_nothing(number: float) -> None:
    """NaN compares false with every boundary: without the guard such an account would be called healthy."""
    stages = some_stages()
    run_plain(batches_of(arrivals([*a_venue(), a_fill(time_ns=TIME_NS + 1)]), 100), stages, Published().take)
    assert isinstance(stages.risk, LocalRisk)
    risk = stages.risk.risk
    assert risk.instant is not None

    class Broken:
        name = "tidegate-standard"

        def requirements(self, _tables: Any, _positions: Any, rows: Any) -> Any:
            return np.full(rows.shape[0], number), np.full(rows.shape[0], number)

    rows = risk.book.customer_rows
    sound = evaluate(risk.book, risk.instant, rows, risk.models)
    broken = evaluate(risk.book, risk.instant, rows, {**margin_models(), "tidegate-standard": Broken()})  # type: ignore[dict-item]

    assert not sound.undecidable.any()
    assert broken.undecidable.all()
