"""The calibration flow gives what its step gives, snapshot by snapshot."""

import numpy as np
from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from flows.calibration.flow import calibration
from flows.calibration.step import Calibration, CalibrationOut, Quotes
from flows.pricing.black76 import black76_price

DAY_NS = 86_400_000_000_000
TIME_NS = 1_773_360_000_000_000_000


def some_quotes(hour: int, vol: float) -> Quotes:
    """Return a chain of one expiry, all strikes at one vol, with a spread of two cents."""
    strike = np.linspace(70.0, 140.0, 15)
    expiry_ns = TIME_NS + 30 * DAY_NS
    time_ns = TIME_NS + hour * 3_600_000_000_000
    forward = np.full(15, 100.0)
    is_call = strike >= 100.0
    price = black76_price(
        forward=forward,
        strike=strike,
        time_to_expiry=np.full(15, (expiry_ns - time_ns) / (365 * DAY_NS)),
        implied_vol=np.full(15, vol),
        is_call=is_call,
    )
    return Quotes(time_ns, "venue", "BTC", np.full(15, expiry_ns), strike, is_call, price - 0.01, price + 0.01, forward)


def test_the_flow_publishes_what_the_step_returns() -> None:
    """One stage, one order: Bytewax adds nothing."""
    snapshots = [some_quotes(hour, 0.6 + 0.05 * hour) for hour in range(4)]
    stage = Calibration()
    expected = [stage.step(quotes).events for quotes in snapshots]

    published: list[CalibrationOut] = []
    flow = Dataflow("calibrate")
    op.output("out", calibration("calibration", op.input("in", flow, TestingSource(snapshots)), Calibration()),
              TestingSink(published))  # fmt: skip
    run_main(flow)

    assert [out.events for out in published] == expected
    assert all(any(event.__class__.__name__ == "OracleVol" for event in events) for events in expected)
