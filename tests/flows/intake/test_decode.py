"""Bytes to events: every fault has its own reason, and nothing raises."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.intake.decode import LINE_BYTES_MAX, Stream, canonical, decode, decode_lines, decode_row
from schemas.events import Event, OracleVol, ParametersChanged, Svi, VolPoint
from schemas.failures import DeadLetter, FailureReason, Origin
from tests.flows.intake.builders import START, event_fill, event_instrument, event_price, event_venue, to_line, to_row

ORIGIN = Origin("log", 0, 7)


def _fill(**changes: Any) -> dict[str, Any]:
    """Return a fill as a JSON object, with fields changed; None takes one away."""
    fields = json.loads(to_line(event_fill())) | changes
    return {name: value for name, value in fields.items() if value is not None}


def _raw(**changes: Any) -> bytes:
    return json.dumps(_fill(**changes)).encode()


def _parameters(text: str) -> bytes:
    head = f'"event_id":"p","event_time_ns":{START},"source":"s","source_sequence":1,"name":"oracle"'
    return f'{{"type":"parameters.changed",{head},"parameters":{text}}}'.encode()


FAULTS = [
    ("line_too_long", b" " * LINE_BYTES_MAX + to_line(event_fill())),
    ("bad_utf8", to_line(event_fill()).replace(b"alice", b"al\xffce")),
    ("too_deep", b'{"type":' + b"[" * 40 + b"]" * 40 + b"}"),
    ("too_deep", _parameters('{"a":' + "[" * 16 + "]" * 16 + "}")),
    ("too_deep", b"[" * 60_000),
    ("malformed_json", to_line(event_fill())[:-1]),
    ("malformed_json", to_line(event_fill()) + b"{}"),
    ("malformed_json", b"not json"),
    ("malformed_json", _raw(event_id="\ud800")),
    ("not_a_number", to_line(event_fill()).replace(b'"40000.5"', b"NaN")),
    ("infinite_number", to_line(event_fill()).replace(b'"40000.5"', b"-Infinity")),
    ("duplicate_key", to_line(event_fill())[:-1] + b',"price":"1"}'),
    ("duplicate_key", to_line(event_fill())[:-1] + b',"pr\\u0069ce":"1"}'),
    ("duplicate_key", to_line(event_fill())[:-1] + b',"price" : "1"}'),
    ("duplicate_key", to_line(event_fill())[:-1] + b',"type":"fill"}'),
    ("duplicate_key", to_line(event_fill(buyer="a:b"))[:-1] + b',"price":"1"}'),
    ("duplicate_key", _parameters('{"a":{"b":1,"b":2}}')),
    ("duplicate_key", b'{"type":"nonsense","type":"fill"}'),
    ("unknown_type", _raw(type="fil")),
    ("missing_field", b"{}"),
    ("missing_field", _raw(price=None)),
    ("unknown_field", _raw(prize="1")),
    ("wrong_field_type", _raw(price=40000.5)),
    ("wrong_field_type", _raw(event_time_ns="1")),
    ("wrong_field_type", _raw(event_time_ns=1.5e18)),
    ("wrong_field_type", _raw(type=5)),
    ("wrong_field_type", b"[1, 2]"),
    ("bad_id", _raw(event_id="")),
    ("bad_id", _raw(event_id="x" * 129)),
    ("bad_id", _raw(event_id="two words")),
    ("bad_id", _raw(source="quo'te")),
    ("time_out_of_range", _raw(event_time_ns=START // 1000)),
    ("time_out_of_range", _raw(event_time_ns=2**63 - 1)),
    ("time_out_of_range", _raw(event_time_ns=10**30)),
    ("time_out_of_range", to_line(event_price(publish_time_ns=0))),
    ("bad_value", _raw(source_sequence=-1)),
    ("bad_value", _raw(source_sequence=2**63)),
]


@pytest.mark.parametrize(("reason", "raw"), FAULTS)
def test_each_fault_has_its_own_reason(reason: str, raw: bytes) -> None:
    """A fault that gets another reason, or none, misleads whoever repairs the input."""
    letter = decode(raw, ORIGIN)

    assert isinstance(letter, DeadLetter)
    assert letter.reason.value == reason
    assert letter.origin == ORIGIN
    assert letter.payload == raw[:LINE_BYTES_MAX]


def _smiles() -> list[Event]:
    head: dict[str, Any] = {
        "event_time_ns": START,
        "source": "s",
        "source_sequence": 1,
        "underlying": "BTC",
        "expiry_ns": START + 1,
    }
    svi = Svi(a="0.1", b="0.2", rho="-0.3", m="0", sigma="0.1", forward="40000", time_to_expiry="0.25")
    points = [VolPoint(strike="1", implied_vol="0.5"), VolPoint(strike="2", implied_vol="0.6")]
    return [OracleVol(event_id="v1", svi=svi, **head), OracleVol(event_id="v2", points=points, **head)]


def _parameter_event() -> ParametersChanged:
    return ParametersChanged(
        event_id="p", event_time_ns=START, source="s", source_sequence=1, name="oracle", parameters={"b": 1, "a": {}}
    )


EVENTS = [
    *event_venue(),
    *_smiles(),
    _parameter_event(),
    event_fill(),
    event_fill(liquidation_id="l:1", buyer="a:b"),
    event_price(),
    event_instrument("C", kind="option", strike="1", option_type="call", expiry_ns=START + 1),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event_id)
def test_an_event_survives_any_way_of_writing_it(event: Event) -> None:
    """Key order, blanks, escapes and nulls are no content; a false alarm of repeated keys would refuse good events."""
    fields = json.loads(to_line(event))
    nulls = {name: None for name in type(event).__struct_fields__ if name not in fields and name != "halted"}
    backwards = dict(reversed(fields.items()))

    ways = [
        to_line(event),
        json.dumps(fields, indent=2).encode(),
        json.dumps(backwards, separators=(" , ", " : ")).encode(),
        json.dumps(fields | nulls).encode(),
        to_line(event).replace(b'"e', b'"\\u0065'),
    ]

    assert [decode(raw, ORIGIN) for raw in ways] == [event] * len(ways)
    assert {canonical(event) for event in [decode(raw, ORIGIN) for raw in ways] if isinstance(event, Event)} == {
        canonical(event)
    }


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event_id)
def test_a_row_is_the_same_event_as_its_line(event: Event) -> None:
    """Parquet and NDJSON of one log must make one ledger."""
    row = to_row(event)

    structs = {name: json.loads(row[name]) for name in ("svi", "points") if row.get(name) is not None}

    assert decode_row(row, ORIGIN)[0] == event
    assert decode_row(row | structs, ORIGIN)[0] == event


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("missing_field", {"price": None}),
        ("wrong_field_type", {"price": 1.5}),
        ("unreadable_row", {"price": object()}),
        ("malformed_json", {"svi": '{},"price":"1"'}),
        ("too_deep", {"parameters": "[" * 10_000}),
    ],
)
def test_a_refused_row_keeps_the_row(reason: str, changes: dict[str, Any]) -> None:
    """A dead letter of a row must show the row, and a nested text must not smuggle in other fields."""
    letter, raw = decode_row(to_row(event_fill()) | changes, ORIGIN)

    assert isinstance(letter, DeadLetter)
    assert letter.reason.value == reason
    assert letter.payload == raw
    assert b"alice" in raw


def test_lines_keep_their_numbers() -> None:
    """A dead letter must name the line of its file, blank lines counted."""
    lines = [to_line(event_fill(1)), b"", b"   ", b"{", to_line(event_fill(2))]

    arrived = decode_lines(lines, Stream("log"), 11)

    assert [(arrival[3], type(arrival[0])) for arrival in arrived] == [
        (11, type(event_fill())),
        (14, DeadLetter),
        (15, type(event_fill())),
    ]
    assert isinstance(arrived[1][0], DeadLetter)
    assert arrived[1][0].origin == Origin("log", 0, 14)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_raise(raw: bytes) -> None:
    """An exception for any input would stop the venue."""
    letter = decode(raw, ORIGIN)

    assert isinstance(letter, DeadLetter)


@given(json_values)
def test_any_parameters_decode_or_are_refused(value: object) -> None:
    """Parameters hold any JSON, which the fast key count must not judge: it is looked at exactly."""
    event = decode(_parameters(json.dumps(value)), ORIGIN)

    if isinstance(value, dict) and isinstance(event, ParametersChanged):
        assert event.parameters == json.loads(json.dumps(value))
    else:
        assert isinstance(event, DeadLetter)
        assert event.reason in {
            FailureReason.WRONG_FIELD_TYPE,
            FailureReason.NOT_A_NUMBER,
            FailureReason.INFINITE_NUMBER,
            FailureReason.MALFORMED_JSON,
            FailureReason.TOO_DEEP,
        }


@pytest.mark.parametrize(
    "deep",
    [
        b'"parameters":{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}}",
        b'"parameters":' + b'{"x":' * 10_000 + b"1" + b"}" * 10_001,
    ],
    ids=["arrays", "objects"],
)
def test_depth_is_refused_whatever_the_recursion_limit(deep: bytes) -> None:
    """A library that lifts the limit must not let a line run the parser off the C stack: in a process of its own."""
    line = (
        b'{"type":"parameters.changed","event_id":"a","event_time_ns":1773360000000000000,"source":"s",'
        b'"source_sequence":1,"name":"oracle",' + deep
    )
    code = (
        "import sys; sys.setrecursionlimit(1_000_000)\n"
        "from flows.intake.decode import decode\n"
        "from schemas.failures import Origin\n"
        "print(decode(sys.stdin.buffer.read(), Origin('log', 0, 1)).reason.value)"
    )

    finished = subprocess.run([sys.executable, "-c", code], input=line, capture_output=True, check=True)

    assert finished.stdout.strip() == b"too_deep"
