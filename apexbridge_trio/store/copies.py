"""Copies of the database: one before it is brought to a newer version, one for a backup.

What is read here is a file that nobody has open; what is copied may be in use.
"""

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import apsw

from apexbridge_trio.errors import StoreUnusable
from apexbridge_trio.files import sync_folder
from apexbridge_trio.store.faults import said
from apexbridge_trio.store.lock import give_to_owner

# The newest two: who finds a fault of a new version does so within one or two of them.
MOST_COPIES: Final = 2
_UNFINISHED: Final = ".tmp"


def keep_copy(path: Path, version: int) -> None:
    """Keep ``<file>.v<version>.bak``, whole and on disk when this returns; older ones are dropped.

    The caller holds the database's write lock, so this is what the migration begins with. A copy
    of that version that is there is of an attempt that did not come to its end: it is written anew.

    Raises:
        apsw.Error: It can not be written; the migration must not begin.
        OSError: As above.
    """
    copy = path.with_name(f"{path.name}.v{version}.bak")
    copy_database(path, copy)
    give_to_owner(copy, path.parent)
    for old in _copies(path)[:-MOST_COPIES]:
        old.unlink()


def copy_database(path: Path, target: Path) -> None:
    """Write a database, as it is at one moment, to another file; that one is there whole or not at all.

    Others may go on reading and writing.

    Raises:
        apsw.Error: One of the two can not be used.
        OSError: As above.
    """
    unfinished = target.with_name(f"{target.name}{_UNFINISHED}")
    unfinished.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(unfinished, flags, 0o600)
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as db:
            db.set_busy_timeout(5000)
            db.execute("VACUUM INTO ?", (str(unfinished),))
        os.fsync(file)
        unfinished.replace(target)
        sync_folder(target.parent)
    finally:
        os.close(file)
        unfinished.unlink(missing_ok=True)


def check_database(path: Path) -> int:
    """Check every page and index of a database that nobody else has open; returns its version.

    Raises:
        apsw.Error: It is damaged, or none.
    """
    with closing(_still(path)) as db:
        found: str = db.pragma("integrity_check", 1)
        if found != "ok":
            raise apsw.CorruptError(found)
        version: int = db.pragma("user_version")
        return version


def results_in(path: Path) -> list[tuple[str, str]]:
    """Return plugin and name of each task whose result has a file, in a database that nobody has open."""
    with closing(_still(path)) as db:
        if not next(db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'tasks'"))[0]:
            return []  # of a version before there were any
        return list(
            db.execute(
                "SELECT plugin, task_id FROM tasks WHERE digest IS NOT NULL AND task_id IS NOT NULL"
                " ORDER BY plugin, task_id"
            )
        )


def _still(path: Path) -> apsw.Connection:
    quoted = str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return apsw.Connection(
        f"file:{quoted}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    )


def _copies(path: Path) -> list[Path]:
    """Return the copies that are kept, those of the lowest version first."""
    named = re.compile(re.escape(path.name) + r"\.v(\d+)\.bak")
    found = [(int(match[1]), one) for one in path.parent.iterdir() if (match := named.fullmatch(one.name))]
    return [one for _, one in sorted(found)]


def copy_store(path: Path, target: Path) -> None:
    """Copy a store, in use or not, as `copy_database` does, in words for people.

    Raises:
        StoreUnusable: There is none, it is damaged, or there is no room.
    """
    if not path.exists():
        raise StoreUnusable(f"there is no store at {path}")
    with _in_words(path):
        copy_database(path, target)


def check_copy(path: Path) -> int:
    """Check a copy as `check_database` does, in words for people; returns its version.

    Raises:
        StoreUnusable: It is damaged, or none.
    """
    with _in_words(path):
        return check_database(path)


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise StoreUnusable(f"can not copy {path}: {said(fault)}") from None
    except apsw.Error as fault:
        raise StoreUnusable(f"can not copy {path}: {said(fault)} ({fault})") from None
