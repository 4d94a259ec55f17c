"""What is listed, as columns by index: numbers become names, units become amounts."""

from decimal import Decimal
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.market.listings import Listings
from flows.snapshot.tables import AMOUNT, AnyArray, BoolArray, Float64Array, Int64Array, IntegerArray
from schemas.ids import FIRST_ACCOUNT_NUMBER, SYSTEM_ACCOUNTS
from schemas.instruments import InstrumentKind, Payoff
from schemas.money import DECIMALS_MAX
from schemas.results import Tier

NO_EXPIRY: Final = -1
_UNIT: Final = pa.decimal128(9, DECIMALS_MAX)
_I64_DIGITS: Final = pa.decimal128(19, 0)
_TIERS: Final = pa.array([tier.name.lower() for tier in Tier])


class Names:
    """What is listed, as columns by index, to turn numbers into names and units into amounts."""

    def __init__(self, listings: Listings) -> None:
        room: list[str | None] = [None] * (FIRST_ACCOUNT_NUMBER - len(SYSTEM_ACCOUNTS))
        opened = [account.account for account in listings.accounts]
        self._accounts = pa.array([*SYSTEM_ACCOUNTS, *room, *opened], pa.string())
        self._instruments = pa.array([instrument.instrument for instrument in listings.instruments], pa.string())
        self._assets = pa.array([asset.asset for asset in listings.assets], pa.string())
        self._exact_unit = pa.array([Decimal(1).scaleb(-asset.decimals) for asset in listings.assets], _UNIT)
        self.unit = np.array([10.0**-asset.decimals for asset in listings.assets])
        self.lot_size = np.array([float(instrument.lot_size) for instrument in listings.instruments])
        self.lot_quantity = np.array([float(instrument.lot_quantity) for instrument in listings.instruments])
        self.tick_size = np.array([float(instrument.tick_size) for instrument in listings.instruments])
        self.settlement_asset = np.array([i.settlement_asset for i in listings.instruments], dtype=np.int64)
        # Futures and perpetuals paid in coin are worth −quantity / price; an inverse option's price is in coins.
        self.reciprocal = np.array(
            [i.payoff is Payoff.INVERSE and i.kind is not InstrumentKind.OPTION for i in listings.instruments],
            dtype=np.bool_,
        )
        underlyings: dict[str, int] = {}
        self.underlying = np.array(
            [underlyings.setdefault(i.underlying, len(underlyings)) for i in listings.instruments], dtype=np.int64
        )
        self.underlyings = pa.array(list(underlyings), pa.string())
        self.expiry_ns = np.array(
            [NO_EXPIRY if i.expiry_ns is None else i.expiry_ns for i in listings.instruments], dtype=np.int64
        )

    def account(self, numbers: IntegerArray, mask: BoolArray | None = None) -> AnyArray:
        """Return the ids of account numbers, null under ``mask``."""
        return self._accounts.take(pa.array(numbers, pa.int64(), mask=mask))

    def instrument(self, indices: IntegerArray, mask: BoolArray | None = None) -> AnyArray:
        """Return the ids of instruments, null under ``mask``."""
        return self._instruments.take(pa.array(indices, pa.int64(), mask=mask))

    def asset(self, indices: IntegerArray, mask: BoolArray | None = None) -> AnyArray:
        """Return the ids of assets, null under ``mask``."""
        return self._assets.take(pa.array(indices, pa.int64(), mask=mask))

    def amount(self, units: Int64Array, assets: IntegerArray) -> AnyArray:
        """Return integer units as exact whole assets, DECIMAL(38, 8)."""
        whole = pa.array(units, pa.int64()).cast(_I64_DIGITS)
        return pc.multiply(whole, self._exact_unit.take(pa.array(assets, pa.int64()))).cast(AMOUNT)

    def scaled(self, counts: Int64Array, size: Float64Array, instruments: IntegerArray, *, mask: BoolArray) -> AnyArray:
        """Return ``counts`` × the instrument's ``size`` as float64, null under ``mask``."""
        values = np.zeros(counts.shape[0])
        known = ~mask
        values[known] = counts[known] * size[instruments[known]]
        return pa.array(values, mask=mask)


def tier_names(codes: IntegerArray) -> AnyArray:
    """Return the lower-case names of ``Tier`` values."""
    return _TIERS.take(pa.array(codes, pa.int64()))
