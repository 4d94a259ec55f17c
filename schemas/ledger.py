"""The ledger: what intake writes and everything behind it reads.

A *frame* is the unit of order, of batching and of work: one market instant, then account records in sequence.

1. ``content_head`` chains the frames: blake2b-256 over the previous head and this frame's content in canonical order.
   It is the order commitment, and it does not depend on how many shards the frame was cut into, nor on the files
   or partitions that the input came from.
2. The head digest covers header, section table, market records, references and positions; each shard's section has
   its own digest in that table. A reader of some shards verifies exactly what it took.
3. Frame numbers count up by one from the genesis, which is frame 0.
4. Everything is little-endian and fixed-width or MessagePack: no pickle, nothing that depends on a machine.
"""

import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.ids import shard_of

LEDGER_VERSION: Final = 1
RULES_VERSION: Final = 1
GENESIS_HEAD: Final = bytes(32)


class LedgerError(Exception):
    """A frame is damaged, out of order or of an unknown version: the ledger must not be read past it."""


class FrameKind(IntEnum):
    """What a frame is for."""

    GENESIS = 0
    EVENTS = 1
    HEARTBEAT = 2
    BARRIER = 3


class LegKind(IntEnum):
    """What an account record does to its account."""

    # Lots and cash of one side of a fill; the fee goes to this shard's part of the fees account.
    FILL = 1
    # The same with opposite signs, undoing an earlier fill.
    BUST = 2
    # Cash of one asset from (or to) this shard's part of the bridge account.
    TRANSFER = 3
    # Like a transfer, announced and not yet counted: changes nothing.
    TRANSFER_PENDING = 4
    # A request for -cash of one asset, decided by the risk step at this place.
    WITHDRAWAL = 5
    # The base asset of a spot fill (the quote asset is its FILL leg, with no lots).
    SPOT_BASE = 6
    # Lots (>= 0) that one side of the account's open orders in an instrument has left, instead of those told before.
    # An event tells both sides, each in a leg of its own, so that every column of a leg keeps its one meaning.
    OPEN_ORDERS = 7


class LegFlag(IntEnum):
    """Bits of a leg's ``flags``."""

    LIQUIDATION = 1
    # The buyer's side of a trade, or the buys among open orders.
    BUYER = 2


# One account record. ``cash`` and ``fee`` are units of ``asset``; ``cash`` excludes ``fee``, which is paid if positive.
LEG: Final = np.dtype(
    [
        ("index", "<u4"),  # place in the frame's canonical order, from 0
        ("sequence", "<u4"),  # the event's number in the frame; its reference is references[sequence]
        ("kind", "u1"),
        ("flags", "u1"),
        ("asset", "<u2"),
        ("account", "<u4"),
        ("instrument", "<u4"),  # NO_INSTRUMENT where there is none
        ("counterparty", "<u4"),  # the other side's account number; whose shard holds a system account's leg
        ("lots", "<i8"),
        ("cash", "<i8"),
        ("fee", "<i8"),
        ("price_ticks", "<i8"),
        ("time_ns", "<i8"),
    ]
)
# The same, for ``struct``.
LEG_PACKING: Final = struct.Struct("<IIBBHIIIqqqqq")
NO_INSTRUMENT: Final = 0xFFFFFFFF
Legs = npt.NDArray[np.void]


class Genesis(msgspec.Struct, frozen=True, kw_only=True):
    """What must never drift. ``shard_count`` is carried by the frame header: it is not part of the content.

    ``settlement_period_ns`` is the length of a settlement period in ledger time; ``frame_span_ns`` is how far apart
    observations may be to share an instant (0: only equal times do); ``heartbeat_ns`` is the longest silence in which
    no frame is written; ``duplicate_window_ns`` is how far back a repeated id is recognised.
    """

    ledger_id: str
    numeraire: str = "USD"
    rules: int = RULES_VERSION
    settlement_period_ns: int = 500_000_000
    frame_span_ns: int = 0
    frame_records_max: int = 65_536
    heartbeat_ns: int = 60_000_000_000
    duplicate_window_ns: int = 86_400_000_000_000


# Market records: everything that is not an account record. Tags are positions in MARKET_RECORDS, for ever.


class GenesisRecord(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """Frame 0's only record."""

    genesis: Genesis


class AssetRecord(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """An asset and its index, dense from 0."""

    index: int
    asset: str
    decimals: int


class InstrumentRecord(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """An instrument and its index, dense from 0; assets by index, decimals as strings, all checked by intake.

    ``base_asset`` is the asset index of the underlying of a spot instrument, else -1.
    """

    index: int
    instrument: str
    kind: str
    underlying: str
    quote: str
    settlement_asset: int
    base_asset: int
    payoff: str
    multiplier: str
    tick_size: str
    lot_size: str
    strike: str | None
    option_type: str | None
    expiry_ns: int | None


class AccountRecord(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A customer account and its number, dense from ``FIRST_ACCOUNT_NUMBER``."""

    number: int
    account: str
    margin_model: str
    margin_mode: str


class HaltRecord(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Trading in an instrument stops or goes on."""

    instrument: int
    halted: bool


class ParametersRecord(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A validated parameter set as canonical JSON, every field written out."""

    name: str
    parameters: str


class RulesRecord(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """From this frame on the engine decides by these rules."""

    rules: int


class PriceRecord(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """One source's price of a feed; price > 0, confidence >= 0."""

    feed: str
    source: str
    price: float
    confidence: float
    publish_time_ns: int


class ForwardRecord(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """One source's forward of an expiry, > 0."""

    underlying: str
    expiry_ns: int
    source: str
    forward: float
    event_time_ns: int


class SviRecord(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """One source's raw SVI of an expiry (see ``schemas.events.Svi``), total variance >= 0 everywhere."""

    underlying: str
    expiry_ns: int
    source: str
    a: float
    b: float
    rho: float
    m: float
    sigma: float
    forward: float
    time_to_expiry: float
    event_time_ns: int


class VolPointsRecord(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """One source's quoted smile of an expiry: strikes strictly rising, vols > 0."""

    underlying: str
    expiry_ns: int
    source: str
    strikes: list[float]
    implied_vols: list[float]
    event_time_ns: int


class RateRecord(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """One source's continuously compounded rate of a currency."""

    currency: str
    source: str
    rate: float
    event_time_ns: int


class MarkRecord(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """One source's mark price of an instrument, > 0."""

    instrument: int
    source: str
    price: float
    event_time_ns: int


class FundingRecord(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """A funding payment due now, as a rate of mark value."""

    instrument: int
    rate: float
    event_time_ns: int


class SettlementRecord(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """An expiry pays out at ``price`` (a decimal string: the payout is exact)."""

    underlying: str
    expiry_ns: int
    price: str


MarketRecord = (
    GenesisRecord
    | AssetRecord
    | InstrumentRecord
    | AccountRecord
    | HaltRecord
    | ParametersRecord
    | RulesRecord
    | PriceRecord
    | ForwardRecord
    | SviRecord
    | VolPointsRecord
    | RateRecord
    | MarkRecord
    | FundingRecord
    | SettlementRecord
)

_encoder = msgspec.msgpack.Encoder()
_market_decoder = msgspec.msgpack.Decoder(list[MarketRecord])
_references_decoder = msgspec.msgpack.Decoder(list[str])

_HEADER: Final = struct.Struct("<4sHBxHHQqQIIII32s32s")
_SECTION: Final = struct.Struct("<HxxI16s")
_CORE: Final = struct.Struct("<QBqQI")
_MAGIC: Final = b"TGFR"
_DIGEST_LENGTH: Final = 16
_LEG_BYTES: Final = LEG.itemsize
_INDEX: Final = struct.Struct("<I")
_FEW_LEGS: Final = 64
_FRAME_KINDS: Final = {int(kind): kind for kind in FrameKind}
_NO_LEGS: Final = np.zeros(0, dtype=LEG)
_NO_LEGS.flags.writeable = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as a reader of some or all shards sees it.

    ``legs`` are in canonical order, of the shards that were read; ``period`` is the settlement period that the frame
    belongs to (a barrier closes it). ``time_ns`` is the instant of the frame: what prices, expiries and ages are
    measured at; each leg has its own time besides.
    """

    number: int
    kind: FrameKind
    time_ns: int
    period: int
    shard_count: int
    market: list[MarketRecord]
    legs: Legs
    references: list[str]
    previous_head: bytes
    content_head: bytes
    positions: bytes


def empty_legs(count: int = 0) -> Legs:
    """Return ``count`` zeroed account records."""
    return np.zeros(count, dtype=LEG)


def encode_frame(
    *,
    number: int,
    kind: FrameKind,
    time_ns: int,
    period: int,
    shard_count: int,
    market: Iterable[MarketRecord],
    legs: Legs,
    leg_shards: npt.NDArray[np.uint16],
    references: list[str],
    previous_head: bytes,
    positions: Any = None,
) -> tuple[bytes, bytes]:
    """Return ``(frame bytes, content head)``.

    Parameters
    ----------
    legs : (n,) LEG, in canonical order; ``index`` is set here.
    leg_shards : (n,), the shard of each leg.
    positions : where the inputs stood, any MessagePack value; carried, not part of the content.
    """
    legs["index"] = np.arange(legs.shape[0], dtype=np.uint32)
    data = legs.tobytes()
    return pack_frame(
        number=number,
        kind=kind,
        time_ns=time_ns,
        period=period,
        shard_count=shard_count,
        market=list(market),
        legs=[data[start : start + LEG.itemsize] for start in range(0, len(data), LEG.itemsize)],
        leg_shards=leg_shards.tolist(),
        references=references,
        previous_head=previous_head,
        positions=positions,
    )


def pack_frame(
    *,
    number: int,
    kind: FrameKind,
    time_ns: int,
    period: int,
    shard_count: int,
    market: list[MarketRecord],
    legs: Sequence[bytes],
    leg_shards: Sequence[int],
    references: list[str],
    previous_head: bytes,
    positions: Any = None,
) -> tuple[bytes, bytes]:
    """Return ``(frame bytes, content head)`` of legs that are packed already: ``encode_frame`` for the hot path.

    Parameters
    ----------
    legs : n records of ``LEG_PACKING``, in canonical order, each with its ``index``.
    leg_shards : n, the shard of each leg.
    positions : where the inputs stood, any MessagePack value; carried, not part of the content.
    """
    market_bytes = _encoder.encode(market)
    reference_bytes = _encoder.encode(references)
    position_bytes = _encoder.encode(positions)
    content_head = blake2b(
        b"".join(
            (
                previous_head, _CORE.pack(number, kind, time_ns, period, len(market_bytes)),
                market_bytes, *legs, reference_bytes,
            )
        ),
        digest_size=32,
    ).digest()  # fmt: skip
    table = b""
    sections: list[bytes] = []
    if legs:
        parts: dict[int, list[bytes]] = {}
        for shard, leg in zip(leg_shards, legs, strict=True):
            part = parts.get(shard)
            if part is None:
                parts[shard] = [leg]
            else:
                part.append(leg)
        for shard in sorted(parts):
            data = b"".join(parts[shard])
            table += _SECTION.pack(shard, len(parts[shard]), blake2b(data, digest_size=_DIGEST_LENGTH).digest())
            sections.append(data)
    header = _HEADER.pack(
        _MAGIC, LEDGER_VERSION, kind, shard_count, len(sections), number, time_ns, period,
        len(market_bytes), len(reference_bytes), len(position_bytes), len(legs), previous_head, content_head,
    )  # fmt: skip
    head = b"".join((header, table, market_bytes, reference_bytes, position_bytes))
    return b"".join((head, blake2b(head, digest_size=_DIGEST_LENGTH).digest(), *sections)), content_head


def frame_kind(data: bytes) -> FrameKind:
    """Return the kind of a frame that is not verified yet, from its header.

    Raises
    ------
    LedgerError : truncated in its header, no frame, or of an unknown kind.
    """
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise LedgerError("not a frame: it is too short, or begins with other bytes")
    kind = _FRAME_KINDS.get(_HEADER.unpack_from(data)[2])
    if kind is None:
        raise LedgerError("a frame is of unknown kind")
    return kind


def decode_frame(data: bytes | memoryview, shards: Collection[int] | None = None) -> Frame:
    """Return the frame, with the legs of ``shards`` (all where None), after verifying all that it returns.

    Raises
    ------
    LedgerError : damaged, truncated, of an unknown version, or (all shards read) not the content that it claims.
    """
    data = bytes(data)
    if len(data) < _HEADER.size + _DIGEST_LENGTH:
        raise LedgerError("frame is truncated in its header")
    (
        magic, version, kind, shard_count, section_count, number, time_ns, period,
        market_length, reference_length, position_length, leg_count, previous_head, content_head,
    ) = _HEADER.unpack_from(data)  # fmt: skip
    if magic != _MAGIC:
        raise LedgerError("not a frame: wrong magic bytes")
    if version != LEDGER_VERSION:
        raise LedgerError(f"frame version {version} is not {LEDGER_VERSION}: use the release that wrote it")
    if kind not in _FRAME_KINDS:
        raise LedgerError(f"frame {number} is of unknown kind {kind}")
    market_start = _HEADER.size + section_count * _SECTION.size
    reference_start = market_start + market_length
    position_start = reference_start + reference_length
    head_end = position_start + position_length
    start = head_end + _DIGEST_LENGTH
    if blake2b(data[:head_end], digest_size=_DIGEST_LENGTH).digest() != data[head_end:start]:
        raise LedgerError(f"frame {number} is damaged in its head")
    parts: list[bytes] = []
    for shard, count, digest in _SECTION.iter_unpack(data[_HEADER.size : market_start]):
        end = start + count * _LEG_BYTES
        if shards is None or shard in shards:
            part = data[start:end]
            if blake2b(part, digest_size=_DIGEST_LENGTH).digest() != digest:
                raise LedgerError(f"frame {number} is damaged in shard {shard}")
            parts.append(part)
        start = end
    if start != len(data):
        raise LedgerError(f"frame {number} has {len(data)} bytes, not {start}")
    legs = _in_order(parts)
    market_bytes = data[market_start:reference_start]
    reference_bytes = data[reference_start:position_start]
    if shards is None:
        core = _CORE.pack(number, kind, time_ns, period, market_length)
        content = b"".join((previous_head, core, market_bytes, legs, reference_bytes))
        if blake2b(content, digest_size=32).digest() != content_head or len(legs) != leg_count * _LEG_BYTES:
            raise LedgerError(f"frame {number} does not have the content that its head commits to")
    return Frame(
        number=number,
        kind=_FRAME_KINDS[kind],
        time_ns=time_ns,
        period=period,
        shard_count=shard_count,
        market=_market_decoder.decode(market_bytes),
        legs=np.frombuffer(legs, dtype=LEG) if legs else _NO_LEGS,
        references=_references_decoder.decode(reference_bytes),
        previous_head=previous_head,
        content_head=content_head,
        positions=data[position_start:head_end],
    )


def _in_order(parts: list[bytes]) -> bytes:
    """Return the legs of several sections in canonical order."""
    if len(parts) <= 1:
        return parts[0] if parts else b""
    joined = b"".join(parts)
    if len(joined) > _FEW_LEGS * _LEG_BYTES:
        legs = np.frombuffer(joined, dtype=LEG)
        return legs[np.argsort(legs["index"], kind="stable")].tobytes()
    # numpy's overhead is more than the work for a handful; the index comes first in a leg.
    few = [joined[place : place + _LEG_BYTES] for place in range(0, len(joined), _LEG_BYTES)]
    few.sort(key=_INDEX.unpack_from)
    return b"".join(few)


def decode_positions(frame: Frame) -> Any:
    """Return where the inputs stood when the frame was written."""
    return msgspec.msgpack.decode(frame.positions)


def check_link(previous: Frame | None, frame: Frame) -> None:
    """Raise ``LedgerError`` unless ``frame`` follows ``previous`` (None: frame is the genesis)."""
    number, head = (-1, GENESIS_HEAD) if previous is None else (previous.number, previous.content_head)
    if frame.number != number + 1:
        raise LedgerError(f"frame {frame.number} follows frame {number}: the ledger has a gap")
    if frame.previous_head != head:
        raise LedgerError(f"frame {frame.number} does not continue the hash chain of frame {number}")


def leg_shards(accounts: Iterable[str], shard_count: int) -> npt.NDArray[np.uint16]:
    """Return the shard of each account id; for tests and small frames (intake caches them)."""
    return np.array([shard_of(account, shard_count) for account in accounts], dtype=np.uint16)
