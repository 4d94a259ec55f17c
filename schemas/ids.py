"""Identifiers: what they may look like, and where an account lives.

1. An id is 1 to 128 printable ASCII characters without blanks, quotes or backslashes: it can stand in a path,
   a log line, a CSV cell and a SQL string unescaped, and two ids that look alike are alike.
2. A shard is a stable function of the account id alone: never Python's salted ``hash()``, never arrival order.
3. Account numbers below ``FIRST_ACCOUNT_NUMBER`` are system accounts. Every shard holds its own *part* of each
   of them, so that a record and its counter-entry stay in one shard; their balance is the sum of the parts.
"""

import re
from typing import Final, NewType

import xxhash

AccountId = NewType("AccountId", str)
AccountNumber = NewType("AccountNumber", int)
AssetId = NewType("AssetId", str)
AssetIndex = NewType("AssetIndex", int)
InstrumentId = NewType("InstrumentId", str)
InstrumentIndex = NewType("InstrumentIndex", int)
FrameNumber = NewType("FrameNumber", int)
PeriodNumber = NewType("PeriodNumber", int)
Shard = NewType("Shard", int)

HOUSE: Final = AccountId("house")
FEES: Final = AccountId("fees")
BRIDGE: Final = AccountId("bridge")
INSURANCE_FUND: Final = AccountId("insurance-fund")
SYSTEM_ACCOUNTS: Final[tuple[AccountId, ...]] = (HOUSE, FEES, BRIDGE, INSURANCE_FUND)
HOUSE_NUMBER: Final = AccountNumber(0)
FEES_NUMBER: Final = AccountNumber(1)
BRIDGE_NUMBER: Final = AccountNumber(2)
INSURANCE_FUND_NUMBER: Final = AccountNumber(3)
# Room for system accounts that later rules need, so that customers' numbers never move.
FIRST_ACCOUNT_NUMBER: Final = AccountNumber(8)

ID_LENGTH_MAX: Final = 128
_ID = re.compile(r"[!#-&(-\[\]-~]{1,128}")


def is_id(text: str) -> bool:
    """Return whether ``text`` may name an account, an instrument, an asset, a source or an event."""
    return _ID.fullmatch(text) is not None


def shard_of(account: str, shard_count: int) -> Shard:
    """Return the shard, 0 to ``shard_count - 1``, in which an account lives (xxh64 of its id, seed 0)."""
    return Shard(xxhash.xxh64_intdigest(account.encode()) % shard_count)
