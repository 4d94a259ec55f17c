"""``tidegate margin``: one account's margin, what it is made of, and what a change would make of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from infra.cli.arguments import moment_ns, moment_text
from infra.cli.output import WRONG_USE, console, errors, fail, note, print_facts, print_json

if TYPE_CHECKING:
    from infra.whatif.figures import Figures
    from infra.whatif.grid import Grid
    from infra.whatif.liquidation import LiquidationPrices
    from infra.whatif.scene import Scene

_SPOT_MOVES: Final = "-30,-20,-10,-5,0,5,10,20,30"
_VOL_MOVES: Final = "-25,0,25,50"
_MOVE_MIN: Final = -100.0
# Parameter sets that every number depends on, beside the margin model's own.
_SETS: Final = ("collateral", "ladder", "oracle")


def margin(
    portfolio: Annotated[
        Path | None, typer.Argument(metavar="PORTFOLIO.json", help="The account and its market.", show_default=False)
    ] = None,
    *,
    run: Annotated[
        Path | None, typer.Option("--run", help="Take the account from a recorded run instead.", show_default=False)
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", help="Which account of the run.", show_default=False)
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="At which moment of the run (UTC); else at its end.", show_default=False)
    ] = None,
    frame: Annotated[
        int | None, typer.Option("--frame", min=0, help="Behind which frame of the run.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Judge by this margin model.", show_default=False)
    ] = None,
    params: Annotated[
        Path | None, typer.Option("--params", help="JSON file {name: {…}}: parameter sets to use.", show_default=False)
    ] = None,
    change: Annotated[
        Path | None, typer.Option("--change", metavar="CHANGE.json", help="Trades, deposits, moves, parameters.")
    ] = None,
    trade: Annotated[
        list[str] | None, typer.Option("--trade", help='Like "BTC-PERP +0.5 @ 60000"; may be repeated.')
    ] = None,
    deposit: Annotated[
        list[str] | None, typer.Option("--deposit", help='Like "USDC 1000", negative to withdraw; may be repeated.')
    ] = None,
    with_grid: Annotated[bool, typer.Option("--grid", help="Show health by spot and vol moves.")] = False,
    spot_moves: Annotated[str, typer.Option("--spot-moves", help="Rows of the grid, in percent.")] = _SPOT_MOVES,
    vol_moves: Annotated[str, typer.Option("--vol-moves", help="Columns of the grid, in percent.")] = _VOL_MOVES,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw the grid.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Margin of one account, of a file or a recorded run: what it is made of, and what a change would make of it.

    The files are described in docs/what-if.md.
    """
    _check_use(portfolio, run, account, at, frame, plot)
    rows, columns = _moves("--spot-moves", spot_moves), _moves("--vol-moves", vol_moves)
    at_ns = None if at is None else moment_ns("--at", at)
    # The margin models load numba, which a wrong argument should not cost.
    from flows.risk.book import BookOverflow
    from infra.files.documents import DocumentError
    from infra.run.directory import RunDirectoryError
    from infra.run.kernels import prepared_kernels
    from infra.whatif.scene import WhatIfError
    from schemas.failures import Refused
    from schemas.ledger import LedgerError

    try:
        with prepared_kernels(note):
            scene = _scene(portfolio, run, account, at_ns=at_ns, frame=frame, model=model, params=params)
            after = _changed(scene, change, trade or [], deposit or [])
            _answer(scene, after, grid_moves=(rows, columns) if with_grid or plot else None, plot=plot, as_json=as_json)
    except (DocumentError, WhatIfError, RunDirectoryError) as error:
        fail(str(error), WRONG_USE)
    except Refused as refused:
        fail(refused.message, WRONG_USE)
    except BookOverflow:
        fail("more is held than 64 bits can count", WRONG_USE)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.strerror else str(error))
    except (LedgerError, ValueError) as error:
        fail(str(error))


def _check_use(
    portfolio: Path | None, run: Path | None, account: str | None, at: str | None, frame: int | None, plot: Path | None
) -> None:
    if (portfolio is None) == (run is None):
        fail("name either a PORTFOLIO.json, or a run with --run DIR --account NAME", WRONG_USE)
    if run is not None and account is None:
        fail("--run needs --account: which account of the run?", WRONG_USE)
    if run is None and (account is not None or at is not None or frame is not None):
        fail("--account, --at and --frame belong to --run", WRONG_USE)
    if at is not None and frame is not None:
        fail("--at and --frame both say when: give one", WRONG_USE)
    if plot is not None and plot.suffix.lower() != ".png":
        fail(f"--plot {plot}: name a .png file", WRONG_USE)


def _moves(flag: str, text: str) -> list[float]:
    """Return percentages such as ``-10,0,10`` as ratios; exit 2 if they are none."""
    try:
        percents = [float(part) for part in text.split(",")]
    except ValueError:
        percents = []
    if not percents or not all(_MOVE_MIN < percent < float("inf") for percent in percents):
        fail(f"{flag} {text}: write percentages above -100 like -20,-10,0,10,20", WRONG_USE)
    return [percent / 100.0 for percent in percents]


def _scene(
    portfolio: Path | None,
    run: Path | None,
    account: str | None,
    *,
    at_ns: int | None,
    frame: int | None,
    model: str | None,
    params: Path | None,
) -> "Scene":
    from flows.margin.registry import margin_models
    from infra.files.documents import read_parameters
    from infra.whatif.document import Portfolio, read_document
    from infra.whatif.portfolio import portfolio_scene
    from infra.whatif.recorded import recorded_scene

    models = margin_models()
    parameters = None if params is None else read_parameters(params)
    if portfolio is not None:
        return portfolio_scene(read_document(portfolio, Portfolio), models, model=model, parameters=parameters)
    assert run is not None, "checked with the arguments"
    assert account is not None, "checked with the arguments"
    return recorded_scene(run, account, models, at_ns=at_ns, frame=frame, model=model, parameters=parameters)


def _changed(scene: "Scene", change: Path | None, trades: list[str], deposits: list[str]) -> "Scene | None":
    from infra.whatif.document import Change, read_document
    from infra.whatif.scene import Deposit, Trade

    if change is None and not trades and not deposits:
        return None
    told = Change() if change is None else read_document(change, Change)
    first, second, moves = told.parts()
    return scene.with_parameters(told.parameters).changed(
        [*first, *(Trade.of(text) for text in trades)], [*second, *(Deposit.of(text) for text in deposits)], moves
    )


def _answer(
    before: "Scene",
    after: "Scene | None",
    *,
    grid_moves: tuple[list[float], list[float]] | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    from infra.whatif.figures import figures
    from infra.whatif.grid import grid, plot_grid
    from infra.whatif.liquidation import liquidation_prices

    scenes = {"before": before} if after is None else {"before": before, "after": after}
    found = {name: figures(scene) for name, scene in scenes.items()}
    prices = {name: liquidation_prices(scene) for name, scene in scenes.items()}
    last = before if after is None else after
    drawn = None if grid_moves is None else grid(last, *grid_moves)
    if as_json:
        print_json(_plain(before, after, found, prices, drawn))
    else:
        _show(before, last, found, prices)
        if drawn is not None:
            _show_grid(drawn, last)
    if plot is not None and drawn is not None:
        title = f"{last.account.account}, {last.model.name}"
        plot_grid(drawn, str(plot), title=title, numeraire=last.market.numeraire)
        errors.print(f"wrote {plot}", markup=False)


def _plain(
    scene: "Scene",
    after: "Scene | None",
    found: "dict[str, Figures]",
    prices: "dict[str, list[LiquidationPrices]]",
    drawn: "Grid | None",
) -> dict[str, Any]:
    plain = {
        name: {**msgspec.to_builtins(it), "liquidation_prices": msgspec.to_builtins(prices[name])}
        for name, it in found.items()
    }
    return {
        "account": scene.account.account,
        "margin_model": scene.model.name,
        "margin_mode": scene.account.margin_mode.value,
        "numeraire": scene.market.numeraire,
        "time_ns": scene.market.time_ns,
        "frame": scene.frame,
        "before": plain["before"],
        "after": plain.get("after"),
        "grid": None if drawn is None else msgspec.to_builtins(drawn),
        "parameters": _parameters(scene),
        "parameters_after": None if after is None else _parameters(after),
    }


def _parameters(scene: "Scene") -> dict[str, Any]:
    """Return the parameter sets that the numbers depend on, every field written out."""
    sets = {name: scene.market.parameters(name) for name in (scene.model.name, *_SETS)}
    return {name: None if it is None else it.model_dump(mode="json") for name, it in sets.items()}


def _show(
    scene: "Scene", last_scene: "Scene", found: "dict[str, Figures]", prices: "dict[str, list[LiquidationPrices]]"
) -> None:
    numeraire = scene.market.numeraire
    where = moment_text(scene.market.time_ns) + ("" if scene.frame is None else f", frame {scene.frame:,}")
    title = f"{escape(scene.account.account)} at {where}: {scene.model.name}, {scene.account.margin_mode.value}"
    if len(found) == 1:
        print_facts(title, _facts(found["before"], prices["before"], numeraire))
    else:
        _show_change(
            title, {name: _facts(it, prices[name], numeraire) for name, it in found.items()},
        )  # fmt: skip
    last = list(found.values())[-1]
    suffix = ", after" if len(found) > 1 else ""
    _show_assets(last, suffix)
    _show_positions(last, suffix)
    _show_open_orders(last, suffix)
    _show_parts(last, suffix)
    _show_scenarios(last, suffix)
    _show_greeks(last, suffix)
    console.print()
    sets = ", ".join(f"{name} {_short(it)}" for name, it in _parameters(last_scene).items())
    console.print(f"parameters{suffix}: {sets}", style="dim", soft_wrap=True, markup=False)


def _short(parameters: Any) -> str:
    """Return a parameter set in one line, long lists by their length."""
    if parameters is None:
        return "of its version"
    shown = {
        name: f"[{len(value)}]" if isinstance(value, list | dict) and len(msgspec.json.encode(value)) > len("x" * 60)
        else value
        for name, value in parameters.items()
    }  # fmt: skip
    return msgspec.json.encode(shown).decode()


def _facts(found: "Figures", prices: "list[LiquidationPrices]", numeraire: str) -> dict[str, str]:
    facts = {
        "health": f"{found.health:,.2f} {numeraire}",
        "equity": f"{found.equity:,.2f}",
        "initial margin": f"{found.initial_margin:,.2f}",
        "maintenance margin": f"{found.maintenance_margin:,.2f}",
        "free margin": f"{found.free_margin:,.2f}",
        "tier": found.tier,
    }
    if found.scenarios:
        facts["worst scenario"] = "; ".join(
            f"{escape(it.of)}: " + ("none loses" if it.counts is None
                                    else f"{escape(it.counts.scenario)}: {it.counts.profit:,.2f}")
            for it in found.scenarios
        )  # fmt: skip
    for it in prices:
        sides = [f"{side:,.2f}" for side in (it.below, it.above) if side is not None]
        facts[f"liquidation price of {escape(it.underlying)}"] = (
            f"{' and '.join(sides) or 'none'} (now {it.price:,.2f})"
        )
    return facts


def _show_change(title: str, facts: dict[str, dict[str, str]]) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("", style="dim")
    for name in facts:
        table.add_column(name, justify="right")
    names = dict.fromkeys(name for each in facts.values() for name in each)
    for name in names:
        table.add_row(name, *(each.get(name, "") for each in facts.values()))
    console.print(table)


def _table(title: str, words: list[str], numbers: list[str]) -> Table:
    table = Table(title=f"\n{escape(title)}", title_justify="left", box=None, pad_edge=False)
    for name in words:
        table.add_column(escape(name), no_wrap=True)
    for name in numbers:
        table.add_column(escape(name), justify="right", no_wrap=True)
    return table


def _show_assets(found: "Figures", suffix: str) -> None:
    table = _table(
        f"equity, by asset{suffix}", ["asset"], ["cash", "positions", "price", "vol", "worth", "haircut", "counts"]
    )
    for it in found.assets:
        table.add_row(
            escape(it.asset), it.cash, f"{it.positions_value:,.4f}", f"{it.price:,.4f}", f"{it.realised_vol:.1%}",
            f"{it.worth:,.2f}",
            f"{it.haircut:.1%}", f"{it.counted:,.2f}",
        )  # fmt: skip
    console.print(table)


def _show_positions(found: "Figures", suffix: str) -> None:
    collateral = found.collateral.maintenance_margin
    if not found.positions and collateral == 0.0:
        return
    table = _table(
        f"maintenance margin, by position{suffix}", ["instrument"],
        ["quantity", "mark", "vol", "value", "alone", "marginal", "step"],
    )  # fmt: skip
    if collateral > 0.0:
        table.add_row("collateral", "", "", "", "", f"{collateral:,.2f}", "", f"{collateral:,.2f}")
    for it in found.positions:
        share = it.maintenance_margin
        table.add_row(
            escape(it.instrument), it.quantity, f"{it.mark_price:,.4f}",
            "" if it.implied_vol is None else f"{it.implied_vol:.2%}",
            f"{it.value:,.2f}", f"{share.alone:,.2f}", f"{share.marginal:,.2f}", f"{share.step:,.2f}",
        )  # fmt: skip
    console.print(table)


def _show_open_orders(found: "Figures", suffix: str) -> None:
    if not found.open_orders:
        return
    table = _table(f"open orders{suffix}", ["instrument"], ["left to buy", "left to sell"])
    for it in found.open_orders:
        table.add_row(escape(it.instrument), it.buys, it.sells)
    console.print(table)


def _show_parts(found: "Figures", suffix: str) -> None:
    if not found.parts:
        return
    table = _table(f"margins, by part{suffix}", ["part", "of"], ["initial", "maintenance"])
    for it in found.parts:
        if it.initial == it.maintenance == 0.0:
            continue
        table.add_row(escape(it.name), escape(it.of), f"{it.initial:,.2f}", f"{it.maintenance:,.2f}")
    console.print(table)


def _show_scenarios(found: "Figures", suffix: str) -> None:
    for it in found.scenarios or []:
        adjusted = any(scenario.adjustment for scenario in it.all)
        held = list(dict.fromkeys(name for scenario in it.all for name in scenario.positions))
        table = _table(
            f"{it.of}: loss {it.loss:,.2f} x {it.factor:g}; {it.rule}{suffix}", ["scenario"],
            ["profit", *held, *(["adjustment"] if adjusted else [])],
        )  # fmt: skip
        for scenario in it.all:
            shown = [f"{scenario.positions.get(name, 0.0) + 0.0:,.2f}" for name in held]
            table.add_row(
                escape(scenario.scenario), f"{scenario.profit + 0.0:,.2f}", *shown,
                *([f"{scenario.adjustment + 0.0:,.2f}"] if adjusted else []),
                style="red" if scenario is it.counts else None,
            )  # fmt: skip
        console.print(table)


def _show_greeks(found: "Figures", suffix: str) -> None:
    if not found.greeks:
        return
    table = _table(f"Greeks{suffix}", ["underlying", "Greek"], ["amount", "unit"])
    for it in found.greeks:
        for name, unit in it.units.items():
            table.add_row(escape(it.underlying), name.replace("_", " "), f"{getattr(it, name):,.6g}", unit)
    console.print(table)


def _show_grid(drawn: "Grid", scene: "Scene") -> None:
    table = _table(
        f"health, {scene.market.numeraire}, by spot and vol", [f"spot of {', '.join(drawn.names)}"],
        [f"{move:+.0%}" for move in drawn.vol_moves],
    )  # fmt: skip
    for spot, cells in zip(drawn.spot_moves, drawn.cells, strict=True):
        shown = [
            "unknown" if cell is None else f"[{'red' if cell.health < 0.0 else 'green'}]{cell.health:,.0f}[/]"
            for cell in cells
        ]
        table.add_row(f"{spot:+.0%}", *shown)
    console.print(table)
