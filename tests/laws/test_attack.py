"""The attack on bounds of health is itself held to account: it finds what is wrong, and not what is right."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from flows.margin.deribit_standard_book import MODEL as DERIBIT
from flows.margin.derive_pmrm2_book import MODEL as PMRM2
from flows.margin.model import MarginModel
from flows.margin.portfolio import MODEL as PORTFOLIO
from flows.screening.ranges import Accounts, Boundaries, Ranges
from schemas.events import InstrumentListed
from tests.laws.attack import Bands, Float64Array, Int64Array, Scene, attack, distances, opened
from tests.laws.worlds import INVERSE, Listing, Setting, a_world, derive_venue, linear_venue, options, perpetuals


def _inverse_venue() -> list[InstrumentListed]:
    return [*perpetuals(**INVERSE), *options(**INVERSE, tick_size="0.0005")]


SETTINGS = [
    (PORTFOLIO, linear_venue),
    (PMRM2, derive_venue),
    (DERIBIT, _inverse_venue),
]


@dataclass
class _Sampled:
    """Bounds that are no bounds: the least at some points, less a share of how far that is from here."""

    scene: Scene
    points: int
    share: float

    def write(self, ranges: Ranges, members: Int64Array) -> None:
        """Nothing is kept."""

    def slack(self, ranges: Ranges, accounts: Accounts, boundaries: Boundaries, rows: Int64Array) -> Float64Array:  # noqa: ARG002
        """Return the least of what is sampled."""
        rng = np.random.default_rng(5)
        here = distances(self.scene.health_at(self.scene.here, rows), boundaries)
        least = here
        for _ in range(self.points):
            point = rng.integers(0, 2, self.scene.size).astype(np.float64)
            least = np.minimum(least, distances(self.scene.health_at(point, rows), boundaries))
        known = np.isfinite(here)
        least[known] -= self.share * (here[known] - least[known]) + 1e-6
        return least


@pytest.mark.parametrize(("model", "listing"), SETTINGS)
def test_a_sampled_bound_is_found_out(model: MarginModel, listing: Listing) -> None:
    """Sampling corners is no bound: the search goes beyond them, and so does another sample."""
    scene = Scene(a_world(Setting(model, listing=listing), 1), Bands(0.0064))

    findings = attack(scene, opened(scene, lambda *_: _Sampled(scene, 20, 0.0)), seed=1)

    assert findings.violations
    assert findings.bounded == 1.0


@pytest.mark.parametrize(("model", "listing"), SETTINGS)
def test_a_bound_that_is_far_away_is_not(model: MarginModel, listing: Listing) -> None:
    """Ten times as far as anything sampled; what is truly lost is then about a tenth."""
    scene = Scene(a_world(Setting(model, listing=listing), 1), Bands(0.0064))

    findings = attack(scene, opened(scene, lambda *_: _Sampled(scene, 40, 9.0)), seed=1)

    assert findings.violations == []
    assert 0.05 < np.median(findings.tightness) < 0.5


@pytest.mark.parametrize(("model", "listing"), SETTINGS)
def test_the_market_stands_where_it_stood(model: MarginModel, listing: Listing) -> None:
    """At the point that is here, everyone has the numbers of the instant: the columns are moved, not made up."""
    world = a_world(Setting(model, listing=listing, orders=0.3), 2)
    scene = Scene(world, Bands(0.0064, tie=0.1))
    rows = world.risk.book.customer_rows
    instant = scene.market_at(scene.here)

    assert instant.value == pytest.approx(world.instant.value, rel=1e-12)
    assert instant.asset_price == pytest.approx(world.instant.asset_price)
    assert instant.haircut == pytest.approx(world.instant.haircut)
    assert world.risk.book.open_orders is not None
    assert np.isfinite(scene.health_at(scene.here, rows)).all()


_KINDS: dict[str, Callable[[Scene], Float64Array]] = {
    "spot": lambda scene: scene.columns.spot,
    "vol": lambda scene: scene.columns.implied_vol[scene.option],
    "ratio": lambda scene: (scene.columns.forward / scene.columns.index_price)[scene.option],
    "rate": lambda scene: scene.columns.rate,
    "time": lambda scene: -scene.columns.time_to_expiry[scene.option],
    "confidence": lambda scene: scene.columns.confidence,
    "doubt": lambda scene: scene.columns.assets.confidence,
    "price": lambda scene: scene.columns.assets.price[scene.spot_of < 0],
}


@pytest.mark.parametrize("kind", _KINDS)
def test_every_coordinate_moves_what_it_names(kind: str) -> None:
    """A coordinate that moved nothing would leave its range unattacked."""
    scene = Scene(a_world(Setting(PMRM2, listing=derive_venue), 1), Bands(0.0064))
    low, high = scene.here.copy(), scene.here.copy()
    low[scene.places[kind]], high[scene.places[kind]] = 0.0, 1.0

    scene.market_at(low)
    least = _KINDS[kind](scene).copy()
    scene.market_at(high)

    moved = _KINDS[kind](scene) - least
    assert (moved >= 0.0).all()
    # The numeraire's own price and its confidence stand still.
    assert (moved > 0.0).sum() >= moved.shape[0] - (kind == "price")
