"""Hold what the engine published against the judge's answers, and name the first difference."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import isclose
from typing import Any, Final

import numpy as np

from schemas.results import ResultKind
from tests.flows.running import Published
from tests.judge.plain import Judge, Period, Row

CLOSE: Final = 1e-9
_NO_FLOATS: Final[dict[str, Any]] = {"equity": 0.0, "initial_margin": 0.0, "maintenance_margin": 0.0}


@dataclass(frozen=True)
class Comparison:
    """How many answers were held against each other, and the decisions that floats may take either way."""

    rows: int
    batches: int
    periods: int
    near_ties: list[tuple[int, int, str]]


def judged(frames: Sequence[bytes]) -> tuple[Judge, list[Period]]:
    """Return the judge after a whole ledger, and what it says of each period."""
    judge = Judge()
    periods = [period for data in frames if (period := judge.step(data)) is not None]
    return judge, periods


def compare(published: Published) -> Comparison:
    """Judge a run's ledger; raise ``AssertionError`` at the first answer that differs.

    An account's rows from its first near tie on are not compared: either answer is right there, and what follows
    depends on it. Callers demand that there are none.
    """
    judge, periods = judged(published.frames)
    tied: dict[int, int] = {}
    for frame, account, _ in judge.near_ties:
        tied.setdefault(account, frame)
    assert len(periods) == len(published.results) == len(published.hashes), "another number of periods"
    batches = iter(published.batches)
    batch_count = row_count = 0
    first_frame = 0
    root: bytes | None = None
    for period, results, state_hash in zip(periods, published.results, published.hashes, strict=True):
        theirs = [_row(result) for result in results]
        mine = [row for row in period.rows if row.frame < tied.get(row.account, row.frame + 1)]
        theirs = [row for row in theirs if row.frame < tied.get(row.account, row.frame + 1)]
        for own, other in zip(mine, theirs, strict=False):
            assert same(own, other), f"the judge says\n  {own}\nthe engine\n  {other}"
        assert len(mine) == len(theirs), f"only one of them says {(mine + theirs)[min(len(mine), len(theirs))]}"
        row_count += len(mine)
        if tied:
            continue
        where = f"barrier {period.barrier.number}"
        assert state_hash == period.state_hash, f"{where}: another state hash"
        if not period.deltas:
            continue
        batch = next(batches)
        batch_count += 1
        deltas = {(account, kind, market): amount for account, kind, market, amount in batch.deltas().tolist()}
        assert deltas == period.deltas, f"{where}: other deltas"
        assert batch.new_root == period.root, f"{where}: another state root"
        assert root is None or batch.previous_root == root, f"{where}: a batch on another root"
        assert (batch.number, batch.first_frame, batch.last_frame) == (batch_count, first_frame, period.barrier.number)
        assert batch.order_commitment == period.barrier.content_head, f"{where}: another order commitment"
        root, first_frame = period.root, period.barrier.number + 1
    assert tied or next(batches, None) is None, "the engine has more batches"
    return Comparison(row_count, batch_count, len(periods), judge.near_ties)


def same(own: Row, other: Row) -> bool:
    """Return whether two rows say the same: everything exactly, and floats to 1e-9 of the account's size."""
    size = max(abs(own.equity), own.initial_margin, own.maintenance_margin)
    return replace(own, **_NO_FLOATS) == replace(other, **_NO_FLOATS) and all(
        isclose(getattr(own, name), getattr(other, name), rel_tol=CLOSE, abs_tol=CLOSE * size) for name in _NO_FLOATS
    )


def _row(result: np.void) -> Row:
    """Return a ``RESULT`` row as the judge writes it."""
    values: dict[str, Any] = {field.name: result[field.name].item() for field in fields(Row)}
    return Row(**values | {"kind": ResultKind(values["kind"])})
