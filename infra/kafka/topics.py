"""Topics as they are, beside topics as they are declared: what to create, what to set, and what no command can mend.

1. ``changes`` reads and changes nothing; ``apply`` does what it says, and what it did is nothing the next time.
2. Only what is declared is compared: other topics, and settings that we do not name, are none of our business.
3. Data is never lost by it: partitions are added where that is harmless, and nothing is ever deleted.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from schemas.topics import PREFIX, Topic, named

_TIMEOUT_SECONDS: Final = 15.0
_ANSWER_SECONDS: Final = 5.0
_LOOK_AGAIN_SECONDS: Final = 0.1


class TopicsError(Exception):
    """The broker cannot be asked, or refuses; the message says what it said."""


class Action(Enum):
    """What a difference asks for. ``MEND``: a person, for no command does it without losing data or order."""

    CREATE = "create"
    SET = "set"
    GROW = "grow"
    MEND = "mend"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference of one topic: what is to become what."""

    action: Action
    topic: str
    what: str
    found: str
    wanted: str


def admin(bootstrap: str) -> AdminClient:
    """Return a client for topics; nothing is asked yet."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "socket.connection.setup.timeout.ms": 5_000})


def changes(client: AdminClient, topics: Sequence[Topic], *, prefix: str = PREFIX) -> list[Change]:
    """Return how the broker's topics differ from the declared ones.

    Raises
    ------
    TopicsError : the broker cannot be reached, or refuses to tell.
    """
    try:
        there = client.list_topics(timeout=_ANSWER_SECONDS).topics
        found: list[Change] = []
        known = []
        for topic in topics:
            name = named(topic, prefix)
            if name not in there:
                found.append(Change(Action.CREATE, name, "partitions", "none", str(topic.partitions)))
                continue
            known.append(topic)
            found += _of_partitions(topic, name, len(there[name].partitions))
        return found + _of_settings(client, known, prefix)
    except KafkaException as error:
        raise TopicsError(_said(error)) from error


def apply(
    client: AdminClient, topics: Sequence[Topic], *, prefix: str = PREFIX, replication: int = 1
) -> tuple[list[Change], list[Change]]:
    """Create and set what differs; return what was done, and what a person must mend.

    Parameters
    ----------
    replication : copies of each partition of topics that are created.

    Raises
    ------
    TopicsError : the broker cannot be reached, or refuses, or does not show what it accepted. What was done is done.
    """
    found = changes(client, topics, prefix=prefix)
    by_name = {named(topic, prefix): topic for topic in topics}
    try:
        new = [
            NewTopic(change.topic, by_name[change.topic].partitions, replication, config=by_name[change.topic].settings)
            for change in found
            if change.action is Action.CREATE
        ]
        grown = [NewPartitions(change.topic, int(change.wanted)) for change in found if change.action is Action.GROW]
        altered = _altered(change for change in found if change.action is Action.SET)
        for futures in (
            client.create_topics(new) if new else {},
            client.create_partitions(grown) if grown else {},
            client.incremental_alter_configs(altered) if altered else {},
        ):
            for future in futures.values():
                future.result(timeout=_TIMEOUT_SECONDS)
    except KafkaException as error:
        raise TopicsError(_said(error)) from error
    done = [change for change in found if change.action is not Action.MEND]
    return done, _settled(client, topics, prefix)


def _settled(client: AdminClient, topics: Sequence[Topic], prefix: str) -> list[Change]:
    """Return what is left when a broker shows what it accepted: it may take a moment."""
    until = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        left = changes(client, topics, prefix=prefix)
        if all(change.action is Action.MEND for change in left):
            return left
        if time.monotonic() > until:
            raise TopicsError(f"{left[0].topic}: {left[0].what} was accepted, and is still {left[0].found}")
        time.sleep(_LOOK_AGAIN_SECONDS)


def _of_partitions(topic: Topic, name: str, count: int) -> list[Change]:
    if count == topic.partitions:
        return []
    # More partitions of what intake merges lose nothing; of a total order they would end it.
    is_raw = topic.settings.get("message.timestamp.type") == "LogAppendTime"
    if is_raw and count > topic.partitions:
        return []
    action = Action.GROW if is_raw else Action.MEND
    return [Change(action, name, "partitions", str(count), str(topic.partitions))]


def _of_settings(client: AdminClient, topics: Sequence[Topic], prefix: str) -> list[Change]:
    if not topics:
        return []
    resources = {ConfigResource(ResourceType.TOPIC, named(topic, prefix)): topic for topic in topics}
    found = []
    for resource, future in client.describe_configs(list(resources)).items():
        entries = future.result(timeout=_TIMEOUT_SECONDS)
        for setting, wanted in resources[resource].settings.items():
            value = entries[setting].value if setting in entries else "none"
            if value != wanted:
                found.append(Change(Action.SET, resource.name, setting, str(value), wanted))
    return found


def _altered(settings: Iterable[Change]) -> list[ConfigResource]:
    by_topic: dict[str, list[ConfigEntry]] = {}
    for change in settings:
        by_topic.setdefault(change.topic, []).append(
            ConfigEntry(change.what, change.wanted, incremental_operation=AlterConfigOpType.SET)
        )
    return [
        ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries) for topic, entries in by_topic.items()
    ]


def _said(error: KafkaException) -> str:
    inner = error.args[0] if error.args else error
    return inner.str() if hasattr(inner, "str") else str(inner)
