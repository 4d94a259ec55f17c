"""`tidegate import` as a user meets it: exit codes, one line on a mistake, one object with --json."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from infra.cli.import_command import import_
from tests.infra.imports.test_hyperliquid import small_folder, small_prices

APP = typer.Typer()
APP.command()(import_)


def test_json_is_one_object_that_describes_the_log(tmp_path: Path) -> None:
    """Fails if progress or notes leak into stdout, or the object says another number than the file holds."""
    out = tmp_path / "log.ndjson"
    accounts, prices = tmp_path / "accounts", tmp_path / "prices"
    accounts.mkdir()
    prices.mkdir()
    arguments = ["hyperliquid-2023", str(small_folder(accounts)), "--prices", str(small_prices(prices))]

    result = CliRunner().invoke(APP, [*arguments, "--out", str(out), "--json"])

    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said["log"]["events"] == len(out.read_bytes().splitlines())
    assert said["import"]["fills"] == 5


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["hyperliquid-2023", "nowhere", "--out", "log.ndjson"], "no such file or folder: nowhere"),
        (["hyperliquid-2023", ".", "--out", "log.csv"], "name the log .ndjson"),
        (["hyperliquid-2023", ".", "--out", "log.ndjson"], "hyperliquid_2023_fills.parquet is not in"),
        (["deribit-chain", ".", "--out", "log.ndjson", "--every", "5 minutes"], "write a duration like"),
        (["deribit-chain", ".", "--out", "log.ndjson", "--from", "yesterday"], "write a moment like"),
        (["deribit-chain", ".", "--out", "log.ndjson", "--from", "2026-02-08"], "--from must lie before"),
        (["deribit-chain", ".", "--out", "log.ndjson"], "is not a file"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], hint: str
) -> None:
    """Fails if a mistake ends in a traceback, in exit code 1, or without a word on what to do."""
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(APP, arguments)

    assert result.exit_code == 2
    assert hint in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []
