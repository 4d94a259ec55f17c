"""Derive's models, judged plainly: an account's holdings as the venue would see them, through ``plain_derive``.

The venue margins one underlying an account, or one market of it. So an account here is cut into what settles in one
asset on one underlying, each a portfolio of its own; their margin values are added in the numeraire.

1. What linear options and perpetuals settle in is cash, and so is the numeraire. All other balances are collateral.
2. Collateral stands in the portfolio of the underlying that it follows, the one with the first settlement asset.
3. A requirement is equity without haircuts less the venue's margin value, at least 0; initial at least maintenance.
"""

from dataclasses import dataclass, field
from math import inf
from typing import Any, cast

from schemas.derive_parameters import DerivePmrm2Parameters, DerivePmrmParameters, DeriveSrmParameters
from tests.golden import plain_derive
from tests.golden.plain_derive import YEAR
from tests.judge.market import Instrument, Market

MARGINS_COLLATERAL = frozenset({"derive-srm", "derive-pmrm", "derive-pmrm2"})
Row = dict[str, Any]
Parameters = DeriveSrmParameters | DerivePmrmParameters | DerivePmrm2Parameters


@dataclass
class Group:
    """What settles in one asset on one underlying."""

    underlying: str
    settlement_asset: int
    positions: dict[int, int] = field(default_factory=dict)
    collateral: dict[int, float] = field(default_factory=dict)


def requirement(
    market: Market, model: str, positions: dict[int, int], cash: dict[int, int], *, narrow: bool
) -> tuple[float, float]:
    """Return initial and maintenance margin of an account, in the numeraire; infinite where it is not covered.

    ``narrow``: it is isolated and holds positions, so that a positive balance does not count but where they settle.
    """
    parameters = cast(Parameters, market.parameters[model])
    covered = _covered(market)
    live = {held: lots for held, lots in sorted(positions.items()) if held not in market.settled}
    live = {held: lots for held, lots in live.items() if market.instruments[held].kind != "spot"}
    if not live.keys() <= covered.keys():
        return inf, inf
    balances = {
        asset: units / 10 ** market.assets[asset].decimals
        for asset, units in cash.items()
        if asset not in set(covered.values()) and market.assets[asset].asset != market.numeraire
        and not (narrow and units > 0)
    }  # fmt: skip
    # A perpetual is worth its mark here and there: it is left out of both.
    options = {held: lots for held, lots in live.items() if market.instruments[held].kind == "option"}
    equity = sum(lots * market.worth[held].value * market.worth[held].asset_price for held, lots in options.items())
    equity += sum(amount * market.asset_price(asset)[0] for asset, amount in balances.items())
    groups: dict[tuple[str, int], Group] = {}
    for held, lots in live.items():
        it = market.instruments[held]
        _group(groups, it.underlying, it.settlement_asset).positions[held] = lots
    if isinstance(parameters, DeriveSrmParameters):
        initial, maintenance = _srm(market, parameters, groups, balances)
    else:
        initial, maintenance = _portfolio_margin(market, parameters, groups, balances)
    kept = max(equity - maintenance, 0.0)
    return max(equity - initial, kept), kept


def _covered(market: Market) -> dict[int, int]:
    """Return the instruments that the venue knows, settled ones among them, and what each settles in."""
    return {
        it.index: it.settlement_asset
        for it in market.instruments
        if it.kind in {"option", "perpetual"} and not it.inverse
    }


def _home(market: Market, underlying: str) -> int | None:
    """Return the first asset in which something that is covered settles on an underlying."""
    settles = [asset for held, asset in _covered(market).items() if market.instruments[held].underlying == underlying]
    return min(settles, default=None)


def _stable_price(market: Market) -> float:
    """Return the price of what settles first, of the underlying that was listed first."""
    order = list(dict.fromkeys(it.underlying for it in market.instruments))
    firsts = [(order.index(market.instruments[held].underlying), asset) for held, asset in _covered(market).items()]
    return _settled_at(market, min(firsts)[1]) if firsts else 1.0


def _settled_at(market: Market, asset: int) -> float:
    """Return the price of what a group settles in; before it has one, next to nothing, by which can be divided."""
    return market.asset_price(asset)[0] or 1e-100


def _group(groups: dict[tuple[str, int], Group], underlying: str, settlement_asset: int) -> Group:
    return groups.setdefault((underlying, settlement_asset), Group(underlying, settlement_asset))


def _confidence(market: Market, name: str, band: float) -> float:
    return max(1.0 - market.feed(name).confidence / band, 0.0)


# -- the portfolio models ----------------------------------------------------------------------------------------------


def _portfolio_margin(
    market: Market,
    parameters: DerivePmrmParameters | DerivePmrm2Parameters,
    groups: dict[tuple[str, int], Group],
    balances: dict[int, float],
) -> tuple[float, float]:
    """Return the margin values of both portfolio models, initial and maintenance, in the numeraire."""
    apart: list[int] = []
    initial = maintenance = 0.0
    for asset, amount in balances.items():
        name = market.assets[asset].asset
        follows = name
        if isinstance(parameters, DerivePmrm2Parameters):
            named = parameters.collateral.get(name)
            follows = "" if named is None else named.follows
        home = _home(market, follows)
        if home is not None:
            _group(groups, follows, home).collateral[asset] = amount
        elif amount < 0.0:
            initial += amount * market.asset_price(asset)[0]
            maintenance += amount * market.asset_price(asset)[0]
        elif isinstance(parameters, DerivePmrm2Parameters) and name in parameters.collateral:
            apart.append(asset)
    band = parameters.confidence_band
    least = min((_confidence(market, group.underlying, band) for group in groups.values()), default=1.0)
    for group in groups.values():
        stable = _settled_at(market, group.settlement_asset)
        portfolio = _portfolio(market, group, stable, band)
        if isinstance(parameters, DerivePmrm2Parameters):
            portfolio["collaterals"] = [
                _collateral(
                    market, parameters, asset, amount, _confidence(market, market.assets[asset].asset, band),
                    follows=True,
                )
                for asset, amount in group.collateral.items()
            ]  # fmt: skip
            value = plain_derive.pmrm2(portfolio, pmrm2_rows(parameters))
        else:
            portfolio["base_amount"] = sum(group.collateral.values())
            value = plain_derive.pmrm(portfolio, pmrm_rows(parameters))
        initial += stable * value["im"]
        maintenance += stable * value["mm"]
    if apart:
        assert isinstance(parameters, DerivePmrm2Parameters)
        portfolio = plain_derive.a_portfolio(cash=0.0, spot=1.0)
        portfolio["collaterals"] = [
            _collateral(
                market, parameters, asset, balances[asset],
                min(_confidence(market, market.assets[asset].asset, band), least), follows=False,
            )
            for asset in apart
        ]  # fmt: skip
        value = plain_derive.pmrm2(portfolio, pmrm2_rows(parameters))
        initial += value["im"]
        maintenance += value["mm"]
    return initial, maintenance


def _collateral(
    market: Market, parameters: DerivePmrm2Parameters, asset: int, amount: float, confidence: float, *, follows: bool
) -> Row:
    rates = parameters.collateral[market.assets[asset].asset]
    return {
        "amount": amount, "price": market.asset_price(asset)[0], "conf": confidence,
        "risk_cancelling": follows, "mm_haircut": rates.maintenance_haircut,
        "im_haircut": rates.initial_haircut,
    }  # fmt: skip


def _portfolio(market: Market, group: Group, stable: float, band: float) -> Row:
    """Return a group as a portfolio without cash: positions are worth what they are worth, and cost nothing."""
    confidence = _confidence(market, group.underlying, band)
    portfolio = plain_derive.a_portfolio(
        *_expiries(market, group, confidence, fixed="fwd_fixed", variable="fwd_variable"),
        cash=0.0, spot=market.feed(group.underlying).price, spot_conf=confidence, stable_price=stable,
    )  # fmt: skip
    return portfolio | _perpetual(market, group, confidence)


def _perpetual(market: Market, group: Group, confidence: float) -> Row:
    """Return the group's perpetuals as one: of one mark each, or several of one price."""
    amount = worth = 0.0
    for held, lots in group.positions.items():
        it = market.instruments[held]
        if it.kind == "perpetual":
            amount += lots * float(it.lot)
            worth += lots * float(it.lot) * market.worth[held].mark
    return {
        "perp_amount": amount, "perp_price": worth / amount if amount else 0.0, "perp_conf": confidence,
        "perp_pnl": 0.0, "perp_funding": 0.0,
    }  # fmt: skip


def _expiries(market: Market, group: Group, confidence: float, *, fixed: str, variable: str) -> list[Row]:
    expiries: dict[int | None, Row] = {}
    for held, lots in group.positions.items():
        it, worth = market.instruments[held], market.worth[held]
        if it.kind != "option" or worth.forward <= 0.0:  # nothing is known of it: nobody is decided by it
            continue
        row = expiries.setdefault(
            it.expiry_ns,
            {
                "sec": worth.time * YEAR, fixed: 0.0, variable: worth.forward, "fwd_conf": confidence,
                "rate": worth.rate, "rate_conf": confidence, "vol_conf": confidence, "options": [],
            },
        )  # fmt: skip
        row["options"].append(_option(it, lots, worth.vol))
    return list(expiries.values())


def _option(it: Instrument, lots: int, vol: float) -> Row:
    return plain_derive.option(float(it.strike), lots * float(it.lot), vol, is_call=it.call)


def _scenarios(parameters: DerivePmrmParameters | DerivePmrm2Parameters) -> Row:
    """Return the parameters that both portfolio models have, as the venue's files name them."""
    return {
        "scenarios": [
            {"spot_shock": it.spot_multiple, "vol_shock": it.vol_move, "dampening": it.weight}
            for it in parameters.scenarios
        ],
        "vol_shock": {
            "vol_range_up": parameters.vol_up, "vol_range_down": parameters.vol_down,
            "short_term_power": parameters.vol_power_short, "long_term_power": parameters.vol_power_long,
            "dte_floor_sec": parameters.vol_seconds_min,
        },
        "basis": {
            "spot_up": parameters.basis_up, "spot_down": parameters.basis_down, "add_factor": parameters.basis_add,
            "mult_factor": parameters.basis_per_year,
        },
        "other": {
            "peg_loss_threshold": parameters.peg_threshold, "peg_loss_factor": parameters.peg_factor,
            "conf_threshold": parameters.confidence_threshold, "conf_margin": parameters.confidence_charge,
        },
    }  # fmt: skip


def pmrm_rows(parameters: DerivePmrmParameters) -> Row:
    """Return the first model's parameters as the venue's files name them."""
    rows = _scenarios(parameters)
    rows["margin"] = {
        "im_factor": parameters.initial_factor, "base_static_discount": parameters.static_base,
        "rate_mult": parameters.static_rate_scale, "rate_add": parameters.static_per_year,
    }  # fmt: skip
    rows["other"] |= {
        "perp_pct": parameters.perpetual_contingency, "base_pct": parameters.spot_contingency,
        "option_pct": parameters.option_contingency,
    }  # fmt: skip
    return rows


def pmrm2_rows(parameters: DerivePmrm2Parameters) -> Row:
    """Return the second model's parameters as the venue's files name them."""
    rows = _scenarios(parameters)
    rows["vol_shock"]["min_vol_up_shock"] = parameters.vol_up_min
    rows["margin"] = {
        "im_factor": parameters.initial_factor, "mm_factor": parameters.maintenance_factor,
        "long_base_static_discount": parameters.static_long_base, "long_rate_mult": parameters.static_long_rate_scale,
        "long_rate_add": parameters.static_long_per_year, "short_base_static_discount": parameters.static_short_base,
        "short_rate_mult": parameters.static_short_rate_scale, "short_rate_add": parameters.static_short_per_year,
    }  # fmt: skip
    rows["other"] |= {
        "mm_perp_pct": parameters.perpetual_maintenance, "im_perp_pct": parameters.perpetual_initial,
        "mm_option_pct": parameters.option_maintenance, "im_option_pct": parameters.option_initial,
    }  # fmt: skip
    rows["skew"] = {
        "linear_base_cap": parameters.skew_linear_cap, "linear_cbase": parameters.skew_linear_per_root_year,
        "abs_base_cap": parameters.skew_abs_cap, "abs_cbase": parameters.skew_abs_per_root_year,
        "min_k_star": parameters.skew_reach_min, "width_scale": parameters.skew_width,
        "vol_param_static": parameters.skew_vol, "vol_param_scale": parameters.skew_vol_per_root_year,
    }  # fmt: skip
    return rows


# -- the standard model ------------------------------------------------------------------------------------------------


def _srm(
    market: Market, parameters: DeriveSrmParameters, groups: dict[tuple[str, int], Group], balances: dict[int, float]
) -> tuple[float, float]:
    """Return the standard model's margin values, initial and maintenance, in the numeraire."""
    initial = maintenance = 0.0
    portfolios: list[tuple[float, list[Row]]] = []
    for asset, amount in balances.items():
        if amount < 0.0:
            initial += amount * market.asset_price(asset)[0]
            maintenance += amount * market.asset_price(asset)[0]
            continue
        name = market.assets[asset].asset
        home = _home(market, name)
        row = plain_derive.srm_market(
            name, market.asset_price(asset)[0], spot_conf=_confidence(market, name, parameters.confidence_band),
            base_amount=amount, params=srm_rows(parameters, name),
        )  # fmt: skip
        portfolios.append((_stable_price(market) if home is None else _settled_at(market, home), [row]))
    for group in groups.values():
        confidence = _confidence(market, group.underlying, parameters.confidence_band)
        row = plain_derive.srm_market(
            group.underlying, market.feed(group.underlying).price,
            *_expiries(market, group, confidence, fixed="fwd_fixed", variable="forward"),
            spot_conf=confidence, params=srm_rows(parameters, group.underlying),
            **_perpetual(market, group, confidence),
        )  # fmt: skip
        portfolios.append((_settled_at(market, group.settlement_asset), [row]))
    for stable, markets in portfolios:
        value = plain_derive.srm(
            plain_derive.srm_portfolio(
                *markets, cash=0.0, stable_price=stable,
                depeg={"threshold": parameters.peg_threshold, "factor": parameters.peg_factor},
            )
        )  # fmt: skip
        initial += stable * value["im"]
        maintenance += stable * value["mm"]
    return initial, maintenance


def srm_rows(parameters: DeriveSrmParameters, name: str) -> Row:
    """Return a market's rates as the venue's files name them."""
    rates = parameters.market(name)
    options = rates.options
    return {
        "im_perp_req": rates.perpetual_initial, "mm_perp_req": rates.perpetual_maintenance,
        "option": {
            "max_spot_req": options.initial_max, "min_spot_req": options.initial_min,
            "mm_call_spot_req": options.call_maintenance, "mm_put_spot_req": options.put_maintenance,
            "mm_put_mtm_req": options.put_maintenance_of_mark, "unpaired_im_scale": options.uncovered_initial,
            "unpaired_mm_scale": options.uncovered_maintenance, "mm_offset_scale": options.put_initial_scale,
        },
        "oracle": {
            "perp_threshold": rates.perpetual_confidence_threshold,
            "option_threshold": rates.option_confidence_threshold, "base_threshold": rates.spot_confidence_threshold,
            "oc_factor": rates.confidence_charge,
        },
        "base": {"margin_factor": rates.spot_weight, "im_scale": rates.spot_initial_scale},
    }  # fmt: skip
