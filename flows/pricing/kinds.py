"""Instrument kinds as kernels see them: small integers, in columns."""

from typing import Final

from schemas.instruments import InstrumentKind

OPTION: Final = 0
FUTURE: Final = 1
PERPETUAL: Final = 2
SPOT: Final = 3
KIND_CODES: Final = {
    InstrumentKind.OPTION: OPTION,
    InstrumentKind.FUTURE: FUTURE,
    InstrumentKind.PERPETUAL: PERPETUAL,
    InstrumentKind.SPOT: SPOT,
}
