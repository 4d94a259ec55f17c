"""``derive-pmrm2``: Derive's second portfolio margin, for one account on one underlying.

The venue's document calls the result a margin *value*: what is left of the portfolio after the requirement, healthy
from 0. Ours are beside it: equity, requirements, health.

1. ``initial_value = worst × (initial factor + depeg) - maintenance contingencies - initial contingencies + equity``
   and ``maintenance_value = worst × maintenance factor - maintenance contingencies + equity``.
2. ``worst`` is the least of all scenario profits and of the basis contingency, which is never above 0: so is worst.
3. A scenario's profit counts shocked values after the static discount and present values without it: a long book
   loses a little even where nothing moves.
4. An expiry's static discount goes by the sign of the expiry's whole shocked value.
5. A skew's direction is unknown: each expiry loses by the magnitude of its change, and none offsets another.
"""

from dataclasses import dataclass, field

import numpy as np

from flows.margin.derive import (
    YEAR_SECONDS,
    BoolArray,
    Expiries,
    Float64Array,
    MarginValues,
    Options,
    Perpetual,
    checked,
    checked_number,
    confidence_charges,
    expiry_sums,
    exponentials,
    log_moneyness,
    net_short_options,
    option_prices,
    places_exist,
    scenario_values,
    skew_multipliers,
    total,
    vol_multipliers,
)
from schemas.derive_parameters import DerivePmrm2Parameters, DeriveScenario


def _no_numbers() -> Float64Array:
    return np.zeros(0)


def _no_flags() -> BoolArray:
    return np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True)
class Collateral:
    """Assets beside cash, each (c,).

    ``amount`` >= 0, ``price`` in USD > 0, confidence 0 to 1; ``maintenance_haircut`` is what maintenance sets aside of
    their value, ``initial_haircut`` what the initial margin sets aside beyond it; both together at most 1.
    ``follows_spot``: the asset gains and loses with the underlying.
    """

    amount: Float64Array = field(default_factory=_no_numbers)
    price: Float64Array = field(default_factory=_no_numbers)
    confidence: Float64Array = field(default_factory=_no_numbers)
    maintenance_haircut: Float64Array = field(default_factory=_no_numbers)
    initial_haircut: Float64Array = field(default_factory=_no_numbers)
    follows_spot: BoolArray = field(default_factory=_no_flags)

    def __post_init__(self) -> None:
        """Refuse what is not finite, out of range or of another length."""
        checked("collateral amount", self.amount, 0.0)
        checked("collateral price", self.price, 0.0)
        for name in ("confidence", "maintenance_haircut", "initial_haircut"):
            checked(f"collateral {name}", getattr(self, name), 0.0, 1.0)
        # A sum of two decimals may be a last bit above 1.
        checked("collateral haircut", self.maintenance_haircut + self.initial_haircut, 0.0, 1.0 + 1e-12)


@dataclass(frozen=True, slots=True)
class Pmrm2Portfolio:
    """One account and the market that it stands in.

    ``cash`` in the stable asset's unit, signed; ``spot`` in USD per underlying, > 0; ``stable_price`` USD, > 0.
    """

    cash: float
    spot: float
    spot_confidence: float
    stable_price: float
    perpetual: Perpetual
    collateral: Collateral
    expiries: Expiries
    options: Options

    def __post_init__(self) -> None:
        """Refuse what is not finite, out of range or of another length."""
        checked_number("cash", self.cash)
        checked_number("spot", self.spot, 5e-324)
        checked_number("spot_confidence", self.spot_confidence, 0.0, 1.0)
        checked_number("stable_price", self.stable_price, 5e-324)
        places_exist(self.options, self.expiries)


@dataclass(frozen=True, slots=True)
class Pmrm2Margin(MarginValues):
    """Every number on the way, in the order of computation. n options, e expiries, c collaterals, s scenarios.

    Attributes
    ----------
    confidence : of spot and, where a perpetual is held, of its price.
    expiry_confidence : (e,); collateral_confidence : (c,).
    discount : (e,), 0 to 1.
    option_mark : (n,), quote per underlying; expiry_mark : (e,), signed; option_value : their sum.
    perpetual_value : signed; collateral_values : (c,), >= 0; collateral_value : their sum.
    equity : all of these and cash, without haircut.
    static_long, static_short : (e,), by what a positive and a negative expiry is multiplied.
    expiry_mark_static : (e,), expiry_mark after it.
    vol_multiplier_up, vol_multiplier_down : (e,), before the least vol.
    log_moneyness, skew_reach, skew_linear_cap, skew_abs_cap, skew_multiplier_linear, skew_multiplier_abs : (n,).
    expiry_value : (s, e), shocked, after the static discount.
    scenario_profit : (s,), weighted; <= 0 for skews.
    basis_contingency : <= 0.
    worst : <= 0; worst_scenario : its place, -1 for the basis contingency.
    net_short : short options after offsets, >= 0.
    maintenance_perpetual, maintenance_option, maintenance_collateral : set aside, >= 0; initial_… : beyond them.
    oracle_contingency : >= 0, initial only.
    initial_loss_factor (depeg included), maintenance_loss_factor : of worst.
    initial_value, maintenance_value : the venue's margin values.
    """

    confidence: float
    expiry_confidence: Float64Array
    collateral_confidence: Float64Array
    discount: Float64Array
    option_mark: Float64Array
    expiry_mark: Float64Array
    option_value: float
    perpetual_value: float
    collateral_values: Float64Array
    collateral_value: float
    equity: float
    static_long: Float64Array
    static_short: Float64Array
    expiry_mark_static: Float64Array
    vol_multiplier_up: Float64Array
    vol_multiplier_down: Float64Array
    log_moneyness: Float64Array
    skew_reach: Float64Array
    skew_linear_cap: Float64Array
    skew_abs_cap: Float64Array
    skew_multiplier_linear: Float64Array
    skew_multiplier_abs: Float64Array
    expiry_value: Float64Array
    scenario_profit: Float64Array
    basis_contingency: float
    worst: float
    worst_scenario: int
    net_short: float
    maintenance_perpetual: float
    maintenance_option: float
    maintenance_collateral: float
    initial_perpetual: float
    initial_option: float
    initial_collateral: float
    oracle_contingency: float
    initial_loss_factor: float
    maintenance_loss_factor: float
    initial_value: float
    maintenance_value: float


def pmrm2_margin(portfolio: Pmrm2Portfolio, parameters: DerivePmrm2Parameters) -> Pmrm2Margin:
    """Return the margin of one account.

    References
    ----------
    Derive, PMRM_2 risk manager (v2-core, January 2026). Numbers are held to the venue's own cases by
    ``tidegate conformance`` (139 portfolios) and to the plain twin in ``tests/golden``.
    """
    expiries, options, collateral, perpetual = (
        portfolio.expiries, portfolio.options, portfolio.collateral, portfolio.perpetual,
    )  # fmt: skip
    count = expiries.seconds.shape[0]
    time, spot = expiries.time_to_expiry, portfolio.spot
    rate = np.maximum(expiries.rate, 0.0)

    collateral_confidence = np.minimum(collateral.confidence, portfolio.spot_confidence)
    confidence = portfolio.spot_confidence
    if perpetual.amount != 0.0:
        confidence = min(confidence, perpetual.confidence)
    expiry_confidence = np.minimum.reduce(
        [np.full(count, confidence), expiries.forward_confidence, expiries.rate_confidence, expiries.vol_confidence]
    )

    discount = exponentials(-rate * time)
    option_mark = option_prices(
        forward=expiries.forward[options.expiry],
        strike=options.strike,
        time_to_expiry=time[options.expiry],
        implied_vol=options.implied_vol,
        discount=discount[options.expiry],
        is_call=options.is_call,
    )
    expiry_mark = expiry_sums(options.amount * option_mark, options.expiry, count)
    option_value = total(expiry_mark)
    collateral_values = collateral.amount * collateral.price / portfolio.stable_price
    collateral_value = total(collateral_values)
    equity = option_value + perpetual.value + collateral_value + portfolio.cash

    static_long, static_short = static_discounts(time, rate, discount, parameters)
    moved = moved_vols(options, expiries.seconds, expiries.forward, parameters)
    scenarios = parameters.scenarios
    spot_multiple = np.array([scenario.spot_multiple for scenario in scenarios])
    shocked = scenario_values(
        expiries,
        options,
        discount=discount,
        spot_multiple=spot_multiple,
        implied_vol=np.array([moved.vols[scenario.vol_move] for scenario in scenarios]),
    )
    expiry_value = shocked * np.where(shocked >= 0.0, static_long, static_short)
    linear_profit = (spot_multiple - 1.0) * (
        perpetual.amount * perpetual.price + total(np.where(collateral.follows_spot, collateral_values, 0.0))
    )
    scenario_profit = np.array(
        [
            _profit(scenario, expiry_value[place] - expiry_mark, float(linear_profit[place]))
            for place, scenario in enumerate(scenarios)
        ]
    )

    basis_contingency = _basis(expiries, options, parameters, discount, expiry_mark)
    worst_scenario = int(scenario_profit.argmin())
    worst = float(scenario_profit[worst_scenario])
    if basis_contingency < worst:
        worst_scenario, worst = -1, basis_contingency

    net_short = net_short_options(options, count)
    perpetual_notional = abs(perpetual.amount) * spot
    maintenance_perpetual = perpetual_notional * parameters.perpetual_maintenance
    maintenance_option = net_short * spot * parameters.option_maintenance
    maintenance_collateral = total(collateral_values * collateral.maintenance_haircut)
    initial_perpetual = perpetual_notional * parameters.perpetual_initial
    initial_option = net_short * spot * parameters.option_initial
    initial_collateral = total(collateral_values * collateral.initial_haircut)
    oracle_contingency = total(
        confidence_charges(
            np.concatenate(([confidence], expiry_confidence, collateral_confidence)),
            np.concatenate(
                (
                    [perpetual_notional],
                    spot * expiry_sums(np.abs(options.amount), options.expiry, count),
                    collateral_values,
                )
            ),
            threshold=parameters.confidence_threshold,
            charge=parameters.confidence_charge,
        )
    )

    depeg = max(parameters.peg_threshold - portfolio.stable_price, 0.0) * parameters.peg_factor
    initial_loss_factor = parameters.initial_factor + depeg
    maintenance_contingencies = maintenance_perpetual + maintenance_option + maintenance_collateral
    initial_contingencies = initial_perpetual + initial_option + initial_collateral + oracle_contingency
    return Pmrm2Margin(
        confidence=confidence,
        expiry_confidence=expiry_confidence,
        collateral_confidence=collateral_confidence,
        discount=discount,
        option_mark=option_mark,
        expiry_mark=expiry_mark,
        option_value=option_value,
        perpetual_value=perpetual.value,
        collateral_values=collateral_values,
        collateral_value=collateral_value,
        equity=equity,
        static_long=static_long,
        static_short=static_short,
        expiry_mark_static=expiry_mark * np.where(expiry_mark >= 0.0, static_long, static_short),
        vol_multiplier_up=moved.up,
        vol_multiplier_down=moved.down,
        log_moneyness=moved.log_moneyness,
        skew_reach=moved.skew_reach,
        skew_linear_cap=moved.skew_linear_cap,
        skew_abs_cap=moved.skew_abs_cap,
        skew_multiplier_linear=moved.skew_multiplier_linear,
        skew_multiplier_abs=moved.skew_multiplier_abs,
        expiry_value=expiry_value,
        scenario_profit=scenario_profit,
        basis_contingency=basis_contingency,
        worst=worst,
        worst_scenario=worst_scenario,
        net_short=net_short,
        maintenance_perpetual=maintenance_perpetual,
        maintenance_option=maintenance_option,
        maintenance_collateral=maintenance_collateral,
        initial_perpetual=initial_perpetual,
        initial_option=initial_option,
        initial_collateral=initial_collateral,
        oracle_contingency=oracle_contingency,
        initial_loss_factor=initial_loss_factor,
        maintenance_loss_factor=parameters.maintenance_factor,
        initial_value=worst * initial_loss_factor - maintenance_contingencies - initial_contingencies + equity,
        maintenance_value=worst * parameters.maintenance_factor - maintenance_contingencies + equity,
    )


def static_discounts(
    time: Float64Array, rate: Float64Array, discount: Float64Array, parameters: DerivePmrm2Parameters
) -> tuple[Float64Array, Float64Array]:
    """Return by what a positive and a negative expiry is multiplied, each (e,).

    Parameters
    ----------
    time : (e,), years; rate : (e,), >= 0; discount : (e,), 0 to 1, ``exp(-rate × time)``.

    Returns
    -------
    A negative one at most ``1 / discount``: no liability is inflated above its undiscounted amount.
    """
    long = parameters.static_long_base * exponentials(
        -time * (rate * parameters.static_long_rate_scale + parameters.static_long_per_year)
    )
    short = parameters.static_short_base * exponentials(
        time * (rate * parameters.static_short_rate_scale + parameters.static_short_per_year)
    )
    return long, np.minimum(1.0 / discount, short)


@dataclass(frozen=True, slots=True)
class MovedVols:
    """The vols of n options under every move, ``vols`` (n,) by its name, and how they come about.

    ``up``, ``down`` : (e,), multipliers before the least vol. The others : (n,), of the skews.
    """

    up: Float64Array
    down: Float64Array
    log_moneyness: Float64Array
    skew_reach: Float64Array
    skew_linear_cap: Float64Array
    skew_abs_cap: Float64Array
    skew_multiplier_linear: Float64Array
    skew_multiplier_abs: Float64Array
    vols: dict[str, Float64Array]


def moved_vols(
    options: Options, seconds: Float64Array, forward: Float64Array, parameters: DerivePmrm2Parameters
) -> MovedVols:
    """Return what scenarios make of the vols.

    Parameters
    ----------
    seconds, forward : (e,), of the expiries, >= 0.
    """
    up, down = vol_multipliers(
        seconds,
        vol_up=parameters.vol_up,
        vol_down=parameters.vol_down,
        power_short=parameters.vol_power_short,
        power_long=parameters.vol_power_long,
        seconds_min=parameters.vol_seconds_min,
    )
    moneyness = log_moneyness(options.strike, forward[options.expiry])
    root = np.sqrt(seconds / YEAR_SECONDS)[options.expiry]
    reach = np.maximum(
        parameters.skew_reach_min,
        root * parameters.skew_width * (parameters.skew_vol + root * parameters.skew_vol_per_root_year),
    )
    linear = skew_multipliers(
        moneyness, root, cap=parameters.skew_linear_cap, cap_per_root_year=parameters.skew_linear_per_root_year,
        reach=reach,
    )  # fmt: skip
    absolute = skew_multipliers(
        np.abs(moneyness), root, cap=parameters.skew_abs_cap, cap_per_root_year=parameters.skew_abs_per_root_year,
        reach=reach,
    )  # fmt: skip
    vol = options.implied_vol
    return MovedVols(
        up=up,
        down=down,
        log_moneyness=moneyness,
        skew_reach=reach,
        skew_linear_cap=parameters.skew_linear_cap + parameters.skew_linear_per_root_year * root,
        skew_abs_cap=parameters.skew_abs_cap + parameters.skew_abs_per_root_year * root,
        skew_multiplier_linear=linear,
        skew_multiplier_abs=absolute,
        vols={
            "none": vol,
            "up": np.maximum(parameters.vol_up_min, vol * up[options.expiry]),
            "down": vol * down[options.expiry],
            "linear": vol * np.maximum(linear, 0.0),
            "abs": vol * np.maximum(absolute, 0.0),
        },
    )


def _profit(scenario: DeriveScenario, change: Float64Array, linear_profit: float) -> float:
    if scenario.vol_move in {"linear", "abs"}:
        return -scenario.weight * total(np.abs(change))
    return scenario.weight * (linear_profit + total(change))


def _basis(
    expiries: Expiries,
    options: Options,
    parameters: DerivePmrm2Parameters,
    discount: Float64Array,
    expiry_mark: Float64Array,
) -> float:
    """Return what the expiries lose where each forward parts from spot by itself, <= 0."""
    moved = scenario_values(
        expiries,
        options,
        discount=discount,
        spot_multiple=np.array([parameters.basis_up, parameters.basis_down]),
        implied_vol=np.array([options.implied_vol, options.implied_vol]),
    )
    loss = np.minimum(np.minimum(moved[0], moved[1]) - expiry_mark, 0.0)
    return total(loss * (parameters.basis_add + parameters.basis_per_year * expiries.time_to_expiry))
