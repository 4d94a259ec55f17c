"""Deribit's portfolio and standard margin once more, scenario by scenario, in Python's own floats; ``deribit/*.json``.

It shares nothing with ``flows.margin``: plain loops, ``math`` and nothing else, options by the complementary error
function. ``python -m tests.golden.plain_deribit`` writes the files anew.
"""

import json
from math import erfc, exp, log, sqrt
from pathlib import Path
from typing import Any

from tests.golden.plain_dydx import write

FOLDER = Path(__file__).with_name("deribit")
YEAR_MS = 365 * 86_400_000
EXTENDED = (-0.66, -0.33, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0)

Position = dict[str, Any]
Record = dict[str, Any]


def normal(z: float) -> float:
    return 0.5 * erfc(-z / sqrt(2.0))


def black(forward: float, strike: float, deviation: float, option_type: str) -> tuple[float, float]:
    """Return an option's undiscounted price and delta; ``deviation`` is vol * sqrt(years)."""
    sign = 1.0 if option_type == "call" else -1.0
    if deviation == 0.0:
        inside = sign * (forward - strike) > 0.0
        return max(sign * (forward - strike), 0.0), sign if inside else 0.0
    d1 = log(forward / strike) / deviation + deviation / 2.0
    d2 = d1 - deviation
    price = sign * (forward * normal(sign * d1) - strike * normal(sign * d2))
    return price, sign * normal(sign * d1)


def years(record: Record, position: Position) -> float:
    expiry = position.get("expiry_ms")
    return 0.0 if expiry is None else max(expiry - record["timestamp_ms"], 0) / YEAR_MS


def weight(record: Record, position: Position) -> float:
    left = (position["expiry_ms"] - record["timestamp_ms"]) / 1_800_000
    return float(min(max(left, 0.0), 1.0))


def shocked_vol(vol: float, direction: int, time: float, params: dict[str, Any]) -> float:
    if direction == 0 or time == 0.0:
        return vol
    days = time * 365.0
    stretch = (30.0 / days) ** params["short_term_vega_power" if days < 30.0 else "long_term_vega_power"]
    if direction > 0:
        return float(max(vol * (1.0 + params["volatility_range_up"] * stretch), params["min_volatility_for_shock_up"]))
    return float(max(vol * (1.0 - params["volatility_range_down"] * stretch), 0.0))


def profit(record: Record, position: Position, move: float, direction: int) -> float:
    """Return one position's profit in the settlement currency, unscaled."""
    inverse = record.get("payoff", "inverse") == "inverse"
    amount = position["amount_coin"]
    if position["kind"] != "option":
        return float(amount * move / (1.0 + move) if inverse else amount * position["mark"] * move)
    time = years(record, position)
    forward, strike, vol = position["underlying_price"], position["strike"], position["implied_vol"]
    moved = forward * (1.0 + move)
    before, _ = black(forward, strike, vol * sqrt(time), position["option_type"])
    after, _ = black(
        moved, strike, shocked_vol(vol, direction, time, record["params"]) * sqrt(time), position["option_type"]
    )
    change = after / moved - before / forward if inverse else after - before
    return float(amount * weight(record, position) * change)


def scaled(record: Record, value: float, move: float) -> float:
    params = record["params"]
    reach = params["price_range"]
    value *= params["extended_table_factor"] * reach / abs(move)
    if record.get("payoff", "inverse") == "inverse":
        value *= (1.0 + move) / (1.0 + reach if move > 0.0 else 1.0 - reach)
    return value


def dampened(record: Record, value: float, move: float) -> float:
    params = record["params"]
    reach = params["price_range"]
    most = (max(abs(move) / reach, 1.0) - 1.0) * params["extended_dampener"]
    if record.get("payoff", "inverse") == "inverse":
        most /= (1.0 + reach if move > 0.0 else 1.0 - reach) * record["index"]
    return value - most if value > most else value + most if value < -most else 0.0


def offset(record: Record, value: float) -> float:
    if value <= 0.0:
        return value
    limit = record["params"]["max_offsetable_pnl"]
    if record.get("payoff", "inverse") == "inverse":
        limit /= record["index"]
    return float(min(value * record["params"]["pnl_offset"], limit))


def delta(record: Record, position: Position) -> float:
    if position["kind"] != "option":
        return float(position["amount_coin"])
    time = years(record, position)
    _, per_contract = black(
        position["underlying_price"], position["strike"], position["implied_vol"] * sqrt(time), position["option_type"]
    )
    return float(position["amount_coin"] * weight(record, position) * per_contract)


def simulate(record: Record) -> Record:
    """Return a record with every step of its risk matrix."""
    params = record["params"]
    buckets = params["buckets_count"]
    standard = [
        (step * params["price_range"] / buckets, direction)
        for step in range(-buckets, buckets + 1)
        for direction in (-1, 0, 1)
    ]
    vectors = {}
    for position in record["positions"]:
        vectors[position["instrument"]] = {
            "standard": [profit(record, position, move, direction) for move, direction in standard],
            "extended": [scaled(record, profit(record, position, move, 1), move) for move in EXTENDED],
        }
    summed = {table: [sum(each) for each in zip(*[it[table] for it in vectors.values()], strict=True)]
              for table in ("standard", "extended")}  # fmt: skip
    final = {
        "standard": [offset(record, value) for value in summed["standard"]],
        "extended": [
            offset(record, dampened(record, value, move))
            for value, move in zip(summed["extended"], EXTENDED, strict=True)
        ],
    }
    every = final["standard"] + final["extended"]
    worst = min(every)
    place = every.index(worst)
    unit = 1.0 if record.get("payoff", "inverse") == "inverse" else record["index"]
    by_expiry: dict[int, float] = {}
    for position in record["positions"]:
        expiry = position.get("expiry_ms", 0)
        by_expiry[expiry] = by_expiry.get(expiry, 0.0) + delta(record, position)
    roll = 0.0
    for expiry, net in by_expiry.items():
        time = max(expiry - record["timestamp_ms"], 0) / YEAR_MS if expiry else 0.0
        roll += abs(net) * max(exp(params["annualised_move_risk"] * time) - 1.0, params["min_annualised_move"]) * unit
    total = abs(sum(by_expiry.values()))
    excess = max(total - params["delta_total_liq_shock_threshold"] / record["index"], 0.0)
    shock = total * min(params["m_inc"] * excess, params["max_delta_shock"]) * unit
    other = record["other_margins"]
    matrix = round(max(0.0, -worst), 9) + shock + roll + other["correlation_contingency"]
    initial = matrix + other["spot_margin"] + other["mmp_margin"] + other["open_orders_margin"]
    return record | {
        "expected": {
            "initial_risk_vectors": vectors,
            "pre_aggregated": summed,
            "aggregated": final,
            "worst_case": max(0.0, -worst),
            "worst_index_1based": place + 1,
            "worst_bucket": place // 3 + 1 if place < len(standard) else place - len(standard) + 1,
            "delta_shock": shock,
            "roll_shock": roll,
            "correlation_contingency": other["correlation_contingency"],
            "risk_matrix_margin": matrix,
            "initial_margin": round(initial, 9),
            "maintenance_margin": params["mm_factor"] * matrix,
        }
    }


def standard_future(record: Record) -> Record:
    coins = round(record["size_usd"] / record["mark"], 9)
    rise = record["slope"] * abs(coins)
    return record | {
        "expected": {
            "size_coin": abs(coins),
            "initial_margin": round((record["im_rate"] + rise) * abs(coins), 9),
            "maintenance_margin": round((record["mm_rate"] + rise) * abs(coins), 9),
        }
    }


NOW_MS = 1_773_360_000_000
WEEK_MS = NOW_MS + 7 * 86_400_000
QUARTER_MS = NOW_MS + 104 * 86_400_000
BTC = {
    "price_range": 0.16, "buckets_count": 4, "mm_factor": 0.8, "extended_table_factor": 1.0,
    "extended_dampener": 100_000.0, "pnl_offset": 0.0, "max_offsetable_pnl": 0.0, "annualised_move_risk": 0.075,
    "min_annualised_move": 0.01, "delta_total_liq_shock_threshold": 20_000_000.0, "max_delta_shock": 0.1, "m_inc": 5e-5,
    "volatility_range_up": 0.5, "volatility_range_down": 0.25, "short_term_vega_power": 0.3,
    "long_term_vega_power": 0.13, "min_volatility_for_shock_up": 0.5,
}  # fmt: skip
NOTHING_ELSE = {"spot_margin": 0.0, "mmp_margin": 0.0, "open_orders_margin": 0.0, "correlation_contingency": 0.0}
PERPETUAL = {"instrument": "PERPETUAL", "kind": "perpetual", "mark": 70_123.5}
FUTURE = {"instrument": "FUTURE", "kind": "future", "mark": 71_555.25, "expiry_ms": QUARTER_MS}


def option(name: str, amount: float, strike: float, option_type: str, **changes: Any) -> Position:
    chosen = {
        "instrument": name, "kind": "option", "amount_coin": amount, "mark": 0.05, "expiry_ms": WEEK_MS,
        "strike": strike, "option_type": option_type, "implied_vol": 0.62, "underlying_price": 70_300.0,
    }  # fmt: skip
    return chosen | changes


def account(positions: list[Position], params: dict[str, Any], **changes: Any) -> Record:
    record = {
        "kind": "pme_simulate", "settlement": "BTC", "timestamp_ms": NOW_MS, "index": 70_000.0, "positions": positions,
        "params": BTC | params, "other_margins": NOTHING_ELSE,
    }  # fmt: skip
    return record | changes


CASES: dict[str, list[Record]] = {
    "calendar_spread": [
        account([PERPETUAL | {"amount_coin": 12.5}, FUTURE | {"amount_coin": -12.0}], {"annualised_move_risk": 0.3})
    ],
    "large_short_needs_a_delta_shock": [
        account([PERPETUAL | {"amount_coin": -800.0}], {}),
        account([PERPETUAL | {"amount_coin": -9_000.0}], {}),
    ],
    "extended_scenarios_bite": [
        account([PERPETUAL | {"amount_coin": 250.0}], {"extended_dampener": 10_000.0, "extended_table_factor": 1.5})
    ],
    "gains_are_offset_up_to_a_limit": [
        account([PERPETUAL | {"amount_coin": 300.0}], {"pnl_offset": 0.6, "max_offsetable_pnl": 900_000.0})
    ],
    "other_margins_count_once": [
        account(
            [FUTURE | {"amount_coin": 1.25}],
            {"price_range": 0.3, "buckets_count": 6, "mm_factor": 0.65},
            other_margins={
                "spot_margin": 0.25, "mmp_margin": 0.125, "open_orders_margin": 0.0625, "correlation_contingency": 0.5,
            },
        )
    ],
    "short_strangle": [
        account(
            [option("PUT", -20.0, 60_000.0, "put"), option("CALL", -20.0, 82_000.0, "call"),
             PERPETUAL | {"amount_coin": -0.7}],
            {"extended_dampener": 5_000.0},
        )
    ],
    "long_options_at_low_vol": [
        account(
            [option("CALL", 5.0, 70_000.0, "call", expiry_ms=QUARTER_MS, implied_vol=0.21),
             option("PUT", 3.0, 75_000.0, "put", implied_vol=2.4)],
            {"pnl_offset": 0.5, "max_offsetable_pnl": 1e9, "volatility_range_down": 0.9},
        )
    ],
    "options_while_they_settle": [
        account([option("CALL", -4.0, 69_000.0, "call", expiry_ms=NOW_MS + 450_000)], {}),
        account([option("CALL", -4.0, 69_000.0, "call", expiry_ms=NOW_MS)], {}),
    ],
    "linear_book": [
        account(
            [PERPETUAL | {"amount_coin": 3.0}, option("PUT", -6.0, 65_000.0, "put", mark=900.0)],
            {"extended_dampener": 25_000.0, "pnl_offset": 0.4, "max_offsetable_pnl": 1_000_000.0},
            payoff="linear", settlement="USDC", underlying="BTC",
        )
    ],
    "standard_futures": [
        {"kind": "standard_future", "size_usd": size, "mark": mark, "im_rate": 0.02, "mm_rate": 0.01, "slope": 5e-5}
        for size, mark in ((10.0, 70_123.5), (-12_345_670.0, 70_123.5), (1_000_000.0, 3.25))
    ],
}  # fmt: skip


def documents() -> dict[str, str]:
    """Return the text of every file by name."""
    texts = {}
    for name, records in CASES.items():
        answered = [
            standard_future(record) if record["kind"] == "standard_future" else simulate(record) for record in records
        ]
        texts[f"{name}.json"] = json.dumps({"format": "deribit-margin", "records": answered}, indent=1) + "\n"
    return texts


if __name__ == "__main__":
    write(FOLDER, documents)
