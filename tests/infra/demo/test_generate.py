"""The demo day: same bytes, right order, and the story that it promises."""

from collections import Counter
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zstandard

from flows.intake.decode import Stream, decode_lines
from flows.intake.ledger import Intake
from infra.demo.generate import DemoDay, Summary, generate
from infra.demo.market import market_path
from infra.demo.venue import listings
from schemas.events import TYPE_RANK, AnyEvent, Collateral, Event, Fill, InstrumentListed, OraclePrice, OracleVol
from schemas.failures import FailureReason
from schemas.ledger import Genesis
from schemas.money import fraction

SEED, ACCOUNTS, HOURS = 5, 150, 1.5
# The bytes of this small day. They change only together with MODEL_VERSION.
DIGEST = "0504afad3d65007f3f52b86f325d3db08cf10d4d3a4ce2f9e736c2c75df73051"


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, list[bytes]]:
    """One small day: its summary and its lines."""
    path = tmp_path_factory.mktemp("day") / "day.ndjson"
    summary = generate(path, seed=SEED, accounts=ACCOUNTS, hours=HOURS)
    return summary, path.read_bytes().split(b"\n")[:-1]


def decoded(lines: list[bytes]) -> list[Event]:
    """Return the events of the lines that are events."""
    events: list[Event] = []
    for line in lines:
        try:
            events.append(msgspec.json.decode(line, type=AnyEvent))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
    return events


def test_the_same_seed_gives_the_recorded_bytes(day: tuple[Summary, list[bytes]]) -> None:
    """Fails where the model changed without its version, or depends on anything but its arguments."""
    summary, lines = day

    again = sha256()
    for block in DemoDay(seed=SEED, accounts=ACCOUNTS, hours=HOURS).lines():
        again.update(b"".join(line + b"\n" for line in block))

    assert again.hexdigest() == summary.sha256 == sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
    assert summary.sha256 == DIGEST


def test_another_seed_gives_another_day() -> None:
    """Fails where the seed is not used."""
    first, second = (DemoDay(seed=seed, accounts=20, hours=0.5) for seed in (1, 2))

    lines = [list(one.lines()) for one in (first, second)]

    assert lines[0] != lines[1]
    assert first.summary().sha256 != second.summary().sha256


def test_a_compressed_log_holds_the_same_lines(day: tuple[Summary, list[bytes]], tmp_path: Path) -> None:
    """Fails where the compressed stream is not finished."""
    summary, lines = day
    path = tmp_path / "day.ndjson.zst"

    compressed = generate(path, seed=SEED, accounts=ACCOUNTS, hours=HOURS)

    with path.open("rb") as file:
        data = zstandard.ZstdDecompressor().stream_reader(file).read()
    assert compressed == summary
    assert [one.name for one in tmp_path.iterdir()] == ["day.ndjson.zst"]
    assert data.split(b"\n")[:-1] == lines


def test_events_leave_in_the_total_order(day: tuple[Summary, list[bytes]]) -> None:
    """Fails where a line is written before one that intake would put first."""
    _, lines = day
    # A time in milliseconds is one of the faults: intake refuses it by itself, without placing it.
    events = [event for event in decoded(lines) if event.event_time_ns > 10**18]

    keys = [(one.event_time_ns, TYPE_RANK[type(one)], one.source, one.source_sequence) for one in events]

    assert all(before <= after for before, after in pairwise(keys))


def test_the_summary_counts_what_was_written(day: tuple[Summary, list[bytes]]) -> None:
    """Fails where a count and the log disagree."""
    summary, lines = day

    identities = Counter(lines)
    tags = Counter(type(one).__struct_config__.tag for one in decoded(list(identities)))

    assert summary.lines == len(lines)
    assert summary.bytes == sum(len(line) + 1 for line in lines)
    assert summary.duplicates == len(lines) - len(identities)
    assert summary.duplicates > 0
    assert sum(summary.events.values()) + summary.duplicates + sum(summary.faults.values()) == summary.lines
    assert all(tags[tag] >= count for tag, count in summary.events.items())


def test_faults_cover_the_reasons_that_a_file_can_meet(day: tuple[Summary, list[bytes]]) -> None:
    """Fails where a reason for refusal is added without a fault that shows it."""
    summary, _ = day
    # An unreadable row needs a damaged file, and a record that is too old cannot stand in an ordered one.
    unreachable = {FailureReason.UNREADABLE_ROW, FailureReason.TOO_OLD}

    shown = {FailureReason(reason) for reason in summary.faults}

    assert shown == set(FailureReason) - unreachable


def test_intake_refuses_exactly_the_planted_faults(day: tuple[Summary, list[bytes]]) -> None:
    """Fails where a good event of the day is refused, or a fault is taken or called something else."""
    summary, lines = day
    genesis = Genesis(ledger_id="demo", settlement_period_ns=60_000_000_000)
    intake = Intake(genesis, shard_count=4, margin_models=["tidegate-standard", "tidegate-portfolio"])

    passages = list(intake.step(decode_lines(lines, Stream("day.ndjson"), 1)))

    refused = Counter(letter.reason.value for passage in passages for letter in passage.dead_letters)
    assert refused == summary.faults
    assert intake.counts.duplicates == summary.duplicates


def test_fills_stand_on_tick_and_lot(day: tuple[Summary, list[bytes]]) -> None:
    """Fails where a price or a quantity is not a whole number of steps, in any but the two planted fills."""
    events = decoded(day[1])
    listed = {one.instrument: one for one in events if isinstance(one, InstrumentListed)}
    fills = [one for one in events if isinstance(one, Fill) and not one.fill_id.startswith("faulty")]

    off = [
        one.fill_id
        for one in fills
        if fraction(one.price) % fraction(listed[one.instrument].tick_size)
        or fraction(one.quantity) % fraction(listed[one.instrument].lot_size)
        or fraction(one.price) <= 0
        or fraction(one.quantity) <= 0
    ]

    assert len(fills) > 50
    assert off == []


def test_an_isolated_account_trades_one_underlying(day: tuple[Summary, list[bytes]]) -> None:
    """Fails where the population breaks the rule that binds isolated accounts."""
    made = DemoDay(seed=SEED, accounts=2_000, hours=HOURS)
    listed = listings()

    underlyings = [
        {listed[instrument].underlying for instrument, _ in member.targets}
        for member in made.members
        if member.margin_mode.value == "isolated"
    ]

    assert len(underlyings) > 100
    assert all(len(one) <= 1 for one in underlyings)


def test_the_crash_is_as_deep_as_it_says() -> None:
    """Fails where the path does not fall by 25 to 33 %, or the morning does."""
    path = market_path(seed=3, minutes=1_440)
    passed = (path.time_ns - path.time_ns[0]) / path.duration_ns

    before, after = path.index[np.searchsorted(passed, 0.5) - 1], path.index[np.searchsorted(passed, 0.5625)]
    morning = path.index[passed < 0.5] / path.index[0]

    assert np.all((after / before > 0.67) & (after / before < 0.75))
    assert np.all((morning > 0.85) & (morning < 1.15))
    assert 12_000 <= len(path.time_ns) <= 20_000


def test_one_source_fails_and_the_others_do_not(day: tuple[Summary, list[bytes]]) -> None:
    """Fails where the failing source is not wrong, or the median of the three would be."""
    path = market_path(seed=3, minutes=1_440)

    error = np.abs(path.observed / path.index[:, None, :] - 1.0)
    median = np.abs(np.median(path.observed, axis=1) / path.index - 1.0)

    assert error[:, 1].max() > 8.0
    assert error[:, (0, 2)].max() < 0.01
    assert median.max() < 0.01


def test_smiles_are_free_of_butterfly_and_calendar_arbitrage(day: tuple[Summary, list[bytes]]) -> None:
    """Fails where a surface implies a negative density, or a total variance that falls with expiry."""
    smiles = [one for one in decoded(day[1]) if isinstance(one, OracleVol)]
    k = np.linspace(-1.0, 1.0, 401)

    densities, variances = [], {}
    for one in smiles:
        assert one.svi is not None
        a, b, rho, m, sigma = (float(getattr(one.svi, name)) for name in ("a", "b", "rho", "m", "sigma"))
        root = np.sqrt((k - m) ** 2 + sigma**2)
        w, slope, bend = a + b * (rho * (k - m) + root), b * (rho + (k - m) / root), b * sigma**2 / root**3
        densities.append(np.min((1 - k * slope / (2 * w)) ** 2 - slope**2 / 4 * (1 / w + 0.25) + bend / 2))
        variances[one.underlying, one.event_time_ns, one.expiry_ns] = a + b * (rho * -m + np.hypot(m, sigma))

    ordered = sorted(variances.items())
    pairs = [(first, second) for first, second in pairwise(ordered) if first[0][:2] == second[0][:2]]
    assert min(densities) >= 0.0
    assert all(first[1] <= second[1] for first, second in pairs)


def test_deposits_are_reverted_only_after_they_were_confirmed() -> None:
    """Fails where a transfer's statuses go backwards."""
    events = [one for block in DemoDay(seed=4, accounts=200, hours=1.0).lines() for one in decoded(block)]
    order = {"pending": 0, "confirmed": 1, "reverted": 2}

    statuses: dict[str, list[int]] = {}
    for one in events:
        # The faulty ones are separate.
        if isinstance(one, Collateral) and one.transfer_id.startswith("deposit"):
            statuses.setdefault(one.transfer_id, []).append(order[one.status])

    falling = [transfer for transfer, seen in statuses.items() if seen != sorted(seen)]
    assert falling == []
    assert [1, 2] in statuses.values()
    assert statuses["deposit-never-confirmed"] == [0, 2]


def test_stablecoin_feed_goes_silent_for_longer_than_a_price_may_be_old() -> None:
    """Fails where the day no longer shows what a stale feed does."""
    events = [one for block in DemoDay(seed=4, accounts=20, hours=20.0).lines() for one in decoded(block)]

    times = [one.event_time_ns for one in events if isinstance(one, OraclePrice) and one.feed == "USDT/USD"]

    assert max(after - before for before, after in pairwise(times)) > 300_000_000_000


@pytest.mark.parametrize(("accounts", "hours"), [(3, 1.0), (50, 0.1), (50, 100.0)])
def test_a_day_that_cannot_hold_the_plot_is_refused(accounts: int, hours: float) -> None:
    """Fails where a size outside the documented range is accepted."""
    with pytest.raises(ValueError, match="a demo day needs"):
        DemoDay(seed=1, accounts=accounts, hours=hours)
