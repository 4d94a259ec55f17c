"""What happened, as rows: the outputs of intake, risk and settlement, and the account records themselves.

1. Rows stand in the order of the ledger: by frame, then as the frame has them.
2. A row of an account event carries the id of the event that caused it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flows.market.listings import Asset, Instrument
from flows.snapshot.names import Names, tier_names
from flows.snapshot.tables import SCHEMAS, Moment, at_frames, at_moments, finite, margin_columns, microseconds, table_of
from schemas.failures import DeadLetter
from schemas.ledger import LEG, NO_INSTRUMENT, LegFlag, LegKind, Legs
from schemas.results import DELTA, RESULT, DeltaKind, Deltas, ResultKind, Results

_LEG_KINDS: Final = pa.array([None, *(kind.name.lower() for kind in LegKind)])


class BatchFacts(Protocol):
    """What a settlement batch says of itself (``flows.settlement.batch``)."""

    @property
    def number(self) -> int:
        """From 1."""

    @property
    def period(self) -> int:
        """The last settlement period in it."""

    @property
    def first_frame(self) -> int:
        """The first frame it settles."""

    @property
    def last_frame(self) -> int:
        """The barrier that closed it."""

    @property
    def time_ns(self) -> int:
        """The barrier's ledger time."""

    @property
    def previous_root(self) -> bytes:
        """State root before it."""

    @property
    def new_root(self) -> bytes:
        """State root after it."""

    @property
    def order_commitment(self) -> bytes:
        """The barrier's content head."""

    @property
    def delta_count(self) -> int:
        """How many deltas it holds."""

    @property
    def account_count(self) -> int:
        """How many accounts it changes."""


def result_tables(results: Results, names: Names) -> dict[str, pa.Table]:
    """Return the risk step's result rows, each kind in its table; ``results`` in (frame, account, index) order."""
    kind = results["kind"]

    def of(*kinds: ResultKind) -> Results:
        return results[np.isin(kind, [int(wanted) for wanted in kinds])]

    return {
        "tier_changes": _tier_change_rows(of(ResultKind.TIER_CHANGED), names),
        "orders": _order_rows(of(ResultKind.ORDER_OPENED, ResultKind.ORDER_GROWN, ResultKind.ORDER_CANCELLED), names),
        "withdrawals": _withdrawal_rows(of(ResultKind.WITHDRAWAL_ACCEPTED, ResultKind.WITHDRAWAL_REFUSED), names),
        "payments": _payment_rows(of(ResultKind.EXPIRY_SETTLED, ResultKind.FUNDING_PAID), names),
        "suspensions": _suspension_rows(of(ResultKind.DECISION_SUSPENDED, ResultKind.DECISION_RESUMED), names),
        "funding_owed": _funding_owed_rows(of(ResultKind.FUNDING_OWED), names),
        "feed_status": _feed_rows(of(ResultKind.FEED_STALE, ResultKind.FEED_FRESH), names),
    }


@dataclass(frozen=True, slots=True)
class FrameRecords:
    """The account records of one frame, kept until they are written."""

    frame: int
    time_ns: int
    legs: Legs
    references: list[str]


def account_event_rows(records: Sequence[FrameRecords], names: Names) -> pa.Table:
    """Return table ``account_events``: every account record as it entered, in order, with the id that brought it."""
    if not records:
        return SCHEMAS["account_events"].empty_table()
    legs = _joined([record.legs for record in records], LEG)
    counts = [record.legs.shape[0] for record in records]
    # A frame's sequence numbers count from 0; the references of all frames stand in one array.
    start = np.cumsum([0, *(len(record.references) for record in records[:-1])])
    references = pa.array([text for record in records for text in record.references], pa.string())
    instrument = legs["instrument"].astype(np.int64)
    no_instrument = legs["instrument"] == NO_INSTRUMENT
    asset = legs["asset"].astype(np.int64)
    traded = np.isin(legs["kind"], [int(LegKind.FILL), int(LegKind.BUST), int(LegKind.SPOT_BASE)])
    told = legs["kind"] == int(LegKind.OPEN_ORDERS)
    sides = pa.array(["seller", "buyer"])
    return table_of(
        "account_events",
        {
            **at_frames(
                np.repeat([record.frame for record in records], counts),
                np.repeat([record.time_ns for record in records], counts),
            ),
            "event_time_ns": legs["time_ns"],
            "account": names.account(legs["account"]),
            "number": legs["account"],
            "sequence": legs["sequence"],
            "row_index": legs["index"],
            "kind": _LEG_KINDS.take(pa.array(legs["kind"], pa.int64())),
            "side": sides.take(
                pa.array(legs["flags"] & int(LegFlag.BUYER) != 0, pa.bool_(), mask=~(traded | told)).cast(pa.int64())
            ),
            "liquidation": legs["flags"] & int(LegFlag.LIQUIDATION) != 0,
            "counterparty": names.account(np.where(traded, legs["counterparty"], 0), mask=~traded),
            "instrument": names.instrument(instrument, mask=no_instrument),
            "lots": legs["lots"],
            "quantity": names.scaled(legs["lots"], names.lot_size, instrument, mask=no_instrument),
            "price": names.scaled(legs["price_ticks"], names.tick_size, instrument, mask=no_instrument | ~traded),
            "asset": names.asset(asset),
            "cash_units": legs["cash"],
            "cash": names.amount(legs["cash"], asset),
            "fee_units": legs["fee"],
            "fee": names.amount(legs["fee"], asset),
            "reference": references.take(pa.array(np.repeat(start, counts) + legs["sequence"])),
        },
    )


@dataclass(frozen=True, slots=True)
class ClosedPeriod:
    """What a barrier brought, kept until it is written.

    ``results`` are in (frame, account, index) order; ``deltas`` canonical, the parts of system accounts added up.
    """

    moment: Moment
    content_head: bytes
    state_hash: bytes
    results: Results
    deltas: Deltas
    batches: Sequence[BatchFacts]
    dead_letters: Sequence[DeadLetter]

    @property
    def rows(self) -> int:
        """How many rows it will make."""
        return 1 + len(self.results) + len(self.deltas) + len(self.batches) + len(self.dead_letters)


def period_tables(periods: Sequence[ClosedPeriod], names: Names) -> dict[str, pa.Table]:
    """Return what successive barriers brought, each kind in its table; at least one period."""
    return {
        "barriers": _barrier_rows(periods),
        **result_tables(_joined([period.results for period in periods], RESULT), names),
        "net_changes": _net_change_rows(periods, names),
        "batches": _batch_rows([batch for period in periods for batch in period.batches]),
        "dead_letters": _dead_letter_rows(
            [(period.moment, letter) for period in periods for letter in period.dead_letters]
        ),
    }


def _net_change_rows(periods: Sequence[ClosedPeriod], names: Names) -> pa.Table:
    deltas = _joined([period.deltas for period in periods], DELTA)
    counts = [period.deltas.shape[0] for period in periods]
    is_asset = deltas["kind"] == int(DeltaKind.ASSET)
    market = deltas["market"].astype(np.int64)
    kinds = pa.array(["position", "asset"])
    return table_of(
        "net_changes",
        {
            **at_frames(
                np.repeat([period.moment.frame for period in periods], counts),
                np.repeat([period.moment.time_ns for period in periods], counts),
            ),
            "period": np.repeat([period.moment.period for period in periods], counts),
            "account": names.account(deltas["account"]),
            "number": deltas["account"],
            "kind": kinds.take(pa.array(is_asset).cast(pa.int64())),
            "asset": names.asset(np.where(is_asset, market, 0), mask=~is_asset),
            "units": pa.array(deltas["amount"], mask=~is_asset),
            "instrument": names.instrument(market, mask=is_asset),
            "lots": pa.array(deltas["amount"], mask=is_asset),
        },
    )


def _barrier_rows(periods: Sequence[ClosedPeriod]) -> pa.Table:
    return table_of(
        "barriers",
        {
            **at_moments([period.moment for period in periods]),
            "period": [period.moment.period for period in periods],
            "content_head": [period.content_head.hex() for period in periods],
            "state_hash": [period.state_hash.hex() for period in periods],
        },
    )


def _batch_rows(batches: Sequence[BatchFacts]) -> pa.Table:
    return table_of(
        "batches",
        {
            # A batch's frame is the barrier that closed it.
            **at_moments([Moment(batch.last_frame, batch.time_ns, batch.period) for batch in batches]),
            "batch": [batch.number for batch in batches],
            "period": [batch.period for batch in batches],
            "first_frame": [batch.first_frame for batch in batches],
            "previous_root": [batch.previous_root.hex() for batch in batches],
            "new_root": [batch.new_root.hex() for batch in batches],
            "order_commitment": [batch.order_commitment.hex() for batch in batches],
            "deltas": [batch.delta_count for batch in batches],
            "accounts": [batch.account_count for batch in batches],
        },
    )


def _dead_letter_rows(refused: Sequence[tuple[Moment, DeadLetter]]) -> pa.Table:
    letters = [letter for _, letter in refused]
    return table_of(
        "dead_letters",
        {
            # A refusal's frame is the barrier of the period in which it was refused.
            **at_moments([moment for moment, _ in refused]),
            "reason": [letter.reason.value for letter in letters],
            "transient": [letter.reason.is_transient for letter in letters],
            "message": [letter.message for letter in letters],
            "origin_topic": [letter.origin.topic for letter in letters],
            "origin_partition": [letter.origin.partition for letter in letters],
            "origin_offset": [letter.origin.offset for letter in letters],
            "event_time_ns": [letter.event_time_ns or None for letter in letters],
            "payload": [letter.payload for letter in letters],
        },
    )


def instrument_rows(instruments: Sequence[Instrument], *, frame: int, time_ns: int, names: Names) -> pa.Table:
    """Return table ``instruments`` for those that ``frame`` listed."""
    expiry = [instrument.expiry_ns for instrument in instruments]
    base = np.array([instrument.base_asset for instrument in instruments], dtype=np.int64)
    return table_of(
        "instruments",
        {
            **at_moments([Moment(frame, time_ns, 0)] * len(instruments)),
            "instrument": [instrument.instrument for instrument in instruments],
            "instrument_index": [instrument.index for instrument in instruments],
            "kind": [instrument.kind.value for instrument in instruments],
            "underlying": [instrument.underlying for instrument in instruments],
            "quote": [instrument.quote for instrument in instruments],
            "settlement_asset": names.asset(np.array([i.settlement_asset for i in instruments], dtype=np.int64)),
            "base_asset": names.asset(np.maximum(base, 0), mask=base < 0),
            "payoff": [instrument.payoff.value for instrument in instruments],
            "option_type": [None if i.option_type is None else i.option_type.value for i in instruments],
            "strike": [None if i.strike is None else float(i.strike) for i in instruments],
            "expiry_ns": expiry,
            "expiry_utc": microseconds(pa.array(expiry, pa.int64())),
            "lot_size": [float(instrument.lot_size) for instrument in instruments],
            "lot_quantity": [float(instrument.lot_quantity) for instrument in instruments],
            "tick_size": [float(instrument.tick_size) for instrument in instruments],
        },
    )


def asset_rows(assets: Sequence[Asset], *, frame: int, time_ns: int) -> pa.Table:
    """Return table ``assets`` for those that ``frame`` listed."""
    return table_of(
        "assets",
        {
            **at_moments([Moment(frame, time_ns, 0)] * len(assets)),
            "asset": [asset.asset for asset in assets],
            "asset_index": [asset.index for asset in assets],
            "decimals": [asset.decimals for asset in assets],
        },
    )


def _of_account(rows: Results, names: Names) -> dict[str, Any]:
    return {
        **at_frames(rows["frame"], rows["time_ns"]),
        "account": names.account(rows["account"]),
        "number": rows["account"],
        "row_index": rows["index"],
    }


def _tier_change_rows(rows: Results, names: Names) -> pa.Table:
    return table_of(
        "tier_changes",
        {
            **_of_account(rows, names),
            "tier_from": tier_names(rows["tier_from"]),
            "tier_to": tier_names(rows["tier_to"]),
            **margin_columns(rows["equity"], rows["initial_margin"], rows["maintenance_margin"]),
        },
    )


def _order_rows(rows: Results, names: Names) -> pa.Table:
    instrument = rows["instrument"]
    actions = {
        ResultKind.ORDER_OPENED: "opened",
        ResultKind.ORDER_GROWN: "grown",
        ResultKind.ORDER_CANCELLED: "cancelled",
    }
    every = np.zeros(rows.shape[0], dtype=np.bool_)
    return table_of(
        "orders",
        {
            **_of_account(rows, names),
            "action": [actions[ResultKind(kind)] for kind in rows["kind"]],
            "instrument": names.instrument(instrument),
            "lots": rows["lots"],
            "quantity": names.scaled(rows["lots"], names.lot_size, instrument, mask=every),
            "order_lots_before": rows["amount"],
        },
    )


def _withdrawal_rows(rows: Results, names: Names) -> pa.Table:
    asset = rows["instrument"]
    return table_of(
        "withdrawals",
        {
            **_of_account(rows, names),
            "sequence": rows["lots"],
            "accepted": rows["kind"] == int(ResultKind.WITHDRAWAL_ACCEPTED),
            "asset": names.asset(asset),
            "units": rows["amount"],
            "amount": names.amount(rows["amount"], asset),
            "equity": finite(rows["equity"]),
            "initial_margin": finite(rows["initial_margin"]),
        },
    )


def _payment_rows(rows: Results, names: Names) -> pa.Table:
    instrument = rows["instrument"]
    asset = names.settlement_asset[instrument]
    kinds = {ResultKind.EXPIRY_SETTLED: "expiry", ResultKind.FUNDING_PAID: "funding"}
    return table_of(
        "payments",
        {
            **_of_account(rows, names),
            "kind": [kinds[ResultKind(kind)] for kind in rows["kind"]],
            "instrument": names.instrument(instrument),
            "lots": rows["lots"],
            "asset": names.asset(asset),
            "units": rows["amount"],
            "amount": names.amount(rows["amount"], asset),
        },
    )


def _funding_owed_rows(rows: Results, names: Names) -> pa.Table:
    return table_of(
        "funding_owed",
        {
            **at_frames(rows["frame"], rows["time_ns"]),
            "row_index": rows["index"],
            "instrument": names.instrument(rows["instrument"]),
            "rates_waiting": rows["amount"],
        },
    )


def _suspension_rows(rows: Results, names: Names) -> pa.Table:
    return table_of(
        "suspensions",
        {
            **_of_account(rows, names),
            "suspended": rows["kind"] == int(ResultKind.DECISION_SUSPENDED),
            "tier": tier_names(rows["tier_to"]),
        },
    )


def _feed_rows(rows: Results, names: Names) -> pa.Table:
    is_asset = rows["amount"] == 0
    assets = names.asset(np.where(is_asset, rows["instrument"], 0), mask=~is_asset)
    instruments = names.instrument(np.where(is_asset, 0, rows["instrument"]), mask=is_asset)
    kinds = pa.array(["instrument", "asset"])
    return table_of(
        "feed_status",
        {
            **at_frames(rows["frame"], rows["time_ns"]),
            "row_index": rows["index"],
            "kind": kinds.take(pa.array(is_asset).cast(pa.int64())),
            "name": pc.coalesce(assets, instruments),
            "fresh": rows["kind"] == int(ResultKind.FEED_FRESH),
        },
    )


def _joined(arrays: Sequence[npt.NDArray[np.void]], dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """Return record arrays end to end; np.concatenate would promote the fields of each, 16 µs apiece."""
    return np.frombuffer(b"".join([array.tobytes() for array in arrays]), dtype=dtype)
