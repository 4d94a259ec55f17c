"""The snapshot tables: their columns, and the Arrow tables made of them.

1. Every table begins with the frame that its row belongs to and that frame's ledger time.
2. Columns grow at the end; a changed meaning is a new name and a new ``SCHEMA_VERSION``.
3. Money without a unit in its name is in the numeraire. ``amount`` is in whole assets, exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.money import DECIMALS_MAX

BoolArray = npt.NDArray[np.bool_]
Float64Array = npt.NDArray[np.float64]
IntegerArray = npt.NDArray[np.integer]
Int64Array = npt.NDArray[np.int64]
AnyArray: TypeAlias = "pa.Array[Any]"
Columns = dict[str, npt.NDArray[Any]]

SCHEMA_VERSION: Final = 2


AMOUNT: Final = pa.decimal128(38, DECIMALS_MAX)
_TIME: Final = pa.timestamp("us")
_FRAME_COLUMNS: Final = [("frame", pa.uint64()), ("time_ns", pa.int64()), ("time_utc", _TIME)]
_MARGINS: Final = [
    ("equity", pa.float64()),
    ("initial_margin", pa.float64()),
    ("maintenance_margin", pa.float64()),
    ("free_margin", pa.float64()),
    ("health", pa.float64()),
]


def _schema(*columns: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([*_FRAME_COLUMNS, *columns])


SCHEMAS: Final[dict[str, pa.Schema]] = {
    "barriers": _schema(("period", pa.int64()), ("content_head", pa.string()), ("state_hash", pa.string())),
    "snapshots": _schema(
        ("period", pa.int64()),
        ("numeraire", pa.string()),
        ("watch_multiple", pa.float64()),
        ("takeover_multiple", pa.float64()),
        ("accounts", pa.int64()),
        ("balances", pa.int64()),
        ("positions", pa.int64()),
        ("open_orders", pa.int64()),
    ),
    "accounts": _schema(
        ("account", pa.string()),
        ("number", pa.uint32()),
        ("margin_model", pa.string()),
        ("margin_mode", pa.string()),
        ("tier", pa.string()),
        ("suspended", pa.bool_()),
        ("decidable", pa.bool_()),
        ("before_haircuts", pa.bool_()),
        *_MARGINS,
    ),
    "balances": _schema(
        ("account", pa.string()),
        ("number", pa.uint32()),
        ("asset", pa.string()),
        ("units", pa.int64()),
        ("amount", AMOUNT),
        ("asset_price", pa.float64()),
        ("haircut", pa.float64()),
    ),
    "positions": _schema(
        ("account", pa.string()),
        ("number", pa.uint32()),
        ("instrument", pa.string()),
        ("lots", pa.int64()),
        ("quantity", pa.float64()),
        ("mark_price", pa.float64()),
        ("value", pa.float64()),
        ("settlement_asset", pa.string()),
        ("value_in_settlement_asset", pa.float64()),
        ("entry_price", pa.float64()),
        ("unrealised_pnl", pa.float64()),
        ("liquidation_order_lots", pa.int64()),
    ),
    "open_orders": _schema(
        ("account", pa.string()),
        ("number", pa.uint32()),
        ("instrument", pa.string()),
        ("buy_lots", pa.int64()),
        ("sell_lots", pa.int64()),
        ("buy_quantity", pa.float64()),
        ("sell_quantity", pa.float64()),
    ),
    "greeks": _schema(
        ("account", pa.string()),
        ("number", pa.uint32()),
        ("underlying", pa.string()),
        ("expiry_ns", pa.int64()),
        ("expiry_utc", _TIME),
        ("delta_per_price", pa.float64()),
        ("gamma_per_price_squared", pa.float64()),
        ("vega_per_vol", pa.float64()),
        ("theta_per_day", pa.float64()),
        ("rho_per_rate", pa.float64()),
        ("positions", pa.int64()),
        ("undecidable_positions", pa.int64()),
    ),
    "prices": _schema(
        ("instrument", pa.string()),
        ("decidable", pa.bool_()),
        ("index_price", pa.float64()),
        ("mark_price", pa.float64()),
        ("forward", pa.float64()),
        ("implied_vol", pa.float64()),
        ("value_per_lot_in_settlement_asset", pa.float64()),
        ("notional_per_lot", pa.float64()),
    ),
    "asset_prices": _schema(
        ("asset", pa.string()),
        ("decidable", pa.bool_()),
        ("price", pa.float64()),
        ("confidence_ratio", pa.float64()),
        ("realised_vol", pa.float64()),
        ("haircut", pa.float64()),
    ),
    "tier_changes": _schema(
        ("account", pa.string()),
        ("number", pa.uint32()),
        ("row_index", pa.uint32()),
        ("tier_from", pa.string()),
        ("tier_to", pa.string()),
        *_MARGINS,
    ),
    "orders": _schema(
        ("account", pa.string()),
        ("number", pa.uint32()),
        ("row_index", pa.uint32()),
        ("action", pa.string()),
        ("instrument", pa.string()),
        ("lots", pa.int64()),
        ("quantity", pa.float64()),
        ("order_lots_before", pa.int64()),
    ),
    "withdrawals": _schema(
        ("account", pa.string()),
        ("number", pa.uint32()),
        ("row_index", pa.uint32()),
        ("sequence", pa.int64()),
        ("accepted", pa.bool_()),
        ("asset", pa.string()),
        ("units", pa.int64()),
        ("amount", AMOUNT),
        ("equity", pa.float64()),
        ("initial_margin", pa.float64()),
    ),
    "payments": _schema(
        ("account", pa.string()),
        ("number", pa.uint32()),
        ("row_index", pa.uint32()),
        ("kind", pa.string()),
        ("instrument", pa.string()),
        ("lots", pa.int64()),
        ("asset", pa.string()),
        ("units", pa.int64()),
        ("amount", AMOUNT),
    ),
    "suspensions": _schema(
        ("account", pa.string()),
        ("number", pa.uint32()),
        ("row_index", pa.uint32()),
        ("suspended", pa.bool_()),
        ("tier", pa.string()),
    ),
    "funding_owed": _schema(
        ("row_index", pa.uint32()),
        ("instrument", pa.string()),
        ("rates_waiting", pa.int64()),
    ),
    "feed_status": _schema(
        ("row_index", pa.uint32()), ("kind", pa.string()), ("name", pa.string()), ("fresh", pa.bool_())
    ),
    "account_events": _schema(
        ("event_time_ns", pa.int64()),
        ("account", pa.string()),
        ("number", pa.uint32()),
        ("sequence", pa.int64()),
        ("row_index", pa.int64()),
        ("kind", pa.string()),
        ("side", pa.string()),
        ("liquidation", pa.bool_()),
        ("counterparty", pa.string()),
        ("instrument", pa.string()),
        ("lots", pa.int64()),
        ("quantity", pa.float64()),
        ("price", pa.float64()),
        ("asset", pa.string()),
        ("cash_units", pa.int64()),
        ("cash", AMOUNT),
        ("fee_units", pa.int64()),
        ("fee", AMOUNT),
        ("reference", pa.string()),
    ),
    "net_changes": _schema(
        ("period", pa.int64()),
        ("account", pa.string()),
        ("number", pa.uint32()),
        ("kind", pa.string()),
        ("asset", pa.string()),
        ("units", pa.int64()),
        ("instrument", pa.string()),
        ("lots", pa.int64()),
    ),
    "batches": _schema(
        ("batch", pa.int64()),
        ("period", pa.int64()),
        ("first_frame", pa.uint64()),
        ("previous_root", pa.string()),
        ("new_root", pa.string()),
        ("order_commitment", pa.string()),
        ("deltas", pa.int64()),
        ("accounts", pa.int64()),
    ),
    "dead_letters": _schema(
        ("reason", pa.string()),
        ("transient", pa.bool_()),
        ("message", pa.string()),
        ("origin_topic", pa.string()),
        ("origin_partition", pa.int64()),
        ("origin_offset", pa.int64()),
        ("event_time_ns", pa.int64()),
        ("payload", pa.binary()),
    ),
    "instruments": _schema(
        ("instrument", pa.string()),
        ("instrument_index", pa.int64()),
        ("kind", pa.string()),
        ("underlying", pa.string()),
        ("quote", pa.string()),
        ("settlement_asset", pa.string()),
        ("base_asset", pa.string()),
        ("payoff", pa.string()),
        ("option_type", pa.string()),
        ("strike", pa.float64()),
        ("expiry_ns", pa.int64()),
        ("expiry_utc", _TIME),
        ("lot_size", pa.float64()),
        ("lot_quantity", pa.float64()),
        ("tick_size", pa.float64()),
    ),
    "assets": _schema(("asset", pa.string()), ("asset_index", pa.int64()), ("decimals", pa.int64())),
}


@dataclass(frozen=True, slots=True)
class Moment:
    """The barrier at which rows are written: its frame, ledger time and settlement period."""

    frame: int
    time_ns: int
    period: int


def table_of(name: str, columns: Mapping[str, Any]) -> pa.Table:
    """Return columns (arrays, lists or numpy) as the named table, in its order and types."""
    schema = SCHEMAS[name]
    arrays = []
    for field in schema:
        column = columns[field.name]
        array = column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column, from_pandas=False)
        arrays.append(array.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def at_frames(frames: IntegerArray, times_ns: IntegerArray) -> dict[str, Any]:
    """Return the frame columns of rows at the given frames and ledger times, (n,) each."""
    times = pa.array(np.ascontiguousarray(times_ns, dtype=np.int64))
    return {
        "frame": pa.array(np.ascontiguousarray(frames, dtype=np.uint64)),
        "time_ns": times,
        "time_utc": microseconds(times),
    }


def at_moment(moment: Moment, count: int) -> dict[str, Any]:
    """Return the frame columns of ``count`` rows of one moment."""
    return at_frames(np.full(count, moment.frame), np.full(count, moment.time_ns))


def at_moments(moments: Sequence[Moment]) -> dict[str, Any]:
    """Return the frame columns of rows that each belong to a moment of their own."""
    return at_frames(
        np.array([moment.frame for moment in moments], dtype=np.int64),
        np.array([moment.time_ns for moment in moments], dtype=np.int64),
    )


def microseconds(times_ns: AnyArray) -> AnyArray:
    """Return nanoseconds as TIMESTAMP, which every reader's date functions take; the nanoseconds stand beside it."""
    return pc.divide(times_ns, 1000).cast(_TIME)


def margin_columns(
    equity: Float64Array, initial: Float64Array, maintenance: Float64Array, mask: BoolArray | None = None
) -> dict[str, Any]:
    """Return the margin columns, (n,) in the numeraire; null under ``mask``."""
    return {
        "equity": finite(equity, mask=mask),
        "initial_margin": finite(initial, mask=mask),
        "maintenance_margin": finite(maintenance, mask=mask),
        "free_margin": finite(equity - initial, mask=mask),
        "health": finite(equity - maintenance, mask=mask),
    }


def finite(values: Float64Array, mask: BoolArray | None = None) -> AnyArray:
    """Return float64 values, null where not finite or under ``mask``."""
    unknown = ~np.isfinite(values)
    return pa.array(values, pa.float64(), mask=unknown if mask is None else unknown | mask)


def positive(values: Float64Array) -> AnyArray:
    """Return float64 values, null where not above zero: such a price or vol is none."""
    return finite(values, mask=~(values > 0.0))


def encode_tables(tables: Mapping[str, pa.Table]) -> bytes:
    """Return tables by name as Arrow IPC, each behind its name and length."""
    pieces: list[bytes] = []
    for name, table in tables.items():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        body = sink.getvalue().to_pybytes()
        pieces += [len(name).to_bytes(4, "little"), name.encode(), len(body).to_bytes(8, "little"), body]
    return b"".join(pieces)


def decode_tables(data: bytes) -> dict[str, pa.Table]:
    """Return the tables that ``encode_tables`` wrote."""
    tables: dict[str, pa.Table] = {}
    at = 0
    while at < len(data):
        name_end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        name = data[at + 4 : name_end].decode()
        body_end = name_end + 8 + int.from_bytes(data[name_end : name_end + 8], "little")
        with pa.ipc.open_stream(data[name_end + 8 : body_end]) as reader:
            tables[name] = reader.read_all()
        at = body_end
    return tables
