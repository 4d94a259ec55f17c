"""The margin models that are installed, by name.

1. A model is an object with the methods of ``flows.margin.model.MarginModel``, named by an entry point of the group
   ``tidegate.margin``; two that claim one name are a broken installation.
2. Our own two are always there, so that a checkout works before it is installed.
"""

from importlib.metadata import entry_points

from flows.margin.model import MarginModel
from flows.margin.portfolio import MODEL as PORTFOLIO
from flows.margin.standard import MODEL as STANDARD

GROUP = "tidegate.margin"


def margin_models() -> dict[str, MarginModel]:
    """Return the installed models by name, in order of name.

    Raises
    ------
    ValueError : two different entry points claim one name, or an entry point's name is not its model's.
    """
    models: dict[str, MarginModel] = {STANDARD.name: STANDARD, PORTFOLIO.name: PORTFOLIO}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        model: MarginModel = point.load()
        if model.name != point.name:
            raise ValueError(f"entry point {point.name!r} of {GROUP} gives a model named {model.name!r}")
        if models.setdefault(model.name, model) is not model:
            raise ValueError(f"two margin models are named {model.name!r}: uninstall one")
    return dict(sorted(models.items()))
