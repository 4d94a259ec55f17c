"""``tidegate schema``: the public events as JSON Schema, generated from the code."""

from typing import Annotated, Any

import msgspec
import typer

from infra.cli.output import FAILED, WRONG_USE, console, fail, print_json
from schemas.events import EVENT_TYPES, Event
from schemas.parameters import ParameterSet


def event_schema(kind: type[Event]) -> dict[str, Any]:
    """Return the JSON Schema of one event type, self-contained."""
    (reference,), definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **reference, "$defs": definitions}


def schema(
    event_type: Annotated[
        str | None, typer.Argument(help="An event type such as fill; all types where left out.")
    ] = None,
    *,
    parameters: Annotated[bool, typer.Option("--parameters", help="Schemas of parameter sets instead.")] = False,
    names: Annotated[bool, typer.Option("--names", help="Only list what there is.")] = False,
) -> None:
    """Print the JSON Schema of public events or parameter sets."""
    schemas: dict[str, Any] = (
        {name: kind.model_json_schema() for name, kind in _parameter_sets().items()}
        if parameters
        else {str(kind.__struct_config__.tag): event_schema(kind) for kind in EVENT_TYPES}
    )
    if names:
        for name in schemas:
            console.print(name, markup=False)
        return
    if event_type is None:
        print_json(schemas)
    elif event_type in schemas:
        print_json(schemas[event_type])
    else:
        fail(f"no schema {event_type!r}; there are {', '.join(schemas)}", WRONG_USE)


def _parameter_sets() -> dict[str, type[ParameterSet]]:
    """Return the sets of this release and of installed margin models."""
    # The models load numba, which the events' schemas should not cost.
    from flows.margin.registry import MarginModelError, margin_models, parameter_sets

    try:
        return parameter_sets(margin_models())
    except MarginModelError as error:
        fail(str(error), FAILED)
