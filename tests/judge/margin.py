"""Requirements, judged plainly: one account, one position after the other.

1. ``tidegate-standard``: a rate of notional for each position by itself.
2. ``tidegate-portfolio``: for each underlying the worst of its scenarios, and contingencies; underlyings of an offset
   group give back a part of what they would lose less together; factors on the sum.
3. Both: what the confidence of an underlying's price may cost, and what is large against the depth of its market.
4. Both know the worst fills of open orders: per instrument the worst of none, all buys and all sells, in each scenario
   and for the size.
"""

from math import exp, sqrt
from typing import cast

from schemas.parameters import AddOnParameters, PortfolioParameters, StandardParameters
from tests.judge import derive
from tests.judge.derive import MARGINS_COLLATERAL
from tests.judge.market import Instrument, Market, Worth, black76, lot_value


def requirement(
    market: Market, model: str, positions: dict[int, int], cash: dict[int, int], *, narrow: bool
) -> tuple[float, float]:
    """Return initial and maintenance margin of an account's positions (instrument to lots) and cash (asset to units).

    Cash is for the models that margin collateral themselves.
    """
    if model in MARGINS_COLLATERAL:
        return derive.requirement(market, model, positions, cash, narrow=narrow)
    if model == "tidegate-standard":
        return standard(market, positions)
    assert model == "tidegate-portfolio", f"the judge knows no margin model {model!r}"
    return portfolio(market, positions)


def initial_with_open_orders(
    market: Market,
    model: str,
    positions: dict[int, int],
    cash: dict[int, int],
    open_orders: dict[int, tuple[int, int]],
    *,
    narrow: bool,
) -> float:
    """Return initial margin of our own models at the worst fills; of any other, of the worst of three books.

    Those are: as held, all (buys, sells) bought, all of them sold.
    """
    if model == "tidegate-standard":
        return standard(market, positions, open_orders)[0]
    if model == "tidegate-portfolio":
        return portfolio(market, positions, open_orders)[0]
    books = [positions]
    for side, sign in ((0, 1), (1, -1)):
        book = dict(positions)
        for instrument, told in open_orders.items():
            book[instrument] = book.get(instrument, 0) + sign * told[side]
        books.append({instrument: lots for instrument, lots in book.items() if lots})
    return max(requirement(market, model, book, cash, narrow=narrow)[0] for book in books)


Orders = dict[int, tuple[int, int]]


def _sizes(positions: dict[int, int], orders: Orders) -> dict[int, tuple[int, int, int]]:
    """Return what each instrument's position is and may become: as held, all bought, all sold."""
    return {
        index: (
            lots := positions.get(index, 0),
            lots + orders.get(index, (0, 0))[0],
            lots - orders.get(index, (0, 0))[1],
        )
        for index in sorted({*positions, *orders})
    }


def standard(market: Market, positions: dict[int, int], orders: Orders | None = None) -> tuple[float, float]:
    """Return the sums of the positions' own requirements; initial margin with the worst fills of open orders."""
    parameters = cast(StandardParameters, market.parameters["tidegate-standard"])

    def needed(sizes: dict[int, tuple[int, int, int]], which: int) -> float:
        total = concentration(market, parameters, sizes)
        for index, each in sizes.items():
            it, worth = market.instruments[index], market.worth[index]
            total += max(
                abs(lots) * _standard_per_lot(it, worth, parameters, is_long=lots > 0)[which]
                + confidence_charge(market, parameters, index, lots)
                for lots in each
            )
        return total

    return needed(_sizes(positions, orders or {}), 0), needed(_sizes(positions, {}), 1)


def confidence_charge(market: Market, parameters: AddOnParameters, index: int, lots: int) -> float:
    """Return what the confidence of its underlying's price asks of a position."""
    it, worth = market.instruments[index], market.worth[index]
    notional = 0.0 if it.kind == "spot" else abs(lots) * worth.notional
    return parameters.confidence_multiple * market.feed(it.underlying).confidence * notional


def concentration(market: Market, parameters: AddOnParameters, sizes: dict[int, tuple[int, int, int]]) -> float:
    """Return what is asked for notional that is large against its market, position by position at its largest."""
    gross: dict[str, float] = {}
    for index, each in sizes.items():
        it = market.instruments[index]
        if it.kind != "spot":
            lots = max(abs(size) for size in each)
            gross[it.underlying] = gross.get(it.underlying, 0.0) + lots * market.worth[index].notional
    asked = 0.0
    for underlying, notional in gross.items():
        if (depth := parameters.market_depth.get(underlying)) is not None and notional > depth:
            beyond = parameters.concentration_rate * (notional / depth - 1.0)
            asked += min(beyond, parameters.concentration_cap) * notional
    return asked


def _standard_per_lot(
    it: Instrument, worth: Worth, parameters: StandardParameters, *, is_long: bool
) -> tuple[float, float]:
    if it.kind == "spot" or worth.notional <= 0.0:
        return 0.0, 0.0
    if it.kind != "option":
        fallback = (parameters.linear_initial, parameters.linear_maintenance)
        initial_rate, maintenance_rate = parameters.linear_rates.get(it.underlying, fallback)
        return worth.notional * initial_rate, worth.notional * maintenance_rate
    value = worth.value * worth.asset_price
    if is_long:
        unlent = (1.0 - parameters.long_option_credit) * value
        return unlent, unlent
    strike = float(it.strike)
    outside = max(strike - worth.index if it.call else worth.index - strike, 0.0)
    initial = max(parameters.option_initial - outside / worth.index, parameters.option_initial_min) * worth.notional
    maintenance = parameters.option_maintenance * worth.notional
    if not it.call:
        maintenance = max(maintenance, parameters.option_maintenance * value)
        initial = max(initial, maintenance)
    return initial, maintenance


def portfolio(market: Market, positions: dict[int, int], orders: Orders | None = None) -> tuple[float, float]:
    """Return the factors' multiples of the base; of initial margin's with the worst fills of open orders."""
    parameters = cast(PortfolioParameters, market.parameters["tidegate-portfolio"])
    initial = _base(market, parameters, _sizes(positions, orders or {}))
    maintenance = _base(market, parameters, _sizes(positions, {}))
    return initial * parameters.initial_factor, maintenance * parameters.maintenance_factor


def _base(market: Market, parameters: PortfolioParameters, sizes: dict[int, tuple[int, int, int]]) -> float:
    """Return scenario losses by underlying, less what offset groups allow, with contingencies and add-ons."""
    losses: dict[str, list[float]] = {}
    base = concentration(market, parameters, sizes)
    for index, each in sizes.items():
        it, worth = market.instruments[index], market.worth[index]
        sums = losses.setdefault(it.underlying, [0.0] * len(parameters.scenarios))
        for place, profit in enumerate(_scenario_profits(it, worth, parameters)):
            sums[place] -= min(lots * profit for lots in each)
        base += max(
            _contingency(it, worth, parameters, lots) + confidence_charge(market, parameters, index, lots)
            for lots in each
        )
    base += sum(max(0.0, *sums) for sums in losses.values())
    for group in parameters.offset_groups:
        inside = [sums for underlying, sums in losses.items() if underlying in group.underlyings]
        apart = sum(max(0.0, *sums) for sums in inside)
        together = max(0.0, *(sum(scenario) for scenario in zip(*inside, strict=True))) if inside else 0.0
        if (correlation := group.correlation - group.stress) > 0.0:
            base -= (1.0 - sqrt((1.0 - correlation) / 2.0)) * (apart - together)
    return base


def _contingency(it: Instrument, worth: Worth, parameters: PortfolioParameters, lots: int) -> float:
    if it.kind == "option":
        return max(-lots, 0) * worth.notional * parameters.short_option_contingency
    return 0.0 if it.kind == "spot" else abs(lots) * worth.notional * parameters.linear_contingency


_profits: dict[tuple[Instrument, Worth], tuple[PortfolioParameters, list[float]]] = {}


def _scenario_profits(it: Instrument, worth: Worth, parameters: PortfolioParameters) -> list[float]:
    """Return ``_profits_of``, which many accounts ask for at one instant; what was priced before is forgotten."""
    known = _profits.get((it, worth))
    if known is not None and known[0] is parameters:
        return known[1]
    if len(_profits) > 1_000:
        _profits.clear()
    profits = _profits_of(it, worth, parameters)
    _profits[it, worth] = parameters, profits
    return profits


def _profits_of(it: Instrument, worth: Worth, parameters: PortfolioParameters) -> list[float]:
    """Return a long lot's weighted profit in numeraire under each scenario."""
    if it.kind == "spot" or (worth.forward <= 0.0 and worth.mark <= 0.0):
        return [0.0] * len(parameters.scenarios)
    lot, profits = float(it.lot), []
    days = worth.time * 365.0
    power = parameters.vol_power_short if days <= 30.0 else parameters.vol_power_long
    stretch = (30.0 / max(days, parameters.vol_days_min)) ** power
    vol_multiple = {
        1: 1.0 + parameters.vol_up * stretch,
        0: 1.0,
        -1: max(1.0 - parameters.vol_down * stretch, 0.0),
    }
    for spot_multiple, direction, weight in parameters.scenarios:
        if it.kind == "option":
            total_vol = worth.vol * sqrt(worth.time)
            shocked = worth.forward * spot_multiple
            after = black76(shocked, float(it.strike), total_vol * vol_multiple[direction], call=it.call)
            before = black76(worth.forward, float(it.strike), total_vol, call=it.call)
            if it.inverse:
                gain = lot * (after / shocked - before / worth.forward)
            else:
                gain = lot * exp(-worth.rate * worth.time) * (after - before)
        else:
            gain = lot_value(lot, worth.mark * spot_multiple, inverse=it.inverse) - lot_value(
                lot, worth.mark, inverse=it.inverse
            )
        profits.append(gain * worth.asset_price * weight)
    return profits
