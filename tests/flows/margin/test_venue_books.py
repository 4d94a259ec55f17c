"""The venues' models over whole books: equal to one account at a time, on a market with every kind of instrument."""

from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.margin import deribit_portfolio_book, deribit_standard_book, dydx_book
from flows.margin.deribit_account import DeribitAccount, DeribitFuture, DeribitOption, DeribitPosition
from flows.margin.deribit_portfolio import deribit_portfolio
from flows.margin.deribit_standard import deribit_standard
from flows.margin.dydx import DydxAccount, DydxMarket, DydxPosition, dydx_margin
from flows.market.columns import InstrumentColumns
from flows.market.step import Market
from schemas.instruments import InstrumentKind, OptionType, Payoff
from schemas.parameters import DeribitPortfolioParameters, DeribitStandardParameters, DydxParameters
from tests.flows.margin.builders import RandomBook, a_book, a_market, a_random_book
from tests.flows.market.builders import a_dollar, a_frame, a_price, at

SEEDS = st.integers(0, 2**32 - 1)
STANDARD, PORTFOLIO, DYDX = deribit_standard_book.MODEL, deribit_portfolio_book.MODEL, dydx_book.MODEL
RATES = DeribitStandardParameters()
# Small limits, so that random books reach them.
MATRICES = DeribitPortfolioParameters.model_validate(
    {
        payoff: {
            "BTC": {"extended_dampener": 500.0, "delta_shock_threshold": 50_000.0, "extended_factor": 1.3},
            "ETH": {"price_range": 0.2, "buckets_count": 5, "annualised_move": 0.4},
        }
        for payoff in ("inverse", "linear")
    }
)


@lru_cache(maxsize=1)
def priced() -> Market:
    return a_market()[0]


def _accounts(market: Market, held: list[tuple[int, int]]) -> list[tuple[float, DeribitAccount]]:
    """Return a Deribit account for each underlying and payoff that is held, with the price of what it settles in."""
    columns = market.columns
    accounts: dict[tuple[str, Payoff], list[tuple[int, DeribitPosition]]] = {}
    for i, lots in held:
        instrument = market.listings.instruments[i]
        amount = lots * float(instrument.lot_quantity)
        position: DeribitPosition
        if instrument.kind is InstrumentKind.OPTION:
            assert instrument.option_type is not None and instrument.strike is not None and instrument.expiry_ns
            position = DeribitOption(
                instrument=instrument.instrument, underlying=instrument.underlying, payoff=instrument.payoff,
                option_type=OptionType(instrument.option_type), amount=amount, mark_price=float(columns.mark_price[i]),
                underlying_price=float(columns.forward[i]), strike=float(instrument.strike),
                implied_vol=float(columns.implied_vol[i]), expiry_ns=instrument.expiry_ns,
            )  # fmt: skip
        else:
            mark = float(columns.mark_price[i])
            coins = amount / mark if instrument.payoff is Payoff.INVERSE else amount
            position = DeribitFuture(
                instrument.instrument, instrument.underlying, instrument.payoff, coins, mark, instrument.expiry_ns
            )
        accounts.setdefault((instrument.underlying, instrument.payoff), []).append((i, position))
    return [
        (
            float(columns.settlement_price[places[0][0]]),
            DeribitAccount(
                underlying, payoff, float(columns.index_price[places[0][0]]), at(0), tuple(it for _, it in places)
            ),
        )
        for (underlying, payoff), places in accounts.items()
    ]


@given(SEEDS)
@settings(max_examples=20)
def test_deribits_standard_margin_of_a_book_is_that_of_its_accounts(seed: int) -> None:
    """But for the ninth decimal of a coin, to which one account rounds each position."""
    market = priced()
    book = a_random_book(seed, 10, market.columns.count)

    initial, maintenance = STANDARD.requirements(STANDARD.tables(market.columns, RATES), book.positions, np.arange(10))

    for row in range(10):
        margins = [(price, deribit_standard(it, RATES)) for price, it in _accounts(market, book.holdings(row))]
        close: dict[str, Any] = {"rel": 1e-12, "abs": 50_000.0 * 0.5e-9 * 10}
        assert initial[row] == pytest.approx(sum(price * it.initial_requirement for price, it in margins), **close)
        want = sum(price * it.maintenance_requirement for price, it in margins)
        assert maintenance[row] == pytest.approx(want, **close)


@given(SEEDS)
@settings(max_examples=20)
def test_deribits_portfolio_margin_of_a_book_is_that_of_its_accounts(seed: int) -> None:
    """Every group with its own matrix, dampener, shock and rolls, added up; but for the worst case's ninth decimal."""
    market = priced()
    book = a_random_book(seed, 10, market.columns.count)

    tables = PORTFOLIO.tables(market.columns, MATRICES)
    initial, maintenance = PORTFOLIO.requirements(tables, book.positions, np.arange(10))

    for row in range(10):
        margins = [(price, deribit_portfolio(it, MATRICES)) for price, it in _accounts(market, book.holdings(row))]
        close: dict[str, Any] = {"rel": 1e-11, "abs": 50_000.0 * 0.5e-9 * 10}
        assert initial[row] == pytest.approx(sum(price * it.risk_matrix_margin for price, it in margins), **close)
        assert maintenance[row] == pytest.approx(sum(price * it.maintenance_margin for price, it in margins), **close)


def _perpetuals(columns: InstrumentColumns) -> list[int]:
    """Return the linear perpetuals."""
    return [i for i in range(columns.count) if columns.kind[i] == 2 and columns.inverse[i] == 0]


@given(st.integers(-10_000_000, 10_000_000).filter(bool), st.integers(-10_000_000, 10_000_000).filter(bool))
@settings(max_examples=60)
def test_dydxs_margin_of_a_book_is_that_of_its_accounts(btc: int, eth: int) -> None:
    """To the quantum: the same integers, from the market's prices."""
    columns = priced().columns
    held = dict(zip(_perpetuals(columns), (btc, eth), strict=True))
    parameters = DydxParameters(tier_of={"BTC": "safety"}, default_tier="small-cap")
    # One lot is a base quantum, priced in 10^-9 quote quantums: what the market's doubles say, exactly.
    markets = {
        str(i): DydxMarket(
            str(i), round(Fraction(float(columns.quantity[i])) * round(_dollars(columns, i) * 10**9)), -9, 0,
            parameters.tier(columns.underlyings[columns.underlying[i]]),
        )
        for i in held
    }  # fmt: skip

    book = a_book([[0, 0]], [held])
    initial, maintenance = DYDX.requirements(DYDX.tables(columns, parameters), book.positions, np.array([0]))

    want = dydx_margin(DydxAccount(0, tuple(DydxPosition(str(i), lots) for i, lots in held.items())), markets)
    assert (round(initial[0] * 1e6), round(maintenance[0] * 1e6)) == (want.initial_margin, want.maintenance_margin)


def _dollars(columns: InstrumentColumns, i: int) -> Fraction:
    """Return the price of a coin, in decimals as the market's inputs have them."""
    return Fraction(str(float(columns.mark_price[i]))) * Fraction(str(float(columns.settlement_price[i])))


def test_dydx_decides_nothing_that_does_not_fit() -> None:
    """An overflow would read as a small requirement."""
    columns = priced().columns
    perpetual = _perpetuals(columns)[0]
    tables = DYDX.tables(columns, DydxParameters())

    needs = [
        DYDX.requirements(tables, a_book([[0, 0]], [{perpetual: lots}]).positions, np.array([0]))
        for lots in (10**11, -(10**18))
    ]

    assert [np.isinf(part[0]) for pair in needs for part in pair] == [False, False, True, True]


def test_dydx_does_not_cover_options() -> None:
    """An instrument that a model knows nothing of is not margined at nothing: its account is not decided."""
    columns = priced().columns
    book = a_book([[0, 0]], [{0: 1, _perpetuals(columns)[0]: 1}])

    initial, _ = DYDX.requirements(DYDX.tables(columns, DydxParameters()), book.positions, np.array([0]))

    assert np.isinf(initial[0])


def test_dust_is_never_held_for_less_by_holding_it_often() -> None:
    """Each requirement is rounded up: a thousand accounts of a lot need at least what one of a thousand lots needs."""
    columns = priced().columns
    perpetual = _perpetuals(columns)[1]
    tables = DYDX.tables(columns, DydxParameters())
    small = a_book([[0, 0]], [{perpetual: 1}])
    large = a_book([[0, 0]], [{perpetual: 1_000}])

    apart, whole = (DYDX.requirements(tables, book.positions, np.array([0]))[1][0] for book in (small, large))

    assert 1_000 * apart >= whole


@given(spot=st.floats(20_000.0, 90_000.0), dollar=st.floats(0.9, 1.1))
@settings(max_examples=5)
def test_carried_tables_equal_fresh_ones(spot: float, dollar: float) -> None:
    """To the bit, when one underlying moved and the other did not."""
    market, _ = a_market()
    cases: list[tuple[Any, Any]] = [(STANDARD, RATES), (PORTFOLIO, MATRICES)]
    before = [model.tables(market.columns, parameters) for model, parameters in cases]
    instant = market.step(a_frame(a_price(spot, seconds=1), a_dollar(dollar, seconds=1), seconds=1))
    members = np.flatnonzero(instant.moved)

    for (model, parameters), previous in zip(cases, before, strict=True):
        carried = model.update(previous, market.columns, parameters, members)
        fresh = model.tables(market.columns, parameters)
        for field in type(fresh).__dataclass_fields__:
            assert getattr(carried, field).tobytes() == getattr(fresh, field).tobytes(), (model.name, field)


@given(SEEDS)
@settings(max_examples=20)
def test_an_account_depends_on_itself_alone(seed: int) -> None:
    """Evaluated alone or with others the bits are the same, and initial covers maintenance."""
    columns = priced().columns
    book: RandomBook = a_random_book(seed, 12, columns.count)

    cases: list[tuple[Any, Any]] = [(STANDARD, RATES), (PORTFOLIO, MATRICES)]
    for model, parameters in cases:
        tables = model.tables(columns, parameters)
        initial, maintenance = model.requirements(tables, book.positions, np.arange(12))
        alone = [model.requirements(tables, book.positions, np.array([row])) for row in range(12)]
        assert [it[0][0] for it in alone] == initial.tolist()
        assert [it[1][0] for it in alone] == maintenance.tolist()
        assert (initial >= maintenance).all() and (maintenance >= 0.0).all()
