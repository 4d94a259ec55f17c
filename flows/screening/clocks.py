"""Clocks that run by how much the market moves: the squares of moves, added up.

1. A clock tells *variance* and not time: it stands in a calm market, and one jump may carry it past any reading.
2. There is one for the level of each underlying, one for each smile (the implied vols of an underlying's expiry), and
   one for each asset. A level moves as far as the most that the spot, a forward or a mark does; an asset as far as what
   a unit of it counts for. Moves are ratios; a move of the oracle's confidence adds to them.
3. What began or ceased to be decidable breaks its clocks for that instant: no move says what it meant.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from flows.market.columns import NEVER_EXPIRES, InstrumentColumns
from flows.market.instant import Instant
from flows.pricing.kinds import OPTION

Float64Array = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

NO_CLOCK: Final = -1
# How fast the usual move is learned: the weight of an instant. It makes looks rarer or more frequent, and none late.
_LEARNING: Final = 1.0 / 256.0
_SPEED_MIN: Final = 1e-6


class Clocks:
    """All clocks, numbered as what they belong to is listed: C of them, of U underlyings, K instruments, A assets.

    Attributes
    ----------
    level : (U,), the clock of each underlying; vol : (K,), that of each option's smile, NO_CLOCK of what is none;
        asset : (A,), that of each asset.
    reading : (C,), sums of squared moves so far. moved, broke : (C,), whether a clock moved, or broke, at the last
        instant.
    """

    def __init__(self) -> None:
        self.level: Int32Array = np.zeros(0, np.int32)
        self.vol: Int32Array = np.zeros(0, np.int32)
        self.asset: Int32Array = np.zeros(0, np.int32)
        self.reading: Float64Array = np.zeros(0)
        self.moved: BoolArray = np.zeros(0, np.bool_)
        self.broke: BoolArray = np.zeros(0, np.bool_)
        self._variance: Float64Array = np.zeros(0)
        self._smiles: dict[tuple[int, int], int] = {}
        self._levels: Float64Array = np.zeros((3, 0))
        self._vols: Float64Array = np.zeros(0)
        self._confidence: Float64Array = np.zeros(0)
        self._decidable: BoolArray = np.zeros(0, np.bool_)
        self._worth: Float64Array = np.zeros(0)
        self._asset_confidence: Float64Array = np.zeros(0)
        self._asset_decidable: BoolArray = np.zeros(0, np.bool_)

    @property
    def speed(self) -> Float64Array:
        """(C,), the usual move of an instant, a ratio > 0."""
        return np.maximum(np.sqrt(self._variance), _SPEED_MIN)

    def advance(self, columns: InstrumentColumns, instant: Instant) -> None:
        """Take the moves from the instant before to this one."""
        self._grow(columns, instant.asset_price.shape[0])
        move = np.zeros(self.reading.shape[0])
        self.broke = np.zeros(self.reading.shape[0], np.bool_)
        which = np.flatnonzero(instant.moved)
        if which.shape[0]:
            of, vol = columns.underlying[which], self.vol[which]
            # A mark of an option is no level: its delta and vega say how it moves.
            marks = np.where(vol == NO_CLOCK, instant.mark_price[which], 0.0)
            levels = np.stack([instant.index_price[which], instant.forward[which], marks])
            change = _moves(self._levels[:, which], levels).max(axis=0)
            change += np.abs(columns.confidence - self._confidence)[of]
            np.maximum.at(move, self.level[of], change)
            smiles = vol != NO_CLOCK
            np.maximum.at(move, vol[smiles], _moves(self._vols[which], instant.implied_vol[which])[smiles])
            self.broke[self.level[of[self._decidable[which] != instant.value_decidable[which]]]] = True
            self._levels[:, which] = levels
            self._vols[which] = instant.implied_vol[which]
            self._decidable[which] = instant.value_decidable[which]
            self._confidence[:] = columns.confidence
        worth = instant.asset_price * (1.0 - instant.haircut)
        move[self.asset] = _moves(self._worth, worth) + np.abs(instant.asset_confidence - self._asset_confidence)
        self.broke[self.asset] = (self._asset_decidable != instant.asset_decidable) | (
            (self._worth <= 0.0) & (worth > 0.0)
        )
        self._worth, self._asset_decidable = worth, instant.asset_decidable.copy()
        self._asset_confidence = instant.asset_confidence.copy()
        square = move * move
        self.moved = (square > 0.0) | self.broke
        self.reading += square
        self._variance += np.where(self._variance == 0.0, square, _LEARNING * (square - self._variance))

    def _grow(self, columns: InstrumentColumns, assets: int) -> None:
        """Give clocks to what was listed."""
        count = self.reading.shape[0]
        more = len(columns.underlyings) - self.level.shape[0]
        self.level = np.append(self.level, np.arange(count, count + more, dtype=np.int32))
        self._confidence = np.pad(self._confidence, (0, more))
        count += more
        more = assets - self.asset.shape[0]
        self.asset = np.append(self.asset, np.arange(count, count + more, dtype=np.int32))
        self._worth = np.pad(self._worth, (0, more))
        self._asset_confidence = np.pad(self._asset_confidence, (0, more))
        self._asset_decidable = np.pad(self._asset_decidable, (0, more))
        count += more
        more = columns.count - self.vol.shape[0]
        if more:
            vol = np.full(more, NO_CLOCK, np.int32)
            for place, k in enumerate(range(columns.count - more, columns.count)):
                if columns.kind[k] == OPTION and columns.expiry_ns[k] != NEVER_EXPIRES:
                    smile = int(columns.underlying[k]), int(columns.expiry_ns[k])
                    vol[place] = self._smiles.setdefault(smile, count)
                    count = max(count, int(vol[place]) + 1)
            self.vol = np.append(self.vol, vol)
            self._levels = np.pad(self._levels, ((0, 0), (0, more)))
            self._vols = np.pad(self._vols, (0, more))
            self._decidable = np.pad(self._decidable, (0, more))
        self.reading = np.pad(self.reading, (0, count - self.reading.shape[0]))
        self._variance = np.pad(self._variance, (0, count - self._variance.shape[0]))


def _moves(before: Float64Array, now: Float64Array) -> Float64Array:
    """Return |now / before - 1|; 0 where nothing was known before."""
    known = before > 0.0
    return np.abs(np.divide(now, before, out=np.ones(now.shape), where=known) - 1.0)
