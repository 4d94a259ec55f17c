"""A run in which a screening policy and the exhaustive judge decide the same frames.

1. There is one market, stepped once a frame. With ``judge_every`` 1 there are two books upon it, one under the policy
   and one under the judge, and everything that they publish (results, deltas, state hashes) must be equal, byte for
   byte, period after period; result rows name their frames. What the judge has of every account is held against the
   policy's bounds at every tick: rows of both books are the same.
2. Above 1 there is the policy's book alone, so that a million accounts fit, and every so many ticks the shadow holds
   all that stands in it against the judge. By induction what it finds nothing against is what the judge would have
   published, but for what came and went between.
3. A full state of the policy's book is taken as for a snapshot, hourly and at the end, and counted apart.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from flows.margin.registry import margin_models
from flows.market.instant import Instant
from flows.market.step import Market
from flows.risk.book import Book
from flows.risk.evaluation import Evaluation
from flows.risk.stage import StateClock, state_of
from flows.risk.step import Period, Risk
from flows.screening.diagnostics import Diagnostics
from flows.screening.exhaustive import POLICY as EXHAUSTIVE
from flows.screening.policy import Int64Array, Screen, ScreeningPolicy, Sight, Work
from flows.screening.shadow import Shadow
from schemas.ledger import Frame
from schemas.results import MARKET, RESULT, ResultKind, Results, Tier
from tests.builders import SECOND_NS
from tests.simulator.activity import Activity
from tests.simulator.books import MODELS, BookBuilder, account_id
from tests.simulator.frames import SHARDS, Frames
from tests.simulator.paths import MarketPath, Path
from tests.simulator.real import RECORDED
from tests.simulator.report import Difference, Report, Ticks, cost_of, peak_memory_gib
from tests.simulator.venue import HOUR_NS

PERIOD_TICKS: Final = 60


class OneMarket(Market):
    """A market that several books share: whoever steps it again with the same frame gets the same instant."""

    _last: tuple[Frame, Instant] | None = None

    def step(self, frame: Frame) -> Instant:
        """Return the market as the frame sees it."""
        if self._last is None or self._last[0] is not frame:
            self._last = frame, super().step(frame)
        return self._last[1]


class Witness:
    """The exhaustive policy and its screen, which keeps what an instant's decisions were taken on."""

    name = EXHAUSTIVE.name
    exact = True

    def __init__(self) -> None:
        self.seen: tuple[Int64Array, Evaluation] | None = None
        self._everyone: Screen

    def screen(self, sight: Sight) -> "Witness":
        """Return itself: there is one judge."""
        self._everyone = EXHAUSTIVE.screen(sight)
        return self

    def rows(self, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return whom the exhaustive policy decides."""
        self.seen = None
        return self._everyone.rows(instant, touched)

    def decided(self, instant: Instant, rows: Int64Array, evaluation: Evaluation) -> None:  # noqa: ARG002
        """Keep the numbers."""
        self.seen = rows, evaluation

    def work(self) -> Work:
        """Return what the exhaustive policy says."""
        return self._everyone.work()

    def violations(self, rows: Int64Array, evaluation: Evaluation) -> int:
        """Return what the exhaustive policy says."""
        return self._everyone.violations(rows, evaluation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is to be run.

    ``activity``, ``liquidations`` and ``open_orders`` are those of ``Activity``; ``models`` are dealt to accounts in
    turn, ``narrow`` lists what Derive's cover.
    """

    accounts: int
    path: str = "calm"
    hours: float = 1.0
    seed: int = 1
    tick_ns: int = SECOND_NS
    judge_every: int = 1
    activity: float = 1.0
    liquidations: bool = True
    open_orders: float = 0.0
    models: tuple[str, ...] = MODELS
    narrow: bool = False


def path_of(run: Run) -> MarketPath:
    """Return the path of a run.

    Raises
    ------
    WrongInputError : it is of a recorded day, and its files are not there.
    """
    recorded = RECORDED.get(run.path)
    if recorded is not None:
        return recorded(hours=run.hours, seed=run.seed, tick_ns=run.tick_ns, narrow=run.narrow)
    return Path(run.path, hours=run.hours, seed=run.seed, tick_ns=run.tick_ns, narrow=run.narrow)


def judged_run(
    run: Run, policy: ScreeningPolicy, show: Callable[[str, int, int, int], None] = lambda what, done, total, bad: None
) -> Report:
    """Build the book, let the path happen, and hold the policy against the judge.

    Parameters
    ----------
    show : called with what is done, how much of how much, and how many differences there are.
    """
    return _Judged(run, policy, show).report()


class _Judged:
    def __init__(self, run: Run, policy: ScreeningPolicy, show: Callable[[str, int, int, int], None]) -> None:
        self._run = run
        self._name = policy.name
        self._path = path_of(run)
        self._frames = Frames()
        models = margin_models()
        self._market = OneMarket(models)
        self._witness = Witness()
        policies = (policy, self._witness) if run.judge_every == 1 else (policy,)
        self._policy, *others = [
            Risk(
                self._market, Book(range(SHARDS), shard_count=SHARDS, models=tuple(models)), models=models, screening=it
            )
            for it in policies
        ]
        self._judge = others[0] if others else None
        self._shadow = Shadow(1.0)
        self._ticks = Ticks()
        self._reporting: list[float] = []
        self._clock = StateClock(HOUR_NS)
        self._changes: Counter[str] = Counter()
        self._differences = 0
        self._first: Difference | None = None
        self._show = show

    def report(self) -> Report:
        """Run, and return what was found."""
        builder = BookBuilder(
            self._path, self._frames, self._policy, self._take, models=self._run.models, seed=self._run.seed,
            show=lambda done, total: self._show("building", done, total, self._differences),
        )  # fmt: skip
        builder.build(self._run.accounts)
        activity = Activity(
            self._path, rate=self._run.activity, liquidations=self._run.liquidations,
            open_orders=self._run.open_orders, seed=self._run.seed,
        )  # fmt: skip
        rested = activity.opening(self._path.start_ns, self._policy.book)
        if rested is not None:
            self._take(self._frames.frame(self._path.start_ns, legs=rested))
            self._take(self._frames.barrier(self._path.start_ns))
        self._changes.clear()
        for risk in (self._policy, self._judge):
            if risk is not None:
                risk.diagnostics = Diagnostics()
        for tick, (now_ns, records) in enumerate(self._path, 1):
            instant = self._policy.instant
            assert instant is not None
            legs = activity.legs(now_ns, instant, self._policy.book)
            self._tick(self._frames.frame(now_ns, [*records, *activity.market(tick)], legs))
            if self._judge is None and tick % self._run.judge_every == 0:
                self._judge_all()
            if tick % PERIOD_TICKS == 0 or tick == self._path.ticks:
                self._close_period(self._frames.barrier(now_ns), last=tick == self._path.ticks)
            self._show("judging", tick, self._path.ticks, self._differences)
        return self._reported()

    def _take(self, frame: Frame) -> None:
        """Take a frame that is not timed; compare what it publishes."""
        period = self._policy.step(frame)
        judged = self._judge.step(frame) if self._judge is not None else period
        if period is None:
            return
        assert judged is not None
        changed = judged.results[judged.results["kind"] == ResultKind.TIER_CHANGED]
        self._changes.update(Tier(tier).name.lower() for tier in changed["tier_to"].tolist())
        if self._judge is not None:
            self._compare(period, judged)

    def _close_period(self, barrier: Frame, *, last: bool) -> None:
        self._take(barrier)
        if self._clock.is_due(barrier, last=last):
            started = time.process_time()
            state_of(self._policy, self._policy.models)
            self._reporting.append(time.process_time() - started)

    def _tick(self, frame: Frame) -> None:
        started = time.process_time()
        self._market.step(frame)
        priced = time.process_time()
        self._policy.step(frame)
        decided = time.process_time()
        self._ticks.market.append(priced - started)
        self._ticks.policy.append(decided - priced)
        self._ticks.hot.append(self._policy.diagnostics.hot_accounts)
        if self._judge is not None:
            started = time.process_time()
            self._judge.step(frame)
            self._ticks.judge.append(time.process_time() - started)
            if self._witness.seen is not None:
                self._policy.take_evaluation(*self._witness.seen)

    def _judge_all(self) -> None:
        instant = self._policy.instant
        assert instant is not None
        started = time.process_time()
        found = self._policy.judge(self._shadow)
        self._ticks.judge.append(time.process_time() - started)
        if found is not None:
            row, what = found
            self._differ(1, Difference(instant.frame, account_id(int(self._policy.book.account[row])), what))

    def _compare(self, period: Period, judged: Period) -> None:
        if period.results.tobytes() != judged.results.tobytes():
            self._differ(*_first_row(period.results, judged.results))
        elif period.deltas.tobytes() != judged.deltas.tobytes() or period.state_hash != judged.state_hash:
            self._differ(1, Difference(period.barrier.number, "", "deltas or state hashes differ"))

    def _differ(self, count: int, difference: Difference) -> None:
        self._differences += count
        self._first = self._first or difference

    def _reported(self) -> Report:
        run, ticks = self._run, self._path.ticks
        diagnostics = replace(self._policy.diagnostics, residence=self._policy.residence())
        book = self._policy.book
        return Report(
            policy=self._name,
            path=run.path,
            synthetic=self._path.synthetic,
            accounts=run.accounts,
            positions=int(book.positions.count[book.customer_rows].sum()),
            ticks=ticks,
            judged_ticks=len(self._ticks.judge),
            differences=self._differences,
            first_difference=self._first,
            evaluated_share=diagnostics.evaluations / ticks / run.accounts,
            placed_share=diagnostics.placements / ticks / run.accounts,
            work_saved=diagnostics.exhaustive_evaluations / max(1, diagnostics.evaluations),
            hot_accounts_mean=statistics.fmean(self._ticks.hot),
            hot_accounts_max=max(self._ticks.hot),
            reporting_evaluations=run.accounts * len(self._reporting),
            reporting_ms=1e3 * statistics.fmean(self._reporting),
            tier_changes=dict(sorted(self._changes.items())),
            cost=cost_of(self._ticks),
            diagnostics=diagnostics,
            peak_memory_gib=peak_memory_gib(),
        )


def _first_row(rows: Results, judged: Results) -> tuple[int, Difference]:
    """Return how many rows only one of them has, and the first."""
    mine, theirs = ({row.tobytes(): row for row in part} for part in (rows, judged))
    alone = [(row, "policy") for data, row in mine.items() if data not in theirs]
    alone += [(row, "judge") for data, row in theirs.items() if data not in mine]
    assert alone, "the same rows in another order: the order itself is broken"
    row, whose = min(alone, key=lambda found: (int(found[0]["frame"]), int(found[0]["account"]), found[1]))
    account = int(row["account"])
    said: dict[str, Any] = {
        name: row[name].item() for name in RESULT.names or () if name not in ("frame", "account") and row[name]
    }
    said["kind"] = ResultKind(row["kind"]).name.lower()
    name = "" if account == MARKET else account_id(account)
    return len(alone), Difference(int(row["frame"]), name, f"only the {whose} says {said}")
