"""``tidegate conformance``: margin models against a venue's published numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from infra.cli.output import DIFFERS, FAILED, WRONG_USE, console, errors, fail, print_json

if TYPE_CHECKING:
    from infra.conformance.runner import FileResult

_SHOWN: Final = 10


def conformance(
    *,
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of vector files (*.json, in folders of it too), or one file.", show_default=False),
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Run only the files of one model.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail also for files and values that nothing installed reads.")
    ] = False,
) -> None:
    """Hold margin models to published numbers, step by step. Exit 3 on a difference.

    Formats are described in docs/conformance.md. Exit 1: a file cannot be read.
    """
    if not folder.exists():
        fail(f"{folder} does not exist: give a folder of vector files", WRONG_USE)
    files = sorted(file for file in folder.rglob("*.json") if not file.is_dir()) if folder.is_dir() else [folder]
    if not files:
        fail(f"{folder} holds no vector files (*.json)", WRONG_USE)
    # The models load numba, which the other commands should not pay for.
    from infra.conformance.runner import run
    from infra.conformance.table import adapters

    try:
        installed = adapters()
    except ValueError as error:
        fail(str(error))
    models = sorted({name for adapter in installed for name in adapter.models})
    if model is not None and model not in models:
        fail(f"no vectors are read for a model {model!r}; there are {', '.join(models)}", WRONG_USE)
    results = list(run(files, installed, model=model, folder=folder if folder.is_dir() else folder.parent))
    code = _code(results, strict=strict)
    if as_json:
        print_json({"folder": str(folder), "model": model, "exit_code": code, "files": [_plain(r) for r in results]})
    else:
        for result in results:
            _show(result)
        console.print(_summary(results), style="bold", soft_wrap=True)
    if code:
        raise typer.Exit(code)


def _summary(results: "list[FileResult]") -> str:
    from infra.conformance.runner import Status

    passed, total = sum(result.passed for result in results), sum(result.total for result in results)
    counts = [f"{sum(r.status is status for r in results)} {status.value}" for status in Status]
    unread = sum(len(result.unread) for result in results)
    return f"{passed:,} of {total:,} numbers agree. Files: {', '.join(counts)}. Values without a rule: {unread}."


def _code(results: "list[FileResult]", *, strict: bool) -> int:
    from infra.conformance.runner import Status

    statuses = {result.status for result in results}
    if Status.DIFFERS in statuses:
        return DIFFERS
    if Status.UNREADABLE in statuses:
        return FAILED
    if strict and (Status.NOT_COVERED in statuses or any(result.unread for result in results)):
        return FAILED
    return 0


def _show(result: "FileResult") -> None:
    from infra.conformance.runner import Status

    quiet = {Status.NOT_COVERED: "yellow", Status.NOT_ASKED: "dim", Status.UNREADABLE: "red"}
    if result.status in quiet and not result.steps:
        stream = errors if result.status is Status.UNREADABLE else console
        stream.print(
            f"{result.file}: {result.status.value}: {result.message}",
            style=quiet[result.status],
            markup=False,
            soft_wrap=True,
        )
        return
    style = "green" if result.status is Status.AGREES else "red"
    console.print(
        f"{result.file}: {result.status.value}: {', '.join(result.models)}, {result.cases} cases,"
        f" {result.passed:,} of {result.total:,} numbers",
        style=style,
        markup=False,
        soft_wrap=True,
    )
    table = Table(show_edge=False, pad_edge=False, box=None)
    table.add_column("  step", no_wrap=True)
    for name in ("passed", "total", "largest error", "relative"):
        table.add_column(name, justify="right", no_wrap=True)
    for step in result.steps.values():
        table.add_row(
            f"  {step.step}",
            f"{step.passed:,}",
            f"{step.total:,}",
            f"{step.error_max:.1e}" if step.error_max else "0",
            f"{step.relative_error_max:.1e}" if step.relative_error_max else "0",
            style=None if step.passed == step.total else "red",
        )
    console.print(table)
    lines = [f"{case} left out: {reason}" for case, reason in result.left_out.items()]
    lines += [f"no rule for {name}" for name in result.unread]
    for line in lines[:_SHOWN] + ([f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []):
        console.print(f"  {line}", style="yellow", markup=False, soft_wrap=True)
    for difference in result.differences[:_SHOWN]:
        place = f"[{difference.place}]" if difference.place else ""
        more = f", and {difference.more} more after it" if difference.more else ""
        errors.print(
            f"  {difference.case}: {difference.step}{place}: published {difference.expected},"
            f" computed {difference.computed}{more}",
            style="red",
            markup=False,
            soft_wrap=True,
        )
    if len(result.differences) > _SHOWN:
        errors.print(f"  … and {len(result.differences) - _SHOWN} more cases", style="red")
    if result.message:
        errors.print(f"  {result.message}", style="red", markup=False, soft_wrap=True)


def _plain(result: "FileResult") -> dict[str, Any]:
    return {
        "file": result.file,
        "status": result.status.value,
        "format": result.format,
        "models": result.models,
        "cases": result.cases,
        "passed": result.passed,
        "total": result.total,
        "steps": list(result.steps.values()),
        "differences": [
            {
                "case": difference.case,
                "step": difference.step,
                "place": difference.place,
                "expected": _readable(difference.expected),
                "computed": _readable(difference.computed),
                "error": difference.error,
                "more": difference.more,
            }
            for difference in result.differences
        ],
        "left_out": result.left_out,
        "unread": result.unread,
        "message": result.message,
    }


def _readable(value: object) -> object:
    """Return what JSON can say; fractions, and integers that readers would round, as text."""
    if value is None or isinstance(value, bool | str | float):
        return value
    return value if isinstance(value, int) and abs(value) <= 2**53 else str(value)
