"""How well surfaces were fitted, what stands where a fit was refused, and how old it is, as a picture."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.imports.deribit import FitRow

Value = Callable[[FitRow], float | None]


def plot_fits(rows: Sequence[FitRow], path: Path) -> None:
    """Write residuals over time, against quotes and against the venue's own marks, and the age of what stands.

    Refused fits are crosses, named by their reason; quoted points that stand in for one, or were asked for, are rings.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (above, below, age) = plt.subplots(3, 1, figsize=(9.0, 9.0), sharex=True, layout="constrained")
    dots = None
    for underlying, marker in (("BTC", "o"), ("ETH", "s")):
        own = [row for row in rows if row.underlying == underlying]
        fits = [row for row in own if row.smile == "fit"]
        points = [row for row in own if row.smile == "points"]
        options: dict[str, Any] = {"norm": "log", "cmap": "viridis", "marker": marker, "s": 18.0}
        colours = [row.days_to_expiry for row in fits]
        dots = _scatter(above, fits, _residual, c=colours, label=underlying, **options) or dots
        dots = _scatter(below, fits, _against_marks, c=colours, **options) or dots
        _scatter(below, points, _against_marks, facecolors="none", edgecolors="tab:gray", marker=marker, s=30.0,
                 label=f"{underlying} quoted points")  # fmt: skip
        for reason in dict.fromkeys(row.refused for row in own if row.refused is not None):
            refused = [row for row in own if row.refused == reason]
            _scatter(above, refused, _residual, c="tab:red", marker="x", label=f"{underlying} {reason}")
            _scatter(age, refused, _age, c="tab:red", marker="x", label=f"{underlying} {reason}")
        _scatter(age, [row for row in own if row.refused is None], _age, c="tab:blue", marker=".", s=6.0)
    if dots is not None:
        figure.colorbar(dots, ax=(above, below, age), label="days to expiry")
    above.set(ylabel="against mid quotes, rms vol points", yscale="log", title="Smiles by snapshot and expiry")
    below.set(ylabel="against the venue's marks, rms vol points", yscale="log")
    age.set(ylabel="age of the smile that stands, hours")
    for axes in (above, below, age):
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    figure.autofmt_xdate()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _scatter(axes: Any, rows: Sequence[FitRow], value: Value, **options: Any) -> Any:
    """Draw the rows that have the value, and return the dots; None where none has."""
    known = [place for place, row in enumerate(rows) if value(row) is not None]
    if not known:
        return None
    if isinstance(options.get("c"), list):
        options["c"] = [options["c"][place] for place in known]
    times = [datetime.fromtimestamp(rows[place].time_ns / 1e9, UTC) for place in known]
    return axes.scatter(times, [value(rows[place]) for place in known], **options)


def _residual(row: FitRow) -> float | None:
    return row.rms_vol_points


def _against_marks(row: FitRow) -> float | None:
    return row.mark_rms_vol_points


def _age(row: FitRow) -> float | None:
    return row.age_hours
