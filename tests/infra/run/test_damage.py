"""A byte that turned in what a run has published is seen: before it is resumed, and by verify."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.chain.batches import BatchesError
from infra.demo.generate import generate
from infra.run import replay as runs
from infra.run.directory import RunDirectoryError
from infra.run.verify import verify
from schemas.ledger import Genesis, LedgerError


def _options(folder: Path, out: Path) -> runs.Options:
    return runs.Options(
        inputs=[folder / "log.ndjson"], out=out, shard_count=2, chain="none",
        genesis=Genesis(ledger_id="damage", settlement_period_ns=60_000_000_000), snapshot_period_ns=600_000_000_000,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of half an hour, beside its log."""
    folder = tmp_path_factory.mktemp("damage")
    generate(folder / "log.ndjson", accounts=20, hours=0.5)
    runs.replay(_options(folder, folder / "run"))
    return folder


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


PUBLISHED = ["results.bin", "batches.bin", "dead_letters.ndjson", "ledger/00000000.frames"]


@pytest.mark.parametrize("name", [*PUBLISHED, None])
def test_a_run_is_not_resumed_from_a_byte_that_turned(folder: Path, tmp_path: Path, name: str | None) -> None:
    """A run goes on from a file that is not what it published; without a fault, it is finished as it was."""
    out = tmp_path / "run"
    shutil.copytree(folder / "run", out)
    (out / "summary.json").unlink()

    if name is None:
        summary = runs.replay(_options(folder, out)).summary
        assert summary == json.loads((folder / "run" / "summary.json").read_bytes())
        return
    _flip(out / name)

    with pytest.raises(RunDirectoryError, match="is not as it was committed"):
        runs.replay(_options(folder, out))


def _edit_summary(out: Path) -> None:
    summary = json.loads((out / "summary.json").read_bytes())
    (out / "summary.json").write_text(json.dumps(summary | {"fills": summary["fills"] + 1}))


def _edit_description(out: Path) -> None:
    text = (out / "run.json").read_text()
    (out / "run.json").write_text(text.replace('"snapshot_period_ns": 6', '"snapshot_period_ns": 7'))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda out: _flip(out / "dead_letters.ndjson"), "digest of dead_letters.ndjson"),
        (lambda out: (out / "dead_letters.ndjson").unlink(), "digest of dead_letters.ndjson"),
        (lambda out: _flip(out / "results.bin"), "result row"),
        (_edit_summary, "summary: fills"),
        (_edit_description, "digest of run.json"),
        (lambda out: _flip(next((out / "snapshot" / "accounts").rglob("*.parquet"))), "snapshot file"),
    ],
)
def test_verify_names_what_was_damaged(folder: Path, tmp_path: Path, damage: Callable[[Path], None], says: str) -> None:
    """A damaged file verifies as sound."""
    out = tmp_path / "run"
    shutil.copytree(folder / "run", out)
    damage(out)

    difference = verify(out).difference

    assert difference is not None
    assert difference.what.startswith(says)


@pytest.mark.parametrize(("name", "kind"), [("batches.bin", BatchesError), ("ledger/00000000.frames", LedgerError)])
def test_verify_reads_no_further_than_it_can_believe(
    folder: Path, tmp_path: Path, name: str, kind: type[Exception]
) -> None:
    """What everything else is decided from is damaged, and something is decided from it."""
    out = tmp_path / "run"
    shutil.copytree(folder / "run", out)
    _flip(out / name)

    with pytest.raises(kind):
        verify(out)


def test_a_sound_run_verifies(folder: Path) -> None:
    """The control of the damages above."""
    assert verify(folder / "run").difference is None
