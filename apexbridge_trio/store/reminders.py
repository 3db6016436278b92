"""Reminders, and what was begun for them and has not ended: rows, no rules."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from apexbridge_trio.store.database import Store

Kind = Literal["notify", "chat", "tool"]
Missed = Literal["run_once", "skip"]


class ReminderRecord(Struct, frozen=True, kw_only=True):
    """A reminder, from when it is set until some time after its last firing.

    Attributes:
        at_ms: When it is due, once; milliseconds since the epoch, as are the others.
        cron: When it is due, again and again. Where both are None it is due a while after it was set.
        timezone: Of `cron`; empty: the home's, whichever that is.
        missed: What becomes of a firing whose time passed without the hub.
        kind: What it does.
        action: What that takes, JSON.
        next_ms: When it fires next; None: it does not.
        last_ms: For when it last fired, which may be before it did.
        fired: How often it has.
        ended_ms: When its last firing was.
    """

    id: str
    principal_id: str
    tenant_id: str
    family_id: str | None
    text: str
    at_ms: int | None = None
    cron: str | None = None
    timezone: str = ""
    missed: Missed = "run_once"
    kind: Kind = "notify"
    action: str = "{}"
    created_ms: int
    next_ms: int | None
    last_ms: int | None = None
    fired: int = 0
    ended_ms: int | None = None


class RunRecord(Struct, frozen=True):
    """One firing that has begun and not ended, with what is needed to tell of it.

    Attributes:
        id: Of its flight and of its notice, too: one for each time that a reminder is due.
        due_ms: When it was due, milliseconds since the epoch.
        is_late: Its time passed without the hub.
    """

    id: str
    reminder_id: str
    due_ms: int
    principal_id: str
    tenant_id: str
    family_id: str | None
    text: str
    kind: Kind
    action: str
    is_late: bool


_COLUMNS: Final = [field.name for field in msgspec.structs.fields(ReminderRecord)]
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM reminders WHERE "  # noqa: S608  # the struct's own names
_SAVE: Final = (
    f"INSERT INTO reminders ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608  # as above
    f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS)}"
)


class ReminderRows:
    """The rows, through one connection; what one call reads, the next may find changed by another."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def save(self, record: ReminderRecord) -> None:
        """Add a reminder, or write all of it anew."""
        self._store.execute(_SAVE, msgspec.structs.astuple(record))

    def delete(self, reminder_id: str) -> None:
        """Forget a reminder; what it has begun goes on."""
        self._store.execute("DELETE FROM reminders WHERE id = ?", (reminder_id,))

    def find(self, reminder_id: str) -> ReminderRecord | None:
        """Return a reminder."""
        return next(iter(self._all("id = ?", reminder_id)), None)

    def of_tenant(self, tenant_id: str) -> list[ReminderRecord]:
        """Return what a tenant is still to be reminded of, what comes next first."""
        return self._all("tenant_id = ? AND next_ms IS NOT NULL ORDER BY next_ms, id", tenant_id)

    def count(self, tenant_id: str) -> int:
        """Return how many of a tenant's are still to come."""
        told = self._store.execute(
            "SELECT count(*) FROM reminders WHERE tenant_id = ? AND next_ms IS NOT NULL", (tenant_id,)
        )
        return int(next(told)[0])

    def due(self, now_ms: int, most: int, *, acts: bool, but: Sequence[str] = ()) -> list[ReminderRecord]:
        """Return those whose time has come, the oldest first.

        Args:
            now_ms: Milliseconds since the epoch.
            most: How many.
            acts: Those that do more than tell; or else the others.
            but: Tenants whose are left out.
        """
        condition = (
            "next_ms <= ? AND (kind != 'notify') = ? AND tenant_id NOT IN (SELECT value FROM json_each(?))"
            " ORDER BY next_ms, id LIMIT ?"
        )
        return self._all(condition, now_ms, acts, msgspec.json.encode(but).decode(), most)

    def next_due(self) -> int | None:
        """Return when the next one is due."""
        told = self._store.execute("SELECT min(next_ms) FROM reminders WHERE next_ms IS NOT NULL")
        found: int | None = next(told)[0]
        return found

    def recurring(self, after_ms: int) -> list[ReminderRecord]:
        """Return those with a cron line that are next due after a time."""
        return self._all("cron IS NOT NULL AND next_ms > ?", after_ms)

    def shift(self, ids: Sequence[str], by_ms: int) -> None:
        """Have those that are still to come due so much later."""
        self._store.execute(
            "UPDATE reminders SET next_ms = max(next_ms + ?, 0)"
            " WHERE id IN (SELECT value FROM json_each(?)) AND next_ms IS NOT NULL",
            (by_ms, msgspec.json.encode(ids).decode()),
        )

    def forget_ended(self, tenant_id: str, before_ms: int, most: int) -> None:
        """Forget a tenant's that ended before a time, and of the others all but the newest."""
        old = "SELECT id FROM reminders WHERE tenant_id = ? AND next_ms IS NULL"
        self._store.execute(
            f"DELETE FROM reminders WHERE id IN ({old} AND ended_ms < ?)"  # noqa: S608  # two of our own
            f" OR id IN ({old} ORDER BY ended_ms DESC LIMIT -1 OFFSET ?)",
            (tenant_id, before_ms, tenant_id, most),
        )

    def begin(self, run: RunRecord) -> None:
        """Record that a firing begins."""
        self._store.execute(
            "INSERT INTO reminder_runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(run)
        )

    def end(self, run_id: str) -> None:
        """Record that a firing has ended."""
        self._store.execute("DELETE FROM reminder_runs WHERE id = ?", (run_id,))

    def runs(self) -> list[RunRecord]:
        """Return what has begun and not ended."""
        rows = self._store.execute("SELECT * FROM reminder_runs ORDER BY due_ms, id")
        return [RunRecord(*(*row[:-1], bool(row[-1]))) for row in rows]

    def _all(self, condition: str, *values: Any) -> list[ReminderRecord]:
        rows = self._store.execute(_SELECT + condition, values)
        return [ReminderRecord(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]
