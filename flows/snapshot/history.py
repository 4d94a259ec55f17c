"""What happened, as rows: the outputs of intake, risk and settlement, and the account records themselves.

1. Rows stand in the order of the ledger: by frame, then as the frame has them.
2. A row of an account event carries the id of the event that caused it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.market.listings import Asset, Instrument
from flows.snapshot.names import Names, tier_names
from flows.snapshot.tables import SCHEMAS, Moment, at_frames, at_moment, finite, margin_columns, microseconds, table_of
from schemas.failures import DeadLetter
from schemas.ledger import NO_INSTRUMENT, LegFlag, LegKind, Legs
from schemas.results import DeltaKind, Deltas, ResultKind, Results

_LEG_KINDS: Final = pa.array([None, *(kind.name.lower() for kind in LegKind)])


class BatchFacts(Protocol):
    """What a settlement batch says of itself (``flows.settlement.batch``)."""

    @property
    def number(self) -> int: ...
    @property
    def period(self) -> int: ...
    @property
    def first_frame(self) -> int: ...
    @property
    def last_frame(self) -> int: ...
    @property
    def time_ns(self) -> int: ...
    @property
    def previous_root(self) -> bytes: ...
    @property
    def new_root(self) -> bytes: ...
    @property
    def order_commitment(self) -> bytes: ...
    @property
    def delta_count(self) -> int: ...
    @property
    def account_count(self) -> int: ...


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
    legs = np.concatenate([record.legs for record in records])
    counts = [record.legs.shape[0] for record in records]
    # A frame's sequence numbers count from 0; the references of all frames stand in one array.
    start = np.cumsum([0, *(len(record.references) for record in records[:-1])])
    references = pa.array([text for record in records for text in record.references], pa.string())
    instrument = legs["instrument"].astype(np.int64)
    no_instrument = legs["instrument"] == NO_INSTRUMENT
    asset = legs["asset"].astype(np.int64)
    traded = np.isin(legs["kind"], [int(LegKind.FILL), int(LegKind.BUST), int(LegKind.SPOT_BASE)])
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
                pa.array(legs["flags"] & int(LegFlag.BUYER) != 0, pa.bool_(), mask=~traded).cast(pa.int64())
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


def net_change_rows(deltas: Deltas, *, moment: Moment, names: Names) -> pa.Table:
    """Return table ``net_changes``: what the settlement period changed, netted.

    ``deltas`` : canonical, the parts of system accounts already added up (``flows.settlement.netting.net``).
    """
    is_asset = deltas["kind"] == int(DeltaKind.ASSET)
    market = deltas["market"].astype(np.int64)
    kinds = pa.array(["position", "asset"])
    return table_of(
        "net_changes",
        {
            **at_moment(moment, deltas.shape[0]),
            "period": np.full(deltas.shape[0], moment.period),
            "account": names.account(deltas["account"]),
            "number": deltas["account"],
            "kind": kinds.take(pa.array(is_asset).cast(pa.int64())),
            "asset": names.asset(np.where(is_asset, market, 0), mask=~is_asset),
            "units": pa.array(deltas["amount"], mask=~is_asset),
            "instrument": names.instrument(market, mask=is_asset),
            "lots": pa.array(deltas["amount"], mask=is_asset),
        },
    )


def barrier_row(moment: Moment, *, content_head: bytes, state_hash: bytes) -> pa.Table:
    """Return the row of table ``barriers`` (hashes as lower-case hex)."""
    return table_of(
        "barriers",
        {
            **at_moment(moment, 1),
            "period": [moment.period],
            "content_head": [content_head.hex()],
            "state_hash": [state_hash.hex()],
        },
    )


def batch_rows(batches: Sequence[BatchFacts]) -> pa.Table:
    """Return table ``batches``; a batch's frame is the barrier that closed it."""
    return table_of(
        "batches",
        {
            **at_frames(
                np.array([batch.last_frame for batch in batches], dtype=np.int64),
                np.array([batch.time_ns for batch in batches], dtype=np.int64),
            ),
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


def dead_letter_rows(letters: Sequence[DeadLetter], *, moment: Moment) -> pa.Table:
    """Return table ``dead_letters``; a refusal's frame is the barrier of the period in which it was refused."""
    return table_of(
        "dead_letters",
        {
            **at_moment(moment, len(letters)),
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
            **at_moment(Moment(frame, time_ns, 0), len(instruments)),
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
            **at_moment(Moment(frame, time_ns, 0), len(assets)),
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
