"""Tasks that answer later, the signed messages seen, and notices owed to owners: rows, no rules."""

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from apexbridge_trio.store.database import Store

# Of a list of tasks.
MOST_LISTED: Final = 500

TaskState = Literal["running", "waiting_callback", "succeeded", "failed", "interrupted", "timed_out"]


# A notice that nobody has seen by then is of no use any more.
NOTICE_DAYS: Final = 30


class TaskRecord(Struct, frozen=True, kw_only=True):
    """A call that answers later, from before it starts until its result is forgotten.

    Attributes:
        call_id: The hub's name for it.
        tool: Empty for a result that came before its call said so; see `Ledger`.
        task_id: The plugin's name for it, unique within the plugin; None while it has not said.
        token_hash: SHA-256 of the token its callback may carry; the token itself is not kept.
        principal_id: Who asked, as are the tenant and the family.
        digest: What tells its result from another one.
        late: Callbacks that came after it was over without a result.
        created_ms: Milliseconds since the epoch, as are the others; `ended_ms` is None until then.
    """

    call_id: str
    plugin: str
    tool: str
    task_id: str | None = None
    token_hash: bytes | None = None
    principal_id: str = ""
    tenant_id: str = ""
    family_id: str | None = None
    state: TaskState = "running"
    digest: bytes | None = None
    late: int = 0
    created_ms: int
    expires_ms: int
    ended_ms: int | None = None


class Notice(Struct, frozen=True):
    """Something the owner has to be told, until somebody has seen it, or took the result it is about.

    Attributes:
        id: The task's `call_id`, if it is about one; of a reminder that of its run.
        level: ``info``, ``warning`` or ``error``.
        body: A JSON object: ``message``, and of a task ``taskId plugin tool state``, of a reminder
            ``reminderId title state dueAt late``.
        kind: ``notification``, ``alert`` or ``reminder``.
        expires_ms: When it need not be told any more; None: `NOTICE_DAYS` after it was made.
        acked_ms: When somebody acknowledged it first; None: nobody has.
        acked_by: On which device: ``<key's id>`` or ``<key's id>/<name>``.
    """

    id: str
    principal_id: str
    tenant_id: str
    family_id: str | None
    level: str
    body: str
    created_ms: int
    kind: str = "notification"
    title: str = ""
    expires_ms: int | None = None
    acked_ms: int | None = None
    acked_by: str | None = None


_COLUMNS: Final = [field.name for field in msgspec.structs.fields(TaskRecord)]
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM tasks WHERE "  # noqa: S608  # the struct's own names
_SAVE: Final = (
    f"INSERT INTO tasks ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608  # as above
    f" ON CONFLICT (call_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS)}"
)


class Tasks:
    """The rows, through one connection; what one call reads, the next may find changed by another."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def save(self, record: TaskRecord) -> None:
        """Add a task, or write all of it anew."""
        self._store.execute(_SAVE, msgspec.structs.astuple(record))

    def delete(self, call_id: str) -> None:
        """Forget a task."""
        self._store.execute("DELETE FROM tasks WHERE call_id = ?", (call_id,))

    def of_call(self, call_id: str) -> TaskRecord | None:
        """Return the task of a call."""
        return self._one("call_id = ?", call_id)

    def of_token(self, token_hash: bytes) -> TaskRecord | None:
        """Return the task a token was made for."""
        return self._one("token_hash = ?", token_hash)

    def named(self, plugin: str, task_id: str) -> TaskRecord | None:
        """Return the task a plugin has named so."""
        return self._one("plugin = ? AND task_id = ?", plugin, task_id)

    def unnamed(self, plugin: str) -> list[TaskRecord]:
        """Return a plugin's running calls that have not said how their task is called."""
        return self._all("plugin = ? AND task_id IS NULL AND state = 'running'", plugin)

    def called(self, task_id: str) -> list[TaskRecord]:
        """Return tasks by a plugin's name for them, or the hub's; newest first."""
        return self._all("(call_id = ?1 OR task_id = ?1) AND tool <> '' ORDER BY created_ms DESC", task_id)

    def listed(self, tenant_id: str | None, state: str | None) -> list[TaskRecord]:
        """Return tasks, newest first, at most `MOST_LISTED`; None lets any pass."""
        return self._all(
            "tool <> '' AND (?1 IS NULL OR tenant_id = ?1) AND (?2 IS NULL OR state = ?2)"
            f" ORDER BY created_ms DESC, call_id DESC LIMIT {MOST_LISTED}",
            tenant_id,
            state,
        )

    def overdue(self, now_ms: int, most: int) -> list[TaskRecord]:
        """Return tasks whose time is over and that have not ended."""
        return self._all("ended_ms IS NULL AND expires_ms <= ? LIMIT ?", now_ms, most)

    def ended(self, before_ms: int, most: int) -> list[TaskRecord]:
        """Return tasks that ended before a time."""
        return self._all("ended_ms < ? LIMIT ?", before_ms, most)

    def see(self, plugin: str, message_id: str, task_id: str, now_ms: int) -> bool:
        """Remember a signed message; False if it was seen before, for another task."""
        key = (plugin, message_id)
        self._store.execute("INSERT OR IGNORE INTO webhooks VALUES (?, ?, ?, ?)", (*key, task_id, now_ms))
        seen = self._store.execute("SELECT task_id FROM webhooks WHERE plugin = ? AND id = ?", key)
        return next(seen) == (task_id,)

    def forget_seen(self, before_ms: int) -> None:
        """Forget signed messages that are too old to be signed well."""
        self._store.execute("DELETE FROM webhooks WHERE seen_ms < ?", (before_ms,))

    def owe(self, notice: Notice) -> None:
        """Record that the owner has to be told; a second time changes nothing."""
        row = msgspec.structs.astuple(notice)
        self._store.execute("INSERT OR IGNORE INTO notices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def notice(self, notice_id: str) -> Notice | None:
        """Return a notice that is kept."""
        rows = self._store.execute("SELECT * FROM notices WHERE id = ?", (notice_id,))
        return next((Notice(*row) for row in rows), None)

    def count_notices(self, tenant_id: str, kind: str) -> int:
        """Return how much of a kind a tenant is owed that nobody has acknowledged."""
        rows = self._store.execute(
            "SELECT count(*) FROM notices WHERE tenant_id = ? AND kind = ? AND acked_ms IS NULL",
            (tenant_id, kind),
        )
        return next(rows)[0]  # type: ignore[no-any-return]

    def forget_notices(self, now_ms: int) -> None:
        """Forget notices whose time is over."""
        self._store.execute(
            "DELETE FROM notices WHERE coalesce(expires_ms, created_ms + ?) < ?",
            (NOTICE_DAYS * 86_400_000, now_ms),
        )

    def settle_notice(self, notice_id: str) -> None:
        """Forget a notice: the owner has what it is about."""
        self._store.execute("DELETE FROM notices WHERE id = ?", (notice_id,))

    def settle_older(self, start: str, tenant_id: str, keep: int) -> None:
        """Of a tenant's notices whose id begins so, and then a digit, as they came, keep the newest."""
        ids = (
            "SELECT id FROM notices WHERE id >= ? AND id < ? AND tenant_id = ?"
            " ORDER BY id DESC LIMIT -1 OFFSET ?"
        )
        values = (start, f"{start}:", tenant_id, keep)
        self._store.execute(f"DELETE FROM notices WHERE id IN ({ids})", values)  # noqa: S608  # our own

    def forget_unread(self, tenant_id: str, kind: str, keep: int) -> None:
        """Of what a tenant is owed of a kind and nobody has acknowledged, keep the newest."""
        self._store.execute(
            "DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE tenant_id = ? AND kind = ?"
            " AND acked_ms IS NULL ORDER BY created_ms DESC LIMIT -1 OFFSET ?)",
            (tenant_id, kind, keep),
        )

    def notices(self) -> list[Notice]:
        """Return what is owed and nobody has acknowledged, oldest first."""
        rows = self._store.execute("SELECT * FROM notices WHERE acked_ms IS NULL ORDER BY created_ms, id")
        return [Notice(*row) for row in rows]

    def _one(self, condition: str, *values: Any) -> TaskRecord | None:
        return next(iter(self._all(condition, *values)), None)

    def _all(self, condition: str, *values: Any) -> list[TaskRecord]:
        rows = self._store.execute(_SELECT + condition, values)
        return [TaskRecord(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]
