"""A run at a glance: prices above, accounts by tier below."""

from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from infra.files.query import SnapshotQuery

_TIERS: Final = {
    "watch": "#fee08b",
    "warning": "#fdae61",
    "liquidating": "#f46d43",
    "takeover": "#d73027",
    "bankrupt": "#67001f",
}
_TIMEOUT_SECONDS: Final = 120.0

# Every change moves one account from one tier to another; a running sum over frames is how many stand in each.
_IN_TIER: Final = """
WITH moves AS (
    SELECT frame, time_utc, tier_to AS tier, 1 AS step FROM tier_changes
    UNION ALL
    SELECT frame, time_utc, tier_from AS tier, -1 AS step FROM tier_changes
),
by_frame AS (
    SELECT time_utc, frame,
           sum(step) FILTER (WHERE tier = 'watch') AS watch,
           sum(step) FILTER (WHERE tier = 'warning') AS warning,
           sum(step) FILTER (WHERE tier = 'liquidating') AS liquidating,
           sum(step) FILTER (WHERE tier = 'takeover') AS takeover,
           sum(step) FILTER (WHERE tier = 'bankrupt') AS bankrupt
    FROM moves GROUP BY time_utc, frame
)
SELECT time_utc,
       sum(coalesce(watch, 0)) OVER (ORDER BY frame) AS watch,
       sum(coalesce(warning, 0)) OVER (ORDER BY frame) AS warning,
       sum(coalesce(liquidating, 0)) OVER (ORDER BY frame) AS liquidating,
       sum(coalesce(takeover, 0)) OVER (ORDER BY frame) AS takeover,
       sum(coalesce(bankrupt, 0)) OVER (ORDER BY frame) AS bankrupt
FROM by_frame ORDER BY frame
"""
_PRICES: Final = "SELECT time_utc, asset, price FROM asset_prices WHERE decidable ORDER BY asset, frame"


def plot_tiers(run: Path, path: Path) -> None:
    """Write a PNG: asset prices relative to their first, at each full state, and accounts in each tier at each frame.

    Raises
    ------
    QueryError, SnapshotError : the run's snapshots cannot be read.
    """
    # Drawing libraries take a second to load, which only a plot should cost; no display is needed.
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with SnapshotQuery(run) as snapshots:
        prices = snapshots.query(_PRICES, timeout_seconds=_TIMEOUT_SECONDS, rows_max=None).rows
        tiers = snapshots.query(_IN_TIER, timeout_seconds=_TIMEOUT_SECONDS, rows_max=None).rows
    figure, (above, below) = plt.subplots(2, 1, figsize=(10.0, 7.0), sharex=True, layout="constrained")
    for asset, times, values in _by_asset(prices):
        above.plot(times, [100.0 * value / values[0] for value in values], marker=".", label=asset)
    above.set(ylabel="price, % of the first", title=f"{run.name}: prices and accounts by tier")
    if above.has_data():
        above.legend()
    below.stackplot(
        tiers["time_utc"].to_pylist(),
        [tiers[name].cast(pa.float64()).to_numpy() for name in _TIERS],
        labels=list(_TIERS),
        colors=list(_TIERS.values()),
        step="post",
    )
    below.set(ylabel="accounts")
    below.legend(loc="upper left")
    figure.autofmt_xdate()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _by_asset(prices: pa.Table) -> list[tuple[str, list[datetime], list[float]]]:
    """Return each asset's times and prices; rows come by asset."""
    rows: list[dict[str, Any]] = prices.to_pylist()
    starts = [place for place, row in enumerate(rows) if place == 0 or row["asset"] != rows[place - 1]["asset"]]
    return [
        (rows[first]["asset"], [row["time_utc"] for row in rows[first:end]], [row["price"] for row in rows[first:end]])
        for first, end in pairwise([*starts, len(rows)])
    ]
