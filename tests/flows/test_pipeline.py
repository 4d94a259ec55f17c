"""The pipeline publishes the same on every engine, process count, shard count and from every checkpoint."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from flows.intake.ledger import Intake
from flows.intake.stage import IntakeStage
from flows.margin.registry import margin_models
from flows.market.step import Market
from flows.passages import EventBatch
from flows.pipeline import Stages, run_plain
from flows.risk.stage import LocalRisk, StateClock
from flows.risk.step import Risk
from flows.screening.exhaustive import POLICY
from flows.settlement.stage import SettlementStage
from flows.settlement.step import Settlement
from flows.snapshot.stage import SnapshotStage
from flows.snapshot.step import Snapshot
from infra.run.engines import run_bytewax
from infra.run.pool import RiskPool, WorkerFailed
from schemas.events import Event
from schemas.ledger import decode_frame
from schemas.results import ResultKind, Tier
from tests.builders import (
    EXPIRY_NS,
    TIME_NS,
    a_fill,
    a_forward,
    a_funding_rate,
    a_future,
    a_price,
    a_settlement_price,
    a_smile,
    a_transfer,
    a_venue,
    a_withdrawal,
    an_account,
    an_option,
    open_orders,
)
from tests.flows.running import SECOND_NS, Published, arrivals, batches_of, run, some_stages, with_risk

SNAPSHOT_NS = 60 * SECOND_NS


def a_bad_day() -> list[Event]:
    """Return a short log with everything in it: a crash, a recovery, an expiry, withdrawals, open orders, and so on."""
    events = [*a_venue(), an_option(), a_future()]
    rng = np.random.Generator(np.random.PCG64(7))
    for i in range(24):
        model = ("tidegate-standard", "tidegate-portfolio")[i % 2]
        mode = "isolated" if i % 5 == 0 else "cross"
        events.append(an_account(f"trader-{i}", number=10 + i, margin_model=model, margin_mode=mode))
        events.append(a_transfer(str(2_000 + 500 * i), account=f"trader-{i}", number=10 + i))
    number = 100
    for second in range(120):
        time_ns = TIME_NS + (second + 1) * SECOND_NS
        spot = 50_000 - 250 * min(second, 50) + 150 * max(0, second - 70)
        events.append(a_price(str(spot), number=number, time_ns=time_ns, publish_time_ns=time_ns))
        if second % 10 == 0:
            events.append(a_smile(number=number, time_ns=time_ns))
            events.append(a_forward(str(spot + 20), number=number, time_ns=time_ns))
            events.append(a_price("1", feed="USDC/USD", confidence="0", number=number + 1, time_ns=time_ns,
                                  publish_time_ns=time_ns))  # fmt: skip
        if second % 30 == 29:
            events.append(a_funding_rate("0.0001", number=number, time_ns=time_ns))
        for _ in range(3):
            buyer, seller = rng.choice(24, 2, replace=False)
            names = {"buyer": f"trader-{buyer}", "seller": f"trader-{seller}"}
            if rng.random() < 0.2:
                names["seller"] = "house"
            kind = rng.integers(3)
            if kind == 0:
                fill = a_fill(number=number, time_ns=time_ns + 1, price=str(spot), quantity="0.1", **names)
            elif kind == 1:
                fill = a_fill(number=number, time_ns=time_ns + 1, price="1500", quantity="0.1",
                              instrument="BTC-20MAR26-50000-C", **names)  # fmt: skip
            else:
                fill = a_fill(number=number, time_ns=time_ns + 1, price=str(spot), quantity="0.05",
                              instrument="BTC-20MAR26", **names)  # fmt: skip
            events.append(fill)
            number += 3
        for place in range(2):
            # Told anew every few seconds: some grow, some are gone, and some are open when their instrument expires.
            instrument = ("BTC-PERP", "BTC-20MAR26", "BTC-20MAR26-50000-C")[(second + place) % 3]
            buys, sells = f"0.{second % 4}", f"0.{(second // 4 + place) % 3}"
            account = f"trader-{(second * 5 + place) % 24}"
            events.append(
                open_orders(
                    buys, sells, account=account, instrument=instrument, number=number + place, time_ns=time_ns + 1
                )
            )
        if second % 15 == 7:
            events.append(a_withdrawal("1500", account=f"trader-{second % 24}", number=number, time_ns=time_ns + 2))
    events.append(a_settlement_price("43000", time_ns=EXPIRY_NS))
    return events


@pytest.fixture(scope="module")
def day() -> list[Event]:
    """The day's events."""
    return a_bad_day()


@pytest.fixture(scope="module")
def judged(day: list[Event]) -> Published:
    """What the plain engine publishes of it in one process."""
    return run(day)


def test_the_day_has_everything_that_the_identities_below_are_about(judged: Published) -> None:
    """An identity of two empty runs would prove nothing."""
    kinds = {ResultKind(kind) for kind in judged.all_results()["kind"]}
    tiers = {Tier(tier) for tier in judged.of(ResultKind.TIER_CHANGED)["tier_to"]}

    assert not judged.dead_letters or {letter.reason.value for letter in judged.dead_letters} == {"isolated_account"}
    assert kinds >= {
        ResultKind.TIER_CHANGED,
        ResultKind.ORDER_OPENED,
        ResultKind.ORDER_CANCELLED,
        ResultKind.WITHDRAWAL_ACCEPTED,
        ResultKind.WITHDRAWAL_REFUSED,
        ResultKind.FUNDING_PAID,
        ResultKind.EXPIRY_SETTLED,
    }
    assert tiers >= {Tier.HEALTHY, Tier.WATCH, Tier.WARNING, Tier.LIQUIDATING}
    assert len(judged.batches) > 50
    assert {file.table for file in judged.files} >= {"accounts", "positions", "greeks", "tier_changes", "batches"}


@pytest.mark.parametrize("shard_count", [1, 16, 64])
def test_shard_count_changes_nothing(day: list[Event], judged: Published, shard_count: int) -> None:
    """Shards are a unit of assignment, not of meaning."""
    assert run(day, shard_count=shard_count).digest() == judged.digest()


@pytest.mark.parametrize("batch", [1, 7, 100_000])
def test_batching_of_input_changes_nothing(day: list[Event], judged: Published, batch: int) -> None:
    """Frames are decided by events, not by how they were read."""
    assert run(day, batch=batch).digest() == judged.digest()


def test_bytewax_publishes_what_the_plain_loop_publishes(day: list[Event], judged: Published) -> None:
    """The engine is replaceable: byte for byte, frames included."""
    published = Published()

    run_bytewax(batches_of(arrivals(day), 100), some_stages(), published.take)

    assert published.digest() == judged.digest()
    assert published.frames == judged.frames


@pytest.mark.parametrize("worker_count", [2, 4])
def test_process_count_changes_nothing(day: list[Event], judged: Published, worker_count: int) -> None:
    """Workers take the shards between them; what is merged is what one process says."""
    published = Published()

    with RiskPool(
        worker_count=worker_count, shard_count=4, clock=StateClock(SNAPSHOT_NS), screening="exhaustive"
    ) as pool:
        run_plain(batches_of(arrivals(day), 1_000), with_risk(some_stages(), pool), published.take)

    assert published.digest() == judged.digest()


def test_a_killed_worker_ends_the_run_with_its_reason(day: list[Event]) -> None:
    """A run without a worker must not go on with the others' answers."""
    batches = batches_of(arrivals(day), 50)

    with RiskPool(worker_count=2, shard_count=4, clock=StateClock(SNAPSHOT_NS), screening="exhaustive") as pool:
        stages = with_risk(some_stages(), pool)
        run_plain(batches[:3], stages, Published().take)
        pool.processes[1].kill()
        with pytest.raises(WorkerFailed, match="code -9"):
            run_plain(batches[3:], stages, Published().take)


def resumed(published: Published, place: int, inputs: Sequence[EventBatch], shards: Sequence[int]) -> Stages:
    """Return stages restored from the checkpoints of a barrier."""
    shown = published.checkpoints[place]
    decided = shown.settled.decided
    assert decided.checkpoint is not None
    assert decided.written.checkpoint is not None
    assert shown.settled.checkpoint is not None
    assert shown.checkpoint is not None
    models = margin_models()
    risk = Risk.restore(
        decided.checkpoint.market,
        [decided.checkpoint.shards[shard] for shard in shards],
        shard_count=len(decided.checkpoint.shards),
        models=models,
        screening=POLICY,
    )
    clock = StateClock(SNAPSHOT_NS, decided.checkpoint.state_period)
    snapshot = Snapshot()
    snapshot.restore(shown.checkpoint)
    listings = Market.restore(Risk.market_checkpoint(decided.checkpoint.market)).listings
    return Stages(
        IntakeStage(Intake.restore(decided.written.checkpoint), checkpoint_due=lambda: False, is_new=False),
        LocalRisk(risk, clock=clock, previous=decided.frames[-1]),
        SettlementStage(Settlement.restore(shown.settled.checkpoint)),
        SnapshotStage(snapshot, replace(listings)),
    )


def test_every_checkpoint_continues_to_the_same_bytes(day: list[Event], judged: Published) -> None:
    """Any barrier is a place to stop: what follows is what would have followed."""
    inputs = arrivals(day)
    whole = Published()
    run_plain(batches_of(inputs, 1_000), some_stages(checkpoints=True), whole.take)
    assert whole.digest() == judged.digest()
    barriers = [shown.settled.decided.frames[-1] for shown in whole.checkpoints]

    for place in range(0, len(barriers), 9):
        stages = resumed(whole, place, [], [3, 1, 0, 2])
        rest = Published()
        assert isinstance(stages.intake, IntakeStage)
        taken = stages.intake.intake.positions["log:0"]
        remaining = [arrival for arrival in inputs if arrival[4] > taken]
        run_plain(batches_of(remaining, 1_000), stages, rest.take)

        last = barriers[place].number
        expected = whole.all_results()
        assert rest.all_results().tobytes() == expected[expected["frame"] > last].tobytes()
        assert rest.frames == [data for data in whole.frames if decode_frame(data).number > last]
        assert [batch.number for batch in rest.batches] == [
            batch.number for batch in whole.batches if batch.last_frame > last
        ]
        assert [b.new_root for b in rest.batches] == [b.new_root for b in whole.batches if b.last_frame > last]


def test_cash_and_positions_sum_to_zero_at_the_end(day: list[Event]) -> None:
    """Conservation, exactly, over every account with house, fees and bridge."""
    stages = some_stages()

    run_plain(batches_of(arrivals(day), 1_000), stages, Published().take)

    totals = stages.settlement.settlement.totals()
    assert totals
    assert all(total == 0 for total in totals.values())
