"""Futures and perpetuals: what one lot is worth, and how that moves with the underlying.

1. Linear: a lot is ``quantity`` of underlying, worth quantity × price in its settlement asset.
2. Inverse: a lot is ``quantity`` of quote currency, worth -quantity / price in coins: a long gains when the price
   rises, and an entry's cash leg is +quantity / entry price.
3. Sensitivities keep the settlement asset's own price fixed: what a coin balance gains or loses in the numeraire
   belongs to the balance. They assume that the price keeps its ratio to the underlying's index.
"""

from numba import njit


@njit(forceinline=True, error_model="numpy")
def lot_value(quantity: float, price: float, inverse: bool) -> float:
    """Return the value of a long lot in settlement assets; ``price`` > 0, quote per underlying."""
    return -quantity / price if inverse else quantity * price


@njit(forceinline=True, error_model="numpy")
def lot_delta(quantity: float, price: float, index_price: float, inverse: bool) -> float:
    """Return settlement assets per 1.00 of index price."""
    return quantity / (price * index_price) if inverse else quantity * (price / index_price)


@njit(forceinline=True, error_model="numpy")
def lot_gamma(quantity: float, price: float, index_price: float, inverse: bool) -> float:
    """Return settlement assets per 1.00 squared of index price."""
    return -2.0 * quantity / (price * index_price * index_price) if inverse else 0.0
