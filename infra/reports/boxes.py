"""A picture of the boxes as they follow the market: where they stood and how long, and what screening took meanwhile.

1. What is drawn was told while a process ran (``flows.screening.observer``): of a resumed run, what came behind the
   resume.
2. Memory is bounded: points are kept closer together only as long as there are few of them, each as the most of what it
   stands for; boxes of a width that comes too often are dropped, and the picture says so.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flows.market.instant import Instant
from flows.market.step import Market
from flows.screening.observer import Residence
from flows.screening.policy import Work

_POINTS_MAX: Final = 8_192
_DAY_NS: Final = 86_400e9  # a drawing counts days since 1970
_BOXES_MAX: Final = 4_000  # of each underlying and width


@dataclass(frozen=True, slots=True)
class Box:
    """A box of an underlying: from ``low`` to ``high``, while it stood; ``until_ns`` is None if it still did."""

    underlying: int
    width: float
    low: float
    high: float
    from_ns: int
    until_ns: int | None


@dataclass(frozen=True, slots=True)
class Point:
    """Some frames: spots (U,) behind the last of them, and the most accounts evaluated, placed and hot in one."""

    time_ns: int
    spot: npt.NDArray[np.float64]
    evaluated: int
    placed: int
    hot: int


class BoxLog:
    """Keeps what one process's screen tells."""

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self._points: list[Point] = []
        self.underlyings: list[str] = []
        self._standing: dict[tuple[int, int], Box] = {}
        self._counts: Counter[tuple[int, float]] = Counter()
        self._every = 1
        self._waiting: list[Point] = []

    def box_built(self, *, underlying: int, width: float, slot: int, low: float, high: float, time_ns: int) -> None:
        """Take that a box stands."""
        self._end(underlying, slot, time_ns)
        self._standing[underlying, slot] = Box(underlying, width, low, high, time_ns, None)

    def box_left(self, *, underlying: int, width: float, slot: int, time_ns: int) -> None:  # noqa: ARG002
        """Take that a box is torn down."""
        self._end(underlying, slot, time_ns)

    def frame(
        self,
        market: Market,
        instant: Instant,
        /,
        *,
        evaluated: int,
        work: Work,
        residence: Callable[[], Residence],  # noqa: ARG002
    ) -> None:
        """Take what a frame took."""
        self.underlyings = market.columns.underlyings
        spot = market.columns.spot.copy()
        self._waiting.append(Point(instant.time_ns, spot, evaluated, work.placements, work.hot_accounts))
        if len(self._waiting) >= self._every:
            self._points.append(_most(self._waiting))
            self._waiting = []
            if len(self._points) > _POINTS_MAX:
                self._points = [_most(self._points[place : place + 2]) for place in range(0, len(self._points), 2)]
                self._every *= 2

    def points(self) -> list[Point]:
        """Return all frames, in order, some of them together."""
        return [*self._points, _most(self._waiting)] if self._waiting else self._points

    def all_boxes(self) -> list[Box]:
        """Return those that ended and those that stand."""
        return [*self.boxes, *self._standing.values()]

    def dropped(self) -> int:
        """Return how many boxes were not kept."""
        return sum(max(0, count - _BOXES_MAX) for count in self._counts.values())

    def _end(self, underlying: int, slot: int, time_ns: int) -> None:
        box = self._standing.pop((underlying, slot), None)
        if box is None:
            return
        self._counts[underlying, box.width] += 1
        if self._counts[underlying, box.width] <= _BOXES_MAX:
            self.boxes.append(Box(underlying, box.width, box.low, box.high, box.from_ns, time_ns))


def plot_boxes(log: BoxLog, path: Path) -> None:
    """Write a PNG: the price of the underlying that had the most boxes in them, and accounts looked at below.

    Raises
    ------
    ValueError : there was no frame, or no box.
    """
    boxes, points = log.all_boxes(), log.points()
    if not boxes or not points:
        raise ValueError("no box was built: only the policy `boxes` builds any, where accounts are worth one")
    # Drawing libraries take a second to load, which only a plot should cost; no display is needed.
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    underlying = Counter(box.underlying for box in boxes).most_common(1)[0][0]
    known = [point for point in points if underlying < point.spot.shape[0] and point.spot[underlying] > 0.0]
    times = [_time(point.time_ns) for point in known]
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(11.0, 8.0), sharex=True, layout="constrained", height_ratios=[2.0, 1.0]
    )
    _draw_boxes(above, [box for box in boxes if box.underlying == underlying], known[-1].time_ns)
    above.plot(times, [point.spot[underlying] for point in known], color="black", linewidth=0.8)
    spots = [point.spot[underlying] for point in known]
    above.set(ylim=(0.97 * min(spots), 1.03 * max(spots)), ylabel=f"{log.underlyings[underlying]}, spot")
    dropped = f"; {log.dropped():,} narrow ones are not drawn" if log.dropped() else ""
    above.set_title(f"boxes of {log.underlyings[underlying]}, darker where narrower{dropped}")
    for name, values in (
        ("evaluated", [point.evaluated for point in known]),
        ("placed", [point.placed for point in known]),
        ("hot", [point.hot for point in known]),
    ):
        below.step(times, values, where="post", label=name, linewidth=0.8)
    below.set(ylabel="accounts, in one frame", yscale="symlog")
    below.legend(loc="upper left")
    figure.autofmt_xdate()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_boxes(axes: Any, boxes: list[Box], end_ns: int) -> None:
    from matplotlib import colormaps
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    widths = sorted({box.width for box in boxes}, reverse=True)
    for place, width in enumerate(widths):
        patches = []
        for box in boxes:
            if box.width == width:
                begin = box.from_ns / _DAY_NS
                end = (end_ns if box.until_ns is None else box.until_ns) / _DAY_NS
                patches.append(Rectangle((begin, box.low), end - begin, box.high - box.low))
        color = colormaps["viridis_r"]((place + 1) / (len(widths) + 1))
        axes.add_collection(PatchCollection(patches, facecolor=color, edgecolor=color, alpha=0.25, linewidth=0.3))


def _most(points: list[Point]) -> Point:
    last = points[-1]
    return Point(
        last.time_ns, last.spot, max(point.evaluated for point in points), max(point.placed for point in points),
        max(point.hot for point in points),
    )  # fmt: skip


def _time(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns / 1e9, UTC)
