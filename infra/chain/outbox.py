"""The outbox: every transaction that was ever signed for the chain, written before it was sent. One SQLite file.

1. Number 0 is the contract's deployment, number n is batch n; numbers have no gap.
2. A signed transaction is on record before the chain can know it, with its nonce; none is ever overwritten, so every
   hash that may be included for a nonce is known.
3. Writing a batch again is allowed if it is the same one, and otherwise refused: the run would contradict itself.
4. Durable mode commits each write to disk, for a chain that outlives us. Otherwise writes are committed by ``sync``:
   the embedded chain is in memory and dies with the process, so the file needs to hold only what the run has committed.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.chain.chain import Fees, Head, Receipt

OUTBOX_VERSION: Final = 1
DEPLOYMENT: Final = 0

_TABLES: Final = """
create table if not exists meta (name text primary key, value blob not null) without rowid;
create table if not exists batch (
    number integer primary key,      -- 0: the deployment
    commitment blob not null,        -- 32 bytes; of the deployment: zeros
    new_root blob not null,          -- 32 bytes
    time_ns integer not null,        -- ledger time
    call blob                        -- what to sign; null once included on the embedded chain
);
create table if not exists sent (
    tx_hash blob primary key,
    number integer not null,
    nonce integer not null,
    max_fee integer not null,        -- wei per gas
    tip integer not null,            -- wei per gas
    raw blob not null                -- the signed transaction
);
create index if not exists sent_by_number on sent (number);
create table if not exists included (
    number integer primary key,
    tx_hash blob not null,
    block_number integer not null,
    block_hash blob not null,
    block_time_s integer not null,
    gas_used integer not null
);
"""


class OutboxError(Exception):
    """The outbox is of another version or chain, or is asked to contradict what it holds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A batch as the outbox keeps it; ``call`` is None once it is included on the embedded chain."""

    number: int
    commitment: bytes
    new_root: bytes
    time_ns: int
    call: bytes | None


@dataclass(frozen=True, slots=True)
class Sent:
    """A signed transaction for a batch."""

    tx_hash: bytes
    number: int
    nonce: int
    fees: Fees
    raw: bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the outbox's transactions go: fixed when it is first used."""

    chain_id: int
    contract: bytes
    sender: bytes
    # The nonce that number 0 has, so that number n has ``first_nonce + n``.
    first_nonce: int


class Outbox:
    """The outbox in one file."""

    def __init__(self, path: Path, *, durable: bool) -> None:
        """Open or make the file; ``durable`` commits every write to disk at once (invariant 4).

        Raises
        ------
        OutboxError : the file is damaged, or of another version.
        """
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._durable = durable
        try:
            self._connection.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
            self._connection.executescript(_TABLES)
            # Damage is met here, by name, and not at some batch as a fault of ours.
            fault = self._connection.execute("pragma quick_check(1)").fetchone()[0]
        except sqlite3.OperationalError as error:
            raise OSError(f"{path} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise OutboxError(f"{path} is damaged: {error}") from error
        if fault != "ok":
            raise OutboxError(f"{path} is damaged: {fault.splitlines()[-1]}")
        version = self._meta().get("version")
        if version is None:
            self._connection.execute("insert or ignore into meta values ('version', ?)", (OUTBOX_VERSION,))
        elif version != OUTBOX_VERSION:
            raise OutboxError(f"outbox version {version!r} is not {OUTBOX_VERSION}: use the release that wrote it")

    def close(self) -> None:
        """Commit and close."""
        self.sync()
        self._connection.close()

    def abandon(self) -> None:
        """Close without committing: what a killed process leaves behind."""
        self._connection.close()

    def sync(self) -> None:
        """Put everything written so far on disk."""
        if self._connection.in_transaction:
            self._connection.execute("commit")

    # Where transactions go.

    def origin(self) -> Origin | None:
        """Return where the transactions go, None in a new outbox."""
        meta = self._meta()
        if "contract" not in meta:
            return None
        return Origin(meta["chain_id"], meta["contract"], meta["sender"], meta["first_nonce"])

    def set_origin(self, origin: Origin) -> None:
        """Fix where the transactions go; once."""
        with self._write():
            for name in ("chain_id", "contract", "sender", "first_nonce"):
                self._connection.execute("insert into meta values (?, ?)", (name, getattr(origin, name)))

    # Batches.

    def add(self, entry: Entry) -> None:
        """Keep a batch for sending; the same one again changes nothing.

        Raises
        ------
        OutboxError : another batch has this number, or it is not the next.
        """
        known = self.entry(entry.number)
        if known is not None:
            if (known.commitment, known.new_root) != (entry.commitment, entry.new_root):
                raise OutboxError(f"batch {entry.number} differs from the one that was written for the chain before")
            return
        if entry.number != self.last_number() + 1:
            raise OutboxError(f"batch {entry.number} does not follow batch {self.last_number()}")
        with self._write():
            self._connection.execute(
                "insert into batch values (?, ?, ?, ?, ?)",
                (entry.number, entry.commitment, entry.new_root, entry.time_ns, entry.call),
            )

    def entry(self, number: int) -> Entry | None:
        """Return a batch."""
        row = self._connection.execute("select * from batch where number = ?", (number,)).fetchone()
        return None if row is None else Entry(*row)

    def last_number(self) -> int:
        """Return the highest number, -1 in a new outbox."""
        (number,) = self._connection.execute("select coalesce(max(number), -1) from batch").fetchone()
        return int(number)

    # Transactions.

    def add_sent(self, sent: Sent) -> None:
        """Record a signed transaction; call this before the chain gets it."""
        with self._write():
            self._connection.execute(
                "insert into sent values (?, ?, ?, ?, ?, ?)",
                (sent.tx_hash, sent.number, sent.nonce, sent.fees.max_fee, sent.fees.tip, sent.raw),
            )

    def sent(self, number: int) -> list[Sent]:
        """Return every transaction signed for a number, oldest first."""
        rows = self._connection.execute(
            "select tx_hash, number, nonce, max_fee, tip, raw from sent where number = ? order by rowid", (number,)
        )
        return [Sent(tx, n, nonce, Fees(max_fee, tip), raw) for tx, n, nonce, max_fee, tip, raw in rows]

    # Inclusion.

    def set_included(self, number: int, receipt: Receipt) -> None:
        """Record where a number was included."""
        block = receipt.block
        with self._write():
            self._connection.execute(
                "insert or replace into included values (?, ?, ?, ?, ?, ?)",
                (number, receipt.tx_hash, block.number, block.block_hash, block.time_s, receipt.gas_used),
            )
            if not self._durable:
                # The embedded chain never takes a block back: what was signed is kept in ``sent`` and is enough.
                self._connection.execute("update batch set call = null where number = ?", (number,))

    def forget_included_after(self, number: int) -> None:
        """Forget inclusions of higher numbers: their blocks are gone, their transactions are not."""
        with self._write():
            self._connection.execute("delete from included where number > ?", (number,))

    def included(self, number: int) -> Receipt | None:
        """Return where a number was included."""
        row = self._connection.execute(
            "select tx_hash, block_number, block_hash, block_time_s, gas_used from included where number = ?", (number,)
        ).fetchone()
        if row is None:
            return None
        tx_hash, block_number, block_hash, time_s, gas_used = row
        return Receipt(tx_hash, Head(block_number, block_hash, time_s), succeeded=True, gas_used=gas_used)

    def last_included(self) -> int:
        """Return the highest included number, -1 where there is none."""
        (number,) = self._connection.execute("select coalesce(max(number), -1) from included").fetchone()
        return int(number)

    def transactions(self) -> Iterator[tuple[int, bytes, Receipt]]:
        """Return ``(number, signed transaction, inclusion)`` of everything included, in order."""
        for number in range(self.last_included() + 1):
            receipt = self.included(number)
            if receipt is None:
                raise OutboxError(f"number {number} is not included, but a later one is")
            raw = next((sent.raw for sent in self.sent(number) if sent.tx_hash == receipt.tx_hash), None)
            if raw is None:
                raise OutboxError(f"number {number} was included by a transaction that is not here")
            yield number, raw, receipt

    def truncate_after(self, number: int) -> None:
        """Drop every batch after ``number`` with its transactions: a run rolled back to its last committed barrier.

        For the embedded chain alone, which is rolled back with it. A chain that outlives us keeps what it has, and the
        writer needs every hash that it ever sent there.
        """
        with self._write():
            self._connection.execute("delete from batch where number > ?", (number,))
            self._connection.execute("delete from sent where number > ?", (number,))
            self._connection.execute("delete from included where number > ?", (number,))

    def _meta(self) -> dict[str, Any]:
        return dict(self._connection.execute("select name, value from meta").fetchall())

    def _write(self) -> "_Write":
        return _Write(self._connection, durable=self._durable)


class _Write:
    """One write: a transaction of its own where durable, else part of the one that ``sync`` commits."""

    def __init__(self, connection: sqlite3.Connection, *, durable: bool) -> None:
        self._connection = connection
        self._durable = durable

    def __enter__(self) -> None:
        if self._connection.in_transaction:
            return
        try:
            self._connection.execute("begin immediate")
        except sqlite3.OperationalError as error:
            raise OutboxError("the outbox cannot be written: another process has it, or its disk is full") from error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._connection.execute("rollback")
        elif self._durable:
            self._connection.execute("commit")
