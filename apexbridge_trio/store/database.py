"""The file, opened and brought to the newest version; and the keys in it.

The hub and a command beside it (``apexbridge keys create``) have the file open at the same time:
write-ahead logging lets readers go on while one writes, and each read sees what was last written.
Calls are synchronous and short: a read by key is tens of microseconds, a write waits for the disk.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import apsw
import msgspec

from apexbridge_trio.errors import StoreUnusable
from apexbridge_trio.store import schema
from apexbridge_trio.store.copies import keep_copy
from apexbridge_trio.store.faults import is_damage, said, storage_failed

FILE: Final = "hub.sqlite3"
# While it is there a restore has begun and not ended: files of two times may lie side by side.
RESTORING: Final = "restore.applying"

# Another process holds the lock for one small transaction; longer than this, something is wrong.
_BUSY_TIMEOUT_MS = 5000
# The log is cut back to this after each checkpoint; one large transaction may make it longer for a while.
_LONGEST_LOG: Final = 16 * 1024 * 1024
# A clock that is put right moves by as much.
SLACK_MS: Final = 300_000
# Pages, or steps of SQLite's, between two looks at the clock while the file is checked.
_STEPS: Final = 10
# Where times are: each by an index, or of a table that is small. What keeps the latest of its own times is
# not here; of the audit and the revisions, to which is only added, it is the last line.
_TIMES: Final = (
    ("ended_ms", "tasks"),
    ("created_ms", "tasks WHERE ended_ms IS NULL"),
    ("created_ms", "notices"),
    ("last_seen_ms", "nodes"),
    ("left_ms", "nodes"),
    ("ended_ms", "node_tasks"),
    ("created_ms", "node_tasks WHERE ended_ms IS NULL"),
    ("created_ms", "reminders"),
    ("last_ms", "reminders"),
    ("ended_ms", "reminders"),
    ("created_ms", "firings"),
    ("at_ms", "(SELECT at_ms FROM audit ORDER BY seq DESC LIMIT 1)"),
    ("at_ms", "(SELECT at_ms FROM config_revisions ORDER BY number DESC LIMIT 1)"),
)


def _of_all(best: str, than: str) -> str:
    """Return a statement for the greatest or the least of all times, of those on one side of a time."""
    each = [
        f"SELECT {best}({name}) AS ms FROM {rows} {'AND' if 'WHERE' in rows else 'WHERE'} {name} {than} ?1"  # noqa: S608  # our own names
        for name, rows in _TIMES
    ]
    return f"SELECT {best}(ms) FROM ({' UNION ALL '.join(each)})"  # noqa: S608  # our own names


_NEWEST: Final = _of_all("max", "<")
_NEXT: Final = _of_all("min", ">")
_NEVER_MS: Final = 2**63 - 1


class KeyRecord(msgspec.Struct, frozen=True):
    """What is kept of a key; the key itself is not.

    Attributes:
        hash: SHA-256 of the whole key.
        created_ms: Milliseconds since the epoch, as are the others.
        revoked_ms: None: it was not.
        expires_ms: When it is worth nothing any more, by itself; None: never.
        last_used_ms: As far as it was written down, which is up to a minute late; None: never.
        expired_ms: When the hub has noted that it has expired.
    """

    id: str
    hash: bytes
    name: str
    tenant_id: str
    family_id: str | None
    scopes: frozenset[str]
    created_ms: int
    revoked_ms: int | None = None
    expires_ms: int | None = None
    last_used_ms: int | None = None
    expired_ms: int | None = None

    def is_good(self, now_ms: int) -> bool:
        """Tell whether it may be used; one that expires may not while the clock is before it was made.

        Such a clock has stood, or begins at 1970, and can not say that a key of a guest is still good.
        """
        if self.revoked_ms is not None:
            return False
        return self.expires_ms is None or self.created_ms - SLACK_MS <= now_ms < self.expires_ms


class Store:
    """The file, open; a context manager. What is acknowledged is on disk.

    Args:
        state: The state directory. The file is made there with mode 0600.
        check_s: The file's structure is checked for so many seconds at most; 0: not at all. A file
            of 20 MB takes 14 ms once it is in memory; what was not reached may still be damaged.
        was_used: A hub has kept things here before: a file that is gone or empty is a loss, and
            no new one is begun.

    Raises:
        StoreUnusable: The file can not be opened, is no database or a damaged one, is gone, or is of
            a newer version.
    """

    def __init__(self, state: Path, *, check_s: float = 0.0, was_used: bool = False) -> None:
        path = state / FILE
        if (state / RESTORING).exists():
            raise StoreUnusable(
                f"a restore has begun in {state} and not ended; start the hub, or run the restore again"
            )
        try:
            self._db = _open(path, check_s=check_s, was_used=was_used)
        except OSError as fault:
            raise StoreUnusable(f"can not use {path}: {said(fault)}{_hint(fault)}") from None
        except apsw.Error as fault:
            raise StoreUnusable(f"can not use {path}: {said(fault)} ({fault}){_hint(fault)}") from None

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
        """Run one statement for a table of this room; outside it, nobody writes SQL.

        Raises:
            StorageFailed: The disk or the file is broken.
        """
        try:
            # All rows at once: a statement that is left half read would hold the log back from being cut.
            return iter(self._db.execute(sql, values).fetchall())
        except apsw.ConstraintError:
            raise  # a defect of the hub's, not of the disk
        except apsw.Error as fault:
            raise storage_failed(fault, "use") from fault
        except UnicodeDecodeError as fault:  # a flipped bit in a text
            raise storage_failed(apsw.CorruptError(str(fault)), "use") from fault

    @property
    def is_in_transaction(self) -> bool:
        """Whether one is open: SQLite ends it by itself when the disk is full."""
        return self._db.in_transaction

    def probe(self) -> None:
        """Write something that changes nothing, to learn whether the disk takes it."""
        self._db.pragma("user_version", self._db.pragma("user_version"))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the block's writes one: all are on disk when it is left, or none was made.

        Inside another one it is a part that can fail alone.

        Raises:
            StorageFailed: The disk is full or broken; nothing of the block was written.
        """
        try:
            with self._db:
                yield
        except apsw.Error as fault:
            raise storage_failed(fault, "write to") from fault

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Have it said in one way that the store can not be read.

        Raises:
            StoreUnusable: The block could not read it.
        """
        try:
            yield
        except apsw.Error as fault:
            raise StoreUnusable("The hub can not read its store now.") from fault

    def version(self) -> int:
        """Return a number that is another one when another connection, of any process, has written."""
        return self._db.pragma("data_version")  # type: ignore[no-any-return]

    def newest_ms(self, before_ms: int | None = None) -> int:
        """Return the newest time at which something was written, by the wall clock of then; 0: nothing.

        Args:
            before_ms: What is of this time or later does not count.
        """
        [(newest,)] = self.execute(_NEWEST, (_NEVER_MS if before_ms is None else before_ms,))
        return int(newest or 0)

    def next_ms(self, after_ms: int) -> int | None:
        """Return the first time after one at which something was written; None: nothing was."""
        [(found,)] = self.execute(_NEXT, (after_ms,))
        return None if found is None else int(found)

    def add_key(self, record: KeyRecord) -> None:
        """Keep a key; its id is not taken yet."""
        row = msgspec.structs.astuple(msgspec.structs.replace(record, scopes=" ".join(sorted(record.scopes))))
        self.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def key(self, key_id: str) -> KeyRecord | None:
        """Return a key's record as it is on disk now, revoked or not."""
        rows = self.execute("SELECT * FROM keys WHERE id = ?", (key_id,))
        return next((key_record(row) for row in rows), None)

    def keys(self) -> list[KeyRecord]:
        """Return every key ever made, oldest first."""
        return [key_record(row) for row in self.execute("SELECT * FROM keys ORDER BY created_ms, id")]

    def revoke_key(self, key_id: str, now_ms: int) -> bool:
        """Mark a key as revoked; False if there is none, or it was revoked before."""
        self.execute("UPDATE keys SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL", (now_ms, key_id))
        return self._db.changes() > 0


_KEY_FIELDS: Final = [field.name for field in msgspec.structs.fields(KeyRecord)]


def _open(path: Path, *, check_s: float, was_used: bool) -> apsw.Connection:
    if was_used and not (path.exists() and path.stat().st_size):
        raise StoreUnusable(
            f"{path} is gone or empty, though a hub has kept things beside it; put a backup in its place"
            f" (apexbridge restore FILE), or begin anew in another state directory; see docs/care.md"
        )
    if not path.exists():
        # Only then. Who closes a file loses all the locks that the process has on it (POSIX), those of a
        # connection that is open too: whoever else then closes it takes itself for the last one, and
        # removes the log that this process goes on writing into.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    with ExitStack() as stack:
        db = stack.enter_context(closing(apsw.Connection(str(path))))
        _prepare(db, path, check_s)
        stack.pop_all()
    return db


def _prepare(db: apsw.Connection, path: Path, check_s: float) -> None:
    db.set_busy_timeout(_BUSY_TIMEOUT_MS)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA journal_size_limit = {_LONGEST_LOG}")
    if check_s:
        _check(db, check_s)
    # Two processes may start on an old file: the second waits here and finds nothing left to do.
    db.transaction_mode = "IMMEDIATE"
    with db:
        version: int = db.pragma("user_version")
        newest = len(schema.MIGRATIONS)
        if version > newest:
            raise StoreUnusable(f"{FILE} is of version {version}; this hub knows {newest}: use a newer one")
        if 0 < version < newest:
            keep_copy(path, version)
        for script in schema.MIGRATIONS[version:]:
            db.execute(script)
        db.pragma("user_version", newest)
    if version < newest:
        # Into the file itself, so that it is never empty while all there is stands in the log beside it.
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def _check(db: apsw.Connection, at_most_s: float) -> None:
    """Look for damage as far as the time goes."""
    end = time.monotonic() + at_most_s
    db.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        found: str = db.pragma("integrity_check", 1)
    except apsw.InterruptError:
        return  # as far as it came, nothing was wrong
    finally:
        db.set_progress_handler(None)
    if found != "ok":
        raise apsw.CorruptError(found)


def _hint(fault: Exception) -> str:
    """Return what to do about a file that can not be opened."""
    if is_damage(fault):
        return (
            "; nothing was changed. Put a backup in its place (apexbridge restore FILE --force): docs/care.md"
        )
    return "; the hub's user must be able to write there, and there must be room"


def key_record(row: tuple[Any, ...]) -> KeyRecord:
    """Read a row of the table."""
    fields = dict(zip(_KEY_FIELDS, row, strict=True))
    return KeyRecord(**fields | {"scopes": frozenset(fields["scopes"].split())})
