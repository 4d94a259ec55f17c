"""``tidegate-portfolio``: worst scenarios by underlying, and contingencies."""

import numpy as np
import pytest

from flows.margin.portfolio import MODEL
from flows.market.instant import Instant
from flows.market.step import Market
from schemas.failures import Refused
from schemas.instruments import InstrumentKind
from schemas.ledger import ParametersRecord
from tests.flows.margin.builders import a_book, a_market
from tests.flows.market.builders import some_parameters


def _base(instant: Instant, holdings: dict[int, int]) -> float:
    book = a_book([[0, 0]], [holdings])
    _, maintenance = MODEL.requirements(instant.margin_tables["tidegate-portfolio"], book.positions, np.array([0]))
    return float(maintenance[0])


def _perpetuals(market: Market) -> dict[str, int]:
    return {
        f"{it.underlying}-{it.payoff.value}": it.index
        for it in market.listings.instruments
        if it.kind is InstrumentKind.PERPETUAL
    }


def _only(*scenarios: tuple[float, int, float], **changes: object) -> ParametersRecord:
    return some_parameters(
        "tidegate-portfolio",
        **{"scenarios": list(scenarios), "linear_contingency": 0.0, "short_option_contingency": 0.0, **changes},
    )


def test_a_long_loses_in_the_fall_and_a_short_in_the_rise() -> None:
    """Each side meets its own worst scenario; the best one pays nothing."""
    market, instant = a_market(_only((0.9, 0, 1.0), (1.2, 0, 1.0)))
    perpetual = _perpetuals(market)["BTC-linear"]

    assert _base(instant, {perpetual: 2}) == pytest.approx(2 * 50.0 * 0.1 * 0.99)
    assert _base(instant, {perpetual: -2}) == pytest.approx(2 * 50.0 * 0.2 * 0.99)


def test_an_inverse_lot_loses_coins_at_their_present_price() -> None:
    """100 USD at 50,000 is 0.002 coins; down 10 % it takes 0.002 / 0.9, which is 0.000222 more."""
    market, instant = a_market(_only((0.9, 0, 1.0)))

    got = _base(instant, {_perpetuals(market)["BTC-inverse"]: 1})

    assert got == pytest.approx(100.0 / 50_000.0 * (1.0 / 0.9 - 1.0) * 50_000.0)


def test_the_weight_scales_a_scenarios_loss() -> None:
    """A crash of half at 40 % costs as much as one of a fifth."""
    market, instant = a_market(_only((0.5, 0, 0.4)))

    assert _base(instant, {_perpetuals(market)["BTC-linear"]: 1}) == pytest.approx(50.0 * 0.5 * 0.4 * 0.99)


def test_losses_net_within_an_underlying_and_never_across() -> None:
    """A long BTC against a short ETH of the same size is two bets."""
    market, instant = a_market(_only((0.9, 0, 1.0), (1.1, 0, 1.0)))
    places = _perpetuals(market)
    future = next(it.index for it in market.listings.instruments if it.kind is InstrumentKind.FUTURE)

    hedged = _base(instant, {places["BTC-linear"]: 1000, future: -1000})
    across = _base(instant, {places["BTC-linear"]: 60, places["ETH-linear"]: -1000})

    assert hedged == pytest.approx(1000 * (50.9 - 50.0) * 0.1 * 0.99)
    assert across == pytest.approx((60 * 50.0 + 1000 * 3.0) * 0.1 * 0.99)


def test_contingencies_fall_on_linear_lots_and_short_options() -> None:
    """A fully hedged book still pays for its size; a long option has nothing to be contingent on."""
    market, instant = a_market(_only((1.0, 0, 1.0), linear_contingency=0.01, short_option_contingency=0.02))
    perpetual = _perpetuals(market)["BTC-linear"]

    assert _base(instant, {perpetual: -4}) == pytest.approx(4 * 50.0 * 0.01)
    assert _base(instant, {0: -4}) == pytest.approx(4 * 50.0 * 0.02)
    assert _base(instant, {0: 4}) == 0.0


def test_factors_separate_initial_from_maintenance() -> None:
    """The same base, two multiples."""
    market, instant = a_market(_only((0.9, 0, 1.0), maintenance_factor=0.8, initial_factor=1.5))
    book = a_book([[0, 0]], [{_perpetuals(market)["BTC-linear"]: 1}])

    initial, maintenance = MODEL.requirements(
        instant.margin_tables["tidegate-portfolio"], book.positions, np.array([0])
    )

    assert (initial[0], maintenance[0]) == pytest.approx((1.5 * 4.95, 0.8 * 4.95))


def test_rows_are_aligned_and_padded() -> None:
    """Vector loads of a row must not straddle cache lines; padding must never be a scenario."""
    _, instant = a_market()

    table = instant.margin_tables["tidegate-portfolio"]

    assert table.rows.ctypes.data % 64 == 0
    assert table.rows.shape[1] == 32
    assert table.profit.shape[1] == table.scenario_count == 24
    assert not table.rows[:, 24:28].any()


def _hedged(correlation: float, stress: float, names: tuple[str, ...] = ("BTC", "ETH")) -> float:
    group = {"underlyings": list(names), "correlation": correlation, "stress": stress}
    market, instant = a_market(_only((0.9, 0, 1.0), (1.1, 0, 1.0), offset_groups=[group]))
    places = _perpetuals(market)
    # Long 3,000 of one and short 3,000 of the other: apart they lose 300 and 300, together nothing.
    return _base(instant, {places["BTC-linear"]: 60, places["ETH-linear"]: -1_000}) / 0.99


def test_a_group_offsets_what_its_stressed_correlation_allows() -> None:
    """F = 1 - sqrt((1 - 0.82) / 2) = 0.7, so that 0.3 × 600 is left; and 0.5 of it at a correlation of a half."""
    assert _hedged(0.9, 0.08) == pytest.approx(0.3 * 600.0)
    assert _hedged(0.9, 0.4) == pytest.approx(0.5 * 600.0)


def test_what_stress_takes_away_offsets_nothing() -> None:
    """The control: without a correlation that is left, or in no common group, losses are added."""
    assert _hedged(0.3, 0.3) == pytest.approx(600.0)
    assert _hedged(0.3, 1.5) == pytest.approx(600.0)
    assert _hedged(0.9, 0.0, ("BTC", "XRP")) == pytest.approx(600.0)


@pytest.mark.parametrize(("groups", "fault"), [
    ([{"underlyings": ["BTC"], "correlation": 0.5, "stress": 0.1}], "at least 2"),
    ([{"underlyings": ["BTC", "BTC"], "correlation": 0.5, "stress": 0.1}], "twice"),
    ([{"underlyings": ["BTC", "ETH"], "correlation": 1.0, "stress": 0.1}], "less than 1"),
    ([{"underlyings": ["BTC", "ETH"], "correlation": -1.0, "stress": 0.1}], "greater than -1"),
    ([{"underlyings": ["BTC", "ETH"], "correlation": 0.5, "stress": -0.1}], "greater than or equal to 0"),
    ([{"underlyings": [a, b], "correlation": 0.5, "stress": 0.1} for a, b in (("BTC", "ETH"), ("SOL", "BTC"))],
     "two offset groups"),
])  # fmt: skip
def test_groups_that_say_nothing_are_refused(groups: list[dict[str, object]], fault: str) -> None:
    """A bad set leaves the one before in force; the message names what is wrong."""
    with pytest.raises(Refused, match=fault):
        _only((0.9, 0, 1.0), offset_groups=groups)
