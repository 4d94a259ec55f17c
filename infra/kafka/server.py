"""One Kafka broker of one's own: Apache Kafka in KRaft mode, on this machine, under this process.

1. It listens on the loopback interface alone, without authentication: for tests, demos and a developer's desk.
2. Its folder keeps its data: a broker that was stopped or killed goes on with what it had.
3. It ends with the process that started it, however that ends.
"""

import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

_JAVA_MIN: Final = 17
_HEAP: Final = "-Xmx512m"
# Becomes what its arguments say, after asking Linux (PR_SET_PDEATHSIG) for a SIGKILL when its parent is gone.
_END_WITH_PARENT: Final = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
_LOG4J: Final = Path(__file__).with_name("log4j2.properties")
_QUIET: Final = {"log_level": 0}
_LOG_TAIL: Final = 3


class BrokerError(Exception):
    """The broker cannot be run; the message says why and where its log is."""


class Broker:
    """A broker in a folder.

    Parameters
    ----------
    jars : of Kafka (``infra.kafka.artifacts``).
    folder : of its data, settings and log; made where it is missing.
    port : of clients; 0 takes a free one, which is kept for later starts.
    changes : broker settings beside or instead of ours, by Kafka's names.
    """

    def __init__(
        self, jars: Sequence[Path], folder: Path, *, port: int = 0, changes: dict[str, str] | None = None
    ) -> None:
        self._jars = list(jars)
        self.folder = folder
        self._changes = changes or {}
        self.port = port or free_port()
        self._controller_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process, None where it does not run."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def start(self, *, timeout: float = 60.0) -> None:
        """Start, and wait until it answers.

        Raises
        ------
        BrokerError : there is no Java, its port is taken, its folder cannot be used, or it ended or said nothing in
            ``timeout`` seconds.
        """
        java = java_command()
        # Another broker's answer would be taken for this one's.
        if not _is_free(self.port):
            raise BrokerError(f"port {self.port} is taken: another broker may run there, or choose another port")
        properties = self._write_properties()
        try:
            if not (self.folder / "data" / "meta.properties").exists():
                self._format(java, properties)
            with (self.folder / "broker.log").open("ab") as log:
                # A session of its own: a terminal's Ctrl-C is ours to answer.
                self._process = subprocess.Popen(  # noqa: S603 - Java by its path, jars that were verified
                    [sys.executable, "-c", _END_WITH_PARENT, java, _HEAP, f"-Dlog4j2.configurationFile={_LOG4J}",
                     "-cp", self._classpath(), "kafka.Kafka", str(properties)],
                    stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise BrokerError(f"the broker cannot be started: {error}") from error
        self._wait(timeout)

    def kill(self) -> None:
        """End it at once, as a power failure of the process would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def wait(self) -> int:
        """Wait until it ends; return its exit code."""
        assert self._process is not None, "a broker is started before it is waited for"
        return self._process.wait()

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _classpath(self) -> str:
        return ":".join(str(jar) for jar in self._jars)

    def _write_properties(self) -> Path:
        controller = f"127.0.0.1:{self._controller_port}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": controller,
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            # One node holds all of what Kafka itself keeps.
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A topic that nobody declared is a mistake of a name.
            "auto.create.topics.enable": "false",
        } | self._changes
        path = self.folder / "server.properties"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        except OSError as error:
            raise BrokerError(f"{self.folder} cannot be used: {error}") from error
        return path

    def _format(self, java: str, properties: Path) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        done = subprocess.run(  # noqa: S603 - as above
            [java, "-cp", self._classpath(), "kafka.tools.StorageTool", "format", "--standalone",
             # An id that begins with a dash would be read as an option.
             f"--cluster-id={cluster}", "--config", str(properties)],
            capture_output=True, check=False, text=True,
        )  # fmt: skip
        if done.returncode != 0:
            said = [line for line in (done.stderr + done.stdout).splitlines() if "Exception" in line]
            raise BrokerError(f"{self.folder} cannot be formatted: {said[0] if said else 'no reason given'}")

    def _wait(self, timeout: float) -> None:
        assert self._process is not None
        until = time.monotonic() + timeout
        client = AdminClient({"bootstrap.servers": self.bootstrap, **_QUIET})
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise BrokerError(f"the broker ended with code {self._process.returncode}: {self._last_words()}")
            try:
                if client.list_topics(timeout=0.5).brokers:
                    return
            except KafkaException:
                time.sleep(0.1)
        self.kill()
        raise BrokerError(f"the broker did not answer within {timeout:g} s: {self._last_words()}")

    def _last_words(self) -> str:
        log = self.folder / "broker.log"
        lines = log.read_text(errors="replace").strip().splitlines()[-_LOG_TAIL:]
        return f"{' / '.join(lines)} (see {log})"


def java_command() -> str:
    """Return the Java that there is.

    Raises
    ------
    BrokerError : there is none, or one that is too old.
    """
    java = shutil.which("java")
    if java is None:
        raise BrokerError(f"there is no Java on the path: Kafka needs version {_JAVA_MIN} or later")
    said = subprocess.run(  # noqa: S603 - the Java of the path
        [java, "-XshowSettings:properties", "-version"], capture_output=True, check=False, text=True
    )
    found = next(
        (line.split("=")[1] for line in said.stderr.splitlines() if "java.specification.version =" in line), ""
    )
    if not found.strip().isdigit() or int(found) < _JAVA_MIN:
        raise BrokerError(f"{java} is version {found.strip() or 'unknown'}: Kafka needs {_JAVA_MIN} or later")
    return java


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
