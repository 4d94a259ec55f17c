"""What accounts are worth and what they must have, at one instant.

1. An account's numbers depend on the instant and on the account alone: not on which others are evaluated with it.
2. Initial margin counts open orders as if the worst of them filled; equity and maintenance margin do not see them.
3. A number that is not finite decides nothing: every comparison with NaN is false, and would read as health.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.margin.collateral import equity, undecidable
from flows.margin.model import MarginModel, OpenOrders, margins_collateral
from flows.margin.open_orders import initial_with_open_orders
from flows.market.instant import Instant
from flows.risk.book import Book

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Numbers of n accounts, in numeraire: shapes (n,). Meaningless where ``undecidable``.

    ``before_haircuts`` : whether equity is before haircuts, of accounts whose model margins collateral itself.
    """

    equity: Float64Array
    initial_margin: Float64Array
    maintenance_margin: Float64Array
    undecidable: npt.NDArray[np.bool_]
    before_haircuts: npt.NDArray[np.bool_]


def evaluate(book: Book, instant: Instant, rows: Int64Array, models: Mapping[str, MarginModel]) -> Evaluation:
    """Return equity, margins and decidability of the given book rows."""
    positions = book.positions
    initial = np.zeros(rows.shape[0], np.float64)
    maintenance = np.zeros(rows.shape[0], np.float64)
    model_of = book.model[rows]
    for index, name in enumerate(book.models):
        chosen = np.flatnonzero(model_of == index)
        if chosen.shape[0]:
            initial[chosen], maintenance[chosen] = models[name].requirements(
                instant.margin_tables[name], positions, rows[chosen]
            )
    if book.open_orders is not None:
        _count_open_orders(book, book.open_orders, instant, rows, models, initial)
    before_haircuts = np.array([margins_collateral(models[name]) for name in book.models], np.bool_)[model_of]
    worth = equity(instant, book.cash, positions, book.isolated, rows, before_haircuts)
    finite = np.isfinite(worth) & np.isfinite(initial) & np.isfinite(maintenance)
    unknown = undecidable(instant, book.cash, positions, rows) | ~finite
    return Evaluation(worth, initial, maintenance, unknown, before_haircuts)


def _count_open_orders(
    book: Book,
    open_orders: OpenOrders,
    instant: Instant,
    rows: Int64Array,
    models: Mapping[str, MarginModel],
    initial: Float64Array,
) -> None:
    """Raise ``initial`` of the rows that have open orders to what these need."""
    having = np.flatnonzero(open_orders.count[rows])
    model_of = book.model[rows[having]]
    for index in np.unique(model_of):
        name = book.models[index]
        chosen = having[model_of == index]
        initial[chosen] = initial_with_open_orders(
            models[name], instant.margin_tables[name], book.positions, open_orders, rows[chosen], initial[chosen]
        )
