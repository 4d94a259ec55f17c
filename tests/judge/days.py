"""Days to be judged: a synthetic crash, and random short days that have every kind of record in them."""

from collections.abc import Sequence
from decimal import Decimal as ExactDecimal
from typing import Any, Final

from hypothesis import strategies as st

from flows.intake.decode import Stream, decode_lines
from flows.pipeline import run_plain
from infra.demo.generate import DemoDay
from schemas.events import Event
from schemas.ledger import Genesis
from tests.builders import (
    SECOND_NS,
    TIME_NS,
    a_bust,
    a_fill,
    a_forward,
    a_funding_rate,
    a_future,
    a_halt,
    a_mark,
    a_parameters_change,
    a_perpetual,
    a_price,
    a_rate,
    a_settlement_price,
    a_smile,
    a_spot,
    a_transfer,
    a_withdrawal,
    an_account,
    an_asset,
    an_inverse_perpetual,
    an_option,
    open_orders,
    quoted_vols,
)
from tests.flows.running import Published, batches_of, some_stages

MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
EXPIRY_NS: Final = TIME_NS + HOUR_NS
# Silence is cut into few frames, so that hours pass quickly.
GENESIS: Final = Genesis(ledger_id="random", settlement_period_ns=SECOND_NS, heartbeat_ns=8 * MINUTE_NS)

TRADERS: Final = ("alice", "bob", "carol", "dave", "gina", "hugo")
NEWCOMERS: Final = ("erin", "frank")
# Instrument: price, quantity of one step, both exact.
TRADED: Final = {
    "BTC-PERP": (50_000, "0.2"),
    "BTC-USD-PERP": (50_000, "5000"),
    "BTC-F": (50_100, "0.1"),
    "BTC-50000-C": (1_500, "0.3"),
    "BTC-45000-P": (700, "0.4"),
    "BTC-48000-P": (800, "0.2"),
    "BTC-52000-C": (0, "0.3"),
    "BTC/USDC": (50_000, "0.05"),
    "ETH-PERP": (3_000, "0.5"),
    "ETH-F": (3_010, "0.5"),
    "ETH-3000-C": (120, "2"),
}
WITHDRAWN: Final = (("USDC", "1000"), ("USDC", "2500.000001"), ("BTC", "0.05"), ("USD", "10.01"))
CHANGED: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("collateral", {"haircuts": {"BTC": 0.5, "USDC": 0.02}}),
    (
        "collateral",
        {
            "default_haircut": 0.0,
            "vol_multiple": 20.0,
            "vol_sample_ns": SECOND_NS,
            "vol_decay_ns": HOUR_NS,
            "vol_haircut_max": 0.7,
            "confidence_multiple": 5.0,
        },
    ),
    ("ladder", {"watch_multiple": 1.5, "takeover_multiple": 0.5}),
    ("liquidation", {"buffer": 0.5, "close_all_notional": 4_987.3}),
    ("oracle", {"sources_min": 2, "outlier_ratio": 0.3, "price_age_ns_max": 30 * MINUTE_NS}),
    ("oracle", {"aggregation": "single", "price_age_ns_max": 30 * MINUTE_NS}),
    ("oracle", {"price_age_ns_max": 20 * MINUTE_NS, "mark_band_ratio": 0.02}),
    ("oracle", {"confidence_ratio_max": 0.02, "price_age_ns_max": 30 * MINUTE_NS}),
    ("oracle", {}),
    ("tidegate-standard", {"long_option_credit": 0.5, "linear_rates": {"BTC": [0.2, 0.1]}}),
    (
        "tidegate-standard",
        {"confidence_multiple": 3.0, "market_depth": {"BTC": 5_000.0, "ETH": 2_000.0}, "concentration_cap": 0.1},
    ),
    ("tidegate-portfolio", {"scenarios": [[0.8, 1, 1.0], [1.2, -1, 0.9]], "initial_factor": 2.0}),
    ("derive-srm", {"markets": {"BTC": {"spot_weight": 0.5, "spot_confidence_threshold": 1.0}}, "peg_factor": 10.0}),
    ("derive-pmrm2", {"confidence_band": 0.01, "collateral": {"BTC": {"maintenance_haircut": 0.2, "follows": "BTC"}}}),
    # More scenarios than a block of a table's rows holds.
    (
        "tidegate-portfolio",
        {"scenarios": [[0.7 + 0.02 * place, place % 3 - 1, 1.0] for place in range(31)], "market_depth": {"BTC": 9e3}},
    ),
    (
        "tidegate-portfolio",
        {
            "offset_groups": [{"underlyings": ["BTC", "ETH", "XRP"], "correlation": 0.9, "stress": 0.2}],
            "market_depth": {"ETH": 4_000.0},
            "confidence_multiple": 2.0,
        },
    ),
)
KINDS: Final = (
    *["price"] * 4, *["other price"] * 2, "dollar", "ether", "forward", "smile", "points", "mark", "mark of future",
    "rate", "funding", "settlement", *["fill"] * 3, *["open orders"] * 2, "liquidation", "bust", "deposit",
    "withdrawal", "parameters", "halt", "listing", "account",
)  # fmt: skip
GAPS_NS: Final = (0, 1, SECOND_NS, SECOND_NS, 10 * SECOND_NS, MINUTE_NS, 12 * MINUTE_NS)

# (time since the one before, kind, three numbers that mean what the kind wants)
Happening = tuple[int, str, int, int, int]
days: Final = st.lists(
    st.tuples(st.sampled_from(GAPS_NS), st.sampled_from(KINDS), st.integers(0, 99), st.integers(0, 99),
              st.integers(1, 99)),
    min_size=5,
    max_size=100,
)  # fmt: skip


def a_random_day(happenings: Sequence[Happening]) -> list[Event]:
    """Return a venue with every kind of instrument, four accounts of every margin model and mode, and what happens."""
    inverse: dict[str, Any] = {"payoff": "inverse", "settlement_asset": "BTC", "tick_size": "0.0001"}
    put: dict[str, Any] = {"option_type": "put", "expiry_ns": EXPIRY_NS}
    events: list[Event] = [
        an_asset("USDC", 6, number=1), an_asset("BTC", 8, number=2), an_asset("USD", 2, number=3),
        a_perpetual(), an_inverse_perpetual(), a_spot(),
        a_future("BTC-F", expiry_ns=EXPIRY_NS),
        an_option("BTC-50000-C", number=21, expiry_ns=EXPIRY_NS),
        an_option("BTC-45000-P", number=22, strike="45000", **put),
        an_option("BTC-48000-P", number=23, strike="48000", **put),
        an_option("BTC-52000-C", number=24, strike="52000", expiry_ns=EXPIRY_NS, **inverse),
        an_account("alice", number=1),
        an_account("bob", number=2, margin_model="tidegate-portfolio"),
        an_account("carol", number=3, margin_mode="isolated"),
        an_account("dave", number=4, margin_model="tidegate-portfolio", margin_mode="isolated"),
        an_account("gina", number=5, margin_model="derive-srm"),
        an_account("hugo", number=6, margin_model="derive-pmrm2", margin_mode="isolated"),
        *[a_transfer("4000", account=trader, number=place) for place, trader in enumerate(TRADERS, 1)],
        *[a_transfer("0.1", account=trader, asset="BTC", number=place) for place, trader in enumerate(TRADERS, 7)],
        a_parameters_change("oracle", {"price_age_ns_max": 30 * MINUTE_NS}),
        a_price(number=1), a_price("1", feed="USDC/USD", confidence="0", number=2),
        a_smile(expiry_ns=EXPIRY_NS), a_forward(expiry_ns=EXPIRY_NS),
    ]  # fmt: skip
    time_ns = TIME_NS
    for number, (gap_ns, kind, first, second, third) in enumerate(happenings, 100):
        time_ns += gap_ns
        events.append(_event(kind, number, time_ns, first, second, third))
    return events


def _event(kind: str, number: int, time_ns: int, first: int, second: int, third: int) -> Event:
    """Return what happens; ``third``, 1 to 99, moves prices between -34 % and +34 %."""
    named: dict[str, Any] = {"number": number, "time_ns": time_ns}
    dated: dict[str, Any] = {"expiry_ns": EXPIRY_NS, **named}
    spot = 33_000 + 343 * third
    trader = (*TRADERS, *NEWCOMERS)[first % 8]
    match kind:
        case "price":
            return a_price(str(spot), **named)
        case "other price":
            source = ("borealis", "cygnus")[second % 2]
            # On time mostly; from the future, refused or not; and so old that it has hours or seconds to live.
            published_ns = time_ns + (0, 0, 50 * SECOND_NS, 2 * MINUTE_NS, -29 * MINUTE_NS, -HOUR_NS)[first % 6]
            return a_price(str(spot), source=source, confidence=str(20 * second), publish_time_ns=published_ns, **named)
        case "dollar":
            return a_price(f"0.{90 + third % 10}", feed="USDC/USD", confidence=f"0.0{second % 4}", **named)
        case "forward":
            return a_forward(f"{spot}.5", **dated)
        case "smile":
            return a_smile(a=f"0.0{third:02}", rho=f"-0.{first:02}", **dated)
        case "points":
            return quoted_vols((("40000", f"0.{third}"), ("50000", "0.6"), ("60000", f"0.{third}5")), **dated)
        case "mark":
            return a_mark(str(spot), instrument=("BTC-PERP", "BTC-USD-PERP")[first % 2], **named)
        case "mark of future":
            return a_mark(str(spot), instrument="BTC-F", **named)
        case "rate":
            return a_rate(f"0.{third:02}", currency=("USD", "USDC")[first % 2], **named)
        case "funding":
            rate = f"{'-' if second % 2 else ''}0.00{third:02}37"
            return a_funding_rate(rate, instrument=("BTC-PERP", "BTC-USD-PERP")[first % 2], **named)
        case "settlement":
            return a_settlement_price(f"{spot}.123", **dated) if time_ns >= EXPIRY_NS else a_price(str(spot), **named)
        case "fill" | "liquidation":
            return _fill(number, time_ns, first, second, third, liquidation=kind == "liquidation")
        case "open orders":
            instrument = tuple(TRADED)[second % len(TRADED)]
            told = (
                _steps(TRADED[instrument][1], (0, 1, 3, 12)[third % 4]),
                _steps(TRADED[instrument][1], third // 4 % 3),
            )
            return open_orders(*told, account=trader, instrument=instrument, **named)
        case "bust":
            return a_bust(f"fill-{number - 1 - first % 6}", **named)
        case "deposit":
            return a_transfer(("5000", "-700", "0.000001")[second % 3], account=trader, **named)
        case "withdrawal":
            asset, amount = WITHDRAWN[second % len(WITHDRAWN)]
            return a_withdrawal(amount, account=trader, asset=asset, **named)
        case "listing":
            return _listing(number, time_ns, first, third)
        case "account":
            model = ("tidegate-standard", "tidegate-portfolio", "derive-srm", "derive-pmrm2")[second % 4]
            mode = ("cross", "isolated")[third % 2]
            return an_account(NEWCOMERS[first % 2], margin_model=model, margin_mode=mode, **named)
        case "ether":
            match second % 4:
                case 0:
                    return a_price(f"{2_000 + 20 * third}", feed="ETH/USD", **named)
                case 1:
                    return a_forward(f"{2_000 + 20 * third}.5", underlying="ETH", **dated)
                case 2:
                    return a_smile(underlying="ETH", forward="3000", **dated)
                case _:
                    return a_settlement_price("3000", underlying="ETH", **dated)
        case "halt":
            return a_halt("BTC-F", halted=bool(first % 2), **named)
        case _:
            name, parameters = CHANGED[first % len(CHANGED)]
            return a_parameters_change(name, parameters, **named)


def _listing(number: int, time_ns: int, first: int, third: int) -> Event:
    """Return the listing of something that is traded, or of a strike between what there is."""
    named: dict[str, Any] = {"number": number, "time_ns": time_ns, "underlying": "ETH", "lot_size": "0.01"}
    match first % 4:
        case 0:
            return an_option("ETH-3000-C", **named | {"strike": "3000", "expiry_ns": EXPIRY_NS, "lot_size": "0.1"})
        case 1:
            return a_perpetual("ETH-PERP", **named)
        case 2:
            return a_future("ETH-F", **named | {"expiry_ns": EXPIRY_NS})
        case _:
            strike = str(45_000 + 100 * third)
            return an_option(
                f"BTC-{strike}-X", number=number, time_ns=time_ns, strike=strike, expiry_ns=EXPIRY_NS, option_type="put"
            )


def _fill(number: int, time_ns: int, first: int, second: int, third: int, *, liquidation: bool) -> Event:
    instrument = tuple(TRADED)[second % len(TRADED)]
    price, quantity = TRADED[instrument]
    sides = (*TRADERS, *NEWCOMERS, "house")
    buyer = sides[first % 9]
    seller = sides[(first + 1 + first // 9 % 8) % 9]
    return a_fill(
        f"0.0{third:02}" if price == 0 else str(price * (100 + third % 7 - 3) // 100),
        _steps(quantity, 1 + third % 4),
        instrument=instrument,
        buyer=buyer,
        seller=seller,
        buyer_fee="0.5" if price else "0.00001",
        seller_fee="-0.1" if price else "0",
        number=number,
        time_ns=time_ns,
        liquidation_id=f"liquidation-{number}" if liquidation else None,
    )


def _steps(quantity: str, count: int) -> str:
    """Return a decimal string times a whole number, exact."""
    return str(ExactDecimal(quantity) * count)


def a_demo_day(*, seed: int, accounts: int, hours: float) -> Published:
    """Run a synthetic crash day, faults and redelivered lines included."""
    lines = [line for block in DemoDay(seed=seed, accounts=accounts, hours=hours).lines() for line in block]
    published = Published()
    run_plain(batches_of(decode_lines(lines, Stream("day"), 1), 1_000), some_stages(), published.take)
    return published
