"""``tidegate margin`` from outside: what it prints, and what it refuses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from infra.cli.main import app
from tests.infra.whatif.builders import a_call, a_document, a_perpetual

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


def changed(**changes: Any) -> dict[str, Any]:
    return PORTFOLIO | changes


def account(**changes: Any) -> dict[str, Any]:
    return PORTFOLIO | {"account": PORTFOLIO["account"] | changes}


@pytest.mark.parametrize(
    ("document", "options", "word"),
    [
        ("{", (), "Expecting"),
        ('{"time": "2026-03-13", "time": "2026-03-14"}', (), "'time' is written twice"),
        (changed(colour="red"), (), "colour"),
        (changed(time="soon"), (), "time"),
        (changed(market={"prices": {"BTC": 60000}}), (), "market.prices.BTC"),
        (changed(market={"prices": {"BTC": "6e4"}}), (), "exponent"),
        (changed(market={"prices": {"USDC": "0.9"}}), (), "two prices"),
        (changed(parameters={"ladder": {"watch_multiple": 99}}), (), "watch_multiple"),
        (changed(parameters={"nothing": {}}), (), "nothing"),
        (account(margin_model="nothing"), (), "nothing"),
        (account(margin_mode="wild"), (), "wild"),
        (account(balances={"XRP": "1"}), (), "XRP"),
        (account(balances={"USDC": "0.0000001"}), (), "decimals"),
        (account(positions=[{"instrument": "BTC-PERP", "quantity": "1"}]), (), "entry_price"),
        (account(positions=[a_perpetual("0.0001")]), (), "multiple"),
        (PORTFOLIO, ("--model", "nothing"), "nothing"),
        (PORTFOLIO, ("--trade", "BTC-PERP"), "write it like"),
        (PORTFOLIO, ("--trade", "ETH-PERP 1 @ 3000"), "ETH-PERP"),
        (PORTFOLIO, ("--deposit", "1000"), "write it like"),
        (PORTFOLIO, ("--deposit", "XRP 1"), "XRP"),
        (PORTFOLIO, ("--change", "absent.json"), "absent.json"),
        (PORTFOLIO, ("--params", "absent.json"), "absent.json"),
        (PORTFOLIO, ("--run", "somewhere"), "either"),
        (PORTFOLIO, ("--account", "alice"), "--run"),
        (PORTFOLIO, ("--spot-moves", "-100"), "above -100"),
        (PORTFOLIO, ("--plot", "grid.pdf"), ".png"),
    ],
)
def test_wrong_use_is_one_line(document: Any, options: tuple[str, ...], word: str, tmp_path: Path) -> None:
    """Fails where wrong input is computed with, is not named, or leaves a traceback."""
    refused = ask(tmp_path, document, *options)

    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1
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
