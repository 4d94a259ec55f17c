"""The snapshot stage's memory: rows that wait for their file.

1. Files are cut at barriers only, all tables together: what is published is the state and the history up to one
   barrier, in every table.
2. Where files are cut follows from rows and ledger time alone. The same ledger gives the same files on any number of
   processes, on any engine, and from any checkpoint.
3. What waits is bounded by ``rows_max`` rows and one settlement period.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from flows.market.instant import Instant
from flows.market.listings import Listings
from flows.snapshot.history import (
    BatchFacts,
    ClosedPeriod,
    FrameRecords,
    account_event_rows,
    asset_rows,
    instrument_rows,
    period_tables,
)
from flows.snapshot.names import Names
from flows.snapshot.rows import StatePart, state_tables
from flows.snapshot.tables import SCHEMA_VERSION, SCHEMAS, Moment, decode_tables, encode_tables
from schemas.checkpoint import CheckpointError, open_envelope, seal_envelope
from schemas.failures import DeadLetter
from schemas.ledger import Frame
from schemas.results import Deltas, Results

ROWS_MAX: Final = 250_000
SPAN_NS_MAX: Final = 3_600_000_000_000
_DAY_NS: Final = 86_400_000_000_000
_NOUN: Final = "snapshot"


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """Rows of one table and one UTC day of ledger time, ready to be written under ``relative_path``."""

    table: str
    relative_path: str
    rows: pa.Table
    first_frame: int
    last_frame: int


class _Header(msgspec.Struct, frozen=True, array_like=True):
    schema_version: int
    waiting_since_ns: int | None
    assets: int
    instruments: int


class Snapshot:
    """Collects rows, and hands them out as files.

    Parameters
    ----------
    rows_max : as many waiting rows, over all tables, make files.
    span_ns_max : a row waits for its file at most this long in ledger time, to the next barrier.
    """

    def __init__(self, *, rows_max: int = ROWS_MAX, span_ns_max: int = SPAN_NS_MAX) -> None:
        if rows_max <= 0 or span_ns_max < 0:
            message = "rows_max must be positive, span_ns_max not negative"
            raise ValueError(message)
        self._rows_max = rows_max
        self._span_ns_max = span_ns_max
        self._waiting_since_ns: int | None = None
        self._assets = 0
        self._instruments = 0
        self._records: list[FrameRecords] = []
        self._periods: list[ClosedPeriod] = []
        self._waiting: dict[str, list[pa.Table]] = {}
        self._waiting_rows = 0
        self._names: Names | None = None
        self._named = (0, 0, 0)

    def observe(self, frame: Frame, listings: Listings) -> None:
        """Take one frame, with the legs of all shards, after the market applied it to ``listings``."""
        if len(listings.assets) > self._assets:
            new = listings.assets[self._assets :]
            self._assets = len(listings.assets)
            self._add("assets", asset_rows(new, frame=frame.number, time_ns=frame.time_ns))
        if len(listings.instruments) > self._instruments:
            listed = listings.instruments[self._instruments :]
            self._instruments = len(listings.instruments)
            names = self._names_of(listings)
            self._add("instruments", instrument_rows(listed, frame=frame.number, time_ns=frame.time_ns, names=names))
        if frame.legs.shape[0]:
            self._records.append(FrameRecords(frame.number, frame.time_ns, frame.legs, frame.references))
            self._waiting_rows += frame.legs.shape[0]

    def step(
        self,
        barrier: Frame,
        *,
        listings: Listings,
        instant: Instant | None,
        results: Sequence[Results],
        deltas: Deltas,
        state_hash: bytes,
        batches: Sequence[BatchFacts] = (),
        dead_letters: Sequence[DeadLetter] = (),
        parts: Sequence[StatePart] | None = None,
    ) -> list[SnapshotFile]:
        """Take a barrier with what its period brought; return the files that are due, often none.

        Parameters
        ----------
        instant : the market at the barrier; None where there is no full state.
        results : of the frames since the last barrier, one array a process, each in (frame, account, index) order.
        deltas : canonical: what the period changed, netted over all processes.
        batches : those made since the last barrier.
        dead_letters : those of the period.
        parts : the full state, one part a process, where it is due.
        """
        moment = Moment(barrier.number, barrier.time_ns, barrier.period)
        closed = ClosedPeriod(
            moment,
            barrier.content_head,
            state_hash,
            _in_order(results),
            deltas,
            tuple(batches),
            tuple(dead_letters),
        )
        # Named and laid out only when a file is cut: most barriers of a fast ledger bring a row or two.
        self._periods.append(closed)
        self._waiting_rows += closed.rows
        if parts is not None:
            assert instant is not None, "a full state comes with the instant that it was evaluated at"
            for table, rows in state_tables(parts, moment=moment, instant=instant, listings=listings).items():
                self._add(table, rows)
        if self._waiting_since_ns is None:
            self._waiting_since_ns = moment.time_ns
        if self._waiting_rows >= self._rows_max or moment.time_ns - self._waiting_since_ns >= self._span_ns_max:
            return self.flush(listings)
        return []

    def flush(self, listings: Listings) -> list[SnapshotFile]:
        """Return all that waits as files. Only at a barrier; where the ledger ends, and where ``step`` decides it.

        Files come in the order of ``SCHEMAS``, then by day.
        """
        self._lay_out(listings)
        files: list[SnapshotFile] = []
        for name in SCHEMAS:
            chunks = self._waiting.get(name)
            if chunks:
                files += _files_by_day(name, pa.concat_tables(chunks).combine_chunks())
        self._waiting.clear()
        self._waiting_rows = 0
        self._waiting_since_ns = None
        return files

    def checkpoint(self, listings: Listings) -> bytes:
        """Return what waits and what decides the next file; only at a barrier, after ``step``."""
        self._lay_out(listings)
        header = msgspec.msgpack.encode(
            _Header(SCHEMA_VERSION, self._waiting_since_ns, self._assets, self._instruments)
        )
        tables = encode_tables({name: pa.concat_tables(chunks) for name, chunks in self._waiting.items()})
        return seal_envelope(_NOUN, 1, msgspec.msgpack.encode([header, tables]))

    def restore(self, data: bytes) -> None:
        """Take up where ``checkpoint`` left off; the parameters are the constructor's.

        Raises
        ------
        CheckpointError : damaged, another version, or tables of another release.
        """
        header_bytes, tables = msgspec.msgpack.decode(open_envelope(_NOUN, 1, data), type=tuple[bytes, bytes])
        header = msgspec.msgpack.decode(header_bytes, type=_Header)
        if header.schema_version != SCHEMA_VERSION:
            raise CheckpointError(
                f"snapshot tables have version {header.schema_version}, this release writes {SCHEMA_VERSION}"
            )
        self._waiting_since_ns = header.waiting_since_ns
        self._assets = header.assets
        self._instruments = header.instruments
        self._records = []
        self._periods = []
        self._waiting = {name: [rows] for name, rows in decode_tables(tables).items()}
        self._waiting_rows = sum(rows.num_rows for chunks in self._waiting.values() for rows in chunks)

    def _add(self, table: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self._waiting.setdefault(table, []).append(rows)
            self._waiting_rows += rows.num_rows

    def _lay_out(self, listings: Listings) -> None:
        """Turn into rows what waits as it came; it is counted already."""
        names = self._names_of(listings)
        tables: dict[str, pa.Table] = {}
        if self._records:
            tables["account_events"] = account_event_rows(self._records, names)
        if self._periods:
            tables.update(period_tables(self._periods, names))
        for table, rows in tables.items():
            if rows.num_rows:
                self._waiting.setdefault(table, []).append(rows)
        self._records = []
        self._periods = []

    def _names_of(self, listings: Listings) -> Names:
        listed = (len(listings.assets), len(listings.instruments), len(listings.accounts))
        if self._names is None or listed != self._named:
            self._names, self._named = Names(listings), listed
        return self._names


def _in_order(results: Sequence[Results]) -> Results:
    if len(results) == 1:
        return results[0]
    rows = np.concatenate(results)
    # Each array is in order, and no account is in two: the sort is stable, and leaves an account's rows as they are.
    return rows[np.lexsort((rows["account"], rows["frame"]))]


def _files_by_day(name: str, rows: pa.Table) -> list[SnapshotFile]:
    """Cut rows, which stand in the order of their frames, where the UTC day of ledger time changes."""
    days = rows.column("time_ns").to_numpy() // _DAY_NS
    frames = rows.column("frame").to_numpy()
    cuts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), rows.num_rows]
    files: list[SnapshotFile] = []
    for first, end in pairwise(cuts):
        day = np.datetime64(int(days[first]), "D")
        first_frame, last_frame = int(frames[first]), int(frames[end - 1])
        path = f"snapshot/{name}/day={day}/{first_frame:012d}-{last_frame:012d}.parquet"
        files.append(SnapshotFile(name, path, rows.slice(first, end - first), first_frame, last_frame))
    return files
