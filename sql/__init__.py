"""The SQL of the snapshots, as packaged files.

``tables/`` one view over the Parquet files of one snapshot table, ``views/`` one analyst's question each, ``checks/``
one rule each: a check returns the rows that break the rule that it is named for, and empty passes.

1. A file's name is the name of what it defines.
2. ``$files`` in a table's SQL stands for the list of its Parquet files; nothing else is ever substituted.
"""

from importlib.resources import files
from typing import Final

FILES_PLACEHOLDER: Final = "$files"


def tables() -> dict[str, str]:
    """Return the SQL that defines each snapshot table, by name, in order of name."""
    return _texts("tables")


def views() -> dict[str, str]:
    """Return the SELECT of each analyst's question, by name, in order of name; they read tables only."""
    return _texts("views")


def checks() -> dict[str, str]:
    """Return the SELECT of each check, by name, in order of name; they read tables only."""
    return _texts("checks")


def _texts(folder: str) -> dict[str, str]:
    found = [path for path in (files(__name__) / folder).iterdir() if path.name.endswith(".sql")]
    found.sort(key=lambda path: path.name)
    return {path.name.removesuffix(".sql"): path.read_text("utf-8") for path in found}
