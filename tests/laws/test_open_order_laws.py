"""Laws of our own models with open orders, over tables that are made up.

1. Initial margin is the largest over all fills where the parts of a requirement share their worst, and never less.
2. Orders never lower it.  3. An account's number depends on nothing but the account.
"""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.margin.model import PositionColumns
from flows.margin.open_orders import initial_with_open_orders
from flows.margin.portfolio import MODEL as PORTFOLIO
from flows.margin.portfolio import PortfolioTables
from flows.margin.standard import MODEL as STANDARD
from flows.margin.standard import StandardTables
from tests.flows.margin.builders import a_book, open_orders
from tests.flows.margin.tables import random_tables, some_tables

SEEDS = st.integers(0, 2**32 - 1)
INSTRUMENTS = 6
Orders = dict[int, tuple[int, int]]
SMALL = st.integers(0, 3)
HELD = st.dictionaries(st.integers(0, INSTRUMENTS - 1), st.integers(-4, 4).filter(bool), max_size=4)
TOLD = st.dictionaries(st.integers(0, INSTRUMENTS - 1), st.tuples(SMALL, SMALL).filter(any), min_size=1, max_size=3)


def _standard_tables(seed: int, *, deep: bool) -> StandardTables:
    rng = np.random.default_rng(seed)
    per_lot = rng.random((INSTRUMENTS, 4)) * 10.0
    per_lot[:, [0, 2]] += per_lot[:, [1, 3]]
    return StandardTables(
        per_lot=per_lot, confidence_charge=np.zeros(INSTRUMENTS), notional=rng.random(INSTRUMENTS) * 50.0,
        group=rng.integers(0, 2, INSTRUMENTS).astype(np.int32), inverse_depth=np.full(2, 0.0 if deep else 0.02),
        concentration_rate=0.1, concentration_cap=0.5,
    )  # fmt: skip


def _positions(*held: dict[int, int]) -> PositionColumns:
    return a_book([[0, 0]] * len(held), list(held)).positions


def _all_fills(held: dict[int, int], told: Orders) -> list[dict[int, int]]:
    """Return every book that fills can make; only what is bought less what is sold matters."""
    books = []
    for fills in product(*(range(-sells, buys + 1) for buys, sells in told.values())):
        book = dict(held)
        for instrument, lots in zip(told, fills, strict=True):
            book[instrument] = book.get(instrument, 0) + lots
        books.append({instrument: lots for instrument, lots in book.items() if lots})
    return books


def _portfolio(tables: PortfolioTables, held: dict[int, int], told: Orders) -> tuple[float, float]:
    """Return initial margin with open orders, and the largest over all fills."""
    books = _all_fills(held, told)
    with_orders = PORTFOLIO.initial_with_open_orders(tables, _positions(held), open_orders([told]), np.array([0]))
    return with_orders[0], PORTFOLIO.requirements(tables, _positions(*books), np.arange(len(books)))[0].max()


def _standard(tables: StandardTables, held: dict[int, int], told: Orders) -> tuple[float, float]:
    books = _all_fills(held, told)
    with_orders = STANDARD.initial_with_open_orders(tables, _positions(held), open_orders([told]), np.array([0]))
    return with_orders[0], STANDARD.requirements(tables, _positions(*books), np.arange(len(books)))[0].max()


@given(seed=SEEDS, held=HELD, told=TOLD, underlyings=st.integers(1, 3), scenarios=st.sampled_from([3, 27, 28, 40]))
@settings(max_examples=80)
def test_scenarios_meet_the_worst_of_all_fills(
    seed: int, held: dict[int, int], told: Orders, underlyings: int, scenarios: int
) -> None:
    """Law 1: exactly the worst, where scenarios are all that is asked."""
    rng = np.random.default_rng(seed)
    group = (np.arange(INSTRUMENTS) % underlyings).tolist()
    tables = some_tables(rng.normal(0.0, 10.0, (INSTRUMENTS, scenarios)), group)

    found, worst = _portfolio(tables, held, told)

    assert found == pytest.approx(worst, rel=1e-12, abs=1e-10)


@given(seed=SEEDS, held=HELD, told=TOLD)
@settings(max_examples=80)
def test_rates_meet_the_worst_of_all_fills(seed: int, held: dict[int, int], told: Orders) -> None:
    """Law 1: exactly the worst, where nothing depends on an underlying's whole."""
    found, worst = _standard(_standard_tables(seed, deep=True), held, told)

    assert found == pytest.approx(worst, rel=1e-12, abs=1e-10)


@given(seed=SEEDS, held=HELD, told=TOLD)
@settings(max_examples=80)
def test_with_every_term_no_fill_needs_more(seed: int, held: dict[int, int], told: Orders) -> None:
    """Law 1: with offsets, contingencies and concentration each at its own worst, never less than the worst fill."""
    tables = random_tables(seed, instruments=INSTRUMENTS, underlyings=3, scenarios=27)

    for found, worst in (
        _portfolio(tables, held, told),
        _standard(_standard_tables(seed, deep=False), held, told),
    ):
        assert found >= worst * (1.0 - 1e-12) - 1e-10


@given(seed=SEEDS, held=st.lists(HELD, min_size=3, max_size=3), told=st.lists(TOLD, min_size=3, max_size=3))
@settings(max_examples=60)
def test_orders_never_lower_and_accounts_stand_alone(seed: int, held: list[dict[int, int]], told: list[Orders]) -> None:
    """Laws 2 and 3, to the bit."""
    portfolio = random_tables(seed, instruments=INSTRUMENTS, underlyings=3, scenarios=30)
    standard = _standard_tables(seed, deep=False)
    positions, orders, rows = _positions(*held), open_orders(told), np.arange(3)

    for without, found, alone in (
        (
            PORTFOLIO.requirements(portfolio, positions, rows)[0],
            PORTFOLIO.initial_with_open_orders(portfolio, positions, orders, rows),
            [PORTFOLIO.initial_with_open_orders(portfolio, positions, orders, np.array([row]))[0] for row in (2, 0, 1)],
        ),
        (
            STANDARD.requirements(standard, positions, rows)[0],
            STANDARD.initial_with_open_orders(standard, positions, orders, rows),
            [STANDARD.initial_with_open_orders(standard, positions, orders, np.array([row]))[0] for row in (2, 0, 1)],
        ),
    ):
        assert (found >= without).all()
        assert [found[2], found[0], found[1]] == alone


class _Silent:
    """Our model without its own answer."""

    name = "tidegate-portfolio"
    tables = PORTFOLIO.tables
    requirements = PORTFOLIO.requirements


def test_three_books_would_miss_what_loses_together() -> None:
    """The control: a buy of one and a sale of another lose in the same fall, and no one of three books has both."""
    # Long lots of the first and short lots of the second lose 5 and 4 in the first scenario.
    tables = replace(some_tables(np.array([[-5.0, 5.0], [4.0, -4.0]]), [0, 0]), initial_factor=1.0)
    told = {0: (10, 0), 1: (0, 10)}

    found, worst = _portfolio(tables, {}, told)
    general = initial_with_open_orders(
        _Silent(), tables, _positions({}), open_orders([told]), np.array([0]), np.zeros(1)
    )

    assert found == worst == 90.0
    assert general[0] == 50.0
