"""Whether the smiles of a portfolio are crossed: prices at which somebody could buy something for less than nothing.

1. *Butterfly*: as strikes rise, calls get cheaper, never by more than the strikes are apart, and ever more slowly.
   Quoted points are held against each other at their strikes; a fit on a grid around the strikes that are listed.
2. *Calendar*: at one moneyness, total variance does not fall from an expiry to the next, within the strikes of both.
3. What a tenth of a vol point mends is not called crossed: quotes are rounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

import numpy as np

from flows.margin.model import Float64Array
from flows.market.surface import implied_vols
from flows.pricing.black76 import black76
from schemas.ledger import SviRecord, VolPointsRecord

VOL_TOLERANCE: Final = 1e-3
# Of the forward: what binary arithmetic loses where vol does not matter.
_ROUNDING: Final = 1e-9
# A fit is held against itself on so many strikes, this far (as a ratio) around those that are listed.
_GRID_POINTS: Final = 61
_GRID_REACH: Final = 1.5
# A crossing is only told of log moneyness that both smiles reach, but for so much.
_REACH: Final = 0.01


@dataclass(frozen=True, slots=True)
class Smile:
    """A smile of a portfolio: ``place`` in the document; ``strikes`` listed on it; years ACT/365.

    ``forward`` is 0 where nothing tells it.
    """

    place: str
    record: SviRecord | VolPointsRecord
    forward: float
    time_to_expiry: float
    strikes: tuple[float, ...]

    def checked_strikes(self) -> Float64Array:
        """Return the strikes at which the smile is held against itself, rising."""
        if isinstance(self.record, VolPointsRecord):
            return np.array(self.record.strikes)
        lowest, highest = min(self.strikes) / _GRID_REACH, max(self.strikes) * _GRID_REACH
        return np.geomspace(lowest, highest, _GRID_POINTS)


def crossed(smiles: Sequence[Smile]) -> tuple[str, str] | None:
    """Return the place of the first smile that is crossed, and how, in words; None where none is."""
    known = [smile for smile in smiles if smile.forward > 0.0 and smile.time_to_expiry > 0.0]
    for smile in known:
        fault = _butterfly(smile)
        if fault is not None:
            return smile.place, fault
    by_underlying: dict[str, list[Smile]] = {}
    for smile in sorted(known, key=lambda it: it.record.expiry_ns):
        by_underlying.setdefault(smile.record.underlying, []).append(smile)
    for group in by_underlying.values():
        for earlier, later in pairwise(group):
            fault = _calendar(earlier, later)
            if fault is not None:
                return later.place, fault
    return None


def _butterfly(smile: Smile) -> str | None:
    strike = smile.checked_strikes()
    vol = implied_vols(smile.record, strike)
    call, vega = _calls(smile, strike, vol)
    slack = vega * VOL_TOLERANCE + smile.forward * _ROUNDING
    width, fall = strike[1:] - strike[:-1], call[:-1] - call[1:]
    for i in np.flatnonzero((fall < -slack[1:]) | (fall > width + slack[1:])):
        if fall[i] < 0.0:
            return f"crossed: a call at {strike[i + 1]:g}, vol {vol[i + 1]:g}, costs more than one at {strike[i]:g}"
        return f"crossed: calls at {strike[i]:g} and {strike[i + 1]:g} differ by more than their strikes"
    share = width[1:] / (width[:-1] + width[1:])
    chord = share * call[:-2] + (1.0 - share) * call[2:]
    for i in np.flatnonzero(call[1:-1] > chord + slack[1:-1]):
        return (
            f"crossed: a call at {strike[i + 1]:g}, vol {vol[i + 1]:g}, costs more than those at {strike[i]:g}, "
            f"vol {vol[i]:g}, and {strike[i + 2]:g}, vol {vol[i + 2]:g}, allow (butterfly)"
        )
    return None


def _calendar(earlier: Smile, later: Smile) -> str | None:
    k = np.concatenate([np.log(it.checked_strikes() / it.forward) for it in (earlier, later)])
    reach = [np.log(it.checked_strikes() / it.forward)[[0, -1]] for it in (earlier, later)]
    low, high = max(it[0] for it in reach) - _REACH, min(it[1] for it in reach) + _REACH
    k = np.sort(k[(k >= low) & (k <= high)])
    first, second = (implied_vols(it.record, it.forward * np.exp(k)) for it in (earlier, later))
    least = first * np.sqrt(earlier.time_to_expiry / later.time_to_expiry)
    for i in np.flatnonzero(second < least - VOL_TOLERANCE):
        before, after = first[i] ** 2 * earlier.time_to_expiry, second[i] ** 2 * later.time_to_expiry
        return (
            f"crossed: total variance at {later.forward * np.exp(k[i]):g} falls from {before:.4g} at the expiry of "
            f"{_moment(earlier)} to {after:.4g} (calendar)"
        )
    return None


def _calls(smile: Smile, strike: Float64Array, vol: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return undiscounted prices and vegas of calls."""
    count = strike.shape[0]
    found = black76(
        forward=np.full(count, smile.forward),
        strike=strike,
        time_to_expiry=np.full(count, smile.time_to_expiry),
        implied_vol=vol,
        rate=np.zeros(count),
        is_call=np.ones(count, np.bool_),
    )
    return found.price, found.vega


def _moment(smile: Smile) -> str:
    return f"{datetime.fromtimestamp(smile.record.expiry_ns // 1_000_000_000, UTC):%Y-%m-%dT%H:%MZ}"
