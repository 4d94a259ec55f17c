"""Open orders in the book and in its decisions (invariants of flows/risk/open_orders.py)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.pipeline import run_plain
from flows.risk.book import Book, BookOverflow
from flows.risk.evaluation import evaluate
from flows.risk.stage import LocalRisk
from schemas.events import Event
from schemas.ids import FIRST_ACCOUNT_NUMBER
from schemas.ledger import LegFlag, LegKind, Legs, empty_legs
from schemas.results import ResultKind, Tier
from tests.builders import (
    EXPIRY_NS,
    SECOND_NS,
    TIME_NS,
    a_fill,
    a_forward,
    a_future,
    a_price,
    a_settlement_price,
    a_venue,
    a_withdrawal,
    an_option,
    open_orders,
)
from tests.flows.risk.test_book import ACCOUNTS, MODELS, a_book, some_legs
from tests.flows.running import Published, arrivals, batches_of, run, some_stages

Told = list[tuple[int, int, bool, int]]
told = st.lists(
    st.tuples(st.integers(0, ACCOUNTS - 1), st.integers(0, 30), st.booleans(), st.integers(0, 3)), max_size=150
)


def legs_of(orders: Told) -> Legs:
    """Return (account, instrument, is a buy, lots) as legs."""
    legs = empty_legs(len(orders))
    for leg, (account, instrument, is_buy, lots) in zip(legs, orders, strict=True):
        leg["kind"], leg["flags"] = int(LegKind.OPEN_ORDERS), int(LegFlag.BUYER) if is_buy else 0
        leg["account"], leg["instrument"], leg["lots"] = FIRST_ACCOUNT_NUMBER + account, instrument, lots
    return legs


def tell(book: Book, orders: Told) -> None:
    """Book open orders."""
    legs = legs_of(orders)
    book.apply(legs, book.rows_of(legs))


def orders_of(book: Book) -> dict[tuple[int, int], tuple[int, int]]:
    """Return what is open, by account number and instrument."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    columns = book.open_orders
    if columns is None:
        return found
    for row in range(book.rows):
        place = range(int(columns.offset[row]), int(columns.offset[row] + columns.count[row]))
        instruments = [int(columns.instrument[p]) for p in place]
        assert instruments == sorted(set(instruments)), "open orders rise by instrument"
        for p in place:
            found[int(book.account[row]), int(columns.instrument[p])] = int(columns.buys[p]), int(columns.sells[p])
    assert all(any(lots) for lots in found.values()), "nothing is kept of an instrument in which nothing is open"
    return found


@settings(max_examples=80, deadline=None)
@given(first=told, second=told, ended=st.sets(st.integers(0, 30)))
def test_open_orders_are_those_told_last_even_when_dumped_midway(first: Told, second: Told, ended: set[int]) -> None:
    """Fails where a side is lost, given to a neighbour, survives its end, or is not in a checkpoint."""
    shards = 4
    book = a_book(range(shards), shards)
    plain: dict[tuple[int, int], list[int]] = {}

    tell(book, first)
    changed = book.end_open_orders(np.isin(np.arange(31), list(ended)))
    book.take_deltas()
    hashes = book.update_state_hash()
    dumps = [book.dump_shard(shard) for shard in range(shards)]
    restored = Book.restore(dumps, shard_count=shards, models=MODELS)
    same = (restored.state_hash[0], restored.state_hash[1]) == hashes
    tell(restored, second)
    for orders in (first, second):
        for account, instrument, is_buy, lots in orders:
            plain.setdefault((FIRST_ACCOUNT_NUMBER + account, instrument), [0, 0])[0 if is_buy else 1] = lots
        if orders is first:
            dropped = {key[0] for key, left in plain.items() if any(left) and key[1] in ended}
            plain = {key: left for key, left in plain.items() if key[1] not in ended}

    assert orders_of(restored) == {key: tuple(left) for key, left in plain.items() if any(left)}
    assert {int(number) for number in book.account[changed]} == dropped
    assert same


def test_orders_change_the_state_hash_and_their_end_gives_the_old_one_back() -> None:
    """Fails where a run without open orders has another hash than before they existed, or where they are left out."""
    book = a_book(range(1), 1)
    legs = some_legs([(0, 1, 3, 5, 5, 0)])
    book.apply(legs, book.rows_of(legs))
    hashes = [book.update_state_hash()]

    for orders in ([(0, 4, True, 5)], [(0, 4, True, 0), (0, 4, False, 5)], [(0, 4, False, 0)]):
        tell(book, orders)
        hashes.append(book.update_state_hash())

    assert hashes[3] == hashes[0]
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("first", ["fill", "order"])
@pytest.mark.parametrize("side", [1, -1])
def test_a_position_that_would_overflow_by_a_fill_halts(first: str, side: int) -> None:
    """Fails where a margin model would add lots that wrap; whether the order or the position came last."""
    book = a_book(range(1), 1)
    buyer, seller = (0, 1) if side > 0 else (1, 0)
    fill = some_legs([(buyer, seller, 2, 2**62, 0, 0)])
    orders = legs_of([(0, 2, side > 0, 2**62)])
    legs = np.concatenate((fill, orders) if first == "fill" else (orders, fill))

    with pytest.raises(BookOverflow, match="open order"):
        book.apply(legs, book.rows_of(legs))


def test_open_orders_move_nothing() -> None:
    """Fails where telling of orders touches a balance, a position or a delta."""
    book = a_book(range(1), 1)

    tell(book, [(0, 2, True, 7), (1, 2, False, 3)])

    assert not book.cash.any() and not book.positions.count.any()
    assert book.take_deltas().shape[0] == 0


# -- decisions: alice has 10,000 USDC, of which 8,000 count, and BTC-PERP at 50,000 needs a tenth ----------------------

LATER = TIME_NS + SECOND_NS


def _tiers(published: Published) -> list[Tier]:
    changes = published.of(ResultKind.TIER_CHANGED)
    return [Tier(row["tier_to"]) for row in changes[changes["account"] == FIRST_ACCOUNT_NUMBER]]


@pytest.mark.parametrize(("buys", "sells"), [("2", "0"), ("0", "2"), ("2", "2")])
def test_an_order_beyond_free_margin_is_seen_at_once(buys: str, sells: str) -> None:
    """Fails where an account is not decided in the frame of its orders, or where its orders do not count."""
    published = run([*a_venue(), open_orders(buys, sells, time_ns=LATER)])

    (change,) = published.of(ResultKind.TIER_CHANGED)
    assert Tier(change["tier_to"]) is Tier.WARNING
    assert int(change["time_ns"]) == LATER
    assert change["initial_margin"] > change["equity"] > change["maintenance_margin"] == 0.0


def test_open_orders_never_liquidate() -> None:
    """Fails where maintenance margin sees what has not traded."""
    published = run([*a_venue(), open_orders("1000", time_ns=LATER), a_price("40000", number=9, time_ns=LATER + 1)])

    assert _tiers(published) == [Tier.WARNING]
    assert published.of(ResultKind.ORDER_OPENED).shape[0] == 0


def test_what_is_told_last_counts() -> None:
    """Fails where an earlier order is added to, or where none open leaves one."""
    published = run(
        [
            *a_venue(),
            open_orders("2", number=1, time_ns=LATER),
            open_orders("0.1", number=2, time_ns=LATER + 1),
            open_orders("2", number=3, time_ns=LATER + SECOND_NS),
            open_orders("0", number=4, time_ns=LATER + 2 * SECOND_NS),
        ]
    )

    assert _tiers(published) == [Tier.WARNING, Tier.HEALTHY]
    assert published.dead_letters == []


def test_a_fill_changes_no_open_order() -> None:
    """Fails where the book guesses what is left: the venue says it, here a moment later."""
    events: list[Event] = [*a_venue(), open_orders("0.1", time_ns=LATER), a_fill(quantity="0.1", time_ns=LATER + 1)]
    before = _evaluation(events)

    after = _evaluation([*events, open_orders("0", number=2, time_ns=LATER + 2)])

    assert before.initial_margin[0] == pytest.approx(2.0 * after.initial_margin[0])
    assert before.maintenance_margin[0] == after.maintenance_margin[0]
    assert before.equity[0] == after.equity[0]


def _evaluation(events: list[Event]) -> Any:
    stages = some_stages()
    run_plain(batches_of(arrivals(events), 1_000), stages, Published().take)
    assert isinstance(stages.risk, LocalRisk)
    risk = stages.risk.risk
    assert risk.instant is not None
    return evaluate(risk.book, risk.instant, risk.book.customer_rows, risk.models)


@pytest.mark.parametrize(("told_first", "accepted"), [(True, False), (False, True)])
def test_a_withdrawal_is_decided_with_the_orders_of_its_place(told_first: bool, accepted: bool) -> None:
    """Fails where the order within a frame is lost: 1.2 BTC need 6,006 of the 8,000 that count.

    6,000 are a tenth of their notional, and 6 are the confidence of a price that is sure to 5 in 50,000.
    """
    order = open_orders("1.2", time_ns=LATER + (0 if told_first else 2))
    request = a_withdrawal("5000", time_ns=LATER + 1)

    published = run([*a_venue(), *((order, request) if told_first else (request, order))])

    kind = ResultKind.WITHDRAWAL_ACCEPTED if accepted else ResultKind.WITHDRAWAL_REFUSED
    assert published.of(kind).shape[0] == 1
    assert published.of(kind)["initial_margin"].tolist() == [6_006.0 if told_first else 0.0]


@pytest.mark.parametrize("ordered", [True, False])
def test_nothing_leaves_while_an_open_order_has_no_price(ordered: bool) -> None:
    """Fails where an account could hide what it needs behind an instrument that nobody has priced yet."""
    events: list[Event] = [*a_venue(), an_option()]
    if ordered:
        events.append(open_orders("1", instrument="BTC-20MAR26-50000-C", time_ns=LATER))

    published = run([*events, a_withdrawal("1", time_ns=LATER + 1)])

    kind = ResultKind.WITHDRAWAL_REFUSED if ordered else ResultKind.WITHDRAWAL_ACCEPTED
    assert published.of(kind).shape[0] == 1
    assert published.of(ResultKind.DECISION_SUSPENDED).shape[0] == 0, "a trader could put off its own liquidation"


@pytest.mark.parametrize("settles", [True, False])
def test_orders_end_with_their_instrument(settles: bool) -> None:
    """Fails where orders outlive the expiry, whether or not it has been settled."""
    events: list[Event] = [
        *a_venue(), a_future(), a_forward("50000", expiry_ns=EXPIRY_NS),
        open_orders("2", instrument="BTC-20MAR26", time_ns=LATER),
    ]  # fmt: skip
    if settles:
        events.append(a_settlement_price("50000", time_ns=EXPIRY_NS))

    behind: dict[str, Any] = {"time_ns": EXPIRY_NS + SECOND_NS, "publish_time_ns": EXPIRY_NS + SECOND_NS}

    published = run(
        [*events, a_price(number=98, **behind), a_price("1", feed="USDC/USD", confidence="0", number=99, **behind)]
    )

    changes = published.of(ResultKind.TIER_CHANGED)
    assert Tier(changes["tier_to"][0]) is Tier.WARNING
    assert Tier(changes["tier_to"][-1]) is Tier.HEALTHY
    assert int(changes["time_ns"][-1]) >= EXPIRY_NS
