"""``tidegate plot``: a run at a glance."""

from pathlib import Path
from typing import Annotated

import typer

from infra.cli.output import WRONG_USE, errors, fail
from infra.files.query import QueryError
from infra.files.snapshots import SnapshotError


def plot(
    picture: Annotated[Path, typer.Argument(metavar="FILE.png", help="Where to write the picture.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the run.", show_default=False)],
) -> None:
    """Draw a run: prices, and how many accounts stand in each tier."""
    if picture.suffix.lower() != ".png":
        fail(f"{picture}: name a .png file", WRONG_USE)
    # Drawing takes a second to load that a wrong argument should not cost.
    from infra.reports.tiers import plot_tiers

    try:
        plot_tiers(out, picture)
    except SnapshotError as error:
        fail(str(error), WRONG_USE)
    except (QueryError, OSError) as error:
        fail(str(error))
    errors.print(f"wrote {picture}", markup=False)
