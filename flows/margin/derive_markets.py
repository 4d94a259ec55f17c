"""What Derive's models read of a whole market: which instruments count, what stands together, what is cash.

1. Linear options and perpetuals are covered, spot pairs and what has settled are nothing, and all else is not covered.
2. A *group* is what settles in one asset on one underlying: one of the venue's accounts, or one market of it.
3. What covered instruments settle in is cash, and so is the numeraire. Every other asset is collateral; it stands in
   the first group, by settlement asset, that has covered instruments on the underlying that it follows.
4. A confidence is 1 where a price has no band, and falls to 0 at the band that the parameters name. The market tells
   one of each underlying, so marks, forwards, rates and vols have that of spot.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from flows.margin.grouping import dense
from flows.margin.model import BoolArray, Float64Array, Int64Array
from flows.market.columns import InstrumentColumns, Int8Array, Int32Array
from flows.pricing.kinds import OPTION, PERPETUAL, SPOT

# How an instrument counts.
NOTHING: Final = 0
IS_OPTION: Final = 1
IS_LINEAR: Final = 2
NOT_COVERED: Final = 3

NO_GROUP: Final = -1


@dataclass(frozen=True, slots=True)
class Markets:
    """The groups of K instruments, G of them, and A assets.

    Attributes
    ----------
    sort, group : (K,), how an instrument counts, and its group.
    settlement_price : (G,), numeraire per settlement asset. confidence : (G,), 0 to 1, of the underlying's price.
    home : (U,), the group in which collateral that follows an underlying stands; ``NO_GROUP`` where nothing covered is
        listed on it.
    cash : (A,), whether an asset counts as cash. asset_confidence : (A,), 0 to 1, of its price.
    stable_price : numeraire per asset that the first covered group settles in; 1.0 where there is none.
    """

    sort: Int8Array
    group: Int32Array
    settlement_price: Float64Array
    confidence: Float64Array
    home: Int64Array
    cash: BoolArray
    asset_confidence: Float64Array
    stable_price: float


def markets_of(columns: InstrumentColumns, confidence_band: float) -> Markets:
    """Return the market's groups; a price whose band is ``confidence_band`` of it has no confidence left."""
    sort = sorts(columns)
    first, group = dense(columns.underlying, columns.settlement_asset)
    # Also by what has settled: cash stays cash when the last option on it has expired.
    covered = np.zeros(first.shape[0], np.bool_)
    covered[group[_is_covered(columns)]] = True
    home = np.full(len(columns.underlyings), NO_GROUP, np.int64)
    # From the last to the first: what stands is the first.
    for g in np.flatnonzero(covered)[::-1]:
        home[columns.underlying[first[g]]] = g
    assets = columns.assets
    cash = assets.numeraire.copy()
    cash[columns.settlement_asset[first[covered]]] = True
    settlement_price = columns.settlement_price[first]
    return Markets(
        sort=sort,
        group=group,
        settlement_price=settlement_price,
        confidence=_confidence(columns.confidence, confidence_band)[columns.underlying[first]],
        home=home,
        cash=cash,
        asset_confidence=_confidence(assets.confidence, confidence_band),
        stable_price=float(settlement_price[covered][0]) if covered.any() else 1.0,
    )


def sorts(columns: InstrumentColumns) -> Int8Array:
    """Return how each instrument counts, (K,): not at all, as an option, as linear, or not covered."""
    nothing = (columns.kind == SPOT) | (columns.settled != 0)
    kind = np.where(columns.kind == OPTION, IS_OPTION, IS_LINEAR)
    return np.where(nothing, NOTHING, np.where(_is_covered(columns), kind, NOT_COVERED)).astype(np.int8)


def _is_covered(columns: InstrumentColumns) -> BoolArray:
    covered: BoolArray = (columns.inverse == 0) & ((columns.kind == OPTION) | (columns.kind == PERPETUAL))
    return covered


def _confidence(ratio: Float64Array, band: float) -> Float64Array:
    return np.maximum(1.0 - ratio / band, 0.0)
