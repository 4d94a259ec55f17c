"""Screening policies by name, through the entry-point group ``tidegate.screening``."""

from importlib.metadata import entry_points

from flows.screening.policy import ScreeningPolicy

DEFAULT = "exhaustive"


class UnknownScreeningPolicy(Exception):  # noqa: N818 - says what happened
    """No installed policy has this name."""


def screening_policy(name: str) -> ScreeningPolicy:
    """Return the installed policy of this name.

    Raises
    ------
    UnknownScreeningPolicy : none has it; the message names those that are installed.
    """
    found = {point.name: point for point in entry_points(group="tidegate.screening")}
    if name not in found:
        known = ", ".join(sorted(found)) or "none: install the project with pip first"
        raise UnknownScreeningPolicy(f"no screening policy {name!r}; installed are {known}")
    policy: ScreeningPolicy = found[name].load()
    return policy
