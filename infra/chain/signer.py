"""The operator's key, and the only thing it does: sign transactions to make or feed one settlement contract.

1. The key is in no repr, no pickle and no error of ours.
2. It signs nothing but the two submissions and the deployment: a payload swapped on the way here is refused.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from eth_account import Account

from infra.chain.chain import Fees
from infra.chain.contract import SUBMISSIONS, artefact

_OTHERS: Final = 0o077


class SignerError(Exception):
    """The key cannot be used, or was asked to sign what it does not sign."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed transaction and its hash."""

    raw: bytes
    tx_hash: bytes


class Signer:
    """Signs for one address on one chain."""

    def __init__(self, key: bytes, chain_id: int) -> None:
        """Take a 32-byte private key."""
        # Set first, so that a repr in a traceback finds it whatever goes wrong below.
        self.address = b""
        self._chain_id = chain_id
        try:
            self._account = Account.from_key(key)
        except Exception:  # noqa: BLE001 - whatever the library says may quote the key
            # Tracebacks can show locals: the key must not be one of them.
            del key
            raise SignerError("not a private key") from None
        self.address = bytes.fromhex(self._account.address[2:])

    @classmethod
    def from_file(cls, path: Path, chain_id: int) -> "Signer":
        """Return the signer of a hexadecimal key in a file that nobody else may read."""
        if path.stat().st_mode & _OTHERS:
            raise SignerError(f"{path} can be read by others: chmod 600 it")
        text = path.read_text(encoding="ascii").strip().removeprefix("0x")
        try:
            return cls(bytes.fromhex(text), chain_id)
        except ValueError:
            del text
            raise SignerError(f"{path} does not hold a hexadecimal private key") from None

    def __repr__(self) -> str:
        """Show the address alone."""
        return f"Signer(0x{self.address.hex()})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        raise SignerError("a signer does not leave its process")

    def sign(self, *, to: bytes | None, call: bytes, nonce: int, gas: int, fees: Fees) -> Signed:
        """Return the signed transaction (EIP-1559); ``to`` None makes the contract.

        Raises
        ------
        SignerError : ``call`` is neither the deployment of our contract nor a submission to it.
        """
        allowed = (bytes.fromhex(artefact().bytecode),) if to is None else SUBMISSIONS
        if not call.startswith(allowed):
            raise SignerError("asked to sign something else than a submission")
        transaction = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": nonce,
            "gas": gas,
            "maxFeePerGas": fees.max_fee,
            "maxPriorityFeePerGas": fees.tip,
            "value": 0,
            "data": call,
        }
        if to is not None:
            # The library wants a checksummed or binary address.
            transaction["to"] = to
        try:
            signed = self._account.sign_transaction(transaction)
        except Exception as error:  # noqa: BLE001 - the library's frames hold the key where they can be shown
            raise SignerError(f"the transaction cannot be signed: {type(error).__name__}") from None
        return Signed(bytes(signed.raw_transaction), bytes(signed.hash))
