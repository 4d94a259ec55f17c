"""What a conformance adapter is: a format of published numbers, read into cases of ordered comparisons.

An adapter knows one format of file. It runs a margin model (or a building block of one) on every case of the file and
says, step by step, what the venue published and what came out here. It judges nothing: the runner does.

1. An adapter is chosen by the file's own content: by its ``format`` where it states one, and otherwise by the first
   adapter that recognises its shape. A file's name means nothing.
2. Comparisons come in the order of the computation, so that the first one that differs names the step that went wrong.
3. Numbers agree within ``absolute + relative * max(|expected|, scale)``; anything that is not a number, and any number
   without tolerance, agrees only if equal. A NaN agrees with nothing.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

Value = float | int | bool | str | Fraction | None


class MalformedError(ValueError):
    """A file of a known format that cannot be read: which case, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far computed may be from expected: ``absolute + relative * max(|expected|, scale)``; exact where all 0.

    ``scale`` is the size of what was added up, for sums that may cancel: their relative error means nothing at 0.
    """

    absolute: float = 0.0
    relative: float = 0.0
    scale: float = 0.0


EXACT = Tolerance()


@dataclass(frozen=True, slots=True)
class Comparison:
    """One published value beside ours.

    ``step`` names the intermediate, the same in every case (``scenario_profit``); ``place`` says which one of several,
    if there are (``3`` or ``BTC-28JUN24``).
    """

    step: str
    expected: Value
    computed: Value
    tolerance: Tolerance = EXACT
    place: str = ""

    @property
    def error(self) -> float:
        """Return |computed - expected|; 0 where equal, infinite where they differ and either is no finite number."""
        if isinstance(self.expected, float) and isinstance(self.computed, float):
            error = 0.0 if self.expected == self.computed else abs(self.computed - self.expected)
            return math.inf if math.isnan(error) else error
        expected, computed = _number(self.expected), _number(self.computed)
        if expected is None or computed is None:
            return 0.0 if expected is computed and self.expected == self.computed else math.inf
        return _float(abs(computed - expected))

    @property
    def relative_error(self) -> float:
        """Return ``error`` over the larger of |expected| and the tolerance's scale; infinite where that is 0."""
        error, size = self.error, self._size()
        return 0.0 if error == 0.0 else error / size if size > 0.0 else math.inf

    @property
    def agrees(self) -> bool:
        """Whether the two are equal, or numbers within the tolerance."""
        return self.error <= self.tolerance.absolute + self.tolerance.relative * self._size()

    def _size(self) -> float:
        size = self.expected if isinstance(self.expected, float) else _float(_number(self.expected) or Fraction(0))
        return max(abs(size), self.tolerance.scale) if math.isfinite(size) else self.tolerance.scale


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a file: its comparisons in order of computation, or why it is not run.

    ``left_out`` is a reason that the file itself gives, such as a case that the venue has switched off. ``unread``
    names published values that the adapter has no rule for: they are shown, and count against ``--strict``.
    """

    case: str
    comparisons: tuple[Comparison, ...] = ()
    left_out: str | None = None
    unread: tuple[str, ...] = ()


class Adapter(Protocol):
    """A format of published numbers.

    ``format`` is its name, ``models`` the margin models (as in the entry-point group ``tidegate.margin``) whose numbers
    such a file states.
    """

    format: str
    models: tuple[str, ...]

    def recognises(self, document: Mapping[str, Any]) -> bool:
        """Whether a decoded file has this format's shape. Cheap, and total: it looks at keys and kinds, no deeper."""

    def cases(self, document: Mapping[str, Any]) -> Iterator[Case]:
        """Yield the file's cases in order.

        Raises
        ------
        MalformedError, msgspec.ValidationError, schemas.failures.Refused : the file does not have the format, with the
            place and the fault in words. Cases yielded before it stand.
        """


def _number(value: Value) -> Fraction | None:
    """Return a finite number exactly; None for everything else, truth values included."""
    if isinstance(value, bool | str) or value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return Fraction(value)


def _float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
