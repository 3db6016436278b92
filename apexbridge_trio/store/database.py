"""The file, opened and brought to the newest version; and the keys in it.

The hub and a command beside it (``apexbridge keys create``) have the file open at the same time:
write-ahead logging lets readers go on while one writes, and each read sees what was last written.
Calls are synchronous and short: a read by key is tens of microseconds, a write waits for the disk.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import apsw
import msgspec

from apexbridge_trio.errors import StoreUnusable
from apexbridge_trio.store import schema

FILE: Final = "hub.sqlite3"

# Another process holds the lock for one small transaction; longer than this, something is wrong.
_BUSY_TIMEOUT_MS = 5000


class KeyRecord(msgspec.Struct, frozen=True):
    """What is kept of a key; the key itself is not.

    Attributes:
        hash: SHA-256 of the whole key.
        created_ms: Milliseconds since the epoch, as is `revoked_ms`; None while the key is good.
    """

    id: str
    hash: bytes
    name: str
    tenant_id: str
    family_id: str | None
    scopes: frozenset[str]
    created_ms: int
    revoked_ms: int | None = None


class Store:
    """The file, open; a context manager. What is acknowledged is on disk.

    Args:
        state: The state directory. The file is made there with mode 0600.

    Raises:
        StoreUnusable: The file can not be opened, is no database, or is of a newer version.
    """

    def __init__(self, state: Path) -> None:
        path = state / FILE
        try:
            self._db = _open(path)
        except (OSError, apsw.Error) as fault:
            raise StoreUnusable(f"can not use {path}: {fault}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the last one to do so folds the log back into it."""
        self._db.close()

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Run one statement for a table of this room; outside it, nobody writes SQL."""
        return self._db.execute(sql, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the block's writes one: all are on disk when it is left, or none was made.

        Inside another one it is a part that can fail alone.

        Raises:
            StoreUnusable: The disk is full or broken; nothing of the block was written.
        """
        try:
            with self._db:
                yield
        except apsw.Error as fault:
            raise StoreUnusable("The hub can not write to its store now.") from fault

    def add_key(self, record: KeyRecord) -> None:
        """Keep a key; its id is not taken yet."""
        row = msgspec.structs.astuple(msgspec.structs.replace(record, scopes=" ".join(sorted(record.scopes))))
        self._db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def key(self, key_id: str) -> KeyRecord | None:
        """Return a key's record as it is on disk now, revoked or not."""
        row = self._db.execute("SELECT * FROM keys WHERE id = ?", (key_id,)).fetchone()
        return _key_record(row) if row else None

    def keys(self) -> list[KeyRecord]:
        """Return every key ever made, oldest first."""
        return [_key_record(row) for row in self._db.execute("SELECT * FROM keys ORDER BY created_ms, id")]

    def revoke_key(self, key_id: str, now_ms: int) -> bool:
        """Mark a key as revoked; False if there is none, or it was revoked before."""
        self._db.execute(
            "UPDATE keys SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL", (now_ms, key_id)
        )
        return self._db.changes() > 0


def _open(path: Path) -> apsw.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    with ExitStack() as stack:
        db = stack.enter_context(closing(apsw.Connection(str(path))))
        _prepare(db)
        stack.pop_all()
    return db


def _prepare(db: apsw.Connection) -> None:
    db.set_busy_timeout(_BUSY_TIMEOUT_MS)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    # Two processes may start on an old file: the second waits here and finds nothing left to do.
    db.transaction_mode = "IMMEDIATE"
    with db:
        version: int = db.pragma("user_version")
        if version > len(schema.MIGRATIONS):
            raise StoreUnusable(
                f"{FILE} is of version {version}; this hub knows {len(schema.MIGRATIONS)}: use a newer one"
            )
        for script in schema.MIGRATIONS[version:]:
            db.execute(script)
        db.pragma("user_version", len(schema.MIGRATIONS))


def _key_record(row: tuple[Any, ...]) -> KeyRecord:
    *before, scopes, created_ms, revoked_ms = row
    return KeyRecord(*(*before, frozenset(scopes.split()), created_ms, revoked_ms))
