"""An old store is brought forward: a copy is kept, and a kill at any statement leaves a store that goes on."""

import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from apexbridge_trio.errors import StoreUnusable
from apexbridge_trio.store import FILE, AllowanceRows, Store, schema
from apexbridge_trio.store.copies import MOST_COPIES, check_database
from tests.test_store import record

# Brings a store forward and kills itself at one statement; more of them than a step of ours has.
MIGRATE = """
import os, signal, sys
from pathlib import Path
import apsw
from apexbridge_trio.store import Store, schema
schema.MIGRATIONS = (*schema.MIGRATIONS, *(
    f"CREATE TABLE more_{n} (id TEXT PRIMARY KEY) STRICT; INSERT INTO more_{n} VALUES ('{n}');" for n in range(3)
))
left = int(sys.argv[2])
def trace(cursor, statement, bindings):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return True
apsw.connection_hooks.append(lambda db: setattr(db, "exec_trace", trace))
Store(Path(sys.argv[1])).close()
"""


def migrated(state: Path, kill_at: int) -> int:
    return subprocess.run(
        [sys.executable, "-c", MIGRATE, str(state), str(kill_at)], timeout=60, check=False
    ).returncode


def tables(state: Path) -> int:
    db = apsw.Connection(str(state / FILE))
    try:
        return int(next(db.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'more_%'"))[0])
    finally:
        db.close()


def test_killed_at_each_statement_the_store_is_as_before_and_then_goes_on(tmp_path: Path) -> None:
    newest = len(schema.MIGRATIONS)
    for kill_at in range(1, 100):
        state = tmp_path / str(kill_at)
        state.mkdir()
        with Store(state) as store:
            store.add_key(record())
        if migrated(state, kill_at) == 0:
            break
        # As before, or whole: never between.
        assert (check_database_of(state), tables(state)) in {(newest, 0), (newest + 3, 3)}
        assert migrated(state, 0) == 0
        assert (check_database_of(state), tables(state)) == (newest + 3, 3)
        assert not list(state.glob("*.tmp"))
    assert kill_at > 12
    copy = state / f"{FILE}.v{newest}.bak"
    assert check_database(copy) == newest
    assert copy.stat().st_mode & 0o777 == 0o600


def check_database_of(state: Path) -> int:
    """Have SQLite take back what a kill left, then check every page."""
    db = apsw.Connection(str(state / FILE))
    assert db.pragma("integrity_check") == "ok"
    version = int(db.pragma("user_version"))
    assert next(db.execute("SELECT count(*) FROM keys")) == (1,)
    db.close()
    return version


def test_a_copy_of_the_version_before_is_kept_and_not_more_than_a_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path) as store:
        store.add_key(record())
    first = len(schema.MIGRATIONS)
    assert not list(tmp_path.glob("*.bak")), "a new store has no version before"
    for step in range(MOST_COPIES + 2):
        newer = (*schema.MIGRATIONS, f"CREATE TABLE step_{step} (id TEXT PRIMARY KEY) STRICT;")
        monkeypatch.setattr(schema, "MIGRATIONS", newer)
        with Store(tmp_path):
            pass
    kept = sorted(path.name for path in tmp_path.glob("*.bak"))
    assert kept == [f"{FILE}.v{first + step}.bak" for step in range(2, MOST_COPIES + 2)]
    # What is kept can be used by the hub of that version: put in the place of the file, it opens.
    (tmp_path / kept[0]).replace(tmp_path / FILE)
    with Store(tmp_path) as store:
        assert store.keys() == [record()]


def test_without_room_for_a_copy_nothing_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path) as store:
        store.add_key(record())
    newest = len(schema.MIGRATIONS)
    # Something that no copy can be put in the place of.
    (tmp_path / f"{FILE}.v{newest}.bak").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE more_1 (id TEXT) STRICT;"))
        with pytest.raises(StoreUnusable, match="can not use"):
            Store(tmp_path)
    assert (check_database_of(tmp_path), tables(tmp_path)) == (newest, 0)


def test_days_of_nodes_become_those_of_their_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nodes have used was counted by their names once; no day begins anew by it."""
    step = next(number for number, text in enumerate(schema.MIGRATIONS) if "'nodes', nodes.principal" in text)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:step])
        Store(tmp_path).close()
    db = apsw.Connection(str(tmp_path / FILE))
    for name, key in (("attic", "k1"), ("cellar", "k1"), ("barn", "k2")):
        db.execute(
            "INSERT INTO nodes VALUES (?, 'home', NULL, ?, '', 'worker', '', '', '[]', NULL, 0, 0, 0, NULL, '')",
            (name, key),
        )
    used = [("node", "attic", 5, 9), ("node", "cellar", 2**53, 7), ("node", "barn", 1, 3)]
    db.executemany(
        "INSERT INTO allowances VALUES (?, ?, ?, ?)", [*used, ("node", "gone", 8, 8), ("key", "k1", 3, 4)]
    )
    db.close()
    with Store(tmp_path) as store:
        days = {(day.kind, day.id): (day.used, day.until_ms) for day in AllowanceRows(store).all()}
    assert days == {("key", "k1"): (3, 4), ("nodes", "k1"): (2**53, 9), ("nodes", "k2"): (1, 3)}


def test_a_kill_is_a_kill(tmp_path: Path) -> None:
    assert migrated(tmp_path, 1) == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
