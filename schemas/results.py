"""What the risk step publishes: the same bytes on any number of processes.

1. Results are ordered by (frame, account, index). The digest of a run is over these rows in that order.
2. Results of the market itself carry the account ``MARKET`` and are published by one process alone.
3. Deltas are exact integer nets of one settlement period, ordered by (account, kind, market); system accounts'
   deltas are parts, which settlement adds up.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

MARKET: Final = 0xFFFFFFFF


class Tier(IntEnum):
    """How close an account is to liquidation; higher is worse."""

    HEALTHY = 0
    WATCH = 1
    WARNING = 2
    LIQUIDATING = 3
    TAKEOVER = 4
    BANKRUPT = 5


class ResultKind(IntEnum):
    """What a result row says; the fields that it uses are named, the others are zero."""

    # tier_from, tier_to, equity, initial_margin, maintenance_margin
    TIER_CHANGED = 1
    # instrument, lots (signed change of position that is wanted: the whole open order), amount: lots before
    ORDER_OPENED = 2
    # instrument, lots: the grown order, amount: lots before
    ORDER_GROWN = 3
    # instrument, amount: lots before
    ORDER_CANCELLED = 4
    # instrument: asset index, lots: sequence in frame, amount: units paid out, equity, initial_margin
    WITHDRAWAL_ACCEPTED = 5
    # likewise, amount: units refused
    WITHDRAWAL_REFUSED = 6
    # instrument, lots closed, amount: units of cash received
    EXPIRY_SETTLED = 7
    # instrument, lots held, amount: units of cash received
    FUNDING_PAID = 8
    # an account that holds what cannot be priced now: decisions wait (tier_from = tier_to = its tier)
    DECISION_SUSPENDED = 9
    DECISION_RESUMED = 10
    # account MARKET; instrument: index of what is stale; amount: 0 price feed of an asset, 1 instrument
    FEED_STALE = 11
    FEED_FRESH = 12
    # account MARKET; instrument: a perpetual that could not be priced when a funding rate fell due; amount: how many
    # rates of it wait for a price
    FUNDING_OWED = 13


RESULT: Final = np.dtype(
    [
        ("frame", "<u8"),
        ("time_ns", "<i8"),
        ("account", "<u4"),
        ("index", "<u4"),  # counts the rows of one account in one frame, from 0
        ("kind", "u1"),
        ("tier_from", "u1"),
        ("tier_to", "u1"),
        ("reserved", "u1"),
        ("instrument", "<u4"),
        ("lots", "<i8"),
        ("amount", "<i8"),
        ("equity", "<f8"),  # numeraire
        ("initial_margin", "<f8"),  # numeraire, >= 0
        ("maintenance_margin", "<f8"),  # numeraire, >= 0
    ]
)
Results = npt.NDArray[np.void]


class DeltaKind(IntEnum):
    """What a delta moves."""

    ASSET = 0  # market: asset index, amount: units
    POSITION = 1  # market: instrument index, amount: lots


DELTA: Final = np.dtype([("account", "<u4"), ("kind", "<u4"), ("market", "<u4"), ("amount", "<i8")])
Deltas = npt.NDArray[np.void]


def empty_results(count: int = 0) -> Results:
    """Return ``count`` zeroed result rows."""
    return np.zeros(count, dtype=RESULT)


def empty_deltas(count: int = 0) -> Deltas:
    """Return ``count`` zeroed deltas."""
    return np.zeros(count, dtype=DELTA)


def join_results(parts: Sequence[Results]) -> Results:
    """Return result rows of several arrays behind each other, writable.

    NumPy's own concatenation of record arrays takes longer to compare their layouts than to copy a few rows.
    """
    return np.frombuffer(bytearray(b"".join([part.tobytes() for part in parts])), RESULT)
