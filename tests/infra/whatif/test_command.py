"""``tidegate margin`` from outside: what it prints, and what it refuses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from infra.cli.main import app
from tests.infra.whatif.builders import a_call, a_document, a_perpetual, said

PORTFOLIO = a_document([a_perpetual("0.5"), a_call("-0.1")], model="tidegate-portfolio")


def ask(folder: Path, document: Any, *options: str) -> Result:
    """Run the command on a portfolio."""
    file = folder / "portfolio.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return CliRunner().invoke(app, ["margin", str(file), *options])


def test_before_and_after_are_two_answers(tmp_path: Path) -> None:
    """Fails where before is not the answer without a change, or after that of the changed portfolio."""
    change = tmp_path / "change.json"
    change.write_text(
        json.dumps(
            {
                "trades": [{"instrument": "BTC-PERP", "quantity": "0.2", "price": "60100"}],
                "deposits": [{"asset": "USDC", "amount": "500"}],
            }
        )
    )
    done = a_document(
        [a_perpetual("0.5"), a_call("-0.1"), a_perpetual("0.2", "60100"), a_perpetual("-0.1", "60200")],
        model="tidegate-portfolio", balances={"USDC": "10400"},
    )  # fmt: skip

    both = ask(
        tmp_path, PORTFOLIO, "--json", "--change", str(change), "--trade", "BTC-PERP -0.1 @ 60200", "--deposit",
        "USDC -100",
    )  # fmt: skip
    before, after = ask(tmp_path, PORTFOLIO, "--json"), ask(tmp_path, done, "--json")

    answer = json.loads(both.stdout)
    assert answer["before"] == json.loads(before.stdout)["before"]
    assert answer["after"] == json.loads(after.stdout)["before"]
    assert json.loads(before.stdout)["after"] is None
    assert answer["parameters"]["tidegate-portfolio"]["maintenance_factor"] == 1.0


def test_a_move_of_the_market(tmp_path: Path) -> None:
    """Fails where a change's moves are not the grid's."""
    change = tmp_path / "change.json"
    change.write_text(json.dumps({"moves": [{"name": "BTC", "spot": "-0.1", "vol": "0.5"}]}))

    moved = json.loads(ask(tmp_path, PORTFOLIO, "--json", "--change", str(change)).stdout)["after"]
    cell = json.loads(
        ask(tmp_path, PORTFOLIO, "--json", "--grid", "--spot-moves", "-10", "--vol-moves", "50").stdout
    )["grid"]["cells"][0][0]  # fmt: skip

    assert moved["equity"] == cell["equity"]
    assert moved["maintenance_margin"] == cell["maintenance_margin"]


def test_a_person_is_shown_everything(tmp_path: Path) -> None:
    """Fails where what a person asks for is missing from the text, or the picture is not drawn."""
    picture = tmp_path / "grid.png"

    shown = ask(tmp_path, PORTFOLIO, "--trade", "BTC-PERP +0.5", "--grid", "--plot", str(picture))

    assert shown.exit_code == 0
    for word in ("before", "after", "health", "liquidation price of BTC", "step", "vega per vol", "parameters"):
        assert word in shown.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_parameters_of_a_file(tmp_path: Path) -> None:
    """Fails where sets beside the portfolio do not come last."""
    sets = tmp_path / "sets.json"
    sets.write_text(json.dumps({"collateral": {"haircuts": {"USDC": 0.5}}}))

    answer = json.loads(ask(tmp_path, a_document(), "--json", "--params", str(sets)).stdout)

    assert answer["before"]["equity"] == 5_000.0
    assert answer["parameters"]["collateral"]["haircuts"] == {"USDC": 0.5, "BTC": 0.1}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--model", "nothing"), "nothing"),
        (("--trade", "BTC-PERP"), "write it like"),
        (("--trade", "ETH-PERP 1 @ 3000"), "ETH-PERP"),
        (("--deposit", "1000"), "write it like"),
        (("--deposit", "XRP 1"), "XRP"),
        (("--change", "absent.json"), "absent.json"),
        (("--params", "absent.json"), "absent.json"),
        (("--run", "somewhere"), "either"),
        (("--account", "alice"), "--run"),
        (("--spot-moves", "-100"), "above -100"),
        (("--plot", "grid.pdf"), ".png"),
        (("--trade", "BTC-PERP nan"), "write it like"),
        (("--trade", "BTC-PERP 1 @ -5"), "price -5 is negative"),
        (("--trade", "BTC-PERP 9000000000000"), "64 bits"),
        (("--deposit", "USDC 9223372036854"), "64 bits"),
        (("--vol-moves", "nan"), "above -100"),
    ],
)
def test_wrong_use_is_one_line(options: tuple[str, ...], word: str, tmp_path: Path) -> None:
    """Fails where wrong input is computed with, is not named, or leaves a traceback."""
    refused = ask(tmp_path, PORTFOLIO, *options)

    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert said(refused.stderr).count("\n") == 1
    assert word in refused.stderr


def test_the_document_is_right(tmp_path: Path) -> None:
    """Fails where the portfolio or the change of docs/what-if.md is refused, or has other numbers than it says."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "what-if.md").read_text()
    portfolio, change = re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    file = tmp_path / "change.json"
    file.write_text(change)

    answer = json.loads(ask(tmp_path, portfolio, "--json", "--change", str(file)).stdout)

    (prices,) = answer["before"]["liquidation_prices"]
    for number in (answer["before"]["health"], prices["below"], prices["above"]):
        assert f"{number:,.2f}" in text
    assert answer["after"] is not None
