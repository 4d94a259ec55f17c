"""Files that nothing installed reads: why, in words.

1. What is known to be no margin model's numbers is called by its name.
2. Of anything else its own words are repeated: the format and model that it states, or its source.
"""

from collections.abc import Mapping
from typing import Any, Final

_WORDS_MAX: Final = 120
_AUCTION_SECTIONS: Final = frozenset({"discount", "max_fraction", "insolvent_price"})


def why_not_covered(document: Mapping[str, Any]) -> str:
    """Return why no adapter reads a decoded vector file."""
    if _is_auction(document):
        return "auctions of liquidated accounts: what a bidder pays is no number of a margin model"
    stated = [f"{name} {document[name]!r}" for name in ("format", "model") if isinstance(document.get(name), str)]
    if stated:
        return _short(f"nothing installed reads {' and '.join(stated)}")
    source = document.get("source")
    words = source if isinstance(source, str) else None
    if isinstance(source, dict):
        words = ", ".join(str(source[name]) for name in ("repo", "path") if isinstance(source.get(name), str))
    return _short(f"nothing installed reads what {words} publishes" if words else "nothing installed reads it")


def _is_auction(document: Mapping[str, Any]) -> bool:
    vectors = document.get("vectors")
    if isinstance(vectors, dict):
        return bool(_AUCTION_SECTIONS & vectors.keys())
    return isinstance(vectors, list) and any(isinstance(case, dict) and "auction_params" in case for case in vectors)


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= _WORDS_MAX else f"{line[:_WORDS_MAX]}…"
