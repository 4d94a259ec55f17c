"""Nested boxes: an account is looked at when the market leaves the box in which it cannot change its tier.

1. A box of a level is a range of one underlying's spot, e^±width about where it was built, with a band for every
   instrument's vol, ratio and rate and for the oracle's confidence, until an end of time. Widths double from level to
   level. An asset has boxes of its own: its price and its haircut.
2. An account lives at one level, the widest at which its health cannot reach a boundary of the ladder while each of its
   underlyings and assets is in its box of that level; or it is hot, and is evaluated whenever what it holds moves.
3. An instant compares what moved with the boxes that stand, and touches no account. A box that is left is torn down;
   its residents are decided and placed again. Where a box is needed and none stands, one is built about the market.
4. Nothing here is published or kept in a checkpoint: where an account lives does not change what is decided.
"""

from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.margin.portfolio import PortfolioMargin, PortfolioTables
from flows.margin.standard import StandardMargin, StandardTables
from flows.market.columns import FRESH, NEVER_EXPIRES, InstrumentColumns
from flows.market.instant import Instant
from flows.market.valuation import YEAR_NS
from flows.pricing.grid import aligned_rows
from flows.pricing.kinds import OPTION
from flows.risk.evaluation import Evaluation
from flows.screening.bounds import InstrumentBox, Shocks, instrument_bounds
from flows.screening.health import (
    NEEDS,
    NOT_BOUNDED,
    PORTFOLIO,
    STANDARD,
    Accounts,
    LevelTables,
    Terms,
    keeps_its_tier,
)
from flows.screening.needs import write_needs
from flows.screening.policy import Sight, Work, anything_moved
from schemas.parameters import PortfolioParameters, StandardParameters
from schemas.results import Tier

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Int8Array = npt.NDArray[np.int8]
UInt64Array = npt.NDArray[np.uint64]
UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

LEVELS: Final = 8
HOT: Final = -1
_NEVER_PLACED: Final = -2
_WIDTH_MIN: Final = 0.0016
# By how much other things may move, for each width of the spot.
_VOL_BAND: Final = 1.5
_RATIO_BAND: Final = 0.25
_RATE_BAND: Final = 0.1
_CONFIDENCE_BAND: Final = 0.1
_HAIRCUT_BAND: Final = 0.25
_SECOND_NS: Final = 1_000_000_000
# A box of the narrowest level ends after this; the time grows as the square of the width, as variance does.
_TIME_MIN_NS: Final = 240 * _SECOND_NS
_TIME_MAX_NS: Final = 3_600 * _SECOND_NS
_WORD: Final = 64


class _Level:
    """The boxes of one level: what ``health`` reads, and the ranges within which that is true.

    ``width`` is in log-spot. ``stands``, ``ends_ns``, ``confidence_high`` (U,); ``spot`` (2, U); ``ratio``, ``vol``,
    ``rate`` (2, K). The boxes of assets are in ``tables``.
    """

    def __init__(self, width: float, instruments: int, underlyings: int, assets: int, lanes: int) -> None:
        self.width = width
        self.stands = np.zeros(underlyings, np.bool_)
        self.ends_ns = np.zeros(underlyings, np.int64)
        self.spot = np.zeros((2, underlyings))
        self.confidence_high = np.zeros(underlyings)
        self.ratio, self.vol, self.rate = (np.zeros((2, instruments)) for _ in range(3))
        self.tables = LevelTables(
            lines=aligned_rows(2 * instruments, lanes),
            covered=np.zeros(instruments, np.bool_),
            needs_high=np.zeros((instruments, NEEDS)),
            needs_low=np.zeros((instruments, NEEDS)),
            asset_covered=np.zeros(assets, np.bool_),
            price_low=np.zeros(assets),
            price_high=np.zeros(assets),
            haircut_low=np.zeros(assets),
            haircut_high=np.zeros(assets),
        )


@dataclass(frozen=True, slots=True)
class _Rules:
    """What is in force: parameters as the bounds read them."""

    standard: StandardParameters
    portfolio: PortfolioParameters
    shocks: Shocks
    terms: Terms


class BoxScreen:
    """One process's boxes.

    Attributes
    ----------
    level : (rows,), where an account lives; negative while it is hot.
    """

    def __init__(self, sight: Sight) -> None:
        self._market, self._book = sight.market, sight.book
        self.level = np.zeros(0, np.int8)
        # A bit for each underlying and each asset whose boxes a row lives in.
        self._held: UInt64Array = np.zeros((0, 0), np.uint64)
        self._owned: UInt64Array = np.zeros((0, 0), np.uint64)
        self._hot: Int64Array = np.zeros(0, np.int64)
        self._levels: list[_Level] = []
        self._members: list[Int64Array] = []
        self._rules: _Rules | None = None
        self._value_decidable: BoolArray = np.zeros(0, np.bool_)
        self._asset_decidable: BoolArray = np.zeros(0, np.bool_)
        self._placements = 0
        self._bounded_as = np.array([_bounded_as(sight.models[name]) for name in sight.book.models], np.uint8)

    # -- the seam ------------------------------------------------------------------------------------------------

    def rows(self, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return those touched, the hot ones whose holdings moved, and the residents of boxes that were left."""
        self._placements = 0
        if instant.everything_moved or not self._levels:
            self._begin_anew(instant)
            return self._book.customer_rows
        self._grow(instant)
        if not anything_moved(instant):
            return touched
        left, left_assets = self._tear_down(instant)
        chosen = [touched, self._concerned_hot(instant)]
        if left.any() or left_assets.any():
            chosen.append(
                _residents(
                    self.level, self._held, self._owned, _bits(left, self._held.shape[1]),
                    _bits(left_assets, self._owned.shape[1]),
                )
            )  # fmt: skip
        return np.unique(np.concatenate(chosen))

    def decided(self, instant: Instant, rows: Int64Array, evaluation: Evaluation) -> None:  # noqa: ARG002
        """Place every row that was evaluated again, in boxes about the market as it is."""
        if self._rules is None:
            self._rules = self._rules_in_force(instant)
        self._place(instant, rows)

    def work(self) -> Work:
        """Return what the last frame took, and how many accounts are hot."""
        return Work(placements=self._placements, hot_accounts=int(self._hot.shape[0]))

    def violations(self, rows: Int64Array, evaluation: Evaluation) -> int:  # noqa: ARG002
        """Return 0: no bound of health is kept behind a placement."""
        return 0

    # -- growth and change ---------------------------------------------------------------------------------------

    def _begin_anew(self, instant: Instant) -> None:
        self._levels = []
        self._rules = None
        self._grow(instant)
        self.level[:] = _NEVER_PLACED
        self._hot = self._book.customer_rows

    def _grow(self, instant: Instant) -> None:
        """Make room for what was listed and opened; boxes that would miss an instrument are torn down by the next."""
        rows = self._book.rows
        columns = self._market.columns
        underlyings, assets = len(columns.underlyings), instant.asset_price.shape[0]
        words, asset_words = -(-max(underlyings, 1) // _WORD), -(-max(assets, 1) // _WORD)
        if rows > self.level.shape[0]:
            opened = np.full(max(rows, 2 * self.level.shape[0]) - self.level.shape[0], _NEVER_PLACED, np.int8)
            self.level = np.concatenate([self.level, opened])
        shape = (self.level.shape[0], words)
        if self._held.shape != shape:
            self._held = _larger(self._held, shape)
        if self._owned.shape != (shape[0], asset_words):
            self._owned = _larger(self._owned, (shape[0], asset_words))
        known = self._levels[0].tables if self._levels else None
        if known is None or known.covered.shape[0] != columns.count or known.asset_covered.shape[0] != assets:
            # Listings are rare: everyone is placed again.
            scenarios = len(cast(PortfolioParameters, self._market.parameters("tidegate-portfolio")).scenarios)
            lanes = 2 * (-(-(1 + scenarios) // 8) * 8)
            self._levels = [
                _Level(_WIDTH_MIN * 2.0**k, columns.count, underlyings, assets, lanes) for k in range(LEVELS)
            ]
            self._members = [np.flatnonzero(columns.underlying == u) for u in range(underlyings)]
            self._rules = None
            self.level[:] = _NEVER_PLACED
            self._hot = self._book.customer_rows
            self._value_decidable, self._asset_decidable = instant.value_decidable, instant.asset_decidable

    def _rules_in_force(self, instant: Instant) -> _Rules:
        market = self._market
        standard = cast(StandardParameters, market.parameters("tidegate-standard"))
        portfolio = cast(PortfolioParameters, market.parameters("tidegate-portfolio"))
        scenarios = np.array(portfolio.scenarios, np.float64)
        underlyings = len(market.columns.underlyings)
        tables = [instant.margin_tables.get(name) for name in ("tidegate-standard", "tidegate-portfolio")]
        depths = np.zeros((2, underlyings))
        for place, of_model in enumerate(tables):
            if isinstance(of_model, StandardTables | PortfolioTables):
                depths[place] = of_model.inverse_depth
        offsets = tables[1] if isinstance(tables[1], PortfolioTables) else None
        terms = Terms(
            weight=scenarios[:, 2].copy(),
            initial_factor=portfolio.initial_factor,
            maintenance_factor=portfolio.maintenance_factor,
            offset_group=np.full(underlyings, -1, np.int64) if offsets is None else offsets.offset_group,
            offset_share=np.zeros(0) if offsets is None else offsets.offset_share,
            inverse_depth=depths,
            concentration_rate=np.array([standard.concentration_rate, portfolio.concentration_rate]),
            concentration_cap=np.array([standard.concentration_cap, portfolio.concentration_cap]),
            watch_multiple=instant.ladder.watch_multiple,
        )
        shocks = Shocks(
            scenarios[:, 0].copy(), scenarios[:, 1].copy(), portfolio.vol_up, portfolio.vol_down,
            portfolio.vol_power_short, portfolio.vol_power_long, portfolio.vol_days_min,
        )  # fmt: skip
        return _Rules(standard, portfolio, shocks, terms)

    # -- an instant ----------------------------------------------------------------------------------------------

    def _tear_down(self, instant: Instant) -> tuple[BoolArray, BoolArray]:
        """Tear down the boxes that the market left; return which, (L, U) and (L, A)."""
        columns = self._market.columns
        left = np.zeros((LEVELS, len(columns.underlyings)), np.bool_)
        left_assets = np.zeros((LEVELS, instant.asset_price.shape[0]), np.bool_)
        if instant.value_decidable is not self._value_decidable:
            changed = instant.value_decidable != self._value_decidable
            left[:, columns.underlying[changed]] = True
            self._value_decidable = instant.value_decidable
        if instant.asset_decidable is not self._asset_decidable:
            left_assets[:, instant.asset_decidable != self._asset_decidable] = True
            self._asset_decidable = instant.asset_decidable
        moved = np.flatnonzero(instant.moved)
        moved_underlyings = np.unique(columns.underlying[moved])
        for k, level in enumerate(self._levels):
            if level.stands.any():
                _find_left(
                    moved, moved_underlyings, columns.kind, columns.underlying, columns.settled, columns.spot,
                    columns.confidence, columns.priced_at_ns, columns.index_price, columns.forward,
                    columns.mark_price, columns.implied_vol, columns.rate, level.tables.covered, level.stands,
                    level.ends_ns, level.spot, level.confidence_high, level.ratio, level.vol, level.rate, left[k],
                )  # fmt: skip
            tables = level.tables
            for asset in np.flatnonzero(instant.asset_moved & tables.asset_covered):
                price, haircut = instant.asset_price[asset], instant.haircut[asset]
                left_assets[k, asset] |= not (
                    tables.price_low[asset] <= price <= tables.price_high[asset]
                    and tables.haircut_low[asset] <= haircut <= tables.haircut_high[asset]
                )
            tables.asset_covered[left_assets[k]] = False
            # What a lot needs is in the numeraire: it was written with the range of the price that was left.
            for asset in np.flatnonzero(left_assets[k]):
                left[k, columns.underlying[columns.settlement_asset == asset]] = True
            level.stands[left[k]] = False
        return left, left_assets

    def _concerned_hot(self, instant: Instant) -> Int64Array:
        """Return the hot rows that hold something that moved."""
        hot = self._hot
        if hot.shape[0] == 0:
            return hot
        moved = np.zeros((1, len(self._market.columns.underlyings)), np.bool_)
        moved[0, self._market.columns.underlying[instant.moved]] = True
        underlyings, assets = _bits(moved, self._held.shape[1]), _bits(instant.asset_moved[None], self._owned.shape[1])
        concerned = (self._held[hot] & underlyings).any(axis=1) | (self._owned[hot] & assets).any(axis=1)
        return hot[concerned]

    # -- placing -------------------------------------------------------------------------------------------------

    def _place(self, instant: Instant, rows: Int64Array) -> None:
        """Let each row live at the widest level at which it keeps its tier."""
        book, rules = self._book, self._rules
        assert rules is not None, "rules are read before anyone is placed"
        positions = book.positions
        self._placements = rows.shape[0]
        _bits_of_rows(
            positions.offset, positions.count, positions.instrument, self._market.columns.underlying,
            instant.settlement_asset, book.cash, rows, self._held, self._owned,
        )  # fmt: skip
        bounded_as = self._bounded_as[book.model]
        may_rest = (
            (bounded_as[rows] != NOT_BOUNDED)
            & (book.tier[rows] < int(Tier.LIQUIDATING))
            & (book.order_count[rows] == 0)
            & ~book.suspended[rows]
        )
        told = book.open_orders
        if told is not None:
            has_orders = told.count[rows] > 0
            may_rest &= ~has_orders
            # What it may yet trade moves its initial margin, too, without being held.
            self._held[rows[has_orders]] = ~np.uint64(0)
        accounts = Accounts(
            cash=book.cash,
            offset=positions.offset,
            count=positions.count,
            instrument=positions.instrument,
            lots=positions.lots,
            isolated=book.isolated,
            tier=book.tier,
            bounded_as=bounded_as,
        )
        before = self.level[rows][may_rest].astype(np.int64)
        self.level[rows] = HOT
        waiting = rows[may_rest]
        # Who has lived somewhere may go one level up: a search from the top every time would cost more than it finds.
        first = np.where(before == _NEVER_PLACED, LEVELS - 1, np.minimum(before + 1, LEVELS - 1))
        for k in range(int(first.max(initial=HOT)), HOT, -1):
            due = np.flatnonzero(first >= k)
            level = self._levels[k]
            self._build_missing(instant, level, k, waiting[due])
            keeps = keeps_its_tier(
                level.tables,
                rules.terms,
                accounts,
                group=self._market.columns.underlying,
                settlement_asset=instant.settlement_asset,
                asset_unit=instant.asset_unit,
                rows=waiting[due],
            )
            self.level[waiting[due[keeps]]] = k
            left = np.ones(waiting.shape[0], np.bool_)
            left[due[keeps]] = False
            waiting, first = waiting[left], first[left]
            if waiting.shape[0] == 0:
                break
        hot = self._hot[~np.isin(self._hot, rows, assume_unique=True)]
        self._hot = np.union1d(hot, rows[self.level[rows] == HOT])

    def _build_missing(self, instant: Instant, level: _Level, k: int, rows: Int64Array) -> None:
        """Build the boxes of a level that rows need and that do not stand."""
        owned = np.bitwise_or.reduce(self._owned[rows], axis=0)
        tables = level.tables
        for asset in range(instant.asset_price.shape[0]):
            if not _has(owned, asset) or tables.asset_covered[asset] or not instant.asset_decidable[asset]:
                continue
            price, haircut, band = instant.asset_price[asset], instant.haircut[asset], _HAIRCUT_BAND * level.width
            tables.price_low[asset], tables.price_high[asset] = price / (1.0 + level.width), price * (1.0 + level.width)
            tables.haircut_low[asset], tables.haircut_high[asset] = max(haircut - band, 0.0), min(haircut + band, 1.0)
            tables.asset_covered[asset] = True
        held = np.bitwise_or.reduce(self._held[rows], axis=0)
        for underlying in range(len(self._members)):
            if _has(held, underlying) and not level.stands[underlying]:
                self._build(level, k, underlying)

    def _build(self, level: _Level, k: int, underlying: int) -> None:
        """Build one box about the market as it is."""
        columns, rules, tables = self._market.columns, self._rules, level.tables
        assert rules is not None, "rules are read before boxes are built"
        members = self._members[underlying]
        begin_ns = int(columns.priced_at_ns[underlying])
        end_ns = begin_ns + min(_TIME_MIN_NS * 4**k, _TIME_MAX_NS)
        expiry_ns = columns.expiry_ns[members]
        to_come = expiry_ns[(expiry_ns != NEVER_EXPIRES) & (expiry_ns > begin_ns)]
        if to_come.shape[0]:
            end_ns = min(end_ns, int(to_come.min()) - 1)
        spot, width = float(columns.spot[underlying]), level.width
        ratio, known = _ratios(columns, members)
        known &= columns.decidable[members].astype(np.bool_) & (columns.settled[members] == 0)
        known &= tables.asset_covered[columns.settlement_asset[members]]
        level.stands[underlying] = True
        level.ends_ns[underlying] = end_ns
        level.spot[:, underlying] = spot / (1.0 + width), spot * (1.0 + width)
        confidence = float(columns.confidence[underlying])
        level.confidence_high[underlying] = confidence + _CONFIDENCE_BAND * width
        level.ratio[:, members] = ratio / (1.0 + _RATIO_BAND * width), ratio * (1.0 + _RATIO_BAND * width)
        vol, band = columns.implied_vol[members], 1.0 + _VOL_BAND * width
        level.vol[:, members] = vol / band, vol * band
        level.rate[:, members] = (
            columns.rate[members] - _RATE_BAND * width,
            columns.rate[members] + _RATE_BAND * width,
        )
        if columns.spot_state[underlying] != FRESH or not spot > 0.0:
            tables.covered[members] = False
            return
        box = InstrumentBox(
            kind=columns.kind[members],
            inverse=columns.inverse[members],
            call=columns.call[members],
            quantity=columns.quantity[members],
            strike=columns.strike[members],
            spot_low=float(level.spot[0, underlying]),
            spot_high=float(level.spot[1, underlying]),
            ratio_low=level.ratio[0, members],
            ratio_high=level.ratio[1, members],
            vol_low=level.vol[0, members],
            vol_high=level.vol[1, members],
            rate_low=level.rate[0, members],
            rate_high=level.rate[1, members],
            time_low=_years(expiry_ns, end_ns),
            time_high=_years(expiry_ns, begin_ns),
        )
        bounds = instrument_bounds(box, rules.shocks)
        tables.lines[2 * members] = bounds.rows[0::2]
        tables.lines[2 * members + 1] = bounds.rows[1::2]
        tables.covered[members] = bounds.covered & known
        settles_in = columns.settlement_asset
        write_needs(
            members=members,
            underlying=columns.underlyings[underlying],
            kind=columns.kind,
            call=columns.call,
            quantity=columns.quantity,
            strike=columns.strike,
            lines=tables.lines,
            spot=(box.spot_low, box.spot_high),
            price=(tables.price_low[settles_in], tables.price_high[settles_in]),
            confidence=float(level.confidence_high[underlying]),
            standard=rules.standard,
            portfolio=rules.portfolio,
            needs_high=tables.needs_high,
            needs_low=tables.needs_low,
        )


class Boxes:
    """Look at accounts when the market leaves their boxes; exact."""

    name = "boxes"
    exact = True

    def screen(self, sight: Sight) -> BoxScreen:
        """Return the screening of one process."""
        return BoxScreen(sight)


POLICY = Boxes()


def _bounded_as(model: object) -> int:
    if isinstance(model, StandardMargin):
        return STANDARD
    return PORTFOLIO if isinstance(model, PortfolioMargin) else NOT_BOUNDED


def _years(expiry_ns: Int64Array, now_ns: int) -> Float64Array:
    """Return years to expiry as the market counts them; 0 where there is none."""
    return np.where(expiry_ns == NEVER_EXPIRES, 0.0, np.maximum((expiry_ns - now_ns) / YEAR_NS, 0.0))


def _ratios(columns: InstrumentColumns, members: Int64Array) -> tuple[Float64Array, BoolArray]:
    """Return each member's forward or mark over its index price, and where there is one."""
    index = columns.index_price[members]
    of = np.where(columns.kind[members] == OPTION, columns.forward[members], columns.mark_price[members])
    known = (index > 0.0) & (of > 0.0)
    return np.divide(of, index, out=np.ones(members.shape[0]), where=known), known


def _bits(of_levels: BoolArray, words: int) -> UInt64Array:
    """Return (L, words) of (L, n) flags, 64 to a word."""
    flags = np.zeros((of_levels.shape[0], words * _WORD), np.uint8)
    flags[:, : of_levels.shape[1]] = of_levels
    return np.packbits(flags, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def _has(bits: UInt64Array, place: int) -> bool:
    return bool(int(bits[place // _WORD]) >> (place % _WORD) & 1)


def _larger(array: UInt64Array, shape: tuple[int, int]) -> UInt64Array:
    grown = np.zeros(shape, np.uint64)
    grown[: array.shape[0], : array.shape[1]] = array
    return grown


@njit(cache=True, error_model="numpy")
def _bits_of_rows(
    offset: Int64Array,
    count: Int64Array,
    instrument: npt.NDArray[np.uint32],
    underlying: Int32Array,
    settlement_asset: npt.NDArray[np.uint16],
    cash: Int64Array,
    rows: Int64Array,
    held: UInt64Array,
    owned: UInt64Array,
) -> None:
    """Write the bits of what rows hold: underlyings; and assets, by balance or because a position settles in them."""
    for n in range(rows.shape[0]):
        row = rows[n]
        held[row] = 0
        owned[row] = 0
        for p in range(offset[row], offset[row] + count[row]):
            u, a = np.uint64(underlying[instrument[p]]), np.uint64(settlement_asset[instrument[p]])
            held[row, u >> np.uint64(6)] |= np.uint64(1) << (u & np.uint64(63))
            owned[row, a >> np.uint64(6)] |= np.uint64(1) << (a & np.uint64(63))
        for j in range(cash.shape[1]):
            if cash[row, j] != 0:
                a = np.uint64(j)
                owned[row, a >> np.uint64(6)] |= np.uint64(1) << (a & np.uint64(63))


@njit(cache=True, error_model="numpy")
def _residents(
    level: Int8Array, held: UInt64Array, owned: UInt64Array, left: UInt64Array, left_assets: UInt64Array
) -> Int64Array:
    """Return the rows that live in a box that was left."""
    out = np.empty(level.shape[0], np.int64)
    found = 0
    for row in range(level.shape[0]):
        k = level[row]
        if k < 0:
            continue
        hit = False
        for word in range(held.shape[1]):
            hit |= (held[row, word] & left[k, word]) != 0
        for word in range(owned.shape[1]):
            hit |= (owned[row, word] & left_assets[k, word]) != 0
        if hit:
            out[found] = row
            found += 1
    return out[:found]


@njit(cache=True, error_model="numpy")
def _find_left(
    moved: Int64Array,
    moved_underlyings: Int32Array,
    kind: Int8Array,
    underlying: Int32Array,
    settled: Int8Array,
    spot: Float64Array,
    confidence: Float64Array,
    priced_at_ns: Int64Array,
    index_price: Float64Array,
    forward: Float64Array,
    mark_price: Float64Array,
    implied_vol: Float64Array,
    rate: Float64Array,
    covered: BoolArray,
    stands: BoolArray,
    ends_ns: Int64Array,
    spot_range: Float64Array,
    confidence_high: Float64Array,
    ratio_range: Float64Array,
    vol_range: Float64Array,
    rate_range: Float64Array,
    left: BoolArray,
) -> None:
    """Mark the underlyings whose box of one level does not hold what it is priced from now."""
    for n in range(moved_underlyings.shape[0]):
        u = moved_underlyings[n]
        if stands[u]:
            left[u] |= not (
                spot_range[0, u] <= spot[u] <= spot_range[1, u]
                and priced_at_ns[u] <= ends_ns[u]
                and confidence[u] <= confidence_high[u]
            )
    for n in range(moved.shape[0]):
        i = moved[n]
        u = underlying[i]
        if not stands[u] or left[u] or not covered[i] or settled[i] != 0:
            continue
        ratio = (forward[i] if kind[i] == OPTION else mark_price[i]) / index_price[i]
        inside = ratio_range[0, i] <= ratio <= ratio_range[1, i]
        if kind[i] == OPTION:
            inside &= vol_range[0, i] <= implied_vol[i] <= vol_range[1, i]
            inside &= rate_range[0, i] <= rate[i] <= rate_range[1, i]
        left[u] |= not inside
