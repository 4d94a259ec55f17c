"""Finding margin models by name."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
from pydantic import model_validator

from flows.margin import registry
from flows.margin.model import IncrementalMarginModel
from flows.margin.registry import MarginModelError, margin_models, parameter_sets
from schemas.parameter_set import ParameterSet
from schemas.parameters import PARAMETER_SETS


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


class _Told(ParameterSet):
    rate: float


class _TooHigh(ParameterSet):
    rate: float = 2.0

    @model_validator(mode="after")
    def _below_one(self) -> "_TooHigh":
        if self.rate > 1.0:
            raise ValueError("rate above 1")
        return self


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("collateral", ParameterSet, "margin model 'collateral' brings a parameter set of a name that is taken"),
        ("mine", dict, "margin model 'mine': parameters_type is no schemas.parameter_set.ParameterSet"),
        ("mine", _Told, "margin model 'mine': its defaults do not stand: mine: rate: it is missing"),
        ("mine", _TooHigh, "margin model 'mine': its defaults do not stand: mine: rate above 1"),
    ],
)
def test_a_parameter_set_that_cannot_be_used_is_refused(name: str, kind: type, line: str) -> None:
    """At the start, in one line, and not when a ledger needs it."""
    model = SimpleNamespace(name=name, parameters_type=kind)

    with pytest.raises(MarginModelError) as caught:
        parameter_sets({name: model})

    assert str(caught.value) == line


def test_models_without_a_set_bring_none() -> None:
    """Ours are told in schemas.parameters, in the order of the documentation."""
    assert parameter_sets(margin_models()) == PARAMETER_SETS


class _Impostor:
    name = "tidegate-standard"


IMPOSTOR = _Impostor()
