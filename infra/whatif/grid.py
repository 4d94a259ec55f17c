"""Health on a grid of spot and vol moves, everything held still but the market.

1. Every cell is the whole account evaluated anew in the market moved so; all prices that the account depends on move
   together, and all vols.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.whatif.figures import numbers
from infra.whatif.liquidation import price_names
from infra.whatif.market import Move
from infra.whatif.scene import Numbers, Scene


@dataclass(frozen=True, slots=True)
class Grid:
    """Numbers by spot move and vol move; moves are ratios, -0.1 is ten percent down.

    ``cells`` has a row for each spot move and a column for each vol move; None where it cannot be known.
    """

    names: list[str]
    spot_moves: list[float]
    vol_moves: list[float]
    cells: list[list[Numbers | None]]


def grid(scene: Scene, spot_moves: Sequence[float], vol_moves: Sequence[float]) -> Grid:
    """Return the numbers of a scene under every pair of moves; moves are above -1."""
    names = price_names(scene)
    return Grid(
        names,
        list(spot_moves),
        list(vol_moves),
        [
            [
                numbers(scene, scene.instant({name: Move(1.0 + spot, 1.0 + vol) for name in names}))
                for vol in vol_moves
            ]
            for spot in spot_moves
        ],
    )  # fmt: skip


def plot_grid(drawn: Grid, path: str, *, title: str, numeraire: str) -> None:
    """Write a PNG: health by spot and vol move, red below zero; the number stands in each cell."""
    # Drawing takes a second to load that a table should not cost; no display is needed.
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    health = np.array([[np.nan if cell is None else cell.health for cell in row] for row in drawn.cells])
    largest = float(np.nanmax(np.abs(health))) or 1.0
    figure, axes = plt.subplots(figsize=(1.6 + 1.1 * len(drawn.vol_moves), 1.6 + 0.45 * len(drawn.spot_moves)))
    image = axes.imshow(health, cmap="RdYlGn", vmin=-largest, vmax=largest, aspect="auto", origin="lower")
    axes.set_xticks(range(len(drawn.vol_moves)), [f"{move:+.0%}" for move in drawn.vol_moves])
    axes.set_yticks(range(len(drawn.spot_moves)), [f"{move:+.0%}" for move in drawn.spot_moves])
    axes.set_xlabel("vol")
    axes.set_ylabel("spot: " + ", ".join(drawn.names))
    axes.set_title(title)
    for row, cells in enumerate(health):
        for column, value in enumerate(cells):
            axes.text(column, row, f"{value:,.0f}", ha="center", va="center", fontsize=8)
    figure.colorbar(image, label=f"health, {numeraire}")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
