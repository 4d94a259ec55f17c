"""``document-examples``: worked examples of venues' help pages that our models cover.

Sections of a file: ``deribit_linear_perp`` (rates that rise with size, ``deribit-standard``), ``dederi_pm`` (a linear
future under spot shocks and its contingency, ``tidegate-portfolio``) and ``kraken_haircut`` (collateral after its
haircut, which every model is held against); docs/conformance-venues.md describes them.

1. Authors round: a section states its tolerance where it does not hold to the last digit.
2. A section that no model of ours covers is a case left out, with the reason; one that is not known is named as unread.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, cast

import msgspec
import numpy as np

from flows.margin.collateral import equity
from flows.margin.deribit_account import DeribitAccount, DeribitFuture
from flows.margin.deribit_standard import deribit_standard
from flows.margin.model import Float64Array, PositionColumns
from flows.margin.portfolio import MODEL as PORTFOLIO
from flows.market.columns import FRESH, InstrumentColumns, UInt16Array
from flows.market.instant import Instant
from flows.market.listings import Instrument
from flows.market.valuation import price
from infra.conformance.adapter import Case, Comparison, MalformedError, Tolerance
from schemas.failures import Refused
from schemas.instruments import InstrumentKind, Payoff
from schemas.parameters import DeribitStandardParameters, PortfolioParameters, validate

FORMAT: Final = "document-examples"
_EXACT: Final = Tolerance(relative=1e-12)
_UNIT_DECIMALS: Final = 8
_DAY_NS: Final = 86_400 * 1_000_000_000
_NOT_SECTIONS: Final = frozenset({"format", "source", "units"})
_NOT_COVERED: Final = {
    "bit_pm": "the forward, the curve and the convention of its vol shock are not published",
    "bigone_step": "no model of ours has a size below which its rate stays",
}


class _LinearPerpetual(msgspec.Struct):
    asset: str
    price: float
    size: float
    base_im: float
    base_mm: float
    slope: float
    im: float | None
    mm: float | None


class _PortfolioExample(msgspec.Struct):
    index: float
    basis_rate: float
    days: int
    qty: int
    contingency_factor: float
    expected_forward: float
    forward_tol: float
    expected_contingency: float
    contingency_tol: float
    shocks: list[float]
    expected_pnl: list[float]
    pnl_tol: float


class _Haircut(msgspec.Struct):
    qty: float
    price: float
    haircut: float
    expected_value: float
    expected_collateral: float


class ExamplesAdapter:
    """The format's adapter; without state."""

    format = FORMAT
    models: tuple[str, ...] = ("deribit-standard", "tidegate-portfolio")

    def recognises(self, document: Mapping[str, Any]) -> bool:
        """Whether the file has one of the sections."""
        return any(name in document for name in _SECTIONS)

    def cases(self, document: Mapping[str, Any]) -> Iterator[Case]:
        """Yield the examples of each section, in the order of the file."""
        for name, section in document.items():
            if name in _NOT_SECTIONS:
                continue
            if name in _NOT_COVERED:
                yield Case(name, left_out=_NOT_COVERED[name])
                continue
            run = _SECTIONS.get(name)
            if run is None:
                yield Case(name, unread=(f"not a section; there are {', '.join([*_SECTIONS, *_NOT_COVERED])}",))
                continue
            examples = section if isinstance(section, list) else [section]
            for number, example in enumerate(examples):
                case = f"{name}_{number}"
                try:
                    yield Case(case, tuple(run(example)))
                except (msgspec.ValidationError, ValueError, Refused) as error:
                    raise MalformedError(f"{case}: {error}") from error


ADAPTER = ExamplesAdapter()


def _linear_perpetual(example: Any) -> Iterator[Comparison]:
    it = msgspec.convert(example, _LinearPerpetual)
    rates = {"initial": it.base_im, "maintenance": it.base_mm, "slope_per_coin": it.slope}
    parameters = validate("deribit-standard", {"futures": {it.asset: rates}})
    assert isinstance(parameters, DeribitStandardParameters)
    held = DeribitFuture(f"{it.asset}_USDC-PERPETUAL", it.asset, Payoff.LINEAR, it.size, it.price)
    got = deribit_standard(DeribitAccount(it.asset, Payoff.LINEAR, it.price, 0, (held,)), parameters)
    for step, expected, computed in (
        ("initial_margin", it.im, got.initial_margin),
        ("maintenance_margin", it.mm, got.maintenance_margin),
    ):
        if expected is not None:
            yield Comparison(step, expected, computed, _EXACT)


def _portfolio(example: Any) -> Iterator[Comparison]:
    it = msgspec.convert(example, _PortfolioExample)
    if len(it.expected_pnl) != len(it.shocks):
        raise ValueError(f"{len(it.expected_pnl)} profits are expected under {len(it.shocks)} shocks")
    parameters = validate(
        "tidegate-portfolio",
        {
            "scenarios": [(1.0 + shock, 0, 1.0) for shock in it.shocks],
            "linear_contingency": it.contingency_factor,
            "initial_factor": 1.0,
        },
    )
    assert isinstance(parameters, PortfolioParameters)
    columns = _a_future(it.index, it.basis_rate, it.days)
    tables = PORTFOLIO.tables(columns, parameters)
    yield Comparison("forward", it.expected_forward, float(columns.forward[0]), Tolerance(absolute=it.forward_tol))
    for shock, expected, profit in zip(it.shocks, it.expected_pnl, tables.profit[0], strict=False):
        computed = float(profit) * it.qty
        yield Comparison("scenario_profit", expected, computed, Tolerance(absolute=it.pnl_tol), f"{shock:+}")
    contingency = float(tables.contingency[0, 0]) * it.qty
    yield Comparison("contingency", it.expected_contingency, contingency, Tolerance(absolute=it.contingency_tol))


def _a_future(index_price: float, rate: float, days: int) -> InstrumentColumns:
    """Return the columns of one linear future, priced: a lot is one coin, and the settlement asset is a dollar."""
    columns = InstrumentColumns()
    columns.append(
        Instrument(
            index=0, instrument="future", kind=InstrumentKind.FUTURE, underlying="X", quote="USD", settlement_asset=0,
            base_asset=0, payoff=Payoff.LINEAR, lot_quantity=Fraction(1), lot_size=Fraction(1), tick_size=Fraction(1),
            strike=None, option_type=None, expiry_ns=days * _DAY_NS,
        )
    )  # fmt: skip
    columns.spot[0] = index_price
    columns.spot_state[0] = FRESH
    columns.rate[0] = rate
    price(
        np.zeros(1, np.int64), 0, 0.0, columns.reals, columns.codes, columns.greeks, columns.expiry_ns,
        columns.underlying, columns.settlement_asset, columns.spot, columns.spot_state, np.ones(1),
        np.ones(1, np.bool_),
    )  # fmt: skip
    return columns


@dataclass(frozen=True, slots=True)
class _Assets:
    """Of an instant, what collateral alone reads."""

    asset_price: Float64Array
    haircut: Float64Array
    asset_unit: Float64Array
    value: Float64Array
    settlement_asset: UInt16Array


def _haircut(example: Any) -> Iterator[Comparison]:
    it = msgspec.convert(example, _Haircut)
    if not 0.0 <= it.haircut <= 1.0 or not it.price > 0.0:
        raise ValueError("haircut must be from 0 to 1 and price positive")
    yield Comparison("value", it.expected_value, _collateral(it.qty, it.price, 0.0), _EXACT)
    yield Comparison("collateral", it.expected_collateral, _collateral(it.qty, it.price, it.haircut), _EXACT)


def _collateral(quantity: float, asset_price: float, haircut: float) -> float:
    """Return the equity of an account that holds a quantity of one asset and nothing else."""
    assets = _Assets(
        np.array([asset_price]), np.array([haircut]), np.array([10.0**-_UNIT_DECIMALS]), np.zeros(0),
        np.zeros(0, np.uint16),
    )  # fmt: skip
    units = np.array([[round(quantity * 10**_UNIT_DECIMALS)]], np.int64)
    nothing = PositionColumns(
        np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.int64)
    )
    row = np.zeros(1, np.int64)
    return float(equity(cast(Instant, assets), units, nothing, np.zeros(1, np.bool_), row)[0])


_SECTIONS: Final[Mapping[str, Callable[[Any], Iterator[Comparison]]]] = {
    "deribit_linear_perp": _linear_perpetual,
    "dederi_pm": _portfolio,
    "kraken_haircut": _haircut,
}
