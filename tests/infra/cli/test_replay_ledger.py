"""``tidegate replay --ledger``: what a ledger decides is a function of the ledger alone."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from infra.cli.main import app
from infra.demo.generate import DemoDay
from infra.files.ledger import LedgerWriter, WrittenLedger
from infra.run.replay import Options, Progress, replay
from infra.run.verify import verify
from schemas.events import Event
from schemas.ledger import Genesis
from tests.builders import SECOND_NS, TIME_NS, a_bust, a_fill, a_price, a_spot, a_venue

DECIDED = ["results.bin", "batches.bin"]
COUNTS = ["accepted", "fills", "busts", "transfers", "withdrawals", "open_orders", "frames", "barriers", "digest"]


def called(*arguments: str | Path) -> Result:
    """Call the command line."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def summary(result: Result) -> dict[str, Any]:
    """Return what a replay printed."""
    assert result.exit_code == 0, result.stderr
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of some hours of the demo's day, with all that is undone and refused in it."""
    folder = tmp_path_factory.mktemp("written")
    log = folder / "day.ndjson"
    lines = [line for block in DemoDay(seed=3, accounts=60, hours=3.0).lines() for line in block]
    log.write_bytes(b"\n".join(lines) + b"\n")
    summary(called("replay", log, "--out", folder / "run", "--json", "--shards", "8"))
    return folder / "run"


@pytest.mark.parametrize("options", [[], ["--workers", "2"], ["--engine", "bytewax"]], ids=["plain", "two", "bytewax"])
def test_a_ledger_decides_what_its_events_did(written: Path, tmp_path: Path, options: list[str]) -> None:
    """Fails where a byte of what was decided depends on intake, or a count that frames tell is not told."""
    again = summary(called("replay", "--ledger", written / "ledger", "--out", tmp_path / "again", "--json", *options))

    before = json.loads((written / "summary.json").read_text())
    assert {name: again[name] for name in COUNTS} == {name: before[name] for name in COUNTS}
    assert all((tmp_path / "again" / name).read_bytes() == (written / name).read_bytes() for name in DECIDED)
    assert verify(tmp_path / "again").difference is None
    assert before["dead_letters"] > again["dead_letters"] == 0


def test_spot_trades_and_busts_are_counted_as_events(tmp_path: Path) -> None:
    """Fails where a trade of two assets, which has four legs, counts as two."""
    events: list[Event] = [
        *a_venue(),
        a_spot(),
        a_fill(instrument="BTC/USDC", number=1, time_ns=TIME_NS + 1),
        a_fill(number=2, time_ns=TIME_NS + 2),
        a_bust(fill_id="fill-1", number=3, time_ns=TIME_NS + 3),
        *[a_price(str(50_000 + n), number=n, time_ns=TIME_NS + n * SECOND_NS) for n in range(2, 80)],
    ]
    log = tmp_path / "spot.ndjson"
    log.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))
    before = summary(called("replay", log, "--out", tmp_path / "run", "--chain", "none", "--json"))

    ledger = tmp_path / "run" / "ledger"
    again = summary(called("replay", "--ledger", ledger, "--out", tmp_path / "again", "--chain", "none", "--json"))

    assert (before["fills"], before["busts"]) == (2, 1)
    assert {name: again[name] for name in COUNTS} == {name: before[name] for name in COUNTS}


class _StopError(Exception):
    pass


def test_it_resumes_where_it_was_stopped(written: Path, tmp_path: Path) -> None:
    """Fails where a stop, anywhere, changes a byte; or where nothing was there to resume."""
    options = Options(
        inputs=[], out=tmp_path / "again", genesis=Genesis(ledger_id=""), ledger=written / "ledger", commit_seconds=0.0
    )
    left = 40

    def stop(progress: Progress) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise _StopError

    with pytest.raises(_StopError):
        replay(options, stop)

    replayed = replay(options)

    assert replayed.resumed_at_frame is not None
    assert all((tmp_path / "again" / name).read_bytes() == (written / name).read_bytes() for name in DECIDED)
    assert verify(tmp_path / "again").difference is None


def test_frames_behind_the_last_barrier_are_left_out_and_told(written: Path, tmp_path: Path) -> None:
    """Fails where a period that is not closed yet is settled, or is left out without a word."""
    frames = [data for period in WrittenLedger(written / "ledger").periods() for data in period.frames]
    writer = LedgerWriter(tmp_path / "open")
    writer.append(frames[:-1])
    writer.close()

    told = called("replay", "--ledger", tmp_path / "open", "--out", tmp_path / "again", "--chain", "none", "--json")

    whole = json.loads((written / "summary.json").read_text())
    assert summary(told)["barriers"] == whole["barriers"] - 1
    assert "behind the last barrier are left out" in told.stderr


def test_a_flipped_bit_stops_it_in_one_line(written: Path, tmp_path: Path) -> None:
    """Fails where a damaged frame decides anything, or leaves as a traceback."""
    frames = [data for period in WrittenLedger(written / "ledger").periods() for data in period.frames]
    place = len(frames) // 2
    frames[place] = frames[place][:-1] + bytes([frames[place][-1] ^ 1])
    writer = LedgerWriter(tmp_path / "damaged")
    writer.append(frames)
    writer.close()

    stopped = called("replay", "--ledger", tmp_path / "damaged", "--out", tmp_path / "again", "--chain", "none")

    assert stopped.exit_code == 1
    assert len(stopped.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to replay"),
        (["day.ndjson", "--ledger", "ledger"], "leave out one of them"),
        (["--ledger", "ledger", "--shards", "4"], "--shards is decided when a ledger is written"),
        (["--ledger", "ledger", "--ledger-id", "other"], "--ledger-id is decided when a ledger is written"),
    ],
)
def test_wrong_use_is_told(arguments: list[str], says: str, tmp_path: Path) -> None:
    """Fails where an option that cannot count is taken without a word."""
    told = called("replay", *arguments, "--out", tmp_path / "out")

    assert told.exit_code == 2
    assert says in " ".join(told.stderr.split())


def test_a_folder_without_frames_is_no_ledger(tmp_path: Path) -> None:
    """Fails where a wrong folder leaves a run behind, or a traceback."""
    told = called("replay", "--ledger", tmp_path, "--out", tmp_path / "out")

    assert told.exit_code == 2
    assert "holds no ledger" in told.stderr
    assert not (tmp_path / "out").exists()
