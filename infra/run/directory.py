"""The run directory: everything that a run publishes, always exactly at a barrier after a resume.

1. All files but checkpoints and small JSON are append-only. ``commit.json`` names a barrier and the length of each of
   them there; it is replaced atomically, after everything it names is on the disk.
2. On resume every file is cut back to its committed length, and every stage starts from its checkpoint of the same
   barrier. What a crash left behind beyond it is rebuilt, byte for byte, because it is a function of the input.
3. Every checkpoint file names the barrier that it was taken at. Files of different barriers are never put together:
   each would pass its own checksum, and the run would go on from a state that never was.
4. A directory belongs to one description (genesis, shards, inputs, options): resuming with another one is refused.
5. One process at a time writes a directory. It holds a lock that ends with it, however it ends.
6. ``commit.json`` has a digest of what every such file was, so that a byte that turned since is seen before a run goes
   on from it.
7. ``commit.json`` carries its own checksum: no length, digest or count in it is believed after it was edited.
"""

import fcntl
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec

from flows.passages import RiskCheckpoint
from infra.files.append import TEMPORARY, sync_directory, write_atomically, write_synced
from schemas.checkpoint import CheckpointError, open_envelope, seal_envelope
from schemas.ledger import Genesis

COMMIT_VERSION: Final = 3
DESCRIPTION: Final = "run.json"
_COMMIT: Final = "commit.json"
_SUMMARY: Final = "summary.json"
# Magic bytes and the barrier's frame number, before a stage's own sealed bytes.
_TAKEN_AT: Final = struct.Struct("<4sQ")
_MAGIC: Final = b"TGRC"


class RunDirectoryError(Exception):
    """The directory cannot be used for this run; the message says what to do."""


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is. Worker count, engine and progress are not part of it: they change no byte.

    ``inputs`` are paths with their sizes: a log that has grown or shrunk since is another log. ``screening`` is the
    policy whose decisions these are: ``exhaustive`` under any exact one.
    """

    genesis: Genesis
    shard_count: int
    inputs: list[tuple[str, int]]
    until_ns: int | None
    snapshot_period_ns: int
    chain: str
    parameters: dict[str, Any]
    screening: str


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A barrier, and how long every file was there.

    ``digest`` is over everything decided up to the barrier; ``digests`` are of the files, up to their lengths;
    ``counts`` and ``tallies`` are for the summary;
    ``checksum`` is over all other fields, and is there once the commit is ``sealed``.
    """

    version: int
    frame: int
    period: int
    time_ns: int
    ledger: Any
    dead_letters: int
    results: int
    batches: int
    batch_number: int
    snapshot: Any
    digest: str
    digests: dict[str, str]
    counts: dict[str, int]
    tallies: dict[str, int]
    state_period: int | None
    checkpoint: str
    finished: bool
    checksum: str = ""

    def sealed(self) -> "Commit":
        """Return the commit with the checksum of everything else in it."""
        bare = msgspec.structs.replace(self, checksum="")
        return msgspec.structs.replace(bare, checksum=blake2b(msgspec.json.encode(bare), digest_size=16).hexdigest())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a run directory for writing; create it where it is missing, and remove it again if it stays empty.

    The directory itself is locked, so no file is left behind, and the lock ends with the process.

    Raises
    ------
    RunDirectoryError : ``path`` is a file, or another process holds it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RunDirectoryError(f"{path} is a file, or lies in one: name a directory with --out") from None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RunDirectoryError(f"{path} is being written by another run: wait for it, or name another --out") from None
    try:
        yield
    finally:
        with suppress(OSError):
            path.rmdir()
        os.close(descriptor)


class RunDirectory:
    """Paths, description, commits and checkpoints of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"

    @classmethod
    def prepare(cls, path: Path, description: Description) -> tuple["RunDirectory", Commit | None]:
        """Take up the run in a directory that is ``locked``, or begin one there; return it with its last commit.

        Raises
        ------
        RunDirectoryError : it holds another run, a finished one, or something that is no run at all.
        """
        directory = cls(path)
        if not (path / DESCRIPTION).exists():
            # A crash may have left the description half written, and nothing beside it.
            if any(entry.name != DESCRIPTION + TEMPORARY for entry in path.iterdir()):
                raise RunDirectoryError(f"{path} is not empty and holds no run: name another directory with --out")
            write_atomically(path / DESCRIPTION, msgspec.json.format(msgspec.json.encode(description)))
            directory.checkpoints.mkdir()
            return directory, None
        if directory.description() != description:
            raise RunDirectoryError(
                f"{path} holds a run with other inputs or options: resume it with the same ones, or name another --out"
            )
        directory.checkpoints.mkdir(exist_ok=True)
        commit = directory.last_commit()
        # The summary is written last: without it the run was killed at its end, and has only that left to do.
        if commit is not None and commit.finished and directory.is_summarised:
            raise RunDirectoryError(f"{path} holds a finished run: name another directory with --out, or delete it")
        return directory, commit

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Return an existing run's directory, to read it.

        Raises
        ------
        RunDirectoryError : there is no run.
        """
        if not (path / DESCRIPTION).is_file():
            raise RunDirectoryError(f"{path} holds no run: `tidegate replay LOG --out {path}` makes one")
        return cls(path)

    def description_digest(self) -> str:
        """Return the digest of the description, for a commit."""
        return blake2b((self.path / DESCRIPTION).read_bytes(), digest_size=16).hexdigest()

    def description(self) -> Description:
        """Return what the run is."""
        try:
            return msgspec.json.decode((self.path / DESCRIPTION).read_bytes(), type=Description)
        except msgspec.MsgspecError as error:
            raise RunDirectoryError(f"{self.path / DESCRIPTION} cannot be read: {error}") from error

    def last_commit(self) -> Commit | None:
        """Return the last commit, None before the first."""
        file = self.path / _COMMIT
        if not file.exists():
            return None
        try:
            commit = msgspec.json.decode(file.read_bytes(), type=Commit)
        except msgspec.MsgspecError as error:
            raise RunDirectoryError(f"{file} is damaged ({error}): run into another directory") from error
        if commit.version != COMMIT_VERSION:
            raise RunDirectoryError(f"{file} has version {commit.version}, this release reads {COMMIT_VERSION}")
        if commit != commit.sealed():
            raise RunDirectoryError(f"{file} is damaged (it fails its checksum): run into another directory")
        return commit

    def write_commit(self, commit: Commit) -> None:
        """Make a commit the last one, and forget the checkpoints before it."""
        write_atomically(self.path / _COMMIT, msgspec.json.format(msgspec.json.encode(commit.sealed())))
        for old in self.checkpoints.iterdir():
            if old.name != commit.checkpoint:
                shutil.rmtree(old)

    def write_checkpoint(self, frame: int, *, stages: dict[str, bytes], risk: RiskCheckpoint, barrier: bytes) -> str:
        """Write all stages' checkpoints of one barrier; return the name to commit."""
        name = f"{frame:012d}"
        folder = self.checkpoints / name
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        files = {**stages, "market": risk.market, "barrier": seal_envelope("barrier", 1, barrier)}
        files.update({f"shard-{shard:05d}": data for shard, data in risk.shards.items()})
        for file, data in files.items():
            # The folder is new and nothing names it before the commit does: no file in it needs a rename of its own.
            write_synced(folder / f"{file}.checkpoint", _TAKEN_AT.pack(_MAGIC, frame) + data)
        sync_directory(folder)
        sync_directory(self.checkpoints)
        return name

    def read_checkpoint(self, commit: Commit, shard_count: int) -> tuple[dict[str, bytes], RiskCheckpoint, bytes]:
        """Return ``(stage checkpoints, risk checkpoint, barrier frame)`` of a commit.

        Raises
        ------
        RunDirectoryError : a file is missing, damaged, or of another barrier than the commit.
        """
        folder = self.checkpoints / commit.checkpoint

        def read(name: str) -> bytes:
            file = folder / f"{name}.checkpoint"
            try:
                data = file.read_bytes()
            except OSError as error:
                raise RunDirectoryError(
                    f"checkpoint file {error.filename} cannot be read: run into another directory"
                ) from error
            _check_taken_at(file, data, commit.frame)
            return data[_TAKEN_AT.size :]

        stages = {name: read(name) for name in ("intake", "settlement", "snapshot")}
        risk = RiskCheckpoint(
            read("market"), {shard: read(f"shard-{shard:05d}") for shard in range(shard_count)}, commit.state_period
        )
        try:
            barrier = open_envelope("barrier", 1, read("barrier"))
        except CheckpointError as error:
            raise RunDirectoryError(f"{folder}: {error}") from error
        return stages, risk, barrier

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write what the run's end printed."""
        write_atomically(self.path / _SUMMARY, msgspec.json.format(msgspec.json.encode(summary)))

    @property
    def is_summarised(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / _SUMMARY).exists()

    def summary(self) -> dict[str, Any]:
        """Return what the run's end printed.

        Raises
        ------
        RunDirectoryError : the run has not finished.
        """
        file = self.path / _SUMMARY
        if not file.exists():
            raise RunDirectoryError(f"{self.path} holds an unfinished run: run the same command again to resume it")
        try:
            summary: dict[str, Any] = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise RunDirectoryError(f"{file} is damaged ({error})") from error
        return summary


def _check_taken_at(file: Path, data: bytes, frame: int) -> None:
    """Raise ``RunDirectoryError`` unless a checkpoint file was taken at the barrier ``frame``."""
    if len(data) < _TAKEN_AT.size or not data.startswith(_MAGIC):
        raise RunDirectoryError(f"{file} is no checkpoint file of a run: run into another directory")
    _, taken_at = _TAKEN_AT.unpack_from(data)
    if taken_at != frame:
        raise RunDirectoryError(
            f"{file} was taken at frame {taken_at}, the last commit is of frame {frame}: "
            "checkpoints of different barriers cannot be mixed, run into another directory"
        )
