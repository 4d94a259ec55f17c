"""The book: every account of this process's shards, as columns.

1. Integers only: what is here is exact, and is all that a checkpoint of a shard holds besides the market.
2. Each shard has its own row, a *part*, of each system account. Fees, transfers and withdrawals are booked against the
   part of the account's own shard, so every record closes within its shard.
3. An account's positions are contiguous, rising by instrument, never zero: sums over them have one order.
4. Overflow of a signed 64-bit integer raises ``BookOverflow``: it never wraps.
5. Open orders, which traders have resting at the venue, are none of liquidation's orders: they stand apart, in
   ``flows.risk.open_orders``, and move nothing. With either side filled, every position fits 64 bits.
6. The journal holds every change of an integer since the last barrier; netting it gives the period's deltas.
"""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from flows.margin.model import Balances, OpenOrders, PositionColumns
from flows.market.listings import Account
from flows.risk.booking import ENTRIES_A_LEG, OVERFLOW, apply_legs, hash_rows, holders_of, pay_holders
from flows.risk.open_orders import OpenOrderColumns
from flows.risk.shard_state import SHARD_VERSION, ShardRows, ShardState
from flows.settlement.netting import summed
from schemas.checkpoint import CheckpointError, open_envelope, seal_envelope
from schemas.ids import BRIDGE_NUMBER, FIRST_ACCOUNT_NUMBER, SYSTEM_ACCOUNTS, shard_of
from schemas.instruments import MarginMode
from schemas.ledger import LegKind, Legs
from schemas.results import DELTA, DeltaKind, Deltas

Int64Array = npt.NDArray[np.int64]
UInt32Array = npt.NDArray[np.uint32]
UInt64Array = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]

_PARTS = len(SYSTEM_ACCOUNTS)
_ROWS_MIN = 64
_POOL_MIN = 256
_JOURNAL_MIN = 1024
_ASSET = int(DeltaKind.ASSET)
_BRIDGE = int(BRIDGE_NUMBER)
_OPEN_ORDERS = int(LegKind.OPEN_ORDERS)


class BookOverflow(Exception):  # noqa: N818 - an invariant of ours, halted on
    """An amount left the range of a signed 64-bit integer: the process halts at this frame."""


class UnknownAccountNumber(Exception):  # noqa: N818 - says what happened
    """A leg names an account that no record opened: the ledger is not the whole one."""


class Book:
    """Accounts of a set of shards.

    Parameters
    ----------
    shards : the shards of this process, any order.
    shard_count : the ledger's.
    models : margin model names; an account's ``model`` is an index into them.
    """

    def __init__(self, shards: Iterable[int], *, shard_count: int, models: Sequence[str]) -> None:
        self.shards = tuple(sorted(shards))
        self.shard_count = shard_count
        self.models = tuple(models)
        self._shard_place = {shard: place for place, shard in enumerate(self.shards)}
        self.rows = 0
        self.assets = 0
        rows = max(_ROWS_MIN, len(self.shards) * _PARTS)
        self._account = np.zeros(rows, np.uint32)
        self._shard = np.zeros(rows, np.uint16)
        self._model = np.zeros(rows, np.uint8)
        self._isolated = np.zeros(rows, np.bool_)
        self._tier = np.zeros(rows, np.uint8)
        self._suspended = np.zeros(rows, np.bool_)
        self._orders = np.zeros(rows, np.int64)
        self._part = np.zeros(rows, np.int64)
        self._dirty = np.zeros(rows, np.bool_)
        self._hash = np.zeros((rows, 2), np.uint64)
        self._cash = np.zeros((rows, 0), np.int64)
        self._offset = np.zeros(rows, np.int64)
        self._count = np.zeros(rows, np.int64)
        self._capacity = np.zeros(rows, np.int64)
        self.pool_instrument = np.zeros(_POOL_MIN, np.uint32)
        self.pool_lots = np.zeros(_POOL_MIN, np.int64)
        self.entry_cash = np.zeros(_POOL_MIN, np.int64)
        self.order_lots = np.zeros(_POOL_MIN, np.int64)
        self._pool_used = np.zeros(1, np.int64)
        self._row_of = np.full(_ROWS_MIN, -1, np.int64)
        self._journal = np.zeros(_JOURNAL_MIN, DELTA)
        self._journal_used = np.zeros(1, np.int64)
        self._open_orders = OpenOrderColumns()
        # Liquidation orders whose position vanished: [row, instrument, lots], to be cancelled by the next decision.
        self._orphans: list[tuple[int, int, int]] = []
        self.state_hash = np.zeros(2, np.uint64)
        for shard in self.shards:
            for number in range(_PARTS):
                self._append_row(number, shard, model=0, isolated=False)
                self._part[self.rows - 1] = self.rows - 1 - number

    # -- columns -------------------------------------------------------------------------------------------------

    @property
    def account(self) -> UInt32Array:
        """(n,), account numbers; the first rows are parts of system accounts."""
        return self._account[: self.rows]

    @property
    def shard(self) -> npt.NDArray[np.uint16]:
        """(n,), the shard of each row."""
        return self._shard[: self.rows]

    @property
    def model(self) -> npt.NDArray[np.uint8]:
        """(n,), index into ``models``."""
        return self._model[: self.rows]

    @property
    def isolated(self) -> BoolArray:
        """(n,), margin mode."""
        return self._isolated[: self.rows]

    @property
    def tier(self) -> npt.NDArray[np.uint8]:
        """(n,), ``Tier`` as last decided."""
        return self._tier[: self.rows]

    @property
    def suspended(self) -> BoolArray:
        """(n,), whether decisions wait for a price."""
        return self._suspended[: self.rows]

    @property
    def order_count(self) -> Int64Array:
        """(n,), how many positions have an open liquidation order."""
        return self._orders[: self.rows]

    @property
    def cash(self) -> Int64Array:
        """(n, A), units of each asset."""
        return self._cash[: self.rows]

    @property
    def dirty(self) -> BoolArray:
        """(n,), whether the row's state hash is out of date."""
        return self._dirty[: self.rows]

    @property
    def positions(self) -> PositionColumns:
        """Positions of every row; ``entry_cash`` and ``order_lots`` are aligned with its lots."""
        return PositionColumns(
            self._offset[: self.rows], self._count[: self.rows], self.pool_instrument, self.pool_lots,
            Balances(self.cash, self.isolated, self._count[: self.rows]),
        )  # fmt: skip

    @property
    def open_orders(self) -> OpenOrders | None:
        """Traders' open orders of every row; None where there are none at all, as at venues that do not tell."""
        return self._open_orders.columns(self.rows) if self._open_orders else None

    @property
    def customer_rows(self) -> Int64Array:
        """The rows that have a tier, in order of account number."""
        return np.arange(len(self.shards) * _PARTS, self.rows, dtype=np.int64)

    def row(self, number: int) -> int:
        """Return the row of a customer account, or -1 if another process holds it."""
        return int(self._row_of[number]) if number < self._row_of.shape[0] else -1

    # -- growth --------------------------------------------------------------------------------------------------

    def add_asset(self) -> None:
        """Take one more asset: every balance in it is 0."""
        self.assets += 1
        wider = np.zeros((self._cash.shape[0], self.assets), np.int64)
        wider[:, : self._cash.shape[1]] = self._cash
        self._cash = wider

    def add_account(self, account: Account) -> bool:
        """Take a new customer account if one of this process's shards holds it; return whether it does."""
        shard = shard_of(account.account, self.shard_count)
        if shard not in self._shard_place:
            return False
        self._append_row(
            account.number,
            shard,
            model=self.models.index(account.margin_model),
            isolated=account.margin_mode is MarginMode.ISOLATED,
        )
        row = self.rows - 1
        self._part[row] = self._shard_place[shard] * _PARTS
        if account.number >= self._row_of.shape[0]:
            larger = np.full(max(2 * self._row_of.shape[0], account.number + 1), -1, np.int64)
            larger[: self._row_of.shape[0]] = self._row_of
            self._row_of = larger
        self._row_of[account.number] = row
        self._dirty[row] = True
        return True

    def _append_row(self, number: int, shard: int, *, model: int, isolated: bool) -> None:
        if self.rows == self._account.shape[0]:
            size = 2 * self.rows
            for name in (
                "_account", "_shard", "_model", "_isolated", "_tier", "_suspended", "_orders", "_part", "_dirty",
                "_hash", "_cash", "_offset", "_count", "_capacity",
            ):  # fmt: skip
                old = getattr(self, name)
                new = np.zeros((size, *old.shape[1:]), old.dtype)
                new[: self.rows] = old
                setattr(self, name, new)
        row = self.rows
        self._account[row] = number
        self._shard[row] = shard
        self._model[row] = model
        self._isolated[row] = isolated
        self.rows += 1

    def _grow_pool(self) -> None:
        for name in ("pool_instrument", "pool_lots", "entry_cash", "order_lots"):
            old = getattr(self, name)
            new = np.zeros(2 * old.shape[0], old.dtype)
            new[: old.shape[0]] = old
            setattr(self, name, new)

    def _room_in_journal(self, entries: int) -> None:
        needed = int(self._journal_used[0]) + entries
        if needed > self._journal.shape[0]:
            larger = np.zeros(max(needed, 2 * self._journal.shape[0]), DELTA)
            larger[: self._journal_used[0]] = self._journal[: self._journal_used[0]]
            self._journal = larger

    # -- changes -------------------------------------------------------------------------------------------------

    def rows_of(self, legs: Legs) -> Int64Array:
        """Return the row of each leg: a customer's, or the part of a system account in its counterparty's shard."""
        number = legs["account"].astype(np.int64)
        system = number < FIRST_ACCOUNT_NUMBER
        known = np.where(system, legs["counterparty"], number).astype(np.int64)
        if known.size and int(known.max()) >= self._row_of.shape[0]:
            raise UnknownAccountNumber(f"account number {int(known.max())} was never opened")
        rows = self._row_of[known]
        if (rows < 0).any():
            raise UnknownAccountNumber(f"account number {int(known[rows < 0][0])} was never opened in these shards")
        rows[system] = self._part[rows[system]] + number[system]
        return rows

    def apply(self, legs: Legs, rows: Int64Array) -> None:
        """Book account records in order; withdrawals are not among them (see ``move_cash``)."""
        self._room_in_journal(ENTRIES_A_LEG * legs.shape[0])
        told = np.flatnonzero(legs["kind"] == _OPEN_ORDERS)
        if told.shape[0]:
            # Nothing else reads or moves them, so their place among the other legs is no matter.
            self._open_orders.tell(legs[told], rows[told])
            self._dirty[rows[told]] = True
        done = 0
        while done < legs.shape[0]:
            orphans = np.zeros((legs.shape[0], 3), np.int64)
            done, orphan_count, status = apply_legs(
                done, legs, rows, self._part, self._account, self._cash, self._offset, self._count, self._capacity,
                self.pool_instrument, self.pool_lots, self.entry_cash, self.order_lots, self._pool_used, self._orders,
                self._dirty, self._journal, self._journal_used, orphans,
            )  # fmt: skip
            self._orphans.extend((int(r), int(i), int(n)) for r, i, n in orphans[:orphan_count])
            if status == OVERFLOW:
                raise BookOverflow(f"account number {int(legs['account'][done])}: amount leaves 64 bits")
            if done < legs.shape[0]:
                self._grow_pool()
        if self._open_orders:
            row = self._open_orders.row_that_overflows(
                rows, self._offset, self._count, self.pool_instrument, self.pool_lots
            )
            if row >= 0:
                raise BookOverflow(f"account number {int(self._account[row])}: a filled open order leaves 64 bits")

    def end_open_orders(self, has_ended: BoolArray) -> Int64Array:
        """Drop all open orders in instruments that have ended, (K,); return the rows that had some, in any order."""
        rows = [self._open_orders.end(int(i)) for i in self._open_orders.instruments() if has_ended[i]]
        changed = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        self._dirty[changed] = True
        return changed

    def move_cash(self, row: int, asset: int, units: int) -> None:
        """Credit (or debit) a customer against its shard's part of the bridge account."""
        self._room_in_journal(2)
        for target, amount in ((row, units), (int(self._part[row]) + _BRIDGE, -units)):
            balance = int(self._cash[target, asset]) + amount
            if abs(balance) > np.iinfo(np.int64).max:
                raise BookOverflow(f"account number {int(self._account[target])}: amount leaves 64 bits")
            self._cash[target, asset] = balance
            self._dirty[target] = True
            used = int(self._journal_used[0])
            self._journal[used] = (self._account[target], _ASSET, asset, amount)
            self._journal_used[0] = used + 1

    def pay(
        self, instrument: int, asset: int, units_per_lot: int, *, closes: bool
    ) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Pay ``units_per_lot`` for every long lot held; close the position, and orphan its order, if ``closes``.

        Returns
        -------
        (rows, lots, units), one entry a holder, in row order, parts of system accounts included.
        """
        holders, place = holders_of(self.rows, self._offset, self._count, self.pool_instrument, instrument)
        lots = self.pool_lots[place].copy()
        self._room_in_journal(2 * holders.shape[0])
        if closes:
            ordered = np.flatnonzero(self.order_lots[place])
            self._orphans.extend((int(holders[n]), instrument, int(self.order_lots[place[n]])) for n in ordered)
        units, status = pay_holders(
            holders, place, instrument, asset, units_per_lot, closes, self._account, self._cash, self._count,
            self._offset, self.pool_instrument, self.pool_lots, self.entry_cash, self.order_lots, self._orders,
            self._dirty, self._journal, self._journal_used,
        )  # fmt: skip
        if status == OVERFLOW:
            raise BookOverflow(f"payment on instrument {instrument}: amount leaves 64 bits")
        return holders, lots, units

    def set_tier(self, rows: Int64Array, tiers: npt.NDArray[np.uint8]) -> None:
        """Write decided tiers."""
        self._tier[rows] = tiers
        self._dirty[rows] = True

    def set_suspended(self, rows: Int64Array, suspended: BoolArray) -> None:
        """Write whether decisions wait."""
        self._suspended[rows] = suspended
        self._dirty[rows] = True

    def take_orphans(self) -> list[tuple[int, int, int]]:
        """Return and forget the liquidation orders whose position vanished: (row, instrument, lots)."""
        orphans, self._orphans = self._orphans, []
        return orphans

    # -- barriers ------------------------------------------------------------------------------------------------

    def take_deltas(self) -> Deltas:
        """Return the net of the period by (account, kind, market), zeros left out, and begin the next."""
        used = int(self._journal_used[0])
        self._journal_used[0] = 0
        return summed([self._journal[:used]])

    def update_state_hash(self) -> tuple[int, int]:
        """Return the two 64-bit halves of the sum of all customer accounts' hashes.

        A sum does not depend on shards, rows or processes: processes add theirs up modulo 2^64.
        """
        first = len(self.shards) * _PARTS
        rows = np.flatnonzero(self._dirty[first : self.rows]) + first
        told = self._open_orders.columns(self.rows if self._open_orders else 0)
        hash_rows(
            rows, self._account, self._tier, self._suspended, self._cash, self._offset, self._count,
            self.pool_instrument, self.pool_lots, self.order_lots, told.offset, told.count, told.instrument,
            told.buys, told.sells, self._hash, self.state_hash,
        )  # fmt: skip
        self._dirty[: self.rows] = False
        return int(self.state_hash[0]), int(self.state_hash[1])

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def dump_shard(self, shard: int) -> bytes:
        """Return one shard's accounts as a sealed envelope; only at a barrier, when the journal is empty."""
        assert int(self._journal_used[0]) == 0, "a checkpoint belongs at a barrier, after its deltas were taken"
        assert not self._orphans, "vanished orders are cancelled in the frame in which they vanish"
        rows = np.flatnonzero(self._shard[: self.rows] == shard)
        place = self.positions.places(rows)
        told = self._open_orders.columns(self.rows)
        told_place = told.places(rows)
        return seal_envelope(
            "book-shard",
            SHARD_VERSION,
            msgspec.msgpack.encode(
                ShardState(
                    shard=shard,
                    shard_count=self.shard_count,
                    assets=self.assets,
                    models=list(self.models),
                    account=self._account[rows].tobytes(),
                    model=self._model[rows].tobytes(),
                    isolated=self._isolated[rows].tobytes(),
                    tier=self._tier[rows].tobytes(),
                    suspended=self._suspended[rows].tobytes(),
                    cash=np.ascontiguousarray(self._cash[rows]).tobytes(),
                    count=self._count[rows].tobytes(),
                    instrument=self.pool_instrument[place].tobytes(),
                    lots=self.pool_lots[place].tobytes(),
                    entry_cash=self.entry_cash[place].tobytes(),
                    order_lots=self.order_lots[place].tobytes(),
                    open_count=told.count[rows].tobytes(),
                    open_instrument=told.instrument[told_place].tobytes(),
                    open_buys=told.buys[told_place].tobytes(),
                    open_sells=told.sells[told_place].tobytes(),
                )
            ),
        )

    @classmethod
    def restore(cls, shards: Sequence[bytes], *, shard_count: int, models: Sequence[str]) -> "Book":
        """Return the book of the given shard dumps, in any order.

        Raises
        ------
        CheckpointError : a dump is damaged, of another version, of another ledger's shape, or given twice.
        """
        states = [
            msgspec.msgpack.decode(open_envelope("book-shard", SHARD_VERSION, data), type=ShardState) for data in shards
        ]
        numbers = [state.shard for state in states]
        if len(set(numbers)) != len(numbers):
            raise CheckpointError("two checkpoints of one shard: restore each shard from exactly one file")
        book = cls(numbers, shard_count=shard_count, models=models)
        assets = {state.assets for state in states}
        if len(assets) > 1:
            raise CheckpointError("shard checkpoints of different moments: take all from one barrier")
        for _ in range(assets.pop() if assets else 0):
            book.add_asset()
        columns: list[ShardRows] = []
        for state in states:
            if state.shard_count != shard_count or not set(state.models) <= set(models):
                raise CheckpointError("shard checkpoint has another shard count or margin models: not this ledger's")
            columns.append(ShardRows(state, book.models))
        book._fill_rows(columns)
        return book

    def _fill_rows(self, parts: list[ShardRows]) -> None:
        """Lay customers out by rising number, whatever shard they come from, and the parts where they belong."""
        for part in parts:
            first = self._shard_place[part.shard] * _PARTS
            self._cash[first : first + _PARTS] = part.cash[:_PARTS]
            for number in range(_PARTS):
                self._put_positions(first + number, part, number)
        customers = [(int(part.account[i]), part, i) for part in parts for i in range(_PARTS, part.account.shape[0])]
        customers.sort(key=lambda entry: entry[0])
        for number, part, i in customers:
            self._append_row(number, part.shard, model=int(part.model[i]), isolated=bool(part.isolated[i]))
            row = self.rows - 1
            self._part[row] = self._shard_place[part.shard] * _PARTS
            self._tier[row] = part.tier[i]
            self._suspended[row] = part.suspended[i]
            self._cash[row] = part.cash[i]
            self._put_positions(row, part, i)
            if part.open_count[i]:
                self._open_orders.put(row, *part.open_orders(i))
        largest = customers[-1][0] if customers else 0
        self._row_of = np.full(max(_ROWS_MIN, 2 * largest), -1, np.int64)
        first_customer = len(self.shards) * _PARTS
        self._row_of[self._account[first_customer : self.rows]] = np.arange(first_customer, self.rows)
        self._dirty[: self.rows] = True
        self.update_state_hash()

    def _put_positions(self, row: int, part: ShardRows, i: int) -> None:
        start, count = int(part.start[i]), int(part.count[i])
        used = int(self._pool_used[0])
        while used + count > self.pool_lots.shape[0]:
            self._grow_pool()
        self._offset[row], self._count[row], self._capacity[row] = used, count, count
        self.pool_instrument[used : used + count] = part.instrument[start : start + count]
        self.pool_lots[used : used + count] = part.lots[start : start + count]
        self.entry_cash[used : used + count] = part.entry_cash[start : start + count]
        self.order_lots[used : used + count] = part.order_lots[start : start + count]
        self._orders[row] = np.count_nonzero(self.order_lots[used : used + count])
        self._pool_used[0] = used + count
