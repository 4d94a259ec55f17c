"""What is taken off each asset where an account owns it: the haircut in force.

1. A haircut is the asset's own (a parameter) or, where that is more, what its realised vol asks for:
   ``vol_multiple * sqrt(variance per day * days of the horizon)``, at most ``vol_haircut_max``. The oracle's doubt is
   taken off as well: ``confidence_multiple`` times the confidence ratio of the price. All of it is at most 1.
2. The vol is sampled in frames in which a source of a usable price said something, so it depends on the ledger alone;
   while there is no usable price the last haircut stands (the asset then stops decisions anyway).
3. The numeraire has no price, and so neither vol nor doubt.
4. Arrays are replaced, never written: instants share them.
"""

from math import sqrt

import numpy as np
import numpy.typing as npt

from flows.market.volatility import DAY_NS, Volatility
from schemas.parameters import CollateralParameters

Float64Array = npt.NDArray[np.float64]

_DAYS_PER_YEAR = 365.0


class Haircuts:
    """By asset: what is known of its vol, and the haircut in force.

    Attributes
    ----------
    volatility : the state that a checkpoint keeps.
    haircut : (A,), 0 to 1: the fraction of a positive net that does not count.
    realised_vol : (A,), annualised, >= 0; 0.0 while nothing has been sampled.
    """

    def __init__(self) -> None:
        self.volatility: list[Volatility] = []
        self.haircut: Float64Array = np.zeros(0)
        self.realised_vol: Float64Array = np.zeros(0)
        self._own: list[float] = []

    def append(self, own: float) -> None:
        """Add an asset, by its own haircut."""
        self._own.append(own)
        self.volatility.append(Volatility())
        self.haircut = np.append(self.haircut, own)
        self.realised_vol = np.append(self.realised_vol, 0.0)

    def sample(self, asset: int, price: float, now_ns: int, parameters: CollateralParameters) -> None:
        """Let a usable price of an asset be sampled, if a sample is due."""
        sampled = self.volatility[asset].sampled(
            price, now_ns, sample_ns=parameters.vol_sample_ns, decay_ns=parameters.vol_decay_ns
        )
        self.volatility[asset] = sampled
        vol = sqrt(sampled.variance_per_day * _DAYS_PER_YEAR)
        if vol != self.realised_vol[asset]:
            self.realised_vol = self.realised_vol.copy()
            self.realised_vol[asset] = vol

    def renew(self, asset: int, confidence: float, parameters: CollateralParameters) -> bool:
        """Bring an asset's haircut up to its vol and to the confidence of its price; return whether it differs."""
        haircut = haircut_of(
            own=self._own[asset],
            variance_per_day=self.volatility[asset].variance_per_day,
            confidence=confidence,
            parameters=parameters,
        )
        if haircut == self.haircut[asset]:
            return False
        self.haircut = self.haircut.copy()
        self.haircut[asset] = haircut
        return True

    def reset(self, own: list[float], confidence: Float64Array, parameters: CollateralParameters) -> None:
        """Take every asset's own haircut anew, as parameters or a checkpoint say."""
        self._own = own
        for asset, ratio in enumerate(confidence.tolist()):
            self.renew(asset, ratio, parameters)
        self.realised_vol = np.array([sqrt(it.variance_per_day * _DAYS_PER_YEAR) for it in self.volatility])


def haircut_of(*, own: float, variance_per_day: float, confidence: float, parameters: CollateralParameters) -> float:
    """Return the fraction of a positive net that does not count (invariant 1).

    Parameters
    ----------
    own : the asset's own haircut, 0 to 1.
    variance_per_day : of log returns, >= 0.
    confidence : half the band of the price over the price, >= 0.
    """
    asked = parameters.vol_multiple * sqrt(variance_per_day * (parameters.vol_horizon_ns / DAY_NS))
    doubt = parameters.confidence_multiple * confidence
    return min(max(own, min(asked, parameters.vol_haircut_max)) + doubt, 1.0)
