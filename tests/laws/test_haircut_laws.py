"""Laws of haircuts that follow volatility.

1. A haircut is never below the asset's own nor above 1; without vol and doubt it is the asset's own.
2. It never falls when vol or doubt rises.
3. A larger move never leaves a smaller haircut than a smaller one of the same direction.
4. Vol is never more than all moves together would give in the time that is remembered.
"""

from itertools import pairwise
from math import log

from hypothesis import assume, given
from hypothesis import strategies as st

from flows.market.haircuts import haircut_of
from flows.market.volatility import DAY_NS, Volatility
from schemas.parameters import CollateralParameters

MINUTE_NS = 60_000_000_000
ratios = st.floats(0.0, 1.0)
variances = st.floats(0.0, 100.0)
parameter_sets = st.builds(
    CollateralParameters,
    vol_multiple=st.floats(0.0, 100.0),
    vol_horizon_ns=st.integers(0, 365 * DAY_NS),
    vol_decay_ns=st.integers(MINUTE_NS, 365 * DAY_NS),
    vol_sample_ns=st.just(MINUTE_NS),
    vol_haircut_max=st.floats(0.0, 0.999),
    confidence_multiple=st.floats(0.0, 100.0),
)
# (price, time since the sample before)
samples = st.lists(st.tuples(st.floats(1.0, 1e6), st.integers(MINUTE_NS, 30 * DAY_NS)), min_size=1, max_size=20)


def sampled(history: list[tuple[float, int]], parameters: CollateralParameters) -> Volatility:
    """Return what is known after some samples."""
    vol, now_ns = Volatility(), 0
    for price, elapsed_ns in history:
        now_ns += elapsed_ns
        vol = vol.sampled(price, now_ns, sample_ns=parameters.vol_sample_ns, decay_ns=parameters.vol_decay_ns)
    return vol


@given(own=ratios, variance=variances, confidence=ratios, parameters=parameter_sets)
def test_a_haircut_is_between_its_own_and_everything(
    own: float, variance: float, confidence: float, parameters: CollateralParameters
) -> None:
    """Law 1."""
    haircut = haircut_of(own=own, variance_per_day=variance, confidence=confidence, parameters=parameters)

    assert own <= haircut <= 1.0
    assert haircut_of(own=own, variance_per_day=0.0, confidence=0.0, parameters=parameters) == own


@given(own=ratios, low=variances, high=variances, sure=ratios, unsure=ratios, parameters=parameter_sets)
def test_a_haircut_never_falls_when_vol_or_doubt_rises(
    own: float, low: float, high: float, sure: float, unsure: float, parameters: CollateralParameters
) -> None:
    """Law 2."""
    assume(low <= high and sure <= unsure)

    calm = haircut_of(own=own, variance_per_day=low, confidence=sure, parameters=parameters)
    wild = haircut_of(own=own, variance_per_day=high, confidence=unsure, parameters=parameters)

    assert calm <= wild


@given(
    history=samples, smaller=st.floats(0.0, 3.0), larger=st.floats(0.0, 3.0), up=st.booleans(),
    elapsed_ns=st.integers(MINUTE_NS, DAY_NS), parameters=parameter_sets,
)  # fmt: skip
def test_a_larger_move_never_leaves_a_smaller_haircut(
    history: list[tuple[float, int]],
    smaller: float,
    larger: float,
    up: bool,
    elapsed_ns: int,
    parameters: CollateralParameters,
) -> None:
    """Law 3."""
    assume(smaller <= larger)
    before = sampled(history, parameters)

    def after(move: float) -> float:
        price = before.price * (1.0 + move if up else 1.0 / (1.0 + move))
        vol = sampled([*history, (price, elapsed_ns)], parameters)
        return haircut_of(own=0.1, variance_per_day=vol.variance_per_day, confidence=0.0, parameters=parameters)

    # The logarithm is good to two units in the last place.
    assert after(smaller) <= after(larger) * (1.0 + 1e-14)


@given(history=samples, parameters=parameter_sets)
def test_vol_is_bounded_by_its_moves(history: list[tuple[float, int]], parameters: CollateralParameters) -> None:
    """Law 4."""
    prices = [price for price, _ in history]

    vol = sampled(history, parameters)

    squares = sum(log(after / before) ** 2 for before, after in pairwise(prices))
    assert 0.0 <= vol.variance_per_day * (parameters.vol_decay_ns / DAY_NS) <= squares * (1.0 + 1e-12)
