"""Parameter sets of Derive's three margin models, bounded as the venue's own setters bound them.

1. Ratios are fractions, vols annualised, times in seconds, as the venue counts them.
2. Names say what a number does here; ``docs/conformance.md`` says what the venue's files call it.
3. What the venue does not bound, and a wrong number could hide in (a scenario's weight), is bounded here.

Defaults are those of the venue's main network at the beginning of 2026, but for the static discounts: its script has
long and short the wrong way round (a long would gain), so the defaults are the values of its tests.
"""

from typing import Annotated, Final, Literal, get_args

from pydantic import Field, model_validator

from schemas.parameter_set import ParameterSet, Ratio

UpTo2 = Annotated[float, Field(ge=0.0, le=2.0)]
UpTo3 = Annotated[float, Field(ge=0.0, le=3.0)]
UpTo4 = Annotated[float, Field(ge=0.0, le=4.0)]
UpTo10 = Annotated[float, Field(ge=0.0, le=10.0)]
UpTo20 = Annotated[float, Field(ge=0.0, le=20.0)]
UpTo100 = Annotated[float, Field(ge=0.0, le=100.0)]
Either10 = Annotated[float, Field(ge=-10.0, le=10.0)]
Either20 = Annotated[float, Field(ge=-20.0, le=20.0)]

_DAY_SECONDS: Final = 86_400.0

VolMove = Literal["up", "none", "down"]
SkewMove = Literal["linear", "abs"]
SKEWS: Final = frozenset(get_args(SkewMove))

# The band of a price, relative to it, at which its confidence is 0; without a band it is 1.
ConfidenceBand = Annotated[float, Field(gt=0.0, le=1.0)]


class DeriveScenario(ParameterSet):
    """One move of the market: spot by a multiple, vols up, down or by skew; its profit counts times ``weight``."""

    spot_multiple: Annotated[float, Field(gt=0.0, le=100.0)]
    vol_move: VolMove | SkewMove
    weight: UpTo100 = 1.0


class _DeriveScenarioParameters(ParameterSet):
    """What both portfolio models have."""

    # How far vols move in 30 days' worth of time: by ±range × (30 days / time)^power.
    vol_up: UpTo10 = 0.5
    vol_down: UpTo10 = 0.3
    vol_power_short: UpTo10 = 0.3
    vol_power_long: UpTo10 = 0.13
    vol_seconds_min: Annotated[float, Field(ge=0.0, le=400.0 * _DAY_SECONDS)] = _DAY_SECONDS
    # An expiry's own fall or rise, × (add + per year × time).
    basis_up: Annotated[float, Field(gt=1.0, lt=3.0)] = 1.045
    basis_down: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.955
    basis_add: UpTo20 = 0.5
    basis_per_year: UpTo20 = 2.0
    # Below this price of the stable asset the initial loss factor grows by the gap × factor.
    peg_threshold: UpTo100 = 0.99
    peg_factor: UpTo20 = 4.0
    # Below this confidence (1 - confidence) × charge × notional is set aside, initially.
    confidence_threshold: Ratio = 0.55
    confidence_charge: UpTo20 = 1.0
    confidence_band: ConfidenceBand = 0.05


def _grid(moves: tuple[float, ...]) -> list[DeriveScenario]:
    vol_moves: tuple[VolMove, ...] = ("up", "none", "down")
    return [
        DeriveScenario(spot_multiple=1.0 + move / 100.0, vol_move=vol_move) for move in moves for vol_move in vol_moves
    ]


def _pmrm_scenarios() -> list[DeriveScenario]:
    return [
        DeriveScenario(spot_multiple=1.2, vol_move="up"),
        *_grid((15.0, 10.0, 5.0, 0.0, -5.0, -10.0, -15.0)),
        DeriveScenario(spot_multiple=0.8, vol_move="up"),
    ]


class DerivePmrmParameters(_DeriveScenarioParameters):
    """``derive-pmrm``: the first portfolio model."""

    scenarios: Annotated[list[DeriveScenario], Field(min_length=1, max_length=40)] = Field(
        default_factory=_pmrm_scenarios
    )
    vol_up: UpTo10 = 0.6
    basis_up: Annotated[float, Field(gt=1.0, lt=3.0)] = 1.05
    basis_down: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    basis_add: UpTo20 = 1.0
    basis_per_year: UpTo20 = 1.2
    initial_factor: Annotated[float, Field(ge=0.5, le=10.0)] = 1.25
    static_base: UpTo4 = 0.95
    static_rate_scale: UpTo10 = 1.0
    static_per_year: UpTo10 = 0.12
    perpetual_contingency: UpTo3 = 0.03
    spot_contingency: UpTo3 = 0.03
    option_contingency: UpTo2 = 0.02

    @model_validator(mode="after")
    def _only_vols_move(self) -> "DerivePmrmParameters":
        for scenario in self.scenarios:
            if scenario.vol_move not in {"up", "none", "down"} or scenario.weight != 1.0:
                message = "scenarios of derive-pmrm move vols up, down or not at all, and have weight 1"
                raise ValueError(message)
        return self


def _pmrm2_scenarios() -> list[DeriveScenario]:
    tails = ((0.34, 0.21), (0.67, 0.42), (1.5, 0.2772), (2.0, 0.1386), (3.0, 0.0693), (4.0, 0.0462), (5.0, 0.03465))
    return [
        DeriveScenario(spot_multiple=1.18, vol_move="up"),
        *_grid((13.5, 9.0, 4.5, 0.0, -4.5, -9.0, -13.5)),
        DeriveScenario(spot_multiple=0.82, vol_move="up"),
        *[DeriveScenario(spot_multiple=spot, vol_move="up", weight=weight) for spot, weight in tails],
        DeriveScenario(spot_multiple=6.0, vol_move="up", weight=0.02772),
        DeriveScenario(spot_multiple=1.0, vol_move="linear"),
        DeriveScenario(spot_multiple=1.0, vol_move="abs"),
    ]


class DeriveCollateral(ParameterSet):
    """One asset as collateral of ``derive-pmrm2``; ``follows`` names the underlying with which it gains and loses."""

    # Of its value; the initial haircut comes on top of that of maintenance.
    maintenance_haircut: Ratio = 0.0
    initial_haircut: Ratio = 0.0
    follows: str = ""

    @model_validator(mode="after")
    def _some_of_it_is_left(self) -> "DeriveCollateral":
        # A sum of two decimals may be a last bit above 1.
        if self.maintenance_haircut + self.initial_haircut > 1.0 + 1e-12:
            message = "the haircuts of a collateral must not exceed 1 together"
            raise ValueError(message)
        return self


def _pmrm2_collateral() -> dict[str, DeriveCollateral]:
    # What the first model sets aside of spot, and by its initial factor.
    return {
        name: DeriveCollateral(maintenance_haircut=0.03, initial_haircut=0.0075, follows=name)
        for name in ("BTC", "ETH")
    }


class DerivePmrm2Parameters(_DeriveScenarioParameters):
    """``derive-pmrm2``: the second portfolio model."""

    scenarios: Annotated[list[DeriveScenario], Field(min_length=1, max_length=40)] = Field(
        default_factory=_pmrm2_scenarios
    )
    # Where vols move up they become at least this.
    vol_up_min: UpTo20 = 0.4
    initial_factor: Annotated[float, Field(ge=0.5, le=10.0)] = 1.0
    maintenance_factor: Annotated[float, Field(ge=0.1, le=10.0)] = 0.8
    static_long_base: UpTo4 = 0.95
    static_long_rate_scale: UpTo10 = 0.0
    static_long_per_year: UpTo10 = 0.16
    static_short_base: UpTo4 = 1.04
    static_short_rate_scale: UpTo10 = 0.0
    static_short_per_year: UpTo10 = 0.16
    # By asset; one not named counts for nothing.
    collateral: dict[str, DeriveCollateral] = Field(default_factory=_pmrm2_collateral)
    # Contingencies of the initial margin come on top of those of maintenance.
    perpetual_maintenance: UpTo3 = 0.03
    perpetual_initial: UpTo3 = 0.01
    option_maintenance: UpTo2 = 0.003
    option_initial: UpTo2 = 0.002
    # A skew moves an option's vol by at most cap + per root year × sqrt(time).
    skew_linear_cap: UpTo10 = 0.25
    skew_linear_per_root_year: Either10 = -0.1
    skew_abs_cap: UpTo10 = 0.25
    skew_abs_per_root_year: Either10 = -0.1
    # It reaches that cap at log-moneyness max(min, width × sqrt(time) × (vol + per root year × sqrt(time))).
    skew_reach_min: UpTo10 = 0.01
    skew_width: UpTo10 = 4.0
    skew_vol: UpTo10 = 0.6
    skew_vol_per_root_year: Either20 = 0.0

    @model_validator(mode="after")
    def _skews_stand_still(self) -> "DerivePmrm2Parameters":
        for move in ("linear", "abs"):
            skews = [scenario for scenario in self.scenarios if scenario.vol_move == move]
            if len(skews) > 1 or any(scenario.spot_multiple != 1.0 for scenario in skews):
                message = f"at most one {move} scenario, and its spot_multiple must be 1"
                raise ValueError(message)
        return self


class DeriveOptionRates(ParameterSet):
    """What a short option needs on its own, per underlying's price, and what uncovered calls need together."""

    initial_max: UpTo10 = 0.15
    initial_min: UpTo10 = 0.13
    call_maintenance: UpTo10 = 0.09
    put_maintenance: UpTo10 = 0.09
    put_maintenance_of_mark: UpTo10 = 0.09
    put_initial_scale: UpTo10 = 1.05
    uncovered_initial: UpTo10 = 1.2
    uncovered_maintenance: UpTo10 = 1.1


class DeriveMarketRates(ParameterSet):
    """One market of ``derive-srm``."""

    perpetual_initial: UpTo10 = 0.1
    perpetual_maintenance: UpTo10 = 0.065
    options: DeriveOptionRates = Field(default_factory=DeriveOptionRates)
    # Share of spot collateral that counts, and the share of that which counts initially.
    spot_weight: Ratio = 0.0
    spot_initial_scale: UpTo10 = 1.0
    # Below a threshold of confidence (1 - confidence) × charge × notional is set aside, initially.
    perpetual_confidence_threshold: Ratio = 0.55
    option_confidence_threshold: Ratio = 0.55
    spot_confidence_threshold: Ratio = 0.55
    confidence_charge: UpTo20 = 1.0


def _srm_markets() -> dict[str, DeriveMarketRates]:
    collateral = {
        "BTC": (0.75, 0.93), "ETH": (0.8, 0.9375), "USDT": (0.98, 0.98), "DAI": (0.925, 0.92), "PYUSD": (0.925, 0.92)
    }  # fmt: skip
    return {
        name: DeriveMarketRates(spot_weight=weight, spot_initial_scale=scale)
        for name, (weight, scale) in collateral.items()
    }


class DeriveSrmParameters(ParameterSet):
    """``derive-srm``: the standard model, markets by underlying; one not named has the rates of ``other_markets``.

    An asset as collateral is a market of its own name.
    """

    markets: dict[str, DeriveMarketRates] = Field(default_factory=_srm_markets)
    other_markets: DeriveMarketRates = Field(default_factory=DeriveMarketRates)
    peg_threshold: UpTo100 = 0.99
    peg_factor: UpTo20 = 2.0
    confidence_band: ConfidenceBand = 0.05

    def market(self, underlying: str) -> DeriveMarketRates:
        """Return the rates of an underlying."""
        return self.markets.get(underlying, self.other_markets)


DERIVE_PARAMETER_SETS: Final[dict[str, type[ParameterSet]]] = {
    "derive-srm": DeriveSrmParameters,
    "derive-pmrm": DerivePmrmParameters,
    "derive-pmrm2": DerivePmrm2Parameters,
}
