"""What traders and the venue do while the market moves: fills, deposits and withdrawals, orders, liquidations.

1. Everything is booked at the values of the instant before; what is traded freely is between accounts that are not
   isolated, and nothing is traded at or behind its expiry.
2. ``rate`` is fills a second of ledger time, on average; deposits and withdrawals are a tenth of it each, and changes
   of open orders as many, if there are any. With it come a listing and a change of the ladder.
3. Liquidations, trades and open orders draw from generators of their own: none changes what the others do.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from flows.market.instant import Instant
from flows.risk.book import Book
from schemas.ledger import Legs, MarketRecord, ParametersRecord
from schemas.parameters import LadderParameters
from tests.builders import SECOND_NS
from tests.simulator.auctions import Auctions
from tests.simulator.frames import fills, transfers, withdrawals
from tests.simulator.paths import MarketPath
from tests.simulator.resting import Resting
from tests.simulator.venue import DOLLAR, DOLLAR_DECIMALS, an_instrument

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]

_LISTED_AT: Final = 0.4  # of the path
_CHANGED_AT: Final = 0.6
_MONEY: Final = 10**DOLLAR_DECIMALS


class Activity:
    """Draws records, tick after tick.

    Parameters
    ----------
    rate : fills a second; 0: nobody trades, and nothing is listed.
    liquidations : whether liquidation orders fill.
    open_orders : share of accounts that have open orders.
    """

    def __init__(self, path: MarketPath, *, rate: float, liquidations: bool, open_orders: float, seed: int) -> None:
        self._path = path
        self._rate = rate * path.tick_ns / SECOND_NS
        self._rng = np.random.Generator(np.random.PCG64([seed, 3]))
        self._traded = np.concatenate(path.venue.pools)
        self._auctions = Auctions(tick_ns=path.tick_ns, seed=seed) if liquidations else None
        self._resting = Resting(path.venue, share=open_orders, seed=seed) if open_orders > 0.0 else None
        self._expiry_ns = path.venue.expiry_ns

    def opening(self, now_ns: int, book: Book) -> Legs | None:
        """Return the account records before the first tick, None where there are none."""
        legs = [] if self._resting is None else self._resting.opening(now_ns, book)
        return np.concatenate(legs) if legs else None

    def market(self, tick: int) -> Iterator[MarketRecord]:
        """Yield a listing and a change of the ladder, at their ticks."""
        if self._rate == 0.0:
            return
        venue, ticks = self._path.venue, self._path.ticks
        if tick == int(_LISTED_AT * ticks):
            spot = float(venue.spot[0])
            expiry = venue.expiries(0)[-1]
            option = an_instrument(
                venue.underlyings[0], "option", spot, expiry=expiry, strike=f"{1.013 * spot:.5g}", right="call"
            )
            self._expiry_ns = np.append(self._expiry_ns, expiry)
            self._traded = np.append(self._traded, len(venue.instruments))
            yield type(option)(
                len(venue.instruments), *(getattr(option, name) for name in option.__struct_fields__[1:])
            )
        if tick == int(_CHANGED_AT * ticks):
            yield ParametersRecord("ladder", LadderParameters(watch_multiple=1.25).model_dump_json())

    def legs(self, now_ns: int, instant: Instant, book: Book) -> Legs | None:
        """Return the account records of a tick, None where there are none; asked before ``market``."""
        # A settled instrument is worth nothing, and is traded no more.
        may_trade = (self._expiry_ns > now_ns) & instant.value_decidable & (instant.notional > 0.0)
        may_trade &= instant.asset_decidable[instant.settlement_asset]
        parts = []
        if self._auctions is not None:
            # First, so that no order is cut short by a trade of the same tick.
            parts += self._auctions.fills(now_ns, instant, book, may_trade)
        parts += self._trades(now_ns, instant, book, may_trade)
        if self._resting is not None:
            parts += self._resting.changes(0.1 * self._rate, now_ns, book)
        return np.concatenate(parts) if parts else None

    def _trades(self, now_ns: int, instant: Instant, book: Book, may_trade: BoolArray) -> list[Legs]:
        rng = self._rng
        trades, deposits, requests = rng.poisson((self._rate, 0.1 * self._rate, 0.1 * self._rate)).tolist()
        parts = []
        if trades:
            parts += self._fills(trades, now_ns, instant, book, may_trade)
        if deposits:
            parts.append(
                transfers(self._chosen(book, deposits), DOLLAR, rng.integers(1, 5_000, deposits) * _MONEY, now_ns)
            )
        if requests:
            wanted = rng.integers(1, 5_000, requests) * _MONEY
            parts.append(withdrawals(self._chosen(book, requests), DOLLAR, wanted, now_ns))
        return parts

    def _chosen(self, book: Book, count: int) -> Int64Array:
        """Return account numbers, drawn with repeats; isolated ones are passed over."""
        first = book.rows - book.customer_rows.shape[0]
        rows = self._rng.integers(first, book.rows, 8 * count + 8)
        return book.account[rows[~book.isolated[rows]][:count]].astype(np.int64)

    def _fills(self, count: int, now_ns: int, instant: Instant, book: Book, may_trade: BoolArray) -> list[Legs]:
        both = self._chosen(book, 2 * count)
        count = both.shape[0] // 2
        buyer, seller = both[:count], both[count : 2 * count]
        instrument = self._traded[self._rng.integers(0, self._traded.shape[0], count)]
        lots = self._rng.integers(1, 40, count)
        asset = instant.settlement_asset[instrument].astype(np.int64)
        cash = lots * np.rint(instant.value[instrument] / instant.asset_unit[asset]).astype(np.int64)
        kept = (buyer != seller) & may_trade[instrument]
        buyer, seller, instrument, asset, lots, cash = (
            column[kept] for column in (buyer, seller, instrument, asset, lots, cash)
        )
        return [
            fills(buyer, seller, instrument, asset, lots, -cash, now_ns),
            fills(seller, buyer, instrument, asset, -lots, cash, now_ns),
        ]
