"""``tidegate broker``: a Kafka broker of one's own, for a desk, a demo or tests."""

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from infra.cli.output import console, errors, fail
from infra.kafka.artifacts import REPOSITORY, ArtifactError, default_home, resolve
from infra.kafka.server import Broker, BrokerError


def broker(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Folder of its data and log.", show_default=False)
    ],
    *,
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port of clients, on loopback alone.")] = 9092,
    repository: Annotated[
        str, typer.Option("--repository", envvar="TIDEGATE_MAVEN_REPOSITORY", help="Maven repository of Kafka's parts.")
    ] = REPOSITORY,
) -> None:
    """Run one Kafka broker on this machine, until Ctrl-C. Fetches Kafka once; needs Java 17."""
    # A supervisor's request to end is answered as a person's is.
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, signal.default_int_handler)
    running: Broker | None = None
    try:
        with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
            task = bar.add_task("fetching Kafka", total=None)
            jars = resolve(
                default_home(),
                repository=repository,
                show=lambda done, total: bar.update(task, completed=done, total=total),
            )
        running = Broker(jars, data.resolve(), port=port)
        running.start()
        console.print(f"Kafka answers on {running.bootstrap}; its log is {data / 'broker.log'}. Ctrl-C ends it.")
        code = running.wait()
    except (ArtifactError, BrokerError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        if running is not None:
            running.stop()
        return
    if code != 0:
        fail(f"the broker ended with code {code}: see {data / 'broker.log'}")
