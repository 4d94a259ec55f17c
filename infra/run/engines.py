"""Two engines for one pipeline: a plain loop, and Bytewax as a thin shell with one worker.

1. Both hand the same batches to the same steps in the same order, so both publish the same bytes.
2. An exception of a step leaves either engine as itself, with the run at its last commit.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from bytewax.errors import BytewaxRuntimeError
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from flows.passages import Shown
from flows.pipeline import Stages, dataflow, run_plain

Publish = Callable[[Shown], None]
Engine = Callable[[Iterable[Any], Stages, Publish], None]


class _Batches(StatelessSourcePartition[Any]):
    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches

    def next_batch(self) -> list[Any]:
        """Return one batch: it holds many events already, and more would only wait in memory."""
        return [next(self._batches)]


class BatchSource(DynamicSource[Any]):
    """The input, for one worker."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = iter(batches)

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Batches:
        """Return the only partition."""
        assert worker_count == 1, "order is decided once: intake has one worker"
        return _Batches(self._batches)


class _Publisher(StatelessSinkPartition[Shown]):
    def __init__(self, publish: Publish) -> None:
        self._publish = publish

    def write_batch(self, items: list[Shown]) -> None:
        """Publish passages in order."""
        for item in items:
            self._publish(item)


class PublishSink(DynamicSink[Shown]):
    """Hands every passage to a function, which raises before this returns if it cannot keep it."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Publisher:
        """Return the only partition."""
        return _Publisher(self._publish)


def run_bytewax(batches: Iterable[Any], stages: Stages, publish: Publish) -> None:
    """Run the pipeline as a Bytewax dataflow in this process."""
    try:
        cli_main(dataflow(BatchSource(batches), stages, PublishSink(publish)))
    except BytewaxRuntimeError as error:
        raise _cause(error) from None


def _cause(error: BaseException) -> BaseException:
    """Return what a step raised: Bytewax wraps it once for each of its own layers."""
    while isinstance(error, BytewaxRuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


ENGINES: Final[dict[str, Engine]] = {"plain": run_plain, "bytewax": run_bytewax}
