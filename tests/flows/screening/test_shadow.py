"""The shadow sees a decision that was not taken, and changes none that was."""

from pathlib import Path

import pytest

from flows.pipeline import run_plain
from flows.risk.stage import LocalRisk, StateClock
from flows.screening.diagnostics import Diagnostics, together
from flows.screening.exhaustive import POLICY
from flows.screening.policy import ScreeningPolicy
from flows.screening.shadow import JudgedOtherwise, Shadow
from infra.run.pool import RiskPool
from schemas.events import Event
from schemas.results import ResultKind
from tests.builders import SECOND_NS, TIME_NS, a_fill, a_price, a_venue
from tests.flows.running import Published, arrivals, batches_of, run, some_stages, with_risk
from tests.flows.screening.faulty import ForgetsOrders, MissesAccount, ViolatesBound

# Alice is long 0.9 BTC on 10,000 USDC, of which 8,000 count: she falls through every tier; then her price is lost.
FALL: list[Event] = [
    *a_venue(),
    a_fill(quantity="0.9", time_ns=TIME_NS + 1),
    *[a_price(str(50_000 - 150 * n), number=n, time_ns=TIME_NS + n * SECOND_NS) for n in range(2, 90)],
    a_price("1", feed="USDC/USD", confidence="0", number=1_000, time_ns=TIME_NS + 400 * SECOND_NS),
]


def falls(screening: ScreeningPolicy, shadow: Shadow | None) -> tuple[Published, Diagnostics]:
    """Run the fall; return what it published and what it took."""
    published = Published()
    stages = some_stages(screening=screening, shadow=shadow)
    run_plain(batches_of(arrivals(FALL), 1_000), stages, published.take)
    return published, stages.risk.diagnostics


def test_a_shadowed_run_publishes_what_any_run_does() -> None:
    """Fails where judging changes a decision, or where a fall with tiers, orders and a suspension has none of them."""
    plain, _ = falls(POLICY, None)

    judged, diagnostics = falls(POLICY, Shadow(1.0))

    assert judged.digest() == plain.digest() == run(FALL).digest()
    assert diagnostics.shadowed_frames == diagnostics.instants > 80
    assert {ResultKind(kind) for kind in judged.all_results()["kind"]} >= {
        ResultKind.TIER_CHANGED, ResultKind.ORDER_OPENED, ResultKind.ORDER_GROWN, ResultKind.DECISION_SUSPENDED,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "what"),
    [
        (MissesAccount(), "account alice stands healthy where the judge says watch"),
        (ForgetsOrders(), "account alice has an order of -[0-9]+ lots of instrument 0 where the judge says -[0-9]+"),
    ],
)
def test_what_was_missed_is_named(policy: ScreeningPolicy, what: str) -> None:
    """Fails where an account that was left out in a falling market is not found at the frame where it changes."""
    with pytest.raises(JudgedOtherwise, match=f"^frame [0-9]+: {what}$"):
        falls(policy, Shadow(1.0))


def test_a_missed_suspension_is_named() -> None:
    """Fails where an account whose price was lost, and that was left out, is not found."""
    silence = [*a_venue(), a_fill(quantity="0.1", time_ns=TIME_NS + 1)]
    silence.append(a_price("1", feed="USDC/USD", confidence="0", number=1_000, time_ns=TIME_NS + 400 * SECOND_NS))
    stages = some_stages(screening=MissesAccount(), shadow=Shadow(1.0))

    with pytest.raises(JudgedOtherwise, match="alice is decided where the judge says that it waits for a price"):
        run_plain(batches_of(arrivals(silence), 1_000), stages, Published().take)


def test_without_a_shadow_the_same_miss_passes() -> None:
    """Control: what the shadow sees is nothing that something else would have seen."""
    published, diagnostics = falls(MissesAccount(), None)

    assert published.digest() != run(FALL).digest()
    assert diagnostics.shadowed_frames == 0
    assert diagnostics.evaluations < diagnostics.exhaustive_evaluations


def test_a_fraction_of_frames_is_judged() -> None:
    """Fails where the fraction is not what is judged, or where the frames of a smaller one are not among a larger."""
    tenth = {frame for frame in range(20_000) if Shadow(0.1).is_due(frame)}
    half = {frame for frame in range(20_000) if Shadow(0.5).is_due(frame)}

    assert abs(len(tenth) - 2_000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5
    assert abs(len(half) - 10_000) < 4 * (20_000 * 0.5 * 0.5) ** 0.5
    assert tenth < half
    assert not any(Shadow(0.0).is_due(frame) for frame in range(1_000))
    assert all(Shadow(1.0).is_due(frame) for frame in range(1_000))


def test_the_judge_evaluates_all_and_its_screen_says_so() -> None:
    """Fails where the exhaustive policy is counted as anything but 100 % of itself."""
    _, diagnostics = falls(POLICY, None)

    assert diagnostics.evaluations == diagnostics.exhaustive_evaluations > 150
    assert diagnostics.hot_accounts == 2
    assert diagnostics.worst_tick_ratio == 1.0
    assert diagnostics.bound_violations == 0


def test_diagnostics_come_from_the_screen() -> None:
    """Fails where placements, hot accounts or violations of a screen are dropped on the way."""
    _, diagnostics = falls(MissesAccount(), None)

    assert diagnostics.hot_accounts == 1
    assert diagnostics.bound_violations == 3 * diagnostics.instants
    assert diagnostics.worst_tick_ratio == 2.0  # two touched by the fill, and two placed


def test_a_violated_bound_is_counted_where_frames_are_judged() -> None:
    """Fails where the judge's numbers do not reach the screen, or its count is lost behind the next frame."""
    _, unjudged = falls(ViolatesBound(), None)
    judged, diagnostics = falls(ViolatesBound(), Shadow(0.5))

    assert judged.digest() == run(FALL).digest()
    assert unjudged.bound_violations == 0
    # Two frames list the venue, before alice is there.
    assert diagnostics.shadowed_frames - 4 <= diagnostics.bound_violations <= diagnostics.shadowed_frames
    assert diagnostics.bound_violations > 20


def test_workers_take_what_one_process_takes() -> None:
    """Fails where a process's counts are lost, or the worst of them is not the run's."""
    _, alone = falls(POLICY, None)

    with RiskPool(
        worker_count=2, shard_count=4, clock=StateClock(60 * SECOND_NS), screening="exhaustive", shadow=1.0
    ) as pool:
        run_plain(batches_of(arrivals(FALL), 1_000), with_risk(some_stages(), pool), Published().take)

    assert pool.diagnostics.evaluations == alone.evaluations
    assert pool.diagnostics.exhaustive_evaluations == alone.exhaustive_evaluations
    assert pool.diagnostics.hot_accounts == alone.hot_accounts
    assert pool.diagnostics.shadowed_frames == alone.instants
    assert together([]) == Diagnostics()


def test_a_worker_s_shadow_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a miss that a worker process found comes back as anything but a difference."""
    package = tmp_path / "faulty-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        "[tidegate.screening]\nmisses-account = tests.flows.screening.faulty:POLICY\n"
    )
    root = Path(__file__).resolve().parents[3]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}")

    with RiskPool(
        worker_count=2, shard_count=4, clock=StateClock(60 * SECOND_NS), screening="misses-account", shadow=1.0
    ) as pool:
        stages = with_risk(some_stages(), pool)
        with pytest.raises(JudgedOtherwise, match="account alice stands healthy where the judge says watch"):
            run_plain(batches_of(arrivals(FALL), 1_000), stages, Published().take)


def test_local_risk_tells_what_it_took() -> None:
    """Fails where the stage of one process does not hand its counts on."""
    stages = some_stages()

    run_plain(batches_of(arrivals(FALL), 1_000), stages, Published().take)

    assert isinstance(stages.risk, LocalRisk)
    assert stages.risk.diagnostics == stages.risk.risk.diagnostics
