"""``derive-srm``: Derive's standard margin, for one account over any number of markets.

The venue's result is a margin *value*, healthy from 0: cash and what counts of everything else. Ours are beside it.

1. A market adds, signed: its perpetual's requirement, its options' charge, its spot collateral as far as it counts,
   what depeg and low confidence set aside (initial only), and what the perpetual has earned.
2. Options are charged by expiry: the smaller of what the shorts need one by one and of the worst loss at expiry.
3. A long option's value never counts; it helps only by bounding the loss at expiry.
4. A payoff at expiry bends only at strikes, so its least value from 0 upwards is at 0, at a strike, or falls without
   end: there the uncovered calls are charged by the forward instead.
"""

from dataclasses import dataclass

import numpy as np

from flows.margin.derive import (
    BoolArray,
    Expiries,
    Float64Array,
    MarginValues,
    Options,
    Perpetual,
    checked_number,
    confidence_charges,
    expiry_sums,
    option_prices,
    places_exist,
    total,
)
from schemas.derive_parameters import DeriveMarketRates, DeriveOptionRates, DeriveSrmParameters


@dataclass(frozen=True, slots=True)
class SrmMarket:
    """One underlying and what the account holds on it.

    ``spot`` in USD per underlying, > 0; ``spot_amount`` held as collateral, >= 0. Rates of the expiries play no part.
    """

    underlying: str
    spot: float
    spot_confidence: float
    spot_amount: float
    perpetual: Perpetual
    expiries: Expiries
    options: Options

    def __post_init__(self) -> None:
        """Refuse what is not finite, out of range or of another length."""
        checked_number(f"{self.underlying} spot", self.spot, 5e-324)
        checked_number(f"{self.underlying} spot_confidence", self.spot_confidence, 0.0, 1.0)
        checked_number(f"{self.underlying} spot_amount", self.spot_amount, 0.0)
        places_exist(self.options, self.expiries)


@dataclass(frozen=True, slots=True)
class SrmPortfolio:
    """One account: ``cash`` in the stable asset's unit, signed; ``stable_price`` USD, > 0."""

    cash: float
    stable_price: float
    markets: tuple[SrmMarket, ...]

    def __post_init__(self) -> None:
        """Refuse what is not finite or out of range, and a market that is there twice."""
        checked_number("cash", self.cash)
        checked_number("stable_price", self.stable_price, 5e-324)
        names = [market.underlying for market in self.markets]
        if len(set(names)) < len(names):
            raise ValueError(f"a market is there twice: {names}")


@dataclass(frozen=True, slots=True)
class SrmMarketMargin:
    """Every number on the way for one market, in the order of computation; n options, e expiries.

    Charges and requirements are <= 0, as the venue signs them; contingencies are amounts to take off, >= 0.

    Attributes
    ----------
    perpetual_initial, perpetual_maintenance : <= 0.
    perpetual_oracle : >= 0, initial only.
    option_mark : (n,), quote per underlying, undiscounted.
    isolated_initial, isolated_maintenance : (n,), what a short needs on its own; 0 for longs.
    expiry_isolated_initial, expiry_isolated_maintenance : (e,), their sums.
    expiry_loss : (e,), worst payoff of the expiry at 0 and at every strike.
    net_calls : (e,), signed.
    expiry_loss_initial, expiry_loss_maintenance : (e,), with uncovered calls.
    expiry_charge_initial, expiry_charge_maintenance : (e,), the smaller charge.
    option_initial, option_maintenance : their sums.
    option_oracle : >= 0, initial only.
    spot_initial, spot_maintenance : what of the collateral counts, >= 0; spot_oracle : >= 0, initial only.
    depeg : >= 0, initial only.
    perpetual_value : signed. option_value : at mark, signed. spot_value : >= 0, without haircut.
    initial_value, maintenance_value : the market's part of the account's.
    """

    perpetual_initial: float
    perpetual_maintenance: float
    perpetual_oracle: float
    option_mark: Float64Array
    isolated_initial: Float64Array
    isolated_maintenance: Float64Array
    expiry_isolated_initial: Float64Array
    expiry_isolated_maintenance: Float64Array
    expiry_loss: Float64Array
    net_calls: Float64Array
    expiry_loss_initial: Float64Array
    expiry_loss_maintenance: Float64Array
    expiry_charge_initial: Float64Array
    expiry_charge_maintenance: Float64Array
    option_initial: float
    option_maintenance: float
    option_oracle: float
    spot_initial: float
    spot_maintenance: float
    spot_oracle: float
    depeg: float
    perpetual_value: float
    option_value: float
    spot_value: float
    initial_value: float
    maintenance_value: float


@dataclass(frozen=True, slots=True)
class SrmMargin(MarginValues):
    """The account: ``markets`` in its order, ``equity`` without haircut, and the venue's margin values."""

    markets: tuple[SrmMarketMargin, ...]
    equity: float
    initial_value: float
    maintenance_value: float

    def sum_of(self, name: str) -> float:
        """Return the sum of a number of ``SrmMarketMargin`` over the markets."""
        return total(np.array([getattr(market, name) for market in self.markets]))


def srm_margin(portfolio: SrmPortfolio, parameters: DeriveSrmParameters) -> SrmMargin:
    """Return the margin of one account.

    References
    ----------
    Derive, standard risk manager (v2-core, January 2026). Numbers are held to the venue's own cases by
    ``tidegate conformance`` (70 portfolios) and to the plain twin in ``tests/golden``.
    """
    gap = max(parameters.peg_threshold - portfolio.stable_price, 0.0) * parameters.peg_factor
    markets = tuple(
        _market_margin(market, parameters.market(market.underlying), portfolio.stable_price, gap)
        for market in portfolio.markets
    )
    equity, initial, maintenance = portfolio.cash, portfolio.cash, portfolio.cash
    for market in markets:
        equity += market.perpetual_value + market.option_value + market.spot_value
        initial += market.initial_value
        maintenance += market.maintenance_value
    return SrmMargin(markets, equity, initial, maintenance)


def isolated_charges(
    *,
    spot: float,
    strike: Float64Array,
    is_call: BoolArray,
    amount: Float64Array,
    mark: Float64Array,
    rates: DeriveOptionRates,
) -> tuple[Float64Array, Float64Array]:
    """Return what each option needs on its own, ``(initial, maintenance)``, each (n,), <= 0; 0 for longs.

    Parameters
    ----------
    spot : USD per underlying, > 0
    strike, mark : (n,), quote per underlying, >= 0
    amount : (n,), underlying, signed
    """
    outside = np.where(is_call, np.maximum(strike - spot, 0.0), np.maximum(spot - strike, 0.0))
    call_initial = np.maximum(rates.initial_max - outside / spot, rates.initial_min) * spot + mark
    put_maintenance = np.maximum(rates.put_maintenance * spot, rates.put_maintenance_of_mark * mark) + mark
    put_initial = np.maximum(call_initial, rates.put_initial_scale * put_maintenance)
    short = np.minimum(amount, 0.0)
    initial = short * np.where(is_call, call_initial, put_initial)
    maintenance = short * np.where(is_call, rates.call_maintenance * spot + mark, put_maintenance)
    return initial, maintenance


def losses_at_expiry(options: Options, expiry_count: int) -> tuple[Float64Array, Float64Array]:
    """Return the worst payoff and the net number of calls of every expiry, each (e,).

    The worst is over an underlying at 0 and at each strike of the expiry, and at most 0.
    """
    worst = np.zeros(expiry_count)
    for expiry in range(expiry_count):
        member = options.expiry == expiry
        strike, is_call, amount = options.strike[member], options.is_call[member], options.amount[member]
        prices = np.concatenate(([0.0], strike))[:, None]
        payoff = np.where(is_call, np.maximum(prices - strike, 0.0), np.maximum(strike - prices, 0.0)) * amount
        if amount.size:
            # accumulate sums from first to last, whatever the CPU.
            worst[expiry] = min(float(np.add.accumulate(payoff, axis=1)[:, -1].min()), 0.0)
    return worst, expiry_sums(np.where(options.is_call, options.amount, 0.0), options.expiry, expiry_count)


def _market_margin(market: SrmMarket, rates: DeriveMarketRates, stable_price: float, gap: float) -> SrmMarketMargin:
    expiries, options, perpetual, spot = market.expiries, market.options, market.perpetual, market.spot
    count = expiries.seconds.shape[0]

    perpetual_value_at_mark = abs(perpetual.amount) * perpetual.price
    perpetual_initial = -perpetual_value_at_mark * rates.perpetual_initial
    perpetual_maintenance = -perpetual_value_at_mark * rates.perpetual_maintenance
    perpetual_oracle = _charge(
        min(perpetual.confidence, market.spot_confidence), spot * abs(perpetual.amount),
        rates.perpetual_confidence_threshold, rates.confidence_charge,
    )  # fmt: skip

    forward = expiries.forward
    option_mark = option_prices(
        forward=forward[options.expiry],
        strike=options.strike,
        time_to_expiry=expiries.time_to_expiry[options.expiry],
        implied_vol=options.implied_vol,
        discount=np.ones(options.count),
        is_call=options.is_call,
    )
    isolated_initial, isolated_maintenance = isolated_charges(
        spot=spot, strike=options.strike, is_call=options.is_call, amount=options.amount, mark=option_mark,
        rates=rates.options,
    )  # fmt: skip
    expiry_isolated_initial = expiry_sums(isolated_initial, options.expiry, count)
    expiry_isolated_maintenance = expiry_sums(isolated_maintenance, options.expiry, count)
    expiry_loss, net_calls = losses_at_expiry(options, count)
    uncovered = forward * np.minimum(net_calls, 0.0)
    expiry_loss_initial = expiry_loss + rates.options.uncovered_initial * uncovered
    expiry_loss_maintenance = expiry_loss + rates.options.uncovered_maintenance * uncovered
    expiry_charge_initial = np.maximum(expiry_isolated_initial, expiry_loss_initial)
    expiry_charge_maintenance = np.maximum(expiry_isolated_maintenance, expiry_loss_maintenance)
    option_initial, option_maintenance = total(expiry_charge_initial), total(expiry_charge_maintenance)
    shorts = expiry_sums(np.maximum(-options.amount, 0.0), options.expiry, count)
    option_oracle = total(
        confidence_charges(
            np.minimum.reduce(
                [np.full(count, market.spot_confidence), expiries.forward_confidence, expiries.vol_confidence]
            ),
            spot * shorts,
            threshold=rates.option_confidence_threshold,
            charge=rates.confidence_charge,
        )
    )

    spot_maintenance = market.spot_amount * spot * rates.spot_weight
    spot_initial = spot_maintenance * rates.spot_initial_scale
    spot_oracle = 0.0
    if rates.spot_weight != 0.0:
        spot_oracle = _charge(
            market.spot_confidence, market.spot_amount * spot, rates.spot_confidence_threshold, rates.confidence_charge
        )
    depeg = (abs(perpetual.amount) + total(shorts)) * spot * gap
    contingencies = perpetual_oracle + option_oracle + spot_oracle + depeg
    return SrmMarketMargin(
        perpetual_initial=perpetual_initial,
        perpetual_maintenance=perpetual_maintenance,
        perpetual_oracle=perpetual_oracle,
        option_mark=option_mark,
        isolated_initial=isolated_initial,
        isolated_maintenance=isolated_maintenance,
        expiry_isolated_initial=expiry_isolated_initial,
        expiry_isolated_maintenance=expiry_isolated_maintenance,
        expiry_loss=expiry_loss,
        net_calls=net_calls,
        expiry_loss_initial=expiry_loss_initial,
        expiry_loss_maintenance=expiry_loss_maintenance,
        expiry_charge_initial=expiry_charge_initial,
        expiry_charge_maintenance=expiry_charge_maintenance,
        option_initial=option_initial,
        option_maintenance=option_maintenance,
        option_oracle=option_oracle,
        spot_initial=spot_initial,
        spot_maintenance=spot_maintenance,
        spot_oracle=spot_oracle,
        depeg=depeg,
        perpetual_value=perpetual.value,
        option_value=total(options.amount * option_mark),
        spot_value=market.spot_amount * spot / stable_price,
        initial_value=perpetual_initial + option_initial + spot_initial + perpetual.value - contingencies,
        maintenance_value=perpetual_maintenance + option_maintenance + spot_maintenance + perpetual.value,
    )


def _charge(confidence: float, notional: float, threshold: float, charge: float) -> float:
    return (1.0 - confidence) * charge * notional if confidence < threshold else 0.0
