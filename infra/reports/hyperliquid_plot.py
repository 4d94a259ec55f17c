"""The comparison with Hyperliquid's liquidations, as a picture."""

from pathlib import Path
from typing import Final

from infra.reports.hyperliquid import AGREEMENT, Comparison

# Beyond these the axes would show nothing else; what lies beyond is counted in the last bar.
_DIFFERENCE_SHOWN: Final = 5.0
_LEAD_LINEAR_SECONDS: Final = 10.0


def plot_comparison(comparison: Comparison, path: Path) -> None:
    """Write how equity, marks and times differ, and why, as a PNG of four panels."""
    # Drawing libraries take a second to load, which only a plot should cost; no display is needed.
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(12.0, 8.0), layout="constrained")
    equity, marks, times, reasons = axes.flat

    differences = [100.0 * row.difference_ratio for row in comparison.rows if row.difference_ratio is not None]
    clipped = [max(-_DIFFERENCE_SHOWN, min(_DIFFERENCE_SHOWN, value)) for value in differences]
    equity.hist(clipped, bins=41, color="tab:blue")
    equity.axvspan(-100.0 * AGREEMENT, 100.0 * AGREEMENT, color="tab:green", alpha=0.2)
    equity.set(
        title=f"Equity: {comparison.equity_agrees} of {comparison.single_coin} within {AGREEMENT:.1%} of notional",
        xlabel="ours less recorded, % of notional (ends: all beyond)",
        ylabel="liquidations",
    )

    apart = [row.mark_difference_bp for row in comparison.rows if row.mark_difference_bp is not None]
    marks.hist(apart, bins=41, color="tab:orange")
    marks.set(title="Prices we were given", xlabel="ours less the venue's mark, basis points", ylabel="liquidations")

    agreeing = [row for row in comparison.rows if abs(row.difference_ratio or 1.0) <= AGREEMENT]
    leads = sorted(row.lead_seconds for row in agreeing if row.lead_seconds is not None)
    times.step(leads, range(1, len(leads) + 1), where="post", color="tab:purple")
    times.axvline(0.0, color="black", linewidth=0.8)
    times.set_xscale("symlog", linthresh=_LEAD_LINEAR_SECONDS)
    times.set(
        title=f"Time, where equity agrees ({len(leads)} of {len(agreeing)})",
        xlabel="lead over the venue, seconds (negative: later)",
        ylabel="liquidations, cumulated",
    )

    counts = [(why, count) for why, count in comparison.why.items() if count]
    reasons.barh([why for why, _ in counts], [count for _, count in counts], color="tab:gray")
    reasons.invert_yaxis()
    reasons.set(title="Why", xlabel="liquidations")

    figure.savefig(path, dpi=110)
    plt.close(figure)
