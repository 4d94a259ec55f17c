"""Topics come out as declared, once; what drifted is told and mended; what cannot be mended is left to a person."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)  # fmt: skip
from typer.testing import CliRunner, Result

from infra.cli.main import app
from infra.kafka.server import Broker, free_port
from schemas.topics import TOPICS


def called(broker: Broker, prefix: str, step: str, *options: str) -> Result:
    """Call ``tidegate topics``."""
    return CliRunner().invoke(
        app, ["topics", step, "--bootstrap", broker.bootstrap, "--prefix", prefix, "--json", *options]
    )


def document(result: Result, exit_code: int = 0) -> dict[str, Any]:
    """Return what was printed."""
    assert result.exit_code == exit_code, result.stderr
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed


def client(broker: Broker) -> AdminClient:
    """Return a client of one's own."""
    return AdminClient({"bootstrap.servers": broker.bootstrap})


def test_applying_twice_is_applying_once(broker: Broker, prefix: str) -> None:
    """Fails where a plan changes something, a topic is missing, or what was applied differs from what is declared."""
    planned = document(called(broker, prefix, "plan"), 3)
    assert not any(name.startswith(prefix) for name in client(broker).list_topics().topics)

    first = document(called(broker, prefix, "apply"))
    again = document(called(broker, prefix, "apply"))

    assert planned["differs"] == first["done"]
    assert {change["topic"] for change in first["done"]} == {f"{prefix}{topic.name}" for topic in TOPICS}
    assert again == document(called(broker, prefix, "plan")) == {"done": [], "differs": []}
    there = client(broker).list_topics().topics
    assert all(len(there[f"{prefix}{topic.name}"].partitions) == topic.partitions for topic in TOPICS)


def test_drift_is_told_and_mended(broker: Broker, prefix: str) -> None:
    """Fails where a setting or too few raw partitions go unseen, or an apply leaves them."""
    document(called(broker, prefix, "apply"))
    resource = ConfigResource(
        ResourceType.TOPIC, f"{prefix}ledger",
        incremental_configs=[ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)],
    )  # fmt: skip
    admin = client(broker)
    admin.incremental_alter_configs([resource])[resource].result()

    while called(broker, prefix, "plan").exit_code == 0:
        time.sleep(0.1)
    drifted = document(called(broker, prefix, "plan"), 3)["differs"]
    mended = document(called(broker, prefix, "apply"))

    assert [(change["action"], change["what"], change["found"]) for change in drifted] == [
        ("set", "retention.ms", "1000")
    ]
    assert mended == {"done": drifted, "differs": []}
    assert document(called(broker, prefix, "plan"))["differs"] == []


def test_partitions_grow_where_that_is_harmless(broker: Broker, prefix: str) -> None:
    """Fails where too few raw partitions stay, more than declared are an error, or a total order gets a second one."""
    fills, ledger = f"{prefix}fills", f"{prefix}ledger"
    admin = client(broker)
    for future in admin.create_topics([NewTopic(fills, 1, 1), NewTopic(ledger, 2, 1)]).values():
        future.result()

    applied = called(broker, prefix, "apply")
    assert "a total order cannot be cut again" in applied.stderr
    left = document(applied, 3)["differs"]
    admin.create_partitions([NewPartitions(fills, 6)])[fills].result()

    assert [(change["action"], change["topic"], change["found"]) for change in left] == [("mend", ledger, "2")]
    assert document(called(broker, prefix, "plan"), 3)["differs"] == left


def test_nobody_at_the_address_is_one_line(prefix: str) -> None:
    """Fails where a wrong address hangs, or gets a traceback."""
    told = CliRunner().invoke(app, ["topics", "plan", "--bootstrap", f"127.0.0.1:{free_port()}", "--prefix", prefix])

    assert told.exit_code == 1
    assert len(told.stderr.strip().splitlines()) == 1
    assert "127.0.0.1" in told.stderr


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_only_what_is_raw_has_several_partitions(topic: Any) -> None:
    """Fails where a total order is declared with two partitions, or a raw topic without the broker's time."""
    is_raw = topic.settings.get("message.timestamp.type") == "LogAppendTime"

    assert is_raw or topic.partitions == 1
    assert is_raw == (topic.name in {"oracle.price", "oracle.vol", "fills", "collateral", "parameters"})


def test_the_page_says_what_is_declared() -> None:
    """Fails where docs/kafka.md and the declaration part."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "kafka.md").read_text()

    for topic in TOPICS:
        days = int(topic.settings.get("retention.ms", "0")) // 86_400_000
        kept = f"{days} days" if days else "compacted"
        assert f"| `{topic.name}` | {topic.partitions} | {kept} | {topic.holds} |" in page
