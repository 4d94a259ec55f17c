"""Portfolios that nobody thought of, from a seed, with what the plain implementations say of every step.

Each is a case in the format of published numbers. They go where named portfolios do not: expiries at an end or within
minutes, half settled; rates at zero and below; strikes far in and out of the money; vols of nothing and of 500 %; many
expiries, strikes alone and in pairs; stable assets off their pegs, prices hardly sure, collateral of several kinds;
perpetuals with profits unpaid; sizes of dust and of whales; parameters anywhere within their bounds.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from schemas.derive_parameters import DerivePmrm2Parameters, DerivePmrmParameters, DeriveSrmParameters
from tests.golden import plain_deribit, plain_derive, plain_dydx
from tests.golden.derive_books import some_rates
from tests.judge import derive

Row = dict[str, Any]


def derive_case(model: str, seed: int) -> Row:
    """Return one of Derive's portfolios."""
    rng = np.random.default_rng([seed, len(model)])
    spot = float(rng.choice([0.4, 25.0, 2_500.0, 90_000.0]))
    common = {"cash": float(rng.normal(0.0, 40.0 * spot)), "stable_price": _stable(rng)}
    rates = some_rates(model, rng)
    if model == "derive-srm":
        parameters = DeriveSrmParameters.model_validate(rates)
        markets = [
            plain_derive.srm_market(
                name, spot * scale,
                *[
                    plain_derive.srm_expiry(
                        _days(rng), spot * scale * float(rng.uniform(0.95, 1.1)), *_options(rng, spot * scale),
                        fwd_conf=_confidence(rng), vol_conf=_confidence(rng),
                    )
                    for _ in range(int(rng.integers(0, 7)))
                ],
                **_perpetual(rng, spot * scale), spot_conf=_confidence(rng), base_amount=_amount(rng, zero=0.4),
                params=derive.srm_rows(parameters, name),
            )
            for name, scale in (("ETH", 1.0), ("BTC", 1.3), ("DAI", 0.01))
        ]  # fmt: skip
        depeg = {"threshold": parameters.peg_threshold, "factor": parameters.peg_factor}
        portfolio = plain_derive.srm_portfolio(*markets, depeg=depeg, **common)
        return plain_derive.case(model, {"id": f"random_{seed}", "portfolio": portfolio})
    expiries = []
    for _ in range(int(rng.choice([0, 1, 2, 4, 12]))):
        days, forward = _days(rng), spot * float(rng.uniform(0.95, 1.1))
        # What the settlement average holds already.
        fixed = float(rng.uniform(0.0, 1.0)) if days < 1.0 / 48.0 else 0.0
        expiries.append(
            plain_derive.expiry(
                days,
                forward * (1.0 - fixed),
                *_options(rng, spot),
                fwd_fixed=forward * fixed,
                rate=float(rng.choice([0.0, rng.uniform(-0.3, 0.6)])),
                fwd_conf=_confidence(rng),
                rate_conf=_confidence(rng),
                vol_conf=_confidence(rng),
            )
        )  # fmt: skip
    portfolio = plain_derive.a_portfolio(*expiries, **common, **_perpetual(rng, spot))
    portfolio |= {"spot": spot, "spot_conf": _confidence(rng)}
    if model == "derive-pmrm":
        portfolio["base_amount"] = _amount(rng, zero=0.4)
        rows = derive.pmrm_rows(DerivePmrmParameters.model_validate(rates))
    else:
        portfolio["collaterals"] = [
            plain_derive.collateral(
                _amount(rng, zero=0.1), spot * float(np.exp(rng.normal(0.0, 1.0))), follows=bool(rng.random() < 0.5),
                confidence=_confidence(rng),
            )
            for _ in range(int(rng.integers(0, 6)))
        ]  # fmt: skip
        rows = derive.pmrm2_rows(DerivePmrm2Parameters.model_validate(rates))
    return plain_derive.case(model, {"id": f"random_{seed}", "portfolio": portfolio, "params": rows})


def _options(rng: np.random.Generator, spot: float) -> list[Row]:
    """Return options of one expiry: strikes of calls, of puts, and of both."""
    found = []
    for _ in range(int(rng.integers(1, 7))):
        away = rng.choice([float(np.exp(rng.normal(0.0, 0.3))), float(rng.choice([1e-3, 0.05, 1.0, 8.0, 100.0]))])
        strike = round(spot * float(away), 8)
        vol = float(rng.choice([rng.uniform(0.05, 1.5), rng.uniform(0.05, 1.5), rng.choice([0.0, 0.01, 5.0])]))
        for is_call in (True, False):
            if rng.random() < 0.6:
                amount = float(rng.choice([-1.0, 1.0])) * _amount(rng, zero=0.0)
                found.append(plain_derive.option(strike, amount, vol, is_call=is_call))
    return found


def _perpetual(rng: np.random.Generator, spot: float) -> Row:
    return {
        "perp_amount": float(rng.choice([-1.0, 1.0])) * _amount(rng, zero=0.4),
        "perp_price": spot * float(rng.uniform(0.95, 1.05)), "perp_conf": _confidence(rng),
        "perp_pnl": float(rng.normal(0.0, 5.0 * spot)), "perp_funding": float(rng.normal(0.0, spot / 10.0)),
    }  # fmt: skip


def _amount(rng: np.random.Generator, *, zero: float) -> float:
    """Return dust, something usual or a whale's size; nothing at all with the probability ``zero``."""
    return 0.0 if rng.random() < zero else round(float(10.0 ** rng.choice([-6.0, rng.uniform(-1.0, 2.0), 5.0])), 6)


def _confidence(rng: np.random.Generator) -> float:
    return float(rng.choice([1.0, 1.0, rng.random(), 0.0], p=[0.4, 0.2, 0.35, 0.05]))


def _stable(rng: np.random.Generator) -> float:
    return float(rng.choice([1.0, rng.uniform(0.8, 1.05)]))


def _days(rng: np.random.Generator) -> float:
    near = [0.0, 60.0 / 86_400.0, float(rng.uniform(0.0, 1.0 / 48.0)), 0.1]
    return float(rng.choice([*near, 30.0, *rng.uniform(0.5, 30.0, 3), *rng.uniform(30.0, 390.0, 3)]))


def deribit_record(seed: int) -> Row:
    """Return an account of Deribit's portfolio margin, inverse or linear; every tenth a future of standard margin."""
    rng = np.random.default_rng(seed)
    index = float(rng.choice([0.4, 150.0, 2_500.0, 70_000.0]))
    if seed % 10 == 0:
        rate = float(rng.uniform(0.005, 0.1))
        return plain_deribit.standard_future(
            {
                "kind": "standard_future", "size_usd": round(float(rng.normal(0.0, 1e6)), 2), "mark": index,
                "im_rate": 2.0 * rate, "mm_rate": rate, "slope": float(rng.uniform(0.0, 1e-4)),
            }
        )  # fmt: skip
    linear = bool(rng.random() < 0.5)
    positions: list[Row] = []
    for place in range(int(rng.integers(1, 12))):
        # The venue states nine decimals, which a double of billions does not have.
        amount = round(float(rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(-3.0, 2.0)), 6)
        expiry_ms = plain_deribit.NOW_MS + int(_days(rng) * 86_400_000.0)
        forward = index * float(rng.uniform(0.95, 1.1))
        common = {"instrument": f"I{place}", "amount_coin": amount}
        match int(rng.integers(0, 4)):
            case 0:
                positions.append(common | {"kind": "perpetual", "mark": forward})
            case 1:
                positions.append(common | {"kind": "future", "mark": forward, "expiry_ms": expiry_ms})
            case _:
                strike = round(index * float(np.exp(rng.normal(0.0, 0.5))), 8)
                positions.append(
                    common
                    | plain_deribit.option(
                        f"I{place}", amount, strike, str(rng.choice(["call", "put"])), expiry_ms=expiry_ms,
                        implied_vol=float(rng.uniform(0.05, 3.0)), underlying_price=forward,
                        mark=float(rng.uniform(0.0, 0.3)) * (index if linear else 1.0),
                    )
                )  # fmt: skip
    params = {
        "price_range": float(rng.uniform(0.05, 0.4)), "buckets_count": int(rng.integers(1, 9)),
        "mm_factor": float(rng.uniform(0.5, 1.0)), "extended_table_factor": float(rng.uniform(0.5, 2.0)),
        "extended_dampener": float(rng.choice([0.0, rng.uniform(0.0, 1e6)])),
        "pnl_offset": float(rng.uniform(0.0, 1.0)), "max_offsetable_pnl": float(rng.uniform(0.0, 1e7)),
        "annualised_move_risk": float(rng.uniform(0.0, 0.5)),
        "min_annualised_move": float(rng.uniform(0.0, 0.05)), "max_delta_shock": float(rng.uniform(0.0, 0.2)),
        "delta_total_liq_shock_threshold": float(rng.choice([0.0, 2e7])), "m_inc": float(rng.uniform(0.0, 1e-3)),
        "volatility_range_up": float(rng.uniform(0.0, 1.0)), "volatility_range_down": float(rng.uniform(0.0, 1.0)),
        "short_term_vega_power": float(rng.uniform(0.0, 0.6)), "long_term_vega_power": float(rng.uniform(0.0, 0.4)),
        "min_volatility_for_shock_up": float(rng.uniform(0.0, 1.0)),
    }  # fmt: skip
    payoff = {"payoff": "linear", "settlement": "USDC", "underlying": "BTC"} if linear else {}
    record = plain_deribit.simulate(plain_deribit.account(positions, params, index=index, **payoff))
    expected = record["expected"]
    worst, second = sorted(value for table in expected["aggregated"].values() for value in table)[:2]
    if second - worst <= 1e-9 * abs(worst):
        # Either of two equal scenarios is the worst, by the last bit of a sum.
        del expected["worst_index_1based"], expected["worst_bucket"]
    ninth = expected["risk_matrix_margin"] * 1e9
    if abs(abs(ninth - round(ninth)) - 0.5) <= 1e-12 * ninth:
        # Either way is the ninth decimal rounded.
        del expected["initial_margin"]
    return record


def dydx_document(seed: int, size: int) -> Row:
    """Return so many cases of dYdX, of every kind in turn."""
    rng = np.random.default_rng(seed)
    markets: plain_dydx.Markets = {}
    for name in "0123":
        low = int(rng.integers(0, 10**13))
        markets[name] = {
            "price": int(rng.integers(1, 10**11)), "exponent": int(rng.integers(-9, -2)),
            "atomic_resolution": int(rng.integers(-10, -4)), "initial_margin_ppm": int(rng.integers(1, 10**6 + 1)),
            "maintenance_fraction_ppm": int(rng.integers(1, 10**6 + 1)),
            "open_interest_base_quantums": int(rng.integers(0, 10**14)), "oi_lower_cap": low,
            "oi_upper_cap": int(rng.choice([0, 1])) * (low + int(rng.integers(1, 10**13))),
        }  # fmt: skip
        if markets[name]["oi_upper_cap"] == 0:
            markets[name]["oi_lower_cap"] = 0

    def an_account() -> Row:
        held = rng.choice(4, int(rng.integers(1, 5)), replace=False)
        positions = [{"perpetual": int(it), "base_quantums": _signed(rng)} for it in held]
        worth = plain_dydx.totals({"quote_balance": 0, "positions": positions}, markets)
        # Near the requirement, where prices of liquidation differ.
        balance = round(worth[1] * float(rng.uniform(-0.5, 2.0))) - worth[0]
        return {"quote_balance": balance, "positions": positions, "perpetual": int(held[0])}

    def a_delta(account: Row) -> int:
        before = plain_dydx.held(account)
        return -before if rng.random() < 0.2 else -round(before * float(rng.uniform(-0.1, 1.1)))

    def a_case(kind: str) -> Row:
        if kind == "margin_requirements":
            return markets[str(rng.integers(0, 4))] | {"base_quantums": _signed(rng)}
        if kind == "liquidatable":
            maintenance = int(rng.integers(0, 10**12))
            return {"nc": maintenance + int(rng.integers(-2, 3)), "mmr": maintenance}
        account = an_account()
        delta = a_delta(account)
        if kind == "bankruptcy_price":
            return account | {"delta_base_quantums": delta}
        if kind == "fillable_price":
            ratios = {"bankruptcy_adjustment_ppm": int(rng.integers(10**6, 3 * 10**6)),
                      "spread_to_mmr_ratio_ppm": int(rng.integers(1, 2 * 10**6))}  # fmt: skip
            return account | {"delta_base_quantums": delta, **ratios}
        return account | {
            "is_buy": delta > 0, "fill_base_quantums": abs(delta), "subticks": int(rng.integers(1, 10**6)),
            "quantum_conversion_exponent": int(rng.integers(-8, -1)),
            "max_liquidation_fee_ppm": int(rng.integers(0, 10**5)),
        }  # fmt: skip

    kinds = ("margin_requirements", "liquidatable", "bankruptcy_price", "fillable_price", "insurance_fund_delta")
    vectors: dict[str, list[Row]] = {kind: [] for kind in kinds}
    for place in range(size):
        kind = kinds[place % len(kinds)]
        vectors[kind].append(plain_dydx.answer(kind, a_case(kind), markets))
    return {"format": "dydx-margin-liquidation", "markets": markets, "vectors": vectors}


def _signed(rng: np.random.Generator) -> int:
    size = int(10.0 ** rng.uniform(0.0, 13.0))
    return size if rng.random() < 0.5 else -size


def random_documents(seed: int, size: int) -> dict[str, Callable[[], Row]]:
    """Return how to make a document of so many cases of each format, by the model that it is about."""
    seeds = range(seed * 1_000_000, seed * 1_000_000 + size)

    def of_derive(model: str) -> Callable[[], Row]:
        return lambda: plain_derive.document(model, [derive_case(model, each) for each in seeds])

    return {
        **{model: of_derive(model) for model in ("derive-srm", "derive-pmrm", "derive-pmrm2")},
        "deribit": lambda: {"format": "deribit-margin", "records": [deribit_record(each) for each in seeds]},
        "dydx-v4": lambda: dydx_document(seed, size),
    }
