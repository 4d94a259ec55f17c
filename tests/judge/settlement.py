"""The state root, judged plainly: a Keccak tree by recursion over everything that is held."""

from struct import pack

from eth_utils.crypto import keccak

DEPTH = 24
Holdings = dict[tuple[int, int, int], int]  # (account, kind, market) to amount, never zero


def state_root(holdings: Holdings) -> bytes:
    """Return the root over all accounts; kind 0 is an asset's units, 1 an instrument's lots."""
    entries: dict[int, bytes] = {}
    for (account, kind, market), amount in sorted(holdings.items()):
        entries[account] = entries.get(account, b"") + pack(">BIq", kind, market, amount)
    leaves = {account: keccak(b"\x00" + pack(">I", account) + held) for account, held in entries.items()}
    return _root(leaves, DEPTH)


_empty = [bytes(32)]


def _root(leaves: dict[int, bytes], height: int) -> bytes:
    """Return the root of a subtree; accounts count from its left edge."""
    if not leaves:
        while len(_empty) <= height:
            _empty.append(keccak(b"\x01" + 2 * _empty[-1]))
        return _empty[height]
    if height == 0:
        return leaves[0]
    half = 1 << (height - 1)
    left = {account: leaf for account, leaf in leaves.items() if account < half}
    right = {account - half: leaf for account, leaf in leaves.items() if account >= half}
    return keccak(b"\x01" + _root(left, height - 1) + _root(right, height - 1))


def state_hash(
    account: int,
    *,
    tier: int,
    suspended: bool,
    cash: dict[int, int],
    held: list[tuple[int, int, int]],
    open_orders: dict[int, tuple[int, int]],
) -> list[int]:
    """Return the two halves of an account's hash.

    splitmix64 over its tier, balances, (instrument, lots, order), and, behind 2^32 - 1, (instrument, buys, sells) of
    its open orders, if it has any.
    """
    halves = []
    for half in (1, 2):
        running = _mix(_mix(half, account), 2 * tier + suspended)
        for asset, units in sorted(cash.items()):
            running = _mix(_mix(running, asset), units)
        for instrument, lots, order in sorted(held):
            running = _mix(_mix(_mix(running, instrument), lots), order)
        if open_orders:
            running = _mix(running, (1 << 32) - 1)
        for instrument, (buys, sells) in sorted(open_orders.items()):
            running = _mix(_mix(_mix(running, instrument), buys), sells)
        halves.append(running)
    return halves


def _mix(running: int, value: int) -> int:
    mask = (1 << 64) - 1
    running = (running ^ (value & mask)) * 0x9E3779B97F4A7C15 & mask
    running = (running ^ running >> 30) * 0xBF58476D1CE4E5B9 & mask
    running = (running ^ running >> 27) * 0x94D049BB133111EB & mask
    return running ^ running >> 31
