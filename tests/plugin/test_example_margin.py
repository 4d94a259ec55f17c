"""A margin model in a package of its own: found by its entry point, and decided by in the whole pipeline."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flows.margin.registry import margin_models
from flows.pipeline import run_plain
from flows.risk.stage import LocalRisk
from flows.risk.step import Risk
from schemas.events import Event
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
