"""Why an input was refused, and what is kept of it.

1. Every refusal has exactly one reason, and the guards run in the order in which the reasons stand here.
2. Nothing vanishes: a dead letter carries the origin and the bytes of what was refused.
"""

from enum import Enum
from typing import assert_never

import msgspec


class FailureReason(Enum):
    """Why intake refused an event. The value is the word on the wire and in the tables."""

    # bytes
    LINE_TOO_LONG = "line_too_long"
    BAD_UTF8 = "bad_utf8"
    TOO_DEEP = "too_deep"
    MALFORMED_JSON = "malformed_json"
    NOT_A_NUMBER = "not_a_number"
    INFINITE_NUMBER = "infinite_number"
    DUPLICATE_KEY = "duplicate_key"
    UNKNOWN_TYPE = "unknown_type"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_FIELD_TYPE = "wrong_field_type"
    UNREADABLE_ROW = "unreadable_row"
    # one event by itself
    BAD_ID = "bad_id"
    BAD_AMOUNT = "bad_amount"
    EXPONENT_NOT_ALLOWED = "exponent_not_allowed"
    AMOUNT_OUT_OF_RANGE = "amount_out_of_range"
    TOO_MANY_DECIMALS = "too_many_decimals"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    BAD_VALUE = "bad_value"
    BAD_PARAMETERS = "bad_parameters"
    # an event against the ledger
    TOO_OLD = "too_old"
    CONFLICT = "conflict"
    UNKNOWN_ACCOUNT = "unknown_account"
    UNKNOWN_ASSET = "unknown_asset"
    UNKNOWN_INSTRUMENT = "unknown_instrument"
    UNKNOWN_FILL = "unknown_fill"
    UNKNOWN_MARGIN_MODEL = "unknown_margin_model"
    UNKNOWN_RULES = "unknown_rules"
    ALREADY_LISTED = "already_listed"
    ALREADY_OPENED = "already_opened"
    OFF_TICK = "off_tick"
    OFF_LOT = "off_lot"
    INSTRUMENT_HALTED = "instrument_halted"
    INSTRUMENT_EXPIRED = "instrument_expired"
    INSTRUMENT_SETTLED = "instrument_settled"
    SELF_TRADE = "self_trade"
    SYSTEM_ACCOUNT = "system_account"
    ISOLATED_ACCOUNT = "isolated_account"
    TRANSFER_STATUS = "transfer_status"

    @property
    def is_transient(self) -> bool:
        """Whether the same bytes may be accepted later without a change, because the ledger has moved on."""
        match self:
            case (
                FailureReason.UNKNOWN_ACCOUNT
                | FailureReason.UNKNOWN_ASSET
                | FailureReason.UNKNOWN_INSTRUMENT
                | FailureReason.UNKNOWN_FILL
                | FailureReason.UNKNOWN_MARGIN_MODEL
                | FailureReason.UNKNOWN_RULES
                | FailureReason.UNKNOWN_TYPE
                | FailureReason.UNKNOWN_FIELD
                | FailureReason.INSTRUMENT_HALTED
                | FailureReason.TRANSFER_STATUS
            ):
                return True
            case (
                FailureReason.LINE_TOO_LONG
                | FailureReason.BAD_UTF8
                | FailureReason.TOO_DEEP
                | FailureReason.MALFORMED_JSON
                | FailureReason.NOT_A_NUMBER
                | FailureReason.INFINITE_NUMBER
                | FailureReason.DUPLICATE_KEY
                | FailureReason.MISSING_FIELD
                | FailureReason.WRONG_FIELD_TYPE
                | FailureReason.UNREADABLE_ROW
                | FailureReason.BAD_ID
                | FailureReason.BAD_AMOUNT
                | FailureReason.EXPONENT_NOT_ALLOWED
                | FailureReason.AMOUNT_OUT_OF_RANGE
                | FailureReason.TOO_MANY_DECIMALS
                | FailureReason.TIME_OUT_OF_RANGE
                | FailureReason.BAD_VALUE
                | FailureReason.BAD_PARAMETERS
                | FailureReason.TOO_OLD
                | FailureReason.CONFLICT
                | FailureReason.ALREADY_LISTED
                | FailureReason.ALREADY_OPENED
                | FailureReason.OFF_TICK
                | FailureReason.OFF_LOT
                | FailureReason.INSTRUMENT_EXPIRED
                | FailureReason.INSTRUMENT_SETTLED
                | FailureReason.SELF_TRADE
                | FailureReason.SYSTEM_ACCOUNT
                | FailureReason.ISOLATED_ACCOUNT
            ):
                return False
            case _:
                assert_never(self)


class Refused(Exception):  # noqa: N818 - a refusal of input, not an error of ours
    """Raised inside intake to refuse one event; always turned into a dead letter by the caller."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """Where bytes came from: a file and its line or row from 1, or a topic with partition and offset."""

    topic: str
    partition: int
    offset: int


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A refused input, whole.

    ``payload`` is exactly what was read (for a Parquet row: the row as JSON); on the wire it is base64.
    ``event_time_ns`` is 0 where it could not be read.
    """

    reason: FailureReason
    message: str
    origin: Origin
    payload: bytes
    event_time_ns: int = 0
