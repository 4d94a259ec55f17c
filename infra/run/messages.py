"""Messages between a run and its risk workers: length-prefixed MessagePack over pipes, never a pickle."""

import struct
from dataclasses import fields
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np

from flows.market.instant import Instant
from flows.screening.diagnostics import Diagnostics
from schemas.parameters import LadderParameters, LiquidationParameters

_LENGTH: Final = struct.Struct("<Q")


class Start(msgspec.Struct, frozen=True, tag=True):
    """The first message to a worker: what it holds, and from where.

    ``market`` and ``shard_states`` are checkpoints (None and empty at the beginning), ``previous`` is the barrier
    frame that they were taken at.
    """

    shards: list[int]
    shard_count: int
    market: bytes | None
    shard_states: list[bytes]
    previous: bytes | None
    screening: str
    shadow: float


class Frames(msgspec.Struct, frozen=True, tag=True):
    """Frames to decide. At a barrier the worker answers with ``PeriodPart``; otherwise it is silent."""

    frames: list[bytes]
    closes_period: bool
    state_due: bool
    checkpoint_due: bool


class PeriodPart(msgspec.Struct, frozen=True, tag=True):
    """One worker's part of a period. ``instant`` is sent by the worker of shard 0 alone."""

    results: bytes
    deltas: bytes
    state_hash: tuple[int, int]
    state: bytes | None
    instant: bytes | None
    market: bytes | None
    shards: dict[int, bytes]
    diagnostics: Diagnostics


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A worker halts; the message is one line for the operator. ``judged_otherwise``: its shadow said so."""

    message: str
    judged_otherwise: bool = False


_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(Start | Frames)
_from_worker = msgspec.msgpack.Decoder(PeriodPart | Failed)


def send(stream: BinaryIO, message: Start | Frames | PeriodPart | Failed) -> None:
    """Write one message and flush it."""
    data = _encoder.encode(message)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive_in_worker(stream: BinaryIO) -> Start | Frames | None:
    """Return the next message to a worker, None where the run has closed the pipe or died."""
    data = _receive(stream)
    return None if data is None else _to_worker.decode(data)


def receive_from_worker(stream: BinaryIO) -> PeriodPart | Failed | None:
    """Return the next message of a worker, None where it died."""
    data = _receive(stream)
    return None if data is None else _from_worker.decode(data)


def _receive(stream: BinaryIO) -> bytes | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    return data if len(data) == length else None


def encode_instant(instant: Instant) -> bytes:
    """Return what the snapshot reads of an instant: its columns and ladder, not margin tables or payments."""
    columns: dict[str, tuple[str, list[int], bytes]] = {}
    scalars: dict[str, int | bool] = {}
    for field in fields(instant):
        value = getattr(instant, field.name)
        if isinstance(value, np.ndarray):
            columns[field.name] = (value.dtype.str, list(value.shape), value.tobytes())
        elif isinstance(value, bool | int):
            scalars[field.name] = value
    return _encoder.encode((columns, scalars, instant.ladder.model_dump_json(), instant.liquidation.model_dump_json()))


def decode_instant(data: bytes) -> Instant:
    """Return the instant that ``encode_instant`` wrote, without margin tables and payments."""
    columns, scalars, ladder, liquidation = msgspec.msgpack.decode(
        data, type=tuple[dict[str, tuple[str, list[int], bytes]], dict[str, int | bool], str, str]
    )
    values: dict[str, Any] = dict(scalars)
    for name, (kind, shape, raw) in columns.items():
        values[name] = np.frombuffer(raw, dtype=np.dtype(kind)).reshape(shape)
    return Instant(
        **values,
        ladder=LadderParameters.model_validate_json(ladder),
        liquidation=LiquidationParameters.model_validate_json(liquidation),
    )
