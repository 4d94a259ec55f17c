"""``tidegate verify``: decide a recorded run again, and name the first thing that differs."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.progress import Progress

from infra.chain.batches import BatchesError
from infra.chain.outbox import OutboxError
from infra.cli.output import DIFFERS, WRONG_USE, console, errors, fail, note, print_facts, print_json
from infra.cli.replay import HALTS, Json
from infra.files.snapshots import SnapshotError
from infra.run.directory import RunDirectoryError
from infra.run.kernels import prepared_kernels
from infra.run.verify import verify as verify_run


def verify(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a run.")], *, as_json: Json = False
) -> None:
    """Re-run a recorded run from its ledger: results, batches, chain and snapshot files. Exit 3 on a difference."""
    try:
        with prepared_kernels(note), Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
            task = bar.add_task("verifying", total=None)
            verified = verify_run(run, lambda done, total: bar.update(task, completed=done, total=total))
    except RunDirectoryError as error:
        fail(str(error), WRONG_USE)
    except (*HALTS, BatchesError, OutboxError, SnapshotError) as error:
        fail(f"{run}: {error}", DIFFERS)
    if as_json:
        print_json(msgspec.to_builtins(verified))
    else:
        print_facts(
            f"Verified {run}",
            {
                "frames": verified.frames,
                "results": verified.results,
                "batches": verified.batches,
                "batches on chain": "no chain" if verified.chain_batches is None else verified.chain_batches,
                "digest": verified.digest,
            },
        )
    if verified.difference is not None:
        found = verified.difference
        if not as_json:
            console.print(f"recorded: {found.recorded}\nrepeated: {found.repeated}", markup=False)
        fail(f"{run} differs at frame {found.frame}: {found.what}", DIFFERS)
