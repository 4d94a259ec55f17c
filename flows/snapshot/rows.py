"""State and outputs as the rows of the snapshot tables: columns in, Arrow tables out.

This file decides what an analyst sees. It reads nothing and writes nothing.

1. Every row names its frame, with the ledger time of that frame. A record's own time is another column.
2. A table is a function of the ledger: it depends neither on shards nor on the process that held an account. System
   accounts are summed over their parts here; a part's average cost is not, so they have no entry price.
3. Integers are exact: ``lots`` and ``units`` as the book holds them, ``amount`` the same as DECIMAL(38, 8) whole
   assets. Floats (``quantity``, ``price``, values, margins, Greeks) are for reading; margins are those that decided.
4. What cannot be known is null and never zero.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flows.margin.model import OpenOrders, PositionColumns
from flows.market.instant import Instant
from flows.market.listings import Listings
from flows.settlement.netting import sum_by_key
from flows.snapshot.names import NO_EXPIRY, Names, tier_names
from flows.snapshot.tables import (
    BoolArray,
    Columns,
    Float64Array,
    Int64Array,
    Moment,
    at_moment,
    decode_tables,
    encode_tables,
    finite,
    margin_columns,
    microseconds,
    positive,
    table_of,
)
from schemas.ids import FIRST_ACCOUNT_NUMBER


class Evaluation(Protocol):
    """Margins of n accounts, as the risk step computes them. Numeraire; ``undecidable`` rows mean nothing."""

    @property
    def equity(self) -> Float64Array:
        """(n,), signed."""

    @property
    def initial_margin(self) -> Float64Array:
        """(n,), >= 0."""

    @property
    def maintenance_margin(self) -> Float64Array:
        """(n,), >= 0."""

    @property
    def undecidable(self) -> BoolArray:
        """(n,), what is held cannot be priced now."""

    @property
    def before_haircuts(self) -> BoolArray:
        """(n,), equity is before haircuts: the margin model margins collateral itself."""


class BookColumns(Protocol):
    """The columns that a snapshot reads of one process's book (``flows.risk.book``)."""

    @property
    def account(self) -> npt.NDArray[np.uint32]:
        """(n,), account numbers."""

    @property
    def tier(self) -> npt.NDArray[np.uint8]:
        """(n,), ``Tier`` as last decided."""

    @property
    def suspended(self) -> BoolArray:
        """(n,), decisions wait."""

    @property
    def cash(self) -> Int64Array:
        """(n, A), units."""

    @property
    def positions(self) -> PositionColumns:
        """Positions of the n rows; ``entry_cash`` and ``order_lots`` stand at the same places."""

    @property
    def open_orders(self) -> OpenOrders | None:
        """Traders' open orders of the n rows, if there are any."""

    entry_cash: Int64Array
    order_lots: Int64Array


@dataclass(frozen=True, slots=True)
class StatePart:
    """One process's accounts at a barrier: integers and margins, before names and prices are joined.

    ``accounts``: number, tier, suspended, decidable, before_haircuts, equity, initial_margin, maintenance_margin
    (customers only). ``balances``: number, asset, units. ``positions``: number, instrument, lots, entry_cash,
    order_lots. These two hold parts of system accounts as they are. ``open_orders``: number, instrument, buys, sells.
    """

    accounts: pa.Table
    balances: pa.Table
    positions: pa.Table
    open_orders: pa.Table

    def encode(self) -> bytes:
        """Return the part as bytes that ``decode`` reads in another process."""
        return encode_tables({part.name: getattr(self, part.name) for part in fields(self)})

    @classmethod
    def decode(cls, data: bytes) -> "StatePart":
        """Return the part that ``encode`` wrote."""
        return cls(**decode_tables(data))


BookT = TypeVar("BookT", bound=BookColumns)


def state_part(
    book: BookT, instant: Instant, evaluate: Callable[[BookT, Instant, Int64Array], Evaluation]
) -> StatePart:
    """Return this process's accounts at a barrier.

    Parameters
    ----------
    book : (n,) rows in any order, parts of system accounts among them.
    evaluate : equity and margins of given rows; called once, with every customer's row.
    """
    number = book.account.astype(np.int64)
    rows = np.flatnonzero(number >= FIRST_ACCOUNT_NUMBER)
    margins = evaluate(book, instant, rows)
    holder, asset = np.nonzero(book.cash)
    positions = book.positions
    place = positions.places(np.arange(number.shape[0]))
    return StatePart(
        accounts=pa.table(
            {
                "number": number[rows],
                "tier": book.tier[rows],
                "suspended": book.suspended[rows],
                "decidable": ~margins.undecidable,
                "before_haircuts": margins.before_haircuts,
                "equity": margins.equity,
                "initial_margin": margins.initial_margin,
                "maintenance_margin": margins.maintenance_margin,
            }
        ),
        balances=pa.table({"number": number[holder], "asset": asset, "units": book.cash[holder, asset]}),
        positions=pa.table(
            {
                "number": np.repeat(number, positions.count),
                "instrument": positions.instrument[place].astype(np.int64),
                "lots": positions.lots[place],
                "entry_cash": book.entry_cash[place],
                "order_lots": book.order_lots[place],
            }
        ),
        open_orders=_open_orders(number, book.open_orders),
    )


def _open_orders(number: Int64Array, told: OpenOrders | None) -> pa.Table:
    if told is None:
        none = np.zeros(0, np.int64)
        return pa.table({"number": none, "instrument": none, "buys": none, "sells": none})
    place = told.places(np.arange(number.shape[0]))
    return pa.table(
        {
            "number": np.repeat(number, told.count),
            "instrument": told.instrument[place].astype(np.int64),
            "buys": told.buys[place],
            "sells": told.sells[place],
        }
    )


_GREEKS: Final = ("delta_per_price", "gamma_per_price_squared", "vega_per_vol", "theta_per_day", "rho_per_rate")


def state_tables(
    parts: Sequence[StatePart], *, moment: Moment, instant: Instant, listings: Listings
) -> dict[str, pa.Table]:
    """Return the full state at a barrier, from the parts of all processes, at least one.

    Returns
    -------
    Tables ``snapshots``, ``accounts``, ``balances``, ``positions``, ``open_orders``, ``greeks``, ``prices``,
    ``asset_prices``, sorted by account number, then asset, instrument, or underlying and expiry in listing order.

    Raises
    ------
    SettlementOverflowError : the parts of a system account do not add up within 64 bits.
    """
    names = Names(listings)
    accounts = _account_rows([part.accounts for part in parts], moment, names, listings)
    balances = _balance_rows([part.balances for part in parts], moment, names, instant)
    held = _held_positions([part.positions for part in parts])
    positions = _position_rows(held, moment, names, instant)
    open_orders = _open_order_rows([part.open_orders for part in parts], moment, names)
    snapshots = table_of(
        "snapshots",
        {
            **at_moment(moment, 1),
            "period": [moment.period],
            "numeraire": ["" if listings.genesis is None else listings.genesis.numeraire],
            "watch_multiple": [instant.ladder.watch_multiple],
            "takeover_multiple": [instant.ladder.takeover_multiple],
            "accounts": [accounts.num_rows],
            "balances": [balances.num_rows],
            "positions": [positions.num_rows],
            "open_orders": [open_orders.num_rows],
        },
    )
    return {
        "snapshots": snapshots,
        "accounts": accounts,
        "balances": balances,
        "positions": positions,
        "open_orders": open_orders,
        "greeks": _greek_rows(held, moment, names, instant),
        "prices": _price_rows(moment, names, instant),
        "asset_prices": _asset_price_rows(moment, names, instant),
    }


@dataclass(frozen=True, slots=True)
class _Held:
    """Positions of whole accounts, sorted by (account number, instrument); ``system`` rows are sums over parts."""

    number: Int64Array
    instrument: Int64Array
    lots: Int64Array
    entry_cash: Int64Array
    order_lots: Int64Array

    @property
    def system(self) -> BoolArray:
        return self.number < FIRST_ACCOUNT_NUMBER


def _account_rows(parts: Sequence[pa.Table], moment: Moment, names: Names, listings: Listings) -> pa.Table:
    merged = _columns(parts)
    order = np.argsort(merged["number"], kind="stable")
    number = merged["number"][order]
    assert (np.diff(number) > 0).all(), "two processes claim one account"
    unknown = ~merged["decidable"][order]
    equity, initial, maintenance = (merged[name][order] for name in ("equity", "initial_margin", "maintenance_margin"))
    place = number - FIRST_ACCOUNT_NUMBER
    models = pa.array([account.margin_model for account in listings.accounts], pa.string())
    modes = pa.array([account.margin_mode.value for account in listings.accounts], pa.string())
    return table_of(
        "accounts",
        {
            **at_moment(moment, number.shape[0]),
            "account": names.account(number),
            "number": number.astype(np.uint32),
            "margin_model": models.take(pa.array(place)),
            "margin_mode": modes.take(pa.array(place)),
            "tier": tier_names(merged["tier"][order]),
            "suspended": merged["suspended"][order],
            "decidable": ~unknown,
            "before_haircuts": merged["before_haircuts"][order],
            **margin_columns(equity, initial, maintenance, mask=unknown),
        },
    )


def _balance_rows(parts: Sequence[pa.Table], moment: Moment, names: Names, instant: Instant) -> pa.Table:
    merged = _columns(parts)
    number, asset, (units,) = _summed(merged["number"], merged["asset"], merged["units"])
    kept = units != 0
    number, asset, units = number[kept], asset[kept], units[kept]
    unknown = ~instant.asset_decidable[asset]
    return table_of(
        "balances",
        {
            **at_moment(moment, number.shape[0]),
            "account": names.account(number),
            "number": number.astype(np.uint32),
            "asset": names.asset(asset),
            "units": units,
            "amount": names.amount(units, asset),
            "asset_price": finite(instant.asset_price[asset], mask=unknown),
            "haircut": instant.haircut[asset],
        },
    )


def _held_positions(parts: Sequence[pa.Table]) -> _Held:
    merged = _columns(parts)
    number, instrument, (lots, entry_cash, order_lots) = _summed(
        merged["number"], merged["instrument"], merged["lots"], merged["entry_cash"], merged["order_lots"]
    )
    kept = lots != 0
    return _Held(number[kept], instrument[kept], lots[kept], entry_cash[kept], order_lots[kept])


def _position_rows(held: _Held, moment: Moment, names: Names, instant: Instant) -> pa.Table:
    place = held.instrument
    asset = names.settlement_asset[place]
    lots = held.lots.astype(np.float64)
    unknown = ~instant.value_decidable[place]
    no_numeraire = unknown | ~instant.asset_decidable[asset]
    value = lots * instant.value[place]
    asset_price = instant.asset_price[asset]
    paid = held.entry_cash * names.unit[asset]
    quantity = lots * names.lot_quantity[place]
    with np.errstate(divide="ignore", invalid="ignore"):
        entry_price = np.where(names.reciprocal[place], quantity / paid, -paid / quantity)
    return table_of(
        "positions",
        {
            **at_moment(moment, place.shape[0]),
            "account": names.account(held.number),
            "number": held.number.astype(np.uint32),
            "instrument": names.instrument(place),
            "lots": held.lots,
            "quantity": lots * names.lot_size[place],
            "mark_price": finite(instant.mark_price[place], mask=unknown),
            "value": finite(value * asset_price, mask=no_numeraire),
            "settlement_asset": names.asset(asset),
            "value_in_settlement_asset": finite(value, mask=unknown),
            "entry_price": finite(entry_price, mask=held.system),
            "unrealised_pnl": finite((value + paid) * asset_price, mask=no_numeraire | held.system),
            "liquidation_order_lots": held.order_lots,
        },
    )


def _open_order_rows(parts: Sequence[pa.Table], moment: Moment, names: Names) -> pa.Table:
    merged = _columns(parts)
    order = np.lexsort((merged["instrument"], merged["number"]))
    number, instrument, buys, sells = (merged[name][order] for name in ("number", "instrument", "buys", "sells"))
    return table_of(
        "open_orders",
        {
            **at_moment(moment, number.shape[0]),
            "account": names.account(number),
            "number": number.astype(np.uint32),
            "instrument": names.instrument(instrument),
            "buy_lots": buys,
            "sell_lots": sells,
            "buy_quantity": buys * names.lot_size[instrument],
            "sell_quantity": sells * names.lot_size[instrument],
        },
    )


def _greek_rows(held: _Held, moment: Moment, names: Names, instant: Instant) -> pa.Table:
    underlying = names.underlying[held.instrument]
    expiry = names.expiry_ns[held.instrument]
    order = np.lexsort((held.instrument, expiry, underlying, held.number))
    keys = np.stack((held.number, underlying, expiry))[:, order]
    begins = _group_starts(keys)
    group = np.cumsum(begins) - 1
    count = int(begins.sum())
    place = held.instrument[order]
    known = instant.value_decidable[place]
    sums = np.zeros((count, len(_GREEKS)))
    # add.at adds one row after the other, in instrument order: no reduction scheme of its own.
    np.add.at(sums, group[known], held.lots[order][known, None] * instant.greeks[place[known]])
    number, underlying, expiry = keys[:, begins]
    positions = np.bincount(group, minlength=count)
    undecidable = np.bincount(group[~known], minlength=count)
    none_known = positions == undecidable
    expiries = pa.array(expiry, mask=expiry == NO_EXPIRY)
    return table_of(
        "greeks",
        {
            **at_moment(moment, count),
            "account": names.account(number),
            "number": number.astype(np.uint32),
            "underlying": names.underlyings.take(pa.array(underlying)),
            "expiry_ns": expiries,
            "expiry_utc": microseconds(expiries),
            **{name: finite(sums[:, i], mask=none_known) for i, name in enumerate(_GREEKS)},
            "positions": positions,
            "undecidable_positions": undecidable,
        },
    )


def _price_rows(moment: Moment, names: Names, instant: Instant) -> pa.Table:
    count = instant.value.shape[0]
    unknown = ~instant.value_decidable
    return table_of(
        "prices",
        {
            **at_moment(moment, count),
            "instrument": names.instrument(np.arange(count)),
            "decidable": instant.value_decidable,
            "index_price": positive(instant.index_price),
            "mark_price": finite(instant.mark_price, mask=unknown),
            "forward": positive(instant.forward),
            "implied_vol": positive(instant.implied_vol),
            "value_per_lot_in_settlement_asset": finite(instant.value, mask=unknown),
            "notional_per_lot": finite(instant.notional, mask=unknown),
        },
    )


def _asset_price_rows(moment: Moment, names: Names, instant: Instant) -> pa.Table:
    count = instant.asset_price.shape[0]
    return table_of(
        "asset_prices",
        {
            **at_moment(moment, count),
            "asset": names.asset(np.arange(count)),
            "decidable": instant.asset_decidable,
            "price": finite(instant.asset_price, mask=~instant.asset_decidable),
            "confidence_ratio": finite(instant.asset_confidence, mask=~instant.asset_decidable),
            "realised_vol": instant.realised_vol,
            "haircut": instant.haircut,
        },
    )


def _columns(parts: Iterable[pa.Table]) -> Columns:
    table = pa.concat_tables(parts)
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _group_starts(keys: Int64Array) -> BoolArray:
    """Return where a new key begins, for sorted keys (k, n)."""
    begins = np.ones(keys.shape[1], dtype=np.bool_)
    begins[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    return begins


def _summed(
    number: Int64Array, market: Int64Array, *values: Int64Array
) -> tuple[Int64Array, Int64Array, list[Int64Array]]:
    """Return ``values`` summed by (number, market), sorted so; only parts of system accounts repeat a key."""
    keys = (number.astype(np.uint64) << np.uint64(32)) | market.astype(np.uint64)
    sums = [sum_by_key(keys, column) for column in values]
    distinct = sums[0][0]
    return (
        (distinct >> np.uint64(32)).astype(np.int64),
        (distinct & np.uint64(0xFFFFFFFF)).astype(np.int64),
        [total for _, total in sums],
    )
