"""The ladder and the sizes of liquidation orders (flows/liquidation)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.liquidation.ladder import tiers
from flows.liquidation.sizing import orders
from flows.margin.model import PositionColumns
from schemas.parameters import LadderParameters, LiquidationParameters
from schemas.results import ResultKind, Results, Tier

LADDER = LadderParameters()
MONEY = st.floats(min_value=-1e9, max_value=1e9)


@pytest.mark.parametrize(
    ("equity", "tier"),
    [
        (120.0, Tier.HEALTHY),
        (math.nextafter(120.0, 0.0), Tier.WATCH),
        (100.0, Tier.WATCH),
        (math.nextafter(100.0, 0.0), Tier.WARNING),
        (60.0, Tier.WARNING),
        (math.nextafter(60.0, 0.0), Tier.LIQUIDATING),
        (40.0, Tier.LIQUIDATING),
        (math.nextafter(40.0, 0.0), Tier.TAKEOVER),
        (0.0, Tier.TAKEOVER),
        (-5e-324, Tier.BANKRUPT),
    ],
)
def test_a_boundary_belongs_to_the_better_tier(equity: float, tier: Tier) -> None:
    """Each boundary is decided by one strict comparison, to the last bit."""
    found = tiers(np.array([equity]), np.array([100.0]), np.array([60.0]), LADDER)

    assert Tier(found[0]) is tier


@given(MONEY, MONEY, st.floats(0, 1e6), st.floats(1.0, 5.0))
def test_more_equity_never_worsens_a_tier(first: float, second: float, maintenance: float, ratio: float) -> None:
    """The ladder is monotone in equity."""
    low, high = sorted((first, second))

    found = tiers(np.array([low, high]), np.full(2, maintenance * ratio), np.full(2, maintenance), LADDER)

    assert found[0] >= found[1]


def test_an_account_that_needs_no_margin_is_healthy_at_zero() -> None:
    """Without positions there is nothing to liquidate, and zero equity is no breach."""
    assert tiers(np.zeros(1), np.zeros(1), np.zeros(1), LADDER)[0] == Tier.HEALTHY


class OneAccount:
    """A row with positions, to size orders of."""

    def __init__(self, lots: list[int]) -> None:
        self.positions = PositionColumns(
            np.zeros(1, np.int64), np.array([len(lots)]), np.arange(len(lots), dtype=np.uint32), np.array(lots)
        )
        self.order_lots = np.zeros(len(lots), np.int64)
        self.order_count = np.zeros(1, np.int64)

    def orders(self, tier: Tier, equity: float, maintenance: float, *, notional: float = 1_000.0) -> Results:
        """Bring the orders up to a tier."""
        return orders(
            rows=np.zeros(1, np.int64),
            account=np.array([42], np.uint32),
            tier=np.array([tier], np.uint8),
            equity=np.array([equity]),
            maintenance=np.array([maintenance]),
            notional=np.full(self.order_lots.shape[0], notional),
            positions=self.positions,
            order_lots=self.order_lots,
            order_count=self.order_count,
            liquidation=LiquidationParameters(),
        )


@given(
    st.lists(st.integers(-(10**6), 10**6).filter(bool), min_size=1, max_size=8),
    st.floats(1.0, 1e9),
    st.floats(0.67, 0.999),
)
def test_a_partial_order_restores_maintenance_and_the_buffer_and_no_more(
    lots: list[int], maintenance: float, health: float
) -> None:
    """The fraction left needs at most equity / (1 + buffer); one lot less of each would not do."""
    account = OneAccount(lots)
    equity = maintenance * health

    account.orders(Tier.LIQUIDATING, equity, maintenance, notional=1e9)

    target = equity / (1.0 + LiquidationParameters().buffer)
    for held, order in zip(lots, account.order_lots, strict=True):
        assert abs(order) <= abs(held)
        assert order == 0 or (order > 0) != (held > 0)
        left = (abs(held) - abs(int(order))) / abs(held)
        one_less = (abs(held) - abs(int(order)) + 1) / abs(held)
        assert left * maintenance <= target * (1 + 1e-9)
        assert one_less * maintenance > target * (1 - 1e-9)


def test_an_order_is_published_again_only_when_it_grows_and_cancelled_on_recovery() -> None:
    """One open order an account and instrument."""
    account = OneAccount([100, -50])

    first = account.orders(Tier.LIQUIDATING, 90.0, 100.0)
    same = account.orders(Tier.LIQUIDATING, 90.0, 100.0)
    better = account.orders(Tier.LIQUIDATING, 95.0, 100.0)
    worse = account.orders(Tier.TAKEOVER, 50.0, 100.0)
    recovered = account.orders(Tier.WARNING, 120.0, 100.0)

    assert [ResultKind(kind) for kind in first["kind"]] == [ResultKind.ORDER_OPENED] * 2
    assert [int(lots) for lots in first["lots"]] == [-19, 10]
    assert same.shape[0] == better.shape[0] == 0
    assert [(ResultKind(r["kind"]), int(r["lots"]), int(r["amount"])) for r in worse] == [
        (ResultKind.ORDER_GROWN, -100, -19),
        (ResultKind.ORDER_GROWN, 50, 10),
    ]
    assert [ResultKind(kind) for kind in recovered["kind"]] == [ResultKind.ORDER_CANCELLED] * 2
    assert not account.order_lots.any()
    assert int(account.order_count[0]) == 0


def test_dust_is_closed_whole() -> None:
    """A position below the floor is not cut into smaller dust."""
    account = OneAccount([10])

    account.orders(Tier.LIQUIDATING, 99.0, 100.0, notional=1.0)

    assert int(account.order_lots[0]) == -10
