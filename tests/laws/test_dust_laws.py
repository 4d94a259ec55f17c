"""Rounding under repetition: ten million operations of one unit and one lot, against exact rational sums.

1. Fees, transfers, and fills of an instrument whose lot at a tick is a whole number of units, are exact: no repetition
   of them moves an account from its exact sum.
2. Funding carries its rounding, so that after any number of payments an account is within half a unit for each lot.
3. A fill that is not a whole number of units is rounded half-even once, for both sides: no venue account pays for it,
   customers together have their exact sum, and each side is within half a unit for each fill.
4. A requirement in parts is never below the requirement of the whole, nor a payout in parts above that of the whole.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
import pytest

from flows.market.listings import Account
from flows.market.payments import funding_units
from flows.risk.book import Book
from schemas.ids import BRIDGE_NUMBER, FEES_NUMBER, FIRST_ACCOUNT_NUMBER
from schemas.instruments import MarginMode
from schemas.ledger import NO_INSTRUMENT, LegFlag, LegKind, Legs, empty_legs
from schemas.money import half_even, payout, requirement

TRADERS: Final = 200
DECIMALS: Final = 6
USDC: Final = 0
HELD, TRADED = 0, 1
# Rounds of the same 30,000 fills and 20,000 transfers, and funding payments to every holder.
ROUNDS: Final = 160
FILLS: Final = 30_000
TRANSFERS: Final = 20_000
PAYMENTS: Final = 10_000

# Both sides' cash for one lot at each price in ticks: (what the buyer pays, what the seller receives).
Sides = tuple[int, int]
CashOf = Callable[[int, int], Sides]
FundingOf = Callable[[float, Fraction, int, Fraction], tuple[int, Fraction]]


def rounded_once(numerator: int, denominator: int) -> Sides:
    """Round as intake does: one integer for both sides."""
    cash = half_even(numerator, denominator)
    return cash, cash


@dataclass(frozen=True)
class History:
    """What traders have above their exact sums, as numerators of ``denominator``; what the venue's accounts have."""

    gains: np.ndarray
    denominator: int
    fees: int
    fees_told: int
    bridge: int
    bridge_told: int
    fills: np.ndarray


def a_book() -> Book:
    """Return a book in which every other trader is long one lot of ``HELD``, and the next one short."""
    book = Book(range(1), shard_count=1, models=("tidegate-standard",))
    book.add_asset()
    for i in range(TRADERS):
        number = FIRST_ACCOUNT_NUMBER + i
        book.add_account(Account(number, f"trader-{i}", "tidegate-standard", MarginMode.CROSS))
    sides = np.arange(TRADERS)
    book_legs(book, fills_between(sides[::2], sides[1::2], HELD, np.zeros((TRADERS // 2, 2), np.int64), fee=0))
    return book


def fills_between(buyer: np.ndarray, seller: np.ndarray, instrument: int, cash: np.ndarray, *, fee: int) -> Legs:
    """Return one-lot fills; ``cash`` is (n, 2), what each buyer pays and each seller receives."""
    legs = empty_legs(2 * buyer.shape[0])
    for side, (own, other, sign) in enumerate(((buyer, seller, 1), (seller, buyer, -1))):
        part = legs[side::2]
        part["kind"], part["flags"] = LegKind.FILL, LegFlag.BUYER if sign > 0 else 0
        part["account"], part["counterparty"] = FIRST_ACCOUNT_NUMBER + own, FIRST_ACCOUNT_NUMBER + other
        part["instrument"], part["lots"], part["cash"], part["fee"] = instrument, sign, -sign * cash[:, side], fee
    return legs


def transfers_of(trader: np.ndarray, units: np.ndarray) -> Legs:
    """Return deposits and withdrawals."""
    legs = empty_legs(trader.shape[0])
    legs["kind"], legs["instrument"], legs["cash"] = LegKind.TRANSFER, NO_INSTRUMENT, units
    legs["account"], legs["counterparty"] = FIRST_ACCOUNT_NUMBER + trader, BRIDGE_NUMBER
    return legs


def book_legs(book: Book, legs: Legs) -> None:
    """Book a frame's legs, and forget the period's changes."""
    book.apply(legs, book.rows_of(legs))
    book.take_deltas()


def dust(
    *,
    numerator: int,
    denominator: int,
    rounds: int = 10,
    payments: int = 1_000,
    cash_of: CashOf = rounded_once,
    funding_of: FundingOf = funding_units,
) -> History:
    """Run one-lot fills of ``numerator / denominator`` units a tick, their fees, transfers and funding."""
    rng = np.random.default_rng(11)
    book = a_book()
    ticks = rng.integers(1, 50, FILLS)
    # The first trader only buys, at the price whose rounding serves a buyer best, and the second only sells to others.
    rest = np.array([float(Fraction(numerator * tick, denominator) % 1) for tick in range(50)])
    buyer = rng.integers(2, TRADERS, FILLS)
    seller = (buyer - 1 + rng.integers(1, TRADERS - 2, FILLS)) % (TRADERS - 2) + 2
    buyer[: FILLS // 10] = 0
    ticks[: FILLS // 10] = 1 + int(np.argmax(np.where(rest[1:] < 0.5, rest[1:], 0.0)))
    seller[FILLS // 10 : FILLS // 5] = 1
    table = np.array([cash_of(numerator * tick, denominator) for tick in range(50)])
    traders, units = rng.integers(0, TRADERS, TRANSFERS), rng.choice([-1, 1], TRANSFERS)
    legs = np.concatenate([fills_between(buyer, seller, TRADED, table[ticks], fee=1), transfers_of(traders, units)])
    rows = book.rows_of(legs)
    for _ in range(rounds):
        book.apply(legs, rows)
        book.take_deltas()

    owed, residual = Fraction(0), Fraction(0)
    for steps in rng.choice([1, 3, -1], payments).tolist():
        rate = Fraction(steps, 10**10)
        # Two thousandths of a unit a lot.
        paid, residual = funding_of(20.0, rate, DECIMALS, residual)
        owed -= 20 * rate * 10**DECIMALS
        book.pay(HELD, USDC, paid, closes=False)
        book.take_deltas()

    exact: np.ndarray = np.zeros(TRADERS, np.int64)
    np.add.at(exact, buyer, -(numerator * ticks + denominator))
    np.add.at(exact, seller, numerator * ticks - denominator)
    np.add.at(exact, traders, denominator * units)
    cash = book.cash[[book.row(FIRST_ACCOUNT_NUMBER + i) for i in range(TRADERS)], USDC]
    funding = np.where(np.arange(TRADERS) % 2 == 0, 1, -1) * float(owed)
    counts = np.bincount(buyer, minlength=TRADERS) + np.bincount(seller, minlength=TRADERS)
    return History(
        gains=denominator * cash - rounds * exact - denominator * funding,
        denominator=denominator,
        fees=int(book.cash[FEES_NUMBER, USDC]),
        fees_told=2 * FILLS * rounds,
        bridge=int(book.cash[BRIDGE_NUMBER, USDC]),
        bridge_told=-int(units.sum()) * rounds,
        fills=counts * rounds,
    )


def assert_within_half_a_unit_a_lot(history: History) -> None:
    """Hold laws 1 and 2: one lot is held, so half a unit is all that repetition may move."""
    assert np.abs(history.gains).max() <= 0.5 * history.denominator * (1.0 + 1e-9)
    assert (history.fees, history.bridge) == (history.fees_told, history.bridge_told)


def assert_between_customers(history: History) -> None:
    """Hold law 3: what one side has too much, another has too little, and the venue's accounts are as told."""
    assert abs(float(history.gains.sum())) < 1e-3
    assert (np.abs(history.gains) <= 0.5 * history.denominator * (history.fills + 1)).all()
    assert (history.fees, history.bridge) == (history.fees_told, history.bridge_told)


def test_ten_million_dust_operations_move_no_account_from_its_exact_sum() -> None:
    """Laws 1 and 2: a rounding that leans to one side would have moved an account by up to a million units."""
    assert ROUNDS * (FILLS + TRANSFERS) + PAYMENTS * TRADERS == 10_000_000

    assert_within_half_a_unit_a_lot(dust(numerator=5, denominator=1, rounds=ROUNDS, payments=PAYMENTS))


def test_fills_of_parts_of_a_unit_cost_the_venue_nothing() -> None:
    """Law 3: the buyer who picks his price gains from who sells to him, by at most half a unit a fill."""
    history = dust(numerator=3, denominator=7, rounds=10)

    assert_between_customers(history)
    # It is not nothing, and the test says so: 3 / 7 of a unit a fill, of those who agreed to that price.
    assert history.gains[0] == pytest.approx(3.0 * FILLS / 10 * 10, rel=1e-3)


def _forgetful(value: float, rate: Fraction, decimals: int, _residual: Fraction) -> tuple[int, Fraction]:
    return funding_units(value, rate, decimals, Fraction(0))


def _receiver_first(value: float, rate: Fraction, decimals: int, _residual: Fraction) -> tuple[int, Fraction]:
    return requirement(-Fraction(value) * rate * 10**decimals), Fraction(0)


@pytest.mark.parametrize("funding_of", [_forgetful, _receiver_first])
def test_funding_that_forgets_its_rounding_is_seen(funding_of: FundingOf) -> None:
    """The control of law 2: rounded by itself, or for who receives, each payment leaves something behind."""
    with pytest.raises(AssertionError):
        assert_within_half_a_unit_a_lot(dust(numerator=5, denominator=1, funding_of=funding_of))


def test_a_rounding_in_favour_of_each_side_is_seen() -> None:
    """The control of law 3: the buyer pays less and the seller receives more, out of nothing."""
    history = dust(
        numerator=3, denominator=7, cash_of=lambda n, d: (payout(Fraction(n, d)), requirement(Fraction(n, d)))
    )

    with pytest.raises(AssertionError):
        assert_between_customers(history)


def test_parts_of_a_requirement_cover_it_and_parts_of_a_payout_do_not_exceed_it() -> None:
    """Law 4, on ten thousand splits of one amount into dust; rounded the other way both would fail."""
    rng = np.random.default_rng(5)
    parts = [
        Fraction(int(n), int(d)) for n, d in zip(rng.integers(1, 50, 10_000), rng.integers(1, 50, 10_000), strict=True)
    ]
    whole = sum(parts, Fraction(0))

    assert sum(requirement(part) for part in parts) >= requirement(whole)
    assert sum(payout(part) for part in parts) <= payout(whole)
    assert sum(payout(part) for part in parts) < requirement(whole) < sum(requirement(part) for part in parts)
