"""Derive's three margin models once more, in plain Python; writes ``derive/*.json``.

It shares nothing with ``flows.margin``: no arrays, no kernels, the normal distribution from ``math.erfc``, every rule
written again from the method's description. It reads a case (portfolio and parameters) in the format of the published
vectors and returns what such a case expects. ``python -m tests.golden.plain_derive`` writes the files anew.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from math import erfc, exp, log, sqrt
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("derive")
YEAR = 365 * 86_400
MONTH = 30 * 86_400

Row = dict[str, Any]


def normal(x: float) -> float:
    return 0.5 * erfc(-x / sqrt(2.0))


def price(forward: float, strike: float, vol: float, seconds: float, discount: float, *, is_call: bool) -> float:
    """Return Black-76 as the difference of two products, the way it is printed."""
    if strike == 0.0 or forward == 0.0:
        return discount * max(forward - strike if is_call else strike - forward, 0.0)
    v = max(vol * sqrt(seconds / YEAR), 1e-18)
    d1 = 0.5 * v - log(strike / forward) / v
    call = forward if v >= 24.0 else max(forward * normal(d1) - strike * normal(d1 - v), 0.0)
    return discount * min(call if is_call else max(call + strike - forward, 0.0), forward if is_call else strike)


def expiry_value(expiry: Row, spot: float, discount: float, vols: list[float]) -> float:
    forward = expiry["fwd_fixed"] + spot * expiry["fwd_variable"]
    worth = 0.0
    for held, vol in zip(expiry["options"], vols, strict=True):
        worth += held["amount"] * price(forward, held["strike"], vol, expiry["sec"], discount, is_call=held["is_call"])
    return worth


def vol_moves(expiry: Row, shock: Row) -> tuple[float, float]:
    seconds = max(expiry["sec"], shock["dte_floor_sec"])
    power = shock["short_term_power"] if expiry["sec"] <= MONTH else shock["long_term_power"]
    reach = (MONTH / seconds) ** power
    return 1.0 + shock["vol_range_up"] * reach, max(1.0 - shock["vol_range_down"] * reach, 0.0)


def skew(expiry: Row, strike: float, parameters: Row, kind: str) -> float:
    """Return by what a skew multiplies the vol of a strike."""
    root = sqrt(expiry["sec"] / YEAR)
    cap = parameters[f"{kind}_base_cap"] + parameters[f"{kind}_cbase"] * root
    vol = parameters["vol_param_static"] + root * parameters["vol_param_scale"]
    reach = max(parameters["min_k_star"], root * parameters["width_scale"] * vol)
    k = log(strike / (expiry["fwd_fixed"] + expiry["fwd_variable"]))
    if kind == "abs":
        k = abs(k)
    move = k * cap / reach
    return float(max(1.0 + (min(move, cap) if k >= 0.0 else max(move, -cap)), 0.0))


def moved_vol(move: str, expiry: Row, held: Row, parameters: Row) -> float:
    up, down = vol_moves(expiry, parameters["vol_shock"])
    if move == "up":
        return float(max(parameters["vol_shock"]["min_vol_up_shock"], held["vol"] * up))
    if move == "down":
        return float(held["vol"] * down)
    if move == "none":
        return float(held["vol"])
    return float(held["vol"] * skew(expiry, held["strike"], parameters["skew"], move))


def net_short(expiries: list[Row]) -> float:
    count = 0.0
    for expiry in expiries:
        for strike in sorted({option["strike"] for option in expiry["options"]}):
            held = [option for option in expiry["options"] if option["strike"] == strike]
            call = sum(option["amount"] for option in held if option["is_call"])
            put = sum(option["amount"] for option in held if not option["is_call"])
            if call * put < 0.0:
                count += max(-(call + put), 0.0)
            else:
                count += max(-call, 0.0) + max(-put, 0.0)
    return count


def charge(confidence: float, notional: float, other: Row) -> float:
    if confidence >= other["conf_threshold"]:
        return 0.0
    return float((1.0 - confidence) * other["conf_margin"] * notional)


def depeg(portfolio: Row, other: Row) -> float:
    return float(max(other["peg_loss_threshold"] - portfolio["stable_price"], 0.0) * other["peg_loss_factor"])


def basis(expiries: list[Row], discounts: list[float], marks: list[float], parameters: Row) -> float:
    loss = 0.0
    for expiry, discount, mark in zip(expiries, discounts, marks, strict=True):
        vols = [option["vol"] for option in expiry["options"]]
        up = expiry_value(expiry, parameters["spot_up"], discount, vols) - mark
        down = expiry_value(expiry, parameters["spot_down"], discount, vols) - mark
        years = expiry["sec"] / YEAR
        loss += min(up, down, 0.0) * (parameters["add_factor"] + parameters["mult_factor"] * years)
    return loss


def pmrm2(portfolio: Row, parameters: Row) -> Row:
    """Return what a case of ``derive-pmrm2`` expects."""
    other, margin, expiries = parameters["other"], parameters["margin"], portfolio["expiries"]
    spot, perp = portfolio["spot"], portfolio["perp_amount"]
    values = [held["amount"] * held["price"] / portfolio["stable_price"] for held in portfolio["collaterals"]]
    confidence = min(portfolio["spot_conf"], portfolio["perp_conf"]) if perp else portfolio["spot_conf"]
    rates = [max(expiry["rate"], 0.0) for expiry in expiries]
    years = [expiry["sec"] / YEAR for expiry in expiries]
    discounts = [exp(-rate * time) for rate, time in zip(rates, years, strict=True)]
    marks = [
        expiry_value(expiry, 1.0, discount, [option["vol"] for option in expiry["options"]])
        for expiry, discount in zip(expiries, discounts, strict=True)
    ]
    static = [
        (
            margin["long_base_static_discount"]
            * exp(-time * (rate * margin["long_rate_mult"] + margin["long_rate_add"])),
            min(
                1.0 / discount,
                margin["short_base_static_discount"]
                * exp(time * (rate * margin["short_rate_mult"] + margin["short_rate_add"])),
            ),
        )
        for rate, time, discount in zip(rates, years, discounts, strict=True)
    ]
    equity = sum(marks) + portfolio["perp_pnl"] + portfolio["perp_funding"] + sum(values) + portfolio["cash"]

    profits = []
    for scenario in parameters["scenarios"]:
        changes = []
        for expiry, discount, mark, (positive, negative) in zip(expiries, discounts, marks, static, strict=True):
            vols = [moved_vol(scenario["vol_shock"], expiry, option, parameters) for option in expiry["options"]]
            worth = expiry_value(expiry, scenario["spot_shock"], discount, vols)
            changes.append(worth * (positive if worth >= 0.0 else negative) - mark)
        if scenario["vol_shock"] in {"linear", "abs"}:
            profits.append(-scenario["dampening"] * sum(abs(change) for change in changes))
        else:
            follows = sum(
                value for value, held in zip(values, portfolio["collaterals"], strict=True) if held["risk_cancelling"]
            )
            linear = (scenario["spot_shock"] - 1.0) * (perp * portfolio["perp_price"] + follows)
            profits.append(scenario["dampening"] * (sum(changes) + linear))
    basis_loss = basis(expiries, discounts, marks, parameters["basis"])
    worst = min(*profits, basis_loss)

    short = net_short(expiries)
    oracle = charge(confidence, abs(perp) * spot, other)
    for expiry in expiries:
        lowest = min(confidence, expiry["fwd_conf"], expiry["rate_conf"], expiry["vol_conf"])
        oracle += charge(lowest, spot * sum(abs(option["amount"]) for option in expiry["options"]), other)
    for value, held in zip(values, portfolio["collaterals"], strict=True):
        oracle += charge(min(held["conf"], portfolio["spot_conf"]), abs(value), other)
    contingencies = {
        f"{side}_{kind}_contingency": -amount
        for side in ("mm", "im")
        for kind, amount in (
            ("perp", abs(perp) * spot * other[f"{side}_perp_pct"]),
            ("option", short * spot * other[f"{side}_option_pct"]),
            (
                "collateral",
                sum(
                    abs(value) * held[f"{side}_haircut"]
                    for value, held in zip(values, portfolio["collaterals"], strict=True)
                ),
            ),
        )
    }
    maintenance = sum(amount for name, amount in contingencies.items() if name.startswith("mm"))
    initial = sum(amount for name, amount in contingencies.items() if name.startswith("im")) - oracle
    factor = margin["im_factor"] + depeg(portfolio, other)
    return {
        "im": worst * factor + maintenance + initial + equity,
        "mm": worst * margin["mm_factor"] + maintenance + equity,
        "scenario_pnl": profits,
        "basis_contingency": basis_loss,
        "portfolio_mtm_incl_cash": equity,
        "option_mtm": sum(marks),
        "option_mtm_per_expiry": marks,
        "collateral_mtm": sum(values),
        **contingencies,
        "oracle_contingency": -oracle,
        "static_discount_pos_neg_per_expiry": [list(pair) for pair in static],
        "im_loss_factor": factor,
        "mm_loss_factor": margin["mm_factor"],
    }


def pmrm(portfolio: Row, parameters: Row) -> Row:
    """Return what a case of ``derive-pmrm`` expects."""
    other, margin, expiries = parameters["other"], parameters["margin"], portfolio["expiries"]
    spot, perp, base = portfolio["spot"], portfolio["perp_amount"], portfolio["base_amount"]
    confidence = min(portfolio["spot_conf"], portfolio["perp_conf"]) if perp else portfolio["spot_conf"]
    marks = [expiry_value(expiry, 1.0, 1.0, [option["vol"] for option in expiry["options"]]) for expiry in expiries]
    base_value = base * spot / portfolio["stable_price"]
    equity = sum(marks) + portfolio["perp_pnl"] + portfolio["perp_funding"] + base_value + portfolio["cash"]
    profits = []
    for scenario in parameters["scenarios"]:
        profit = (scenario["spot_shock"] - 1.0) * (perp * portfolio["perp_price"] + base_value)
        for expiry, mark in zip(expiries, marks, strict=True):
            up, down = vol_moves(expiry, parameters["vol_shock"])
            move = {"up": up, "down": down, "none": 1.0}[scenario["vol_shock"]]
            vols = [option["vol"] * move for option in expiry["options"]]
            worth = expiry_value(expiry, scenario["spot_shock"], 1.0, vols)
            if worth > 0.0:
                growth = max(expiry["rate"], 0.0) * margin["rate_mult"] + margin["rate_add"]
                worth *= margin["base_static_discount"] * exp(-expiry["sec"] / YEAR * growth)
            profit += worth - mark
        profits.append(profit)
    basis_loss = basis(expiries, [1.0] * len(expiries), marks, parameters["basis"])
    perp_set_aside = abs(perp) * spot * other["perp_pct"]
    base_set_aside = abs(base) * spot * other["base_pct"]
    option_set_aside = net_short(expiries) * spot * other["option_pct"]
    oracle = charge(confidence, (abs(perp) + abs(base)) * spot, other)
    for expiry in expiries:
        lowest = min(confidence, expiry["fwd_conf"], expiry["rate_conf"], expiry["vol_conf"])
        oracle += charge(lowest, spot * sum(abs(option["amount"]) for option in expiry["options"]), other)
    loss = min(*profits, basis_loss) - perp_set_aside - base_set_aside - option_set_aside
    return {
        "im": loss * (margin["im_factor"] + depeg(portfolio, other)) - oracle + equity,
        "mm": loss + equity,
        "scenario_pnl": profits,
        "basis_contingency": basis_loss,
        "portfolio_mtm_incl_cash": equity,
        "perp_contingency": -perp_set_aside,
        "base_contingency": -base_set_aside,
        "option_contingency": -option_set_aside,
        "oracle_contingency": -oracle,
    }


def srm_option_charge(market: Row, expiry: Row, side: str) -> float:
    """Return the smaller charge of an expiry's options, <= 0; ``side`` is ``im`` or ``mm``."""
    rates, spot = market["params"]["option"], market["spot"]
    alone = 0.0
    for option in expiry["options"]:
        if option["amount"] >= 0.0:
            continue
        strike, is_call = option["strike"], option["is_call"]
        mark = price(expiry["forward"], strike, option["vol"], expiry["sec"], 1.0, is_call=is_call)
        outside = max(strike - spot if is_call else spot - strike, 0.0)
        opening = max(rates["max_spot_req"] - outside / spot, rates["min_spot_req"]) * spot + mark
        if is_call:
            need = opening if side == "im" else rates["mm_call_spot_req"] * spot + mark
        else:
            keeping = max(rates["mm_put_spot_req"] * spot, rates["mm_put_mtm_req"] * mark) + mark
            need = max(opening, rates["mm_offset_scale"] * keeping) if side == "im" else keeping
        alone += option["amount"] * need
    payoffs = [
        sum(
            option["amount"] * max(at - option["strike"] if option["is_call"] else option["strike"] - at, 0.0)
            for option in expiry["options"]
        )
        for at in [0.0] + [option["strike"] for option in expiry["options"]]
    ]
    calls = sum(option["amount"] for option in expiry["options"] if option["is_call"])
    together = min([0.0, *payoffs]) + min(calls, 0.0) * expiry["forward"] * rates[f"unpaired_{side}_scale"]
    return float(max(alone, together))


def low(confidence: float, kind: str, notional: float, oracle: Row) -> float:
    short = confidence < oracle[f"{kind}_threshold"]
    return float((1.0 - confidence) * oracle["oc_factor"] * notional) if short else 0.0


def srm(portfolio: Row) -> Row:
    """Return what a case of ``derive-srm`` expects."""
    gap = max(portfolio["depeg"]["threshold"] - portfolio["stable_price"], 0.0) * portfolio["depeg"]["factor"]
    totals = dict.fromkeys(("im", "mm", "mtm"), portfolio["cash"])
    parts = dict.fromkeys(("base_margin", "oracle_contingency", "depeg_im"), 0.0)
    charges: Row = {}
    for market in portfolio["markets"]:
        spot, perp, base, rates = market["spot"], abs(market["perp_amount"]), market["base_amount"], market["params"]
        thresholds = rates["oracle"]
        earned = market["perp_pnl"] + market["perp_funding"]
        oracle = low(min(market["perp_conf"], market["spot_conf"]), "perp", perp * spot, thresholds)
        marks, shorts = 0.0, 0.0
        for side in ("im", "mm"):
            charges[f"{market['name'].lower()}_option_{side}"] = sum(
                srm_option_charge(market, expiry, side) for expiry in market["expiries"]
            )
        for expiry in market["expiries"]:
            short = sum(max(-option["amount"], 0.0) for option in expiry["options"])
            lowest = min(market["spot_conf"], expiry["fwd_conf"], expiry["vol_conf"])
            oracle += low(lowest, "option", spot * short, thresholds)
            shorts += short
            marks += sum(
                option["amount"]
                * price(
                    expiry["forward"], option["strike"], option["vol"], expiry["sec"], 1.0, is_call=option["is_call"]
                )
                for option in expiry["options"]
            )  # fmt: skip
        kept = base * spot * rates["base"]["margin_factor"]
        opened = kept * rates["base"]["im_scale"]
        if rates["base"]["margin_factor"]:
            oracle += low(market["spot_conf"], "base", base * spot, thresholds)
        pegged = (perp + shorts) * spot * gap
        name = market["name"].lower()
        required = perp * market["perp_price"]
        totals["im"] += (
            -required * rates["im_perp_req"] + charges[f"{name}_option_im"] + opened - oracle - pegged + earned
        )
        totals["mm"] += -required * rates["mm_perp_req"] + charges[f"{name}_option_mm"] + kept + earned
        totals["mtm"] += marks + earned + base * spot / portfolio["stable_price"]
        parts["base_margin"] += opened
        parts["oracle_contingency"] -= oracle
        parts["depeg_im"] -= pegged
    return {**totals, **parts, **charges}


def option(strike: float, amount: float, vol: float, *, is_call: bool = True) -> Row:
    return {"strike": float(strike), "is_call": is_call, "amount": float(amount), "vol": vol}


def expiry(days: float, forward: float, *options: Row, **changes: Any) -> Row:
    return {
        "sec": days * 86_400.0, "fwd_fixed": 0.0, "fwd_variable": forward, "fwd_conf": 1.0, "rate": 0.05,
        "rate_conf": 1.0, "vol_conf": 1.0, "options": list(options),
    } | changes  # fmt: skip


def a_portfolio(*expiries: Row, **changes: Any) -> Row:
    return {
        "cash": 20_000.0, "spot": 2_500.0, "spot_conf": 1.0, "stable_price": 1.0, "perp_amount": 0.0,
        "perp_price": 2_503.0, "perp_conf": 1.0, "perp_pnl": 0.0, "perp_funding": 0.0, "expiries": list(expiries),
    } | changes  # fmt: skip


def collateral(amount: float, coin_price: float, *, follows: bool, confidence: float = 1.0) -> Row:
    return {
        "name": "C", "amount": amount, "price": coin_price, "conf": confidence, "risk_cancelling": follows,
        "mm_haircut": 0.1, "im_haircut": 0.05,
    }  # fmt: skip


def moves(spots: list[float]) -> list[Row]:
    return [{"spot_shock": spot, "vol_shock": vol} for spot in spots for vol in ("up", "none", "down")]


def pmrm2_parameters() -> Row:
    tails = [(0.4, 0.25), (1.7, 0.22), (3.0, 0.07)]
    weighted = [{**move, "dampening": 1.0} for move in moves([0.86, 0.93, 1.0, 1.07, 1.14])]
    weighted += [{"spot_shock": spot, "vol_shock": "up", "dampening": weight} for spot, weight in tails]
    weighted += [{"spot_shock": 1.0, "vol_shock": kind, "dampening": 1.0} for kind in ("linear", "abs")]
    return {
        "scenarios": weighted,
        "vol_shock": {
            "vol_range_up": 0.45, "vol_range_down": 0.28, "short_term_power": 0.31, "long_term_power": 0.14,
            "dte_floor_sec": 86_400.0, "min_vol_up_shock": 0.42,
        },
        "margin": {
            "im_factor": 1.1, "mm_factor": 0.85, "short_rate_mult": 0.4, "long_rate_mult": 0.9, "short_rate_add": 0.07,
            "long_rate_add": 0.09, "long_base_static_discount": 0.96, "short_base_static_discount": 1.03,
        },
        "basis": {"spot_up": 1.04, "spot_down": 0.95, "add_factor": 0.4, "mult_factor": 1.9},
        "other": {
            "peg_loss_threshold": 0.985, "peg_loss_factor": 3.0, "conf_threshold": 0.6, "conf_margin": 0.8,
            "mm_perp_pct": 0.02, "im_perp_pct": 0.007, "mm_option_pct": 0.004, "im_option_pct": 0.003,
        },
        "skew": {
            "linear_base_cap": 0.2, "abs_base_cap": 0.16, "linear_cbase": -0.06, "abs_cbase": -0.04, "min_k_star": 0.02,
            "width_scale": 3.5, "vol_param_static": 0.55, "vol_param_scale": -0.08,
        },
    }  # fmt: skip


def pmrm_parameters() -> Row:
    return {
        "scenarios": moves([0.84, 0.92, 1.0, 1.08, 1.16]),
        "vol_shock": {
            "vol_range_up": 0.5, "vol_range_down": 0.3, "short_term_power": 0.3, "long_term_power": 0.13,
            "dte_floor_sec": 86_400.0,
        },
        "margin": {"im_factor": 1.28, "base_static_discount": 0.94, "rate_mult": 2.0, "rate_add": 0.1},
        "basis": {"spot_up": 1.06, "spot_down": 0.94, "add_factor": 0.3, "mult_factor": 0.9},
        "other": {
            "peg_loss_threshold": 0.98, "peg_loss_factor": 2.5, "conf_threshold": 0.6, "conf_margin": 0.5,
            "base_pct": 0.021, "perp_pct": 0.023, "option_pct": 0.012,
        },
    }  # fmt: skip


def srm_market(name: str, spot: float, *expiries: Row, **changes: Any) -> Row:
    return {
        "name": name, "spot": spot, "spot_conf": 1.0, "perp_amount": 0.0, "perp_price": spot * 1.002, "perp_conf": 1.0,
        "perp_pnl": 0.0, "perp_funding": 0.0, "base_amount": 0.0, "expiries": list(expiries),
        "params": {
            "im_perp_req": 0.1, "mm_perp_req": 0.065,
            "option": {
                "max_spot_req": 0.15, "min_spot_req": 0.13, "mm_call_spot_req": 0.09, "mm_put_spot_req": 0.08,
                "mm_put_mtm_req": 0.085, "unpaired_im_scale": 1.2, "unpaired_mm_scale": 1.1, "mm_offset_scale": 1.05,
            },
            "oracle": {
                "perp_threshold": 0.55, "option_threshold": 0.5, "base_threshold": 0.45, "oc_factor": 0.9,
            },
            "base": {"margin_factor": 0.8, "im_scale": 0.9375},
        },
    } | changes  # fmt: skip


def srm_expiry(days: float, forward: float, *options: Row, **changes: Any) -> Row:
    held = {"sec": days * 86_400.0, "forward": forward, "fwd_conf": 1.0, "vol_conf": 1.0, "options": list(options)}
    return held | changes


def srm_portfolio(*markets: Row, **changes: Any) -> Row:
    held = {"cash": 9_000.0, "stable_price": 1.0, "depeg": {"threshold": 0.99, "factor": 2.0}, "markets": list(markets)}
    return held | changes


SHORT_STRANGLE = expiry(9.0, 2_504.0, option(2_800, -5, 0.71), option(2_200, -4, 0.78, is_call=False))
CALENDAR = expiry(75.0, 2_540.0, option(2_800, 6, 0.62), option(2_800, -2, 0.62, is_call=False))
NEAR_SETTLEMENT = expiry(
    600.0 / 86_400.0, 832.0, option(2_500, -3, 0.9), option(2_450, 2, 1.1, is_call=False), fwd_fixed=1_671.0
)

PMRM2 = {
    "cash_only": a_portfolio(),
    "short_strangle": a_portfolio(SHORT_STRANGLE),
    "calendar_with_perpetual": a_portfolio(
        SHORT_STRANGLE, CALENDAR, perp_amount=-2.5, perp_pnl=130.0, perp_funding=-7.25
    ),
    "settling_expiry": a_portfolio(NEAR_SETTLEMENT, CALENDAR),
    "collateral_that_follows_spot": a_portfolio(
        SHORT_STRANGLE, cash=-4_000.0,
        collaterals=[collateral(3.0, 2_700.0, follows=True), collateral(5_000.0, 0.998, follows=False)],
    ),
    "low_confidence_everywhere": a_portfolio(
        {**SHORT_STRANGLE, "vol_conf": 0.3}, {**CALENDAR, "fwd_conf": 0.5}, perp_amount=4.0, perp_conf=0.4,
        collaterals=[collateral(2.0, 2_490.0, follows=True, confidence=0.2)],
    ),
    "stable_below_its_peg": a_portfolio(SHORT_STRANGLE, stable_price=0.93),
    "negative_rate": a_portfolio({**CALENDAR, "rate": -0.4}, {**SHORT_STRANGLE, "rate": -0.1}),
    "worst_is_the_basis": a_portfolio(
        expiry(300.0, 2_600.0, option(2_600, 30, 0.6), option(2_600, -30, 0.6, is_call=False)), perp_amount=-30.0
    ),
    "nothing_lost_at_strike_zero": a_portfolio(expiry(20.0, 2_510.0, option(1e-3, -1, 0.0), option(2_500, 2, 0.5))),
}  # fmt: skip
PMRM = {
    "short_strangle_v1": a_portfolio(SHORT_STRANGLE),
    "covered_call_v1": a_portfolio(expiry(30.0, 2_510.0, option(2_700, -4, 0.66)), base_amount=4.0),
    "calendar_with_perpetual_v1": a_portfolio(SHORT_STRANGLE, CALENDAR, perp_amount=3.0, perp_pnl=-210.0),
    "settling_expiry_v1": a_portfolio(NEAR_SETTLEMENT, CALENDAR, base_amount=1.0),
    "low_confidence_and_depeg_v1": a_portfolio(
        {**SHORT_STRANGLE, "rate_conf": 0.4}, stable_price=0.9, spot_conf=0.5, base_amount=2.0, perp_amount=-1.0
    ),
}
CONDOR = srm_expiry(
    14.0, 2_506.0, option(2_000, 3, 0.9, is_call=False), option(2_200, -3, 0.8, is_call=False), option(2_800, -3, 0.7),
    option(3_100, 3, 0.75),
)  # fmt: skip
SRM = {
    "iron_condor_is_bounded": srm_portfolio(srm_market("ETH", 2_500.0, CONDOR)),
    "uncovered_calls": srm_portfolio(srm_market("ETH", 2_500.0, srm_expiry(14.0, 2_506.0, option(2_400, -2, 0.7)))),
    "ratio_spread_over_two_markets": srm_portfolio(
        srm_market("ETH", 2_500.0, CONDOR, srm_expiry(60.0, 2_530.0, option(2_600, -3, 0.65), option(2_500, 1, 0.66))),
        srm_market(
            "BTC", 60_000.0, srm_expiry(30.0, 60_400.0, option(50_000, -1, 0.6, is_call=False)), perp_amount=-0.4,
            perp_pnl=900.0, perp_funding=-12.0, base_amount=0.3,
        ),
    ),
    "low_confidence_and_depeg": srm_portfolio(
        srm_market(
            "ETH", 2_500.0, {**CONDOR, "vol_conf": 0.2}, spot_conf=0.4, perp_amount=2.0, base_amount=1.5
        ),
        stable_price=0.95,
    ),
    "collateral_without_weight": srm_portfolio(
        srm_market("ETH", 2_500.0, spot_conf=0.1, base_amount=2.0) | {
            "params": {
                **srm_market("ETH", 2_500.0)["params"], "base": {"margin_factor": 0.0, "im_scale": 1.0},
            }
        }
    ),
}  # fmt: skip


def pmrm2_limits() -> list[Row]:
    """Return one portfolio with each parameter at the least and at the most that the venue's setters allow."""
    bounds: dict[str, dict[str, tuple[float, float]]] = {
        "vol_shock": {
            "vol_range_up": (0.0, 10.0), "vol_range_down": (0.0, 10.0), "short_term_power": (0.0, 10.0),
            "long_term_power": (0.0, 10.0), "dte_floor_sec": (0.0, 400.0 * 86_400.0), "min_vol_up_shock": (0.0, 20.0),
        },
        "margin": {
            "im_factor": (0.5, 10.0), "mm_factor": (0.1, 10.0), "short_rate_mult": (0.0, 10.0),
            "long_rate_mult": (0.0, 10.0), "short_rate_add": (0.0, 10.0), "long_rate_add": (0.0, 10.0),
            "long_base_static_discount": (0.0, 4.0), "short_base_static_discount": (0.0, 4.0),
        },
        "basis": {
            "spot_up": (1.0001, 2.9999), "spot_down": (0.0001, 0.9999), "add_factor": (0.0, 20.0),
            "mult_factor": (0.0, 20.0),
        },
        "other": {
            "peg_loss_threshold": (0.0, 1.2), "peg_loss_factor": (0.0, 20.0), "conf_threshold": (0.0, 1.0),
            "conf_margin": (0.0, 20.0), "mm_perp_pct": (0.0, 3.0), "im_perp_pct": (0.0, 3.0),
            "mm_option_pct": (0.0, 2.0), "im_option_pct": (0.0, 2.0),
        },
        "skew": {
            "linear_base_cap": (0.0, 10.0), "abs_base_cap": (0.0, 10.0), "linear_cbase": (-10.0, 10.0),
            "abs_cbase": (-10.0, 10.0), "min_k_star": (0.0, 10.0), "width_scale": (0.0, 10.0),
            "vol_param_static": (0.0, 10.0), "vol_param_scale": (-20.0, 20.0),
        },
    }  # fmt: skip
    portfolio = a_portfolio(
        {**SHORT_STRANGLE, "vol_conf": 0.5}, CALENDAR, perp_amount=-1.5, stable_price=0.97, perp_conf=0.7,
        collaterals=[collateral(2.0, 2_700.0, follows=True)],
    )  # fmt: skip
    rows = []
    for group, names in bounds.items():
        for name, limits in names.items():
            for which, value in zip(("min", "max"), limits, strict=True):
                parameters = pmrm2_parameters()
                parameters[group][name] = value
                rows.append({"id": f"{group}_{name}_{which}", "portfolio": portfolio, "params": parameters})
    return rows


def case(model: str, row: Row) -> Row:
    """Return a case with what it expects."""
    portfolio = deepcopy(row["portfolio"])
    if model == "derive-srm":
        return {"id": row["id"], "portfolio": portfolio, "expected": srm(portfolio)}
    if model == "derive-pmrm2":
        portfolio.setdefault("collaterals", [])
        expected = pmrm2(portfolio, row["params"])
    else:
        portfolio.setdefault("base_amount", 0.0)
        expected = pmrm(portfolio, row["params"])
    return {"id": row["id"], "portfolio": portfolio, "params": row["params"], "expected": expected}


def document(model: str, rows: list[Row]) -> Row:
    return {"format": f"{model}-portfolios", "source": "tests/golden/plain_derive.py", "vectors": rows}


def documents() -> dict[str, Row]:
    """Return every golden file by name."""
    sets: list[tuple[str, dict[str, Row], Callable[[], Row]]] = [
        ("derive-pmrm2", PMRM2, pmrm2_parameters),
        ("derive-pmrm", PMRM, pmrm_parameters),
        ("derive-srm", SRM, dict),
    ]
    return {
        name: document(model, [case(model, {"id": name, "portfolio": portfolio, "params": parameters()})])
        for model, portfolios, parameters in sets
        for name, portfolio in portfolios.items()
    }


def main() -> None:
    """Write the golden files."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in documents().items():
        (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
