"""The market, judged plainly: what every instrument and asset is worth at one frame.

Nothing here is shared with the engine but the ledger's records and the parameter sets. Where the engine keeps columns
and marks what is dirty, this asks everything anew at every frame.

1. A feed has a price where a strict majority of its fresh sources lies within ``outlier_ratio`` of the median of all,
   at least ``sources_min`` of them, and the band is narrow enough. It keeps its last price for display without one.
2. An underlying is priced at the time of the last frame at which anything that it is priced from differed from the
   frame before, or which was a heartbeat. A perpetual's own mark needs no time and counts at once.
3. A forward is a ratio to the spot, fixed when both first stood; a smile is sticky in strike.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from math import erfc, exp, log, sqrt
from typing import Any, cast

from schemas.ledger import (
    AssetRecord,
    ForwardRecord,
    Frame,
    FrameKind,
    FundingRecord,
    GenesisRecord,
    InstrumentRecord,
    MarkRecord,
    ParametersRecord,
    PriceRecord,
    RateRecord,
    RulesRecord,
    SettlementRecord,
    SviRecord,
    VolPointsRecord,
)
from schemas.parameters import PARAMETER_SETS, CollateralParameters, OracleParameters, ParameterSet

YEAR_NS = 365.0 * 86_400.0 * 1e9
MINUTE_NS = 60_000_000_000
DAY_NS = 86_400_000_000_000
UNKNOWN, FRESH, STALE = "unknown", "fresh", "stale"


@dataclass(frozen=True)
class Instrument:
    """An instrument's exact numbers; ``lot`` is the quantity of one lot."""

    index: int
    kind: str
    underlying: str
    quote: str
    settlement_asset: int
    inverse: bool
    lot: Fraction
    strike: Fraction
    call: bool
    expiry_ns: int | None


@dataclass(frozen=True)
class Worth:
    """What the market says of one lot of an instrument: ``value`` in settlement assets, ``notional`` in numeraire."""

    known: bool
    value: float = 0.0
    notional: float = 0.0
    index: float = 0.0
    mark: float = 0.0
    forward: float = 0.0
    vol: float = 0.0
    rate: float = 0.0
    time: float = 0.0
    asset_price: float = 0.0


@dataclass(frozen=True)
class Payment:
    """Units of the settlement asset for each long lot."""

    instrument: int
    units: int
    closes: bool


@dataclass
class Feed:
    """The newest observation of each source, in order of first appearance, and the last usable price.

    ``confidence`` is half that price's band over it.
    """

    observations: dict[str, PriceRecord] = field(default_factory=dict)
    state: str = UNKNOWN
    price: float = 0.0
    confidence: float = 0.0


@dataclass
class Expiry:
    """The newest forward and smile of an expiry; ``told`` counts the records that were taken."""

    forward: ForwardRecord | None = None
    ratio: float | None = None
    smile: SviRecord | VolPointsRecord | None = None
    told: int = 0


@dataclass
class Market:
    """Everything that the ledger has said of the market so far."""

    numeraire: str = "USD"
    assets: list[AssetRecord] = field(default_factory=list)
    instruments: list[Instrument] = field(default_factory=list)
    worth: list[Worth] = field(default_factory=list)
    parameters: dict[str, ParameterSet] = field(
        default_factory=lambda: {name: kind() for name, kind in PARAMETER_SETS.items()}
    )
    parameters_told: int = 0
    feeds: dict[str, Feed] = field(default_factory=dict)
    expiries: dict[tuple[str, int], Expiry] = field(default_factory=dict)
    rates: dict[str, RateRecord] = field(default_factory=dict)
    marks: dict[int, dict[str, MarkRecord]] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    heard: set[str] = field(default_factory=set)
    samples: dict[int, tuple[int, float]] = field(default_factory=dict)
    variance_per_day: dict[int, float] = field(default_factory=dict)
    funding_owed: dict[int, Fraction] = field(default_factory=dict)
    rates_owed: dict[int, list[Fraction]] = field(default_factory=dict)
    put_aside: list[tuple[int, int]] = field(default_factory=list)
    priced_at_ns: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)

    @property
    def oracle(self) -> OracleParameters:
        """The oracle parameters in force."""
        return cast(OracleParameters, self.parameters["oracle"])

    def step(self, frame: Frame) -> list[Payment]:
        """Take a frame's market records; return what falls due in it."""
        now = frame.time_ns
        due: list[Payment | FundingRecord] = []
        self.heard.clear()
        for record in frame.market:
            self._take(record, now, due)
        for feed in self.feeds.values():
            self._aggregate(feed, now)
        for asset in range(len(self.assets)):
            self._sample(asset, now)
        for (underlying, _), expiry in self.expiries.items():
            spot = self.feed(underlying)
            if expiry.forward is not None and expiry.ratio is None and spot.state == FRESH:
                expiry.ratio = expiry.forward.forward / spot.price
        for underlying in dict.fromkeys(instrument.underlying for instrument in self.instruments):
            self._price(underlying, now, heartbeat=frame.kind is FrameKind.HEARTBEAT)
        return self._payments(due)

    # -- records -----------------------------------------------------------------------------------------------------

    def _take(self, record: Any, now: int, due: list[Payment | FundingRecord]) -> None:
        if isinstance(record, GenesisRecord):
            self.numeraire = record.genesis.numeraire
            self.parameters_told += 1
        elif isinstance(record, RulesRecord):
            self.parameters_told += 1
        elif isinstance(record, ParametersRecord):
            self.parameters[record.name] = PARAMETER_SETS[record.name].model_validate_json(record.parameters)
            self.parameters_told += 1
        elif isinstance(record, AssetRecord):
            self.assets.append(record)
        elif isinstance(record, InstrumentRecord):
            self.instruments.append(_instrument(record))
            self.worth.append(Worth(known=False))
        elif isinstance(record, PriceRecord):
            feed = self.feeds.setdefault(record.feed, Feed())
            before = feed.observations.get(record.source)
            in_order = before is None or record.publish_time_ns >= before.publish_time_ns
            if in_order and record.publish_time_ns <= now + MINUTE_NS:
                feed.observations[record.source] = record
                self.heard.add(record.feed)
        elif isinstance(record, ForwardRecord):
            expiry = self.expiries.setdefault((record.underlying, record.expiry_ns), Expiry())
            if expiry.forward is None or record.event_time_ns >= expiry.forward.event_time_ns:
                expiry.forward, expiry.ratio, expiry.told = record, None, expiry.told + 1
        elif isinstance(record, SviRecord | VolPointsRecord):
            expiry = self.expiries.setdefault((record.underlying, record.expiry_ns), Expiry())
            if expiry.smile is None or record.event_time_ns >= expiry.smile.event_time_ns:
                expiry.smile, expiry.told = record, expiry.told + 1
        elif isinstance(record, RateRecord):
            rate = self.rates.get(record.currency)
            if rate is None or record.event_time_ns >= rate.event_time_ns:
                self.rates[record.currency] = record
        elif isinstance(record, MarkRecord):
            marks = self.marks.setdefault(record.instrument, {})
            mark = marks.get(record.source)
            if mark is None or record.event_time_ns >= mark.event_time_ns:
                marks[record.source] = record
        elif isinstance(record, FundingRecord):
            if self.instruments[record.instrument].kind == "perpetual":
                due.append(record)
        elif isinstance(record, SettlementRecord):
            for instrument in self.instruments:
                named = (instrument.underlying, instrument.expiry_ns) == (record.underlying, record.expiry_ns)
                if named and instrument.index not in self.settled:
                    self.settled.add(instrument.index)
                    due.append(self._settlement(instrument, Fraction(record.price)))

    def _settlement(self, instrument: Instrument, price: Fraction) -> Payment:
        """Return the exact payoff of one lot, rounded half-even once."""
        if instrument.kind == "option":
            paid = max(price - instrument.strike if instrument.call else instrument.strike - price, Fraction(0))
            worth = instrument.lot * (paid / price if instrument.inverse else paid)
        else:
            worth = -instrument.lot / price if instrument.inverse else instrument.lot * price
        decimals = self.assets[instrument.settlement_asset].decimals
        return Payment(instrument.index, round(worth * 10**decimals), closes=True)

    def _payments(self, due: list[Payment | FundingRecord]) -> list[Payment]:
        """Return what is paid now; put aside the rates of perpetuals that have no price (``put_aside``: how many wait).

        What was put aside comes first, in order of instrument: one payment each, at the first frame with a price.
        """
        self.put_aside.clear()
        found = [self._funding(it, sum(self.rates_owed.pop(it)))
                 for it in sorted(self.rates_owed) if self.worth[it].known]  # fmt: skip
        for item in due:
            if isinstance(item, Payment):
                found.append(item)
            elif self.worth[item.instrument].known:
                found.append(self._funding(item.instrument, Fraction(item.rate)))
            else:
                waiting = self.rates_owed.setdefault(item.instrument, [])
                waiting.append(Fraction(item.rate))
                self.put_aside.append((item.instrument, len(waiting)))
        return found

    def _funding(self, instrument: int, rate: Fraction | int) -> Payment:
        """Return a funding payment: longs pay a positive rate of the mark value; what rounding owes is carried."""
        decimals = self.assets[self.instruments[instrument].settlement_asset].decimals
        value = abs(Fraction(self.worth[instrument].value))
        owed = self.funding_owed.get(instrument, Fraction(0)) - value * rate * 10**decimals
        units = round(owed)
        self.funding_owed[instrument] = owed - units
        return Payment(instrument, units, closes=False)

    # -- prices ------------------------------------------------------------------------------------------------------

    def feed(self, name: str) -> Feed:
        """Return the feed of an underlying or asset in the numeraire."""
        return self.feeds.setdefault(f"{name}/{self.numeraire}", Feed())

    def asset_price(self, asset: int) -> tuple[float, bool]:
        """Return the price of an asset and whether it is known now."""
        if self.assets[asset].asset == self.numeraire:
            return 1.0, True
        feed = self.feed(self.assets[asset].asset)
        return feed.price, feed.state == FRESH

    def _asset(self, asset: int) -> tuple[float, bool, float]:
        """Return the price of an asset, whether it is known now, and its confidence."""
        name = self.assets[asset].asset
        return *self.asset_price(asset), 0.0 if name == self.numeraire else self.feed(name).confidence

    def haircut(self, asset: int) -> float:
        """Return what is taken off an asset: its own haircut or what its vol asks for, and the oracle's doubt.

        The numeraire has none unless it is named.
        """
        rules = cast(CollateralParameters, self.parameters["collateral"])
        name = self.assets[asset].asset
        own = rules.haircuts.get(name, 0.0 if name == self.numeraire else rules.default_haircut)
        deviation = sqrt(self.variance_per_day.get(asset, 0.0) * rules.vol_horizon_ns / DAY_NS)
        asked = min(rules.vol_multiple * deviation, rules.vol_haircut_max)
        return min(max(own, asked) + rules.confidence_multiple * self._asset(asset)[2], 1.0)

    def _sample(self, asset: int, now: int) -> None:
        """Let a usable price of which something was heard in this frame tell how much the asset moves."""
        rules = cast(CollateralParameters, self.parameters["collateral"])
        name = self.assets[asset].asset
        feed = self.feed(name)
        if name == self.numeraire or f"{name}/{self.numeraire}" not in self.heard or feed.state != FRESH:
            return
        then, price = self.samples.setdefault(asset, (now, feed.price))
        if now - then < rules.vol_sample_ns:
            return
        before = self.variance_per_day.get(asset, 0.0)
        squared = log(feed.price / price) ** 2
        self.variance_per_day[asset] = (before * rules.vol_decay_ns + squared * DAY_NS) / (
            rules.vol_decay_ns + now - then
        )
        self.samples[asset] = (now, feed.price)

    def _aggregate(self, feed: Feed, now: int) -> None:
        oracle = self.oracle
        fresh = [it for it in feed.observations.values() if now - it.publish_time_ns <= oracle.price_age_ns_max]
        if oracle.aggregation == "single":
            first = next(iter(feed.observations.values()), None)
            kept = [first] if first is not None and first in fresh else []
        else:
            middle = median([it.price for it in fresh])
            kept = [it for it in fresh if len(fresh) == 1 or abs(it.price - middle) <= oracle.outlier_ratio * middle]
            if 2 * len(kept) <= len(fresh) or len(kept) < oracle.sources_min:
                kept = []
        price = median([it.price for it in kept])
        spread = max((it.price for it in kept), default=0.0) - min((it.price for it in kept), default=0.0)
        confidence = max(median([it.confidence for it in kept]), 0.5 * spread)
        if kept and confidence <= oracle.confidence_ratio_max * price:
            feed.state, feed.price, feed.confidence = FRESH, price, confidence / price
        elif feed.observations:
            feed.state = STALE

    def _venue_mark(self, instrument: int, now: int) -> float | None:
        marks = self.marks.get(instrument, {}).values()
        fresh = [mark.price for mark in marks if now - mark.event_time_ns <= self.oracle.mark_age_ns_max]
        return median(fresh) if fresh else None

    def _rate(self, quote: str) -> float:
        record = self.rates.get(quote) or self.rates.get(self.numeraire)
        return 0.0 if record is None else record.rate

    def _expiry_states(self, underlying: str, expiry_ns: int | None, now: int) -> tuple[str, str]:
        """Return how the forward and the smile of an expiry stand."""
        expiry = Expiry() if expiry_ns is None else self.expiries.get((underlying, expiry_ns), Expiry())
        return (
            _state(expiry.forward, now, self.oracle.forward_age_ns_max),
            _state(expiry.smile, now, self.oracle.vol_age_ns_max),
        )

    def _price(self, underlying: str, now: int, *, heartbeat: bool) -> None:
        """Price an underlying's instruments anew where anything that they are priced from is not what it was."""
        members = [instrument for instrument in self.instruments if instrument.underlying == underlying]
        spot = self.feed(underlying)
        inputs = (
            self.parameters_told,
            len(members),
            (spot.state, spot.price, spot.confidence),
            [(self._expiry_states(name, at, now), it.told, it.ratio)
             for (name, at), it in self.expiries.items() if name == underlying],
            [self._rate(quote) for quote in dict.fromkeys(it.quote for it in members)],
            [self._asset(asset) for asset in dict.fromkeys(it.settlement_asset for it in members)],
            [self._venue_mark(it.index, now) for it in members if it.index in self.marks and it.kind != "perpetual"],
            [it.index for it in members if it.index in self.settled],
        )  # fmt: skip
        if heartbeat or inputs != self.inputs.get(underlying):
            self.inputs[underlying] = inputs
            self.priced_at_ns[underlying] = now
        elif not any(it.index in self.marks and it.kind == "perpetual" for it in members):
            return
        else:
            members = [it for it in members if it.index in self.marks and it.kind == "perpetual"]
        for instrument in members:
            self.worth[instrument.index] = self._worth(instrument, spot, now, self.priced_at_ns[underlying])

    def _worth(self, it: Instrument, spot: Feed, now: int, priced_at_ns: int) -> Worth:
        """Return what one lot is worth."""
        if it.index in self.settled:
            return Worth(known=True)
        index, lot, rate = spot.price, float(it.lot), self._rate(it.quote)
        asset_price, asset_known = self.asset_price(it.settlement_asset)
        forward_state, smile_state = self._expiry_states(it.underlying, it.expiry_ns, now)
        time = 0.0 if it.expiry_ns is None else max((it.expiry_ns - priced_at_ns) / YEAR_NS, 0.0)
        expiry = Expiry() if it.expiry_ns is None else self.expiries.get((it.underlying, it.expiry_ns), Expiry())
        forward = index
        if time > 0.0:
            forward = index * ((expiry.ratio or 1.0) if expiry.forward is not None else exp(rate * time))
        known = spot.state == FRESH
        value, mark, vol, notional = 0.0, index, 0.0, lot * index

        if it.kind == "option":
            vol = 0.0 if expiry.smile is None else implied_vol(expiry.smile, float(it.strike))
            mark = 0.0
            if index > 0.0:
                price = black76(forward, float(it.strike), vol * sqrt(time), call=it.call)
                mark = price / forward if it.inverse else exp(-rate * time) * price
            value = lot * mark
            known = known and (time == 0.0 or (smile_state == FRESH and forward_state != STALE))
        elif it.kind != "spot":
            dated = it.kind == "future"
            venue_mark = self._venue_mark(it.index, now)
            mark = forward if dated else index
            if venue_mark is not None and (time > 0.0 or not dated):
                mark, known = venue_mark, spot.state != STALE
                if not dated and index > 0.0:
                    band = self.oracle.mark_band_ratio
                    mark = min(max(mark, index * (1.0 - band)), index * (1.0 + band))
            elif dated and time > 0.0:
                known = known and forward_state != STALE
            if mark > 0.0:
                value = lot_value(lot, mark, inverse=it.inverse)
            notional = lot if it.inverse else lot * (index if index > 0.0 else mark)
        return Worth(
            known=known and asset_known, value=value, notional=notional, index=index, mark=mark, forward=forward,
            vol=vol, rate=rate, time=time, asset_price=asset_price,
        )  # fmt: skip


def median(values: list[float]) -> float:
    """Return the median, 0 of nothing."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if not ordered:
        return 0.0
    return ordered[half] if len(ordered) % 2 else 0.5 * (ordered[half - 1] + ordered[half])


def lot_value(lot: float, price: float, *, inverse: bool) -> float:
    """Return what a lot of a future or perpetual is worth in its settlement asset."""
    return -lot / price if inverse else lot * price


def black76(forward: float, strike: float, total_vol: float, *, call: bool) -> float:
    """Return the undiscounted price of a European option (Black, 1976): the side out of the money, and parity."""
    intrinsic = max(forward - strike if call else strike - forward, 0.0)
    if total_vol <= 0.0:
        return intrinsic
    d1 = log(forward / strike) / total_vol + 0.5 * total_vol
    d2 = d1 - total_vol
    if forward <= strike:
        return intrinsic + forward * normal(d1) - strike * normal(d2)
    return intrinsic + strike * normal(-d2) - forward * normal(-d1)


def normal(x: float) -> float:
    """Return the standard normal distribution function."""
    return 0.5 * erfc(-x / sqrt(2.0))


def implied_vol(smile: SviRecord | VolPointsRecord, strike: float) -> float:
    """Return the vol of a strike: raw SVI with flat wings, or a monotone curve through the quoted points."""
    if isinstance(smile, SviRecord):
        wing = 4.0 * sqrt(max(smile.a + smile.b * smile.sigma, 0.0))
        k = min(max(log(strike / smile.forward), -wing), wing) - smile.m
        variance = smile.a + smile.b * (smile.rho * k + sqrt(k * k + smile.sigma * smile.sigma))
        return min(sqrt(max(variance, 0.0) / smile.time_to_expiry), 10.0)
    strikes, vols = smile.strikes, smile.implied_vols
    if strike <= strikes[0]:
        return vols[0]
    if strike >= strikes[-1]:
        return vols[-1]
    slopes = curve_slopes(strikes, vols)
    j = next(place for place, right in enumerate(strikes[1:]) if strike < right)
    # Hermite's four cubics: a value and a slope at either end.
    width = strikes[j + 1] - strikes[j]
    t = (strike - strikes[j]) / width
    return (
        (1.0 + 2.0 * t) * (1.0 - t) ** 2 * vols[j]
        + t * t * (3.0 - 2.0 * t) * vols[j + 1]
        + width * t * (1.0 - t) ** 2 * slopes[j]
        - width * t * t * (1.0 - t) * slopes[j + 1]
    )


def curve_slopes(x: list[float], y: list[float]) -> list[float]:
    """Return the slopes of Fritsch and Butland's monotone curve through points, with three-point ends."""
    steps = [right - left for left, right in pairwise(x)]
    chords = [(right - left) / step for (left, right), step in zip(pairwise(y), steps, strict=True)]
    if len(chords) == 1:
        return [chords[0]] * 2

    def inner(j: int) -> float:
        (h0, h1), (m0, m1) = steps[j - 1 : j + 1], chords[j - 1 : j + 1]
        if m0 * m1 <= 0.0:
            return 0.0
        return 3.0 * (h0 + h1) / ((2.0 * h1 + h0) / m0 + (h1 + 2.0 * h0) / m1)

    def end(h0: float, h1: float, m0: float, m1: float) -> float:
        slope = ((2.0 * h0 + h1) * m0 - h0 * m1) / (h0 + h1)
        if slope * m0 <= 0.0:
            return 0.0
        return 3.0 * m0 if m0 * m1 <= 0.0 and abs(slope) > 3.0 * abs(m0) else slope

    first = end(steps[0], steps[1], chords[0], chords[1])
    last = end(steps[-1], steps[-2], chords[-1], chords[-2])
    return [first, *(inner(j) for j in range(1, len(chords))), last]


def _state(record: ForwardRecord | SviRecord | VolPointsRecord | None, now: int, age_ns_max: int) -> str:
    if record is None:
        return UNKNOWN
    return FRESH if now - record.event_time_ns <= age_ns_max else STALE


def _instrument(record: InstrumentRecord) -> Instrument:
    return Instrument(
        index=record.index,
        kind=record.kind,
        underlying=record.underlying,
        quote=record.quote,
        settlement_asset=record.settlement_asset,
        inverse=record.payoff == "inverse",
        lot=Fraction(record.lot_size) * Fraction(record.multiplier),
        strike=Fraction(record.strike or "0"),
        call=record.option_type == "call",
        expiry_ns=record.expiry_ns,
    )
