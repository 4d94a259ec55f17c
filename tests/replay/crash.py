"""Kill replays with SIGKILL at random moments, resume them, and hold them to an undisturbed run.

``python -m tests.replay.crash --seed 1 --kills 50`` is a campaign; the test-suite runs a small one. Every campaign is
named by its seed: the moments are drawn from it, though where a process is at a moment is the machine's.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.demo.generate import generate

# How many commits a run gets, on average, before it is killed again.
COMMITS_A_KILL = 30
PUBLISHED = ("results.bin", "batches.bin", "dead_letters.ndjson", "ledger", "snapshot")


@dataclass
class Campaign:
    """A log, and the command that replays it."""

    folder: Path
    accounts: int = 60
    hours: float = 2.0
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        """Generate the log."""
        self.log = self.folder / "day.ndjson"
        generate(self.log, seed=5, accounts=self.accounts, hours=self.hours)

    def command(self, out: Path, *options: str, commit_every: str = "1h") -> list[str]:
        """Return the replay of the log into ``out``."""
        return [
            sys.executable, "-c", "from infra.cli.main import main; main()", "replay", str(self.log), "--out", str(out),
            "--period", "30s", "--snapshots", "30m", "--commit-every", commit_every, "--json", *options,
        ]  # fmt: skip

    def undisturbed(self, out: Path, *options: str, environment: Mapping[str, str] | None = None) -> dict[str, object]:
        """Run without a kill, with more environment variables if need be; return the summary."""
        finished = subprocess.run(
            self.command(out, *options), check=True, capture_output=True, env={**os.environ, **(environment or {})}
        )
        summary: dict[str, object] = json.loads(finished.stdout)
        return summary

    def killed(
        self, out: Path, *, kills: int, seed: int, options: tuple[str, ...] = ()
    ) -> tuple[dict[str, object], list[int]]:
        """Kill the run at random moments, resuming each time; it commits at almost every barrier.

        Returns
        -------
        The last summary, and the frames behind which the run was resumed.
        """
        rng = random.Random(seed)
        resumed_at: list[int] = []
        for _ in range(kills):
            process = subprocess.Popen(
                self.command(out, *options, commit_every="1ms"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            wait_for_commits(out, process, rng.randint(0, 2 * COMMITS_A_KILL))
            time.sleep(rng.random() * 0.2)
            process.send_signal(signal.SIGKILL)
            output, errors = process.communicate()
            if process.returncode == 0:
                return json.loads(output), resumed_at
            if (out / "summary.json").exists():
                # Killed on its way out: the run had ended, and would be refused if it were begun again.
                return json.loads((out / "summary.json").read_bytes()), resumed_at
            assert process.returncode == -signal.SIGKILL, errors.decode()
            resumed_at.append(_frame(out))
        return self.undisturbed(out, *options), resumed_at


def _frame(out: Path) -> int:
    try:
        return int(json.loads((out / "commit.json").read_bytes())["frame"])
    except FileNotFoundError:
        return -1


def wait_for_commits(out: Path, process: "subprocess.Popen[bytes]", count: int) -> None:
    """Wait until the run has committed ``count`` times more, or has ended."""
    seen, last = 0, _frame(out)
    while seen < count and process.poll() is None:
        now = _frame(out)
        if now != last:
            seen, last = seen + 1, now
        time.sleep(0.002)


def files_of(out: Path) -> dict[str, bytes]:
    """Return every published file of a run, by relative path."""
    return {
        str(file.relative_to(out)): file.read_bytes()
        for name in PUBLISHED
        for file in sorted([out / name] if (out / name).is_file() else (out / name).rglob("*"))
        if file.is_file()
    }


def main() -> None:
    """Run a campaign; exit 1 where a resumed run differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--engine", choices=["plain", "bytewax"], default="plain")
    arguments = parser.parse_args()
    options = ("--workers", str(arguments.workers), "--engine", arguments.engine)
    with tempfile.TemporaryDirectory() as temporary:
        campaign = Campaign(Path(temporary), accounts=300, hours=6.0)
        quiet = campaign.undisturbed(Path(temporary) / "quiet")
        summary, frames = campaign.killed(
            Path(temporary) / "killed", kills=arguments.kills, seed=arguments.seed, options=options
        )
        same = files_of(Path(temporary) / "quiet") == files_of(Path(temporary) / "killed")
        shutil.rmtree(Path(temporary) / "killed")
    print(f"seed {arguments.seed}: {len(frames)} kills, resumed behind frames {frames}")  # noqa: T201 - a command of its own
    print(f"digest {summary['digest']}, quiet {quiet['digest']}, files {'equal' if same else 'DIFFER'}")  # noqa: T201 - a command of its own
    sys.exit(0 if same and summary["digest"] == quiet["digest"] else 1)


if __name__ == "__main__":
    main()
