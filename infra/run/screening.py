"""Screening policies by name, through the entry-point group ``tidegate.screening``.

1. Ours are always there, so that a checkout works before it is installed.
2. A setting may follow a name behind a colon: ``probabilistic:1e-6``.
"""

from importlib.metadata import entry_points
from typing import Final

from flows.screening.boxes import POLICY as BOXES
from flows.screening.exhaustive import POLICY as EXHAUSTIVE
from flows.screening.policy import ScreeningPolicy, TunablePolicy
from flows.screening.probabilistic import POLICY as PROBABILISTIC

JUDGE: Final = EXHAUSTIVE.name
DEFAULT: Final = EXHAUSTIVE.name
_OURS: Final[dict[str, ScreeningPolicy]] = {
    BOXES.name: BOXES,
    EXHAUSTIVE.name: EXHAUSTIVE,
    "probabilistic": PROBABILISTIC,
}


class UnknownScreeningPolicy(Exception):  # noqa: N818 - says what happened
    """No installed policy has this name."""


def screening_policy(name: str) -> ScreeningPolicy:
    """Return the installed policy of this name, with the setting that may follow it.

    Raises
    ------
    UnknownScreeningPolicy : none has it, or none with this setting; the message says what there is.
    """
    name, colon, setting = name.partition(":")
    policy = _installed(name)
    if not colon:
        return policy
    if not isinstance(policy, TunablePolicy):
        raise UnknownScreeningPolicy(f"screening policy {name} has no setting, and {setting!r} follows it")
    try:
        return policy.tuned(setting)
    except ValueError as error:
        raise UnknownScreeningPolicy(f"screening policy {name}: {error}") from None


def _installed(name: str) -> ScreeningPolicy:
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
    policy = screening_policy(name)
    return JUDGE if policy.exact else policy.name
