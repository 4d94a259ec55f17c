"""The settlement step: barrier by barrier, from the shards' deltas to the next batch.

1. A batch is a function of the ledger alone: its bytes depend on no process count, no clock and no place of a crash.
2. A period that changed no integers gives no batch; its frames belong to the next one, so frame ranges adjoin.
3. After every batch each market's total over all accounts is exactly zero, or the step halts.
4. The root is the root of what is held; a restored state whose columns do not give its root is refused.
"""

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np

from flows.settlement.batch import Batch, chunks, data_root, encode_deltas
from flows.settlement.holdings import Holdings
from flows.settlement.netting import net
from flows.settlement.tree import DEPTH, Tree, keccak, leaf_hash
from schemas.checkpoint import CheckpointError, open_envelope, seal_envelope
from schemas.ledger import Frame, FrameKind
from schemas.results import DeltaKind, Deltas

_NOUN: Final = "settlement"
_VERSION: Final = 1
# depth, next batch, first frame not yet in a batch, first frame not yet seen, root, holdings
_HEADER: Final = struct.Struct("<HQqq32sQ")
_HOLDING_BYTES: Final = 16
_ANY_FRAME: Final = -1


class SettlementError(Exception):
    """A frame that does not follow what is settled."""


class Settlement:
    """The settlement stage's memory: holdings, state tree, counters."""

    def __init__(self, depth: int = DEPTH) -> None:
        """Start before the first frame, with nobody holding anything."""
        self._holdings = Holdings()
        self._tree = Tree(depth)
        self._next_number = 1
        self._first_unsettled = _ANY_FRAME
        self._next_frame = _ANY_FRAME

    @property
    def root(self) -> bytes:
        """The state root after the last batch."""
        return self._tree.root

    @property
    def batch_count(self) -> int:
        """How many batches there are so far; the number of the last one."""
        return self._next_number - 1

    def step(self, barrier: Frame, first_frame: int, deltas: Sequence[Deltas]) -> Batch | None:
        """Settle one period; return its batch, or None where it changed no integers.

        Parameters
        ----------
        barrier : the frame that closes the period.
        first_frame : the period's first frame; follows the barrier before it.
        deltas : what the shards or processes report for this period, in any order.

        Raises
        ------
        SettlementError : the frame is no barrier, or frames are missing or repeated.
        ConservationError, SettlementOverflowError : as ``netting.net``; nothing may be settled after either.
        """
        if barrier.kind is not FrameKind.BARRIER:
            raise SettlementError(f"frame {barrier.number} is no barrier")
        if first_frame > barrier.number or self._next_frame not in (_ANY_FRAME, first_frame):
            raise SettlementError(
                f"frames {first_frame} to {barrier.number} do not follow what is settled: expected {self._next_frame}"
            )
        where = f"period {barrier.period} (frames {first_frame} to {barrier.number})"
        netted = net(deltas, where)
        self._next_frame = barrier.number + 1
        if self._first_unsettled == _ANY_FRAME:
            self._first_unsettled = first_frame
        if netted.shape[0] == 0:
            return None

        previous_root = self._tree.root
        self._holdings.apply(netted, where)
        accounts: list[int] = np.unique(netted["account"]).tolist()
        self._set_leaves(accounts)
        data = encode_deltas(netted)
        batch = Batch(
            number=self._next_number,
            period=barrier.period,
            first_frame=self._first_unsettled,
            last_frame=barrier.number,
            time_ns=barrier.time_ns,
            previous_root=previous_root,
            new_root=self._tree.root,
            order_commitment=barrier.content_head,
            data_hash=keccak(data),
            data_root=data_root(chunks(data)),
            delta_count=netted.shape[0],
            account_count=len(accounts),
            data=data,
        )
        self._next_number += 1
        self._first_unsettled = self._next_frame
        return batch

    def balances(self, account: int) -> dict[int, int]:
        """Return an account's settled balances: asset index to units, never 0."""
        return self._holdings.held(account, DeltaKind.ASSET)

    def positions(self, account: int) -> dict[int, int]:
        """Return an account's settled positions: instrument index to lots, never 0."""
        return self._holdings.held(account, DeltaKind.POSITION)

    def totals(self) -> dict[tuple[DeltaKind, int], int]:
        """Return each held market's exact total over all accounts, recomputed; every one of them is zero."""
        return self._holdings.totals()

    def entries(self, account: int) -> bytes:
        """Return an account's leaf entries, as the contract's ``leaf_of`` takes them."""
        return self._holdings.entries([account])[0]

    def leaf(self, account: int) -> bytes:
        """Return an account's leaf under ``root``."""
        return self._tree.leaf(account)

    def proof(self, account: int) -> list[bytes]:
        """Return the path of an account's leaf under ``root``, from the bottom up."""
        return self._tree.proof(account)

    def checkpoint(self) -> bytes:
        """Return the state as bytes, 16 a holding: versioned and checksummed, nothing in it is ever executed."""
        self._holdings.check("the state to checkpoint")
        header = _HEADER.pack(
            self._tree.depth,
            self._next_number,
            self._first_unsettled,
            self._next_frame,
            self._tree.root,
            self._holdings.keys.shape[0],
        )
        keys, amounts = self._holdings.keys.astype("<u8"), self._holdings.amounts.astype("<i8")
        return seal_envelope(_NOUN, _VERSION, b"".join((header, keys.tobytes(), amounts.tobytes())))

    @classmethod
    def restore(cls, data: bytes) -> "Settlement":
        """Return the settlement whose ``checkpoint`` this is.

        Raises
        ------
        CheckpointError : damaged, of another version, or not a state that gives the root it names.
        ConservationError : its totals are not zero.
        """
        body = open_envelope(_NOUN, _VERSION, data)
        depth, next_number, first_unsettled, next_frame, root, count = _HEADER.unpack_from(body)
        if len(body) != _HEADER.size + _HOLDING_BYTES * count:
            raise CheckpointError("settlement checkpoint does not have the length that it names")
        settlement = cls(depth)
        settlement._holdings = Holdings(
            np.frombuffer(body, dtype="<u8", count=count, offset=_HEADER.size).astype(np.uint64),
            np.frombuffer(body, dtype="<i8", count=count, offset=_HEADER.size + 8 * count).astype(np.int64),
        )
        settlement._holdings.check("the checkpoint")
        settlement._set_leaves(settlement._holdings.accounts())
        if settlement.root != root:
            raise CheckpointError("settlement checkpoint does not give the root that it names")
        settlement._next_number = next_number
        settlement._first_unsettled = first_unsettled
        settlement._next_frame = next_frame
        return settlement

    def _set_leaves(self, accounts: list[int]) -> None:
        leaves = [
            leaf_hash(account, entries)
            for account, entries in zip(accounts, self._holdings.entries(accounts), strict=True)
        ]
        self._tree.update(accounts, leaves)
