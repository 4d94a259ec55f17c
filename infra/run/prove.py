"""Prove: what an account held at a run's last commit, under the root that is on the chain.

1. The proof stands on its own: leaf, path and root are enough for anybody with Keccak-256 and the contract.
2. It is checked here against the settlement's own root, and, where the run has a chain, by the contract.
"""

from pathlib import Path

import msgspec

from flows.market.listings import Listings
from flows.market.step import Market
from flows.risk.step import Risk
from flows.settlement.step import Settlement
from flows.settlement.tree import verify
from infra.run.directory import RunDirectory, RunDirectoryError
from infra.run.publisher import OUTBOX
from schemas.ids import SYSTEM_ACCOUNTS
from schemas.money import from_units


class UnknownAccountError(Exception):
    """The run has no account of this name."""


class AccountProof(msgspec.Struct, frozen=True, kw_only=True):
    """An account's leaf under a state root; bytes are hexadecimal.

    ``entries`` are 13 bytes a holding (kind uint8, market uint32, amount int64, big-endian), what the leaf hashes.
    ``path`` are the siblings from the leaf upwards. ``on_chain`` is the contract's answer, None without a chain.
    """

    account: str
    number: int
    batch: int
    state_root: str
    leaf: str
    entries: str
    path: list[str]
    balances: dict[str, str]
    positions: dict[str, int]
    holds: bool
    on_chain: bool | None


def prove(path: Path, account: str) -> AccountProof:
    """Return the proof of an account, system accounts included.

    Raises
    ------
    RunDirectoryError : there is no run, no commit, or a checkpoint is damaged.
    UnknownAccountError : no such account at the last commit.
    """
    directory = RunDirectory.open(path)
    commit = directory.last_commit()
    if commit is None:
        raise RunDirectoryError(f"{path} holds a run without a commit: run it again")
    stages, risk, _ = directory.read_checkpoint(commit, directory.description().shard_count)
    listings = Market.restore(Risk.market_checkpoint(risk.market)).listings
    settlement = Settlement.restore(stages["settlement"])
    number = _number(listings, account)
    leaf, siblings = settlement.leaf(number), settlement.proof(number)
    return AccountProof(
        account=account,
        number=number,
        batch=commit.batch_number,
        state_root=settlement.root.hex(),
        leaf=leaf.hex(),
        entries=settlement.entries(number).hex(),
        path=[sibling.hex() for sibling in siblings],
        balances={
            listings.assets[asset].asset: from_units(units, listings.assets[asset].decimals)
            for asset, units in settlement.balances(number).items()
        },
        positions={
            listings.instruments[instrument].instrument: lots
            for instrument, lots in settlement.positions(number).items()
        },
        holds=verify(root=settlement.root, account=number, leaf=leaf, path=siblings),
        on_chain=_ask_contract(path, commit.batch_number, number, leaf, siblings),
    )


def _number(listings: Listings, account: str) -> int:
    if account in SYSTEM_ACCOUNTS:
        return [str(name) for name in SYSTEM_ACCOUNTS].index(account)
    for opened in listings.accounts:
        if opened.account == account:
            return opened.number
    raise UnknownAccountError(
        f"no account {account!r} among {len(listings.accounts):,}; `tidegate query 'FROM accounts'` lists them"
    )


def _ask_contract(path: Path, batch: int, number: int, leaf: bytes, siblings: list[bytes]) -> bool | None:
    if not (path / OUTBOX).exists() or batch == 0:
        return None
    # Seconds of imports that a run without a chain does not need.
    from infra.chain.contract import decode_bool, leaf_call  # noqa: PLC0415
    from infra.chain.embedded import EmbeddedChain  # noqa: PLC0415
    from infra.chain.outbox import Outbox  # noqa: PLC0415

    outbox = Outbox(path / OUTBOX, durable=False)
    try:
        origin = outbox.origin()
        assert origin is not None, "a batch went through this outbox"
        chain = EmbeddedChain.replay(outbox)
        return decode_bool(
            chain.call(origin.contract, leaf_call(number=batch, account=number, leaf=leaf, path=siblings))
        )
    finally:
        outbox.close()
