"""The batches of a run in one file, each with its length and checksum.

1. A batch that was appended and synced reads back as the same bytes, or the file is refused: never a part of it.
"""

from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final

import xxhash

from flows.settlement.batch import Batch, BatchError, decode_batch, encode_batch
from infra.files.append import AppendFile

_MAGIC: Final = b"TGBATCH\x01"
# length of the batch, xxh3-64 of it
_RECORD: Final = Struct("<IQ")


class BatchesError(Exception):
    """The file is no batches file, or is damaged."""


class BatchesWriter:
    """Appends batches.

    Parameters
    ----------
    committed : the length that the last commit names, as ``sync`` returned it; 0 begins a new file.

    Raises
    ------
    ShorterThanCommitted : the file on disk is shorter than that.
    """

    def __init__(self, path: Path, committed: int = 0) -> None:
        self._file = AppendFile(path, committed)
        if committed == 0:
            self._file.append(_MAGIC)

    def append(self, batch: Batch) -> None:
        """Write a batch at the end."""
        data = encode_batch(batch)
        self._file.append(_RECORD.pack(len(data), xxhash.xxh3_64_intdigest(data)))
        self._file.append(data)

    def sync(self) -> int:
        """Put everything appended on the disk; return the length to commit."""
        return self._file.sync()

    def digest(self) -> bytes:
        """Return the digest of everything in the file."""
        return self._file.digest()

    def close(self) -> None:
        """Close the file."""
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
