"""The group of commands: what its list says, and what the list costs."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from infra.cli.main import COMMANDS, DeferredCommand, app

# Each of these takes a tenth of a second or more to load.
SLOW = ["bytewax", "duckdb", "matplotlib", "numba", "numpy", "polars", "pyarrow", "scipy", "web3"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_a_command_says_of_itself(name: str) -> None:
    """Fails where a purpose in the list and the first line of the command's own help have parted."""
    place, purpose = COMMANDS[name]

    own = DeferredCommand(name, place, purpose).load()

    assert (own.name, own.help.splitlines()[0]) == (name, purpose)


def test_the_list_loads_nothing_slow() -> None:
    """Fails where the list imports what only a command needs: everyone who asks for help waits for it."""
    code = f"import sys, infra.cli.main; print([name for name in {SLOW} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "[]"


def test_the_list_names_every_command() -> None:
    """Fails where a command is missing from the list, or asking for it is an error."""
    listed = CliRunner().invoke(app, ["--help"])

    assert listed.exit_code == 0
    assert all(f" {name} " in listed.stdout for name in COMMANDS)


def test_a_command_answers_as_itself() -> None:
    """Fails where a deferred command loses the options, help or result of the real one."""
    shown = CliRunner().invoke(app, ["schema", "--help"])
    answered = CliRunner().invoke(app, ["schema", "--names"])
    refused = CliRunner().invoke(app, ["schema", "nothing"])

    assert "--parameters" in shown.stdout
    assert "fill.busted" in answered.stdout.split()
    assert refused.exit_code == 2
