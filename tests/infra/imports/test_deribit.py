"""A small chain made here, in the original columns: snapshots, what lies between, and the synthetic book."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from scipy.special import ndtr

from flows.calibration.step import SmileKind
from flows.intake.decode import Stream
from flows.intake.ledger import Intake
from flows.margin.registry import margin_models
from infra.imports.deribit import INTERPOLATED, REAL, DeribitSummary, events, read_snapshots
from infra.imports.inputs import WrongInputError, nanoseconds
from infra.imports.writer import arrange
from infra.reports.surfaces import plot_fits
from schemas.events import (
    AccountOpened,
    AnyEvent,
    Event,
    Fill,
    InstrumentListed,
    MarkPrice,
    OracleForward,
    OraclePrice,
    OracleVol,
    SettlementPrice,
)
from schemas.ids import HOUSE
from schemas.ledger import Genesis

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "options"
FIRST = datetime(2026, 2, 5, 4, 0, 30, 500_000, tzinfo=UTC)
SECOND = FIRST + timedelta(hours=6)
NEAR, FAR = datetime(2026, 2, 5, 8, tzinfo=UTC), datetime(2026, 2, 27, 8, tzinfo=UTC)
MINUTE_NS = 60 * 1_000_000_000
EVERY_NS = 30 * MINUTE_NS


def a_chain(folder: Path) -> Path:
    """Write two snapshots of BTC and ETH, the market 5 % lower and the vol 10 points higher in the second."""
    rows: list[tuple[Any, ...]] = []
    for place, (time, scale, level) in enumerate(((FIRST, 1.0, 0.6), (SECOND, 0.95, 0.7))):
        for currency, index in (("BTC", 70_000.0 * scale), ("ETH", 2_000.0 * scale)):
            for expiry in (NEAR, FAR):
                if expiry > time:
                    rows.extend(_expiry_rows(f"s{place}", time, currency, index, expiry, level))
    names = [
        "timestamp",
        "snapshot",
        "currency",
        "instrument_name",
        "option_type",
        "strike",
        "expiry",
        "underlying_price",
        "index_price",
        "bid_price",
        "ask_price",
        "mark_price",
        "mark_iv",
    ]
    pl.DataFrame(rows, schema=names, orient="row").with_columns(
        pl.col("timestamp").cast(pl.Datetime("us", "UTC")),
        pl.col("expiry").cast(pl.Datetime("ms", "UTC")),
        pl.col("currency", "snapshot", "instrument_name", "option_type").cast(pl.Categorical),
    ).write_parquet(folder / "chain.parquet")
    return folder / "chain.parquet"


def _expiry_rows(
    snapshot: str, time: datetime, currency: str, index: float, expiry: datetime, level: float
) -> list[tuple[Any, ...]]:
    years = (expiry - time).total_seconds() / (365 * 86_400)
    forward = index * (1.0 + 0.05 * years)
    rows: list[tuple[Any, ...]] = []
    for k in np.linspace(-3.0, 3.0, 13) * level * years**0.5:
        strike = round(float(forward * np.exp(k)), 0)
        vol = level * (1.0 + 0.5 * abs(np.log(strike / forward)) ** 1.5)
        for side in ("call", "put"):
            bid, mark, ask = (_coins(forward, strike, years, vol + d, side == "call") for d in (-0.01, 0.0, 0.01))
            name = f"{currency}-{expiry:%d%b%y}-{strike:.0f}-{side[0].upper()}".upper()
            rows.append((time, snapshot, currency, name, side, strike, expiry, forward, index, bid, ask, mark, vol))
    return rows


def _coins(forward: float, strike: float, years: float, vol: float, call: bool) -> float:
    deviation = vol * years**0.5
    d1 = np.log(forward / strike) / deviation + deviation / 2.0
    sign = 1.0 if call else -1.0
    return float(sign * (ndtr(sign * d1) - strike / forward * ndtr(sign * (d1 - deviation))))


def the_import(chain: Path, seed: int = 7, smiles: SmileKind = SmileKind.FIT) -> tuple[list[Event], DeribitSummary]:
    snapshots = read_snapshots(chain, nanoseconds(FIRST) - MINUTE_NS, nanoseconds(SECOND) + MINUTE_NS)
    return events(snapshots, every_ns=EVERY_NS, accounts=60, seed=seed, smiles=smiles)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def small(chain: Path) -> tuple[list[Event], DeribitSummary]:
    return the_import(chain)


def of_type(out: list[Event], kind: type[Event]) -> list[Any]:
    return [event for event in arrange(out) if type(event) is kind]


@pytest.mark.parametrize("smiles", list(SmileKind))
def test_intake_takes_every_event(chain: Path, smiles: SmileKind) -> None:
    """Fails if a price is off tick, a quantity off lot, an id repeated, or a smile outside intake's bounds."""
    out, summary = the_import(chain, smiles=smiles)
    intake = Intake(Genesis(ledger_id="test"), shard_count=2, margin_models=list(margin_models()))
    wire = [msgspec.json.decode(msgspec.json.encode(event), type=AnyEvent) for event in arrange(out)]
    arrivals = [(event, b"", Stream("log"), place, place) for place, event in enumerate(wire, start=1)]

    frames = [*intake.step(arrivals), intake.finish()]

    assert [letter.message for it in frames for letter in it.dead_letters] == []
    assert sum(it.counts.duplicates for it in frames) == 0
    points = smiles is SmileKind.POINTS
    assert {event.points is not None for event in of_type(out, OracleVol)} == {points}
    assert (summary.fits, summary.points) == ((0, 6) if points else (6, 0))


def test_a_smile_that_was_refused_ages_in_sight(chain: Path, tmp_path: Path) -> None:
    """Fails if an expiry without quotes in the second snapshot looks as young, or as good, as one that was fitted."""
    gone = (pl.col("timestamp") == SECOND) & (pl.col("expiry") == FAR) & (pl.col("currency") == "BTC")
    rows = pl.read_parquet(chain).with_columns(
        pl.when(gone).then(None).otherwise(pl.col("bid_price")).alias("bid_price")
    )
    rows.write_parquet(tmp_path / "thin.parquet")

    _, summary = the_import(tmp_path / "thin.parquet")
    plot_fits(summary.rows, tmp_path / "fits.png")

    old = [row for row in summary.rows if row.refused is not None]
    assert [(row.underlying, row.smile, row.refused, row.age_hours) for row in old] == [
        ("BTC", None, "too_few_quotes", 6.0)
    ]
    assert summary.oldest_smile_hours == 6.0
    assert {row.age_hours for row in summary.rows if row.refused is None} == {0.0}
    assert (tmp_path / "fits.png").stat().st_size > 10_000


def test_real_and_synthetic_are_told_apart(small: tuple[list[Event], DeribitSummary]) -> None:
    """Fails if an interpolated value carries the venue's name, or a real one the other."""
    out, summary = small

    sources = {
        kind: Counter(event.source for event in of_type(out, kind)) for kind in (OraclePrice, OracleVol, OracleForward)
    }

    real_times = {nanoseconds(FIRST), nanoseconds(SECOND)}
    for event in out:
        if event.source == REAL and isinstance(event, OraclePrice | OracleVol | OracleForward):
            assert event.event_time_ns in real_times
        if event.source == INTERPOLATED:
            assert event.event_time_ns % EVERY_NS == 0
    assert sources[OraclePrice][REAL] == 4
    # Twelve half hours lie between the snapshots.
    assert sources[OraclePrice][INTERPOLATED] == 24
    assert sources[OracleVol][REAL] == 6
    assert {account.account for account in of_type(out, AccountOpened)} == {f"synthetic-{n:06d}" for n in range(1, 61)}
    assert any("deribit-interpolated" in line for line in summary.synthetic)


def test_between_snapshots_the_index_is_between_them(small: tuple[list[Event], DeribitSummary]) -> None:
    """Fails if interpolation overshoots, or does not fall steadily from one snapshot to the other."""
    prices = [float(p.price) for p in of_type(small[0], OraclePrice) if p.feed == "BTC/USD"]

    assert prices == sorted(prices, reverse=True)
    assert (prices[0], prices[-1]) == (70_000.0, 66_500.0)


def test_an_expiry_settles_at_its_time_and_has_no_market_after(small: tuple[list[Event], DeribitSummary]) -> None:
    """Fails if an expired smile goes on, or the expiry inside the window pays at no price or the wrong one."""
    out, summary = small

    settled = of_type(out, SettlementPrice)

    near_ns = nanoseconds(NEAR)
    assert [(s.underlying, s.event_time_ns, s.source) for s in settled] == [
        ("BTC", near_ns, INTERPOLATED),
        ("ETH", near_ns, INTERPOLATED),
    ]
    share = (NEAR - FIRST) / (SECOND - FIRST)
    assert float(settled[0].price) == pytest.approx(70_000.0 * 0.95**share, abs=0.01)
    late = [e for e in out if isinstance(e, OracleVol | OracleForward) and e.expiry_ns == near_ns]
    assert max(e.event_time_ns for e in late) < near_ns
    assert summary.settlements == 2


def test_options_are_inverse_and_perpetuals_without_candles_are_marked_at_the_index(
    small: tuple[list[Event], DeribitSummary],
) -> None:
    """Fails if a contract is listed with another currency, lot or tick than the venue's."""
    listed = {item.instrument: item for item in of_type(small[0], InstrumentListed)}

    options = [item for item in listed.values() if item.kind == "option" and item.underlying == "BTC"]
    perpetual = listed["BTC-PERPETUAL"]

    assert {(o.payoff, o.settlement_asset, o.lot_size, o.tick_size, o.multiplier) for o in options} == {
        ("inverse", "BTC", "0.1", "0.0001", "1")
    }
    assert (perpetual.payoff, perpetual.multiplier, perpetual.tick_size) == ("inverse", "10", "0.5")
    assert of_type(small[0], MarkPrice) == []


def test_the_book_trades_with_the_house_at_the_mark(chain: Path, small: tuple[list[Event], DeribitSummary]) -> None:
    """Fails if accounts open at a profit or loss beyond a tick, or two accounts trade with each other."""
    marks = {}
    for row in pl.read_parquet(chain).filter(pl.col("timestamp") == FIRST).iter_rows(named=True):
        marks[row["instrument_name"]] = row["mark_price"]

    fills = of_type(small[0], Fill)

    assert fills
    assert len({fill.event_time_ns for fill in fills}) == 1
    for fill in fills:
        assert (fill.buyer == HOUSE) != (fill.seller == HOUSE)
        if fill.instrument in marks:
            assert abs(float(fill.price) - marks[fill.instrument]) <= 0.5001e-4


def test_the_same_seed_gives_the_same_book_and_another_one_does_not(
    chain: Path, small: tuple[list[Event], DeribitSummary]
) -> None:
    """Fails if anything but files, window and seed enters."""
    assert arrange(the_import(chain)[0]) == arrange(small[0])
    assert arrange(the_import(chain, seed=8)[0]) != arrange(small[0])


def test_a_window_without_snapshots_says_what_the_file_covers(chain: Path) -> None:
    """Fails if a user with a wrong date is left to guess."""
    with pytest.raises(WrongInputError, match="it covers 2026-02-05"):
        read_snapshots(chain, 0, 1)


def test_published_snapshots_are_fitted_within_a_vol_point() -> None:
    """Fails if the fit of real quotes at the height of the crash gets worse than what was measured."""
    path = SHARED / "deribit_chain_stress_2026-01-28_2026-02-11.parquet"
    if not path.is_file():
        pytest.skip(f"the published chain is not at {path}")
    start, end = (nanoseconds(datetime(2026, 2, 5, hour, tzinfo=UTC)) for hour in (12, 18))

    _, summary = events(read_snapshots(path, start, end), every_ns=60 * MINUTE_NS, accounts=20, seed=1)

    assert summary.snapshots == {"BTC": 1, "ETH": 1}
    assert summary.options["BTC"] > 700
    assert summary.options["ETH"] > 700
    assert summary.fits >= 23
    assert summary.rms_vol_points_median < 1.0
