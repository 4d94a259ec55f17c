"""Derive's models over whole books: what the plain judge says of each account, on markets and books at random.

1. Every account's numbers are the plain ones. 2. They depend on the account alone. 3. Initial covers maintenance, both
>= 0. 4. Carried tables equal fresh ones. 5. Collateral is margined once: a model that does so itself has equity whole.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.margin.collateral import equity
from flows.margin.derive_pmrm2_book import MODEL as PMRM2
from flows.margin.derive_pmrm_book import MODEL as PMRM
from flows.margin.derive_srm_book import MODEL as SRM
from flows.margin.model import Balances, IncrementalMarginModel, MarginModel, margins_collateral
from flows.market.columns import InstrumentColumns
from flows.market.instant import Instant
from flows.market.step import Market
from flows.pricing.kinds import OPTION, PERPETUAL
from schemas.derive_parameters import DerivePmrm2Parameters, DerivePmrmParameters, DeriveSrmParameters
from schemas.ledger import AssetRecord, SettlementRecord
from tests.flows.margin.builders import a_book, a_market
from tests.flows.market.builders import (
    DAY,
    a_dollar,
    a_frame,
    a_price,
    a_smile,
    a_venue,
    an_instrument,
    an_option,
    at,
    bits,
)
from tests.golden.derive_books import a_random_book, a_random_market, compare_books

MODELS: dict[str, MarginModel] = {model.name: model for model in (SRM, PMRM, PMRM2)}
CASES: list[tuple[MarginModel, Any]] = [
    (SRM, DeriveSrmParameters()),
    (PMRM, DerivePmrmParameters()),
    (PMRM2, DerivePmrm2Parameters()),
]
each_model = pytest.mark.parametrize(("model", "parameters"), CASES, ids=lambda case: getattr(case, "name", ""))
SEEDS = st.integers(0, 2**32 - 1)


@lru_cache(maxsize=1)
def priced() -> tuple[Market, Instant]:
    """Return the test market with a coin of 50,000 and 1 % of doubt about it, and a dollar of 0.99."""
    return a_market(a_price(50_000.0, source="a", confidence=500.0, seconds=1e-3))


def covered(columns: InstrumentColumns) -> list[int]:
    return [int(i) for i in np.flatnonzero(np.isin(columns.kind, [OPTION, PERPETUAL]) & (columns.inverse == 0))]


def holding(model: MarginModel, parameters: Any, cash: list[int], held: dict[int, int], **changes: Any) -> list[float]:
    """Return equity, initial and maintenance margin of one account."""
    market, instant = priced()
    book = a_book([cash], [held])
    balances = Balances(book.cash, np.array([changes.get("isolated", False)]), book.positions.count)
    positions = replace(book.positions, balances=balances)
    tables = model.tables(market.columns, parameters)
    margins = model.requirements(tables, positions, np.array([0]))
    worth = equity(
        instant, book.cash, positions, balances.isolated, np.array([0]), np.array([margins_collateral(model)])
    )  # fmt: skip
    return [float(worth[0]), float(margins[0][0]), float(margins[1][0])]


@pytest.mark.parametrize("seed", range(6))
def test_every_account_has_the_numbers_of_the_plain_judge(seed: int) -> None:
    """Law 1: a charge, a scenario, an expiry, a balance or a parameter is read otherwise in columns."""
    compared = list(compare_books(seed, 20, MODELS))

    differing = [one for one in compared if not abs(one.own - one.expected) <= 1e-13 * one.size]
    assert differing == []
    assert sum(one.expected > 0.0 for one in compared) > 100


@pytest.mark.parametrize("fault", ["worth", "uncounted", "maintenance", "initial", "charged", "confidence"])
def test_a_fault_in_the_collateral_is_seen(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Control: fails where the books above do not reach a part of how collateral is margined."""
    right = type(PMRM2).collateral

    def wrong(*arguments: Any) -> Any:
        tables = right(*arguments)
        return replace(tables, **{fault: getattr(tables, fault) * 0.99})

    monkeypatch.setattr(type(PMRM2), "collateral", wrong)

    compared = [one for seed in range(6) for one in compare_books(seed, 20, MODELS) if "pmrm2" in one.step]

    assert any(abs(one.own - one.expected) > 1e-9 * one.size for one in compared)


@each_model
@given(SEEDS)
@settings(max_examples=10)
def test_an_account_depends_on_itself_alone(model: MarginModel, parameters: Any, seed: int) -> None:
    """Laws 2 and 3: what another account left in a scratch array is counted."""
    rng = np.random.default_rng(seed)
    market = Market(MODELS)
    market.step(a_frame(*a_random_market(rng)))
    book = a_random_book(rng, 12, market.columns.count)
    tables = model.tables(market.columns, parameters)

    initial, maintenance = model.requirements(tables, book, np.arange(12))

    alone = [model.requirements(tables, book, np.array([row])) for row in range(12)]
    assert [one[0][0] for one in alone] == initial.tolist()
    assert [one[1][0] for one in alone] == maintenance.tolist()
    assert (initial >= maintenance).all()
    assert (maintenance >= 0.0).all()


@each_model
def test_what_is_not_covered_is_not_decided(model: MarginModel, parameters: Any) -> None:
    """An inverse option or a dated future is margined at nothing."""
    columns = priced()[0].columns
    outside = sorted(set(range(columns.count)) - set(covered(columns)))
    book = a_book([[0, 0]] * len(outside), [{i: -1} for i in outside])

    initial, maintenance = model.requirements(
        model.tables(columns, parameters), book.positions, np.arange(len(outside))
    )  # fmt: skip

    assert np.isinf(initial).all()
    assert np.isinf(maintenance).all()


@pytest.mark.parametrize("model", [PMRM, PMRM2], ids=lambda model: model.name)
@given(spot=st.floats(20_000.0, 90_000.0), dollar=st.floats(0.9, 1.1), coin=st.floats(1.0, 9.0))
@settings(max_examples=5)
def test_carried_tables_equal_fresh_ones(model: Any, spot: float, dollar: float, coin: float) -> None:
    """Law 4, to the bit, when one underlying moved and the other did not, and an asset in which nothing settles."""
    market, _ = a_market(AssetRecord(2, "OTHER", 2), a_price(5.0, feed="OTHER/USD"))
    parameters = dict(CASES)[model]
    before = model.tables(market.columns, parameters)
    moves = [a_price(spot, seconds=1), a_dollar(dollar, seconds=1), a_price(coin, feed="OTHER/USD", seconds=1)]
    instant = market.step(a_frame(*moves, seconds=1))

    carried = model.update(before, market.columns, parameters, np.flatnonzero(instant.moved))

    fresh = model.tables(market.columns, parameters)
    assert bits(carried) == bits(fresh)
    assert isinstance(model, IncrementalMarginModel)


@each_model
def test_cash_counts_whole_and_its_haircut_is_not_taken(model: MarginModel, parameters: Any) -> None:
    """Law 5: the dollar, in which options settle, is cut by the engine's haircut as well, or needs margin."""
    assert holding(model, parameters, [1_000 * 10**6, 0], {}) == [990.0, 0.0, 0.0]


def test_a_coin_is_cut_by_the_model_alone() -> None:
    """Law 5: two coins of 50,000 count as each model counts them, at a dollar of 0.99 and 0.8 of confidence."""
    numbers = {model.name: holding(model, parameters, [0, 2 * 10**8], {}) for model, parameters in CASES}

    assert {name: each[0] for name, each in numbers.items()} == dict.fromkeys(MODELS, 100_000.0)
    counted = 100_000.0 * 0.99 * 0.75
    assert numbers["derive-srm"][1:] == pytest.approx([100_000.0 - 0.93 * counted, 100_000.0 - counted])
    first = 100_000.0 * (0.2 + 0.03 * 0.99)
    assert numbers["derive-pmrm"][1:] == pytest.approx([1.25 * first, first])
    assert numbers["derive-pmrm2"][1:] == pytest.approx(
        [100_000.0 * (0.18 + 0.03 + 0.0075), 100_000.0 * (0.8 * 0.18 + 0.03)]
    )


@pytest.mark.parametrize("model", [PMRM, PMRM2], ids=lambda model: model.name)
def test_a_coin_covers_a_short_perpetual(model: Any) -> None:
    """Collateral is margined apart from what it covers."""
    columns = priced()[0].columns
    perpetual = next(i for i in covered(columns) if columns.kind[i] == PERPETUAL and columns.underlying[i] == 0)
    parameters = dict(CASES)[model]
    short = {perpetual: -1_000}

    bare, covered_short, coin = (
        holding(model, parameters, cash, held)[2]
        for cash, held in (([0, 0], short), ([0, 10**8], short), ([0, 10**8], {}))
    )

    assert covered_short < 0.5 * bare
    assert covered_short < coin


def test_a_debt_in_coins_moves_as_a_short_perpetual_does() -> None:
    """A debt in what follows spot gains nothing and loses nothing when spot rises."""
    debt = holding(PMRM, DerivePmrmParameters(), [0, -(10**8)], {})

    assert debt[0] == -50_000.0
    assert debt[2] == pytest.approx(50_000.0 * (0.2 + 0.03 * 0.99))


@each_model
def test_an_isolated_account_with_positions_has_no_collateral_but_cash(model: MarginModel, parameters: Any) -> None:
    """A coin that does not count in equity is margined."""
    columns = priced()[0].columns
    held = {covered(columns)[0]: -1}

    alone = holding(model, parameters, [10**9, 0], held, isolated=True)
    with_a_coin = holding(model, parameters, [10**9, 10**8], held, isolated=True)

    assert with_a_coin == alone


def test_a_coin_of_which_nothing_covered_is_listed_counts_for_nothing() -> None:
    """A coin is put beside inverse instruments, which it cannot be offset with and whose settlement price it has."""
    market = Market(MODELS)
    market.step(a_frame(*a_venue(an_instrument(0, payoff="inverse"), accounts=("derive-pmrm",))))
    instant = market.step(a_frame(a_price(50_000.0), a_dollar()))
    positions = replace(
        a_book([[0, 10**8]], [{}]).positions,
        balances=Balances(np.array([[0, 10**8]]), np.zeros(1, np.bool_), np.zeros(1, np.int64)),
    )

    initial, maintenance = PMRM.requirements(instant.margin_tables["derive-pmrm"], positions, np.array([0]))

    assert (initial.tolist(), maintenance.tolist()) == ([50_000.0], [50_000.0])


def test_a_coin_of_which_nothing_covered_is_listed_is_as_sure_as_its_own_price() -> None:
    """Another underlying's confidence is read: the last one's, where the coin's has nothing covered."""
    market = Market(MODELS)
    listed = [an_instrument(0, payoff="inverse"), an_instrument(1, underlying="ETH")]
    market.step(a_frame(*a_venue(*listed, accounts=("derive-pmrm2",))))
    of_eth = a_price(2_500.0, feed="ETH/USD", confidence=60.0)
    instant = market.step(a_frame(a_price(50_000.0, confidence=1.0), of_eth, a_dollar()))
    positions = replace(
        a_book([[0, 10**8]], [{}]).positions,
        balances=Balances(np.array([[0, 10**8]]), np.zeros(1, np.bool_), np.zeros(1, np.int64)),
    )

    initial, _ = PMRM2.requirements(instant.margin_tables["derive-pmrm2"], positions, np.array([0]))

    haircut = DerivePmrm2Parameters().collateral["BTC"]
    assert initial.tolist() == pytest.approx([50_000.0 * (haircut.maintenance_haircut + haircut.initial_haircut)])


def test_cash_stays_cash_when_the_last_option_on_it_has_settled() -> None:
    """A dollar counts for nothing because no instrument settles in it any longer."""
    market = Market(MODELS)
    market.step(a_frame(*a_venue(an_option(0, days=1.0), accounts=("derive-srm",))))
    market.step(a_frame(a_price(50_000.0), a_dollar(1.0), a_smile(days=1.0)))
    settled = SettlementRecord("BTC", at(DAY), "50000")
    instant = market.step(a_frame(settled, a_price(50_000.0, seconds=DAY), a_dollar(1.0, seconds=DAY), seconds=DAY))
    positions = replace(
        a_book([[10**6, 0]], [{}]).positions,
        balances=Balances(np.array([[10**6, 0]]), np.zeros(1, np.bool_), np.zeros(1, np.int64)),
    )

    initial, maintenance = SRM.requirements(instant.margin_tables["derive-srm"], positions, np.array([0]))

    assert (initial.tolist(), maintenance.tolist()) == ([0.0], [0.0])


@each_model
def test_orders_that_might_fill_do_not_free_collateral(model: MarginModel, parameters: Any) -> None:
    """A coin that counts in equity, while nothing is held yet, is not margined once an order might fill."""
    columns = priced()[0].columns
    tables = model.tables(columns, parameters)
    balances = Balances(np.array([[0, 10**8]]), np.ones(1, np.bool_), np.zeros(1, np.int64))
    filled = a_book([[0, 0]], [{covered(columns)[0]: -1}]).positions

    initial, _ = model.requirements(tables, replace(filled, balances=balances), np.array([0]))
    without, _ = model.requirements(tables, filled, np.array([0]))

    assert initial[0] > without[0] + 1_000.0
