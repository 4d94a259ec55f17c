"""One frame through the book: payments, records, withdrawals, tiers, liquidation orders.

*Liquidation orders* are what the engine wants closed, results of kind ``ORDER_…``. *Open orders* are what traders have
resting at the venue: they come in as records, and count in initial margin.

1. ``step`` is total: intake has refused what cannot be booked, and nothing is refused here. A withdrawal is decided,
   at its place in the order, and both answers are results.
2. An account that holds what cannot be priced now keeps its tier; the suspension is published, and so is its end.
3. Results of a frame are ordered by account, then by what happened; the market's own come last.
4. At a barrier the step gives the period's results, its integer deltas and the sum of the accounts' hashes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt

from flows.liquidation.ladder import tiers
from flows.liquidation.sizing import orders
from flows.margin.model import MarginModel
from flows.market.columns import NEVER_EXPIRES
from flows.market.instant import Instant
from flows.market.step import Market
from flows.risk.book import Book
from flows.risk.evaluation import Evaluation, evaluate
from flows.screening.diagnostics import Diagnostics
from flows.screening.observer import Observer, Residence, Residential
from flows.screening.policy import ScreeningPolicy, Sight, anything_moved, rising
from flows.screening.shadow import JudgedOtherwise, Shadow
from schemas.checkpoint import open_envelope, seal_envelope
from schemas.ids import FIRST_ACCOUNT_NUMBER
from schemas.ledger import AccountRecord, AssetRecord, Frame, FrameKind, LegKind
from schemas.results import MARKET, RESULT, Deltas, ResultKind, Results, Tier, empty_results, join_results

Int64Array = npt.NDArray[np.int64]

_RISK_VERSION = 1
_NO_ROWS = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Period:
    """What one process's shards publish at a barrier.

    ``state_hash`` is two 64-bit sums, which processes add up; ``deltas`` hold parts of system accounts.
    """

    barrier: Frame
    results: Results
    deltas: Deltas
    state_hash: tuple[int, int]


class Risk:
    """The risk stage of one process: one market, one book, some shards.

    Parameters
    ----------
    screening : chooses the accounts that an instant decides.
    shadow : judges some of the frames; None: none of them.
    observer : watches the screen; None where nobody does.
    """

    def __init__(
        self,
        market: Market,
        book: Book,
        *,
        models: Mapping[str, MarginModel],
        screening: ScreeningPolicy,
        shadow: Shadow | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.market = market
        self.book = book
        self.models = models
        self.diagnostics = Diagnostics()
        self._screen = screening.screen(Sight(market, book, models, observer))
        self._shadow = shadow
        self._observer = observer
        self._first_customer = book.rows - book.customer_rows.shape[0]
        self.instant: Instant | None = None
        self._results: list[Results] = []
        self._value_decidable = np.zeros(0, np.bool_)
        self._asset_decidable = np.zeros(0, np.bool_)

    def step(self, frame: Frame) -> Period | None:
        """Take one frame; return the period at a barrier, else None."""
        if frame.kind is FrameKind.BARRIER:
            return self._close_period(frame)
        for record in frame.market:
            if isinstance(record, AssetRecord):
                self.book.add_asset()
        instant = self.market.step(frame)
        self.instant = instant
        opened = [
            self.book.row(record.number)
            for record in frame.market
            if isinstance(record, AccountRecord)
            and self.book.add_account(self.market.listings.accounts[record.number - FIRST_ACCOUNT_NUMBER])
        ]
        results = self._decide(frame, instant, opened)
        if self._shadow is not None and self._shadow.is_due(frame.number):
            self._shadowed(self._shadow, instant)
        if results.shape[0]:
            self._results.append(results)
        return None

    def _close_period(self, frame: Frame) -> Period:
        results = join_results(self._results)
        self._results = []
        return Period(frame, results, self.book.take_deltas(), self.book.update_state_hash())

    def evaluate(self, rows: Int64Array) -> Evaluation:
        """Return the numbers of the given book rows at the last instant."""
        assert self.instant is not None, "nothing can be evaluated before the first frame"
        return evaluate(self.book, self.instant, rows, self.models)

    def residence(self) -> Residence:
        """Return where accounts live, as of the last frame."""
        return self._screen.residence() if isinstance(self._screen, Residential) else Residence()

    def judge(self, shadow: Shadow) -> tuple[int, str] | None:
        """Return the first row that stands otherwise than the judge says, and how; count the bounds it violates."""
        assert self.instant is not None, "nothing can be judged before the first frame"
        judgement = shadow.judge(self.book, self.instant, self.models, self._screen)
        self._count_violations(judgement.violations)
        return judgement.difference

    def take_evaluation(self, rows: Int64Array, evaluation: Evaluation) -> None:
        """Count which bounds are excluded by numbers that a judge has of the given book rows at the last instant."""
        self._count_violations(self._screen.violations(rows, evaluation))

    def _count_violations(self, count: int) -> None:
        self.diagnostics = replace(self.diagnostics, bound_violations=self.diagnostics.bound_violations + count)

    # -- one frame -----------------------------------------------------------------------------------------------

    def _decide(self, frame: Frame, instant: Instant, opened: list[int]) -> Results:
        book = self.book
        chunks: list[Results] = []
        touched: list[Int64Array] = [np.array(opened, np.int64)] if opened else []
        if book.open_orders is not None:
            expiry_ns = self.market.columns.expiry_ns
            touched.append(book.end_open_orders((expiry_ns != NEVER_EXPIRES) & (expiry_ns <= frame.time_ns)))
        for payment in instant.payments:
            asset = int(instant.settlement_asset[payment.instrument])
            holders, lots, units = book.pay(payment.instrument, asset, payment.units, closes=payment.closes)
            kind = ResultKind.EXPIRY_SETTLED if payment.closes else ResultKind.FUNDING_PAID
            customers = book.account[holders] >= FIRST_ACCOUNT_NUMBER
            chunk = self._rows(kind, book.account[holders[customers]])
            chunk["instrument"] = payment.instrument
            chunk["lots"] = lots[customers]
            chunk["amount"] = units[customers]
            chunks.append(chunk)
            touched.append(holders)
        if instant.funding_owed and 0 in book.shards:
            chunk = self._rows(ResultKind.FUNDING_OWED, np.full(len(instant.funding_owed), MARKET, np.uint32))
            chunk["instrument"] = [owed.instrument for owed in instant.funding_owed]
            chunk["amount"] = [owed.rates for owed in instant.funding_owed]
            chunks.append(chunk)
        if frame.legs.shape[0]:
            touched.append(self._book_legs(frame, instant, chunks))
        changed = rising(book.rows, touched) if touched else _NO_ROWS
        changed = changed[changed >= self._first_customer]
        rows = self._screen.rows(instant, changed)
        if rows.shape[0]:
            self._screen.decided(instant, rows, self._decide_rows(instant, rows, chunks))
        customers = book.rows - self._first_customer
        work = self._screen.work()
        self.diagnostics = self.diagnostics.after(
            work,
            evaluated=rows.shape[0],
            exhaustive=customers if anything_moved(instant) else changed.shape[0],
            accounts=customers,
        )
        if self._observer is not None:
            self._observer.frame(self.market, instant, evaluated=rows.shape[0], work=work, residence=self.residence)
        self._publish_decidability(instant, chunks)
        if not chunks:
            return empty_results()
        results = chunks[0] if len(chunks) == 1 else join_results(chunks)
        results = results[np.argsort(results["account"], kind="stable")]
        results["frame"] = frame.number
        results["time_ns"] = frame.time_ns
        results["index"] = _counts_within(results["account"])
        return results

    def _decide_rows(self, instant: Instant, rows: Int64Array, chunks: list[Results]) -> Evaluation:
        book = self.book
        evaluation = evaluate(book, instant, rows, self.models)
        waits = evaluation.undecidable
        self._publish_suspensions(rows, waits, chunks)
        tier_now = tiers(evaluation.equity, evaluation.initial_margin, evaluation.maintenance_margin, instant.ladder)
        tier_before = book.tier[rows]
        changed = np.flatnonzero(~waits & (tier_now != tier_before))
        if changed.shape[0]:
            chunk = self._rows(ResultKind.TIER_CHANGED, book.account[rows[changed]])
            chunk["tier_from"] = tier_before[changed]
            chunk["tier_to"] = tier_now[changed]
            chunk["equity"] = evaluation.equity[changed]
            chunk["initial_margin"] = evaluation.initial_margin[changed]
            chunk["maintenance_margin"] = evaluation.maintenance_margin[changed]
            chunks.append(chunk)
            book.set_tier(rows[changed], tier_now[changed])
        for row, instrument, lots in book.take_orphans():
            chunk = self._rows(ResultKind.ORDER_CANCELLED, book.account[row : row + 1])
            chunk["instrument"] = instrument
            chunk["amount"] = lots
            chunks.append(chunk)
        ordered = np.flatnonzero(~waits & ((tier_now >= int(Tier.LIQUIDATING)) | (book.order_count[rows] > 0)))
        if ordered.shape[0]:
            chosen = rows[ordered]
            chunk = orders(
                rows=chosen,
                account=book.account,
                tier=book.tier,
                equity=evaluation.equity[ordered],
                maintenance=evaluation.maintenance_margin[ordered],
                notional=instant.notional,
                positions=book.positions,
                order_lots=book.order_lots,
                order_count=book.order_count,
                liquidation=instant.liquidation,
            )
            if chunk.shape[0]:
                chunks.append(chunk)
                book.dirty[chosen] = True
        return evaluation

    def _shadowed(self, shadow: Shadow, instant: Instant) -> None:
        difference = self.judge(shadow)
        if difference is not None:
            row, what = difference
            account = self.market.listings.account_id(int(self.book.account[row]))
            raise JudgedOtherwise(f"frame {instant.frame}: account {account} {what}")
        self.diagnostics = replace(self.diagnostics, shadowed_frames=self.diagnostics.shadowed_frames + 1)

    def _book_legs(self, frame: Frame, instant: Instant, chunks: list[Results]) -> Int64Array:
        """Book the frame's account records in order, deciding withdrawals at their place; return rows touched."""
        book = self.book
        legs = frame.legs
        rows = book.rows_of(legs)
        start = 0
        for place in np.flatnonzero(legs["kind"] == int(LegKind.WITHDRAWAL)):
            book.apply(legs[start:place], rows[start:place])
            chunks.append(self._decide_withdrawal(instant, legs[place], int(rows[place])))
            start = int(place) + 1
        book.apply(legs[start:], rows[start:])
        return rows

    def _decide_withdrawal(self, instant: Instant, leg: np.void, row: int) -> Results:
        """Pay out if the account, without the amount, keeps its initial margin and owes nothing of the asset.

        Open orders count in initial margin at their last prices, and never suspend a liquidation; but nothing leaves
        on prices that are not known.
        """
        book = self.book
        asset, units = int(leg["asset"]), -int(leg["cash"])
        book.move_cash(row, asset, -units)
        only = np.array([row], np.int64)
        after = evaluate(book, instant, only, self.models)
        accepted = (
            not after.undecidable[0]
            and after.equity[0] >= after.initial_margin[0]
            and book.tier[row] < int(Tier.WARNING)
            and self._net_of_asset(instant, row, asset) >= 0.0
            and self._open_orders_decidable(instant, only)
        )
        if not accepted:
            book.move_cash(row, asset, units)
        kind = ResultKind.WITHDRAWAL_ACCEPTED if accepted else ResultKind.WITHDRAWAL_REFUSED
        chunk = self._rows(kind, book.account[row : row + 1])
        chunk["instrument"] = asset
        chunk["lots"] = int(leg["sequence"])
        chunk["amount"] = units
        chunk["equity"] = 0.0 if after.undecidable[0] else after.equity[0]
        chunk["initial_margin"] = 0.0 if after.undecidable[0] else after.initial_margin[0]
        return chunk

    def _net_of_asset(self, instant: Instant, row: int, asset: int) -> float:
        """Return the balance of an asset with the value of the positions that settle in it, in whole assets."""
        book = self.book
        positions = book.positions
        place = slice(int(positions.offset[row]), int(positions.offset[row] + positions.count[row]))
        held = positions.instrument[place]
        settles = instant.settlement_asset[held] == asset
        total = float(book.cash[row, asset]) * float(instant.asset_unit[asset])
        for instrument, lots in zip(held[settles], positions.lots[place][settles], strict=True):
            total += float(instant.value[instrument]) * float(lots)
        return total

    def _open_orders_decidable(self, instant: Instant, row: Int64Array) -> bool:
        told = self.book.open_orders
        return told is None or bool(instant.value_decidable[told.instrument[told.places(row)]].all())

    def _publish_suspensions(self, rows: Int64Array, waits: npt.NDArray[np.bool_], chunks: list[Results]) -> None:
        book = self.book
        before = book.suspended[rows]
        for kind, chosen in (
            (ResultKind.DECISION_SUSPENDED, np.flatnonzero(waits & ~before)),
            (ResultKind.DECISION_RESUMED, np.flatnonzero(~waits & before)),
        ):
            if chosen.shape[0]:
                chunk = self._rows(kind, book.account[rows[chosen]])
                chunk["tier_from"] = chunk["tier_to"] = book.tier[rows[chosen]]
                chunks.append(chunk)
                book.set_suspended(rows[chosen], waits[chosen])

    def _publish_decidability(self, instant: Instant, chunks: list[Results]) -> None:
        """Say which prices were lost and found; by the process that holds shard 0, so that it is said once."""
        if self._value_decidable is instant.value_decidable and self._asset_decidable is instant.asset_decidable:
            return
        for before, now, what in (
            (self._asset_decidable, instant.asset_decidable, 0),
            (self._value_decidable, instant.value_decidable, 1),
        ):
            if before.shape == now.shape and np.array_equal(before, now):
                continue
            known = np.zeros(now.shape[0], np.bool_)
            known[: before.shape[0]] = before
            # What is listed and was never priced is not news until it is.
            for kind, chosen in (
                (ResultKind.FEED_STALE, np.flatnonzero(known & ~now)),
                (ResultKind.FEED_FRESH, np.flatnonzero(~known & now)),
            ):
                if chosen.shape[0] and 0 in self.book.shards:
                    chunk = self._rows(kind, np.full(chosen.shape[0], MARKET, np.uint32))
                    chunk["instrument"] = chosen
                    chunk["amount"] = what
                    chunks.append(chunk)
        self._value_decidable = instant.value_decidable
        self._asset_decidable = instant.asset_decidable

    @staticmethod
    def _rows(kind: ResultKind, account: npt.NDArray[np.uint32]) -> Results:
        chunk = np.zeros(account.shape[0], RESULT)
        chunk["kind"] = int(kind)
        chunk["account"] = account
        return chunk

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def checkpoint(self) -> tuple[bytes, dict[int, bytes]]:
        """Return ``(market checkpoint, {shard: book checkpoint})``; only at a barrier."""
        assert not self._results, "a checkpoint belongs at a barrier, after its results were taken"
        common = msgspec.msgpack.encode(
            (self.market.checkpoint(), self._value_decidable.tobytes(), self._asset_decidable.tobytes())
        )
        return (
            seal_envelope("risk", _RISK_VERSION, common),
            {shard: self.book.dump_shard(shard) for shard in self.book.shards},
        )

    @staticmethod
    def market_checkpoint(common: bytes) -> bytes:
        """Return the market's own checkpoint inside the first part of ``checkpoint``."""
        return _open_common(common)[0]

    @classmethod
    def restore(
        cls,
        common: bytes,
        shards: Sequence[bytes],
        *,
        shard_count: int,
        models: Mapping[str, MarginModel],
        screening: ScreeningPolicy,
        shadow: Shadow | None = None,
        observer: Observer | None = None,
    ) -> "Risk":
        """Return the stage as it was at a barrier, for the shards that are given.

        Raises
        ------
        CheckpointError : damaged, swapped, or of another version.
        """
        market, value_decidable, asset_decidable = _open_common(common)
        risk = cls(
            Market.restore(market),
            Book.restore(shards, shard_count=shard_count, models=tuple(models)),
            models=models,
            screening=screening,
            shadow=shadow,
            observer=observer,
        )
        risk._value_decidable = np.frombuffer(value_decidable, np.bool_)
        risk._asset_decidable = np.frombuffer(asset_decidable, np.bool_)
        return risk


def _open_common(common: bytes) -> tuple[bytes, bytes, bytes]:
    opened: tuple[bytes, bytes, bytes] = msgspec.msgpack.decode(
        open_envelope("risk", _RISK_VERSION, common), type=tuple[bytes, bytes, bytes]
    )
    return opened


def merge_results(parts: Sequence[Results]) -> Results:
    """Return the results of several processes' shards in their one order, (frame, account, index)."""
    if len(parts) == 1:
        return parts[0]
    rows = join_results(parts)
    # An account is in one part, and there in order already: the sort is stable, and leaves its rows as they are.
    return rows[np.lexsort((rows["account"], rows["frame"]))]


def _counts_within(account: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return 0, 1, 2, … within each run of equal accounts."""
    begins = np.ones(account.shape[0], np.bool_)
    begins[1:] = account[1:] != account[:-1]
    places = np.arange(account.shape[0])
    return (places - np.maximum.accumulate(np.where(begins, places, 0))).astype(np.uint32)
