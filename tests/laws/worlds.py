"""Seeded accounts of one margin model on a small venue, for laws that move the market under them.

1. The venue has what the model covers: a caller says which instruments. Everything else is here: assets and their
   prices, parameters, accounts, deposits, debts, and books of one to eight positions against the house.
2. Everyone's equity is around the margin, and a seventh of the accounts is isolated, on BTC.
3. What is built is the engine's own: records go through intake, the market and the book.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import msgspec
import numpy as np

from flows.intake.decode import Stream, decode_lines
from flows.intake.ledger import Intake
from flows.margin.model import MarginModel
from flows.margin.registry import margin_models, parameter_sets
from flows.market.instant import Instant
from flows.market.step import Market
from flows.risk.book import Book
from flows.risk.step import Risk
from flows.screening import exhaustive
from schemas.events import Event, InstrumentListed
from schemas.ledger import Genesis, decode_frame
from tests.builders import (
    DAY_NS,
    SECOND_NS,
    TIME_NS,
    a_fill,
    a_forward,
    a_future,
    a_parameters_change,
    a_perpetual,
    a_price,
    a_rate,
    a_smile,
    a_transfer,
    an_account,
    an_asset,
    an_option,
    open_orders,
)

SPOT: Final = {"BTC": 50_000.0, "ETH": 2_500.0}
# Price and decimals of what accounts own or owe; the numeraire is USD.
ASSETS: Final = {"USDC": ("0.999", 6), "BTC": ("50000", 8), "ETH": ("2500", 8), "USDT": ("1.001", 6)}
EXPIRIES: Final = (TIME_NS + 2 * 3_600 * SECOND_NS, TIME_NS + 9 * DAY_NS, TIME_NS + 45 * DAY_NS)
_STRIKES: Final = 8

# What the payoff "inverse" changes in a listing.
INVERSE: Final[Mapping[str, Any]] = {"payoff": "inverse", "quote": "USD"}

Listing = Callable[[], Sequence[InstrumentListed]]


def perpetuals(*, suffix: str = "PERP", **changes: str) -> list[InstrumentListed]:
    """Return a perpetual of every underlying, linear in USDC; ``changes`` as of the builders."""
    return [a_perpetual(f"{name}-{suffix}", underlying=name, **_settled(name, changes)) for name in SPOT]


def futures(*, suffix: str = "F", **changes: str) -> list[InstrumentListed]:
    """Return a future of every underlying and expiry."""
    return [
        a_future(f"{name}-{suffix}{place}", underlying=name, expiry_ns=expiry_ns, **_settled(name, changes))
        for name in SPOT
        for place, expiry_ns in enumerate(EXPIRIES)
    ]


def options(*, suffix: str = "", expiries: Sequence[int] = EXPIRIES, **changes: str) -> list[InstrumentListed]:
    """Return calls and puts of every underlying and expiry, at strikes 15 % around the spot, both at each strike."""
    return [
        an_option(
            f"{name}-{place}-{step // 2}{'CP'[step % 2]}{suffix}", underlying=name, expiry_ns=expiry_ns,
            strike=str(round(spot * (0.85 + 0.086 * (step // 2)))), option_type="put" if step % 2 else "call",
            **_settled(name, changes),
        )
        for name, spot in SPOT.items()
        for place, expiry_ns in enumerate(expiries)
        for step in range(_STRIKES)
    ]  # fmt: skip


def _settled(underlying: str, changes: Mapping[str, str]) -> dict[str, Any]:
    """Return the changes; what is inverse settles in its underlying unless they say otherwise."""
    settles = {"settlement_asset": underlying} if changes.get("payoff") == "inverse" else {}
    return {**settles, **changes}


def linear_venue() -> list[InstrumentListed]:
    """Return perpetuals, futures and options that settle in USDC."""
    return [*perpetuals(), *futures(), *options()]


def derive_venue() -> list[InstrumentListed]:
    """Return what Derive lists: perpetuals and options."""
    return [*perpetuals(), *options()]


@dataclass(frozen=True)
class Setting:
    """What a world is made of.

    Attributes
    ----------
    model : of every account. parameters : by the name of their set. listing : instruments; numbers are given here.
    accounts : how many. coins : the share of accounts that own, or owe, something beside USDC.
    orders : the share of accounts that have an open order.
    rate : of USD and USDC, annual. confidence : of every price, relative to it.
    deposits : the least and the greatest, USDC, on a logarithmic scale.
    """

    model: MarginModel
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    listing: Listing = linear_venue
    accounts: int = 60
    coins: float = 0.5
    orders: float = 0.0
    rate: str = "0.05"
    confidence: float = 2e-4
    deposits: tuple[float, float] = (300.0, 2e4)


@dataclass(frozen=True)
class World:
    """A risk stage at ``TIME_NS``: every price and smile is known and fresh."""

    setting: Setting
    risk: Risk
    instant: Instant


def a_world(setting: Setting, seed: int) -> World:
    """Return the world of a seed."""
    rng = np.random.default_rng(seed)
    models = margin_models() | {setting.model.name: setting.model}
    intake = Intake(
        Genesis(ledger_id="laws", settlement_period_ns=10**18),
        shard_count=4,
        margin_models=tuple(models),
        parameter_sets=parameter_sets(models),
    )
    book = Book(range(4), shard_count=4, models=tuple(models))
    risk = Risk(Market(models), book, models=models, screening=exhaustive.POLICY)
    risk.step(decode_frame(intake.genesis_frame()))
    number = count(1)
    instruments = [msgspec.structs.replace(it, **_numbered(next(number))) for it in setting.listing()]
    events = [
        *_market(setting, instruments, number),
        *_accounts(setting, rng, number),
        *_trades(setting, instruments, rng, number),
        *_orders(setting, instruments, rng, number),
        # What comes later closes the frame that holds all this.
        a_price("0.999", feed="USDC/USD", number=10**6, time_ns=TIME_NS + 60 * SECOND_NS),
    ]
    for out in intake.step(decode_lines([msgspec.json.encode(event) for event in events], Stream("laws"), 1)):
        assert not out.dead_letters, out.dead_letters[0].message
        for data in out.frames:
            risk.step(decode_frame(data))
    assert risk.instant is not None
    assert risk.instant.time_ns == TIME_NS
    return World(setting, risk, risk.instant)


def _numbered(number: int) -> dict[str, Any]:
    return {"event_id": f"listings-{number}", "source_sequence": number}


def _band(price: float, setting: Setting) -> str:
    return f"{price * setting.confidence:.9f}"


def _market(setting: Setting, instruments: Sequence[InstrumentListed], number: Iterator[int]) -> Iterator[Event]:
    for asset, (_, decimals) in ASSETS.items():
        yield an_asset(asset, decimals, number=next(number))
    yield from instruments
    for name, parameters in setting.parameters.items():
        yield a_parameters_change(name, dict(parameters), number=next(number))
    for currency in ("USD", "USDC"):
        yield a_rate(setting.rate, currency=currency, number=next(number))
    for asset, (price, _) in ASSETS.items():
        yield a_price(price, feed=f"{asset}/USD", confidence=_band(float(price), setting), number=next(number))
    for underlying, expiry_ns in sorted({(it.underlying, it.expiry_ns) for it in instruments if it.expiry_ns}):
        assert expiry_ns is not None
        years = (expiry_ns - TIME_NS) / DAY_NS / 365.0
        forward = f"{SPOT[underlying] * (1.0 + 0.01 * years**0.5):.2f}"
        yield a_forward(forward, underlying=underlying, expiry_ns=expiry_ns, number=next(number))
        yield a_smile(
            underlying=underlying, expiry_ns=expiry_ns, forward=forward, number=next(number),
            time_to_expiry=f"{years:.9f}", a=f"{0.3 * years:.9f}",
        )  # fmt: skip


def _accounts(setting: Setting, rng: np.random.Generator, number: Iterator[int]) -> Iterator[Event]:
    low, high = np.log(setting.deposits)
    for a in range(setting.accounts):
        yield an_account(
            f"a{a}",
            margin_model=setting.model.name,
            margin_mode="isolated" if a % 7 == 0 else "cross",
            number=next(number),
        )
    for a in range(setting.accounts):
        yield a_transfer(f"{np.exp(rng.uniform(low, high)):.6f}", account=f"a{a}", number=next(number))
        if rng.random() >= setting.coins:
            continue
        asset = str(rng.choice(["BTC", "ETH", "USDT"]))
        worth = np.exp(rng.uniform(low, high)) * (1.0 if rng.random() < 0.7 else -0.2)
        amount = f"{worth / float(ASSETS[asset][0]):.6f}"
        yield a_transfer(amount, asset=asset, account=f"a{a}", number=next(number))


def _trades(
    setting: Setting, instruments: Sequence[InstrumentListed], rng: np.random.Generator, number: Iterator[int]
) -> Iterator[Event]:
    """Books against the house, which keeps accounts apart; about 20,000 USD at most in a position."""
    of_btc = [it for it in instruments if it.underlying == "BTC"]
    for a in range(setting.accounts):
        for _ in range(rng.integers(1, 9)):
            listed = of_btc if a % 7 == 0 else instruments
            traded = listed[int(rng.integers(0, len(listed)))]
            buys = bool(rng.integers(0, 2))
            yield a_fill(
                *_terms(traded, int(rng.integers(1, 20))), instrument=traded.instrument,
                buyer=f"a{a}" if buys else "house", seller="house" if buys else f"a{a}", number=next(number),
            )  # fmt: skip


def _orders(
    setting: Setting, instruments: Sequence[InstrumentListed], rng: np.random.Generator, number: Iterator[int]
) -> Iterator[Event]:
    for a in np.flatnonzero(rng.random(setting.accounts) < setting.orders):
        traded = next(it for it in instruments if it.underlying == "BTC")
        _, quantity = _terms(traded, int(rng.integers(1, 20)))
        buys, sells = (quantity, "0") if rng.integers(0, 2) else ("0", quantity)
        yield open_orders(buys, sells, account=f"a{a}", instrument=traded.instrument, number=next(number))


def _terms(traded: InstrumentListed, size: int) -> tuple[str, str]:
    """Return price and quantity of a trade of ``size`` thousand USD of the underlying, about."""
    spot, tick, lot = SPOT[traded.underlying], float(traded.tick_size), float(traded.lot_size)
    inverse, option = traded.payoff == "inverse", traded.kind == "option"
    price = (0.03 if inverse else 0.03 * spot) if option else spot
    quantity = 1_000.0 * size / (1.0 if inverse and not option else spot)
    return f"{round(price / tick) * tick:.6f}", f"{max(round(quantity / lot), 1) * lot:.6f}"
