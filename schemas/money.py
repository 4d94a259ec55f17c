"""Fixed-point amounts: the only place in Tidegate that rounds money.

1. Money is an integer number of *units*: 10^-decimals of an asset. Quantities are integer lots, prices integer ticks.
2. Every rounding here has a named direction. Between two customers it is half-even and both sides carry the same
   integer; against a customer's interest, the house being the other side too, it is ``requirement`` (up) or ``payout``
   (down), of a ratio ``rounded_up`` or ``rounded_down``.
3. Overflow of a signed 64-bit integer is refused at the edge and halts behind it: it never wraps.
"""

from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Final

from schemas.failures import FailureReason, Refused

I64_MAX: Final = 2**63 - 1
DECIMALS_MAX: Final = 8
# A decimal string may have this many digits on either side of its point.
_DIGITS_MAX: Final = 24
# Of an amount that is refused, so much is repeated in the reason.
_SHOWN_MAX: Final = 40


def decimal_parts(text: str) -> tuple[int, int]:
    """Return ``(integer, decimals)`` such that ``text`` is exactly ``integer / 10**decimals``.

    Raises
    ------
    Refused : not a plain decimal string; NaN, infinities and exponents each have a reason of their own.
    """
    whole, point, fraction = text.partition(".")
    # Most are short and positive: one look is enough. isdigit alone accepts other scripts' digits.
    if whole.isdigit() and len(text) <= _DIGITS_MAX and (fraction.isdigit() or not point) and text.isascii():
        return int(whole + fraction), len(fraction)
    digits = text[1:] if text[:1] == "-" else text
    whole, point, fraction = digits.partition(".")
    # isdigit alone accepts other scripts' digits, which int() would read too.
    if (
        not text.isascii()
        or not whole.isdigit()
        or (point and not fraction.isdigit())
        or len(whole) > _DIGITS_MAX
        or len(fraction) > _DIGITS_MAX
    ):
        raise _refusal(text)
    magnitude = int(whole + fraction)
    return (-magnitude if text[0] == "-" else magnitude), len(fraction)


def _refusal(text: str) -> Refused:
    """Return why ``text`` is not an amount."""
    shown = text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"
    lowered = text.strip().lower().lstrip("+-")
    if lowered in {"nan", "snan", "qnan"}:
        return Refused(FailureReason.NOT_A_NUMBER, f"amount is not a number: {shown!r}")
    if lowered in {"inf", "infinity"}:
        return Refused(FailureReason.INFINITE_NUMBER, f"amount is infinite: {shown!r}")
    head, e, tail = lowered.partition("e")
    if e and head.replace(".", "", 1).isdigit() and tail.lstrip("+-").isdigit():
        return Refused(FailureReason.EXPONENT_NOT_ALLOWED, f"write amounts without an exponent: {shown!r}")
    if text.isascii() and lowered.replace(".", "", 1).isdigit() and text[:1] != "+" and len(text) > _DIGITS_MAX:
        return Refused(FailureReason.AMOUNT_OUT_OF_RANGE, f"amount has too many digits: {shown!r}")
    return Refused(FailureReason.BAD_AMOUNT, f"amount is not a decimal string: {shown!r}")


def fraction(text: str) -> Fraction:
    """Return a decimal string as an exact fraction; raise ``Refused`` as ``decimal_parts`` does."""
    integer, decimals = decimal_parts(text)
    return Fraction(integer, 10**decimals)


def to_units(text: str, decimals: int) -> int:
    """Return a decimal string as an integer number of ``10**-decimals``; refuse digits beyond them.

    Raises
    ------
    Refused : not a plain decimal, too many decimals, or outside a signed 64-bit integer.
    """
    integer, places = decimal_parts(text)
    if places == decimals:
        units = integer
    elif places < decimals:
        units = integer * 10 ** (decimals - places)
    else:
        units, rest = divmod(integer, 10 ** (places - decimals))
        if rest:
            raise Refused(FailureReason.TOO_MANY_DECIMALS, f"{text!r} has more than {decimals} decimals")
    return in_range(units)


def from_units(units: int, decimals: int) -> str:
    """Return an integer number of units as the decimal string that ``to_units`` reads back."""
    if decimals == 0:
        return str(units)
    sign = "-" if units < 0 else ""
    text = str(abs(units)).rjust(decimals + 1, "0")
    return f"{sign}{text[:-decimals]}.{text[-decimals:]}"


def from_float(value: float) -> str:
    """Return the shortest plain decimal string (no exponent) that reads back as ``value``.

    For what a computation made, and for records that were published as doubles; our own money never passes a float.

    Raises
    ------
    ValueError : NaN, infinite, or with more than 24 digits on either side of the point.
    """
    if not isfinite(value):
        raise ValueError(f"{value} has no decimal string")
    text = format(Decimal(repr(float(value))), "f")
    whole, _, decimals = text.lstrip("-").partition(".")
    if len(whole) > _DIGITS_MAX or len(decimals) > _DIGITS_MAX:
        raise ValueError(f"{value!r} needs more than {_DIGITS_MAX} digits on one side of the point")
    return text


def in_range(units: int) -> int:
    """Return ``units`` if it fits a signed 64-bit integer symmetrically, else refuse it."""
    if -I64_MAX <= units <= I64_MAX:
        return units
    raise Refused(FailureReason.AMOUNT_OUT_OF_RANGE, f"amount does not fit 64 bits: {units}")


def between_customers(exact: Fraction) -> int:
    """Round half-even: for cash that one side pays and the other receives as the same integer."""
    return round(exact)


def half_even(numerator: int, denominator: int) -> int:
    """Return ``between_customers`` of a ratio of integers, ``denominator`` > 0, without making a fraction of it."""
    quotient, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and quotient & 1):
        return quotient + 1
    return quotient


def rounded_down(numerator: int, denominator: int) -> int:
    """Return ``payout`` of a ratio of integers, ``denominator`` > 0, without making a fraction of it."""
    return numerator // denominator


def rounded_up(numerator: int, denominator: int) -> int:
    """Return ``requirement`` of a ratio of integers, ``denominator`` > 0, without making a fraction of it."""
    return -(-numerator // denominator)


def requirement(exact: Fraction) -> int:
    """Round up: what a customer must have or must pay."""
    return -((-exact.numerator) // exact.denominator)


def payout(exact: Fraction) -> int:
    """Round down: what a customer is credited."""
    return exact.numerator // exact.denominator
