"""Futures and perpetuals: values and their slopes."""

import pytest

from flows.pricing.linear import lot_delta, lot_gamma, lot_value


def test_a_linear_lot_is_worth_quantity_times_price() -> None:
    """The unit of a lot is the underlying."""
    assert lot_value(0.001, 50_000.0, False) == 50.0


def test_an_inverse_lot_gains_coins_when_the_price_rises() -> None:
    """Its value is negative: the entry's cash leg stands against it."""
    entry, now = lot_value(100.0, 50_000.0, True), lot_value(100.0, 51_000.0, True)

    assert entry == -0.002
    assert now - entry > 0.0


@pytest.mark.parametrize("inverse", [False, True])
def test_delta_and_gamma_are_derivatives_by_the_index(inverse: bool) -> None:
    """The mark keeps its ratio to the index; a wrong power of the price shows here."""
    index, ratio, step = 50_000.0, 1.02, 50.0

    up, here, down = (lot_value(100.0, ratio * (index + move), inverse) for move in (step, 0.0, -step))

    assert lot_delta(100.0, ratio * index, index, inverse) == pytest.approx((up - down) / (2.0 * step), rel=1e-6)
    assert lot_gamma(100.0, ratio * index, index, inverse) == pytest.approx(
        (up - 2.0 * here + down) / step**2, rel=1e-4, abs=1e-18
    )
