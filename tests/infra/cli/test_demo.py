"""`tidegate demo --out`: what it keeps, and what it finds when it is called again."""

from pathlib import Path

from typer.testing import CliRunner

from infra.cli.demo import log_name
from infra.cli.main import app

SMALL = ["demo", "--hours", "1", "--accounts", "10", "--chain", "none", "--json", "--out"]


def test_another_seed_is_another_log(tmp_path: Path) -> None:
    """Fails where a kept log is replayed under the name of another day, or a kept run is overwritten by one."""
    first = CliRunner().invoke(app, [*SMALL, str(tmp_path), "--seed", "1"])
    kept = (tmp_path / "run/commit.json").read_bytes()

    second = CliRunner().invoke(app, [*SMALL, str(tmp_path), "--seed", "2"])

    assert first.exit_code == 0
    assert second.exit_code == 2
    assert "holds a run with other inputs" in " ".join(second.stderr.split())
    assert (tmp_path / "run/commit.json").read_bytes() == kept
    names = [log_name(seed, 10, 1.0) for seed in (1, 2)]
    assert sorted(path.name for path in tmp_path.glob("*.zst")) == names
