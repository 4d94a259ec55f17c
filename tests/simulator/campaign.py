"""``python -m tests.simulator.campaign``: every path under a policy, judged, one process each; and one table.

Exit code 3 where any run found a difference or a violated bound, or did not come to its end.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, Final

from infra.run.screening import DEFAULT
from tests.simulator.paths import COURSES
from tests.simulator.real import RECORDED

_DIFFERS: Final = 3
_ROOT: Final = FilePath(__file__).resolve().parents[2]
_COLUMNS: Final = (
    "path", "ticks", "differ", "bounds", "evaluated", "placed", "hot", "saved", "median", "mean", "worst", "accounts",
    "market ms", "policy ms", "judge ms", "GiB", "seconds",
)  # fmt: skip


def main() -> None:
    """Run what the command line says, and print a line as soon as a path has ended."""
    arguments = _arguments()
    options = ["--accounts", str(arguments.size), "--seed", str(arguments.seed), "--policy", arguments.policy]
    options += ["--judge-every", str(arguments.judge_every), "--open-orders", str(arguments.open_orders)]
    options += ["--tick-seconds", str(arguments.tick_seconds), "--json"]
    print(
        f"{arguments.size:,} accounts, seed {arguments.seed}, {arguments.policy}; evaluated and placed: of accounts a"
    )
    print(
        "tick; saved: evaluations; median, mean: processor time saved, grids included; worst: tick, over a pass of the"
    )
    print("judge, in time and in accounts")
    print(_line(_COLUMNS))
    is_sound = True
    for path in arguments.paths:
        started = time.monotonic()
        command = [sys.executable, "-m", "tests.simulator", *options, "--path", path, "--hours", str(arguments.hours)]
        finished = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=False)
        is_sound &= finished.returncode == 0
        if finished.returncode not in (0, _DIFFERS):
            print(f"{path}: ended with code {finished.returncode}")
            continue
        report = json.loads(finished.stdout)
        print(_line(row_of(report, time.monotonic() - started)), flush=True)
        if report["first_difference"] is not None:
            print(f"  first difference: {report['first_difference']}")
    sys.exit(0 if is_sound else _DIFFERS)


def row_of(report: Mapping[str, Any], seconds: float) -> list[str]:
    """Return a report's line."""
    cost, diagnostics = report["cost"], report["diagnostics"]
    return [
        report["path"],
        f"{report['ticks']:,}",
        f"{report['differences']:,}",
        f"{diagnostics['bound_violations']:,}",
        f"{report['evaluated_share']:.3%}",
        f"{report['placed_share']:.3%}",
        f"{report['hot_accounts_mean']:,.0f}",
        f"{report['work_saved']:,.0f}",
        f"{cost['saved_median']:.1f}",
        f"{cost['saved_mean']:.1f}",
        f"{cost['worst_ratio']:.2f}",
        f"{diagnostics['worst_tick_ratio']:.3f}",
        *(f"{cost['median_ms'][part]:.2f}" for part in ("market", "policy", "judge")),
        f"{report['peak_memory_gib']:.2f}",
        f"{seconds:,.0f}",
    ]


def _line(cells: Sequence[str]) -> str:
    first, *others = cells
    return f"{first:12}" + "".join(f"{cell:>11}" for cell in others)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.campaign", description=__doc__)
    parser.add_argument("--size", type=int, default=10_000, help="accounts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hours", type=float, default=1.0, help="of each path")
    parser.add_argument("--policy", default=DEFAULT)
    parser.add_argument("--judge-every", type=int, default=1)
    parser.add_argument("--tick-seconds", type=float, default=1.0)
    parser.add_argument("--open-orders", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--paths", nargs="*", choices=sorted({*COURSES, *RECORDED}), default=[*COURSES, *RECORDED])
    return parser.parse_args()


if __name__ == "__main__":
    main()
