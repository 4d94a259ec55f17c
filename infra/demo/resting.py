"""The demo's open orders: what some of the crowd have resting at the venue.

They are told and not traded: no fill of the model comes of them, so what it trades is the same without them.

1. Makers quote both sides of what they make; every eighth other account rests an order now and then, and takes it back.
2. Nothing is open in what has expired, and nobody has orders before the first deposit is confirmed.
"""

from typing import Final

from infra.demo.crowd import Crowd
from infra.demo.population import Temper
from infra.demo.portable import generator
from infra.demo.venue import MINUTE_NS, START_NS
from schemas.events import OrdersOpen

_EVERY: Final = 8
_CHANGES_PER_INSTRUMENT_AND_MINUTE: Final = 0.02
_QUOTED: Final = 0.15
_RESTED: Final = 0.4
_TAKEN_BACK: Final = 0.3


class Resting:
    """The open orders of a crowd, told as they change."""

    def __init__(self, crowd: Crowd, seed: int) -> None:
        self._crowd = crowd
        self._random = generator(seed, 40)
        self._wanted = [
            (number, instrument, abs(lots), member.temper is Temper.MAKER)
            for number, member in enumerate(crowd.members)
            if member.temper is Temper.MAKER or number % _EVERY == 0
            for instrument, lots in member.targets
        ]

    def change(self, minute: int) -> None:
        """Let some rest an order, change one, or take it back."""
        begins = START_NS + minute * MINUTE_NS
        count = int(len(self._wanted) * _CHANGES_PER_INSTRUMENT_AND_MINUTE + self._random.random())
        times = self._random.integers(begins, begins + MINUTE_NS, count).tolist()
        picks = self._random.integers(0, max(len(self._wanted), 1), count).tolist()
        draws = self._random.random((count, 3)).tolist()
        for time_ns, pick, (size, side, fate) in zip(times, picks, draws, strict=True):
            number, at, target, quotes = self._wanted[pick]
            if not self._crowd.may_trade(number, at, time_ns):
                continue
            lots = int(target * (_QUOTED if quotes else _RESTED) * size)
            if fate < _TAKEN_BACK:
                lots = 0
            one = self._crowd.quotes.listed[at]
            buys, sells = (lots, lots) if quotes else ((lots, 0) if side < 0.5 else (0, lots))
            self._crowd.journal.add(
                time_ns,
                "venue",
                OrdersOpen,
                account=self._crowd.members[number].account,
                instrument=one.instrument,
                buys=one.quantity(buys),
                sells=one.quantity(sells),
            )
