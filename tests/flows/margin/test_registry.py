"""Finding margin models by name."""

from importlib.metadata import EntryPoint

import pytest

from flows.margin import registry
from flows.margin.model import IncrementalMarginModel
from flows.margin.registry import margin_models


def test_our_models_are_always_there() -> None:
    """A checkout works before it is installed."""
    models = margin_models()

    assert {"tidegate-standard", "tidegate-portfolio"} <= set(models)
    assert list(models) == sorted(models)
    assert all(isinstance(models[name], IncrementalMarginModel) for name in ("tidegate-standard", "tidegate-portfolio"))


def test_a_second_model_of_one_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of two would decide must not depend on the order of installation."""
    point = EntryPoint("tidegate-standard", "tests.flows.margin.test_registry:IMPOSTOR", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])

    with pytest.raises(ValueError, match="two margin models"):
        margin_models()


class _Impostor:
    name = "tidegate-standard"


IMPOSTOR = _Impostor()
