"""The risk step of some shards, new or from checkpoints: for a run, its workers, and whoever decides a run again."""

from collections.abc import Sequence

from flows.margin.registry import margin_models
from flows.market.step import Market
from flows.risk.book import Book
from flows.risk.step import Risk
from flows.screening.observer import Observer
from flows.screening.shadow import Shadow
from infra.run.screening import screening_policy
from schemas.checkpoint import CheckpointError


def risk_of(
    shards: Sequence[int],
    *,
    shard_count: int,
    screening: str,
    shadow: float = 0.0,
    market: bytes | None = None,
    shard_states: Sequence[bytes] = (),
    observer: Observer | None = None,
) -> Risk:
    """Return the risk step of the given shards, with the installed margin models.

    Parameters
    ----------
    shadow : the fraction of frames that are judged, 0 to 1.
    market, shard_states : checkpoints of one barrier; None and nothing at the beginning of a ledger.
    observer : watches the screen; None where nobody does.

    Raises
    ------
    CheckpointError : a checkpoint is damaged, or of another shard than those that are asked for.
    UnknownScreeningPolicy : no installed policy has this name.
    """
    models = margin_models()
    policy = screening_policy(screening)
    judge = Shadow(shadow) if shadow > 0.0 else None
    if market is None:
        book = Book(shards, shard_count=shard_count, models=tuple(models))
        return Risk(Market(), book, models=models, screening=policy, shadow=judge, observer=observer)
    risk = Risk.restore(
        market, shard_states, shard_count=shard_count, models=models, screening=policy, shadow=judge, observer=observer
    )
    # A worker sees some of the shards: two files of one of them may have gone to two workers.
    if risk.book.shards != tuple(sorted(shards)):
        raise CheckpointError(f"checkpoints of shards {risk.book.shards}, where {tuple(shards)} belong")
    return risk
