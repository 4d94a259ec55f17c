"""``deribit-standard``: what one account of standard margin needs, position by position.

1. A future or perpetual needs (base + slope × |coins|) of its size: coins where it is inverse, USD where it is linear.
   The slope makes large positions dearer. Confirmed by published numbers.
2. A long option needs nothing more: its premium is paid. A short one needs its mark, and a share of its underlying
   beyond it that falls with the distance out of the money. From the venue's documents; no number confirms it.
3. Nothing offsets anything. Amounts in coins are rounded to nearest at 9 decimals, as the venue states them.

The venue sets margins against a balance that leaves options out, and so counts a short option's mark as a requirement.
Our equity has every position marked in it: ``initial_requirement`` and ``maintenance_requirement`` are the same margins
against that, so that health is the same number in both forms.
"""

from dataclasses import dataclass

from flows.margin.deribit_account import COIN_DECIMALS, DeribitAccount, DeribitFuture, DeribitOption, DeribitPosition
from schemas.instruments import OptionType, Payoff
from schemas.parameters import DeribitStandardParameters

OPTIONS_UNCONFIRMED = "options: rates are from documents, and no published number confirms them"


@dataclass(frozen=True, slots=True)
class DeribitStandardPosition:
    """One position, step by step; amounts in the settlement currency.

    ``size`` is |coins|; the rates are fractions of it (futures), or per contract: of a coin if inverse, in USD if
    linear (options). ``option_value`` is signed.
    """

    instrument: str
    size: float
    initial_rate: float
    maintenance_rate: float
    initial_margin: float
    maintenance_margin: float
    option_value: float


@dataclass(frozen=True, slots=True)
class DeribitStandardMargin:
    """An account, step by step, in its settlement currency.

    Attributes
    ----------
    initial_margin, maintenance_margin : as the venue states them, against a balance without options, >= 0.
    option_value : of all options at their marks, signed.
    initial_requirement, maintenance_requirement : the same against equity with every position marked.
    unconfirmed : what went into the result and no published number confirms, in words.
    """

    positions: tuple[DeribitStandardPosition, ...]
    open_orders_margin: float
    initial_margin: float
    maintenance_margin: float
    option_value: float
    initial_requirement: float
    maintenance_requirement: float
    unconfirmed: tuple[str, ...]


def deribit_standard(account: DeribitAccount, parameters: DeribitStandardParameters) -> DeribitStandardMargin:
    """Return the margins of an account, and every step on the way."""
    positions = tuple(_position(position, account, parameters) for position in account.positions)
    initial = maintenance = option_value = 0.0
    for it in positions:
        initial += it.initial_margin
        maintenance += it.maintenance_margin
        option_value += it.option_value
    initial += account.open_orders_margin
    has_options = any(isinstance(position, DeribitOption) for position in account.positions)
    return DeribitStandardMargin(
        positions=positions,
        open_orders_margin=account.open_orders_margin,
        initial_margin=initial,
        maintenance_margin=maintenance,
        option_value=option_value,
        initial_requirement=initial + option_value,
        maintenance_requirement=maintenance + option_value,
        unconfirmed=(OPTIONS_UNCONFIRMED,) if has_options else (),
    )


def _position(
    position: DeribitPosition, account: DeribitAccount, parameters: DeribitStandardParameters
) -> DeribitStandardPosition:
    if isinstance(position, DeribitFuture):
        return _future(position, parameters)
    return _option(position, account.index_price, parameters)


def _future(position: DeribitFuture, parameters: DeribitStandardParameters) -> DeribitStandardPosition:
    rates = parameters.futures.get(position.underlying, parameters.default_futures)
    size = abs(position.amount)
    initial_rate = rates.initial + rates.slope_per_coin * size
    maintenance_rate = rates.maintenance + rates.slope_per_coin * size
    inverse = position.payoff is Payoff.INVERSE
    price = 1.0 if inverse else position.mark_price
    return DeribitStandardPosition(
        instrument=position.instrument,
        size=size,
        initial_rate=initial_rate,
        maintenance_rate=maintenance_rate,
        initial_margin=_stated(initial_rate * size * price, inverse=inverse),
        maintenance_margin=_stated(maintenance_rate * size * price, inverse=inverse),
        option_value=0.0,
    )


def _option(
    position: DeribitOption, index_price: float, parameters: DeribitStandardParameters
) -> DeribitStandardPosition:
    size = abs(position.amount)
    inverse = position.payoff is Payoff.INVERSE
    initial_rate = maintenance_rate = 0.0
    if position.amount < 0.0:
        unit = 1.0 if inverse else index_price
        mark = position.mark_price
        outside = position.out_of_the_money / position.underlying_price
        initial_rate = max(parameters.option_initial - outside, parameters.option_initial_min) * unit + mark
        maintenance_rate = parameters.option_maintenance * unit + mark
        if position.option_type is OptionType.PUT:
            maintenance_rate = max(parameters.option_maintenance * unit, parameters.option_maintenance * mark) + mark
            initial_rate = max(initial_rate, maintenance_rate)
    return DeribitStandardPosition(
        instrument=position.instrument,
        size=size,
        initial_rate=initial_rate,
        maintenance_rate=maintenance_rate,
        initial_margin=_stated(initial_rate * size, inverse=inverse),
        maintenance_margin=_stated(maintenance_rate * size, inverse=inverse),
        option_value=position.amount * position.mark_price,
    )


def _stated(margin: float, *, inverse: bool) -> float:
    return round(margin, COIN_DECIMALS) if inverse else margin
