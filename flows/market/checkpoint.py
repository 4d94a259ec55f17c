"""What of a market a checkpoint keeps: everything that nothing else in it determines.

Values, aggregates, surfaces, Greeks and tables are derived again, at the times at which they were derived before.
"""

from fractions import Fraction
from typing import Final

import msgspec

from flows.market.volatility import Volatility
from schemas.checkpoint import open_envelope, seal_envelope
from schemas.ledger import (
    AccountRecord,
    AssetRecord,
    ForwardRecord,
    Genesis,
    InstrumentRecord,
    MarkRecord,
    PriceRecord,
    RateRecord,
    SviRecord,
    VolPointsRecord,
)

_VERSION: Final = 2
_ARRAY_HEAD: Final = b"\xdd"  # MessagePack: an array whose length is the next four bytes


class FeedState(msgspec.Struct, array_like=True):
    """A feed: its newest observations, and its last usable price with the confidence of that."""

    name: str
    last_price: float
    last_confidence: float
    refused: int
    observations: list[PriceRecord]


class ExpiryState(msgspec.Struct, array_like=True):
    """An expiry: its forward, that forward's ratio to the spot, and its smile."""

    underlying: str
    expiry_ns: int
    forward: ForwardRecord | None
    ratio: float
    smile: SviRecord | VolPointsRecord | None


class ExactRatio(msgspec.Struct, array_like=True):
    """A fraction, as the digits of its integers: they may exceed 64 bits."""

    numerator: str
    denominator: str

    @classmethod
    def of(cls, value: Fraction) -> "ExactRatio":
        """Return a fraction as it is kept."""
        return cls(str(value.numerator), str(value.denominator))

    def fraction(self) -> Fraction:
        """Return the fraction."""
        return Fraction(int(self.numerator), int(self.denominator))


class MarketState(msgspec.Struct, array_like=True):
    """The market of one process at one frame."""

    number: int
    time_ns: int
    genesis: Genesis | None
    assets: list[AssetRecord]
    instruments: list[InstrumentRecord]
    accounts: bytes  # a MessagePack array of account records
    halted: list[int]
    parameters: dict[str, str]
    feeds: list[FeedState]
    expiries: list[ExpiryState]
    rates: list[RateRecord]
    marks: list[MarkRecord]
    settled: list[int]
    # By instrument: the sum of the rates that wait, and how many they are; and what roundings owe.
    funding_owed: dict[int, tuple[ExactRatio, int]]
    funding_residual: dict[int, ExactRatio]
    volatility: list[Volatility]
    priced_at_ns: list[int]


def seal(state: MarketState) -> bytes:
    """Return the checkpoint of a market."""
    return seal_envelope("market", _VERSION, msgspec.msgpack.encode(state))


def unseal(data: bytes) -> MarketState:
    """Return what a checkpoint keeps.

    Raises
    ------
    CheckpointError : damaged, truncated, or of another version.
    """
    return msgspec.msgpack.decode(open_envelope("market", _VERSION, data), type=MarketState)


def packed_accounts(count: int, records: bytes | bytearray) -> bytes:
    """Return account records, each encoded by itself as it came, as one array.

    A checkpoint must not build a hundred thousand objects.
    """
    return _ARRAY_HEAD + count.to_bytes(4, "big") + records


def unpacked_accounts(packed: bytes) -> list[AccountRecord]:
    """Return the records of ``packed_accounts``."""
    return msgspec.msgpack.decode(packed, type=list[AccountRecord])
