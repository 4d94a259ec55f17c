"""What the documents say is still so."""

import re
from pathlib import Path

import msgspec
import pytest

from schemas.events import EVENT_TYPES, AnyEvent, Event
from schemas.parameters import PARAMETER_SETS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(path for folder in ("", "docs", "flows", "flows/decisions") for path in (ROOT / folder).glob("*.md"))
COMMON_FIELDS = {field.name for field in msgspec.structs.fields(Event)}


def json_lines(path: Path) -> list[str]:
    """Return the lines of a document's JSON blocks."""
    blocks = re.findall(r"^```json\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "docs/events.md"], ids=lambda path: path.name)
def test_every_event_shown_is_an_event(document: Path) -> None:
    """Fails where an example no longer decodes, or is not written as we write it."""
    lines = json_lines(document)

    written = [msgspec.json.encode(msgspec.json.decode(line, type=AnyEvent)).decode() for line in lines]

    assert lines
    assert written == lines


def test_the_event_table_lists_every_type_and_field() -> None:
    """Fails where a type or field is added, dropped or reordered without its documentation."""
    rows = re.findall(r"^\| `([a-z.]+)` \| (.*?) \| .+ \|$", (ROOT / "docs/events.md").read_text(), re.MULTILINE)

    listed = [(tag, re.findall(r"`(\w+)`", fields)) for tag, fields in rows]

    assert listed == [
        (
            kind.__struct_config__.tag,
            [field.name for field in msgspec.structs.fields(kind) if field.name not in COMMON_FIELDS],
        )
        for kind in EVENT_TYPES
    ]


def test_every_parameter_set_is_named() -> None:
    """Fails where a parameter set is added without its documentation."""
    section = (ROOT / "docs/events.md").read_text().split("## Parameter sets")[1].split("##")[0]

    named = re.findall(r"^\| `([a-z0-9-]+)` \|", section, re.MULTILINE)

    assert named == list(PARAMETER_SETS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Fails where a document links to a file that is not there."""
    links = re.findall(r"\]\(([^)#:]+)\)", document.read_text())

    missing = [link for link in links if not (document.parent / link).exists()]

    assert missing == []
