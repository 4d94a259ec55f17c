"""``dydx-margin-liquidation``: dYdX v4's margin, liquidation prices and order of liquidation, as exact integers.

A file has ``markets`` (perpetuals by a short id, with price, exponent, atomic resolution, rates and open interest) and
``vectors``, lists of cases by kind; docs/conformance-venues.md describes them. A case with ``error`` must be refused.

1. Integers are compared as they are, fractions exactly: no comparison here has a tolerance.
2. A kind of case, or an expected value, that is not known is named as unread, and not passed over in silence.
"""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final, TypeVar

import msgspec

from flows.margin.dydx import (
    DydxAccount,
    DydxMarket,
    DydxPosition,
    LiquidationRefusedError,
    bankruptcy_quote,
    compare_risk,
    fillable_price,
    insurance_fund_delta,
    is_liquidatable,
    liquidatable_notional,
    position_margin,
)
from infra.conformance.adapter import Case, Comparison, MalformedError, Value
from schemas.failures import Refused
from schemas.parameters import DydxParameters, DydxTier, validate

FORMAT: Final = "dydx-margin-liquidation"
_MODEL: Final = "dydx-v4"
_T = TypeVar("_T")


class _Market(msgspec.Struct):
    price: int
    exponent: int
    atomic_resolution: int
    initial_margin_ppm: int
    maintenance_fraction_ppm: int
    open_interest_base_quantums: int = 0
    oi_lower_cap: int = 0
    oi_upper_cap: int = 0

    def read(self, name: str) -> DydxMarket:
        tier = DydxTier(
            initial_margin_ppm=self.initial_margin_ppm,
            maintenance_fraction_ppm=self.maintenance_fraction_ppm,
            open_interest_lower_cap=self.oi_lower_cap,
            open_interest_upper_cap=self.oi_upper_cap,
        )
        return DydxMarket(
            name, self.price, self.exponent, self.atomic_resolution, tier, self.open_interest_base_quantums
        )


class _Position(msgspec.Struct):
    perpetual: int
    base_quantums: int


class _Liquidated(msgspec.Struct):
    """An account and one of its markets; what every case of a liquidation begins with."""

    quote_balance: int
    positions: list[_Position]
    perpetual: int
    error: bool

    def account(self) -> DydxAccount:
        return DydxAccount(
            self.quote_balance, tuple(DydxPosition(str(it.perpetual), it.base_quantums) for it in self.positions)
        )


class _BankruptcyPrice(_Liquidated):
    delta_base_quantums: int
    expected_quote_quantums: int | None


class _FillablePrice(_Liquidated):
    delta_base_quantums: int
    bankruptcy_adjustment_ppm: int
    spread_to_mmr_ratio_ppm: int
    expected_num: int | None
    expected_den: int | None


class _InsuranceFundDelta(_Liquidated):
    is_buy: bool
    fill_base_quantums: int
    subticks: int
    quantum_conversion_exponent: int
    max_liquidation_fee_ppm: int
    expected_delta: int | None


class _MarginRequirements(_Market, kw_only=True):
    base_quantums: int
    expected_imr: int
    expected_mmr: int


class _FundingSettlement(msgspec.Struct):
    perpetual_funding_index: int
    position_funding_index: int
    base_quantums: int
    expected_net_settlement_ppm: int


class _Liquidatable(msgspec.Struct):
    nc: int
    mmr: int
    expected: bool


class _RiskOrder(msgspec.Struct):
    a_nc: int
    a_mmr: int
    b_nc: int
    b_mmr: int
    expected: int


class _LiquidatableNotional(msgspec.Struct):
    perpetual: int
    base_quantums: int
    min_position_notional: int
    max_portion_ppm: int
    expected_min: int
    expected_max: int


_Markets = Mapping[str, DydxMarket]


class DydxAdapter:
    """The format's adapter; without state."""

    format = FORMAT
    models: tuple[str, ...] = (_MODEL,)

    def recognises(self, document: Mapping[str, Any]) -> bool:
        """Whether the file has markets in quantums, and vectors by kind."""
        markets, vectors = document.get("markets"), document.get("vectors")
        return (
            isinstance(markets, dict)
            and isinstance(vectors, dict)
            and all(isinstance(it, dict) and "atomic_resolution" in it for it in markets.values())
        )

    def cases(self, document: Mapping[str, Any]) -> Iterator[Case]:
        """Yield the cases of every kind, in the order of the file."""
        markets = {
            name: _convert(market, _Market, f"markets.{name}").read(name)
            for name, market in document["markets"].items()
        }
        for kind, vectors in document["vectors"].items():
            known = _KINDS.get(kind)
            if known is None:
                yield Case(kind, unread=(f"vectors.{kind} is not a kind of case; there are {', '.join(_KINDS)}",))
                continue
            struct, run = known
            for number, vector in enumerate(_convert(vectors, list[dict[str, Any]], f"vectors.{kind}")):
                case = str(vector.get("id", f"{kind}_{number:02d}"))
                try:
                    yield Case(case, run(msgspec.convert(vector, struct), markets), unread=_unread(vector, struct))
                except (msgspec.ValidationError, ValueError, Refused) as error:
                    raise MalformedError(f"{case}: {error}") from error


ADAPTER = DydxAdapter()


def _unread(vector: Mapping[str, Any], struct: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(name for name in vector if name.startswith("expected") and name not in struct.__struct_fields__)


def _convert(value: Any, kind: type[_T], place: str) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise MalformedError(f"{place}: {error}") from error


def _parameters(**changes: int) -> DydxParameters:
    """Return the model's parameters, at most ``changes`` of which the case sets itself."""
    parameters = validate(_MODEL, changes)
    assert isinstance(parameters, DydxParameters)
    return parameters


def _or_refusal(step: str, expected: Value, compute: Callable[[], Value], *, error: bool) -> tuple[Comparison, ...]:
    """Compare whether a case is refused, and then its value; a refusal has the value None."""
    try:
        computed, refused = compute(), False
    except LiquidationRefusedError:
        computed, refused = None, True
    return Comparison("refused", error, refused), Comparison(step, expected, computed)


def _bankruptcy_price(it: _BankruptcyPrice, markets: _Markets) -> tuple[Comparison, ...]:
    return _or_refusal(
        "bankruptcy_quote", it.expected_quote_quantums,
        lambda: bankruptcy_quote(
            it.account(), markets, market=str(it.perpetual), delta_base_quantums=it.delta_base_quantums
        ),
        error=it.error,
    )  # fmt: skip


def _fillable_price(it: _FillablePrice, markets: _Markets) -> tuple[Comparison, ...]:
    if it.expected_den == 0:
        raise ValueError("expected_den is 0")
    parameters = _parameters(
        bankruptcy_adjustment_ppm=it.bankruptcy_adjustment_ppm, spread_to_maintenance_ppm=it.spread_to_mmr_ratio_ppm
    )
    known = it.expected_num is not None and it.expected_den is not None
    return _or_refusal(
        "fillable_price", Fraction(it.expected_num or 0, it.expected_den or 1) if known else None,
        lambda: fillable_price(
            it.account(), markets, market=str(it.perpetual), delta_base_quantums=it.delta_base_quantums,
            parameters=parameters,
        ),
        error=it.error,
    )  # fmt: skip


def _insurance_fund_delta(it: _InsuranceFundDelta, markets: _Markets) -> tuple[Comparison, ...]:
    parameters = _parameters(liquidation_fee_max_ppm=it.max_liquidation_fee_ppm)
    return _or_refusal(
        "insurance_fund_delta", it.expected_delta,
        lambda: insurance_fund_delta(
            it.account(), markets, market=str(it.perpetual), is_buy=it.is_buy,
            fill_base_quantums=it.fill_base_quantums, subticks=it.subticks,
            quantum_conversion_exponent=it.quantum_conversion_exponent, parameters=parameters,
        ).delta,
        error=it.error,
    )  # fmt: skip


def _margin_requirements(it: _MarginRequirements, _: _Markets) -> tuple[Comparison, ...]:
    got = position_margin(it.read("0"), DydxPosition("0", it.base_quantums))
    return (
        Comparison("initial_margin", it.expected_imr, got.initial_margin),
        Comparison("maintenance_margin", it.expected_mmr, got.maintenance_margin),
    )


def _funding_settlement(it: _FundingSettlement, _: _Markets) -> tuple[Comparison, ...]:
    tier = DydxTier(initial_margin_ppm=0, maintenance_fraction_ppm=0)
    market = DydxMarket("0", 0, 0, 0, tier, funding_index=it.perpetual_funding_index)
    got = position_margin(market, DydxPosition("0", it.base_quantums, it.position_funding_index))
    return (Comparison("funding_settlement_ppm", it.expected_net_settlement_ppm, got.funding_settlement_ppm),)


def _liquidatable(it: _Liquidatable, _: _Markets) -> tuple[Comparison, ...]:
    return (Comparison("liquidatable", it.expected, is_liquidatable(net_collateral=it.nc, maintenance_margin=it.mmr)),)


def _risk_order(it: _RiskOrder, _: _Markets) -> tuple[Comparison, ...]:
    return (Comparison("risk_order", it.expected, compare_risk((it.a_nc, it.a_mmr), (it.b_nc, it.b_mmr))),)


def _liquidatable_notional(it: _LiquidatableNotional, markets: _Markets) -> tuple[Comparison, ...]:
    market = markets.get(str(it.perpetual))
    if market is None:
        raise ValueError(f"no market is named {it.perpetual}")
    parameters = _parameters(
        position_notional_min=it.min_position_notional, position_portion_max_ppm=it.max_portion_ppm
    )
    least, most = liquidatable_notional(market, it.base_quantums, parameters)
    return (
        Comparison("liquidatable_notional_min", it.expected_min, least),
        Comparison("liquidatable_notional_max", it.expected_max, most),
    )


_KINDS: Final[Mapping[str, tuple[type[msgspec.Struct], Callable[[Any, _Markets], tuple[Comparison, ...]]]]] = {
    "bankruptcy_price": (_BankruptcyPrice, _bankruptcy_price),
    "fillable_price": (_FillablePrice, _fillable_price),
    "insurance_fund_delta": (_InsuranceFundDelta, _insurance_fund_delta),
    "margin_requirements": (_MarginRequirements, _margin_requirements),
    "funding_settlement": (_FundingSettlement, _funding_settlement),
    "liquidatable": (_Liquidatable, _liquidatable),
    "risk_order": (_RiskOrder, _risk_order),
    "liquidatable_notional": (_LiquidatableNotional, _liquidatable_notional),
}
