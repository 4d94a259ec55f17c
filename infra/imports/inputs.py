"""Files that an importer reads: found, checked for their columns, or refused in a sentence that says what to do."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl

_SECOND_NS: Final = 1_000_000_000


class WrongInputError(Exception):
    """A file is missing or is not what it should be; the message says what to do."""


def read_columns(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Return a Parquet file that has at least these columns.

    Raises
    ------
    WrongInputError : there is no such file, it is not Parquet, or a column is missing.
    """
    if not path.is_file():
        raise WrongInputError(f"{path} is not a file")
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise WrongInputError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise WrongInputError(f"{path} has no column {', '.join(missing)}: it is not the published file")
    return frame


def find_file(inputs: Sequence[Path], name: str) -> Path:
    """Return the file called ``name`` among the inputs: named itself, or inside a folder of them.

    Raises
    ------
    WrongInputError : it is nowhere.
    """
    for path in inputs:
        if path.is_dir() and (path / name).is_file():
            return path / name
        if path.is_file() and path.name == name:
            return path
    where = ", ".join(str(path) for path in inputs)
    raise WrongInputError(f"{name} is not in {where}: give its folder, or the file itself")


def first_match(folder: Path | None, pattern: str) -> Path | None:
    """Return the first file of a folder that matches, None where there is none, or no folder was given.

    Raises
    ------
    WrongInputError : the folder does not exist.
    """
    if folder is None:
        return None
    if not folder.is_dir():
        raise WrongInputError(f"{folder} is not a folder")
    return next(iter(sorted(folder.glob(pattern))), None)


def nanoseconds(moment: datetime) -> int:
    """Return an aware moment as integer nanoseconds since 1970 UTC, exactly."""
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * _SECOND_NS + since.microseconds * 1_000
