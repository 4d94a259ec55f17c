"""What a checkpoint holds of one shard of the book, and how it is read back."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
UInt32Array = npt.NDArray[np.uint32]

SHARD_VERSION: Final = 2


class ShardState(msgspec.Struct, frozen=True, array_like=True):
    """One shard's accounts: integers as they lie in memory, rows by rising number, system accounts' parts first."""

    shard: int
    shard_count: int
    assets: int
    models: list[str]
    account: bytes
    model: bytes
    isolated: bytes
    tier: bytes
    suspended: bytes
    cash: bytes
    count: bytes
    instrument: bytes
    lots: bytes
    entry_cash: bytes
    order_lots: bytes
    open_count: bytes
    open_instrument: bytes
    open_buys: bytes
    open_sells: bytes


class ShardRows:
    """The columns of a ``ShardState``, by row, with models as the restoring book numbers them."""

    def __init__(self, state: ShardState, models: Sequence[str]) -> None:
        self.shard = state.shard
        self.account = np.frombuffer(state.account, np.uint32)
        translate = np.array([models.index(name) for name in state.models], np.uint8)
        self.model = translate[np.frombuffer(state.model, np.uint8)]
        self.isolated = np.frombuffer(state.isolated, np.bool_)
        self.tier = np.frombuffer(state.tier, np.uint8)
        self.suspended = np.frombuffer(state.suspended, np.bool_)
        self.cash = np.frombuffer(state.cash, np.int64).reshape(self.account.shape[0], state.assets)
        self.count = np.frombuffer(state.count, np.int64)
        self.start = np.cumsum(self.count) - self.count
        self.instrument = np.frombuffer(state.instrument, np.uint32)
        self.lots = np.frombuffer(state.lots, np.int64)
        self.entry_cash = np.frombuffer(state.entry_cash, np.int64)
        self.order_lots = np.frombuffer(state.order_lots, np.int64)
        self.open_count = np.frombuffer(state.open_count, np.int64)
        self._open_start = np.cumsum(self.open_count) - self.open_count
        self._open_instrument = np.frombuffer(state.open_instrument, np.uint32)
        self._open_buys = np.frombuffer(state.open_buys, np.int64)
        self._open_sells = np.frombuffer(state.open_sells, np.int64)

    def open_orders(self, i: int) -> tuple[UInt32Array, Int64Array, Int64Array]:
        """Return an account's open orders: instrument, buys, sells."""
        place = slice(int(self._open_start[i]), int(self._open_start[i] + self.open_count[i]))
        return self._open_instrument[place], self._open_buys[place], self._open_sells[place]
