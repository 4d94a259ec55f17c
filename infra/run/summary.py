"""The end of a run in numbers: what is printed, and kept as ``summary.json``."""

from typing import Any

from infra.run.directory import Commit


def summarise(ledger_id: str, commit: Commit, chain: tuple[int, bytes] | None) -> dict[str, Any]:
    """Return what a run's end prints: nothing in it depends on the engine, process count or a crash.

    Parameters
    ----------
    commit : the run's last.
    chain : the contract's last batch and root; None without a chain.
    """
    counts = commit.counts
    return {
        "ledger_id": ledger_id,
        "events": counts["accepted"] + counts["duplicates"] + counts["dead_letters"],
        "accepted": counts["accepted"],
        "duplicates": counts["duplicates"],
        "dead_letters": counts["dead_letters"],
        "fills": counts["fills"],
        "busts": counts["busts"],
        "transfers": counts["transfers"],
        "withdrawals": counts["withdrawals"],
        "open_orders": counts["open_orders"],
        "frames": counts["frames"],
        "barriers": counts["barriers"],
        "batches": commit.batch_number,
        "chain_batch": None if chain is None else chain[0],
        "chain_root": None if chain is None else chain[1].hex(),
        "tallies": commit.tallies,
        "ledger_time_ns": commit.time_ns,
        "digest": commit.digest,
    }
