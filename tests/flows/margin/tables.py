"""Tables of the portfolio model that are made up, without a market."""

from dataclasses import replace

import numpy as np

from flows.margin.portfolio import PortfolioTables, offset_share
from flows.margin.scenario_sums import CHARGE, LANES, LONG, NOTIONAL, SCENARIOS, SHORT
from flows.pricing.grid import aligned_rows


def some_tables(
    profit: np.ndarray, group: list[int], *, offset_group: list[int] | None = None, correlation: tuple[float, ...] = ()
) -> PortfolioTables:
    """Return tables of these profits, (K, S), without contingencies, on markets without end."""
    rows = aligned_rows(profit.shape[0], LANES * -(-profit.shape[1] // SCENARIOS))
    underlyings = max(group) + 1
    tables = PortfolioTables(
        rows=rows,
        scenario_count=profit.shape[1],
        group=np.array(group, np.int32),
        offset_group=np.array(offset_group or [-1] * underlyings, np.int64),
        offset_share=np.array([offset_share(it) for it in correlation], np.float64),
        inverse_depth=np.zeros(underlyings),
        concentration_rate=0.1,
        concentration_cap=0.5,
        maintenance_factor=1.0,
        initial_factor=1.25,
    )
    for scenario in range(profit.shape[1]):
        rows[:, scenario // SCENARIOS * LANES + scenario % SCENARIOS] = profit[:, scenario]
    assert np.array_equal(tables.profit, profit)
    return tables


def random_tables(seed: int, *, instruments: int, underlyings: int, scenarios: int) -> PortfolioTables:
    """Return tables with every term in them; half of the underlyings in offset groups."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, underlyings, instruments)
    group[0] = underlyings - 1
    tables = some_tables(
        rng.uniform(-100.0, 100.0, (instruments, scenarios)) * (rng.random((instruments, scenarios)) < 0.8),
        group.tolist(),
        offset_group=rng.integers(-2, 2, underlyings).clip(-1).tolist(),
        correlation=(0.7, 0.1),
    )
    tables.rows[:, [LONG, SHORT, NOTIONAL, CHARGE]] = rng.random((instruments, 4)) * (1.0, 2.0, 50.0, 9.0)
    return replace(tables, inverse_depth=rng.choice([0.0, 1e-3, 1e-5], underlyings))
