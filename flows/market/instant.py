"""The market as one frame sees it: everything the risk step needs to decide accounts, as columns by index.

1. An instant is a function of the ledger alone. It is computed once a frame and shared by all shards of a process.
2. A value that cannot be known is not zero: its instrument (or asset) is not *decidable*, and accounts that hold it
   are not decided until it is.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.parameters import LadderParameters, LiquidationParameters

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
UInt32Array = npt.NDArray[np.uint32]
UInt16Array = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class CashPerLot:
    """An exact payment for every long lot of an instrument, and whether it closes the position.

    ``units`` is signed, in units of the instrument's settlement asset; a short receives the opposite.
    """

    instrument: int
    units: int
    closes: bool


@dataclass(frozen=True, slots=True)
class FundingOwed:
    """A funding rate that fell due while its perpetual could not be priced; ``rates`` of that perpetual wait now."""

    instrument: int
    rates: int


@dataclass(frozen=True, slots=True)
class Instant:
    """The market at one frame.

    Shapes: K instruments, A assets, in listing order. Values are per long lot.

    Attributes
    ----------
    value : (K,), whole settlement assets per lot, signed; 0 once settled.
    value_decidable : (K,), every input is known and fresh enough. Settled instruments are decidable.
    settlement_asset : (K,), asset index.
    notional : (K,), numeraire per lot, >= 0: |quantity| × underlying price; for sizes and floors, not for value.
    asset_price : (A,), numeraire per whole asset, > 0 where decidable.
    asset_decidable : (A,).
    asset_unit : (A,), whole assets per unit: 10**-decimals.
    haircut : (A,), 0 to 1: all that is taken off a positive net, as in force now (``flows.market.haircuts``).
    asset_confidence : (A,), half the band of ``asset_price`` over it, a ratio >= 0; realised_vol : (A,), annualised,
        0.0 where nothing is known. Both are in ``haircut`` already.
    greeks : (K, 5), numeraire per lot: delta (per 1.00 of underlying price), gamma (per 1.00 squared), vega (per 1.00
        of vol), theta (per day), rho (per 1.00 of rate); the settlement asset's own price is held fixed.
    index_price : (K,), numeraire per underlying; mark_price : (K,), quote per contract quantity; implied_vol : (K,),
        0 where there is none; forward : (K,).
    moved : (K,), what a decision reads of the instrument (value, tables, decidability) may differ from the instant
        before.
    asset_moved : (A,), likewise for price, haircut and decidability of an asset.
    everything_moved : parameters or rules changed, or this is the first instant after a resume.
    margin_tables : by margin model name, whatever its ``requirements`` reads.
    payments : due now, in order; already exact integers. funding_owed : what fell due now and waits for a price.
    """

    frame: int
    time_ns: int
    value: Float64Array
    value_decidable: BoolArray
    settlement_asset: UInt16Array
    notional: Float64Array
    asset_price: Float64Array
    asset_decidable: BoolArray
    asset_unit: Float64Array
    haircut: Float64Array
    asset_confidence: Float64Array
    realised_vol: Float64Array
    greeks: Float64Array
    index_price: Float64Array
    mark_price: Float64Array
    implied_vol: Float64Array
    forward: Float64Array
    moved: BoolArray
    asset_moved: BoolArray
    everything_moved: bool
    ladder: LadderParameters
    liquidation: LiquidationParameters
    margin_tables: dict[str, Any] = field(default_factory=dict)
    payments: list[CashPerLot] = field(default_factory=list)
    funding_owed: list[FundingOwed] = field(default_factory=list)
