"""``python -m tests.simulator``: one judged run; exit code 3 where a decision differs or a bound was violated."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Final

from infra.imports.inputs import WrongInputError
from infra.run.kernels import prepared_kernels
from infra.run.screening import DEFAULT, screening_policy
from tests.builders import SECOND_NS
from tests.simulator.books import MODELS, NotCovered
from tests.simulator.judged import Run, judged_run
from tests.simulator.paths import COURSES
from tests.simulator.real import RECORDED
from tests.simulator.report import lines_of

_DIFFERS: Final = 3
_EVERY_SECONDS: Final = 10.0


def main() -> None:
    """Run what the command line says."""
    arguments = _arguments()
    run = Run(
        accounts=arguments.accounts,
        path=arguments.path,
        hours=arguments.hours,
        seed=arguments.seed,
        tick_ns=round(arguments.tick_seconds * SECOND_NS),
        judge_every=arguments.judge_every,
        activity=arguments.activity,
        liquidations=arguments.liquidations,
        open_orders=arguments.open_orders,
        models=tuple(arguments.models.split(",")),
        narrow=arguments.narrow,
    )
    with prepared_kernels(lambda notice: print(notice, file=sys.stderr)):
        try:
            policy = screening_policy(arguments.policy)
            # Whatever is compiled at its first call is compiled here, and not while a tick is timed.
            judged_run(replace(run, accounts=min(run.accounts, 64), hours=min(run.hours, 1 / 60)), policy)
            report = judged_run(run, policy, _progress())
        except (NotCovered, WrongInputError) as error:
            sys.exit(f"{error}")
    if arguments.json:
        print(json.dumps(asdict(report)))
    else:
        print("\n".join(lines_of(report)))
    sys.exit(0 if report.is_sound else _DIFFERS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--accounts", type=_count, default=10_000)
    parser.add_argument("--path", choices=sorted({*COURSES, *RECORDED}), default="calm")
    parser.add_argument("--hours", type=float, default=1.0, help="length of the path; 24 at most, but for `expiry`")
    parser.add_argument("--policy", default=DEFAULT, help="name of a screening policy")
    parser.add_argument(
        "--judge-every", type=_count, default=1, metavar="K",
        help="1: a judge's own book, equal byte for byte; above: all accounts judged every K ticks",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tick-seconds", type=float, default=1.0)
    parser.add_argument("--activity", type=float, default=1.0, help="fills a second; 0: nobody trades")
    parser.add_argument(
        "--liquidations", action=argparse.BooleanOptionalAction, default=True, help="liquidation orders fill"
    )
    parser.add_argument("--open-orders", type=float, default=0.0, metavar="SHARE", help="of accounts that have some")
    parser.add_argument("--models", default=",".join(MODELS), help="margin models, dealt to accounts in turn")
    parser.add_argument("--narrow", action="store_true", help="linear perpetuals and options alone are listed")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _count(text: str) -> int:
    count = int(text.replace(",", ""))
    if count < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return count


def _progress() -> Callable[[str, int, int, int], None]:
    """Return what shows progress on stderr: every ten seconds, with the time that is left."""
    began: dict[str, float] = {}
    shown = before = time.monotonic()

    def show(what: str, done: int, total: int, differences: int) -> None:
        nonlocal shown, before
        now = time.monotonic()
        first = began.setdefault(what, before)
        before = now
        if now - shown < _EVERY_SECONDS and done < total:
            return
        shown = now
        left = (now - first) / done * (total - done)
        print(
            f"{what} {done:,}/{total:,} ({done / total:.0%}), {left:,.0f} s left, {differences} differences",
            file=sys.stderr,
        )

    return show


if __name__ == "__main__":
    main()
