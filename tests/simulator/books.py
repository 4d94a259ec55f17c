"""Who holds what: seeded books of any size, taken in through ``Risk.step`` in large frames.

1. An account has a style, one of ``STYLES``, 5 to 20 positions (12.5 on average) in different instruments, and a margin
   model of those that are asked for, in turn; some directional ones are isolated.
2. It is brought to a stated distance from its boundaries by a deposit, at the numbers of its own margin model: 1 % of
   accounts have equity within 5 % above their maintenance margin, 4 % lie between there and the watch boundary, the
   others above it. One in ten has a coin for part of its collateral.
3. An account depends on the seed and its place, not on how many there are.
4. Fills have the house on their other side, in every shard: positions and cash sum to zero.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from flows.risk.evaluation import Evaluation
from flows.risk.step import Risk
from schemas.ids import FIRST_ACCOUNT_NUMBER, HOUSE_NUMBER, shard_of
from schemas.ledger import AccountRecord, Frame, Genesis, GenesisRecord, Legs, MarketRecord, ParametersRecord
from schemas.parameters import CollateralParameters
from tests.simulator.frames import SHARDS, Frames, fills, transfers
from tests.simulator.paths import MarketPath
from tests.simulator.venue import COIN_DECIMALS, DOLLAR, DOLLAR_DECIMALS, Venue

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

STYLES: Final = ("directional", "short vol", "hedged", "long vol", "several underlyings")
DIRECTIONAL, SHORT_VOL, HEDGED, LONG_VOL, SEVERAL = range(5)
MODELS: Final = ("tidegate-portfolio", "tidegate-standard", "tidegate-standard")
BLOCK: Final = 16_384
_SHARES: Final = (0.35, 0.2, 0.2, 0.1, 0.15)
_POSITIONS: Final = (5, 20)
_UNDERLYINGS_MAX: Final = 4
_LOTS: Final = 20.0
_SIZE_SIGMA: Final = 1.2
_SIZE_MAX: Final = 60.0
_ISOLATED_SHARE: Final = 0.1
_NEAR, _MIDDLE = 0.01, 0.04  # shares of accounts near maintenance, and from there to the watch boundary
_COIN_SHARE: Final = 0.1
# Every account has this while it trades, so that nobody is liquidated before the book stands.
_ENDOWMENT: Final = 10_000_000 * 10**DOLLAR_DECIMALS
_HAIRCUTS: Final = {"USD": 0.0, "USDC": 0.0, "BTC": 0.1, "ETH": 0.15}


class NotCovered(Exception):  # noqa: N818 - says what happened
    """A margin model has no requirement for what its accounts are dealt."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """A block of n accounts and their P positions, account after account; ``account`` counts from 0 in the block."""

    style: Int64Array
    isolated: BoolArray
    account: Int64Array
    instrument: Int64Array
    lots: Int64Array


def holdings(venue: Venue, block: int, count: int, seed: int) -> Holdings:
    """Return the first ``count`` accounts of a block."""
    rng = np.random.Generator(np.random.PCG64([seed, block, 1]))
    style = rng.choice(len(STYLES), BLOCK, p=_SHARES)
    held = rng.integers(_POSITIONS[0], _POSITIONS[1] + 1, BLOCK)
    size = _LOTS * np.minimum(np.exp(_SIZE_SIGMA * rng.standard_normal(BLOCK)), _SIZE_MAX)
    side = rng.choice((-1.0, 1.0), BLOCK)
    pool = min(pool.shape[0] for pool in venue.pools)
    several = rng.integers(2, min(_UNDERLYINGS_MAX, len(venue.underlyings)) + 1, BLOCK)
    # In a small pool nobody finds so many different instruments of one underlying.
    underlyings = np.maximum(np.where(style == SEVERAL, several, 1), -(-held // pool))
    isolated = (rng.random(BLOCK) < _ISOLATED_SHARE) & (style == DIRECTIONAL) & (underlyings == 1)
    first = rng.integers(0, len(venue.underlyings), BLOCK)
    # First the linear perpetual, then others: a stride without a factor in common meets none of them twice.
    others = pool - 1
    coprime = np.array([stride for stride in range(1, others) if np.gcd(stride, others) == 1])
    start, stride = rng.integers(0, others, BLOCK), rng.choice(coprime, BLOCK)

    account = np.repeat(np.arange(BLOCK), held)
    place = np.arange(account.shape[0]) - np.repeat(np.cumsum(held) - held, held)
    along, turn = np.divmod(place, underlyings[account])
    within = np.where(along == 0, 0, 1 + (start[account] + stride[account] * along) % others)
    table = np.stack([instruments[:pool] for instruments in venue.pools])
    instrument = table[(first[account] + turn) % len(venue.underlyings), within]

    chance = rng.choice((-1.0, 1.0), account.shape[0])
    rule = np.select(
        [style == DIRECTIONAL, style == SHORT_VOL, style == HEDGED, style == LONG_VOL], [0, 1, 2, 3], default=4
    )[account]
    option = venue.is_option[instrument]
    sign = np.select(
        [
            rule == DIRECTIONAL,
            (rule == SHORT_VOL) & option,
            (rule == HEDGED) & option,
            (rule == LONG_VOL) & option,
        ],
        [side[account] * venue.direction[instrument], -1.0, np.where(place % 2 == 0, 1.0, -1.0), 1.0],
        default=chance,
    )
    lots = sign * np.maximum(1.0, np.rint(size[account] * np.exp(0.5 * rng.standard_normal(account.shape[0]))))
    kept = account < count
    return Holdings(
        style[:count], isolated[:count], account[kept], instrument[kept].astype(np.int64), lots[kept].astype(np.int64)
    )


class BookBuilder:
    """Takes a book in.

    Parameters
    ----------
    take : takes a frame into every book that is built; ``risk`` is one of them, and is asked for numbers.
    show : called with accounts done and accounts in all, twice over.
    """

    def __init__(
        self,
        path: MarketPath,
        frames: Frames,
        risk: Risk,
        take: Callable[[Frame], object],
        *,
        models: Sequence[str] = MODELS,
        seed: int,
        show: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._path = path
        self._venue = path.venue
        self._frames = frames
        self._risk = risk
        self._take = take
        self._models = models
        self._seed = seed
        self._show = show

    def build(self, accounts: int) -> None:
        """List the venue, open the accounts, trade, and leave everybody with what they are to have."""
        for market in (list(listing(self._venue)), self._path.opening()):
            self._take(self._frames.frame(self._path.start_ns, market))
        blocks = [(block, min(BLOCK, accounts - block * BLOCK)) for block in range(-(-accounts // BLOCK))]
        for block, count in blocks:
            self._trade(block, count)
            self._show(block * BLOCK + count, 2 * accounts)
        for block, count in blocks:
            self._settle_down(block, count)
            self._show(accounts + block * BLOCK + count, 2 * accounts)

    def _send(self, legs: Legs, market: Sequence[MarketRecord] = ()) -> None:
        self._take(self._frames.frame(self._path.start_ns, market, legs))
        self._take(self._frames.barrier(self._path.start_ns))

    def _trade(self, block: int, count: int) -> None:
        held = holdings(self._venue, block, count, self._seed)
        number = FIRST_ACCOUNT_NUMBER + block * BLOCK + np.arange(count)
        records = [
            AccountRecord(
                account, account_id(account), self._models[account % len(self._models)],
                "isolated" if isolated else "cross",
            )
            for account, isolated in zip(number.tolist(), held.isolated.tolist(), strict=True)
        ]  # fmt: skip
        instant = self._risk.instant
        assert instant is not None
        asset = instant.settlement_asset[held.instrument].astype(np.int64)
        units = np.rint(instant.value / instant.asset_unit[instant.settlement_asset]).astype(np.int64)
        cash = -held.lots * units[held.instrument]
        buyers = fills(
            number[held.account], np.full(held.account.shape[0], int(HOUSE_NUMBER)), held.instrument, asset, held.lots,
            cash, self._path.start_ns,
        )  # fmt: skip
        endowment = transfers(number, DOLLAR, np.full(count, _ENDOWMENT), self._path.start_ns)
        self._send(np.concatenate([endowment, buyers, _house_legs(buyers)]), records)

    def _settle_down(self, block: int, count: int) -> None:
        """Move money until equity is what it is to be; the endowment goes."""
        rng = np.random.Generator(np.random.PCG64([self._seed, block, 2]))
        number = FIRST_ACCOUNT_NUMBER + block * BLOCK + np.arange(count)
        rows = self._risk.book.customer_rows[block * BLOCK : block * BLOCK + count]
        now = self._risk.evaluate(rows)
        instant = self._risk.instant
        assert instant is not None
        unknown = np.flatnonzero(now.undecidable)
        if unknown.shape[0]:
            model = self._models[int(number[unknown[0]]) % len(self._models)]
            raise NotCovered(
                f"{model} has no requirement for account {account_id(int(number[unknown[0]]))}'s positions"
            )
        wanted, is_near = _equity(now, instant.ladder.watch_multiple, rng)
        missing = wanted - now.equity
        with_coin = (rng.random(BLOCK)[:count] < _COIN_SHARE) & ~is_near & ~self._risk.book.isolated[rows]
        parts = []
        for asset in self._venue.coins.values():
            chosen = np.flatnonzero(with_coin & (number % len(self._venue.coins) == asset - 1))
            coins = np.floor(0.4 * wanted[chosen] / instant.asset_price[asset] * 10**COIN_DECIMALS)
            worth = coins * instant.asset_unit[asset] * instant.asset_price[asset] * (1.0 - instant.haircut[asset])
            missing[chosen] -= worth
            parts.append(transfers(number[chosen], asset, coins.astype(np.int64), self._path.start_ns))
        # What is left of an endowment counts less its haircut, as the endowment did.
        dollar = instant.asset_price[DOLLAR] * (1.0 - instant.haircut[DOLLAR])
        dollars = np.rint(missing / dollar * 10**DOLLAR_DECIMALS).astype(np.int64)
        self._send(np.concatenate([*parts, transfers(number, DOLLAR, dollars, self._path.start_ns)]))


def listing(venue: Venue) -> Iterator[MarketRecord]:
    """Yield the records that begin a ledger."""
    yield GenesisRecord(Genesis(ledger_id="simulator"))
    yield ParametersRecord("collateral", CollateralParameters(haircuts=_HAIRCUTS).model_dump_json())
    yield from venue.assets
    yield from venue.instruments


def account_id(number: int) -> str:
    """Return the id of an account."""
    return f"a{number}"


def _equity(now: Evaluation, watch_multiple: float, rng: np.random.Generator) -> tuple[Float64Array, BoolArray]:
    """Return what each account is to be worth, and which are near their maintenance margin."""
    count = now.equity.shape[0]
    share, along, beyond = rng.random(BLOCK)[:count], rng.random(BLOCK)[:count], rng.standard_normal(BLOCK)[:count]
    near = 1.05 * now.maintenance_margin
    watch = np.maximum(watch_multiple * now.initial_margin, near)
    wanted = watch * (1.0 + np.exp(beyond - 0.5))
    middle = share < _NEAR + _MIDDLE
    wanted[middle] = (near + along * (watch - near))[middle]
    is_near = share < _NEAR
    wanted[is_near] = ((1.0 + 0.05 * along) * now.maintenance_margin)[is_near]
    return np.maximum(wanted, 100.0), is_near


def _house_legs(legs: Legs) -> Legs:
    """Return the house's side of fills, netted by shard and instrument."""
    account, place = np.unique(legs["account"], return_inverse=True)
    shard = np.array([int(shard_of(account_id(number), SHARDS)) for number in account.tolist()])[place]
    instrument = legs["instrument"].astype(np.int64)
    groups, first, group = np.unique(
        shard * (int(instrument.max()) + 1) + instrument, return_index=True, return_inverse=True
    )
    lots, cash = np.zeros(groups.shape[0], np.int64), np.zeros(groups.shape[0], np.int64)
    np.add.at(lots, group, legs["lots"])
    np.add.at(cash, group, legs["cash"])
    sample = legs[first]
    return fills(
        np.full(groups.shape[0], int(HOUSE_NUMBER)), sample["account"].astype(np.int64),
        sample["instrument"].astype(np.int64), sample["asset"].astype(np.int64), -lots, -cash,
        int(sample["time_ns"][0]),
    )  # fmt: skip
