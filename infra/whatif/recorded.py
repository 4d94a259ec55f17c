"""An account of a recorded run as a scene: the ledger's frames, decided again up to a moment.

1. Only the account's own shard is read and only the account is decided, at every instant at which the judge would
   decide it: its withdrawals were granted by its tiers, and no other account touches it.
2. A scene at a snapshot's barrier has the numbers of the snapshot, bit for bit, as long as model and parameters are
   the account's own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from flows.intake.registry import Registry
from flows.margin.model import Int64Array, MarginModel
from flows.margin.registry import parameter_sets
from flows.market.instant import Instant
from flows.market.step import Market
from flows.risk.book import Book
from flows.risk.evaluation import Evaluation
from flows.risk.step import Risk
from flows.screening.policy import Sight, Work, anything_moved
from infra.files.ledger import LedgerPosition, read_frames
from infra.run.directory import RunDirectory, RunDirectoryError
from infra.run.publisher import LEDGER
from infra.whatif.market import MovableMarket
from infra.whatif.portfolio import chosen_model
from infra.whatif.scene import Holdings, Scene, WhatIfError
from schemas.ids import FIRST_ACCOUNT_NUMBER, shard_of
from schemas.ledger import AccountRecord

_NOBODY = np.zeros(0, np.int64)


class _OneAccount:
    """Decide one account alone, whenever the exhaustive policy would; a policy that is its own screen."""

    name = "one-account"
    exact = False

    def __init__(self) -> None:
        self.number = -1
        self._book: Book | None = None

    def screen(self, sight: Sight) -> "_OneAccount":
        """Return itself, with the book to look into."""
        self._book = sight.book
        return self

    def rows(self, instant: Instant, touched: Int64Array) -> Int64Array:
        """Return the account's row, if it is open and anything may have changed for it."""
        row = -1 if self.number < 0 or self._book is None else self._book.row(self.number)
        if row < 0:
            return _NOBODY
        return np.array([row], np.int64) if anything_moved(instant) or row in touched else _NOBODY

    def decided(self, instant: Instant, rows: Int64Array, evaluation: Evaluation) -> None:
        """Remember nothing."""

    def work(self) -> Work:
        """Return nothing: nobody asks."""
        return Work()

    def violations(self, rows: Int64Array, evaluation: Evaluation) -> int:  # noqa: ARG002
        """Return 0: nothing is bounded here."""
        return 0


def recorded_scene(
    run: Path,
    account: str,
    models: Mapping[str, MarginModel],
    *,
    at_ns: int | None = None,
    frame: int | None = None,
    model: str | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> Scene:
    """Return an account of a run behind the last frame at or before a moment, or behind a frame; else at its end.

    Parameters
    ----------
    model : judge by this one from here on, instead of the account's own.
    parameters : sets that are in force from here on.

    Raises
    ------
    RunDirectoryError : there is no run, or it was never committed.
    LedgerError : its ledger is damaged.
    WhatIfError : the account is not open at that moment, or the parameters do not validate.
    """
    directory = RunDirectory.open(run)
    commit = directory.last_commit()
    if commit is None:
        raise RunDirectoryError(f"{run} holds a run without a commit: run it again")
    description = directory.description()
    if model is not None:
        chosen_model(model, models)
    shard = shard_of(account, description.shard_count)
    book = Book((shard,), shard_count=description.shard_count, models=tuple(models))
    policy = _OneAccount()
    market = Market(models)
    risk = Risk(market, book, models=models, screening=policy)
    genesis = description.genesis
    registry = Registry(
        numeraire=genesis.numeraire, shard_count=description.shard_count, margin_models=list(models),
        window_ns=genesis.duplicate_window_ns, parameter_sets=parameter_sets(models),
    )  # fmt: skip
    last = -1
    position = msgspec.convert(commit.ledger, LedgerPosition)
    for read in read_frames(directory.path / LEDGER, shards=[shard], until=position):
        if (at_ns is not None and read.time_ns > at_ns) or (frame is not None and read.number > frame):
            break
        for record in read.market:
            registry.apply(record)
            if isinstance(record, AccountRecord) and record.account == account:
                policy.number = record.number
        risk.step(read)
        last = read.number
    if policy.number < 0 or risk.instant is None:
        raise WhatIfError(f"no account {account!r} is open at that moment of {run}")
    opened = market.listings.accounts[policy.number - FIRST_ACCOUNT_NUMBER]
    chosen = models[model or opened.margin_model]
    row = book.row(policy.number)
    place = book.positions.places(np.array([row], np.int64))
    lots = zip(book.positions.instrument[place].tolist(), book.positions.lots[place].tolist(), strict=True)
    holdings = Holdings(tuple(int(units) for units in book.cash[row]), tuple(lots), _open_orders(book, row))
    movable = MovableMarket(market, risk.instant, chosen, models)
    return Scene(movable, registry, opened, holdings, frame=last).with_parameters(parameters or {})


def _open_orders(book: Book, row: int) -> tuple[tuple[int, int, int], ...]:
    told = book.open_orders
    if told is None:
        return ()
    place = told.places(np.array([row], np.int64))
    columns = (told.instrument[place].tolist(), told.buys[place].tolist(), told.sells[place].tolist())
    return tuple(zip(*columns, strict=True))
