"""Bad portfolios, as people write them: each gets one line that says where and what, exit 2, and no number."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from infra.cli.main import app
from tests.infra.whatif.builders import EXPIRY, a_call, a_document, a_perpetual, said

LATER = "2026-06-26T08:00Z"
PORTFOLIO = a_document([a_perpetual("0.5"), a_call("-0.1")], model="tidegate-portfolio")


def with_(place: str, value: Any) -> dict[str, Any]:
    """Return the portfolio with one place changed: keys and numbers joined by dots."""
    changed = json.loads(json.dumps(PORTFOLIO))
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    at = changed
    for part in path:
        at = at[part]
    at[last] = value
    return dict(changed)


def smile(points: dict[str, str], expiry: str = EXPIRY) -> dict[str, Any]:
    """Return a smile of quoted points."""
    return {
        "underlying": "BTC", "expiry": expiry,
        "points": [{"strike": strike, "implied_vol": vol} for strike, vol in points.items()],
    }  # fmt: skip


def svi(expiry: str = EXPIRY, **changes: str) -> dict[str, Any]:
    """Return a smile of a fit."""
    fit = {"a": "0.005", "b": "0.02", "rho": "-0.3", "m": "0", "sigma": "0.1", "forward": "60000"}
    return {"underlying": "BTC", "expiry": expiry, "svi": {**fit, "time_to_expiry": "0.0393", **changes}}


def two_expiries(*smiles: dict[str, Any]) -> dict[str, Any]:
    """Return the portfolio with a second expiry of its call, and smiles."""
    later = PORTFOLIO["instruments"][1] | {"instrument": "BTC-LATER-C", "expiry": LATER}
    return with_("market.smiles", list(smiles)) | {"instruments": [*PORTFOLIO["instruments"], later]}


def ask(folder: Path, document: Any, *options: str) -> Result:
    """Run the command on a portfolio; bytes and text stand as they are."""
    file = folder / "portfolio.json"
    raw = document if isinstance(document, bytes | str) else json.dumps(document)
    file.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return CliRunner().invoke(app, ["margin", str(file), "--json", *options])


TEXT = json.dumps(PORTFOLIO)
NINES = "9" * 30
MODELS = "deribit-pm, deribit-standard,"
SETS = "collateral, deribit-pm,"
MORE = " and more"
THAN = "costs more than those at 60000, vol 0.5, and 72000, vol 0.5, allow (butterfly)"
FALLS = "market.smiles.1: crossed: total variance"

# What is written, and the line: FILE stands for the file's name, and MORE for the rest of a list that grows.
CASES: list[tuple[str, Any, str]] = [
    # -- files that are no portfolio
    ("unreadable", "{", "FILE: no JSON: line 1, column 2: expecting property name enclosed in double quotes"),
    ("empty", "", "FILE: the file is empty"),
    ("bytes", b"\xff\xfe{", "FILE: no UTF-8 text, from byte 0 on"),
    ("a list", "[]", "FILE: write an object {…}"),
    ("deep", "[" * 100_000, "FILE: arrays and objects nest deeper than 64"),
    ("long integer", TEXT.replace('"60000"', "1" + "0" * 5_000, 1), f"FILE: an integer of 5001 digits: {10**39}…"),
    ("a key twice", TEXT.replace("{", '{"time": "2026-03-13",', 1), "FILE: key 'time' is written twice"),
    ("an empty object", {}, "FILE: time: it is missing"),
    ("unknown key", with_("colour", "red"), "FILE: colour: no such key"),
    ("unknown key within", with_("account.colour", "red"), "FILE: account.colour: no such key"),
    # -- wrong types and numbers
    ("NaN", TEXT.replace('"60000"', "NaN", 1), "FILE: NaN is no number in JSON"),
    ("infinity", TEXT.replace('"60000"', "-Infinity", 1), "FILE: -Infinity is no number in JSON"),
    ("NaN as text", with_("market.prices.BTC", "NaN"), "FILE: market.prices.BTC: amount is not a number: 'NaN'"),
    ("a number", with_("market.prices.BTC", 60000), 'FILE: market.prices.BTC: write it in quotes, like "1.5"'),
    ("an exponent", with_("market.prices.BTC", "6e4"),
     "FILE: market.prices.BTC: write amounts without an exponent: '6e4'"),
    ("no number", with_("account.positions.0.quantity", "lots"),
     "FILE: account.positions.0.quantity: amount is not a decimal string: 'lots'"),
    ("no list", with_("account.positions", {}), "FILE: account.positions: write a list […]"),
    ("null", with_("account", None), "FILE: account: write an object {…}"),
    ("huge price", with_("market.prices.BTC", NINES),
     f"FILE: market.prices.BTC: amount has too many digits: '{NINES}'"),
    ("huge balance", with_("account.balances.USDC", NINES),
     f"FILE: account.balances.USDC: amount has too many digits: '{NINES}'"),
    ("huge quantity", with_("account.positions.0.quantity", "9000000000000000"),
     "account.positions.0: amount does not fit 64 bits: -4500000000000000000000"),
    ("huge sum", with_("account.balances.USDC", "9223372036854"), "more is held than 64 bits can count"),
    ("small change", with_("account.balances.USDC", "0.0000001"),
     "account.balances.USDC: '0.0000001' has more than 6 decimals"),
    # -- prices
    ("negative price", with_("market.prices.BTC", "-60000"), "market.prices.BTC: price -60000 is not positive"),
    ("price of nothing", with_("assets.0.price", "0"), "assets.0.price: price 0 is not positive"),
    ("negative mark", with_("market.marks", {"BTC-PERP": "-5"}), "market.marks.BTC-PERP: price -5 is not positive"),
    ("negative entry price", with_("account.positions.0.entry_price", "-3"),
     "account.positions.0: entry_price -3 is not positive"),
    ("two prices", with_("market.prices.USDC", "0.9"), "FILE: USDC has two prices, 1 and 0.9"),
    ("no price", with_("market.prices", {}), "BTC-PERP cannot be valued: no usable price of BTC; so are 1 others"),
    ("no price of an asset", with_("assets.0.price", None),
     "no usable price of USDC: what is held cannot be valued"),
    ("price of a stranger", with_("market.prices.XRP", "1"),
     "market.prices.XRP: neither an asset nor the underlying of an instrument"),
    ("price of the numeraire", with_("assets", [*PORTFOLIO["assets"], {"asset": "USD", "price": "2"}]),
     "assets.2.price: prices are in USD, so its own is 1"),
    ("confidence of nothing", with_("market.confidences", {"ETH": "1"}),
     "market.confidences.ETH: no price that it could be of"),
    ("rate of a stranger", with_("market.rates", {"XRP": "0.1"}), "market.rates.XRP: no instrument is quoted in it"),
    ("forward of no expiry", with_("market.forwards", [{"underlying": "BTC", "expiry": LATER, "forward": "1"}]),
     f"market.forwards.0: nothing on BTC expires at {LATER}"),
    ("haircut", with_("assets.0.haircut", "1.5"), "FILE: assets.0.haircut: a haircut is 0 to 1: 0.1 is ten percent"),
    # -- smiles
    ("no smile", with_("market.smiles", []), f"BTC-70000-C cannot be valued: no smile of BTC for {EXPIRY}"),
    ("negative vol", with_("market.smiles", [smile({"70000": "-0.5"})]),
     "market.smiles.0: implied_vol -0.5 is not positive"),
    ("strikes that fall", with_("market.smiles", [smile({"70000": "0.5", "60000": "0.6"})]),
     "market.smiles.0: strikes do not rise"),
    ("svi and points", with_("market.smiles", [svi() | smile({"70000": "0.5"})]),
     "market.smiles.0: a smile is either svi or points"),
    ("two smiles", with_("market.smiles", [smile({"70000": "0.5"}), smile({"70000": "0.6"})]),
     f"market.smiles.1: another one of BTC for {EXPIRY}"),
    ("a smile of no expiry", with_("market.smiles", [smile({"70000": "0.5"}, LATER)]),
     f"market.smiles.0: nothing on BTC expires at {LATER}"),
    ("calls that rise", with_("market.smiles", [smile({"60000": "0.3", "70000": "1.5", "80000": "0.3"})]),
     "market.smiles.0: crossed: a call at 70000, vol 1.5, costs more than one at 60000"),
    ("puts that fall", with_("market.smiles", [smile({"50000": "1.5", "60000": "0.2"})]),
     "market.smiles.0: crossed: calls at 50000 and 60000 differ by more than their strikes"),
    ("butterfly", with_("market.smiles", [smile({"60000": "0.5", "66000": "0.8", "72000": "0.5"})]),
     f"market.smiles.0: crossed: a call at 66000, vol 0.8, {THAN}"),
    ("butterfly of a fit", with_("market.smiles", [svi(b="0.3", rho="0", sigma="0.01", a="0")]),
     "market.smiles.0: crossed: calls at 54883.7 and 55630.5 differ by more than their strikes"),
    ("calendar", two_expiries(smile({"60000": "0.6", "70000": "0.9"}), smile({"60000": "0.4", "70000": "0.3"}, LATER)),
     f"{FALLS} at 70000 falls from 0.03181 at the expiry of {EXPIRY} to 0.02597 (calendar)"),
    ("calendar of fits", two_expiries(svi(a="0.05"), svi(LATER, time_to_expiry="0.2886")),
     f"{FALLS} at 46666.7 falls from 0.05687 at the expiry of {EXPIRY} to 0.01192 (calendar)"),
    # -- what is listed and held
    ("unknown instrument", with_("account.positions.0.instrument", "ETH-PERP"),
     "account.positions.0: instrument ETH-PERP is not listed"),
    ("expired option", with_("instruments.1.expiry", "2026-03-12T08:00Z"),
     "instruments.1: BTC-70000-C expired at 2026-03-12T08:00Z; it is 2026-03-13T00:00Z"),
    ("orders in a stranger", with_("account.open_orders", [{"instrument": "ETH-PERP", "buys": "1"}]),
     "account.open_orders.0: instrument ETH-PERP is not listed"),
    ("orders off lot", with_("account.open_orders", [{"instrument": "BTC-PERP", "sells": "0.0001"}]),
     "account.open_orders.0: 0.0001 is not a multiple of 0.001"),
    ("negative orders", with_("account.open_orders", [{"instrument": "BTC-PERP", "sells": "-1"}]),
     "account.open_orders.0: open orders of -1 are negative"),
    ("duplicate orders", with_("account.open_orders", [{"instrument": "BTC-PERP", "buys": "1"}] * 2),
     "account.open_orders.1: BTC-PERP stands before: write what is left of all its orders"),
    ("duplicate position", with_("account.positions", [a_perpetual("1"), a_perpetual("1")]),
     "account.positions.1: BTC-PERP stands here as it stands before: write their sum"),
    ("nothing of it", with_("account.positions", [a_perpetual("0")]),
     "account.positions.0: quantity 0 is not positive"),
    ("off the lot", with_("account.positions", [a_perpetual("0.0001")]),
     "account.positions.0: 0.0001 is not a multiple of 0.001"),
    ("no entry price", with_("account.positions", [{"instrument": "BTC-PERP", "quantity": "1"}]),
     "account.positions.0: BTC-PERP needs an entry_price"),
    ("listed twice", with_("instruments", PORTFOLIO["instruments"] + PORTFOLIO["instruments"][:1]),
     "instruments.2: instrument BTC-PERP is listed already"),
    ("no such kind", with_("instruments.0.kind", "swap"),
     "instruments.0: kind swap is none of option, future, perpetual, spot"),
    ("no strike", with_("instruments.1.strike", None), "instruments.1: an instrument of kind option needs strike"),
    ("no lot", with_("instruments.0.lot_size", "0"), "instruments.0: lot_size 0 is not positive"),
    ("no expiry", with_("instruments.1.expiry", "27MAR26"),
     "FILE: instruments.1.expiry: write a moment like 2026-02-05T08:00Z"),
    ("unlisted asset", with_("assets", PORTFOLIO["assets"][1:]), "instruments.0: asset USDC is not listed"),
    ("unknown balance", with_("account.balances.XRP", "1"), "account.balances.XRP: no such asset; there are USDC, BTC"),
    # -- who and when
    ("time", with_("time", "yesterday"), "FILE: time: write a moment like 2026-02-05T08:00Z"),
    ("the year 1", with_("time", "0001-01-01"), "FILE: time: 0001-01-01 is not between 2009 and 2100"),
    ("mode", with_("account.margin_mode", "wild"), "account: margin_mode wild is none of cross, isolated"),
    ("house", with_("account.account", "house"), "account: house is a system account"),
    # -- models and parameters
    ("unknown model", with_("account.margin_model", "spam"),
     f"no margin model 'spam' is installed; there are {MODELS}{MORE}"),
    ("beyond its model", with_("account.margin_model", "dydx-v4"), "margin model dydx-v4 does not cover what is held"),
    ("unknown set", with_("parameters", {"nothing": {}}),
     f"parameters: no parameter set 'nothing'; there are {SETS}{MORE}"),
    ("unknown parameter", with_("parameters", {"ladder": {"colour": 1}}),
     "parameters: ladder: colour: no such parameter; there are watch_multiple, takeover_multiple"),
    ("out of range", with_("parameters", {"ladder": {"watch_multiple": 99}}),
     "parameters: ladder: watch_multiple: Input should be less than or equal to 10"),
    ("no set", with_("parameters", {"ladder": [1]}), "FILE: parameters.ladder: write an object {…}"),
    ("no haircuts", with_("parameters", {"collateral": {"haircuts": [1]}}),
     "parameters: collateral: haircuts: write an object {…}"),
    ("at odds", with_("parameters", {"tidegate-portfolio": {"initial_factor": 0.5}}),
     "parameters: tidegate-portfolio: initial_factor must be at least maintenance_factor"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "line"), [it[1:] for it in CASES], ids=[it[0] for it in CASES])
def test_a_bad_portfolio_gets_one_line(document: Any, line: str, tmp_path: Path) -> None:
    """Fails where it is computed with, leaves a traceback, or is told in other words than these."""
    refused = ask(tmp_path, document)

    line_said = said(refused.stderr).replace(str(tmp_path / "portfolio.json"), "FILE")
    assert (refused.exit_code, refused.stdout) == (2, "")
    if line.endswith(MORE):
        assert line_said.startswith(f"tidegate: {line.removesuffix(MORE)}")
        assert line_said.count("\n") == 1
    else:
        assert line_said == f"tidegate: {line}\n"


@pytest.mark.parametrize(
    "document",
    [
        with_("account.positions", []),
        a_document() | {"instruments": [], "market": {}},
        with_("account", {"margin_model": "tidegate-portfolio"}),
    ],
    ids=["no positions", "nothing listed", "nothing at all"],
)
def test_an_empty_portfolio_needs_nothing(document: dict[str, Any], tmp_path: Path) -> None:
    """An account that holds nothing is no mistake: it has no requirement, under any model."""
    answer = json.loads(ask(tmp_path, document).stdout)["before"]

    assert (answer["initial_margin"], answer["maintenance_margin"]) == (0.0, 0.0)
    assert answer["health"] == answer["equity"]


DEEP = ("3914.11", "7184.34", "10204.15", "14550.32", "19253.05", "19704.04")


@pytest.mark.parametrize(
    "smiles",
    [
        two_expiries(smile({"60000": "0.6", "70000": "0.65"}), smile({"60000": "0.6", "70000": "0.62"}, LATER)),
        two_expiries(svi(), svi(LATER, a="0.05", b="0.1", time_to_expiry="0.2886")),
        two_expiries(smile({"70000": "0.6"}), smile({"65000": "0.5", "75000": "0.2"}, LATER)),
        with_("market.smiles", [smile({"59900": "0.6", "60000": "0.6005", "60100": "0.6"})]),
        with_("market", {"prices": {"BTC": "60123.37"}, "smiles": [smile(dict.fromkeys(DEEP, "0.6"))]}),
    ],
    ids=["points", "fits", "one point", "rounded", "far away"],
)
def test_a_smile_that_is_not_crossed_is_taken(smiles: dict[str, Any], tmp_path: Path) -> None:
    """A control: refusing whatever has a skew, falls in vol over time, or is rounded would be no check."""
    assert ask(tmp_path, smiles).exit_code == 0
