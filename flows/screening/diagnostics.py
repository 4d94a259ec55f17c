"""What screening took: counts that depend on the policy and the process, outside digests and snapshots.

1. Work is counted in accounts, never in time: the same ledger under the same policy gives the same counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest

from flows.screening import observer
from flows.screening.observer import Residence
from flows.screening.policy import Work


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Counts since a process began, or resumed.

    Attributes
    ----------
    instants : frames that were decided.
    evaluations : accounts evaluated, over all of them; evaluations for snapshots and by the shadow are not among them.
    exhaustive_evaluations : what the exhaustive policy would have evaluated.
    placements : accounts placed, over all of them: work beside the evaluations.
    hot_accounts : accounts that must be evaluated at every instant, behind the last frame.
    bound_violations : evaluations, the judge's among them, that a bound had excluded; 0, or a proof is wrong.
    worst_tick_ratio : the most accounts evaluated or placed for one frame, over those that there were. Above 1 where
        placing all of them took more than one pass.
    shadowed_frames : frames that the shadow judged, all of them alike.
    frames_by_evaluations, frames_by_placements : how many frames evaluated, or placed, no account, 1, 2 to 3, 4 to 7
        and so on; of several processes, each one's frames count.
    residence : where accounts live, behind the last full state or at the end; empty in between.
    """

    instants: int = 0
    evaluations: int = 0
    exhaustive_evaluations: int = 0
    placements: int = 0
    hot_accounts: int = 0
    bound_violations: int = 0
    worst_tick_ratio: float = 0.0
    shadowed_frames: int = 0
    frames_by_evaluations: tuple[int, ...] = ()
    frames_by_placements: tuple[int, ...] = ()
    residence: Residence = field(default_factory=Residence)

    def after(self, work: Work, *, evaluated: int, exhaustive: int, accounts: int) -> "Diagnostics":
        """Return the counts with one more frame."""
        ratio = (evaluated + work.placements) / accounts if accounts else 0.0
        return Diagnostics(
            instants=self.instants + 1,
            evaluations=self.evaluations + evaluated,
            exhaustive_evaluations=self.exhaustive_evaluations + exhaustive,
            placements=self.placements + work.placements,
            hot_accounts=work.hot_accounts,
            bound_violations=self.bound_violations + work.bound_violations,
            worst_tick_ratio=max(self.worst_tick_ratio, ratio),
            shadowed_frames=self.shadowed_frames,
            frames_by_evaluations=_one_more(self.frames_by_evaluations, evaluated),
            frames_by_placements=_one_more(self.frames_by_placements, work.placements),
        )


def together(parts: Iterable[Diagnostics]) -> Diagnostics:
    """Return what several processes took: they share every frame, and the worst of any of them is waited for."""
    all_parts = list(parts)
    return Diagnostics(
        instants=max((part.instants for part in all_parts), default=0),
        evaluations=sum(part.evaluations for part in all_parts),
        exhaustive_evaluations=sum(part.exhaustive_evaluations for part in all_parts),
        placements=sum(part.placements for part in all_parts),
        hot_accounts=sum(part.hot_accounts for part in all_parts),
        bound_violations=sum(part.bound_violations for part in all_parts),
        worst_tick_ratio=max((part.worst_tick_ratio for part in all_parts), default=0.0),
        shadowed_frames=max((part.shadowed_frames for part in all_parts), default=0),
        frames_by_evaluations=_added(part.frames_by_evaluations for part in all_parts),
        frames_by_placements=_added(part.frames_by_placements for part in all_parts),
        residence=observer.together(part.residence for part in all_parts),
    )


def _one_more(frames: tuple[int, ...], accounts: int) -> tuple[int, ...]:
    """Return the distribution with one more frame: bin 0 is no account, bin k is 2^(k - 1) accounts and more."""
    place = accounts.bit_length()
    longer = frames + (0,) * (place + 1 - len(frames))
    return (*longer[:place], longer[place] + 1, *longer[place + 1 :])


def _added(parts: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sum(counts) for counts in zip_longest(*parts, fillvalue=0))
