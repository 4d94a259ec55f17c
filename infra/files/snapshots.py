"""Snapshot files of a run: immutable Parquet, one manifest that says what is published, and a DuckDB file of views.

``snapshot/<table>/day=YYYY-MM-DD/<first frame>-<last frame>.parquet`` holds rows, ``snapshot/<table>/columns.parquet``
the columns of a table that may still be empty, ``snapshot/manifest.json`` the list of what is published.

1. A reader believes the manifest alone, which is replaced atomically after everything it names is on the disk.
2. A published file never changes. The manifest only grows, but for a resumed run that rolls it back to a commit.
3. The same tables give the same bytes, with the same release of pyarrow: no time and no machine is in them.
4. ``tidegate.duckdb`` holds views with paths relative to the run directory, in a storage format that DuckDB reads from
   1.0 on. Open it from inside that directory, or ``SET file_search_path`` to it; so it survives a move.
"""

import io
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

import sql
from flows.snapshot.step import SnapshotFile
from flows.snapshot.tables import SCHEMA_VERSION, SCHEMAS
from infra.files.append import sync_directory, write_atomically

DATABASE: Final = "tidegate.duckdb"
_ROOT: Final = "snapshot"
_MANIFEST: Final = "manifest.json"
_ROW_GROUP_ROWS: Final = 65_536
_GLOB_CHARACTERS: Final = frozenset("*?[")


class SnapshotError(Exception):
    """Snapshot files cannot be used; the message says which and what to do."""


class PublishedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the manifest; ``path`` is relative to the run directory, frames are null where it has no rows."""

    table: str
    path: str
    rows: int
    bytes: int
    sha256: str
    first_frame: int | None
    last_frame: int | None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is published: the columns files first, then all others in the order of their publication."""

    schema_version: int
    files: list[PublishedFile]


class SnapshotStore:
    """Publishes the snapshot files of one run directory.

    A new directory gets the columns file of every table at once, so every table exists from the start.
    """

    def __init__(self, run_directory: Path) -> None:
        self._directory = run_directory
        self._manifest_path = run_directory / _ROOT / _MANIFEST
        if self._manifest_path.exists():
            self._files = list(read_manifest(run_directory).files)
        else:
            self._files = [
                self._write(name, _columns_path(name), schema.empty_table()) for name, schema in SCHEMAS.items()
            ]
            self._publish_manifest()

    @property
    def position(self) -> int:
        """How many files are published: what a commit remembers, and ``roll_back`` takes."""
        return len(self._files)

    def publish(self, files: Sequence[SnapshotFile]) -> int:
        """Write files and publish them together; return the new position."""
        if files:
            written = [self._write(file.table, file.relative_path, file.rows) for file in files]
            self._files += written
            self._publish_manifest()
        return self.position

    def roll_back(self, position: int) -> None:
        """Publish again what was published at a commit, and delete every other file.

        Raises
        ------
        SnapshotError : fewer files are published than the commit names, or one of those is missing.
        """
        if position > len(self._files):
            raise SnapshotError(
                f"{self._manifest_path} lists {len(self._files)} files, the last commit names {position}: "
                "restore the snapshot folder from a copy, or start the run again in a new directory"
            )
        if position < len(self._files):
            self._files = self._files[:position]
            self._publish_manifest()
        kept = {self._directory / file.path for file in self._files}
        for path in sorted(kept):
            if not path.is_file():
                raise SnapshotError(f"{path} is published and missing: restore it from a copy")
        for path in sorted((self._directory / _ROOT).rglob("*.parquet*")):
            if path not in kept:
                path.unlink()

    def _publish_manifest(self) -> None:
        manifest = Manifest(schema_version=SCHEMA_VERSION, files=self._files)
        write_atomically(self._manifest_path, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")

    def _write(self, table: str, relative_path: str, rows: pa.Table) -> PublishedFile:
        data = parquet_bytes(rows)
        path = self._directory / relative_path
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            sync_directory(path.parent.parent)
        write_atomically(path, data)
        frames = rows.column("frame")
        return PublishedFile(
            table=table,
            path=relative_path,
            rows=rows.num_rows,
            bytes=len(data),
            sha256=sha256(data).hexdigest(),
            first_frame=frames[0].as_py() if rows.num_rows else None,
            last_frame=frames[-1].as_py() if rows.num_rows else None,
        )


def parquet_bytes(rows: pa.Table) -> bytes:
    """Return a table as one Parquet file; a function of its rows alone."""
    sink = io.BytesIO()
    pq.write_table(rows.combine_chunks(), sink, compression="zstd", row_group_size=_ROW_GROUP_ROWS, version="2.6")
    return sink.getvalue()


def read_manifest(run_directory: Path) -> Manifest:
    """Return what is published in a run directory.

    Raises
    ------
    SnapshotError : there is none, it is damaged or of another version, or it names files outside the snapshot folder.
    """
    path = run_directory / _ROOT / _MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise SnapshotError(f"{run_directory} has no {_ROOT}/{_MANIFEST}: give the --out directory of a run") from None
    except (msgspec.DecodeError, OSError) as error:
        raise SnapshotError(f"{path} cannot be read: {error}") from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise SnapshotError(
            f"{path} has schema version {manifest.schema_version}, this release reads {SCHEMA_VERSION}: run it again"
        )
    root = (run_directory / _ROOT).resolve()
    for file in manifest.files:
        target = run_directory / file.path
        # A link, or a path with "..", would let a reader that is held to these files out of the folder.
        if target.is_symlink() or not target.resolve().is_relative_to(root) or file.table not in SCHEMAS:
            raise SnapshotError(f"{path} names {file.path!r}, which is not a snapshot file of this run")
    return manifest


def damaged_files(run_directory: Path) -> list[str]:
    """Return the published files that are missing or whose content is not what was published."""
    damaged: list[str] = []
    for file in read_manifest(run_directory).files:
        path = run_directory / file.path
        if not path.is_file() or sha256(path.read_bytes()).hexdigest() != file.sha256:
            damaged.append(file.path)
    return damaged


def create_views(connection: duckdb.DuckDBPyConnection, manifest: Manifest, directory: Path | None = None) -> None:
    """Create the views of tables and questions over the manifest's files.

    Parameters
    ----------
    directory : makes the paths absolute; None leaves them relative to the run directory.
    """
    paths: dict[str, list[str]] = {name: [] for name in SCHEMAS}
    for file in manifest.files:
        # A columns file has no rows: it is read only while nothing else is there.
        if file.rows:
            paths[file.table].append(file.path)
    for name, text in sql.tables().items():
        chosen = paths[name] or [_columns_path(name)]
        shown = [path if directory is None else str(directory / path) for path in chosen]
        connection.execute(text.replace(sql.FILES_PLACEHOLDER, f"[{', '.join(map(quoted, shown))}]"))
    for name, text in sql.views().items():
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS\n{text}")


def build_database(run_directory: Path) -> Path:
    """Build ``tidegate.duckdb`` over what is published now, and put it in place by an atomic rename."""
    refuse_glob_characters(run_directory)
    manifest = read_manifest(run_directory)
    path = run_directory / DATABASE
    temporary = run_directory / (DATABASE + ".tmp")
    for leftover in (temporary, temporary.with_name(temporary.name + ".wal")):
        leftover.unlink(missing_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"SET file_search_path = {quoted(str(run_directory.resolve()))}")
        connection.execute(f"ATTACH {quoted(str(temporary))} AS run (STORAGE_VERSION 'v1.0.0')")
        connection.execute("USE run")
        create_views(connection, manifest)
        connection.execute("USE memory")
        connection.execute("DETACH run")
    temporary.replace(path)
    sync_directory(run_directory)
    return path


def refuse_glob_characters(run_directory: Path) -> None:
    """Raise ``SnapshotError`` where DuckDB would take the directory's name for a pattern."""
    name = str(run_directory.resolve())
    if not _GLOB_CHARACTERS.isdisjoint(name):
        raise SnapshotError(f"{name} contains one of * ? [, which DuckDB takes for a pattern: rename the directory")


def _columns_path(table: str) -> str:
    return f"{_ROOT}/{table}/columns.parquet"


def quoted(text: str) -> str:
    """Return ``text`` as a SQL string."""
    return "'" + text.replace("'", "''") + "'"
