"""The batches of a run in one file, each with its length and checksum.

1. A batch that was appended and synced reads back as the same bytes, or the file is refused: never a part of it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final

import xxhash

from flows.settlement.batch import Batch, BatchError, decode_batch, encode_batch

_MAGIC: Final = b"TGBATCH\x01"
# length of the batch, xxh3-64 of it
_RECORD: Final = Struct("<IQ")


class BatchesError(Exception):
    """The file is no batches file, or is damaged."""


class BatchesWriter:
    """Appends batches."""

    def __init__(self, path: Path) -> None:
        """Open or make the file and go on at its end."""
        self._file = path.open("ab")
        if self._file.tell() == 0:
            self._file.write(_MAGIC)
            self._file.flush()

    @property
    def size(self) -> int:
        """The length of the file so far, bytes: what a commit remembers for ``truncate_to``."""
        return self._file.tell()

    def append(self, batch: Batch) -> None:
        """Write a batch at the end."""
        data = encode_batch(batch)
        self._file.write(_RECORD.pack(len(data), xxhash.xxh3_64_intdigest(data)))
        self._file.write(data)

    def sync(self) -> None:
        """Put everything appended on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def truncate_to(self, size: int) -> None:
        """Cut the file back to a ``size`` that it had at a commit; raise ``BatchesError`` if it is shorter."""
        self._file.flush()
        if not len(_MAGIC) <= size <= self.size:
            raise BatchesError(f"the batches file has {self.size} bytes and cannot be cut to {size}")
        self._file.truncate(size)
        self._file.seek(size)

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        self._file.close()


def read_batches(path: Path) -> Iterator[Batch]:
    """Return the batches of a file, in order; raise ``BatchesError`` at the first damage."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise BatchesError(f"{path} is no batches file of this version")
        while header := file.read(_RECORD.size):
            at = file.tell() - len(header)
            if len(header) < _RECORD.size:
                raise BatchesError(f"{path} ends inside a record at byte {at}")
            length, checksum = _RECORD.unpack(header)
            data = file.read(length)
            if len(data) < length or xxhash.xxh3_64_intdigest(data) != checksum:
                raise BatchesError(f"{path} is damaged in the record at byte {at}")
            try:
                yield decode_batch(data)
            except BatchError as error:
                raise BatchesError(f"{path}, byte {at}: {error}") from error
