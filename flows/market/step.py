"""The market: what every feed, surface and parameter says, and the instant that each frame sees.

1. An instant is a function of the ledger alone: of the records up to its frame and of the frames' times. A market
   that was checkpointed and restored gives the same instants, byte for byte, but for ``everything_moved``.
2. A frame's records apply together: the order of two observations of different things does not matter.
3. An underlying is priced anew, as a whole, when anything that it is priced from changed in the frame (records, ages
   that ran out, parameters, listings) or the frame is a heartbeat; else its columns stay as of its last pricing.
   A perpetual whose venue mark alone changed is priced alone: no time enters its price.
4. What an instant holds never changes afterwards; later instants share what did not move.
5. What has grown too old is seen at the first frame after its age ran out, whatever that frame holds.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec
import numpy as np
import numpy.typing as npt

from flows.margin.model import IncrementalMarginModel, MarginModel
from flows.margin.registry import margin_models, parameter_sets
from flows.market.checkpoint import (
    ExactRatio,
    ExpiryState,
    FeedState,
    MarketState,
    packed_accounts,
    seal,
    unpacked_accounts,
    unseal,
)
from flows.market.columns import (
    DECIDABLE,
    FORWARD,
    FRESH,
    IMPLIED_VOL,
    INDEX_PRICE,
    MARK_PRICE,
    NOTIONAL,
    OUTPUT_ROWS,
    VALUE,
    InstrumentColumns,
)
from flows.market.funding import Funding
from flows.market.haircuts import Haircuts
from flows.market.instant import CashPerLot, Instant
from flows.market.listings import Listings
from flows.market.marks import Marks
from flows.market.oracle import NEVER, Feed, FeedStatus
from flows.market.payments import settlement_units
from flows.market.surface import Expiry, implied_vols
from flows.market.valuation import price
from flows.pricing.kinds import OPTION, PERPETUAL
from schemas.ledger import (
    RULES_VERSION,
    AccountRecord,
    AssetRecord,
    ForwardRecord,
    Frame,
    FrameKind,
    FundingRecord,
    GenesisRecord,
    HaltRecord,
    InstrumentRecord,
    LedgerError,
    MarketRecord,
    MarkRecord,
    ParametersRecord,
    PriceRecord,
    RateRecord,
    RulesRecord,
    SettlementRecord,
    SviRecord,
    VolPointsRecord,
)
from schemas.money import fraction
from schemas.parameters import (
    CollateralParameters,
    LadderParameters,
    LiquidationParameters,
    OracleParameters,
    ParameterSet,
)

Int64Array = npt.NDArray[np.int64]

_NUMERAIRE: Final = "USD"
_encoder = msgspec.msgpack.Encoder()


class Market:
    """The market stage of one process.

    Parameters
    ----------
    models : margin models by name; those that accounts were opened with get tables. Default: all installed.
    """

    def __init__(self, models: Mapping[str, MarginModel] | None = None) -> None:
        self.listings = Listings()
        self.columns = InstrumentColumns()
        self.halted: set[int] = set()
        self._models = margin_models() if models is None else models
        self._updates = {
            name: model.update for name, model in self._models.items() if isinstance(model, IncrementalMarginModel)
        }
        self._parameter_sets = parameter_sets(self._models)
        self._parameters: dict[str, ParameterSet] = {name: kind() for name, kind in self._parameter_sets.items()}
        self._oracle = cast(OracleParameters, self._parameters["oracle"])
        self._collateral = cast(CollateralParameters, self._parameters["collateral"])
        self._numeraire = _NUMERAIRE
        self._feeds: dict[str, Feed] = {}
        self._expiries: dict[tuple[str, int], Expiry] = {}
        self._rates: dict[str, RateRecord] = {}
        self._marks = Marks()
        self._funding = Funding()
        self._decimals: list[int] = []  # by instrument, of its settlement asset
        self._instrument_records: list[InstrumentRecord] = []
        # Encoded as they come: a checkpoint must not build a hundred thousand objects.
        self._account_records = bytearray()
        self._members: list[list[int]] = []
        self._member_arrays: list[Int64Array | None] = []
        self._all_members = np.zeros(0, np.int64)
        self._settled_in: list[list[int]] = []  # by asset: the underlyings with an instrument settled in it
        self._awaiting_spot: dict[str, list[Expiry]] = {}
        self._number = -1
        self._time_ns = 0
        self._deadline_ns = NEVER
        self._instant: Instant | None = None
        self._tables: dict[str, Any] = {}
        # Columns that instants share are replaced, never written, once an instant has them.
        self._haircuts = Haircuts()
        self._settlement_asset = np.zeros(0, np.uint16)
        self._decidable = np.zeros(0, np.bool_)
        self._nothing_moved = np.zeros(0, np.bool_)
        self._no_asset_moved = np.zeros(0, np.bool_)
        self._handlers: dict[type, Callable[[Any], None]] = {
            GenesisRecord: self._apply_genesis,
            AssetRecord: self._apply_asset,
            InstrumentRecord: self._apply_instrument,
            AccountRecord: self._apply_account,
            HaltRecord: self._apply_halt,
            ParametersRecord: self._apply_parameters,
            RulesRecord: self._apply_rules,
            PriceRecord: self._apply_price,
            ForwardRecord: self._apply_forward,
            SviRecord: self._apply_smile,
            VolPointsRecord: self._apply_smile,
            RateRecord: self._apply_rate,
            MarkRecord: self._marks.observe,
            FundingRecord: self._apply_funding,
            SettlementRecord: self._apply_settlement,
        }
        self._forget_changes()
        self._everything = True

    def _forget_changes(self) -> None:
        self._everything = False
        self._listed = False
        self._dirty_feeds: list[Feed] = []
        self._dirty_expiries: list[Expiry] = []
        self._dirty_underlyings: dict[int, None] = {}
        self._dirty_alone: list[int] = []
        self._dirty_assets: list[int] = []
        self._stale_tables: list[str] = []
        self._due: list[CashPerLot | FundingRecord] = []

    # -- a frame ---------------------------------------------------------------------------------------------------

    def step(self, frame: Frame) -> Instant:
        """Apply the frame's market records, in order, and return the market as the frame sees it.

        Raises
        ------
        LedgerError : a record does not continue the listings, or needs rules or a margin model that are not here.
        """
        now = frame.time_ns
        self._number, self._time_ns = frame.number, now
        heartbeat = frame.kind is FrameKind.HEARTBEAT
        before = self._instant
        if before is not None and not frame.market and not heartbeat and now < self._deadline_ns:
            return self._unmoved(frame, before)
        handlers = self._handlers
        for record in frame.market:
            handlers[type(record)](record)
        scanned = now >= self._deadline_ns
        if scanned:
            self._find_aged(now)
        if self._dirty_feeds:
            self._refresh_feeds(now)
        if self._dirty_expiries:
            self._refresh_expiries(now)
        if self._marks.dirty:
            self._refresh_marks(now)
        if scanned:
            self._deadline_ns = self._next_deadline()
        members = self._members_to_price(heartbeat=heartbeat)
        if (
            before is not None
            and members.shape[0] == 0
            and not (self._everything or self._listed or self._dirty_assets or self._stale_tables or self._due)
        ):
            self._forget_changes()
            return self._unmoved(frame, before)
        if members.shape[0]:
            self._price(members, now)
        instant = self._new_instant(frame, members)
        self._instant = instant
        self._forget_changes()
        return instant

    def _unmoved(self, frame: Frame, before: Instant) -> Instant:
        """Return the instant before at this frame: nothing that a decision reads differs."""
        instant = Instant(
            frame.number, frame.time_ns, before.value, before.value_decidable, before.settlement_asset,
            before.notional, before.asset_price, before.asset_decidable, before.asset_unit, before.haircut,
            before.asset_confidence, before.realised_vol, before.greeks, before.index_price, before.mark_price,
            before.implied_vol, before.forward, self._nothing_moved, self._no_asset_moved, everything_moved=False,
            ladder=before.ladder, liquidation=before.liquidation, margin_tables=before.margin_tables,
        )  # fmt: skip
        self._instant = instant
        return instant

    def _members_to_price(self, *, heartbeat: bool) -> Int64Array:
        dirty = self._dirty_underlyings
        alone = self._dirty_alone
        if heartbeat or self._everything:
            for underlying in range(len(self._members)):
                self.columns.priced_at_ns[underlying] = self._time_ns
            return self._all_members
        if not dirty:
            return np.array(sorted(set(alone)), np.int64) if alone else self._all_members[:0]
        for underlying in dirty:
            self.columns.priced_at_ns[underlying] = self._time_ns
        if len(dirty) == len(self._members):
            return self._all_members
        if len(dirty) == 1 and not alone:
            return self._members_of(next(iter(dirty)))
        parts = [self._members_of(underlying) for underlying in dirty]
        if alone:
            parts.append(np.array(alone, np.int64))
        return np.unique(np.concatenate(parts))

    def _members_of(self, underlying: int) -> Int64Array:
        members = self._member_arrays[underlying]
        if members is None:
            members = np.array(self._members[underlying], np.int64)
            self._member_arrays[underlying] = members
        return members

    def _price(self, members: Int64Array, now_ns: int) -> None:
        columns = self.columns
        price(
            members, now_ns, self._oracle.mark_band_ratio, columns.reals, columns.codes, columns.greeks,
            columns.expiry_ns, columns.underlying, columns.settlement_asset, columns.spot, columns.spot_state,
            columns.assets.price, columns.assets.decidable,
        )  # fmt: skip

    def _new_instant(self, frame: Frame, members: Int64Array) -> Instant:
        columns = self.columns
        count = columns.count
        parameters = self._parameters
        if self._listed or self._everything:
            self._settlement_asset = columns.settlement_asset.copy()
            self._nothing_moved = np.zeros(count, np.bool_)
            self._no_asset_moved = np.zeros(len(self.listings.assets), np.bool_)
        moved = self._nothing_moved
        if members.shape[0]:
            moved = np.zeros(count, np.bool_)
            moved[members] = True
        asset_moved = self._no_asset_moved
        if self._dirty_assets:
            asset_moved = np.zeros(len(self.listings.assets), np.bool_)
            asset_moved[self._dirty_assets] = True
        decidable = columns.codes[DECIDABLE, :count].astype(np.bool_)
        if not np.array_equal(decidable, self._decidable):
            self._decidable = decidable
        block = columns.reals[:OUTPUT_ROWS, :count].copy()
        self._refresh_tables(members)
        payments, owed = self._funding.fall_due(
            self._due, value=block[VALUE], decidable=self._decidable, decimals=self._decimals
        )
        return Instant(
            frame=frame.number,
            time_ns=frame.time_ns,
            value=block[VALUE],
            value_decidable=self._decidable,
            settlement_asset=self._settlement_asset,
            notional=block[NOTIONAL],
            asset_price=columns.assets.price,
            asset_decidable=columns.assets.decidable,
            asset_unit=columns.assets.unit,
            haircut=self._haircuts.haircut,
            asset_confidence=columns.assets.confidence,
            realised_vol=self._haircuts.realised_vol,
            greeks=columns.greeks.copy(),
            index_price=block[INDEX_PRICE],
            mark_price=block[MARK_PRICE],
            implied_vol=block[IMPLIED_VOL],
            forward=block[FORWARD],
            moved=moved,
            asset_moved=asset_moved,
            everything_moved=self._everything or self._instant is None,
            ladder=cast(LadderParameters, parameters["ladder"]),
            liquidation=cast(LiquidationParameters, parameters["liquidation"]),
            margin_tables=self._tables,
            payments=payments,
            funding_owed=owed,
        )

    def _refresh_tables(self, members: Int64Array) -> None:
        """Bring every used model's tables to this instant, in a new mapping: the instant before keeps its own."""
        whole = self._everything or self._listed
        if not (whole or members.shape[0] or self._dirty_assets or self._stale_tables):
            return
        tables: dict[str, Any] = {}
        for name, previous in self._tables.items():
            parameters = self._parameters.get(name)
            update = None if whole or previous is None else self._updates.get(name)
            if update is None:
                tables[name] = self._models[name].tables(self.columns, parameters)
            else:
                tables[name] = update(previous, self.columns, parameters, members)
        self._tables = tables

    # -- records ---------------------------------------------------------------------------------------------------

    def _apply_genesis(self, record: GenesisRecord) -> None:
        self.listings.apply(record)
        self._numeraire = record.genesis.numeraire
        self._check_rules(record.genesis.rules)
        self._everything = True

    def _apply_rules(self, record: RulesRecord) -> None:
        self._check_rules(record.rules)
        self._everything = True

    @staticmethod
    def _check_rules(rules: int) -> None:
        if rules != RULES_VERSION:
            raise LedgerError(f"this stretch of the ledger needs rules {rules}; this release has {RULES_VERSION}")

    def _apply_asset(self, record: AssetRecord) -> None:
        self.listings.apply(record)
        self._settled_in.append([])
        columns = self.columns
        numeraire = record.asset == self._numeraire
        columns.assets = columns.assets.listed(
            name=record.asset,
            decimals=record.decimals,
            underlying=columns.underlying_index(record.asset),
            numeraire=numeraire,
        )
        self._haircuts.append(self._own_haircut(record.asset))
        if not numeraire:
            feed = self._feed(f"{record.asset}/{self._numeraire}")
            feed.asset = record.index
            self._publish_asset(feed)
            self._haircuts.renew(record.index, feed.last_confidence, self._collateral)
        self._dirty_assets.append(record.index)
        self._listed = True

    def _own_haircut(self, asset: str) -> float:
        unnamed = 0.0 if asset == self._numeraire else self._collateral.default_haircut
        return self._collateral.haircuts.get(asset, unnamed)

    def _reset_haircuts(self) -> None:
        own = [self._own_haircut(asset.asset) for asset in self.listings.assets]
        self._haircuts.reset(own, self.columns.assets.confidence, self._collateral)

    def _apply_instrument(self, record: InstrumentRecord) -> None:
        self.listings.apply(record)
        self._instrument_records.append(record)
        self._decimals.append(self.listings.assets[record.settlement_asset].decimals)
        instrument = self.listings.instruments[record.index]
        i = record.index
        columns = self.columns
        underlying = columns.append(instrument)
        if underlying == len(self._members):
            self._members.append([])
            self._member_arrays.append(None)
            feed = self._feed(f"{record.underlying}/{self._numeraire}")
            feed.underlying = underlying
            self._publish_spot(feed)
            for asset in self.listings.assets:
                if asset.asset == record.underlying:
                    columns.assets = columns.assets.spot_of(asset.index, underlying)
        self._members[underlying].append(i)
        self._member_arrays[underlying] = None
        self._all_members = np.arange(columns.count)
        columns.rate[i] = self._rate_of(record.quote)
        if underlying not in self._settled_in[record.settlement_asset]:
            self._settled_in[record.settlement_asset].append(underlying)
        if record.expiry_ns is not None:
            expiry = self._expiry(record.underlying, record.expiry_ns)
            expiry.members.append(i)
            expiry.smile_changed = expiry.smile is not None
            self._mark_expiry(expiry)
        self._mark_underlying(underlying)
        self._listed = True

    def _apply_account(self, record: AccountRecord) -> None:
        self.listings.apply(record)
        self._account_records += _encoder.encode(record)
        name = record.margin_model
        if name not in self._tables:
            if name not in self._models:
                raise LedgerError(f"account {record.account} needs margin model {name!r}, which is not installed")
            self._tables = {**self._tables, name: None}
            self._stale_tables.append(name)

    def _apply_halt(self, record: HaltRecord) -> None:
        if record.halted:
            self.halted.add(record.instrument)
        else:
            self.halted.discard(record.instrument)

    def _apply_parameters(self, record: ParametersRecord) -> None:
        kind = self._parameter_sets.get(record.name)
        if kind is None:
            raise LedgerError(f"parameter set {record.name!r} is not of this release nor of an installed margin model")
        parameters = kind.model_validate_json(record.parameters)
        self._parameters[record.name] = parameters
        self._everything = True
        if isinstance(parameters, OracleParameters):
            self._oracle = parameters
            for feed in self._feeds.values():
                self._mark_feed(feed)
            for expiry in self._expiries.values():
                self._mark_expiry(expiry)
            self._marks.mark_all()
        elif isinstance(parameters, CollateralParameters):
            self._collateral = parameters
            self._reset_haircuts()

    def _apply_price(self, record: PriceRecord) -> None:
        feed = self._feeds.get(record.feed) or self._feed(record.feed)
        if feed.observe(record, self._time_ns):
            self._mark_feed(feed)

    def _apply_forward(self, record: ForwardRecord) -> None:
        expiry = self._expiry(record.underlying, record.expiry_ns)
        if expiry.observe_forward(record):
            self._mark_expiry(expiry)

    def _apply_smile(self, record: SviRecord | VolPointsRecord) -> None:
        expiry = self._expiry(record.underlying, record.expiry_ns)
        if expiry.observe_smile(record):
            self._mark_expiry(expiry)

    def _apply_rate(self, record: RateRecord) -> None:
        before = self._rates.get(record.currency)
        if before is not None and record.event_time_ns < before.event_time_ns:
            return
        self._rates[record.currency] = record
        for instrument in self.listings.instruments:
            rate = self._rate_of(instrument.quote)
            if self.columns.rate[instrument.index] != rate:
                self.columns.rate[instrument.index] = rate
                self._mark_underlying(int(self.columns.underlying[instrument.index]))

    def _rate_of(self, quote: str) -> float:
        """Return the rate of a quote currency, else the numeraire's, else 0."""
        record = self._rates.get(quote) or self._rates.get(self._numeraire)
        return 0.0 if record is None else record.rate

    def _apply_funding(self, record: FundingRecord) -> None:
        if self.columns.kind[record.instrument] == PERPETUAL:
            self._due.append(record)

    def _apply_settlement(self, record: SettlementRecord) -> None:
        expiry = self._expiry(record.underlying, record.expiry_ns)
        settlement_price = fraction(record.price)
        for i in expiry.members:
            if self.columns.settled[i]:
                continue
            instrument = self.listings.instruments[i]
            units = settlement_units(instrument, settlement_price, self._decimals[i])
            self._due.append(CashPerLot(i, units, closes=True))
            self.columns.settled[i] = 1
            self._mark_underlying(int(self.columns.underlying[i]))

    # -- what changed ------------------------------------------------------------------------------------------------

    def _feed(self, name: str) -> Feed:
        feed = self._feeds.get(name)
        if feed is None:
            feed = self._feeds[name] = Feed(name)
        return feed

    def _expiry(self, underlying: str, expiry_ns: int) -> Expiry:
        key = (underlying, expiry_ns)
        expiry = self._expiries.get(key)
        if expiry is None:
            expiry = self._expiries[key] = Expiry(underlying, expiry_ns)
        return expiry

    def _mark_feed(self, feed: Feed) -> None:
        if not feed.dirty:
            feed.dirty = True
            self._dirty_feeds.append(feed)

    def _mark_expiry(self, expiry: Expiry) -> None:
        if not expiry.dirty:
            expiry.dirty = True
            self._dirty_expiries.append(expiry)

    def _mark_underlying(self, underlying: int) -> None:
        self._dirty_underlyings[underlying] = None

    def _find_aged(self, now_ns: int) -> None:
        """Mark whatever has an age that ran out by now."""
        for feed in self._feeds.values():
            if feed.deadline_ns <= now_ns:
                self._mark_feed(feed)
        for expiry in self._expiries.values():
            if self._expiry_deadline(expiry) <= now_ns:
                self._mark_expiry(expiry)
        self._marks.mark_aged(now_ns)

    def _next_deadline(self) -> int:
        return min(
            min((feed.deadline_ns for feed in self._feeds.values()), default=NEVER),
            min((self._expiry_deadline(expiry) for expiry in self._expiries.values()), default=NEVER),
            self._marks.deadline_ns,
        )

    def _expiry_deadline(self, expiry: Expiry) -> int:
        return expiry.deadline_ns(
            forward_age_ns_max=self._oracle.forward_age_ns_max, vol_age_ns_max=self._oracle.vol_age_ns_max
        )

    def _refresh_feeds(self, now_ns: int) -> None:
        for feed in self._dirty_feeds:
            feed.dirty = False
            heard = feed.heard
            changed = feed.refresh(now_ns, self._oracle)
            self._deadline_ns = min(self._deadline_ns, feed.deadline_ns)
            if feed.asset >= 0 and feed.state == FRESH:
                if heard:
                    self._haircuts.sample(feed.asset, feed.last_price, now_ns, self._collateral)
                if self._haircuts.renew(feed.asset, feed.last_confidence, self._collateral):
                    self._dirty_assets.append(feed.asset)
            if not changed:
                continue
            if feed.underlying >= 0:
                self._publish_spot(feed)
                self._mark_underlying(feed.underlying)
            if self._awaiting_spot and feed.state == FRESH:
                for expiry in self._awaiting_spot.pop(feed.name, ()):
                    self._mark_expiry(expiry)
            if feed.asset >= 0:
                self._publish_asset(feed)
                self._dirty_assets.append(feed.asset)
                for settled_in_it in self._settled_in[feed.asset]:
                    self._mark_underlying(settled_in_it)

    def _publish_spot(self, feed: Feed) -> None:
        self.columns.spot[feed.underlying] = feed.last_price
        self.columns.spot_state[feed.underlying] = feed.state
        self.columns.confidence[feed.underlying] = feed.last_confidence

    def _publish_asset(self, feed: Feed) -> None:
        self.columns.assets = self.columns.assets.priced(
            feed.asset, price=feed.last_price, confidence=feed.last_confidence, decidable=feed.state == FRESH
        )

    def _refresh_expiries(self, now_ns: int) -> None:
        columns = self.columns
        oracle = self._oracle
        for expiry in self._dirty_expiries:
            expiry.dirty = False
            expiry.refresh_states(
                now_ns, forward_age_ns_max=oracle.forward_age_ns_max, vol_age_ns_max=oracle.vol_age_ns_max
            )
            self._deadline_ns = min(self._deadline_ns, self._expiry_deadline(expiry))
            if expiry.forward is not None and expiry.ratio == 0.0:
                # The feed, not the columns: a forward may be told before anything of its underlying is listed.
                spot = self._feed(f"{expiry.underlying}/{self._numeraire}")
                if spot.state == FRESH:
                    expiry.ratio = expiry.forward.forward / spot.last_price
                else:
                    waiting = self._awaiting_spot.setdefault(spot.name, [])
                    if expiry not in waiting:
                        waiting.append(expiry)
            underlying = columns.underlying_index(expiry.underlying)
            if underlying < 0:
                continue
            self._publish_expiry(expiry)
            self._mark_underlying(underlying)

    def _publish_expiry(self, expiry: Expiry) -> None:
        columns = self.columns
        members = np.array(expiry.members, np.int64)
        columns.forward_ratio[members] = expiry.ratio or 1.0
        columns.forward_state[members] = expiry.forward_state
        columns.vol_state[members] = expiry.vol_state
        if expiry.smile_changed and expiry.smile is not None and members.shape[0]:
            expiry.smile_changed = False
            options = members[columns.kind[members] == OPTION]
            columns.implied_vol[options] = implied_vols(expiry.smile, columns.strike[options])

    def _refresh_marks(self, now_ns: int) -> None:
        columns = self.columns
        for instrument, mark in self._marks.refreshed(now_ns, self._oracle.mark_age_ns_max):
            before = columns.venue_mark[instrument]
            if mark == before or (np.isnan(mark) and np.isnan(before)):
                continue
            columns.venue_mark[instrument] = mark
            if columns.kind[instrument] == PERPETUAL:
                self._dirty_alone.append(instrument)
            else:
                self._mark_underlying(int(columns.underlying[instrument]))
        self._deadline_ns = min(self._deadline_ns, self._marks.deadline_ns)

    # -- reports -----------------------------------------------------------------------------------------------------

    def feed_status(self) -> list[FeedStatus]:
        """Return how every feed stands at the last frame, in order of name."""
        return [feed.status(self._time_ns) for _, feed in sorted(self._feeds.items())]

    def parameters(self, name: str) -> ParameterSet:
        """Return the parameter set in force; KeyError where the name is not one."""
        return self._parameters[name]

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def checkpoint(self) -> bytes:
        """Return everything from which ``restore`` continues, sealed."""
        state = MarketState(
            number=self._number,
            time_ns=self._time_ns,
            genesis=self.listings.genesis,
            assets=[AssetRecord(it.index, it.asset, it.decimals) for it in self.listings.assets],
            instruments=self._instrument_records,
            accounts=packed_accounts(len(self.listings.accounts), self._account_records),
            halted=sorted(self.halted),
            parameters={name: it.model_dump_json() for name, it in self._parameters.items()},
            feeds=[
                FeedState(it.name, it.last_price, it.last_confidence, it.refused, list(it.observations.values()))
                for it in self._feeds.values()
            ],
            expiries=[
                ExpiryState(it.underlying, it.expiry_ns, it.forward, it.ratio, it.smile)
                for it in self._expiries.values()
            ],
            rates=list(self._rates.values()),
            marks=list(self._marks.records()),
            settled=np.flatnonzero(self.columns.settled).tolist(),
            funding_owed={i: (ExactRatio.of(rate), rates) for i, (rate, rates) in self._funding.owed.items()},
            funding_residual={i: ExactRatio.of(units) for i, units in self._funding.residual.items()},
            volatility=self._haircuts.volatility,
            priced_at_ns=self.columns.priced_at_ns.tolist(),
        )
        return seal(state)

    @classmethod
    def restore(cls, data: bytes, models: Mapping[str, MarginModel] | None = None) -> "Market":
        """Return the market as it was at the checkpoint; its next instant has ``everything_moved``.

        Raises
        ------
        CheckpointError : damaged, truncated, or of another version.
        """
        state = unseal(data)
        market = cls(models)
        market._number, market._time_ns = state.number, state.time_ns
        listed: list[MarketRecord] = [*state.assets, *state.instruments, *unpacked_accounts(state.accounts)]
        if state.genesis is not None:
            listed.insert(0, GenesisRecord(state.genesis))
        for name, parameters in state.parameters.items():
            market._apply_parameters(ParametersRecord(name, parameters))
        for feed_state in state.feeds:
            feed = market._feed(feed_state.name)
            feed.last_price, feed.last_confidence = feed_state.last_price, feed_state.last_confidence
            feed.refused = feed_state.refused
            feed.observations = {it.source: it for it in feed_state.observations}
        for expiry_state in state.expiries:
            expiry = market._expiry(expiry_state.underlying, expiry_state.expiry_ns)
            expiry.forward, expiry.ratio, expiry.smile = expiry_state.forward, expiry_state.ratio, expiry_state.smile
            expiry.smile_changed = expiry.smile is not None
        for rate in state.rates:
            market._rates[rate.currency] = rate
        for record in listed:
            market._handlers[type(record)](record)
        for mark in state.marks:
            market._marks.observe(mark)
        market.halted = set(state.halted)
        market.columns.settled[state.settled] = 1
        market._haircuts.volatility = state.volatility
        market._reset_haircuts()
        market._funding = Funding(
            {i: (rate.fraction(), rates) for i, (rate, rates) in state.funding_owed.items()},
            {i: units.fraction() for i, units in state.funding_residual.items()},
        )
        market._resume(np.array(state.priced_at_ns, np.int64))
        return market

    def _resume(self, priced_at_ns: Int64Array) -> None:
        """Derive what the checkpoint leaves out: aggregates and states at its time, columns at their pricing's."""
        for feed in self._feeds.values():
            self._mark_feed(feed)
        for expiry in self._expiries.values():
            self._mark_expiry(expiry)
        self._refresh_feeds(self._time_ns)
        self._refresh_expiries(self._time_ns)
        self._refresh_marks(self._time_ns)
        self._deadline_ns = self._next_deadline()
        for underlying in range(len(self._members)):
            self._price(self._members_of(underlying), int(priced_at_ns[underlying]))
        self.columns.priced_at_ns[:] = priced_at_ns
        count = self.columns.count
        self._settlement_asset = self.columns.settlement_asset.copy()
        self._nothing_moved = np.zeros(count, np.bool_)
        self._no_asset_moved = np.zeros(len(self.listings.assets), np.bool_)
        self._everything = True
        self._refresh_tables(self._all_members)
        self._forget_changes()
