"""Initial margin with open orders, for models that do not say themselves what the worst fills are."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.margin.model import Float64Array, Int64Array, OpenOrders, PositionColumns
from flows.margin.open_orders import initial_with_open_orders
from flows.margin.registry import margin_models
from tests.flows.margin.builders import MODELS, a_book, a_market, open_orders

INSTALLED = margin_models()
MARKET, INSTANT = a_market()
CALL, PERPETUAL = 4, MARKET.columns.count - 1
SMALL = st.integers(0, 40)
BOOKS = st.dictionaries(st.integers(0, MARKET.columns.count - 1), st.integers(-40, 40).filter(bool), max_size=5)
ORDERS = st.dictionaries(
    st.integers(0, MARKET.columns.count - 1), st.tuples(SMALL, SMALL).filter(any), min_size=1, max_size=5
)


class Without:
    """A margin model with nothing to say about open orders, whatever the one that it wraps says."""

    def __init__(self, name: str) -> None:
        self.name = name

    def tables(self, columns: Any, parameters: Any) -> Any:
        """Return the wrapped model's."""
        return INSTALLED[self.name].tables(columns, parameters)

    def requirements(
        self, tables: Any, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return the wrapped model's."""
        return INSTALLED[self.name].requirements(tables, positions, rows)


class Exact(Without):
    """One that has."""

    def initial_with_open_orders(
        self, tables: Any, positions: PositionColumns, open_orders: OpenOrders, rows: Int64Array
    ) -> Float64Array:
        """Return a number that nothing else gives."""
        assert tables is not None and positions.count.shape == open_orders.count.shape
        return np.full(rows.shape[0], 123.0)


def _initial(name: str, *holdings: dict[int, int]) -> Float64Array:
    book = a_book([[0, 0]] * len(holdings), list(holdings))
    return INSTALLED[name].requirements(INSTANT.margin_tables[name], book.positions, np.arange(len(holdings)))[0]


def _with_orders(model: Without, held: list[dict[int, int]], told: list[dict[int, tuple[int, int]]]) -> Float64Array:
    rows = np.arange(len(held))
    positions = a_book([[0, 0]] * len(held), held).positions
    tables = INSTANT.margin_tables[model.name]
    initial = model.requirements(tables, positions, rows)[0]
    return initial_with_open_orders(model, tables, positions, open_orders(told), rows, initial)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=60)
@given(held=st.lists(BOOKS, min_size=3, max_size=3), told=st.lists(ORDERS, min_size=3, max_size=3))
def test_the_largest_of_three_books_counts(
    name: str, held: list[dict[int, int]], told: list[dict[int, tuple[int, int]]]
) -> None:
    """Fails where a fill is left out, counted twice, on the wrong side, or given to another account."""
    found = _with_orders(Without(name), held, told)

    for row, (positions, orders) in enumerate(zip(held, told, strict=True)):
        bought, sold = dict(positions), dict(positions)
        for instrument, (buys, sells) in orders.items():
            bought[instrument] = bought.get(instrument, 0) + buys
            sold[instrument] = sold.get(instrument, 0) - sells
        books = [{i: lots for i, lots in book.items() if lots} for book in (positions, bought, sold)]
        assert found[row] == _initial(name, *books).max()


def test_orders_that_would_close_a_position_free_nothing() -> None:
    """Fails where margin falls by what has not traded yet."""
    found = _with_orders(Without("tidegate-standard"), [{PERPETUAL: -10}], [{PERPETUAL: (10, 0)}])

    assert found.tolist() == _initial("tidegate-standard", {PERPETUAL: -10}).tolist()


def test_an_order_to_sell_an_option_needs_what_the_short_would() -> None:
    """Fails where an order is margined as what it is not: a long option needs next to nothing."""
    found = _with_orders(Without("tidegate-standard"), [{}, {}], [{CALL: (0, 7)}, {CALL: (7, 0)}])

    assert found.tolist() == _initial("tidegate-standard", {CALL: -7}, {CALL: 7}).tolist()
    assert found[0] > found[1]


def test_a_model_that_knows_its_worst_fills_is_asked() -> None:
    """Fails where the general rule is put over a model's own."""
    assert _with_orders(Exact("tidegate-standard"), [{CALL: -7}], [{CALL: (0, 7)}]).tolist() == [123.0]
