"""The demo's bad input: one event for each way in which a day goes wrong, and the reason that intake must give.

1. Each fault breaks exactly one rule; everything else about it is right for its place in the day.
2. A fault is an edit of a well-formed event: its bytes, or a field.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from infra.demo.journal import Edit, Journal
from infra.demo.market import EXPIRY, HALT
from schemas.events import (
    AccountOpened,
    AssetListed,
    Collateral,
    Event,
    Fill,
    FillBusted,
    OraclePrice,
    ParametersChanged,
    RulesChanged,
    SettlementPrice,
)
from schemas.failures import FailureReason

_LINE_TOO_LONG: Final = 70_000
_DEEP: Final = 200
_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault may refer to: things that exist at its place in the day.

    ``instrument`` trades at ``price`` in ``quantity``; ``foreign`` is an instrument, with its price and quantity, of
    an underlying to which the account ``isolated`` is not bound; ``expired`` and ``halted`` likewise; ``settled_ns`` is
    the expiry that the day settles.
    """

    journal: Journal
    time_ns: int
    buyer: str
    seller: str
    instrument: tuple[str, str, str]
    isolated: str
    foreign: tuple[str, str, str]
    expired: tuple[str, str, str]
    halted: tuple[str, str, str]
    settled_ns: int


@dataclass(frozen=True, slots=True)
class Fault:
    """One bad event: when (fraction of the day), what intake must call it, and how to make it.

    ``needs_fill``: there must have been a fill, whose ids it abuses.
    """

    at: float
    reason: FailureReason
    source: str
    kind: type[Event]
    fields: Callable[[Scene], dict[str, Any]]
    edit: Callable[[Scene], Edit] | None = None
    needs_fill: bool = False


def faults() -> list[Fault]:
    """Return the day's faults in the order of their times."""
    made = [
        *_bad_bytes(),
        *_bad_values(),
        *_bad_references(),
    ]
    # Those that need no place of their own are spread evenly.
    spread = [replace(one, at=0.36 + 0.6 * number / len(made)) for number, one in enumerate(made)]
    return sorted([*spread, *_placed()], key=lambda one: one.at)


def _fill(parts: tuple[str, str, str], scene: Scene, **changes: str) -> dict[str, Any]:
    instrument, price, quantity = parts
    return {
        "fill_id": f"faulty-{scene.time_ns}",
        "instrument": instrument,
        "price": price,
        "quantity": quantity,
        "buyer": scene.buyer,
        "seller": scene.seller,
        "buyer_fee": "0",
        "seller_fee": "0",
    } | changes


def _price(scene: Scene, **changes: str) -> dict[str, Any]:
    price = scene.instrument[1]
    return {"feed": "BTC/USD", "price": price, "confidence": "10", "publish_time_ns": scene.time_ns} | changes


def _deposit(scene: Scene, **changes: str) -> dict[str, Any]:
    return {
        "transfer_id": f"faulty-{scene.time_ns}",
        "account": scene.buyer,
        "asset": "USDC",
        "amount": "250.5",
        "chain": "ethereum",
        "status": "confirmed",
    } | changes


def _of_bytes(reason: FailureReason, kind: type[Event], fields: Callable[[Scene], dict[str, Any]], spoil: Any) -> Fault:
    source = "atlas" if kind is OraclePrice else "venue"
    return Fault(0.0, reason, source, kind, fields, lambda _: lambda event: spoil(_encode(event)))


def _bad_bytes() -> list[Fault]:
    """Return the events whose bytes cannot be read as one."""
    price, fill = OraclePrice, Fill

    def trade(scene: Scene) -> dict[str, Any]:
        return _fill(scene.instrument, scene)

    def nested(line: bytes) -> bytes:
        return line[:-1] + b',"parameters":' + b"[" * _DEEP + b"]" * _DEEP + b"}"

    def as_number(line: bytes) -> bytes:
        head, _, tail = line.partition(b'"confidence":"10"')
        return head + b'"confidence":10' + tail

    def bare(token: bytes) -> Callable[[bytes], bytes]:
        return lambda line: line.replace(b'"confidence":"10"', b'"confidence":' + token)

    return [
        _of_bytes(FailureReason.LINE_TOO_LONG, fill, trade, lambda line: line[:-1] + b" " * _LINE_TOO_LONG + b"}"),
        _of_bytes(FailureReason.BAD_UTF8, fill, trade, lambda line: line.replace(b"faulty", b"f\xff\xfeulty")),
        _of_bytes(FailureReason.TOO_DEEP, fill, trade, nested),
        _of_bytes(FailureReason.MALFORMED_JSON, fill, trade, lambda line: line[: len(line) // 2]),
        _of_bytes(FailureReason.NOT_A_NUMBER, price, _price, bare(b"NaN")),
        _of_bytes(FailureReason.INFINITE_NUMBER, price, _price, bare(b"Infinity")),
        _of_bytes(FailureReason.DUPLICATE_KEY, fill, trade, lambda line: line[:-1] + b',"price":"1"}'),
        _of_bytes(FailureReason.UNKNOWN_TYPE, fill, trade, lambda line: line.replace(b'"fill"', b'"filled"')),
        _of_bytes(FailureReason.MISSING_FIELD, price, _price, lambda line: line.replace(b',"confidence":"10"', b"")),
        _of_bytes(FailureReason.UNKNOWN_FIELD, fill, trade, lambda line: line[:-1] + b',"liquidaton_id":"x"}'),
        _of_bytes(FailureReason.WRONG_FIELD_TYPE, price, _price, as_number),
    ]


def _bad_values() -> list[Fault]:
    """Return the events that say something impossible."""

    def in_milliseconds(_: Scene) -> Edit:
        return lambda event: msgspec.structs.replace(event, event_time_ns=event.event_time_ns // 1_000_000)

    def trade(**changes: str) -> Callable[[Scene], dict[str, Any]]:
        return lambda scene: _fill(scene.instrument, scene, **changes)

    def deposit(**changes: str) -> Callable[[Scene], dict[str, Any]]:
        return lambda scene: _deposit(scene, **changes)

    too_high = {"name": "collateral", "parameters": {"haircuts": {"BTC": 1.5}}}
    return [
        Fault(0.0, FailureReason.BAD_ID, "venue", Fill, trade(buyer="two words")),
        Fault(0.0, FailureReason.BAD_AMOUNT, "venue", Fill, trade(quantity="1,5")),
        Fault(0.0, FailureReason.NOT_A_NUMBER, "venue", Fill, trade(price="NaN")),
        Fault(0.0, FailureReason.EXPONENT_NOT_ALLOWED, "ethereum-watcher", Collateral, deposit(amount="1e6")),
        Fault(0.0, FailureReason.AMOUNT_OUT_OF_RANGE, "ethereum-watcher", Collateral, deposit(amount="9" * 20)),
        Fault(0.0, FailureReason.TOO_MANY_DECIMALS, "ethereum-watcher", Collateral, deposit(amount="0.0000001")),
        Fault(0.0, FailureReason.TIME_OUT_OF_RANGE, "atlas", OraclePrice, _price, in_milliseconds),
        Fault(0.0, FailureReason.BAD_VALUE, "atlas", OraclePrice, lambda scene: _price(scene, price="0")),
        Fault(0.0, FailureReason.BAD_PARAMETERS, "operator", ParametersChanged, lambda _: too_high),
    ]


def _bad_references() -> list[Fault]:
    """Return the events that are well-formed and contradict the ledger."""

    def trade(**changes: str) -> Callable[[Scene], dict[str, Any]]:
        return lambda scene: _fill(scene.instrument, scene, **changes)

    def opened(account: str, model: str) -> Callable[[Scene], dict[str, Any]]:
        return lambda scene: {
            "account": account or scene.buyer,
            "margin_model": model,
            "margin_mode": "cross",
        }

    def from_nowhere(scene: Scene) -> dict[str, Any]:
        return _deposit(scene, status="reverted")

    def another_price(scene: Scene) -> Edit:
        def edit(event: Event) -> Event:
            assert scene.journal.last_fill is not None
            return msgspec.structs.replace(event, event_id=scene.journal.last_fill.event_id)

        return edit

    def same_fill_id(scene: Scene) -> Edit:
        def edit(event: Event) -> Event:
            assert scene.journal.last_fill is not None
            return msgspec.structs.replace(event, fill_id=scene.journal.last_fill.fill_id)

        return edit

    return [
        Fault(0.0, FailureReason.TRANSFER_STATUS, "ethereum-watcher", Collateral, from_nowhere),
        Fault(0.0, FailureReason.CONFLICT, "venue", Fill, trade(), another_price, needs_fill=True),
        Fault(0.0, FailureReason.CONFLICT, "venue", Fill, trade(), same_fill_id, needs_fill=True),
        Fault(0.0, FailureReason.UNKNOWN_ACCOUNT, "venue", Fill, trade(buyer="nobody")),
        Fault(
            0.0,
            FailureReason.UNKNOWN_ASSET,
            "ethereum-watcher",
            Collateral,
            lambda scene: _deposit(scene, asset="DOGE"),
        ),
        Fault(0.0, FailureReason.UNKNOWN_INSTRUMENT, "venue", Fill, trade(instrument="DOGE-PERP")),
        Fault(0.0, FailureReason.UNKNOWN_FILL, "venue", FillBusted, lambda _: {"fill_id": "never-happened"}),
        Fault(0.0, FailureReason.UNKNOWN_MARGIN_MODEL, "venue", AccountOpened, opened("hopeful", "no-margin-at-all")),
        Fault(0.0, FailureReason.UNKNOWN_RULES, "operator", RulesChanged, lambda _: {"rules": 9_999}),
        Fault(0.0, FailureReason.ALREADY_LISTED, "venue", AssetListed, lambda _: {"asset": "BTC", "decimals": 6}),
        Fault(0.0, FailureReason.ALREADY_OPENED, "venue", AccountOpened, opened("", "tidegate-portfolio")),
        Fault(
            0.0, FailureReason.OFF_TICK, "venue", Fill, lambda scene: _fill(scene.instrument, scene, price="70000.3")
        ),
        Fault(0.0, FailureReason.OFF_LOT, "venue", Fill, trade(quantity="0.0015")),
        Fault(
            0.0,
            FailureReason.SELF_TRADE,
            "venue",
            Fill,
            lambda scene: _fill(scene.instrument, scene, seller=scene.buyer),
        ),
        Fault(0.0, FailureReason.SYSTEM_ACCOUNT, "venue", Fill, trade(seller="fees")),
    ]


def _placed() -> list[Fault]:
    """Return the faults that are faults only at their place in the day."""
    return [
        Fault(
            EXPIRY,
            FailureReason.INSTRUMENT_EXPIRED,
            "venue",
            Fill,
            lambda scene: _fill(scene.expired, scene),
        ),
        Fault(
            EXPIRY + 0.01,
            FailureReason.INSTRUMENT_SETTLED,
            "venue",
            SettlementPrice,
            lambda scene: {"underlying": "BTC", "expiry_ns": scene.settled_ns, "price": "1"},
        ),
        Fault(
            HALT[0],
            FailureReason.INSTRUMENT_HALTED,
            "venue",
            Fill,
            lambda scene: _fill(scene.halted, scene),
        ),
        Fault(
            0.7,
            FailureReason.ISOLATED_ACCOUNT,
            "venue",
            Fill,
            lambda scene: _fill(scene.foreign, scene, buyer=scene.isolated, seller="house"),
        ),
    ]
