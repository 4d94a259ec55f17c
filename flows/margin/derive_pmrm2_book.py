"""``derive-pmrm2`` over whole books: the second portfolio model's part of ``flows.margin.derive_portfolio_book``.

1. The rules are those of ``flows.margin.derive_pmrm2``, for each group of an account.
2. Collateral is what the parameters name: with its haircuts, and with the underlying that it follows, if any. A
   positive balance of an asset that they do not name counts for nothing.
"""

import numpy as np

from flows.margin.breakdown import Breakdown
from flows.margin.derive import Float64Array, Options, exponentials
from flows.margin.derive_markets import NO_GROUP, Markets
from flows.margin.derive_pmrm2 import moved_vols, static_discounts
from flows.margin.derive_portfolio_book import CollateralTables, DerivePortfolioModel, DerivePortfolioTables, Factors
from flows.margin.derive_portfolio_breakdown import portfolio_breakdown
from flows.margin.model import PositionColumns
from flows.market.columns import InstrumentColumns
from flows.market.listings import Listings
from schemas.derive_parameters import DerivePmrm2Parameters


class DerivePmrm2Model(DerivePortfolioModel[DerivePmrm2Parameters]):
    """The model; without state."""

    name = "derive-pmrm2"

    def discount(self, time: Float64Array, rate: Float64Array) -> Float64Array:
        """Return by what options are discounted, (n,), from years and rates >= 0."""
        return exponentials(-rate * time)

    def moved_vols(
        self, options: Options, seconds: Float64Array, forward: Float64Array, parameters: DerivePmrm2Parameters
    ) -> dict[str, Float64Array]:
        """Return the vols of n options under every move, by its name."""
        return moved_vols(options, seconds, forward, parameters).vols

    def static_discounts(
        self, time: Float64Array, rate: Float64Array, parameters: DerivePmrm2Parameters
    ) -> tuple[Float64Array, Float64Array]:
        """Return by what a positive and a negative expiry is multiplied, each (X,)."""
        return static_discounts(time, rate, exponentials(-rate * time), parameters)

    def factors(self, settlement_price: Float64Array, parameters: DerivePmrm2Parameters) -> Factors:
        """Return by what losses and holdings are multiplied, from what each group settles in, (G,)."""
        gap = np.maximum(parameters.peg_threshold - settlement_price, 0.0)
        return Factors(
            loss_initial=parameters.initial_factor + gap * parameters.peg_factor,
            loss_maintenance=parameters.maintenance_factor,
            set_aside_initial=np.ones(settlement_price.shape[0]),
            perpetual_maintenance=parameters.perpetual_maintenance,
            option_maintenance=parameters.option_maintenance,
            perpetual_initial=parameters.perpetual_initial,
            option_initial=parameters.option_initial,
        )

    def collateral(
        self, columns: InstrumentColumns, markets: Markets, parameters: DerivePmrm2Parameters
    ) -> CollateralTables:
        """Return what each asset adds as collateral."""
        assets = columns.assets
        count = assets.price.shape[0]
        group = np.full(count, NO_GROUP, np.int64)
        confidence = markets.asset_confidence.copy()
        haircuts = np.zeros((count, 2))
        named = np.zeros(count, np.bool_)
        for a, name in enumerate(assets.name):
            rates = parameters.collateral.get(name)
            if rates is None or markets.cash[a]:
                continue
            named[a] = True
            haircuts[a] = rates.maintenance_haircut, rates.initial_haircut
            underlying = columns.underlying_index(rates.follows)
            # What follows an underlying on which nothing covered is listed is as sure as its own price.
            if underlying >= 0 and markets.home[underlying] != NO_GROUP:
                group[a] = markets.home[underlying]
                confidence[a] = min(confidence[a], markets.confidence[group[a]])
        worth = np.where(named, assets.price, 0.0)
        return CollateralTables(
            unit=assets.unit,
            group=group,
            worth=worth,
            uncounted=np.where(named | markets.cash, 0.0, assets.price),
            maintenance=worth * haircuts[:, 0],
            initial=worth * haircuts[:, 1],
            charged=worth,
            confidence=confidence,
        )

    def breakdown(
        self,
        tables: DerivePortfolioTables,
        parameters: DerivePmrm2Parameters,
        listings: Listings,
        positions: PositionColumns,
        row: int,
    ) -> Breakdown:
        """Return the loss of every group, and what is set aside."""
        return portfolio_breakdown(tables, parameters, listings, positions, row)


MODEL = DerivePmrm2Model()
