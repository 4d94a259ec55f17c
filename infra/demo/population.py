"""The demo's accounts: who they are, what they deposit, what book they want.

1. An account wants a *target* of lots in a few instruments, sized by its equity and its temper; what trades, and
   when, is decided elsewhere. Targets keep leverage within what initial margin allows.
2. An isolated account wants instruments of one underlying only, and holds their settlement asset.
3. Makers are few, rich and neutral: they take the other side, and lay it off.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np

from infra.demo.portable import Float64Array, generator
from infra.demo.venue import ASSET_INDEX, ASSETS, UNDERLYINGS, Listing
from schemas.instruments import InstrumentKind, MarginMode


class Temper(Enum):
    """How an account trades."""

    MAKER = "maker"
    HOLDER = "holder"
    TRADER = "trader"
    SHORT_SELLER = "short seller"
    COIN_HEDGER = "coin hedger"
    OPTION_BUYER = "option buyer"
    OPTION_SELLER = "option seller"
    SPREADER = "spreader"


_TEMPERS: Final = (
    (0.30, Temper.HOLDER),
    (0.20, Temper.TRADER),
    (0.12, Temper.SHORT_SELLER),
    (0.08, Temper.COIN_HEDGER),
    (0.12, Temper.OPTION_BUYER),
    (0.10, Temper.OPTION_SELLER),
    (0.08, Temper.SPREADER),
)
# Equity in USD, before a spread of 0.6 to 1.6.
_SIZES: Final = (1_000.0, 2_000.0, 5_000.0, 5_000.0, 10_000.0, 10_000.0, 25_000.0, 60_000.0, 150_000.0, 400_000.0)
_MAKER_EQUITY: Final = 25_000_000.0
_ACCOUNTS_PER_MAKER: Final = 100
_LATE_SHARE: Final = 0.08
_ISOLATED_SHARE: Final = 0.2
STANDARD: Final = "tidegate-standard"
PORTFOLIO: Final = "tidegate-portfolio"


@dataclass(frozen=True, slots=True)
class Member:
    """One account as planned.

    ``joins`` is the fraction of the day at which it opens (0: at the start); ``units`` of ``asset`` is its first
    deposit; ``targets`` are (instrument, signed lots).
    """

    account: str
    temper: Temper
    margin_model: str
    margin_mode: MarginMode
    joins: float
    asset: str
    units: int
    targets: tuple[tuple[int, int], ...]


def population(
    *, seed: int, accounts: int, listed: list[Listing], unit_value: Float64Array, spot: Float64Array
) -> list[Member]:
    """Return the accounts in the order of their ids.

    Parameters
    ----------
    unit_value : (K,), USD that one lot costs at the start, > 0 (an inverse one: its size in USD)
    spot : (u,), USD per underlying at the start
    """
    random = generator(seed, 10)
    market = _Market.of(listed, unit_value, spot)
    makers = max(accounts // _ACCOUNTS_PER_MAKER, 1)
    return [_member(number, random, market, is_maker=number < makers) for number in range(accounts)]


@dataclass(frozen=True, slots=True)
class _Market:
    """What targets are chosen from.

    ``linears[u]`` is the perpetual and the last future of an underlying, ``options[u, expiry, is_call]`` its chain,
    strikes rising.
    """

    unit_value: Float64Array
    usd_per_lot: list[float]
    spot: Float64Array
    linears: list[tuple[int, int]]
    options: dict[tuple[int, int, bool], list[int]]

    @classmethod
    def of(cls, listed: list[Listing], unit_value: Float64Array, spot: Float64Array) -> "_Market":
        """Return the market of these listings at the start."""
        linears: list[tuple[int, int]] = []
        options: dict[tuple[int, int, bool], list[int]] = {}
        for underlying in range(len(UNDERLYINGS)):
            own = [(at, one) for at, one in enumerate(listed) if one.underlying == underlying and not one.inverse]
            futures = [(one.expiry, at) for at, one in own if one.kind is InstrumentKind.FUTURE]
            perpetuals = [at for at, one in own if one.kind is InstrumentKind.PERPETUAL]
            linears.append((perpetuals[0], max(futures)[1]))
            for at, one in own:
                if one.kind is InstrumentKind.OPTION:
                    options.setdefault((underlying, one.expiry, one.is_call), []).append(at)
        usd_per_lot = [one.quantity_per_lot * (1.0 if one.inverse else float(spot[one.underlying])) for one in listed]
        return cls(unit_value=unit_value, usd_per_lot=usd_per_lot, spot=spot, linears=linears, options=options)

    def lots(self, instrument: int, usd: float) -> int:
        """Return the whole lots whose underlying is worth ``usd``."""
        return int(usd / self.usd_per_lot[instrument])


def _member(number: int, random: np.random.Generator, market: _Market, *, is_maker: bool) -> Member:
    # The same draws for every account, so that one account's temper never shifts another's numbers.
    temper_draw, size_draw, spread, late, mode, model, coin, *draws = random.random(15).tolist()
    account = f"maker-{number + 1:03d}" if is_maker else f"account-{number + 1:06d}"
    if is_maker:
        return Member(account, Temper.MAKER, PORTFOLIO, MarginMode.CROSS, 0.0, "USDC", int(_MAKER_EQUITY * 1e6), ())
    temper = Temper.SPREADER
    for share, candidate in _TEMPERS:
        if temper_draw < share:
            temper = candidate
            break
        temper_draw -= share
    equity = _SIZES[int(size_draw * len(_SIZES))] * (0.6 + spread)
    isolated = mode < _ISOLATED_SHARE and temper is not Temper.SPREADER
    portfolio = temper is Temper.SPREADER or model < 0.15
    asset = _collateral(temper, coin, isolated=isolated)
    decimals = dict(ASSETS)[asset]
    price = 1.0 if ASSET_INDEX[asset] < 2 else float(market.spot[ASSET_INDEX[asset] - 2])
    # Whole hundredths of the asset for coins and whole amounts for dollars, as people deposit.
    step = 10.0**decimals if price == 1.0 else 10.0 ** (decimals - 3)
    units = int(max(round(equity / price * 10.0**decimals / step), 1) * step)
    equity = units / 10.0**decimals * price
    return Member(
        account=account,
        temper=temper,
        margin_model=PORTFOLIO if portfolio else STANDARD,
        margin_mode=MarginMode.ISOLATED if isolated else MarginMode.CROSS,
        joins=0.0 if late >= _LATE_SHARE else 0.02 + 0.6 * (late / _LATE_SHARE),
        asset=asset,
        units=units,
        targets=_merged(_targets(temper, equity, draws, market, portfolio=portfolio, isolated=isolated)),
    )


def _merged(wanted: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return one target an instrument, without those that come to nothing."""
    lots_of: dict[int, int] = {}
    for instrument, lots in wanted:
        lots_of[instrument] = lots_of.get(instrument, 0) + lots
    return tuple((instrument, lots) for instrument, lots in lots_of.items() if lots != 0)


def _collateral(temper: Temper, coin: float, *, isolated: bool) -> str:
    """Return the asset of the first deposit."""
    if temper is Temper.COIN_HEDGER:
        return "BTC"
    if isolated or coin < 0.7:
        return "USDC"
    if coin < 0.8:
        return "USDT"
    return "BTC" if coin < 0.9 else "ETH"


def _targets(
    temper: Temper, equity: float, draws: list[float], market: _Market, *, portfolio: bool, isolated: bool
) -> list[tuple[int, int]]:
    """Return (instrument, lots) wanted; zero lots where the equity does not reach for one."""
    first, leverage, split, place, expiry_draw, side, second, _ = draws
    underlying = 0 if first < 0.6 else 1
    other = underlying if isolated or second < 0.5 else 1 - underlying
    perpetual, future = market.linears[underlying]
    # Scenario margin of a naked position is some 20 % of it, against 4 to 5 % by rate.
    reach = 0.55 if portfolio else 1.0
    expiry = 0 if expiry_draw < 0.3 else 1 if expiry_draw < 0.7 else 2
    match temper:
        case Temper.HOLDER:
            size = equity * (0.3 + 1.6 * leverage) * reach
            parts = [(perpetual if side < 0.7 else future, split), (market.linears[other][0], 1.0 - split)]
            return [(instrument, market.lots(instrument, size * share)) for instrument, share in parts]
        case Temper.TRADER:
            size = equity * (2.2 + 3.6 * leverage * leverage) * reach
            parts = [(perpetual, 0.5 + 0.5 * split), (market.linears[other][side > 0.8], 0.5 - 0.5 * split)]
            return [(instrument, market.lots(instrument, size * share)) for instrument, share in parts]
        case Temper.SHORT_SELLER:
            size = equity * (0.4 + 3.0 * leverage) * reach
            return [(perpetual if side < 0.8 else future, -market.lots(perpetual, size))]
        case Temper.COIN_HEDGER:
            # Short about what the coins are worth, or long on top of them.
            size = equity * (-1.0 + 0.3 * split if side < 0.5 else 0.2 + 2.2 * leverage * reach)
            lots = market.lots(2, abs(size))
            return [(2, -lots if size < 0.0 else lots)]
        case Temper.OPTION_BUYER:
            options = market.options[underlying, expiry, side < 0.45]
            instrument = options[2 + int(place * (len(options) - 4))]
            premium = equity * (0.03 + 0.35 * leverage)
            # A premium of almost nothing would buy more contracts than anybody sells.
            lots = min(int(premium / float(market.unit_value[instrument])), market.lots(instrument, 8.0 * equity))
            hedge = market.lots(perpetual, equity * 0.5 * split)
            return [(instrument, lots), (perpetual, hedge if side >= 0.45 else -hedge)]
        case Temper.OPTION_SELLER:
            puts = market.options[underlying, expiry, False]
            calls = market.options[underlying, expiry, True]
            size = equity * (0.7 + 5.0 * leverage) * reach
            put, call = puts[2 + int(place * 3)], calls[-2 - int(place * 3)]
            return [
                (put, -market.lots(put, size * (0.4 + 0.6 * split))),
                (call, -market.lots(call, size * (0.6 - 0.6 * split))),
            ]
        case Temper.SPREADER:
            puts = market.options[underlying, max(expiry, 1), False]
            calls = market.options[other, max(expiry, 1), True]
            size = equity * (0.5 + 5.0 * leverage)
            return [
                (puts[3], market.lots(puts[3], size)),
                (puts[1], -market.lots(puts[1], size * 0.8)),
                (calls[-2], -market.lots(calls[-2], 0.4 * size * split)),
                (market.linears[other][0], market.lots(market.linears[other][0], 0.4 * size * split)),
            ]
        case Temper.MAKER:
            return []
