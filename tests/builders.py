"""Events with sensible defaults: ``a_fill(price="51000")`` says only what its test is about.

Everything fits together: the default fill trades the default perpetual between two accounts that ``an_account`` opens
under those names, at the default time. Ids are derived from ``number``; give each event of a source its own.
"""

from typing import Any, Final

from schemas.events import (
    AccountOpened,
    AssetListed,
    Collateral,
    Event,
    Fill,
    FillBusted,
    FundingRate,
    InstrumentHalted,
    InstrumentListed,
    MarkPrice,
    OracleForward,
    OraclePrice,
    OracleRate,
    OracleVol,
    OrdersOpen,
    ParametersChanged,
    RulesChanged,
    SettlementPrice,
    Svi,
    VolPoint,
    WithdrawalRequested,
)

SECOND_NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * SECOND_NS
# 2026-03-13 00:00 UTC, and the expiry of dated builders: a week later, 08:00.
TIME_NS: Final = 1_773_360_000 * SECOND_NS
EXPIRY_NS: Final = TIME_NS + 7 * DAY_NS + 8 * 3_600 * SECOND_NS


def _named(source: str, number: int, time_ns: int) -> dict[str, Any]:
    return {
        "event_id": f"{source}-{number}",
        "event_time_ns": time_ns,
        "source": source,
        "source_sequence": number,
    }


def an_asset(asset: str = "USDC", decimals: int = 6, *, number: int = 1, time_ns: int = TIME_NS) -> AssetListed:
    """Return the listing of an asset."""
    return AssetListed(**_named("listings", number, time_ns), asset=asset, decimals=decimals)


def a_perpetual(
    instrument: str = "BTC-PERP", *, number: int = 11, time_ns: int = TIME_NS, **changes: Any
) -> InstrumentListed:
    """Return the listing of a linear perpetual: USDC-settled, tick 0.5, lot 0.001."""
    return _an_instrument(instrument, "perpetual", number, time_ns, changes)


def an_inverse_perpetual(
    instrument: str = "BTC-USD-PERP", *, number: int = 12, time_ns: int = TIME_NS, **changes: Any
) -> InstrumentListed:
    """Return the listing of an inverse perpetual: one lot is 10 USD, settled in BTC."""
    inverse = {"payoff": "inverse", "quote": "USD", "settlement_asset": "BTC", "lot_size": "10"}
    return _an_instrument(instrument, "perpetual", number, time_ns, inverse | changes)


def a_future(
    instrument: str = "BTC-20MAR26", *, number: int = 13, time_ns: int = TIME_NS, **changes: Any
) -> InstrumentListed:
    """Return the listing of a linear future that expires at ``EXPIRY_NS``."""
    return _an_instrument(instrument, "future", number, time_ns, {"expiry_ns": EXPIRY_NS} | changes)


def an_option(
    instrument: str = "BTC-20MAR26-50000-C", *, number: int = 14, time_ns: int = TIME_NS, **changes: Any
) -> InstrumentListed:
    """Return the listing of a linear call, strike 50000, tick 1, lot 0.01."""
    option = {"strike": "50000", "option_type": "call", "expiry_ns": EXPIRY_NS, "tick_size": "1", "lot_size": "0.01"}
    return _an_instrument(instrument, "option", number, time_ns, option | changes)


def a_spot(
    instrument: str = "BTC/USDC", *, number: int = 15, time_ns: int = TIME_NS, **changes: Any
) -> InstrumentListed:
    """Return the listing of a spot pair."""
    return _an_instrument(instrument, "spot", number, time_ns, changes)


def _an_instrument(instrument: str, kind: str, number: int, time_ns: int, changes: dict[str, Any]) -> InstrumentListed:
    fields = {
        "kind": kind,
        "underlying": "BTC",
        "quote": "USDC",
        "settlement_asset": "USDC",
        "payoff": "linear",
        "multiplier": "1",
        "tick_size": "0.5",
        "lot_size": "0.001",
    } | changes
    return InstrumentListed(**_named("listings", number, time_ns), instrument=instrument, **fields)


def an_account(
    account: str = "alice",
    *,
    margin_model: str = "tidegate-standard",
    margin_mode: str = "cross",
    number: int = 1,
    time_ns: int = TIME_NS,
) -> AccountOpened:
    """Return the opening of an account."""
    return AccountOpened(
        **_named("accounts", number, time_ns), account=account, margin_model=margin_model, margin_mode=margin_mode
    )


def a_halt(
    instrument: str = "BTC-PERP", *, halted: bool = True, number: int = 1, time_ns: int = TIME_NS
) -> InstrumentHalted:
    """Return a halt, or its end."""
    return InstrumentHalted(**_named("halts", number, time_ns), instrument=instrument, halted=halted)


def a_rules_change(rules: int = 1, *, number: int = 1, time_ns: int = TIME_NS) -> RulesChanged:
    """Return a change of the engine's rules."""
    return RulesChanged(**_named("operator", number, time_ns), rules=rules)


def a_parameters_change(
    name: str = "collateral",
    parameters: dict[str, Any] | None = None,
    *,
    number: int = 1,
    time_ns: int = TIME_NS,
) -> ParametersChanged:
    """Return a parameter set, of defaults where none is given."""
    chosen = {} if parameters is None else parameters
    return ParametersChanged(**_named("operator", number, time_ns), name=name, parameters=chosen)


def a_price(
    price: str = "50000",
    *,
    feed: str = "BTC/USD",
    confidence: str = "5",
    source: str = "atlas",
    publish_time_ns: int | None = None,
    number: int = 1,
    time_ns: int = TIME_NS,
) -> OraclePrice:
    """Return one source's price, published as it arrives unless said otherwise."""
    return OraclePrice(
        **_named(source, number, time_ns),
        feed=feed,
        price=price,
        confidence=confidence,
        publish_time_ns=time_ns if publish_time_ns is None else publish_time_ns,
    )


def a_forward(
    forward: str = "50100",
    *,
    underlying: str = "BTC",
    expiry_ns: int = EXPIRY_NS,
    number: int = 1,
    time_ns: int = TIME_NS,
) -> OracleForward:
    """Return the forward of an expiry."""
    return OracleForward(
        **_named("forwards", number, time_ns), underlying=underlying, expiry_ns=expiry_ns, forward=forward
    )


def a_smile(
    *, underlying: str = "BTC", expiry_ns: int = EXPIRY_NS, number: int = 1, time_ns: int = TIME_NS, **changes: str
) -> OracleVol:
    """Return a raw SVI smile of about 60 % at the money."""
    parameters = {
        "a": "0.004",
        "b": "0.03",
        "rho": "-0.3",
        "m": "0",
        "sigma": "0.1",
        "forward": "50100",
        "time_to_expiry": "0.02",
    } | changes
    return OracleVol(
        **_named("smiles", number, time_ns), underlying=underlying, expiry_ns=expiry_ns, svi=Svi(**parameters)
    )


def quoted_vols(
    points: tuple[tuple[str, str], ...] = (("40000", "0.7"), ("50000", "0.6"), ("60000", "0.65")),
    *,
    underlying: str = "BTC",
    expiry_ns: int = EXPIRY_NS,
    number: int = 1,
    time_ns: int = TIME_NS,
) -> OracleVol:
    """Return a smile of quoted (strike, implied vol) points."""
    return OracleVol(
        **_named("quotes", number, time_ns),
        underlying=underlying,
        expiry_ns=expiry_ns,
        points=[VolPoint(strike=strike, implied_vol=implied_vol) for strike, implied_vol in points],
    )


def a_rate(rate: str = "0.04", *, currency: str = "USD", number: int = 1, time_ns: int = TIME_NS) -> OracleRate:
    """Return an interest rate."""
    return OracleRate(**_named("rates", number, time_ns), currency=currency, rate=rate)


def a_mark(price: str = "50010", *, instrument: str = "BTC-PERP", number: int = 1, time_ns: int = TIME_NS) -> MarkPrice:
    """Return a mark price."""
    return MarkPrice(**_named("marks", number, time_ns), instrument=instrument, price=price)


def a_funding_rate(
    rate: str = "0.0001", *, instrument: str = "BTC-PERP", number: int = 1, time_ns: int = TIME_NS
) -> FundingRate:
    """Return a funding payment that falls due."""
    return FundingRate(**_named("funding", number, time_ns), instrument=instrument, rate=rate)


def a_settlement_price(
    price: str = "50500",
    *,
    underlying: str = "BTC",
    expiry_ns: int = EXPIRY_NS,
    number: int = 1,
    time_ns: int = EXPIRY_NS,
) -> SettlementPrice:
    """Return the price at which an expiry pays out, at its expiry unless said otherwise."""
    return SettlementPrice(
        **_named("settlements", number, time_ns), underlying=underlying, expiry_ns=expiry_ns, price=price
    )


def a_transfer(
    amount: str = "1000",
    *,
    account: str = "alice",
    asset: str = "USDC",
    status: str = "confirmed",
    transfer_id: str | None = None,
    chain: str = "ethereum",
    number: int = 1,
    time_ns: int = TIME_NS,
) -> Collateral:
    """Return a confirmed deposit; a negative amount is money that left."""
    return Collateral(
        **_named("watcher", number, time_ns),
        transfer_id=f"transfer-{number}" if transfer_id is None else transfer_id,
        account=account,
        asset=asset,
        amount=amount,
        chain=chain,
        status=status,
    )


def a_fill(
    price: str = "50000",
    quantity: str = "0.1",
    *,
    instrument: str = "BTC-PERP",
    buyer: str = "alice",
    seller: str = "bob",
    buyer_fee: str = "0",
    seller_fee: str = "0",
    fill_id: str | None = None,
    liquidation_id: str | None = None,
    number: int = 1,
    time_ns: int = TIME_NS,
) -> Fill:
    """Return a trade of 0.1 BTC between alice, who buys, and bob."""
    return Fill(
        **_named("matching", number, time_ns),
        fill_id=f"fill-{number}" if fill_id is None else fill_id,
        instrument=instrument,
        price=price,
        quantity=quantity,
        buyer=buyer,
        seller=seller,
        buyer_fee=buyer_fee,
        seller_fee=seller_fee,
        liquidation_id=liquidation_id,
    )


def a_bust(fill_id: str = "fill-1", *, number: int = 1, time_ns: int = TIME_NS) -> FillBusted:
    """Return the undoing of a fill."""
    return FillBusted(**_named("busts", number, time_ns), fill_id=fill_id)


def open_orders(
    buys: str = "0",
    sells: str = "0",
    *,
    account: str = "alice",
    instrument: str = "BTC-PERP",
    number: int = 1,
    time_ns: int = TIME_NS,
) -> OrdersOpen:
    """Return what is left of an account's open orders in an instrument."""
    return OrdersOpen(
        **_named("orders", number, time_ns), account=account, instrument=instrument, buys=buys, sells=sells
    )


def a_withdrawal(
    amount: str = "100",
    *,
    account: str = "alice",
    asset: str = "USDC",
    withdrawal_id: str | None = None,
    number: int = 1,
    time_ns: int = TIME_NS,
) -> WithdrawalRequested:
    """Return a request for collateral."""
    return WithdrawalRequested(
        **_named("requests", number, time_ns),
        withdrawal_id=f"withdrawal-{number}" if withdrawal_id is None else withdrawal_id,
        account=account,
        asset=asset,
        amount=amount,
    )


def a_venue(time_ns: int = TIME_NS) -> list[Event]:
    """Return what most tests begin with: USDC and BTC, the perpetual, alice and bob with 10,000 USDC, a price."""
    return [
        an_asset("USDC", 6, number=1, time_ns=time_ns),
        an_asset("BTC", 8, number=2, time_ns=time_ns),
        a_perpetual(time_ns=time_ns),
        an_account("alice", number=1, time_ns=time_ns),
        an_account("bob", number=2, time_ns=time_ns),
        a_price(time_ns=time_ns),
        a_price("1", feed="USDC/USD", confidence="0", number=2, time_ns=time_ns),
        a_transfer("10000", account="alice", number=1, time_ns=time_ns),
        a_transfer("10000", account="bob", number=2, time_ns=time_ns),
    ]
