"""Bytes to events: every line or row becomes one event, or one dead letter that says why not.

1. No input raises. Guards run in the order of ``FailureReason``, and the first that holds is the reason.
2. An event is accepted only if every key was written once: the parser would take the last of two, and two readers of
   one line could then disagree.
3. ``canonical`` is the content of an event: the same whatever the order of its keys, its blanks and its escapes.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal as ExactDecimal
from functools import lru_cache
from typing import Any, Final

import msgspec

from schemas.events import (
    EVENT_TYPES,
    TIME_NS_MAX,
    TIME_NS_MIN,
    AnyEvent,
    Decimal,
    Event,
    Fill,
    Id,
    InstrumentHalted,
    InstrumentListed,
    OraclePrice,
    OracleVol,
    ParametersChanged,
    Svi,
    VolPoint,
)
from schemas.failures import DeadLetter, FailureReason, Origin, Refused
from schemas.ids import is_id
from schemas.money import decimal_parts

LINE_BYTES_MAX: Final = 65_536
DEPTH_MAX: Final = 16
_SEQUENCE_END: Final = 2**63
_SHOWN_LENGTH: Final = 40


@dataclass(frozen=True, slots=True)
class Stream:
    """One ordered input: a file (partition 0), or a partition of a topic."""

    topic: str
    partition: int = 0
    # Key of the stream among the positions of a ledger.
    name: str = field(init=False)

    def __post_init__(self) -> None:
        """Write the name once: it is read for every event."""
        object.__setattr__(self, "name", f"{self.topic}:{self.partition}")


# One input as it arrives: the event or its dead letter, its bytes, its stream, its offset there (line or row from 1),
# and the position of the stream once it has been taken. A plain tuple: millions are made a minute.
Arrival = tuple[Event | DeadLetter, bytes, Stream, int, int]

_decode_json = msgspec.json.Decoder(AnyEvent).decode
_encode_canonical = msgspec.json.Encoder(order="deterministic").encode
_encode_row = msgspec.json.Encoder().encode
_is_id_again = lru_cache(maxsize=4096)(is_id)

_TYPE_NAMES: Final[dict[str, type[Event]]] = {str(kind.__struct_config__.tag): kind for kind in EVENT_TYPES}
# Keys that an event of each type certainly has, its tag included; optional ones are counted by _certain_keys.
_KEYS: Final[dict[type[Event], int]] = {
    kind: 1 + sum(field.required for field in msgspec.structs.fields(kind)) for kind in EVENT_TYPES
}
_NESTED_KEYS: Final = {kind: len(msgspec.structs.fields(kind)) for kind in (Svi, VolPoint)}
_BLANK_AFTER_QUOTE: Final = re.compile(rb'"[ \t\r\n]')
# What msgspec and the standard library raise for bytes that are not an event.
_FAULTS: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_NESTED_COLUMNS: Final = ("svi", "points", "parameters")


def decode(raw: bytes, origin: Origin) -> Event | DeadLetter:
    """Return the event of one JSON object, or its dead letter; never raise.

    The ids and times that every event has are checked here; what needs the ledger is checked by ``registry``.
    """
    try:
        return _read(raw)
    except Refused as refused:
        return dead_letter(refused, origin, raw)


def decode_lines(lines: Iterable[bytes], stream: Stream, first: int) -> list[Arrival]:
    """Return the arrivals of consecutive lines; ``first`` is the offset of the first. Blank lines are skipped."""
    arrivals: list[Arrival] = []
    append = arrivals.append
    for offset, raw in enumerate(lines, first):
        if not raw:
            continue
        try:
            append((_read(raw), raw, stream, offset, offset))
        except Refused as refused:
            if not raw.isspace():
                origin = Origin(stream.topic, stream.partition, offset)
                append((dead_letter(refused, origin, raw), raw, stream, offset, offset))
    return arrivals


def decode_row(row: dict[str, Any], origin: Origin) -> tuple[Event | DeadLetter, bytes]:
    """Return the event (or dead letter) of a table row, and the row as JSON.

    Columns are the event's fields; null is absent. ``svi``, ``points`` and ``parameters`` are structs or JSON strings.
    """
    cells: dict[str, Any] = {}
    fault: Refused | None = None
    for name, value in row.items():
        if value is None:
            continue
        if name in _NESTED_COLUMNS and isinstance(value, str):
            try:
                cells[name] = _embedded(value)
                continue
            except Refused as refused:
                fault = fault or refused
        cells[name] = _plain(value)
    try:
        raw = _encode_row(cells)
    except (*_FAULTS, TypeError) as error:
        text = repr(row)[:LINE_BYTES_MAX].encode(errors="backslashreplace")
        return dead_letter(Refused(FailureReason.UNREADABLE_ROW, f"row is not JSON: {error}"), origin, text), text
    if fault is not None:
        return dead_letter(fault, origin, raw), raw
    return decode(raw, origin), raw


def canonical(event: Event) -> bytes:
    """Return the content of an event: compact JSON, fields in their order, parameters in the order of their keys."""
    return _encode_canonical(event)


def dead_letter(refused: Refused, origin: Origin, raw: bytes, event: Event | None = None) -> DeadLetter:
    """Return the dead letter of a refusal; ``event`` where the bytes could be read. Over-long bytes are cut."""
    return DeadLetter(
        reason=refused.reason,
        message=refused.message,
        origin=origin,
        payload=raw[:LINE_BYTES_MAX],
        event_time_ns=event.event_time_ns if event is not None and event.event_time_ns < _SEQUENCE_END else 0,
    )


def check_id(text: str) -> None:
    """Raise ``Refused`` unless ``text`` may be an id; remembers the ones that it saw last."""
    if not _is_id_again(text):
        raise _bad_id(text)


def check_new_id(text: str) -> None:
    """Raise ``Refused`` unless ``text`` may be an id; for ids that are seen once, and not worth remembering."""
    if not is_id(text):
        raise _bad_id(text)


def check_fields(event: Event) -> None:
    """Raise ``Refused`` for the first id or decimal string of an event that is faulty by itself.

    For events that are refused anyway: a fault of the event comes before a fault against the ledger.
    """
    for name, kind in _CHECKED_FIELDS[type(event)]:
        value = getattr(event, name)
        if value is None:
            continue
        if kind is Id and not is_id(value):
            raise _bad_id(value)
    for name, kind in _CHECKED_FIELDS[type(event)]:
        value = getattr(event, name)
        if value is not None and kind is Decimal:
            decimal_parts(value)


_CHECKED_FIELDS: Final[dict[type[Event], list[tuple[str, Any]]]] = {
    kind: [
        (field.name, Id if field.type in (Id, Id | None) else Decimal)
        for field in msgspec.structs.fields(kind)
        if field.type in (Id, Id | None, Decimal, Decimal | None)
    ]
    for kind in EVENT_TYPES
}


def _read(raw: bytes) -> Event:
    if len(raw) > LINE_BYTES_MAX:
        raise Refused(
            FailureReason.LINE_TOO_LONG,
            f"longer than {LINE_BYTES_MAX} bytes; the first {LINE_BYTES_MAX} are kept",
        )
    try:
        # Before the parser: how deep it goes until it raises is a setting of the process, which a library may have
        # lifted beyond what the C stack holds.
        check_depth(raw)
    except Refused as deep:
        raise _fault(raw, deep) from None
    try:
        event: Event = _decode_json(raw)
    except _FAULTS as error:
        raise _fault(raw, error) from None
    # Each key has one colon, so as many colons as certain keys is proof that none was repeated.
    if raw.count(b":") != _KEYS[type(event)]:
        _check_keys(raw, event)
    if not is_id(event.event_id):
        raise _bad_id(event.event_id)
    if not _is_id_again(event.source):
        raise _bad_id(event.source)
    if not TIME_NS_MIN <= event.event_time_ns < TIME_NS_MAX:
        raise _bad_time("event_time_ns", event.event_time_ns)
    if type(event) is OraclePrice and not TIME_NS_MIN <= event.publish_time_ns < TIME_NS_MAX:
        raise _bad_time("publish_time_ns", event.publish_time_ns)
    if not 0 <= event.source_sequence < _SEQUENCE_END:
        raise Refused(FailureReason.BAD_VALUE, f"source_sequence {event.source_sequence} is not in 0 … 2^63 - 1")
    return event


def _shown(text: str) -> str:
    """Return text from outside such that a message can hold it."""
    return ascii(text[:_SHOWN_LENGTH])


def _bad_id(text: str) -> Refused:
    return Refused(
        FailureReason.BAD_ID, f"not 1 to 128 printable ASCII characters without blanks or quotes: {_shown(text)}"
    )


def _bad_time(name: str, time_ns: int) -> Refused:
    return Refused(
        FailureReason.TIME_OUT_OF_RANGE, f"{name} {time_ns} is not a time in nanoseconds between 2009 and 2100"
    )


def _certain_keys(event: Event) -> int:
    """Return how many keys the bytes of an event must have had at least."""
    count = _KEYS[type(event)]
    if isinstance(event, Fill):
        return count + (event.liquidation_id is not None)
    if isinstance(event, InstrumentListed):
        return count + sum(value is not None for value in (event.strike, event.option_type, event.expiry_ns))
    if isinstance(event, InstrumentHalted):
        return count + (not event.halted)
    if isinstance(event, OracleVol):
        if event.svi is not None:
            count += 1 + _NESTED_KEYS[Svi]
        if event.points is not None:
            count += 1 + _NESTED_KEYS[VolPoint] * len(event.points)
    return count


def _check_keys(raw: bytes, event: Event) -> None:
    """Raise ``Refused`` if a key is repeated, for bytes that decode."""
    if type(event) is not ParametersChanged:
        # Colons in values: count the ones behind a quote, if no blank can stand between a key and its colon.
        certain = _certain_keys(event)
        if raw.count(b":") == certain or (raw.count(b'":') == certain and _BLANK_AFTER_QUOTE.search(raw) is None):
            return
    _, repeated, constant = _parse(raw.decode())
    if constant is not None:
        raise _bad_constant(constant)
    if repeated is not None:
        raise _duplicate(repeated)


def _duplicate(key: str) -> Refused:
    return Refused(FailureReason.DUPLICATE_KEY, f"key {_shown(key)} is repeated in one object")


def _bad_constant(constant: str) -> Refused:
    if constant == "NaN":
        return Refused(FailureReason.NOT_A_NUMBER, "NaN is not JSON, and no amount")
    return Refused(FailureReason.INFINITE_NUMBER, f"{constant} is not JSON, and no amount")


def check_depth(raw: bytes, depth_max: int = DEPTH_MAX) -> None:
    """Raise ``Refused`` if arrays and objects nest deeper than ``depth_max``, whether or not the rest is JSON.

    Ask before any parser reads what came from outside: they recurse in C up to the interpreter's limit, which an
    imported EVM raises to 100,000, and the process ends with the stack long before that.
    """
    if raw.count(b"[") + raw.count(b"{") <= depth_max:
        return
    depth = 0
    for token in _BRACKETS_AND_STRINGS.finditer(raw):
        match token.group()[0]:
            case 0x5B | 0x7B:
                depth += 1
                if depth > depth_max:
                    raise Refused(FailureReason.TOO_DEEP, f"arrays and objects nest deeper than {depth_max}")
            case 0x5D | 0x7D:
                depth -= 1


# Possessive, so that an unclosed string of backslashes costs linear time.
_BRACKETS_AND_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def _no_number(_: str) -> int:
    """Stand for a number: its size is no concern here, and reading thousands of digits takes long."""
    return 0


def _parse(text: str) -> tuple[Any, str | None, str | None]:
    """Return ``(value, a repeated key, a constant that is not JSON)``; refuse malformed text."""
    repeated: list[str] = []
    constants: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(items)
        if len(members) != len(items) and not repeated:
            seen: dict[str, None] = {}
            for key, _ in items:
                if key in seen:
                    repeated.append(key)
                    break
                seen[key] = None
        return members

    try:
        value = json.loads(
            text, object_pairs_hook=pairs, parse_int=_no_number, parse_float=_no_number, parse_constant=constants.append
        )
    except (ValueError, RecursionError) as error:
        raise Refused(FailureReason.MALFORMED_JSON, f"not JSON: {error}") from None
    return value, repeated[0] if repeated else None, constants[0] if constants else None


def _fault(raw: bytes, error: Exception) -> Refused:
    """Return why bytes that do not decode were refused: the first guard, in the order of the reasons."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as fault:
        return Refused(FailureReason.BAD_UTF8, f"byte {fault.start} is not UTF-8")
    try:
        check_depth(raw)
        value, repeated, constant = _parse(text)
    except Refused as refused:
        return refused
    if constant is not None:
        return _bad_constant(constant)
    if repeated is not None:
        return _duplicate(repeated)
    if not isinstance(value, dict):
        return Refused(FailureReason.WRONG_FIELD_TYPE, "a line must be one JSON object")
    return _field_fault(value, error)


def _field_fault(members: dict[str, Any], error: Exception) -> Refused:
    """Return why a well-formed object is not an event."""
    name = members.get("type")
    if name is None:
        return Refused(FailureReason.MISSING_FIELD, "no field 'type'")
    if not isinstance(name, str):
        return Refused(FailureReason.WRONG_FIELD_TYPE, "field 'type' is not a string")
    kind = _TYPE_NAMES.get(name)
    if kind is None:
        return Refused(FailureReason.UNKNOWN_TYPE, f"no event type {_shown(name)}")
    fields = msgspec.structs.fields(kind)
    for one in fields:
        if one.required and one.name not in members:
            return Refused(FailureReason.MISSING_FIELD, f"{name} has no field {one.name!r}")
    known = [one.name for one in fields]
    for key in members:
        if key != "type" and key not in known:
            return Refused(FailureReason.UNKNOWN_FIELD, f"{name} knows no field {_shown(key)}")
    message = str(error)
    if "missing required field" in message:
        return Refused(FailureReason.MISSING_FIELD, message)
    if "unknown field" in message:
        return Refused(FailureReason.UNKNOWN_FIELD, message)
    if "out of range" in message and "_ns" in message:
        return Refused(FailureReason.TIME_OUT_OF_RANGE, message)
    if isinstance(error, msgspec.ValidationError):
        return Refused(FailureReason.WRONG_FIELD_TYPE, message)
    # A lone surrogate, say: the standard library reads it, and no UTF-8 text can hold it.
    return Refused(FailureReason.MALFORMED_JSON, f"not JSON: {message}")


def _embedded(text: str) -> msgspec.Raw:
    """Return JSON text for splicing, once it is certain that it is one value and no more."""
    if len(text) > LINE_BYTES_MAX:
        raise Refused(FailureReason.LINE_TOO_LONG, f"longer than {LINE_BYTES_MAX} bytes")
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise Refused(FailureReason.BAD_UTF8, "text cannot be written as UTF-8") from None
    check_depth(raw)
    _parse(text)
    return msgspec.Raw(raw)


def _plain(value: Any) -> Any:
    """Return a cell as JSON would have it: decimals as plain strings, nulls in structs left out."""
    if isinstance(value, ExactDecimal):
        return format(value, "f")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value
