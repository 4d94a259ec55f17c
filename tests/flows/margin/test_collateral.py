"""Equity: nets by asset, haircuts, isolation, and what cannot be known."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from flows.margin.collateral import account_greeks, equity, undecidable
from flows.market.instant import Instant
from tests.flows.margin.builders import RandomBook, a_book


def _instant(**changes: object) -> Instant:
    """Two instruments settled in asset 0, one in asset 1; prices 1 and 50,000; haircuts 0 and 20 %."""
    fields: dict[str, object] = {
        "value": np.array([10.0, 20.0, -0.5]),
        "value_decidable": np.ones(3, np.bool_),
        "settlement_asset": np.array([0, 0, 1], np.uint16),
        "asset_price": np.array([1.0, 50_000.0]),
        "asset_decidable": np.ones(2, np.bool_),
        "asset_unit": np.array([1e-2, 1e-8]),
        "haircut": np.array([0.0, 0.2]),
        "greeks": np.arange(15.0).reshape(3, 5),
    }
    fields.update(changes)
    return cast(Instant, SimpleNamespace(**fields))


def _equity(book: RandomBook, instant: Instant | None = None) -> list[float]:
    rows = np.arange(book.cash.shape[0])
    values: list[float] = equity(instant or _instant(), book.cash, book.positions, book.isolated, rows).tolist()
    return values


def test_cash_and_positions_of_one_asset_are_one_net() -> None:
    """A short's debt eats its own cash before any haircut."""
    book = a_book([[100_00, 0], [0, 2 * 10**8]], [{0: -3, 1: 2}, {2: 2}])

    assert _equity(book) == pytest.approx([100.0 - 30.0 + 40.0, (2.0 - 1.0) * 50_000.0 * 0.8])


def test_a_haircut_spares_debts() -> None:
    """Taking 20 % off a debt would be a present."""
    assert _equity(a_book([[0, -(10**8)]], [{}])) == [-50_000.0]


def test_an_isolated_account_counts_only_what_its_positions_settle_in() -> None:
    """Its BTC stands aside while it holds dollar contracts; its BTC debt does not."""
    holdings: list[dict[int, int]] = [{0: 1}, {0: 1}, {}]
    book = a_book([[100_00, 10**8], [100_00, -(10**8)], [100_00, 10**8]], holdings, [True] * 3)

    assert _equity(book) == [110.0, 110.0 - 50_000.0, 100.0 + 40_000.0]


def test_a_book_with_fewer_asset_columns_than_assets_has_no_balance_in_the_rest() -> None:
    """An asset can be listed before any account holds it; its positions still settle."""
    book = a_book([[100_00]], [{2: -1}])

    assert _equity(book) == [100.0 + 0.5 * 50_000.0 * 0.8]


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, [False, False, False]),
    ({"value_decidable": np.array([True, False, True])}, [True, False, False]),
    ({"asset_decidable": np.array([True, False])}, [False, True, False]),
])  # fmt: skip
def test_an_account_waits_for_what_it_holds_and_nothing_else(changes: dict[str, object], expected: list[bool]) -> None:
    """A stale feed stops those whom it concerns."""
    book = a_book([[1, 0], [0, -1], [5, 0]], [{0: 1, 1: -1}, {0: 1}, {}])

    assert undecidable(_instant(**changes), book.cash, book.positions, np.arange(3)).tolist() == expected


def test_greeks_are_sums_of_lots_times_greeks() -> None:
    """Signs follow the lots."""
    book = a_book([[0, 0]], [{0: 2, 2: -1}])

    got = account_greeks(_instant(), book.positions, np.array([0]))

    assert got.tolist() == [[2.0 * g - (10.0 + g) for g in range(5)]]
