"""How well surfaces were fitted, as a picture."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from infra.imports.deribit import FitRow


def plot_fits(rows: Sequence[FitRow], path: Path) -> None:
    """Write residuals over time, against quotes and against the venue's own marks; refused fits as crosses."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(9.0, 7.0), sharex=True, layout="constrained")
    for underlying, marker in (("BTC", "o"), ("ETH", "s")):
        own = [row for row in rows if row.underlying == underlying and row.rms_vol_points is not None]
        good = [row for row in own if row.refused is None]
        times = [datetime.fromtimestamp(row.time_ns / 1e9, UTC) for row in good]
        colours = [row.days_to_expiry for row in good]
        options = {"c": colours, "norm": "log", "cmap": "viridis", "marker": marker, "s": 18.0, "label": underlying}
        points = above.scatter(times, [row.rms_vol_points for row in good], **options)
        below.scatter(times, [row.mark_rms_vol_points or 0.0 for row in good], **options)
        refused = [row for row in own if row.refused is not None]
        above.scatter(
            [datetime.fromtimestamp(row.time_ns / 1e9, UTC) for row in refused],
            [row.rms_vol_points for row in refused],
            marker="x",
            color="tab:red",
            label=f"{underlying} refused" if refused else None,
        )
    figure.colorbar(points, ax=(above, below), label="days to expiry")
    above.set(ylabel="against mid quotes, rms vol points", yscale="log", title="Raw-SVI fits by snapshot and expiry")
    below.set(ylabel="against the venue's marks, rms vol points", yscale="log")
    above.legend()
    figure.autofmt_xdate()
    figure.savefig(path, dpi=110)
    plt.close(figure)
