"""Bounds of accounts with open orders, under models that take the largest initial margin of three books.

As ``flows.margin.open_orders`` has it: the book as held, with every open buy filled, with every open sell filled. The
least of the three bounds below, and the greatest of the three above; of either, what of an account is held is the same.
"""

from collections.abc import Callable

import numpy as np

from flows.margin.model import PositionColumns
from flows.margin.open_orders import BUYS, SELLS, filled
from flows.screening.ranges import INITIAL, Accounts, Boundaries, Float64Array, Int64Array

# Of a book that is margined, boundaries and rows: (n, 2) as of ``HealthBounds.slack``.
SlackOf = Callable[[PositionColumns, Boundaries, Int64Array], Float64Array]


def with_open_orders(slack_of: SlackOf, accounts: Accounts, boundaries: Boundaries, rows: Int64Array) -> Float64Array:
    """Return (n, 2), as of ``HealthBounds.slack``, from bounds with one book or another to be margined."""
    out = slack_of(accounts.positions, boundaries, rows)
    orders = accounts.open_orders
    if orders is None:
        return out
    of_initial = np.stack([boundaries.below_of == INITIAL, boundaries.above_of == INITIAL], axis=1)
    having = np.flatnonzero((orders.count[rows] > 0) & of_initial.any(axis=1))
    if having.shape[0] == 0:
        return out
    theirs = boundaries.of(having)
    for side in (BUYS, SELLS):
        book = filled(accounts.positions, orders, rows[having], side)
        found = slack_of(book, theirs, rows[having])
        before = out[having]
        worst = np.stack([np.minimum(before[:, 0], found[:, 0]), np.maximum(before[:, 1], found[:, 1])], axis=1)
        unknown = (np.minimum(before, found) == -np.inf).any(axis=1)
        worst[unknown] = -np.inf
        out[having] = np.where(of_initial[having], worst, before)
        out[having[unknown]] = -np.inf
    return out
