"""``dydx-v4``: margin and liquidation of one account, in the venue's own integers.

1. Everything is an integer: base quantums (10^``atomic_resolution`` coins), quote quantums (10^-6 USDC), parts per
   million. Nothing here is a float, and no result depends on the order of positions.
2. A notional is truncated toward zero. A requirement is rounded up, at each of its steps; funding and what is left
   before bankruptcy are rounded down; a liquidation's fee cap is rounded down.
3. Maintenance margin ignores open interest and an account's own higher initial rate; initial margin does not.
4. An account is liquidatable if its maintenance margin is positive and its net collateral is below it. Ratios are
   compared by cross-multiplication, never by dividing.
5. A liquidation that does not shrink its position, or exceeds it, is refused: ``LiquidationRefusedError``.

References
----------
dydxprotocol/v4-chain, protocol/x/perpetuals/lib and protocol/x/clob/keeper/liquidations.go, read for the rules alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key
from typing import Final

from schemas.parameters import DydxParameters, DydxTier

PPM: Final = 1_000_000
QUOTE_RESOLUTION: Final = -6
# Powers of ten beyond this are a mistake, and numbers that fill a machine's memory.
_EXPONENT_MAX: Final = 128


class LiquidationRefusedError(ValueError):
    """A liquidation that the venue would not make, with the reason."""


@dataclass(frozen=True, slots=True)
class DydxMarket:
    """A perpetual market: one whole coin costs ``price`` * 10^``price_exponent`` USD.

    ``open_interest`` is in base quantums. ``funding_index`` is what a long of one base quantum has paid since the
    market began, in parts per million of a quote quantum.
    """

    market: str
    price: int
    price_exponent: int
    atomic_resolution: int
    tier: DydxTier
    open_interest: int = 0
    funding_index: int = 0

    def __post_init__(self) -> None:
        """Refuse a negative price or open interest."""
        if self.price < 0:
            raise ValueError(f"{self.market}: the price is negative: {self.price}")
        if self.open_interest < 0:
            raise ValueError(f"{self.market}: the open interest is negative: {self.open_interest}")


@dataclass(frozen=True, slots=True)
class DydxPosition:
    """A position in ``base_quantums``, signed, and the funding index at which it was last settled.

    ``initial_margin_ppm_min`` is the account's own rate for this market; a lower one than the tier's changes nothing.
    """

    market: str
    base_quantums: int
    funding_index: int = 0
    initial_margin_ppm_min: int = 0


@dataclass(frozen=True, slots=True)
class DydxAccount:
    """Quote quantums, signed, and positions, at most one a market."""

    quote_balance: int
    positions: tuple[DydxPosition, ...] = ()

    def __post_init__(self) -> None:
        """Refuse two positions in one market."""
        markets = [position.market for position in self.positions]
        if len(set(markets)) != len(markets):
            raise ValueError(f"an account has one position a market, not {', '.join(sorted(markets))}")

    def position(self, market: str) -> int:
        """Return the base quantums held of a market, 0 where there are none."""
        return next((it.base_quantums for it in self.positions if it.market == market), 0)


@dataclass(frozen=True, slots=True)
class DydxPositionMargin:
    """One position, step by step, in quote quantums; ratios and ``funding_settlement_ppm`` in parts per million."""

    market: str
    notional: int
    funding_settlement_ppm: int
    open_interest_notional: int
    initial_margin_ppm: int
    initial_margin: int
    base_initial_margin: int
    maintenance_margin: int


@dataclass(frozen=True, slots=True)
class DydxMargin:
    """An account, step by step, in quote quantums.

    ``health`` is net collateral less maintenance margin, ``free_margin`` net collateral less initial margin.
    """

    positions: tuple[DydxPositionMargin, ...]
    funding_settlement: int
    settled_balance: int
    net_collateral: int
    initial_margin: int
    maintenance_margin: int
    health: int
    free_margin: int
    liquidatable: bool


@dataclass(frozen=True, slots=True)
class DydxInsuranceFundDelta:
    """What a liquidation's fill does to the insurance fund, step by step, in quote quantums.

    ``fill_quote`` and ``bankruptcy_quote`` are what the account receives (negative: pays) at the fill and at the
    bankruptcy price. ``delta`` > 0 is a fee that the account pays, < 0 a loss that the fund takes.
    """

    fill_quote: int
    bankruptcy_quote: int
    surplus: int
    fee_max: int
    delta: int


def notional(market: DydxMarket, base_quantums: int) -> int:
    """Return the oracle value of base quantums in quote quantums, signed, truncated toward zero."""
    exponent = market.price_exponent + market.atomic_resolution - QUOTE_RESOLUTION
    size = _scaled(abs(base_quantums) * market.price, exponent)
    return -size if base_quantums < 0 else size


def initial_margin_ppm(market: DydxMarket) -> int:
    """Return the market's initial rate at its open interest.

    The tier's rate up to the lower cap, rising in a line to 100 % at the upper cap, 100 % above; in whole parts per
    million, rounded down. An upper cap of 0 is none.
    """
    tier = market.tier
    if tier.open_interest_upper_cap == 0:
        return tier.initial_margin_ppm
    interest = notional(market, market.open_interest)
    if interest <= tier.open_interest_lower_cap:
        return tier.initial_margin_ppm
    if interest >= tier.open_interest_upper_cap:
        return PPM
    above = interest - tier.open_interest_lower_cap
    width = tier.open_interest_upper_cap - tier.open_interest_lower_cap
    return tier.initial_margin_ppm + (PPM - tier.initial_margin_ppm) * above // width


def position_margin(market: DydxMarket, position: DydxPosition) -> DydxPositionMargin:
    """Return what a position is worth and needs at the market's oracle price."""
    value = notional(market, position.base_quantums)
    size = abs(value)
    rate = max(initial_margin_ppm(market), position.initial_margin_ppm_min)
    base = _ppm_up(size, market.tier.initial_margin_ppm)
    return DydxPositionMargin(
        market=market.market,
        notional=value,
        funding_settlement_ppm=-(market.funding_index - position.funding_index) * position.base_quantums,
        open_interest_notional=notional(market, market.open_interest),
        initial_margin_ppm=rate,
        initial_margin=_ppm_up(size, rate),
        base_initial_margin=base,
        maintenance_margin=_ppm_up(base, market.tier.maintenance_fraction_ppm),
    )


def dydx_margin(account: DydxAccount, markets: Mapping[str, DydxMarket]) -> DydxMargin:
    """Return an account's net collateral and requirements.

    Parameters
    ----------
    markets : by name, at least those in which the account holds a position.

    Raises
    ------
    ValueError : a market is missing.
    """
    positions = tuple(position_margin(_market(markets, it.market), it) for it in account.positions)
    # All funding is added up before it is rounded, once, in the venue's favour.
    settlement = sum(it.funding_settlement_ppm for it in positions) // PPM
    balance = account.quote_balance + settlement
    net_collateral = balance + sum(it.notional for it in positions)
    initial = sum(it.initial_margin for it in positions)
    maintenance = sum(it.maintenance_margin for it in positions)
    return DydxMargin(
        positions=positions,
        funding_settlement=settlement,
        settled_balance=balance,
        net_collateral=net_collateral,
        initial_margin=initial,
        maintenance_margin=maintenance,
        health=net_collateral - maintenance,
        free_margin=net_collateral - initial,
        liquidatable=is_liquidatable(net_collateral=net_collateral, maintenance_margin=maintenance),
    )


def is_liquidatable(*, net_collateral: int, maintenance_margin: int) -> bool:
    """Whether an account may be liquidated; one without requirement never is, whatever it owes."""
    return maintenance_margin > 0 and net_collateral < maintenance_margin


def compare_risk(a: tuple[int, int], b: tuple[int, int]) -> int:
    """Return 1 if ``a`` is to be liquidated before ``b``, -1 after, 0 if either may come first.

    Parameters
    ----------
    a, b : net collateral and maintenance margin (>= 0). The smaller ratio is the riskier; of equal ratios the larger
        maintenance margin, then the smaller net collateral.
    """
    left, right = a[0] * b[1], b[0] * a[1]
    if left != right:
        return 1 if left < right else -1
    if a[1] != b[1]:
        return 1 if a[1] > b[1] else -1
    return (a[0] < b[0]) - (a[0] > b[0])


def riskiest_first(candidates: Iterable[tuple[str, DydxMargin]]) -> list[str]:
    """Return the accounts that are liquidatable, in the order of their liquidation; ties by name."""
    chosen = sorted((name, it.net_collateral, it.maintenance_margin) for name, it in candidates if it.liquidatable)

    def later(a: tuple[str, int, int], b: tuple[str, int, int]) -> int:
        return compare_risk(b[1:], a[1:])

    return [name for name, _, _ in sorted(chosen, key=cmp_to_key(later))]


def liquidatable_notional(market: DydxMarket, base_quantums: int, parameters: DydxParameters) -> tuple[int, int]:
    """Return the least and the most of a position, in quote quantums, that one block may liquidate.

    Its share ``position_portion_max_ppm`` or ``position_notional_min``, whichever is more, and never more than it has.
    """
    size = abs(notional(market, base_quantums))
    least = min(size, parameters.position_notional_min)
    return least, min(max(size * parameters.position_portion_max_ppm // PPM, least), size)


def bankruptcy_quote(
    account: DydxAccount, markets: Mapping[str, DydxMarket], *, market: str, delta_base_quantums: int
) -> int:
    """Return what the account must receive (negative: may pay), in quote quantums, to be left with its share of zero.

    The change of its position takes with it net collateral in proportion to the maintenance margin that it frees.
    Rounded against the account.

    Raises
    ------
    LiquidationRefusedError : the change does not shrink the position, or nothing is required of the account.
    """
    held = _shrinking(account, market, delta_base_quantums)
    place = _market(markets, market)
    total = _required(dydx_margin(account, markets))
    before = position_margin(place, DydxPosition(market, held))
    after = position_margin(place, DydxPosition(market, held + delta_base_quantums))
    freed = before.maintenance_margin - after.maintenance_margin
    return before.notional - after.notional - total.net_collateral * freed // total.maintenance_margin


def fillable_price(
    account: DydxAccount,
    markets: Mapping[str, DydxMarket],
    *,
    market: str,
    delta_base_quantums: int,
    parameters: DydxParameters,
) -> Fraction:
    """Return the worst price at which a liquidation order may fill, in quote quantums per base quantum, exactly.

    It leaves the oracle price by a share of the position's maintenance margin that grows as net collateral falls.

    Raises
    ------
    LiquidationRefusedError : the change does not shrink the position, nothing is required of the account, or the price
        would be below zero.
    """
    held = _shrinking(account, market, delta_base_quantums)
    total = _required(dydx_margin(account, markets))
    position = position_margin(_market(markets, market), DydxPosition(market, held))
    missing = 1 - Fraction(total.net_collateral, total.maintenance_margin)
    rating = min(max(missing * Fraction(parameters.bankruptcy_adjustment_ppm, PPM), Fraction(0)), Fraction(1))
    spread = rating * Fraction(parameters.spread_to_maintenance_ppm, PPM) * position.maintenance_margin
    price = (position.notional - spread) / held
    if price < 0:
        raise LiquidationRefusedError(f"the fillable price of {market} would be below zero: {price}")
    return price


def insurance_fund_delta(
    account: DydxAccount,
    markets: Mapping[str, DydxMarket],
    *,
    market: str,
    is_buy: bool,
    fill_base_quantums: int,
    subticks: int,
    quantum_conversion_exponent: int,
    parameters: DydxParameters,
) -> DydxInsuranceFundDelta:
    """Return what a liquidation's fill pays to the insurance fund, or takes from it.

    Parameters
    ----------
    is_buy : whether the liquidated account buys.
    fill_base_quantums : >= 0.
    subticks, quantum_conversion_exponent : the fill's price: ``subticks`` * 10^exponent quote per base quantum.

    Raises
    ------
    LiquidationRefusedError : nothing is filled, or as ``bankruptcy_quote``.
    """
    if fill_base_quantums <= 0:
        raise LiquidationRefusedError(f"a fill of {fill_base_quantums} base quantums has no insurance fund delta")
    size = _scaled(fill_base_quantums * subticks, quantum_conversion_exponent)
    fill_quote = -size if is_buy else size
    change = fill_base_quantums if is_buy else -fill_base_quantums
    bankruptcy = bankruptcy_quote(account, markets, market=market, delta_base_quantums=change)
    surplus = fill_quote - bankruptcy
    fee_max = size * parameters.liquidation_fee_max_ppm // PPM
    return DydxInsuranceFundDelta(fill_quote, bankruptcy, surplus, fee_max, min(surplus, fee_max))


def _scaled(value: int, exponent: int) -> int:
    """Return ``value`` * 10^exponent for a value >= 0, truncated."""
    if abs(exponent) > _EXPONENT_MAX:
        raise ValueError(f"an exponent of {exponent} is out of range")
    power: int = 10 ** abs(exponent)
    return value * power if exponent >= 0 else value // power


def _ppm_up(value: int, ppm: int) -> int:
    """Return a share in parts per million of a value >= 0, rounded up."""
    return -(-value * ppm // PPM)


def _market(markets: Mapping[str, DydxMarket], market: str) -> DydxMarket:
    found = markets.get(market)
    if found is None:
        raise ValueError(f"no market is named {market!r}")
    return found


def _shrinking(account: DydxAccount, market: str, delta_base_quantums: int) -> int:
    """Return the position in a market; refuse a change that does not shrink it or that turns it over."""
    held = account.position(market)
    if held * delta_base_quantums >= 0 or abs(delta_base_quantums) > abs(held):
        raise LiquidationRefusedError(
            f"a change of {delta_base_quantums} does not shrink the {held} base quantums held of {market}"
        )
    return held


def _required(total: DydxMargin) -> DydxMargin:
    if total.maintenance_margin == 0:
        raise LiquidationRefusedError("an account without maintenance margin is not liquidated")
    return total
