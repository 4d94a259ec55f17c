"""What is traded: underlyings, instruments and expiries, as the ledger lists them.

1. A venue of two underlyings has linear and inverse perpetuals and futures, and calls and puts of ten expiries (one of
   them inverse); a venue of fifty has a perpetual, a future and eight options of each.
2. Nothing is random here, and nothing depends on the book.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.ledger import AssetRecord, InstrumentRecord
from tests.builders import DAY_NS, SECOND_NS, TIME_NS

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

HOUR_NS: Final = 3_600 * SECOND_NS
YEAR_NS: Final = 365 * DAY_NS
# 08:00 UTC, so many days after the venue's first day; a path of 24 hours ends before the first.
_EXPIRY_DAYS: Final = (1, 2, 7, 14, 21, 30, 60, 90, 180, 270)
_INVERSE_EXPIRY: Final = 5
_FUTURE_EXPIRIES: Final = (2, 5, 7, 9)
_STRIKES: Final = 12
_VOL: Final = 0.6
_DEVIATIONS: Final = 2.2
_LOT_NOTIONAL: Final = 500.0

NEVER: Final = 2**63 - 1
DOLLAR: Final = 0  # the index of USDC
DOLLAR_DECIMALS: Final = 6
COIN_DECIMALS: Final = 8


@dataclass(frozen=True, slots=True)
class Venue:
    """A venue before its first trade.

    Attributes
    ----------
    spot : (U,), quote per underlying, where paths begin.
    instruments : listings, in order of index. pools : for each underlying, its instruments; the first is a linear
        perpetual.
    direction : (K,), the sign of a long lot's delta. is_option : (K,). expiry_ns : (K,), ``NEVER`` where there is none.
    """

    underlyings: tuple[str, ...]
    spot: Float64Array
    assets: list[AssetRecord]
    instruments: list[InstrumentRecord]
    pools: list[Int64Array]
    direction: Float64Array
    is_option: npt.NDArray[np.bool_]
    expiry_ns: Int64Array
    coins: dict[int, int] = field(default_factory=dict)  # underlying to asset index, where the coin is an asset

    def expiries(self, underlying: int) -> list[int]:
        """Return the expiries of an underlying, rising."""
        pool = self.pools[underlying]
        return sorted({expiry for expiry in self.expiry_ns[pool].tolist() if expiry != NEVER})

    @property
    def first_expiry_ns(self) -> int:
        """The first expiry of the venue."""
        return int(self.expiry_ns.min())


def expiry_ns(day: int) -> int:
    """Return 08:00 UTC of a day of the venue."""
    return TIME_NS + day * DAY_NS + 8 * HOUR_NS


def two_underlyings(*, narrow: bool = False) -> Venue:
    """Return BTC and ETH with 246 instruments each; ``narrow``: linear perpetuals and options alone."""
    expiries = [expiry_ns(day) for day in _EXPIRY_DAYS]
    return recorded_underlyings(("BTC", "ETH"), (50_000.0, 2_500.0), (expiries, expiries), narrow=narrow)


def recorded_underlyings(
    names: Sequence[str],
    spot: Sequence[float],
    expiries: Sequence[Sequence[int]],
    *,
    since_ns: int = TIME_NS,
    narrow: bool = False,
) -> Venue:
    """Return underlyings, each with a coin of its own, perpetuals, and futures and options of its own expiries, rising.

    ``since_ns`` : when strikes are laid about the spot.
    """
    coins = {place: 1 + place for place in range(len(names))}
    listed = [
        _deep(name, price, coins[place], expiries[place], since_ns)
        for place, (name, price) in enumerate(zip(names, spot, strict=True))
    ]
    return _venue(names, spot, listed, coins, narrow=narrow)


def fifty_underlyings(*, narrow: bool = False) -> Venue:
    """Return fifty underlyings with ten instruments each, one of them a future; ``narrow``: without it."""
    names = [f"U{number:02d}" for number in range(50)]
    spot = [10.0 * 1.15**number for number in range(50)]
    listed = [_shallow(name, price) for name, price in zip(names, spot, strict=True)]
    return _venue(names, spot, listed, {}, narrow=narrow)


def _venue(
    underlyings: Sequence[str],
    spot: Sequence[float],
    listed: Sequence[Iterable[InstrumentRecord]],
    coins: dict[int, int],
    *,
    narrow: bool,
) -> Venue:
    assets = [AssetRecord(DOLLAR, "USDC", DOLLAR_DECIMALS)]
    assets += [AssetRecord(asset, underlyings[place], COIN_DECIMALS) for place, asset in coins.items()]
    instruments: list[InstrumentRecord] = []
    pools = []
    for chosen in listed:
        first = len(instruments)
        for record in chosen:
            if narrow and (record.kind == "future" or record.payoff == "inverse"):
                continue
            instruments.append(_numbered(record, len(instruments)))
        pools.append(np.arange(first, len(instruments)))
    return Venue(
        tuple(underlyings),
        np.array(spot),
        assets,
        instruments,
        pools,
        np.array([-1.0 if record.option_type == "put" else 1.0 for record in instruments]),
        np.array([record.kind == "option" for record in instruments]),
        np.array([NEVER if record.expiry_ns is None else record.expiry_ns for record in instruments]),
        coins,
    )


def _deep(
    underlying: str, spot: float, coin: int, expiries: Sequence[int], since_ns: int
) -> Iterator[InstrumentRecord]:
    yield an_instrument(underlying, "perpetual", spot)
    yield an_instrument(underlying, "perpetual", spot, coin=coin)
    for number in _FUTURE_EXPIRIES:
        inverse = coin if number == _INVERSE_EXPIRY else None
        yield an_instrument(underlying, "future", spot, expiry=expiries[number], coin=inverse)
    for number, expiry in enumerate(expiries):
        inverse = coin if number == _INVERSE_EXPIRY else None
        for strike in _strikes(spot, expiry - since_ns, _STRIKES):
            for right in ("call", "put"):
                yield an_instrument(underlying, "option", spot, expiry=expiry, strike=strike, right=right, coin=inverse)


def _shallow(underlying: str, spot: float) -> Iterator[InstrumentRecord]:
    expiry = expiry_ns(_EXPIRY_DAYS[3])
    yield an_instrument(underlying, "perpetual", spot)
    yield an_instrument(underlying, "future", spot, expiry=expiry)
    for strike in _strikes(spot, expiry - TIME_NS, 4):
        for right in ("call", "put"):
            yield an_instrument(underlying, "option", spot, expiry=expiry, strike=strike, right=right)


def _strikes(spot: float, life_ns: int, count: int) -> list[str]:
    deviation = _VOL * np.sqrt(life_ns / YEAR_NS)
    return [f"{spot * np.exp(z * deviation):.4g}" for z in np.linspace(-_DEVIATIONS, _DEVIATIONS, count)]


def an_instrument(
    underlying: str,
    kind: str,
    spot: float,
    *,
    expiry: int | None = None,
    strike: str | None = None,
    right: str | None = None,
    coin: int | None = None,
) -> InstrumentRecord:
    """Return a listing without its number; a lot is worth about 500 in underlying; ``coin``: inverse, settled in it."""
    inverse_in_dollars = coin is not None and kind != "option"
    lot = f"{_LOT_NOTIONAL:.0f}" if inverse_in_dollars else f"{_LOT_NOTIONAL / spot:.1g}"
    when = "" if expiry is None else f"-{(expiry - TIME_NS) // DAY_NS}D"
    name = f"{underlying}-{kind}{when}" + ("" if strike is None else f"-{float(strike):g}-{right}")
    return InstrumentRecord(
        index=-1,
        instrument=name + ("" if coin is None else "-inverse"),
        kind=kind,
        underlying=underlying,
        quote="USDC" if coin is None else "USD",
        settlement_asset=DOLLAR if coin is None else coin,
        base_asset=-1,
        payoff="linear" if coin is None else "inverse",
        multiplier="1",
        tick_size="0.0001",
        lot_size=f"{float(lot):f}",
        strike=None if strike is None else f"{float(strike):f}",
        option_type=right,
        expiry_ns=expiry,
    )


def _numbered(record: InstrumentRecord, index: int) -> InstrumentRecord:
    return InstrumentRecord(index, *(getattr(record, name) for name in record.__struct_fields__[1:]))
