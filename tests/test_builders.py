"""The builders make events that the public schema accepts."""

import msgspec

from schemas.events import EVENT_TYPES, AnyEvent, Event
from tests import builders


def every_builder() -> list[Event]:
    """Return one event of each builder."""
    return [
        builders.an_asset(),
        builders.a_perpetual(),
        builders.an_inverse_perpetual(),
        builders.a_future(),
        builders.an_option(),
        builders.a_spot(),
        builders.an_account(),
        builders.a_halt(),
        builders.a_rules_change(),
        builders.a_parameters_change(),
        builders.a_price(),
        builders.a_forward(),
        builders.a_smile(),
        builders.quoted_vols(),
        builders.a_rate(),
        builders.a_mark(),
        builders.a_funding_rate(),
        builders.a_settlement_price(),
        builders.a_transfer(),
        builders.a_fill(),
        builders.a_bust(),
        builders.open_orders(),
        builders.a_withdrawal(),
        *builders.a_venue(),
    ]


def test_every_event_type_has_a_builder_whose_event_survives_the_wire() -> None:
    """Fails where a type is added without a builder, or a builder's event does not decode to itself."""
    made = every_builder()

    decoded = [msgspec.json.decode(msgspec.json.encode(event), type=AnyEvent) for event in made]

    assert decoded == made
    assert {type(event) for event in made} == set(EVENT_TYPES)
