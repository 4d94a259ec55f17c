"""A priced market with every kind of instrument, and random books on it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.margin.model import OpenOrders, PositionColumns
from flows.market.instant import Instant
from flows.market.step import Market
from schemas.ledger import InstrumentRecord, MarketRecord, RateRecord, VolPointsRecord
from tests.flows.market.builders import (
    DAY,
    a_dollar,
    a_forward,
    a_frame,
    a_price,
    a_smile,
    a_venue,
    an_instrument,
    an_option,
    at,
)

MODELS = ("tidegate-standard", "tidegate-portfolio")


def instruments() -> list[InstrumentRecord]:
    """Return BTC and ETH in turn: options linear and inverse, calls and puts, futures, perpetuals."""
    listed: list[InstrumentRecord] = []
    for days in (7.0, 60.0):
        for strike in ("40000", "50000", "65000"):
            for option_type in ("call", "put"):
                for payoff in ("linear", "inverse"):
                    listed.append(
                        an_option(len(listed), strike=strike, option_type=option_type, days=days, payoff=payoff)
                    )
        listed.append(
            an_option(len(listed), strike="3000", option_type="put", days=days, underlying="ETH", instrument=f"e{days}")
        )
    for payoff in ("linear", "inverse"):
        listed.append(an_instrument(len(listed), payoff=payoff))
        listed.append(an_instrument(len(listed), "future", payoff=payoff, expiry_ns=at(60.0 * DAY)))
    listed.append(an_instrument(len(listed), underlying="ETH", instrument="eth"))
    return listed


def a_market(*records: MarketRecord) -> tuple[Market, Instant]:
    """Return a market with both models in use, and its instant after ``records``."""
    market = Market()
    market.step(a_frame(*a_venue(*instruments(), accounts=MODELS)))
    smiles = [
        VolPointsRecord("ETH", at(days * DAY), "a", [2_000.0, 4_000.0], [0.9, 0.7], at(0)) for days in (7.0, 60.0)
    ]
    return market, market.step(
        a_frame(
            a_price(50_000.0), a_price(3_000.0, feed="ETH/USD"), a_dollar(0.99), a_smile(days=7.0, a=0.002, b=0.02),
            a_smile(days=60.0), a_forward(50_900.0, days=60.0), RateRecord("USD", "r", 0.04, at(0)), *smiles, *records,
        )
    )  # fmt: skip


@dataclass(frozen=True)
class RandomBook:
    """n accounts; rows are shuffled and the pool has gaps, as a real book's has."""

    cash: npt.NDArray[np.int64]
    isolated: npt.NDArray[np.bool_]
    positions: PositionColumns

    def holdings(self, row: int) -> list[tuple[int, int]]:
        """Return the (instrument, lots) of a row, in order."""
        place = range(int(self.positions.offset[row]), int(self.positions.offset[row] + self.positions.count[row]))
        return [(int(self.positions.instrument[p]), int(self.positions.lots[p])) for p in place]


def a_random_book(seed: int, accounts: int, instrument_count: int, *, one_sided: bool = False) -> RandomBook:
    """Return a book of random positions, long and short, and random balances, debts included."""
    rng = np.random.default_rng(seed)
    count = rng.integers(0, min(9, instrument_count + 1), accounts)
    gaps = rng.integers(0, 3, accounts)
    offset = np.cumsum(count + gaps) - count
    size = int(offset[-1] + count[-1]) if accounts else 0
    instrument = np.zeros(size, np.uint32)
    lots = np.zeros(size, np.int64)
    for row in range(accounts):
        place = slice(int(offset[row]), int(offset[row] + count[row]))
        instrument[place] = np.sort(rng.choice(instrument_count, int(count[row]), replace=False))
        lots[place] = rng.integers(1, 2_000, int(count[row])) * (
            1 if one_sided else rng.choice([-1, 1], int(count[row]))
        )
    cash = rng.integers(-(10**9), 10**10, (accounts, 2)) * (rng.random((accounts, 2)) < 0.8)
    return RandomBook(
        cash,
        rng.random(accounts) < 0.4,
        PositionColumns(offset.astype(np.int64), count.astype(np.int64), instrument, lots),
    )


def a_book(cash: list[list[int]], holdings: list[dict[int, int]], isolated: list[bool] | None = None) -> RandomBook:
    """Return a book spelled out: one row of ``cash`` and one mapping of instrument to lots an account."""
    count = np.array([len(held) for held in holdings], np.int64)
    flat = [pair for held in holdings for pair in sorted(held.items())]
    return RandomBook(
        np.array(cash, np.int64),
        np.array(isolated or [False] * len(cash)),
        PositionColumns(
            (np.cumsum(count) - count).astype(np.int64),
            count,
            np.array([instrument for instrument, _ in flat], np.uint32),
            np.array([lots for _, lots in flat], np.int64),
        ),
    )


def open_orders(orders: list[dict[int, tuple[int, int]]]) -> OpenOrders:
    """Return open orders spelled out: one mapping of instrument to (buys, sells) an account, none both 0."""
    count = np.array([len(told) for told in orders], np.int64)
    flat = [(instrument, *lots) for told in orders for instrument, lots in sorted(told.items())]
    instrument, buys, sells = (np.array([row[column] for row in flat], np.int64) for column in range(3))
    return OpenOrders((np.cumsum(count) - count).astype(np.int64), count, instrument.astype(np.uint32), buys, sells)
