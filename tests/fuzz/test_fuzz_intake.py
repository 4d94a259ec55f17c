"""A small run of each fuzzer, so that it keeps working and a new fault shows early."""

from pathlib import Path

import pytest

from tests.fuzz.fuzz_intake import fuzz_round, main


@pytest.mark.parametrize("number", range(25))
def test_a_damaged_log_loses_no_good_event(tmp_path: Path, number: int) -> None:
    """Damage to one line raises, or takes another line with it."""
    fuzz_round(2026, number, tmp_path)


def test_the_command_runs_a_round(capsys: pytest.CaptureFixture[str]) -> None:
    """The long run is a command, and reports."""
    code = main(["--seed", "3", "--round", "7"])

    assert code == 0
    assert "no fault (seed 3)" in capsys.readouterr().out
