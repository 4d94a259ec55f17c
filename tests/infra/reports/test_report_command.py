"""`tidegate report` as a user meets it when something is wrong."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from infra.cli.report import report
from tests.infra.imports.test_hyperliquid import small_folder

APP = typer.Typer()
APP.command()(report)


@pytest.mark.parametrize(
    ("out", "data", "code", "hint"),
    [
        ("nowhere", "records", 2, "nowhere is not a directory"),
        (".", "nowhere", 2, "nowhere is not a folder"),
        (".", ".", 2, "hyperliquid_2023_fills.parquet is not in"),
        (".", "records", 1, "manifest"),
    ],
    ids=["no run", "no folder", "no records", "a folder that is not a run"],
)
def test_a_mistake_is_one_line_with_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, data: str, code: int, hint: str
) -> None:
    """Fails if a mistake ends in a traceback, the wrong exit code, or without a word on what is missing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "records").mkdir()
    small_folder(tmp_path / "records")

    result = CliRunner().invoke(APP, ["hyperliquid-2023", "--out", out, "--data", data])

    assert result.exit_code == code
    assert hint in " ".join(result.stderr.split())
    assert result.stdout == ""
