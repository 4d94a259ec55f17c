"""Replay is live: one log gives one run, whatever process count, engine, cut of the input, and crash."""

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from eth_utils.crypto import keccak

from flows.screening.diagnostics import Diagnostics
from infra.files.ledger import read_dead_letters
from infra.run.verify import verify
from schemas.events import AnyEvent
from tests.replay.crash import Campaign, files_of, wait_for_commits


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A short demo day."""
    return Campaign(tmp_path_factory.mktemp("campaign"))


@pytest.fixture(scope="module")
def quiet(campaign: Campaign) -> tuple[dict[str, Any], Path]:
    """The day, replayed without disturbance."""
    out = campaign.folder / "quiet"
    return campaign.undisturbed(out), out


def of_the_run(summary: dict[str, Any]) -> dict[str, Any]:
    """Return what a run printed without what is of one process: its time, its place and what its screening took."""
    of_a_process = {"seconds", "out", *(field.name for field in fields(Diagnostics))}
    return {name: value for name, value in summary.items() if name not in of_a_process}


@pytest.mark.parametrize(
    "options", [(), ("--workers", "2"), ("--engine", "bytewax")], ids=["plain", "workers", "bytewax"]
)
def test_killed_and_resumed_runs_publish_the_same_files(
    campaign: Campaign, quiet: tuple[dict[str, Any], Path], tmp_path: Path, options: tuple[str, ...]
) -> None:
    """SIGKILL at random moments: every published byte is that of a run that was never disturbed."""
    expected, out = quiet

    summary, resumed_at = campaign.killed(tmp_path / "run", kills=4, seed=len(options), options=options)

    assert any(frame > 0 for frame in resumed_at), "no kill came after a commit: the test has shown nothing"
    assert summary["digest"] == expected["digest"]
    assert files_of(tmp_path / "run") == files_of(out)


@pytest.mark.parametrize("options", [("--workers", "4"), ("--shards", "1"), ("--shards", "64")])
def test_processes_and_shards_change_no_digest(
    campaign: Campaign, quiet: tuple[dict[str, Any], Path], tmp_path: Path, options: tuple[str, ...]
) -> None:
    """The digest is of what was decided, not of how the work was cut."""
    assert campaign.undisturbed(tmp_path / "run", *options)["digest"] == quiet[0]["digest"]


def test_the_processor_changes_no_digest(
    campaign: Campaign, quiet: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    """Kernels compiled for plain x86-64-v3, and NumPy without what it finds beyond its baseline: the same bits."""
    numpy_core = import_module("numpy._core._multiarray_umath")
    found = [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__.get(name)]
    environment = {
        "NUMBA_CPU_NAME": "x86-64-v3",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path / "kernels"),
        "NPY_DISABLE_CPU_FEATURES": " ".join(found),
    }

    summary = campaign.undisturbed(tmp_path / "run", environment=environment)

    assert summary["digest"] == quiet[0]["digest"]


def test_splitting_the_input_changes_no_digest(
    campaign: Campaign, quiet: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    """The same lines in three files, dealt out and one of them reversed, are the same log."""
    lines = campaign.log.read_bytes().splitlines(keepends=True)
    names = ["z.ndjson", "a.ndjson", "m.ndjson"]
    for place, name in enumerate(names):
        part = lines[place::3]
        (tmp_path / name).write_bytes(b"".join(reversed(part) if place == 1 else part))
    command = campaign.command(tmp_path / "run")
    command[command.index(str(campaign.log))] = str(tmp_path / names[0])

    finished = subprocess.run(
        [*command, str(tmp_path / names[1]), str(tmp_path / names[2])], check=True, capture_output=True
    )

    summary = json.loads(finished.stdout)
    assert summary["digest"] == quiet[0]["digest"]
    letters = list(read_dead_letters(tmp_path / "run" / "dead_letters.ndjson"))
    assert len(letters) == quiet[0]["dead_letters"]
    # An over-long line is kept up to the limit; every other payload is its whole line.
    assert all(any(line.startswith(letter.payload) for line in lines) for letter in letters)


def test_parquet_with_the_same_columns_is_the_same_log(campaign: Campaign, tmp_path: Path) -> None:
    """Rows of a table and lines of a file are one event each, whatever carries them."""
    events = []
    for line in campaign.log.read_bytes().splitlines():
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            msgspec.json.decode(line, type=AnyEvent)
            events.append(msgspec.json.decode(line))
    (tmp_path / "day.ndjson").write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))
    nested = ("svi", "points", "parameters")
    columns = sorted({name for event in events for name in event})
    table = pa.table(
        {
            name: [
                msgspec.json.encode(event[name]).decode() if name in nested and name in event else event.get(name)
                for event in events
            ]
            for name in columns
        }
    )
    pq.write_table(table, tmp_path / "day.parquet")

    summaries = []
    for name in ("day.ndjson", "day.parquet"):
        command = campaign.command(tmp_path / f"{name}-run")
        command[command.index(str(campaign.log))] = str(tmp_path / name)
        summaries.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))

    assert summaries[0]["digest"] == summaries[1]["digest"]
    assert summaries[0]["accepted"] == summaries[1]["accepted"] > 0
    assert summaries[0]["dead_letters"] == summaries[1]["dead_letters"]


def test_a_run_can_be_drawn(quiet: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    """The picture is a PNG; that it shows the run is for eyes."""
    picture = tmp_path / "run.png"
    command = [sys.executable, "-c", "from infra.cli.main import main; main()", "plot", str(picture), "--out"]

    subprocess.run([*command, str(quiet[1])], check=True, capture_output=True)

    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("account", ["house", "account-000003"])
def test_a_proof_stands_on_its_own(quiet: tuple[dict[str, Any], Path], account: str) -> None:
    """Entries hash to the leaf and the leaf to the root on the chain, by Keccak-256 alone."""
    command = [sys.executable, "-c", "from infra.cli.main import main; main()", "prove", account, "--json", "--out"]

    finished = subprocess.run([*command, str(quiet[1])], check=True, capture_output=True)

    proof = json.loads(finished.stdout)
    node = keccak(b"\0" + proof["number"].to_bytes(4, "big") + bytes.fromhex(proof["entries"]))
    assert node.hex() == proof["leaf"]
    for height, sibling in enumerate(map(bytes.fromhex, proof["path"])):
        pair = sibling + node if proof["number"] >> height & 1 else node + sibling
        node = keccak(b"\1" + pair)
    assert node.hex() == proof["state_root"] == quiet[0]["chain_root"]
    assert proof["on_chain"] is True


def test_verify_agrees_and_names_a_changed_byte(campaign: Campaign, quiet: tuple[dict[str, Any], Path]) -> None:
    """A run verifies; one byte of its results changed is named by frame and field, with exit code 3."""
    _, out = quiet
    command = [sys.executable, "-c", "from infra.cli.main import main; main()", "verify", str(out)]
    good = subprocess.run([*command, "--json"], check=True, capture_output=True)
    results = bytearray((out / "results.bin").read_bytes())
    results[48] ^= 1
    (out / "results.bin").write_bytes(results)

    bad = subprocess.run(command, check=False, capture_output=True)

    results[48] ^= 1
    (out / "results.bin").write_bytes(results)
    assert json.loads(good.stdout)["digest"] == quiet[0]["digest"]
    assert json.loads(good.stdout)["difference"] is None
    assert bad.returncode == 3
    assert b"differs at frame" in bad.stderr


@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--engine", "bytewax")])
def test_a_run_killed_behind_its_last_commit_ends_as_it_would_have(
    campaign: Campaign, quiet: tuple[dict[str, Any], Path], tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A kill between the last commit and the summary leaves a run that neither resumes nor has a summary."""
    out = tmp_path / "run"
    shutil.copytree(quiet[1], out)
    (out / "summary.json").unlink()
    (out / "tidegate.duckdb").unlink()

    summary = campaign.undisturbed(out, *options)

    assert of_the_run(summary) == of_the_run(quiet[0])
    assert files_of(out) == files_of(quiet[1])
    assert (out / "tidegate.duckdb").exists()


def test_verify_misses_an_outbox(quiet: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    """A run whose transactions are gone verifies as one that never had a chain."""
    out = tmp_path / "run"
    shutil.copytree(quiet[1], out)
    (out / "outbox.sqlite").unlink()

    verified = verify(out)

    assert verified.difference is not None
    assert (verified.difference.what, verified.difference.recorded) == ("chain", "outbox.sqlite is missing")


def test_a_log_that_changed_is_not_resumed(campaign: Campaign, tmp_path: Path) -> None:
    """Positions count lines: behind a log that lost some, a resumed run would leave good events out in silence."""
    log = tmp_path / "day.ndjson"
    lines = campaign.log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines))
    command = campaign.command(tmp_path / "run", commit_every="1ms")
    command[command.index(str(campaign.log))] = str(log)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for_commits(tmp_path / "run", process, 3)
    process.kill()
    process.communicate()
    log.write_bytes(b"".join(lines[40:]))

    again = subprocess.run(command, check=False, capture_output=True)

    assert again.returncode == 2
    assert b"other inputs" in again.stderr
