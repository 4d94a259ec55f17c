"""What perpetuals pay for funding: rates that fell due, on a mark that can be decided by.

1. A rate that falls due is paid on the mark of its own frame. Where that cannot be known (the perpetual was never
   priced, or its price is lost), the rate is *owed*: owed rates of an instrument are added, exactly, and paid at the
   first instant at which it is decidable, on the mark of that instant. Nothing is paid on a price that decides nothing.
2. Whoever holds the position when it is paid pays, as with every payment: positions change while a rate is owed, and
   the ledger names no holder of a moment that had no price.
3. Roundings are carried by instrument (``payments.funding_units``), whatever lies between two payments.
4. Rates and roundings are fractions, so their sums depend on no order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from flows.market.instant import CashPerLot, FundingOwed
from flows.market.payments import funding_units
from schemas.ledger import FundingRecord

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Funding:
    """What the instruments of a market still owe; a checkpoint keeps all of it.

    Attributes
    ----------
    owed : by instrument, the sum of the rates that wait, and how many they are.
    residual : by instrument, what roundings owe, in units of the settlement asset; at most a half in size.
    """

    owed: dict[int, tuple[Fraction, int]] = field(default_factory=dict)
    residual: dict[int, Fraction] = field(default_factory=dict)

    def fall_due(
        self,
        due: Iterable[CashPerLot | FundingRecord],
        *,
        value: Float64Array,
        decidable: BoolArray,
        decimals: Sequence[int],
    ) -> tuple[list[CashPerLot], list[FundingOwed]]:
        """Return what is paid at an instant, in order, and which rates that fell due in its frame wait.

        Parameters
        ----------
        due : what falls due in the frame, in order; payments of expiries pass through.
        value, decidable : (K,), as in ``Instant``.
        decimals : (K,), of the asset in which each instrument settles.
        """
        paid: list[CashPerLot] = []
        for instrument in [it for it in sorted(self.owed) if decidable[it]]:
            rate, _ = self.owed.pop(instrument)
            paid.append(self._pay(instrument, rate, float(value[instrument]), decimals[instrument]))
        waiting: list[FundingOwed] = []
        for item in due:
            if isinstance(item, CashPerLot):
                paid.append(item)
            elif decidable[item.instrument]:
                value_now = float(value[item.instrument])
                paid.append(self._pay(item.instrument, Fraction(item.rate), value_now, decimals[item.instrument]))
            else:
                rate, count = self.owed.get(item.instrument, (Fraction(0), 0))
                self.owed[item.instrument] = rate + Fraction(item.rate), count + 1
                waiting.append(FundingOwed(item.instrument, count + 1))
        return paid, waiting

    def _pay(self, instrument: int, rate: Fraction, value: float, decimals: int) -> CashPerLot:
        units, self.residual[instrument] = funding_units(
            value, rate, decimals, self.residual.get(instrument, Fraction(0))
        )
        return CashPerLot(instrument, units, closes=False)
