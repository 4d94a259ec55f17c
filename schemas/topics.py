"""The topics of a live venue: what each holds, how it is cut, and how long it is kept.

1. Names are without the prefix of an installation, which ``named`` puts before them.
2. What is raw comes from outside, stamped by the broker when it was appended: intake's order is by that time. What is
   written by one of our stages is one partition, one total order.
3. Partitions of a raw topic may grow: intake merges them. Those of every other are fixed.
"""

from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "tidegate."
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
# A frame may be as large as intake lets it become; Kafka's own default is a mebibyte.
_FRAME_BYTES_MAX: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    Attributes
    ----------
    partitions : how many. holds : one sentence, for people. settings : by Kafka's names, values as Kafka shows them.
    """

    name: str
    partitions: int
    holds: str
    settings: dict[str, str] = field(default_factory=dict)


def _raw(name: str, partitions: int, holds: str) -> Topic:
    kept = {"cleanup.policy": "delete", "retention.ms": str(7 * _DAY_MS), "message.timestamp.type": "LogAppendTime"}
    return Topic(name, partitions, holds, kept)


def _written(name: str, holds: str, *, days: int, large: bool = False) -> Topic:
    kept = {"cleanup.policy": "delete", "retention.ms": str(days * _DAY_MS)}
    return Topic(name, 1, holds, kept | ({"max.message.bytes": str(_FRAME_BYTES_MAX)} if large else {}))


TOPICS: Final = (
    _raw("oracle.price", 1, "prices of oracle sources, marks, funding rates and interest rates"),
    _raw("oracle.vol", 1, "smiles and forwards"),
    _raw("fills", 4, "fills, busts and open orders, keyed by account"),
    _raw("collateral", 4, "transfers and withdrawal requests, keyed by account"),
    _raw("parameters", 1, "listings, accounts, halts, parameters and rules"),
    _written("ledger", "frames, written by intake in transactions; archived before they expire", days=7, large=True),
    _written("order", "what intake took, in order, an entry a transaction", days=7),
    _written("dead-letters", "what intake refused, whole, with its reason and origin", days=30),
    _written("decisions", "results of the risk step, frame by frame", days=7, large=True),
    _written("periods", "what each shard publishes at a barrier", days=7, large=True),
    _written("batches", "settlement batches", days=30, large=True),
    Topic("control", 1, "what operators command: halt and resume", {"cleanup.policy": "compact"}),
    _written("audit", "who halted what, when and why", days=365),
)


def named(topic: Topic, prefix: str = PREFIX) -> str:
    """Return the name of a topic in an installation."""
    return f"{prefix}{topic.name}"
