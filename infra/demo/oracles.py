"""The demo's observers: what oracles, surface fitters and the venue publish of the path, minute by minute.

1. Sources take turns, so nearly every instant carries a value of one or two of them; those that publish at one
   instant share its time.
2. Every price says how sure it is and when it was seen, some tenths of a second before it arrives.
"""

from typing import Final

from infra.demo import market as plot
from infra.demo.journal import Journal
from infra.demo.market import SOURCES, within
from infra.demo.portable import generator
from infra.demo.quotes import PERPETUALS, Quotes
from infra.demo.venue import HOUR_NS, START_NS, UNDERLYINGS
from schemas.events import FundingRate, MarkPrice, OracleForward, OraclePrice, OracleRate, OracleVol, Svi

# A source publishes at every n-th instant, from its first.
_EVERY: Final = (2, 3, 2)
_FIRST: Final = (0, 0, 1)
_STABLECOINS_AT: Final = (0, 7)
_STABLECOINS_EVERY: Final = 12
_MARKS_EVERY: Final = 2
_FUTURES_EVERY: Final = 6
_LATENCY_NS: Final = (150_000_000, 900_000_000)
_REFIT_MINUTES: Final = 5
_RATE_MINUTES: Final = 30
_STRESSED: Final = 0.3
_FUNDING_MAX: Final = 0.002


class Oracles:
    """Everyone who publishes the market; ``publish`` is called once a minute, in order."""

    def __init__(self, quotes: Quotes, journal: Journal, seed: int) -> None:
        self.quotes, self.path, self.journal = quotes, quotes.path, journal
        self._random = generator(seed, 20)

    def publish(self, minute: int) -> None:
        """Write one minute's observations."""
        path, add = self.path, self.journal.add
        first, last = int(path.first_of_minute[minute]), int(path.first_of_minute[minute + 1])
        latency = self._random.integers(*_LATENCY_NS, (last - first, len(SOURCES))).tolist()
        for instant in range(first, last):
            for source, seen_before_ns in enumerate(latency[instant - first]):
                if instant % _EVERY[source] == _FIRST[source]:
                    self._observe(instant, source, seen_before_ns)
            self._marks(instant)
        now = int(path.time_ns[first])
        stressed = float(path.stress[first]) > _STRESSED and path.fraction(now) < plot.SHOULDER_ENDS
        if stressed or minute % _REFIT_MINUTES == 0:
            self._surfaces(first)
        if minute % _RATE_MINUTES == 0:
            add(now, "curves", OracleRate, currency="USD", rate="0.0425")
        if minute > 0 and (now - START_NS) % HOUR_NS == 0:
            for at in range(PERPETUALS):
                rate = min(max(float(path.premium[first, at]) / 8.0, -_FUNDING_MAX), _FUNDING_MAX)
                add(now, "venue", FundingRate, instrument=self.quotes.listed[at].instrument, rate=f"{rate:.8f}")

    def _observe(self, instant: int, source: int, seen_before_ns: int) -> None:
        """Publish one source's prices, unless it is the failing one and silent."""
        now = int(self.path.time_ns[instant])
        failing = source == plot.FAILING_SOURCE
        if failing and within(self.path.fraction(now), plot.SOURCE_SILENT):
            return
        confidence = 0.0002 + 0.002 * float(self.path.stress[instant])
        for underlying, coin in enumerate(UNDERLYINGS):
            price = float(self.path.observed[instant, source, underlying])
            self.journal.add(
                now,
                SOURCES[source],
                OraclePrice,
                feed=f"{coin}/USD",
                price=f"{price:.2f}",
                confidence=f"{price * confidence:.2f}",
                publish_time_ns=now - seen_before_ns,
            )
        if not failing and instant % _STABLECOINS_EVERY in _STABLECOINS_AT:
            self._stablecoins(instant, SOURCES[source], now - seen_before_ns)

    def _stablecoins(self, instant: int, source: str, published: int) -> None:
        now = int(self.path.time_ns[instant])
        for coin, price in (("USDC", self.path.usdc), ("USDT", self.path.usdt)):
            if coin == "USDT" and within(self.path.fraction(now), plot.USDT_SILENT):
                continue
            self.journal.add(
                now,
                source,
                OraclePrice,
                feed=f"{coin}/USD",
                price=f"{float(price[instant]):.6f}",
                confidence="0.000200",
                publish_time_ns=published,
            )

    def _marks(self, instant: int) -> None:
        """Publish the marks that fall due: perpetuals often, futures that have not expired less often."""
        now = int(self.path.time_ns[instant])
        due = list(range(PERPETUALS)) if instant % _MARKS_EVERY == 0 else []
        if instant % _FUTURES_EVERY == 0:
            futures = self.quotes.linears[PERPETUALS:]
            due += [at for at in futures if now < self.quotes.expiries_ns[self.quotes.listed[at].expiry]]
        for at in due:
            one = self.quotes.listed[at]
            ticks = max(round(self.quotes.linear_price(instant, at) / self.quotes.tick[at]), 1)
            self.journal.add(now, "marks", MarkPrice, instrument=one.instrument, price=one.price(ticks))

    def _surfaces(self, instant: int) -> None:
        """Publish forwards and refitted smiles of the expiries that are still to come."""
        now = int(self.path.time_ns[instant])
        for underlying, coin in enumerate(UNDERLYINGS):
            for expiry_ns in self.quotes.expiries_ns:
                if now >= expiry_ns:
                    continue
                smile = self.path.smile(instant, underlying, expiry_ns)
                self.journal.add(
                    now,
                    "surfaces",
                    OracleForward,
                    underlying=coin,
                    expiry_ns=expiry_ns,
                    forward=f"{smile.forward:.4f}",
                )
                svi = Svi(
                    a=f"{smile.a:.12f}",
                    b=f"{smile.b:.10f}",
                    rho=f"{smile.rho:.6f}",
                    m=f"{smile.m:.6f}",
                    sigma=f"{smile.sigma:.10f}",
                    forward=f"{smile.forward:.4f}",
                    time_to_expiry=f"{smile.time_to_expiry:.12f}",
                )
                self.journal.add(now, "surfaces", OracleVol, underlying=coin, expiry_ns=expiry_ns, svi=svi)
