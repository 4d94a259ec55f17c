"""``example-gross-net``: 2 % of everything that is held, and 8 % of what is left of each underlying after netting."""

from dataclasses import dataclass

import numpy as np

from flows.margin.model import Float64Array, Int64Array, PositionColumns
from flows.market.columns import InstrumentColumns
from schemas.parameter_set import ParameterSet, Ratio


class GrossNetParameters(ParameterSet):
    """Rates to stay; to begin with, half as much again is needed."""

    gross_rate: Ratio = 0.02
    net_rate: Ratio = 0.08


@dataclass(frozen=True, slots=True)
class GrossNetTables:
    """Of a long lot, numeraire, times its rate: ``gross`` (K,), >= 0, and ``net`` (K,), signed; ``underlying`` (K,)."""

    gross: Float64Array
    net: Float64Array
    underlying: Int64Array
    underlyings: int


class GrossNetMargin:
    """The model; without state."""

    name = "example-gross-net"
    parameters_type = GrossNetParameters

    def tables(self, columns: InstrumentColumns, parameters: GrossNetParameters) -> GrossNetTables:
        """Return what the market says of each instrument, once an instant."""
        return GrossNetTables(
            gross=columns.notional * parameters.gross_rate,
            net=columns.greeks[:, 0] * columns.index_price * parameters.net_rate,
            underlying=columns.underlying.astype(np.int64),
            underlyings=len(columns.underlyings),
        )

    def requirements(
        self, tables: GrossNetTables, positions: PositionColumns, rows: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return ``(initial, maintenance)``, each (n,), numeraire."""
        places = positions.places(rows)
        account = np.repeat(np.arange(len(rows)), positions.count[rows])
        held, lots = positions.instrument[places], positions.lots[places]
        # bincount adds in the order of positions, so an account's number does not depend on its neighbours.
        gross = np.bincount(account, np.abs(lots) * tables.gross[held], len(rows))
        group = account * tables.underlyings + tables.underlying[held]
        net = np.abs(np.bincount(group, lots * tables.net[held], len(rows) * tables.underlyings))
        net = np.bincount(np.repeat(np.arange(len(rows)), tables.underlyings), net, len(rows))
        return 1.5 * np.add(gross, net), np.add(gross, net)


MODEL = GrossNetMargin()
