"""How far the market may move while boxes stand, and what a bound of health is over them.

1. Ranges hold every input by which a decision can move (``InstrumentColumns`` and its assets); whatever a margin model
   reads of the market is a function of them. A range is closed, and its low end comes first.
2. Inputs move apart: a bound assumes nothing of how one goes with another. What does go together is one input here: a
   forward or a mark is its ratio to the spot times the spot, and a coin in which an inverse instrument settles is its
   tie times the spot.
3. A bound of health is about the boundaries of the ladder: ``equity = multiple × margin``. It says how far an account
   stays from the one below and from the one above, wherever the market is within the ranges.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from flows.margin.model import OpenOrders, PositionColumns
from flows.market.columns import InstrumentColumns
from flows.market.instant import Instant

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int8Array = npt.NDArray[np.int8]
BoolArray = npt.NDArray[np.bool_]

LOW: Final = 0
HIGH: Final = 1

# Of which margin a boundary is a multiple; NO_BOUNDARY where there is none on that side.
NO_BOUNDARY: Final = 0
INITIAL: Final = 1
MAINTENANCE: Final = 2


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ends of ranges, low and high: U underlyings, K instruments, A assets.

    Attributes
    ----------
    spot : (2, U), numeraire per underlying, > 0. confidence : (2, U), of the index price, a ratio >= 0.
    ratio : (2, K), > 0, over spot: of an option its forward, of a future or perpetual its mark. A future's forward is
        its mark.
    vol : (2, K), annualised, >= 0, of options. rate : (2, K), annual, continuously compounded.
    time : (2, K), years to expiry at the end and at the beginning, >= 0; 0 where nothing expires.
    tie : (2, K), of inverse instruments: price of the settlement asset over spot, about 1.
    known : (K,), whether a box stands for the instrument and it is decidable, not settled, in all of it.
    price : (2, A), numeraire per whole asset. haircut : (2, A). asset_confidence : (2, A), a ratio >= 0.
    asset_known : (A,), whether the asset's box stands.
    """

    spot: Float64Array
    confidence: Float64Array
    ratio: Float64Array
    vol: Float64Array
    rate: Float64Array
    time: Float64Array
    tie: Float64Array
    known: BoolArray
    price: Float64Array
    haircut: Float64Array
    asset_confidence: Float64Array
    asset_known: BoolArray

    @staticmethod
    def of(underlyings: int, instruments: int, assets: int) -> "Ranges":
        """Return ranges in which nothing is known."""
        return Ranges(
            spot=np.zeros((2, underlyings)),
            confidence=np.zeros((2, underlyings)),
            ratio=np.zeros((2, instruments)),
            vol=np.zeros((2, instruments)),
            rate=np.zeros((2, instruments)),
            time=np.zeros((2, instruments)),
            tie=np.ones((2, instruments)),
            known=np.zeros(instruments, np.bool_),
            price=np.zeros((2, assets)),
            haircut=np.zeros((2, assets)),
            asset_confidence=np.zeros((2, assets)),
            asset_known=np.zeros(assets, np.bool_),
        )


@dataclass(frozen=True, slots=True)
class Accounts:
    """What a bound reads of accounts, by book row: N rows, C balances.

    ``cash`` (N, C), units; ``isolated`` (N,). ``open_orders`` is None where nobody has any.
    """

    cash: Int64Array
    positions: PositionColumns
    isolated: BoolArray
    open_orders: OpenOrders | None


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Between which boundaries n accounts stand: shapes (n,).

    ``below_of``, ``above_of`` : NO_BOUNDARY, INITIAL or MAINTENANCE. ``below``, ``above`` : the multiple of that
    margin, >= 0. An account keeps its tier while ``equity >= below × margin`` and ``equity < above × margin``.
    """

    below_of: Int8Array
    below: Float64Array
    above_of: Int8Array
    above: Float64Array

    def of(self, chosen: Int64Array) -> "Boundaries":
        """Return those of some of the accounts, by their places among the n."""
        return Boundaries(self.below_of[chosen], self.below[chosen], self.above_of[chosen], self.above[chosen])


class HealthBounds(Protocol):
    """Bounds of the accounts of one margin model, over one set of ranges, which change in place.

    Opened by ``(columns, parameters, instant)``, and anew when any parameters change or anything is listed.
    """

    def write(self, ranges: Ranges, members: Int64Array) -> None:
        """Take the ranges of some instruments of one underlying anew: (m,) instrument indices, rising.

        Called before ``slack`` reads them, whenever any range of theirs, of their underlying, or of what they settle
        in is another. ``ranges.known`` may be false of some.
        """

    def slack(self, ranges: Ranges, accounts: Accounts, boundaries: Boundaries, rows: Int64Array) -> Float64Array:
        """Return (n, 2), numeraire: the least of ``equity - below × margin`` and of ``above × margin - equity``.

        A lower bound of either over all that the ranges allow, rounded downward; infinity where there is no boundary
        on that side, minus infinity where the account holds what is not known or not bounded. ``above × margin -
        equity`` must be positive, not 0, for the tier to be kept.
        """


class OpensBounds(Protocol):
    """Opens a margin model's bounds over one set of ranges."""

    def __call__(self, columns: InstrumentColumns, parameters: Any, instant: Instant) -> HealthBounds:
        """Return the bounds; nothing is written yet."""
