"""``derive-pmrm`` over whole books: the first portfolio model's part of ``flows.margin.derive_portfolio_book``.

1. The rules are those of ``flows.margin.derive_pmrm``, for each group of an account.
2. Options are not discounted, a static discount falls on positive shocked values alone, and the factor of the initial
   margin multiplies what is set aside, too.
3. An underlying's own spot is its only collateral; a positive balance of any other asset counts for nothing.
"""

import numpy as np

from flows.margin.breakdown import Breakdown
from flows.margin.derive import Float64Array, Options, exponentials, vol_multipliers
from flows.margin.derive_markets import NO_GROUP, Markets
from flows.margin.derive_portfolio_book import CollateralTables, DerivePortfolioModel, DerivePortfolioTables, Factors
from flows.margin.derive_portfolio_breakdown import portfolio_breakdown
from flows.margin.model import PositionColumns
from flows.market.columns import InstrumentColumns
from flows.market.listings import Listings
from schemas.derive_parameters import DerivePmrmParameters


class DerivePmrmModel(DerivePortfolioModel[DerivePmrmParameters]):
    """The model; without state."""

    name = "derive-pmrm"

    def discount(self, time: Float64Array, rate: Float64Array) -> Float64Array:  # noqa: ARG002 - it has none
        """Return ones, (n,)."""
        return np.ones(time.shape[0])

    def moved_vols(
        self,
        options: Options,
        seconds: Float64Array,
        forward: Float64Array,  # noqa: ARG002 - nothing is skewed
        parameters: DerivePmrmParameters,
    ) -> dict[str, Float64Array]:
        """Return the vols of n options under every move, by its name."""
        up, down = vol_multipliers(
            seconds,
            vol_up=parameters.vol_up,
            vol_down=parameters.vol_down,
            power_short=parameters.vol_power_short,
            power_long=parameters.vol_power_long,
            seconds_min=parameters.vol_seconds_min,
        )
        vol = options.implied_vol
        return {"none": vol, "up": vol * up[options.expiry], "down": vol * down[options.expiry]}

    def static_discounts(
        self, time: Float64Array, rate: Float64Array, parameters: DerivePmrmParameters
    ) -> tuple[Float64Array, Float64Array]:
        """Return by what a positive and a negative expiry is multiplied, each (X,)."""
        growth = rate * parameters.static_rate_scale + parameters.static_per_year
        return parameters.static_base * exponentials(-time * growth), np.ones(time.shape[0])

    def factors(self, settlement_price: Float64Array, parameters: DerivePmrmParameters) -> Factors:
        """Return by what losses and holdings are multiplied, from what each group settles in, (G,)."""
        gap = np.maximum(parameters.peg_threshold - settlement_price, 0.0)
        factor = parameters.initial_factor + gap * parameters.peg_factor
        return Factors(
            loss_initial=factor,
            loss_maintenance=1.0,
            set_aside_initial=factor,
            perpetual_maintenance=parameters.perpetual_contingency,
            option_maintenance=parameters.option_contingency,
            perpetual_initial=0.0,
            option_initial=0.0,
        )

    def collateral(
        self, columns: InstrumentColumns, markets: Markets, parameters: DerivePmrmParameters
    ) -> CollateralTables:
        """Return what each asset adds as collateral."""
        assets = columns.assets
        count = assets.price.shape[0]
        group = np.full(count, NO_GROUP, np.int64)
        confidence = np.ones(count)
        unit = np.zeros(count)
        follows = np.flatnonzero(~markets.cash & (assets.underlying >= 0))
        group[follows] = markets.home[assets.underlying[follows]]
        spot = group != NO_GROUP
        confidence[spot] = np.minimum(markets.asset_confidence[spot], markets.confidence[group[spot]])
        unit[spot] = markets.settlement_price[group[spot]]
        worth = np.where(spot, assets.price, 0.0)
        return CollateralTables(
            unit=assets.unit,
            group=group,
            worth=worth,
            uncounted=np.where(spot | markets.cash, 0.0, assets.price),
            # The venue takes these of the spot's notional in its own money, as of a perpetual's.
            maintenance=worth * unit * parameters.spot_contingency,
            initial=np.zeros(count),
            charged=worth * unit,
            confidence=confidence,
        )

    def breakdown(
        self,
        tables: DerivePortfolioTables,
        parameters: DerivePmrmParameters,
        listings: Listings,
        positions: PositionColumns,
        row: int,
    ) -> Breakdown:
        """Return the loss of every group, and what is set aside."""
        return portfolio_breakdown(tables, parameters, listings, positions, row)


MODEL = DerivePmrmModel()
