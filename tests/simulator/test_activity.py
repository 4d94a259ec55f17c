"""Liquidations happen in the simulator, orders rest, and neither makes money or turns a position."""

from collections.abc import Iterator

import numpy as np
import pytest

from flows.margin.registry import margin_models
from flows.market.step import Market
from flows.risk.book import Book
from flows.risk.step import Risk
from flows.screening.exhaustive import POLICY
from schemas.ids import FIRST_ACCOUNT_NUMBER, HOUSE_NUMBER
from schemas.ledger import Frame, LegFlag, LegKind, Legs
from schemas.results import Tier
from tests.simulator.activity import Activity
from tests.simulator.books import BookBuilder
from tests.simulator.frames import SHARDS, Frames
from tests.simulator.paths import Path
from tests.simulator.venue import DOLLAR

ACCOUNTS = 600


class Venue:
    """A small book on a path, stepped tick by tick."""

    def __init__(
        self,
        name: str = "crash",
        *,
        hours: float = 1 / 20,
        rate: float = 1.0,
        liquidations: bool = True,
        open_orders: float = 0.0,
    ) -> None:
        models = margin_models()
        self.path = Path(name, hours=hours, seed=2)
        self.frames = Frames()
        self.risk = Risk(
            Market(models), Book(range(SHARDS), shard_count=SHARDS, models=tuple(models)), models=models,
            screening=POLICY,
        )  # fmt: skip
        BookBuilder(self.path, self.frames, self.risk, self.risk.step, seed=2).build(ACCOUNTS)
        self.activity = Activity(self.path, rate=rate, liquidations=liquidations, open_orders=open_orders, seed=2)
        rested = self.activity.opening(self.path.start_ns, self.book)
        if rested is not None:
            self.risk.step(self.frames.frame(self.path.start_ns, legs=rested))

    @property
    def book(self) -> Book:
        """The book as it stands."""
        return self.risk.book

    def ticks(self) -> Iterator[tuple[Frame, Legs]]:
        """Yield each frame before it is stepped, with its account records."""
        for tick, (now_ns, records) in enumerate(self.path, 1):
            instant = self.risk.instant
            assert instant is not None
            legs = self.activity.legs(now_ns, instant, self.book)
            frame = self.frames.frame(now_ns, [*records, *self.activity.market(tick)], legs)
            yield frame, frame.legs
            self.risk.step(frame)

    def lots(self, account: int, instrument: int) -> int:
        """Return what an account holds of an instrument."""
        row = self.book.row(account)
        places = self.book.positions.places(np.array([row]))
        held = self.book.positions.instrument[places] == instrument
        return int(self.book.positions.lots[places][held].sum())

    def tiers(self) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """Return the tiers of all customers."""
        return self.book.tier[self.book.customer_rows]


@pytest.fixture(scope="module")
def fallen() -> tuple[Venue, list[Legs]]:
    """A crash with liquidations; everything that filled in them."""
    venue = Venue()
    filled = []
    for _, legs in venue.ticks():
        auctioned = legs[(legs["flags"] & int(LegFlag.LIQUIDATION)) != 0]
        for leg in auctioned:
            held = venue.lots(int(leg["account"]), int(leg["instrument"]))
            assert 0 < -leg["lots"] * np.sign(held) <= abs(held), "a liquidation closes, and never turns"
        filled.append(auctioned)
    return venue, filled


def test_liquidated_accounts_recover(fallen: tuple[Venue, list[Legs]]) -> None:
    """Fails where orders do not fill, or where those whose orders fill stay below maintenance."""
    venue, filled = fallen
    left_alone = Venue(liquidations=False)
    for _ in left_alone.ticks():
        pass

    liquidated = np.unique(np.concatenate(filled)["account"])
    rows = np.array([venue.book.row(int(number)) for number in liquidated])
    assert liquidated.shape[0] > 50
    assert (venue.book.tier[rows] < int(Tier.LIQUIDATING)).mean() > 0.7
    assert (venue.tiers() >= int(Tier.TAKEOVER)).sum() < 0.1 * (left_alone.tiers() >= int(Tier.TAKEOVER)).sum()


def test_liquidations_have_two_sides(fallen: tuple[Venue, list[Legs]]) -> None:
    """Fails where positions or cash come from nowhere, or where all of them end at the house, or none."""
    venue, filled = fallen
    sides = np.concatenate(filled)
    book = venue.book
    places = book.positions.places(np.arange(book.rows))

    assert (sides["kind"] == int(LegKind.FILL)).all()
    assert (sides["account"] >= FIRST_ACCOUNT_NUMBER).all()
    assert 0.6 < (sides["counterparty"] == int(HOUSE_NUMBER)).mean() < 0.95
    assert not book.cash.sum(axis=0).any()
    total = np.zeros(len(venue.path.venue.instruments) + 1, np.int64)
    np.add.at(total, book.positions.instrument[places], book.positions.lots[places])
    assert not total.any()


def test_bankrupt_accounts_end_empty() -> None:
    """Fails where the house leaves a bankrupt account with positions, balances or debts."""
    venue = Venue(rate=0.0)
    book = venue.book
    waiting = set(book.customer_rows[::20].tolist())
    for row in waiting:
        book.move_cash(row, DOLLAR, -(10**15))
    coins = [row for row in waiting if book.cash[row, 1:].any()]

    for _ in venue.ticks():
        # Behind its auction an account is as good as any other, and may soon take a part in one.
        emptied = {row for row in waiting if book.positions.count[row] == 0}
        assert not book.cash[list(emptied)].any()
        waiting -= emptied

    assert coins
    assert not waiting


def test_nothing_fills_behind_its_expiry() -> None:
    """Fails where an order that expires at a tick fills at it, or a trade opens what has just been settled."""
    venue = Venue("expiry", hours=1 / 60, open_orders=0.3)
    expired = np.flatnonzero(venue.path.venue.expiry_ns == venue.path.venue.first_expiry_ns)
    book = venue.book
    for row in book.customer_rows[::3].tolist():
        book.move_cash(row, DOLLAR, -(10**13))

    traded: list[tuple[int, Legs]] = [(frame.time_ns, legs) for frame, legs in venue.ticks()]

    places = book.positions.places(np.arange(book.rows))
    told = book.open_orders
    assert told is not None
    assert not np.isin(book.positions.instrument[places], expired).any()
    assert not np.isin(told.instrument[told.places(np.arange(book.rows))], expired).any()
    before = np.concatenate([legs for time_ns, legs in traded if time_ns < venue.path.venue.first_expiry_ns])
    assert np.isin(before["instrument"][before["flags"] == int(LegFlag.LIQUIDATION)], expired).any()


def test_open_orders_raise_initial_margins() -> None:
    """Fails where nobody has orders, more do than the share, they never change, or they do nothing."""
    plain, resting = Venue(), Venue(open_orders=0.3)
    before, after = plain.tiers(), resting.tiers()
    told = resting.book.open_orders
    assert told is not None
    having = told.count[resting.book.customer_rows] > 0

    changes = sum(int((legs["kind"] == int(LegKind.OPEN_ORDERS)).sum()) for _, legs in resting.ticks())

    assert plain.book.open_orders is None
    assert 0.15 < having.mean() <= 0.31
    assert (after >= before).all()
    assert (after > before).any()
    assert not (after > before)[~having].any()
    assert changes > 5
