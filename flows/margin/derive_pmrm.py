"""``derive-pmrm``: Derive's first portfolio margin, for one account on one underlying.

As in ``derive_pmrm2`` the venue's result is a margin *value*, healthy from 0; ours are beside it.

1. ``initial_value = (worst - contingencies) × (initial factor + depeg) - oracle contingency + equity`` and
   ``maintenance_value = worst - contingencies + equity``: here the factor multiplies the contingencies too.
2. ``worst`` is the least of all scenario profits and of the basis contingency, which is never above 0: so is worst.
3. Options are not discounted. A static discount falls on positive shocked expiry values alone.
4. The underlying itself is collateral, shocked with spot in every scenario.
"""

from dataclasses import dataclass

import numpy as np

from flows.margin.derive import (
    Expiries,
    Float64Array,
    MarginValues,
    Options,
    Perpetual,
    checked_number,
    confidence_charges,
    expiry_sums,
    exponentials,
    net_short_options,
    option_prices,
    places_exist,
    scenario_values,
    total,
    vol_multipliers,
)
from schemas.derive_parameters import DerivePmrmParameters


@dataclass(frozen=True, slots=True)
class PmrmPortfolio:
    """One account and the market that it stands in.

    ``cash`` in the stable asset's unit, signed; ``spot`` in USD per underlying, > 0; ``stable_price`` USD, > 0;
    ``spot_amount`` of the underlying, held as collateral, >= 0.
    """

    cash: float
    spot: float
    spot_confidence: float
    stable_price: float
    spot_amount: float
    perpetual: Perpetual
    expiries: Expiries
    options: Options

    def __post_init__(self) -> None:
        """Refuse what is not finite, out of range or of another length."""
        checked_number("cash", self.cash)
        checked_number("spot", self.spot, 5e-324)
        checked_number("spot_confidence", self.spot_confidence, 0.0, 1.0)
        checked_number("stable_price", self.stable_price, 5e-324)
        checked_number("spot_amount", self.spot_amount, 0.0)
        places_exist(self.options, self.expiries)


@dataclass(frozen=True, slots=True)
class PmrmMargin(MarginValues):
    """Every number on the way, in the order of computation. n options, e expiries, s scenarios.

    Attributes
    ----------
    confidence : of spot and, where a perpetual is held, of its price; expiry_confidence : (e,).
    option_mark : (n,), quote per underlying; expiry_mark : (e,), signed; option_value : their sum.
    perpetual_value : signed; spot_value : >= 0.
    equity : all of these and cash, without haircut.
    static_discount : (e,), by what a positive expiry is multiplied.
    vol_multiplier_up, vol_multiplier_down : (e,).
    expiry_value : (s, e), shocked, after the static discount.
    scenario_profit : (s,).
    basis_contingency : <= 0.
    worst : <= 0; worst_scenario : its place, -1 for the basis contingency.
    net_short : short options after offsets, >= 0.
    perpetual_contingency, spot_contingency, option_contingency : set aside, >= 0.
    oracle_contingency : >= 0, initial only.
    initial_loss_factor : of worst and the contingencies, depeg included.
    initial_value, maintenance_value : the venue's margin values.
    """

    confidence: float
    expiry_confidence: Float64Array
    option_mark: Float64Array
    expiry_mark: Float64Array
    option_value: float
    perpetual_value: float
    spot_value: float
    equity: float
    static_discount: Float64Array
    vol_multiplier_up: Float64Array
    vol_multiplier_down: Float64Array
    expiry_value: Float64Array
    scenario_profit: Float64Array
    basis_contingency: float
    worst: float
    worst_scenario: int
    net_short: float
    perpetual_contingency: float
    spot_contingency: float
    option_contingency: float
    oracle_contingency: float
    initial_loss_factor: float
    initial_value: float
    maintenance_value: float


def pmrm_margin(portfolio: PmrmPortfolio, parameters: DerivePmrmParameters) -> PmrmMargin:
    """Return the margin of one account.

    References
    ----------
    Derive, PMRM risk manager (v2-core, January 2026). Numbers are held to the venue's own cases by
    ``tidegate conformance`` (65 portfolios) and to the plain twin in ``tests/golden``.
    """
    expiries, options, perpetual, spot = portfolio.expiries, portfolio.options, portfolio.perpetual, portfolio.spot
    count = expiries.seconds.shape[0]
    time = expiries.time_to_expiry
    whole = np.ones(count)

    confidence = portfolio.spot_confidence
    if perpetual.amount != 0.0:
        confidence = min(confidence, perpetual.confidence)
    expiry_confidence = np.minimum.reduce(
        [np.full(count, confidence), expiries.forward_confidence, expiries.rate_confidence, expiries.vol_confidence]
    )

    option_mark = option_prices(
        forward=expiries.forward[options.expiry],
        strike=options.strike,
        time_to_expiry=time[options.expiry],
        implied_vol=options.implied_vol,
        discount=whole[options.expiry],
        is_call=options.is_call,
    )
    expiry_mark = expiry_sums(options.amount * option_mark, options.expiry, count)
    option_value = total(expiry_mark)
    spot_value = portfolio.spot_amount * spot / portfolio.stable_price
    equity = option_value + perpetual.value + spot_value + portfolio.cash

    static_discount = parameters.static_base * exponentials(
        -time * (np.maximum(expiries.rate, 0.0) * parameters.static_rate_scale + parameters.static_per_year)
    )
    up, down = vol_multipliers(
        expiries.seconds,
        vol_up=parameters.vol_up,
        vol_down=parameters.vol_down,
        power_short=parameters.vol_power_short,
        power_long=parameters.vol_power_long,
        seconds_min=parameters.vol_seconds_min,
    )

    vols = {
        "none": options.implied_vol,
        "up": options.implied_vol * up[options.expiry],
        "down": options.implied_vol * down[options.expiry],
    }
    scenarios = parameters.scenarios
    spot_multiple = np.array([scenario.spot_multiple for scenario in scenarios])
    # The last two rows are the basis: the forwards move, vols do not, and nothing is discounted.
    values = scenario_values(
        expiries,
        options,
        discount=whole,
        spot_multiple=np.concatenate((spot_multiple, [parameters.basis_up, parameters.basis_down])),
        implied_vol=np.array(
            [vols[scenario.vol_move] for scenario in scenarios] + [options.implied_vol, options.implied_vol]
        ),
    )
    shocked, (basis_up, basis_down) = values[:-2], values[-2:]
    expiry_value = shocked * np.where(shocked > 0.0, static_discount, 1.0)
    linear_profit = (spot_multiple - 1.0) * (perpetual.amount * perpetual.price + spot_value)
    scenario_profit = linear_profit + np.array([total(values - expiry_mark) for values in expiry_value])
    basis_contingency = total(
        np.minimum(np.minimum(basis_up, basis_down) - expiry_mark, 0.0)
        * (parameters.basis_add + parameters.basis_per_year * time)
    )
    worst_scenario = int(scenario_profit.argmin())
    worst = float(scenario_profit[worst_scenario])
    if basis_contingency < worst:
        worst_scenario, worst = -1, basis_contingency

    net_short = net_short_options(options, count)
    perpetual_contingency = abs(perpetual.amount) * spot * parameters.perpetual_contingency
    spot_contingency = portfolio.spot_amount * spot * parameters.spot_contingency
    option_contingency = net_short * spot * parameters.option_contingency
    oracle_contingency = total(
        confidence_charges(
            np.concatenate(([confidence], expiry_confidence)),
            np.concatenate(
                (
                    [(abs(perpetual.amount) + portfolio.spot_amount) * spot],
                    spot * expiry_sums(np.abs(options.amount), options.expiry, count),
                )
            ),
            threshold=parameters.confidence_threshold,
            charge=parameters.confidence_charge,
        )
    )

    depeg = max(parameters.peg_threshold - portfolio.stable_price, 0.0) * parameters.peg_factor
    initial_loss_factor = parameters.initial_factor + depeg
    loss = worst - (perpetual_contingency + spot_contingency + option_contingency)
    return PmrmMargin(
        confidence=confidence,
        expiry_confidence=expiry_confidence,
        option_mark=option_mark,
        expiry_mark=expiry_mark,
        option_value=option_value,
        perpetual_value=perpetual.value,
        spot_value=spot_value,
        equity=equity,
        static_discount=static_discount,
        vol_multiplier_up=up,
        vol_multiplier_down=down,
        expiry_value=expiry_value,
        scenario_profit=scenario_profit,
        basis_contingency=basis_contingency,
        worst=worst,
        worst_scenario=worst_scenario,
        net_short=net_short,
        perpetual_contingency=perpetual_contingency,
        spot_contingency=spot_contingency,
        option_contingency=option_contingency,
        oracle_contingency=oracle_contingency,
        initial_loss_factor=initial_loss_factor,
        initial_value=loss * initial_loss_factor - oracle_contingency + equity,
        maintenance_value=loss + equity,
    )
