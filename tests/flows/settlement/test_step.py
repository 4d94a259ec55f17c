"""What the settlement step refuses, and what it keeps between periods."""

from typing import Any

import numpy as np
import pytest

from flows.settlement.batch import BatchError, decode_batch
from flows.settlement.holdings import Holdings
from flows.settlement.netting import ConservationError, SettlementOverflowError, keys_of, net, summed
from flows.settlement.step import Settlement, SettlementError
from flows.settlement.tree import EMPTY_LEAF, Tree, keccak, leaf_hash
from schemas.checkpoint import CheckpointError
from schemas.ids import BRIDGE_NUMBER, FEES_NUMBER
from schemas.ledger import FrameKind
from schemas.money import I64_MAX
from schemas.results import DeltaKind
from tests.flows.settlement.builders import barrier, rows

ASSET, POSITION = int(DeltaKind.ASSET), int(DeltaKind.POSITION)
DEPOSIT = rows((8, ASSET, 0, 1_000), (BRIDGE_NUMBER, ASSET, 0, -1_000))


def test_keccak_is_ethereums() -> None:
    """Fails if the hash is SHA3-256, which differs in padding alone."""
    empty = keccak(b"")

    assert empty.hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


def test_a_deposit_and_a_trade_settle_into_balances_and_positions() -> None:
    """Fails if a delta lands on another account, kind or market."""
    settlement = Settlement()
    trade = rows(
        (8, POSITION, 3, 2), (9, POSITION, 3, -2), (8, ASSET, 0, -500), (9, ASSET, 0, 499), (FEES_NUMBER, ASSET, 0, 1)
    )

    settlement.step(barrier(4), 0, [DEPOSIT])
    batch = settlement.step(barrier(9), 5, [trade])

    assert settlement.balances(8) == {0: 500}
    assert settlement.positions(8) == {3: 2}
    assert settlement.balances(9) == {0: 499}
    assert settlement.positions(9) == {3: -2}
    assert settlement.positions(7) == {}
    assert settlement.balances(FEES_NUMBER) == {0: 1}
    assert batch is not None
    assert (batch.number, batch.first_frame, batch.last_frame, batch.period) == (2, 5, 9, 9)
    assert (batch.delta_count, batch.account_count) == (5, 3)
    assert batch.order_commitment == barrier(9).content_head


def test_parts_of_a_system_account_are_added_up() -> None:
    """Fails if two shards' parts of one account stay two deltas."""
    first = rows((8, ASSET, 0, 5), (FEES_NUMBER, ASSET, 0, -5))
    second = rows((9, ASSET, 0, 7), (FEES_NUMBER, ASSET, 0, -7))

    netted = net([first, second])

    assert netted.tolist() == [(FEES_NUMBER, ASSET, 0, -12), (8, ASSET, 0, 5), (9, ASSET, 0, 7)]


def test_a_period_without_change_gives_its_frames_to_the_next_batch() -> None:
    """Fails if a fill and its bust, which net to nothing, belong to no batch."""
    settlement = Settlement()
    there_and_back = rows((8, ASSET, 0, 3), (9, ASSET, 0, -3), (8, ASSET, 0, -3), (9, ASSET, 0, 3))

    empty = settlement.step(barrier(2), 0, [there_and_back])
    batch = settlement.step(barrier(5), 3, [DEPOSIT])

    assert empty is None
    assert batch is not None
    assert (batch.number, batch.first_frame, batch.last_frame) == (1, 0, 5)


def test_what_is_given_back_leaves_no_trace_in_the_root() -> None:
    """Fails if an account that holds nothing keeps a leaf."""
    settlement = Settlement()
    withdrawal = rows((8, ASSET, 0, -1_000), (BRIDGE_NUMBER, ASSET, 0, 1_000))

    settlement.step(barrier(0), 0, [DEPOSIT])
    held = settlement.root
    settlement.step(barrier(1), 1, [withdrawal])

    assert held != Settlement().root
    assert settlement.root == Settlement().root
    assert settlement.leaf(8) == EMPTY_LEAF
    assert settlement.totals() == {}


@pytest.mark.parametrize(
    ("first", "number", "kind"),
    [
        pytest.param(6, 9, FrameKind.BARRIER, id="a frame is missing"),
        pytest.param(4, 9, FrameKind.BARRIER, id="a frame is settled twice"),
        pytest.param(5, 4, FrameKind.BARRIER, id="the range is empty"),
        pytest.param(5, 9, FrameKind.EVENTS, id="no barrier"),
    ],
)
def test_frames_out_of_order_are_refused(first: int, number: int, kind: FrameKind) -> None:
    """Fails if a fill could be in no batch, or in two."""
    settlement = Settlement()
    settlement.step(barrier(4), 0, [DEPOSIT])

    with pytest.raises(SettlementError):
        settlement.step(barrier(number, kind), first, [DEPOSIT])

    assert settlement.batch_count == 1


def test_money_from_nowhere_halts_and_is_named() -> None:
    """Fails if one unit can appear."""
    made = rows((8, ASSET, 2, 1_000), (BRIDGE_NUMBER, ASSET, 2, -999))

    with pytest.raises(ConservationError, match=r"asset 2 .* period 0 .*: \+1 units"):
        Settlement().step(barrier(0), 0, [made])


def test_lots_that_cancel_across_instruments_are_not_conserved() -> None:
    """Fails if totals of different markets are added up."""
    swapped = rows((8, POSITION, 1, 5), (9, POSITION, 2, -5))

    with pytest.raises(ConservationError, match="instrument 1"):
        net([swapped])


def test_nets_and_balances_beyond_64_bits_halt() -> None:
    """Fails if a sum wraps: twice, because the net and the balance are separate sums."""
    far = rows((8, ASSET, 0, I64_MAX), (9, ASSET, 0, -I64_MAX))
    again = rows((8, ASSET, 0, 1), (9, ASSET, 0, -1))
    settlement = Settlement()
    settlement.step(barrier(0), 0, [far])

    with pytest.raises(SettlementOverflowError, match="account 8: asset 0"):
        net([far, again])
    with pytest.raises(SettlementOverflowError):
        settlement.step(barrier(1), 1, [again])


def test_sums_that_pass_64_bits_on_the_way_are_exact() -> None:
    """Fails if an intermediate sum wraps although the net fits."""
    many = [rows((8, ASSET, 0, I64_MAX), (9, ASSET, 0, -I64_MAX))] * 5
    back = [rows((8, ASSET, 0, -I64_MAX), (9, ASSET, 0, I64_MAX))] * 4

    netted = net([*many, *back])

    assert netted["amount"].tolist() == [I64_MAX, -I64_MAX]


def test_a_fault_in_the_stored_state_shows_at_the_next_checkpoint() -> None:
    """Fails if conservation is only ever checked on the deltas, and not on what is held."""
    deltas = net([DEPOSIT])
    holdings = Holdings()
    holdings.apply(deltas, "the period")

    holdings.amounts[1] += 1

    with pytest.raises(ConservationError, match=r"\+1 units"):
        holdings.check("the state")


def test_what_nets_to_nothing_is_no_delta() -> None:
    """Fails if an account that only went out and back has a delta of it."""
    journal = rows((9, ASSET, 0, 5), (8, ASSET, 0, 1), (9, ASSET, 0, -5))

    assert summed([journal]).tolist() == rows((8, ASSET, 0, 1)).tolist()


def test_a_key_that_does_not_pack_is_refused() -> None:
    """Fails if an unknown kind could be taken for another market."""
    unknown = rows((8, 2, 0, 1))

    with pytest.raises(ValueError, match="kind 2"):
        keys_of(unknown)


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_damaged_checkpoint_is_refused_wherever_it_is_damaged() -> None:
    """Fails if one flipped bit, a cut or a swapped part is restored."""
    settlement = Settlement()
    settlement.step(barrier(0), 0, [DEPOSIT])
    good = settlement.checkpoint()

    for at in range(len(good)):
        with pytest.raises(CheckpointError):
            Settlement.restore(_flip(good, at))
    for length in range(0, len(good), 7):
        with pytest.raises(CheckpointError):
            Settlement.restore(good[:length])


def test_a_leaf_is_bound_to_its_account_and_apart_from_nodes() -> None:
    """Tree 1: fails if two accounts with equal holdings share a leaf, or a node's bytes could be a leaf's."""
    entries = bytes(13)

    assert leaf_hash(8, entries) != leaf_hash(9, entries)
    assert leaf_hash(8, entries) == keccak(b"\x00" + bytes([0, 0, 0, 8]) + entries)
    assert leaf_hash(8, b"") == EMPTY_LEAF


@pytest.mark.parametrize("accounts", [[3, 3], [4, 2], [16], [-1]])
def test_a_tree_refuses_accounts_out_of_order_or_range(accounts: list[int]) -> None:
    """Fails if a repeated account's last leaf would win silently."""
    tree = Tree(depth=4)

    with pytest.raises(ValueError, match=r"rise|fit"):
        tree.update(accounts, [bytes(32)] * len(accounts))


def test_every_field_of_a_batch_is_committed() -> None:
    """Batch 4: fails if some field can be changed without changing the commitment."""
    batch = Settlement().step(barrier(0), 0, [DEPOSIT])
    assert batch is not None
    words = batch.words()

    for name in batch.__struct_fields__[: len(words)]:
        value = getattr(batch, name)
        changed: Any = _flip(value, 0) if isinstance(value, bytes) else value + 1
        fields = {field: getattr(batch, field) for field in batch.__struct_fields__} | {name: changed}
        assert type(batch)(**fields).commitment() != batch.commitment(), name


@pytest.mark.parametrize("name", ["data", "data_hash", "data_root", "delta_count", "account_count"])
def test_a_batch_whose_data_and_header_disagree_is_refused(name: str) -> None:
    """Fails if a reader could take deltas that the commitment does not cover."""
    batch = Settlement().step(barrier(0), 0, [DEPOSIT])
    assert batch is not None
    value = getattr(batch, name)
    changed: Any = _flip(value, 0) if isinstance(value, bytes) else value + 1

    forged = type(batch)(**{field: getattr(batch, field) for field in batch.__struct_fields__} | {name: changed})

    with pytest.raises(BatchError):
        forged.deltas()


def test_bytes_that_are_no_batch_are_refused() -> None:
    """Fails if an error other than ours escapes."""
    for data in (b"", b"\xc1", b"\x80", bytes(np.arange(40, dtype=np.uint8))):
        with pytest.raises(BatchError):
            decode_batch(data)
