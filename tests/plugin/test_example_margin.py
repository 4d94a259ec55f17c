"""A margin model in a package of its own: found by its entry point, and decided by in the whole pipeline."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from flows.margin.registry import margin_models
from flows.market.step import Market
from flows.pipeline import run_plain
from flows.risk.stage import LocalRisk
from flows.risk.step import Risk
from infra.cli.main import app
from infra.run import replay as runs
from infra.run.verify import verify
from infra.whatif.figures import figures
from infra.whatif.recorded import recorded_scene
from schemas.events import Event, ParametersChanged
from schemas.failures import FailureReason
from schemas.ledger import Genesis
from schemas.results import ResultKind, Tier
from tests.builders import (
    TIME_NS,
    a_fill,
    a_perpetual,
    a_price,
    a_transfer,
    an_account,
    an_asset,
)
from tests.flows.running import Published, arrivals, batches_of, some_stages
from tests.infra.whatif.builders import a_document, said
from tests.infra.whatif.builders import a_perpetual as perpetual

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(__file__).with_name("example_margin")
NAME = "example-gross-net"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the package into a folder of its own, without a network, and put that on the path."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(folder), str(PACKAGE)], check=True, timeout=120)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", str(folder))  # for worker processes
        yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "example_margin"]:
        del sys.modules[name]


def _day(*later: Event) -> list[Event]:
    """Return two accounts of the example model, of which alice buys one bitcoin of two different contracts."""
    return [
        an_asset("USDC", 6, number=1), an_asset("BTC", 8, number=2), a_perpetual(), a_perpetual("BTC-B", number=16),
        an_account("alice", margin_model=NAME, number=1), an_account("bob", margin_model=NAME, number=2), a_price(),
        a_price("1", feed="USDC/USD", confidence="0", number=2),
        a_transfer("10000", account="alice", number=1), a_transfer("10000", account="bob", number=2),
        a_fill(quantity="1", time_ns=TIME_NS + 1), *later,
    ]  # fmt: skip


def _rates(number: int, **rates: float) -> ParametersChanged:
    """Return a change of the model's own parameter set, a second later than the day's trade."""
    return ParametersChanged(
        event_id=f"rates-{number}", event_time_ns=TIME_NS + number * 10**9, source="operator", source_sequence=number,
        name=NAME, parameters=rates,
    )  # fmt: skip


def _decided(events: list[Event]) -> tuple[Risk, Published]:
    stages, published = some_stages(), Published()
    run_plain(batches_of(arrivals(events), 100), stages, published.take)
    assert isinstance(stages.risk, LocalRisk)
    return stages.risk.risk, published


def test_the_model_is_found_by_its_entry_point(installed: Path) -> None:
    """From the folder it was installed to, beside our own; a checkout that is not installed lacks it."""
    model = margin_models()[NAME]

    module = sys.modules[type(model).__module__]
    assert module.__file__ is not None and Path(module.__file__).is_relative_to(installed)


def test_a_book_is_margined_by_it(installed: Path) -> None:
    """2 % of the gross notional and 8 % of the net, by account; half as much again to begin with."""
    hedge = a_fill(
        fill_id="fill-2", instrument="BTC-B", quantity="0.4", buyer="bob", seller="alice", number=2,
        time_ns=TIME_NS + 2,
    )  # fmt: skip

    bare, _ = _decided(_day())
    hedged, _ = _decided(_day(hedge))

    for risk, gross, net in ((bare, 50_000.0, 50_000.0), (hedged, 70_000.0, 30_000.0)):
        numbers = risk.evaluate(risk.book.customer_rows)
        assert numbers.maintenance_margin == pytest.approx([0.02 * gross + 0.08 * net] * 2)
        assert numbers.initial_margin == pytest.approx(1.5 * numbers.maintenance_margin)
        assert not numbers.undecidable.any()


def test_its_parameters_are_history(installed: Path) -> None:
    """A change decides from its frame on, in a restored market too; one out of range is refused by name."""
    risk, published = _decided(_day(_rates(1, gross_rate=0.1, net_rate=0.0), _rates(2, gross_rate=1.5)))

    numbers = risk.evaluate(risk.book.customer_rows)
    restored = Market.restore(risk.market.checkpoint())

    assert numbers.maintenance_margin == pytest.approx([0.1 * 50_000.0] * 2)
    assert restored.parameters(NAME).model_dump() == {"gross_rate": 0.1, "net_rate": 0.0}
    (refused,) = published.dead_letters
    assert (refused.reason, refused.message) == (
        FailureReason.BAD_PARAMETERS, f"{NAME}: gross_rate: Input should be less than or equal to 1",
    )  # fmt: skip


def test_an_unknown_set_is_refused_with_those_there_are(installed: Path) -> None:
    """Beside ours, the list has the model's set; without the model it would not."""
    change = msgspec.structs.replace(_rates(1), name="example-nothing")

    _, published = _decided(_day(change))

    (refused,) = published.dead_letters
    assert refused.reason is FailureReason.BAD_PARAMETERS
    assert f", {NAME}, " in refused.message


def test_a_replay_is_the_same_in_one_process_and_two(installed: Path, tmp_path: Path) -> None:
    """Worker processes find the model and its set; a file that overrides the set decides instead of the log."""
    log = tmp_path / "log.ndjson"
    events = _day(_rates(1, gross_rate=0.1), _rates(2, net_rate=-1.0), a_price("49000", number=3, time_ns=TIME_NS + 1))
    log.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))

    def replayed(out: str, **changes: Any) -> dict[str, Any]:
        options = runs.Options(
            inputs=[log],
            out=tmp_path / out,
            genesis=Genesis(ledger_id="plugin"),
            shard_count=4,
            chain="none",
            **changes,
        )
        return runs.replay(options).summary

    one = replayed("one")
    two = replayed("two", worker_count=2)
    other = replayed("other", parameters={NAME: {"gross_rate": 0.0}})
    scene = recorded_scene(tmp_path / "two", "alice", margin_models())

    assert two["digest"] == one["digest"] != other["digest"]
    assert (one["dead_letters"], two["dead_letters"]) == (1, 1)
    assert figures(scene).maintenance_margin == pytest.approx((0.1 + 0.08) * 49_000.0)
    assert verify(tmp_path / "two").difference is None


def test_a_run_that_was_stopped_goes_on_with_its_parameters(installed: Path, tmp_path: Path) -> None:
    """Stopped between two changes of the set and resumed: intake takes the second, and the digest is as if never."""
    log = tmp_path / "log.ndjson"
    later = a_price("49000", number=3, time_ns=TIME_NS + 20 * 10**9)
    events = _day(_rates(1, gross_rate=0.1), _rates(30, gross_rate=0.2), later)
    log.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))

    def options(out: str) -> runs.Options:
        return runs.Options(
            inputs=[log], out=tmp_path / out, genesis=Genesis(ledger_id="plugin"), shard_count=4, chain="none",
            commit_seconds=0.0,
        )  # fmt: skip

    def stop(progress: runs.Progress) -> None:
        if progress.ledger_time_ns > TIME_NS + 10**9:
            raise KeyboardInterrupt

    undisturbed = runs.replay(options("undisturbed"))
    with pytest.raises(KeyboardInterrupt):
        runs.replay(options("stopped"), stop)
    resumed = runs.replay(options("stopped"))

    assert resumed.resumed_at_frame is not None
    assert resumed.summary["digest"] == undisturbed.summary["digest"]
    assert resumed.summary["dead_letters"] == 0
    scene = recorded_scene(tmp_path / "stopped", "alice", margin_models())
    assert figures(scene).maintenance_margin == pytest.approx((0.2 + 0.08) * 49_000.0)


def test_a_what_if_uses_and_returns_its_parameters(installed: Path, tmp_path: Path) -> None:
    """From a file, then changed; before and after each say what they were computed with."""
    files = {"portfolio": a_document([perpetual("1")], model=NAME), "sets": {NAME: {"gross_rate": 0.03}}}
    files["change"] = {"parameters": {NAME: {"net_rate": 0.5}}}
    for name, document in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    sets, change = tmp_path / "sets.json", tmp_path / "change.json"
    ask = ["margin", str(tmp_path / "portfolio.json"), "--json", "--params", str(sets), "--change", str(change)]

    answer = json.loads(CliRunner().invoke(app, ask).stdout)

    assert answer["before"]["maintenance_margin"] == pytest.approx((0.03 + 0.08) * 60_000.0)
    assert answer["after"]["maintenance_margin"] == pytest.approx((0.02 + 0.5) * 60_000.0)
    assert answer["parameters"][NAME] == {"gross_rate": 0.03, "net_rate": 0.08}
    assert answer["parameters_after"][NAME] == {"gross_rate": 0.02, "net_rate": 0.5}


@pytest.mark.parametrize("command", ["margin", "replay"])
def test_a_file_of_parameters_out_of_range_is_one_line(installed: Path, tmp_path: Path, command: str) -> None:
    """Where people give sets in files, ranges are the model's too."""
    document, sets = tmp_path / "portfolio.json", tmp_path / "sets.json"
    document.write_text(json.dumps(a_document(model=NAME)))
    sets.write_text(json.dumps({NAME: {"net_rate": 2}}))
    options = ["--out", str(tmp_path / "run")] if command == "replay" else []

    refused = CliRunner().invoke(app, [command, str(document), "--params", str(sets), *options])

    assert (refused.exit_code, refused.stdout, said(refused.stderr).count("\n")) == (2, "", 1)
    assert f"{NAME}: net_rate: Input should be less than or equal to 1" in refused.stderr


def test_its_schema_is_printed(installed: Path) -> None:
    """Beside those of our sets."""
    printed = CliRunner().invoke(app, ["schema", NAME, "--parameters"])

    assert set(json.loads(printed.stdout)["properties"]) == {"gross_rate", "net_rate"}


def test_an_account_is_liquidated_by_it(installed: Path) -> None:
    """After a haircut of a fifth, 5,200 against 4,650 of maintenance margin is a warning, 4,000 against 4,500 not."""
    prices = [
        a_price(price, number=3 + n, time_ns=TIME_NS + (1 + n) * 10**9) for n, price in enumerate(["46500", "45000"])
    ]

    _, published = _decided(_day(*prices))

    changes = published.of(ResultKind.TIER_CHANGED)
    alice = changes[changes["account"] == changes["account"].min()]
    assert alice["tier_to"].tolist()[-2:] == [int(Tier.WARNING), int(Tier.LIQUIDATING)]


def test_an_account_does_not_depend_on_its_neighbours(installed: Path) -> None:
    """The same bits alone and with others: what docs/margin-models.md asks of every model."""
    risk, _ = _decided(_day())
    rows = risk.book.customer_rows

    together = risk.evaluate(rows).initial_margin

    assert [risk.evaluate(np.array([row])).initial_margin[0] for row in rows] == together.tolist()


def test_the_page_shows_the_model_as_it_is() -> None:
    """A reader copies from the page; it must be what is tested, and short."""
    source = (PACKAGE / "example_margin" / "model.py").read_text()
    page = (ROOT / "docs" / "margin-models.md").read_text()

    shown = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)

    assert source in shown
    assert len(source.splitlines()) < 60
    assert (PACKAGE / "pyproject.toml").read_text() in re.findall(
        r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
    )
