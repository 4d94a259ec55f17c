"""Parameter sets as the events that an imported log begins with."""

from collections.abc import Iterator, Mapping
from typing import Any

from schemas.events import ParametersChanged


def parameter_events(sets: Mapping[str, dict[str, Any]], *, time_ns: int, source: str) -> Iterator[ParametersChanged]:
    """Yield one event for each named set, in the order given; what a set leaves out takes its default."""
    for name, parameters in sets.items():
        yield ParametersChanged(
            event_id=f"parameters-{name}",
            event_time_ns=time_ns,
            source=source,
            source_sequence=0,
            name=name,
            parameters=parameters,
        )
