"""The ledger on disk: frame files that only grow, and the dead letters beside them.

A file holds frames, each behind its length (u32, little-endian); its name is the number of its first frame.

1. What ``sync`` returned is on the disk. What stands behind the last ``sync`` may be lost or torn by a crash; a torn
   frame is named by readers and cut off by the next writer.
2. Readers verify every frame and every link of the chain that they pass.
"""

import base64
from collections.abc import Collection, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Final

import msgspec

from flows.passages import WrittenPeriod
from infra.files.append import AppendFile, digest_of, sync_directory
from schemas.failures import DeadLetter, FailureReason, Origin
from schemas.ledger import Frame, FrameKind, LedgerError, check_link, decode_frame, frame_kind

FILE_BYTES_MAX: Final = 64 << 20
_SUFFIX: Final = ".frames"
_LENGTH: Final = Struct("<I")
_FRAME_BYTES_MAX: Final = 1 << 30
# Magic, version, kind, shard count, section count stand before it (see schemas.ledger).
_NUMBER_IN_FRAME: Final = Struct("<12xQ")


class TornTailError(LedgerError):
    """The last frame of the ledger is not whole: the writer was stopped while it wrote."""


class NoLedgerError(LedgerError):
    """The folder holds no frame files."""


class LedgerPosition(msgspec.Struct, frozen=True, array_like=True):
    """The end of a ledger: ``file`` by the number of its first frame, bytes in it, number of the next frame."""

    file: int
    offset: int
    next_frame: int


LEDGER_START: Final = LedgerPosition(0, 0, 0)


class LedgerWriter:
    """Append frames to a ledger folder; creates it, or goes on behind its last whole frame.

    Parameters
    ----------
    folder : of the frame files.
    file_bytes_max : a file that has grown beyond this is followed by another.

    Attributes
    ----------
    position : the end of what was appended, whether or not it is on the disk yet.
    torn_bytes : how many bytes of a torn frame were cut off on opening.
    """

    def __init__(self, folder: Path, *, file_bytes_max: int = FILE_BYTES_MAX) -> None:
        self._folder = folder
        self._file_bytes_max = file_bytes_max
        folder.mkdir(parents=True, exist_ok=True)
        self.torn_bytes = 0
        self.position = self._end()
        self._file = AppendFile(self._path(self.position.file), self.position.offset)
        # Of the files before it, which are whole: each is read once at most.
        self._digests: dict[int, bytes] = {}
        sync_directory(folder)

    def append(self, frames: Iterable[bytes]) -> None:
        """Append frames, in order; ``sync`` makes them durable."""
        file, offset, number = self.position.file, self.position.offset, self.position.next_frame
        for frame in frames:
            if offset >= self._file_bytes_max:
                self._digests[file] = self._file.digest()
                self.close()
                file, offset = number, 0
                self._file = AppendFile(self._path(file))
                sync_directory(self._folder)
            if _NUMBER_IN_FRAME.unpack_from(frame)[0] != number:
                raise LedgerError(f"frame {_NUMBER_IN_FRAME.unpack_from(frame)[0]} does not follow frame {number - 1}")
            self._file.append(_LENGTH.pack(len(frame)))
            self._file.append(frame)
            offset += _LENGTH.size + len(frame)
            number += 1
            self.position = LedgerPosition(file, offset, number)

    def sync(self) -> LedgerPosition:
        """Make everything appended durable; return the end of it."""
        self._file.sync()
        return self.position

    def digest(self) -> bytes:
        """Return the digest of everything appended, as ``ledger_digest`` has it."""
        whole = [(number, path) for number, path in _files(self._folder) if number < self.position.file]
        for number, path in whole:
            if number not in self._digests:
                self._digests[number] = digest_of(path, path.stat().st_size)
        return _joined([*(self._digests[number] for number, _ in whole), self._file.digest()])

    def truncate_to(self, position: LedgerPosition) -> None:
        """Take back everything behind a position that ``sync`` returned.

        Raises
        ------
        LedgerError : the ledger does not reach that far.
        ShorterThanCommitted : a file has lost bytes since.
        """
        end = self.position
        if position.next_frame > end.next_frame or not self._path(position.file).exists():
            raise LedgerError(f"ledger ends before frame {end.next_frame}: it never reached {position.next_frame}")
        self._file.close()
        for number, path in _files(self._folder):
            if number > position.file:
                path.unlink()
        self._file = AppendFile(self._path(position.file), position.offset)
        self._file.sync()
        sync_directory(self._folder)
        self.position = position

    def close(self) -> None:
        """Sync and close."""
        self._file.sync()
        self._file.close()

    def _end(self) -> LedgerPosition:
        files = _files(self._folder)
        if not files:
            return LEDGER_START
        first, path = files[-1]
        offset, number = 0, first
        size = path.stat().st_size
        with path.open("rb") as file:
            while offset + _LENGTH.size <= size:
                file.seek(offset)
                length = _LENGTH.unpack(file.read(_LENGTH.size))[0]
                if offset + _LENGTH.size + length > size:
                    break
                offset += _LENGTH.size + length
                number += 1
        self.torn_bytes = size - offset
        return LedgerPosition(first, offset, number)

    def _path(self, first: int) -> Path:
        return self._folder / f"{first:08d}{_SUFFIX}"


class WrittenLedger:
    """A ledger folder as the input of a run, period after period.

    Attributes
    ----------
    files : its frame files. bytes_total, bytes_read : how much of it there is, and how much has been read.
    behind : frames behind the last barrier, which belong to no period yet and are left out; known at the end.

    Raises
    ------
    NoLedgerError : there are none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files = [path for _, path in _files(folder)] if folder.is_dir() else []
        if not self.files:
            raise NoLedgerError(f"{folder} holds no ledger: name the folder `ledger` of a run, or an archive of frames")
        self.bytes_total = sum(path.stat().st_size for path in self.files)
        self.bytes_read = 0
        self.behind = 0

    def genesis(self) -> Frame:
        """Return frame 0."""
        return read_frame(self._folder, 0)

    def periods(self, from_frame: int = 0) -> Iterator[WrittenPeriod]:
        """Yield the periods from a frame on, whole ones; the last is marked.

        Raises
        ------
        LedgerError : a file is missing, or ends inside a frame.
        """
        self.bytes_read = 0
        waiting: list[bytes] | None = None
        frames: list[bytes] = []
        for _, data in _numbered(self._folder, from_frame, None):
            self.bytes_read += _LENGTH.size + len(data)
            frames.append(data)
            if frame_kind(data) is FrameKind.BARRIER:
                if waiting is not None:
                    yield WrittenPeriod(waiting)
                waiting, frames = frames, []
        self.behind = len(frames)
        if waiting is not None:
            yield WrittenPeriod(waiting, last=True)


def ledger_digest(folder: Path, position: LedgerPosition) -> bytes:
    """Return the digest of a ledger up to a position: over the digests of its files."""
    return _joined(
        [
            digest_of(path, position.offset if number == position.file else path.stat().st_size)
            for number, path in _files(folder)
            if number <= position.file
        ]
    )


def _joined(digests: Iterable[bytes]) -> bytes:
    return blake2b(b"".join(digests), digest_size=16).digest()


def read_frames(
    folder: Path,
    *,
    shards: Collection[int] | None = None,
    from_frame: int = 0,
    until: LedgerPosition | None = None,
) -> Iterator[Frame]:
    """Yield the frames of a ledger from number ``from_frame``, verified, with the legs of ``shards`` (all where None).

    Parameters
    ----------
    until : stop there, at a position that a writer has synced; what stands behind it is not looked at.

    Raises
    ------
    TornTailError : behind the last whole frame stands a part of one.
    LedgerError : the folder holds no ledger, a file is missing, a frame is damaged, or the chain is broken.
    """
    previous: Frame | None = None
    for number, data in _numbered(folder, from_frame, until):
        frame = decode_frame(data, shards)
        if frame.number != number:
            raise LedgerError(f"{folder}: frame {frame.number} stands where {number} should")
        if previous is not None or number == 0:
            check_link(previous, frame)
        yield frame
        previous = frame


def _numbered(folder: Path, from_frame: int, until: LedgerPosition | None) -> Iterator[tuple[int, bytes]]:
    """Yield the frames from a number on, as they stand, with their numbers."""
    files = _files(folder)
    if not files:
        raise LedgerError(f"{folder}: no ledger")
    start = max((first for first, _ in files if first <= from_frame), default=files[0][0])
    number = start
    for place, (first, path) in enumerate(files):
        if first < start:
            continue
        if first != number:
            raise LedgerError(f"{path.name} begins at frame {first}, not {number}: a file is missing")
        is_last = place == len(files) - 1
        for data in _frames(path, is_last=is_last, until=until if until and until.file == first else None):
            if number >= from_frame:
                yield number, data
            number += 1
        if until is not None and until.file == first:
            return


def read_frame(folder: Path, number: int) -> Frame:
    """Return one frame of a ledger, verified by itself; raise ``LedgerError`` if it is not there."""
    for frame in read_frames(folder, from_frame=number):
        return frame
    raise LedgerError(f"{folder}: no frame {number}")


def _frames(path: Path, *, is_last: bool, until: LedgerPosition | None) -> Iterator[bytes]:
    size = path.stat().st_size if until is None else until.offset
    offset = 0
    with path.open("rb", buffering=1 << 20) as file:
        while offset < size:
            head = file.read(_LENGTH.size)
            length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else _FRAME_BYTES_MAX
            if offset + _LENGTH.size + length > size:
                message = f"{path.name} ends inside a frame, at byte {offset} of {size}"
                raise TornTailError(message) if is_last else LedgerError(message)
            yield file.read(length)
            offset += _LENGTH.size + length


def dead_letter_lines(letters: Iterable[DeadLetter]) -> bytes:
    """Return dead letters as lines of NDJSON: their payload is base64, everything else is plain."""
    return b"".join(msgspec.json.encode(_to_line(letter)) + b"\n" for letter in letters)


class _Line(msgspec.Struct, frozen=True):
    reason: str
    message: str
    topic: str
    partition: int
    offset: int
    event_time_ns: int
    payload: str


def read_dead_letters(path: Path) -> Iterator[DeadLetter]:
    """Yield the dead letters of a file; a last line that is not whole is left out."""
    decoder = msgspec.json.Decoder(_Line)
    with path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            line = decoder.decode(raw)
            yield DeadLetter(
                reason=FailureReason(line.reason),
                message=line.message,
                origin=Origin(line.topic, line.partition, line.offset),
                payload=base64.b64decode(line.payload),
                event_time_ns=line.event_time_ns,
            )


def _to_line(letter: DeadLetter) -> _Line:
    return _Line(
        reason=letter.reason.value,
        message=letter.message,
        topic=letter.origin.topic,
        partition=letter.origin.partition,
        offset=letter.origin.offset,
        event_time_ns=letter.event_time_ns,
        payload=base64.b64encode(letter.payload).decode(),
    )


def _files(folder: Path) -> list[tuple[int, Path]]:
    """Return the frame files with the numbers of their first frames, in order."""
    named = ((path.name[: -len(_SUFFIX)], path) for path in folder.glob(f"*{_SUFFIX}"))
    return sorted((int(number), path) for number, path in named if number.isdigit())
