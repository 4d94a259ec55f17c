"""A broker of one's own: what it acknowledged survives its death, and what is wrong is told in one line."""

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from infra.cli.main import app
from infra.kafka import artifacts
from infra.kafka.artifacts import VERSION, ArtifactError, resolve
from infra.kafka.server import Broker, BrokerError, free_port


def created(broker: Broker, name: str) -> None:
    """Create a topic of one partition."""
    client = AdminClient({"bootstrap.servers": broker.bootstrap})
    client.create_topics([NewTopic(name, 1, 1)])[name].result()


def read(broker: Broker, topic: str, count: int) -> list[bytes]:
    """Read a topic's records that were committed, from its beginning; fewer than ``count`` after ten seconds."""
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": "test", "isolation.level": "read_committed",
         "enable.auto.commit": False, "auto.offset.reset": "error"}
    )  # fmt: skip
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[bytes] = []
    for _ in range(100):
        found += [message.value() or b"" for message in consumer.consume(count, 0.1) if message.error() is None]
        if len(found) >= count:
            break
    consumer.close()
    return found


def test_what_was_acknowledged_survives_a_kill(jars: list[Path], tmp_path: Path) -> None:
    """Fails where a broker that is killed and started again has lost a record, or lives at another address."""
    broker = Broker(jars, tmp_path)
    broker.start()
    try:
        created(broker, "kept")
        producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
        for number in range(1_000):
            producer.produce("kept", str(number).encode())
        assert producer.flush(30) == 0

        broker.kill()
        assert broker.pid is None
        broker.start()

        assert read(broker, "kept", 1_000) == [str(number).encode() for number in range(1_000)]
    finally:
        broker.stop()


def test_transactions_are_whole_and_a_new_writer_fences_the_old_one(broker: Broker, prefix: str) -> None:
    """Fails where a reader sees what was aborted, or a writer that was replaced can still write."""
    topic = f"{prefix}ledger"
    created(broker, topic)
    settings = {"bootstrap.servers": broker.bootstrap, "transactional.id": prefix}
    old = Producer(settings)
    old.init_transactions(30)
    old.begin_transaction()
    old.produce(topic, b"aborted")
    old.abort_transaction(30)
    old.begin_transaction()
    old.produce(topic, b"committed")
    old.commit_transaction(30)

    new = Producer(settings)
    new.init_transactions(30)
    old.begin_transaction()
    old.produce(topic, b"a zombie's")
    with pytest.raises(Exception, match=r"fenced|epoch") as fenced:
        old.commit_transaction(30)
    new.begin_transaction()
    new.produce(topic, b"next")
    new.commit_transaction(30)

    assert fenced.value.args[0].code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
    assert read(broker, topic, 2) == [b"committed", b"next"]


def test_a_broker_ends_with_who_started_it(jars: list[Path], tmp_path: Path) -> None:
    """Fails where a killed test or demo leaves a broker behind."""
    code = (
        "import sys; from pathlib import Path; from infra.kafka.server import Broker;"
        "broker = Broker([Path(jar) for jar in sys.argv[2:]], Path(sys.argv[1])); broker.start();"
        "print(broker.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), *map(str, jars)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())

    parent.send_signal(signal.SIGKILL)
    parent.wait()

    for _ in range(100):
        if not _runs(pid):
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} still runs")


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_wrong_bytes_are_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a part that is not what was pinned is kept, or one that turned since is used."""
    mirror, home = tmp_path / "mirror", tmp_path / "home"
    (mirror / "org").mkdir(parents=True)
    (mirror / "org" / "part.jar").write_bytes(b"right")
    pinned = tmp_path / "list"
    pinned.write_text(f"{hashlib.sha256(b'right').hexdigest()}  org/part.jar\n")
    monkeypatch.setattr(artifacts, "_LIST", pinned)

    [jar] = resolve(home, repository=mirror.as_uri())
    jar.write_bytes(b"turned")
    assert resolve(home, repository=mirror.as_uri())[0].read_bytes() == b"right"

    jar.unlink()
    (mirror / "org" / "part.jar").write_bytes(b"wrong")
    with pytest.raises(ArtifactError, match="is not what was pinned"):
        resolve(home, repository=mirror.as_uri())
    assert not jar.exists()
    with pytest.raises(ArtifactError, match="cannot be fetched"):
        resolve(home, repository=(tmp_path / "nowhere").as_uri())


def test_without_java_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a machine without Java gets a traceback."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("infra.cli.broker.resolve", lambda *arguments, **named: [])

    told = CliRunner().invoke(app, ["broker", "--data", str(tmp_path / "data")])

    assert told.exit_code == 1
    assert "there is no Java on the path" in told.stderr


def test_a_taken_port_is_told(broker: Broker, jars: list[Path], tmp_path: Path) -> None:
    """Fails where the answer of a broker that runs already passes for one's own."""
    with pytest.raises(BrokerError, match=f"port {broker.port} is taken"):
        Broker(jars, tmp_path, port=broker.port).start()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_in_order(jars: list[Path], tmp_path: Path, how: signal.Signals) -> None:
    """Fails where Ctrl-C or a supervisor leaves a broker behind, or an exit code that says failure."""
    assert jars
    command = [sys.executable, "-c", "from infra.cli.main import main; main()", "broker", "--data", str(tmp_path)]
    running = subprocess.Popen([*command, "--port", str(free_port())], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert "Kafka answers on" in running.stdout.readline()

    running.send_signal(how)

    assert running.wait(60) == 0
    assert "shut down completely" in (tmp_path / "broker.log").read_text()


def test_a_broker_that_cannot_start_says_why(jars: list[Path], tmp_path: Path) -> None:
    """Fails where a wrong setting leaves us waiting, or without the broker's own words."""
    broker = Broker(jars, tmp_path, changes={"log.retention.hours": "soon"})

    with pytest.raises(BrokerError, match=r"log.retention.hours"):
        broker.start(timeout=30)


def test_the_compose_file_runs_the_same_kafka() -> None:
    """Fails where the two ways to a broker part: another version, or topics that come into being by a wrong name."""
    text = (Path(artifacts.__file__).parent / "compose.yaml").read_text()

    assert f"image: apache/kafka:{VERSION}\n" in text
    assert 'KAFKA_AUTO_CREATE_TOPICS_ENABLE: "false"' in text
    assert 'ports: ["127.0.0.1:9092:9092"]' in text
