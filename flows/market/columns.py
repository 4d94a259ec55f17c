"""Every instrument as columns: what it is, what the market says of it, and what it is worth.

1. Row i of every column is instrument i of the listings; columns grow by doubling, so thousands can be listed singly.
2. Static columns never change. Inputs change where a market record says so. Outputs are written by
   ``flows.market.valuation.price`` alone, and are a function of static columns, inputs and a time. All are written in
   place: whoever reads them copies what it keeps.
3. ``priced_at_ns`` is that time, by underlying: an underlying's instruments are priced together.
"""

from typing import Any, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt

from flows.market.assets import AssetColumns
from flows.market.listings import Instrument
from flows.pricing.kinds import KIND_CODES
from schemas.instruments import OptionType, Payoff

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
UInt16Array = npt.NDArray[np.uint16]
_Array = TypeVar("_Array", bound=npt.NDArray[Any])

# How a forward or a smile stands: never told, young enough, too old.
UNKNOWN: Final = 0
FRESH: Final = 1
STALE: Final = 2

NEVER_EXPIRES: Final = -1

# Rows of ``reals``; those before OUTPUT_ROWS are copied into every instant.
VALUE: Final = 0
NOTIONAL: Final = 1
INDEX_PRICE: Final = 2
MARK_PRICE: Final = 3
FORWARD: Final = 4
IMPLIED_VOL: Final = 5
OUTPUT_ROWS: Final = 6
TIME_TO_EXPIRY: Final = 6
SETTLEMENT_PRICE: Final = 7
QUANTITY: Final = 8
STRIKE: Final = 9
FORWARD_RATIO: Final = 10
RATE: Final = 11
VENUE_MARK: Final = 12
_REAL_ROWS: Final = 13

# Rows of ``codes``.
KIND: Final = 0
INVERSE: Final = 1
CALL: Final = 2
SETTLED: Final = 3
FORWARD_STATE: Final = 4
VOL_STATE: Final = 5
DECIDABLE: Final = 6
_CODE_ROWS: Final = 7

_CAPACITY_MIN: Final = 16


class InstrumentColumns:
    """Columns by instrument, shapes (K,) unless said otherwise.

    Attributes
    ----------
    kind : OPTION, FUTURE, PERPETUAL or SPOT. inverse, call, settled, decidable : 0 or 1.
    underlying : index into ``underlyings``, dense, in order of first listing.
    settlement_asset : asset index. expiry_ns : ``NEVER_EXPIRES`` where there is none.
    quantity : of one lot; underlying (linear, options) or quote currency (inverse futures and perpetuals).
    strike : quote per underlying, 0 where there is none.
    forward_ratio : forward over spot; forward_state, vol_state : UNKNOWN, FRESH or STALE.
    rate : continuously compounded, of the quote currency. venue_mark : NaN where there is no fresh one.
    implied_vol : input of options, 0 where there is none.
    time_to_expiry : years ACT/365 when last priced, 0 where there is none.
    value, notional, index_price, mark_price, forward : as in ``Instant``.
    settlement_price : numeraire per settlement asset, when last priced.
    greeks : (K, 5), as in ``Instant``.
    priced_at_ns : (U,), by underlying; spot : (U,), its last usable index price, 0.0 before; spot_state : (U,).
    confidence : (U,), half the band over the price of that index price's aggregate, a ratio >= 0; 0.0 before. A change
        prices the underlying anew.
    assets : every asset's numbers at this instant, shapes (A,).
    """

    def __init__(self) -> None:
        self.count = 0
        self.underlyings: list[str] = []
        self._underlying_index: dict[str, int] = {}
        self.reals: Float64Array = np.zeros((_REAL_ROWS, _CAPACITY_MIN))
        self.codes: Int8Array = np.zeros((_CODE_ROWS, _CAPACITY_MIN), np.int8)
        self._greeks: Float64Array = np.zeros((_CAPACITY_MIN, 5))
        self._expiry_ns: Int64Array = np.zeros(_CAPACITY_MIN, np.int64)
        self._underlying: Int32Array = np.zeros(_CAPACITY_MIN, np.int32)
        self._settlement_asset: UInt16Array = np.zeros(_CAPACITY_MIN, np.uint16)
        self.priced_at_ns = np.zeros(0, np.int64)
        self.spot = np.zeros(0)
        self.spot_state = np.zeros(0, np.int8)
        self.confidence = np.zeros(0)
        self.assets = AssetColumns()
        self._expose()

    def append(self, instrument: Instrument) -> int:
        """Add an instrument, unknown and undecidable; return the index of its underlying."""
        i = self.count
        assert instrument.index == i, f"instrument {instrument.index} cannot follow {i} columns"
        if i == self._expiry_ns.shape[0]:
            self._grow(2 * i)
        underlying = self._underlying_index.get(instrument.underlying, -1)
        if underlying < 0:
            underlying = len(self.underlyings)
            self._underlying_index[instrument.underlying] = underlying
            self.underlyings.append(instrument.underlying)
            self.priced_at_ns = np.append(self.priced_at_ns, 0)
            self.spot = np.append(self.spot, 0.0)
            self.spot_state = np.append(self.spot_state, np.int8(UNKNOWN))
            self.confidence = np.append(self.confidence, 0.0)
        self.reals[QUANTITY, i] = float(instrument.lot_quantity)
        self.reals[STRIKE, i] = 0.0 if instrument.strike is None else float(instrument.strike)
        self.reals[FORWARD_RATIO, i] = 1.0
        self.reals[VENUE_MARK, i] = np.nan
        self.codes[KIND, i] = KIND_CODES[instrument.kind]
        self.codes[INVERSE, i] = instrument.payoff is Payoff.INVERSE
        self.codes[CALL, i] = instrument.option_type is OptionType.CALL
        self._expiry_ns[i] = NEVER_EXPIRES if instrument.expiry_ns is None else instrument.expiry_ns
        self._underlying[i] = underlying
        self._settlement_asset[i] = instrument.settlement_asset
        self.count = i + 1
        self._expose()
        return underlying

    def underlying_index(self, underlying: str) -> int:
        """Return the index of an underlying, -1 where nothing of it is listed."""
        return self._underlying_index.get(underlying, -1)

    def _grow(self, capacity: int) -> None:
        self.reals = _wider(self.reals, capacity)
        self.codes = _wider(self.codes, capacity)
        self._expiry_ns = _wider(self._expiry_ns, capacity)
        self._underlying = _wider(self._underlying, capacity)
        self._settlement_asset = _wider(self._settlement_asset, capacity)
        greeks = np.zeros((capacity, 5))
        greeks[: self.count] = self._greeks[: self.count]
        self._greeks = greeks

    def _expose(self) -> None:
        """Point the named columns at the first ``count`` places of the storage."""
        k = self.count
        reals, codes = self.reals, self.codes
        self.value: Float64Array = reals[VALUE, :k]
        self.notional: Float64Array = reals[NOTIONAL, :k]
        self.index_price: Float64Array = reals[INDEX_PRICE, :k]
        self.mark_price: Float64Array = reals[MARK_PRICE, :k]
        self.forward: Float64Array = reals[FORWARD, :k]
        self.implied_vol: Float64Array = reals[IMPLIED_VOL, :k]
        self.time_to_expiry: Float64Array = reals[TIME_TO_EXPIRY, :k]
        self.settlement_price: Float64Array = reals[SETTLEMENT_PRICE, :k]
        self.quantity: Float64Array = reals[QUANTITY, :k]
        self.strike: Float64Array = reals[STRIKE, :k]
        self.forward_ratio: Float64Array = reals[FORWARD_RATIO, :k]
        self.rate: Float64Array = reals[RATE, :k]
        self.venue_mark: Float64Array = reals[VENUE_MARK, :k]
        self.kind: Int8Array = codes[KIND, :k]
        self.inverse: Int8Array = codes[INVERSE, :k]
        self.call: Int8Array = codes[CALL, :k]
        self.settled: Int8Array = codes[SETTLED, :k]
        self.forward_state: Int8Array = codes[FORWARD_STATE, :k]
        self.vol_state: Int8Array = codes[VOL_STATE, :k]
        self.decidable: Int8Array = codes[DECIDABLE, :k]
        self.greeks: Float64Array = self._greeks[:k]
        self.expiry_ns: Int64Array = self._expiry_ns[:k]
        self.underlying: Int32Array = self._underlying[:k]
        self.settlement_asset: UInt16Array = self._settlement_asset[:k]


def _wider(array: _Array, capacity: int) -> _Array:
    """Return the array with its last axis lengthened by zeros."""
    grown = np.zeros((*array.shape[:-1], capacity), array.dtype)
    grown[..., : array.shape[-1]] = array
    return cast(_Array, grown)
