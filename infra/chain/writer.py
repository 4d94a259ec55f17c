"""The chain writer: every batch onto the chain exactly once, in order, whatever crashes.

1. A signed transaction is in the outbox before the chain gets it.
2. The nonce of a batch comes from the chain: its next nonce, plus how many batches stand between. The contract's head
   and the nonce are read at one block.
3. Number n has nonce ``first_nonce + n``, n = 0 being the deployment. If the chain says otherwise, a transaction of
   ours reverted or somebody else has the key: halt.
4. The chain's root and commitment of its last batch are the outbox's: anything else halts. So does a batch there that
   no transaction of the outbox brought; a known hash that succeeded is what was signed, field for field.
5. What a send answers decides nothing; the next look does. A batch may be sent any number of times, for the contract
   takes it once.
6. Data goes out under its own hash or not at all.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from flows.settlement.batch import Batch
from flows.settlement.tree import HASH_LENGTH, keccak
from infra.chain.chain import (
    Chain,
    ChainHaltedError,
    ChainRefusedError,
    ChainUnavailableError,
    Fees,
    Observation,
    Receipt,
)
from infra.chain.contract import (
    CALLDATA_BYTES_MAX,
    HEAD_CALL,
    ContractHead,
    contract_address,
    decode_head,
    deployment,
    submission,
)
from infra.chain.outbox import DEPLOYMENT, Entry, Origin, Outbox, OutboxError, Sent
from infra.chain.signer import Signer

# Ten gas for a zero byte and forty for another is what a transaction costs at least (EIP-7623); the rest is for what
# the contract does, with room to spare. Unused gas costs nothing.
_GAS_A_BYTE: Final = 50
_GAS_OF_A_SUBMISSION: Final = 300_000
_GAS_OF_A_DEPLOYMENT: Final = 2_000_000
# Nodes take a replacement from +10 % on both fees.
_BUMP_NUMERATOR, _BUMP_DENOMINATOR = 9, 8


@dataclass(slots=True)
class ChainWriter:
    """Writes one run's batches.

    Parameters
    ----------
    chain, outbox, signer : where to, what, and as whom. The account may do nothing else.
    genesis_root : the root of the empty state tree; a new outbox makes a contract with it.
    calldata_bytes_max : larger data goes by its hash alone.
    window : how many batches may be under way at once.
    patience_s : how long a transaction may stay out before it is replaced by one with higher fees.
    clock, sleep : seconds; for waiting alone, nothing that is written depends on them.
    """

    chain: Chain
    outbox: Outbox
    signer: Signer
    genesis_root: bytes
    calldata_bytes_max: int = CALLDATA_BYTES_MAX
    window: int = 1
    patience_s: float = 30.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _origin: Origin = field(init=False)
    # When each transaction was first offered by this process.
    _offered_s: dict[bytes, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Take up the outbox, or begin it with the deployment.

        Raises
        ------
        ChainHaltedError : the outbox is for another chain, key or genesis.
        """
        origin = self.outbox.origin()
        if origin is None:
            nonce = self.chain.observe(bytes(20), b"", self.signer.address).nonce
            origin = Origin(
                self.chain.chain_id, contract_address(self.signer.address, nonce), self.signer.address, nonce
            )
            self.outbox.set_origin(origin)
        if (origin.chain_id, origin.sender) != (self.chain.chain_id, self.signer.address):
            raise ChainHaltedError(
                f"the outbox is for chain {origin.chain_id} and sender 0x{origin.sender.hex()}, "
                f"not for chain {self.chain.chain_id} and {self.signer!r}"
            )
        self._origin = origin
        call = deployment(genesis_root=self.genesis_root, operator=self.signer.address)
        self._add(Entry(DEPLOYMENT, bytes(HASH_LENGTH), self.genesis_root, 0, call))

    @property
    def contract(self) -> bytes:
        """The contract's address, 20 bytes."""
        return self._origin.contract

    def expect_included(self, number: int) -> None:
        """Raise ``ChainHaltedError`` where the outbox ends before a batch that the run has committed."""
        if number > DEPLOYMENT and self.outbox.last_included() < number:
            raise ChainHaltedError(f"the run has batch {number}, and its outbox ends at {self.outbox.last_included()}")

    def submit(self, batch: Batch, timeout_s: float = 600.0) -> Receipt:
        """Put a batch on the chain and return where it is; at once if it is there already.

        Raises
        ------
        ChainHaltedError : see the invariants; nothing may be written any more.
        ChainUnavailableError : not included within ``timeout_s``. It stays in the outbox: submit again, or ``advance``.
        """
        self.enqueue(batch)
        return self._wait(batch.number, timeout_s)

    def enqueue(self, batch: Batch) -> None:
        """Keep a batch for the chain without waiting; ``advance`` sends it.

        Raises
        ------
        ChainHaltedError : another batch of this number was written before, or one is left out.
        """
        if keccak(batch.data) != batch.data_hash:
            raise ChainHaltedError(f"batch {batch.number} comes with data that is not its own")
        call = submission(batch, calldata_bytes_max=self.calldata_bytes_max)
        self._add(Entry(batch.number, batch.commitment(), batch.new_root, batch.time_ns, call))

    def advance(self) -> int:
        """Look at the chain once, note what it included, send what is due; return the last included number.

        -1 is returned as long as the contract is not there. Raises as ``submit``.
        """
        seen = self.chain.observe(self.contract, HEAD_CALL, self.signer.address)
        head = decode_head(seen.output)
        last = -1 if head is None else head.number
        self._check(seen, head, last)
        self._note_included(last)
        due = range(last + 1, min(last + self.window, self.outbox.last_number()) + 1)
        for ahead, number in enumerate(due):
            # Batches go out once the contract is there: before, their pre-flight would say nothing.
            if number > DEPLOYMENT and head is None:
                break
            self._offer(number, seen.nonce + ahead)
        return last

    def _wait(self, number: int, timeout_s: float) -> Receipt:
        deadline = self.clock() + timeout_s
        pause_s = 0.0
        while True:
            try:
                self.advance()
            except ChainUnavailableError:
                if self.clock() >= deadline:
                    raise
            receipt = self.outbox.included(number)
            if receipt is not None:
                return receipt
            if self.clock() >= deadline:
                raise ChainUnavailableError(f"batch {number} is not on the chain after {timeout_s:g} s")
            # The embedded chain includes at once and is looked at again at once; a real one is given time.
            self.sleep(pause_s)
            pause_s = min(1.0, pause_s * 2 + 0.01)

    def _check(self, seen: Observation, head: ContractHead | None, last: int) -> None:
        if head is not None:
            entry = self.outbox.entry(last)
            if entry is None:
                raise ChainHaltedError(
                    f"the chain has batch {last}, and the outbox ends at {self.outbox.last_number()}"
                )
            if (entry.new_root, entry.commitment) != (head.root, head.commitment):
                raise ChainHaltedError(
                    f"after batch {last} the chain's root is 0x{head.root.hex()}, ours 0x{entry.new_root.hex()} "
                    f"(commitments 0x{head.commitment.hex()} and 0x{entry.commitment.hex()})"
                )
        expected = self._origin.first_nonce + last + 1
        if seen.nonce != expected:
            for sent in self.outbox.sent(last + 1):
                receipt = self.chain.receipt(sent.tx_hash)
                if receipt is not None and not receipt.succeeded:
                    raise ChainHaltedError(f"batch {last + 1} reverted in transaction 0x{sent.tx_hash.hex()}")
            raise ChainHaltedError(
                f"{self.signer!r} is at nonce {seen.nonce} and not {expected}: its key was used elsewhere"
            )

    def _note_included(self, last: int) -> None:
        noted = self.outbox.last_included()
        if noted > last:
            # A reorganisation took blocks back; their transactions stay valid and are offered again.
            self.outbox.forget_included_after(last)
        for number in range(noted + 1, last + 1):
            found = (self.chain.receipt(sent.tx_hash) for sent in self.outbox.sent(number))
            receipt = next((receipt for receipt in found if receipt is not None), None)
            if receipt is None:
                raise ChainHaltedError(
                    f"number {number} is on the chain by a transaction that the outbox does not know"
                )
            self.outbox.set_included(number, receipt)
            for sent in self.outbox.sent(number):
                self._offered_s.pop(sent.tx_hash, None)

    def _offer(self, number: int, nonce: int) -> None:
        """Send a number: the transaction that there is, or a new one where there is none or its time is up."""
        entry = self.outbox.entry(number)
        assert entry is not None, "numbers have no gap"
        attempts = [sent for sent in self.outbox.sent(number) if sent.nonce == nonce]
        latest = attempts[-1] if attempts else None
        now_s = self.clock()
        if latest is None or now_s - self._offered_s.setdefault(latest.tx_hash, now_s) > self.patience_s:
            latest = self._sign(entry, nonce, None if latest is None else latest.fees)
            self._offered_s[latest.tx_hash] = now_s
        try:
            self.chain.send(latest.raw, entry.time_ns)
        except ChainRefusedError:
            # Known already, too cheap now, or overtaken: the next look tells which, and patience mends it.
            return

    def _sign(self, entry: Entry, nonce: int, replaced: Fees | None) -> Sent:
        assert entry.call is not None, "what is not included can be signed"
        fees = self.chain.fees()
        if replaced is not None:
            fees = Fees(max_fee=max(fees.max_fee, _bumped(replaced.max_fee)), tip=max(fees.tip, _bumped(replaced.tip)))
        gas = _GAS_A_BYTE * len(entry.call) + (
            _GAS_OF_A_DEPLOYMENT if entry.number == DEPLOYMENT else _GAS_OF_A_SUBMISSION
        )
        to = None if entry.number == DEPLOYMENT else self.contract
        signed = self.signer.sign(to=to, call=entry.call, nonce=nonce, gas=gas, fees=fees)
        sent = Sent(signed.tx_hash, entry.number, nonce, fees, signed.raw)
        self.outbox.add_sent(sent)
        return sent

    def _add(self, entry: Entry) -> None:
        try:
            self.outbox.add(entry)
        except OutboxError as error:
            raise ChainHaltedError(str(error)) from error


def _bumped(wei: int) -> int:
    """Return ``wei`` raised by an eighth, rounded up, and by one at least."""
    return max(wei + 1, -(-wei * _BUMP_NUMERATOR // _BUMP_DENOMINATOR))
