"""An account at Deribit, as both of its margin models read it: what is held, in coins, and what the market says of it.

1. Amounts are in coins of the underlying, signed: an option contract is one coin, and an inverse future's contracts
   are ``coins_of_inverse`` at the mark price.
2. An account holds one settlement currency: coins of one underlying (inverse), or US dollars (linear).
3. Numbers that are not finite, and prices that are not positive, are refused when the account is made.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Final

from schemas.instruments import OptionType, Payoff

# The venue states coins to so many decimals, and rounds to nearest there.
COIN_DECIMALS: Final = 9
YEAR_NS: Final = 365.0 * 86_400.0 * 1e9


@dataclass(frozen=True, slots=True)
class DeribitFuture:
    """A future or, without expiry, a perpetual: ``amount`` coins, marked at ``mark_price`` USD per coin."""

    instrument: str
    underlying: str
    payoff: Payoff
    amount: float
    mark_price: float
    expiry_ns: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is not a number, and a price that is not positive."""
        _finite(self.instrument, amount=self.amount)
        _positive(self.instrument, mark_price=self.mark_price)


@dataclass(frozen=True, slots=True)
class DeribitOption:
    """A European option: ``amount`` contracts of one coin.

    ``mark_price`` is in the settlement currency (coins if inverse), ``underlying_price`` the forward of its expiry and
    ``strike`` in USD, ``implied_vol`` annualised.
    """

    instrument: str
    underlying: str
    payoff: Payoff
    option_type: OptionType
    amount: float
    mark_price: float
    underlying_price: float
    strike: float
    implied_vol: float
    expiry_ns: int

    def __post_init__(self) -> None:
        """Refuse what is not a number, prices that are not positive, and a mark or vol below zero."""
        _finite(self.instrument, amount=self.amount, mark_price=self.mark_price, implied_vol=self.implied_vol)
        _positive(self.instrument, underlying_price=self.underlying_price, strike=self.strike)
        if self.mark_price < 0.0 or self.implied_vol < 0.0:
            raise ValueError(f"{self.instrument}: mark price and implied vol must not be negative")

    @property
    def out_of_the_money(self) -> float:
        """Return by how much USD the forward is on the worthless side of the strike, >= 0."""
        distance = self.strike - self.underlying_price
        return max(distance if self.option_type is OptionType.CALL else -distance, 0.0)


DeribitPosition = DeribitFuture | DeribitOption


@dataclass(frozen=True, slots=True)
class DeribitAccount:
    """A segregated account of one settlement currency and index.

    ``index_price`` is USD per coin of ``underlying``; ``payoff`` says whether margins are in its coins or in USD. The
    margins that do not come of positions are the venue's to state, in the settlement currency, >= 0.
    """

    underlying: str
    payoff: Payoff
    index_price: float
    time_ns: int
    positions: tuple[DeribitPosition, ...] = ()
    spot_margin: float = 0.0
    mmp_margin: float = 0.0
    open_orders_margin: float = 0.0
    correlation_contingency: float = 0.0

    def __post_init__(self) -> None:
        """Refuse an index price that is not positive, a negative margin, and positions of another account's kind."""
        _positive("account", index_price=self.index_price)
        margins = {
            "spot_margin": self.spot_margin,
            "mmp_margin": self.mmp_margin,
            "open_orders_margin": self.open_orders_margin,
            "correlation_contingency": self.correlation_contingency,
        }
        _finite("account", **margins)
        for name, value in margins.items():
            if value < 0.0:
                raise ValueError(f"account: {name} must not be negative, and is {value}")
        for position in self.positions:
            if position.payoff is not self.payoff or position.underlying != self.underlying:
                raise ValueError(
                    f"{position.instrument} is {position.payoff.value} on {position.underlying}, and the account is "
                    f"{self.payoff.value} on {self.underlying}"
                )

    def years_to(self, expiry_ns: int | None) -> float:
        """Return the years (ACT/365) that are left, 0 where there is no expiry or it is past."""
        return 0.0 if expiry_ns is None else max(expiry_ns - self.time_ns, 0) / YEAR_NS


def coins_of_inverse(quantity: float, mark_price: float) -> float:
    """Return the coins of ``quantity`` USD of inverse futures at a mark price, to ``COIN_DECIMALS``."""
    return round(quantity / mark_price, COIN_DECIMALS)


def _finite(name: str, **values: float) -> None:
    for field, value in values.items():
        if not isfinite(value):
            raise ValueError(f"{name}: {field} is not a finite number: {value}")


def _positive(name: str, **values: float) -> None:
    _finite(name, **values)
    for field, value in values.items():
        if value <= 0.0:
            raise ValueError(f"{name}: {field} must be positive, and is {value}")
