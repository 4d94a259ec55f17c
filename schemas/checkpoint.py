"""The envelope of every checkpoint: what it is, its version, its length and a checksum around plain bytes.

1. A damaged, truncated, swapped or empty checkpoint is refused before any of it is used.
2. Nothing inside is ever unpickled.
"""

import struct
from hashlib import blake2b
from typing import Final

_HEADER: Final = struct.Struct("<4s24sIQ")
_MAGIC: Final = b"TGCP"
_DIGEST_LENGTH: Final = 16


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message says why and what to do."""


def seal_envelope(noun: str, version: int, payload: bytes) -> bytes:
    """Return ``payload`` with its noun, version, length and checksum."""
    head = _HEADER.pack(_MAGIC, noun.encode(), version, len(payload))
    return head + payload + blake2b(head + payload, digest_size=_DIGEST_LENGTH).digest()


def open_envelope(noun: str, version: int, data: bytes) -> bytes:
    """Return the payload of an envelope that is whole and is what the caller expects.

    Raises
    ------
    CheckpointError : truncated, damaged, another noun or another version.
    """
    if len(data) < _HEADER.size + _DIGEST_LENGTH:
        raise CheckpointError(f"{noun} checkpoint is truncated: replay from the ledger without it")
    magic, found, found_version, length = _HEADER.unpack_from(data)
    if magic != _MAGIC or len(data) != _HEADER.size + length + _DIGEST_LENGTH:
        raise CheckpointError(f"{noun} checkpoint is damaged: replay from the ledger without it")
    body = data[:-_DIGEST_LENGTH]
    if blake2b(body, digest_size=_DIGEST_LENGTH).digest() != data[-_DIGEST_LENGTH:]:
        raise CheckpointError(f"{noun} checkpoint fails its checksum: replay from the ledger without it")
    if found.rstrip(b"\0").decode() != noun:
        raise CheckpointError(f"expected a {noun} checkpoint, found {found.rstrip(bytes(1))!r}")
    if found_version != version:
        raise CheckpointError(f"{noun} checkpoint has version {found_version}, this release reads {version}")
    return body[_HEADER.size :]
