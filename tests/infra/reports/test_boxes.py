"""The picture of the boxes: what it keeps, what it says it dropped, and when there is none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from flows.screening.observer import Residence
from flows.screening.policy import Work
from infra.cli.main import app
from infra.demo.generate import DemoDay
from infra.reports import boxes
from infra.reports.boxes import Box, BoxLog


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hours of the demo's day."""
    log = tmp_path_factory.mktemp("day") / "day.ndjson"
    lines = [line for block in DemoDay(seed=3, accounts=60, hours=2.0).lines() for line in block]
    log.write_bytes(b"\n".join(lines) + b"\n")
    return log


def replayed(log: Path, tmp_path: Path, name: str, *options: str) -> Result:
    """Replay the log with a picture."""
    where = ["--out", str(tmp_path / "run"), "--box-picture", str(tmp_path / name)]
    return CliRunner().invoke(app, ["replay", str(log), *where, "--chain", "none", "--json", *options])


def test_a_run_under_boxes_is_drawn_and_publishes_the_same(log: Path, tmp_path: Path) -> None:
    """Fails where watching changes a decision, or nothing is drawn."""
    drawn = replayed(log, tmp_path, "boxes.png", "--screening", "boxes")
    assert drawn.exit_code == 0, drawn.stderr
    plain = CliRunner().invoke(app, ["replay", str(log), "--out", str(tmp_path / "b"), "--chain", "none", "--json"])

    assert (tmp_path / "boxes.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(drawn.stdout)["digest"] == json.loads(plain.stdout)["digest"]


@pytest.mark.parametrize(
    ("name", "options", "exit_code", "says"),
    [
        ("boxes.png", [], 1, "no box was built"),
        ("boxes.pdf", ["--screening", "boxes"], 2, "name a .png file"),
        ("nowhere/boxes.png", ["--screening", "boxes"], 2, "there is no such folder"),
        ("boxes.png", ["--screening", "boxes", "--workers", "2"], 2, "leave out --workers"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    log: Path, tmp_path: Path, name: str, options: list[str], exit_code: int, says: str
) -> None:
    """Fails where a picture that cannot be is found out after the run, or by a traceback."""
    told = replayed(log, tmp_path, name, *options)

    assert told.exit_code == exit_code
    assert says in " ".join(told.stderr.split())
    assert (tmp_path / "run" / "summary.json").exists() == (exit_code == 1)


class _Market:
    class columns:  # noqa: N801 - as the market has them
        underlyings = ("BTC",)
        spot = np.array([100.0])


class _Instant:
    def __init__(self, time_ns: int) -> None:
        self.time_ns = time_ns


def told(log: BoxLog, times: int, evaluated: int) -> None:
    """Tell of frames; the last evaluates more."""
    for time_ns in range(times):
        market: Any = _Market()
        instant: Any = _Instant(time_ns)
        count = evaluated if time_ns == times - 1 else 1
        log.frame(market, instant, evaluated=count, work=Work(), residence=Residence)


def test_memory_is_bounded_and_peaks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a long run keeps every frame, or a peak is averaged away."""
    monkeypatch.setattr(boxes, "_POINTS_MAX", 16)
    log = BoxLog()

    told(log, 1_024, 77)

    assert 8 <= len(log.points()) <= 17
    assert max(point.evaluated for point in log.points()) == 77


def test_boxes_end_where_they_are_left_or_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a box is drawn on after it was left, or one that was not kept is not counted."""
    monkeypatch.setattr(boxes, "_BOXES_MAX", 1)
    log = BoxLog()
    for time_ns in (1, 5):
        log.box_built(underlying=0, width=0.01, slot=3, low=99.0, high=101.0, time_ns=time_ns)
    log.box_left(underlying=0, width=0.01, slot=3, time_ns=9)
    log.box_built(underlying=0, width=0.02, slot=5, low=98.0, high=102.0, time_ns=9)

    assert log.all_boxes() == [Box(0, 0.01, 99.0, 101.0, 1, 5), Box(0, 0.02, 98.0, 102.0, 9, None)]
    assert log.dropped() == 1
