"""What can be traded and held.

1. A *value* is what one long lot is worth in its settlement asset. Linear: quantity × price.
   Inverse: the quantity is in quote currency and the settlement asset is the underlying, so a long future
   or perpetual is worth −quantity / price; an inverse option's price is already in coins.
2. A position's cash follows its value: buying pays the value at the trade price, so equity is cash plus value
   for every kind, and no realised profit is ever computed on the money path.
"""

from enum import Enum


class InstrumentKind(Enum):
    """Kind of an instrument."""

    OPTION = "option"
    FUTURE = "future"
    PERPETUAL = "perpetual"
    SPOT = "spot"


class Payoff(Enum):
    """Currency in which a contract pays: quote (linear) or the underlying coin (inverse)."""

    LINEAR = "linear"
    INVERSE = "inverse"


class OptionType(Enum):
    """Right of a European option's holder."""

    CALL = "call"
    PUT = "put"


class MarginMode(Enum):
    """Whether an account's positions share collateral.

    A cross account margins everything together. An isolated account is bound to the first underlying that it
    trades, counts only the settlement assets of its positions as collateral, and so fails alone.
    """

    CROSS = "cross"
    ISOLATED = "isolated"
