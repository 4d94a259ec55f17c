"""The demo's market: one crash day of two coins, as arrays over its instants.

A jump-diffusion in stress: a calm morning; then a crash of some 27 % (BTC) and 30 % (ETH) with six jumps; then a
partial recovery. Volatility, skew, premium and the forward basis follow one stress variable. Everything here is
invented. Nothing is fitted to a real day.

1. An instant is a whole second. The grid is 10 s in calm, 3 s around the crash and 1 s inside it.
2. The path is a function of the seed and the length of the day alone: not of the accounts, not of what is traded.
3. Times of the plot are fractions of the day, so a short day holds the same story.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from infra.demo.portable import Float64Array, gaussian, generator
from infra.demo.venue import MINUTE_NS, SECOND_NS, SPOT_AT_START, START_NS, UNDERLYINGS, YEAR_NS

# The plot, in fractions of the day.
TRADING_STARTS: Final = 1 / 96
OPENING_ENDS: Final = 1 / 6
EXPIRY: Final = 1 / 3
REORGANISED: Final = 0.28
BUSTED_FILL: Final = 0.38
BUSTED: Final = 0.42
CRASH_STARTS: Final = 0.5
CRASH_ENDS: Final = 0.5625
SHOULDER_ENDS: Final = 0.625
HAIRCUT_RAISED: Final = 0.52
DEPEG: Final = (0.51, 0.555)
HALT: Final = (0.53, 0.545)
# One source fails: silent, back with the price at which it stopped, well again, ten times too high, well again.
SOURCE_SILENT: Final = (0.44, 0.515)
SOURCE_STUCK: Final = (0.515, 0.58)
SOURCE_TENFOLD: Final = (0.66, 0.67)
# Every source of USDT/USD is silent for longer than a price may be old.
USDT_SILENT: Final = (0.75, 0.757)

SOURCES: Final[tuple[str, ...]] = ("atlas", "borealis", "cassini")
FAILING_SOURCE: Final = 1

_CRASH: Final = (0.72, 0.69)
_RECOVERY: Final = (1.10, 1.12)
# Place in the crash, size.
_JUMPS: Final = ((0.02, -0.03), (0.15, -0.025), (0.33, -0.04), (0.4, 0.02), (0.58, -0.045), (0.8, -0.025))
_VOL_CALM: Final = (0.42, 0.58)
_VOL_CRASH: Final = (1.5, 1.8)
_SMILE_WIDTH: Final = 1.0
_SMILE_SLOPE: Final = 0.35


@dataclass(frozen=True, slots=True)
class Smile:
    """Raw SVI of one expiry; see ``schemas.events.Svi``."""

    a: float
    b: float
    rho: float
    m: float
    sigma: float
    forward: float
    time_to_expiry: float

    def total_variance(self, log_moneyness: Float64Array) -> Float64Array:
        """Return the total variance at ln(strike / forward)."""
        centred = log_moneyness - self.m
        root: Float64Array = np.sqrt(centred * centred + self.sigma * self.sigma)
        return self.a + self.b * (self.rho * centred + root)


@dataclass(frozen=True, slots=True)
class MarketPath:
    """The day, for n instants and u underlyings.

    Attributes
    ----------
    time_ns : (n,), rising.
    first_of_minute : (minutes + 1,), where each minute's instants begin.
    index : (n, u), the true price that sources observe with noise.
    stress : (n,), 0 calm to 1.
    premium : (n, 3), of the perpetuals' marks over the index, as a fraction.
    usdt : (n,), true price of USDT; usdc : (n,).
    observed : (n, sources, u), what each source would publish.
    """

    time_ns: npt.NDArray[np.int64]
    first_of_minute: npt.NDArray[np.int64]
    index: Float64Array
    stress: Float64Array
    premium: Float64Array
    usdt: Float64Array
    usdc: Float64Array
    observed: Float64Array
    duration_ns: int

    def fraction(self, time_ns: int) -> float:
        """Return how much of the day has passed."""
        return (time_ns - START_NS) / self.duration_ns

    def basis(self, instant: int) -> float:
        """Return the annual carry of forwards: positive in calm, negative in stress."""
        return 0.06 - 0.14 * float(self.stress[instant])

    def forward(self, instant: int, underlying: int, expiry_ns: int) -> float:
        """Return the forward of an expiry, quote per underlying."""
        years = max(expiry_ns - int(self.time_ns[instant]), 0) / YEAR_NS
        return float(self.index[instant, underlying]) * (1.0 + self.basis(instant) * years)

    def smile(self, instant: int, underlying: int, expiry_ns: int) -> Smile:
        """Return the smile of an expiry that has not passed."""
        stress = float(self.stress[instant])
        years = max(expiry_ns - int(self.time_ns[instant]), MINUTE_NS) / YEAR_NS
        short = (0.46, 0.6)[underlying] + stress * (1.1, 1.25)[underlying]
        long = (0.52, 0.66)[underlying] + stress * (0.3, 0.35)[underlying]
        vol = long + (short - long) / (1.0 + 12.0 * years)
        deviation = vol * float(np.sqrt(years))
        rho = -0.25 - 0.35 * stress
        sigma = _SMILE_WIDTH * deviation
        b = _SMILE_SLOPE * deviation
        return Smile(
            a=deviation * deviation - b * sigma,
            b=b,
            rho=rho,
            m=0.0,
            sigma=sigma,
            forward=self.forward(instant, underlying, expiry_ns),
            time_to_expiry=years,
        )


def within(fraction: float, window: tuple[float, float]) -> bool:
    """Return whether a fraction of the day lies in a window of the plot."""
    return window[0] <= fraction < window[1]


def market_path(*, seed: int, minutes: int) -> MarketPath:
    """Return the path of a day of ``minutes`` minutes."""
    duration_ns = minutes * MINUTE_NS
    time_ns, first_of_minute = _grid(minutes, duration_ns)
    passed = (time_ns - START_NS) / duration_ns
    crash = np.clip((passed - CRASH_STARTS) / (CRASH_ENDS - CRASH_STARTS), 0.0, 1.0)
    stress = _stress(passed, crash, seed)
    index = _index(time_ns, passed, crash, stress, seed)
    count = len(time_ns)

    premium = 0.0002 + 0.00005 * gaussian(generator(seed, 3), count, 3) - 0.0025 * stress[:, None]
    depth = np.where((passed >= DEPEG[0]) & (passed < DEPEG[1]), 4.0 * crash * (1.0 - crash), 0.0)
    noise = gaussian(generator(seed, 4), count, 2)
    usdt = 1.0 - 0.0001 - 0.065 * depth + 0.00005 * noise[:, 0]
    usdc = 1.0 + 0.00003 * noise[:, 1]

    spread = 0.0001 + 0.0006 * stress
    error = gaussian(generator(seed, 5), count, len(SOURCES), len(UNDERLYINGS))
    observed = index[:, None, :] * (1.0 + spread[:, None, None] * error)
    stopped = max(int(np.searchsorted(passed, SOURCE_SILENT[0])) - 1, 0)
    stuck = (passed >= SOURCE_STUCK[0]) & (passed < SOURCE_STUCK[1])
    observed[stuck, FAILING_SOURCE] = observed[stopped, FAILING_SOURCE]
    observed[(passed >= SOURCE_TENFOLD[0]) & (passed < SOURCE_TENFOLD[1]), FAILING_SOURCE] *= 10.0
    return MarketPath(
        time_ns=time_ns,
        first_of_minute=first_of_minute,
        index=index,
        stress=stress,
        premium=premium,
        usdt=usdt,
        usdc=usdc,
        observed=observed,
        duration_ns=duration_ns,
    )


def _grid(minutes: int, duration_ns: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the instants, and the place of each minute's first."""
    times: list[int] = []
    firsts: list[int] = []
    for minute in range(minutes):
        passed = minute * MINUTE_NS / duration_ns
        if CRASH_STARTS <= passed < CRASH_ENDS:
            step = 1
        elif CRASH_ENDS <= passed < SHOULDER_ENDS:
            step = 3
        else:
            step = 10
        firsts.append(len(times))
        begins = START_NS + minute * MINUTE_NS
        times.extend(begins + second * SECOND_NS for second in range(0, 60, step))
    firsts.append(len(times))
    return np.array(times, dtype=np.int64), np.array(firsts, dtype=np.int64)


def _stress(passed: Float64Array, crash: Float64Array, seed: int) -> Float64Array:
    """Return the stress: up at once at the first jump, full at two thirds of the crash, slowly down after it."""
    rising = np.where(crash > 0.0, np.minimum(0.35 + crash, 1.0), 0.0)
    after = np.clip((passed - CRASH_ENDS) / (1.0 - CRASH_ENDS), 0.0, 1.0)
    noise = 1.0 + 0.02 * gaussian(generator(seed, 1), len(passed))
    return np.clip(rising * (1.0 - 0.7 * after) * noise, 0.0, 1.0)


def _index(
    time_ns: npt.NDArray[np.int64], passed: Float64Array, crash: Float64Array, stress: Float64Array, seed: int
) -> Float64Array:
    """Return the (n, u) price path: diffusion, jumps, and a ramp that brings the crash to its depth."""
    random = generator(seed, 2)
    count = len(time_ns)
    years = np.diff(time_ns, prepend=time_ns[0]) / YEAR_NS
    common, own = gaussian(random, count), gaussian(random, count)
    shocks = np.stack([common, 0.85 * common + 0.5267826876426369 * own], axis=1)
    vol = np.array(_VOL_CALM) + stress[:, None] * (np.array(_VOL_CRASH) - np.array(_VOL_CALM))
    factors = 1.0 + vol * np.sqrt(years)[:, None] * shocks
    for place, size in _JUMPS:
        at = int(np.searchsorted(crash, place))
        if at < count:
            scale = 0.75 + 0.5 * random.random()
            factors[at] *= (1.0 + size * scale, 1.0 + 1.15 * size * scale)
    path: Float64Array = np.array(SPOT_AT_START) * np.cumprod(factors, axis=0)

    starts = max(int(np.searchsorted(passed, CRASH_STARTS)) - 1, 0)
    ends = min(int(np.searchsorted(passed, CRASH_ENDS)), count - 1)
    after = np.clip((passed - CRASH_ENDS) / (1.0 - CRASH_ENDS), 0.0, 1.0)
    depth = np.array(_CRASH) + 0.02 * random.random(2)
    fall = depth * path[starts] / path[ends]
    path *= 1.0 + (fall - 1.0) * crash[:, None]
    path *= 1.0 + (np.array(_RECOVERY) * path[ends] / path[-1] - 1.0) * after[:, None]
    return path
