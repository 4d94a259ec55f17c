"""What exists, and what may happen to it: refusals by reason, and fills in exact numbers."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import (
    Event,
    FundingRate,
    InstrumentHalted,
    OracleForward,
    OracleRate,
    OracleVol,
    ParametersChanged,
    RulesChanged,
    SettlementPrice,
    Svi,
    VolPoint,
)
from schemas.ids import BRIDGE_NUMBER, HOUSE_NUMBER, shard_of
from schemas.ledger import (
    NO_INSTRUMENT,
    AccountRecord,
    AssetRecord,
    FundingRecord,
    InstrumentRecord,
    LegFlag,
    LegKind,
    ParametersRecord,
    SettlementRecord,
    VolPointsRecord,
    decode_frame,
)
from schemas.money import from_units
from tests.flows.intake.builders import (
    SECOND,
    START,
    an_intake,
    arrivals,
    event_account,
    event_asset,
    event_bust,
    event_fill,
    event_instrument,
    event_mark,
    event_open_orders,
    event_price,
    event_transfer,
    event_venue,
    event_withdrawal,
    frames_of,
    reasons_of,
    run,
)

DAY = 86_400 * SECOND


def _head(at: int, event_id: str) -> dict[str, Any]:
    return {"event_id": event_id, "event_time_ns": START + at, "source": "venue", "source_sequence": 1}


def _settle(at: int, price: str = "41000", **changes: Any) -> SettlementPrice:
    fields = _head(at, f"settle-{at}") | {"underlying": "BTC", "expiry_ns": START + DAY, "price": price}
    return SettlementPrice(**(fields | changes))


def _future(instrument: str = "BTC-FUT", **changes: Any) -> Event:
    return event_instrument(instrument, kind="future", expiry_ns=START + DAY, **changes)


def _option(instrument: str = "BTC-CALL", **changes: Any) -> Event:
    fields: dict[str, Any] = {"kind": "option", "strike": "40000", "option_type": "call", "expiry_ns": START + DAY}
    return event_instrument(instrument, **(fields | changes))


def _svi(**changes: str) -> OracleVol:
    fields = {
        "a": "0.1",
        "b": "0.2",
        "rho": "-0.3",
        "m": "0",
        "sigma": "0.1",
        "forward": "40000",
        "time_to_expiry": "1",
    }
    return OracleVol(**_head(1, "vol"), underlying="BTC", expiry_ns=START + DAY, svi=Svi(**(fields | changes)))


def _points(*points: tuple[str, str]) -> OracleVol:
    smile = [VolPoint(strike=strike, implied_vol=vol) for strike, vol in points]
    return OracleVol(**_head(1, "vol"), underlying="BTC", expiry_ns=START + DAY, points=smile)


def _halt(at: int, *, halted: bool) -> InstrumentHalted:
    return InstrumentHalted(**_head(at, f"halt-{at}"), instrument="BTC-PERP", halted=halted)


REFUSALS: list[tuple[str, list[Event]]] = [
    # listings
    ("already_listed", [event_asset("USDC", event_id="again")]),
    ("bad_value", [event_asset("X", decimals=9)]),
    ("already_listed", [event_instrument("BTC-PERP", event_id="again")]),
    ("unknown_asset", [event_instrument("X", settlement_asset="EUR")]),
    ("unknown_asset", [event_instrument("X", quote="EUR")]),
    ("unknown_asset", [event_instrument("X", kind="spot", underlying="ETH")]),
    ("bad_value", [event_instrument("X", kind="swap")]),
    ("bad_value", [event_instrument("X", payoff="cubic")]),
    ("bad_value", [event_instrument("X", tick_size="0")]),
    ("bad_value", [event_instrument("X", lot_size="-1")]),
    ("bad_value", [event_instrument("X", strike="1")]),
    ("bad_value", [event_instrument("X", expiry_ns=START + DAY)]),
    ("bad_value", [event_instrument("X", kind="future")]),
    ("bad_value", [_option("X", strike=None)]),
    ("bad_value", [_option("X", option_type="straddle")]),
    ("bad_value", [_option("X", expiry_ns=START - 1)]),
    ("time_out_of_range", [_option("X", expiry_ns=5)]),
    ("bad_value", [event_instrument("X", payoff="inverse")]),
    ("bad_value", [event_instrument("X", kind="spot", payoff="inverse", settlement_asset="BTC")]),
    ("bad_value", [event_instrument("X", kind="spot", lot_size="0.000000001")]),
    ("exponent_not_allowed", [event_instrument("X", tick_size="1e-3")]),
    ("already_opened", [event_account("alice", event_id="again")]),
    ("system_account", [event_account("house")]),
    ("unknown_margin_model", [event_account("dave", margin_model="span")]),
    ("bad_value", [event_account("dave", margin_mode="both")]),
    ("unknown_rules", [RulesChanged(**_head(1, "r"), rules=99)]),
    ("bad_parameters", [ParametersChanged(**_head(1, "p"), name="nonsense", parameters={})]),
    ("bad_parameters", [ParametersChanged(**_head(1, "p"), name="oracle", parameters={"sources_min": 0})]),
    # observations
    ("bad_value", [event_price(price="0")]),
    ("bad_value", [event_price(price="-1")]),
    ("bad_value", [event_price(confidence="-1")]),
    ("not_a_number", [event_price(price="nan")]),
    ("infinite_number", [event_price(price="Infinity")]),
    ("bad_amount", [event_price(price="1,5")]),
    ("amount_out_of_range", [event_price(price="1" * 25)]),
    ("bad_id", [event_price(feed="BTC USD")]),
    ("bad_value", [OracleForward(**_head(1, "f"), underlying="BTC", expiry_ns=START + DAY, forward="0")]),
    ("bad_value", [OracleRate(**_head(1, "r"), currency="USD", rate="10.1")]),
    ("unknown_instrument", [event_mark(instrument="ETH-PERP")]),
    ("bad_value", [_option(), event_mark(instrument="BTC-CALL")]),
    ("bad_value", [_option(), FundingRate(**_head(1, "f"), instrument="BTC-CALL", rate="0.1")]),
    ("bad_value", [_svi(b="-0.1")]),
    ("bad_value", [_svi(rho="1")]),
    ("bad_value", [_svi(sigma="0")]),
    ("bad_value", [_svi(a="-0.1")]),
    ("bad_value", [_svi(time_to_expiry="0")]),
    ("bad_value", [_points()]),
    ("bad_value", [_points(("2", "0.5"), ("2", "0.5"))]),
    ("bad_value", [_points(("2", "11"))]),
    ("bad_value", [_points(*[(str(strike), "0.5") for strike in range(1, 514)])]),
    ("bad_value", [OracleVol(**_head(1, "v"), underlying="BTC", expiry_ns=START + DAY)]),
    # fills
    ("unknown_account", [event_fill(buyer="dave")]),
    ("unknown_account", [event_fill(seller="dave")]),
    ("unknown_instrument", [event_fill(instrument="ETH-PERP")]),
    ("off_tick", [event_fill(price="40000.25")]),
    ("off_lot", [event_fill(quantity="0.0015")]),
    ("bad_value", [event_fill(quantity="0")]),
    ("bad_value", [event_fill(quantity="-0.01")]),
    ("bad_value", [event_fill(price="-0.5")]),
    ("too_many_decimals", [event_fill(buyer_fee="0.0000001")]),
    ("amount_out_of_range", [event_fill(quantity="9" * 24)]),
    ("amount_out_of_range", [event_fill(price="9" * 15, quantity="9" * 12)]),
    ("bad_id", [event_fill(fill_id="a b")]),
    ("bad_id", [event_fill(buyer="a b")]),
    ("self_trade", [event_fill(buyer="alice", seller="alice")]),
    ("self_trade", [event_fill(buyer="house", seller="house")]),
    ("system_account", [event_fill(buyer="fees")]),
    ("instrument_halted", [_halt(1, halted=True), event_fill(at=2)]),
    ("instrument_expired", [_future(), event_fill(at=DAY, instrument="BTC-FUT")]),
    ("instrument_settled", [_future(), _settle(DAY), event_mark(at=DAY + 1, instrument="BTC-FUT")]),
    ("instrument_settled", [_future(), _settle(DAY), _settle(DAY + 1)]),
    ("unknown_instrument", [_settle(DAY)]),
    ("bad_value", [_future(), _settle(DAY - 1)]),
    ("bad_value", [_future(), _settle(DAY, "0")]),
    ("amount_out_of_range", [_future(), _settle(DAY, "9" * 24)]),
    # busts
    ("unknown_fill", [event_bust("f-1")]),
    ("unknown_fill", [event_fill(1), event_bust("f-1", at=DAY + 1)]),
    (
        "instrument_settled",
        [_future(), event_fill(1, at=2, instrument="BTC-FUT"), _settle(DAY), event_bust("f-1", at=DAY + 1)],
    ),
    # open orders
    ("unknown_account", [event_open_orders(account="dave")]),
    ("unknown_instrument", [event_open_orders(instrument="ETH-PERP")]),
    ("bad_value", [event_open_orders(buys="-0.01")]),
    ("bad_value", [event_open_orders(sells="-0.01", account="dave")]),
    ("off_lot", [event_open_orders(buys="0.0015")]),
    ("off_lot", [event_open_orders(sells="0.0015")]),
    ("amount_out_of_range", [event_open_orders(sells="9" * 24)]),
    ("not_a_number", [event_open_orders(buys="nan")]),
    ("bad_id", [event_open_orders(account="a b")]),
    ("system_account", [event_open_orders(account="house")]),
    ("bad_value", [event_instrument("BTC-SPOT", kind="spot"), event_open_orders(at=1, instrument="BTC-SPOT")]),
    ("instrument_expired", [_future(), event_open_orders(at=DAY, instrument="BTC-FUT")]),
    ("instrument_expired", [_future(), _settle(DAY + 1), event_open_orders(at=DAY + 2, instrument="BTC-FUT")]),
    ("conflict", [event_open_orders(1), event_open_orders(2, at=1, event_id="orders.open-1", buys="0.01")]),
    # money
    ("unknown_account", [event_transfer(account="dave")]),
    ("system_account", [event_transfer(account="fees")]),
    ("unknown_asset", [event_transfer(asset="EUR")]),
    ("bad_value", [event_transfer(amount="0")]),
    ("bad_value", [event_transfer(status="lost")]),
    ("too_many_decimals", [event_transfer(amount="0.0000001")]),
    ("amount_out_of_range", [event_transfer(amount="9" * 20)]),
    ("bad_id", [event_transfer(chain="")]),
    ("transfer_status", [event_transfer(status="reverted")]),
    (
        "transfer_status",
        [event_transfer(1, transfer_id="t"), event_transfer(2, at=1, transfer_id="t", status="pending")],
    ),
    (
        "conflict",
        [event_transfer(1, transfer_id="t"), event_transfer(2, at=1, transfer_id="t", amount="1", status="reverted")],
    ),
    ("conflict", [event_transfer(1, transfer_id="t"), event_transfer(2, at=1, transfer_id="t", account="dave")]),
    ("bad_value", [event_withdrawal(amount="-1")]),
    ("conflict", [event_withdrawal(1, withdrawal_id="w"), event_withdrawal(2, at=1, withdrawal_id="w", amount="1")]),
]


@pytest.mark.parametrize(("reason", "events"), REFUSALS)
def test_a_refusal_has_its_reason(reason: str, events: list[Event]) -> None:
    """An event that should be refused gets through, or for another reason."""
    given = sorted(events, key=lambda event: event.event_time_ns)

    reasons = reasons_of(given)

    assert reasons == [reason]


def test_a_liquidation_fills_in_a_halted_instrument() -> None:
    """A halt must not keep the venue from closing what is under water."""
    events = [
        _halt(1, halted=True),
        event_fill(1, at=2, liquidation_id="l-1"),
        _halt(3, halted=False),
        event_fill(2, at=4),
    ]

    frames = frames_of(events)

    flags = [int(leg["flags"]) for frame in frames for leg in frame.legs]
    assert flags == [LegFlag.LIQUIDATION | LegFlag.BUYER, LegFlag.LIQUIDATION, LegFlag.BUYER, 0]


def test_listings_number_densely_and_resolve() -> None:
    """Later stages index columns by these numbers."""
    out = run(an_intake(), arrivals([*event_venue(), _option()]))

    records = [record for data in out.frames for record in decode_frame(data).market]

    assert [record.index for record in records if isinstance(record, AssetRecord)] == [0, 1]
    assert [record.number for record in records if isinstance(record, AccountRecord)] == [8, 9, 10]
    call = [record for record in records if isinstance(record, InstrumentRecord)][1]
    assert (call.index, call.settlement_asset, call.base_asset, call.strike) == (1, 0, -1, "40000")


def test_parameters_are_written_out_in_full() -> None:
    """A later release with other defaults must still read what this one meant."""
    event = ParametersChanged(**_head(1, "p"), name="ladder", parameters={"watch_multiple": 1.5})

    record = frames_of([event])[0].market[0]

    assert record == ParametersRecord("ladder", '{"watch_multiple":1.5,"takeover_multiple":0.6666666666666666}')


def test_market_events_become_records() -> None:
    """A value that changes on the way to the ledger would be decided by."""
    events = [
        _future(at=1),
        _points(("1", "0.5"), ("2", "0.6")),
        FundingRate(**_head(2, "fund"), instrument="BTC-PERP", rate="-0.0001"),
        _settle(DAY),
    ]

    records = [record for frame in frames_of(events) for record in frame.market]

    assert records[1:] == [
        VolPointsRecord("BTC", START + DAY, "venue", [1.0, 2.0], [0.5, 0.6], START + 1),
        FundingRecord(0, -0.0001, START + 2),
        SettlementRecord("BTC", START + DAY, "41000"),
    ]


def test_a_house_leg_lives_with_the_other_side() -> None:
    """A fill whose legs are in two shards' parts could not be netted by either."""
    event = event_fill(buyer="house", seller="bob")

    whole = frames_of([event])[0]
    out = run(an_intake(), arrivals([*event_venue(), event]))
    home = [decode_frame(data, {shard_of("bob", 16)}) for data in out.frames]

    assert whole.legs["account"].tolist() == [HOUSE_NUMBER, 9]
    assert whole.legs["counterparty"].tolist() == [9, HOUSE_NUMBER]
    assert sum(frame.legs.shape[0] for frame in home) == 2


def test_no_customer_gains_a_rounding_from_the_house() -> None:
    """A trader who picks prices would repeat it until it is worth something; between customers somebody always does."""
    inverse = event_instrument("BTC-USD-PERP", at=1, payoff="inverse", settlement_asset="BTC", lot_size="1")
    gains: dict[tuple[str, str], list[Fraction]] = {}
    for buyer, seller in (("alice", "bob"), ("alice", "house"), ("house", "bob")):
        fills = [
            event_fill(n, at=1 + n, instrument="BTC-USD-PERP", price=str(40_000 + n), quantity="1", **sides)
            for n in range(1, 60)
            for sides in [{"buyer": buyer, "seller": seller}]
        ]
        # A lot is 1 USD and a tick 0.5: a long's coins of 1e-8 are 2e8 over the ticks.
        gains[buyer, seller] = [
            int(leg["cash"]) - Fraction(int(leg["lots"]) * 2 * 10**8, int(leg["price_ticks"]))
            for frame in frames_of([inverse, *fills])
            for leg in frame.legs
            if leg["account"] != HOUSE_NUMBER
        ]

    assert max(gains["alice", "bob"]) > 0
    assert all(-1 < gain <= 0 for gain in gains["alice", "house"] + gains["house", "bob"])
    assert len(gains["alice", "house"]) == len(gains["house", "bob"]) == 59


def test_spot_moves_two_assets_and_no_lots() -> None:
    """A spot position is a balance of the base asset."""
    spot = event_instrument("BTC-SPOT", kind="spot", at=1, quote="USDC")
    fill = event_fill(at=2, instrument="BTC-SPOT", price="40000", quantity="0.5")

    legs = frames_of([spot, fill])[0].legs

    rows = list(
        zip(*(legs[name].tolist() for name in ("kind", "asset", "account", "lots", "cash", "fee")), strict=True)
    )
    assert rows == [
        (LegKind.FILL, 0, 8, 0, -20_000_000_000, 200_000),
        (LegKind.FILL, 0, 9, 0, 20_000_000_000, -50_000),
        (LegKind.SPOT_BASE, 1, 8, 0, 50_000_000, 0),
        (LegKind.SPOT_BASE, 1, 9, 0, -50_000_000, 0),
    ]


def test_a_bust_undoes_a_fill_once() -> None:
    """A fill that is undone twice, or in part, would make money."""
    spot = event_instrument("BTC-SPOT", kind="spot", at=1, quote="USDC")
    fills = [event_fill(1, at=2, instrument="BTC-SPOT"), event_fill(2, at=3)]
    busts = [event_bust("f-1", 1, at=4), event_bust("f-2", 2, at=5), event_bust("f-1", 3, at=6)]

    frames = frames_of([spot, *fills, *busts])

    legs = frames[0].legs
    undone = legs[legs["kind"] == LegKind.BUST]
    done = legs[legs["kind"] != LegKind.BUST]
    assert undone.shape == done.shape == (6,)
    for name in ("lots", "cash", "fee"):
        assert (undone[name] == -done[name]).all()
    for name in ("account", "asset", "instrument", "flags", "price_ticks", "counterparty"):
        assert (undone[name] == done[name]).all()


@pytest.mark.parametrize(
    ("statuses", "legs"),
    [
        (["pending"], [(LegKind.TRANSFER_PENDING, 1)]),
        (["confirmed"], [(LegKind.TRANSFER, 1)]),
        (["pending", "confirmed"], [(LegKind.TRANSFER_PENDING, 1), (LegKind.TRANSFER, 1)]),
        (["pending", "pending", "confirmed", "confirmed"], [(LegKind.TRANSFER_PENDING, 1), (LegKind.TRANSFER, 1)]),
        (["pending", "confirmed", "pending"], [(LegKind.TRANSFER_PENDING, 1), (LegKind.TRANSFER, 1)]),
        (["confirmed", "reverted"], [(LegKind.TRANSFER, 1), (LegKind.TRANSFER, -1)]),
        (["pending", "reverted"], [(LegKind.TRANSFER_PENDING, 1), (LegKind.TRANSFER_PENDING, -1)]),
        (["confirmed", "reverted", "confirmed"], [(LegKind.TRANSFER, 1), (LegKind.TRANSFER, -1)]),
    ],
)
def test_a_transfer_counts_once_when_confirmed(statuses: list[str], legs: list[tuple[LegKind, int]]) -> None:
    """A status that comes twice, under another event id, must not count twice."""
    events = [
        event_transfer(place, at=place, transfer_id="t", amount="-7", status=status)
        for place, status in enumerate(statuses)
    ]

    (frame,) = frames_of(events)

    assert list(zip(frame.legs["kind"].tolist(), frame.legs["cash"].tolist(), strict=True)) == [
        (kind, sign * -7_000_000) for kind, sign in legs
    ]
    assert set(frame.legs["counterparty"].tolist()) == {BRIDGE_NUMBER}
    assert set(frame.legs["instrument"].tolist()) == {NO_INSTRUMENT}


def test_open_orders_tell_both_sides() -> None:
    """A leg of open orders carries another number, side or account, or moves money."""
    (frame,) = frames_of([event_open_orders(1), event_open_orders(2, at=1, buys="0", sells="0.000")])

    legs = frame.legs
    assert legs["kind"].tolist() == [LegKind.OPEN_ORDERS] * 4
    assert legs["flags"].tolist() == [LegFlag.BUYER, 0] * 2
    assert legs["lots"].tolist() == [20, 30, 0, 0]
    assert legs["sequence"].tolist() == [0, 0, 1, 1]
    assert set(legs["account"].tolist()) == {8}
    assert set(legs["instrument"].tolist()) == {0}
    assert not legs["cash"].any() and not legs["fee"].any()
    assert frame.references == ["orders.open-1", "orders.open-2"]


def test_a_halted_instrument_has_open_orders_and_an_expired_one_may_be_cleared() -> None:
    """Orders rest while trading is halted; and that nothing is open any more is true whenever it comes."""
    nothing: dict[str, Any] = {"instrument": "BTC-FUT", "buys": "0", "sells": "0"}
    events = [
        _future(), _halt(1, halted=True), event_open_orders(1, at=2), event_open_orders(2, at=3, instrument="BTC-FUT"),
        event_open_orders(3, at=DAY, **nothing), _settle(DAY + 1), event_open_orders(4, at=DAY + 2, **nothing),
    ]  # fmt: skip

    assert reasons_of(events) == []


def test_open_orders_that_come_behind_their_expiry_are_refused() -> None:
    """Orders would stand in an instrument whose orders the book has dropped: their own time is earlier."""
    late = event_open_orders(at=2, instrument="BTC-FUT")

    reasons = reasons_of([_future(), event_price(at=DAY), late])

    assert reasons == ["instrument_expired"]


def test_an_isolated_account_has_open_orders_in_its_underlying_alone() -> None:
    """An order that could never fill is margined; or one that is gone cannot be taken back."""
    events = [
        event_account("iso", margin_mode="isolated", at=1), event_instrument("ETH-PERP", underlying="ETH", at=1),
        event_open_orders(1, at=2, account="iso", instrument="ETH-PERP"), event_fill(1, at=3, buyer="iso"),
        event_open_orders(2, at=4, account="iso", instrument="ETH-PERP"), event_open_orders(3, at=5, account="iso"),
        event_open_orders(4, at=6, account="iso", instrument="ETH-PERP", buys="0", sells="0"),
    ]  # fmt: skip

    assert reasons_of(events) == ["isolated_account"]


def test_an_isolated_account_stays_with_its_underlying() -> None:
    """An isolated account that trades a second underlying would not fail alone."""
    listed = [event_account("iso", margin_mode="isolated", at=1), event_instrument("ETH-PERP", underlying="ETH", at=1)]
    fills = [
        event_fill(1, at=2, buyer="iso", price="0.25"),
        event_fill(2, at=3, buyer="iso", instrument="ETH-PERP"),
        event_fill(3, at=4, seller="iso", buyer="bob"),
        event_fill(4, at=5, seller="iso", buyer="bob", instrument="ETH-PERP"),
    ]

    reasons = reasons_of([*listed, *fills])

    # The first fill was refused and bound nothing; the second binds to ETH.
    assert reasons == ["off_tick", "isolated_account"]


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["perpetual", "future", "option"]),
    inverse=st.booleans(),
    tick=st.sampled_from([1, 5, 25, 3]),
    lot=st.sampled_from([1, 10, 7]),
    multiplier=st.sampled_from([1, 10, 13]),
    ticks=st.integers(1, 10**6),
    lots=st.integers(1, 10**6),
)
def test_cash_is_rounded_once_and_closes(
    *, kind: str, inverse: bool, tick: int, lot: int, multiplier: int, ticks: int, lots: int
) -> None:
    """Cash differs from the exact product rounded half-even, or the two sides differ: money would appear."""
    is_option = kind == "option"
    instrument = event_instrument(
        "X", at=1, kind=kind, payoff="inverse" if inverse else "linear", multiplier=from_units(multiplier, 1),
        settlement_asset="BTC" if inverse else "USDC", tick_size=from_units(tick, 2), lot_size=from_units(lot, 3),
        strike="40000" if is_option else None, option_type="put" if is_option else None,
        expiry_ns=None if kind == "perpetual" else START + DAY,
    )  # fmt: skip
    fill = event_fill(
        at=2, instrument="X", price=from_units(ticks * tick, 2), quantity=from_units(lots * lot, 3), buyer_fee="0",
        seller_fee="0",
    )  # fmt: skip

    legs = frames_of([instrument, fill])[0].legs

    price, quantity = Fraction(ticks * tick, 100), Fraction(lots * lot, 1000) * Fraction(multiplier, 10)
    if inverse and not is_option:
        paid = -round(quantity / price * 10**8)
    else:
        paid = round(quantity * price * 10 ** (8 if inverse else 6))
    assert legs["cash"].tolist() == [-paid, paid]
    assert legs["lots"].tolist() == [lots, -lots]
    assert legs["price_ticks"].tolist() == [ticks, ticks]
