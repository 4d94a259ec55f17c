"""The shadow: at some frames every account is evaluated again, without publishing, and held against how it stands.

1. What stands behind a frame is right if the exhaustive decision, taken then and there, would change nothing: no tier,
   no suspension, no open order. An account that was missed is seen at the next judged frame at which it should still
   stand otherwise.
2. Which frames are judged depends on their numbers and the fraction alone: a run that is repeated or resumed, on any
   number of processes, judges the same ones.
3. The judge's numbers also go to the screen, which says how many of them its bounds had excluded: a proof may be wrong
   before a decision is.
4. Nothing that is published depends on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import xxhash

from flows.liquidation.ladder import tiers
from flows.liquidation.sizing import orders
from flows.margin.model import MarginModel, PositionColumns
from flows.market.instant import Instant
from flows.risk.book import Book
from flows.risk.evaluation import Evaluation, evaluate
from flows.screening.policy import Screen
from schemas.results import Results, Tier

Int64Array = npt.NDArray[np.int64]

_SEED: Final = 0x54474A  # any; another would judge other frames
_END: Final = float(2**64)
_BLOCK_ROWS: Final = 1 << 17  # accounts evaluated at once: the arrays of a million would be memory for nothing


class JudgedOtherwise(Exception):  # noqa: N818 - says what happened
    """A decision of the screening policy is not that of the exhaustive judge: the process halts at this frame."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judged frame came to.

    Attributes
    ----------
    difference : the first row that stands otherwise than the judge says, and how, in words; None if all agree.
    violations : of the rows up to there, how many a bound of the screen had excluded.
    """

    difference: tuple[int, str] | None
    violations: int


class Shadow:
    """Judges a fraction of frames.

    Parameters
    ----------
    fraction : 0 to 1, of frames that are judged.
    """

    def __init__(self, fraction: float) -> None:
        self._below = fraction * _END

    def is_due(self, frame: int) -> bool:
        """Return whether a frame is among those that are judged."""
        return xxhash.xxh64_intdigest(frame.to_bytes(8, "little"), seed=_SEED) < self._below

    def judge(self, book: Book, instant: Instant, models: Mapping[str, MarginModel], screen: Screen) -> Judgement:
        """Hold every account, as it stands behind an instant, against the judge."""
        customers = book.customer_rows
        violations = 0
        for start in range(0, customers.shape[0], _BLOCK_ROWS):
            rows = customers[start : start + _BLOCK_ROWS]
            evaluation = evaluate(book, instant, rows, models)
            violations += screen.violations(rows, evaluation)
            difference = _difference(book, instant, rows, evaluation)
            if difference is not None:
                return Judgement(difference, violations)
        return Judgement(None, violations)


def _difference(book: Book, instant: Instant, rows: Int64Array, evaluation: Evaluation) -> tuple[int, str] | None:
    waits = evaluation.undecidable
    judged = tiers(evaluation.equity, evaluation.initial_margin, evaluation.maintenance_margin, instant.ladder)
    stands = book.tier[rows]
    missed = _missed_order(book, instant, rows, np.where(waits, stands, judged), evaluation)
    wrong = np.flatnonzero((waits != book.suspended[rows]) | (~waits & (judged != stands)))
    if wrong.shape[0] and (missed is None or rows[wrong[0]] <= missed[0]):
        first = int(wrong[0])
        row = int(rows[first])
        if waits[first] != book.suspended[row]:
            answers = ("waits for a price", "is decided")
            stand, judge = answers if book.suspended[row] else reversed(answers)
            return row, f"{stand} where the judge says that it {judge}"
        return row, f"stands {_name(stands[first])} where the judge says {_name(judged[first])}"
    return missed


def _missed_order(
    book: Book, instant: Instant, rows: Int64Array, tier: npt.NDArray[np.uint8], evaluation: Evaluation
) -> tuple[int, str] | None:
    """Return the first row whose open orders the judge would change, and how."""
    is_concerned = (tier >= int(Tier.LIQUIDATING)) | (book.order_count[rows] > 0)
    chosen = np.flatnonzero(~evaluation.undecidable & is_concerned)
    if chosen.shape[0] == 0:
        return None
    # Copies, of the accounts concerned alone: ``orders`` writes what it decides.
    concerned = rows[chosen]
    positions = book.positions
    places = positions.places(concerned)
    count = positions.count[concerned]
    found: Results = orders(
        rows=np.arange(chosen.shape[0]),
        account=book.account[concerned],
        tier=tier[chosen],
        equity=evaluation.equity[chosen],
        maintenance=evaluation.maintenance_margin[chosen],
        notional=instant.notional,
        positions=PositionColumns(
            np.cumsum(count) - count, count, positions.instrument[places], positions.lots[places]
        ),
        order_lots=book.order_lots[places],
        order_count=book.order_count[concerned],
        liquidation=instant.liquidation,
    )
    if found.shape[0] == 0:
        return None
    first = found[0]
    row = book.row(int(first["account"]))
    return row, (
        f"has an order of {int(first['amount'])} lots of instrument {int(first['instrument'])} "
        f"where the judge says {int(first['lots'])}"
    )


def _name(tier: int) -> str:
    return Tier(tier).name.lower()
