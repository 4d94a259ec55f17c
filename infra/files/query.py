"""A locked-down, read-only DuckDB over the snapshots of one run.

The engine is a fresh one in memory that holds nothing but views; what it may touch is settled before the first word of
the caller's SQL is read, and cannot be changed by it.

1. The only files that it can open are the published Parquet files of the run, by exact path; no folder, no network,
   no extension, no environment. The configuration is locked.
2. The caller's SQL is one SELECT (or VALUES, DESCRIBE, SHOW, SUMMARIZE, which are SELECTs to DuckDB). Nothing else
   runs, so even those files cannot be written.
3. Memory, threads and time are bounded. Nothing spills to the disk.
4. Values enter as bound parameters, never as text.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import duckdb
import pyarrow as pa

import sql
from infra.files.snapshots import (
    SnapshotError,
    create_views,
    quoted,
    read_manifest,
    refuse_glob_characters,
)

MEMORY_LIMIT: Final = "2GB"
THREADS: Final = 2
TIMEOUT_SECONDS: Final = 60.0
_BATCH_ROWS: Final = 10_000
_LOCKS: Final = (
    "SET enable_progress_bar = false",
    "SET temp_directory = ''",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET allow_persistent_secrets = false",
    "SET python_enable_replacements = false",
    "SET arrow_lossless_conversion = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)

Parameters = Sequence[Any] | Mapping[str, Any]


class QueryError(Exception):
    """A query was refused, failed, or took too long; one line says which."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query, and whether there were more than were wanted."""

    rows: pa.Table
    truncated: bool


class SnapshotQuery:
    """A connection over what is published in a run directory at this moment.

    Parameters
    ----------
    memory_limit : as DuckDB writes it, ``2GB``.

    Raises
    ------
    SnapshotError : the directory has no snapshots that can be read.
    """

    def __init__(self, run_directory: Path, *, memory_limit: str = MEMORY_LIMIT, threads: int = THREADS) -> None:
        refuse_glob_characters(run_directory)
        manifest = read_manifest(run_directory)
        directory = run_directory.resolve()
        self._connection = duckdb.connect(":memory:", config={"memory_limit": memory_limit, "threads": str(threads)})
        try:
            create_views(self._connection, manifest, directory)
        except duckdb.Error as error:
            self.close()
            fault = str(error).splitlines()[0]
            raise SnapshotError(f"{run_directory} holds snapshot files that cannot be read: {fault}") from error
        allowed = ", ".join(quoted(str(directory / file.path)) for file in manifest.files)
        self._connection.execute(f"SET allowed_paths = [{allowed}]")
        for lock in _LOCKS:
            self._connection.execute(lock)

    def __enter__(self) -> Self:
        """Return the connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def query(
        self,
        text: str,
        parameters: Parameters | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        rows_max: int | None = None,
    ) -> Answer:
        """Return the rows of one SELECT.

        Parameters
        ----------
        parameters : values of ``?`` or ``$name`` in the text.
        rows_max : as many rows are read and no more; None reads all.

        Raises
        ------
        QueryError : not one SELECT, refused by the locks, wrong SQL, or over a limit.
        """
        statement = self._one_select(text)
        timer = threading.Timer(timeout_seconds, self._connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            # Not execute(): that would hold every row before the first is read.
            return _read(self._connection.sql(statement, params=parameters).to_arrow_reader(_BATCH_ROWS), rows_max)
        except duckdb.InterruptException:
            raise QueryError(f"the query was stopped after {timeout_seconds:g} s: narrow it, or allow more") from None
        except (duckdb.Error, pa.ArrowException, ValueError) as error:
            if not timer.is_alive():
                raise QueryError(
                    f"the query was stopped after {timeout_seconds:g} s: narrow it, or allow more"
                ) from None
            raise QueryError(_first_line(error)) from None
        finally:
            timer.cancel()

    def check(self, *, timeout_seconds: float = TIMEOUT_SECONDS, rows_max: int = 20) -> dict[str, Answer]:
        """Return the offending rows of every check by name; all empty where the snapshots are sound."""
        return {
            name: self.query(text, timeout_seconds=timeout_seconds, rows_max=rows_max)
            for name, text in sql.checks().items()
        }

    def _one_select(self, text: str) -> duckdb.Statement:
        try:
            statements = self._connection.extract_statements(text)
        except duckdb.Error as error:
            raise QueryError(_first_line(error)) from None
        if len(statements) != 1:
            raise QueryError(f"give exactly one statement, not {len(statements)}")
        try:
            kind = statements[0].type
        except ValueError:
            raise QueryError("only SELECT can be run here, not a kind of statement without a name") from None
        if kind != duckdb.StatementType.SELECT:
            raise QueryError(f"only SELECT can be run here, not {kind.name}")
        return statements[0]


def _read(reader: pa.RecordBatchReader, rows_max: int | None) -> Answer:
    batches: list[pa.RecordBatch] = []
    count = 0
    for batch in reader:
        batches.append(batch)
        count += batch.num_rows
        if rows_max is not None and count > rows_max:
            break
    rows = pa.Table.from_batches(batches, reader.schema)
    if rows_max is None or count <= rows_max:
        return Answer(rows, truncated=False)
    return Answer(rows.slice(0, rows_max), truncated=True)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
