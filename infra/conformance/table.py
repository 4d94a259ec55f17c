"""The adapters that are installed, in the order in which a file is offered to them.

1. Ours come first, then those that other packages name in the entry-point group ``tidegate.conformance``, by name. Two
   that claim one format are a broken installation.
"""

from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

from infra.conformance.adapter import Adapter

GROUP: Final = "tidegate.conformance"

# Module and name of each adapter of ours: one line an adapter.
ADAPTERS: Final[tuple[str, ...]] = (
    "infra.conformance.derive:PMRM2",
    "infra.conformance.derive:PMRM",
    "infra.conformance.derive:SRM",
    "infra.conformance.derive_blocks:BLOCKS",
    "infra.conformance.deribit:ADAPTER",
    "infra.conformance.dydx:ADAPTER",
    "infra.conformance.examples:ADAPTER",
)


def adapters() -> list[Adapter]:
    """Return the installed adapters, ours first.

    Raises
    ------
    ValueError : two adapters claim one format, or an entry point's name is not its adapter's format.
    """
    found: dict[str, Adapter] = {}
    for place in ADAPTERS:
        module, name = place.split(":")
        _add(found, getattr(import_module(module), name))
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        adapter: Adapter = point.load()
        if adapter.format != point.name:
            raise ValueError(f"entry point {point.name!r} of {GROUP} gives an adapter of format {adapter.format!r}")
        _add(found, adapter)
    return list(found.values())


def _add(found: dict[str, Adapter], adapter: Adapter) -> None:
    if found.setdefault(adapter.format, adapter) is not adapter:
        raise ValueError(f"two conformance adapters read the format {adapter.format!r}: uninstall one")
