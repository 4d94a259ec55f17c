"""What moved between two instants, and why: the inputs of which a screen's boxes have to be ranges.

An instant says which instruments were priced anew. A box is about inputs: the spot left its range, or a vol did, or the
box's time is over. A watch keeps the inputs of the instant before and compares, for the law that there are no others.

1. Nothing that an evaluation reads differs between two instants without a reason here: what is worth something is a
   function of its inputs, and all of them are compared. A law holds it to this.
2. Reasons are never wider than the instant's own flags: where those say that nothing moved, no reason is looked for.
3. ``everything`` stands for parameters and rules, and for the first instant that a watch sees; the other columns say
   nothing then. What was listed since has all its reasons.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flows.market.instant import Instant
from flows.market.step import Market
from flows.screening.policy import anything_moved

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Moves:
    """Whether each input differs from the instant before: U underlyings, K instruments, A assets.

    Attributes
    ----------
    everything : parameters or rules changed, or this is the first instant.
    listed : there are more underlyings, instruments or assets than before; indices inside margin tables may count anew.
    time : (U,), priced at another time: ``priced_at_ns``. spot : (U,), the index price or its state.
        confidence : (U,), of the index price.
    forward : (K,), the forward's ratio to the spot, or its state. vol : (K,), the implied vol, or its state.
        rate : (K,). mark : (K,), the venue's mark. settled : (K,). decidable : (K,), an outcome of the others.
    asset_price, asset_confidence, haircut, asset_decidable : (A,).
    """

    everything: bool
    listed: bool
    time: BoolArray
    spot: BoolArray
    confidence: BoolArray
    forward: BoolArray
    vol: BoolArray
    rate: BoolArray
    mark: BoolArray
    settled: BoolArray
    decidable: BoolArray
    asset_price: BoolArray
    asset_confidence: BoolArray
    haircut: BoolArray
    asset_decidable: BoolArray


# Each field of ``Moves`` with the inputs that it stands for.
_REASONS: Final[dict[str, tuple[str, ...]]] = {
    "time": ("priced_at_ns",),
    "spot": ("spot", "spot_state"),
    "confidence": ("confidence",),
    "forward": ("forward_ratio", "forward_state"),
    "vol": ("implied_vol", "vol_state"),
    "rate": ("rate",),
    "mark": ("venue_mark",),
    "settled": ("settled",),
    "decidable": ("value_decidable",),
    "asset_price": ("asset_price",),
    "asset_confidence": ("asset_confidence",),
    "haircut": ("haircut",),
    "asset_decidable": ("asset_decidable",),
}
# An instant's arrays never change; the market's columns are written in place, and are copied.
_OF_THE_INSTANT: Final = ("value_decidable", "asset_price", "asset_confidence", "haircut", "asset_decidable")
_OF_THE_COLUMNS: Final = tuple(name for names in _REASONS.values() for name in names if name not in _OF_THE_INSTANT)
_SIZES: Final = ("spot", "rate", "asset_price")  # one column each by underlying, instrument, asset


class Watch:
    """Remembers a market's inputs. Ask it at every instant, in order, or what it says is of the last one asked for."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._before: dict[str, npt.NDArray[Any]] | None = None

    def moves(self, instant: Instant) -> Moves:
        """Return what differs from the instant before; the market has just made ``instant``."""
        before = self._before
        if before is not None and not anything_moved(instant):
            return _reasons(before, before, everything=False)
        self._before = self._inputs(instant)
        if before is None:
            return _reasons(self._before, self._before, everything=True)
        return _reasons(before, self._before, everything=instant.everything_moved)

    def _inputs(self, instant: Instant) -> dict[str, npt.NDArray[Any]]:
        columns = self._market.columns
        inputs = {name: getattr(columns, name).copy() for name in _OF_THE_COLUMNS}
        inputs |= {name: getattr(instant, name) for name in _OF_THE_INSTANT}
        # A mark that is not there is equal to itself.
        inputs["venue_mark"][np.isnan(inputs["venue_mark"])] = 0.0
        return inputs


def _reasons(before: dict[str, npt.NDArray[Any]], now: dict[str, npt.NDArray[Any]], *, everything: bool) -> Moves:
    reasons: dict[str, BoolArray] = {}
    for reason, names in _REASONS.items():
        reasons[reason] = _differs(before[names[0]], now[names[0]])
        for name in names[1:]:
            reasons[reason] |= _differs(before[name], now[name])
    listed = any(before[name].shape != now[name].shape for name in _SIZES)
    return Moves(everything=everything, listed=listed, **reasons)


def _differs(before: npt.NDArray[Any], now: npt.NDArray[Any]) -> BoolArray:
    """Return where the columns differ; what is new differs."""
    if before.shape == now.shape:
        moved: BoolArray = before != now
        return moved
    differs = np.ones(now.shape[0], np.bool_)
    differs[: before.shape[0]] = before != now[: before.shape[0]]
    return differs
