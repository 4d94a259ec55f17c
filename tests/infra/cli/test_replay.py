"""``tidegate replay`` under the judge and under the shadow."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from infra.cli.main import app
from infra.run import screening
from infra.run.verify import verify
from tests.flows.screening.faulty import MissesAccount, ViolatesBound
from tests.flows.screening.test_shadow import FALL

DIAGNOSTICS = ["evaluations", "exhaustive_evaluations", "hot_accounts", "bound_violations", "worst_tick_ratio"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log in which alice falls through every tier."""
    log = tmp_path / "fall.ndjson"
    log.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in FALL))
    return log


def replayed(log: Path, out: str, *options: str) -> Result:
    """Replay the log without a chain."""
    return CliRunner().invoke(
        app, ["replay", str(log), "--out", str(log.parent / out), "--chain", "none", "--json", *options]
    )


def summary(result: Result, exit_code: int = 0) -> dict[str, Any]:
    """Return what a replay printed."""
    assert result.exit_code == exit_code, result.stderr
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed


def test_the_judge_and_the_shadow_change_no_digest(log: Path) -> None:
    """Fails where either changes a byte, or where a run does not say what screening took."""
    plain = summary(replayed(log, "plain"))
    judged = summary(replayed(log, "judged", "--exhaustive"))
    shadowed = summary(replayed(log, "shadowed", "--shadow", "1", "--workers", "2"))

    assert plain["digest"] == judged["digest"] == shadowed["digest"]
    assert judged["evaluations"] == judged["exhaustive_evaluations"] == plain["exhaustive_evaluations"] > 150
    assert all(name in plain for name in DIAGNOSTICS)
    assert shadowed["shadowed_frames"] == shadowed["instants"] == judged["instants"]
    assert judged["shadowed_frames"] == 0


def test_a_difference_ends_a_replay_with_its_own_code(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a decision that was missed is not told by frame and account, or exits like any other failure."""
    monkeypatch.setitem(screening._OURS, screening.DEFAULT, MissesAccount())

    stopped = replayed(log, "stopped", "--shadow", "1")

    assert stopped.exit_code == 3
    assert "account alice stands healthy where the judge says watch" in stopped.stderr
    assert "frame " in stopped.stderr


def test_a_violated_bound_ends_a_replay_with_the_same_code(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a wrong bound goes unsaid because every decision was right, or where it halts the run."""
    plain = summary(replayed(log, "plain"))
    monkeypatch.setitem(screening._OURS, screening.DEFAULT, ViolatesBound())

    finished = replayed(log, "violated", "--shadow", "1")

    printed = summary(finished, exit_code=3)
    assert printed["digest"] == plain["digest"]
    assert printed["bound_violations"] > 50
    assert f"{printed['bound_violations']:,} evaluations were outside the bounds" in finished.stderr


def test_a_run_belongs_to_whose_decisions_it_has(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a run of an exact policy cannot be gone on with, or verified, by the judge."""
    monkeypatch.setitem(screening._OURS, "misses-account", MissesAccount())

    missed = summary(replayed(log, "missed", "--screening", "misses-account"), exit_code=3)

    described = json.loads((log.parent / "missed" / "run.json").read_bytes())
    assert described["screening"] == "exhaustive"
    assert missed["evaluations"] < missed["exhaustive_evaluations"]
    difference = verify(log.parent / "missed").difference
    assert difference is not None, "the judge decides again, and finds what this policy missed"
    assert difference.what.startswith("result")


@pytest.mark.parametrize("fraction", ["-0.1", "1.5", "nan", "much"])
def test_a_fraction_that_is_none_is_refused(log: Path, fraction: str) -> None:
    """Fails where a fraction outside 0 to 1 is taken."""
    assert replayed(log, "refused", "--shadow", fraction).exit_code == 2
