"""Which margin models have bounds of health, by name.

A model of another package may bring its own: an attribute ``open_bounds``, as ``OpensBounds`` describes it. Accounts of
a model without any are looked at always.
"""

from collections.abc import Mapping
from typing import Final, cast

from flows.margin.model import MarginModel
from flows.screening.deribit_standard import open_bounds as open_deribit_standard
from flows.screening.dydx import open_bounds as open_dydx
from flows.screening.portfolio_bounds import open_bounds as open_portfolio
from flows.screening.ranges import OpensBounds
from flows.screening.standard_bounds import open_bounds as open_standard

OURS: Final[Mapping[str, OpensBounds]] = {
    "deribit-standard": open_deribit_standard,
    "dydx-v4": open_dydx,
    "tidegate-portfolio": open_portfolio,
    "tidegate-standard": open_standard,
}


def bounds_of(model: MarginModel) -> OpensBounds | None:
    """Return what opens a model's bounds, None where it has none."""
    brought = getattr(model, "open_bounds", None)
    return cast(OpensBounds, brought) if brought is not None else OURS.get(model.name)
