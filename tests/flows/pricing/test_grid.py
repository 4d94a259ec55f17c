"""Scenario revaluation against a plain loop over the textbook formula."""

import numpy as np
import pytest

from flows.market.columns import InstrumentColumns
from flows.pricing.grid import aligned_rows, padded, scenario_profits
from flows.pricing.kinds import OPTION
from tests.flows.margin.builders import a_market
from tests.flows.pricing import plain

SPOTS = np.array([0.5, 0.85, 1.0, 1.0, 1.0, 1.15, 2.0])
DIRECTIONS = np.array([1.0, -1.0, 0.0, 1.0, -1.0, 0.0, 1.0])


def _profits(columns: InstrumentColumns) -> np.ndarray:
    out = aligned_rows(columns.count, 8)
    scenario_profits(
        columns, np.arange(columns.count), spot_multiple=padded(SPOTS, 1.0), vol_direction=padded(DIRECTIONS, 0.0),
        vol_up=0.5, vol_down=0.25, vol_power_short=0.3, vol_power_long=0.13, vol_days_min=1.0, out=out,
    )  # fmt: skip
    return out


def _plain(columns: InstrumentColumns, i: int, spot: float, direction: float) -> float:
    """Return the value of one lot in the numeraire after a scenario, at the present settlement price."""
    unit, quantity = float(columns.settlement_price[i]), float(columns.quantity[i])
    inverse = bool(columns.inverse[i])
    if columns.kind[i] != OPTION:
        mark = spot * float(columns.mark_price[i])
        return unit * (-quantity / mark if inverse else quantity * mark)
    time = float(columns.time_to_expiry[i])
    days = time * 365.0
    stretch = (30.0 / max(days, 1.0)) ** (0.3 if days <= 30.0 else 0.13)
    shock = 1.0 + 0.5 * stretch if direction > 0 else max(1.0 - 0.25 * stretch, 0.0) if direction < 0 else 1.0
    forward = spot * float(columns.forward[i])
    price = plain.black76_price(
        forward, float(columns.strike[i]), time, shock * float(columns.implied_vol[i]), call=bool(columns.call[i])
    )
    discount = float(np.exp(-columns.rate[i] * time))
    return unit * quantity * (price / forward if inverse else discount * price)


def test_every_kind_is_revalued_as_a_plain_loop_would() -> None:
    """Calls, puts, linear, inverse, short and long expiries, futures and perpetuals, under all shapes of scenario."""
    columns = a_market()[0].columns

    got = _profits(columns)

    for i in range(columns.count):
        present = _plain(columns, i, 1.0, 0.0)
        for s, (spot, direction) in enumerate(zip(SPOTS, DIRECTIONS, strict=True)):
            exact = _plain(columns, i, float(spot), float(direction)) - present
            assert got[i, s] == pytest.approx(exact, rel=1e-10, abs=1e-10), (i, s)


def test_the_flat_scenario_and_the_padding_are_exactly_zero() -> None:
    """A residue of rounding would charge, or pay, every account a little."""
    got = _profits(a_market()[0].columns)

    assert not got[:, 2].any()
    assert not got[:, 7].any()
