"""dYdX v4's rules once more, in exact fractions rounded where the rules say so; writes ``dydx/*.json``.

It shares nothing with ``flows.margin.dydx``: amounts are USD fractions here, and become quanta only where the venue
rounds. ``python -m tests.golden.plain_dydx`` writes the files anew.
"""

import json
from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor, trunc
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("dydx")
QUANTUM = Fraction(1, 10**6)

Markets = dict[str, dict[str, int]]


def usd(market: dict[str, int], base: int) -> Fraction:
    """Return the exact value of base quantums in USD."""
    coins = Fraction(base) * Fraction(10) ** market["atomic_resolution"]
    return coins * market["price"] * Fraction(10) ** market["exponent"]


def notional(market: dict[str, int], base: int) -> int:
    return trunc(usd(market, base) / QUANTUM)


def rate(market: dict[str, int]) -> Fraction:
    """Return the initial rate at the market's open interest."""
    own = Fraction(market["initial_margin_ppm"], 10**6)
    low, high = market.get("oi_lower_cap", 0), market.get("oi_upper_cap", 0)
    interest = notional(market, market.get("open_interest_base_quantums", 0))
    if high == 0 or interest <= low:
        return own
    if interest >= high:
        return Fraction(1)
    return own + Fraction(floor((1 - own) * 10**6 * (interest - low) / (high - low)), 10**6)


def requirements(market: dict[str, int], base: int) -> tuple[int, int]:
    size = abs(notional(market, base))
    floor_rate = Fraction(market["initial_margin_ppm"], 10**6)
    fraction = Fraction(market["maintenance_fraction_ppm"], 10**6)
    return ceil(size * rate(market)), ceil(ceil(size * floor_rate) * fraction)


def totals(case: dict[str, Any], markets: Markets) -> tuple[int, int]:
    """Return net collateral and maintenance margin."""
    held = [(markets[str(it["perpetual"])], it["base_quantums"]) for it in case["positions"]]
    collateral = case["quote_balance"] + sum(notional(market, base) for market, base in held)
    return collateral, sum(requirements(market, base)[1] for market, base in held)


def held(case: dict[str, Any]) -> int:
    return sum(it["base_quantums"] for it in case["positions"] if it["perpetual"] == case["perpetual"])


def refused(case: dict[str, Any], delta: int, markets: Markets) -> bool:
    before = held(case)
    shrinks = (before > 0 > delta >= -before) or (before < 0 < delta <= -before)
    return not shrinks or totals(case, markets)[1] == 0


def bankruptcy(case: dict[str, Any], delta: int, markets: Markets) -> int:
    market = markets[str(case["perpetual"])]
    collateral, maintenance = totals(case, markets)
    before, after = held(case), held(case) + delta
    freed = requirements(market, before)[1] - requirements(market, after)[1]
    share = floor(Fraction(collateral * freed, maintenance))
    return -(notional(market, after) - notional(market, before)) - share


def fillable(case: dict[str, Any], markets: Markets) -> Fraction:
    market = markets[str(case["perpetual"])]
    collateral, maintenance = totals(case, markets)
    rating = (1 - Fraction(collateral, maintenance)) * Fraction(case["bankruptcy_adjustment_ppm"], 10**6)
    rating = min(max(rating, Fraction(0)), Fraction(1))
    spread = Fraction(case["spread_to_mmr_ratio_ppm"], 10**6) * requirements(market, held(case))[1]
    return (notional(market, held(case)) - rating * spread) / held(case)


def answer(kind: str, case: dict[str, Any], markets: Markets) -> dict[str, Any]:
    """Return a case with what is expected of it."""
    if kind == "margin_requirements":
        initial, maintenance = requirements(case, case["base_quantums"])
        return case | {"expected_imr": initial, "expected_mmr": maintenance}
    if kind == "liquidatable":
        return case | {"expected": case["mmr"] > 0 and case["nc"] < case["mmr"]}
    if kind == "insurance_fund_delta":
        delta = case["fill_base_quantums"] * (1 if case["is_buy"] else -1)
        if delta == 0 or refused(case, delta, markets):
            return case | {"expected_delta": None, "error": True}
        exponent = Fraction(10) ** case["quantum_conversion_exponent"]
        paid = trunc(case["fill_base_quantums"] * case["subticks"] * exponent)
        surplus = (-paid if case["is_buy"] else paid) - bankruptcy(case, delta, markets)
        fee = floor(Fraction(paid * case["max_liquidation_fee_ppm"], 10**6))
        return case | {"expected_delta": min(surplus, fee), "error": False}
    bad = refused(case, case["delta_base_quantums"], markets)
    if kind == "bankruptcy_price":
        value = None if bad else bankruptcy(case, case["delta_base_quantums"], markets)
        return case | {"expected_quote_quantums": value, "error": bad}
    price = None if bad else fillable(case, markets)
    if price is not None and price < 0:
        price, bad = None, True
    return case | {
        "expected_num": None if price is None else price.numerator,
        "expected_den": None if price is None else price.denominator,
        "error": bad,
    }


MARKETS: Markets = {
    "0": {
        "price": 6_543_219, "exponent": -2, "atomic_resolution": -9, "initial_margin_ppm": 33_333,
        "maintenance_fraction_ppm": 612_345, "open_interest_base_quantums": 10**12,
    },
    "1": {
        "price": 14_987, "exponent": -7, "atomic_resolution": -4, "initial_margin_ppm": 200_001,
        "maintenance_fraction_ppm": 499_999, "open_interest_base_quantums": 12_345_678_901_234,
        "oi_lower_cap": 1_000_000_000_000, "oi_upper_cap": 3_000_000_000_000,
    },
}  # fmt: skip
LONG_AND_SHORT = {
    "quote_balance": -1_234_567_891,
    "positions": [{"perpetual": 0, "base_quantums": 20_000_001}, {"perpetual": 1, "base_quantums": -7_654_321}],
}
CASES: dict[str, dict[str, list[dict[str, Any]]]] = {
    "requirements_round_up_twice": {
        "margin_requirements": [MARKETS["0"] | {"base_quantums": base} for base in (1, -1, 999, -123_456_789, 10**15)],
    },
    "open_interest_lifts_the_initial_rate": {
        "margin_requirements": [
            MARKETS["1"] | {"base_quantums": -98_765_431, "open_interest_base_quantums": interest}
            for interest in (0, 6_672_449_455_000, 6_672_449_456_000, 12_345_678_901_234, 20_017_348_368_000, 10**15)
        ],
    },
    "bankruptcy_of_a_mixed_account": {
        "bankruptcy_price": [
            LONG_AND_SHORT | {"perpetual": 0, "delta_base_quantums": -delta} for delta in (1, 7_777_777, 20_000_001)
        ]
        + [LONG_AND_SHORT | {"perpetual": 1, "delta_base_quantums": delta} for delta in (1, 5_000_000, 7_654_321)],
    },
    "fillable_prices_follow_collateral": {
        "fillable_price": [
            LONG_AND_SHORT
            | {
                "quote_balance": quote, "perpetual": perpetual, "delta_base_quantums": delta,
                "bankruptcy_adjustment_ppm": 1_250_000, "spread_to_mmr_ratio_ppm": 1_500_000,
            }
            for quote in (-1_300_000_000, -1_260_000_000, -1_234_567_891, 0)
            for perpetual, delta in ((0, -20_000_001), (1, 1))
        ],
    },
    "insurance_fund_takes_fee_or_loss": {
        "insurance_fund_delta": [
            LONG_AND_SHORT
            | {
                "perpetual": 0, "is_buy": False, "fill_base_quantums": 12_345_679, "subticks": subticks,
                "quantum_conversion_exponent": -3, "max_liquidation_fee_ppm": 14_999,
            }
            for subticks in (65_400, 62_000, 61_999, 60_000, 1)
        ],
    },
    "refusals": {
        "bankruptcy_price": [
            LONG_AND_SHORT | {"perpetual": 0, "delta_base_quantums": delta} for delta in (0, 1, -20_000_002)
        ],
        "insurance_fund_delta": [
            LONG_AND_SHORT
            | {
                "perpetual": 1, "is_buy": is_buy, "fill_base_quantums": fill, "subticks": 15,
                "max_liquidation_fee_ppm": 1, "quantum_conversion_exponent": -4,
            }
            for is_buy, fill in ((True, 0), (False, 1), (True, 7_654_322))
        ],
    },
    "a_requirement_makes_an_account_liquidatable": {
        "liquidatable": [{"nc": nc, "mmr": mmr} for nc, mmr in ((-1, 0), (-1, 1), (0, 1), (1, 1))],
    },
}  # fmt: skip


def documents() -> dict[str, str]:
    """Return the text of every file by name."""
    texts = {}
    for name, kinds in CASES.items():
        vectors = {kind: [answer(kind, case, MARKETS) for case in cases] for kind, cases in kinds.items()}
        document = {"format": "dydx-margin-liquidation", "markets": MARKETS, "vectors": vectors}
        texts[f"{name}.json"] = json.dumps(document, indent=1) + "\n"
    return texts


def write(folder: Path, texts: Callable[[], dict[str, str]]) -> None:
    """Write the files, and nothing else, into a folder."""
    folder.mkdir(exist_ok=True)
    for name, text in texts().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    write(FOLDER, documents)
