"""What benchmarks share: medians of engines that take turns, the processor's name, memory that is kept."""

import ctypes
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

MEMORY_KEPT: Final = 1 << 30


def medians(engines: Mapping[str, Callable[[], object]], *, rounds: int, calls: int = 1) -> dict[str, float]:
    """Return processor seconds of one call, the engines taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine()
    for _ in range(rounds):
        for name, engine in engines.items():
            started = time.process_time()
            for _ in range(calls):
                engine()
            taken[name].append((time.process_time() - started) / calls)
    return {name: statistics.median(times) for name, times in taken.items()}


def keep_freed_memory() -> None:
    """Let glibc keep what is freed: otherwise large arrays are taken from the system anew, page by page."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        trim_threshold, mmap_threshold = -1, -3
        library.mallopt(trim_threshold, MEMORY_KEPT)
        library.mallopt(mmap_threshold, MEMORY_KEPT)


def processor() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
