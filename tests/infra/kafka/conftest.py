"""A real broker for the tests of a session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.kafka.artifacts import ArtifactError, default_home, resolve
from infra.kafka.server import Broker, BrokerError, java_command


@pytest.fixture(scope="session")
def jars() -> list[Path]:
    """Kafka's jars; skips where there is no Java, or they cannot be had."""
    try:
        java_command()
        return resolve(default_home())
    except (ArtifactError, BrokerError) as error:
        pytest.skip(f"no Kafka broker to test against: {error}")


@pytest.fixture(scope="session")
def broker(jars: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that all tests share: each uses topics of its own."""
    running = Broker(jars, tmp_path_factory.mktemp("kafka"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """The prefix of a test's topics."""
    return f"{request.node.name.replace('[', '.').replace(']', '')}."
