"""Batches, and transactions that no writer would send."""

from eth_account import Account

from flows.settlement.batch import Batch
from flows.settlement.step import Settlement
from flows.settlement.tree import keccak
from infra.chain import embedded
from infra.chain.chain import Receipt
from infra.chain.contract import contract_address, deployment
from infra.chain.embedded import EmbeddedChain
from schemas.ids import BRIDGE_NUMBER
from tests.flows.settlement.builders import barrier, rows

OPERATOR = Account.from_key(embedded._TEST_KEY)
OPERATOR_ADDRESS = bytes.fromhex(OPERATOR.address[2:])
STRANGER = Account.from_key(keccak(b"stranger"))
GENESIS_ROOT = Settlement().root


def settled(count: int) -> tuple[Settlement, list[Batch]]:
    """A settlement and its first ``count`` batches: a deposit each."""
    settlement = Settlement()
    batches = []
    for number in range(count):
        deposit = rows((8 + number, 0, 0, 1 + number), (BRIDGE_NUMBER, 0, 0, -1 - number))
        batch = settlement.step(barrier(number), number, [deposit])
        assert batch is not None
        batches.append(batch)
    return settlement, batches


def changed(batch: Batch, **fields: object) -> Batch:
    """The batch with other fields."""
    return Batch(**{name: getattr(batch, name) for name in batch.__struct_fields__} | fields)


def post(
    chain: EmbeddedChain, to: bytes | None, call: bytes, *, nonce: int, sender: Account = OPERATOR, value: int = 0
) -> Receipt:
    """Sign and include any transaction, guards aside."""
    transaction = {
        "type": 2,
        "chainId": chain.chain_id,
        "nonce": nonce,
        "gas": 3_000_000 + 60 * len(call),
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 1,
        "value": value,
        "data": call,
    }
    if to is not None:
        transaction["to"] = to
    signed = sender.sign_transaction(transaction)
    chain.send(bytes(signed.raw_transaction), 0)
    receipt = chain.receipt(bytes(signed.hash))
    assert receipt is not None
    return receipt


def deployed(chain: EmbeddedChain) -> bytes:
    """The address of a new contract on a new chain; the operator's next nonce is 1."""
    receipt = post(chain, None, deployment(genesis_root=GENESIS_ROOT, operator=OPERATOR_ADDRESS), nonce=0)
    assert receipt.succeeded
    return contract_address(OPERATOR_ADDRESS, 0)
