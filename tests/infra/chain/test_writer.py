"""The chain writer: every batch once, in order, whatever happens between it and the chain."""

import logging
import pickle
import shutil
import socket
import subprocess
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.settlement.batch import Batch
from flows.settlement.tree import keccak
from infra.chain.chain import (
    Chain,
    ChainHaltedError,
    ChainRefusedError,
    ChainUnavailableError,
    Fees,
    Observation,
    Receipt,
)
from infra.chain.contract import HEAD_CALL, commitment_call, decode_head, submission
from infra.chain.embedded import EmbeddedChain, embedded_writer
from infra.chain.outbox import Outbox, OutboxError
from infra.chain.signer import Signer, SignerError
from infra.chain.writer import ChainWriter
from tests.infra.chain.builders import (
    GENESIS_ROOT,
    OPERATOR_ADDRESS,
    STRANGER,
    changed,
    post,
    settled,
)

BATCHES = settled(6)[1]


class KilledError(Exception):
    """Stands for kill -9: the writer object is thrown away where it was."""


@dataclass
class FaultyChain:
    """A chain that outlives writers, and fails at its next sends as it is told."""

    inner: EmbeddedChain
    faults: list[str] = field(default_factory=list)
    held_back: list[tuple[bytes, int]] = field(default_factory=list)
    sends: int = 0

    @property
    def chain_id(self) -> int:
        """The inner chain's."""
        return self.inner.chain_id

    def observe(self, contract: bytes, call: bytes, sender: bytes) -> Observation:
        """What the inner chain shows."""
        return self.inner.observe(contract, call, sender)

    def call(self, contract: bytes, call: bytes) -> bytes:
        """What the inner chain answers."""
        return self.inner.call(contract, call)

    def receipt(self, tx_hash: bytes) -> Receipt | None:
        """Where the inner chain has it."""
        return self.inner.receipt(tx_hash)

    def fees(self) -> Fees:
        """The inner chain's."""
        return self.inner.fees()

    def send(self, raw: bytes, time_ns: int) -> None:
        """Send on, or fail as the next fault says."""
        self.sends += 1
        fault = self.faults.pop(0) if self.faults else "none"
        if fault == "killed before the chain has it":
            raise KilledError
        if fault == "refused":
            raise ChainRefusedError("too cheap")
        if fault == "unreachable":
            raise ChainUnavailableError("no route")
        if fault == "held back":
            self.held_back.append((raw, time_ns))
            return
        self.inner.send(raw, time_ns)
        if fault == "killed after the chain has it":
            raise KilledError
        if fault == "answer lost":
            raise ChainUnavailableError("timed out")


FAULTS = [
    "none",
    "killed before the chain has it",
    "killed after the chain has it",
    "refused",
    "unreachable",
    "answer lost",
]


def a_writer(chain: Chain, outbox: Outbox, **settings: Any) -> ChainWriter:
    """A writer that does not really wait."""
    fixed: dict[str, Any] = {"sleep": lambda _: None, **settings}
    signer = EmbeddedChain().signer()
    return ChainWriter(chain=chain, outbox=outbox, signer=signer, genesis_root=GENESIS_ROOT, **fixed)


def post_all(chain: FaultyChain, path: Path, batches: list[Batch]) -> int:
    """Write all batches, with a new writer and a reopened outbox after each kill; return how often it was killed."""
    kills = 0
    while True:
        outbox = Outbox(path, durable=True)
        try:
            writer = a_writer(chain, outbox)
            for batch in batches:
                writer.submit(batch)
        except KilledError:
            kills += 1
        else:
            return kills
        finally:
            outbox.abandon()


def assert_each_once(chain: EmbeddedChain, contract: bytes, batches: list[Batch]) -> None:
    """The chain has exactly these batches, in order, and no transaction besides them and the deployment."""
    seen = chain.observe(contract, HEAD_CALL, OPERATOR_ADDRESS)
    head = decode_head(seen.output)
    assert head is not None
    assert (head.number, head.root) == (len(batches), batches[-1].new_root)
    assert seen.nonce == seen.head.number == len(batches) + 1
    for batch in batches:
        assert chain.call(contract, commitment_call(batch.number)) == batch.commitment()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_each_batch_is_written_once_whatever_fails(tmp_path: Path, fault: str, at: int) -> None:
    """Writer 1, 2, 5: fails if a fault at the deployment (0) or a batch doubles, drops or reorders anything."""
    chain = FaultyChain(EmbeddedChain(), faults=["none"] * at + [fault])

    kills = post_all(chain, tmp_path / "outbox.sqlite", BATCHES)

    assert kills == fault.startswith("killed")
    with_outbox = Outbox(tmp_path / "outbox.sqlite", durable=True)
    assert_each_once(chain.inner, a_writer(chain, with_outbox).contract, BATCHES)


@given(st.lists(st.sampled_from(FAULTS), max_size=20))
@settings(max_examples=12, deadline=None)
def test_each_batch_is_written_once_through_any_row_of_faults(faults: list[str]) -> None:
    """Writer 1, 2, 5: fails if some combination of faults breaks what each alone does not."""
    chain = FaultyChain(EmbeddedChain(), faults=[*faults])

    with TemporaryDirectory() as folder:
        post_all(chain, Path(folder) / "outbox.sqlite", BATCHES[:4])
        outbox = Outbox(Path(folder) / "outbox.sqlite", durable=True)

        assert_each_once(chain.inner, a_writer(chain, outbox).contract, BATCHES[:4])
        outbox.close()


def test_without_the_outbox_a_double_post_is_on_the_chain_as_a_reverted_transaction(tmp_path: Path) -> None:
    """Writer 3, the control: fails if the tests above could not see a double post; the writer sees it and halts."""
    chain = EmbeddedChain()
    outbox = Outbox(tmp_path / "outbox.sqlite", durable=True)
    writer = a_writer(chain, outbox)
    writer.submit(BATCHES[0])

    doubled = post(chain, writer.contract, submission(BATCHES[0]), nonce=2)

    assert not doubled.succeeded
    with pytest.raises(AssertionError):
        assert_each_once(chain, writer.contract, BATCHES[:1])
    with pytest.raises(ChainHaltedError, match="used elsewhere"):
        writer.submit(BATCHES[1])


def test_writing_a_batch_again_sends_nothing(tmp_path: Path) -> None:
    """Fails if a run that was rolled back and goes over its batches again costs a transaction."""
    chain = FaultyChain(EmbeddedChain())
    outbox = Outbox(tmp_path / "outbox.sqlite", durable=True)
    first = [a_writer(chain, outbox).submit(batch) for batch in BATCHES[:2]]
    sends = chain.sends

    again = [a_writer(chain, outbox).submit(batch) for batch in BATCHES[:2]]

    assert again == first
    assert chain.sends == sends


@pytest.mark.parametrize("included", [True, False])
def test_another_batch_of_a_written_number_halts(tmp_path: Path, included: bool) -> None:
    """Fails if a run may change its mind about what it wrote for the chain."""
    outbox = Outbox(tmp_path / "outbox.sqlite", durable=True)
    writer = a_writer(EmbeddedChain(), outbox)
    writer.enqueue(BATCHES[0])
    if included:
        writer.submit(BATCHES[0])

    with pytest.raises(ChainHaltedError, match="differs"):
        writer.submit(changed(BATCHES[0], period=99))


def test_a_batch_left_out_halts(tmp_path: Path) -> None:
    """Fails if batch 2 could wait for ever behind a batch 1 that nobody has."""
    writer = a_writer(EmbeddedChain(), Outbox(tmp_path / "outbox.sqlite", durable=True))

    with pytest.raises(ChainHaltedError, match="does not follow"):
        writer.submit(BATCHES[1])


@pytest.mark.parametrize("field", [{"new_root": keccak(b"foreign")}, {"period": 99}, {"data_root": bytes(32)}])
def test_a_batch_on_the_chain_that_is_not_ours_halts(tmp_path: Path, field: dict[str, object]) -> None:
    """Writer 4: fails if a writer goes on, on a chain that somebody else moved, be it to the same root."""
    chain = EmbeddedChain()
    writer = a_writer(chain, Outbox(tmp_path / "outbox.sqlite", durable=True))
    writer.advance()
    writer.advance()
    writer.enqueue(BATCHES[0])

    foreign = post(chain, writer.contract, submission(changed(BATCHES[0], **field)), nonce=1)

    assert foreign.succeeded
    with pytest.raises(ChainHaltedError, match="root is 0x"):
        writer.submit(BATCHES[0])


def test_data_that_is_not_the_batchs_halts_before_anything_is_signed(tmp_path: Path) -> None:
    """Writer 6: fails if data that was swapped on the way goes out, above all by a hash that it does not have."""
    outbox = Outbox(tmp_path / "outbox.sqlite", durable=True)
    writer = a_writer(EmbeddedChain(), outbox, calldata_bytes_max=0)

    with pytest.raises(ChainHaltedError, match="data"):
        writer.submit(changed(BATCHES[0], data=BATCHES[1].data))

    assert outbox.last_number() == 0


def test_our_batch_by_a_transaction_that_we_do_not_know_halts(tmp_path: Path) -> None:
    """Writer 4: fails if a second writer with the same key goes unnoticed while it happens to agree."""
    chain = EmbeddedChain()
    writer = a_writer(chain, Outbox(tmp_path / "outbox.sqlite", durable=True))
    writer.advance()
    writer.enqueue(BATCHES[0])

    post(chain, writer.contract, submission(BATCHES[0]), nonce=1)

    with pytest.raises(ChainHaltedError, match="does not know"):
        writer.advance()


def test_a_chain_ahead_of_the_outbox_halts(tmp_path: Path) -> None:
    """Writer 4: fails if a lost outbox would be begun again in silence."""
    chain = EmbeddedChain()
    writer = a_writer(chain, Outbox(tmp_path / "outbox.sqlite", durable=True))
    writer.submit(BATCHES[0])
    writer.outbox.truncate_after(0)

    with pytest.raises(ChainHaltedError, match="outbox ends at 0"):
        writer.advance()


def test_a_reverted_batch_halts(tmp_path: Path) -> None:
    """Writer 3: fails if the writer would send batch after batch into a contract that refuses it."""
    chain = EmbeddedChain()
    writer = a_writer(chain, Outbox(tmp_path / "outbox.sqlite", durable=True))
    writer.advance()
    stranger = bytes.fromhex(STRANGER.address[2:])
    dismissal = keccak(b"set_operator(address)")[:4] + stranger.rjust(32, b"\0")
    owner = Account.from_key(keccak(b"owner"))
    post(chain, bytes.fromhex(owner.address[2:]), b"", nonce=1, value=10**20)
    take_over = keccak(b"set_owner(address)")[:4] + bytes.fromhex(owner.address[2:]).rjust(32, b"\0")
    post(chain, writer.contract, take_over, nonce=2)
    post(chain, writer.contract, dismissal, nonce=0, sender=owner)
    # The key did other things above, which would halt by itself: begin the outbox after them.
    object.__setattr__(writer._origin, "first_nonce", 2)

    with pytest.raises(ChainHaltedError, match="batch 1 reverted"):
        writer.submit(BATCHES[0])


def test_a_replaced_transaction_keeps_its_nonce_and_its_first_hash_still_counts(tmp_path: Path) -> None:
    """Writer 1, 2: fails if after a fee bump the earlier transaction, included after all, is not recognised."""
    clock = [0.0]
    chain = FaultyChain(EmbeddedChain())
    outbox = Outbox(tmp_path / "outbox.sqlite", durable=True)
    writer = a_writer(chain, outbox, clock=lambda: clock[0], patience_s=10.0)
    writer.submit(BATCHES[0])
    writer.enqueue(BATCHES[1])
    chain.faults = ["held back"] * 3

    for now_s in (0.0, 9.0, 11.0):
        clock[0] = now_s
        writer.advance()
    first, second = outbox.sent(2)
    chain.inner.send(*chain.held_back[0])
    receipt = writer.submit(BATCHES[1])

    assert first.nonce == second.nonce
    assert second.fees.max_fee * 8 >= first.fees.max_fee * 9
    assert second.fees.tip > first.fees.tip
    assert receipt.tx_hash == first.tx_hash
    assert_each_once(chain.inner, writer.contract, BATCHES[:2])


def test_blocks_that_a_reorganisation_took_are_written_again(tmp_path: Path) -> None:
    """Fails if a batch that was included once is never looked at again."""
    chain = FaultyChain(EmbeddedChain())
    outbox = Outbox(tmp_path / "outbox.sqlite", durable=True)
    writer = a_writer(chain, outbox)
    receipts = [writer.submit(batch) for batch in BATCHES[:4]]

    fork = EmbeddedChain()
    for number, raw, receipt in outbox.transactions():
        if number <= 1:
            fork.include(raw, receipt.block.time_s + 5)
    chain.inner = fork
    last = writer.submit(BATCHES[4])

    assert last.block.number == receipts[-1].block.number + 1
    assert [receipt.tx_hash for receipt in receipts] == [
        kept.tx_hash for n in (1, 2, 3, 4) if (kept := outbox.included(n))
    ]
    assert [outbox.included(n) for n in (2, 3, 4)] == [fork.receipt(receipt.tx_hash) for receipt in receipts[1:]]
    assert_each_once(fork, writer.contract, BATCHES[:5])


def test_a_backlog_goes_out_in_order_after_the_node_comes_back(tmp_path: Path) -> None:
    """Fails if batches that piled up while nothing could be sent are lost or swapped."""
    chain = FaultyChain(EmbeddedChain(), faults=["unreachable"] * 4)
    writer = a_writer(chain, Outbox(tmp_path / "outbox.sqlite", durable=True), window=3)

    for batch in BATCHES:
        writer.enqueue(batch)
    for _ in range(4):
        with pytest.raises(ChainUnavailableError):
            writer.advance()
    while writer.advance() < len(BATCHES):
        pass

    assert_each_once(chain.inner, writer.contract, BATCHES)


def test_a_node_that_never_includes_is_given_up_in_time(tmp_path: Path) -> None:
    """Fails if a submit could hang for ever."""
    clock = iter(range(1000))
    chain = FaultyChain(EmbeddedChain(), faults=["refused"] * 1000)
    writer = a_writer(chain, Outbox(tmp_path / "outbox.sqlite", durable=True), clock=lambda: float(next(clock)))

    with pytest.raises(ChainUnavailableError, match="after 20 s"):
        writer.submit(BATCHES[0], timeout_s=20.0)


# The embedded chain and its outbox.


def run_embedded(path: Path, batches: list[Batch], last_batch: int) -> list[Receipt]:
    """Take up a run after ``last_batch`` and write the rest of its batches."""
    writer = embedded_writer(path, last_batch=last_batch, genesis_root=GENESIS_ROOT)
    receipts = [writer.submit(batch) for batch in batches[last_batch:]]
    writer.outbox.close()
    return receipts


@pytest.mark.parametrize("committed", [0, 1, 4, 6])
def test_a_resumed_run_has_the_blocks_of_an_unbroken_one(tmp_path: Path, committed: int) -> None:
    """Embedded 1, 2: fails if resuming anywhere changes a transaction, a block time or a hash."""
    straight = run_embedded(tmp_path / "straight.sqlite", BATCHES, 0)

    run_embedded(tmp_path / "resumed.sqlite", BATCHES, 0)
    rest = run_embedded(tmp_path / "resumed.sqlite", BATCHES, committed)

    assert rest == straight[committed:]


def test_what_was_not_synced_is_gone_and_made_again(tmp_path: Path) -> None:
    """Outbox 4: fails if a kill leaves half of what was written since the last sync."""
    path = tmp_path / "outbox.sqlite"
    straight = run_embedded(tmp_path / "straight.sqlite", BATCHES, 0)
    writer = embedded_writer(path, last_batch=0, genesis_root=GENESIS_ROOT)
    for batch in BATCHES[:2]:
        writer.submit(batch)
    writer.outbox.sync()
    for batch in BATCHES[2:4]:
        writer.submit(batch)
    writer.outbox.abandon()

    rest = run_embedded(path, BATCHES, 2)

    assert rest == straight[2:]


def test_an_outbox_that_ends_before_the_run_halts(tmp_path: Path) -> None:
    """Fails if an older outbox would be taken for the run's."""
    run_embedded(tmp_path / "outbox.sqlite", BATCHES[:2], 0)

    with pytest.raises(ChainHaltedError, match="outbox ends at 2"):
        embedded_writer(tmp_path / "outbox.sqlite", last_batch=3, genesis_root=GENESIS_ROOT)


def test_an_outbox_that_was_touched_does_not_replay(tmp_path: Path) -> None:
    """Embedded 2: fails if a recorded block can be rewritten unseen."""
    run_embedded(tmp_path / "outbox.sqlite", BATCHES[:3], 0)
    outbox = Outbox(tmp_path / "outbox.sqlite", durable=False)
    outbox._connection.execute("update included set block_time_s = block_time_s + 1 where number = 3")

    with pytest.raises(ChainHaltedError, match="number 3"):
        EmbeddedChain.replay(outbox)


def test_another_genesis_or_version_is_refused(tmp_path: Path) -> None:
    """Fails if an outbox could be used for another ledger's contract or read by a release that does not know it."""
    path = tmp_path / "outbox.sqlite"
    run_embedded(path, BATCHES[:1], 0)

    with pytest.raises(ChainHaltedError, match="differs"):
        embedded_writer(path, last_batch=1, genesis_root=bytes(32))
    outbox = Outbox(path, durable=False)
    outbox._connection.execute("update meta set value = 2 where name = 'version'")
    outbox.close()
    with pytest.raises(OutboxError, match="version 2"):
        Outbox(path, durable=False)


def test_two_runs_do_not_share_an_outbox(tmp_path: Path) -> None:
    """Fails if a second process could interleave its transactions with the first one's."""
    path = tmp_path / "outbox.sqlite"
    first = embedded_writer(path, last_batch=0, genesis_root=GENESIS_ROOT)
    first.submit(BATCHES[0])
    second = Outbox(path, durable=False)
    second._connection.execute("pragma busy_timeout = 10")

    with pytest.raises(OutboxError, match="another process"):
        second.truncate_after(0)

    first.outbox.close()
    assert Outbox(path, durable=False).last_included() == 1


# The key.


def test_the_key_shows_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Signer 1: fails if repr, pickle, an error, a log line or the outbox holds the key."""
    key = keccak(b"canary")
    caplog.set_level(logging.DEBUG)
    signer = Signer(key, chain_id=1)
    seen = [repr(signer), str(signer), repr(vars(signer))]

    with pytest.raises(SignerError) as pickled:
        pickle.dumps(signer)
    with pytest.raises(SignerError) as bad:
        Signer(key + b"\x01", chain_id=1)
    with pytest.raises(SignerError) as refused:
        signer.sign(to=bytes(20), call=b"anything", nonce=0, gas=1, fees=Fees(1, 1))

    with pytest.raises(SignerError) as unsignable:
        signer.sign(to=bytes(19), call=submission(BATCHES[0]), nonce=0, gas=1, fees=Fees(1, 1))

    for caught in (pickled, bad, refused, unsignable):
        assert caught.value.__suppress_context__ == (caught in (bad, unsignable))
        frames = [frame for frame, _ in traceback.walk_tb(caught.tb) if "signer.py" in frame.f_code.co_filename]
        seen += [str(caught.value), *(str(frame.f_locals) for frame in frames)]
    seen.append(caplog.text)
    assert not any(key.hex() in text or repr(key)[2:-1] in text for text in seen)


def test_a_signer_signs_nothing_but_submissions_and_the_deployment() -> None:
    """Signer 2: fails if a swapped payload would be signed."""
    signer = EmbeddedChain().signer()

    for to, call in [
        (bytes(20), b""),
        (bytes(20), keccak(b"set_operator(address)")[:4] + bytes(32)),
        (None, submission(BATCHES[0])),
        (None, b"\x60\x00"),
    ]:
        with pytest.raises(SignerError):
            signer.sign(to=to, call=call, nonce=0, gas=1, fees=Fees(1, 1))


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """Fails if a key that leaked to the machine's users is used, or a file without one is."""
    path = tmp_path / "key"
    path.write_text("0x" + keccak(b"canary").hex())
    path.chmod(0o644)

    with pytest.raises(SignerError, match="chmod 600"):
        Signer.from_file(path, chain_id=1)
    path.chmod(0o600)
    assert Signer.from_file(path, chain_id=1).address == Signer(keccak(b"canary"), chain_id=1).address
    path.write_text("no key")
    with pytest.raises(SignerError, match="hexadecimal"):
        Signer.from_file(path, chain_id=1)


# A real node.


@pytest.fixture(scope="module")
def anvil() -> Iterator[str]:
    """The address of a node of this test's own."""
    binary = shutil.which("anvil")
    if binary is None:
        pytest.skip("no anvil on the PATH: npm i @foundry-rs/anvil brings one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([binary, "--port", str(port), "--silent"]) as node:
        for _ in range(100):
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        node.terminate()


def test_a_node_gets_each_batch_once_through_a_reorganisation(anvil: str, tmp_path: Path) -> None:
    """Writer on JSON-RPC: fails if a real node answers what the embedded chain does not, or a reorg loses a batch."""
    from infra.chain.rpc import RpcChain  # noqa: PLC0415 - slow to import, and needed here alone

    chain = RpcChain(anvil)
    signer = Signer(keccak(b"node test"), chain.chain_id)
    chain._ask("anvil_setBalance", "0x" + signer.address.hex(), hex(10**20))
    outbox = Outbox(tmp_path / "outbox.sqlite", durable=True)
    writer = ChainWriter(chain=chain, outbox=outbox, signer=signer, genesis_root=GENESIS_ROOT)

    for batch in BATCHES[:4]:
        writer.submit(batch, timeout_s=20)
    chain._ask("anvil_reorg", 2, [])
    for batch in BATCHES[4:]:
        writer.submit(batch, timeout_s=20)

    seen = chain.observe(writer.contract, HEAD_CALL, signer.address)
    head = decode_head(seen.output)
    assert head is not None
    assert (head.number, head.root) == (6, BATCHES[-1].new_root)
    assert seen.nonce == len(BATCHES) + 1
    with pytest.raises(ChainRefusedError):
        chain.call(writer.contract, b"\x01\x02\x03\x04")
    with pytest.raises(ChainRefusedError):
        chain.send(b"\x02\xc0", 0)


def test_a_node_that_is_not_there_is_unavailable() -> None:
    """Fails if a refused connection would end the run, or its address would show."""
    from infra.chain.rpc import RpcChain  # noqa: PLC0415 - slow to import, and needed here alone

    with pytest.raises(ChainUnavailableError) as caught:
        RpcChain("http://127.0.0.1:9/secret-path")

    assert "secret" not in str(caught.value)
