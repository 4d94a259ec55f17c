"""How commands speak: results to stdout, everything else to stderr, one true exit code.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 a comparison differed.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.table import Table

FAILED: Final = 1
WRONG_USE: Final = 2
DIFFERS: Final = 3

# A pipe or a file has no width: tables then take what they need for their columns.
_PIPE_WIDTH: Final = 160
console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
errors = Console(stderr=True, highlight=False)


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Print one line to stderr and exit with ``code``."""
    errors.print(f"tidegate: {message}", style="red", soft_wrap=True, markup=False)
    raise typer.Exit(code)


def note(message: str) -> None:
    """Print one line to stderr, and go on."""
    errors.print(f"tidegate: {message}", style="dim", soft_wrap=True, markup=False)


def print_json(value: Any) -> None:
    """Print one machine-readable object to stdout."""
    sys.stdout.write(msgspec.json.encode(value).decode() + os.linesep)


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Print named facts as a two-column table."""
    table = Table(title=title, show_header=False, title_justify="left", box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        table.add_row(name.replace("_", " "), shown)
    console.print(table)
