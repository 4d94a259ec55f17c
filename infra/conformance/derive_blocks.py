"""Adapter of the building blocks of Derive: options, smiles, interest, funding, and the standard model's small cases.

A file has sections of cases by kind; a section that no rule reads is left out, and named.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np

from flows.margin.derive import (
    YEAR_SECONDS,
    Expiries,
    Options,
    Perpetual,
    accrued_balances,
    borrow_rate,
    call_deltas,
    funding_payment,
    funding_rate,
    interest_factor,
    option_prices,
    smile_moneyness,
    smile_vols,
    total,
)
from flows.margin.derive_srm import SrmMarket, SrmPortfolio, isolated_charges, srm_margin
from infra.conformance.adapter import Case, Comparison, MalformedError, Tolerance
from infra.conformance.derive import srm_option_rates
from schemas.derive_parameters import DeriveMarketRates, DeriveSrmParameters

Number = float | int

# The venue computes with 18 decimals; prices of some thousand dollars agree to some ulp.
_FINE: Final = Tolerance(absolute=1e-12, relative=1e-14)
# The sequence of interest is published from a contract that rounds shares of its pool.
_POOL: Final = Tolerance(absolute=1e-4)
_DAY_SECONDS: Final = 86_400.0
_CENT_TOLERANCE: Final = 1e-9


class _Option(msgspec.Struct, frozen=True):
    sec: Number
    vol: Number
    fwd: Number
    strike: Number
    discount: Number
    call: Number
    put: Number
    undiscounted_call_delta: Number | None = None


class _Smile(msgspec.Struct, frozen=True):
    tau: float
    a: float
    b: float
    rho: float
    m: float
    sigma: float
    fwd: float


class _SmilePoint(msgspec.Struct, frozen=True):
    params: _Smile
    strike: float
    vol: float | None = None
    vol_trunc6: float | None = None
    k_trunc6: float | None = None


class _Curve(msgspec.Struct, frozen=True):
    min_rate: Number
    rate_mult: Number
    high_rate_mult: Number
    optimal_util: Number
    sm_fee: Number = 0.0

    def rate(self, supply: float, borrow: float) -> float:
        """Return the annual rate at a utilisation."""
        return borrow_rate(
            supply=supply,
            borrow=borrow,
            rate_min=self.min_rate,
            slope=self.rate_mult,
            slope_high=self.high_rate_mult,
            utilisation_optimal=self.optimal_util,
        )


class _RateCase(msgspec.Struct, frozen=True):
    supply: Number
    borrows: Number
    rate: Number
    elapsed_s: Number | None = None
    interest_factor: Number | None = None


class _RateModel(msgspec.Struct, frozen=True):
    params: _Curve
    cases: list[_RateCase]


class _PoolEvent(msgspec.Struct, frozen=True):
    kind: str
    a: str
    b: str
    amount: Number
    days_before: Number


class _PoolState(msgspec.Struct, frozen=True):
    total_supply: Number
    total_borrow: Number
    stable_balance: Number
    utilisation: Number
    borrow_rate: Number
    sm_balance: Number


class _PoolSequence(msgspec.Struct, frozen=True):
    params: _Curve
    start_balances: dict[str, Number]
    events: list[_PoolEvent]
    states: list[_PoolState]


class _FundingRate(msgspec.Struct, frozen=True):
    index: Number
    impact_bid: Number
    impact_ask: Number
    cap: Number
    convergence_h: Number
    static: Number
    rate: Number


class _FundingPayment(msgspec.Struct, frozen=True):
    index: Number
    rate: Number
    hours: Number
    size: Number
    funding: Number


class _IsolatedCase(msgspec.Struct, frozen=True):
    strike: Number
    is_call: bool
    amount: Number
    im: Number
    mm: Number


class _Isolated(msgspec.Struct, frozen=True):
    spot: Number
    forward: Number
    vol: Number
    sec: Number
    params: dict[str, Number]
    tolerance_rel: Number
    cases: list[_IsolatedCase]


class _PerpetualCase(msgspec.Struct, frozen=True):
    im_req: Number
    size: Number
    perp_price: Number
    spot: Number
    spot_conf: Number
    perp_conf: Number
    threshold: Number
    factor: Number
    cash: Number
    im: Number


class BlocksAdapter:
    """Building blocks, by section."""

    format = "derive-building-blocks"
    models: tuple[str, ...] = ("derive-srm", "derive-pmrm", "derive-pmrm2")

    def recognises(self, document: Mapping[str, Any]) -> bool:
        """Whether ``vectors`` has a section that is known here."""
        vectors = document.get("vectors")
        return isinstance(vectors, dict) and any(name in _SECTIONS for name in vectors)

    def cases(self, document: Mapping[str, Any]) -> Iterator[Case]:
        """Yield the cases section by section, numbered from 0."""
        for name, section in document["vectors"].items():
            read = _SECTIONS.get(name)
            if read is None:
                yield Case(name, unread=(name,))
                continue
            try:
                for number, comparisons in enumerate(read(section)):
                    yield Case(f"{name}[{number}]", tuple(comparisons))
            except (ValueError, msgspec.ValidationError) as error:
                raise MalformedError(f"{name}: {error}") from error


BLOCKS: Final = BlocksAdapter()


def _one(value: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([value], np.float64)


def _options(section: Any) -> Iterator[list[Comparison]]:
    for case in msgspec.convert(section, list[_Option]):
        where = {
            "forward": _one(case.fwd),
            "strike": _one(case.strike),
            "time_to_expiry": _one(case.sec / YEAR_SECONDS),
            "implied_vol": _one(case.vol),
        }
        comparisons = [
            Comparison(
                f"black76.{side}",
                getattr(case, side),
                float(option_prices(**where, discount=_one(case.discount), is_call=np.array([side == "call"]))[0]),
                _FINE,
            )
            for side in ("call", "put")
        ]
        if case.undiscounted_call_delta is not None:
            delta = float(call_deltas(**where)[0])
            comparisons.append(
                Comparison("black76.undiscounted_call_delta", case.undiscounted_call_delta, delta, _FINE)
            )
        yield comparisons


def _smiles(section: Any) -> Iterator[list[Comparison]]:
    for case in msgspec.convert(section, list[_SmilePoint]):
        fit, strike = case.params, _one(case.strike)
        k = float(smile_moneyness(strike, a=fit.a, b=fit.b, sigma=fit.sigma, forward=fit.fwd)[0])
        vol = float(
            smile_vols(
                strike, a=fit.a, b=fit.b, rho=fit.rho, m=fit.m, sigma=fit.sigma, forward=fit.fwd,
                time_to_expiry=fit.tau,
            )[0]
        )  # fmt: skip
        comparisons = []
        if case.k_trunc6 is not None:
            comparisons.append(Comparison("svi.k_trunc6", _millionths(case.k_trunc6), math.trunc(k * 1e6)))
        if case.vol_trunc6 is not None:
            comparisons.append(Comparison("svi.vol_trunc6", _millionths(case.vol_trunc6), math.trunc(vol * 1e6)))
        if case.vol is not None:
            comparisons.append(Comparison("svi.vol", case.vol, vol, _FINE))
        yield comparisons


def _millionths(value: float) -> int:
    return round(value * 1_000_000)


def _rates(section: Any) -> Iterator[list[Comparison]]:
    model = msgspec.convert(section, _RateModel)
    for case in model.cases:
        rate = model.params.rate(case.supply, case.borrows)
        comparisons = [Comparison("interest.rate", case.rate, rate, _FINE)]
        if case.elapsed_s is not None and case.interest_factor is not None:
            factor = interest_factor(rate=rate, seconds=case.elapsed_s)
            comparisons.append(Comparison("interest.factor", case.interest_factor, factor, _FINE))
        yield comparisons


def _pool(section: Any) -> Iterator[list[Comparison]]:
    """Run the pool of cash through its events.

    A trade pays ``b``'s cash to ``a``; a settlement creates (or takes) ``a``'s cash, which nobody has deposited and so
    moves ``net settled``; a borrow is a withdrawal by ``a``; an insolvency pays the security module's cash to ``a``.

    A pool that holds less than it owes its lenders gives the security module all interest, from a withdrawal on. After
    a withdrawal the pool of these events holds exactly what it owes, up to the venue's rounding, so that which of the
    two happens hangs on the last unit of its integers. There both are computed, and the nearer to the published balance
    of the module is taken: it is a rounding that is read from the file, not a number.
    """
    pool = msgspec.convert(section, _PoolSequence)
    if len(pool.events) != len(pool.states):
        raise ValueError(f"{len(pool.events)} events and {len(pool.states)} states")
    names = list(pool.start_balances)
    module = names.index("SM")
    balances = np.array([float(pool.start_balances[name]) for name in names])
    stable, settled, withdrawn = total(balances), 0.0, False
    for event, state in zip(pool.events, pool.states, strict=True):
        supply, borrow = _totals(balances)
        short = supply - borrow - settled - stable if withdrawn else -math.inf
        ratios = [1.0] if short > _POOL.absolute else [float(pool.params.sm_fee)]
        if abs(short) <= _POOL.absolute:
            ratios.append(1.0)
        moves = _moves(event, names)
        outcomes = [
            moves
            + accrued_balances(
                balances,
                rate=pool.params.rate(supply + max(-settled, 0.0), borrow),
                seconds=event.days_before * _DAY_SECONDS,
                fee_ratio=ratio,
                fee_to=module,
            )
            for ratio in ratios
        ]
        distances = [abs(float(outcome[module]) - state.sm_balance) for outcome in outcomes]
        balances = outcomes[distances.index(min(distances))]
        if event.kind == "SETTLEMENT":
            settled += event.amount
        elif event.kind == "BORROW":
            stable, withdrawn = stable + event.amount, True
        supply, borrow = _totals(balances)
        utilised = supply + max(-settled, 0.0)
        ours = {
            "total_supply": supply,
            "total_borrow": borrow,
            "stable_balance": stable,
            "utilisation": min(borrow / utilised, 1.0) if utilised > 0.0 else 0.0,
            "borrow_rate": pool.params.rate(utilised, borrow),
            "sm_balance": float(balances[module]),
        }
        yield [Comparison(f"pool.{name}", getattr(state, name), value, _POOL) for name, value in ours.items()]


def _moves(event: _PoolEvent, names: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return by how much an event moves each balance."""
    moves = np.zeros(len(names))
    if event.kind == "START":
        return moves
    if event.kind not in {"TRADE", "SETTLEMENT", "BORROW", "INSOLVENCY"}:
        raise ValueError(f"an event of kind {event.kind!r} is not known")
    moves[names.index(event.a)] += event.amount
    if event.kind == "TRADE":
        moves[names.index(event.b)] -= event.amount
    elif event.kind == "INSOLVENCY":
        moves[names.index("SM")] -= event.amount
    return moves


def _totals(balances: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    return total(np.maximum(balances, 0.0)), -total(np.minimum(balances, 0.0))


def _funding_rates(section: Any) -> Iterator[list[Comparison]]:
    for case in msgspec.convert(section, list[_FundingRate]):
        rate = funding_rate(
            index=case.index,
            impact_bid=case.impact_bid,
            impact_ask=case.impact_ask,
            convergence_hours=case.convergence_h,
            static_rate=case.static,
            cap=case.cap,
        )
        yield [Comparison("funding.rate", case.rate, rate, _FINE)]


def _funding_payments(section: Any) -> Iterator[list[Comparison]]:
    for case in msgspec.convert(section, list[_FundingPayment]):
        payment = funding_payment(amount=case.size, index=case.index, rate=case.rate, hours=case.hours)
        yield [Comparison("funding.payment", case.funding, payment, _FINE)]


def _isolated(section: Any) -> Iterator[list[Comparison]]:
    given = msgspec.convert(section, _Isolated)
    rates = srm_option_rates(given.params)
    tolerance = Tolerance(absolute=_CENT_TOLERANCE, relative=float(given.tolerance_rel))
    for case in given.cases:
        is_call = np.array([case.is_call])
        mark = option_prices(
            forward=_one(given.forward),
            strike=_one(case.strike),
            time_to_expiry=_one(given.sec / YEAR_SECONDS),
            implied_vol=_one(given.vol),
            discount=_one(1.0),
            is_call=is_call,
        )
        initial, maintenance = isolated_charges(
            spot=given.spot,
            strike=_one(case.strike),
            is_call=is_call,
            amount=_one(case.amount),
            mark=mark,
            rates=rates,
        )
        yield [
            Comparison("srm_isolated.mm", case.mm, float(maintenance[0]), tolerance),
            Comparison("srm_isolated.im", case.im, float(initial[0]), tolerance),
        ]


def _perpetuals(section: Any) -> Iterator[list[Comparison]]:
    nothing = np.zeros(0)
    for case in msgspec.convert(section, list[_PerpetualCase]):
        market = SrmMarket(
            underlying="",
            spot=case.spot,
            spot_confidence=case.spot_conf,
            spot_amount=0.0,
            perpetual=Perpetual(amount=case.size, price=case.perp_price, confidence=case.perp_conf),
            expiries=Expiries(nothing, nothing, nothing, nothing, nothing, nothing, nothing),
            options=Options(nothing.astype(np.int64), nothing, nothing.astype(np.bool_), nothing, nothing),
        )
        rates = DeriveMarketRates(
            perpetual_initial=case.im_req,
            perpetual_confidence_threshold=case.threshold,
            confidence_charge=case.factor,
        )
        margin = srm_margin(SrmPortfolio(case.cash, 1.0, (market,)), DeriveSrmParameters(other_markets=rates))
        yield [Comparison("srm_perpetual.im", case.im, margin.initial_value, Tolerance(absolute=_CENT_TOLERANCE))]


_SECTIONS: Final[Mapping[str, Callable[[Any], Iterator[list[Comparison]]]]] = {
    "black76": _options,
    "svi": _smiles,
    "svi_caps": _smiles,
    "svi_edge": _smiles,
    "interest_rate_model": _rates,
    "interest_sequence": _pool,
    "funding_rate": _funding_rates,
    "funding_payment": _funding_payments,
    "srm_isolated": _isolated,
    "srm_perp": _perpetuals,
}
