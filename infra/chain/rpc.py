"""An Ethereum node behind JSON-RPC, such as anvil or geth.

1. What belongs together is read at one block, by its hash: a reorganisation in between is an error, not a mixture.
2. A node that cannot be reached, or answers with anything but a result, is unavailable: asked again later.
"""

from typing import Any, Final, cast

import requests
from web3 import HTTPProvider
from web3.types import RPCEndpoint

from infra.chain.chain import ChainRefusedError, ChainUnavailableError, Fees, Head, Observation, Receipt

_SUCCEEDED: Final = 1
# How nodes say that they have a transaction already.
_KNOWN: Final = ("already known", "already imported", "already exists")
# Twice the base fee lasts for at least six full blocks.
_BASE_FEES: Final = 2
# A block with the hashes of its transactions, not with all of them.
_HASHES_ONLY: Final = False


class _NodeError(Exception):
    """What a node answers instead of a result."""


class RpcChain:
    """A node's chain."""

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        """Connect to ``url``, http or https."""
        if not url.startswith(("http://", "https://")):
            raise ValueError("a node's address begins with http:// or https://")
        self._provider = HTTPProvider(url, request_kwargs={"timeout": timeout_s}, exception_retry_configuration=None)
        self._chain_id = _number(self._ask("eth_chainId"))

    @property
    def chain_id(self) -> int:
        """The node's."""
        return self._chain_id

    def observe(self, contract: bytes, call: bytes, sender: bytes) -> Observation:
        """Return the head block's answers, as ``Chain.observe``."""
        head = _head(self._ask("eth_getBlockByNumber", "latest", _HASHES_ONLY))
        at = {"blockHash": _hex(head.block_hash)}
        nonce = _number(self._ask("eth_getTransactionCount", _hex(sender), at))
        return Observation(head, nonce, _bytes(self._ask("eth_call", {"to": _hex(contract), "data": _hex(call)}, at)))

    def call(self, contract: bytes, call: bytes) -> bytes:
        """Return the call's output at the head, as ``Chain.call``."""
        try:
            return _bytes(self._ask_or_fail("eth_call", {"to": _hex(contract), "data": _hex(call)}, "latest"))
        except _NodeError as error:
            raise ChainRefusedError(str(error)) from error

    def send(self, raw: bytes, time_ns: int) -> None:  # noqa: ARG002 - a real chain has its own time
        """Offer a transaction, as ``Chain.send``."""
        try:
            self._ask_or_fail("eth_sendRawTransaction", _hex(raw))
        except _NodeError as error:
            if not any(words in str(error).lower() for words in _KNOWN):
                raise ChainRefusedError(str(error)) from error

    def receipt(self, tx_hash: bytes) -> Receipt | None:
        """Return where a transaction was included, as ``Chain.receipt``."""
        answer = self._ask("eth_getTransactionReceipt", _hex(tx_hash))
        if answer is None:
            return None
        block = self._ask("eth_getBlockByHash", answer["blockHash"], _HASHES_ONLY)
        if block is None:
            return None
        return Receipt(
            tx_hash=tx_hash,
            block=_head(block),
            succeeded=_number(answer["status"]) == _SUCCEEDED,
            gas_used=_number(answer["gasUsed"]),
        )

    def fees(self) -> Fees:
        """Return the node's tip, and twice the base fee besides."""
        base_fee = _number(self._ask("eth_getBlockByNumber", "latest", _HASHES_ONLY)["baseFeePerGas"])
        tip = _number(self._ask("eth_maxPriorityFeePerGas"))
        return Fees(max_fee=_BASE_FEES * base_fee + tip, tip=tip)

    def _ask(self, method: str, *parameters: Any) -> Any:
        try:
            return self._ask_or_fail(method, *parameters)
        except _NodeError as error:
            raise ChainUnavailableError(f"{method}: {error}") from error

    def _ask_or_fail(self, method: str, *parameters: Any) -> Any:
        try:
            answer = self._provider.make_request(RPCEndpoint(method), list(parameters))
        # ValueError: the answer is no JSON.
        except (requests.RequestException, ValueError) as error:
            # The address may hold a key of the node's keeper: the message does not go on.
            raise ChainUnavailableError(f"{method}: {type(error).__name__}") from None
        if "error" in answer:
            failure = cast("dict[str, Any] | str", answer["error"])
            raise _NodeError(failure if isinstance(failure, str) else str(failure.get("message", failure)))
        return answer.get("result")


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _number(text: str) -> int:
    return int(text, 16)


def _head(block: dict[str, str]) -> Head:
    return Head(_number(block["number"]), _bytes(block["hash"]), _number(block["timestamp"]))
