"""What exists: assets, instruments and accounts, by their dense indices, as the ledger's market records list them.

Every stage that needs a name or a static property reads it here; nothing else keeps a second list.

1. Indices are dense and given by intake; a record that does not continue its list is a broken ledger.
"""

from dataclasses import dataclass, field
from fractions import Fraction

from schemas.ids import FIRST_ACCOUNT_NUMBER, SYSTEM_ACCOUNTS
from schemas.instruments import InstrumentKind, MarginMode, OptionType, Payoff
from schemas.ledger import (
    AccountRecord,
    AssetRecord,
    Genesis,
    GenesisRecord,
    InstrumentRecord,
    LedgerError,
    MarketRecord,
)
from schemas.money import fraction


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset; one unit is ``10**-decimals``."""

    index: int
    asset: str
    decimals: int


@dataclass(frozen=True, slots=True)
class Instrument:
    """A listed instrument with its exact numbers.

    ``lot_quantity`` is ``lot_size * multiplier``: underlying (linear) or quote currency (inverse) of one lot.
    """

    index: int
    instrument: str
    kind: InstrumentKind
    underlying: str
    quote: str
    settlement_asset: int
    base_asset: int
    payoff: Payoff
    lot_quantity: Fraction
    lot_size: Fraction
    tick_size: Fraction
    strike: Fraction | None
    option_type: OptionType | None
    expiry_ns: int | None


@dataclass(frozen=True, slots=True)
class Account:
    """A customer account as it was opened."""

    number: int
    account: str
    margin_model: str
    margin_mode: MarginMode


@dataclass(slots=True)
class Listings:
    """Everything listed so far. ``accounts[0]`` is the account with number ``FIRST_ACCOUNT_NUMBER``."""

    genesis: Genesis | None = None
    assets: list[Asset] = field(default_factory=list)
    instruments: list[Instrument] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)

    def apply(self, record: MarketRecord) -> None:
        """Take one market record; those that list nothing are ignored."""
        if isinstance(record, AccountRecord):
            _continues("account", record.number - FIRST_ACCOUNT_NUMBER, len(self.accounts))
            self.accounts.append(
                Account(record.number, record.account, record.margin_model, MarginMode(record.margin_mode))
            )
        elif isinstance(record, InstrumentRecord):
            _continues("instrument", record.index, len(self.instruments))
            self.instruments.append(resolve_instrument(record))
        elif isinstance(record, AssetRecord):
            _continues("asset", record.index, len(self.assets))
            self.assets.append(Asset(record.index, record.asset, record.decimals))
        elif isinstance(record, GenesisRecord):
            self.genesis = record.genesis

    def account_id(self, number: int) -> str:
        """Return the id of an account number, system accounts included."""
        if number < FIRST_ACCOUNT_NUMBER:
            return SYSTEM_ACCOUNTS[number]
        return self.accounts[number - FIRST_ACCOUNT_NUMBER].account


def resolve_instrument(record: InstrumentRecord) -> Instrument:
    """Return the instrument of its ledger record."""
    lot_size = fraction(record.lot_size)
    return Instrument(
        index=record.index,
        instrument=record.instrument,
        kind=InstrumentKind(record.kind),
        underlying=record.underlying,
        quote=record.quote,
        settlement_asset=record.settlement_asset,
        base_asset=record.base_asset,
        payoff=Payoff(record.payoff),
        lot_quantity=lot_size * fraction(record.multiplier),
        lot_size=lot_size,
        tick_size=fraction(record.tick_size),
        strike=None if record.strike is None else fraction(record.strike),
        option_type=None if record.option_type is None else OptionType(record.option_type),
        expiry_ns=record.expiry_ns,
    )


def _continues(noun: str, index: int, count: int) -> None:
    if index != count:
        raise LedgerError(f"{noun} {index} does not continue the {count} listed: the ledger is not the whole one")
