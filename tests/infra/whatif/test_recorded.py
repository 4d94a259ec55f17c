"""An account of a recorded run is what the run itself published."""

from pathlib import Path

import duckdb
import pytest

from infra.demo.generate import generate
from infra.run import replay as runs
from infra.whatif.document import moment_ns
from infra.whatif.figures import figures
from infra.whatif.liquidation import liquidation_prices
from infra.whatif.recorded import recorded_scene
from infra.whatif.scene import Deposit, Trade, WhatIfError
from schemas.ledger import Genesis
from tests.infra.whatif.builders import MODELS

Row = tuple[int, str, str, str, float, float, float, str, str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo hour of sixty accounts, with a full state every ten minutes."""
    folder = tmp_path_factory.mktemp("recorded")
    generate(folder / "log.ndjson", accounts=60, hours=1.0)
    runs.replay(
        runs.Options(
            inputs=[folder / "log.ndjson"], out=folder / "run", shard_count=4, chain="none",
            genesis=Genesis(ledger_id="recorded", settlement_period_ns=60_000_000_000),
            snapshot_period_ns=600_000_000_000,
        )
    )  # fmt: skip
    return folder / "run"


@pytest.fixture(scope="module")
def rows(run: Path) -> list[Row]:
    """Snapshot rows of accounts with a requirement: the first and last of each margin model and mode, and of tiers."""
    found = duckdb.execute(
        f"""
        SELECT frame, account, tier, margin_mode, equity, initial_margin, maintenance_margin,
               time_utc::VARCHAR AS moment, margin_model
        FROM read_parquet('{run}/snapshot/accounts/**/*.parquet')
        WHERE decidable AND maintenance_margin > 0
        QUALIFY row_number() OVER (PARTITION BY margin_model, margin_mode, tier ORDER BY frame) = 1
             OR row_number() OVER (PARTITION BY margin_model, margin_mode, tier ORDER BY frame DESC) = 1
        ORDER BY frame, account
        """
    ).fetchall()
    assert len({(row[2], row[3], row[8]) for row in found}) >= 4, "the demo hour has too little to compare"
    return found


def test_at_a_snapshot_an_account_is_its_row(run: Path, rows: list[Row]) -> None:
    """Fails where replaying the frames for one account alone gives another number, in any bit, or another tier."""
    for frame, account, tier, mode, *published in rows:
        scene = recorded_scene(run, account, MODELS, frame=frame)

        found = figures(scene)

        assert [found.equity, found.initial_margin, found.maintenance_margin] == published[:3]
        assert (found.tier, scene.account.margin_mode.value) == (tier, mode)


def test_an_account_brings_its_open_orders(run: Path) -> None:
    """Fails where the orders of a recorded account, or what they need, are not those of its snapshot."""
    published = duckdb.execute(
        f"""
        SELECT o.frame, o.account, o.instrument, o.buy_quantity, o.sell_quantity, a.initial_margin
        FROM read_parquet('{run}/snapshot/open_orders/**/*.parquet') o
        JOIN read_parquet('{run}/snapshot/accounts/**/*.parquet') a USING (frame, account)
        WHERE a.decidable
        ORDER BY o.frame DESC, o.account LIMIT 3
        """
    ).fetchall()
    assert published, "the demo hour has no open orders to compare"

    for frame, account, instrument, buys, sells, initial in published:
        found = figures(recorded_scene(run, account, MODELS, frame=frame))

        told = {it.instrument: (float(it.buys), float(it.sells)) for it in found.open_orders}
        assert told[instrument] == pytest.approx((buys, sells))
        assert found.initial_margin == initial


def test_a_moment_is_the_last_frame_before_it(run: Path, rows: list[Row]) -> None:
    """Fails where a moment in words is another place in the ledger than the frame that stands there."""
    frame, account, *_, moment, _ = rows[0]

    scene = recorded_scene(run, account, MODELS, at_ns=moment_ns(str(moment)) + 999)

    assert scene.frame == frame


def test_another_model_judges_the_same_holdings(run: Path, rows: list[Row]) -> None:
    """Fails where a margin model that the run never used cannot be asked for, or equity depends on it."""
    frame, account, *_ = rows[0]

    own = figures(recorded_scene(run, account, MODELS, frame=frame))
    other = figures(recorded_scene(run, account, MODELS, frame=frame, model="deribit-standard"))

    assert other.equity == own.equity
    assert other.maintenance_margin != own.maintenance_margin


def test_parameters_from_here_on(run: Path, rows: list[Row]) -> None:
    """Fails where a set given beside a run does not decide, or decides what came before it too."""
    frame, account, *_ = next(row for row in rows if row[8] == "tidegate-portfolio")
    factors = {"tidegate-portfolio": {"maintenance_factor": 3.0, "initial_factor": 3.0}}

    own = figures(recorded_scene(run, account, MODELS, frame=frame))
    harder = figures(recorded_scene(run, account, MODELS, frame=frame, parameters=factors))

    assert harder.maintenance_margin == pytest.approx(3.0 * own.maintenance_margin, rel=1e-2)


def test_a_run_can_be_changed(run: Path, rows: list[Row]) -> None:
    """Fails where a recorded account cannot trade and pay in, or a deposit is not worth itself."""
    frame, account, *_ = rows[0]
    scene = recorded_scene(run, account, MODELS, frame=frame)

    after = scene.changed([Trade("BTC-PERP", "-0.01")], [Deposit("USDC", "1000")])

    assert figures(after).equity == pytest.approx(figures(scene).equity + 1_000, rel=0.01)
    assert liquidation_prices(after)


def test_an_account_that_is_not_there(run: Path) -> None:
    """Fails where an account that is unknown, or not open yet, is given a number."""
    for account, frame in (("nobody", None), ("account-000001", 0)):
        with pytest.raises(WhatIfError, match=account):
            recorded_scene(run, account, MODELS, frame=frame)
