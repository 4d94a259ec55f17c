"""``deribit-margin``: Deribit's own answers for accounts of standard and portfolio margin.

A file has ``records``, each of a kind: ``pme_simulate``, an account with its risk matrix and every step up to the
margins, or ``standard_future``, one inverse position with its rates; docs/conformance-venues.md describes them.

1. Numbers are compared at 1e-12 relative of the size of what was added up, but for those that the venue rounds: of
   these no digit may differ (1e-15 absolute, for their way through binary).
2. Options in a file are run, and compared with what the file expects, although our own model says of itself that
   nothing has confirmed them.
3. A parameter that the model does not have is a fault of the file: its numbers mean something else. A kind of record,
   or an expected value, that is not known is named as unread.
"""

from collections.abc import Iterator, Mapping
from itertools import chain, zip_longest
from typing import Any, Final, Literal

import msgspec

from flows.margin.deribit_account import (
    DeribitAccount,
    DeribitFuture,
    DeribitOption,
    DeribitPosition,
    coins_of_inverse,
)
from flows.margin.deribit_portfolio import VOLS, DeribitPortfolioMargin, deribit_portfolio
from flows.margin.deribit_standard import deribit_standard
from infra.conformance.adapter import Case, Comparison, MalformedError, Tolerance
from schemas.failures import Refused
from schemas.instruments import OptionType, Payoff
from schemas.parameters import DeribitPortfolioParameters, DeribitStandardParameters, validate

FORMAT: Final = "deribit-margin"
_KINDS: Final = ("pme_simulate", "standard_future")
_NANOSECONDS: Final = 1_000_000
_RELATIVE: Final = 1e-12
# What is stated at so many decimals and not one digit off.
_STATED: Final = Tolerance(absolute=1e-15)

# The file's name of each parameter, and ours.
_NAMES: Final = {
    "price_range": "price_range",
    "buckets_count": "buckets_count",
    "mm_factor": "maintenance_factor",
    "extended_table_factor": "extended_factor",
    "extended_dampener": "extended_dampener",
    "pnl_offset": "profit_offset",
    "max_offsetable_pnl": "profit_offset_max",
    "annualised_move_risk": "annualised_move",
    "min_annualised_move": "annualised_move_min",
    "delta_total_liq_shock_threshold": "delta_shock_threshold",
    "max_delta_shock": "delta_shock_max",
    "m_inc": "delta_shock_per_coin",
    "volatility_range_up": "vol_up",
    "volatility_range_down": "vol_down",
    "short_term_vega_power": "vol_power_short",
    "long_term_vega_power": "vol_power_long",
    "min_volatility_for_shock_up": "vol_up_min",
}
# Of collateral and not of the matrix; and the one that the scenarios are built on.
_NOT_OURS: Final = frozenset({"haircut", "equity_side_impact", "vol_scenarios_count"})


class _Position(msgspec.Struct):
    instrument: str
    kind: Literal["perpetual", "future", "option"]
    amount_coin: float
    mark: float
    expiry_ms: int | None = None
    strike: float | None = None
    option_type: Literal["call", "put"] | None = None
    implied_vol: float | None = None
    underlying_price: float | None = None


class _Other(msgspec.Struct, frozen=True):
    spot_margin: float = 0.0
    mmp_margin: float = 0.0
    open_orders_margin: float = 0.0
    correlation_contingency: float = 0.0


class _Tables(msgspec.Struct):
    standard: list[float]
    extended: list[float]

    def numbered(self) -> Iterator[tuple[str, float]]:
        """Yield the values with their 1-based places, the extended after the standard ones."""
        return ((str(place), value) for place, value in enumerate(chain(self.standard, self.extended), 1))


class _Expected(msgspec.Struct):
    initial_risk_vectors: dict[str, _Tables] = {}
    pre_aggregated: _Tables | None = None
    aggregated: _Tables | None = None
    worst_case: float | None = None
    worst_index_1based: int | None = None
    worst_bucket: int | None = None
    delta_shock: float | None = None
    roll_shock: float | None = None
    correlation_contingency: float | None = None
    risk_matrix_margin: float | None = None
    initial_margin: float | None = None
    maintenance_margin: float | None = None


class _Simulated(msgspec.Struct):
    settlement: str
    timestamp_ms: int
    index: float
    positions: list[_Position]
    params: dict[str, Any]
    expected: _Expected
    other_margins: _Other = _Other()
    payoff: Literal["inverse", "linear"] = "inverse"
    underlying: str | None = None


class _StandardExpected(msgspec.Struct):
    size_coin: float
    initial_margin: float
    maintenance_margin: float


class _StandardFuture(msgspec.Struct):
    size_usd: float
    mark: float
    im_rate: float
    mm_rate: float
    expected: _StandardExpected
    slope: float = 0.0


class DeribitAdapter:
    """The format's adapter; without state."""

    format = FORMAT
    models: tuple[str, ...] = ("deribit-pm", "deribit-standard")

    def recognises(self, document: Mapping[str, Any]) -> bool:
        """Whether the file has records, and one of them a kind of ours."""
        records = document.get("records")
        return isinstance(records, list) and any(isinstance(it, dict) and it.get("kind") in _KINDS for it in records)

    def cases(self, document: Mapping[str, Any]) -> Iterator[Case]:
        """Yield the records in order."""
        for number, record in enumerate(document["records"]):
            case = f"record_{number}"
            try:
                fields = msgspec.convert(record, dict[str, Any])
                case = str(fields.get("id", case))
                yield _case(case, fields)
            except (msgspec.ValidationError, ValueError, Refused) as error:
                raise MalformedError(f"{case}: {error}") from error


ADAPTER = DeribitAdapter()


def _case(case: str, record: dict[str, Any]) -> Case:
    kind = record.get("kind")
    if kind == "pme_simulate":
        simulated = msgspec.convert(record, _Simulated)
        return Case(case, tuple(_simulated(simulated)), unread=_unread(record, _Expected))
    if kind == "standard_future":
        future = msgspec.convert(record, _StandardFuture)
        return Case(case, tuple(_standard_future(future)), unread=_unread(record, _StandardExpected))
    return Case(case, unread=(f"{kind!r} is not a kind of record; there are {', '.join(_KINDS)}",))


def _unread(record: dict[str, Any], struct: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(f"expected.{name}" for name in record["expected"] if name not in struct.__struct_fields__)


def _simulated(record: _Simulated) -> Iterator[Comparison]:
    account = _account(record)
    result = deribit_portfolio(account, _portfolio_parameters(record, account))
    expected = record.expected
    yield from _vectors(record, result)
    size = float(max(abs(vector).max() for vector in result.vectors)) if result.vectors else 0.0
    tolerance = Tolerance(relative=_RELATIVE, scale=size)
    for step, tables, computed in (
        ("pre_aggregated", expected.pre_aggregated, result.pre_aggregated),
        ("aggregated", expected.aggregated, result.aggregated),
    ):
        if tables is not None:
            for (place, value), ours in _paired(step, tables, computed.tolist()):
                yield Comparison(step, value, ours, tolerance, place)
    exact = {"worst_index": (expected.worst_index_1based, result.worst_index + 1)}
    exact["worst_bucket"] = (expected.worst_bucket, result.worst_bucket)
    if expected.worst_case is not None:
        yield Comparison("worst_case", expected.worst_case, result.worst_case, tolerance)
    for step, (published, place_computed) in exact.items():
        if published is not None:
            yield Comparison(step, published, place_computed)
    gross = sum(abs(position.amount) for position in account.positions)
    for name, published_margin, margin, how in (
        ("delta_shock", expected.delta_shock, result.delta_shock, Tolerance(relative=_RELATIVE, scale=gross)),
        ("roll_shock", expected.roll_shock, result.roll_shock, Tolerance(relative=_RELATIVE, scale=gross)),
        ("correlation_contingency", expected.correlation_contingency, result.correlation_contingency, tolerance),
        ("risk_matrix_margin", expected.risk_matrix_margin, result.risk_matrix_margin, tolerance),
        ("initial_margin", expected.initial_margin, result.initial_margin, _STATED),
        ("maintenance_margin", expected.maintenance_margin, result.maintenance_margin, tolerance),
    ):
        if published_margin is not None:
            yield Comparison(name, published_margin, margin, how)


def _vectors(record: _Simulated, result: DeribitPortfolioMargin) -> Iterator[Comparison]:
    """Yield each position's vector, in the order of the positions."""
    named = {it.instrument: vector for it, vector in zip(record.positions, result.vectors, strict=True)}
    for instrument in record.expected.initial_risk_vectors:
        if instrument not in named:
            raise ValueError(f"a risk vector is expected of {instrument!r}, which is not held")
    for instrument, vector in named.items():
        tables = record.expected.initial_risk_vectors.get(instrument)
        if tables is None:
            continue
        tolerance = Tolerance(relative=_RELATIVE, scale=float(abs(vector).max()))
        for (place, value), computed in _paired(instrument, tables, vector.tolist()):
            yield Comparison("initial_risk_vector", value, computed, tolerance, f"{instrument} {place}")


def _paired(what: str, tables: _Tables, computed: list[float]) -> Iterator[tuple[tuple[str, float], float]]:
    for published, ours in zip_longest(tables.numbered(), computed):
        if published is None or ours is None:
            count = len(tables.standard) + len(tables.extended)
            raise ValueError(f"{what}: there are {count} scenarios, and the risk matrix has {len(computed)}")
        yield published, ours


def _account(record: _Simulated) -> DeribitAccount:
    payoff = Payoff(record.payoff)
    underlying = record.underlying or record.settlement
    return DeribitAccount(
        underlying=underlying,
        payoff=payoff,
        index_price=record.index,
        time_ns=record.timestamp_ms * _NANOSECONDS,
        positions=tuple(_position(it, underlying, payoff) for it in record.positions),
        spot_margin=record.other_margins.spot_margin,
        mmp_margin=record.other_margins.mmp_margin,
        open_orders_margin=record.other_margins.open_orders_margin,
        correlation_contingency=record.other_margins.correlation_contingency,
    )


def _position(it: _Position, underlying: str, payoff: Payoff) -> DeribitPosition:
    expiry_ns = None if it.expiry_ms is None else it.expiry_ms * _NANOSECONDS
    if it.kind != "option":
        if (it.kind == "future") != (expiry_ns is not None):
            raise ValueError(f"{it.instrument}: a future has expiry_ms, a perpetual has none")
        return DeribitFuture(it.instrument, underlying, payoff, it.amount_coin, it.mark, expiry_ns)
    if (
        expiry_ns is None
        or it.strike is None
        or it.option_type is None
        or it.implied_vol is None
        or it.underlying_price is None
    ):
        raise ValueError(
            f"{it.instrument}: an option has expiry_ms, strike, option_type, implied_vol and underlying_price"
        )
    return DeribitOption(
        instrument=it.instrument, underlying=underlying, payoff=payoff, option_type=OptionType(it.option_type),
        amount=it.amount_coin, mark_price=it.mark, underlying_price=it.underlying_price, strike=it.strike,
        implied_vol=it.implied_vol, expiry_ns=expiry_ns,
    )  # fmt: skip


def _portfolio_parameters(record: _Simulated, account: DeribitAccount) -> DeribitPortfolioParameters:
    matrix: dict[str, Any] = {}
    for name, value in record.params.items():
        if name in _NAMES:
            matrix[_NAMES[name]] = value
        elif name not in _NOT_OURS:
            raise ValueError(f"params.{name} is not a parameter of a risk matrix")
    if record.params.get("vol_scenarios_count", VOLS) != VOLS:
        raise ValueError(f"params.vol_scenarios_count must be {VOLS}")
    parameters = validate("deribit-pm", {account.payoff.value: {account.underlying: matrix}})
    assert isinstance(parameters, DeribitPortfolioParameters)
    return parameters


def _standard_future(record: _StandardFuture) -> Iterator[Comparison]:
    rates = {"initial": record.im_rate, "maintenance": record.mm_rate, "slope_per_coin": record.slope}
    parameters = validate("deribit-standard", {"futures": {"X": rates}})
    assert isinstance(parameters, DeribitStandardParameters)
    coins = coins_of_inverse(record.size_usd, record.mark)
    held = DeribitFuture("X-PERPETUAL", "X", Payoff.INVERSE, coins, record.mark)
    result = deribit_standard(DeribitAccount("X", Payoff.INVERSE, record.mark, 0, (held,)), parameters)
    yield Comparison("size", abs(record.expected.size_coin), result.positions[0].size, _STATED)
    yield Comparison("initial_margin", record.expected.initial_margin, result.initial_margin, _STATED)
    yield Comparison("maintenance_margin", record.expected.maintenance_margin, result.maintenance_margin, _STATED)
