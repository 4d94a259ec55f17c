"""The state tree: a Keccak-256 Merkle tree over account leaves, dense by account number, of fixed depth.

1. A leaf is ``keccak(0x00 ‖ account ‖ entries)`` and a node ``keccak(0x01 ‖ left ‖ right)``: no leaf can pass for a
   node. ``account`` is a big-endian uint32, ``entries`` are 13 bytes each (kind uint8, market uint32, amount int64,
   big-endian), in rising order of (kind, market), none of them zero. A contract rebuilds it by tight packing.
2. An account that holds nothing has the empty leaf, 32 zero bytes, whether or not it ever held anything: the root is a
   function of what is held now, not of history. So an empty leaf proves absence.
3. The root after updates in any number of batches is the root of one update with the last leaf of each account.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from sha3 import keccak_256

DEPTH: Final = 24
# Account numbers are 32 bits.
DEPTH_MAX: Final = 32
HASH_LENGTH: Final = 32
EMPTY_LEAF: Final = bytes(HASH_LENGTH)

# One holding as it stands in a leaf.
ENTRY: Final = np.dtype([("kind", "u1"), ("market", ">u4"), ("amount", ">i8")])

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def keccak(data: bytes | memoryview) -> bytes:
    """Return Keccak-256 of ``data``, 32 bytes (Ethereum's hash, not SHA3-256)."""
    digest: bytes = keccak_256(data).digest()
    return digest


def leaf_hash(account: int, entries: bytes | memoryview) -> bytes:
    """Return the leaf of an account that holds ``entries`` (packed ``ENTRY`` rows); empty entries: the empty leaf."""
    if len(entries) == 0:
        return EMPTY_LEAF
    return keccak(b"".join((_LEAF, account.to_bytes(4), entries)))


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the parent of two nodes."""
    return keccak(b"".join((_NODE, left, right)))


def empty_roots(depth: int) -> list[bytes]:
    """Return the roots of empty subtrees of height 0 to ``depth``."""
    roots = [EMPTY_LEAF]
    for _ in range(depth):
        roots.append(node_hash(roots[-1], roots[-1]))
    return roots


def verify(*, root: bytes, account: int, leaf: bytes, path: Sequence[bytes]) -> bool:
    """Return whether ``leaf`` stands at ``account`` under ``root``.

    ``path`` holds the siblings from the leaf upwards; its length is the depth of the tree, and the caller must have
    that from elsewhere (``DEPTH``, or the contract): a shorter path would let a node pass for a leaf.
    """
    if not 0 <= account < 1 << len(path):
        return False
    node = leaf
    for height, sibling in enumerate(path):
        node = node_hash(sibling, node) if account >> height & 1 else node_hash(node, sibling)
    return node == root


class Tree:
    """The tree over all accounts. Memory is 64 bytes an account, up to the highest number ever set."""

    def __init__(self, depth: int = DEPTH) -> None:
        """Make an empty tree for ``2**depth`` accounts, depth 1 to 32."""
        if not 1 <= depth <= DEPTH_MAX:
            raise ValueError(f"depth {depth} is not between 1 and {DEPTH_MAX}")
        self.depth = depth
        self._empty = empty_roots(depth)
        # Per height, the nodes so far, an even count below the top so that every parent finds both children.
        self._levels = [bytearray() for _ in range(depth + 1)]

    @property
    def root(self) -> bytes:
        """The state root, 32 bytes."""
        return bytes(self._levels[self.depth]) or self._empty[self.depth]

    def update(self, accounts: Sequence[int], leaves: Sequence[bytes]) -> None:
        """Set the leaves of ``accounts`` (rising, each once); shared parents are hashed once.

        Raises
        ------
        ValueError : accounts do not rise strictly, or one is beyond the tree.
        """
        if not accounts:
            return
        if accounts[0] < 0 or accounts[-1] >= 1 << self.depth:
            raise ValueError(f"account {accounts[-1]} does not fit a tree of depth {self.depth}")
        if any(after <= before for before, after in pairwise(accounts)):
            raise ValueError("accounts must rise strictly")
        self._grow(accounts[-1])
        level = self._levels[0]
        for account, leaf in zip(accounts, leaves, strict=True):
            level[account * 32 : account * 32 + 32] = leaf
        nodes: Sequence[int] = accounts
        for height in range(self.depth):
            below, above = self._levels[height], self._levels[height + 1]
            parents = list(dict.fromkeys(node >> 1 for node in nodes))
            for parent in parents:
                above[parent * 32 : parent * 32 + 32] = keccak_256(
                    _NODE + below[parent * 64 : parent * 64 + 64]
                ).digest()
            nodes = parents

    def leaf(self, account: int) -> bytes:
        """Return the leaf of an account, the empty one where it holds nothing."""
        return self._node(0, account)

    def proof(self, account: int) -> list[bytes]:
        """Return the siblings of an account's leaf from the bottom up, ``depth`` of them."""
        if not 0 <= account < 1 << self.depth:
            raise ValueError(f"account {account} does not fit a tree of depth {self.depth}")
        return [self._node(height, (account >> height) ^ 1) for height in range(self.depth)]

    def _node(self, height: int, index: int) -> bytes:
        node = bytes(self._levels[height][index * 32 : index * 32 + 32])
        return node or self._empty[height]

    def _grow(self, account: int) -> None:
        for height, level in enumerate(self._levels):
            count = (account >> height) + 1
            wanted = count if height == self.depth else count + (count & 1)
            missing = wanted - len(level) // 32
            if missing > 0:
                level.extend(self._empty[height] * missing)
