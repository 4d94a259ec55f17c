"""Random markets and books for Deribit's portfolio model and dYdX, and what plain implementations say of each account.

As in ``derive_books`` a market is told to the engine and to the judge's plain market alike. Deribit's accounts are cut
into what settles in one asset on one underlying, each simulated as an account of the venue; nothing is rounded to nine
decimals there, so it is not here. dYdX's prices are whole quantums, and its requirements equal integers.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

import numpy as np

from flows.margin.model import MarginModel, PositionColumns
from flows.market.step import Market
from schemas.ledger import (
    AccountRecord,
    AssetRecord,
    ForwardRecord,
    Genesis,
    GenesisRecord,
    InstrumentRecord,
    MarketRecord,
    VolPointsRecord,
)
from schemas.parameters import DeribitPortfolioParameters, DeribitRiskMatrix, DydxParameters
from tests.flows.market.builders import DAY, START_NS, a_frame, a_price, an_instrument, at, some_parameters
from tests.golden import plain_deribit, plain_dydx
from tests.golden.derive_books import Compared
from tests.judge.market import Market as PlainMarket

ASSETS: Final = {"USDC": 6, "BTC": 8, "ETH": 8}
SPOTS: Final = {"BTC": 60_000.0, "ETH": 2_500.0}
Row = dict[str, Any]


def a_random_market(rng: np.random.Generator) -> list[MarketRecord]:
    """Return linear and inverse options, futures and perpetuals on two coins, and what is told of them."""
    listed: list[InstrumentRecord] = []
    dollar = float(rng.choice([1.0, round(float(rng.uniform(0.9, 1.05)), 3)]))
    told: list[MarketRecord] = [a_price(dollar, feed="USDC/USD")]
    for coin, (underlying, usual) in enumerate(SPOTS.items(), 1):
        spot = round(usual * float(np.exp(rng.normal(0.0, 0.2))), 2)
        told.append(a_price(spot, feed=f"{underlying}/USD"))
        # Half settled ones among them; the venue counts in milliseconds.
        near = float(rng.choice([0.0, 900.0, 3_600.0]))
        expiries = [near, *(round(float(days) * DAY) for days in rng.uniform(0.5, 200.0, int(rng.integers(1, 4))))]
        for payoff, settled_in in (("linear", 0), ("inverse", coin)):
            kept: dict[str, Any] = {"payoff": payoff, "settlement_asset": settled_in, "underlying": underlying}
            listed.append(an_instrument(len(listed), **kept))
            for seconds in expiries:
                if seconds > 3_600.0:
                    listed.append(an_instrument(len(listed), "future", expiry_ns=at(seconds), **kept))
                for strike in dict.fromkeys(f"{spot * float(np.exp(rng.normal(0.0, 0.3))):.2f}" for _ in range(2)):
                    for option_type in ("call", "put"):
                        dated = {"strike": strike, "option_type": option_type, "expiry_ns": at(seconds)}
                        listed.append(an_instrument(len(listed), "option", **dated, **kept))
        for seconds in expiries:
            forward = spot * float(rng.uniform(0.95, 1.08))
            told.append(ForwardRecord(underlying, at(seconds), "a", forward, at(0.0)))
            strikes = [spot * 0.3, spot, spot * 3.0]
            vols = [float(vol) for vol in rng.uniform(0.2, 1.5, 3)]
            told.append(VolPointsRecord(underlying, at(seconds), "a", strikes, vols, at(0.0)))
    models = ("deribit-pm", "dydx-v4")
    return [
        GenesisRecord(Genesis(ledger_id="random")),
        *(AssetRecord(index, name, decimals) for index, (name, decimals) in enumerate(ASSETS.items())),
        *listed,
        *(AccountRecord(8 + place, name, name, "cross") for place, name in enumerate(models)),
        *told,
        some_parameters(
            "deribit-pm", **{payoff: {it: _a_matrix(rng) for it in SPOTS} for payoff in ("linear", "inverse")}
        ),
        some_parameters("dydx-v4", tier_of={it: str(rng.choice(list(DydxParameters().tiers))) for it in SPOTS}),
    ]


def _a_matrix(rng: np.random.Generator) -> Row:
    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    return {
        "price_range": between(0.05, 0.4), "buckets_count": int(rng.integers(1, 9)), "vol_up": between(0.0, 1.0),
        "vol_down": between(0.0, 1.0), "vol_up_min": between(0.0, 1.0), "vol_power_short": between(0.0, 0.6),
        "vol_power_long": between(0.0, 0.4), "extended_factor": between(0.5, 2.0),
        "extended_dampener": float(rng.choice([0.0, between(0.0, 1e6)])), "profit_offset": between(0.0, 1.0),
        "profit_offset_max": between(0.0, 1e7), "annualised_move": between(0.0, 0.5),
        "annualised_move_min": between(0.0, 0.05), "delta_shock_threshold": float(rng.choice([0.0, 2e7])),
        "delta_shock_per_coin": between(0.0, 1e-3), "delta_shock_max": between(0.0, 0.2),
        "maintenance_factor": between(0.5, 1.0),
    }  # fmt: skip


def a_random_book(rng: np.random.Generator, accounts: int, instruments: list[int]) -> PositionColumns:
    """Return accounts with up to twenty positions each, long and short, of dust and of millions."""
    held = [
        np.sort(rng.choice(instruments, int(rng.integers(0, min(20, len(instruments)) + 1)), replace=False))
        for _ in range(accounts)
    ]
    count = np.array([len(each) for each in held], np.int64)
    size = int(count.sum())
    lots = (rng.choice([-1, 1], size) * 10 ** rng.uniform(0.0, 5.0, size)).astype(np.int64)
    return PositionColumns(np.cumsum(count) - count, count, np.concatenate(held).astype(np.uint32), lots)


def deribit_requirement(market: PlainMarket, positions: dict[int, int]) -> tuple[float, float]:
    """Return initial and maintenance margin of an account's positions under ``deribit-pm``, numeraire."""
    parameters = market.parameters["deribit-pm"]
    assert isinstance(parameters, DeribitPortfolioParameters)
    groups: dict[tuple[str, bool], list[Row]] = {}
    prices: dict[tuple[str, bool], float] = {}
    for held, lots in positions.items():
        it, worth = market.instruments[held], market.worth[held]
        amount = lots * float(it.lot)
        position: Row = {"instrument": str(held), "kind": it.kind, "mark": worth.mark}
        if it.kind != "option" and it.inverse:
            amount /= worth.mark
        if it.expiry_ns is not None:
            position["expiry_ms"] = it.expiry_ns // 1_000_000
        if it.kind == "option":
            position |= {
                "underlying_price": worth.forward, "strike": float(it.strike), "implied_vol": worth.vol,
                "option_type": "call" if it.call else "put",
            }  # fmt: skip
        key = (it.underlying, it.inverse)
        groups.setdefault(key, []).append(position | {"amount_coin": amount})
        prices[key] = worth.asset_price
    initial = maintenance = 0.0
    for (underlying, inverse), held_there in groups.items():
        matrix = (parameters.inverse if inverse else parameters.linear).get(underlying, parameters.default_matrix)
        record = plain_deribit.account(
            held_there, _params(matrix), index=market.feed(underlying).price, timestamp_ms=START_NS // 1_000_000,
            payoff="inverse" if inverse else "linear",
        )  # fmt: skip
        steps = plain_deribit.simulate(record)["expected"]
        needed = steps["worst_case"] + steps["delta_shock"] + steps["roll_shock"]
        initial += prices[underlying, inverse] * needed
        maintenance += prices[underlying, inverse] * matrix.maintenance_factor * needed
    return initial, maintenance


def _params(matrix: DeribitRiskMatrix) -> Row:
    return {
        "price_range": matrix.price_range, "buckets_count": matrix.buckets_count,
        "mm_factor": matrix.maintenance_factor, "extended_table_factor": matrix.extended_factor,
        "extended_dampener": matrix.extended_dampener, "pnl_offset": matrix.profit_offset,
        "max_offsetable_pnl": matrix.profit_offset_max, "annualised_move_risk": matrix.annualised_move,
        "min_annualised_move": matrix.annualised_move_min,
        "delta_total_liq_shock_threshold": matrix.delta_shock_threshold, "max_delta_shock": matrix.delta_shock_max,
        "m_inc": matrix.delta_shock_per_coin, "volatility_range_up": matrix.vol_up,
        "volatility_range_down": matrix.vol_down, "short_term_vega_power": matrix.vol_power_short,
        "long_term_vega_power": matrix.vol_power_long, "min_volatility_for_shock_up": matrix.vol_up_min,
    }  # fmt: skip


def dydx_requirement(market: PlainMarket, positions: dict[int, int]) -> tuple[float, float]:
    """Return initial and maintenance margin of linear perpetuals under ``dydx-v4``, numeraire: whole quantums."""
    parameters = market.parameters["dydx-v4"]
    assert isinstance(parameters, DydxParameters)
    initial = maintenance = 0
    for held, lots in positions.items():
        it, worth = market.instruments[held], market.worth[held]
        tier = parameters.tier(it.underlying)
        # A base quantum is a lot, and its price what the decimals that were told say, in 10^-12 quote quantums.
        dollars = Fraction(str(worth.mark)) * Fraction(str(worth.asset_price)) * it.lot
        row = {
            "price": int(dollars * 10**12), "exponent": -12, "atomic_resolution": 0,
            "initial_margin_ppm": tier.initial_margin_ppm, "maintenance_fraction_ppm": tier.maintenance_fraction_ppm,
        }  # fmt: skip
        needed = plain_dydx.requirements(row, lots)
        initial += needed[0]
        maintenance += needed[1]
    return initial / 10**6, maintenance / 10**6


def compare_books(seed: int, accounts: int, models: dict[str, MarginModel]) -> Iterator[Compared]:
    """Yield the numbers of every account of one random market under every model."""
    rng = np.random.default_rng(seed)
    records = a_random_market(rng)
    market, plain = Market(models), PlainMarket()
    instant = market.step(a_frame(*records))
    plain.step(a_frame(*records))
    assert instant.value_decidable.all(), "everything is told of a random market"
    every = [it.index for it in plain.instruments]
    perpetuals = [it.index for it in plain.instruments if it.kind == "perpetual" and not it.inverse]
    for name, listed, judged in (
        ("deribit-pm", every, deribit_requirement), ("dydx-v4", perpetuals, dydx_requirement)
    ):  # fmt: skip
        book = a_random_book(rng, accounts, listed)
        initial, maintenance = models[name].requirements(instant.margin_tables[name], book, np.arange(accounts))
        for row in range(accounts):
            place = slice(int(book.offset[row]), int(book.offset[row] + book.count[row]))
            held = dict(zip(book.instrument[place].tolist(), book.lots[place].tolist(), strict=True))
            expected = judged(plain, held)
            size = sum(abs(lots) * float(instant.notional[i]) for i, lots in held.items())
            yield Compared(f"{name} initial", float(initial[row]), expected[0], size)
            yield Compared(f"{name} maintenance", float(maintenance[row]), expected[1], size)
