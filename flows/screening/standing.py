"""The boxes that stand: where they were built, how far they go, and which of them the market has left.

1. A slot is a set of boxes of one width: one for every underlying, e^±width about the spot where it was built, until an
   end of time; and one for every asset. Every instrument has its own band for vol, ratio and rate within its
   underlying's box, and may lose it alone: then its rows are written again, and the box stands.
2. Every width has two slots, twins. When a box with many residents is nearly used up (``_USED``), it *retires*: whoever
   is placed from then on goes to the other twin, whose box is built about the market as it is, and the residents follow
   while the old box still holds.
3. Bands are as wide as moves of the same likelihood: in proportion to the width, but not below what a refit moves.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flows.market.columns import FRESH, NEVER_EXPIRES, InstrumentColumns
from flows.market.instant import Instant
from flows.market.valuation import YEAR_NS
from flows.pricing.kinds import OPTION
from flows.screening.ranges import HIGH, LOW, Ranges

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Int8Array = npt.NDArray[np.int8]
BoolArray = npt.NDArray[np.bool_]

WIDTHS: Final = 12
SLOTS: Final = 2 * WIDTHS
_WIDTH_MIN: Final = 1e-4
# Bands, in widths of the spot and at least.
_VOL_BAND: Final = (1.5, 1e-5)
_RATIO_BAND: Final = (0.25, 5e-5)
_RATE_BAND: Final = (0.1, 1e-4)
_CONFIDENCE_BAND: Final = (0.1, 2e-5)
_HAIRCUT_BAND: Final = (0.25, 2e-4)
_TIE_BAND: Final = (0.01, 1e-9)
# An asset that moves less than the others has a narrower box, by its realised vol; but not below these.
_PRICE_BAND_MIN: Final = 5e-5
_CALMEST: Final = 1.0 / 16.0
# How long a box of the narrowest width stands: four times what a vol of 60 % takes to leave it. As the square of the
# width, as variance grows; at most so long.
_TIME_MIN_NS: Final = 3_750_000_000
_TIME_MAX_NS: Final = 4 * 3_600 * 1_000_000_000
_USED: Final = 0.7
# A vol's band is at least as wide as so many deviations of a refit; less in a box that stands for fewer instants.
_REFIT_DEVIATIONS: Final = 3.0
_REFIT_VARIANCE: Final = 1e-5
_REFIT_INSTANTS: Final = 240.0


def width_of(slot: int) -> float:
    """Return the width of a slot's boxes, in log-spot."""
    return float(_WIDTH_MIN * 2.0 ** (slot // 2))


# What a larger set takes from the one before: all that has a last axis of underlyings, instruments or assets.
_KEPT: Final = (
    "stands", "retiring", "began_ns", "ends_ns", "centre", "lost", "_until_ns", "_spot", "_confidence", "_ratio",
    "_vol", "_rate", "_time", "_tie", "_known", "_price", "_haircut", "_asset_confidence", "_asset_known",
)  # fmt: skip


class Standing:
    """The boxes of all slots: J slots, U underlyings, K instruments, A assets.

    Attributes
    ----------
    ranges : of each slot. stands, retiring : (J, U). lost : (J, K), instruments whose band must be laid anew.
    began_ns, ends_ns : (J, U). centre : (J, U), where it was built.
    """

    def __init__(self, columns: InstrumentColumns, assets: int, before: "Standing | None" = None) -> None:
        underlyings, instruments = len(columns.underlyings), columns.count
        self._columns = columns
        self.members = [np.flatnonzero(columns.underlying == u) for u in range(underlyings)]
        self.sizes = np.array([members.shape[0] for members in self.members], np.int64)
        self.stands, self.retiring = (np.zeros((SLOTS, underlyings), np.bool_) for _ in range(2))
        self.began_ns, self.ends_ns = (np.zeros((SLOTS, underlyings), np.int64) for _ in range(2))
        self.centre = np.ones((SLOTS, underlyings))
        self.lost = np.ones((SLOTS, instruments), np.bool_)
        self._until_ns = np.zeros((SLOTS, instruments), np.int64)
        self._spot, self._confidence = (np.zeros((SLOTS, 2, underlyings)) for _ in range(2))
        self._ratio, self._vol, self._rate, self._time = (np.zeros((SLOTS, 2, instruments)) for _ in range(4))
        self._tie = np.ones((SLOTS, 2, instruments))
        self._known = np.zeros((SLOTS, instruments), np.bool_)
        self._price, self._haircut, self._asset_confidence = (np.zeros((SLOTS, 2, assets)) for _ in range(3))
        self._asset_known = np.zeros((SLOTS, assets), np.bool_)
        if before is not None:
            for name in _KEPT:
                old = getattr(before, name)
                getattr(self, name)[..., : old.shape[-1]] = old
        self._width = np.array([width_of(slot) for slot in range(SLOTS)])
        self.ranges = [
            Ranges(
                spot=self._spot[j], confidence=self._confidence[j], ratio=self._ratio[j], vol=self._vol[j],
                rate=self._rate[j], time=self._time[j], tie=self._tie[j], known=self._known[j], price=self._price[j],
                haircut=self._haircut[j], asset_confidence=self._asset_confidence[j],
                asset_known=self._asset_known[j],
            )
            for j in range(SLOTS)
        ]  # fmt: skip

    def fits(self, columns: InstrumentColumns, assets: int) -> bool:
        """Return whether there is a place for everything that is listed."""
        return self.lost.shape[1] == columns.count and self._asset_known.shape[1] == assets

    # -- leaving -------------------------------------------------------------------------------------------------

    def leave(self, instant: Instant, suspect: BoolArray) -> tuple[BoolArray, BoolArray, BoolArray]:
        """Tear down what the market has left; return it as flags of boxes (J, U), instruments (J, K), assets (J, A).

        ``suspect`` (K,) : instruments that began or ceased to be decidable. An asset's box takes the bands of what
        settles in it along.
        """
        columns = self._columns
        moved = np.flatnonzero(instant.moved)
        boxes, instruments = np.zeros_like(self.stands), np.zeros_like(self.lost)
        if suspect.any():
            instruments[:, suspect] = self._known[:, suspect]
            self.lost[:, suspect] = True
        _leave(
            moved, np.unique(columns.underlying[moved]), columns.kind, columns.inverse, columns.underlying,
            columns.settled, columns.spot, columns.confidence, columns.priced_at_ns, columns.index_price,
            columns.forward, columns.mark_price, columns.implied_vol, columns.rate, columns.settlement_price,
            self._known, self.stands, self.ends_ns, self._until_ns, self._spot, self._confidence, self._ratio,
            self._vol, self._rate, self._tie, boxes, instruments,
        )  # fmt: skip
        assets = np.zeros((SLOTS, instant.asset_price.shape[0]), np.bool_)
        moved_assets = np.flatnonzero(instant.asset_moved)
        for j, ranges in enumerate(self.ranges if moved_assets.shape[0] else []):
            for asset in moved_assets[ranges.asset_known[moved_assets]]:
                if not instant.asset_decidable[asset] or not all(
                    of[LOW, asset] <= now[asset] <= of[HIGH, asset]
                    for of, now in (
                        (ranges.price, instant.asset_price),
                        (ranges.haircut, instant.haircut),
                        (ranges.asset_confidence, instant.asset_confidence),
                    )
                ):
                    assets[j, asset] = True
                    ranges.asset_known[asset] = False
                    settled_in_it = columns.settlement_asset == asset
                    instruments[j, settled_in_it] = self.stands[j, columns.underlying[settled_in_it]]
        for j, u in zip(*np.nonzero(boxes), strict=True):
            self.tear_down(int(j), int(u))
        self._known[instruments] = False
        self.lost |= instruments
        return boxes, instruments, assets

    def tear_down(self, slot: int, underlying: int) -> None:
        """Let a box stand no more."""
        members = self.members[underlying]
        self.stands[slot, underlying] = self.retiring[slot, underlying] = False
        self._known[slot, members] = False
        self.lost[slot, members] = True

    def retire(self, by_box: Int64Array, many: int) -> list[tuple[int, int]]:
        """Return (slot, underlying) of boxes with many residents that are nearly used up now; they retire."""
        candidates = self.stands & ~self.retiring & (by_box[:, : self.stands.shape[1]] >= many)
        if not candidates.any():
            return []
        columns = self._columns
        moved = np.abs(columns.spot / self.centre - 1.0) / self._width[:, None]
        lasted = (columns.priced_at_ns - self.began_ns) / np.maximum(self.ends_ns - self.began_ns, 1)
        found = np.argwhere(candidates & ((moved > _USED) | (lasted > _USED)))
        for slot, underlying in found:
            self.retiring[slot, underlying] = True
        return [(int(slot), int(underlying)) for slot, underlying in found]

    # -- building ------------------------------------------------------------------------------------------------

    def lasts(self, slot: int, variance: Float64Array) -> Float64Array:
        """Return for how many instants boxes are expected to hold, at variances of log-spot per instant."""
        square = np.full(variance.shape[0], self._width[slot] ** 2)
        lasts: Float64Array = np.divide(square, variance, out=np.full(variance.shape[0], np.inf), where=variance > 0.0)
        return lasts

    def build(self, slot: int, underlying: int) -> None:
        """Build a box about the market as it is; the bands of its instruments are lost until they are laid."""
        columns, width = self._columns, float(self._width[slot])
        spot = float(columns.spot[underlying])
        begin_ns = int(columns.priced_at_ns[underlying])
        self.stands[slot, underlying], self.retiring[slot, underlying] = True, False
        self.centre[slot, underlying] = spot
        self.began_ns[slot, underlying] = begin_ns
        self.ends_ns[slot, underlying] = begin_ns + min(_TIME_MIN_NS * 4 ** (slot // 2), _TIME_MAX_NS)
        self._spot[slot, :, underlying] = spot / (1.0 + width), spot * (1.0 + width)
        confidence, band = float(columns.confidence[underlying]), _band(_CONFIDENCE_BAND, width)
        self._confidence[slot, :, underlying] = max(confidence - band, 0.0), confidence + band
        self.lost[slot, self.members[underlying]] = True

    def build_asset(self, slot: int, asset: int, instant: Instant) -> None:
        """Build an asset's box about the market as it is."""
        ranges, width = self.ranges[slot], float(self._width[slot])
        vol, most = float(instant.realised_vol[asset]), float(instant.realised_vol.max(initial=0.0))
        calm = min(max(vol / most, _CALMEST), 1.0) if vol > 0.0 else 1.0
        price = float(instant.asset_price[asset])
        band = max(width * calm, _PRICE_BAND_MIN)
        numeraire = bool(self._columns.assets.numeraire[asset])
        ranges.price[:, asset] = (price, price) if numeraire else (price / (1.0 + band), price * (1.0 + band))
        haircut, band = float(instant.haircut[asset]), _band(_HAIRCUT_BAND, width)
        ranges.haircut[:, asset] = max(haircut - band, 0.0), min(haircut + band, 1.0)
        confidence, band = float(instant.asset_confidence[asset]), _band(_CONFIDENCE_BAND, width)
        ranges.asset_confidence[:, asset] = max(confidence - band, 0.0), confidence + band
        ranges.asset_known[asset] = True

    def lay_bands(self, slot: int, underlying: int, variance: float, vol_variance: Float64Array) -> Int64Array:
        """Lay the lost bands of a box's instruments about the market as it is; return which.

        ``variance`` is that of the log-spot an instant, ``vol_variance`` (K,) that of a log-vol when it is told anew.
        """
        of_underlying: Int64Array = self.members[underlying]
        members: Int64Array = of_underlying[self.lost[slot, of_underlying]]
        if members.shape[0] == 0:
            return members
        columns, ranges, width = self._columns, self.ranges[slot], float(self._width[slot])
        self.lost[slot, members] = False
        index = columns.index_price[members]
        of = np.where(columns.kind[members] == OPTION, columns.forward[members], columns.mark_price[members])
        has_ratio = (index > 0.0) & (of > 0.0)
        ratio = np.divide(of, index, out=np.ones(members.shape[0]), where=has_ratio)
        inverse = columns.inverse[members] != 0
        spot = columns.spot[underlying]
        tie = np.where(inverse & (spot > 0.0), columns.settlement_price[members] / max(spot, 1e-300), 1.0)
        lasts = min(width * width / (variance * _REFIT_INSTANTS), 1.0) if variance > 0.0 else 1.0
        told = vol_variance[members]
        # Of a vol that was never told anew, as much is expected as of the others.
        told = np.where(told > 0.0, told, max(vol_variance[self.members[underlying]].max(), _REFIT_VARIANCE))
        vol_band = np.maximum(_band(_VOL_BAND, width), _REFIT_DEVIATIONS * np.sqrt(told * lasts))
        for out, now, band in (
            (ranges.ratio, ratio, _band(_RATIO_BAND, width)),
            (ranges.vol, columns.implied_vol[members], vol_band),
            (ranges.tie, tie, np.where(inverse, _band(_TIE_BAND, width), 0.0)),
        ):
            out[LOW, members], out[HIGH, members] = now / (1.0 + band), now * (1.0 + band)
        rate, band = columns.rate[members], _band(_RATE_BAND, width)
        ranges.rate[LOW, members], ranges.rate[HIGH, members] = rate - band, rate + band
        # What expires before the box ends has a band until then.
        expiry_ns = columns.expiry_ns[members]
        now_ns = int(columns.priced_at_ns[underlying])
        until_ns = np.full(members.shape[0], self.ends_ns[slot, underlying])
        expires = expiry_ns != NEVER_EXPIRES
        until_ns[expires] = np.minimum(until_ns[expires], expiry_ns[expires] - 1)
        self._until_ns[slot, members] = until_ns
        ranges.time[LOW, members] = _years(expiry_ns, until_ns)
        ranges.time[HIGH, members] = _years(expiry_ns, now_ns)
        ranges.known[members] = (
            has_ratio
            & (columns.decidable[members] != 0)
            & (columns.settled[members] == 0)
            & (until_ns >= now_ns)
            & (columns.spot_state[underlying] == FRESH)
            & (spot > 0.0)
        )
        return members


def _band(of: tuple[float, float], width: float) -> float:
    in_widths, least = of
    return max(in_widths * width, least)


def _years(expiry_ns: Int64Array, now_ns: Int64Array | int) -> Float64Array:
    """Return years to expiry as the market counts them; 0 where there is none."""
    return np.where(expiry_ns == NEVER_EXPIRES, 0.0, np.maximum((expiry_ns - now_ns) / YEAR_NS, 0.0))


@njit(cache=True, error_model="numpy")
def _leave(
    moved: Int64Array,
    moved_underlyings: Int32Array,
    kind: Int8Array,
    inverse: Int8Array,
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
    settlement_price: Float64Array,
    known: BoolArray,
    stands: BoolArray,
    ends_ns: Int64Array,
    until_ns: Int64Array,
    spot_range: Float64Array,
    confidence_range: Float64Array,
    ratio_range: Float64Array,
    vol_range: Float64Array,
    rate_range: Float64Array,
    tie_range: Float64Array,
    boxes: BoolArray,
    instruments: BoolArray,
) -> None:
    """Mark the boxes, and in those that stand the instruments, that do not hold what they are priced from now."""
    for j in range(stands.shape[0]):
        for n in range(moved_underlyings.shape[0]):
            u = moved_underlyings[n]
            if stands[j, u]:
                boxes[j, u] = not (
                    spot_range[j, 0, u] <= spot[u] <= spot_range[j, 1, u]
                    and confidence_range[j, 0, u] <= confidence[u] <= confidence_range[j, 1, u]
                    and priced_at_ns[u] <= ends_ns[j, u]
                )
        for n in range(moved.shape[0]):
            i = moved[n]
            u = underlying[i]
            if not stands[j, u] or boxes[j, u] or not known[j, i]:
                continue
            is_option = kind[i] == OPTION
            ratio = (forward[i] if is_option else mark_price[i]) / index_price[i]
            inside = ratio_range[j, 0, i] <= ratio <= ratio_range[j, 1, i]
            inside &= settled[i] == 0 and priced_at_ns[u] <= until_ns[j, i]
            if is_option:
                inside &= vol_range[j, 0, i] <= implied_vol[i] <= vol_range[j, 1, i]
                inside &= rate_range[j, 0, i] <= rate[i] <= rate_range[j, 1, i]
            if inverse[i] != 0:
                inside &= tie_range[j, 0, i] <= settlement_price[i] / spot[u] <= tie_range[j, 1, i]
            instruments[j, i] |= not inside
