"""Risk parameters: validated for people, replayable as events.

What changes a margin number is a ``parameters.changed`` event that names one of these sets and replaces it whole.

1. A set that does not validate is refused as a whole; the one before stays in force.
2. Ratios are fractions (0.05 is 5 %), money is in the numeraire, times are nanoseconds.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, model_validator

from schemas.derive_parameters import DERIVE_PARAMETER_SETS
from schemas.failures import FailureReason, Refused
from schemas.parameter_set import Multiple, Ratio, first_fault
from schemas.parameter_set import ParameterSet as ParameterSet  # noqa: PLC0414 - exported: sets are of this type


class OracleParameters(ParameterSet):
    """How sources become one price, and when a price is too old to decide by."""

    price_age_ns_max: int = Field(default=180_000_000_000, ge=0)
    forward_age_ns_max: int = Field(default=3_600_000_000_000, ge=0)
    vol_age_ns_max: int = Field(default=3_600_000_000_000, ge=0)
    mark_age_ns_max: int = Field(default=900_000_000_000, ge=0)
    # A source further than this from the median of all is left out of it.
    outlier_ratio: Multiple = 0.05
    sources_min: int = Field(default=1, ge=1, le=64)
    # Above this band, relative to the price, the feed stops decisions.
    confidence_ratio_max: Multiple = 0.05
    # How sources become one price: "median" of those that agree, or the feed's first source alone ("single").
    aggregation: Literal["median", "single"] = "median"
    # A perpetual's mark counts within this band of its index price and is held at its edge outside.
    mark_band_ratio: Multiple = 0.1


class CollateralParameters(ParameterSet):
    """Haircuts of assets with a positive balance; an asset not named has ``default_haircut``.

    Where realised vol asks for more, more is taken: ``vol_multiple`` standard deviations over ``vol_horizon_ns``, at
    most ``vol_haircut_max``; ``vol_multiple`` 0 turns it off. The haircut then rises when prices fall, and takes
    collateral from everyone at once: a longer ``vol_decay_ns``, a smaller multiple or a lower maximum damp that.
    """

    haircuts: dict[str, Ratio] = Field(default_factory=dict)
    default_haircut: Ratio = 0.2
    vol_multiple: Multiple = 3.0
    vol_horizon_ns: int = Field(default=86_400_000_000_000, ge=0, le=31_536_000_000_000_000)
    # A price is sampled at most this often.
    vol_sample_ns: int = Field(default=60_000_000_000, ge=1_000_000_000, le=86_400_000_000_000)
    # How long a move is remembered: after this time its weight in the vol's square is 1/e.
    vol_decay_ns: int = Field(default=604_800_000_000_000, ge=60_000_000_000, le=31_536_000_000_000_000)
    vol_haircut_max: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    # This many times the oracle's confidence, relative to the price, is taken off beyond the haircut.
    confidence_multiple: Multiple = 1.0

    @model_validator(mode="after")
    def _samples_are_within_the_decay(self) -> "CollateralParameters":
        if self.vol_sample_ns > self.vol_decay_ns:
            message = "vol_sample_ns must not exceed vol_decay_ns"
            raise ValueError(message)
        return self


class LadderParameters(ParameterSet):
    """Where the tiers begin, as multiples of initial and maintenance margin."""

    watch_multiple: Annotated[float, Field(ge=1.0, le=10.0)] = 1.2
    takeover_multiple: Ratio = 2.0 / 3.0


class LiquidationParameters(ParameterSet):
    """How much a liquidation closes: back to maintenance × (1 + buffer), whole lots, rounded up."""

    buffer: Multiple = 0.1
    # Below this notional a position is closed whole rather than in part.
    close_all_notional: Annotated[float, Field(ge=0.0)] = 100.0


class AddOnParameters(ParameterSet):
    """What both of our own models add: for an oracle that is not sure, and for positions that are large."""

    # × the confidence ratio of the underlying's index price × the notional of all positions on it.
    confidence_multiple: Multiple = 1.0
    # The notional on an underlying, in the numeraire, that its market absorbs; one not named has no add-on.
    market_depth: dict[str, Annotated[float, Field(gt=0.0)]] = Field(default_factory=dict)
    # The share of an account's notional that is added for each market depth beyond the first, and the most of it.
    concentration_rate: Ratio = 0.05
    concentration_cap: Ratio = 0.5


class StandardParameters(AddOnParameters):
    """``tidegate-standard``: rates per position."""

    linear_initial: Ratio = 0.10
    linear_maintenance: Ratio = 0.05
    # Rates by underlying, where they differ: {"BTC": [0.02, 0.01]} is initial, maintenance.
    linear_rates: dict[str, tuple[Ratio, Ratio]] = Field(default_factory=dict)
    option_initial: Ratio = 0.15
    option_initial_min: Ratio = 0.10
    option_maintenance: Ratio = 0.075
    # Share of a long option's value that counts as margin.
    long_option_credit: Ratio = 0.0

    @model_validator(mode="after")
    def _initial_covers_maintenance(self) -> "StandardParameters":
        rates = [(self.linear_initial, self.linear_maintenance), *self.linear_rates.values()]
        if any(initial < maintenance for initial, maintenance in rates):
            message = "initial margin rates must be at least the maintenance rates"
            raise ValueError(message)
        if self.option_initial < self.option_initial_min or self.option_initial_min < self.option_maintenance:
            message = "option rates must satisfy initial >= initial_min >= maintenance"
            raise ValueError(message)
        return self


class OffsetGroup(ParameterSet):
    """Underlyings whose losses offset each other, as far as their correlation under stress allows."""

    underlyings: list[str] = Field(min_length=2)
    # The least of any two of them, as measured; ``stress`` is taken off it.
    correlation: Annotated[float, Field(gt=-1.0, lt=1.0)]
    stress: Annotated[float, Field(ge=0.0, le=2.0)]

    @model_validator(mode="after")
    def _underlyings_differ(self) -> "OffsetGroup":
        if len(set(self.underlyings)) < len(self.underlyings):
            message = "an offset group must not name an underlying twice"
            raise ValueError(message)
        return self


class PortfolioParameters(AddOnParameters):
    """``tidegate-portfolio``: scenarios, contingencies, offsets and factors."""

    # (spot multiple, vol direction -1 | 0 | 1, weight of the scenario's loss)
    scenarios: list[tuple[Annotated[float, Field(gt=0.0, le=10.0)], Annotated[int, Field(ge=-1, le=1)], Ratio]] = Field(
        default_factory=lambda: [
            *[
                (1.0 + move / 100.0, direction, 1.0)
                for move in (-15, -10, -5, 0, 5, 10, 15)
                for direction in (-1, 0, 1)
            ],
            (0.5, 1, 0.4),
            (1.6, 1, 0.35),
            (2.0, 1, 0.2),
        ],
        min_length=1,
        max_length=64,
    )
    vol_up: Multiple = 0.5
    vol_down: Ratio = 0.25
    vol_power_short: Ratio = 0.3
    vol_power_long: Ratio = 0.13
    vol_days_min: Annotated[float, Field(gt=0.0)] = 1.0
    linear_contingency: Ratio = 0.01
    short_option_contingency: Ratio = 0.01
    maintenance_factor: Multiple = 1.0
    initial_factor: Multiple = 1.25
    # Losses of underlyings that are in no group, or in different ones, are added.
    offset_groups: list[OffsetGroup] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_group_each(self) -> "PortfolioParameters":
        named = [underlying for group in self.offset_groups for underlying in group.underlyings]
        twice = sorted({underlying for underlying in named if named.count(underlying) > 1})
        if twice:
            message = f"{twice[0]!r} is in two offset groups"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _initial_covers_maintenance(self) -> "PortfolioParameters":
        if self.initial_factor < self.maintenance_factor:
            message = "initial_factor must be at least maintenance_factor"
            raise ValueError(message)
        return self


class DeribitFutureRates(ParameterSet):
    """Rates of futures and perpetuals on one underlying: base + slope × coins held."""

    initial: Ratio = 0.05
    maintenance: Ratio = 0.025
    slope_per_coin: Ratio = 0.0

    @model_validator(mode="after")
    def _initial_covers_maintenance(self) -> "DeribitFutureRates":
        if self.initial < self.maintenance:
            message = "the initial rate must be at least the maintenance rate"
            raise ValueError(message)
        return self


class DeribitStandardParameters(ParameterSet):
    """``deribit-standard``: rates of futures by underlying, and of options."""

    futures: dict[str, DeribitFutureRates] = Field(
        default_factory=lambda: {
            "BTC": DeribitFutureRates(initial=0.02, maintenance=0.01, slope_per_coin=5e-5),
            "ETH": DeribitFutureRates(initial=0.02, maintenance=0.01, slope_per_coin=4e-6),
            "SOL": DeribitFutureRates(initial=0.04, maintenance=0.02, slope_per_coin=5e-6),
        }
    )
    # An underlying not named has these.
    default_futures: DeribitFutureRates = DeribitFutureRates()
    option_initial: Ratio = 0.15
    option_initial_min: Ratio = 0.10
    option_maintenance: Ratio = 0.075

    @model_validator(mode="after")
    def _initial_covers_maintenance(self) -> "DeribitStandardParameters":
        if self.option_initial < self.option_initial_min or self.option_initial_min < self.option_maintenance:
            message = "option rates must satisfy initial >= initial_min >= maintenance"
            raise ValueError(message)
        return self


class DeribitRiskMatrix(ParameterSet):
    """The risk matrix of one settlement currency and index. Amounts in USD are turned into coins at the index price."""

    price_range: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.16
    buckets_count: int = Field(default=4, ge=1, le=16)
    vol_up: Multiple = 0.5
    vol_down: Ratio = 0.25
    vol_up_min: Multiple = 0.5
    vol_power_short: Ratio = 0.3
    vol_power_long: Ratio = 0.13
    extended_factor: Multiple = 1.0
    extended_dampener: Annotated[float, Field(ge=0.0)] = 100_000.0
    # The share of a scenario's gain that counts, and the most of it in USD.
    profit_offset: Ratio = 0.0
    profit_offset_max: Annotated[float, Field(ge=0.0)] = 0.0
    annualised_move: Multiple = 0.075
    annualised_move_min: Multiple = 0.01
    delta_shock_threshold: Annotated[float, Field(ge=0.0)] = 20_000_000.0
    delta_shock_per_coin: Multiple = 5e-5
    delta_shock_max: Multiple = 0.1
    maintenance_factor: Ratio = 0.8


class DeribitPortfolioParameters(ParameterSet):
    """``deribit-pm``: a risk matrix for each underlying, by the payoff of what is held."""

    inverse: dict[str, DeribitRiskMatrix] = Field(
        default_factory=lambda: {
            "BTC": DeribitRiskMatrix(),
            "ETH": DeribitRiskMatrix(
                price_range=0.18,
                vol_up=0.4,
                extended_dampener=200_000.0,
                profit_offset=0.6,
                profit_offset_max=20_000_000.0,
                annualised_move=0.05,
                annualised_move_min=0.005,
                delta_shock_per_coin=4e-6,
            ),
        }
    )
    linear: dict[str, DeribitRiskMatrix] = Field(
        default_factory=lambda: {
            "BTC": DeribitRiskMatrix(
                extended_dampener=25_000.0, profit_offset=0.4, profit_offset_max=1_000_000.0, annualised_move=0.1
            ),
            "ETH": DeribitRiskMatrix(
                price_range=0.18, vol_up=0.4, extended_dampener=25_000.0, profit_offset=0.4,
                profit_offset_max=1_000_000.0, annualised_move=0.1, delta_shock_per_coin=4e-6,
            ),
        }
    )  # fmt: skip
    # An underlying not named has this.
    default_matrix: DeribitRiskMatrix = DeribitRiskMatrix(price_range=0.25, extended_dampener=25_000.0)


class DydxTier(ParameterSet):
    """A liquidity tier: ratios in parts per million, open-interest caps in quote quantums (1e-6 USDC), 0 for none."""

    initial_margin_ppm: int = Field(ge=0, le=1_000_000)
    maintenance_fraction_ppm: int = Field(ge=0, le=1_000_000)
    open_interest_lower_cap: int = Field(default=0, ge=0)
    open_interest_upper_cap: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _caps_rise(self) -> "DydxTier":
        if self.open_interest_lower_cap > self.open_interest_upper_cap:
            message = "the lower open-interest cap must not exceed the upper one"
            raise ValueError(message)
        return self


_USDC: Final = 1_000_000


class DydxParameters(ParameterSet):
    """``dydx-v4``: liquidity tiers, the tier of each underlying, and what a liquidation may take."""

    tiers: dict[str, DydxTier] = Field(
        default_factory=lambda: {
            name: DydxTier(
                initial_margin_ppm=initial,
                maintenance_fraction_ppm=fraction,
                open_interest_lower_cap=lower * _USDC,
                open_interest_upper_cap=upper * _USDC,
            )
            for name, initial, fraction, lower, upper in (
                ("large-cap", 20_000, 600_000, 0, 0),
                ("mid-cap", 50_000, 600_000, 40_000_000, 100_000_000),
                ("small-cap", 100_000, 500_000, 20_000_000, 50_000_000),
                ("long-tail", 200_000, 500_000, 5_000_000, 10_000_000),
                ("safety", 1_000_000, 200_000, 2_000_000, 5_000_000),
                ("isolated", 50_000, 600_000, 500_000, 1_000_000),
                ("fx", 10_000, 500_000, 500_000, 1_000_000),
            )
        },
        min_length=1,
    )
    tier_of: dict[str, str] = Field(default_factory=lambda: {"BTC": "large-cap", "ETH": "large-cap"})
    default_tier: str = "long-tail"
    bankruptcy_adjustment_ppm: int = Field(default=1_000_000, ge=1_000_000, le=2**32 - 1)
    spread_to_maintenance_ppm: int = Field(default=1_500_000, ge=1, le=2**32 - 1)
    position_notional_min: int = Field(default=1_000 * _USDC, ge=0)
    position_portion_max_ppm: int = Field(default=100_000, ge=1, le=1_000_000)
    liquidation_fee_max_ppm: int = Field(default=15_000, ge=0, le=1_000_000)

    @model_validator(mode="after")
    def _tiers_exist(self) -> "DydxParameters":
        for name in (self.default_tier, *self.tier_of.values()):
            if name not in self.tiers:
                message = f"no tier is named {name!r}"
                raise ValueError(message)
        return self

    def tier(self, underlying: str) -> DydxTier:
        """Return the tier of an underlying."""
        return self.tiers[self.tier_of.get(underlying, self.default_tier)]


PARAMETER_SETS: Final[dict[str, type[ParameterSet]]] = {
    "oracle": OracleParameters,
    "collateral": CollateralParameters,
    "ladder": LadderParameters,
    "liquidation": LiquidationParameters,
    "tidegate-standard": StandardParameters,
    "tidegate-portfolio": PortfolioParameters,
    "deribit-standard": DeribitStandardParameters,
    "deribit-pm": DeribitPortfolioParameters,
    "dydx-v4": DydxParameters,
    **DERIVE_PARAMETER_SETS,
}


def validate(
    name: str, parameters: Mapping[str, Any], sets: Mapping[str, type[ParameterSet]] = PARAMETER_SETS
) -> ParameterSet:
    """Return the named set of ``sets``, validated; refuse an unknown name or a value out of range.

    Raises
    ------
    Refused : ``bad_parameters``, with the first fault in words.
    """
    kind = sets.get(name)
    if kind is None:
        known = ", ".join(sorted(sets))
        raise Refused(FailureReason.BAD_PARAMETERS, f"no parameter set {name!r}; there are {known}")
    try:
        return kind.model_validate(parameters)
    except ValidationError as error:
        place, fault, words = first_fault(error)
        if fault == "extra_forbidden" and place in parameters:
            words = f"no such parameter; there are {', '.join(kind.model_fields)}"
        message = ": ".join(part for part in (name, place, words) if part)
        raise Refused(FailureReason.BAD_PARAMETERS, message) from error
