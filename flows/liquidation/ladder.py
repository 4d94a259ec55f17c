"""Health to tier.

1. A tier is decided by comparing, never by dividing: ``equity < multiple × margin``.
2. The ladder is one-sided: the worst boundary that is crossed names the tier, and a recovery is seen the same way.
"""

import numpy as np
import numpy.typing as npt

from schemas.parameters import LadderParameters
from schemas.results import Tier

Float64Array = npt.NDArray[np.float64]


def tiers(
    equity: Float64Array, initial: Float64Array, maintenance: Float64Array, ladder: LadderParameters
) -> npt.NDArray[np.uint8]:
    """Return the ``Tier`` of each account.

    Parameters
    ----------
    equity, initial, maintenance : (n,), numeraire; margins >= 0 and initial >= maintenance.

    Returns
    -------
    (n,), HEALTHY to BANKRUPT.
    """
    tier = np.full(equity.shape[0], int(Tier.HEALTHY), np.uint8)
    tier[equity < ladder.watch_multiple * initial] = Tier.WATCH
    tier[equity < initial] = Tier.WARNING
    tier[equity < maintenance] = Tier.LIQUIDATING
    tier[equity < ladder.takeover_multiple * maintenance] = Tier.TAKEOVER
    tier[equity < 0.0] = Tier.BANKRUPT
    return tier
