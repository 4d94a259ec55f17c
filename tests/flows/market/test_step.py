"""The market step: instants as functions of the ledger."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.market.assets import AssetColumns
from flows.market.columns import InstrumentColumns
from flows.market.instant import CashPerLot
from flows.market.listings import resolve_instrument
from flows.market.step import Market
from schemas.checkpoint import CheckpointError
from schemas.ledger import (
    AccountRecord,
    AssetRecord,
    Frame,
    FrameKind,
    FundingRecord,
    HaltRecord,
    InstrumentRecord,
    LedgerError,
    MarketRecord,
    RateRecord,
    RulesRecord,
    SettlementRecord,
    VolPointsRecord,
)
from tests.flows.market.builders import (
    DAY,
    a_dollar,
    a_forward,
    a_frame,
    a_mark,
    a_price,
    a_smile,
    a_venue,
    an_instrument,
    an_option,
    at,
    differences,
    some_parameters,
)
from tests.flows.pricing import plain

MODELS = ("tidegate-standard", "tidegate-portfolio")


def _market(*instruments: InstrumentRecord, parameters: dict[str, object] | None = None) -> Market:
    market = Market()
    market.step(a_frame(*a_venue(*instruments, accounts=MODELS)))
    if parameters:
        market.step(a_frame(some_parameters("oracle", **parameters)))
    return market


# -- values ----------------------------------------------------------------------------------------------------------


def test_before_any_price_nothing_is_decidable() -> None:
    """Unknown must not look like zero."""
    instant = Market().step(a_frame(*a_venue(an_instrument(0))))

    assert instant.value_decidable.tolist() == [False]
    assert instant.asset_decidable.tolist() == [False, False]
    assert instant.everything_moved


def test_a_perpetual_is_worth_its_index_until_it_has_a_mark() -> None:
    """Linear in USDC one to one with its quote; inverse in coins."""
    market = _market(an_instrument(0), an_instrument(1, payoff="inverse"))

    instant = market.step(a_frame(a_price(50_000.0), a_dollar(0.99)))

    assert instant.value.tolist() == [50.0, -0.002]
    assert instant.notional.tolist() == [50.0, 100.0]
    assert instant.asset_price.tolist() == [0.99, 50_000.0]
    assert instant.value_decidable.all()
    assert instant.greeks[:, 0] == pytest.approx([0.001 * 0.99, 100.0 / 50_000.0])


def test_a_fresh_mark_values_a_perpetual_within_its_band() -> None:
    """One venue's book may not mark its accounts away from the index (Binance, October 2025)."""
    market = _market(an_instrument(0))
    market.step(a_frame(a_price(50_000.0), a_dollar()))

    marks = [market.step(a_frame(a_mark(0, mark, seconds=i), seconds=i)) for i, mark in enumerate((50_100.0, 32_500.0))]

    assert [float(instant.mark_price[0]) for instant in marks] == [50_100.0, 45_000.0]
    assert [float(instant.value[0]) for instant in marks] == pytest.approx([50.1, 45.0])


def test_marks_of_several_sources_have_their_median_and_age() -> None:
    """A mark that nobody renews gives way to the index."""
    market = _market(an_instrument(0), parameters={"price_age_ns_max": 10**15})
    market.step(a_frame(a_price(50_000.0), a_dollar(), *(a_mark(0, 50_000.0 + i, source=f"s{i}") for i in (1, 2, 9))))

    fresh = market.step(a_frame(seconds=900))
    aged = market.step(a_frame(seconds=900.000000001))

    assert float(fresh.mark_price[0]) == 50_002.0
    assert float(aged.mark_price[0]) == 50_000.0
    assert aged.moved.tolist() == [True]


@pytest.mark.parametrize("payoff", ["linear", "inverse"])
@pytest.mark.parametrize("option_type", ["call", "put"])
def test_an_option_is_black_76_on_its_forward_and_smile(payoff: str, option_type: str) -> None:
    """Recomputed in plain Python from the records."""
    market = _market(an_option(0, strike="55000", option_type=option_type, payoff=payoff))
    smile = a_smile(forward=51_000.0)

    instant = market.step(
        a_frame(a_price(50_000.0), a_dollar(0.98), a_forward(50_800.0), smile, RateRecord("USD", "r", 0.05, at(0)))
    )

    k = math.log(55_000.0 / 51_000.0) - 0.01
    vol = math.sqrt((0.02 + 0.08 * (-0.3 * k + math.sqrt(k * k + 0.04))) / (30 / 365))
    price = plain.black76_price(50_800.0, 55_000.0, 30 / 365, vol, call=option_type == "call")
    expected = 0.1 * price / 50_800.0 if payoff == "inverse" else 0.001 * price * math.exp(-0.05 * 30 / 365)
    assert instant.value_decidable.tolist() == [True]
    assert float(instant.implied_vol[0]) == pytest.approx(vol, rel=1e-13)
    assert float(instant.value[0]) == pytest.approx(expected, rel=1e-11)
    assert float(instant.forward[0]) == pytest.approx(50_800.0, rel=1e-15)


@pytest.mark.parametrize("payoff", ["linear", "inverse"])
def test_greeks_are_derivatives_of_value_at_a_fixed_settlement_price(payoff: str) -> None:
    """All five, per lot in the numeraire, against repriced markets."""
    unit = 50_000.0 if payoff == "inverse" else 0.98

    def value(*, spot: float = 50_000.0, vol: float = 0.6, seconds: float = 0.0, rate: float = 0.07) -> float:
        market = _market(an_option(0, strike="52000", payoff=payoff))
        market.step(a_frame(a_price(50_000.0), a_dollar(0.98), a_forward(50_800.0)))
        points = VolPointsRecord("BTC", at(30 * DAY), "a", [52_000.0], [vol], at(0))
        instant = market.step(
            a_frame(a_price(spot, seconds=seconds), points, RateRecord("USD", "r", rate, at(0)), seconds=seconds)
        )
        greeks.append(instant.greeks[0])
        return unit * float(instant.value[0])

    greeks: list[np.ndarray] = []
    here = value()
    delta, gamma, vega, theta, rho = greeks[0]

    assert delta == pytest.approx((value(spot=50_001.0) - value(spot=49_999.0)) / 2.0, rel=1e-6)
    assert gamma == pytest.approx((value(spot=50_050.0) - 2.0 * here + value(spot=49_950.0)) / 2_500.0, rel=1e-4)
    assert vega == pytest.approx((value(vol=0.6001) - value(vol=0.5999)) / 2e-4, rel=1e-6)
    assert theta == pytest.approx((value(seconds=86.4) - here) / 1e-3, rel=1e-3)
    assert rho == pytest.approx((value(rate=0.071) - value(rate=0.069)) / 2e-3, rel=1e-5, abs=1e-12)


def test_a_forward_keeps_its_ratio_to_the_spot() -> None:
    """Between two forward records the basis is multiplicative; without one it is carried at the rate."""
    market = _market(an_option(0), an_option(1, days=60.0))
    rate = RateRecord("USD", "r", 0.08, at(0))
    market.step(a_frame(a_price(50_000.0), a_dollar(), a_forward(51_000.0), a_smile(), a_smile(days=60.0), rate))

    instant = market.step(a_frame(a_price(40_000.0, seconds=1), seconds=1))

    assert float(instant.forward[0]) == pytest.approx(40_800.0, rel=1e-15)
    assert float(instant.forward[1]) == pytest.approx(
        40_000.0 * math.exp(0.08 * (60 * DAY - 1) / (365 * DAY)), rel=1e-14
    )


def test_a_forward_waits_for_a_usable_spot() -> None:
    """Its ratio is fixed at the first instant that has both, whichever record came first."""
    market = _market(an_option(0))
    market.step(a_frame(a_forward(51_000.0), a_smile()))

    instant = market.step(a_frame(a_price(50_000.0, seconds=5), a_dollar(seconds=5), seconds=5))

    assert float(instant.forward[0]) == pytest.approx(51_000.0, rel=1e-15)
    assert instant.value_decidable.tolist() == [True]


def test_the_order_of_observations_in_a_frame_changes_nothing() -> None:
    """Invariant 2: a frame is one instant."""
    records: list[MarketRecord] = [
        a_price(50_000.0), a_dollar(), a_forward(51_000.0), a_smile(), a_mark(1, 50_050.0),
    ]  # fmt: skip
    forwards, backwards = (_market(an_option(0), an_instrument(1)) for _ in range(2))

    left = forwards.step(a_frame(*records))
    right = backwards.step(a_frame(*reversed(records)))

    assert differences(left, right) == []


# -- age -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("aged", "parameter"), [
    ("price", "price_age_ns_max"), ("smile", "vol_age_ns_max"), ("forward", "forward_age_ns_max"),
])  # fmt: skip
@pytest.mark.parametrize("kind", [FrameKind.EVENTS, FrameKind.HEARTBEAT])
def test_an_option_whose_input_aged_in_silence_waits(aged: str, parameter: str, kind: FrameKind) -> None:
    """Invariant 5: the first frame after the limit says so, records or not; the value stays for display."""
    market = _market(an_option(0), parameters={
        **dict.fromkeys(["price_age_ns_max", "vol_age_ns_max", "forward_age_ns_max"], 10**15), parameter: 10 * 10**9,
    })  # fmt: skip
    market.step(a_frame(a_price(), a_dollar(), a_forward(51_000.0), a_smile()))

    young = market.step(a_frame(seconds=10.0))
    old = market.step(a_frame(seconds=10.000000001, kind=kind))

    assert (young.value_decidable.tolist(), old.value_decidable.tolist()) == ([True], [False])
    assert not young.moved.any()
    assert old.moved.tolist() == [True]
    assert old.value[0] > 0.0


def test_an_instrument_needs_the_price_of_what_it_settles_in() -> None:
    """A stablecoin without a price stops what settles in it, and that alone."""
    market = _market(an_instrument(0), an_instrument(1, payoff="inverse"))
    market.step(a_frame(a_price(), a_dollar()))

    instant = market.step(a_frame(a_price(seconds=181), seconds=181))

    assert instant.value_decidable.tolist() == [False, True]
    assert instant.asset_decidable.tolist() == [False, True]
    assert instant.asset_moved.tolist() == [True, False]


def test_a_disputed_index_stops_a_marked_perpetual() -> None:
    """A mark alone is one venue's word: it decides only where no index was ever told."""
    told, untold = (_market(an_instrument(0)) for _ in range(2))

    stopped = told.step(a_frame(a_price(), a_price(90_000.0, source="b"), a_dollar(), a_mark(0, 50_000.0)))
    goes_on = untold.step(a_frame(a_dollar(), a_mark(0, 50_000.0)))

    assert stopped.value_decidable.tolist() == [False]
    assert goes_on.value_decidable.tolist() == [True]
    assert goes_on.notional.tolist() == [50.0]


def test_prices_come_back() -> None:
    """A fresh observation ends the stop at its own frame."""
    market = _market(an_instrument(0))
    market.step(a_frame(a_price(), a_dollar()))
    market.step(a_frame(seconds=181))

    instant = market.step(a_frame(a_price(49_000.0, seconds=182), a_dollar(seconds=182), seconds=182))

    assert instant.value_decidable.tolist() == [True]
    assert instant.value.tolist() == [49.0]


# -- confidence ------------------------------------------------------------------------------------------------------


def test_confidence_stands_as_a_ratio_of_the_last_usable_price() -> None:
    """Half the band over the price, by underlying and by asset; while there is no price, the last one's."""
    market = _market(an_instrument(0))
    market.step(a_frame(a_price(50_000.0, confidence=500.0), a_dollar()))

    lost = market.step(a_frame(a_price(90_000.0, source="b", seconds=1), seconds=1))

    assert market.columns.confidence.tolist() == [0.01]
    assert market.columns.assets.confidence.tolist() == [0.0, 0.01]
    assert (lost.asset_decidable.tolist(), market.columns.assets.price.tolist()) == ([True, False], [1.0, 50_000.0])


def test_a_change_of_confidence_alone_prices_anew() -> None:
    """What margin models read of an underlying is as of its last pricing; an asset's own move says so, too."""
    market = _market(an_option(0), an_instrument(1, underlying="ETH"))
    before = market.step(a_frame(a_price(), a_dollar(), a_smile(), a_price(3_000.0, feed="ETH/USD")))

    after = market.step(a_frame(a_price(confidence=50.0, seconds=60), seconds=60))

    assert after.moved.tolist() == [True, False]
    assert after.asset_moved.tolist() == [False, True]
    assert float(after.value[0]) < float(before.value[0])


def test_an_asset_is_the_spot_of_the_underlying_of_its_name() -> None:
    """Whichever of the two was listed first."""
    market = _market(an_instrument(0))
    market.step(a_frame(an_instrument(1, underlying="ETH"), AssetRecord(2, "ETH", 8), AssetRecord(3, "SOL", 8)))

    late = market.step(a_frame(an_instrument(2, underlying="SOL")))

    assert market.columns.underlyings == ["BTC", "ETH", "SOL"]
    assert market.columns.assets.underlying.tolist() == [-1, 0, 1, 2]
    assert market.columns.assets.unit.tolist() == [1e-6, 1e-8, 1e-8, 1e-8]
    assert late.asset_unit is market.columns.assets.unit


class _AssetReader:
    """A margin model whose tables are the assets' own columns."""

    name = "reader"

    def tables(self, columns: InstrumentColumns, _parameters: object) -> AssetColumns:
        """Return the assets."""
        return columns.assets

    def update(self, _previous: AssetColumns, columns: InstrumentColumns, *_unread: object) -> AssetColumns:
        """Return the assets."""
        return columns.assets

    def requirements(self, _tables: object, _positions: object, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return nothing."""
        return np.zeros(rows.shape[0]), np.zeros(rows.shape[0])


def test_tables_see_an_asset_in_which_nothing_settles() -> None:
    """No instrument is priced anew, and a model that margins collateral must still see its price."""
    market = Market({"reader": _AssetReader()})
    market.step(a_frame(*a_venue(an_instrument(0, underlying="ETH"), accounts=("reader",))))

    instant = market.step(a_frame(a_price(confidence=25.0)))

    assert not instant.moved.any()
    assert instant.margin_tables["reader"].price.tolist() == [0.0, 50_000.0]
    assert instant.margin_tables["reader"].confidence.tolist() == [0.0, 0.0005]


# -- what moved ------------------------------------------------------------------------------------------------------


def test_a_frame_without_news_changes_nothing() -> None:
    """The columns are the very same arrays; only the frame and the time are new."""
    market = _market(an_instrument(0))
    before = market.step(a_frame(a_price(), a_dollar()))

    after = market.step(a_frame(seconds=1, number=7))

    assert (after.frame, after.time_ns) == (7, at(1))
    assert after.value is before.value
    assert not (after.moved.any() or after.asset_moved.any() or after.everything_moved)


def test_only_the_underlying_that_moved_is_priced() -> None:
    """Invariant 3: the other's options keep their time, too."""
    market = _market(an_option(0), an_option(1, underlying="ETH", instrument="other"), an_instrument(2))
    smile = a_smile()
    other = VolPointsRecord("ETH", at(30 * DAY), "a", [3_000.0], [0.7], at(0))
    before = market.step(a_frame(a_price(), a_price(3_000.0, feed="ETH/USD"), a_dollar(), smile, other))

    after = market.step(a_frame(a_price(50_001.0, seconds=60), seconds=60))

    assert after.moved.tolist() == [True, False, True]
    assert float(after.value[1]) == float(before.value[1])
    assert float(market.step(a_frame(seconds=61, kind=FrameKind.HEARTBEAT)).value[1]) < float(before.value[1])


def test_a_repeated_price_moves_nothing() -> None:
    """Three sources that say the same again are no news."""
    market = _market(an_instrument(0))
    market.step(a_frame(a_price(), a_dollar()))

    assert not market.step(a_frame(a_price(seconds=5), seconds=5)).moved.any()


def test_an_instant_never_changes_afterwards() -> None:
    """Invariant 4: whoever keeps an instant keeps what it said."""
    market = _market(an_option(0), an_instrument(1))
    instant = market.step(a_frame(a_price(), a_dollar(), a_smile()))
    value, pnl = instant.value.copy(), instant.margin_tables["tidegate-portfolio"].profit.copy()

    market.step(a_frame(a_price(30_000.0, seconds=1), a_dollar(0.9, seconds=1), seconds=1))

    assert instant.value.tolist() == value.tolist()
    assert instant.asset_price[0] == 1.0
    assert np.array_equal(instant.margin_tables["tidegate-portfolio"].profit, pnl)


def test_parameters_move_everything() -> None:
    """A haircut is history: it holds from its frame on."""
    market = _market(an_instrument(0))
    before = market.step(a_frame(a_price(), a_dollar()))

    after = market.step(a_frame(some_parameters("collateral", haircuts={"BTC": 0.3}, default_haircut=0.0), seconds=1))

    assert before.haircut.tolist() == [0.2, 0.2]
    assert after.haircut.tolist() == [0.0, 0.3]
    assert after.everything_moved


def test_unknown_rules_and_models_stop_the_market() -> None:
    """A release must refuse a stretch of ledger that it cannot decide."""
    with pytest.raises(LedgerError, match="rules 2"):
        _market().step(a_frame(RulesRecord(2)))
    with pytest.raises(LedgerError, match="not installed"):
        _market().step(a_frame(AccountRecord(10, "late", "no-such-model", "cross")))


# -- payments --------------------------------------------------------------------------------------------------------


def test_an_expiry_pays_its_instruments_and_ends_them() -> None:
    """Before: intrinsic at the index; at the settlement: exact cash; after: worth nothing, and decidable for ever."""
    option, later, future = an_option(0, days=1.0), an_option(1, days=2.0), an_instrument(
        2, "future", expiry_ns=at(DAY), instrument="future"
    )  # fmt: skip
    market = _market(option, later, future, parameters={"price_age_ns_max": 10**15, "vol_age_ns_max": 10**15})
    market.step(a_frame(a_price(52_000.0), a_dollar(), a_smile(days=1.0), a_smile(days=2.0)))

    expired = market.step(a_frame(seconds=DAY, kind=FrameKind.HEARTBEAT))
    settled = market.step(a_frame(SettlementRecord("BTC", at(DAY), "52500.5"), seconds=DAY + 1))
    after = market.step(a_frame(seconds=DAY + 2, kind=FrameKind.HEARTBEAT))

    assert (expired.value[0], expired.value[2]) == (2.0, 52.0)
    assert settled.payments == [CashPerLot(0, 2_500_500, True), CashPerLot(2, 52_500_500, True)]
    assert (settled.value[[0, 2]].tolist(), settled.value[1] > 0.0) == ([0.0, 0.0], True)
    assert (after.payments, after.value_decidable.tolist()) == ([], [True, True, True])
    assert not settled.margin_tables["tidegate-portfolio"].profit[[0, 2]].any()
    assert not settled.margin_tables["tidegate-standard"].per_lot[[0, 2]].any()


def test_a_second_settlement_pays_nothing() -> None:
    """A price that is told twice must not pay twice."""
    market = _market(an_option(0, days=1.0))
    market.step(a_frame(a_price(60_000.0), a_dollar(), SettlementRecord("BTC", at(DAY), "60000")))

    assert market.step(a_frame(SettlementRecord("BTC", at(DAY), "70000"), seconds=1)).payments == []


def test_funding_is_on_the_mark_of_its_own_frame() -> None:
    """The frame's records apply together, so a price in the same frame counts; longs pay a positive rate."""
    market = _market(an_instrument(0), an_option(1))
    market.step(a_frame(a_price(), a_dollar()))

    instant = market.step(
        a_frame(
            FundingRecord(0, 0.0001, at(1)), FundingRecord(1, 0.0001, at(1)), a_price(60_000.0, seconds=1), seconds=1
        )
    )

    assert instant.payments == [CashPerLot(0, -6_000, False)]


# -- checkpoints -----------------------------------------------------------------------------------------------------


def _listing(rng: np.random.Generator) -> list[InstrumentRecord]:
    instruments: list[InstrumentRecord] = []
    for i in range(10):
        payoff = "inverse" if rng.random() < 0.4 else "linear"
        underlying = "BTC" if payoff == "inverse" or rng.random() < 0.6 else "ETH"
        if i < 6:
            instruments.append(an_option(
                i, strike=str(int(rng.integers(20, 90)) * 1000), option_type="call" if rng.random() < 0.5 else "put",
                days=float(rng.integers(1, 3)) / 24, payoff=payoff, underlying=underlying,
            ))  # fmt: skip
        elif i < 8:
            instruments.append(an_instrument(i, "future", payoff=payoff, underlying=underlying, expiry_ns=at(DAY / 24)))
        else:
            instruments.append(an_instrument(i, payoff=payoff, underlying=underlying))
    return instruments


def _makers(
    rng: np.random.Generator,
    spot: dict[str, float],
    parameters: dict[str, int],
    *,
    underlying: str,
    source: str,
    now: float,
    days: float,
) -> list[Callable[[], MarketRecord]]:
    """Return what makes a record of each kind at a moment, in the order of the weights below."""
    return [
        lambda: a_price(
            spot[underlying], seconds=now - 1, source=source, feed=f"{underlying}/USD",
            confidence=float(rng.choice([0.0, 10.0, 100.0])),
        ),
        lambda: a_price(7.0, seconds=now, source=source, feed=f"{underlying}/USD"),
        lambda: a_dollar(1.0 + rng.normal(0.0, 0.001), seconds=now),
        lambda: a_smile(days=days, seconds=now, a=0.02 + 0.01 * rng.random()),
        lambda: a_forward(spot["BTC"] * 1.01, days=days, seconds=now),
        lambda: a_mark(int(rng.integers(6, 10)), spot["BTC"], seconds=now, source=source),
        lambda: FundingRecord(9, float(rng.normal(0.0, 1e-4)), at(now)),
        lambda: RateRecord("USD", source, float(rng.normal(0.03, 0.01)), at(now)),
        lambda: VolPointsRecord(underlying, at(days * DAY), source, [3e4, 6e4], [0.5, 0.6], at(now)),
        lambda: SettlementRecord(underlying, at(days * DAY), f"{spot[underlying]:.2f}"),
        lambda: some_parameters(
            "collateral",
            default_haircut=round(float(rng.random()), 3),
            vol_multiple=float(rng.choice([0.0, 3.0, 40.0])),
        ),
        lambda: HaltRecord(int(rng.integers(10)), bool(rng.random() < 0.5)),
        lambda: some_parameters("oracle", **parameters, sources_min=int(rng.integers(1, 3))),
    ]  # fmt: skip


def _random_frames(seed: int, count: int) -> list[Frame]:
    rng = np.random.default_rng(seed)
    instruments = _listing(rng)
    parameters = {"price_age_ns_max": 60 * 10**9, "vol_age_ns_max": 400 * 10**9, "mark_age_ns_max": 90 * 10**9,
                  "forward_age_ns_max": 500 * 10**9}  # fmt: skip
    frames = [
        a_frame(*a_venue(*instruments[:7], accounts=MODELS[:1]), some_parameters("oracle", **parameters)),
        a_frame(*instruments[7:], AccountRecord(9, "late", MODELS[1], "cross"), number=1),
    ]
    seconds = 0.0
    spot = {"BTC": 50_000.0, "ETH": 40_000.0}
    for number in range(2, count):
        seconds += float(rng.choice([0.0, 0.001, 5.0, 30.0, 70.0, 400.0], p=[0.1, 0.2, 0.4, 0.2, 0.07, 0.03]))
        now, days = seconds, float(rng.integers(1, 3)) / 24
        underlying = "BTC" if rng.random() < 0.6 else "ETH"
        spot[underlying] *= float(np.exp(rng.normal(0.0, 0.01)))
        source = "abc"[int(rng.integers(3))]
        made = _makers(rng, spot, parameters, underlying=underlying, source=source, now=now, days=days)
        weights = np.array([8, 0.5, 3, 2, 2, 3, 1, 0.5, 1, 0.1 if seconds > DAY / 24 else 0.0, 0.2, 0.2, 0.2])
        kinds = rng.choice(len(made), size=int(rng.integers(0, 4)), p=weights / weights.sum())
        kind = FrameKind.HEARTBEAT if kinds.size == 0 and rng.random() < 0.3 else FrameKind.EVENTS
        frames.append(a_frame(*(made[int(k)]() for k in kinds), seconds=now, kind=kind, number=number))
    return frames


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(2, 118))
@example(seed=0, cut=60)
@settings(max_examples=25)
def test_a_restored_market_gives_the_same_instants(seed: int, cut: int) -> None:
    """Invariant 1: over random records of all kinds, in every column to the bit, from a checkpoint at any frame."""
    frames = _random_frames(seed, 120)
    lasting = Market()
    for frame in frames[:cut]:
        lasting.step(frame)

    restored = Market.restore(lasting.checkpoint())

    assert restored.checkpoint() == lasting.checkpoint()
    for frame in frames[cut:]:
        left, right = lasting.step(frame), restored.step(frame)
        assert differences(left, right) == [], frame.number
    assert lasting.checkpoint() == restored.checkpoint()


def test_the_first_instant_after_a_restore_moves_everything() -> None:
    """Whoever decided before the crash is not here to know what was decided."""
    market = _market(an_instrument(0))
    market.step(a_frame(a_price(), a_dollar()))

    restored = Market.restore(market.checkpoint())

    assert restored.step(a_frame(seconds=1)).everything_moved
    assert not restored.step(a_frame(seconds=2)).everything_moved


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:40] + b"x" + data[41:], lambda data: b""]
)
def test_a_damaged_checkpoint_is_refused(damage: Callable[[bytes], bytes]) -> None:
    """A flipped bit must not become a price."""
    market = _market(an_instrument(0))

    with pytest.raises(CheckpointError):
        Market.restore(damage(market.checkpoint()))


def test_halts_and_feeds_are_reported() -> None:
    """Reports need what decisions do not."""
    market = _market(an_instrument(0))
    market.step(a_frame(a_price(confidence=5.0), a_price(50_002.0, source="b"), HaltRecord(0, True), seconds=2))

    status = {it.feed: it for it in market.feed_status()}["BTC/USD"]

    assert (status.usable, status.price, status.sources, status.sources_known, status.age_ns) == (
        True, 50_001.0, 2, 2, 2 * 10**9
    )  # fmt: skip
    assert Market.restore(market.checkpoint()).halted == {0}


def test_columns_grow_without_losing_anything() -> None:
    """Thousands are listed one by one; doubling must carry every column."""
    columns = InstrumentColumns()
    for i in range(100):
        columns.append(resolve_instrument(an_option(i, strike=str(1000 + i), days=i + 1.0, underlying=f"U{i % 3}")))

    assert columns.strike.tolist() == [1000.0 + i for i in range(100)]
    assert columns.expiry_ns.tolist() == [at((i + 1.0) * DAY) for i in range(100)]
    assert columns.underlying.tolist() == [i % 3 for i in range(100)]
    assert columns.underlyings == ["U0", "U1", "U2"]
