"""``tidegate prove``: an account's holdings, provable against the chain."""

from pathlib import Path
from typing import Annotated

import typer

from infra.chain.chain import ChainHaltedError
from infra.cli.output import DIFFERS, WRONG_USE, fail, print_facts, print_json
from infra.run.directory import RunDirectoryError
from infra.run.prove import UnknownAccountError
from infra.run.prove import prove as prove_account
from schemas.checkpoint import CheckpointError


def prove(
    account: Annotated[str, typer.Argument(help="An account id, or house, fees, bridge.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of a run.", show_default=False)],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the proof as one JSON object to stdout.")] = False,
) -> None:
    """Prove what an account holds under the root on the chain. Exit 3 where the chain does not agree."""
    try:
        proof = prove_account(out, account)
    except (RunDirectoryError, UnknownAccountError) as error:
        fail(str(error), WRONG_USE)
    except (CheckpointError, ChainHaltedError) as error:
        fail(f"{out}: {error}")
    if as_json:
        print_json(proof)
    else:
        contract = {None: "the run has no chain", True: "agrees", False: "DOES NOT AGREE"}[proof.on_chain]
        print_facts(
            f"{proof.account} (number {proof.number}) after batch {proof.batch}",
            {
                **{f"balance {asset}": amount for asset, amount in proof.balances.items()},
                **{f"lots {instrument}": lots for instrument, lots in proof.positions.items()},
                "leaf": f"0x{proof.leaf}",
                "path": f"{len(proof.path)} hashes (--json prints them)",
                "state root": f"0x{proof.state_root}",
                "contract": contract,
            },
        )
    if not proof.holds or proof.on_chain is False:
        fail(f"{account} is not proven by the root of batch {proof.batch}", DIFFERS)
