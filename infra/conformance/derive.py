"""Adapters of Derive's formats: portfolios of its three margin models, and its building blocks.

1. A case is computed whole by the shipped formula and then compared, step by step, in the order of computation. Steps
   have the names of the file; ``docs/conformance.md`` says what each is.
2. A published value that is not there is not compared; one that no rule reads is named, and never passed over.
3. Relative errors are of the largest number that was added up in the case, since sums of gains and losses may cancel.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from flows.margin.derive import (
    Expiries,
    Float64Array,
    Options,
    Perpetual,
    total,
)
from flows.margin.derive_pmrm import PmrmPortfolio, pmrm_margin
from flows.margin.derive_pmrm2 import Collateral, Pmrm2Portfolio, pmrm2_margin
from flows.margin.derive_srm import SrmMarket, SrmPortfolio, srm_margin
from infra.conformance.adapter import EXACT, Case, Comparison, MalformedError, Tolerance, Value
from schemas.derive_parameters import (
    DeriveMarketRates,
    DeriveOptionRates,
    DerivePmrm2Parameters,
    DerivePmrmParameters,
    DeriveSrmParameters,
)
from schemas.parameters import ParameterSet

Number = float | int
Parameters = TypeVar("Parameters", bound=ParameterSet)
Vector = TypeVar("Vector", "_PortfolioCase", "_SrmCase")

_RELATIVE: Final = 1e-12
# Numbers below a dollar in which nothing is added up still have a size of a dollar.
_DOLLAR: Final = 1.0


class _OptionRow(msgspec.Struct, frozen=True):
    strike: Number
    is_call: bool
    amount: Number
    vol: Number


class _ExpiryRow(msgspec.Struct, frozen=True):
    sec: Number
    fwd_fixed: Number
    fwd_variable: Number
    fwd_conf: Number
    rate: Number
    rate_conf: Number
    vol_conf: Number
    options: list[_OptionRow]


class _CollateralRow(msgspec.Struct, frozen=True):
    amount: Number
    price: Number
    conf: Number
    risk_cancelling: bool
    mm_haircut: Number
    im_haircut: Number


class _PortfolioRow(msgspec.Struct, frozen=True):
    cash: Number
    spot: Number
    spot_conf: Number
    stable_price: Number
    perp_amount: Number
    perp_price: Number
    perp_conf: Number
    perp_pnl: Number
    perp_funding: Number
    expiries: list[_ExpiryRow]
    base_amount: Number = 0.0
    collaterals: list[_CollateralRow] = []


class _ScenarioRow(msgspec.Struct, frozen=True):
    spot_shock: Number
    vol_shock: str
    dampening: Number = 1.0


class _ParameterRows(msgspec.Struct, frozen=True):
    scenarios: list[_ScenarioRow]
    basis: dict[str, Number]
    other: dict[str, Number]
    margin: dict[str, Number]
    vol_shock: dict[str, Number]
    skew: dict[str, Number] = {}


class _SkewRow(msgspec.Struct, frozen=True):
    k: Number
    linear_cap: Number
    abs_cap: Number
    k_star: Number
    linear_mult: Number
    abs_mult: Number


class _PortfolioCase(msgspec.Struct, frozen=True):
    id: str
    portfolio: _PortfolioRow
    params: _ParameterRows
    expected: dict[str, Any]
    expected_skew_per_option: list[_SkewRow] = []
    upstream_active: bool = True


class _PortfolioFile(msgspec.Struct, frozen=True):
    vectors: list[_PortfolioCase]


class _SrmExpiryRow(msgspec.Struct, frozen=True):
    sec: Number
    forward: Number
    fwd_conf: Number
    vol_conf: Number
    options: list[_OptionRow]


class _SrmParameterRows(msgspec.Struct, frozen=True):
    im_perp_req: Number
    mm_perp_req: Number
    option: dict[str, Number]
    oracle: dict[str, Number]
    base: dict[str, Number]


class _SrmMarketRow(msgspec.Struct, frozen=True):
    name: str
    spot: Number
    spot_conf: Number
    perp_amount: Number
    perp_price: Number
    perp_conf: Number
    perp_pnl: Number
    perp_funding: Number
    base_amount: Number
    params: _SrmParameterRows
    expiries: list[_SrmExpiryRow]


class _DepegRow(msgspec.Struct, frozen=True):
    threshold: Number
    factor: Number


class _SrmPortfolioRow(msgspec.Struct, frozen=True):
    cash: Number
    stable_price: Number
    depeg: _DepegRow
    markets: list[_SrmMarketRow]


class _SrmCase(msgspec.Struct, frozen=True):
    id: str
    portfolio: _SrmPortfolioRow
    expected: dict[str, Any]


class _SrmFile(msgspec.Struct, frozen=True):
    vectors: list[_SrmCase]


# The file's names of parameters, by group, and ours.
_VOL_NAMES: Final = {
    "vol_range_up": "vol_up", "vol_range_down": "vol_down", "short_term_power": "vol_power_short",
    "long_term_power": "vol_power_long", "dte_floor_sec": "vol_seconds_min", "min_vol_up_shock": "vol_up_min",
}  # fmt: skip
_BASIS_NAMES: Final = {
    "spot_up": "basis_up", "spot_down": "basis_down", "add_factor": "basis_add", "mult_factor": "basis_per_year",
}  # fmt: skip
_OTHER_NAMES: Final = {
    "peg_loss_threshold": "peg_threshold", "peg_loss_factor": "peg_factor", "conf_threshold": "confidence_threshold",
    "conf_margin": "confidence_charge",
}  # fmt: skip
_PMRM_NAMES: Final = {
    "vol_shock": {name: ours for name, ours in _VOL_NAMES.items() if ours != "vol_up_min"},
    "basis": _BASIS_NAMES,
    "other": _OTHER_NAMES
    | {"base_pct": "spot_contingency", "perp_pct": "perpetual_contingency", "option_pct": "option_contingency"},
    "margin": {
        "im_factor": "initial_factor", "base_static_discount": "static_base", "rate_mult": "static_rate_scale",
        "rate_add": "static_per_year",
    },
}  # fmt: skip
_PMRM2_NAMES: Final = {
    "vol_shock": _VOL_NAMES,
    "basis": _BASIS_NAMES,
    "other": _OTHER_NAMES
    | {
        "mm_perp_pct": "perpetual_maintenance", "im_perp_pct": "perpetual_initial",
        "mm_option_pct": "option_maintenance", "im_option_pct": "option_initial",
    },
    "margin": {
        "im_factor": "initial_factor", "mm_factor": "maintenance_factor",
        "long_base_static_discount": "static_long_base", "long_rate_mult": "static_long_rate_scale",
        "long_rate_add": "static_long_per_year", "short_base_static_discount": "static_short_base",
        "short_rate_mult": "static_short_rate_scale", "short_rate_add": "static_short_per_year",
    },
    "skew": {
        "linear_base_cap": "skew_linear_cap", "linear_cbase": "skew_linear_per_root_year",
        "abs_base_cap": "skew_abs_cap", "abs_cbase": "skew_abs_per_root_year", "min_k_star": "skew_reach_min",
        "width_scale": "skew_width", "vol_param_static": "skew_vol", "vol_param_scale": "skew_vol_per_root_year",
    },
}  # fmt: skip
_SRM_OPTION_NAMES: Final = {
    "max_spot_req": "initial_max", "min_spot_req": "initial_min", "mm_call_spot_req": "call_maintenance",
    "mm_put_spot_req": "put_maintenance", "mm_put_mtm_req": "put_maintenance_of_mark",
    "mm_offset_scale": "put_initial_scale", "unpaired_im_scale": "uncovered_initial",
    "unpaired_mm_scale": "uncovered_maintenance",
}  # fmt: skip
_SRM_ORACLE_NAMES: Final = {
    "perp_threshold": "perpetual_confidence_threshold", "option_threshold": "option_confidence_threshold",
    "base_threshold": "spot_confidence_threshold", "oc_factor": "confidence_charge",
}  # fmt: skip
_SRM_BASE_NAMES: Final = {"margin_factor": "spot_weight", "im_scale": "spot_initial_scale"}

_SKEWS: Final = frozenset({"linear", "abs"})
# What a file says about itself rather than about a margin.
_COUNTS: Final = frozenset({"n_regular", "n_tail", "n_skew"})

# Steps that are ratios: their errors are measured by themselves, not by the money that is at stake.
_RATIOS: Final = frozenset({"static_discount_pos_neg_per_expiry", "im_loss_factor", "mm_loss_factor"})

# A published number, a list of numbers, or a list of pairs.
_Computed = float | Float64Array | list[tuple[float, float]]


class Pmrm2Adapter:
    """Portfolios of ``derive-pmrm2``: every one has ``collaterals``, and its parameters a ``skew``."""

    format = "derive-pmrm2-portfolios"
    models: tuple[str, ...] = ("derive-pmrm2",)

    def recognises(self, document: Mapping[str, Any]) -> bool:
        """Whether the first vector is such a portfolio."""
        first = _first_vector(document)
        return "collaterals" in _part(first, "portfolio") and "skew" in _part(first, "params")

    def cases(self, document: Mapping[str, Any]) -> Iterator[Case]:
        """Yield the portfolios.

        A skew that moves spot is refused by the venue's setter: such a case is marked ``upstream_active`` false, is
        computed with the spot where it is, and its scenarios are not compared. Of an expired option the file
        does not state the static discount that the venue's contract has, nor a skew, and neither touches a margin: they
        are not compared there.
        """
        for vector in msgspec.convert(document, _PortfolioFile).vectors:
            yield _guarded(vector, self._case)

    def _case(self, vector: _PortfolioCase) -> Case:
        row = vector.portfolio
        scenarios = [
            {
                "spot_multiple": 1.0 if not vector.upstream_active and scenario.vol_shock in _SKEWS
                else scenario.spot_shock,
                "vol_move": scenario.vol_shock,
                "weight": scenario.dampening,
            }
            for scenario in vector.params.scenarios
        ]  # fmt: skip
        parameters = _parameters(DerivePmrm2Parameters, vector.params, _PMRM2_NAMES, scenarios)
        collateral = Collateral(
            amount=_column(row.collaterals, "amount"),
            price=_column(row.collaterals, "price"),
            confidence=_column(row.collaterals, "conf"),
            maintenance_haircut=_column(row.collaterals, "mm_haircut"),
            initial_haircut=_column(row.collaterals, "im_haircut"),
            follows_spot=np.array([each.risk_cancelling for each in row.collaterals], np.bool_),
        )
        expiries, options = _expiries(row.expiries), _options(row.expiries)
        margin = pmrm2_margin(
            Pmrm2Portfolio(
                cash=row.cash,
                spot=row.spot,
                spot_confidence=row.spot_conf,
                stable_price=row.stable_price,
                perpetual=_perpetual(row),
                collateral=collateral,
                expiries=expiries,
                options=options,
            ),
            parameters,
        )
        expected = dict(vector.expected)
        if not vector.upstream_active:
            expected.pop("scenario_pnl", None)
        static = list(zip(margin.static_long.tolist(), margin.static_short.tolist(), strict=True))
        skews_stated = vector.expected_skew_per_option
        if (expiries.seconds == 0.0).any():
            skews_stated = []
            expected.pop("static_discount_pos_neg_per_expiry", None)
            expected.pop("option_mtm_per_expiry_static_discounted", None)
        # The file signs contingencies as what they add to a margin value.
        computed: dict[str, _Computed] = {
            "option_mtm_per_expiry": margin.expiry_mark,
            "option_mtm": margin.option_value,
            "perp_mtm": row.perp_pnl,
            "collateral_mtm": margin.collateral_value,
            "portfolio_mtm_incl_cash": margin.equity,
            "static_discount_pos_neg_per_expiry": static,
            "option_mtm_per_expiry_static_discounted": margin.expiry_mark_static,
            "scenario_pnl": margin.scenario_profit,
            "basis_contingency": margin.basis_contingency,
            "mm_perp_contingency": -margin.maintenance_perpetual,
            "mm_option_contingency": -margin.maintenance_option,
            "mm_collateral_contingency": -margin.maintenance_collateral,
            "im_perp_contingency": -margin.initial_perpetual,
            "im_option_contingency": -margin.initial_option,
            "im_collateral_contingency": -margin.initial_collateral,
            "oracle_contingency": -margin.oracle_contingency,
            "mm_loss_factor": margin.maintenance_loss_factor,
            "im_loss_factor": margin.initial_loss_factor,
            "mm": margin.maintenance_value,
            "im": margin.initial_value,
        }
        size = max(
            _DOLLAR, abs(row.cash), abs(margin.perpetual_value), margin.collateral_value,
            float(np.abs(margin.expiry_mark).max(initial=0.0)), float(np.abs(margin.expiry_value).max(initial=0.0)),
        )  # fmt: skip
        multipliers = {
            "vol_shock_up_mult_per_option": margin.vol_multiplier_up[options.expiry],
            "vol_shock_down_mult_per_option": margin.vol_multiplier_down[options.expiry],
        }
        skews = {
            "k": margin.log_moneyness,
            "k_star": margin.skew_reach,
            "linear_cap": margin.skew_linear_cap,
            "abs_cap": margin.skew_abs_cap,
            "linear_mult": margin.skew_multiplier_linear,
            "abs_mult": margin.skew_multiplier_abs,
        }
        stated = {name: [getattr(skew, name) for skew in skews_stated] for name in skews if skews_stated}
        by_option = [
            *_paired({name: expected.pop(name) for name in multipliers if name in expected}, multipliers),
            *_paired(stated, skews),
        ]  # fmt: skip
        return _compared(vector.id, expected, computed, size, before={"scenario_pnl": by_option})


class PmrmAdapter:
    """Portfolios of ``derive-pmrm``: every one has a ``base_amount`` and parameters of the case."""

    format = "derive-pmrm-portfolios"
    models: tuple[str, ...] = ("derive-pmrm",)

    def recognises(self, document: Mapping[str, Any]) -> bool:
        """Whether the first vector is such a portfolio."""
        first = _first_vector(document)
        return "base_amount" in _part(first, "portfolio") and "base_static_discount" in _part(
            _part(first, "params"), "margin"
        )

    def cases(self, document: Mapping[str, Any]) -> Iterator[Case]:
        """Yield the portfolios; ``im_trunc`` and ``mm_trunc`` are whole dollars, cut towards zero."""
        for vector in msgspec.convert(document, _PortfolioFile).vectors:
            yield _guarded(vector, self._case)

    def _case(self, vector: _PortfolioCase) -> Case:
        row = vector.portfolio
        scenarios = [
            {"spot_multiple": scenario.spot_shock, "vol_move": scenario.vol_shock, "weight": scenario.dampening}
            for scenario in vector.params.scenarios
        ]
        margin = pmrm_margin(
            PmrmPortfolio(
                cash=row.cash,
                spot=row.spot,
                spot_confidence=row.spot_conf,
                stable_price=row.stable_price,
                spot_amount=row.base_amount,
                perpetual=_perpetual(row),
                expiries=_expiries(row.expiries),
                options=_options(row.expiries),
            ),
            _parameters(DerivePmrmParameters, vector.params, _PMRM_NAMES, scenarios),
        )
        computed: dict[str, _Computed] = {
            "portfolio_mtm_incl_cash": margin.equity,
            "scenario_pnl": margin.scenario_profit,
            "basis_contingency": margin.basis_contingency,
            "perp_contingency": -margin.perpetual_contingency,
            "base_contingency": -margin.spot_contingency,
            "option_contingency": -margin.option_contingency,
            "oracle_contingency": -margin.oracle_contingency,
            "mm": margin.maintenance_value,
            "im": margin.initial_value,
            "mm_trunc": margin.maintenance_value,
            "im_trunc": margin.initial_value,
        }
        size = max(
            _DOLLAR, abs(row.cash), abs(margin.perpetual_value), margin.spot_value,
            float(np.abs(margin.expiry_mark).max(initial=0.0)), float(np.abs(margin.expiry_value).max(initial=0.0)),
        )  # fmt: skip
        return _compared(vector.id, vector.expected, computed, size)


class SrmAdapter:
    """Portfolios of ``derive-srm``: every one has ``markets`` with their own parameters."""

    format = "derive-srm-portfolios"
    models: tuple[str, ...] = ("derive-srm",)

    def recognises(self, document: Mapping[str, Any]) -> bool:
        """Whether the first vector is such a portfolio."""
        return isinstance(_part(_first_vector(document), "portfolio").get("markets"), list)

    def cases(self, document: Mapping[str, Any]) -> Iterator[Case]:
        """Yield the portfolios; ``im_trunc`` and ``mm_trunc`` are whole dollars, cut towards zero."""
        for vector in msgspec.convert(document, _SrmFile).vectors:
            yield _guarded(vector, self._case)

    def _case(self, vector: _SrmCase) -> Case:
        row = vector.portfolio
        parameters = DeriveSrmParameters(
            markets={market.name: _srm_rates(market.params) for market in row.markets},
            peg_threshold=row.depeg.threshold,
            peg_factor=row.depeg.factor,
        )
        margin = srm_margin(
            SrmPortfolio(
                cash=row.cash,
                stable_price=row.stable_price,
                markets=tuple(
                    SrmMarket(
                        underlying=market.name,
                        spot=market.spot,
                        spot_confidence=market.spot_conf,
                        spot_amount=market.base_amount,
                        perpetual=_perpetual(market),
                        expiries=_srm_expiries(market.expiries),
                        options=_options(market.expiries),
                    )
                    for market in row.markets
                ),
            ),
            parameters,
        )
        charges: dict[str, _Computed] = {}
        for market, each in zip(row.markets, margin.markets, strict=True):
            charges[f"{market.name.lower()}_option_mm"] = each.option_maintenance
            charges[f"{market.name.lower()}_option_im"] = each.option_initial
        oracle = margin.sum_of("perpetual_oracle") + margin.sum_of("option_oracle") + margin.sum_of("spot_oracle")
        computed: dict[str, _Computed] = {
            "unrealized_pnl": total(_column(row.markets, "perp_pnl")),
            "unsettled_funding": total(_column(row.markets, "perp_funding")),
            "mtm": margin.equity,
            **charges,
            "base_margin": margin.sum_of("spot_initial"),
            "oracle_contingency": -oracle,
            "depeg_im": -margin.sum_of("depeg"),
            "mm": margin.maintenance_value,
            "im": margin.initial_value,
            "mm_trunc": margin.maintenance_value,
            "im_trunc": margin.initial_value,
        }
        size = max(
            _DOLLAR, abs(row.cash), *(abs(each.option_value) for each in margin.markets),
            *(abs(each.perpetual_initial) + each.spot_value for each in margin.markets),
            *(-float(each.expiry_loss_initial.min(initial=0.0)) for each in margin.markets),
        )  # fmt: skip
        return _compared(vector.id, vector.expected, computed, size)


PMRM2: Final = Pmrm2Adapter()
PMRM: Final = PmrmAdapter()
SRM: Final = SrmAdapter()


def _first_vector(document: Mapping[str, Any]) -> Mapping[str, Any]:
    vectors = document.get("vectors")
    return vectors[0] if isinstance(vectors, list) and vectors and isinstance(vectors[0], dict) else {}


def _part(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = row.get(name)
    return part if isinstance(part, dict) else {}


def _guarded(vector: Vector, compute: Callable[[Vector], Case]) -> Case:
    """Name the case in whatever its numbers are refused for."""
    try:
        return compute(vector)
    except ValueError as error:
        raise MalformedError(f"{vector.id}: {_first_fault(error)}") from error


def _first_fault(error: ValueError) -> str:
    faults = getattr(error, "errors", None)
    if faults is None:
        return str(error)
    first = faults(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'parameters'}: {first['msg']}"


def _parameters(
    kind: type[Parameters], rows: _ParameterRows, names: Mapping[str, Mapping[str, str]], scenarios: list[Any]
) -> Parameters:
    """Return the set that a case states; refuse a case that leaves one out or states one that there is not."""
    values: dict[str, Any] = {"scenarios": scenarios}
    for group, known in names.items():
        values |= _renamed(getattr(rows, group), known, f"params.{group}")
    return kind.model_validate(values)


def _renamed(stated: Mapping[str, Number], known: Mapping[str, str], where: str) -> dict[str, Number]:
    if stated.keys() != known.keys():
        missing, unknown = sorted(known.keys() - stated.keys()), sorted(stated.keys() - known.keys())
        raise ValueError(f"{where} " + (f"lacks {', '.join(missing)}" if missing else f"has {', '.join(unknown)}"))
    return {known[name]: value for name, value in stated.items()}


def _column(rows: list[Any], name: str) -> Float64Array:
    return np.array([getattr(row, name) for row in rows], np.float64)


def _perpetual(row: _PortfolioRow | _SrmMarketRow) -> Perpetual:
    return Perpetual(
        amount=row.perp_amount,
        price=row.perp_price,
        confidence=row.perp_conf,
        unrealised=row.perp_pnl,
        funding=row.perp_funding,
    )


def _expiries(rows: list[_ExpiryRow]) -> Expiries:
    return Expiries(
        seconds=_column(rows, "sec"),
        forward_fixed=_column(rows, "fwd_fixed"),
        forward_variable=_column(rows, "fwd_variable"),
        forward_confidence=_column(rows, "fwd_conf"),
        rate=_column(rows, "rate"),
        rate_confidence=_column(rows, "rate_conf"),
        vol_confidence=_column(rows, "vol_conf"),
    )


def _srm_expiries(rows: list[_SrmExpiryRow]) -> Expiries:
    return Expiries(
        seconds=_column(rows, "sec"),
        forward_fixed=np.zeros(len(rows)),
        forward_variable=_column(rows, "forward"),
        forward_confidence=_column(rows, "fwd_conf"),
        rate=np.zeros(len(rows)),
        rate_confidence=np.ones(len(rows)),
        vol_confidence=_column(rows, "vol_conf"),
    )


def _options(rows: list[_ExpiryRow] | list[_SrmExpiryRow]) -> Options:
    options = [option for row in rows for option in row.options]
    return Options(
        expiry=np.repeat(np.arange(len(rows), dtype=np.int64), [len(row.options) for row in rows]),
        strike=_column(options, "strike"),
        is_call=np.array([option.is_call for option in options], np.bool_),
        amount=_column(options, "amount"),
        implied_vol=_column(options, "vol"),
    )


def _srm_rates(rows: _SrmParameterRows) -> DeriveMarketRates:
    return DeriveMarketRates.model_validate(
        {
            "perpetual_initial": rows.im_perp_req,
            "perpetual_maintenance": rows.mm_perp_req,
            "options": srm_option_rates(rows.option),
            **_renamed(rows.oracle, _SRM_ORACLE_NAMES, "params.oracle"),
            **_renamed(rows.base, _SRM_BASE_NAMES, "params.base"),
        }
    )


def srm_option_rates(stated: Mapping[str, Number]) -> DeriveOptionRates:
    """Return the option rates of the standard model from a file's names."""
    return DeriveOptionRates.model_validate(_renamed(stated, _SRM_OPTION_NAMES, "params.option"))


def _compared(
    case: str,
    expected: Mapping[str, Any],
    computed: Mapping[str, _Computed],
    size: float,
    before: Mapping[str, list[Comparison]] | None = None,
) -> Case:
    """Return the comparisons of whatever is published, in the order of ``computed``; ``before`` a step come others."""
    money, ratios = Tolerance(relative=_RELATIVE, scale=size), Tolerance(relative=_RELATIVE)
    comparisons: list[Comparison] = []
    for step, ours in computed.items():
        tolerance = ratios if step in _RATIOS else money
        comparisons.extend((before or {}).get(step, []))
        if step not in expected:
            continue
        published = expected[step]
        if step.endswith("_trunc"):
            assert isinstance(ours, float)
            comparisons.append(Comparison(step, published, whole_dollars(ours)))
        elif isinstance(ours, float):
            comparisons.append(Comparison(step, published, ours, tolerance))
        else:
            comparisons.extend(_elements(step, published, ours, tolerance))
    unread = sorted(expected.keys() - computed.keys() - _COUNTS)
    return Case(case, tuple(comparisons), unread=tuple(unread))


def _paired(expected: Mapping[str, Any], computed: Mapping[str, Float64Array]) -> list[Comparison]:
    """Compare numbers by option whose order is lost: files group options by expiry, and list these as they were held.

    Each of both sides is a row of numbers by option; rows are paired in order of their (rounded) numbers.
    """
    if not expected:
        return []
    names = [name for name in computed if name in expected]
    stated = [_numbers(name, expected[name]) for name in names]
    ours = [computed[name].tolist() for name in names]
    lengths = [len(column) for column in stated]
    if lengths != [len(column) for column in ours]:
        return [Comparison(names[0], lengths[0], len(ours[0]), EXACT, "length")]
    pairs = zip(_sorted_rows(stated), _sorted_rows(ours), strict=True)
    by_rank = [
        [
            Comparison(name, theirs, value, Tolerance(_RELATIVE, _RELATIVE), str(rank))
            for name, theirs, value in zip(names, *pair, strict=True)
        ]
        for rank, pair in enumerate(pairs)
    ]
    return [comparison for column in zip(*by_rank, strict=True) for comparison in column]


def _sorted_rows(columns: list[list[float]]) -> list[tuple[float, ...]]:
    # Rounded, so that a last bit does not exchange two rows that share their first number.
    return sorted(zip(*columns, strict=True), key=lambda row: [round(number, 9) for number in row])


def _numbers(step: str, published: Any) -> list[float]:
    numbers = isinstance(published, list) and all(
        isinstance(each, int | float) and not isinstance(each, bool) for each in published
    )
    if not numbers:
        raise MalformedError(f"{step} is not a list of numbers")
    return [float(each) for each in published]


def _elements(
    step: str, published: Any, ours: Float64Array | list[tuple[float, float]], tolerance: Tolerance
) -> Iterator[Comparison]:
    if not isinstance(published, list):
        raise MalformedError(f"{step} is {type(published).__name__} where a list is expected")
    if len(published) != len(ours):
        yield Comparison(step, len(published), len(ours), EXACT, "length")
        return
    for place, (theirs, value) in enumerate(zip(published, ours, strict=True)):
        if isinstance(value, tuple):
            yield from (
                Comparison(step, each, float(number), tolerance, f"{place}.{side}")
                for side, (each, number) in enumerate(zip(_pair(step, theirs), value, strict=True))
            )
        else:
            yield Comparison(step, theirs, float(value), tolerance, str(place))


def _pair(step: str, published: Any) -> list[Value]:
    if not isinstance(published, list) or len(published) != 2:  # noqa: PLR2004 - a pair
        raise MalformedError(f"{step} holds {published!r} where a pair is expected")
    return published


def whole_dollars(value: float) -> int:
    """Return a margin value cut towards zero; what is a millionth short of a whole dollar counts as whole."""
    return math.trunc(value + math.copysign(1e-6, value))
