"""How much a price has been moving: a time-weighted average of its squared log returns.

1. A price is sampled at most every ``sample_ns``, and a return is from one sample to the next: a gap between two
   observations is in the first sample behind it, whole.
2. A new return joins the average with its own time as its weight, and what was known before with ``decay_ns`` as its:
   ``(before * decay + return^2) / (decay + time)``. Where samples are near each other this is the exponential average
   that halves in ``decay_ns * ln 2``, without an exponential.
3. It begins at zero: nothing is known against a price before it has moved. Without samples it stays as it was.
4. Times are the ledger's, so a replay samples where the run did.
"""

from typing import Final

import msgspec
from numba import njit

from flows.pricing.polynomials import log_ratio

DAY_NS: Final = 86_400_000_000_000


class Volatility(msgspec.Struct, frozen=True, array_like=True):
    """The last sample of a price and what is known of its moves.

    ``price`` is 0.0 before the first sample; ``variance_per_day`` is of log returns, >= 0.
    """

    price: float = 0.0
    time_ns: int = 0
    variance_per_day: float = 0.0

    def sampled(self, price: float, now_ns: int, *, sample_ns: int, decay_ns: int) -> "Volatility":
        """Return what is known once ``price`` (> 0) stood at ``now_ns``; the same where a sample is not yet due."""
        elapsed_ns = now_ns - self.time_ns
        if self.price == 0.0:
            return Volatility(price, now_ns)
        if elapsed_ns < sample_ns:
            return self
        moved = _log_return(price, self.price)
        known = self.variance_per_day * (decay_ns / DAY_NS) + moved * moved
        return Volatility(price, now_ns, known / ((decay_ns + elapsed_ns) / DAY_NS))


@njit(cache=True, error_model="numpy")
def _log_return(price: float, before: float) -> float:
    return log_ratio(price, before)
