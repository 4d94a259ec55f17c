"""The command line: one file a command, one group.

1. A command's module is imported when the command is called or its own help is asked for, never for the list of all:
   some of them take a second to load numba, pyarrow, DuckDB and polars.
2. ``COMMANDS`` says of each command what the first line of its function says.
"""

from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

# Name: (where its function is, what it does), in the order of the list.
COMMANDS: Final = {
    "demo": (
        "infra.cli.demo:demo",
        "Run everything on a generated crash day: about a minute, no network. All data is synthetic.",
    ),
    "replay": (
        "infra.cli.replay:replay",
        "Replay event logs: ledger, margins and tiers, settlement batches, snapshots. Resumes where it was stopped.",
    ),
    "verify": (
        "infra.cli.verify:verify",
        "Re-run a recorded run from its ledger: results, batches, chain and snapshot files. Exit 3 on a difference.",
    ),
    "query": (
        "infra.cli.query:query",
        "Run one read-only SELECT over the snapshots of a run, in a locked-down DuckDB.",
    ),
    "check": (
        "infra.cli.query:check",
        "Run every check of ``sql/checks`` over the snapshots of a run; exit 1 where one finds offending rows.",
    ),
    "prove": (
        "infra.cli.prove:prove",
        "Prove what an account holds under the root on the chain. Exit 3 where the chain does not agree.",
    ),
    "plot": (
        "infra.cli.plot:plot",
        "Draw a run: prices, and how many accounts stand in each tier.",
    ),
    "report": (
        "infra.cli.report:report",
        "Compare the tiers and equity of a run with the liquidations that the venue recorded, account by account.",
    ),
    "conformance": (
        "infra.cli.conformance:conformance",
        "Hold margin models to published numbers, step by step. Exit 3 on a difference.",
    ),
    "margin": (
        "infra.cli.margin:margin",
        "Margin of one account, of a file or a recorded run: what it is made of, and what a change would make of it.",
    ),
    "topics": (
        "infra.cli.topics:topics",
        "Create the topics of a live venue, and say where they drifted: `plan` exits 3, and changes nothing.",
    ),
    "broker": (
        "infra.cli.broker:broker",
        "Run one Kafka broker on this machine, until Ctrl-C. Fetches Kafka once; needs Java 17.",
    ),
    "schema": (
        "infra.cli.schema:schema",
        "Print the JSON Schema of public events or parameter sets.",
    ),
    "import": (
        "infra.cli.import_command:import_",
        "Turn public data into an event log that `tidegate replay` reads.",
    ),
}


class DeferredCommand(TyperCommand):
    """A command that is known by name and purpose; whatever is asked of it beyond them is asked of the real one."""

    def __init__(self, name: str, place: str, purpose: str) -> None:
        super().__init__(name, help=purpose)
        self._place = place

    def load(self) -> Any:
        """Import the command's module and return the command."""
        module, function = self._place.split(":")
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(self.name)(getattr(import_module(module), function))
        return typer.main.get_command(alone)

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """Return the real command's context: what is parsed, shown and run from here on is its own."""
        return self.load().make_context(*arguments, **settings)


class CommandGroup(TyperGroup):
    """The group of all of ``COMMANDS``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: DeferredCommand(name, place, purpose) for name, (place, purpose) in COMMANDS.items()}


app = typer.Typer(
    name="tidegate",
    cls=CommandGroup,
    help="A real-time risk engine for derivatives venues that match off-chain and settle on-chain.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
# With a callback of its own an application is a group, whatever is registered with it.
app.callback()(lambda: None)


def main() -> None:
    """Run the command line."""
    app()
