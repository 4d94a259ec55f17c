"""The settlement batch: what goes on the chain for one stretch of periods, and what anyone can prove from it.

1. Batch numbers count up by one from 1, each batch's ``previous_root`` is the root before it, and the frame ranges of
   successive batches adjoin: every frame is in exactly one batch.
2. ``data`` has exactly one encoding: the same deltas give the same bytes, and decoding refuses any other bytes.
3. ``data`` is a row of chunks of ``CHUNK_DELTAS`` deltas (the last may be shorter), each at most 4 KiB and readable by
   itself; ``data_root`` is the Keccak-256 Merkle root over them. So any account's deltas can be opened later from
   one or two chunks, and so can the fact that it has none.
4. ``commitment`` is the EIP-712 struct hash of every field; the contract recomputes it from what it stores, and a
   quorum can sign it as it is.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from flows.settlement.netting import deltas_of
from flows.settlement.tree import EMPTY_LEAF, HASH_LENGTH, keccak, node_hash
from schemas.results import Deltas

UInt64Array = npt.NDArray[np.uint64]
UInt8Array = npt.NDArray[np.uint8]

# A delta takes at most 5 + 5 + 10 bytes, so 200 of them stay below 4 KiB whatever they are.
CHUNK_DELTAS: Final = 200
CHUNK_BYTES_MAX: Final = CHUNK_DELTAS * 20
_VARINT_LENGTH_MAX: Final = 10
# A varint's bytes have this bit set but for the last.
_MORE: Final = 0x80
_VARINTS_A_DELTA: Final = 3
# A chunk's leaf has a prefix of its own (a state leaf has 0x00, a node 0x01): no hash can pass for another kind.
_CHUNK: Final = b"\x02"

BATCH_TYPE: Final = (
    "Batch(uint64 number,uint64 period,uint64 first_frame,uint64 last_frame,uint64 time_ns,bytes32 previous_root,"
    "bytes32 new_root,bytes32 order_commitment,bytes32 data_hash,bytes32 data_root,uint32 delta_count,"
    "uint32 account_count)"
)
BATCH_TYPE_HASH: Final = keccak(BATCH_TYPE.encode())


class BatchError(Exception):
    """A batch, its data or a proof is not what a settlement step writes."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One settlement batch.

    ``first_frame`` to ``last_frame`` (a barrier) are the frames it settles, ``period`` the last period among them,
    ``time_ns`` the ledger time of the barrier, ``order_commitment`` its content head. ``account_count`` counts the
    accounts with a delta in this batch.
    """

    number: int
    period: int
    first_frame: int
    last_frame: int
    time_ns: int
    previous_root: bytes
    new_root: bytes
    order_commitment: bytes
    data_hash: bytes
    data_root: bytes
    delta_count: int
    account_count: int
    data: bytes

    def words(self) -> tuple[int | bytes, ...]:
        """Return the committed fields in the order of ``BATCH_TYPE``: what the contract takes."""
        return (
            self.number,
            self.period,
            self.first_frame,
            self.last_frame,
            self.time_ns,
            self.previous_root,
            self.new_root,
            self.order_commitment,
            self.data_hash,
            self.data_root,
            self.delta_count,
            self.account_count,
        )

    def commitment(self) -> bytes:
        """Return the 32 bytes that stand for the whole batch, ``data`` included through its hash."""
        words = (word if isinstance(word, bytes) else word.to_bytes(HASH_LENGTH) for word in self.words())
        return keccak(b"".join((BATCH_TYPE_HASH, *words)))

    def deltas(self) -> Deltas:
        """Return the batch's deltas; raise ``BatchError`` where data, counts and hashes do not agree."""
        if keccak(self.data) != self.data_hash:
            raise BatchError(f"batch {self.number}: the data does not have the hash that the batch names")
        deltas = decode_deltas(self.data)
        if data_root(chunks(self.data)) != self.data_root:
            raise BatchError(f"batch {self.number}: the chunks do not have the root that the batch names")
        counted = (deltas.shape[0], int(np.unique(deltas["account"]).shape[0]))
        if counted != (self.delta_count, self.account_count):
            raise BatchError(f"batch {self.number}: {counted} deltas and accounts are not what the batch names")
        return deltas


class DeltaProof(msgspec.Struct, frozen=True, kw_only=True):
    """Opens one account's deltas: a run of chunks from ``first_chunk``, each with its path to the data root.

    The run reaches past the account on both sides (or to an end of the data), which shows that nothing is left out.
    """

    account: int
    first_chunk: int
    chunks: list[bytes]
    paths: list[list[bytes]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Batch)


def encode_batch(batch: Batch) -> bytes:
    """Return the batch as MessagePack."""
    return _encoder.encode(batch)


def decode_batch(data: bytes) -> Batch:
    """Return the batch; raise ``BatchError`` for anything that is not one. Its deltas are checked by ``deltas``."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise BatchError(f"not a batch: {error}") from error


def encode_deltas(deltas: Deltas) -> bytes:
    """Return canonical deltas as varints.

    Each delta is three unsigned LEB128 numbers: the account less the one before it in the chunk (in full at the start
    of a chunk); the market times two plus the kind; the amount in zigzag.
    """
    count = deltas.shape[0]
    accounts = deltas["account"].astype(np.uint64)
    gaps = accounts.copy()
    gaps[1:] -= accounts[:-1]
    gaps[::CHUNK_DELTAS] = accounts[::CHUNK_DELTAS]
    amounts = deltas["amount"]
    words = np.empty((count, _VARINTS_A_DELTA), dtype=np.uint64)
    words[:, 0] = gaps
    words[:, 1] = deltas["market"].astype(np.uint64) * np.uint64(2) + deltas["kind"]
    words[:, 2] = ((amounts << np.int64(1)) ^ (amounts >> np.int64(63))).view(np.uint64)
    return _encode_varints(words.ravel()).tobytes()


def decode_deltas(data: bytes) -> Deltas:
    """Return the deltas of ``encode_deltas``; raise ``BatchError`` for bytes that it would not have written."""
    words = _decode_varints(np.frombuffer(data, dtype=np.uint8))
    if words.shape[0] % _VARINTS_A_DELTA:
        raise BatchError("delta data ends inside a delta")
    words = words.reshape(-1, _VARINTS_A_DELTA)
    accounts = words[:, 0].copy()
    for start in range(0, accounts.shape[0], CHUNK_DELTAS):
        np.cumsum(accounts[start : start + CHUNK_DELTAS], out=accounts[start : start + CHUNK_DELTAS])
    kinds, markets = words[:, 1] & np.uint64(1), words[:, 1] >> np.uint64(1)
    if (accounts >> np.uint64(32)).any() or (markets >> np.uint64(31)).any():
        raise BatchError("delta data names an account or a market out of range")
    amounts = (words[:, 2] >> np.uint64(1)).view(np.int64) ^ -((words[:, 2] & np.uint64(1)).view(np.int64))
    keys = (accounts << np.uint64(32)) | (kinds << np.uint64(31)) | markets
    deltas = deltas_of(keys, amounts)
    # One comparison refuses every other spelling: padded varints, disorder, repeats and zeros do not survive it.
    if (keys[1:] <= keys[:-1]).any() or (amounts == 0).any() or encode_deltas(deltas) != data:
        raise BatchError("delta data is not in canonical form")
    return deltas


def chunks(data: bytes) -> list[bytes]:
    """Return delta data cut into its chunks."""
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) < _MORE) + 1
    cuts = [0, *ends[CHUNK_DELTAS * _VARINTS_A_DELTA - 1 :: CHUNK_DELTAS * _VARINTS_A_DELTA].tolist()]
    if cuts[-1] != len(data):
        cuts.append(len(data))
    return [data[start:end] for start, end in pairwise(cuts)]


def data_root(parts: Sequence[bytes]) -> bytes:
    """Return the Merkle root over chunks; the row of leaves is filled up with empty ones to a power of two."""
    return _data_levels(parts)[-1][0]


def prove_delta(batch: Batch, account: int) -> DeltaProof:
    """Return a proof of the account's deltas in the batch, or of their absence."""
    parts = chunks(batch.data)
    accounts = decode_deltas(batch.data)["account"]
    first = int(np.searchsorted(accounts, account)) - 1
    last = int(np.searchsorted(accounts, account, side="right"))
    run = range(max(first, 0) // CHUNK_DELTAS, min(last, accounts.shape[0] - 1) // CHUNK_DELTAS + 1)
    levels = _data_levels(parts)
    return DeltaProof(
        account=account,
        first_chunk=run.start,
        chunks=[parts[index] for index in run],
        paths=[[level[(index >> height) ^ 1] for height, level in enumerate(levels[:-1])] for index in run],
    )


def verify_delta(*, data_root: bytes, delta_count: int, proof: DeltaProof) -> Deltas | None:
    """Return the account's deltas (none: an empty array), or None where the proof does not hold.

    Parameters
    ----------
    data_root, delta_count : as the batch commits to them.
    """
    chunk_count = -(-delta_count // CHUNK_DELTAS)
    height = (chunk_count - 1).bit_length()
    end = proof.first_chunk + len(proof.chunks)
    if not proof.chunks or len(proof.paths) != len(proof.chunks) or proof.first_chunk < 0 or end > chunk_count:
        return None
    for index, chunk, path in zip(range(proof.first_chunk, end), proof.chunks, proof.paths, strict=True):
        if len(path) != height or not _stands(_chunk_hash(chunk), index, path, data_root):
            return None
    try:
        opened = [decode_deltas(chunk) for chunk in proof.chunks]
    except BatchError:
        return None
    rows = np.concatenate(opened)
    if rows.shape[0] == 0:
        return None
    reaches_below = proof.first_chunk == 0 or int(rows["account"][0]) < proof.account
    reaches_above = end == chunk_count or int(rows["account"][-1]) > proof.account
    return rows[rows["account"] == proof.account] if reaches_below and reaches_above else None


def _stands(node: bytes, index: int, path: Sequence[bytes], root: bytes) -> bool:
    for height, sibling in enumerate(path):
        node = node_hash(sibling, node) if index >> height & 1 else node_hash(node, sibling)
    return node == root


def _chunk_hash(chunk: bytes) -> bytes:
    return keccak(_CHUNK + chunk)


def _data_levels(parts: Sequence[bytes]) -> list[list[bytes]]:
    leaves = [_chunk_hash(part) for part in parts]
    levels = [leaves + [EMPTY_LEAF] * ((1 << max(len(leaves) - 1, 0).bit_length()) - len(leaves))]
    while len(levels[-1]) > 1:
        levels.append(list(_parents(levels[-1])))
    return levels


def _parents(nodes: Sequence[bytes]) -> Iterator[bytes]:
    for left, right in zip(nodes[::2], nodes[1::2], strict=True):
        yield node_hash(left, right)


def _encode_varints(words: UInt64Array) -> UInt8Array:
    """Return unsigned LEB128 of each word, one after the other."""
    lengths = np.ones(words.shape[0], dtype=np.int64)
    for index in range(1, _VARINT_LENGTH_MAX):
        lengths += words >> np.uint64(7 * index) > 0
    starts = np.cumsum(lengths) - lengths
    data = np.empty(int(lengths.sum()), dtype=np.uint8)
    for index in range(int(lengths.max(initial=0))):
        longer = lengths > index
        piece = (words[longer] >> np.uint64(7 * index)) & np.uint64(0x7F)
        data[starts[longer] + index] = piece | ((lengths[longer] > index + 1).astype(np.uint64) << np.uint64(7))
    return data


def _decode_varints(data: UInt8Array) -> UInt64Array:
    """Return the words of unsigned LEB128 bytes; bits beyond 64 are dropped, which the canonical check then sees."""
    ends = np.flatnonzero(data < _MORE)
    if data.shape[0] and (ends.shape[0] == 0 or int(ends[-1]) != data.shape[0] - 1):
        raise BatchError("delta data ends inside a number")
    starts = np.concatenate((np.zeros(1, dtype=np.int64), ends[:-1] + 1))[: ends.shape[0]]
    lengths = ends - starts + 1
    if int(lengths.max(initial=0)) > _VARINT_LENGTH_MAX:
        raise BatchError("delta data has a number of more than ten bytes")
    words = np.zeros(ends.shape[0], dtype=np.uint64)
    for index in range(int(lengths.max(initial=0))):
        longer = lengths > index
        piece = data[starts[longer] + index].astype(np.uint64) & np.uint64(0x7F)
        words[longer] |= piece << np.uint64(7 * index)
    return words
