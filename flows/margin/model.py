"""What a margin model is: per-instrument tables once an instant, then requirements of any accounts from them.

A model is found by its name through the entry-point group ``tidegate.margin``. No account ever prices an instrument:
everything that depends on the market is in the tables, and an account's requirement is a grouped product over them.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from schemas.parameter_set import ParameterSet

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
UInt32Array = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Balances:
    """Every account's cash by asset: ``units`` (N, C), signed; an asset beyond C has no balance.

    ``isolated`` (N,): while such an account holds positions, a positive balance counts only in what they settle in;
    ``held`` (N,) says how many it holds, also beside positions that it might hold.
    """

    units: Int64Array
    isolated: BoolArray
    held: Int64Array


@dataclass(frozen=True, slots=True)
class PositionColumns:
    """Every account's positions, as columns.

    Account row r holds ``instrument[offset[r] : offset[r] + count[r]]``, rising and without repeats, and ``lots`` at
    the same places (signed, never 0). Rows are where the book put them; nothing may depend on their order.
    ``balances`` of the same rows are for models that margin collateral themselves; None where there are none.
    """

    offset: Int64Array
    count: Int64Array
    instrument: UInt32Array
    lots: Int64Array
    balances: Balances | None = None

    def cash_and_narrow(self, rows: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Return (N, C) units of cash, and (n,) whether a positive balance counts only where positions settle."""
        if self.balances is None:
            return np.zeros((0, 0), np.int64), np.zeros(rows.shape[0], np.bool_)
        return self.balances.units, self.balances.isolated[rows] & (self.balances.held[rows] > 0)

    def places(self, rows: Int64Array) -> Int64Array:
        """Return where the positions of some rows stand, row after row."""
        return _places(self.offset[rows], self.count[rows])


@dataclass(frozen=True, slots=True)
class OpenOrders:
    """Every account's open orders, as columns: what the venue says that its traders may yet buy and sell.

    Account row r has ``instrument[offset[r] : offset[r] + count[r]]``, rising and without repeats, with ``buys`` and
    ``sells`` at the same places: lots, >= 0, not both 0. The rows are those of ``PositionColumns``. For every
    instrument, the lots held with either side filled fit 64 bits.
    """

    offset: Int64Array
    count: Int64Array
    instrument: UInt32Array
    buys: Int64Array
    sells: Int64Array

    def places(self, rows: Int64Array) -> Int64Array:
        """Return where the open orders of some rows stand, row after row."""
        return _places(self.offset[rows], self.count[rows])


def _places(offset: Int64Array, count: Int64Array) -> Int64Array:
    before = np.cumsum(count) - count
    return np.repeat(offset - before, count) + np.arange(int(count.sum()), dtype=np.int64)


# Of no accounts: for a kernel that is not to count open orders.
NO_OPEN_ORDERS: Final = OpenOrders(
    np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.int64), np.zeros(0, np.int64)
)


class MarginModel(Protocol):
    """Requirements of accounts; pure functions of the market's tables and the positions.

    ``tables`` takes the market's instrument columns (``flows.market.columns.InstrumentColumns``) and the model's
    validated parameter set; what it returns is opaque to everyone but ``requirements``.

    A model with a true attribute ``margins_collateral`` margins collateral itself: equity of its accounts is taken
    without haircuts, and what their balances may lose, or do not count, is in its requirements.
    """

    name: str

    def tables(self, columns: Any, parameters: Any) -> Any:
        """Return what ``requirements`` reads of the market at this instant."""

    def requirements(
        self, tables: Any, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return ``(initial, maintenance)``, each (n,) for n ``rows``, numeraire, >= 0, initial >= maintenance.

        Sums run in instrument order within an account, so that a result depends on the account alone.
        """


def margins_collateral(model: MarginModel) -> bool:
    """Whether a model margins collateral itself."""
    return bool(getattr(model, "margins_collateral", False))


@runtime_checkable
class OwnParameters(Protocol):
    """A margin model that brings its own parameter set, which ``parameters.changed`` names like the model.

    Every field of ``parameters_type`` has a default: those are in force until the ledger says otherwise.
    """

    parameters_type: type[ParameterSet]


@runtime_checkable
class IncrementalMarginModel(Protocol):
    """A margin model that can carry its tables on when only some instruments were priced anew."""

    def update(self, previous: Any, columns: Any, parameters: Any, members: Int64Array) -> Any:
        """Return new tables, equal to ``tables(columns, parameters)``, where nothing but ``members`` changed.

        ``previous`` stays as it is: an earlier instant still reads it. Numbers by underlying (``columns.confidence``
        among them) change only where all of its instruments are members. ``columns.assets`` may have changed at any
        call, also where ``members`` is empty: a model that reads assets takes all of them anew.
        """


@runtime_checkable
class OpenOrderMarginModel(Protocol):
    """A margin model that knows the worst fills of open orders exactly.

    For any other model, ``flows.margin.open_orders`` takes the largest of three books: as held, with every open buy
    filled, with every open sell filled. Maintenance margin never sees open orders, under any model.
    """

    def initial_with_open_orders(
        self, tables: Any, positions: PositionColumns, open_orders: OpenOrders, rows: Int64Array
    ) -> Float64Array:
        """Return initial margin, (n,) for n ``rows``, numeraire: the largest over all fills, whole, partial or none.

        At least the initial margin of ``requirements``. Asked only for rows that have open orders. A fill is taken to
        be at the mark, where it leaves equity as it is.
        """
