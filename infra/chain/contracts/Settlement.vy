# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Tidegate settlement
@license Apache-2.0
@notice Keeps the state root of a venue's accounts, and moves it one batch at a time.

1. Batch n + 1 is taken only after n and only on the root of n: a batch sent twice is refused the second time, and
   none can be left out.
2. Only the operator moves the root. Only the owner names the operator.
3. A batch's commitment is computed here from its fields, so what is stored covers every one of them. Data that comes
   along must have the hash that the batch names; the event says whether it came along.
"""

event BatchAccepted:
    number: indexed(uint64)
    commitment: bytes32
    new_root: bytes32
    order_commitment: bytes32
    data_hash: bytes32
    data_in_calldata: bool

event OperatorChanged:
    operator: indexed(address)

event OwnerChanged:
    owner: indexed(address)


struct Batch:
    number: uint64
    period: uint64
    first_frame: uint64
    last_frame: uint64
    time_ns: uint64
    previous_root: bytes32
    new_root: bytes32
    order_commitment: bytes32
    data_hash: bytes32
    data_root: bytes32
    delta_count: uint32
    account_count: uint32


# The fields as flows/settlement/batch.py names them: the commitment is an EIP-712 struct hash.
BATCH_TYPE_HASH: constant(bytes32) = keccak256(
    "Batch(uint64 number,uint64 period,uint64 first_frame,uint64 last_frame,uint64 time_ns,bytes32 previous_root,bytes32 new_root,bytes32 order_commitment,bytes32 data_hash,bytes32 data_root,uint32 delta_count,uint32 account_count)"
)
DEPTH: public(constant(uint256)) = 24
# Room for more than this in one transaction is refused by the pools of common nodes (128 KiB in all).
DATA_BYTES: constant(uint256) = 102400
# Room for 630 holdings of one account in a leaf.
ENTRIES_BYTES: constant(uint256) = 8190

owner: public(address)
operator: public(address)
last_batch: public(uint64)
# The order commitment of the last batch: the head of the ledger that is settled.
order_commitment: public(bytes32)
# By batch number; 0 is the state before the first batch.
root_of: public(HashMap[uint64, bytes32])
batch_commitment: public(HashMap[uint64, bytes32])


@deploy
def __init__(genesis_root: bytes32, operator: address):
    """
    @notice The deployer becomes the owner.
    @param genesis_root The root of the empty state tree.
    """
    assert operator != empty(address), "no operator"
    self.owner = msg.sender
    self.operator = operator
    self.root_of[0] = genesis_root
    log OwnerChanged(owner=msg.sender)
    log OperatorChanged(operator=operator)


@external
def set_operator(operator: address):
    """
    @notice Name another operator; the old one is refused from here on.
    """
    assert msg.sender == self.owner, "not the owner"
    assert operator != empty(address), "no operator"
    self.operator = operator
    log OperatorChanged(operator=operator)


@external
def set_owner(owner: address):
    """
    @notice Hand the contract to another owner.
    """
    assert msg.sender == self.owner, "not the owner"
    assert owner != empty(address), "no owner"
    self.owner = owner
    log OwnerChanged(owner=owner)


@external
def submit(batch: Batch):
    """
    @notice Take a batch whose data is kept elsewhere.
    """
    self._accept(batch, False)


@external
def submit_with_data(batch: Batch, data: Bytes[DATA_BYTES]):
    """
    @notice Take a batch with its data, up to 100 KiB.
    """
    assert keccak256(data) == batch.data_hash, "wrong data"
    self._accept(batch, True)


@internal
def _accept(batch: Batch, data_in_calldata: bool):
    assert msg.sender == self.operator, "not the operator"
    assert batch.number == self.last_batch + 1, "not the next batch"
    assert batch.previous_root == self.root_of[self.last_batch], "not on the current root"

    commitment: bytes32 = keccak256(abi_encode(BATCH_TYPE_HASH, batch))
    self.last_batch = batch.number
    self.root_of[batch.number] = batch.new_root
    self.batch_commitment[batch.number] = commitment
    self.order_commitment = batch.order_commitment
    log BatchAccepted(
        number=batch.number,
        commitment=commitment,
        new_root=batch.new_root,
        order_commitment=batch.order_commitment,
        data_hash=batch.data_hash,
        data_in_calldata=data_in_calldata,
    )


@external
@view
def head() -> (uint64, bytes32, bytes32):
    """
    @notice The last batch, the current root and that batch's commitment, at one block.
    """
    return self.last_batch, self.root_of[self.last_batch], self.batch_commitment[self.last_batch]


@external
@view
def verify_leaf(account: uint32, leaf: bytes32, proof: bytes32[DEPTH]) -> bool:
    """
    @notice Whether a leaf stands at an account under the current root.
    @param proof The siblings, from the leaf upwards.
    """
    return self._stands(self.root_of[self.last_batch], account, leaf, proof)


@external
@view
def verify_leaf_at(number: uint64, account: uint32, leaf: bytes32, proof: bytes32[DEPTH]) -> bool:
    """
    @notice Whether a leaf stood at an account under the root of batch ``number`` (0: before the first).
    """
    return number <= self.last_batch and self._stands(self.root_of[number], account, leaf, proof)


@external
@pure
def leaf_of(account: uint32, entries: Bytes[ENTRIES_BYTES]) -> bytes32:
    """
    @notice The leaf of an account that holds ``entries``: 13 bytes each, (kind uint8, market uint32, amount int64).
    """
    if len(entries) == 0:
        return empty(bytes32)
    return keccak256(concat(b"\x00", convert(account, bytes4), entries))


@internal
@pure
def _stands(root: bytes32, account: uint32, leaf: bytes32, proof: bytes32[DEPTH]) -> bool:
    node: bytes32 = leaf
    place: uint256 = convert(account, uint256)
    for sibling: bytes32 in proof:
        if place & 1 == 1:
            node = keccak256(concat(b"\x01", sibling, node))
        else:
            node = keccak256(concat(b"\x01", node, sibling))
        place >>= 1
    return place == 0 and node == root
