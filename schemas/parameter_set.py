"""What every parameter set is made of; the sets themselves are in ``parameters`` and beside it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Ratio = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Multiple = Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)]


class ParameterSet(BaseModel):
    """A named set: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)
