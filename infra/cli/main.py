"""The command line: one file a command, one application."""

import typer

from infra.cli.schema import schema

app = typer.Typer(
    name="tidegate",
    help="A real-time risk engine for derivatives venues that match off-chain and settle on-chain.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(schema)


@app.callback()
def tidegate() -> None:
    """Events in, an ordered ledger, margins and liquidation tiers, settlement batches and snapshots out."""


def main() -> None:
    """Run the command line."""
    app()
