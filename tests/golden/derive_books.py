"""Random markets and books for Derive's models, and what the plain judge says of every account of them.

A market is told in the ledger's records, to the engine and to the judge alike. It reaches corners on purpose: expiries
within minutes and at an end, rates below zero and at zero, strikes far out, stable assets off their pegs, prices that
are hardly sure, collateral of every kind, debts, isolated accounts, parameters at random.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from flows.margin.collateral import equity
from flows.margin.model import Balances, MarginModel, PositionColumns
from flows.market.step import Market
from schemas.ledger import (
    AccountRecord,
    AssetRecord,
    ForwardRecord,
    Genesis,
    GenesisRecord,
    InstrumentRecord,
    MarketRecord,
    RateRecord,
    VolPointsRecord,
)
from tests.flows.market.builders import DAY, a_frame, a_mark, a_price, an_instrument, an_option, at, some_parameters
from tests.judge import derive
from tests.judge.market import Market as PlainMarket

ASSETS: Final = {"USDC": 6, "BTC": 8, "USDT": 6, "ETH": 8, "STETH": 8, "USD": 2, "DAI": 6, "DUST": 4}
SPOTS: Final = {"BTC": 60_000.0, "ETH": 2_500.0}


@dataclass(frozen=True)
class Compared:
    """One number of one account: ours, the plain one, and the size of what both were summed from."""

    step: str
    own: float
    expected: float
    size: float


def a_random_market(rng: np.random.Generator) -> list[MarketRecord]:
    """Return what is listed, and everything that is told of it."""
    listed: list[InstrumentRecord] = []
    told: list[MarketRecord] = []
    spots = {name: spot * float(np.exp(rng.normal(0.0, 0.2))) for name, spot in SPOTS.items()}
    for underlying, spot in spots.items():
        told.append(a_price(spot, feed=f"{underlying}/USD", confidence=spot * _band(rng)))
        for days in _expiries(rng):
            told.append(ForwardRecord(underlying, at(days * DAY), "a", spot * float(rng.uniform(0.93, 1.1)), at(0.0)))
            strikes = sorted({f"{_strike(rng, spot):.2f}" for _ in range(int(rng.integers(1, 7)))}, key=float)
            vols = [float(rng.choice([rng.uniform(0.05, 1.5), rng.uniform(0.05, 4.0)])) for _ in strikes]
            told.append(VolPointsRecord(underlying, at(days * DAY), "a", [float(k) for k in strikes], vols, at(0.0)))
            for strike in strikes:
                for option_type in ("call", "put"):
                    place = len(listed)
                    listed.append(
                        an_option(place, strike=strike, option_type=option_type, days=days, underlying=underlying)
                    )
        for settlement_asset in (0, 2) if underlying == "BTC" else (0,):
            place = len(listed)
            listed.append(an_instrument(place, underlying=underlying, settlement_asset=settlement_asset))
            told.append(a_mark(place, spot * float(rng.uniform(0.96, 1.04))))
    for name in ("USDC", "USDT", "DAI"):
        price = float(rng.choice([1.0, rng.uniform(0.8, 1.05)]))
        told.append(a_price(price, feed=f"{name}/USD", confidence=price * _band(rng)))
    for name, price in (("STETH", spots["ETH"] * float(rng.uniform(0.9, 1.1))), ("DUST", 0.02)):
        told.append(a_price(price, feed=f"{name}/USD", confidence=price * _band(rng)))
    told.append(RateRecord("USD", "r", float(rng.choice([0.0, rng.uniform(-0.3, 0.6)])), at(0.0)))
    return [
        GenesisRecord(Genesis(ledger_id="random")),
        *(AssetRecord(index, name, decimals) for index, (name, decimals) in enumerate(ASSETS.items())),
        *listed,
        *(
            AccountRecord(8 + place, name, name, "cross")
            for place, name in enumerate(sorted(derive.MARGINS_COLLATERAL))
        ),
        *told,
        *(some_parameters(name, **some_rates(name, rng)) for name in sorted(derive.MARGINS_COLLATERAL)),
    ]


def _expiries(rng: np.random.Generator) -> list[float]:
    """Return days to expiry, all different, some of them minutes or nothing."""
    drawn = [rng.choice([0.0, 1.0 / 144.0, 0.1, rng.uniform(0.5, 30.0), rng.uniform(30.0, 390.0)]) for _ in range(9)]
    return sorted({round(float(days), 6) for days in drawn[: int(rng.integers(1, 9))]})


def _strike(rng: np.random.Generator, spot: float) -> float:
    return spot * float(rng.choice([np.exp(rng.normal(0.0, 0.3)), rng.choice([0.01, 0.2, 5.0, 40.0])], p=[0.8, 0.2]))


def _band(rng: np.random.Generator) -> float:
    """Return half a price's band over it: none, or up to what the oracle takes."""
    return float(rng.choice([0.0, rng.uniform(0.0, 0.049)]))


def some_rates(model: str, rng: np.random.Generator) -> dict[str, Any]:
    """Return changes of a model's parameters: often none, else many."""
    if rng.random() < 0.3:
        return {}

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    changes: dict[str, Any] = {
        "peg_threshold": between(0.9, 1.05), "peg_factor": between(0.0, 6.0), "confidence_band": between(0.02, 0.2),
    }  # fmt: skip
    if model == "derive-srm":
        option_names = ("initial_max", "initial_min", "call_maintenance", "put_maintenance", "put_maintenance_of_mark")
        markets = {
            name: {
                "perpetual_initial": between(0.1, 0.3), "perpetual_maintenance": between(0.02, 0.1),
                "options": {each: between(0.05, 0.3) for each in option_names}
                | {each: between(1.0, 1.5) for each in ("uncovered_initial", "uncovered_maintenance")},
                "spot_weight": float(rng.choice([0.0, between(0.2, 1.0)])), "spot_initial_scale": between(0.5, 1.0),
                "perpetual_confidence_threshold": between(0.0, 1.0), "option_confidence_threshold": between(0.0, 1.0),
                "spot_confidence_threshold": between(0.0, 1.0), "confidence_charge": between(0.0, 2.0),
            }
            for name in ("BTC", "ETH", "DAI", "STETH")
        }  # fmt: skip
        return changes | {"markets": markets}
    moves = ["up", "none", "down"]
    scenarios = [
        {"spot_multiple": float(rng.choice([1.0, np.exp(rng.normal(0.0, 0.2))])), "vol_move": str(rng.choice(moves))}
        for _ in range(int(rng.integers(1, 30)))
    ]
    changes |= {
        "vol_up": between(0.0, 1.0), "vol_down": between(0.0, 1.0), "vol_power_short": between(0.0, 0.6),
        "vol_power_long": between(0.0, 0.4), "vol_seconds_min": between(0.0, 5.0 * DAY),
        "basis_up": between(1.01, 1.2), "basis_down": between(0.8, 0.99), "basis_add": between(0.0, 2.0),
        "basis_per_year": between(0.0, 3.0), "confidence_threshold": between(0.0, 1.0),
        "confidence_charge": between(0.0, 2.0), "initial_factor": between(1.0, 1.6),
    }  # fmt: skip
    if model == "derive-pmrm":
        names = ("perpetual_contingency", "spot_contingency", "option_contingency")
        return changes | {
            "scenarios": scenarios, "static_base": between(0.8, 1.0), "static_rate_scale": between(0.0, 3.0),
            "static_per_year": between(0.0, 0.3), **{name: between(0.0, 0.1) for name in names},
        }  # fmt: skip
    for scenario in scenarios:
        scenario["weight"] = float(rng.choice([1.0, between(0.02, 1.0)]))
    scenarios += [{"spot_multiple": 1.0, "vol_move": skew} for skew in ("linear", "abs")]
    shares = ("perpetual_maintenance", "perpetual_initial", "option_maintenance", "option_initial")
    collateral = {
        name: {"maintenance_haircut": between(0.0, 0.5), "initial_haircut": between(0.0, 0.5), "follows": follows}
        for name, follows in (("BTC", "BTC"), ("ETH", "ETH"), ("STETH", "ETH"), ("DAI", ""), ("USDC", ""))
    }
    return changes | {
        "scenarios": scenarios, "vol_up_min": between(0.0, 1.0), "maintenance_factor": between(0.5, 1.0),
        "static_long_base": between(0.8, 1.0), "static_long_rate_scale": between(0.0, 2.0),
        "static_long_per_year": between(0.0, 0.3), "static_short_base": between(1.0, 1.2),
        "static_short_rate_scale": between(0.0, 2.0), "static_short_per_year": between(0.0, 0.3),
        "skew_linear_cap": between(0.0, 0.5), "skew_linear_per_root_year": between(-0.3, 0.3),
        "skew_abs_cap": between(0.0, 0.5), "skew_abs_per_root_year": between(-0.3, 0.3),
        "skew_reach_min": between(0.0, 0.1), "skew_width": between(0.5, 5.0), "skew_vol": between(0.1, 1.0),
        "skew_vol_per_root_year": between(-0.2, 0.2), **{name: between(0.0, 0.05) for name in shares},
        "collateral": collateral,
    }  # fmt: skip


def a_random_book(rng: np.random.Generator, accounts: int, instruments: int) -> PositionColumns:
    """Return accounts with up to thirty positions and every kind of balance; some hold one of the two alone."""
    holdings = []
    for _ in range(accounts):
        most = int(rng.choice([0, 3, 12, 30], p=[0.1, 0.3, 0.4, 0.2]))
        held = np.sort(rng.choice(instruments, min(int(rng.integers(0, most + 1)), instruments), replace=False))
        holdings.append({int(i): int(rng.choice([-1, 1])) * int(10 ** rng.uniform(0.0, 5.0)) for i in held})
    count = np.array([len(held) for held in holdings], np.int64)
    decimals = np.array(list(ASSETS.values()))
    # About as much of each asset as of the largest positions, debts among them.
    worth = np.array([1.0, 6e4, 1.0, 2.5e3, 2.5e3, 1.0, 1.0, 0.02])
    whole = rng.choice([-1.0, 1.0], (accounts, 8), p=[0.2, 0.8]) * 10 ** rng.uniform(0.0, 6.0, (accounts, 8)) / worth
    units = np.where(rng.random((accounts, 8)) < 0.5, np.round(whole * 10.0**decimals), 0.0).astype(np.int64)
    return PositionColumns(
        (np.cumsum(count) - count).astype(np.int64),
        count,
        np.array([i for held in holdings for i in held], np.uint32),
        np.array([lots for held in holdings for lots in held.values()], np.int64),
        Balances(units, rng.random(accounts) < 0.2, count),
    )


def compare_books(seed: int, accounts: int, models: dict[str, MarginModel]) -> Iterator[Compared]:
    """Yield the numbers of every account of one random market under every model."""
    rng = np.random.default_rng(seed)
    records = a_random_market(rng)
    market, plain = Market(models), PlainMarket()
    instant = market.step(a_frame(*records))
    plain.step(a_frame(*records))
    assert instant.value_decidable.all(), "everything is told of a random market"
    book = a_random_book(rng, accounts, market.columns.count)
    balances = book.balances
    assert balances is not None
    rows = np.arange(accounts)
    worth = equity(instant, balances.units, book, balances.isolated, rows, np.ones(accounts, np.bool_))
    for name in sorted(derive.MARGINS_COLLATERAL):
        initial, maintenance = models[name].requirements(instant.margin_tables[name], book, rows)
        for row in range(accounts):
            place = slice(int(book.offset[row]), int(book.offset[row] + book.count[row]))
            held = dict(zip(book.instrument[place].tolist(), book.lots[place].tolist(), strict=True))
            cash = {asset: int(units) for asset, units in enumerate(balances.units[row]) if units}
            expected = derive.requirement(plain, name, held, cash, narrow=bool(balances.isolated[row]) and bool(held))
            size = abs(float(worth[row])) + sum(abs(lots) * float(instant.notional[i]) for i, lots in held.items())
            size += sum(abs(units) * float(instant.asset_unit[a] * instant.asset_price[a]) for a, units in cash.items())
            yield Compared(f"{name} initial", float(initial[row]), expected[0], size)
            yield Compared(f"{name} maintenance", float(maintenance[row]), expected[1], size)
