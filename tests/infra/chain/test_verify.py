"""The batches file, and the check of a run's batches against its chain."""

from pathlib import Path
from typing import Any

import pytest

from flows.settlement.batch import Batch, decode_batch, encode_batch
from infra.chain.batches import BatchesError, BatchesWriter, read_batches
from infra.chain.embedded import embedded_writer
from infra.chain.outbox import Outbox
from infra.chain.verify import verify
from infra.files.append import ShorterThanCommitted
from tests.infra.chain.builders import GENESIS_ROOT, changed, settled

SETTLEMENT, BATCHES = settled(4)


@pytest.fixture(scope="module")
def outbox(tmp_path_factory: pytest.TempPathFactory) -> Outbox:
    """The outbox of a run of all batches, one of them by its hash alone."""
    path = tmp_path_factory.mktemp("run") / "outbox.sqlite"
    writer = embedded_writer(path, last_batch=0, genesis_root=GENESIS_ROOT)
    for batch in BATCHES:
        writer.calldata_bytes_max = 0 if batch.number == 2 else 102_400
        writer.submit(batch)
    writer.outbox.close()
    return Outbox(path, durable=False)


def test_a_run_verifies_from_its_batches_and_outbox_alone(outbox: Outbox) -> None:
    """Fails if what the run wrote does not settle or execute to the same again."""
    found = verify(BATCHES, outbox)

    assert found.mismatch is None
    assert (found.batches, found.state_root) == (4, SETTLEMENT.root)


@pytest.mark.parametrize("name", Batch.__struct_fields__)
@pytest.mark.parametrize("number", [1, 3])
def test_any_changed_field_of_any_batch_is_found_there(outbox: Outbox, name: str, number: int) -> None:
    """Verify 1, 2: fails if some field of a batch could be changed after the fact."""
    value = getattr(BATCHES[number - 1], name)
    forged: Any = bytes([value[0] ^ 1]) + value[1:] if isinstance(value, bytes) else value + 1

    batches = [changed(batch, **{name: forged}) if batch.number == number else batch for batch in BATCHES]
    found = verify(batches, outbox)

    assert found.mismatch is not None
    assert found.mismatch.number == number
    assert found.batches == number - 1


def test_a_batch_on_one_side_alone_is_found(outbox: Outbox) -> None:
    """Verify 3: fails if a batch or a transaction can be dropped at the end."""
    fewer = verify(BATCHES[:3], outbox)
    none = verify([], outbox)
    _, more = settled(5)
    longer = verify(more, outbox)

    assert fewer.mismatch is not None
    assert (fewer.mismatch.number, fewer.mismatch.found) == (4, "none")
    assert none.mismatch is not None
    assert none.mismatch.number == 1
    assert longer.mismatch is not None
    assert (longer.mismatch.number, longer.mismatch.found) == (5, "none")


def test_a_batch_that_was_made_anew_for_other_deltas_is_found(outbox: Outbox) -> None:
    """Verify 2: fails if a consistent batch that never was on the chain passes: its own hashes are all right."""
    _, (_, second, *_) = settled(2)
    last = BATCHES[3]
    forged = changed(last, order_commitment=second.order_commitment)

    found = verify([*BATCHES[:3], forged], outbox)

    assert found.mismatch is not None
    assert (found.mismatch.number, found.mismatch.what) == (4, "the contract's number, root and commitment")


@pytest.mark.parametrize(
    "fault",
    [
        "update included set block_hash = zeroblob(32) where number = 2",
        "update included set block_time_s = 1 where number = 2",
        "update included set tx_hash = zeroblob(32) where number = 2",
        "update sent set raw = zeroblob(99) where number = 2",
        "update sent set raw = (select raw from sent where number = 1) where number = 2",
        "delete from sent where number = 2",
        "delete from included where number = 2",
    ],
)
def test_a_damaged_outbox_is_found_where_it_is_damaged(outbox: Outbox, fault: str) -> None:
    """Verify 2, 3: fails if the record of a transaction can be changed, or damage escapes as another error."""
    outbox._connection.execute("begin")
    outbox._connection.execute(fault)

    try:
        found = verify(BATCHES, outbox)
    finally:
        outbox._connection.execute("rollback")

    assert found.mismatch is not None
    assert found.mismatch.number == 2


def test_a_run_without_batches_needs_no_chain_and_one_with_them_does(tmp_path: Path) -> None:
    """Fails if a run in which nothing settled is faulted, or an empty outbox verifies batches."""
    empty = Outbox(tmp_path / "outbox.sqlite", durable=False)

    nothing = verify([], empty)
    something = verify(BATCHES, empty)

    assert (nothing.mismatch, nothing.batches, nothing.state_root) == (None, 0, GENESIS_ROOT)
    assert something.mismatch is not None
    assert (something.mismatch.number, something.mismatch.what) == (1, "the transaction")


# The file.


def test_batches_read_back_through_reopening_and_cutting(tmp_path: Path) -> None:
    """Batches 1: fails if a resumed run's file differs from an unbroken one's."""
    path = tmp_path / "batches.bin"
    writer = BatchesWriter(path)
    writer.append(BATCHES[0])
    committed = writer.sync()
    writer.append(BATCHES[1])
    writer.close()

    resumed = BatchesWriter(path, committed)
    for batch in BATCHES[1:]:
        resumed.append(batch)
    resumed.close()

    assert list(read_batches(path)) == BATCHES
    assert all(decode_batch(encode_batch(batch)) == batch for batch in BATCHES)
    with pytest.raises(ShorterThanCommitted, match="were committed"):
        BatchesWriter(path, path.stat().st_size + 1)


def test_a_damaged_file_is_refused_at_the_damage(tmp_path: Path) -> None:
    """Batches 1: fails if a flipped bit or a torn end reads as batches."""
    path = tmp_path / "batches.bin"
    writer = BatchesWriter(path)
    for batch in BATCHES[:2]:
        writer.append(batch)
    writer.close()
    good = path.read_bytes()

    for at in range(0, len(good), 13):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        with pytest.raises(BatchesError):
            list(read_batches(path))
    path.write_bytes(good[:-1])
    with pytest.raises(BatchesError, match="damaged"):
        list(read_batches(path))
