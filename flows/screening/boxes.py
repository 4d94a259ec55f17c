"""Nested boxes: an account is looked at when the market leaves the box in which it cannot change its tier.

1. A box is a range of everything that an underlying's instruments are priced from, of one of a dozen widths, each twice
   the one before (``standing``). An account lives at the widest at which its health cannot reach a boundary of its tier
   while each of its underlyings and assets is in its box of that width (``ranges.HealthBounds``); or it is *hot*.
2. An instant compares what moved with the boxes that stand, and touches no account. Who lived in a box that was left
   is placed again, by bounds about the market as it is now: who finds a place is proved to have kept its tier.
   Evaluated are the hot, and those that a record touched.
3. A box is built where those who wait for it are worth it: as many evaluations as it is expected to save.
4. Boxes with many residents are left early, in slices, the least slack first; so are accounts placed after a start or
   a change of rules. Slices are counted in accounts.
5. Nothing here is published or kept in a checkpoint: where an account lives does not change what is decided.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from flows.market.columns import InstrumentColumns
from flows.market.instant import Instant
from flows.risk.evaluation import Evaluation
from flows.screening.boundaries import boundaries_of, distance
from flows.screening.models import bounds_of
from flows.screening.observer import Residence
from flows.screening.policy import Sight, Work, anything_moved, rising
from flows.screening.ranges import Accounts, Boundaries, HealthBounds
from flows.screening.residents import NOWHERE, Residents, any_of, bits, flags
from flows.screening.standing import SLOTS, WIDTHS, Standing, width_of
from schemas.results import Tier

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int16Array = npt.NDArray[np.int16]
Int8Array = npt.NDArray[np.int8]
BoolArray = npt.NDArray[np.bool_]

# What an instrument's rows cost to write, in evaluations of an account.
_WRITE_COST: Final = 6.0
# A hot account is tried again when it is farther from its boundary than when it found no place, and else every so many
# instants.
_RETRY_INSTANTS: Final = 64
# Accounts that wait are placed in slices: of all that there are, one in so many an instant, but not fewer than these.
_SLICES: Final = 12
_SLICE_MIN: Final = 4_096
# Boxes with fewer residents, of all accounts, than one in so many need no care: they are left at once.
_MANY: Final = 64
_MANY_MIN: Final = 1_024
# How fast the variance of an underlying's moves is learned: the weight of an instant.
_LEARNING: Final = 1.0 / 64.0
_LEARNING_REFITS: Final = 1.0 / 16.0
_NEVER_TRIED: Final = -1
# Which of the slacks are told of residents.
_QUANTILES: Final = (0.0, 0.01, 0.1, 0.5, 0.9)


class BoxScreen:
    """One process's boxes.

    Attributes
    ----------
    residents : who lives where. slack : (rows, 2), of a resident, what its bounds leave below and above; of a hot
        account, what they left where it last found no place.
    """

    def __init__(self, sight: Sight) -> None:
        self._market, self._book = sight.market, sight.book
        self._openers = [bounds_of(sight.models[name]) for name in sight.book.models]
        self.residents = Residents(SLOTS)
        self.slack: Float64Array = np.zeros((0, 2))
        self._observer = sight.observer
        self._standing = Standing(self._market.columns, 0)
        self._begun = False
        self._family: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._bounds: list[dict[int, HealthBounds]] = []
        self._unwritten: BoolArray = np.zeros((SLOTS, len(self._openers), 0), np.bool_)
        self._tier_at: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._width: Int8Array = np.zeros(0, np.int8)
        # By how much a resident's slack would shrink one width up, as far as is known; of a hot account, by how much
        # the bound that failed was below its distance.
        self._reach: Float64Array = np.zeros(0)
        self._tried_at: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._waits: BoolArray = np.zeros(0, np.bool_)
        self._queue: Int64Array = np.zeros(0, np.int64)
        self._twin: Int16Array = np.zeros(WIDTHS, np.int16)
        self._tick = 0
        self._touched: Int64Array = np.zeros(0, np.int64)
        self._variance: Float64Array = np.zeros(0)
        self._spot: Float64Array = np.zeros(0)
        self._vol_variance: Float64Array = np.zeros(0)
        self._vol: Float64Array = np.zeros(0)
        self._value_decidable: BoolArray = np.zeros(0, np.bool_)
        self._instant: Instant | None = None
        self._narrowest = 0
        self._placements = 0

    # -- the seam ------------------------------------------------------------------------------------------------

    def rows(self, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return those touched, and the hot ones whose holdings moved, after all who can be were placed."""
        self._placements = 0
        self._tick += 1
        self._instant = instant
        self._touched = touched
        if instant.everything_moved or not self._begun:
            self._begin_anew(instant)
            return self._book.customer_rows
        self._grow(instant)
        if not anything_moved(instant):
            return touched
        self._learn()
        self._narrowest = self._narrowest_worth_it()
        loose = self._loose(instant)
        self.residents.put(loose, self.residents.hot)
        self._retire()
        due = self._due(touched, loose)
        if due.shape[0]:
            self._place(instant, due)
        still_hot = loose[self.residents.slot[loose] == self.residents.hot]
        return rising(self._book.rows, (touched, still_hot, self._concerned(instant)))

    def decided(self, instant: Instant, rows: Int64Array, evaluation: Evaluation) -> None:
        """Place again who was touched or changed, and who got farther from its boundary."""
        residents, hot = self.residents, self.residents.hot
        stands = residents.slot[rows]
        touched = np.isin(rows, self._touched, assume_unique=True) | (stands == NOWHERE)
        fresh = rows[touched]
        residents.put(fresh, NOWHERE)
        residents.describe(
            fresh, positions=self._book.positions, open_orders=self._book.open_orders, family=self._family,
            underlying=self._market.columns.underlying, settlement_asset=instant.settlement_asset,
            cash=self._book.cash,
        )  # fmt: skip
        residents.put(fresh, hot)
        if fresh.shape[0] > self._slice():
            # After a start or a change of rules nobody is placed: they wait for their turn.
            self._wait(fresh)
            due = self._due(np.zeros(0, np.int64), np.zeros(0, np.int64))
            self._place(instant, due)
            return
        idle = np.flatnonzero(~touched & (stands == hot) & ~self._waits[rows])
        idle = idle[~evaluation.undecidable[idle]]
        chosen = rows[idle]
        away = _least(distance(boundaries_of(self._book, instant, chosen), evaluation, idle))
        changed = self._book.tier[chosen] != self._tier_at[chosen]
        tried_now = self._tried_at[chosen] == self._tick
        # It failed by a bound that was so much below what it was: as long as it is no farther, it would fail again.
        again = changed | (~tried_now & ((away > self._reach[chosen]) | ((chosen + self._tick) % _RETRY_INSTANTS == 0)))
        due = np.concatenate([fresh, chosen[again]])
        if due.shape[0]:
            self._place(instant, due)
        failed = (residents.slot[chosen] == hot) & (again | tried_now)
        bound = self.slack[chosen[failed], 0]
        self._reach[chosen[failed]] = np.where(np.isnan(bound), np.inf, away[failed] - bound)

    def work(self) -> Work:
        """Return what the last frame took, and how many accounts are hot."""
        return Work(
            placements=self._placements,
            hot_accounts=int(self.residents.counts[self.residents.hot]),
        )

    def violations(self, rows: Int64Array, evaluation: Evaluation) -> int:
        """Return how many residents are nearer to a boundary than their bounds allow."""
        slot = self.residents.slot[rows]
        chosen = np.flatnonzero((slot >= 0) & (slot < self.residents.hot))
        if chosen.shape[0] == 0 or self._instant is None:
            return 0
        boundaries = boundaries_of(self._book, self._instant, rows[chosen])
        away = distance(boundaries, evaluation, chosen)
        outside = (away < self.slack[rows[chosen]]).any(axis=1) | evaluation.undecidable[chosen]
        return int(outside.sum())

    def residence(self) -> Residence:
        """Return how many live at each width, why the others are hot, and what slack the former have."""
        residents, book = self.residents, self._book
        of_slots = residents.counts[:SLOTS].reshape(WIDTHS, 2).sum(axis=1)
        hot = residents.of(residents.hot)
        unbounded = np.array([opener is None for opener in self._openers], np.bool_)[book.model[hot]]
        undecided = book.suspended[hot] & ~unbounded
        waiting = self._waits[hot] & ~unbounded & ~undecided
        reasons = (
            ("of models without bounds", unbounded),
            ("not decided", undecided),
            ("waiting for a place", waiting),
            ("near a boundary, or with what has no bound", ~(unbounded | undecided | waiting)),
        )
        rest = np.concatenate([residents.of(slot) for slot in range(SLOTS)])
        quantiles = np.quantile(self.slack[rest].min(axis=1), _QUANTILES) if rest.shape[0] else np.zeros(0)
        return Residence(
            tuple((width_of(2 * width), int(count)) for width, count in enumerate(of_slots)),
            tuple((reason, int(which.sum())) for reason, which in reasons if which.any()),
            tuple(zip(_QUANTILES, quantiles.tolist(), strict=False)),
        )

    # -- growth and change ---------------------------------------------------------------------------------------

    def _begin_anew(self, instant: Instant) -> None:
        self._begun = True
        self._standing, self._bounds = Standing(self._market.columns, 0), []
        self._value_decidable = instant.value_decidable
        self._grow(instant)
        self.residents.empty()
        self._waits[:] = False
        self._queue = self._queue[:0]
        self._tier_at[:] = len(Tier)
        self._width[:] = WIDTHS - 1

    def _grow(self, instant: Instant) -> None:
        """Make room for what was listed and opened. What stands holds as it is: nobody holds what is new."""
        columns, rows = self._market.columns, self._book.rows
        underlyings, assets = len(columns.underlyings), instant.asset_price.shape[0]
        self.residents.grow(rows, underlyings, assets)
        room = self.residents.slot.shape[0]
        if room > self._tier_at.shape[0]:
            more = room - self._tier_at.shape[0]
            self.slack = np.concatenate([self.slack, np.zeros((more, 2))])
            self._tier_at = np.concatenate([self._tier_at, np.full(more, len(Tier), np.uint8)])
            self._width = np.concatenate([self._width, np.full(more, WIDTHS - 1, np.int8)])
            self._reach = np.concatenate([self._reach, np.zeros(more)])
            self._tried_at = np.concatenate([self._tried_at, np.full(more, _NEVER_TRIED, np.int32)])
            self._waits = np.concatenate([self._waits, np.zeros(more, np.bool_)])
        if not self._standing.fits(columns, assets) or not self._bounds:
            self._standing = Standing(columns, assets, self._standing)
            self._bounds = [{} for _ in range(SLOTS)]
            self._family = _families(columns)
            self._unwritten = np.ones((SLOTS, len(self._openers), columns.count), np.bool_)
            self._variance = _longer(self._variance, underlyings)
            self._spot = _longer(self._spot, underlyings)
            self._vol_variance = _longer(self._vol_variance, columns.count)
            self._vol = _longer(self._vol, columns.count)

    def _learn(self) -> None:
        """Take the moves of spots and vols into their variances."""
        columns = self._market.columns
        before, now = self._spot, columns.spot
        known = (before > 0.0) & (now > 0.0)
        move = np.divide(now, before, out=np.ones(now.shape[0]), where=known) - 1.0
        square = move * move
        self._variance += np.where(self._variance == 0.0, square, _LEARNING * (square - self._variance))
        self._spot = now.copy()
        before, now = self._vol, columns.implied_vol
        refitted = np.flatnonzero((before != now) & (before > 0.0) & (now > 0.0))
        if refitted.shape[0]:
            square = (now[refitted] / before[refitted] - 1.0) ** 2
            learned = self._vol_variance[refitted]
            self._vol_variance[refitted] += np.where(
                learned == 0.0, square, np.where(square > learned, 0.5, _LEARNING_REFITS) * (square - learned)
            )
        self._vol = now.copy()

    def _narrowest_worth_it(self) -> int:
        """Return the narrowest width whose boxes are worth building for the hot of some underlying."""
        standing = self._standing
        hot = self.residents.by_box[self.residents.hot, : self._variance.shape[0]]
        for width in range(WIDTHS):
            lasts = standing.lasts(2 * width, self._variance) - 1.0
            if ((hot > 0) & (lasts * np.maximum(hot, 1) >= _WRITE_COST * standing.sizes)).any():
                return width
        return WIDTHS - 1

    # -- an instant ----------------------------------------------------------------------------------------------

    def _loose(self, instant: Instant) -> Int64Array:
        """Tear down the boxes that were left; return who lived in them."""
        standing, residents = self._standing, self.residents
        now, before = instant.value_decidable, self._value_decidable
        suspect = np.ones(now.shape[0], np.bool_)
        suspect[: before.shape[0]] = before != now[: before.shape[0]]
        self._value_decidable = now
        boxes, instruments, assets = standing.leave(instant, suspect)
        if self._observer is not None:
            for slot, u in np.argwhere(boxes).tolist():
                self._observer.box_left(underlying=u, width=width_of(slot), slot=slot, time_ns=instant.time_ns)
        found = []
        for slot in np.flatnonzero(boxes.any(axis=1) | instruments.any(axis=1) | assets.any(axis=1)).tolist():
            if residents.counts[slot] == 0:
                continue
            found.append(
                residents.of_left(
                    slot,
                    underlyings=bits(boxes[slot], residents.held.shape[1]),
                    assets=bits(assets[slot], residents.owned.shape[1]),
                    families=_families_of(self._family, instruments[slot]),
                )
            )
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def _concerned(self, instant: Instant) -> Int64Array:
        """Return the hot rows that depend on something that moved."""
        residents = self.residents
        hot = residents.of(residents.hot).astype(np.int64)
        if hot.shape[0] == 0:
            return hot
        moved = np.zeros(len(self._market.columns.underlyings), np.bool_)
        moved[self._market.columns.underlying[instant.moved]] = True
        underlyings = bits(moved, residents.held.shape[1])
        assets = bits(instant.asset_moved, residents.owned.shape[1])
        return hot[any_of(residents.held[hot], underlyings) | any_of(residents.owned[hot], assets)]

    def _retire(self) -> None:
        """Let the residents of boxes that are nearly used up wait for a place in the twin, the least slack first."""
        standing, residents = self._standing, self.residents
        many = max(self._book.rows // _MANY, _MANY_MIN)
        for slot, underlying in standing.retire(residents.by_box[:SLOTS], many):
            only = np.zeros(len(standing.members), np.bool_)
            only[underlying] = True
            rows = residents.holding(slot, bits(only, residents.held.shape[1]))
            rows = rows[~self._waits[rows]]
            self._wait(rows[np.argsort(_least(self.slack[rows]), kind="stable")])
            self._twin[slot // 2] = 1 - slot % 2

    def _slice(self) -> int:
        return max(self._book.rows // _SLICES, _SLICE_MIN)

    def _wait(self, rows: Int64Array) -> None:
        self._waits[rows] = True
        self._queue = np.concatenate([self._queue, rows])

    def _due(self, touched: Int64Array, loose: Int64Array) -> Int64Array:
        """Return who is to be placed now: of the loose and the waiting, at most a slice; other loose ones wait."""
        room = self._slice()
        if touched.shape[0]:
            loose = loose[~np.isin(loose, touched)]
        loose = loose[~self._waits[loose]]
        if loose.shape[0] > room:
            self._wait(loose[room:])
            loose = loose[:room]
        room -= loose.shape[0]
        if room == 0 or self._queue.shape[0] == 0:
            return loose
        turn, self._queue = self._queue[:room], self._queue[room:]
        self._waits[turn] = False
        if touched.shape[0]:
            turn = turn[~np.isin(turn, touched)]
        return np.concatenate([loose, turn])

    # -- placing -------------------------------------------------------------------------------------------------

    def _place(self, instant: Instant, rows: Int64Array) -> None:
        """Let each row live at the widest level at which it keeps its tier; who was placed before, keeps its place."""
        book, residents = self._book, self.residents
        self._placements += rows.shape[0]
        self._tried_at[rows] = self._tick
        self._tier_at[rows] = book.tier[rows]
        model_of = book.model[rows]
        bounded = np.array([opener is not None for opener in self._openers], np.bool_)[model_of]
        may_rest = (
            bounded
            & ~book.suspended[rows]
            & ((book.order_count[rows] == 0) | (book.tier[rows] >= int(Tier.LIQUIDATING)))
        )
        accounts = Accounts(book.cash, book.positions, book.isolated, book.open_orders)
        boundaries = boundaries_of(book, instant, rows)
        waiting = np.flatnonzero(may_rest)
        # Where to begin: where it lived, or from the top; and one up where that is likely to hold, or is not known.
        cursor = self._width[rows].astype(np.int64)
        found = np.zeros(rows.shape[0], np.bool_)
        # What was left at the last width tried: from one to the next, it shrinks by what the market may move.
        left = np.full(rows.shape[0], np.nan)
        rising: list[Int64Array] = [np.zeros(0, np.int64)] * (WIDTHS + 1)
        for width in range(int(cursor[waiting].max(initial=-1)), -1, -1):
            due = waiting[cursor[waiting] >= width]
            placed, slack = self._try(instant, width, rows, due, model_of, accounts, boundaries)
            kept, least = due[placed], _least(slack)
            moved = least[placed] - left[kept]
            self._reach[rows[kept]] = np.where(np.isnan(moved), self._reach[rows[kept]], moved)
            found[kept] = True
            rising[width + 1] = kept[np.isnan(left[kept]) & (least[placed] > self._reach[rows[kept]])]
            left[due] = np.where(least > -np.inf, least, left[due])
            waiting = waiting[~found[waiting]]
            if waiting.shape[0] == 0:
                break
        for width in range(1, WIDTHS):
            due = rising[width]
            if due.shape[0]:
                placed, slack = self._try(instant, width, rows, due, model_of, accounts, boundaries)
                self._reach[rows[due]] = np.where(placed, 2.0 * self._reach[rows[due]], left[due] - _least(slack))
        nowhere = rows[~found]
        # Who lives in a box that stands, and found no other place, stays there.
        homeless = residents.slot[nowhere] == residents.hot
        nowhere = nowhere[homeless]
        self._width[nowhere] = self._narrowest
        self._reach[nowhere] = 0.0
        self.slack[nowhere, 0] = left[~found][homeless]

    def _try(
        self,
        instant: Instant,
        width: int,
        rows: Int64Array,
        due: Int64Array,
        model_of: npt.NDArray[np.uint8],
        accounts: Accounts,
        boundaries: Boundaries,
    ) -> tuple[BoolArray, Float64Array]:
        """Put those of ``rows[due]`` that keep their tier there into slots of a width; return who did, and slacks."""
        placed, slack = np.zeros(due.shape[0], np.bool_), np.full((due.shape[0], 2), -np.inf)
        for slot, mine in self._of_twins(width, rows[due]):
            ready = mine[self._ready(instant, slot, rows[due[mine]])]
            for model in np.flatnonzero(np.bincount(model_of[due[ready]])).tolist():
                tried = ready[model_of[due[ready]] == model]
                those = rows[due[tried]]
                found = self._written(instant, slot, model, those).slack(
                    self._standing.ranges[slot], accounts, boundaries.of(due[tried]), those
                )
                slack[tried] = found
                keeps = (found[:, 0] >= 0.0) & (found[:, 1] > 0.0)
                placed[tried] = keeps
                self.slack[those[keeps]] = found[keeps]
                self._width[those[keeps]] = width
                self.residents.put(those[keeps], slot)
        return placed, slack

    def _of_twins(self, width: int, rows: Int64Array) -> list[tuple[int, Int64Array]]:
        """Return the slots of a width with places of those who are to go there: away from boxes that retire."""
        standing = self._standing
        usual = 2 * width + int(self._twin[width])
        other = usual ^ 1
        if not standing.retiring[usual].any():
            return [(usual, np.arange(rows.shape[0]))]
        held = self.residents.held[rows]
        words = held.shape[1]
        worn = any_of(held, bits(standing.retiring[usual], words))
        worn &= ~any_of(held, bits(standing.retiring[other], words))
        parts = (usual, np.flatnonzero(~worn)), (other, np.flatnonzero(worn))
        return [(slot, mine) for slot, mine in parts if mine.shape[0]]

    def _ready(self, instant: Instant, slot: int, rows: Int64Array) -> BoolArray:
        """Build what rows need in a slot, where it is worth it; return which of them find all that they need."""
        standing, residents, columns = self._standing, self.residents, self._market.columns
        held, owned = residents.held[rows], residents.owned[rows]
        refused = np.zeros(len(standing.members), np.bool_)
        for asset in np.flatnonzero(flags(np.bitwise_or.reduce(owned, axis=0), instant.asset_price.shape[0])):
            if not self._standing.ranges[slot].asset_known[asset] and instant.asset_decidable[asset]:
                standing.build_asset(slot, int(asset), instant)
                self._unwritten[slot][:, columns.settlement_asset == asset] = True
        for u in np.flatnonzero(flags(np.bitwise_or.reduce(held, axis=0), len(standing.members))).tolist():
            if not standing.stands[slot, u]:
                who = max(
                    int(((held[:, u // 64] >> np.uint64(u % 64)) & np.uint64(1)).sum()),
                    int(residents.by_box[residents.hot, u]),
                )
                saved = who * (standing.lasts(slot, self._variance[u : u + 1])[0] - 1.0)
                if saved < _WRITE_COST * standing.members[u].shape[0]:
                    refused[u] = True
                    continue
                standing.build(slot, u)
                if self._observer is not None:
                    low, high = standing.ranges[slot].spot[:, u].tolist()
                    self._observer.box_built(
                        underlying=u, width=width_of(slot), slot=slot, low=low, high=high, time_ns=instant.time_ns
                    )
            laid = standing.lay_bands(slot, u, float(self._variance[u]), self._vol_variance)
            if laid.shape[0]:
                self._unwritten[slot][:, laid] = True
        if not refused.any():
            return np.ones(rows.shape[0], np.bool_)
        return np.logical_not(any_of(held, bits(refused, held.shape[1])))

    def _written(self, instant: Instant, slot: int, model: int, rows: Int64Array) -> HealthBounds:
        """Return a model's bounds of a slot, with the ranges of all that rows hold written."""
        standing = self._standing
        bounds = self._bounds[slot].get(model)
        if bounds is None:
            opener, name = self._openers[model], self._book.models[model]
            assert opener is not None, "only accounts of models with bounds are placed"
            bounds = self._bounds[slot][model] = opener(self._market.columns, self._market.parameters(name), instant)
        held = np.bitwise_or.reduce(self.residents.held[rows], axis=0)
        for u in np.flatnonzero(flags(held, len(standing.members))).tolist():
            members = standing.members[u]
            members = members[self._unwritten[slot, model, members]]
            if members.shape[0]:
                bounds.write(self._standing.ranges[slot], members)
                self._unwritten[slot, model, members] = False
        return bounds


class Boxes:
    """Look at accounts when the market leaves their boxes; exact."""

    name = "boxes"
    exact = True

    def screen(self, sight: Sight) -> BoxScreen:
        """Return the screening of one process."""
        return BoxScreen(sight)


POLICY = Boxes()


def _least(slack: Float64Array) -> Float64Array:
    """Return the lesser of both sides, (n,); NumPy reduces along two columns tens of times slower."""
    return np.minimum(slack[:, 0], slack[:, 1])


def _families(columns: InstrumentColumns) -> npt.NDArray[np.uint8]:
    """Return (K,) a number below 64 for each instrument: one for what expires together, shared where there are more.

    They are counted as they come up, so that listings leave those before them as they are.
    """
    kinds = np.stack([columns.underlying.astype(np.int64), columns.expiry_ns])
    _, first, of = np.unique(kinds, axis=1, return_index=True, return_inverse=True)
    order = np.empty(first.shape[0], np.int64)
    order[np.argsort(first)] = np.arange(first.shape[0])
    return (order[of] % 64).astype(np.uint8)


def _families_of(family: npt.NDArray[np.uint8], instruments: BoolArray) -> np.uint64:
    of = np.uint64(1) << family[instruments].astype(np.uint64)
    return np.uint64(np.bitwise_or.reduce(of, initial=np.uint64(0)))


def _longer(array: Float64Array, count: int) -> Float64Array:
    longer = np.zeros(count)
    longer[: array.shape[0]] = array
    return longer
