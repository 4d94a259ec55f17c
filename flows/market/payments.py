"""What an instrument pays for each lot: funding and expiry, exact, rounded once.

1. A payment is one integer per long lot; a short receives the opposite, so positions that sum to zero pay nothing.
2. Expiry pays the exact payoff of the decimal settlement price, rounded half-even once for the whole lot.
3. Funding carries its rounding: after any number of payments the sum paid is within half a unit of the exact sum.
   Which rates are paid when is in ``funding``.
"""

from fractions import Fraction

from flows.market.listings import Instrument
from schemas.instruments import InstrumentKind, OptionType, Payoff
from schemas.money import I64_MAX, between_customers


def payoff_per_lot(instrument: Instrument, price: Fraction) -> Fraction:
    """Return what a long lot of an option or future is worth at a settlement price, in whole settlement assets.

    A future's whole value is paid, since the cash leg of its entry stands against it.
    """
    assert price > 0, f"settlement price of {instrument.instrument} must be positive"
    inverse = instrument.payoff is Payoff.INVERSE
    if instrument.kind is InstrumentKind.OPTION:
        assert instrument.strike is not None, f"option {instrument.instrument} has no strike"
        call = instrument.option_type is OptionType.CALL
        intrinsic = max(price - instrument.strike if call else instrument.strike - price, Fraction(0))
        return instrument.lot_quantity * (intrinsic / price if inverse else intrinsic)
    return -instrument.lot_quantity / price if inverse else instrument.lot_quantity * price


def settlement_units(instrument: Instrument, price: Fraction, decimals: int) -> int:
    """Return the payment of an expiry per long lot, in units of 10^-decimals of the settlement asset."""
    return checked_units(between_customers(payoff_per_lot(instrument, price) * 10**decimals))


def fits_settlement(instrument: Instrument, price: Fraction, decimals: int) -> bool:
    """Return whether the payment of an expiry per long lot fits 64 bits: what intake asks before it takes a price."""
    payment: Fraction = payoff_per_lot(instrument, price) * 10**decimals
    return abs(payment) < I64_MAX


def funding_units(value: float, rate: Fraction, decimals: int, residual: Fraction) -> tuple[int, Fraction]:
    """Return ``(units, residual)`` of a funding payment per long lot.

    Parameters
    ----------
    value : whole settlement assets per lot at the mark; its size counts, so that longs pay a positive rate.
    rate : of the mark value.
    residual : what earlier roundings still owe, in units; at most a half in size, and so is the one returned.
    """
    owed = residual - abs(Fraction(value)) * rate * 10**decimals
    units = checked_units(between_customers(owed))
    return units, owed - units


def checked_units(units: int) -> int:
    """Return ``units``; raise ``OverflowError`` where they do not fit 64 bits (behind intake, that halts)."""
    if -I64_MAX <= units <= I64_MAX:
        return units
    raise OverflowError(f"a payment of {units} units per lot does not fit 64 bits")
