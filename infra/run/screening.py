"""Screening policies by name, through the entry-point group ``tidegate.screening``.

1. Ours are always there, so that a checkout works before it is installed.
"""

from importlib.metadata import entry_points
from typing import Final

from flows.screening.boxes import POLICY as BOXES
from flows.screening.exhaustive import POLICY as EXHAUSTIVE
from flows.screening.policy import ScreeningPolicy

JUDGE: Final = EXHAUSTIVE.name
DEFAULT: Final = EXHAUSTIVE.name
_OURS: Final[dict[str, ScreeningPolicy]] = {policy.name: policy for policy in (BOXES, EXHAUSTIVE)}


class UnknownScreeningPolicy(Exception):  # noqa: N818 - says what happened
    """No installed policy has this name."""


def screening_policy(name: str) -> ScreeningPolicy:
    """Return the installed policy of this name.

    Raises
    ------
    UnknownScreeningPolicy : none has it; the message names those that are installed.
    """
    if name in _OURS:
        return _OURS[name]
    found = {point.name: point for point in entry_points(group="tidegate.screening")}
    if name not in found:
        known = ", ".join(sorted({*_OURS, *found}))
        raise UnknownScreeningPolicy(f"no screening policy {name!r}; installed are {known}")
    policy: ScreeningPolicy = found[name].load()
    return policy


def whose_decisions(name: str) -> str:
    """Return the policy whose decisions a run has: the judge's under any exact one, so that those may take turns."""
    return JUDGE if screening_policy(name).exact else name
