"""Derive's models over whole books: equal to one account at a time, on a market with every kind of instrument.

1. Both paths agree. 2. An account's numbers depend on the account alone. 3. Initial covers maintenance, both >= 0.
4. Carried tables equal fresh ones.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.margin.derive import YEAR_SECONDS, Expiries, Float64Array, Options, Perpetual
from flows.margin.derive_pmrm2 import Collateral, Pmrm2Portfolio, pmrm2_margin
from flows.margin.derive_pmrm2_book import MODEL as PMRM2
from flows.margin.derive_srm import SrmMarket, SrmPortfolio, srm_margin
from flows.margin.derive_srm_book import MODEL as SRM
from flows.margin.model import IncrementalMarginModel, MarginModel
from flows.market.columns import InstrumentColumns
from flows.market.step import Market
from flows.pricing.kinds import OPTION, PERPETUAL
from schemas.derive_parameters import DerivePmrm2Parameters, DeriveSrmParameters
from tests.flows.margin.builders import RandomBook, a_book, a_market
from tests.flows.market.builders import a_dollar, a_frame, a_price

PMRM2_PARAMETERS = DerivePmrm2Parameters(peg_threshold=0.995, static_long_rate_scale=0.5, static_short_rate_scale=0.4)
SRM_PARAMETERS = DeriveSrmParameters.model_validate(
    {
        "markets": {
            "BTC": {"perpetual_initial": 0.08, "options": {"put_maintenance": 0.1}},
            "ETH": {"options": {"uncovered_initial": 1.4, "uncovered_maintenance": 1.3}},
        },
        "peg_threshold": 0.995,
    }
)
CASES: list[tuple[MarginModel, Any]] = [(SRM, SRM_PARAMETERS), (PMRM2, PMRM2_PARAMETERS)]
SEEDS = st.integers(0, 2**32 - 1)


@lru_cache(maxsize=1)
def priced() -> Market:
    return a_market()[0]


def covered(columns: InstrumentColumns) -> list[int]:
    kinds = np.isin(columns.kind, [OPTION, PERPETUAL])
    return [int(i) for i in np.flatnonzero(kinds & (columns.inverse == 0))]


def books(seed: int, accounts: int) -> RandomBook:
    """Return accounts with up to twelve covered positions each, long and short."""
    rng = np.random.default_rng(seed)
    listed = covered(priced().columns)
    holdings = [
        {
            listed[i]: int(rng.integers(1, 500)) * int(rng.choice([-1, 1]))
            for i in rng.choice(len(listed), int(rng.integers(0, min(12, len(listed)) + 1)), replace=False)
        }
        for _ in range(accounts)
    ]
    return a_book([[0, 0]] * accounts, holdings)


def parts(held: list[tuple[int, int]]) -> list[tuple[str, float, float, Perpetual, Expiries, Options, float]]:
    """Return what an account holds of each underlying, as the models of one account take it.

    Underlying, spot, price of the settlement asset, perpetual, expiries, options, and their value at the market's mark.
    """
    columns = priced().columns
    found = []
    for place, name in enumerate(columns.underlyings):
        mine = [(i, lots) for i, lots in held if columns.underlying[i] == place]
        if not mine:
            continue
        amount = {i: lots * float(columns.quantity[i]) for i, lots in mine}
        perpetuals = [i for i, _ in mine if columns.kind[i] == PERPETUAL]
        chain = [i for i, _ in mine if columns.kind[i] == OPTION]
        firsts = {int(columns.expiry_ns[i]): i for i in reversed(chain)}
        dates = sorted(firsts)
        rows = np.array([firsts[date] for date in dates], np.int64)
        ones: Float64Array = np.ones(len(dates))
        expiries = Expiries(
            columns.time_to_expiry[rows] * YEAR_SECONDS, 0.0 * ones, columns.forward[rows], ones, columns.rate[rows],
            ones, ones,
        )  # fmt: skip
        options = Options(
            np.array([dates.index(int(columns.expiry_ns[i])) for i in chain], np.int64),
            columns.strike[chain],
            columns.call[chain] != 0,
            np.array([amount[i] for i in chain], np.float64),
            columns.implied_vol[chain],
        )
        perpetual = Perpetual()
        if perpetuals:
            (only,) = perpetuals
            perpetual = Perpetual(amount=amount[only], price=float(columns.mark_price[only]))
        first = mine[0][0]
        unit = float(columns.settlement_price[first])
        value = sum(lots * float(columns.value[i]) for i, lots in mine if columns.kind[i] == OPTION)
        found.append((name, float(columns.index_price[first]), unit, perpetual, expiries, options, value))
    return found


@given(SEEDS)
@settings(max_examples=25)
def test_a_books_standard_margin_is_that_of_its_accounts(seed: int) -> None:
    """Law 1: a charge, a payoff or a market is read otherwise in columns."""
    book = books(seed, 8)

    initial, maintenance = SRM.requirements(
        SRM.tables(priced().columns, SRM_PARAMETERS), book.positions, np.arange(8)
    )  # fmt: skip

    for row in range(8):
        want_initial, want_maintenance, size = 0.0, 0.0, 1.0
        for name, spot, unit, perpetual, expiries, options, value in parts(book.holdings(row)):
            market = SrmMarket(name, spot, 1.0, 0.0, perpetual, expiries, options)
            one = srm_margin(SrmPortfolio(0.0, unit, (market,)), SRM_PARAMETERS)
            want_initial += unit * (value - one.initial_value)
            want_maintenance += unit * (value - one.maintenance_value)
            size += abs(value) + abs(one.initial_value)
        assert initial[row] == pytest.approx(max(want_initial, want_maintenance), rel=1e-12, abs=1e-12 * size)
        assert maintenance[row] == pytest.approx(want_maintenance, rel=1e-12, abs=1e-12 * size)


@given(SEEDS)
@settings(max_examples=25)
def test_a_books_portfolio_margin_is_that_of_its_accounts(seed: int) -> None:
    """Law 1: a scenario, an expiry or a contingency is read otherwise in columns."""
    book = books(seed, 8)

    initial, maintenance = PMRM2.requirements(
        PMRM2.tables(priced().columns, PMRM2_PARAMETERS), book.positions, np.arange(8)
    )  # fmt: skip

    for row in range(8):
        want_initial, want_maintenance, size = 0.0, 0.0, 1.0
        for _, spot, unit, perpetual, expiries, options, value in parts(book.holdings(row)):
            one = pmrm2_margin(
                Pmrm2Portfolio(0.0, spot, 1.0, unit, perpetual, Collateral(), expiries, options), PMRM2_PARAMETERS
            )
            want_initial += unit * (value - one.initial_value)
            want_maintenance += unit * (value - one.maintenance_value)
            size += abs(value) + float(np.abs(one.expiry_value).max(initial=0.0))
        assert initial[row] == pytest.approx(want_initial, rel=1e-11, abs=1e-12 * size)
        assert maintenance[row] == pytest.approx(want_maintenance, rel=1e-11, abs=1e-12 * size)


@pytest.mark.parametrize(("model", "parameters"), CASES, ids=lambda case: getattr(case, "name", ""))
@given(SEEDS)
@settings(max_examples=15)
def test_an_account_depends_on_itself_alone(model: MarginModel, parameters: Any, seed: int) -> None:
    """Laws 2 and 3: what another account left in a scratch array is counted."""
    book = books(seed, 12)
    tables = model.tables(priced().columns, parameters)

    initial, maintenance = model.requirements(tables, book.positions, np.arange(12))

    alone = [model.requirements(tables, book.positions, np.array([row])) for row in range(12)]
    assert [one[0][0] for one in alone] == initial.tolist()
    assert [one[1][0] for one in alone] == maintenance.tolist()
    assert (initial >= maintenance).all()
    assert (maintenance >= 0.0).all()


@pytest.mark.parametrize(("model", "parameters"), CASES, ids=lambda case: getattr(case, "name", ""))
def test_what_is_not_covered_is_not_decided(model: MarginModel, parameters: Any) -> None:
    """An inverse option or a dated future is margined at nothing."""
    columns = priced().columns
    outside = sorted(set(range(columns.count)) - set(covered(columns)))
    book = a_book([[0, 0]] * len(outside), [{i: -1} for i in outside])

    initial, maintenance = model.requirements(
        model.tables(columns, parameters), book.positions, np.arange(len(outside))
    )  # fmt: skip

    assert np.isinf(initial).all()
    assert np.isinf(maintenance).all()


@given(spot=st.floats(20_000.0, 90_000.0), dollar=st.floats(0.9, 1.1))
@settings(max_examples=5)
def test_carried_tables_equal_fresh_ones(spot: float, dollar: float) -> None:
    """Law 4, to the bit, when one underlying moved and the other did not."""
    market, _ = a_market()
    before = PMRM2.tables(market.columns, PMRM2_PARAMETERS)
    instant = market.step(a_frame(a_price(spot, seconds=1), a_dollar(dollar, seconds=1), seconds=1))

    carried = PMRM2.update(before, market.columns, PMRM2_PARAMETERS, np.flatnonzero(instant.moved))

    fresh = PMRM2.tables(market.columns, PMRM2_PARAMETERS)
    assert isinstance(PMRM2, IncrementalMarginModel)
    for field in type(fresh).__dataclass_fields__:
        assert np.asarray(getattr(carried, field)).tobytes() == np.asarray(getattr(fresh, field)).tobytes(), field
