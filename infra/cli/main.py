"""The command line: one file a command, one application."""

import typer

from infra.cli.demo import demo
from infra.cli.import_command import import_
from infra.cli.query import check, query
from infra.cli.replay import replay
from infra.cli.schema import schema
from infra.cli.verify import verify

app = typer.Typer(
    name="tidegate",
    help="A real-time risk engine for derivatives venues that match off-chain and settle on-chain.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (demo, replay, verify, query, check, schema):
    app.command()(command)
app.command("import")(import_)


def main() -> None:
    """Run the command line."""
    app()
