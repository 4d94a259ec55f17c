"""Apache Kafka as the Maven artifacts that it is made of: pinned by checksum, fetched once, verified at every start.

1. Nothing is run whose bytes are not those of the list. A file that differs is fetched again, never used.
2. A file is there whole or not at all: it is written beside its place, and renamed.
"""

import hashlib
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final

VERSION: Final = "4.1.0"
REPOSITORY: Final = "https://repo.maven.apache.org/maven2"
_LIST: Final = Path(__file__).with_name(f"kafka-{VERSION}.sha256")
_TIMEOUT_SECONDS: Final = 60


class ArtifactError(Exception):
    """A part of Kafka cannot be had, or is not what it should be."""


def default_home() -> Path:
    """Return where artifacts are kept: ``TIDEGATE_KAFKA_HOME``, or a folder of the user's cache."""
    named = os.environ.get("TIDEGATE_KAFKA_HOME")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate" / f"kafka-{VERSION}"


def resolve(
    home: Path, *, repository: str = REPOSITORY, show: Callable[[int, int], None] = lambda done, total: None
) -> list[Path]:
    """Return the jars of the broker, fetching those that are not there.

    Parameters
    ----------
    repository : base address of a Maven repository.
    show : called with how many of how many are there.

    Raises
    ------
    ArtifactError : one cannot be fetched or written, or its checksum is another.
    """
    listed = [line.split() for line in _LIST.read_text().splitlines()]
    jars = []
    for done, (digest, place) in enumerate(listed, 1):
        jar = home / Path(place).name
        if not _is(jar, digest):
            _fetch(f"{repository.rstrip('/')}/{place}", jar, digest)
        jars.append(jar)
        show(done, len(listed))
    return jars


def _is(jar: Path, digest: str) -> bool:
    return jar.is_file() and hashlib.sha256(jar.read_bytes()).hexdigest() == digest


def _fetch(address: str, jar: Path, digest: str) -> None:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - checked by its digest
            data: bytes = answer.read()
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{address} cannot be fetched: {error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise ArtifactError(f"{address} is not what was pinned: its SHA-256 is {found}, not {digest}")
    try:
        jar.parent.mkdir(parents=True, exist_ok=True)
        part = jar.with_name(f"{jar.name}.{os.getpid()}")
        part.write_bytes(data)
        part.replace(jar)
    except OSError as error:
        raise ArtifactError(f"{jar} cannot be written: {error}") from error
