"""Check a run's batches against its chain, from nothing but the batches and the outbox.

1. Every batch is settled again from its own deltas and must come out byte for byte: roots, hashes, counts, frames.
2. Every recorded transaction is executed again on a fresh embedded chain and must carry its batch, land in its recorded
   block, and leave the contract with the batch's number, root and commitment.
3. The first thing that differs is named; nothing is repaired.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from flows.settlement.batch import Batch, BatchError
from flows.settlement.netting import ConservationError, SettlementOverflowError
from flows.settlement.step import Settlement, SettlementError
from infra.chain.chain import ChainHaltedError, ChainRefusedError, Receipt
from infra.chain.contract import HEAD_CALL, ContractHead, decode_head
from infra.chain.embedded import EmbeddedChain
from infra.chain.outbox import Outbox, OutboxError
from schemas.ledger import Frame, FrameKind, empty_legs

Transaction = tuple[int, bytes, Receipt]
# Bytes of a value that a mismatch shows.
_SHOWN: Final = 64


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first difference: in which batch (0: the deployment), of what, and both sides as text."""

    number: int
    what: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Verification:
    """How far the check came: ``batches`` agree, and ``state_root`` is the root after them."""

    batches: int
    state_root: bytes
    mismatch: Mismatch | None


def verify(batches: Iterable[Batch], outbox: Outbox) -> Verification:
    """Return the first mismatch between batches, outbox and a fresh embedded chain, or that there is none.

    Parameters
    ----------
    batches : of the whole run, in order. What their reader raises passes through.
    """
    rerun = _Rerun(outbox)
    mismatch = None
    try:
        rerun.deploy()
        for batch in batches:
            rerun.check(batch)
        rerun.end()
    except _DiffersError as differs:
        mismatch = Mismatch(rerun.number, differs.what, _text(differs.expected), _text(differs.found))
    return Verification(rerun.agreed, rerun.root, mismatch)


class _DiffersError(Exception):
    """Ends a rerun."""

    def __init__(self, what: str, expected: object, found: object) -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.found = found


class _Rerun:
    """The settlement and the chain, made again."""

    def __init__(self, outbox: Outbox) -> None:
        self.number = 0
        self.agreed = 0
        self._settlement = Settlement()
        self.root = self._settlement.root
        self._chain = EmbeddedChain()
        self._transactions = outbox.transactions()
        origin = outbox.origin()
        self._contract = bytes(20) if origin is None else origin.contract

    def deploy(self) -> None:
        """Run the deployment; a run without batches has none."""
        transaction = self._next_transaction()
        if transaction is not None:
            self._execute(transaction, self.root, bytes(32))

    def check(self, batch: Batch) -> None:
        """Settle the next batch again and run its transaction."""
        self.number += 1
        try:
            rebuilt = self._settlement.step(_barrier(batch), batch.first_frame, [batch.deltas()])
        except (BatchError, SettlementError, ConservationError, SettlementOverflowError) as error:
            raise _DiffersError("the batch", "one that settles", error) from error
        for name in batch.__struct_fields__:
            expected, found = getattr(rebuilt, name, None), getattr(batch, name)
            if expected != found:
                raise _DiffersError(f"the batch's {name}", expected, found)
        transaction = self._next_transaction()
        if transaction is None:
            raise _DiffersError("the transaction", "one in the outbox", "none")
        self._execute(transaction, batch.new_root, batch.commitment())
        self.agreed = self.number
        self.root = batch.new_root

    def end(self) -> None:
        """See that the outbox has no batch more."""
        self.number += 1
        if self._next_transaction() is not None:
            raise _DiffersError("the batch", "one for each transaction", "none")

    def _execute(self, transaction: Transaction, root: bytes, commitment: bytes) -> None:
        _, raw, recorded = transaction
        try:
            self._chain.include(raw, recorded.block.time_s)
            head = decode_head(self._chain.call(self._contract, HEAD_CALL))
        except (ChainRefusedError, ChainHaltedError) as error:
            raise _DiffersError("the transaction", "one that runs", error) from error
        if head != ContractHead(self.number, root, commitment):
            found = "no contract" if head is None else (head.number, head.root, head.commitment)
            raise _DiffersError("the contract's number, root and commitment", (self.number, root, commitment), found)
        included = self._chain.receipt(recorded.tx_hash)
        if included != recorded:
            raise _DiffersError("the block", recorded, included)

    def _next_transaction(self) -> Transaction | None:
        try:
            return next(self._transactions, None)
        except OutboxError as error:
            raise _DiffersError("the transaction", "one in the outbox", error) from error


def _barrier(batch: Batch) -> Frame:
    """Return as much of a batch's barrier as the settlement step reads."""
    return Frame(
        number=batch.last_frame,
        kind=FrameKind.BARRIER,
        time_ns=batch.time_ns,
        period=batch.period,
        shard_count=1,
        market=[],
        legs=empty_legs(),
        references=[],
        previous_head=bytes(32),
        content_head=batch.order_commitment,
        positions=b"",
    )


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return f"0x{value[:_SHOWN].hex()}" + ("…" if len(value) > _SHOWN else "")
    if isinstance(value, tuple):
        return ", ".join(_text(part) for part in value)
    return str(value)
