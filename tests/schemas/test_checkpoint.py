"""The one envelope of checkpoints."""

import pytest

from schemas.checkpoint import CheckpointError, open_envelope, seal_envelope

SEALED = seal_envelope("market", 3, b"state")


def test_what_was_sealed_is_opened() -> None:
    """Fails where a byte of the payload is lost, also of an empty one."""
    assert open_envelope("market", 3, SEALED) == b"state"
    assert open_envelope("market", 3, seal_envelope("market", 3, b"")) == b""


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    """Fails where damage anywhere, header and checksum included, is taken for a state."""
    flipped = [
        SEALED[:at] + bytes([SEALED[at] ^ 1 << bit]) + SEALED[at + 1 :] for at in range(len(SEALED)) for bit in range(8)
    ]
    cut = [SEALED[:length] for length in range(len(SEALED))]

    for broken in [*flipped, *cut, SEALED + b"\0"]:
        with pytest.raises(CheckpointError, match="replay from the ledger"):
            open_envelope("market", 3, broken)


@pytest.mark.parametrize(("noun", "version", "reason"), [("risk", 3, "expected a risk"), ("market", 4, "version 3")])
def test_a_whole_checkpoint_of_another_kind_is_refused(noun: str, version: int, reason: str) -> None:
    """Fails where one stage's file, or another release's, is read as the state of this one."""
    with pytest.raises(CheckpointError, match=reason):
        open_envelope(noun, version, SEALED)
