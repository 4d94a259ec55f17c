"""The simulator makes what it says, and its judge sees what a policy misses."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest

from flows.margin.registry import margin_models
from flows.market.step import Market
from flows.risk.book import Book
from flows.risk.step import Period, Risk
from flows.screening.exhaustive import POLICY
from schemas.ids import FIRST_ACCOUNT_NUMBER, SYSTEM_ACCOUNTS
from schemas.ledger import Frame, MarketRecord, PriceRecord, SettlementRecord, SviRecord
from schemas.results import DeltaKind, Tier
from tests.flows.screening.faulty import ForgetsOrders, MissesAccount, ViolatesBound
from tests.simulator.books import BLOCK, STYLES, BookBuilder, NotCovered, holdings
from tests.simulator.frames import SHARDS, Frames
from tests.simulator.judged import Run, judged_run
from tests.simulator.paths import COURSES, Path
from tests.simulator.report import Report
from tests.simulator.venue import HOUR_NS, fifty_underlyings, two_underlyings

SMALL = Run(accounts=120, path="crash", hours=1 / 30, seed=3, activity=2.0)


def a_book(accounts: int, path: Path) -> tuple[Risk, list[Period]]:
    """Build a book; return it with everything that it published on the way."""
    models = margin_models()
    book = Book(range(SHARDS), shard_count=SHARDS, models=tuple(models))
    risk = Risk(Market(models), book, models=models, screening=POLICY)
    periods: list[Period] = []

    def take(frame: Frame) -> None:
        period = risk.step(frame)
        if period is not None:
            periods.append(period)

    BookBuilder(path, Frames(), risk, take, seed=1).build(accounts)
    return risk, periods


@pytest.fixture(scope="module")
def built() -> tuple[Risk, list[Period]]:
    """A book of 4,000 accounts before a calm day."""
    return a_book(4_000, Path("calm", hours=1.0, seed=1))


@pytest.fixture(scope="module")
def report() -> Report:
    """A small crash, exhaustively decided, judged at every tick."""
    return judged_run(SMALL, POLICY)


def test_the_venues_have_about_five_hundred_instruments() -> None:
    """Fails where a venue lacks a kind or a payoff of instrument, or grows out of proportion."""
    deep, shallow = two_underlyings(), fifty_underlyings()

    assert len(deep.instruments) == 492
    assert len(shallow.instruments) == 500
    assert {(it.kind, it.payoff) for it in deep.instruments} == {
        (kind, payoff) for kind in ("perpetual", "future", "option") for payoff in ("linear", "inverse")
    }
    names = [it.instrument for it in [*deep.instruments, *shallow.instruments]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("venue", [two_underlyings(), fifty_underlyings()], ids=["two", "fifty"])
def test_accounts_hold_five_to_twenty_different_instruments(venue: Any) -> None:
    """Fails where an account has too few or many positions, two of one instrument, or a style that nobody has."""
    held = holdings(venue, 0, BLOCK, 1)

    counts = np.bincount(held.account)
    assert (counts.min(), counts.max()) == (5, 20)
    assert abs(counts.mean() - 12.5) < 0.1
    assert np.unique(held.account * 1_000 + held.instrument).shape == held.account.shape
    assert set(held.style) == set(range(len(STYLES)))
    assert (held.lots != 0).all()
    assert 0.01 < held.isolated.mean() < 0.05 or venue.underlyings[0] == "U00"


def test_an_account_does_not_depend_on_how_many_there_are() -> None:
    """Fails where a larger book is another book, or another seed the same."""
    venue = two_underlyings()
    few, many = holdings(venue, 2, 10, 1), holdings(venue, 2, 1_000, 1)
    other = holdings(venue, 2, 10, 2)

    kept = many.account < 10
    assert np.array_equal(few.instrument, many.instrument[kept])
    assert np.array_equal(few.lots, many.lots[kept])
    assert few.lots.tolist() != other.lots.tolist()


def test_one_account_in_a_hundred_is_near_its_maintenance_margin(built: tuple[Risk, list[Period]]) -> None:
    """Fails where the book is not as close to its boundaries as it is said to be."""
    risk, _ = built
    evaluation = risk.evaluate(risk.book.customer_rows)
    over = evaluation.equity / evaluation.maintenance_margin

    assert not evaluation.undecidable.any()
    assert 0.007 < ((over >= 0.999) & (over <= 1.05)).mean() < 0.014
    assert (risk.book.tier[risk.book.customer_rows] >= Tier.LIQUIDATING).mean() < 0.003
    assert 0.9 < (risk.book.tier[risk.book.customer_rows] == Tier.HEALTHY).mean() < 0.97


def test_a_book_sums_to_zero(built: tuple[Risk, list[Period]]) -> None:
    """Fails where a fill has one side only, or money comes from nowhere."""
    _, periods = built
    deltas = np.concatenate([period.deltas for period in periods])

    for kind in DeltaKind:
        of_kind = deltas[deltas["kind"] == int(kind)]
        sums = np.zeros(int(of_kind["market"].max()) + 1, np.int64)
        np.add.at(sums, of_kind["market"], of_kind["amount"])
        assert of_kind.shape[0] > 1_000
        assert not sums.any()
    assert set(deltas["account"][deltas["account"] < FIRST_ACCOUNT_NUMBER]) <= set(range(len(SYSTEM_ACCOUNTS)))


def prices(records: Sequence[MarketRecord], feed: str) -> list[float]:
    """Return a feed's prices."""
    return [record.price for record in records if isinstance(record, PriceRecord) and record.feed == feed]


def all_records(name: str, hours: float, tick_ns: int) -> list[MarketRecord]:
    """Return every record of a path's ticks."""
    return [record for _, records in Path(name, hours=hours, seed=1, tick_ns=tick_ns) for record in records]


def test_a_crash_falls_by_thirty_percent_with_gaps() -> None:
    """Fails where the crash is none: its depth, its gaps of a tick, and its vols."""
    records = all_records("crash", 3.0, 5_000_000_000)
    spot = np.array(prices(records, "BTC/USD"))
    vols = [
        np.sqrt((it.a + it.b * it.sigma) / it.time_to_expiry)
        for it in records
        if isinstance(it, SviRecord) and it.underlying == "BTC"
    ]

    assert 0.6 < spot[-1] / spot[0] < 0.8
    assert np.sort(np.diff(np.log(spot)))[:3].max() < -0.03
    assert 1.6 < vols[-1] / vols[0] < 2.3


def test_courses_do_what_they_are_named_for() -> None:
    """Fails where vols do not double or collapse, or the dollar coin keeps its dollar."""
    ends = {}
    for name in ("calm", "vol-doubling", "vol-crush"):
        smiles = [it for it in all_records(name, 2.0, 10_000_000_000) if isinstance(it, SviRecord)]
        ends[name] = np.sqrt(smiles[-1].a / smiles[-1].time_to_expiry / (smiles[0].a / smiles[0].time_to_expiry))

    assert 0.8 < ends["calm"] < 1.25
    assert 1.7 < ends["vol-doubling"] < 2.4
    assert 0.38 < ends["vol-crush"] < 0.55
    dollar = prices(all_records("depeg", 1.0, 10_000_000_000), "USDC/USD")
    assert min(dollar) < 0.885
    assert dollar[-1] > 0.99


def test_one_of_fifty_jumps_alone() -> None:
    """Fails where another underlying moves, or the one does not jump 5 % at every tick."""
    path = Path("lone-jump", hours=0.05, seed=1)
    opening = path.opening()
    records = [record for _, tick in path for record in tick]

    jumped = np.array(prices(records, "U07/USD"))
    assert jumped.shape[0] == path.ticks
    assert np.abs(np.diff(np.log(jumped))).min() == pytest.approx(0.05)
    assert set(prices(records, "U08/USD")) == set(prices(opening, "U08/USD"))


def test_an_expiry_pays_out_in_the_middle_of_its_path() -> None:
    """Fails where the first expiry is not met, or is told twice."""
    path = Path("expiry", hours=1.0, seed=1)
    settled = [
        (now_ns, record.underlying)
        for now_ns, records in path
        for record in records
        if isinstance(record, SettlementRecord)
    ]

    assert [now_ns for now_ns, _ in settled] == [path.start_ns + HOUR_NS // 2] * 2
    assert {underlying for _, underlying in settled} == {"BTC", "ETH"}


def test_the_judge_agrees_with_itself(report: Report) -> None:
    """Fails where two exhaustive books upon one market part, or a crash leaves everyone as they were."""
    assert report.differences == 0
    assert report.first_difference is None
    assert report.evaluated_share == 1.0
    assert report.judged_ticks == report.ticks == 120
    assert report.work_saved == 1.0
    assert report.hot_accounts_max == SMALL.accounts
    assert sum(report.tier_changes.values()) > 50
    assert report.tier_changes["liquidating"] > 5


def test_a_run_follows_from_its_seed(report: Report) -> None:
    """Fails where the same seed is another run, or another seed the same."""
    again, other = judged_run(SMALL, POLICY), judged_run(Run(accounts=120, path="crash", hours=1 / 30, seed=4), POLICY)

    assert again.tier_changes == report.tier_changes
    assert again.positions == report.positions
    assert other.tier_changes != report.tier_changes


@pytest.mark.parametrize("name", COURSES)
def test_every_path_is_judged_alike(name: str) -> None:
    """Fails where a course ends in a fault, or its sampled judging finds a difference in the judge's own decisions."""
    report = judged_run(Run(accounts=40, path=name, hours=1 / 60, judge_every=5), POLICY)

    assert report.differences == 0
    assert report.judged_ticks == 12


@pytest.mark.parametrize("model", ["deribit-standard", "deribit-pm", "derive-srm", "derive-pmrm2"])
def test_books_stand_under_the_venues_models(model: str) -> None:
    """Fails where a book cannot be built under a model that is installed, or where nothing happens to it."""
    run = Run(accounts=40, path="crash", hours=1 / 60, models=(model,), narrow=model.startswith("derive"))

    report = judged_run(run, POLICY)

    assert report.differences == 0
    assert sum(report.tier_changes.values()) > 10


def test_a_model_that_does_not_cover_a_book_is_named() -> None:
    """Fails where a book under a model without a requirement for it is built all the same, of who knows what."""
    with pytest.raises(NotCovered, match="dydx-v4 has no requirement for account a8's positions"):
        judged_run(Run(accounts=10, models=("dydx-v4",)), POLICY)


@pytest.mark.parametrize("judge_every", [1, 4])
def test_a_missed_account_is_found_and_named(judge_every: int) -> None:
    """Control: a policy that leaves out one account whose tier must change is caught, at the account."""
    run = Run(accounts=20, path="crash", hours=1 / 30, seed=3, activity=0.0, judge_every=judge_every)
    number = FIRST_ACCOUNT_NUMBER + 14

    report = judged_run(run, MissesAccount(number))

    assert report.differences > 0
    assert report.first_difference is not None
    assert report.first_difference.account == f"a{number}"
    assert report.evaluated_share < 1.0
    assert judged_run(run, POLICY).differences == 0


@pytest.mark.parametrize(("judge_every", "judged"), [(1, 120), (4, 30)])
def test_a_violated_bound_is_counted(judge_every: int, judged: int) -> None:
    """Control: a bound that excludes what an account comes to is seen at every judged tick."""
    run = Run(accounts=20, path="crash", hours=1 / 30, seed=3, activity=0.0, judge_every=judge_every)

    report = judged_run(run, ViolatesBound())

    assert report.differences == 0
    assert report.diagnostics.bound_violations == judged


@pytest.mark.parametrize("judge_every", [1, 4])
def test_forgotten_orders_are_found(judge_every: int) -> None:
    """Control: a policy that never looks again at who has orders is caught."""
    run = Run(accounts=60, path="crash", hours=1 / 30, seed=3, activity=0.0, judge_every=judge_every)

    assert judged_run(run, ForgetsOrders()).differences > 0


def test_the_command_reports_and_exits_as_it_found() -> None:
    """Fails where the command's JSON lacks what a campaign reads, or a sound run does not exit with 0."""
    command = [sys.executable, "-m", "tests.simulator", "--accounts", "30", "--path", "depeg", "--hours", "0.02"]

    finished = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=True, cwd=FilePath(__file__).resolve().parents[2]
    )

    found = json.loads(finished.stdout)
    assert found["differences"] == 0
    assert {"market", "policy", "judge"} == set(found["cost"]["median_ms"]) == set(found["cost"]["mean_ms"])
    assert found["reporting_evaluations"] == 60  # at the first barrier of an hour, and at the end
    assert "judging 72/72 (100%)" in finished.stderr


def test_a_campaign_prints_a_line_for_each_path() -> None:
    """Fails where a path is left out, or the table cannot be made of what a run reports."""
    command = [sys.executable, "-m", "tests.simulator.campaign", "--size", "30", "--hours", "0.01", "--policy", "boxes"]

    finished = subprocess.run(
        [*command, "--paths", "calm", "depeg"], capture_output=True, text=True, check=True,
        cwd=FilePath(__file__).resolve().parents[2],
    )  # fmt: skip

    *_, calm, depeg = finished.stdout.splitlines()
    assert (calm.split()[:4], depeg.split()[:4]) == (["calm", "36", "0", "0"], ["depeg", "36", "0", "0"])
