"""Derive's building blocks and three margin models: limits, laws, and thousands of numbers of a plain twin.

1. Worst is never above 0. 2. Cash is worth its amount. 3. An account twice as large has a margin twice as large.
4. Initial is never below maintenance where its factors are not. 5. The requirement is what equity and value differ by.
"""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.margin.derive import (
    YEAR_SECONDS,
    Expiries,
    Options,
    Perpetual,
    net_short_options,
    option_prices,
    skew_multipliers,
    smile_vols,
    vol_multipliers,
)
from flows.margin.derive_pmrm import PmrmMargin, PmrmPortfolio, pmrm_margin
from flows.margin.derive_pmrm2 import Collateral, Pmrm2Margin, Pmrm2Portfolio, pmrm2_margin
from flows.margin.derive_srm import SrmMargin, SrmMarket, SrmPortfolio, losses_at_expiry, srm_margin
from infra.conformance.adapter import Adapter, Comparison
from infra.conformance.derive import PMRM, PMRM2, SRM
from schemas.derive_parameters import (
    DERIVE_PARAMETER_SETS,
    DerivePmrm2Parameters,
    DerivePmrmParameters,
    DeriveScenario,
    DeriveSrmParameters,
)
from tests.golden import plain_derive

FILES = sorted(plain_derive.FOLDER.glob("*.json"))
MODELS: dict[str, Adapter] = {"derive-srm": SRM, "derive-pmrm": PMRM, "derive-pmrm2": PMRM2}
SPOT = 2_500.0
# Thousandths, as venues count: halves of what is not subnormal stay exact.
CASH = st.integers(-(10**9), 10**9).map(lambda number: number / 1000.0)
AMOUNTS = st.integers(-30_000, 30_000).map(lambda number: number / 1000.0)
HELD = st.integers(0, 30_000).map(lambda number: number / 1000.0)
Margin = SrmMargin | PmrmMargin | Pmrm2Margin


def comparisons(adapter: Adapter, document: dict[str, Any]) -> list[tuple[str, Comparison]]:
    return [(case.case, one) for case in adapter.cases(document) for one in case.comparisons]


def first_differences(adapter: Adapter, document: dict[str, Any]) -> list[tuple[str, Comparison]]:
    """Return the first step that differs of every case: the one that went wrong."""
    differing: dict[str, Comparison] = {}
    for case, one in comparisons(adapter, document):
        if not one.agrees:
            differing.setdefault(case, one)
    return list(differing.items())


def expiries(days: list[float], **changes: Any) -> Expiries:
    count = len(days)
    columns = {
        "seconds": np.array(days) * 86_400.0,
        "forward_fixed": np.zeros(count),
        "forward_variable": np.full(count, 2_510.0),
        "forward_confidence": np.ones(count),
        "rate": np.full(count, 0.04),
        "rate_confidence": np.ones(count),
        "vol_confidence": np.ones(count),
    }
    return Expiries(**(columns | changes))


def options(*rows: tuple[int, float, bool, float, float]) -> Options:
    """Return options of (expiry, strike, is a call, amount, vol)."""
    place, strike, is_call, amount, vol = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return Options(
        expiry=np.array(place, np.int64),
        strike=np.array(strike, np.float64),
        is_call=np.array(is_call, np.bool_),
        amount=np.array(amount, np.float64),
        implied_vol=np.array(vol, np.float64),
    )


def a_collateral(amount: float, price: float, *, maintenance_haircut: float, initial_haircut: float) -> Collateral:
    """Return one asset that follows spot."""
    return Collateral(
        amount=np.array([amount]),
        price=np.array([price]),
        confidence=np.ones(1),
        maintenance_haircut=np.array([maintenance_haircut]),
        initial_haircut=np.array([initial_haircut]),
        follows_spot=np.array([True]),
    )


@st.composite
def holdings(draw: st.DrawFn) -> tuple[Expiries, Options]:
    count = draw(st.integers(1, 3))
    days = draw(st.lists(st.floats(0.1, 300.0), min_size=count, max_size=count))
    strike, vol = st.floats(200.0, 9_000.0), st.floats(0.05, 2.0)
    row = st.tuples(st.integers(0, count - 1), strike, st.booleans(), AMOUNTS, vol)
    return expiries(days), options(*draw(st.lists(row, max_size=8)))


def margin(model: str, held: tuple[Expiries, Options], cash: float, perpetual: float, spots: float) -> Margin:
    """Return one account's margin under one of the models, with spot collateral."""
    dated, optional = held
    position = Perpetual(amount=perpetual, price=2_504.0, unrealised=perpetual * 3.0, funding=-perpetual)
    if model == "derive-srm":
        market = SrmMarket("ETH", SPOT, 1.0, spots, position, dated, optional)
        return srm_margin(SrmPortfolio(cash, 1.0, (market,)), DeriveSrmParameters())
    if model == "derive-pmrm":
        return pmrm_margin(
            PmrmPortfolio(cash, SPOT, 1.0, 1.0, spots, position, dated, optional), DerivePmrmParameters()
        )
    collateral = a_collateral(spots, SPOT, maintenance_haircut=0.1, initial_haircut=0.05)
    return pmrm2_margin(
        Pmrm2Portfolio(cash, SPOT, 1.0, 1.0, position, collateral, dated, optional), DerivePmrm2Parameters()
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden_portfolios_agree_step_by_step(path: Any) -> None:
    """A step that has moved is named, with the file's number and ours."""
    document = json.loads(path.read_text())
    adapter = next(each for each in MODELS.values() if each.format == document["format"])

    differences = first_differences(adapter, document)

    assert differences == []


def test_golden_files_are_what_the_plain_twin_says() -> None:
    """A golden number was edited, or the twin was, without the other."""
    stored = {path.stem: json.loads(path.read_text()) for path in FILES}

    computed = {name: json.loads(json.dumps(document)) for name, document in plain_derive.documents().items()}

    assert stored == computed


def test_every_parameter_counts_at_its_limits() -> None:
    """A parameter is read in the wrong place, or refused within the venue's bounds."""
    rows = [plain_derive.case("derive-pmrm2", row) for row in plain_derive.pmrm2_limits()]

    differences = first_differences(PMRM2, plain_derive.document("derive-pmrm2", rows))

    assert len(rows) == 68
    assert differences == []


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=40)
@given(held=holdings(), cash=CASH, perpetual=AMOUNTS, spots=HELD)
def test_cash_is_worth_its_amount(
    model: str, held: tuple[Expiries, Options], cash: float, perpetual: float, spots: float
) -> None:
    """Law 2: cash is scaled, haircut or lost on its way into a margin value."""
    before = margin(model, held, cash, perpetual, spots)

    after = margin(model, held, cash + 1_000.0, perpetual, spots)

    assert after.initial_value - before.initial_value == pytest.approx(1_000.0, abs=1e-6)
    assert after.maintenance_value - before.maintenance_value == pytest.approx(1_000.0, abs=1e-6)
    assert after.health == after.maintenance_value


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=40)
@given(held=holdings(), cash=CASH, perpetual=AMOUNTS, spots=HELD)
def test_twice_the_account_has_twice_the_margin(
    model: str, held: tuple[Expiries, Options], cash: float, perpetual: float, spots: float
) -> None:
    """Law 3: a rule depends on size, or a part of the account is not counted. Doubling is exact in floats."""
    dated, optional = held
    doubled = (dated, replace(optional, amount=2.0 * optional.amount))

    one, two = margin(model, held, cash, perpetual, spots), margin(model, doubled, 2 * cash, 2 * perpetual, 2 * spots)

    assert two.initial_value == 2.0 * one.initial_value
    assert two.maintenance_value == 2.0 * one.maintenance_value
    assert two.equity == 2.0 * one.equity


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=40)
@given(held=holdings(), perpetual=AMOUNTS, spots=HELD)
def test_requirements_are_what_they_say(
    model: str, held: tuple[Expiries, Options], perpetual: float, spots: float
) -> None:
    """Laws 1, 4 and 5."""
    result = margin(model, held, 0.0, perpetual, spots)

    slack = 1e-9 * (1.0 + abs(result.equity))
    assert result.initial_margin == result.equity - result.initial_value
    assert result.initial_margin >= result.maintenance_margin - slack
    if not isinstance(result, SrmMargin):
        assert result.worst <= 0.0
        assert result.worst <= float(result.scenario_profit.min())
        assert result.maintenance_margin >= -slack


def test_the_basis_can_be_the_worst() -> None:
    """The basis contingency competes with the scenarios; it was added, or left out."""
    document = json.loads((plain_derive.FOLDER / "worst_is_the_basis.json").read_text())
    expected = document["vectors"][0]["expected"]

    worst = min(*expected["scenario_pnl"], expected["basis_contingency"])

    assert worst == expected["basis_contingency"] < min(expected["scenario_pnl"])
    assert first_differences(PMRM2, document) == []


def test_option_prices_at_their_limits() -> None:
    """Strike 0, forward 0, no vol, no time and endless vol have exact answers."""
    forward = np.array([0.0, 100.0, 100.0, 100.0, 100.0])
    strike = np.array([80.0, 0.0, 80.0, 80.0, 80.0])
    vol = np.array([0.5, 0.5, 0.0, 0.5, 1e6])
    time = np.array([1.0, 1.0, 1.0, 0.0, 1.0])
    discount = np.full(5, 0.9)

    calls, puts = (
        option_prices(
            forward=forward, strike=strike, time_to_expiry=time, implied_vol=vol, discount=discount,
            is_call=np.full(5, is_call),
        )
        for is_call in (True, False)
    )  # fmt: skip

    np.testing.assert_allclose(calls, [0.0, 90.0, 18.0, 18.0, 90.0], rtol=1e-15)
    np.testing.assert_allclose(puts, [72.0, 0.0, 0.0, 0.0, 72.0], rtol=1e-15)


def test_vols_move_less_the_further_the_expiry() -> None:
    """The powers are exchanged at 30 days, or time below the floor counts."""
    seconds = np.array([0.0, 86_400.0, 30 * 86_400.0, 31 * 86_400.0, 300 * 86_400.0])

    up, down = vol_multipliers(
        seconds, vol_up=0.5, vol_down=0.4, power_short=0.3, power_long=0.13, seconds_min=86_400.0
    )

    expected = [30.0**0.3, 30.0**0.3, 1.0, (30 / 31) ** 0.13, 0.1**0.13]
    np.testing.assert_allclose(up, [1.0 + 0.5 * each for each in expected], rtol=1e-14)
    np.testing.assert_allclose(down, [max(1.0 - 0.4 * each, 0.0) for each in expected], rtol=1e-13, atol=1e-15)


def test_a_skew_is_bounded_on_both_sides() -> None:
    """A cap is overstepped; or a cap below 0 is not read as the venue reads it, as the least move."""
    moneyness = np.array([-2.0, -0.05, 0.05, 2.0])
    root, reach = np.full(4, 1.0), np.full(4, 0.5)

    capped = skew_multipliers(moneyness, root, cap=0.3, cap_per_root_year=-0.1, reach=reach)
    negative = skew_multipliers(moneyness, root, cap=0.0, cap_per_root_year=-0.2, reach=reach)

    np.testing.assert_allclose(capped, [0.8, 0.98, 1.02, 1.2], rtol=1e-14)
    np.testing.assert_allclose(negative, [1.8, 1.2, 0.8, 0.2], rtol=1e-14)


def test_calls_and_puts_of_one_strike_offset() -> None:
    """A long call covers a short put of its own strike and expiry alone."""
    covered = options((0, 100.0, True, 3.0, 0.5), (0, 100.0, False, -2.0, 0.5))
    elsewhere = options((0, 100.0, True, 3.0, 0.5), (0, 110.0, False, -2.0, 0.5), (1, 100.0, False, -1.0, 0.5))
    both_short = options((0, 100.0, True, -3.0, 0.5), (0, 100.0, False, -2.0, 0.5))

    counts = [net_short_options(held, 2) for held in (covered, elsewhere, both_short)]

    assert counts == [0.0, 3.0, 5.0]


def test_losses_at_expiry_are_at_strikes_or_at_zero() -> None:
    """The payoff is not read where it bends."""
    held = options((0, 90.0, False, -2.0, 0.5), (0, 110.0, True, -1.0, 0.5), (1, 100.0, True, 1.0, 0.5))

    worst, calls = losses_at_expiry(held, 3)

    assert worst.tolist() == [-180.0, 0.0, 0.0]
    assert calls.tolist() == [-1.0, 1.0, 0.0]


def test_a_smile_is_flat_in_its_wings_and_refuses_negative_variance() -> None:
    """A far strike has a vol of its own, or a root of a negative number is taken."""
    fit = {"a": 0.01, "b": 0.02, "rho": -0.2, "m": 0.0, "sigma": 0.1, "forward": 100.0, "time_to_expiry": 0.1}

    wings = smile_vols(np.array([0.0, 1e-3, 1e-2, 1e4, 1e5]), **fit)

    assert wings[0] == 0.0
    assert wings[1] == wings[2] > 0.0
    assert wings[3] == wings[4] > 0.0
    with pytest.raises(ValueError, match=r"total variance is -.* at strike 100"):
        smile_vols(np.array([100.0]), **(fit | {"a": -0.05}))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"forward_variable": np.array([np.nan])}, r"forward_variable\[0\] is nan"),
        ({"seconds": np.array([-1.0])}, r"seconds\[0\] is -1.0, which is not finite and >= 0"),
        ({"vol_confidence": np.array([1.5])}, r"vol_confidence\[0\] is 1.5, which is not 0 to 1"),
        ({"rate": np.array([np.inf])}, r"rate\[0\] is inf"),
        ({"rate": np.zeros(2)}, r"columns differ in length"),
    ],
)
def test_bad_expiries_are_refused_in_one_line(changes: dict[str, Any], fault: str) -> None:
    """A number that nobody can mean becomes a margin."""
    with pytest.raises(ValueError, match=fault):
        expiries([10.0], **changes)


def test_bad_holdings_are_refused_in_one_line() -> None:
    """A negative price, an unlisted expiry or haircuts above the whole become a margin."""
    listed, held = expiries([10.0]), options((1, 100.0, True, 1.0, 0.5))

    for make, fault in (
        (lambda: options((0, -1.0, True, 1.0, 0.5)), r"strike\[0\] is -1.0"),
        (lambda: PmrmPortfolio(0.0, SPOT, 1.0, 1.0, 0.0, Perpetual(), listed, held), "option 0 is of expiry 1"),
        (lambda: SrmMarket("ETH", 0.0, 1.0, 0.0, Perpetual(), listed, options()), "ETH spot is 0.0"),
        (lambda: Perpetual(amount=float("nan")), "perpetual amount is nan"),
        (lambda: a_collateral(1.0, 1.0, maintenance_haircut=0.6, initial_haircut=0.5), r"haircut\[0\] is 1.1"),
    ):
        with pytest.raises(ValueError, match=fault):
            make()


def test_defaults_are_within_the_venues_limits_and_scenarios_are_its_own() -> None:
    """A default is refused by the venue's own setter, or a scenario is missing."""
    sets = {name: kind() for name, kind in DERIVE_PARAMETER_SETS.items()}

    read_again = {name: DERIVE_PARAMETER_SETS[name].model_validate(each.model_dump()) for name, each in sets.items()}

    assert read_again == sets
    assert len(DerivePmrm2Parameters().scenarios) == 33
    assert len(DerivePmrmParameters().scenarios) == 23


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (DerivePmrm2Parameters, {"basis_up": 1.0}),
        (DerivePmrm2Parameters, {"basis_down": 1.0}),
        (DerivePmrm2Parameters, {"confidence_threshold": 1.01}),
        (DerivePmrm2Parameters, {"initial_factor": 0.49}),
        (DerivePmrm2Parameters, {"perpetual_initial": 3.01}),
        (DerivePmrm2Parameters, {"option_initial": 2.01}),
        (DerivePmrm2Parameters, {"vol_up_min": 20.1}),
        (DerivePmrm2Parameters, {"vol_seconds_min": 400.1 * 86_400.0}),
        (DerivePmrm2Parameters, {"scenarios": []}),
        (DerivePmrm2Parameters, {"scenarios": [{"spot_multiple": 1.1, "vol_move": "linear"}]}),
        (DerivePmrm2Parameters, {"scenarios": [DeriveScenario(spot_multiple=1.0, vol_move="abs")] * 2}),
        (DerivePmrmParameters, {"scenarios": [{"spot_multiple": 1.0, "vol_move": "abs"}]}),
        (DerivePmrmParameters, {"scenarios": [{"spot_multiple": 1.0, "vol_move": "up", "weight": 0.5}]}),
        (DeriveSrmParameters, {"peg_factor": float("nan")}),
    ],
)
def test_what_the_venues_setters_refuse_is_refused(kind: type[DerivePmrm2Parameters], changes: dict[str, Any]) -> None:
    """A bound of the venue's is not kept."""
    with pytest.raises(ValidationError):
        kind(**changes)


def test_time_is_in_years_of_365_days() -> None:
    """The year has another length than the venue's."""
    assert expiries([365.0]).time_to_expiry.tolist() == [1.0]
    assert YEAR_SECONDS == 365 * 86_400
