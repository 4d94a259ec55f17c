"""``example-gross-net``: 2 % of everything that is held, and 8 % of what is left of each underlying after netting."""

from dataclasses import dataclass

import numpy as np

from flows.margin.model import Float64Array, Int64Array, PositionColumns
from flows.market.columns import InstrumentColumns

GROSS_RATE, NET_RATE, INITIAL_FACTOR = 0.02, 0.08, 1.5


@dataclass(frozen=True, slots=True)
class GrossNetTables:
    """Of a long lot, numeraire: ``notional`` (K,), >= 0, and ``exposure`` (K,), signed; ``underlying`` (K,)."""

    notional: Float64Array
    exposure: Float64Array
    underlying: Int64Array
    underlyings: int


class GrossNetMargin:
    """The model; without state."""

    name = "example-gross-net"

    def tables(self, columns: InstrumentColumns, parameters: None) -> GrossNetTables:  # noqa: ARG002 - it has none
        """Return what the market says of each instrument, once an instant."""
        return GrossNetTables(
            notional=columns.notional.copy(),
            exposure=columns.greeks[:, 0] * columns.index_price,
            underlying=columns.underlying.astype(np.int64),
            underlyings=len(columns.underlyings),
        )

    def requirements(
        self, tables: GrossNetTables, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return ``(initial, maintenance)``, each (n,), numeraire."""
        accounts, underlyings = rows.shape[0], tables.underlyings
        places = positions.places(rows)
        account = np.repeat(np.arange(accounts), positions.count[rows])
        held = positions.instrument[places]
        lots = positions.lots[places].astype(np.float64)
        # bincount adds in the order of positions, so an account's number does not depend on its neighbours.
        gross = np.bincount(account, np.abs(lots) * tables.notional[held], accounts)
        group = account * underlyings + tables.underlying[held]
        net = np.abs(np.bincount(group, lots * tables.exposure[held], accounts * underlyings))
        net = np.bincount(np.repeat(np.arange(accounts), underlyings), net, accounts)
        maintenance = GROSS_RATE * gross + NET_RATE * net
        return INITIAL_FACTOR * maintenance, maintenance


MODEL = GrossNetMargin()
