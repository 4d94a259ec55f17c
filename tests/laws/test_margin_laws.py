"""Laws of equity and of both margin models, over random books on one priced market.

1. Numbers equal a plain recomputation.  2. Initial is at least maintenance, and both at least 0.  3. More collateral
never lowers equity.  4. An account's numbers depend on nothing but the account.  5. Carried tables equal fresh ones.
6. Lots scale requirements.  7. Joining two books never needs more than both need apart.
"""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.margin.collateral import equity
from flows.margin.model import MarginModel
from flows.margin.registry import margin_models
from flows.market.instant import Instant
from flows.market.step import Market
from flows.pricing.kinds import OPTION
from schemas.parameters import PortfolioParameters, StandardParameters
from tests.flows.margin.builders import MODELS, RandomBook, a_book, a_market, a_random_book
from tests.flows.market.builders import a_dollar, a_frame, a_price
from tests.flows.pricing.test_grid import _plain

SEEDS = st.integers(0, 2**32 - 1)
INSTALLED = margin_models()


@lru_cache(maxsize=1)
def priced() -> tuple[Market, Instant]:
    return a_market()


def _requirements(model: MarginModel, book: RandomBook, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return model.requirements(priced()[1].margin_tables[model.name], book.positions, rows)


def _equity(book: RandomBook, rows: np.ndarray) -> np.ndarray:
    return equity(priced()[1], book.cash, book.positions, book.isolated, rows)


@lru_cache(maxsize=1)
def _plain_profits() -> list[list[float]]:
    columns = priced()[0].columns
    scenarios = PortfolioParameters().scenarios
    present = [_plain(columns, i, 1.0, 0.0) for i in range(columns.count)]
    return [
        [weight * (_plain(columns, i, spot, direction) - present[i]) for spot, direction, weight in scenarios]
        for i in range(columns.count)
    ]


def _plain_numbers(book: RandomBook, row: int) -> dict[str, float]:
    """Return equity and requirements of an account by the rules as they are written, in plain Python."""
    market, instant = priced()
    columns, held = market.columns, book.holdings(row)
    net = [float(book.cash[row, j]) * 10.0 ** -market.listings.assets[j].decimals for j in range(2)]
    counted = {market.listings.instruments[i].settlement_asset for i, _ in held}
    standard, portfolio = StandardParameters(), PortfolioParameters()
    needs = {"standard_initial": 0.0, "standard_maintenance": 0.0, "base": 0.0}
    losses: dict[str, list[float]] = {}
    for i, lots in held:
        instrument = market.listings.instruments[i]
        asset = instrument.settlement_asset
        net[asset] += lots * float(instant.value[i])
        size, notional = abs(lots), float(instant.notional[i])
        worth = float(instant.value[i]) * float(instant.asset_price[asset])
        if instrument.strike is None:
            initial, maintenance = standard.linear_initial * notional, standard.linear_maintenance * notional
            needs["base"] += size * notional * portfolio.linear_contingency
        elif lots > 0:
            initial = maintenance = (1.0 - standard.long_option_credit) * worth
        else:
            spot, strike = float(instant.index_price[i]), float(instrument.strike)
            call = bool(columns.call[i])
            outside = max(strike - spot if call else spot - strike, 0.0)
            initial = max(standard.option_initial - outside / spot, standard.option_initial_min) * notional
            maintenance = standard.option_maintenance * notional
            if not call:
                maintenance = max(maintenance, standard.option_maintenance * worth)
                initial = max(initial, maintenance)
            needs["base"] += size * notional * portfolio.short_option_contingency
        needs["standard_initial"] += size * initial
        needs["standard_maintenance"] += size * maintenance
        row_sum = losses.setdefault(instrument.underlying, [0.0] * len(portfolio.scenarios))
        for s, profit in enumerate(_plain_profits()[i]):
            row_sum[s] += lots * profit
    needs["base"] += sum(max(0.0, -min(sums)) for sums in losses.values())
    needs["equity"] = 0.0
    for j, amount in enumerate(net):
        worth = amount * float(instant.asset_price[j])
        if worth < 0.0:
            needs["equity"] += worth
        elif not book.isolated[row] or not held or j in counted:
            needs["equity"] += worth * (1.0 - float(instant.haircut[j]))
    return needs


@given(SEEDS)
@settings(max_examples=20)
def test_numbers_equal_a_plain_recomputation(seed: int) -> None:
    """Law 1: a second, slow implementation of the written rules, to 1e-9 of the book's size (1e-12 per position)."""
    book = a_random_book(seed, 12, priced()[0].columns.count)
    rows = np.arange(12)

    equity = _equity(book, rows)
    standard_initial, standard_maintenance = _requirements(INSTALLED["tidegate-standard"], book, rows)
    portfolio_initial, portfolio_maintenance = _requirements(INSTALLED["tidegate-portfolio"], book, rows)

    factors = PortfolioParameters()
    for row in rows:
        want = _plain_numbers(book, int(row))
        gross = sum(abs(lots) * float(priced()[1].notional[i]) for i, lots in book.holdings(int(row)))
        close = {"rel": 1e-12, "abs": 1e-12 * (gross + np.abs(book.cash[row]).sum())}
        assert equity[row] == pytest.approx(want["equity"], **close)
        assert standard_initial[row] == pytest.approx(want["standard_initial"], **close)
        assert standard_maintenance[row] == pytest.approx(want["standard_maintenance"], **close)
        assert portfolio_initial[row] == pytest.approx(want["base"] * factors.initial_factor, **close)
        assert portfolio_maintenance[row] == pytest.approx(want["base"] * factors.maintenance_factor, **close)


@pytest.mark.parametrize("name", MODELS)
@given(seed=SEEDS)
@settings(max_examples=30)
def test_initial_is_at_least_maintenance(name: str, seed: int) -> None:
    """Law 2: an account may never be liquidated before it is stopped from adding risk."""
    book = a_random_book(seed, 40, priced()[0].columns.count)

    initial, maintenance = _requirements(INSTALLED[name], book, np.arange(40))

    assert (initial >= maintenance).all()
    assert (maintenance >= 0.0).all()


@given(seed=SEEDS, asset=st.integers(0, 1), units=st.integers(1, 10**11))
def test_more_collateral_never_lowers_equity(seed: int, asset: int, units: int) -> None:
    """Law 3: no haircut, netting or isolation may punish a deposit; requirements do not read cash at all."""
    book = a_random_book(seed, 20, priced()[0].columns.count)
    richer = RandomBook(book.cash.copy(), book.isolated, book.positions)
    richer.cash[:, asset] += units

    assert (_equity(richer, np.arange(20)) >= _equity(book, np.arange(20))).all()


@given(seed=SEEDS, order=st.permutations(range(12)))
@settings(max_examples=30)
def test_an_account_depends_on_itself_alone(seed: int, order: list[int]) -> None:
    """Law 4: evaluated alone, with others, or in another order, the bits are the same."""
    book = a_random_book(seed, 12, priced()[0].columns.count)
    rows = np.array(order)

    together = _equity(book, rows)
    requirements = {name: _requirements(INSTALLED[name], book, rows) for name in MODELS}

    for place, row in enumerate(order):
        alone = np.array([row])
        assert _equity(book, alone)[0] == together[place]
        for name, pair in requirements.items():
            assert [part[0] for part in _requirements(INSTALLED[name], book, alone)] == [part[place] for part in pair]


@given(spot=st.floats(20_000.0, 90_000.0), dollar=st.floats(0.9, 1.1), name=st.sampled_from(MODELS))
@settings(max_examples=15)
def test_carried_tables_equal_fresh_ones(spot: float, dollar: float, name: str) -> None:
    """Law 5: incremental equals recomputed, to the bit."""
    market, _ = a_market()
    market.step(a_frame(a_price(spot, seconds=1), seconds=1))
    instant = market.step(a_frame(a_price(3_100.0, feed="ETH/USD", seconds=2), a_dollar(dollar, seconds=2), seconds=2))

    fresh = INSTALLED[name].tables(market.columns, market.parameters(name))

    carried = instant.margin_tables[name]
    for field in type(fresh).__dataclass_fields__:
        left, right = getattr(carried, field), getattr(fresh, field)
        assert left.tobytes() == right.tobytes() if isinstance(left, np.ndarray) else left == right


@pytest.mark.parametrize("name", MODELS)
@given(seed=SEEDS, times=st.integers(2, 64))
@settings(max_examples=20)
def test_lots_scale_requirements(name: str, seed: int, times: int) -> None:
    """Law 6: twice the book needs twice the margin; a rule by size would need its own law."""
    book = a_random_book(seed, 8, priced()[0].columns.count)
    larger = [{i: times * lots for i, lots in book.holdings(row)} for row in range(8)]

    once = _requirements(INSTALLED[name], book, np.arange(8))
    many = _requirements(INSTALLED[name], a_book([[0, 0]] * 8, larger), np.arange(8))

    for small, large in zip(once, many, strict=True):
        assert large == pytest.approx(times * small, rel=1e-12, abs=1e-9)


@given(seed=SEEDS)
@settings(max_examples=30)
def test_a_joined_book_never_needs_more_than_its_parts(seed: int) -> None:
    """Law 7: the portfolio model's worst case is sub-additive; otherwise accounts would split to save margin."""
    model = INSTALLED["tidegate-portfolio"]
    book = a_random_book(seed, 2, priced()[0].columns.count)
    joined: dict[int, int] = {}
    for row in range(2):
        for i, lots in book.holdings(row):
            joined[i] = joined.get(i, 0) + lots

    apart = _requirements(model, book, np.arange(2))[0].sum()
    whole = _requirements(model, a_book([[0, 0]], [{i: q for i, q in joined.items() if q}]), np.array([0]))[0][0]

    assert whole <= apart * (1.0 + 1e-12) + 1e-9


def test_the_market_of_these_laws_has_every_kind() -> None:
    """A market without inverse puts would prove nothing about them."""
    columns = priced()[0].columns

    assert priced()[1].value_decidable.all()
    assert {(int(k), int(v)) for k, v in zip(columns.kind, columns.inverse, strict=True)} == {
        (0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1),
    }  # fmt: skip
    assert set(columns.call[columns.kind == OPTION].tolist()) == {0, 1}
