"""A seeded book of accounts for a market that came without any. Everything here is synthetic, and named so.

1. Accounts are ``synthetic-000001`` and up; each has a style, one underlying, one margin model and one deposit.
2. Positions are opened by fills against ``house``, at the mark, on tick and lot, at one time.
3. Deposits are sized by the engine itself: the opening runs through intake, market and margin models, and each
   deposit is set so that equity is the wanted multiple of maintenance margin. One account in a hundred is put
   within ``NEAR`` of it.
4. The same tradables, count and seed give the same book.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from flows.intake.decode import Stream
from flows.intake.ledger import Intake
from flows.margin.registry import margin_models
from flows.market.step import Market
from flows.risk.book import Book
from flows.risk.step import Risk
from flows.screening.exhaustive import POLICY
from infra.imports.writer import arrange
from schemas.events import AccountOpened, Collateral, Event, Fill
from schemas.ids import FIRST_ACCOUNT_NUMBER, HOUSE
from schemas.ledger import Genesis, decode_frame
from schemas.money import from_units

SOURCE: Final = "synthetic"
NEAR: Final = 0.05
NEAR_SHARE: Final = 0.01
DECIMALS: Final = {"BTC": 8, "ETH": 8, "USDC": 6}
_SHARD_COUNT: Final = 1
# Deposits of the trial run are this multiple of the notional: enough that every net in the deposited asset is positive.
_TRIAL_MULTIPLE: Final = 20.0
# Median and spread (of the logarithm) of a position's notional, in USD.
_NOTIONAL_MEDIAN: Final = 60_000.0
_NOTIONAL_SPREAD: Final = 1.2
# The multiple of maintenance margin that equity starts at, less one: median and spread (of the logarithm).
_CUSHION_MEDIAN: Final = 10.0
_CUSHION_SPREAD: Final = 1.2
# Shares of accounts, or of a style's accounts.
_LONG: Final = 0.65
_HEDGED: Final = 0.3
_ONE_SIDED: Final = 0.2
_CALENDAR: Final = 0.3
_BOUGHT: Final = 0.5
_DELTA_HEDGED: Final = 0.4
_ON_PORTFOLIO_MARGIN: Final = 0.5
_DEPOSITS_COIN: Final = 0.7


@dataclass(frozen=True, slots=True)
class Tradable:
    """An instrument at the opening.

    ``price`` is on tick; ``lot_coins`` is how many coins of the underlying one lot stands for; ``deviations`` is how
    far out the strike is, in standard deviations to expiry (0 for perpetuals, whose ``option_type`` is None).
    """

    instrument: str
    underlying: str
    index: float
    price: str
    lot_coins: float
    option_type: str | None
    deviations: float
    expiry_ns: int | None
    lot_size: str


@dataclass(frozen=True, slots=True)
class SyntheticAccount:
    """An account, what it trades at the opening (tradable, signed lots), and its deposit in units."""

    account: str
    style: str
    margin_model: str
    asset: str
    multiple: float
    notional: float
    trades: tuple[tuple[Tradable, int], ...]
    units: int


@dataclass(frozen=True, slots=True)
class SyntheticBook:
    """The accounts, their events (unnumbered), and how many start within ``NEAR`` of maintenance margin."""

    accounts: list[SyntheticAccount]
    events: list[Event]
    near_maintenance: int
    seed: int


def synthetic_book(
    tradables: Sequence[Tradable], *, opening: Sequence[Event], opened_ns: int, accounts: int, seed: int
) -> SyntheticBook:
    """Return a book of ``accounts`` accounts.

    Parameters
    ----------
    opening : the market up to ``opened_ns``: listings, parameters and prices.
    opened_ns : when accounts open, deposit and trade.

    Raises
    ------
    ValueError : there is nothing to trade, or the opening cannot be evaluated.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    shelves = [_Shelf.of(tradables, underlying) for underlying in sorted({item.underlying for item in tradables})]
    if not shelves:
        raise ValueError("there is nothing to trade at the opening")
    drawn = [_draw(generator, shelves, number) for number in range(1, accounts + 1)]
    margins = _margins([*opening, *_events(drawn, opened_ns)])
    sized = [_sized(account, margins[account.account]) for account in drawn]
    multiples = [
        _multiple(account, trial, margins[account.account]) for account, trial in zip(sized, drawn, strict=True)
    ]
    near = sum(multiple <= 1.0 + NEAR for multiple in multiples)
    return SyntheticBook(accounts=sized, events=list(_events(sized, opened_ns)), near_maintenance=near, seed=seed)


# -- drawing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shelf:
    """What can be traded on one underlying: its perpetual, and options by expiry and side in rising strikes."""

    underlying: str
    perpetual: Tradable
    expiries: list[int]
    options: dict[tuple[int, str], list[Tradable]]

    @classmethod
    def of(cls, tradables: Sequence[Tradable], underlying: str) -> "_Shelf":
        own = [item for item in tradables if item.underlying == underlying]
        perpetual = next(item for item in own if item.option_type is None)
        options: dict[tuple[int, str], list[Tradable]] = {}
        for item in sorted(own, key=lambda item: (item.expiry_ns or 0, item.deviations)):
            if item.option_type is not None and item.expiry_ns is not None:
                options.setdefault((item.expiry_ns, item.option_type), []).append(item)
        expiries = sorted({expiry for expiry, _ in options if all((expiry, side) in options for side in _SIDES)})
        return cls(underlying, perpetual, expiries, options)

    def option(self, expiry_ns: int, side: str, deviations: float) -> Tradable:
        """Return the option of an expiry and side whose strike is nearest to ``deviations``."""
        return min(self.options[expiry_ns, side], key=lambda item: abs(item.deviations - deviations))


_SIDES: Final = ("call", "put")
_Trades = list[tuple[Tradable, float]]


def _directional(generator: np.random.Generator, shelf: _Shelf, expiry_ns: int) -> _Trades:
    """A leveraged perpetual, long more often than short, some with an option against the wrong move."""
    sign = 1.0 if generator.random() < _LONG else -1.0
    trades = [(shelf.perpetual, sign)]
    if generator.random() < _HEDGED:
        side = "put" if sign > 0.0 else "call"
        trades.append((shelf.option(expiry_ns, side, -sign * generator.uniform(0.5, 1.5)), 0.5))
    return trades


def _short_vol(generator: np.random.Generator, shelf: _Shelf, expiry_ns: int) -> _Trades:
    """A short strangle, some naked on one side."""
    naked = generator.random()
    trades: _Trades = []
    if naked < 1.0 - _ONE_SIDED:
        trades.append((shelf.option(expiry_ns, "put", -generator.uniform(0.3, 2.0)), -1.0))
    if naked > _ONE_SIDED:
        trades.append((shelf.option(expiry_ns, "call", generator.uniform(0.3, 2.0)), -1.0))
    return trades


def _spread(generator: np.random.Generator, shelf: _Shelf, expiry_ns: int) -> _Trades:
    """A vertical spread of calls or puts, sold or bought, or a calendar spread."""
    side = _SIDES[int(generator.integers(2))]
    outward = 1.0 if side == "call" else -1.0
    out = outward * generator.uniform(0.0, 1.0)
    sign = 1.0 if generator.random() < _BOUGHT else -1.0
    near = shelf.option(expiry_ns, side, out)
    later = shelf.expiries[shelf.expiries.index(expiry_ns) + 1 :]
    if generator.random() < _CALENDAR and later:
        return [(near, -sign), (shelf.option(later[0], side, out), sign)]
    far = shelf.option(expiry_ns, side, out + outward * generator.uniform(0.4, 1.2))
    # Where strikes are sparse both legs may fall on one: then it is an option alone.
    return [(near, sign)] if far == near else [(near, sign), (far, -sign)]


def _long_vol(generator: np.random.Generator, shelf: _Shelf, expiry_ns: int) -> _Trades:
    """A long strangle or straddle, some with a perpetual against its delta."""
    width = generator.uniform(0.0, 1.2)
    trades = [(shelf.option(expiry_ns, "put", -width), 1.0), (shelf.option(expiry_ns, "call", width), 1.0)]
    if generator.random() < _DELTA_HEDGED:
        trades.append((shelf.perpetual, generator.uniform(-0.4, 0.4)))
    return trades


_STYLES: Final[dict[str, tuple[float, Callable[[np.random.Generator, _Shelf, int], _Trades]]]] = {
    "directional": (0.35, _directional),
    "short-vol": (0.30, _short_vol),
    "spreads": (0.20, _spread),
    "long-vol": (0.15, _long_vol),
}


def _draw(generator: np.random.Generator, shelves: list[_Shelf], number: int) -> SyntheticAccount:
    shelf = shelves[int(generator.integers(len(shelves)))]
    style = list(_STYLES)[int(generator.choice(len(_STYLES), p=[share for share, _ in _STYLES.values()]))]
    expiry_ns = shelf.expiries[int(generator.integers(len(shelf.expiries)))]
    notional = _NOTIONAL_MEDIAN * float(np.exp(_NOTIONAL_SPREAD * generator.standard_normal()))
    coins = notional / shelf.perpetual.index
    lots: dict[Tradable, int] = {}
    for tradable, share in _STYLES[style][1](generator, shelf, expiry_ns):
        wanted = round(share * coins / tradable.lot_coins)
        # Too small for a whole lot is one lot: nobody trades nothing.
        lots[tradable] = lots.get(tradable, 0) + (wanted or (1 if share > 0.0 else -1))
    margin_model = "tidegate-portfolio" if generator.random() < _ON_PORTFOLIO_MARGIN else "tidegate-standard"
    asset = shelf.underlying if generator.random() < _DEPOSITS_COIN else "USDC"
    if generator.random() < NEAR_SHARE:
        multiple = 1.0 + NEAR * float(generator.random())
    else:
        multiple = 1.0 + NEAR + _CUSHION_MEDIAN * float(np.exp(_CUSHION_SPREAD * generator.standard_normal()))
    held = sum(abs(count) * item.lot_coins * item.index for item, count in lots.items())
    price = 1.0 if asset == "USDC" else shelf.perpetual.index
    return SyntheticAccount(
        account=f"synthetic-{number:06d}",
        style=style,
        margin_model=margin_model,
        asset=asset,
        multiple=multiple,
        notional=held,
        trades=tuple((item, count) for item, count in lots.items() if count),
        units=int(_TRIAL_MULTIPLE * held / price * 10 ** DECIMALS[asset]),
    )


# -- sizing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Margins:
    """An account after the trial deposit: numeraire, and what one unit of its deposit adds to equity."""

    equity: float
    maintenance: float
    unit_worth: float


def _margins(events: Sequence[Event]) -> dict[str, _Margins]:
    """Return the engine's own numbers of every customer account after the events."""
    models = margin_models()
    intake = Intake(Genesis(ledger_id="sizing"), shard_count=_SHARD_COUNT, margin_models=list(models))
    risk = Risk(
        Market(models), Book([0], shard_count=_SHARD_COUNT, models=list(models)), models=models, screening=POLICY
    )
    stream = Stream("sizing")
    arrivals = [(event, b"", stream, place, place) for place, event in enumerate(arrange(events), start=1)]
    risk.step(decode_frame(intake.genesis_frame()))
    for out in [*intake.step(arrivals), intake.finish()]:
        if out.dead_letters:
            first = out.dead_letters[0]
            raise ValueError(f"the opening is not valid: {first.reason.value}: {first.message}")
        for frame in out.frames:
            risk.step(decode_frame(frame))
    instant = risk.instant
    assert instant is not None, "an opening has frames"
    rows = risk.book.customer_rows
    numbers = risk.evaluate(rows)
    if numbers.undecidable.any():
        raise ValueError(f"{int(numbers.undecidable.sum())} accounts cannot be evaluated at the opening")
    listings = risk.market.listings
    worth = {
        asset.asset: float(instant.asset_unit[asset.index] * instant.asset_price[asset.index])
        * (1.0 - float(instant.haircut[asset.index]))
        for asset in listings.assets
    }
    deposited = {event.account: event.asset for event in events if isinstance(event, Collateral)}
    out_margins: dict[str, _Margins] = {}
    for place, row in enumerate(rows):
        account = listings.accounts[int(risk.book.account[row]) - FIRST_ACCOUNT_NUMBER].account
        out_margins[account] = _Margins(
            equity=float(numbers.equity[place]),
            maintenance=float(numbers.maintenance_margin[place]),
            unit_worth=worth[deposited[account]],
        )
    return out_margins


def _sized(account: SyntheticAccount, margins: _Margins) -> SyntheticAccount:
    """Return the account with the deposit that brings its equity to the wanted multiple of maintenance margin.

    Equity is linear in the deposit while the net in its asset stays positive; below one unit there is no deposit.
    """
    wanted = account.multiple * margins.maintenance
    units = account.units - int((margins.equity - wanted) / margins.unit_worth)
    return replace(account, units=max(units, 1))


def _multiple(sized: SyntheticAccount, trial: SyntheticAccount, margins: _Margins) -> float:
    """Return equity over maintenance margin after the final deposit; infinite where nothing is required."""
    equity = margins.equity - (trial.units - sized.units) * margins.unit_worth
    return equity / margins.maintenance if margins.maintenance > 0.0 else float("inf")


# -- events ----------------------------------------------------------------------------------------------------------


def _events(accounts: Sequence[SyntheticAccount], opened_ns: int) -> Iterator[Event]:
    for account in accounts:
        yield AccountOpened(
            event_id=f"open-{account.account}",
            event_time_ns=opened_ns,
            source=SOURCE,
            source_sequence=0,
            account=account.account,
            margin_model=account.margin_model,
            margin_mode="cross",
        )
        yield Collateral(
            event_id=f"deposit-{account.account}",
            event_time_ns=opened_ns,
            source=SOURCE,
            source_sequence=0,
            transfer_id=f"deposit-{account.account}",
            account=account.account,
            asset=account.asset,
            amount=from_units(account.units, DECIMALS[account.asset]),
            chain=SOURCE,
            status="confirmed",
        )
        for place, (tradable, lots) in enumerate(account.trades):
            buys = lots > 0
            yield Fill(
                event_id=f"fill-{account.account}-{place}",
                event_time_ns=opened_ns,
                source=SOURCE,
                source_sequence=0,
                fill_id=f"{account.account}-{place}",
                instrument=tradable.instrument,
                price=tradable.price,
                quantity=_quantity(abs(lots), tradable.lot_size),
                buyer=account.account if buys else HOUSE,
                seller=HOUSE if buys else account.account,
                buyer_fee="0",
                seller_fee="0",
            )


def _quantity(lots: int, lot_size: str) -> str:
    """Return a number of lots as contracts, exactly."""
    whole, _, decimals = lot_size.partition(".")
    return from_units(lots * int(whole + decimals), len(decimals))
