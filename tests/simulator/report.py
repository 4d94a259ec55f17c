"""What a judged run came to: differences, work in accounts, and processor time against the exhaustive judge.

1. Work is counted in accounts: evaluated because an instant asked for it, placed beside that, and evaluated for
   reporting, which is counted apart.
2. Processor time is of this process. A tick of the policy is the market's time (its grids among it) and the policy's; a
   pass of the judge is the market's time and the judge's. Ratios compare these two.
"""

import resource
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flows.screening.diagnostics import Diagnostics
from flows.screening.observer import Residence

PARTS: Final = ("market", "policy", "judge")


@dataclass(frozen=True, slots=True)
class Difference:
    """Where policy and judge first part; ``account`` is empty where what differs is of all of them."""

    frame: int
    account: str
    what: str


@dataclass(slots=True)
class Ticks:
    """Processor seconds: one entry a tick, of the judge one a judged tick; and hot accounts, one entry a tick."""

    market: list[float] = field(default_factory=list)
    policy: list[float] = field(default_factory=list)
    judge: list[float] = field(default_factory=list)
    hot: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time.

    Attributes
    ----------
    mean_ms, median_ms : of a tick, by part; of the judge over judged ticks.
    saved_mean, saved_median : a pass of the judge for one tick of the policy, the market in both.
    worst_tick : the policy's worst, counted from 1. worst_ratio : its time, for the median pass of the judge.
    """

    mean_ms: dict[str, float]
    median_ms: dict[str, float]
    saved_mean: float
    saved_median: float
    worst_tick: int
    worst_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a judged run found.

    Attributes
    ----------
    synthetic : what of the market was not recorded, in sentences; empty where nothing claims to be.
    evaluated_share, placed_share : of all accounts, a tick, on average.
    work_saved : evaluations of the judge for one of the policy.
    reporting_evaluations : accounts evaluated for full states, at the first barrier of each hour and at the end.
    reporting_ms : of each state, on average.
    diagnostics : of the ticks alone, with where accounts live at the end.
    peak_memory_gib : of this process, with the building of the book, and with the judge's book where there is one.
    """

    policy: str
    path: str
    synthetic: tuple[str, ...]
    accounts: int
    positions: int
    ticks: int
    judged_ticks: int
    differences: int
    first_difference: Difference | None
    evaluated_share: float
    placed_share: float
    work_saved: float
    hot_accounts_mean: float
    hot_accounts_max: int
    reporting_evaluations: int
    reporting_ms: float
    tier_changes: dict[str, int]
    cost: Cost
    diagnostics: Diagnostics
    peak_memory_gib: float

    @property
    def is_sound(self) -> bool:
        """Whether every decision was the judge's, and no bound was violated."""
        return not self.differences and not self.diagnostics.bound_violations


def cost_of(ticks: Ticks) -> Cost:
    """Return means, medians and ratios of a run's times."""
    parts: Mapping[str, Sequence[float]] = {name: getattr(ticks, name) for name in PARTS}
    whole = [market + policy for market, policy in zip(ticks.market, ticks.policy, strict=True)]
    worst = max(range(len(whole)), key=whole.__getitem__)

    def times(average: Callable[[Sequence[float]], float]) -> dict[str, float]:
        return {name: average(seconds) if seconds else 0.0 for name, seconds in parts.items()}

    mean, median = times(statistics.fmean), times(statistics.median)
    one_pass = median["market"] + median["judge"]
    return Cost(
        mean_ms={name: 1e3 * seconds for name, seconds in mean.items()},
        median_ms={name: 1e3 * seconds for name, seconds in median.items()},
        saved_mean=(mean["market"] + mean["judge"]) / statistics.fmean(whole),
        saved_median=one_pass / statistics.median(whole),
        worst_tick=worst + 1,
        worst_ratio=whole[worst] / one_pass,
    )


def peak_memory_gib() -> float:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def lines_of(report: Report) -> list[str]:
    """Return a report to be read."""
    cost, diagnostics = report.cost, report.diagnostics
    count = report.ticks * report.accounts
    facts: dict[str, object] = {
        "policy": report.policy,
        "path": report.path,
        "accounts, positions": f"{report.accounts:,}, {report.positions:,}",
        "ticks, judged": f"{report.ticks:,}, {report.judged_ticks:,}",
        "differences": report.differences,
        "first difference": report.first_difference,
        "bound violations": diagnostics.bound_violations,
        "evaluated": f"{report.evaluated_share:.4%} of accounts a tick ({count:,} looked at by the judge, "
        f"{report.work_saved:,.1f} times as many)",
        "placed": f"{report.placed_share:.4%} of accounts a tick",
        "hot accounts": f"{report.hot_accounts_mean:,.1f} on average, {report.hot_accounts_max:,} at most",
        "worst tick in accounts": f"{diagnostics.worst_tick_ratio:.4f} of all",
        "evaluated for reporting": f"{report.reporting_evaluations:,}, {report.reporting_ms:,.0f} ms each state",
        "processor ms, median": _times(cost.median_ms),
        "processor ms, mean": _times(cost.mean_ms),
        "saved, grids included": f"{cost.saved_median:,.2f} by the median, {cost.saved_mean:,.2f} by the mean",
        "worst tick": f"{cost.worst_ratio:.2f} of a pass of the judge, at tick {cost.worst_tick:,}",
        "peak memory": f"{report.peak_memory_gib:.2f} GiB",
        "tier changes": ", ".join(f"{number:,} to {name}" for name, number in report.tier_changes.items()),
        **_lives(diagnostics.residence),
        **{"synthetic" + " " * place: text for place, text in enumerate(report.synthetic)},
    }
    return [f"{name:26} {value:,}" if isinstance(value, int) else f"{name:26} {value}" for name, value in facts.items()]


def _times(of: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {milliseconds:,.3f}" for name, milliseconds in of.items())


def _lives(residence: Residence) -> dict[str, str]:
    reasons = ", ".join(f"{reason} {accounts:,}" for reason, accounts in residence.hot_by_reason)
    widths = ", ".join(f"{width:.2%} {accounts:,}" for width, accounts in residence.residents_by_width)
    return ({"hot by reason": reasons} if reasons else {}) | ({"residents by width": widths} if widths else {})
