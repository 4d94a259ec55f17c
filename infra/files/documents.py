"""JSON files that people write: read strictly, and refused in one line.

1. A key that stands twice, what JSON does not know (NaN, Infinity), and integers that no number here needs are refused.
2. What is refused names its file.
"""

import json
from pathlib import Path
from typing import Any, Final, NoReturn

from flows.intake.decode import check_depth
from schemas.failures import Refused

_DEPTH_MAX: Final = 64
_DIGITS_MAX: Final = 40


class DocumentError(ValueError):
    """A file that cannot be read, or does not say what it should; the message names it."""


def read_json(path: Path) -> Any:
    """Return what a JSON file says.

    Raises
    ------
    DocumentError : it cannot be opened, or is not JSON as a person should write it.
    """
    try:
        raw = path.read_bytes()
        check_depth(raw, _DEPTH_MAX)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise DocumentError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path}: no UTF-8 text, from byte {error.start} on") from error
    except Refused as refused:
        raise DocumentError(f"{path}: {refused.message}") from refused
    if not text.strip():
        raise DocumentError(f"{path}: the file is empty")
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_integer)
    except json.JSONDecodeError as error:
        fault = f"line {error.lineno}, column {error.colno}: {error.msg.lower()}"
        raise DocumentError(f"{path}: no JSON: {fault}") from error
    except ValueError as error:
        raise DocumentError(f"{path}: {error}") from error


def read_parameters(path: Path) -> dict[str, dict[str, Any]]:
    """Return parameter sets by name, not yet validated; raise ``DocumentError`` where the file is not that."""
    sets = read_json(path)
    if not isinstance(sets, dict) or not all(isinstance(values, dict) for values in sets.values()):
        raise DocumentError(f'{path}: write an object like {{"ladder": {{"watch_multiple": 1.3}}}}')
    return sets


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} is written twice")
    return found


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON")


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS_MAX:
        raise ValueError(f"an integer of {len(digits)} digits: {digits[:_DIGITS_MAX]}…")
    return int(digits)
