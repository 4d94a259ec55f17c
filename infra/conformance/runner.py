"""Run every vector file of a folder through its adapter, and judge what comes out.

1. A file is read whole or reported unreadable, with a reason; cases that came before a fault stand.
2. A file agrees if all its comparisons do and there is at least one; what was left out or has no rule is named.
3. A vector file states where it comes from (``source`` or ``units``), its ``format`` or its ``model``. One of a format
   that is not installed is *not covered*; a file that states none of them is no vector file.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec
import numpy as np

from flows.intake.decode import check_depth
from infra.conformance.adapter import Adapter, Case, Comparison, MalformedError, Value
from infra.conformance.strangers import why_not_covered
from schemas.failures import Refused

_SAYS_WHAT_IT_IS: Final = ("format", "model", "source", "units")
_DEPTH_MAX: Final = 64  # several times what any vector file needs
_DIGITS_MAX: Final = 100  # likewise: exact venues count in 256 bits, which are 78 digits
_DIGITS_SHOWN: Final = 20


class Status(StrEnum):
    """What came of a file."""

    AGREES = "agrees"
    DIFFERS = "differs"
    NOT_COVERED = "not covered"
    NOT_ASKED = "not asked for"
    UNREADABLE = "unreadable"


@dataclass(slots=True)
class StepResult:
    """One intermediate over all cases of a file; errors are the largest, relative ones as ``Comparison`` has them."""

    step: str
    passed: int = 0
    total: int = 0
    error_max: float = 0.0
    relative_error_max: float = 0.0

    def add(self, comparison: Comparison) -> None:
        """Count a comparison."""
        self.total += 1
        self.passed += comparison.agrees
        self.error_max = max(self.error_max, comparison.error)
        self.relative_error_max = max(self.relative_error_max, comparison.relative_error)


@dataclass(frozen=True, slots=True)
class Difference:
    """The first step of a case that differs; ``more`` other comparisons of the case differ too."""

    case: str
    step: str
    place: str
    expected: Value
    computed: Value
    error: float
    more: int


@dataclass(slots=True)
class FileResult:
    """What came of one file, its steps in the order of computation."""

    file: str
    status: Status
    format: str = ""
    models: tuple[str, ...] = ()
    cases: int = 0
    steps: dict[str, StepResult] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    message: str = ""

    @property
    def passed(self) -> int:
        """Return how many comparisons agree."""
        return sum(step.passed for step in self.steps.values())

    @property
    def total(self) -> int:
        """Return how many comparisons there are."""
        return sum(step.total for step in self.steps.values())

    def add(self, case: Case) -> None:
        """Count a case."""
        self.cases += 1
        if case.left_out is not None:
            self.left_out[case.case] = case.left_out
        self.unread.extend(f"{case.case}: {name}" for name in case.unread)
        for place, comparison in enumerate(case.comparisons):
            if comparison.step not in self.steps:
                self._insert(comparison.step, case.comparisons[:place], case.comparisons[place:])
            self.steps[comparison.step].add(comparison)
        differing = [comparison for comparison in case.comparisons if not comparison.agrees]
        if differing:
            first = differing[0]
            self.differences.append(
                Difference(
                    case.case, first.step, first.place, first.expected, first.computed, first.error, len(differing) - 1
                )
            )

    def _insert(self, step: str, before: tuple[Comparison, ...], after: tuple[Comparison, ...]) -> None:
        """Give a step that other cases do not have its place in the order of computation."""
        names = list(self.steps)
        following = next((names.index(other.step) for other in after if other.step in self.steps), len(names))
        names.insert(names.index(before[-1].step) + 1 if before else following, step)
        self.steps = {name: self.steps.get(name) or StepResult(name) for name in names}


def run(
    files: Sequence[Path], adapters: Sequence[Adapter], *, model: str | None = None, folder: Path | None = None
) -> Iterator[FileResult]:
    """Yield what came of each file, in order, named by its path in the folder.

    ``model`` restricts the run to files that state its numbers; a file that no adapter reads is told either way.
    """
    for file in files:
        name = file.name if folder is None else file.relative_to(folder).as_posix()
        yield _run_file(file, FileResult(name, Status.UNREADABLE), adapters, model)


def _run_file(file: Path, result: FileResult, adapters: Sequence[Adapter], model: str | None) -> FileResult:
    """Fill in what came of a file."""
    try:
        document = _read(file)
    except OSError as error:
        result.message = error.strerror or str(error)
        return result
    except UnicodeDecodeError as error:
        result.message = f"not JSON: no UTF-8 text, from byte {error.start} on"
        return result
    except (Refused, ValueError, RecursionError) as error:
        result.message = f"not JSON: {error}"
        return result
    if not isinstance(document, dict) or not any(name in document for name in _SAYS_WHAT_IT_IS):
        result.message = f"not a vector file: it states none of {', '.join(_SAYS_WHAT_IT_IS)}"
        return result
    adapter = _adapter(document, adapters)
    if adapter is None:
        result.status = Status.NOT_COVERED
        result.message = why_not_covered(document)
        return result
    result.format, result.models = adapter.format, adapter.models
    if model is not None and model not in adapter.models:
        result.status = Status.NOT_ASKED
        result.message = f"it is for {', '.join(adapter.models)}"
        return result
    behind = "at its start"
    try:
        # A number out of range is a fault of the file, and not a warning in the middle of the report.
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            for case in adapter.cases(document):
                _check(case)
                result.add(case)
                behind = f"behind case {case.case}"
    except (Refused, ValueError, msgspec.ValidationError) as error:
        result.message = _line(error)
    except KeyError as error:
        result.message = f"{behind}: it lacks {error.args[0]!r}"
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        result.message = f"{behind}: a value of another kind or size than the format has: {_line(error)}"
    if result.message:
        # A difference that was found before the fault is one.
        result.status = Status.DIFFERS if result.differences else Status.UNREADABLE
        return result
    if result.total == 0:
        result.message = "it holds nothing to compare"
    else:
        result.status = Status.DIFFERS if result.differences else Status.AGREES
    return result


def _adapter(document: Mapping[str, Any], adapters: Sequence[Adapter]) -> Adapter | None:
    stated = document.get("format")
    if isinstance(stated, str):
        adapter = next((adapter for adapter in adapters if adapter.format == stated), None)
    else:
        adapter = next((adapter for adapter in adapters if adapter.recognises(document)), None)
    model = document.get("model")
    return None if adapter is not None and isinstance(model, str) and model not in adapter.models else adapter


def _read(file: Path) -> Any:
    raw = file.read_bytes()
    check_depth(raw, _DEPTH_MAX)
    # The standard library's reader keeps integers of any length, which exact venues publish.
    return json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse, parse_int=_integer)


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS_MAX:
        raise ValueError(f"an integer of {len(digits)} digits: {digits[:_DIGITS_SHOWN]}…")
    return int(digits)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _check(case: Case) -> None:
    for comparison in case.comparisons:
        if not isinstance(comparison.expected, Value):
            kind = type(comparison.expected).__name__
            raise MalformedError(f"{case.case}: {comparison.step} is {kind} where a number is expected")


def _line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
