"""Funding and expiry: exact integers per lot."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.market.listings import resolve_instrument
from flows.market.payments import checked_units, funding_units, payoff_per_lot, settlement_units
from schemas.ledger import InstrumentRecord
from tests.flows.market.builders import an_instrument, an_option, at


@pytest.mark.parametrize(("record", "price", "payoff"), [
    (an_option(0, strike="50000"), "51234.5", Fraction("1.2345")),
    (an_option(0, strike="50000"), "49999", Fraction(0)),
    (an_option(0, strike="50000", option_type="put"), "48000", Fraction(2)),
    (an_option(0, strike="50000", payoff="inverse"), "60000", Fraction(1, 60)),
    (an_option(0, strike="50000", option_type="put", payoff="inverse"), "40000", Fraction(1, 40)),
    (an_instrument(0, "future", expiry_ns=at(0)), "51234.5", Fraction("51.2345")),
    (an_instrument(0, "future", expiry_ns=at(0), payoff="inverse"), "30000", Fraction(-1, 300)),
])  # fmt: skip
def test_an_expiry_pays_its_exact_payoff(record: InstrumentRecord, price: str, payoff: Fraction) -> None:
    """A float on this path would lose units; a future pays its whole value, since its entry cost stands against it."""
    assert payoff_per_lot(resolve_instrument(record), Fraction(price)) == payoff


@given(
    st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=20),
    st.decimals(1, 200_000, places=4),
    st.sampled_from(["linear", "inverse"]),
    st.sampled_from(["call", "put"]),
)
def test_expiry_closes_to_the_unit(lots: list[int], price: object, payoff: str, option_type: str) -> None:
    """Positions that sum to zero pay exactly zero: the rounding is per lot, and lots are integers."""
    instrument = resolve_instrument(an_option(0, payoff=payoff, option_type=option_type))
    book = [*lots, -sum(lots)]

    units = settlement_units(instrument, Fraction(str(price)), 6)

    assert sum(units * lot for lot in book) == 0
    assert abs(units - payoff_per_lot(instrument, Fraction(str(price))) * 10**6) <= Fraction(1, 2)


@given(st.lists(st.tuples(st.floats(1e-9, 1e6), st.floats(-0.01, 0.01)), min_size=1, max_size=60))
def test_funding_never_drifts_from_the_exact_sum(payments: list[tuple[float, float]]) -> None:
    """Rounding each payment by itself would lose half a unit a time, always to one side for a steady rate."""
    paid, exact, residual = 0, Fraction(0), Fraction(0)

    for value, rate in payments:
        units, residual = funding_units(value, Fraction(rate), 6, residual)
        paid += units
        exact -= Fraction(value) * Fraction(rate) * 10**6

        assert abs(paid - exact) <= Fraction(1, 2)


def test_longs_pay_a_positive_rate_whatever_the_payoff() -> None:
    """An inverse lot's value is negative; its size counts."""
    assert funding_units(50.0, Fraction("0.0001"), 6, Fraction(0))[0] == -5000
    assert funding_units(-0.002, Fraction("0.0001"), 8, Fraction(0))[0] == -20


def test_a_payment_beyond_64_bits_halts() -> None:
    """It must not wrap."""
    with pytest.raises(OverflowError):
        checked_units(2**63)
