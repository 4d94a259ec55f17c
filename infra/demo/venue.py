"""The demo's venue: what is listed on it, and its parameters. Invented, in the manner of a crypto derivatives venue.

1. Prices are integer ticks and quantities integer lots; both are written as exact decimal strings.
2. Two underlyings. Everything settles in USDC but one inverse perpetual, which settles in BTC.
"""

from dataclasses import dataclass
from typing import Any, Final

from schemas.instruments import InstrumentKind, OptionType, Payoff
from schemas.money import from_units

# Friday, 2026-03-13 00:00 UTC.
START_NS: Final = 1_773_360_000_000_000_000
SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS
YEAR_NS: Final = 365 * DAY_NS

ASSETS: Final[tuple[tuple[str, int], ...]] = (("USDC", 6), ("USDT", 6), ("BTC", 8), ("ETH", 8))
ASSET_INDEX: Final[dict[str, int]] = {asset: index for index, (asset, _) in enumerate(ASSETS)}
UNDERLYINGS: Final[tuple[str, ...]] = ("BTC", "ETH")
SPOT_AT_START: Final[tuple[float, ...]] = (88_000.0, 3_100.0)

# Dates of the expiries' names; the first falls inside the day, wherever a shorter day puts it.
_EXPIRY_NAMES: Final = ("13MAR26", "20MAR26", "24APR26")
_STRIKE_STEP: Final = (500, 25)
_NEAR_STRIKES: Final = (0.95, 0.965, 0.98, 0.99, 1.0, 1.01, 1.02, 1.035, 1.05)
_FAR_STRIKES: Final = (0.65, 0.75, 0.85, 0.92, 1.0, 1.08, 1.15, 1.25, 1.35)


@dataclass(frozen=True, slots=True)
class Listing:
    """One instrument: a price is ``ticks × tick_units / 10**tick_decimals``, a quantity likewise in lots.

    ``quantity_per_lot`` is underlying (linear) or quote currency (inverse); ``expiry`` is the place among the
    expiries, -1 for a perpetual.
    """

    instrument: str
    kind: InstrumentKind
    underlying: int
    tick_units: int
    tick_decimals: int
    lot_units: int
    lot_decimals: int
    inverse: bool = False
    expiry: int = -1
    strike: int = 0
    is_call: bool = False

    @property
    def tick(self) -> float:
        """Smallest step of the price, in quote currency."""
        return self.tick_units / 10.0**self.tick_decimals

    @property
    def quantity_per_lot(self) -> float:
        """Contracts of one lot; every multiplier here is one."""
        return self.lot_units / 10.0**self.lot_decimals

    def price(self, ticks: int) -> str:
        """Return a price as its decimal string."""
        return from_units(ticks * self.tick_units, self.tick_decimals)

    def quantity(self, lots: int) -> str:
        """Return a quantity as its decimal string."""
        return from_units(lots * self.lot_units, self.lot_decimals)

    def fields(self, expiries_ns: tuple[int, ...]) -> dict[str, Any]:
        """Return what ``instrument.listed`` says of it."""
        option = self.kind is InstrumentKind.OPTION
        return {
            "instrument": self.instrument,
            "kind": self.kind.value,
            "underlying": UNDERLYINGS[self.underlying],
            "quote": "USD" if self.inverse else "USDC",
            "settlement_asset": UNDERLYINGS[self.underlying] if self.inverse else "USDC",
            "payoff": (Payoff.INVERSE if self.inverse else Payoff.LINEAR).value,
            "multiplier": "1",
            "tick_size": self.price(1),
            "lot_size": self.quantity(1),
            "strike": str(self.strike) if option else None,
            "option_type": (OptionType.CALL if self.is_call else OptionType.PUT).value if option else None,
            "expiry_ns": expiries_ns[self.expiry] if self.expiry >= 0 else None,
        }


def expiries(settles_ns: int) -> tuple[int, ...]:
    """Return the three expiries: ``settles_ns`` inside the day, then one week and six weeks on, 08:00 UTC."""
    return (settles_ns, START_NS + 7 * DAY_NS + 8 * HOUR_NS, START_NS + 42 * DAY_NS + 8 * HOUR_NS)


def listings() -> list[Listing]:
    """Return the instruments in listing order: perpetuals, the inverse one, futures, options."""
    perpetual, future, option = InstrumentKind.PERPETUAL, InstrumentKind.FUTURE, InstrumentKind.OPTION
    ticks = ((5, 1), (5, 2))  # 0.5 and 0.05
    lots = ((1, 3), (1, 2))  # 0.001 and 0.01
    listed = [Listing(f"{name}-PERP", perpetual, u, *ticks[u], *lots[u]) for u, name in enumerate(UNDERLYINGS)]
    listed.append(Listing("BTC-USD-PERP", perpetual, 0, 5, 1, 10, 0, inverse=True))
    for underlying, name in enumerate(UNDERLYINGS):
        for expiry in (0, 2):
            future_name = f"{name}-{_EXPIRY_NAMES[expiry]}"
            listed.append(
                Listing(future_name, future, underlying, *ticks[underlying], *lots[underlying], expiry=expiry)
            )
    option_ticks = ((1, 0), (1, 1))  # 1 and 0.1
    option_lots = ((1, 2), (1, 1))  # 0.01 and 0.1
    for underlying, name in enumerate(UNDERLYINGS):
        step = _STRIKE_STEP[underlying]
        for expiry, date in enumerate(_EXPIRY_NAMES):
            for ratio in _NEAR_STRIKES if expiry == 0 else _FAR_STRIKES:
                strike = round(SPOT_AT_START[underlying] * ratio / step) * step
                listed.extend(
                    Listing(
                        f"{name}-{date}-{strike}-{'C' if is_call else 'P'}",
                        option,
                        underlying,
                        *option_ticks[underlying],
                        *option_lots[underlying],
                        expiry=expiry,
                        strike=strike,
                        is_call=is_call,
                    )
                    for is_call in (True, False)
                )
    return listed


PARAMETERS_AT_START: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("oracle", {}),
    ("collateral", {"haircuts": {"USDC": 0.0, "USDT": 0.02, "BTC": 0.08, "ETH": 0.12}}),
    ("ladder", {}),
    ("liquidation", {}),
    ("tidegate-standard", {"linear_rates": {"BTC": [0.08, 0.04], "ETH": [0.1, 0.05]}}),
    ("tidegate-portfolio", {}),
)
COLLATERAL_IN_THE_CRASH: Final[dict[str, Any]] = {"haircuts": {"USDC": 0.0, "USDT": 0.1, "BTC": 0.12, "ETH": 0.18}}
