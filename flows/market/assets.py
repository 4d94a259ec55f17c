"""Every asset as columns: what margin models and equity read of it.

1. Row a of every column is asset a of the listings. Arrays are replaced, never written: whoever keeps them, keeps what
   they said.
2. The numbers are those of this instant; an asset's move re-prices every underlying that has an instrument settled in
   it, so ``InstrumentColumns.settlement_price`` is the same number.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Int32Array = npt.NDArray[np.int32]

NO_UNDERLYING = -1


def _none() -> Float64Array:
    return np.zeros(0)


def _nowhere() -> BoolArray:
    return np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True)
class AssetColumns:
    """Columns by asset, shapes (A,).

    Attributes
    ----------
    name : their names. numeraire : which of them the numeraire is.
    price : numeraire per whole asset: the last usable one, 0.0 before the first; the numeraire's own is 1.0.
    confidence : half the band over the price of that aggregate, a ratio >= 0; 0.0 before, and of the numeraire.
    decidable : whether there is a usable price now.
    unit : whole assets per unit: 10**-decimals.
    underlying : index into ``InstrumentColumns.underlyings`` of the one whose spot the asset is, ``NO_UNDERLYING``
        where nothing of it is listed.
    """

    name: tuple[str, ...] = ()
    numeraire: BoolArray = field(default_factory=_nowhere)
    price: Float64Array = field(default_factory=_none)
    confidence: Float64Array = field(default_factory=_none)
    decidable: BoolArray = field(default_factory=_nowhere)
    unit: Float64Array = field(default_factory=_none)
    underlying: Int32Array = field(default_factory=lambda: np.zeros(0, np.int32))

    def listed(self, *, name: str, decimals: int, underlying: int, numeraire: bool) -> "AssetColumns":
        """Return the columns with one asset more, of which only the numeraire has a price yet."""
        return AssetColumns(
            name=(*self.name, name),
            numeraire=np.append(self.numeraire, numeraire),
            price=np.append(self.price, 1.0 if numeraire else 0.0),
            confidence=np.append(self.confidence, 0.0),
            decidable=np.append(self.decidable, numeraire),
            unit=np.append(self.unit, 1.0 / 10**decimals),
            underlying=np.append(self.underlying, np.int32(underlying)),
        )

    def priced(self, asset: int, *, price: float, confidence: float, decidable: bool) -> "AssetColumns":
        """Return the columns with an asset's price as it now stands."""
        prices, confidences, decidables = self.price.copy(), self.confidence.copy(), self.decidable.copy()
        prices[asset], confidences[asset], decidables[asset] = price, confidence, decidable
        return replace(self, price=prices, confidence=confidences, decidable=decidables)

    def spot_of(self, asset: int, underlying: int) -> "AssetColumns":
        """Return the columns with an asset known as the spot of an underlying."""
        underlyings = self.underlying.copy()
        underlyings[asset] = underlying
        return replace(self, underlying=underlyings)
