"""Laws of settlement, by the invariant numbers of ``flows.settlement``'s modules."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sha3 import keccak_256 as sha3_keccak_256

from flows.settlement.batch import (
    CHUNK_DELTAS,
    BatchError,
    chunks,
    data_root,
    decode_batch,
    decode_deltas,
    encode_batch,
    encode_deltas,
    prove_delta,
    verify_delta,
)
from flows.settlement.netting import ConservationError, net
from flows.settlement.step import Settlement
from flows.settlement.tree import Tree, verify
from schemas.results import Deltas, empty_deltas
from tests.flows.settlement.builders import barrier, rows

DEPTH = 8
ACCOUNTS = 2**DEPTH
Move = tuple[int, int, int, int, int]

# A transfer of one market between two accounts, so that every period sums to zero. Few accounts and markets, so that
# holdings meet, cancel and come back.
accounts = st.integers(0, 12) | st.integers(0, ACCOUNTS - 1)
moves = st.tuples(
    accounts,
    accounts,
    st.integers(0, 1),
    st.integers(0, 3) | st.sampled_from([2**31 - 1]),
    st.integers(-5, 5) | st.integers(-(2**55), 2**55),
)
periods = st.lists(st.lists(moves, max_size=8), max_size=6)


def plain_keccak(data: bytes) -> bytes:
    """Keccak-256 by the library alone."""
    return bytes(sha3_keccak_256(data).digest())


def deltas_of_moves(period: list[Move]) -> Deltas:
    """Both sides of every move, not netted."""
    sides = [
        side
        for sender, receiver, kind, market, amount in period
        for side in ((sender, kind, market, -amount), (receiver, kind, market, amount))
    ]
    return rows(*sides)


def plain_net(period: list[Move]) -> dict[tuple[int, int, int], int]:
    """The same net with a dictionary."""
    sums: dict[tuple[int, int, int], int] = defaultdict(int)
    for sender, receiver, kind, market, amount in period:
        sums[sender, kind, market] -= amount
        sums[receiver, kind, market] += amount
    return {key: amount for key, amount in sorted(sums.items()) if amount != 0}


def plain_root(held: dict[tuple[int, int, int], int], first: int = 0, height: int = DEPTH) -> bytes:
    """The state root by plain recursion from its description."""
    if height == 0:
        entries = b"".join(
            kind.to_bytes(1) + market.to_bytes(4) + amount.to_bytes(8, signed=True)
            for (account, kind, market), amount in sorted(held.items())
            if account == first
        )
        return plain_keccak(b"\x00" + first.to_bytes(4) + entries) if entries else bytes(32)
    half = 1 << (height - 1)
    return plain_keccak(b"\x01" + plain_root(held, first, height - 1) + plain_root(held, first + half, height - 1))


@given(periods)
@settings(max_examples=60, deadline=None)
def test_any_periods_conserve_and_give_the_plain_root(sequence: list[list[Move]]) -> None:
    """Step 2, 3, 4 and tree 1, 2, 3: fails if netting, holdings or the tree differ from dictionaries and recursion."""
    settlement = Settlement(depth=DEPTH)
    held: dict[tuple[int, int, int], int] = defaultdict(int)

    batches = []
    for number, period in enumerate(sequence):
        for key, amount in plain_net(period).items():
            held[key] += amount
        held = defaultdict(int, {key: amount for key, amount in held.items() if amount != 0})
        batches.append(settlement.step(barrier(number), number, [deltas_of_moves(period)]))

    assert [batch is not None for batch in batches] == [bool(plain_net(period)) for period in sequence]
    assert all(total == 0 for total in settlement.totals().values())
    assert settlement.root == plain_root(held)
    made = [batch for batch in batches if batch is not None]
    assert [batch.number for batch in made] == list(range(1, len(made) + 1))
    for before, after in pairwise(made):
        assert after.previous_root == before.new_root
        assert after.first_frame == before.last_frame + 1


@given(st.lists(moves, max_size=40), st.lists(st.integers(0, 80), max_size=3))
@settings(max_examples=60, deadline=None)
def test_net_is_the_plain_net_however_it_was_split(period: list[Move], cuts: list[int]) -> None:
    """Netting 1: fails if the result depends on the shards' split, or differs from a dictionary's."""
    whole = deltas_of_moves(period)

    parts = np.split(whole, sorted(min(cut, whole.shape[0]) for cut in cuts))
    netted = net(parts[::-1])

    assert [(int(r["account"]), int(r["kind"]), int(r["market"]), int(r["amount"])) for r in netted] == [
        (*key, amount) for key, amount in plain_net(period).items()
    ]


@given(st.lists(moves, max_size=20), moves)
@settings(max_examples=60, deadline=None)
def test_one_side_alone_is_refused(period: list[Move], odd: Move) -> None:
    """Netting 2: fails if a period that makes or loses anything, however little, passes."""
    _, receiver, kind, market, amount = odd
    amount = amount or 1

    with pytest.raises(ConservationError) as caught:
        net([deltas_of_moves(period), rows((receiver, kind, market, amount))])

    assert (caught.value.kind, caught.value.market, caught.value.amount) == (kind, market, amount)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), moves), max_size=300))
@settings(max_examples=40, deadline=None)
def test_delta_data_has_one_encoding(wide: list[tuple[int, Move]]) -> None:
    """Batch 2: fails if decoding does not return the deltas, or a chunk outgrows its bound or does not stand alone."""
    deltas = net([deltas_of_moves([(account, move[1], *move[2:]) for account, move in wide])])

    data = encode_deltas(deltas)
    parts = chunks(data)

    assert (decode_deltas(data) == deltas).all()
    assert b"".join(parts) == data
    assert all(len(part) <= 4096 for part in parts)
    for index, part in enumerate(parts):
        assert (decode_deltas(part) == deltas[index * CHUNK_DELTAS : (index + 1) * CHUNK_DELTAS]).all()


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_delta_data_or_refused(data: bytes) -> None:
    """Batch 2: fails if two byte strings decode to the same deltas, or an error other than ours escapes."""
    try:
        deltas = decode_deltas(data)
    except BatchError:
        return

    assert encode_deltas(deltas) == data


@given(st.integers(1, 700), st.integers(0, 2**30))
@settings(max_examples=15, deadline=None)
def test_every_delta_of_a_batch_can_be_opened(pairs: int, seed: int) -> None:
    """Batch 3: fails if some account's deltas cannot be proved whole, or a changed proof passes."""
    generator = np.random.default_rng(seed)
    deltas = empty_deltas(2 * pairs)
    deltas["account"] = generator.integers(0, 60, 2 * pairs) * 2
    deltas["kind"] = 1
    deltas["market"] = np.tile(np.arange(pairs), 2)
    deltas["amount"][:pairs] = generator.integers(1, 1000, pairs)
    deltas["amount"][pairs:] = -deltas["amount"][:pairs]
    batch = Settlement().step(barrier(0), 0, [deltas])
    if batch is None:
        return
    every = batch.deltas()

    for account in [*range(122), 2**32 - 1]:
        proof = prove_delta(batch, account)
        opened = verify_delta(data_root=batch.data_root, delta_count=batch.delta_count, proof=proof)
        assert opened is not None
        assert (opened == every[every["account"] == account]).all()

    shortened = prove_delta(batch, int(every["account"][0]))
    shortened.chunks[0] = encode_deltas(decode_deltas(shortened.chunks[0])[1:])
    assert verify_delta(data_root=batch.data_root, delta_count=batch.delta_count, proof=shortened) is None
    assert verify_delta(data_root=batch.data_hash, delta_count=batch.delta_count, proof=prove_delta(batch, 0)) is None


def test_leaving_out_a_neighbouring_chunk_does_not_hide_deltas() -> None:
    """Batch 3: fails if an account cut by a chunk border can be opened in part."""
    count = CHUNK_DELTAS + 50
    one_account = rows(*((5, 1, market, 1) for market in range(count)))
    others = rows(*((900 + market, 1, market, -1) for market in range(count)))
    batch = Settlement().step(barrier(0), 0, [one_account, others])
    assert batch is not None

    whole = prove_delta(batch, 5)
    assert len(whole.chunks) == 2
    for at in (0, 1):
        part = type(whole)(account=5, first_chunk=at, chunks=whole.chunks[at : at + 1], paths=whole.paths[at : at + 1])
        assert verify_delta(data_root=batch.data_root, delta_count=batch.delta_count, proof=part) is None

    opened = verify_delta(data_root=batch.data_root, delta_count=batch.delta_count, proof=whole)
    assert opened is not None
    assert opened.shape[0] == count


@given(st.lists(moves, min_size=1, max_size=20), st.integers(0, ACCOUNTS - 1), st.integers(0, DEPTH - 1))
@settings(max_examples=60, deadline=None)
def test_leaf_proofs_hold_and_changed_ones_fail(period: list[Move], account: int, place: int) -> None:
    """Tree 1, 2: fails if a leaf or an absence cannot be proved, or a proof holds for anything else."""
    settlement = Settlement(depth=DEPTH)
    settlement.step(barrier(0), 0, [deltas_of_moves(period)])
    leaf, path, root = settlement.leaf(account), settlement.proof(account), settlement.root

    assert verify(root=root, account=account, leaf=leaf, path=path)
    assert (leaf == bytes(32)) == (settlement.entries(account) == b"")
    assert not verify(root=root, account=account, leaf=plain_keccak(leaf), path=path)
    changed = [*path]
    changed[place] = plain_keccak(changed[place])
    assert not verify(root=root, account=account, leaf=leaf, path=changed)
    neighbour = account ^ (1 << place)
    if settlement.leaf(neighbour) != leaf:
        assert not verify(root=root, account=neighbour, leaf=leaf, path=path)


@given(periods, st.integers(0, 6))
@settings(max_examples=40, deadline=None)
def test_a_restored_state_goes_on_with_the_same_bytes(sequence: list[list[Move]], cut: int) -> None:
    """Step 1: fails if a checkpoint at any barrier loses anything that a later batch reads."""
    straight = Settlement(depth=DEPTH)
    resumed = Settlement(depth=DEPTH)

    for number, period in enumerate(sequence):
        if number == cut:
            resumed = Settlement.restore(resumed.checkpoint())
        left = straight.step(barrier(number), number, [deltas_of_moves(period)])
        right = resumed.step(barrier(number), number, [deltas_of_moves(period)])

        assert (left is None) == (right is None)
        if left is not None and right is not None:
            assert encode_batch(left) == encode_batch(right)
            assert decode_batch(encode_batch(left)) == left
    assert straight.checkpoint() == resumed.checkpoint()


@given(st.lists(st.dictionaries(st.integers(0, ACCOUNTS - 1), st.binary(min_size=32, max_size=32)), max_size=5))
@settings(max_examples=40, deadline=None)
def test_updates_in_any_batches_give_the_root_of_one(updates: list[dict[int, bytes]]) -> None:
    """Tree 3: fails if a shared parent is hashed before both children, or growth loses a node."""
    stepwise, once = Tree(DEPTH), Tree(DEPTH)

    for update in updates:
        stepwise.update(sorted(update), [update[account] for account in sorted(update)])
    last = {account: leaf for update in updates for account, leaf in update.items()}
    once.update(sorted(last), [last[account] for account in sorted(last)])

    assert stepwise.root == once.root


@given(st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=9))
@settings(max_examples=40, deadline=None)
def test_data_root_is_the_plain_merkle_root(parts: list[bytes]) -> None:
    """Batch 3: fails if padding or prefixes differ from the description."""

    def plain(nodes: list[bytes]) -> bytes:
        if len(nodes) == 1:
            return nodes[0]
        half = len(nodes) // 2
        return plain_keccak(b"\x01" + plain(nodes[:half]) + plain(nodes[half:]))

    leaves = [plain_keccak(b"\x02" + part) for part in parts]
    while len(leaves) & (len(leaves) - 1):
        leaves.append(bytes(32))

    assert data_root(parts) == plain(leaves)
