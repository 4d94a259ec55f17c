"""Many small events for throughput runs: fills, transfers and ticks of a plain venue, as fast as they can be written.

Synthetic throughout, and simpler than the demo day: perpetuals only, one oracle source a feed, no faults. Nine in ten
events are fills and transfers, one in ten a tick.

1. The same arguments give the same bytes on every machine: integer draws, and integers written as decimals.
2. Lines leave in time order. Events are spread evenly over the days, so the duplicate window holds a bounded part.
3. Prices stay within 2 % of where they began and every account is well funded, so liquidations are rare.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import zstandard

from infra.demo.portable import generator
from infra.demo.venue import DAY_NS, START_NS
from schemas.events import AccountOpened, AssetListed, Collateral, InstrumentListed, ParametersChanged
from schemas.money import from_units

_COINS: Final = (("BTC", 88_000), ("ETH", 3_100), ("SOL", 190), ("DOGE", 1))
_BLOCK: Final = 20_000
_EVENTS_PER_DAY: Final = 400_000
_TICKS_PER_UNIT: Final = 100
_BAND: Final = 0.02
_TICK_SHARE, _TRANSFER_SHARE = 10, 20  # per cent
_DEPOSIT_UNITS: Final = 10_000_000 * 10**6

_encode = msgspec.json.Encoder().encode


def small_events(count: int, *, seed: int, accounts: int, days: float | None = None) -> Iterator[bytes]:
    """Yield blocks of NDJSON lines, ``count`` lines in all, listings and first deposits included.

    Parameters
    ----------
    count : lines in all
    seed : >= 0
    accounts : >= 2
    days : the time over which the events are spread, > 0; at 400,000 a day where not given

    Raises
    ------
    ValueError : fewer lines than it takes to list the venue and open its accounts.
    """
    head = _opening(accounts)
    if days is None:
        days = count / _EVENTS_PER_DAY
    rest = count - len(head)
    if accounts < 2 or days <= 0.0 or rest < 0:
        raise ValueError(f"{accounts} accounts need at least {len(head)} lines and a positive number of days")
    yield b"\n".join([*head, b""])
    random = generator(seed, 40)
    ticks = np.array([price * _TICKS_PER_UNIT for _, price in _COINS], dtype=np.int64)
    band = np.maximum((ticks * _BAND).astype(np.int64), 1)
    step_ns = max(int(days * DAY_NS) // max(rest, 1), 1)
    names = [f"account-{number:07d}" for number in range(accounts)]
    feeds = [coin for coin, _ in _COINS]
    oracle = fills = watcher = 0
    for begin in range(0, rest, _BLOCK):
        size = min(_BLOCK, rest - begin)
        share = random.integers(0, 100, size).tolist()
        coins = random.integers(0, len(_COINS), size)
        prices = ticks[coins] + random.integers(-(1 << 30), 1 << 30, size) * band[coins] // (1 << 30)
        buyers = random.integers(0, accounts, size)
        sellers = (buyers + random.integers(1, accounts, size)) % accounts
        lots = random.integers(1, 50, size).tolist()
        lines: list[str] = []
        time_ns = START_NS + DAY_NS // 24 + begin * step_ns
        columns = zip(share, coins.tolist(), prices.tolist(), buyers.tolist(), sellers.tolist(), lots, strict=True)
        for kind, coin, price, buyer, seller, size_in_lots in columns:
            time_ns += step_ns
            text = f"{price // 100}.{price % 100:02d}"
            if kind < _TICK_SHARE:
                oracle += 1
                lines.append(
                    f'{{"type":"oracle.price","event_id":"atlas-{oracle}","event_time_ns":{time_ns},"source":"atlas",'
                    f'"source_sequence":{oracle},"feed":"{feeds[coin]}/USD","price":"{text}","confidence":"0.01",'
                    f'"publish_time_ns":{time_ns}}}\n'
                )
            elif kind < _TRANSFER_SHARE:
                watcher += 1
                lines.append(
                    f'{{"type":"collateral","event_id":"watcher-{watcher}","event_time_ns":{time_ns},"source":"watcher",'
                    f'"source_sequence":{watcher},"transfer_id":"transfer-{watcher}","account":"{names[buyer]}",'
                    f'"asset":"USDC","amount":"{size_in_lots}.25","chain":"ethereum","status":"confirmed"}}\n'
                )
            else:
                fills += 1
                lines.append(
                    f'{{"type":"fill","event_id":"matching-{fills}","event_time_ns":{time_ns},"source":"matching",'
                    f'"source_sequence":{fills},"fill_id":"fill-{fills}","instrument":"{feeds[coin]}-PERP",'
                    f'"price":"{text}","quantity":"0.{size_in_lots:02d}","buyer":"{names[buyer]}",'
                    f'"seller":"{names[seller]}","buyer_fee":"0.01","seller_fee":"-0.002"}}\n'
                )
        yield "".join(lines).encode()


def write_small_events(path: Path, count: int, *, seed: int, accounts: int, days: float | None = None) -> int:
    """Write ``small_events`` to ``path``, compressed if it ends in ``.zst``; return the bytes before compression."""
    written = 0
    with path.open("wb") as file:
        sink = zstandard.ZstdCompressor(level=1).stream_writer(file) if path.suffix == ".zst" else file
        for block in small_events(count, seed=seed, accounts=accounts, days=days):
            sink.write(block)
            written += len(block)
        if sink is not file:
            sink.close()
    return written


def _opening(accounts: int) -> list[bytes]:
    """Return the lines that list the venue, open its accounts and fund them, all at the start."""
    lines = [
        _encode(AssetListed(**_named("venue", 1, 0), asset="USDC", decimals=6)),
    ]
    for number, (coin, _) in enumerate(_COINS, start=2):
        lines.append(
            _encode(
                InstrumentListed(
                    **_named("venue", number, 0),
                    instrument=f"{coin}-PERP",
                    kind="perpetual",
                    underlying=coin,
                    quote="USDC",
                    settlement_asset="USDC",
                    payoff="linear",
                    multiplier="1",
                    tick_size="0.01",
                    lot_size="0.01",
                )
            )
        )
    # In a short log spread over many days, ticks are hours apart: no age limit may pass between two of them.
    oracle = {"price_age_ns_max": 7 * DAY_NS, "mark_age_ns_max": 7 * DAY_NS}
    number = len(_COINS) + 2
    lines.append(_encode(ParametersChanged(**_named("venue", number, 0), name="oracle", parameters=oracle)))
    names = [f"account-{account:07d}" for account in range(accounts)]
    lines.extend(
        _encode(
            AccountOpened(
                **_named("venue", opening, 0),
                account=account,
                margin_model="tidegate-standard",
                margin_mode="cross",
            )
        )
        for opening, account in enumerate(names, start=number + 1)
    )
    lines.extend(
        _encode(
            Collateral(
                **_named("opening", deposit, 1),
                transfer_id=f"opening-{deposit}",
                account=account,
                asset="USDC",
                amount=from_units(_DEPOSIT_UNITS, 6),
                chain="ethereum",
                status="confirmed",
            )
        )
        for deposit, account in enumerate(names, start=1)
    )
    return lines


def _named(source: str, number: int, minute: int) -> dict[str, Any]:
    time_ns = START_NS + minute * 60_000_000_000
    return {"event_id": f"{source}-{number}", "event_time_ns": time_ns, "source": source, "source_sequence": number}
