"""Numbers that others published: tables of textbooks and libraries, and a venue's own Greeks."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flows.pricing.black76 import black76

DAY_MS = 86_400_000
# Median, 99 % and largest error of a venue's Greeks: it publishes five decimals, of a mark vol that has two.
VENUE_ROUNDING = {
    "delta": (1e-5, 4e-5, 1.01e-4),
    "gamma": (2.5e-6, 5e-6, 5e-6),
    "vega": (2e-3, 0.03, 0.04),
    "theta": (4e-3, 0.06, 0.8),
    "rho": (1e-3, 0.017, 0.025),
}
# Strikes of some 2^31 are quoted to nine digits, whatever the tolerance of their table says.
ROUNDED_TABLE = 1e-9


@pytest.fixture(scope="module")
def published(shared_data: Path) -> pl.DataFrame:
    return pl.read_parquet(shared_data / "greeks/greeks_reference.parquet")


@pytest.fixture(scope="module")
def venue(shared_data: Path) -> pl.DataFrame:
    return pl.read_parquet(shared_data / "options/deribit_raw_ticker_greeks_2026-01-14_23_btc.parquet")


def test_published_prices_and_greeks_are_reproduced(published: pl.DataFrame) -> None:
    """Each of 1,344 numbers, on the spot, to its table's tolerance: a factor, sign or convention that is off shows.

    The forward is spot × e^(b t); rho moves it too (the yield stays), which is also what the two rows at b = 0 print.
    """
    spot, strike, t, vol, r, b = (published[name].to_numpy() for name in ("spot", "strike", "t", "vol", "r", "b"))
    growth = np.exp(b * t)
    forward = spot * growth

    got = black76(
        forward=forward, strike=strike, time_to_expiry=t, implied_vol=vol, rate=r,
        is_call=(published["option_type"] == "call").to_numpy(),
    )  # fmt: skip

    theta = got.theta - b * forward * got.delta
    outputs = {
        "value": got.price,
        "delta": got.delta * growth,
        "elasticity": got.delta * forward / np.maximum(got.price, 1e-300),
        "gamma": got.gamma * growth * growth,
        "vega": got.vega,
        "theta": theta,
        "theta_per_day": theta / 365.0,
        "rho": got.rho + t * forward * got.delta,
        "dividend_rho": -t * forward * got.delta,
    }
    wrong = []
    for i, row in enumerate(published.iter_rows(named=True)):
        tolerance = max(row["tol"], ROUNDED_TABLE * abs(row["value"]))
        if not abs(outputs[row["quantity"]][i] - row["value"]) <= tolerance:
            wrong.append((row, outputs[row["quantity"]][i]))
    assert published.height == 1_344
    assert not wrong


def test_a_venues_own_greeks_are_reproduced(venue: pl.DataFrame) -> None:
    """Deribit's, from its own forward and mark vol: gamma to the fifth decimal, the rest to what a vol of two gives.

    Its theta is per day, or per what is left of the last day, and never more than the option's own value.
    """
    forward = venue["underlying_price"].to_numpy()
    days = (venue["expiration_timestamp"] - venue["timestamp"]).to_numpy() / DAY_MS
    time = days / 365.0

    got = black76(
        forward=forward, strike=venue["strike"].to_numpy().astype(np.float64), time_to_expiry=time,
        implied_vol=venue["mark_iv"].to_numpy() / 100.0, rate=np.zeros(venue.height),
        is_call=(venue["option_type"] == "call").to_numpy(),
    )  # fmt: skip

    decay = -got.theta / 365.0 * np.minimum(days, 1.0)
    off = {
        "delta": got.delta,
        "gamma": got.gamma,
        "vega": got.vega / 100.0,
        "theta": -np.minimum(decay, got.price),
        "rho": (got.rho + time * forward * got.delta) / 100.0,
    }
    for name, (median, most, largest) in VENUE_ROUNDING.items():
        error = np.abs(off[name] - venue[f"greeks_{name}"].to_numpy())
        assert np.median(error) <= median, name
        assert np.quantile(error, 0.99) <= most, name
        assert error.max() <= largest, name
    assert venue.height == 6_628
