"""Durations and moments as people write them, for every command alike."""

import re
from datetime import UTC, datetime
from typing import Final

from infra.cli.output import WRONG_USE, fail

_UNITS_NS: Final = {
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3_600 * 1_000_000_000,
    "d": 86_400 * 1_000_000_000,
}
_NS_END: Final = 2**63
_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})(ms|s|m|h|d)")


def duration_ns(flag: str, text: str) -> int:
    """Return a duration such as ``500ms``, ``30s``, ``5m``, ``1h`` or ``1d`` in nanoseconds; exit 2 if it is none."""
    match = _DURATION.fullmatch(text)
    if match is None:
        fail(f"{flag} {text}: write a duration like 500ms, 30s, 5m, 1h or 1d", WRONG_USE)
    length_ns = int(match[1]) * _UNITS_NS[match[2]]
    if length_ns >= _NS_END:
        fail(f"{flag} {text}: longer than the 292 years that nanoseconds can count", WRONG_USE)
    return length_ns


def moment_ns(flag: str, text: str) -> int:
    """Return a moment such as ``2026-02-05`` or ``2026-02-05T08:00`` (UTC) in nanoseconds; exit 2 if it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{flag} {text}: write a moment like 2026-02-05 or 2026-02-05T08:00", WRONG_USE)
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return int(aware.timestamp()) * _UNITS_NS["s"] + aware.microsecond * 1_000


def moment_text(time_ns: int) -> str:
    """Return ledger time as people read it, to the second."""
    return f"{datetime.fromtimestamp(time_ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S}"
