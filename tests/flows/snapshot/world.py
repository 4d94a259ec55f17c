"""A small venue with a history, built by hand: what the snapshot stage is given at three barriers.

Three customers (alice and carol in process 0, bob, isolated, in process 1), three instruments: a linear and an inverse
perpetual on BTC, a call on ETH. Every move of cash and lots is booked on both sides, so all sums are zero.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from flows.margin.model import OpenOrders, PositionColumns
from flows.market.instant import Instant
from flows.market.listings import Listings
from flows.settlement.batch import Batch
from flows.settlement.netting import net
from flows.snapshot.rows import StatePart, state_part
from flows.snapshot.step import Snapshot, SnapshotFile
from schemas.failures import DeadLetter, FailureReason, Origin
from schemas.ids import BRIDGE_NUMBER, FEES_NUMBER, FIRST_ACCOUNT_NUMBER, HOUSE_NUMBER
from schemas.ledger import (
    NO_INSTRUMENT,
    AccountRecord,
    AssetRecord,
    Frame,
    FrameKind,
    Genesis,
    GenesisRecord,
    InstrumentRecord,
    LegFlag,
    LegKind,
    MarketRecord,
    empty_legs,
)
from schemas.parameters import LadderParameters, LiquidationParameters
from schemas.results import MARKET, DeltaKind, ResultKind, Tier, empty_deltas, empty_results
from tests.flows.margin.builders import open_orders

HOUR_NS = 3_600_000_000_000
# 2026-02-05 22:30 UTC, so that the third barrier falls on the next day.
START_NS = 1_770_330_600_000_000_000
EXPIRY_NS = START_NS + 48 * HOUR_NS
USDC, BTC, ETH = 0, 1, 2
LINEAR, INVERSE, CALL = 0, 1, 2
ALICE, BOB, CAROL = FIRST_ACCOUNT_NUMBER, FIRST_ACCOUNT_NUMBER + 1, FIRST_ACCOUNT_NUMBER + 2
TWO_PROCESSES = {ALICE: 0, BOB: 1, CAROL: 0}
ONE_PROCESS = dict.fromkeys(TWO_PROCESSES, 0)
DECIMALS = (6, 8, 8)
SETTLEMENT_ASSET = (USDC, BTC, USDC)
RECORDS: list[MarketRecord] = [
    GenesisRecord(Genesis(ledger_id="test")),
    AssetRecord(USDC, "USDC", 6),
    AssetRecord(BTC, "BTC", 8),
    AssetRecord(ETH, "ETH", 8),
    InstrumentRecord(
        LINEAR, "BTC-USDC-PERP", "perpetual", "BTC", "USD", USDC, -1, "linear", "1", "0.5", "0.01", None, None, None
    ),
    InstrumentRecord(
        INVERSE, "BTC-PERP", "perpetual", "BTC", "USD", BTC, -1, "inverse", "10", "0.5", "1", None, None, None
    ),
    InstrumentRecord(
        CALL, "ETH-2500-C", "option", "ETH", "USD", USDC, -1, "linear", "1", "0.1", "0.1", "2500", "call", EXPIRY_NS
    ),
]
ACCOUNTS: list[AccountRecord] = [
    AccountRecord(ALICE, "alice", "tidegate-standard", "cross"),
    AccountRecord(BOB, "bob", "tidegate-portfolio", "isolated"),
    AccountRecord(CAROL, "carol", "tidegate-standard", "cross"),
]


@dataclass
class Columns:
    """A book of one process, as plain arrays."""

    account: Any
    isolated: Any
    tier: Any
    suspended: Any
    cash: Any
    positions: PositionColumns
    entry_cash: Any
    order_lots: Any
    open_orders: OpenOrders | None


@dataclass
class Margins:
    """What ``evaluate`` answers."""

    equity: Any
    initial_margin: Any
    maintenance_margin: Any
    undecidable: Any
    before_haircuts: Any


def an_instant(frame: int, time_ns: int, *, bitcoin: float, call_decidable: bool = True) -> Instant:
    """Return the market with BTC at ``bitcoin`` and the call at 100 a contract."""
    value = np.array([0.01 * bitcoin, -10.0 / bitcoin, 0.1 * 100.0 if call_decidable else np.nan])
    return Instant(
        frame=frame,
        time_ns=time_ns,
        value=value,
        value_decidable=np.array([True, True, call_decidable]),
        settlement_asset=np.array(SETTLEMENT_ASSET, np.uint16),
        notional=np.array([0.01 * bitcoin, 10.0, 0.1 * 2400.0]),
        asset_price=np.array([1.0, bitcoin, 2400.0]),
        asset_decidable=np.ones(3, np.bool_),
        asset_unit=np.array([10.0**-decimals for decimals in DECIMALS]),
        haircut=np.array([0.0, 0.1, 0.1]),
        asset_confidence=np.array([0.0, 0.001, 0.001]),
        realised_vol=np.array([0.0, 0.5, 0.75]),
        greeks=np.array(
            [[0.01, 0, 0, 0, 0], [10.0 / bitcoin, 0, 0, 0, 0], [0.04, 0.0001, 20.0, -3.0, 1.0]], dtype=np.float64
        ),
        index_price=np.array([bitcoin, bitcoin, 2400.0]),
        mark_price=np.array([bitcoin, bitcoin, 100.0]),
        implied_vol=np.array([0.0, 0.0, 0.7]),
        forward=np.array([bitcoin, bitcoin, 2405.0]),
        moved=np.ones(3, np.bool_),
        asset_moved=np.ones(3, np.bool_),
        everything_moved=True,
        ladder=LadderParameters(),
        liquidation=LiquidationParameters(),
    )


@dataclass
class World:
    """The state so far, and what happened since the last barrier."""

    homes: dict[int, int]
    cash: dict[tuple[int, int, int], int] = field(default_factory=lambda: defaultdict(int))
    lots: dict[tuple[int, int, int], int] = field(default_factory=lambda: defaultdict(int))
    entry: dict[tuple[int, int, int], int] = field(default_factory=lambda: defaultdict(int))
    order: dict[tuple[int, int, int], int] = field(default_factory=lambda: defaultdict(int))
    told: dict[int, dict[int, tuple[int, int]]] = field(default_factory=lambda: defaultdict(dict))
    tier: dict[int, Tier] = field(default_factory=lambda: {ALICE: Tier.HEALTHY, BOB: Tier.HEALTHY, CAROL: Tier.HEALTHY})
    suspended: set[int] = field(default_factory=set)
    changes: list[tuple[int, int, int, int]] = field(default_factory=list)

    def move_cash(self, process: int, account: int, asset: int, units: int) -> None:
        """Credit an account's part in a process."""
        self.cash[process, account, asset] += units
        self.changes.append((account, DeltaKind.ASSET, asset, units))

    def deposit(self, account: int, asset: int, units: int) -> None:
        """Bring in collateral, against the bridge."""
        self.move_cash(self.homes[account], account, asset, units)
        self.move_cash(self.homes[account], BRIDGE_NUMBER, asset, -units)

    def trade(self, buyer: int, seller: int, instrument: int, lots: int, cash: int, fee: int = 0) -> None:
        """Trade with the cash that the buyer receives; the buyer pays the fee."""
        home = self.homes.get(buyer, self.homes.get(seller, 0))
        asset = SETTLEMENT_ASSET[instrument]
        for account, sign in ((buyer, 1), (seller, -1)):
            process = self.homes.get(account, home)
            self.lots[process, account, instrument] += sign * lots
            self.entry[process, account, instrument] += sign * cash
            self.changes.append((account, DeltaKind.POSITION, instrument, sign * lots))
            self.move_cash(process, account, asset, sign * cash)
        self.move_cash(self.homes.get(buyer, home), buyer, asset, -fee)
        self.move_cash(self.homes.get(buyer, home), FEES_NUMBER, asset, fee)

    def take_deltas(self) -> Any:
        """Return the net of all moves since the last call."""
        deltas = empty_deltas(len(self.changes))
        for row, (account, kind, market, amount) in zip(deltas, self.changes, strict=True):
            row["account"], row["kind"], row["market"], row["amount"] = account, int(kind), market, amount
        self.changes = []
        return net([deltas])

    def book(self, process: int) -> Columns:
        """Return the book of one process: parts of four system accounts, then customers in a mixed order."""
        numbers = [0, 1, 2, 3, *sorted((n for n, home in self.homes.items() if home == process), reverse=True)]
        offset: list[int] = []
        count: list[int] = []
        instruments: list[int] = []
        lots: list[int] = []
        entry: list[int] = []
        order: list[int] = []
        for number in numbers:
            offset.append(len(lots) + 1)
            held = [i for i in range(3) if self.lots[process, number, i]]
            count.append(len(held))
            # A gap before each row's positions, as in a pool with spare room.
            instruments += [0, *held]
            lots += [0, *(self.lots[process, number, i] for i in held)]
            entry += [0, *(self.entry[process, number, i] for i in held)]
            order += [0, *(self.order[process, number, i] for i in held)]
        modes = {record.number: record.margin_mode for record in ACCOUNTS}
        return Columns(
            account=np.array(numbers, np.uint32),
            isolated=np.array([modes.get(number) == "isolated" for number in numbers]),
            tier=np.array([int(self.tier.get(number, Tier.HEALTHY)) for number in numbers], np.uint8),
            suspended=np.array([number in self.suspended for number in numbers]),
            cash=np.array([[self.cash[process, number, asset] for asset in range(3)] for number in numbers], np.int64),
            positions=PositionColumns(
                np.array(offset, np.int64),
                np.array(count, np.int64),
                np.array(instruments, np.uint32),
                np.array(lots, np.int64),
            ),
            entry_cash=np.array(entry, np.int64),
            order_lots=np.array(order, np.int64),
            open_orders=open_orders([self.told[number] for number in numbers]) if self.told else None,
        )

    def parts(self, instant: Instant) -> list[StatePart]:
        """Return the full state, one part a process."""
        return [state_part(self.book(process), instant, margins_of) for process in sorted(set(self.homes.values()))]


def margins_of(book: Columns, instant: Instant, rows: Any) -> Margins:
    """Evaluate accounts plainly: 10 % and 5 % of notional, equity as the rules have it, alice's before haircuts."""
    equity, initial, maintenance, undecidable = [], [], [], []
    for row in rows:
        start = book.positions.offset[row]
        held = range(start, start + book.positions.count[row])
        nets = [float(book.cash[row, asset] * instant.asset_unit[asset]) for asset in range(3)]
        settles = set()
        for place in held:
            instrument = int(book.positions.instrument[place])
            nets[SETTLEMENT_ASSET[instrument]] += float(instant.value[instrument] * book.positions.lots[place])
            settles.add(SETTLEMENT_ASSET[instrument])
        total = 0.0
        for asset, owned in enumerate(nets):
            counts = owned < 0 or not book.isolated[row] or not settles or asset in settles
            if counts:
                whole = owned < 0 or book.account[row] == ALICE
                total += owned * instant.asset_price[asset] * (1.0 if whole else 1.0 - instant.haircut[asset])
        notional = sum(
            abs(int(book.positions.lots[place])) * instant.notional[book.positions.instrument[place]] for place in held
        )
        equity.append(total)
        initial.append(0.10 * notional)
        maintenance.append(0.05 * notional)
        undecidable.append(any(not instant.value_decidable[book.positions.instrument[place]] for place in held))
    return Margins(
        np.array(equity), np.array(initial), np.array(maintenance), np.array(undecidable, np.bool_),
        book.account[rows] == ALICE,
    )  # fmt: skip


def a_frame(
    number: int,
    time_ns: int,
    period: int,
    *,
    kind: FrameKind = FrameKind.EVENTS,
    market: Any = (),
    legs: Any = None,
    references: Any = (),
) -> Frame:
    """Return a frame as a reader of all shards sees it; its head is its number."""
    return Frame(
        number=number,
        kind=kind,
        time_ns=time_ns,
        period=period,
        shard_count=2,
        market=list(market),
        legs=empty_legs() if legs is None else legs,
        references=list(references),
        previous_head=max(number - 1, 0).to_bytes(32, "big"),
        content_head=number.to_bytes(32, "big"),
        positions=b"",
    )


def a_leg(kind: LegKind, account: int, *, sequence: int, time_ns: int, **columns: int) -> Any:
    """Return one account record."""
    leg = empty_legs(1)
    leg["kind"], leg["account"], leg["sequence"], leg["time_ns"] = int(kind), account, sequence, time_ns
    leg["instrument"] = NO_INSTRUMENT
    for name, value in columns.items():
        leg[name] = value
    return leg


def told_legs(account: int, instrument: int, *, buys: int, sells: int, sequence: int, time_ns: int) -> list[Any]:
    """Return the two account records of open orders."""
    return [
        a_leg(
            LegKind.OPEN_ORDERS, account, sequence=sequence, time_ns=time_ns, instrument=instrument, lots=lots,
            flags=flags, asset=SETTLEMENT_ASSET[instrument],
        )
        for flags, lots in ((int(LegFlag.BUYER), buys), (0, sells))
    ]  # fmt: skip


def numbered(legs: list[Any]) -> Any:
    """Return a frame's account records in order."""
    joined = np.concatenate(legs)
    joined["index"] = np.arange(joined.shape[0])
    return joined


def a_result(kind: ResultKind, account: int, frame: int, time_ns: int, index: int = 0, **columns: float) -> Any:
    """Return one result row."""
    row = empty_results(1)
    row["kind"], row["account"], row["frame"], row["time_ns"], row["index"] = int(kind), account, frame, time_ns, index
    for name, value in columns.items():
        row[name] = value
    return row


def a_batch(number: int, barrier: Frame, first_frame: int, deltas: Any) -> Batch:
    """Return batch ``number`` of a chain of roots, which settles ``deltas``."""
    return Batch(
        number=number,
        period=barrier.period,
        first_frame=first_frame,
        last_frame=barrier.number,
        time_ns=barrier.time_ns,
        previous_root=(number - 1).to_bytes(32, "big"),
        new_root=number.to_bytes(32, "big"),
        order_commitment=barrier.content_head,
        data_hash=bytes(32),
        data_root=bytes(32),
        delta_count=len(deltas),
        account_count=len(np.unique(deltas["account"])),
        data=b"",
    )


@dataclass
class Barrier:
    """What ``Snapshot.step`` takes at one barrier, and the frames before it."""

    frames: list[Frame]
    barrier: Frame
    step: dict[str, Any]


def a_history(processes: int = 2) -> tuple[Listings, list[Barrier]]:
    """Return three barriers: deposits and trades; a crash that takes bob over; a price lost, which suspends carol."""
    world = World(ONE_PROCESS if processes == 1 else TWO_PROCESSES)
    listings = Listings()
    for record in [*RECORDS, *ACCOUNTS]:
        listings.apply(record)
    history: list[Barrier] = []

    opened = START_NS
    world.deposit(ALICE, USDC, 10_000_000_000)
    world.deposit(BOB, BTC, 10_000_000)
    world.deposit(BOB, USDC, 500_000_000)
    world.deposit(CAROL, ETH, 100_000_000)
    world.trade(ALICE, HOUSE_NUMBER, LINEAR, 20, -10_000_000_000, fee=5_000_000)
    world.trade(BOB, HOUSE_NUMBER, INVERSE, 700, 14_000_000)
    world.trade(HOUSE_NUMBER, CAROL, CALL, 40, -400_000_000)
    legs = [
        a_leg(LegKind.TRANSFER, ALICE, sequence=0, time_ns=opened, asset=USDC, cash=10_000_000_000),
        a_leg(LegKind.TRANSFER, BOB, sequence=1, time_ns=opened, asset=BTC, cash=10_000_000),
        a_leg(
            LegKind.FILL, ALICE, sequence=2, time_ns=opened + 5, asset=USDC, instrument=LINEAR, lots=20,
            cash=-10_000_000_000, fee=5_000_000, price_ticks=100_000, flags=int(LegFlag.BUYER),
            counterparty=HOUSE_NUMBER,
        ),
        a_leg(
            LegKind.FILL, HOUSE_NUMBER, sequence=2, time_ns=opened + 5, asset=USDC, instrument=LINEAR, lots=-20,
            cash=10_000_000_000, price_ticks=100_000, counterparty=ALICE,
        ),
        *told_legs(ALICE, LINEAR, buys=5, sells=30, sequence=3, time_ns=opened + 6),
        *told_legs(CAROL, CALL, buys=2, sells=0, sequence=4, time_ns=opened + 6),
    ]  # fmt: skip
    world.told[ALICE][LINEAR], world.told[CAROL][CALL] = (5, 30), (2, 0)
    frames = [
        a_frame(0, opened, 0, kind=FrameKind.GENESIS, market=RECORDS),
        a_frame(1, opened, 0, market=ACCOUNTS, legs=numbered(legs), references=["d-1", "d-2", "f-1", "o-1", "o-2"]),
    ]
    deltas = world.take_deltas()
    barrier = a_frame(2, opened + HOUR_NS // 2, 0, kind=FrameKind.BARRIER)
    instant = an_instant(1, opened, bitcoin=50_000.0)
    history.append(
        Barrier(
            frames,
            barrier,
            {
                "instant": instant,
                "results": [empty_results(), empty_results()],
                "deltas": deltas,
                "state_hash": bytes(16),
                "batches": [a_batch(1, barrier, 0, deltas)],
                "dead_letters": [
                    DeadLetter(
                        reason=FailureReason.UNKNOWN_ACCOUNT,
                        message="account 'dave' is not open",
                        origin=Origin("log", 0, 7),
                        payload=b'{"type":"fill"}',
                        event_time_ns=opened,
                    )
                ],
                "parts": world.parts(instant),
            },
        )
    )

    # BTC falls to 29,600. Bob, isolated in BTC, has (0.24 - 7000 / 29600) * 29600 * 0.9 = 93.6 USD left: below two
    # thirds of his maintenance margin of 350.
    fallen = opened + HOUR_NS
    crash = an_instant(3, fallen, bitcoin=29_600.0)
    world.tier[BOB] = Tier.TAKEOVER
    world.told[ALICE][LINEAR] = (0, 10)
    legs = told_legs(ALICE, LINEAR, buys=0, sells=10, sequence=0, time_ns=fallen)
    world.order[world.homes[BOB], BOB, INVERSE] = -700
    book = world.book(world.homes[BOB])
    equity_of_bob = float(margins_of(book, crash, np.flatnonzero(book.account == BOB)).equity[0])
    deltas = world.take_deltas()
    barrier = a_frame(4, fallen + 1_000_000_000, 1, kind=FrameKind.BARRIER)
    history.append(
        Barrier(
            [a_frame(3, fallen, 1, legs=numbered(legs), references=["o-3"])],
            barrier,
            {
                "instant": crash,
                "results": [
                    a_result(ResultKind.WITHDRAWAL_REFUSED, ALICE, 3, fallen, instrument=USDC, amount=9_000_000_000),
                    np.concatenate(
                        [
                            a_result(
                                ResultKind.TIER_CHANGED, BOB, 3, fallen, tier_from=int(Tier.HEALTHY),
                                tier_to=int(Tier.TAKEOVER), equity=equity_of_bob, initial_margin=700.0,
                                maintenance_margin=350.0,
                            ),
                            a_result(ResultKind.ORDER_OPENED, BOB, 3, fallen, 1, instrument=INVERSE, lots=-700),
                            a_result(ResultKind.FEED_STALE, MARKET, 3, fallen, instrument=ETH, amount=0),
                            a_result(ResultKind.FEED_FRESH, MARKET, 3, fallen, 1, instrument=CALL, amount=1),
                            a_result(ResultKind.FUNDING_OWED, MARKET, 3, fallen, 2, instrument=INVERSE, amount=2),
                        ]
                    ),
                ],
                "deltas": deltas,
                "state_hash": b"\1" * 16,
                "parts": world.parts(crash),
            },
        )
    )  # fmt: skip

    # After midnight the call has no price: carol, short of it, cannot be decided. Funding is paid on the linear one.
    lost = opened + 2 * HOUR_NS
    blind = an_instant(5, lost, bitcoin=29_600.0, call_decidable=False)
    world.suspended.add(CAROL)
    world.move_cash(0, ALICE, USDC, -2_000_000)
    world.move_cash(0, HOUSE_NUMBER, USDC, 2_000_000)
    deltas = world.take_deltas()
    barrier = a_frame(6, lost + 1_000_000_000, 2, kind=FrameKind.BARRIER)
    history.append(
        Barrier(
            [a_frame(5, lost, 2)],
            barrier,
            {
                "instant": blind,
                "results": [
                    np.concatenate(
                        [
                            a_result(
                                ResultKind.FUNDING_PAID, ALICE, 5, lost, instrument=LINEAR, lots=20, amount=-2_000_000,
                            ),
                            a_result(
                                ResultKind.DECISION_SUSPENDED, CAROL, 5, lost, tier_from=int(Tier.HEALTHY),
                                tier_to=int(Tier.HEALTHY),
                            ),
                        ]
                    ),
                    empty_results(),
                ],
                "deltas": deltas,
                "state_hash": b"\2" * 16,
                "batches": [a_batch(2, barrier, 3, deltas)],
                "parts": world.parts(blind),
            },
        )
    )  # fmt: skip
    return listings, history


def run(snapshot: Snapshot, listings: Listings, history: list[Barrier]) -> list[SnapshotFile]:
    """Give a snapshot stage its history, as the flow does; return the files that it hands out on the way."""
    files: list[SnapshotFile] = []
    for barrier in history:
        for frame in barrier.frames:
            snapshot.observe(frame, listings)
        files += snapshot.step(barrier.barrier, listings=listings, **barrier.step)
    return files


def tables(processes: int = 2) -> dict[str, pa.Table]:
    """Return every table that the history fills, whole."""
    listings, history = a_history(processes)
    snapshot = Snapshot(rows_max=10**9, span_ns_max=10**18)
    run(snapshot, listings, history)
    chunks: dict[str, list[pa.Table]] = defaultdict(list)
    for file in snapshot.flush(listings):
        chunks[file.table].append(file.rows)
    return {name: pa.concat_tables(parts) for name, parts in chunks.items()}
