"""``tidegate topics``: Kafka's topics as they are declared, planned or applied."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from infra.cli.output import DIFFERS, console, fail, note, print_json
from infra.kafka.topics import Action, Change, TopicsError, admin, apply, changes
from schemas.topics import PREFIX, TOPICS, named


class Step(StrEnum):
    """What to do."""

    PLAN = "plan"
    APPLY = "apply"


def topics(
    step: Annotated[
        Step, typer.Argument(metavar="plan|apply", help="Say what differs, or mend it.", show_default=False)
    ],
    bootstrap: Annotated[
        str, typer.Option("--bootstrap", envvar="TIDEGATE_KAFKA_BOOTSTRAP", help="Address of a broker, HOST:PORT.")
    ] = "127.0.0.1:9092",
    *,
    prefix: Annotated[str, typer.Option("--prefix", help="What stands before the name of every topic.")] = PREFIX,
    replication: Annotated[
        int, typer.Option("--replication", min=1, max=9, help="Copies of each partition of a new topic.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Create the topics of a live venue, and say where they drifted: `plan` exits 3, and changes nothing."""
    client = admin(bootstrap)
    try:
        if step is Step.PLAN:
            found = changes(client, TOPICS, prefix=prefix)
            done: list[Change] = []
        else:
            done, found = apply(client, TOPICS, prefix=prefix, replication=replication)
    except TopicsError as error:
        fail(f"{bootstrap}: {error}")
    if as_json:
        print_json({"done": [_document(change) for change in done], "differs": [_document(change) for change in found]})
    else:
        _show(done, found)
    mend = [change for change in found if change.action is Action.MEND]
    for change in mend:
        note(
            f"{change.topic} has {change.found} {change.what} where {change.wanted} belong: a total order cannot be "
            "cut again; archive the topic, delete it, and apply once more"
        )
    if found:
        fail(f"{len(found)} differences from what is declared", DIFFERS)


def _document(change: Change) -> dict[str, str]:
    return {
        "action": change.action.value, "topic": change.topic, "what": change.what, "found": change.found,
        "wanted": change.wanted,
    }  # fmt: skip


def _show(done: list[Change], found: list[Change]) -> None:
    if not done and not found:
        console.print(f"all {len(TOPICS)} topics are as declared, {named(TOPICS[0], '')} to {named(TOPICS[-1], '')}")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("", "topic", "what", "found", "wanted"):
        table.add_column(column)
    for word, part in (("done: ", done), ("", found)):
        for change in part:
            table.add_row(f"{word}{change.action.value}", change.topic, change.what, change.found, change.wanted)
    console.print(table)
