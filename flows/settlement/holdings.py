"""What every account holds, in exact integers, as two sorted columns.

1. Keys (account, kind, market) rise strictly and no amount is zero: what is gone leaves no trace.
2. Applying a period's deltas changes each market's total by exactly what was stored, which must be zero; the totals
   of everything held are zero too, and are recomputed from all columns at every checkpoint and restore.
3. An amount outside a signed 64-bit integer halts, and never wraps.

Columns rather than objects: 1.35 million holdings of 100,000 accounts take 22 MB, and a period with 10,000 changed
accounts is one search and at most one copy of each column.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flows.settlement.netting import (
    ConservationError,
    Int64Array,
    UInt64Array,
    deltas_of,
    keys_of,
    sum_by_key,
    totals,
)
from flows.settlement.tree import ENTRY
from schemas.results import DeltaKind, Deltas

_NO_KEYS: npt.NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
_NO_AMOUNTS: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
_ACCOUNT_SHIFT = np.uint64(32)


class Holdings:
    """Balances and positions of all accounts, system accounts included."""

    def __init__(self, keys: UInt64Array = _NO_KEYS, amounts: Int64Array = _NO_AMOUNTS) -> None:
        """Take sorted columns, as ``keys`` and ``amounts`` give them."""
        self.keys = keys
        self.amounts = amounts

    def apply(self, deltas: Deltas, where: str) -> None:
        """Add canonical deltas (``netting.net``) in place.

        Raises
        ------
        ConservationError : what was stored does not sum to zero in some market.
        SettlementOverflowError : an amount would not fit 64 bits.
        """
        changed = keys_of(deltas)
        places = np.searchsorted(self.keys, changed)
        found = np.zeros(changed.shape[0], dtype=np.bool_)
        inside = places < self.keys.shape[0]
        found[inside] = self.keys[places[inside]] == changed[inside]
        before = np.zeros(changed.shape[0], dtype=np.int64)
        before[found] = self.amounts[places[found]]
        _, after = sum_by_key(np.concatenate((changed, changed)), np.concatenate((before, deltas["amount"])))

        self.amounts[places[found]] = after[found]
        new = ~found & (after != 0)
        if new.any():
            self.keys = np.insert(self.keys, places[new], changed[new])
            self.amounts = np.insert(self.amounts, places[new], after[new])
        if (after[found] == 0).any():
            kept = self.amounts != 0
            self.keys, self.amounts = self.keys[kept], self.amounts[kept]

        # What is stored now against what was: not the deltas again, so that a fault in the update above shows.
        stored = self._at(changed)
        _refuse_nonzero(_difference(totals(changed, stored), totals(changed, before)), where)

    def totals(self) -> dict[tuple[DeltaKind, int], int]:
        """Return the exact total of every market ever held now, recomputed from all columns; each must be zero."""
        return totals(self.keys, self.amounts)

    def check(self, where: str) -> None:
        """Raise ``ConservationError`` unless every total is zero, ``ValueError`` unless the columns are canonical."""
        if (self.keys[1:] <= self.keys[:-1]).any() or (self.amounts == 0).any():
            raise ValueError(f"holdings are not in canonical order in {where}")
        _refuse_nonzero(self.totals(), where)

    def held(self, account: int, kind: DeltaKind) -> dict[int, int]:
        """Return what an account holds of one kind: market to amount, markets rising."""
        rows = deltas_of(*self._slice(account))
        rows = rows[rows["kind"] == kind]
        return dict(zip(rows["market"].tolist(), rows["amount"].tolist(), strict=True))

    def accounts(self) -> list[int]:
        """Return the numbers of all accounts that hold something, rising."""
        numbers: list[int] = np.unique(self.keys >> _ACCOUNT_SHIFT).tolist()
        return numbers

    def entries(self, accounts: Sequence[int]) -> list[bytes]:
        """Return the leaf entries (``tree.ENTRY`` rows, packed) of each account, empty where it holds nothing."""
        numbers = np.asarray(accounts, dtype=np.uint64)
        starts = np.searchsorted(self.keys, numbers << _ACCOUNT_SHIFT)
        ends = np.searchsorted(self.keys, (numbers << _ACCOUNT_SHIFT) | np.uint64(0xFFFFFFFF), side="right")
        counts = ends - starts
        offsets = np.cumsum(counts) - counts
        rows = np.repeat(starts - offsets, counts) + np.arange(int(counts.sum()))
        keys = self.keys[rows]
        packed = np.zeros(rows.shape[0], dtype=ENTRY)
        packed["kind"] = (keys >> np.uint64(31)) & np.uint64(1)
        packed["market"] = keys & np.uint64(0x7FFFFFFF)
        packed["amount"] = self.amounts[rows]
        data = packed.tobytes()
        size = ENTRY.itemsize
        return [
            data[offset * size : (offset + count) * size]
            for offset, count in zip(offsets.tolist(), counts.tolist(), strict=True)
        ]

    def _slice(self, account: int) -> tuple[UInt64Array, Int64Array]:
        start = np.searchsorted(self.keys, np.uint64(account << 32))
        end = np.searchsorted(self.keys, np.uint64(account << 32 | 0xFFFFFFFF), side="right")
        return self.keys[start:end], self.amounts[start:end]

    def _at(self, keys: UInt64Array) -> Int64Array:
        places = np.minimum(np.searchsorted(self.keys, keys), max(self.keys.shape[0] - 1, 0))
        if self.keys.shape[0] == 0:
            return np.zeros(keys.shape[0], dtype=np.int64)
        return np.where(self.keys[places] == keys, self.amounts[places], 0)


def _difference(
    after: dict[tuple[DeltaKind, int], int], before: dict[tuple[DeltaKind, int], int]
) -> dict[tuple[DeltaKind, int], int]:
    return {market: total - before[market] for market, total in after.items()}


def _refuse_nonzero(sums: dict[tuple[DeltaKind, int], int], where: str) -> None:
    for (kind, market), total in sums.items():
        if total != 0:
            raise ConservationError(kind, market, total, where)
