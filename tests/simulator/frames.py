"""Ledger frames in order, as a reader behind intake sees them: without bytes, references and hash chain."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.ids import HOUSE_NUMBER
from schemas.ledger import NO_INSTRUMENT, Frame, FrameKind, LegFlag, LegKind, Legs, MarketRecord, empty_legs

Int64Array = npt.NDArray[np.int64]

SHARDS: Final = 16


class Frames:
    """Numbers frames."""

    def __init__(self) -> None:
        self._next = 0
        self._period = 0

    def frame(
        self,
        time_ns: int,
        market: Sequence[MarketRecord] = (),
        legs: Legs | None = None,
        kind: FrameKind = FrameKind.EVENTS,
    ) -> Frame:
        """Return the next frame."""
        number = self._next
        self._next += 1
        return Frame(
            number, kind, time_ns, self._period, SHARDS, list(market), empty_legs() if legs is None else legs, [], b"",
            b"", b"",
        )  # fmt: skip

    def barrier(self, time_ns: int) -> Frame:
        """Return the frame that closes the period."""
        closing = self.frame(time_ns, kind=FrameKind.BARRIER)
        self._period += 1
        return closing


def transfers(account: Int64Array, asset: int, units: Int64Array, time_ns: int) -> Legs:
    """Return money that comes, or leaves where negative."""
    return _legs(LegKind.TRANSFER, account, account, NO_INSTRUMENT, asset, 0, units, time_ns)


def withdrawals(account: Int64Array, asset: int, units: Int64Array, time_ns: int) -> Legs:
    """Return requests for money, ``units`` > 0."""
    return _legs(LegKind.WITHDRAWAL, account, account, NO_INSTRUMENT, asset, 0, -units, time_ns)


def fills(
    account: Int64Array,
    counterparty: Int64Array,
    instrument: Int64Array,
    asset: Int64Array,
    lots: Int64Array,
    cash: Int64Array,
    time_ns: int,
) -> Legs:
    """Return one side of trades."""
    return _legs(LegKind.FILL, account, counterparty, instrument, asset, lots, cash, time_ns)


def open_orders(
    account: Int64Array, instrument: Int64Array, lots: Int64Array, is_buy: npt.NDArray[np.bool_], time_ns: int
) -> Legs:
    """Return what remains of one side of open orders, ``lots`` >= 0."""
    house = np.full(account.shape[0], int(HOUSE_NUMBER))
    legs = _legs(
        LegKind.OPEN_ORDERS, account, house, instrument, 0, lots, np.zeros(account.shape[0], np.int64), time_ns
    )
    legs["flags"] = np.where(is_buy, int(LegFlag.BUYER), 0)
    return legs


def _legs(
    kind: LegKind,
    account: Int64Array,
    counterparty: Int64Array,
    instrument: Int64Array | int,
    asset: Int64Array | int,
    lots: Int64Array | int,
    cash: Int64Array,
    time_ns: int,
) -> Legs:
    legs = empty_legs(account.shape[0])
    for name, values in (
        ("index", np.arange(account.shape[0])), ("sequence", np.arange(account.shape[0])), ("kind", int(kind)),
        ("asset", asset), ("account", account), ("instrument", instrument), ("counterparty", counterparty),
        ("lots", lots), ("cash", cash), ("time_ns", time_ns),
    ):  # fmt: skip
        legs[name] = values
    return legs
