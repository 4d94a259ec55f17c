"""Ledger frames and market records with sensible defaults; times are seconds after ``START_NS``."""

from dataclasses import fields, is_dataclass
from typing import Any, Final

import numpy as np

from flows.market.instant import Instant
from schemas.ledger import (
    AccountRecord,
    AssetRecord,
    ForwardRecord,
    Frame,
    FrameKind,
    Genesis,
    GenesisRecord,
    InstrumentRecord,
    MarketRecord,
    MarkRecord,
    ParametersRecord,
    PriceRecord,
    SviRecord,
    empty_legs,
)
from schemas.parameters import validate

SECOND_NS: Final = 1_000_000_000
DAY: Final = 86_400.0
START_NS: Final = 1_773_360_000 * SECOND_NS


def at(seconds: float) -> int:
    """Return the ledger time that many seconds after the start."""
    return START_NS + round(seconds * SECOND_NS)


def a_frame(*records: MarketRecord, seconds: float = 0.0, kind: FrameKind = FrameKind.EVENTS, number: int = 0) -> Frame:
    """Return a frame without account records."""
    return Frame(number, kind, at(seconds), 0, 16, list(records), empty_legs(), [], b"", b"", b"")


def a_venue(*instruments: InstrumentRecord, accounts: tuple[str, ...] = ()) -> list[MarketRecord]:
    """Return genesis, USDC (index 0, 6 decimals), BTC (1, 8), instruments, and an account for each margin model."""
    return [
        GenesisRecord(Genesis(ledger_id="test")),
        AssetRecord(0, "USDC", 6),
        AssetRecord(1, "BTC", 8),
        *instruments,
        *(AccountRecord(8 + i, f"account-{i}", model, "cross") for i, model in enumerate(accounts)),
    ]


def an_instrument(index: int, kind: str = "perpetual", **changes: Any) -> InstrumentRecord:
    """Return a BTC instrument: linear in USDC, a lot of 0.001; inverse in BTC, a lot of 100 USD (option: 0.1 BTC)."""
    inverse = changes.get("payoff") == "inverse"
    lot = ("0.1" if kind == "option" else "100") if inverse else "0.001"
    fields: dict[str, Any] = {
        "instrument": f"instrument-{index}", "underlying": "BTC", "quote": "USD", "settlement_asset": int(inverse),
        "base_asset": -1, "payoff": "linear", "multiplier": "1", "tick_size": "0.1", "lot_size": lot, "strike": None,
        "option_type": None, "expiry_ns": None,
    }  # fmt: skip
    fields.update(changes)
    return InstrumentRecord(index=index, kind=kind, **fields)


def an_option(index: int, *, strike: str = "50000", option_type: str = "call", days: float = 30.0, **changes: Any) -> (
    InstrumentRecord
):  # fmt: skip
    """Return a BTC option that expires ``days`` after the start."""
    return an_instrument(index, "option", strike=strike, option_type=option_type, expiry_ns=at(days * DAY), **changes)


def a_price(
    price: float = 50_000.0, *, seconds: float = 0.0, source: str = "a", feed: str = "BTC/USD", confidence: float = 0.0
) -> PriceRecord:
    """Return one source's price, published at ``seconds``."""
    return PriceRecord(feed, source, price, confidence, at(seconds))


def a_dollar(price: float = 1.0, *, seconds: float = 0.0) -> PriceRecord:
    """Return a price of USDC."""
    return a_price(price, seconds=seconds, feed="USDC/USD")


def a_smile(*, days: float = 30.0, seconds: float = 0.0, forward: float = 50_000.0, **changes: float) -> SviRecord:
    """Return an SVI fit of BTC."""
    fields = {"a": 0.02, "b": 0.08, "rho": -0.3, "m": 0.01, "sigma": 0.2}
    fields.update(changes)
    return SviRecord(
        "BTC", at(days * DAY), "a", **fields, forward=forward, time_to_expiry=days / 365.0, event_time_ns=at(seconds)
    )


def a_forward(forward: float, *, days: float = 30.0, seconds: float = 0.0) -> ForwardRecord:
    """Return a forward of BTC."""
    return ForwardRecord("BTC", at(days * DAY), "a", forward, at(seconds))


def a_mark(instrument: int, price: float, *, seconds: float = 0.0, source: str = "venue") -> MarkRecord:
    """Return a venue mark."""
    return MarkRecord(instrument, source, price, at(seconds))


def some_parameters(name: str, **changes: Any) -> ParametersRecord:
    """Return a parameter set with all else at its default."""
    return ParametersRecord(name, validate(name, changes).model_dump_json())


def differences(left: Instant, right: Instant) -> list[str]:
    """Return the names of what differs between two instants, ``everything_moved`` aside, to the bit."""
    names = [name for name in Instant.__dataclass_fields__ if name not in {"everything_moved", "margin_tables"}]
    differing = [name for name in names if bits(getattr(left, name)) != bits(getattr(right, name))]
    if list(left.margin_tables) != list(right.margin_tables):
        differing.append("margin_tables")
    for model, table in left.margin_tables.items():
        other = right.margin_tables[model]
        differing += [
            f"{model}.{name}"
            for name in type(table).__dataclass_fields__
            if bits(getattr(table, name)) != bits(getattr(other, name))
        ]
    return differing


def bits(value: Any) -> Any:
    """Return what two equal values have in common, to the bit: arrays by their bytes, also inside tables."""
    if is_dataclass(value):
        return [(field.name, bits(getattr(value, field.name))) for field in fields(value)]
    return (value.shape, value.dtype, value.tobytes()) if isinstance(value, np.ndarray) else value
