"""The margin models that are installed, by name.

1. A model is an object with the methods of ``flows.margin.model.MarginModel``, named by an entry point of the group
   ``tidegate.margin``; two that claim one name are a broken installation.
2. Our own two are always there, so that a checkout works before it is installed.
3. The parameter sets that exist are those of this release and those that models bring, under the models' names.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points

from flows.margin.model import MarginModel, OwnParameters
from flows.margin.portfolio import MODEL as PORTFOLIO
from flows.margin.standard import MODEL as STANDARD
from schemas.failures import Refused
from schemas.parameters import PARAMETER_SETS, ParameterSet, validate

GROUP = "tidegate.margin"


class MarginModelError(ValueError):
    """The installation is broken: a margin model of some package cannot be used."""


def margin_models() -> dict[str, MarginModel]:
    """Return the installed models by name, in order of name.

    Raises
    ------
    MarginModelError : two different entry points claim one name, or an entry point's name is not its model's.
    """
    models: dict[str, MarginModel] = {STANDARD.name: STANDARD, PORTFOLIO.name: PORTFOLIO}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        model: MarginModel = point.load()
        if model.name != point.name:
            raise MarginModelError(f"entry point {point.name!r} of {GROUP} gives a model named {model.name!r}")
        if models.setdefault(model.name, model) is not model:
            raise MarginModelError(f"two margin models are named {model.name!r}: uninstall one")
    return dict(sorted(models.items()))


def parameter_sets(models: Mapping[str, MarginModel]) -> dict[str, type[ParameterSet]]:
    """Return every parameter set that ``parameters.changed`` may name, ours first, then those that models bring.

    Raises
    ------
    MarginModelError : a model brings a set under a name of ours, or one that is not valid before anything was told.
    """
    sets = dict(PARAMETER_SETS)
    for name, model in models.items():
        if not isinstance(model, OwnParameters):
            continue
        kind = model.parameters_type
        if sets.setdefault(name, kind) is not kind:
            raise MarginModelError(f"margin model {name!r} brings a parameter set of a name that is taken")
        if not (isinstance(kind, type) and issubclass(kind, ParameterSet)):
            raise MarginModelError(f"margin model {name!r}: parameters_type is no schemas.parameter_set.ParameterSet")
        try:
            validate(name, {}, sets)
        except Refused as refused:
            raise MarginModelError(f"margin model {name!r}: its defaults do not stand: {refused.message}") from refused
    return sets
