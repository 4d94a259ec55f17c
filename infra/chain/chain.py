"""What a chain is to the writer: somewhere to send signed transactions, and something to look at.

1. What a chain answers to a send decides nothing. Only what it shows afterwards does: the contract's head, the
   sender's nonce and receipts, the first two read at one block.
"""

from dataclasses import dataclass
from typing import Protocol


class ChainUnavailableError(Exception):
    """The chain cannot be reached or does not get on: try again later, with the same transactions."""


class ChainRefusedError(Exception):
    """The chain did not take a transaction; whether that matters is seen at the next look."""


class ChainHaltedError(Exception):
    """The chain is not where we are: another root, a reverted batch, a nonce used elsewhere. Nothing more is sent."""


@dataclass(frozen=True, slots=True)
class Head:
    """A block: number, 32-byte hash, time in seconds since 1970 UTC."""

    number: int
    block_hash: bytes
    time_s: int


@dataclass(frozen=True, slots=True)
class Observation:
    """One block's answers: the head itself, the sender's next nonce, and what a contract call returned there."""

    head: Head
    nonce: int
    output: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction in a block. ``succeeded`` is false where it reverted."""

    tx_hash: bytes
    block: Head
    succeeded: bool
    gas_used: int


@dataclass(frozen=True, slots=True)
class Fees:
    """Wei per gas: the most that is paid in all, and the part of it for the block's builder."""

    max_fee: int
    tip: int


class Chain(Protocol):
    """A chain with the Ethereum virtual machine. Addresses are 20 bytes, hashes 32."""

    @property
    def chain_id(self) -> int:
        """The number that binds a signature to this chain."""

    def observe(self, contract: bytes, call: bytes, sender: bytes) -> Observation:
        """Return the head block with the sender's nonce and the call's output, all at that block.

        The output is empty where there is no contract. Raises ``ChainUnavailableError``.
        """

    def call(self, contract: bytes, call: bytes) -> bytes:
        """Return the output of a call at the head.

        Raises ``ChainUnavailableError``, or ``ChainRefusedError`` where the call reverts.
        """

    def send(self, raw: bytes, time_ns: int) -> None:
        """Offer a signed transaction; the same one again is no error.

        ``time_ns`` is the ledger time that it belongs to: an embedded chain makes its block time of it.
        Raises ``ChainRefusedError`` or ``ChainUnavailableError``.
        """

    def receipt(self, tx_hash: bytes) -> Receipt | None:
        """Return where a transaction was included, None where it was not (or its block is gone)."""

    def fees(self) -> Fees:
        """Return fees that get a transaction into one of the next blocks."""
