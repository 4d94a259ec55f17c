"""``tidegate query`` and ``tidegate check``: ask the snapshots of a run, and hold them to their rules."""

import csv
import sys
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import pyarrow as pa
import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from infra.cli.output import FAILED, WRONG_USE, console, fail, print_json
from infra.files.query import Answer, QueryError, SnapshotQuery
from infra.files.snapshots import SnapshotError

_ROWS_SHOWN: Final = 100
_LARGE: Final = 10_000.0
_UNBOUNDED: Final = Console(width=100_000)

Out = Annotated[Path, typer.Option("--out", help="Directory of a run.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds after which a query is stopped.")]


def query(
    text: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT; SHOW TABLES lists what there is.")],
    *,
    out: Out,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print all rows as CSV to stdout.")] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Read at most so many rows; 100 for a table.", show_default=False),
    ] = None,
    timeout: Timeout = 60.0,
) -> None:
    """Run one read-only SELECT over the snapshots of a run, in a locked-down DuckDB."""
    if as_json and as_csv:
        fail("choose one of --json and --csv", WRONG_USE)
    rows_max = _ROWS_SHOWN if limit is None and not (as_json or as_csv) else limit
    try:
        with _opened(out) as snapshots:
            answer = snapshots.query(text, timeout_seconds=timeout, rows_max=rows_max)
    except QueryError as error:
        fail(str(error))
    if as_json:
        print_json(_plain(answer))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.rows.column_names)
        writer.writerows(_plain(answer)["rows"])
    else:
        _print_table(answer)


def check(*, out: Out, as_json: Json = False, timeout: Timeout = 600.0) -> None:
    """Run every check of ``sql/checks`` over the snapshots of a run; exit 1 where one finds offending rows."""
    try:
        with _opened(out) as snapshots:
            found = snapshots.check(timeout_seconds=timeout)
    except QueryError as error:
        fail(str(error))
    broken = {name: answer for name, answer in found.items() if answer.rows.num_rows}
    if as_json:
        print_json({"checks": sorted(found), "failed": {name: _plain(answer) for name, answer in broken.items()}})
    else:
        for name, answer in found.items():
            console.print(f"{'FAILED' if name in broken else 'ok':<7}{name}", style="red" if name in broken else None)
            if name in broken:
                _print_table(answer)
    if broken:
        fail(f"{len(broken)} of {len(found)} checks found offending rows: {', '.join(broken)}", FAILED)


def _opened(out: Path) -> SnapshotQuery:
    if not out.is_dir():
        fail(f"{out} is not a directory: give the --out directory of a run", WRONG_USE)
    try:
        return SnapshotQuery(out)
    except SnapshotError as error:
        fail(str(error), WRONG_USE)


def _print_table(answer: Answer) -> None:
    """Print rows as a table, or one column a line where a terminal is too narrow for it."""
    names = answer.rows.column_names
    columns = [column.to_pylist() for column in answer.rows.columns]
    rows = [[_shown(value) for value in row] for row in zip(*columns, strict=True)]
    table = Table(show_edge=False, pad_edge=False)
    for field in answer.rows.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
        table.add_column(Text(field.name), justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    width = Measurement.get(_UNBOUNDED, _UNBOUNDED.options, table).maximum
    if console.is_terminal and width > console.width:
        for number, row in enumerate(rows, 1):
            console.print(f"row {number}", style="dim")
            for name, value in zip(names, row, strict=True):
                console.print(Text(f"  {name:<{max(map(len, names))}}  {value}"), soft_wrap=True)
    else:
        Console(width=max(width, 1), highlight=False).print(table)
    count = answer.rows.num_rows
    more = f"the first {count:,} rows; --limit shows more" if answer.truncated else f"{count:,} row{'s' * (count != 1)}"
    console.print(f"({more})", style="dim")


def _plain(answer: Answer) -> dict[str, Any]:
    columns = [column.to_pylist() for column in answer.rows.columns]
    return {
        "columns": answer.rows.column_names,
        "rows": [[_plain_value(value) for value in row] for row in zip(*columns, strict=True)],
        "truncated": answer.truncated,
    }


def _plain_value(value: Any) -> Any:
    """Return a value as JSON has it; amounts stay exact, as decimal strings."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, list):
        return [_plain_value(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain_value(item) for name, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= _LARGE else f"{value:.6g}"
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
