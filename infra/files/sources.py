"""Event logs on disk: NDJSON (plain, .gz, .zst) and Parquet, one or many, as one stream in the fair order.

1. No file can exhaust memory: lines are cut at their limit, decompression is asked for a little at a time, and a file
   that is out of order is sorted in runs on disk.
2. Damage ends a file, not the run: what stood before it counts, and the damage is one dead letter.
3. A position is how many lines (rows, entries) of a file have been taken, whatever the format; the same files and
   positions give the same remainder.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from heapq import merge as heap_merge
from itertools import chain, islice
from pathlib import Path
from struct import Struct
from typing import IO, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from flows.intake.decode import (
    LINE_BYTES_MAX,
    Arrival,
    Stream,
    check_depth,
    dead_letter,
    decode,
    decode_lines,
    decode_row,
)
from flows.intake.merge import OrderKey, merge, order_key
from schemas.events import TYPE_RANK
from schemas.failures import DeadLetter, FailureReason, Origin, Refused

_READ_BYTES: Final = 1 << 18
# A zstd block of a few bytes can stand for 128 KiB, so this much input is at most some 32 MiB of output.
_ZSTD_READ_BYTES: Final = 1 << 10
_ZSTD_WINDOW_MAX: Final = 1 << 27
_GZIP_WBITS: Final = 31
_ROWS_PER_READ: Final = 4096
# A run of the external sort: this many events, or bytes, whatever comes first.
_RUN_EVENTS: Final = 200_000
_RUN_BYTES: Final = 64 << 20
_RUN_ENTRY: Final = Struct("<QI")
_LINE_SUFFIXES: Final = (".ndjson", ".jsonl", ".json")

Progress = Callable[[int], None]


class SourceError(Exception):
    """A file that cannot be an event log: missing, a folder, or of an unknown format."""


class _DamageError(Exception):
    """A file is damaged from line or row ``offset`` on; what stands before it counts. ``rest`` is a part of a line."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.offset = 0
        self.rest = b""


class _Place(msgspec.Struct):
    """What the fair order needs of a line; everything that decodes to an event decodes to this."""

    type: str
    event_id: str
    event_time_ns: int
    source: str
    source_sequence: int


_place = msgspec.json.Decoder(_Place).decode
_RANKS: Final = {str(kind.__struct_config__.tag): rank for kind, rank in TYPE_RANK.items()}


class EventFile:
    """One event log.

    ``bytes_total`` is its size on disk, ``bytes_read`` how much of that has been read (again from 0 in each pass).

    Raises
    ------
    SourceError : missing, a folder, or of an unknown format.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise SourceError(f"{path}: no such file")
        if not path.is_file():
            raise SourceError(f"{path}: not a file; name the event logs in it")
        self.path = path
        self.stream = Stream(str(path))
        self.bytes_total = path.stat().st_size
        self.bytes_read = 0
        suffixes = [suffix.lower() for suffix in path.suffixes]
        self._packing = suffixes[-1] if suffixes and suffixes[-1] in (".gz", ".zst") else ""
        kind = suffixes[-2 if self._packing else -1] if len(suffixes) > bool(self._packing) else ""
        self._is_parquet = kind == ".parquet" and not self._packing
        if not self._is_parquet and kind not in _LINE_SUFFIXES:
            raise SourceError(f"{path}: not an event log (.ndjson, .jsonl, either with .gz or .zst, or .parquet)")

    def read(self, skip: int = 0) -> Iterator[list[Arrival]]:
        """Yield the arrivals in file order, in blocks, without the first ``skip`` lines or rows."""
        self.bytes_read = 0
        try:
            yield from self._read_rows(skip) if self._is_parquet else self._read_lines(skip)
        except _DamageError as damage:
            offset = damage.offset
            if offset <= skip:
                return
            refused = Refused(FailureReason.UNREADABLE_ROW, f"{self.path.name}: {damage}")
            origin = Origin(self.stream.topic, self.stream.partition, offset)
            yield [(dead_letter(refused, origin, damage.rest), damage.rest, self.stream, offset, offset)]

    def is_sorted(self) -> bool:
        """Return whether the events stand in the fair order."""
        self.bytes_read = 0
        try:
            return self._rows_are_sorted() if self._is_parquet else self._lines_are_sorted()
        except _DamageError:
            return True

    # ---- lines

    def _read_lines(self, skip: int) -> Iterator[list[Arrival]]:
        for first, lines in self._lines(skip):
            yield decode_lines(lines, self.stream, first)

    def _lines(self, skip: int = 0) -> Iterator[tuple[int, list[bytes]]]:
        """Yield blocks of consecutive lines with the number of their first; over-long lines come cut."""
        number = 1
        # The part of a line that is still open, cut just behind the limit: enough to see that it is too long.
        rest = b""
        pieces = self._pieces()
        while True:
            try:
                piece = next(pieces, b"")
            except _DamageError as damage:
                # A last line without its line feed may be whole; a part of one is no event.
                if rest and not isinstance(decode(rest, Origin("", 0, 0)), DeadLetter):
                    if number > skip:
                        yield number, [rest]
                    number, rest = number + 1, b""
                damage.offset, damage.rest = number, rest
                raise
            if not piece:
                break
            if number <= skip:
                lines = piece.count(b"\n")
                if number + lines <= skip:
                    number += lines
                    rest = (piece if lines else rest + piece).rpartition(b"\n")[2][: LINE_BYTES_MAX + 1]
                    continue
            block = (rest + piece).split(b"\n")
            rest = block.pop()[: LINE_BYTES_MAX + 1]
            first, number = number, number + len(block)
            if first <= skip:
                block = block[skip + 1 - first :]
                first = skip + 1
            if block:
                yield first, block
        if rest and number > skip:
            yield number, [rest]

    def _pieces(self) -> Iterator[bytes]:
        """Yield the uncompressed bytes, a bounded piece at a time; raise ``_DamageError`` where they end too early."""
        unpack = {"": self._plain, ".gz": self._gunzip, ".zst": self._unzstd}[self._packing]
        try:
            with self.path.open("rb") as file:
                for piece in unpack(file):
                    # Slices bound the number of lines of a block: a bomb may be nothing but line feeds.
                    if len(piece) <= _READ_BYTES:
                        yield piece
                    else:
                        for start in range(0, len(piece), _READ_BYTES):
                            yield piece[start : start + _READ_BYTES]
        except OSError as error:
            raise _DamageError(f"cannot be read: {error}") from error

    def _plain(self, file: IO[bytes]) -> Iterator[bytes]:
        while piece := file.read(_READ_BYTES):
            self.bytes_read += len(piece)
            yield piece

    def _gunzip(self, file: IO[bytes]) -> Iterator[bytes]:
        unpacker = zlib.decompressobj(_GZIP_WBITS)
        fed = False
        packed = b""
        while True:
            if not packed:
                packed = file.read(_READ_BYTES >> 2)
                self.bytes_read += len(packed)
                if not packed:
                    break
            if unpacker.eof:
                # Another member, or the zeros that tape blocks are filled up with.
                packed = packed.lstrip(b"\0")
                if not packed:
                    continue
                unpacker = zlib.decompressobj(_GZIP_WBITS)
            fed = True
            try:
                piece = unpacker.decompress(packed, _READ_BYTES)
            except zlib.error as error:
                raise _DamageError(f"gzip is damaged: {error}") from error
            packed = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if piece:
                yield piece
        if fed and not unpacker.eof:
            raise _DamageError("gzip is truncated")

    def _unzstd(self, file: IO[bytes]) -> Iterator[bytes]:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX)
        unpacker = decompressor.decompressobj()
        fed = False
        packed = b""
        while True:
            if not packed:
                packed = file.read(_ZSTD_READ_BYTES)
                self.bytes_read += len(packed)
                if not packed:
                    break
            if unpacker.eof:
                unpacker = decompressor.decompressobj()
            fed = True
            try:
                piece = unpacker.decompress(packed)
            except zstandard.ZstdError as error:
                raise _DamageError(f"zstd is damaged: {error}") from error
            packed = unpacker.unused_data if unpacker.eof else b""
            if piece:
                yield piece
        if fed and not unpacker.eof:
            raise _DamageError("zstd is truncated")

    def _lines_are_sorted(self) -> bool:
        last: tuple[int, int, str, int, str] = (0, 0, "", 0, "")
        last_raw = b""
        for _, lines in self._lines():
            for raw in lines:
                if len(raw) > LINE_BYTES_MAX:
                    continue
                try:
                    check_depth(raw)
                    place = _place(raw)
                except (Refused, msgspec.MsgspecError, ValueError, RecursionError):
                    continue
                if place.event_time_ns > last[0]:
                    # The rest of the key decides ties only.
                    last = (place.event_time_ns, -1, "", 0, "")
                    last_raw = raw
                    continue
                if last[1] < 0:
                    last = _key(_place(last_raw))
                key = _key(place)
                if key < last or (key == last and not _same_or_later(last_raw, raw)):
                    return False
                last, last_raw = key, raw
        return True

    # ---- rows

    def _read_rows(self, skip: int) -> Iterator[list[Arrival]]:
        stream = self.stream
        for first, rows in self._rows(skip):
            block: list[Arrival] = []
            for offset, row in enumerate(rows, first):
                origin = Origin(stream.topic, stream.partition, offset)
                if isinstance(row, str):
                    text = row.encode(errors="backslashreplace")
                    refused = Refused(FailureReason.UNREADABLE_ROW, f"row cannot be read: {row}")
                    block.append((dead_letter(refused, origin, text), text, stream, offset, offset))
                else:
                    event, raw = decode_row(row, origin)
                    block.append((event, raw, stream, offset, offset))
            yield block

    def _rows(self, skip: int) -> Iterator[tuple[int, list[dict[str, Any] | str]]]:
        """Yield blocks of rows with the number of their first; an unreadable row is the text of its error."""
        number = 1
        try:
            with pq.ParquetFile(self.path) as table:
                for group in range(table.num_row_groups):
                    count = table.metadata.row_group(group).num_rows
                    if number + count > skip + 1:
                        for batch in table.iter_batches(batch_size=_ROWS_PER_READ, row_groups=[group]):
                            first, number = number, number + batch.num_rows
                            if number <= skip + 1:
                                continue
                            if first <= skip:
                                batch = batch.slice(skip + 1 - first)  # noqa: PLW2901 - the part that is wanted
                                first = skip + 1
                            yield first, _row_dicts(batch)
                    else:
                        number += count
                    self.bytes_read = int(self.bytes_total * (group + 1) / table.num_row_groups)
        except (pa.ArrowException, OSError, ValueError) as error:
            damage = _DamageError(f"parquet is damaged: {str(error).splitlines()[0]}")
            damage.offset = number
            raise damage from error

    def _rows_are_sorted(self) -> bool:
        last: OrderKey | None = None
        for block in self._read_rows(0):
            for arrival in block:
                event = arrival[0]
                if isinstance(event, DeadLetter):
                    continue
                key = order_key(event)
                if last is not None and key < last:
                    return False
                last = key
        return True


def _key(place: _Place) -> tuple[int, int, str, int, str]:
    return (
        place.event_time_ns,
        _RANKS.get(place.type, 0),
        place.source,
        place.source_sequence,
        place.event_id,
    )


def _same_or_later(earlier: bytes, later: bytes) -> bool:
    """Return whether two lines with one key stand in the fair order; what is no event has no place in it."""
    nowhere = Origin("", 0, 0)
    first, second = decode(earlier, nowhere), decode(later, nowhere)
    if isinstance(first, DeadLetter) or isinstance(second, DeadLetter):
        return True
    return not order_key(second) < order_key(first)


def _row_dicts(batch: pa.RecordBatch) -> list[dict[str, Any] | str]:
    """Return the rows of a batch; times as integer nanoseconds."""
    columns = []
    for column in batch.columns:
        if pa.types.is_timestamp(column.type):
            columns.append(column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64()))
        else:
            columns.append(column)
    plain = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    try:
        rows: list[dict[str, Any] | str] = list(plain.to_pylist())
    except (ValueError, pa.ArrowException):
        rows = []
        for place in range(plain.num_rows):
            try:
                rows += plain.slice(place, 1).to_pylist()
            except (ValueError, pa.ArrowException) as error:
                rows.append(str(error))
    return rows


class SortedFile:
    """An event log that is out of order, sorted through runs in ``work``; what is no event comes first, in file order.

    A position counts the entries of the sorted log.
    """

    def __init__(self, file: EventFile, work: Path) -> None:
        self._file = file
        self._work = work
        self._runs: list[Path] = []
        self._refused: Path | None = None

    def read(self, skip: int = 0) -> Iterator[list[Arrival]]:
        """Yield the arrivals in the fair order, in blocks, without the first ``skip``."""
        if self._refused is None:
            self._sort()
        entries = chain(self._entries(self._refused), self._merged())
        numbered = enumerate(islice(entries, skip, None), skip + 1)
        while block := list(islice(numbered, _ROWS_PER_READ)):
            stream = self._file.stream
            yield [(event, raw, stream, offset, position) for position, (event, raw, offset) in block]

    def _sort(self) -> None:
        self._work.mkdir(parents=True, exist_ok=True)
        self._refused = self._work / "refused.run"
        run: list[tuple[OrderKey, int, bytes]] = []
        size = 0
        with self._refused.open("wb") as refused:
            for block in self._file.read():
                for event, raw, _, offset, _ in block:
                    if isinstance(event, DeadLetter):
                        entry = msgspec.msgpack.encode(event)
                        refused.write(_RUN_ENTRY.pack(offset, len(entry)))
                        refused.write(entry)
                        continue
                    run.append((order_key(event), offset, raw))
                    size += len(raw)
                if len(run) >= _RUN_EVENTS or size >= _RUN_BYTES:
                    self._write_run(run)
                    run, size = [], 0
        if run:
            self._write_run(run)

    def _write_run(self, run: list[tuple[OrderKey, int, bytes]]) -> None:
        run.sort(key=lambda entry: entry[:2])
        path = self._work / f"{len(self._runs):06d}.run"
        with path.open("wb") as file:
            for _, offset, raw in run:
                file.write(_RUN_ENTRY.pack(offset, len(raw)))
                file.write(raw)
        self._runs.append(path)

    def _merged(self) -> Iterator[tuple[Any, bytes, int]]:
        runs = [self._entries(path) for path in self._runs]
        if len(runs) == 1:
            return runs[0]
        # Events of one key and content are told apart by where they stood, as in their run.
        return heap_merge(*runs, key=lambda entry: (order_key(entry[0]), entry[2]))

    def _entries(self, path: Path | None) -> Iterator[tuple[Any, bytes, int]]:
        assert path is not None
        stream = self._file.stream
        with path.open("rb") as file:
            while head := file.read(_RUN_ENTRY.size):
                offset, length = _RUN_ENTRY.unpack(head)
                raw = file.read(length)
                if path is self._refused:
                    letter = msgspec.msgpack.decode(raw, type=DeadLetter)
                    yield letter, letter.payload, offset
                else:
                    yield decode(raw, Origin(stream.topic, stream.partition, offset)), raw, offset

    def remove(self) -> None:
        """Delete the runs."""
        for path in (*self._runs, *([] if self._refused is None else [self._refused])):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self._work.rmdir()
        self._runs, self._refused = [], None


class EventLog:
    """Several event logs as one stream in the fair order.

    Parameters
    ----------
    paths : the files, in any order; each once.
    work : a folder for the runs of files that are out of order.
    on_scan : called with the bytes read so far while the files are looked through for their order.

    Raises
    ------
    SourceError : a file is missing, given twice, a folder, or of an unknown format.
    """

    def __init__(self, paths: Sequence[Path], *, work: Path, on_scan: Progress | None = None) -> None:
        resolved = [path.resolve() for path in paths]
        for place, path in enumerate(resolved):
            if path in resolved[:place]:
                raise SourceError(f"{path}: given twice")
        self.files = [EventFile(path) for path in paths]
        self.bytes_total = sum(file.bytes_total for file in self.files)
        self.out_of_order: list[Path] = []
        self._sources: list[EventFile | SortedFile] = []
        scanned = 0
        for place, file in enumerate(self.files):
            if file.is_sorted():
                self._sources.append(file)
            else:
                self.out_of_order.append(file.path)
                self._sources.append(SortedFile(file, work / f"sort-{place:04d}"))
            scanned += file.bytes_total
            if on_scan is not None:
                on_scan(scanned)

    @property
    def bytes_read(self) -> int:
        """How much of ``bytes_total`` has been read."""
        return sum(file.bytes_read for file in self.files)

    def blocks(self, positions: Mapping[str, int] | None = None, size: int = 4096) -> Iterator[list[Arrival]]:
        """Yield the arrivals behind ``positions`` (by stream name) in the fair order, in blocks of about ``size``."""
        at = positions or {}
        streams = [
            source.read(at.get(file.stream.name, 0)) for file, source in zip(self.files, self._sources, strict=True)
        ]
        if len(streams) == 1:
            yield from streams[0]
            return
        arrivals = merge(chain.from_iterable(stream) for stream in streams)
        while block := list(islice(arrivals, size)):
            yield block

    def close(self) -> None:
        """Delete what was sorted."""
        for source in self._sources:
            if isinstance(source, SortedFile):
                source.remove()


def merged(
    paths: Iterable[Path], *, work: Path, positions: Mapping[str, int] | None = None, on_scan: Progress | None = None
) -> Iterator[list[Arrival]]:
    """Yield all events of some logs behind ``positions`` in the fair order, in blocks (see ``EventLog``)."""
    log = EventLog(list(paths), work=work, on_scan=on_scan)
    try:
        yield from log.blocks(positions)
    finally:
        log.close()
