"""The columnar book against a plain dictionary of accounts (invariants of flows/risk/book.py)."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.market.listings import Account
from flows.risk.book import Book, BookOverflow, UnknownAccountNumber
from flows.settlement.netting import summed
from schemas.checkpoint import CheckpointError
from schemas.ids import BRIDGE_NUMBER, FEES_NUMBER, FIRST_ACCOUNT_NUMBER, HOUSE_NUMBER, shard_of
from schemas.instruments import MarginMode
from schemas.ledger import NO_INSTRUMENT, LegFlag, LegKind, Legs, empty_legs

MODELS = ("tidegate-standard", "tidegate-portfolio")
ACCOUNTS = 12
ASSETS = 2
INSTRUMENTS = 9


def a_book(shards: range, shard_count: int) -> Book:
    book = Book(shards, shard_count=shard_count, models=MODELS)
    for _ in range(ASSETS):
        book.add_asset()
    for i in range(ACCOUNTS):
        number = FIRST_ACCOUNT_NUMBER + i
        mode = MarginMode.ISOLATED if i % 3 == 0 else MarginMode.CROSS
        book.add_account(Account(number, f"account-{i}", MODELS[i % 2], mode))
    return book


def some_legs(operations: list[tuple[int, int, int, int, int, int]]) -> Legs:
    """Turn (buyer, seller, instrument, lots, cash, fee) into pairs of legs; equal numbers make a transfer."""
    rows: list[tuple[int, ...]] = []
    for buyer, seller, instrument, lots, cash, fee in operations:
        first, second = FIRST_ACCOUNT_NUMBER + buyer, FIRST_ACCOUNT_NUMBER + seller
        if buyer == seller:
            rows.append((LegKind.TRANSFER, 0, instrument % ASSETS, first, BRIDGE_NUMBER, NO_INSTRUMENT, 0, cash, 0))
            continue
        if seller == ACCOUNTS - 1:
            second = HOUSE_NUMBER
        rows.append((LegKind.FILL, LegFlag.BUYER, 0, first, second, instrument, lots, -cash, fee))
        rows.append((LegKind.FILL, 0, 0, second, first, instrument, -lots, cash, -fee // 2))
    legs = empty_legs(len(rows))
    for i, row in enumerate(rows):
        for name, value in zip(
            ("kind", "flags", "asset", "account", "counterparty", "instrument", "lots", "cash", "fee"), row, strict=True
        ):
            legs[name][i] = value
    return legs


class PlainBook:
    """The same rules, one dictionary entry an amount."""

    def __init__(self) -> None:
        self.amounts: dict[tuple[int, int, int], int] = defaultdict(int)

    def apply(self, legs: Legs) -> None:
        """Book legs one by one."""
        for leg in legs:
            account, asset = int(leg["account"]), int(leg["asset"])
            if leg["kind"] == LegKind.FILL:
                self.amounts[account, 1, int(leg["instrument"])] += int(leg["lots"])
                self.amounts[account, 0, asset] += int(leg["cash"]) - int(leg["fee"])
                self.amounts[int(FEES_NUMBER), 0, asset] += int(leg["fee"])
            else:
                self.amounts[account, 0, asset] += int(leg["cash"])
                self.amounts[int(BRIDGE_NUMBER), 0, asset] -= int(leg["cash"])


def amounts_of(book: Book) -> dict[tuple[int, int, int], int]:
    amounts: dict[tuple[int, int, int], int] = defaultdict(int)
    positions = book.positions
    for row in range(book.rows):
        number = int(book.account[row])
        for asset in range(book.assets):
            amounts[number, 0, asset] += int(book.cash[row, asset])
        held = positions.instrument[positions.offset[row] : positions.offset[row] + positions.count[row]]
        assert (np.diff(held.astype(np.int64)) > 0).all(), "positions rise by instrument"
        for place in range(int(positions.offset[row]), int(positions.offset[row] + positions.count[row])):
            assert positions.lots[place] != 0, "no empty position is kept"
            amounts[number, 1, int(positions.instrument[place])] += int(positions.lots[place])
    return {key: value for key, value in amounts.items() if value}


operation = st.tuples(
    st.integers(0, ACCOUNTS - 2),
    st.integers(0, ACCOUNTS - 1),
    st.integers(0, INSTRUMENTS - 1),
    st.integers(-5, 5).filter(bool),
    st.integers(-(10**6), 10**6),
    st.integers(-50, 100),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(operation, max_size=80), st.integers(0, 80), st.sampled_from([1, 4, 16]))
def test_book_equals_a_dictionary_even_when_dumped_midway(
    operations: list[tuple[int, int, int, int, int, int]], cut: int, shard_count: int
) -> None:
    """Columns, slabs and parts change nothing: amounts, deltas and conservation are those of plain addition."""
    book = a_book(range(shard_count), shard_count)
    plain = PlainBook()
    first, second = some_legs(operations[:cut]), some_legs(operations[cut:])

    book.apply(first, book.rows_of(first))
    deltas = [book.take_deltas()]
    book = Book.restore(
        [book.dump_shard(shard) for shard in reversed(range(shard_count))], shard_count=shard_count, models=MODELS
    )
    book.apply(second, book.rows_of(second))
    deltas.append(book.take_deltas())
    for legs in (first, second):
        plain.apply(legs)

    expected = {key: value for key, value in plain.amounts.items() if value}
    assert amounts_of(book) == expected
    total = summed(deltas)
    assert {(int(d["account"]), int(d["kind"]), int(d["market"])): int(d["amount"]) for d in total} == expected
    for kind, market in {(kind, market) for _, kind, market in expected}:
        assert sum(value for key, value in expected.items() if key[1:] == (kind, market)) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(operation, max_size=60))
def test_state_hash_is_a_sum_over_accounts(operations: list[tuple[int, int, int, int, int, int]]) -> None:
    """One process or one a shard: the hashes add up to the same (law 2 of the state hash)."""
    whole = a_book(range(4), 4)
    legs = some_legs(operations)

    whole.apply(legs, whole.rows_of(legs))
    parts = [a_book(range(shard, shard + 1), 4) for shard in range(4)]
    for shard, part in enumerate(parts):
        own = [
            i
            for i, leg in enumerate(legs)
            if shard_of(f"account-{max(int(leg['account']), int(leg['counterparty'])) - FIRST_ACCOUNT_NUMBER}"
                        if min(int(leg["account"]), int(leg["counterparty"])) < FIRST_ACCOUNT_NUMBER
                        else f"account-{int(leg['account']) - FIRST_ACCOUNT_NUMBER}", 4) == shard
        ]  # fmt: skip
        part.apply(legs[own], part.rows_of(legs[own]))

    hashes = [part.update_state_hash() for part in parts]
    total = tuple(sum(h[half] for h in hashes) % 2**64 for half in range(2))
    assert total == whole.update_state_hash()


def test_a_different_position_gives_a_different_hash() -> None:
    """The control of the hash law: it is not constant."""
    hashes = set()

    for lots in (1, 2, -1):
        book = a_book(range(1), 1)
        legs = some_legs([(0, 1, 3, lots, 5, 0)])
        book.apply(legs, book.rows_of(legs))
        hashes.add(book.update_state_hash())

    assert len(hashes) == 3


def test_overflow_halts_and_never_wraps() -> None:
    """Two deposits that fit alone and not together raise at the second (invariant 4)."""
    book = a_book(range(1), 1)
    legs = some_legs([(0, 0, 0, 1, 2**62, 0), (0, 0, 0, 1, 2**62, 0)])

    with pytest.raises(BookOverflow, match="64 bits"):
        book.apply(legs, book.rows_of(legs))

    assert int(book.cash[book.row(FIRST_ACCOUNT_NUMBER), 0]) == 2**62


def test_a_leg_of_an_unopened_account_is_a_broken_ledger() -> None:
    """Booking must not fall on some other row."""
    book = a_book(range(1), 1)
    legs = some_legs([(0, 1, 0, 1, 1, 0)])
    legs["account"][0] = 10_000

    with pytest.raises(UnknownAccountNumber, match="10000"):
        book.rows_of(legs)


def test_funding_of_zero_sum_positions_is_zero_sum_and_expiry_closes_them() -> None:
    """A payment per lot conserves cash exactly, and a closing one leaves no position."""
    book = a_book(range(4), 4)
    legs = some_legs([(0, 1, 2, 5, 100, 0), (2, 3, 2, 3, 70, 0), (4, ACCOUNTS - 1, 2, 2, 9, 0)])
    book.apply(legs, book.rows_of(legs))

    _, lots, units = book.pay(2, 0, 7, closes=False)
    _, closed, paid = book.pay(2, 0, -3, closes=True)

    assert int(lots.sum()) == int(units.sum()) == int(closed.sum()) == int(paid.sum()) == 0
    assert not (np.abs(units) != 7 * np.abs(lots)).any()
    assert all(key[1] == 0 for key in amounts_of(book)), "only cash is left"
    assert int(book.take_deltas()["amount"].sum()) == 0


@pytest.mark.parametrize("damage", ["flip", "truncate", "twice", "empty"])
def test_a_damaged_shard_checkpoint_is_refused(damage: str) -> None:
    """No byte of a checkpoint is used before it is known to be whole."""
    book = a_book(range(2), 2)
    dumps = [book.dump_shard(0), book.dump_shard(1)]
    if damage == "flip":
        dumps[0] = dumps[0][:100] + bytes([dumps[0][100] ^ 1]) + dumps[0][101:]
    elif damage == "truncate":
        dumps[0] = dumps[0][:-1]
    elif damage == "twice":
        dumps[1] = dumps[0]
    else:
        dumps[0] = b""

    with pytest.raises(CheckpointError):
        Book.restore(dumps, shard_count=2, models=MODELS)


def test_a_liquidation_fill_fills_the_open_order_and_a_turn_cancels_it() -> None:
    """An order never outlives its position, and never adds to one."""
    book = a_book(range(1), 1)
    legs = some_legs([(0, 1, 2, 5, 100, 0)])
    book.apply(legs, book.rows_of(legs))
    row = book.row(FIRST_ACCOUNT_NUMBER)
    place = int(book.positions.offset[row])
    book.order_lots[place] = -4
    book.order_count[row] = 1

    fill = some_legs([(0, 1, 2, -3, -60, 0)])
    fill["flags"] |= int(LegFlag.LIQUIDATION)
    book.apply(fill, book.rows_of(fill))
    left = int(book.order_lots[place])
    turn = some_legs([(0, 1, 2, -9, -60, 0)])
    book.apply(turn, book.rows_of(turn))

    assert left == -1
    assert book.take_orphans() == [(row, 2, -1)]
    assert int(book.order_count[row]) == 0
