"""What was recorded of two days moves the simulator's books, and what was not is named."""

import numpy as np
import pytest

from infra.imports.inputs import WrongInputError
from infra.run.screening import screening_policy
from schemas.ledger import MarkRecord, PriceRecord, SviRecord
from tests.builders import DAY_NS, SECOND_NS
from tests.simulator import real
from tests.simulator.judged import Run, judged_run, path_of
from tests.simulator.paths import MarketPath
from tests.simulator.real import DATA, RECORDED


def recorded(name: str, hours: float, tick_ns: int = SECOND_NS) -> MarketPath:
    """Return a path of a recorded day; skip where its files are not at hand."""
    try:
        return path_of(Run(accounts=1, path=name, hours=hours, tick_ns=tick_ns))
    except WrongInputError as error:
        pytest.skip(f"nothing is recorded at {DATA}: {error}")


def test_trades_are_told_as_they_were() -> None:
    """Fails where a price is not that of a trade, the fall is not the day's, or silence is filled."""
    path = recorded("2025-10-10", 1.0)
    ticks = [[it for it in records if isinstance(it, PriceRecord)] for _, records in path]
    marks = [it for _, records in recorded("2025-10-10", 1.0) for it in records if isinstance(it, MarkRecord)]
    bitcoin = np.array([it.price for tick in ticks for it in tick if it.feed == "BTC/USD"])

    assert path.ticks == 3_600
    assert bitcoin.min() == 107_000.0
    assert 115_000.0 < bitcoin.max() < 117_500.0
    assert 1_000 < bitcoin.shape[0] < 3_000
    assert len(marks) == 60
    assert min(it.price for it in marks) < 105_000.0


def test_chains_are_met_at_their_snapshots() -> None:
    """Fails where the path is elsewhere when a chain was recorded, or does not move between chains."""
    path = recorded("2026-02-05", 24.0, 60 * SECOND_NS)
    found = dict(path)
    prices = {now: [it.price for it in of if isinstance(it, PriceRecord)] for now, of in found.items()}
    # 15:51:32 and 21:29:37: the nearest ticks before and after hold the index to within what a minute moves it.
    for seconds, index in ((57_092, (67_984.99, 1_965.63)), (77_377, (63_858.345, 1_873.93))):
        moment = path.start_ns // DAY_NS * DAY_NS + seconds * SECOND_NS
        near = min(prices, key=lambda now: abs(now - moment))
        assert prices[near][:2] == pytest.approx(index, rel=3e-3)
    bitcoin = np.log([of[0] for of in prices.values()])

    assert 0.5 < np.diff(bitcoin).std() * (365 * 1_440) ** 0.5 < 1.2
    assert sum(isinstance(it, SviRecord) for of in found.values() for it in of) > 20_000


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_days_are_judged_alike(name: str) -> None:
    """Fails where a book cannot live through a recorded day, or where nothing in it is said to be synthetic."""
    recorded(name, 0.01)

    report = judged_run(Run(accounts=60, path=name, hours=1 / 15), screening_policy("boxes"))

    assert report.is_sound
    assert report.judged_ticks == 240
    assert "all accounts and what they do" in report.synthetic[-1]


def test_a_day_without_its_files_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a path without data is anything but a sentence that names the file."""
    monkeypatch.setattr(real, "DATA", real.DATA / "nowhere")

    for name in RECORDED:
        with pytest.raises(WrongInputError, match=r"nowhere/.*parquet is not a file"):
            path_of(Run(accounts=1, path=name))
