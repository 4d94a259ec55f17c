"""A market that can be moved: the same instruments at other prices and vols, priced by the same kernels.

1. Nothing moved is the instant that it was made from, bit for bit: everything is priced at the time at which the
   market itself last priced it.
2. A move of a name multiplies its price: the index price of an underlying, the venue's marks of its instruments, its
   forwards, and the price of the asset of that name. Vols are sticky in strike and have a multiple of their own.
3. No time passes, and what could not be known before cannot be known after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from flows.margin.model import Int64Array, MarginModel
from flows.margin.registry import parameter_sets
from flows.market.columns import (
    DECIDABLE,
    FORWARD,
    FORWARD_STATE,
    FRESH,
    IMPLIED_VOL,
    INDEX_PRICE,
    MARK_PRICE,
    NOTIONAL,
    STALE,
    UNKNOWN,
    VALUE,
    VENUE_MARK,
    VOL_STATE,
    InstrumentColumns,
)
from flows.market.instant import Instant
from flows.market.listings import Listings
from flows.market.step import Market
from flows.market.surface import VOL_MAX
from flows.market.valuation import price
from schemas.instruments import InstrumentKind
from schemas.ledger import GENESIS_HEAD, Frame, FrameKind, MarketRecord, ParametersRecord, empty_legs
from schemas.parameters import OracleParameters, ParameterSet


def frame_of(records: list[MarketRecord], *, time_ns: int, number: int) -> Frame:
    """Return a frame of market records, as a market's step takes it; it stands in no ledger's chain."""
    return Frame(
        number=number, kind=FrameKind.EVENTS, time_ns=time_ns, period=0, shard_count=1, market=records,
        legs=empty_legs(), references=[], previous_head=GENESIS_HEAD, content_head=GENESIS_HEAD, positions=b"",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Move:
    """By what the prices of a name and the vols of its options are multiplied; both > 0."""

    spot: float = 1.0
    vol: float = 1.0


STILL: Final = Move()
Moves = Mapping[str, Move]


class MovableMarket:
    """A market at one instant, with the margin tables of one model.

    Parameters
    ----------
    market : after the step that gave ``instant``; it is read and never written.
    model : whose tables every instant here carries.
    models : those that the market was made with.
    """

    def __init__(self, market: Market, instant: Instant, model: MarginModel, models: Mapping[str, MarginModel]) -> None:
        self.listings: Listings = market.listings
        self.model = model
        self._instant = instant
        self._models = models
        self._market = market
        self._parameters = {name: market.parameters(name) for name in parameter_sets(models)}
        genesis = market.listings.genesis
        self.numeraire = "" if genesis is None else genesis.numeraire
        own, columns = market.columns, InstrumentColumns()
        for instrument in market.listings.instruments:
            columns.append(instrument)
        count = columns.count
        self._columns = columns
        self._reals = own.reals[:, :count].copy()
        self._codes = own.codes[:, :count].copy()
        self._spot = own.spot.copy()
        columns.spot_state = own.spot_state.copy()
        columns.confidence = own.confidence.copy()
        columns.assets = own.assets
        columns.priced_at_ns = own.priced_at_ns.copy()
        self._members: list[Int64Array] = [
            np.flatnonzero(columns.underlying == index) for index in range(len(columns.underlyings))
        ]

    @property
    def time_ns(self) -> int:
        """The ledger time of the instant."""
        return self._instant.time_ns

    def parameters(self, name: str) -> ParameterSet | None:
        """Return the parameter set in force; None for a model that has none."""
        return self._parameters.get(name)

    def with_parameters(self, sets: Sequence[ParametersRecord]) -> "MovableMarket":
        """Return the market after a frame that changes parameter sets, at the same time."""
        market = Market.restore(self._market.checkpoint(), self._models)
        frame = frame_of([*sets], time_ns=self.time_ns, number=self._instant.frame + 1)
        return MovableMarket(market, market.step(frame), self.model, self._models)

    def input_of(self, instrument: int, row: int) -> float:
        """Return an input of an instrument that no move changes; ``row`` as in ``flows.market.columns``."""
        return float(self._reals[row, instrument])

    def missing(self, instrument: int) -> str:
        """Return why an instrument that is not decidable is not, in words."""
        it, codes = self.listings.instruments[instrument], self._codes[:, instrument]
        asset = self.listings.assets[it.settlement_asset]
        if self._columns.spot_state[self._columns.underlying[instrument]] != FRESH:
            return f"no usable price of {it.underlying}"
        if not self._instant.asset_decidable[asset.index]:
            return f"no usable price of {asset.asset}, in which it settles"
        expiry = "" if it.expiry_ns is None else f" for {np.datetime64(it.expiry_ns, 'ns').astype('datetime64[m]')}Z"
        if it.kind is InstrumentKind.OPTION and codes[VOL_STATE] != FRESH:
            return ("no" if codes[VOL_STATE] == UNKNOWN else "too old a") + f" smile of {it.underlying}{expiry}"
        if codes[FORWARD_STATE] == STALE:
            return f"too old a forward of {it.underlying}{expiry}"
        return "its price is too old"

    def price_of(self, name: str) -> float:
        """Return what a move of a name multiplies: its price in the numeraire, 0.0 where nothing tells one.

        The index price of an underlying, else the price of an asset, else the mark of the underlying's first instrument
        that has one.
        """
        underlying = self._columns.underlying_index(name)
        if underlying >= 0 and self._spot[underlying] > 0.0:
            return float(self._spot[underlying])
        for asset in self.listings.assets:
            if asset.asset == name and self._instant.asset_price[asset.index] > 0.0:
                return float(self._instant.asset_price[asset.index])
        marks = self._reals[VENUE_MARK, self._members[underlying]] if underlying >= 0 else np.zeros(0)
        told = marks[np.isfinite(marks)]
        return float(told[0]) if told.shape[0] else 0.0

    def instant(self, moves: Moves | None = None) -> Instant:
        """Return the market with some names moved; all others stand."""
        moves = moves or {}
        columns, count = self._columns, self._columns.count
        columns.reals[:, :count] = self._reals
        columns.codes[:, :count] = self._codes
        columns.spot = self._spot.copy()
        asset_price = self._instant.asset_price.copy()
        for name, move in moves.items():
            self._move(name, move, asset_price)
        columns.assets = replace(columns.assets, price=asset_price)
        oracle = self._parameters["oracle"]
        assert isinstance(oracle, OracleParameters), "the set named oracle is the oracle's"
        for underlying, members in enumerate(self._members):
            price(
                members, int(columns.priced_at_ns[underlying]), oracle.mark_band_ratio, columns.reals, columns.codes,
                columns.greeks, columns.expiry_ns, columns.underlying, columns.settlement_asset, columns.spot,
                columns.spot_state, asset_price, self._instant.asset_decidable,
            )  # fmt: skip
        tables: Any = self.model.tables(columns, self.parameters(self.model.name))
        block = columns.reals[:, :count].copy()
        return replace(
            self._instant,
            value=block[VALUE],
            value_decidable=columns.codes[DECIDABLE, :count].astype(np.bool_),
            notional=block[NOTIONAL],
            asset_price=asset_price,
            greeks=columns.greeks.copy(),
            index_price=block[INDEX_PRICE],
            mark_price=block[MARK_PRICE],
            implied_vol=block[IMPLIED_VOL],
            forward=block[FORWARD],
            margin_tables={self.model.name: tables},
            payments=[],
        )

    def _move(self, name: str, move: Move, asset_price: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        columns = self._columns
        underlying = columns.underlying_index(name)
        if underlying >= 0:
            members = self._members[underlying]
            columns.spot[underlying] *= move.spot
            columns.reals[VENUE_MARK, members] *= move.spot
            columns.reals[IMPLIED_VOL, members] = np.minimum(columns.reals[IMPLIED_VOL, members] * move.vol, VOL_MAX)
        for asset in self.listings.assets:
            if asset.asset == name and name != self.numeraire:
                asset_price[asset.index] *= move.spot
