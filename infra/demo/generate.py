"""The demo day: a synthetic crash day of a synthetic venue, as an event log.

Everything in it is made by a seeded model; no account, price or trade is real. It exists to show the whole pipeline on
one day that has most of what a bad day has: jumps, a vol spike, a depeg, a failing oracle source, an expiry, a halt,
a busted trade, reverted deposits, margin calls, redelivered and malformed input.

1. The same ``(seed, accounts, hours)`` give the same bytes on every machine (``infra.demo.portable``).
2. Lines leave in time order, a minute of the day at a time: memory does not grow with the length of the log.
3. Every refusal that intake should make of this log is counted by reason, so a run can be held against it.
"""

from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

import msgspec
import numpy as np
import zstandard

from infra.demo import market as plot
from infra.demo.crowd import Crowd
from infra.demo.faults import Fault, Scene, faults
from infra.demo.journal import Journal
from infra.demo.market import market_path
from infra.demo.oracles import Oracles
from infra.demo.population import population
from infra.demo.quotes import INVERSE, Prices, Quotes
from infra.demo.resting import Resting
from infra.demo.venue import (
    ASSETS,
    COLLATERAL_IN_THE_CRASH,
    HOUR_NS,
    MINUTE_NS,
    PARAMETERS_AT_START,
    SECOND_NS,
    START_NS,
    UNDERLYINGS,
)
from schemas.events import AssetListed, InstrumentHalted, InstrumentListed, ParametersChanged, SettlementPrice
from schemas.failures import FailureReason
from schemas.instruments import InstrumentKind, MarginMode

SEED: Final = 20_260_313
ACCOUNTS: Final = 3_000
HOURS: Final = 24.0
# Bytes for one (seed, accounts, hours) may change only together with this number.
MODEL_VERSION: Final = 2

_HOURS_MAX: Final = 72.0
_MINUTES_MIN: Final = 30
_ACCOUNTS_MIN: Final = 10
_SETTLED_AFTER_NS: Final = 50 * SECOND_NS
_FAULT_AFTER_NS: Final = 30 * SECOND_NS


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a generated log holds, and what intake should find in it.

    ``duplicates`` are lines written twice; ``faults`` are the expected dead letters by reason.
    """

    synthetic: bool
    model_version: int
    seed: int
    accounts: int
    hours: float
    lines: int
    bytes: int
    sha256: str
    market_instants: int
    first_time_ns: int
    last_time_ns: int
    events: dict[str, int]
    duplicates: int
    faults: dict[str, int]
    liquidation_fills: int


class _Writer(Protocol):
    def write(self, data: bytes, /) -> int: ...


class DemoDay:
    """One day to be written. ``lines`` may be called once; ``summary`` is complete after it.

    Parameters
    ----------
    seed : >= 0
    accounts : customer accounts, >= 10
    hours : length of the day, 0.5 to 72, in whole minutes; the plot is stretched to it
    """

    def __init__(self, *, seed: int = SEED, accounts: int = ACCOUNTS, hours: float = HOURS) -> None:
        minutes = round(hours * 60.0)
        if seed < 0 or accounts < _ACCOUNTS_MIN or minutes < _MINUTES_MIN or hours > _HOURS_MAX:
            raise ValueError(
                f"a demo day needs seed >= 0, {_ACCOUNTS_MIN} accounts or more, and {_MINUTES_MIN / 60} to "
                f"{_HOURS_MAX} hours; got seed {seed}, {accounts} accounts, {hours} hours"
            )
        self.seed, self.accounts, self.minutes = seed, accounts, minutes
        self.path = market_path(seed=seed, minutes=minutes)
        self.quotes = Quotes(self.path, START_NS + round(minutes * plot.EXPIRY) * MINUTE_NS)
        self.journal = Journal()
        self.oracles = Oracles(self.quotes, self.journal, seed)
        self.members = population(
            seed=seed,
            accounts=accounts,
            listed=self.quotes.listed,
            unit_value=np.abs(self.quotes.prices(0).usd_per_lot),
            spot=self.path.index[0],
        )
        self.crowd = Crowd(self.quotes, self.journal, self.members, seed)
        self.resting = Resting(self.crowd, seed)
        self._faults = faults()
        self._fault_counts: Counter[str] = Counter()
        self._lines = self._bytes = 0
        self._digest = sha256()

    def lines(self) -> Iterator[list[bytes]]:
        """Yield the log's lines, without line ends, a minute of the day at a time."""
        self._list_everything()
        for minute in range(self.minutes):
            begins = START_NS + minute * MINUTE_NS
            prices = self.quotes.prices(int(self.path.first_of_minute[minute]))
            self.oracles.publish(minute)
            self.crowd.join(begins)
            self._plot(begins)
            self.crowd.trade(minute, prices)
            self.crowd.watch(minute, prices)
            self.crowd.transfer(minute)
            self.resting.change(minute)
            self._spoil(begins, prices)
            written = self.journal.lines(begins + MINUTE_NS)
            block = b"\n".join([*written, b""])
            self._digest.update(block)
            self._lines += len(written)
            self._bytes += len(block)
            yield written

    def summary(self) -> Summary:
        """Return what was written so far."""
        return Summary(
            synthetic=True,
            model_version=MODEL_VERSION,
            seed=self.seed,
            accounts=self.accounts,
            hours=self.minutes / 60.0,
            lines=self._lines,
            bytes=self._bytes,
            sha256=self._digest.hexdigest(),
            market_instants=len(self.path.time_ns),
            first_time_ns=START_NS,
            last_time_ns=START_NS + self.path.duration_ns - 1,
            events=dict(sorted(self.journal.types.items())),
            duplicates=self.journal.duplicates,
            faults=dict(sorted(self._fault_counts.items())),
            liquidation_fills=self.crowd.liquidation_fills,
        )

    def _list_everything(self) -> None:
        add = self.journal.add
        for asset, decimals in ASSETS:
            add(START_NS, "venue", AssetListed, asset=asset, decimals=decimals)
        for one in self.quotes.listed:
            add(START_NS, "venue", InstrumentListed, **one.fields(self.quotes.expiries_ns))
        for name, parameters in PARAMETERS_AT_START:
            add(START_NS, "operator", ParametersChanged, name=name, parameters=parameters)

    def _plot(self, begins: int) -> None:
        """Let what the day is about happen at its minute."""
        add = self.journal.add
        if begins == self.quotes.expiries_ns[0]:
            self._settle(begins)
        if self._at(begins, plot.REORGANISED):
            self.crowd.reorganise(begins)
        if self._at(begins, plot.BUSTED):
            self.crowd.bust(begins + 7 * SECOND_NS)
        if self._at(begins, plot.HAIRCUT_RAISED):
            add(begins, "operator", ParametersChanged, name="collateral", parameters=COLLATERAL_IN_THE_CRASH)
        for edge, halted in zip(plot.HALT, (True, False), strict=True):
            if self._at(begins, edge):
                add(begins, "venue", InstrumentHalted, instrument=self.quotes.listed[INVERSE].instrument, halted=halted)
                self.crowd.halt(INVERSE, halted=halted)

    def _at(self, begins: int, fraction: float) -> bool:
        """Return whether a place of the plot lies in the minute that begins here."""
        return 0 <= START_NS + int(fraction * self.path.duration_ns) - begins < MINUTE_NS

    def _settle(self, expiry_ns: int) -> None:
        """Let the day's expiry pay out at the mean index of the half hour before it."""
        end = int(np.searchsorted(self.path.time_ns, expiry_ns))
        begin = int(np.searchsorted(self.path.time_ns, expiry_ns - HOUR_NS // 2))
        for underlying, coin in enumerate(UNDERLYINGS):
            window = self.path.index[begin:end, underlying].tolist()
            price = round(sum(window) / len(window), 2)
            self.journal.add(
                expiry_ns + _SETTLED_AFTER_NS,
                "venue",
                SettlementPrice,
                underlying=coin,
                expiry_ns=expiry_ns,
                price=f"{price:.2f}",
            )
            for at in self.quotes.expiring:
                one = self.quotes.listed[at]
                if one.underlying != underlying:
                    continue
                payout = price
                if one.kind is InstrumentKind.OPTION:
                    payout = max(price - one.strike if one.is_call else one.strike - price, 0.0)
                self.crowd.settle(at, payout)

    def _spoil(self, begins: int, prices: Prices) -> None:
        """Write the faults of this minute."""
        while self._faults and START_NS + int(self._faults[0].at * self.path.duration_ns) < begins + MINUTE_NS:
            fault = self._faults.pop(0)
            time_ns = begins + _FAULT_AFTER_NS + len(self._faults)
            scene = self._scene(time_ns, prices)
            impossible = (fault.needs_fill and self.journal.last_fill is None) or (
                fault.reason is FailureReason.ISOLATED_ACCOUNT and not scene.isolated
            )
            if impossible:
                continue
            self._write_fault(fault, scene)

    def _write_fault(self, fault: Fault, scene: Scene) -> None:
        edit = None if fault.edit is None else fault.edit(scene)
        # An edit that changes nothing marks the line as one that intake refuses.
        self.journal.add(scene.time_ns, fault.source, fault.kind, edit or (lambda event: event), **fault.fields(scene))
        self._fault_counts[fault.reason.value] += 1

    def _scene(self, time_ns: int, prices: Prices) -> Scene:
        """Return what exists now for a fault to refer to."""
        listed = self.quotes.listed
        cross = [
            member.account for member in self.members if member.joins == 0.0 and member.margin_mode is MarginMode.CROSS
        ]

        def parts(at: int) -> tuple[str, str, str]:
            return listed[at].instrument, listed[at].price(prices.ticks[at]), listed[at].quantity(10)

        isolated, foreign = self.crowd.isolated_trader()
        return Scene(
            journal=self.journal,
            time_ns=time_ns,
            buyer=cross[0],
            seller=cross[1],
            instrument=parts(0),
            isolated=isolated,
            foreign=parts(foreign),
            expired=parts(self.quotes.expiring[0]),
            halted=parts(INVERSE),
            settled_ns=self.quotes.expiries_ns[0],
        )


def generate(path: Path, *, seed: int = SEED, accounts: int = ACCOUNTS, hours: float = HOURS) -> Summary:
    """Write the demo day as NDJSON to ``path``, compressed if it ends in ``.zst``; return what it holds.

    ``path`` appears only when it is whole: it is written beside its place first.
    """
    day = DemoDay(seed=seed, accounts=accounts, hours=hours)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        if path.suffix == ".zst":
            with zstandard.ZstdCompressor(level=3).stream_writer(file) as compressed:
                _write(day, compressed)
        else:
            _write(day, file)
    partial.replace(path)
    return day.summary()


def _write(day: DemoDay, file: _Writer) -> None:
    for lines in day.lines():
        file.write(b"\n".join([*lines, b""]))
