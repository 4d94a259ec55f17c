"""What every parameter set is made of; the sets themselves are in ``parameters`` and beside it."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Ratio = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Multiple = Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)]


class ParameterSet(BaseModel):
    """A named set: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


# What is expected, in the words of who writes JSON and not of who checks it.
_IN_WORDS: Final = {
    "dict_type": "write an object {…}",
    "extra_forbidden": "no such key",
    "list_type": "write a list […]",
    "missing": "it is missing",
    "model_type": "write an object {…}",
    "string_type": 'write it in quotes, like "1.5"',
}


def first_fault(error: ValidationError) -> tuple[str, str, str]:
    """Return where a validation's first fault is (keys joined by dots; empty: the whole), its kind, and its words."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return place, first["type"], _IN_WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
