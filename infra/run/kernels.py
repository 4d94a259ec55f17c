"""Compiled kernels: kept between starts, announced when they are made, discarded when their sources changed.

1. A kernel is compiled on its first call and kept beside its source (Numba's cache), so that a second start compiles
   nothing. Whoever runs one says so before the first compilation of a process, not after a silent wait.
2. A kept kernel is used only with the sources that it was compiled from: its own, and all that its file imports from
   here, directly or not. Numba looks at a kernel's own file alone, and kernels inline functions of other files: without
   this a changed formula would go on giving its old numbers.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from numba.core import event
from numba.core.dispatcher import Dispatcher

import flows

NOTICE: Final = "compiling kernels for this processor; the next start has them"
_ROOT: Final = Path(flows.__file__).parent
_PACKAGE: Final = "flows"
_IMPORT: Final = re.compile(rb"^(?:from|import) (flows[\w.]*)", re.MULTILINE)


@contextmanager
def prepared_kernels(announce: Callable[[str], object]) -> Iterator[None]:
    """Discard what other sources left, and announce the first compilation while the context is open."""
    discard_stale_kernels()
    listener = _Announcer(announce)
    events: Any = event
    events.register("numba:compile", listener)
    try:
        yield
    finally:
        events.unregister("numba:compile", listener)


def discard_stale_kernels() -> int:
    """Remove kept kernels that were compiled from other sources than there are; return how many files went."""
    sources = read_sources(_ROOT)
    removed = 0
    for name in sorted(name for name, text in sources.items() if b"cache=True" in text):
        folder = _cache_folder(name)
        if folder is not None:
            removed += discard(folder, name.rpartition(".")[2], unless=digest_of(name, sources))
    return removed


def read_sources(root: Path) -> dict[str, bytes]:
    """Return the source text of every module below ``root``, by its name in the package."""
    return {
        ".".join((_PACKAGE, *path.relative_to(root).with_suffix("").parts)): path.read_bytes()
        for path in sorted(root.rglob("*.py"))
    }


def digest_of(name: str, sources: Mapping[str, bytes]) -> str:
    """Return a digest of a module's source and of all that it imports from the package, directly or not."""
    reached = {name}
    pending = [name]
    while pending:
        for target in _IMPORT.findall(sources[pending.pop()]):
            module = target.decode()
            # From a package any of its modules may be meant.
            found = [module] if module in sources else [other for other in sources if other.startswith(f"{module}.")]
            pending += sorted(set(found) - reached)
            reached.update(found)
    digest = blake2b(digest_size=16)
    for module in sorted(reached):
        digest.update(f"{module}\0{len(sources[module])}\0".encode() + sources[module])
    return digest.hexdigest()


def discard(folder: Path, stem: str, *, unless: str) -> int:
    """Remove a module's kernels from a folder unless their stamp is this digest; stamp, and return how many went."""
    stamp = folder / f"{stem}.digest"
    if stamp.exists() and stamp.read_text() == unless:
        return 0
    kept = sorted(file for pattern in ("nbi", "nbc") for file in folder.glob(f"{stem}.*.{pattern}"))
    for file in kept:
        # Another process that starts now may have been faster.
        file.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_text(unless)
    return len(kept)


def _cache_folder(name: str) -> Path | None:
    """Return where the kernels of a module are kept; Numba decides it for each source file."""
    for value in vars(import_module(name)).values():
        if isinstance(value, Dispatcher) and value.py_func.__module__ == name and value.stats.cache_path is not None:
            return Path(value.stats.cache_path)
    return None


class _Announcer(event.Listener):
    def __init__(self, announce: Callable[[str], object]) -> None:
        self._announce = announce
        self._said = False

    def on_start(self, _event: Any) -> None:
        if not self._said:
            self._said = True
            self._announce(NOTICE)

    def on_end(self, _event: Any) -> None:
        pass
