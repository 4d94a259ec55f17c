"""What screening took: counts that depend on the policy and the process, outside digests and snapshots.

1. Work is counted in accounts, never in time: the same ledger under the same policy gives the same counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from flows.screening.policy import Work


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Counts since a process began, or resumed.

    Attributes
    ----------
    instants : frames that were decided.
    evaluations : accounts evaluated, over all of them; evaluations for snapshots and by the shadow are not among them.
    exhaustive_evaluations : what the exhaustive policy would have evaluated.
    hot_accounts : accounts that must be evaluated at every instant, behind the last frame.
    bound_violations : evaluations, the judge's among them, that a bound had excluded; 0, or a proof is wrong.
    worst_tick_ratio : the most accounts evaluated or placed for one frame, over those that there were. Above 1 where
        placing all of them took more than one pass.
    shadowed_frames : frames that the shadow judged, all of them alike.
    """

    instants: int = 0
    evaluations: int = 0
    exhaustive_evaluations: int = 0
    hot_accounts: int = 0
    bound_violations: int = 0
    worst_tick_ratio: float = 0.0
    shadowed_frames: int = 0

    def after(self, work: Work, *, evaluated: int, exhaustive: int, accounts: int) -> "Diagnostics":
        """Return the counts with one more frame."""
        ratio = (evaluated + work.placements) / accounts if accounts else 0.0
        return Diagnostics(
            self.instants + 1,
            self.evaluations + evaluated,
            self.exhaustive_evaluations + exhaustive,
            work.hot_accounts,
            self.bound_violations + work.bound_violations,
            max(self.worst_tick_ratio, ratio),
            self.shadowed_frames,
        )


def together(parts: Iterable[Diagnostics]) -> Diagnostics:
    """Return what several processes took: they share every frame, and the worst of any of them is waited for."""
    all_parts = list(parts)
    return Diagnostics(
        max((part.instants for part in all_parts), default=0),
        sum(part.evaluations for part in all_parts),
        sum(part.exhaustive_evaluations for part in all_parts),
        sum(part.hot_accounts for part in all_parts),
        sum(part.bound_violations for part in all_parts),
        max((part.worst_tick_ratio for part in all_parts), default=0.0),
        max((part.shadowed_frames for part in all_parts), default=0),
    )
