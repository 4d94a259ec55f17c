"""The settlement contract on a real EVM."""

from typing import Any

import pytest
from eth_abi.abi import encode

from flows.settlement.tree import DEPTH, keccak
from infra.chain.chain import ChainRefusedError
from infra.chain.compile import ARTEFACT, compiled
from infra.chain.contract import (
    CALLDATA_BYTES_MAX,
    HEAD_CALL,
    artefact,
    commitment_call,
    decode_bool,
    decode_head,
    leaf_call,
    root_call,
    submission,
)
from infra.chain.embedded import EmbeddedChain
from tests.infra.chain.builders import GENESIS_ROOT, OPERATOR_ADDRESS, STRANGER, changed, deployed, post, settled


def call_of(signature: str, types: list[str], values: list[object]) -> bytes:
    """The call of a function by its signature, independent of the code under test."""
    return keccak(signature.encode())[:4] + encode(types, values)


def head(chain: EmbeddedChain, contract: bytes) -> tuple[int, bytes]:
    """Number and root of the contract's last batch."""
    found = decode_head(chain.call(contract, HEAD_CALL))
    assert found is not None
    assert found.commitment == chain.call(contract, commitment_call(found.number))
    return found.number, found.root


def test_the_artefact_is_the_source_compiled() -> None:
    """Fails if the source was changed and not compiled, or the artefact was touched."""
    pytest.importorskip("vyper", reason="the compiler is a test dependency")

    assert ARTEFACT.read_bytes() == compiled()


def test_every_call_is_in_the_abi() -> None:
    """Fails if a function's name or arguments changed in the contract alone."""

    def kind(part: dict[str, Any]) -> str:
        if part["type"] == "tuple":
            return "(" + ",".join(kind(component) for component in part["components"]) + ")"
        return str(part["type"])

    functions = [entry for entry in artefact().abi if entry["type"] == "function"]
    selectors = {
        keccak(f"{entry['name']}({','.join(kind(part) for part in entry['inputs'])})".encode())[:4]
        for entry in functions
    }
    _, (batch,) = settled(1)

    calls = [
        submission(batch),
        submission(batch, calldata_bytes_max=0),
        commitment_call(1),
        root_call(1),
        leaf_call(number=1, account=8, leaf=bytes(32), path=[bytes(32)] * DEPTH),
        HEAD_CALL,
    ]

    assert {call[:4] for call in calls} <= selectors


def test_batches_are_taken_in_order_with_and_without_data() -> None:
    """Contract 1, 3: fails if a right batch is refused, or what is stored is not what Python commits to."""
    chain = EmbeddedChain()
    contract = deployed(chain)
    _, (first, second) = settled(2)

    receipts = [
        post(chain, contract, submission(first), nonce=1),
        post(chain, contract, submission(second, calldata_bytes_max=0), nonce=2),
    ]

    assert all(receipt.succeeded for receipt in receipts)
    assert head(chain, contract) == (2, second.new_root)
    for batch in (first, second):
        assert chain.call(contract, commitment_call(batch.number)) == batch.commitment()
        assert chain.call(contract, root_call(batch.number)) == batch.new_root
    assert chain.call(contract, root_call(0)) == GENESIS_ROOT
    assert chain.call(contract, call_of("order_commitment()", [], [])) == second.order_commitment


def test_the_event_says_whether_the_data_came_along() -> None:
    """Contract 3: fails if a reader of events would look for data in the wrong place."""
    chain = EmbeddedChain()
    contract = deployed(chain)
    _, (first, second) = settled(2)

    post(chain, contract, submission(first), nonce=1)
    post(chain, contract, submission(second, calldata_bytes_max=0), nonce=2)

    for batch, block, expected in ((first, 2, True), (second, 3, False)):
        evm = chain._chain
        (receipt,) = evm.get_canonical_block_by_number(block).get_receipts(evm.chaindb)
        (log,) = receipt.logs
        assert log.topics[1] == batch.number
        assert log.data == encode(
            ["bytes32"] * 4 + ["bool"],
            [batch.commitment(), batch.new_root, batch.order_commitment, batch.data_hash, expected],
        )


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"previous_root": GENESIS_ROOT}, id="sent twice"),
        pytest.param({"number": 3}, id="one left out"),
        pytest.param({"number": 2, "previous_root": bytes(32)}, id="on another root"),
        pytest.param({"number": 2, "previous_root": GENESIS_ROOT}, id="on an older root"),
        pytest.param({"number": 0}, id="number 0"),
    ],
)
@pytest.mark.parametrize("with_data", [True, False])
def test_anything_but_the_next_batch_on_the_root_reverts(wrong: dict[str, object], with_data: bool) -> None:
    """Contract 1: fails if a batch can be repeated, skipped or forked, by either entry point."""
    chain = EmbeddedChain()
    contract = deployed(chain)
    _, (first,) = settled(1)
    assert post(chain, contract, submission(first), nonce=1).succeeded
    batch = changed(first, **{"previous_root": first.new_root, **wrong})

    receipt = post(chain, contract, submission(batch, calldata_bytes_max=CALLDATA_BYTES_MAX * with_data), nonce=2)

    assert not receipt.succeeded
    assert head(chain, contract) == (1, first.new_root)


def test_data_with_another_hash_reverts() -> None:
    """Contract 3: fails if the chain would keep data that is not the batch's."""
    chain = EmbeddedChain()
    contract = deployed(chain)
    _, (first,) = settled(1)

    receipt = post(chain, contract, submission(changed(first, data=first.data + b"\0")), nonce=1)

    assert not receipt.succeeded


def test_the_largest_data_fits_and_larger_goes_by_hash() -> None:
    """Fails if the limits of contract and writer differ by a byte."""
    chain = EmbeddedChain()
    contract = deployed(chain)
    _, (first,) = settled(1)
    largest = b"\x01" * CALLDATA_BYTES_MAX
    fits = changed(first, data=largest, data_hash=keccak(largest))
    beyond = changed(first, data=largest + b"\x01")

    receipt = post(chain, contract, submission(fits), nonce=1)

    assert receipt.succeeded
    assert len(submission(fits)) > CALLDATA_BYTES_MAX > 1000 > len(submission(beyond))


def test_only_the_operator_submits_and_only_the_owner_names_it() -> None:
    """Contract 2: fails if a stranger can move the root, or make itself able to."""
    chain = EmbeddedChain()
    contract = deployed(chain)
    _, (first,) = settled(1)
    stranger = bytes.fromhex(STRANGER.address[2:])
    post(chain, stranger, b"", nonce=1, value=10**20)
    name_stranger = call_of("set_operator(address)", ["address"], [stranger])
    take_over = call_of("set_owner(address)", ["address"], [stranger])

    refused = [
        post(chain, contract, call, nonce=nonce, sender=STRANGER)
        for nonce, call in enumerate((submission(first), name_stranger, take_over))
    ]
    named = post(chain, contract, name_stranger, nonce=2)
    old = post(chain, contract, submission(first), nonce=3)
    new = post(chain, contract, submission(first), nonce=3, sender=STRANGER)

    assert not any(receipt.succeeded for receipt in refused)
    assert (named.succeeded, old.succeeded, new.succeeded) == (True, False, True)
    assert chain.call(contract, call_of("owner()", [], []))[-20:] == OPERATOR_ADDRESS


def test_leaves_and_absences_are_proved_on_chain() -> None:
    """Tree 1, 2 against the contract: fails if the two hash or walk differently."""
    chain = EmbeddedChain()
    contract = deployed(chain)
    settlement, (first, second) = settled(2)
    for nonce, batch in enumerate((first, second), start=1):
        post(chain, contract, submission(batch), nonce=nonce)

    def stands(number: int, account: int, leaf: bytes, path: list[bytes]) -> bool:
        return decode_bool(chain.call(contract, leaf_call(number=number, account=account, leaf=leaf, path=path)))

    for account in (2, 8, 9, 10, 2**DEPTH - 1):
        leaf, path, entries = settlement.leaf(account), settlement.proof(account), settlement.entries(account)
        leaf_there = chain.call(contract, call_of("leaf_of(uint32,bytes)", ["uint32", "bytes"], [account, entries]))
        assert leaf_there == leaf
        assert stands(2, account, leaf, path)
        assert not stands(2, account, keccak(leaf), path)
        assert not stands(2, account ^ 1, leaf, path) or settlement.leaf(account ^ 1) == leaf
        assert not stands(2, account, leaf, [*path[:-1], keccak(path[-1])])
        assert not stands(2, account + 2**DEPTH, leaf, path)
    assert not stands(1, 9, settlement.leaf(9), settlement.proof(9))
    assert not stands(3, 9, settlement.leaf(9), settlement.proof(9))
    now = call_of(
        "verify_leaf(uint32,bytes32,bytes32[24])",
        ["uint32", "bytes32", "bytes32[24]"],
        [9, settlement.leaf(9), settlement.proof(9)],
    )
    assert decode_bool(chain.call(contract, now))


def test_a_call_that_reverts_is_refused() -> None:
    """Fails if a revert would read as an empty answer."""
    chain = EmbeddedChain()
    contract = deployed(chain)

    with pytest.raises(ChainRefusedError):
        chain.call(contract, b"\x01\x02\x03\x04")
