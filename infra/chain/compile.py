"""Compile the settlement contract: ``python -m infra.chain.compile`` after every change of its source."""

from pathlib import Path

import msgspec

from flows.settlement.tree import keccak
from infra.chain.contract import Artefact

SOURCE = Path(__file__).parent / "contracts" / "Settlement.vy"
ARTEFACT = SOURCE.with_suffix(".json")


def compiled() -> bytes:
    """Return the artefact of the source as it stands, as JSON."""
    # The compiler is a test dependency: running needs only the artefact.
    import vyper

    source = SOURCE.read_text(encoding="utf-8")
    output = vyper.compile_code(source, output_formats=["abi", "bytecode"])
    built = Artefact(
        compiler=f"vyper {vyper.__version__.partition('+')[0]}",
        source_hash=keccak(source.encode()).hex(),
        abi=output["abi"],
        bytecode=output["bytecode"].removeprefix("0x"),
    )
    return msgspec.json.format(msgspec.json.encode(built), indent=1) + b"\n"


if __name__ == "__main__":
    ARTEFACT.write_bytes(compiled())
