"""The ledger is written here: events in the fair order become frames, and everything behind is a function of them.

``Intake`` is the stage's memory and ``step`` its transition. The rules of framing:

1. A frame holds market records, then account records. A market record behind an account record opens a new frame, so
   nothing is ever reordered.
2. A second value of one observation (feed and source, instrument and source, …) opens a new frame. Other market
   records share a frame only if their time is the frame's; observations may also join a frame of observations alone
   that is at most ``frame_span_ns`` older. Account records join any frame of their settlement period.
3. A frame's time is the ledger time of its first record. Ledger time is the latest event time so far: an event that
   comes late takes its place at the end, never before.
4. A settlement period is ``time // settlement_period_ns``. Before the first frame of a later period, a barrier
   frame closes the period, at its last nanosecond. Periods without frames have no barrier.
5. Time passes in silence: before an event, a heartbeat frame stands at each expiry since the last frame and at each
   ``heartbeat_ns`` of silence (at most ``HEARTBEATS_MAX`` in a gap: a clock that jumps cannot flood the ledger).
6. Repeated and refused events leave no trace in the ledger, not even in its time. Neither do files, batches of
   ``step``, and stops: only the positions that barriers carry tell of inputs, and those are not content.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final, cast

import msgspec

from flows.intake.decode import Arrival, canonical, check_fields, check_new_id, dead_letter
from flows.intake.duplicates import EVENT_ROW, FILL_ROW, Duplicates, content_hash, id_key
from flows.intake.registry import (
    MarketEntry,
    Movement,
    ObservationKey,
    OrdersLeft,
    Registry,
    RegistryState,
    Tradable,
    Trade,
    TransferStatus,
)
from schemas.checkpoint import open_envelope, seal_envelope
from schemas.events import Collateral, Event, Fill, FillBusted, OrdersOpen, WithdrawalRequested
from schemas.failures import DeadLetter, FailureReason, Origin, Refused
from schemas.ids import BRIDGE_NUMBER, HOUSE_NUMBER
from schemas.instruments import InstrumentKind
from schemas.ledger import (
    GENESIS_HEAD,
    LEG_PACKING,
    NO_INSTRUMENT,
    FrameKind,
    Genesis,
    GenesisRecord,
    InstrumentRecord,
    LegFlag,
    LegKind,
    MarketRecord,
    pack_frame,
)
from schemas.parameters import PARAMETER_SETS, ParameterSet

HEARTBEATS_MAX: Final = 10
_NOUN: Final = "intake"
_VERSION: Final = 1
_WITH_FILL_ID: Final = frozenset((Fill, FillBusted))
_ACCOUNT_EVENTS: Final = frozenset((Fill, FillBusted, OrdersOpen, Collateral, WithdrawalRequested))
# Plain integers: arithmetic on enum members costs more than packing a leg.
_BUYER: Final = int(LegFlag.BUYER)
_FILL: Final = int(LegKind.FILL)
_BUST: Final = int(LegKind.BUST)
_SPOT_BASE: Final = int(LegKind.SPOT_BASE)
_OPEN_ORDERS: Final = int(LegKind.OPEN_ORDERS)
_SHARDS_MAX: Final = 0xFFFF
_FOREVER: Final = 2**63 - 1
_BUSTED: Final = 1
_LIQUIDATION: Final = 2
# Faults of an event by itself come before faults against the ledger, and are looked for when one of these is met.
_AGAINST_THE_LEDGER: Final = frozenset(list(FailureReason)[list(FailureReason).index(FailureReason.TOO_OLD) :])


@dataclass(slots=True)
class Counts:
    """What became of the events so far, or of those of one passage."""

    accepted: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    fills: int = 0
    busts: int = 0
    transfers: int = 0
    withdrawals: int = 0
    open_orders: int = 0
    market_records: int = 0
    account_records: int = 0
    frames: int = 0
    barriers: int = 0

    def add(self, other: "Counts") -> None:
        """Add another's counts to these."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class IntakeOut:
    """A passage: what some arrivals caused, up to a barrier (then its last frame) or to the end of the input given."""

    frames: list[bytes] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    closes_period: bool = False


# A fill as its row keeps it, behind key and time.
FillNumbers = tuple[int, int, int, int, int, int, int, int, int]
# What an event does: a market record, a fill, the row of a fill to undo, a movement of money, open orders.
_Entry = MarketEntry | Trade | bytes | Movement | OrdersLeft


class _OpenFrame(msgspec.Struct, array_like=True):
    time_ns: int
    observations_only: bool
    market: list[MarketRecord]
    keys: list[tuple[str | int, ...]]
    legs: list[bytes]
    shards: list[int]
    references: list[str]


class _State(msgspec.Struct, array_like=True):
    genesis: Genesis
    shard_count: int
    margin_models: list[str]
    number: int
    head: bytes
    ledger_time_ns: int
    frame_time_ns: int | None
    beats: int
    period: int | None
    open_frame: _OpenFrame | None
    expiries: list[int]
    positions: dict[str, int]
    counts: dict[str, int]
    registry: RegistryState
    duplicates: bytes


class Intake:
    """The memory of intake: registry, duplicates, the open frame and the head of the chain.

    Parameters
    ----------
    genesis : what must never drift.
    shard_count : into how many shards accounts are cut; no part of the content.
    margin_models : the names that ``account.opened`` may use.
    parameter_sets : what ``parameters.changed`` may name.

    Raises
    ------
    ValueError : a period, heartbeat, frame size or shard count that is not positive.
    """

    def __init__(
        self,
        genesis: Genesis,
        *,
        shard_count: int,
        margin_models: Collection[str],
        parameter_sets: Mapping[str, type[ParameterSet]] = PARAMETER_SETS,
    ) -> None:
        _check_genesis(genesis, shard_count)
        self.genesis = genesis
        self.shard_count = shard_count
        self.counts = Counts(frames=1)
        self.positions: dict[str, int] = {}
        self._margin_models = sorted(margin_models)
        self._registry = Registry(
            numeraire=genesis.numeraire,
            shard_count=shard_count,
            margin_models=self._margin_models,
            window_ns=genesis.duplicate_window_ns,
            parameter_sets=parameter_sets,
        )
        self._duplicates = Duplicates(genesis.duplicate_window_ns)
        self._genesis_frame, self._head = pack_frame(
            number=0,
            kind=FrameKind.GENESIS,
            time_ns=0,
            period=0,
            shard_count=shard_count,
            market=[GenesisRecord(genesis)],
            legs=[],
            leg_shards=[],
            references=[],
            previous_head=GENESIS_HEAD,
        )
        self._number = 1
        self._ledger_time_ns = 0
        self._period: int | None = None
        self._expiries: list[int] = []
        # The last frame's time, and until when nothing is due: no heartbeat, no expiry, no barrier.
        self._frame_time_ns: int | None = None
        self._calm_until_ns = -1
        # Heartbeats since the last event.
        self._beats = 0
        self._is_open = False
        self._open_time_ns = 0
        self._observations_only = False
        self._market: list[MarketRecord] = []
        self._keys: set[tuple[str | int, ...]] = set()
        self._legs: list[bytes] = []
        self._shards: list[int] = []
        self._references: list[str] = []
        self._out = IntakeOut()

    @property
    def ledger_time_ns(self) -> int:
        """The latest time of any event or heartbeat so far."""
        return self._ledger_time_ns

    @property
    def head(self) -> bytes:
        """The content head of the last frame written: the order commitment."""
        return self._head

    @property
    def next_frame(self) -> int:
        """The number of the next frame."""
        return self._number

    def genesis_frame(self) -> bytes:
        """Return frame 0."""
        return self._genesis_frame

    def step(self, arrivals: Iterable[Arrival]) -> Iterator[IntakeOut]:
        """Take arrivals in the fair order; yield a passage at each barrier, and at last the rest if there is any.

        Between two passages ``checkpoint`` is exact: the arrival that made the barrier due is not yet part of the
        memory, nor of ``positions``. The iterator must be exhausted before the next step.
        """
        block = list(arrivals)
        event_keys: list[bytes] = []
        fill_keys: list[bytes] = []
        for arrival in block:
            event = arrival[0]
            if isinstance(event, DeadLetter):
                event_keys.append(b"")
                continue
            event_keys.append(id_key(event.event_id))
            # The set answers fast for most; isinstance tells the type checker.
            if type(event) in _WITH_FILL_ID and isinstance(event, (Fill, FillBusted)):
                fill_keys.append(id_key(event.fill_id))
        self._duplicates.look_up([key for key in event_keys if key], fill_keys)
        next_fill_key = iter(fill_keys).__next__
        positions = self.positions
        recent = self._duplicates.events.recent
        out = self._out
        for (event, raw, stream, offset, position), key in zip(block, event_keys, strict=True):
            if isinstance(event, DeadLetter):
                out.dead_letters.append(event)
                out.counts.dead_letters += 1
                positions[stream.name] = position
                continue
            fill_key = next_fill_key() if type(event) in _WITH_FILL_ID else b""
            time_ns = max(event.event_time_ns, self._ledger_time_ns)
            content = content_hash(canonical(event))
            try:
                entry = self._check(event, key, content, fill_key, time_ns)
            except Refused as refused:
                origin = Origin(stream.topic, stream.partition, offset)
                out.dead_letters.append(dead_letter(_first_fault(event, refused), origin, raw, event))
                out.counts.dead_letters += 1
                positions[stream.name] = position
                continue
            if entry is None:
                out.counts.duplicates += 1
                positions[stream.name] = position
                continue
            if time_ns > self._calm_until_ns:
                for _ in self._pass_time(time_ns):
                    yield self._passage(closes_period=True)
                    out = self._out
            self._ledger_time_ns = time_ns
            self._beats = 0
            if key in recent:
                self._duplicates.events.put(key, EVENT_ROW.pack(key, time_ns, content))
            else:
                recent[key] = EVENT_ROW.pack(key, time_ns, content)
            out.counts.accepted += 1
            if type(event) not in _ACCOUNT_EVENTS:
                self._take_market(cast(MarketEntry, entry))
            elif isinstance(event, Fill):
                self._take_fill(event, cast(Trade, entry), fill_key)
            elif isinstance(event, FillBusted):
                self._take_bust(event, cast(bytes, entry), fill_key)
            elif isinstance(event, OrdersOpen):
                self._take_open_orders(event, cast(OrdersLeft, entry))
            else:
                self._take_movement(event, cast(Movement, entry))
            positions[stream.name] = position
        self._duplicates.settle(self._ledger_time_ns)
        self._registry.forget(self._ledger_time_ns)
        if out.counts != Counts() or out.frames:
            yield self._passage(closes_period=False)

    def finish(self) -> IntakeOut:
        """Close the open frame and the settlement period; what comes later belongs to a later period."""
        if self._period is not None:
            end_ns = (self._period + 1) * self.genesis.settlement_period_ns
            self._leave_period(end_ns)
            self._ledger_time_ns = max(self._ledger_time_ns, end_ns)
        return self._passage(closes_period=bool(self._out.frames))

    # ---- one event

    def _check(self, event: Event, key: bytes, content: int, fill_key: bytes, time_ns: int) -> _Entry | None:
        """Return what an event does, in numbers; None if it was done already. Changes nothing; raises ``Refused``."""
        oldest_ns = self._ledger_time_ns - self.genesis.duplicate_window_ns
        if event.event_time_ns < oldest_ns:
            raise Refused(
                FailureReason.TOO_OLD,
                f"{oldest_ns - event.event_time_ns} ns older than the duplicate window of ledger time reaches",
            )
        events, fills = self._duplicates.events, self._duplicates.fills
        if (key in events.recent or key in events.found) and (row := events.get(key, time_ns)) is not None:
            if EVENT_ROW.unpack(row)[2] == content:
                return None
            raise Refused(FailureReason.CONFLICT, f"event {event.event_id} was accepted with other content")
        if type(event) not in _ACCOUNT_EVENTS:
            return self._registry.market(event)
        if isinstance(event, Fill):
            if (fill_key in fills.recent or fill_key in fills.found) and (
                row := fills.get(fill_key, time_ns)
            ) is not None:
                self._check_repeated(event, row)
                return None
            trade = self._registry.trade(event)
            check_new_id(event.fill_id)
            self._registry.admit(event, trade)
            return trade
        if isinstance(event, OrdersOpen):
            return self._registry.open_orders(event, time_ns)
        if isinstance(event, Collateral):
            return self._registry.collateral(event, time_ns)
        if isinstance(event, WithdrawalRequested):
            return self._registry.withdrawal(event, time_ns)
        assert isinstance(event, FillBusted)
        return self._busted(event, fill_key, time_ns)

    def _check_repeated(self, event: Fill, row: bytes) -> None:
        """Raise ``Refused`` if a fill differs from the one that was accepted under another event id."""
        numbers: FillNumbers | None = None
        # The accepted fill could be put in numbers, so one that cannot is not the same.
        with suppress(Refused):
            numbers = _fill_numbers(event, self._registry.trade(event))
        known = FILL_ROW.unpack(row)[2:]
        if numbers is None or (*known[:-1], known[-1] & ~_BUSTED) != numbers:
            raise Refused(FailureReason.CONFLICT, f"fill {event.fill_id} was accepted with other content")

    def _busted(self, event: FillBusted, fill_key: bytes, time_ns: int) -> bytes | None:
        """Return the row of the fill that is undone; None if it was undone already."""
        check_new_id(event.fill_id)
        row = self._duplicates.fills.get(fill_key, time_ns)
        if row is None:
            raise Refused(FailureReason.UNKNOWN_FILL, f"no fill {event.fill_id} within the duplicate window")
        *_, instrument, _, _, flags = FILL_ROW.unpack(row)
        if flags & _BUSTED:
            return None
        tradable = self._registry.tradable(instrument)
        if tradable.settled:
            raise Refused(FailureReason.INSTRUMENT_SETTLED, f"{tradable.record.instrument} is settled")
        return row

    def _take_market(self, entry: MarketEntry) -> None:
        record, key = entry
        self._join_market(key)
        self._market.append(record)
        self._registry.apply(record)
        if isinstance(record, InstrumentRecord) and record.expiry_ns is not None:
            heappush(self._expiries, record.expiry_ns)
            self._calm_until_ns = min(self._calm_until_ns, record.expiry_ns - 1)
        self._out.counts.market_records += 1

    def _take_fill(self, event: Fill, trade: Trade, fill_key: bytes) -> None:
        tradable, buyer, seller, *_ = trade
        if buyer.isolated or seller.isolated:
            self._registry.bind(trade)
        numbers = _fill_numbers(event, trade)
        self._duplicates.fills.put(fill_key, FILL_ROW.pack(fill_key, self._ledger_time_ns, *numbers))
        self._join_account()
        self._append_trade(_FILL, _SPOT_BASE, numbers, event.event_time_ns, buyer.shard, seller.shard, tradable)
        self._references.append(event.fill_id)
        self._out.counts.fills += 1

    def _take_bust(self, event: FillBusted, row: bytes, fill_key: bytes) -> None:
        key, time_ns, lots, cash, buyer_fee, seller_fee, ticks, instrument, buyer, seller, flags = FILL_ROW.unpack(row)
        undone = (lots, cash, buyer_fee, seller_fee, ticks, instrument, buyer, seller, flags | _BUSTED)
        self._duplicates.fills.replace(fill_key, FILL_ROW.pack(key, time_ns, *undone))
        self._join_account()
        self._append_trade(
            _BUST,
            _BUST,
            (-lots, -cash, -buyer_fee, -seller_fee, ticks, instrument, buyer, seller, flags),
            event.event_time_ns,
            self._registry.shard(buyer),
            self._registry.shard(seller),
            self._registry.tradable(instrument),
        )
        self._references.append(event.fill_id)
        self._out.counts.busts += 1

    def _take_open_orders(self, event: OrdersOpen, left: OrdersLeft) -> None:
        self._join_account()
        record = left.tradable.record
        for flags, lots in ((_BUYER, left.buys), (0, left.sells)):
            self._legs.append(
                LEG_PACKING.pack(
                    len(self._legs), len(self._references), _OPEN_ORDERS, flags, record.settlement_asset,
                    left.holder.number, record.index, HOUSE_NUMBER, lots, 0, 0, 0, event.event_time_ns,
                )
            )  # fmt: skip
            self._shards.append(left.holder.shard)
        self._references.append(event.event_id)
        self._out.counts.open_orders += 1
        self._out.counts.account_records += 2

    def _take_movement(self, event: Event, movement: Movement) -> None:
        self._registry.remember(movement)
        self._join_account()
        counts = self._out.counts
        if movement.status is None:
            kind, cash = LegKind.WITHDRAWAL, -movement.units
            counts.withdrawals += 1
        else:
            counts.transfers += 1
            cash = movement.units
            kind = LegKind.TRANSFER_PENDING
            if movement.status is TransferStatus.CONFIRMED:
                kind = LegKind.TRANSFER
            elif movement.status is TransferStatus.REVERTED:
                cash = -cash
                kind = LegKind.TRANSFER if movement.was_confirmed else LegKind.TRANSFER_PENDING
        self._legs.append(
            LEG_PACKING.pack(
                len(self._legs), len(self._references), kind, 0, movement.asset, movement.holder.number,
                NO_INSTRUMENT, BRIDGE_NUMBER, 0, cash, 0, 0, event.event_time_ns,
            )
        )  # fmt: skip
        self._shards.append(movement.holder.shard)
        self._references.append(movement.name)
        counts.account_records += 1

    def _append_trade(
        self,
        kind: int,
        base_kind: int,
        numbers: FillNumbers,
        event_time_ns: int,
        buyer_shard: int,
        seller_shard: int,
        tradable: Tradable,
    ) -> None:
        """Append both sides' legs; the house's are in the other side's shard."""
        lots, cash, buyer_fee, seller_fee, ticks, instrument, buyer, seller, flags = numbers
        liquidation = int(LegFlag.LIQUIDATION) if flags & _LIQUIDATION else 0
        legs = self._legs
        place = len(legs)
        sequence = len(self._references)
        asset = tradable.record.settlement_asset
        is_spot = tradable.kind is InstrumentKind.SPOT
        # A spot position is a balance: its fill moves two assets and no lots.
        position = 0 if is_spot else lots
        buyer_shard = seller_shard if buyer_shard < 0 else buyer_shard
        seller_shard = buyer_shard if seller_shard < 0 else seller_shard
        pack = LEG_PACKING.pack
        legs.append(
            pack(
                place, sequence, kind, liquidation | _BUYER, asset, buyer, instrument, seller,
                position, cash, buyer_fee, ticks, event_time_ns,
            )
        )  # fmt: skip
        legs.append(
            pack(
                place + 1, sequence, kind, liquidation, asset, seller, instrument, buyer,
                -position, -cash, seller_fee, ticks, event_time_ns,
            )
        )  # fmt: skip
        self._shards += (buyer_shard, seller_shard)
        self._out.counts.account_records += 2
        if is_spot:
            base = tradable.record.base_asset
            units = lots * tradable.base_units_per_lot
            legs.append(
                pack(
                    place + 2, sequence, base_kind, liquidation | _BUYER, base, buyer, instrument, seller,
                    0, units, 0, ticks, event_time_ns,
                )
            )  # fmt: skip
            legs.append(
                pack(
                    place + 3, sequence, base_kind, liquidation, base, seller, instrument, buyer,
                    0, -units, 0, ticks, event_time_ns,
                )
            )  # fmt: skip
            self._shards += (buyer_shard, seller_shard)
            self._out.counts.account_records += 2

    # ---- frames

    def _join_market(self, key: ObservationKey) -> None:
        """Make sure that the next market record, of this ledger time, belongs to the open frame."""
        time_ns = self._ledger_time_ns
        if self._is_open:
            frame_time_ns = self._open_time_ns
            joins = (
                not self._legs
                and len(self._market) < self.genesis.frame_records_max
                and (key is None or key not in self._keys)
                and (
                    time_ns == frame_time_ns
                    or (
                        key is not None
                        and self._observations_only
                        and time_ns - frame_time_ns <= self.genesis.frame_span_ns
                    )
                )
            )
            if not joins:
                self._close()
        if not self._is_open:
            self._open(time_ns)
            self._observations_only = True
        if key is None:
            self._observations_only = False
        else:
            self._keys.add(key)

    def _join_account(self) -> None:
        """Make sure that the next account records, of this ledger time, belong to the open frame."""
        if self._is_open and len(self._market) + len(self._legs) >= self.genesis.frame_records_max:
            self._close()
        if not self._is_open:
            self._open(self._ledger_time_ns)

    def _open(self, time_ns: int) -> None:
        self._is_open = True
        self._open_time_ns = time_ns
        self._period = time_ns // self.genesis.settlement_period_ns
        self._frame_time_ns = time_ns
        self._calm()

    def _close(self) -> None:
        """Write the open frame, if there is one."""
        if not self._is_open:
            return
        self._seal(FrameKind.EVENTS, self._open_time_ns, None)
        self._is_open = False
        self._market = []
        self._keys.clear()
        self._legs = []
        self._shards = []
        self._references = []

    def _seal(self, kind: FrameKind, time_ns: int, positions: dict[str, int] | None) -> None:
        data, self._head = pack_frame(
            number=self._number,
            kind=kind,
            time_ns=time_ns,
            period=time_ns // self.genesis.settlement_period_ns,
            shard_count=self.shard_count,
            market=self._market,
            legs=self._legs,
            leg_shards=self._shards,
            references=self._references,
            previous_head=self._head,
            positions=positions,
        )
        self._number += 1
        self._out.frames.append(data)
        self._out.counts.frames += 1

    # ---- time

    def _pass_time(self, time_ns: int) -> Iterator[None]:
        """Write what falls due before ``time_ns``, and leave its settlement period; yield behind each barrier."""
        while (due_ns := self._due(time_ns)) is not None:
            if self._leave_period(due_ns):
                # Nothing of the heartbeat is counted yet: a checkpoint taken here must still bring it.
                yield
            self._take_due(due_ns)
            self._close()
            self._seal(FrameKind.HEARTBEAT, due_ns, None)
            self._period = due_ns // self.genesis.settlement_period_ns
            self._frame_time_ns = due_ns
        if self._expiries and self._expiries[0] <= time_ns:
            # An expiry at this very time fires with the frame that opens now.
            self._close()
            while self._expiries and self._expiries[0] <= time_ns:
                heappop(self._expiries)
        if self._leave_period(time_ns):
            yield
        self._calm()

    def _due(self, time_ns: int) -> int | None:
        """Return when the next heartbeat frame stands before ``time_ns``; None if none does."""
        expiries = self._expiries
        if self._frame_time_ns is None:
            return None
        while expiries and expiries[0] <= self._frame_time_ns:
            heappop(expiries)
        beat_ns = self._frame_time_ns + self.genesis.heartbeat_ns if self._beats < HEARTBEATS_MAX else _FOREVER
        due_ns = min(beat_ns, expiries[0] if expiries else _FOREVER)
        return None if due_ns >= time_ns else due_ns

    def _take_due(self, due_ns: int) -> None:
        """Count what ``_due`` said is due as taken."""
        if self._expiries and due_ns == self._expiries[0]:
            while self._expiries and self._expiries[0] == due_ns:
                heappop(self._expiries)
        else:
            self._beats += 1

    def _leave_period(self, time_ns: int) -> bool:
        """Close the settlement period with a barrier if ``time_ns`` is beyond it and it had a frame."""
        length_ns = self.genesis.settlement_period_ns
        if self._period is None or time_ns // length_ns == self._period:
            return False
        self._close()
        self._seal(FrameKind.BARRIER, (self._period + 1) * length_ns - 1, self.positions)
        self._out.counts.barriers += 1
        self._period = None
        return True

    def _calm(self) -> None:
        """Work out until when account records and market records need no look at the clock."""
        if self._frame_time_ns is None or self._period is None:
            self._calm_until_ns = -1
            return
        self._calm_until_ns = min(
            (self._period + 1) * self.genesis.settlement_period_ns - 1,
            self._frame_time_ns + self.genesis.heartbeat_ns,
            self._expiries[0] - 1 if self._expiries else _FOREVER,
        )

    def _passage(self, *, closes_period: bool) -> IntakeOut:
        out = self._out
        out.closes_period = closes_period
        self.counts.add(out.counts)
        self._out = IntakeOut()
        return out

    # ---- checkpoint

    def checkpoint(self) -> bytes:
        """Return the whole memory, as MessagePack in an envelope.

        To be taken between steps, or between the passages of one. A restored intake that is given what comes behind
        ``positions`` writes the same frames, byte for byte.
        """
        open_frame = None
        if self._is_open:
            open_frame = _OpenFrame(
                self._open_time_ns, self._observations_only, self._market, sorted(self._keys, key=repr), self._legs,
                self._shards, self._references,
            )  # fmt: skip
        state = _State(
            genesis=self.genesis,
            shard_count=self.shard_count,
            margin_models=self._margin_models,
            number=self._number,
            head=self._head,
            ledger_time_ns=self._ledger_time_ns,
            frame_time_ns=self._frame_time_ns,
            beats=self._beats,
            period=self._period,
            open_frame=open_frame,
            expiries=sorted(self._expiries),
            positions=self.positions,
            counts={name: getattr(self.counts, name) for name in Counts.__slots__},
            registry=self._registry.dump(self._ledger_time_ns),
            duplicates=self._duplicates.dump(self._ledger_time_ns),
        )
        return seal_envelope(_NOUN, _VERSION, msgspec.msgpack.encode(state))

    @classmethod
    def restore(
        cls, checkpoint: bytes, *, parameter_sets: Mapping[str, type[ParameterSet]] = PARAMETER_SETS
    ) -> "Intake":
        """Return the intake of a checkpoint; ``parameter_sets`` are code, and so are no part of it.

        Raises
        ------
        CheckpointError : damaged, or of another version.
        """
        state = msgspec.msgpack.decode(open_envelope(_NOUN, _VERSION, checkpoint), type=_State)
        intake = cls(
            state.genesis, shard_count=state.shard_count, margin_models=state.margin_models,
            parameter_sets=parameter_sets,
        )  # fmt: skip
        intake._take(state)
        return intake

    def _take(self, state: _State) -> None:
        self._number = state.number
        self._head = state.head
        self._ledger_time_ns = state.ledger_time_ns
        self._frame_time_ns = state.frame_time_ns
        self._beats = state.beats
        self._period = state.period
        self._expiries = state.expiries
        self.positions = state.positions
        self.counts = Counts(**state.counts)
        self._registry.load(state.registry)
        self._duplicates.load(state.duplicates)
        if state.open_frame is not None:
            frame = state.open_frame
            self._is_open = True
            self._open_time_ns = frame.time_ns
            self._observations_only = frame.observations_only
            self._market = frame.market
            self._keys = set(frame.keys)
            self._legs = frame.legs
            self._shards = frame.shards
            self._references = frame.references
        self._calm()


def _check_genesis(genesis: Genesis, shard_count: int) -> None:
    for name in ("settlement_period_ns", "heartbeat_ns", "frame_records_max"):
        if getattr(genesis, name) <= 0:
            raise ValueError(f"genesis: {name} must be positive")
    for name in ("frame_span_ns", "duplicate_window_ns"):
        if getattr(genesis, name) < 0:
            raise ValueError(f"genesis: {name} must not be negative")
    if not 1 <= shard_count <= _SHARDS_MAX:
        raise ValueError(f"shard_count must be 1 to {_SHARDS_MAX}")


def _fill_numbers(event: Fill, trade: Trade) -> FillNumbers:
    """Return a fill as its row keeps it."""
    tradable, buyer, seller, lots, cash, buyer_fee, seller_fee, ticks = trade
    flags = 0 if event.liquidation_id is None else _LIQUIDATION
    return (lots, cash, buyer_fee, seller_fee, ticks, tradable.record.index, buyer.number, seller.number, flags)


def _first_fault(event: Event, refused: Refused) -> Refused:
    """Return why an event is refused: what is wrong with it by itself, before what is wrong with it here and now."""
    if refused.reason in _AGAINST_THE_LEDGER:
        try:
            check_fields(event)
        except Refused as earlier:
            return earlier
    return refused
