"""An Ethereum chain in this process: py-evm, set up by eth-tester, in memory, one block a transaction.

1. The same transactions at the same ledger times give the same blocks, hash for hash: genesis, key and block times are
   fixed or come from the ledger, nothing from the clock.
2. It dies with the process. ``replay`` makes it again from an outbox, and refuses an outbox that does not give the
   blocks it records.

eth-tester's own interface is passed by: it looks receipts up by a scan of all blocks, and answers a tenth as fast.
"""

import sys
from pathlib import Path
from typing import Final

from eth.abc import BlockHeaderAPI
from eth.exceptions import PyEVMError
from eth_tester.backends.pyevm.main import (
    get_default_genesis_params,
    setup_tester_chain,
)
from eth_typing import Address
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException

from flows.settlement.tree import keccak
from infra.chain.chain import ChainHaltedError, ChainRefusedError, Fees, Head, Observation, Receipt
from infra.chain.contract import CALLDATA_BYTES_MAX
from infra.chain.outbox import Outbox
from infra.chain.signer import Signer
from infra.chain.writer import ChainWriter

# py-evm lifts Python's recursion limit for the whole process, for contracts that call each other a thousand deep. Ours
# calls nobody, and the limit is what stops hostile JSON from running a C parser off the end of its stack. This is the
# interpreter's own.
sys.setrecursionlimit(1_000)

# Everybody can know this key: it exists on embedded chains alone, and holds nothing anywhere else.
_TEST_KEY: Final = keccak(b"tidegate embedded chain, test key without value")
# Before any ledger time (schemas.events.TIME_NS_MIN), so that block times can follow the ledger from the first batch.
_GENESIS_TIME_S: Final = 1_230_768_000
_GAS_LIMIT: Final = 30_000_000
_BALANCE_WEI: Final = 10**30
_FEES: Final = Fees(max_fee=100_000_000_000, tip=1)
_CALL_GAS: Final = 10_000_000
_NS_A_SECOND: Final = 1_000_000_000


class EmbeddedChain:
    """The chain of one run."""

    def __init__(self) -> None:
        """Make the genesis block; the embedded signer's account is the only one with a balance."""
        # The fixed sender is funded under the eth-tester chain's own id.
        sender = Signer(_TEST_KEY, chain_id=0).address
        _, self._chain = setup_tester_chain(
            get_default_genesis_params({"timestamp": _GENESIS_TIME_S, "gas_limit": _GAS_LIMIT}),
            {Address(sender): {"balance": _BALANCE_WEI, "nonce": 0, "code": b"", "storage": {}}},
        )
        self._receipts: dict[bytes, Receipt] = {}

    @classmethod
    def replay(cls, outbox: Outbox) -> "EmbeddedChain":
        """Return the chain on which everything that the outbox records as included is included again.

        Raises
        ------
        ChainHaltedError : a transaction does not run, or lands in another block than the outbox records.
        """
        chain = cls()
        for number, raw, recorded in outbox.transactions():
            chain.include(raw, recorded.block.time_s)
            if chain.receipt(recorded.tx_hash) != recorded:
                raise ChainHaltedError(
                    f"number {number} does not land where the outbox records it when it is run again"
                )
        return chain

    def signer(self) -> Signer:
        """Return the signer of the account that the chain was made with."""
        return Signer(_TEST_KEY, self.chain_id)

    @property
    def chain_id(self) -> int:
        """eth-tester's."""
        return int(self._chain.chain_id)

    def observe(self, contract: bytes, call: bytes, sender: bytes) -> Observation:
        """Return the head, the nonce and the call's output, as ``Chain.observe``."""
        header = self._chain.get_canonical_head()
        state = self._chain.get_vm(header).state
        return Observation(_head(header), state.get_nonce(Address(sender)), self.call(contract, call))

    def call(self, contract: bytes, call: bytes) -> bytes:
        """Return the call's output at the head, as ``Chain.call``."""
        # As a bare execution, not as a transaction that costs nothing: the same answer in a third of the time.
        vm = self._chain.get_vm(self._chain.get_canonical_head())
        computation = vm.execute_bytecode(
            origin=Address(bytes(20)),
            gas_price=0,
            gas=_CALL_GAS,
            to=Address(contract),
            sender=Address(bytes(20)),
            value=0,
            data=call,
            code=vm.state.get_code(Address(contract)),
        )
        if computation.is_error:
            raise ChainRefusedError("the call reverted")
        return bytes(computation.output)

    def send(self, raw: bytes, time_ns: int) -> None:
        """Include a transaction in a block of its own, at its ledger second or one second after the last block."""
        if keccak(raw) in self._receipts:
            return
        earliest = self._chain.get_canonical_head().timestamp + 1
        self.include(raw, max(earliest, time_ns // _NS_A_SECOND))

    def receipt(self, tx_hash: bytes) -> Receipt | None:
        """Return where a transaction was included."""
        return self._receipts.get(tx_hash)

    def fees(self) -> Fees:
        """Return the same fees always: far above any base fee that this chain reaches."""
        return _FEES

    def include(self, raw: bytes, time_s: int) -> None:
        """Include a transaction in a block of its own at ``time_s``, later than the head; raise as ``send``."""
        try:
            transaction = self._chain.get_transaction_builder().decode(raw)
            self._chain.set_header_timestamp(time_s)
            result, receipts, computations = self._chain.mine_all([transaction])
        except (PyEVMError, ValidationError, RLPException) as error:
            raise ChainRefusedError(f"not a transaction for this chain: {error}") from error
        block = _head(result.imported_block.header)
        self._receipts[bytes(transaction.hash)] = Receipt(
            tx_hash=bytes(transaction.hash),
            block=block,
            succeeded=computations[0].is_success,
            gas_used=receipts[0].gas_used,
        )


def embedded_writer(
    path: Path, *, last_batch: int, genesis_root: bytes, calldata_bytes_max: int = CALLDATA_BYTES_MAX
) -> ChainWriter:
    """Return the writer of a run on its embedded chain, begun anew or taken up after its last committed batch.

    Parameters
    ----------
    path : the run's outbox.
    last_batch : the last batch that the run has committed, 0 for none. Later ones are dropped from outbox and chain:
        the run makes them again, to the same transactions and blocks.
    genesis_root, calldata_bytes_max : as ``ChainWriter``; the same at every resume.

    Raises
    ------
    ChainHaltedError : the outbox ends before ``last_batch``, or does not give the blocks that it records.
    """
    outbox = Outbox(path, durable=False)
    try:
        outbox.truncate_after(last_batch)
        chain = EmbeddedChain.replay(outbox)
        writer = ChainWriter(
            chain=chain,
            outbox=outbox,
            signer=chain.signer(),
            genesis_root=genesis_root,
            calldata_bytes_max=calldata_bytes_max,
        )
        writer.expect_included(last_batch)
    except Exception:
        outbox.abandon()
        raise
    return writer


def _head(header: BlockHeaderAPI) -> Head:
    return Head(header.block_number, bytes(header.hash), header.timestamp)
