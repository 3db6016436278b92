"""One file, several processes, and an old or broken one."""

import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from apexbridge_trio.errors import StoreUnusable
from apexbridge_trio.store import FILE, KeyRecord, Store, schema


def record(key_id: str = "1", **changes: object) -> KeyRecord:
    fields = {"hash": b"h" * 32, "name": "", "tenant_id": "default", "family_id": None, "created_ms": 1}
    return KeyRecord(id=key_id, scopes=frozenset({"chat", "logs"}), **(fields | changes))  # type: ignore[arg-type]  # a test's own fields


def test_what_is_kept_is_read_back_by_the_next(tmp_path: Path) -> None:
    kept = [record("b"), record("a", created_ms=2, name="厨房", family_id="kid")]
    with Store(tmp_path) as store:
        for one in reversed(kept):
            store.add_key(one)
    with Store(tmp_path) as store:
        assert store.keys() == kept
        assert store.key("a") == kept[1]
        assert store.key("c") is None


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add_key(record())
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_key_is_revoked_once(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add_key(record())
        assert store.revoke_key("1", 5) is True
        assert store.revoke_key("1", 6) is False
        assert store.revoke_key("2", 6) is False
        assert store.keys() == [record(revoked_ms=5)]


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add_key(record())
        with pytest.raises(apsw.ConstraintError):
            store.add_key(record(name="another"))


# What somebody does who looks into the file while a hub runs, or changes something there.
VISIT = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute(sys.argv[2]).fetchall()
db.commit()
db.close()
"""


def visit(state: Path, sql: str) -> None:
    subprocess.run([sys.executable, "-c", VISIT, str(state / FILE), sql], check=True, timeout=60)


def test_who_looks_into_the_file_and_leaves_does_not_take_the_log_along(tmp_path: Path) -> None:
    """A hub has two connections: opening the second took the first one's locks away, and with them its log."""
    with Store(tmp_path) as one, Store(tmp_path) as other:
        one.add_key(record("a"))
        visit(tmp_path, "SELECT * FROM keys")
        assert (tmp_path / f"{FILE}-wal").exists()
        other.add_key(record("b"))
        visit(tmp_path, "UPDATE keys SET name = 'seen'")
        for store in (one, other):
            assert store.key("a") == record("a", name="seen")
            assert store.key("b") == record("b", name="seen")
    with Store(tmp_path) as store:
        assert store.key("b") == record("b", name="seen")


def test_another_process_sees_each_change_at_once(tmp_path: Path) -> None:
    with Store(tmp_path) as hub, Store(tmp_path) as command:
        assert hub.key("1") is None
        command.add_key(record())
        assert hub.key("1") == record()
        command.revoke_key("1", 5)
        assert hub.key("1") == record(revoked_ms=5)


# On a slow disk the turns of the others take longer than a hub would wait.
WRITER = """
import sys
from pathlib import Path
from apexbridge_trio.store import KeyRecord, Store, database
database._BUSY_TIMEOUT_MS = 600_000
name, state = sys.argv[1], Path(sys.argv[2])
for number in range(20):
    with Store(state) as store:
        store.add_key(KeyRecord(f"{name}-{number}", b"", "", "default", None, frozenset(), number))
"""


def test_processes_that_open_and_write_at_the_same_time_all_succeed(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, name, str(tmp_path)]) for name in "abcd"]
    assert [writer.wait(600) for writer in writers] == [0] * 4
    with Store(tmp_path) as store:
        assert len(store.keys()) == 80


def test_an_old_file_is_brought_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path) as store:
        store.add_key(record())
    newer = (*schema.MIGRATIONS, "CREATE TABLE more (id TEXT PRIMARY KEY) STRICT;")
    monkeypatch.setattr(schema, "MIGRATIONS", newer)
    with Store(tmp_path) as store:
        assert store.key("1") == record()
        assert store._db.execute("SELECT count(*) FROM more").fetchone() == (0,)
    monkeypatch.undo()
    with pytest.raises(
        StoreUnusable, match=f"of version {len(newer)}; this hub knows {len(newer) - 1}: use a newer one"
    ):
        Store(tmp_path)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path) as store:
        store.add_key(record())
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "DROP TABLE keys; NONSENSE;"))
        with pytest.raises(StoreUnusable, match="can not use"):
            Store(tmp_path)
    with Store(tmp_path) as store:
        assert store.keys() == [record()]


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "hub.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreUnusable, match="can not use"):
        Store(tmp_path)
    with pytest.raises(StoreUnusable, match="can not use"):
        Store(tmp_path / "nowhere")
