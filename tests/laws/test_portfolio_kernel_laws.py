"""Laws of the portfolio model's whole-book kernels, over tables that are made up.

1. Numbers equal plain loops.  2. Both kernels give the same bits.  3. An offset is never more than its correlation
allows.  4. Offsets never ask for more than sums, nor for less than the joint loss.  5. What is no number needs none.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.margin import portfolio
from flows.margin.model import NO_OPEN_ORDERS, PositionColumns
from flows.margin.portfolio import MODEL, PortfolioTables
from flows.margin.scenario_sums import LONG, SHORT
from flows.pricing import grid
from schemas.parameters import PortfolioParameters
from tests.flows.margin.builders import a_book, a_market, a_random_book
from tests.flows.margin.tables import random_tables, some_tables

SEEDS = st.integers(0, 2**32 - 1)


def _needs(tables: PortfolioTables, positions: PositionColumns, rows: int) -> np.ndarray:
    return MODEL.requirements(tables, positions, np.arange(rows))[1]


def _plain(tables: PortfolioTables, held: list[tuple[int, int]]) -> float:
    """Return an account's base by the rules as they are written."""
    total = 0.0
    sums: dict[int, np.ndarray] = {}
    for i, lots in held:
        total += abs(lots) * tables.rows[i, SHORT if lots < 0 else LONG]
        sums.setdefault(int(tables.group[i]), np.zeros(tables.scenario_count))
        sums[int(tables.group[i])] += lots * tables.profit[i]
    for g in sums:
        gross = sum(abs(lots) * tables.notional[i] for i, lots in held if tables.group[i] == g)
        if (beyond := gross * tables.inverse_depth[g] - 1.0) > 0.0:
            total += min(tables.concentration_rate * beyond, tables.concentration_cap) * gross
    for c in (-1, *range(len(tables.offset_share))):
        members = [it for g, it in sums.items() if tables.offset_group[g] == c]
        apart = sum(max(0.0, -it.min()) for it in members)
        together = max(0.0, -np.sum(members, axis=0).min()) if members else 0.0
        total += apart - (0.0 if c < 0 else tables.offset_share[c] * (apart - together))
    return float(total)


@given(seed=SEEDS, underlyings=st.integers(1, 5), scenarios=st.sampled_from([1, 7, 24, 27, 28, 29, 56, 64]))
@settings(max_examples=60)
def test_numbers_equal_plain_loops(seed: int, underlyings: int, scenarios: int) -> None:
    """Law 1: whatever the count of scenarios, blocks and underlyings, to 1e-12 of what is added up."""
    tables = random_tables(seed, instruments=12, underlyings=underlyings, scenarios=scenarios)
    book = a_random_book(seed, 20, 12)

    needs = _needs(tables, book.positions, 20)

    for row in range(20):
        size = sum(abs(lots) for _, lots in book.holdings(row))
        assert needs[row] == pytest.approx(_plain(tables, book.holdings(row)), rel=1e-12, abs=1e-10 * size)


@given(seed=SEEDS, underlyings=st.integers(1, 3))
@settings(max_examples=30)
def test_both_kernels_give_the_same_bits(seed: int, underlyings: int) -> None:
    """Law 2: an account's number does not depend on which path it took."""
    tables = random_tables(seed, instruments=12, underlyings=underlyings, scenarios=27)
    book = a_random_book(seed, 40, 12)
    initial, maintenance, rows = np.empty(40), np.empty(40), np.arange(40)

    MODEL._write(tables, book.positions, NO_OPEN_ORDERS, rows, rows, initial, maintenance)

    for chosen, other in zip(MODEL.requirements(tables, book.positions, rows), (initial, maintenance), strict=True):
        assert chosen.tobytes() == other.tobytes()


def _asked(exposures: list[int], correlation: float) -> float:
    """Return what is asked of exposures to as many underlyings, all moving by 1, up or down."""
    count = len(exposures)
    tables = some_tables(
        np.repeat([[-1.0, 1.0]], count, 0), list(range(count)), offset_group=[0] * count, correlation=(correlation,)
    )
    return float(_needs(tables, a_book([[0, 0]], [{i: x for i, x in enumerate(exposures) if x}]).positions, 1)[0])


def _deviation(exposures: list[int], matrix: np.ndarray) -> float:
    x = np.array(exposures, np.float64)
    return float(np.sqrt(max(x @ matrix @ x, 0.0)))


@given(
    exposures=st.lists(st.integers(-1_000, 1_000), min_size=2, max_size=8),
    correlation=st.floats(-0.99, 0.99),
    seed=SEEDS,
    common=st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=300)
def test_an_offset_is_never_more_than_its_correlation_allows(
    exposures: list[int], correlation: float, seed: int, common: float
) -> None:
    """Law 3: at least the deviation under any correlation matrix whose entries are at least the stressed correlation.

    The worst has 1 within what is long and within what is short, and the correlation between them; it is tried with
    random ones.
    """
    rng = np.random.default_rng(seed)
    loads = rng.random((len(exposures), 3))
    # Entries of this one are >= 0 and its diagonal is 1; so those of the mixture are at least the correlation.
    free = loads @ loads.T / np.outer(*[np.sqrt((loads**2).sum(axis=1))] * 2)
    side = np.sign(exposures)
    worst = np.where(np.outer(side, side) < 0, correlation, 1.0)
    at_least = max(correlation, 0.0)
    matrix = common * worst + (1.0 - common) * (at_least + (1.0 - at_least) * free)

    asked = _asked(exposures, correlation)

    assert asked >= _deviation(exposures, matrix) * (1.0 - 1e-12)


def test_the_correlation_itself_would_be_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of law 3: with f = ρ, a hedge of two that move alike by 0.8 is let off more than they do."""
    matrix = np.array([[1.0, 0.8], [0.8, 1.0]])
    assert _asked([100, -100], 0.8) == pytest.approx(_deviation([100, -100], matrix))

    monkeypatch.setitem(some_tables.__globals__, "offset_share", lambda correlation: correlation)

    assert _asked([100, -100], 0.8) < 0.7 * _deviation([100, -100], matrix)


@given(seed=SEEDS)
@settings(max_examples=30)
def test_an_offset_is_between_the_sum_and_the_joint_loss(seed: int) -> None:
    """Law 4: the more correlation is believed, the less is asked, from losses added to losses taken together."""
    rng = np.random.default_rng(seed)
    profit = rng.normal(0.0, 10.0, (12, 27))
    group = (np.arange(12) % 4).tolist()
    book = a_random_book(seed, 10, 12)

    def needs(correlation: float) -> np.ndarray:
        tables = some_tables(profit, group, offset_group=[0, 0, 0, 0], correlation=(correlation,))
        return _needs(tables, book.positions, 10)

    added = _needs(some_tables(profit, group), book.positions, 10)
    together = _needs(some_tables(profit, [0] * 12), book.positions, 10)
    asked = [needs(correlation) for correlation in (-0.5, 0.0, 0.3, 0.9, 0.999999)]
    assert asked[0] == pytest.approx(added, rel=1e-12)
    assert asked[1] == pytest.approx(added, rel=1e-12)
    for less, more in zip(asked[1:], asked[:-1], strict=True):
        assert (less <= more * (1.0 + 1e-12)).all()
        assert (less >= together * (1.0 - 1e-12)).all()


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_no_number_needs_none(monkeypatch: pytest.MonkeyPatch, fault: float) -> None:
    """Law 5: a minimum would drop a NaN in silence, and the account would look sound."""
    market, _ = a_market()
    priced = grid.scenario_profits

    def broken(columns: object, members: object, **arguments: object) -> None:
        priced(columns, members, **arguments)  # type: ignore[arg-type]
        arguments["out"][3, 5] = fault  # type: ignore[index]

    monkeypatch.setattr(portfolio, "scenario_profits", broken)
    tables = MODEL.tables(market.columns, PortfolioParameters())
    ether = market.columns.count - 1
    book = a_book([[0, 0]] * 4, [{3: 1}, {3: -1, ether: 4}, {2: 5, 3: 7}, {2: 5, ether: 4}])

    needs = _needs(tables, book.positions, 4)

    assert np.isnan(needs).tolist() == [True, True, True, False]
