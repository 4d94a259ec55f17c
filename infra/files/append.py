"""An append-only file that is cut back to its last commit when a run resumes.

1. What lies beyond a committed length is never read: a crash may leave anything there.
2. ``sync`` returns only once the bytes are on the disk.
3. ``digest`` is that of every byte from the first on: of those that stand there, where a run goes on.
"""

import os
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Final, Self

# Behind the name of a file that is about to be replaced.
TEMPORARY: Final = ".tmp"
_BLOCK: Final = 1 << 20


class ShorterThanCommitted(Exception):  # noqa: N818 - says what happened
    """A file has lost committed bytes: the run cannot be resumed from it."""


class AppendFile:
    """One file of a run directory.

    Parameters
    ----------
    committed : the length that the last commit names; whatever follows is cut off.

    Raises
    ------
    ShorterThanCommitted : the file on disk is shorter than that.
    """

    def __init__(self, path: Path, committed: int = 0) -> None:
        self.path = path
        self._file = path.open("ab")
        size = path.stat().st_size
        if size < committed:
            self._file.close()
            raise ShorterThanCommitted(f"{path} has {size} bytes, {committed} were committed: restore it from a copy")
        self._file.truncate(committed)
        self._length = committed
        self._hasher = _hashed(path, committed)

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; what was not synced may be lost."""
        self.close()

    def append(self, data: bytes) -> None:
        """Write bytes behind the last ones."""
        self._file.write(data)
        self._length += len(data)
        self._hasher.update(data)

    def digest(self) -> bytes:
        """Return the digest of everything in the file."""
        return self._hasher.digest()

    def sync(self) -> int:
        """Put everything on the disk; return the length to commit."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._length

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def digest_of(path: Path, length: int) -> bytes:
    """Return the digest of the first bytes of a file; of all, where it is shorter."""
    return _hashed(path, length).digest()


def _hashed(path: Path, length: int) -> blake2b:
    hasher = blake2b(digest_size=16)
    with path.open("rb") as file:
        while length > 0 and (block := file.read(min(length, _BLOCK))):
            hasher.update(block)
            length -= len(block)
    return hasher


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` so that a reader, or a crash, sees the old content or the new, whole."""
    temporary = path.with_name(path.name + TEMPORARY)
    write_synced(temporary, data)
    temporary.replace(path)
    sync_directory(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and put its content on the disk; its name may still be lost."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Put a directory's entries on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
