"""Account nets of one settlement period: what the shards report, joined into one canonical array.

1. The result is ordered by (account, kind, market), has no zero amount, and holds each such key at most once. It does
   not depend on how many shards or processes reported, nor in which order.
2. For every (kind, market) the amounts sum to exactly zero over all accounts, system accounts included. A period that
   breaks this halts the engine: money was made or lost, and no later step may build on it.
3. Sums never wrap: they run in two halves of 32 bits, and a net outside a signed 64-bit integer halts as well.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schemas.money import I64_MAX
from schemas.results import DELTA, DeltaKind, Deltas, empty_deltas

Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]

# A key packs (account, kind, market) into 64 bits, so that integer order is canonical order. 31 bits for the market
# are no real limit: indices are dense, and two thousand million listings do not fit elsewhere either.
_ACCOUNT_SHIFT = np.uint64(32)
_KIND_SHIFT = np.uint64(31)
_MARKET_MAX = 2**31 - 1
_MARKET_MASK = np.uint64(_MARKET_MAX)
_LOW_MASK = np.int64(0xFFFFFFFF)
_HIGH_SHIFT = np.int64(32)


class ConservationError(Exception):
    """Something was made or lost: a halt, never a dead letter.

    ``kind`` and ``market`` name the asset or instrument, ``amount`` is the exact sum that should have been zero.
    """

    def __init__(self, kind: DeltaKind, market: int, amount: int, where: str) -> None:
        noun, unit = ("asset", "units") if kind is DeltaKind.ASSET else ("instrument", "lots")
        super().__init__(f"{noun} {market} does not sum to zero in {where}: {amount:+d} {unit}")
        self.kind = kind
        self.market = market
        self.amount = amount


class SettlementOverflowError(Exception):
    """A net or a balance does not fit a signed 64-bit integer: a halt, never a wrapped number."""


def net(parts: Sequence[Deltas], where: str = "the period") -> Deltas:
    """Return the period's deltas, joined from all shards.

    Parameters
    ----------
    parts : arrays of ``schemas.results.DELTA``, in any order; system accounts may appear in several of them.
    where : names the period in an error.

    Returns
    -------
    (n,) DELTA, canonical (invariant 1).

    Raises
    ------
    ConservationError : a market's amounts do not sum to zero; the first such market in order.
    SettlementOverflowError : a net does not fit 64 bits.
    ValueError : a delta has an unknown kind or a market out of range.
    """
    deltas = summed(parts)
    check_conservation(deltas, where)
    return deltas


def summed(parts: Sequence[Deltas]) -> Deltas:
    """Return deltas summed by (account, kind, market), canonical, whether or not they conserve; errors as ``net``."""
    joined = np.concatenate([empty_deltas(), *parts])
    keys, amounts = sum_by_key(keys_of(joined), joined["amount"])
    kept = amounts != 0
    return deltas_of(keys[kept], amounts[kept])


def check_conservation(deltas: Deltas, where: str) -> None:
    """Raise ``ConservationError`` unless every market's amounts sum to exactly zero."""
    for (kind, market), total in totals(keys_of(deltas), deltas["amount"]).items():
        if total != 0:
            raise ConservationError(kind, market, total, where)


def totals(keys: UInt64Array, amounts: Int64Array) -> dict[tuple[DeltaKind, int], int]:
    """Return the exact sum of each (kind, market), in order of kind and market, zero sums included."""
    markets = keys & np.uint64(0xFFFFFFFF)
    order = np.argsort(markets, kind="stable")
    groups, highs, lows = _halves(markets[order], amounts[order])
    return {
        (DeltaKind(group >> 31), group & _MARKET_MAX): (high << 32) + low
        for group, high, low in zip(groups.tolist(), highs.tolist(), lows.tolist(), strict=True)
    }


def keys_of(deltas: Deltas) -> UInt64Array:
    """Return the packed key of each delta; raise ``ValueError`` where one does not pack."""
    kinds, markets = deltas["kind"], deltas["market"]
    if deltas.shape[0] and (int(kinds.max()) > max(DeltaKind) or int(markets.max()) > _MARKET_MAX):
        raise ValueError(f"a delta is of unknown kind or market: kind {kinds.max()}, market {markets.max()}")
    accounts = deltas["account"].astype(np.uint64)
    keys: UInt64Array = (accounts << _ACCOUNT_SHIFT) | (kinds.astype(np.uint64) << _KIND_SHIFT) | markets
    return keys


def deltas_of(keys: UInt64Array, amounts: Int64Array) -> Deltas:
    """Return the deltas of packed keys: the inverse of ``keys_of``."""
    deltas = np.zeros(keys.shape[0], dtype=DELTA)
    deltas["account"] = keys >> _ACCOUNT_SHIFT
    deltas["kind"] = (keys >> _KIND_SHIFT) & np.uint64(1)
    deltas["market"] = keys & _MARKET_MASK
    deltas["amount"] = amounts
    return deltas


def sum_by_key(keys: UInt64Array, amounts: Int64Array) -> tuple[UInt64Array, Int64Array]:
    """Return the distinct keys, rising, and the exact sum of each.

    Raises
    ------
    SettlementOverflowError : a sum is beyond ``±(2**63 - 1)``.
    """
    order = np.argsort(keys, kind="stable")
    groups, highs, lows = _halves(keys[order], amounts[order])
    # Lows lie in [0, n * 2**32): after the carry they are 32 bits again, and the high half decides whether all fits.
    highs = highs + (lows >> _HIGH_SHIFT)
    lows = lows & _LOW_MASK
    beyond = (highs > I64_MAX >> 32) | (highs < -(2**31)) | ((highs == -(2**31)) & (lows == 0))
    if beyond.any():
        at = int(np.argmax(beyond))
        amount = (int(highs[at]) << 32) + int(lows[at])
        key = int(groups[at])
        raise SettlementOverflowError(
            f"account {key >> 32}: {DeltaKind(key >> 31 & 1).name.lower()} {key & _MARKET_MAX} nets to {amount}"
        )
    return groups, (highs << _HIGH_SHIFT) | lows


def _halves(keys: UInt64Array, amounts: Int64Array) -> tuple[UInt64Array, Int64Array, Int64Array]:
    """Return each distinct key of sorted ``keys`` with the sums of its amounts' high and low 32 bits.

    Each half's sum has 31 bits to spare, so it is exact for any array that fits memory.
    """
    if keys.shape[0] == 0:
        return keys, amounts.astype(np.int64), amounts.astype(np.int64)
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    highs = np.add.reduceat(amounts >> _HIGH_SHIFT, starts)
    lows = np.add.reduceat(amounts & _LOW_MASK, starts)
    return keys[starts], highs, lows
