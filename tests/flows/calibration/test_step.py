"""The calibration stage: quotes in, events or reasons out."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from scipy.special import ndtr

from flows.calibration.step import Calibration, Limits, Quotes, RefusalReason, SmileKind
from flows.calibration.svi import Slice
from schemas.events import AnyEvent, OracleForward, OracleVol

DAY_NS = 86_400 * 1_000_000_000
NOW_NS = 1_770_000_000 * 1_000_000_000
NEAR, FAR = NOW_NS + 30 * DAY_NS, NOW_NS + 90 * DAY_NS


def a_slice(expiry_ns: int, level: float = 0.5) -> Slice:
    time = (expiry_ns - NOW_NS) / (365 * DAY_NS)
    return Slice(a=0.5 * level**2 * time, b=0.1 * level, rho=-0.3, m=0.0, sigma=0.12, time_to_expiry=time)


def a_chain(slices: dict[int, Slice], forward: float = 70_000.0, strikes: int = 15, spread: float = 0.01) -> Quotes:
    """Quote both options of every strike around the slices' vols, ``spread`` of vol wide."""
    rows: list[tuple[int, float, bool, float, float]] = []
    for expiry_ns, slice_ in slices.items():
        for k in np.linspace(-0.35, 0.35, strikes):
            strike = forward * float(np.exp(k))
            vol = float(slice_.implied_vol(np.array([k]))[0])
            for call in (True, False):
                prices = [_price(forward, strike, slice_.time_to_expiry, vol + d, call) for d in (-spread, spread)]
                rows.append((expiry_ns, strike, call, prices[0], prices[1]))
    columns = list(zip(*rows, strict=True))
    return Quotes(
        time_ns=NOW_NS,
        source="deribit",
        underlying="BTC",
        expiry_ns=np.array(columns[0], dtype=np.int64),
        strike=np.array(columns[1]),
        is_call=np.array(columns[2]),
        bid=np.array(columns[3]),
        ask=np.array(columns[4]),
        forward=np.full(len(rows), forward),
    )


def _price(forward: float, strike: float, time: float, vol: float, call: bool) -> float:
    deviation = vol * time**0.5
    d1 = np.log(forward / strike) / deviation + deviation / 2.0
    sign = 1.0 if call else -1.0
    return float(sign * (forward * ndtr(sign * d1) - strike * ndtr(sign * (d1 - deviation))))


def test_a_clean_chain_gives_a_forward_and_a_smile_for_each_expiry() -> None:
    """Fails if the emitted smile, read back from its decimals, is not the quoted one."""
    slices = {NEAR: a_slice(NEAR), FAR: a_slice(FAR)}

    out = Calibration().step(a_chain(slices))

    assert [type(event) for event in out.events] == [OracleForward, OracleVol, OracleForward, OracleVol]
    assert [report.refused for report in out.reports] == [None, None]
    for event in out.events:
        decoded = msgspec.json.decode(msgspec.json.encode(event), type=AnyEvent)
        if isinstance(decoded, OracleVol):
            assert decoded.svi is not None
            values = {name: float(getattr(decoded.svi, name)) for name in decoded.svi.__struct_fields__}
            assert values.pop("forward") == 70_000.0
            k = np.linspace(-0.35, 0.35, 15)
            quoted = slices[decoded.expiry_ns].implied_vol(k)
            assert Slice(**values).implied_vol(k) == pytest.approx(quoted, abs=5e-4)


def test_the_order_of_quotes_changes_nothing() -> None:
    """Fails if a fit depends on how the snapshot's rows were sorted."""
    chain = a_chain({NEAR: a_slice(NEAR), FAR: a_slice(FAR)})
    shuffled = np.random.default_rng(7).permutation(chain.strike.size)
    columns = ("expiry_ns", "strike", "is_call", "bid", "ask", "forward")
    other = replace(chain, **{name: getattr(chain, name)[shuffled] for name in columns})

    assert Calibration().step(chain).events == Calibration().step(other).events


def test_a_refused_smile_leaves_the_last_good_one_in_force() -> None:
    """Fails if an expiry with too few quotes emits a smile, or its forward is lost with it."""
    calibration = Calibration()
    calibration.step(a_chain({NEAR: a_slice(NEAR)}))
    thin = a_chain({NEAR: a_slice(NEAR)}, strikes=5)

    out = calibration.step(replace(thin, time_ns=NOW_NS + 60_000_000_000))

    assert [type(event) for event in out.events] == [OracleForward]
    assert out.reports[0].refused is RefusalReason.TOO_FEW_QUOTES
    assert out.reports[0].in_force_ns == NOW_NS


def test_a_smile_that_no_slice_fits_is_refused() -> None:
    """Fails if the residual limit is not applied: alternating vols are no smile."""
    chain = a_chain({NEAR: a_slice(NEAR)})
    jagged = np.where((np.arange(chain.strike.size) // 2) % 2 == 0, 0.90, 1.15)

    out = Calibration(Limits(rms_vol_max=0.02)).step(replace(chain, bid=chain.bid * jagged, ask=chain.ask * jagged))

    assert out.reports[0].refused is RefusalReason.POOR_FIT
    assert out.reports[0].fit is not None


def test_calendar_arbitrage_is_refused() -> None:
    """Fails if a later expiry with far less total variance than an earlier one becomes a surface."""
    out = Calibration().step(a_chain({NEAR: a_slice(NEAR, level=0.9), FAR: a_slice(FAR, level=0.3)}))

    assert out.reports[0].refused is None
    assert out.reports[1].refused in (RefusalReason.CALENDAR, RefusalReason.POOR_FIT)
    assert sum(isinstance(event, OracleVol) for event in out.events) == 1


def test_quoted_points_are_told_as_they_are_quoted() -> None:
    """Fails if a strike or its vol is lost, twice told, or not that of the mid."""
    slices = {NEAR: a_slice(NEAR), FAR: a_slice(FAR)}

    out = Calibration(kind=SmileKind.POINTS).step(a_chain(slices))

    smiles = [event for event in out.events if isinstance(event, OracleVol)]
    assert [report.refused for report in out.reports] == [None, None]
    assert [report.in_force_ns for report in out.reports] == [NOW_NS, NOW_NS]
    for smile in smiles:
        assert smile.svi is None
        assert smile.points is not None
        assert len(smile.points) == 15
        k = np.log(np.array([float(point.strike) for point in smile.points]) / 70_000.0)
        quoted = slices[smile.expiry_ns].implied_vol(k)
        assert [float(point.implied_vol) for point in smile.points] == pytest.approx(quoted, abs=1e-3)


def test_points_stand_in_for_a_fit_that_is_refused() -> None:
    """Fails if a thin chain, which no fit is made of, leaves the expiry without a smile; or its reason is not told."""
    thin = a_chain({NEAR: a_slice(NEAR), FAR: a_slice(FAR)}, strikes=5)

    out = Calibration(kind=SmileKind.FIT_OR_POINTS).step(thin)
    alone = Calibration(kind=SmileKind.FIT).step(thin)

    assert [report.refused for report in out.reports] == [RefusalReason.TOO_FEW_QUOTES] * 2
    assert [report.in_force_ns for report in out.reports] == [NOW_NS, NOW_NS]
    assert [event.points is not None for event in out.events if isinstance(event, OracleVol)] == [True, True]
    assert not any(isinstance(event, OracleVol) for event in alone.events)


def test_a_good_fit_is_not_replaced_by_points() -> None:
    """Fails if the alternative is told beside, or instead of, what was asked for first."""
    chain = a_chain({NEAR: a_slice(NEAR)})

    events = [Calibration(kind=kind).step(chain).events for kind in (SmileKind.FIT, SmileKind.FIT_OR_POINTS)]

    assert events[0] == events[1]


@pytest.mark.parametrize(("bump", "refused"), [(0.0, None), (0.002, None), (0.06, RefusalReason.BUTTERFLY)])
def test_crossed_points_are_refused(bump: float, refused: RefusalReason | None) -> None:
    """Fails if a butterfly can be bought for less than nothing; or if a dearer middle that is none is refused."""
    chain = a_chain({NEAR: a_slice(NEAR)}, spread=0.004)
    middle = chain.strike == np.unique(chain.strike)[9]
    up = np.where(middle, bump * chain.strike * 0.1, 0.0)

    out = Calibration(kind=SmileKind.POINTS).step(replace(chain, bid=chain.bid + up, ask=chain.ask + up))

    assert out.reports[0].refused is refused
    assert (out.reports[0].in_force_ns is None) == (refused is not None)


def test_points_that_undercut_the_expiry_before_are_refused() -> None:
    """Fails if calendar arbitrage is looked for in fits alone."""
    chain = a_chain({NEAR: a_slice(NEAR, level=0.9), FAR: a_slice(FAR, level=0.3)})

    out = Calibration(kind=SmileKind.POINTS).step(chain)

    assert [report.refused for report in out.reports] == [None, RefusalReason.CALENDAR]


def test_an_expired_chain_emits_nothing() -> None:
    """Fails if a smile of no time at all is emitted at or after expiry."""
    chain = replace(a_chain({NEAR: a_slice(NEAR)}), time_ns=NEAR)

    out = Calibration().step(chain)

    assert out.events == []
    assert out.reports[0].refused is RefusalReason.EXPIRED
