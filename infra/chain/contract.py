"""The settlement contract as bytes: what to send to it, and what its answers mean."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec
import rlp
from eth_abi.abi import decode, encode

from flows.settlement.batch import BATCH_TYPE, Batch
from flows.settlement.tree import keccak

# What the contract takes as data; a larger batch goes by its hash alone.
CALLDATA_BYTES_MAX: Final = 102_400

_BATCH: Final = "(" + ",".join(field.split(" ")[0] for field in BATCH_TYPE[len("Batch(") : -1].split(",")) + ")"


def _selector(signature: str) -> bytes:
    return keccak(signature.encode())[:4]


_SUBMIT: Final = _selector(f"submit({_BATCH})")
_SUBMIT_WITH_DATA: Final = _selector(f"submit_with_data({_BATCH},bytes)")
_BATCH_COMMITMENT: Final = _selector("batch_commitment(uint64)")
_ROOT_OF: Final = _selector("root_of(uint64)")
_VERIFY_LEAF_AT: Final = _selector("verify_leaf_at(uint64,uint32,bytes32,bytes32[24])")
HEAD_CALL: Final = _selector("head()")
# How every call that posts a batch begins.
SUBMISSIONS: Final = (_SUBMIT, _SUBMIT_WITH_DATA)


class Artefact(msgspec.Struct, frozen=True, kw_only=True):
    """The compiled contract as it is kept beside its source, so that running needs no compiler.

    ``source_hash`` is Keccak-256 of the source, hexadecimal like ``bytecode``.
    """

    compiler: str
    source_hash: str
    abi: list[dict[str, Any]]
    bytecode: str


@dataclass(frozen=True, slots=True)
class ContractHead:
    """Number, root and commitment of the contract's last batch; number 0 is the state before the first."""

    number: int
    root: bytes
    commitment: bytes


@cache
def artefact() -> Artefact:
    """Return the compiled contract."""
    return msgspec.json.decode(files("infra.chain.contracts").joinpath("Settlement.json").read_bytes(), type=Artefact)


def deployment(*, genesis_root: bytes, operator: bytes) -> bytes:
    """Return the data of the transaction that makes the contract; its sender becomes the owner."""
    return bytes.fromhex(artefact().bytecode) + encode(["bytes32", "address"], [genesis_root, operator])


def submission(batch: Batch, *, calldata_bytes_max: int = CALLDATA_BYTES_MAX) -> bytes:
    """Return the call that posts a batch, with its data where that is not larger than ``calldata_bytes_max``."""
    words = batch.words()
    if len(batch.data) <= min(calldata_bytes_max, CALLDATA_BYTES_MAX):
        return _SUBMIT_WITH_DATA + encode([_BATCH, "bytes"], [words, batch.data])
    return _SUBMIT + encode([_BATCH], [words])


def decode_head(output: bytes) -> ContractHead | None:
    """Return the answer to ``HEAD_CALL``, None where there is no contract."""
    if not output:
        return None
    return ContractHead(*decode(["uint64", "bytes32", "bytes32"], output))


def commitment_call(number: int) -> bytes:
    """Return the call for a batch's commitment, 32 bytes, zero where there is no such batch."""
    return _BATCH_COMMITMENT + encode(["uint64"], [number])


def root_call(number: int) -> bytes:
    """Return the call for the root after a batch, 32 bytes."""
    return _ROOT_OF + encode(["uint64"], [number])


def leaf_call(*, number: int, account: int, leaf: bytes, path: list[bytes]) -> bytes:
    """Return the call that asks whether ``leaf`` stood at ``account`` after batch ``number``."""
    return _VERIFY_LEAF_AT + encode(["uint64", "uint32", "bytes32", "bytes32[24]"], [number, account, leaf, path])


def decode_bool(output: bytes) -> bool:
    """Return the answer to ``leaf_call``."""
    (answer,) = decode(["bool"], output)
    return bool(answer)


def contract_address(sender: bytes, nonce: int) -> bytes:
    """Return where the contract lands that ``sender`` makes in its transaction number ``nonce``."""
    return keccak(rlp.encode([sender, nonce]))[-20:]
