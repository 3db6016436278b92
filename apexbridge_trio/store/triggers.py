"""What triggers have begun to do and have not ended: rows, no rules."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from apexbridge_trio.store.database import Store

FiringKind = Literal["tool", "chat", "webhook"]


class FiringRecord(Struct, frozen=True, kw_only=True):
    """One firing of a trigger, from when it is decided until what it does has ended.

    Attributes:
        id: Of its flight, of its notice, and of its webhook, over all attempts.
        trigger: The name in the config, where its address and its secret are.
        action: What it does, filled in: JSON.
        principal_id: In whose name: the trigger's, and how deep in a chain of triggers.
        created_ms: When it was decided, milliseconds since the epoch; lowered when the clock was put back.
        next_ms: When it is due.
        attempts: How often it was begun.
    """

    id: str
    trigger: str
    kind: FiringKind
    action: str
    principal_id: str
    tenant_id: str
    family_id: str | None
    created_ms: int
    next_ms: int
    attempts: int = 0


_COLUMNS: Final = [field.name for field in msgspec.structs.fields(FiringRecord)]


class FiringRows:
    """The rows, through one connection; what one call reads, the next may find changed by another."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, record: FiringRecord) -> None:
        """Record a firing that is to be made."""
        marks = ", ".join("?" * len(_COLUMNS))
        self._store.execute(f"INSERT INTO firings VALUES ({marks})", msgspec.structs.astuple(record))  # noqa: S608  # marks only

    def begin(self, firing_id: str) -> None:
        """Record that it begins."""
        self._store.execute("UPDATE firings SET attempts = attempts + 1 WHERE id = ?", (firing_id,))

    def again(self, firing_id: str, now_ms: int, next_ms: int) -> None:
        """Record that an attempt has ended now, and when the next one is due."""
        self._store.execute(
            "UPDATE firings SET attempts = attempts + 1, created_ms = min(created_ms, ?), next_ms = ?"
            " WHERE id = ?",
            (now_ms, next_ms, firing_id),
        )

    def end(self, firing_id: str) -> None:
        """Forget one that has ended."""
        self._store.execute("DELETE FROM firings WHERE id = ?", (firing_id,))

    def due(
        self, now_ms: int, most: int, *, far_ms: int | None, but: Sequence[str] = (), of: Sequence[str] = ()
    ) -> list[FiringRecord]:
        """Return those whose time has come, the oldest first; not those of some triggers, and some tenants.

        With `far_ms`, those too that are of the future, or put off for longer than that: they were written
        by a clock that was put back since, and nobody knows how long they have waited.
        """
        of_the_future = "?2 IS NOT NULL AND (created_ms > ?1 OR next_ms > ?2)"
        condition = (
            f"(next_ms <= ?1 OR ({of_the_future})) AND trigger_name NOT IN (SELECT value FROM json_each(?4))"  # noqa: S608  # our own
            " AND tenant_id NOT IN (SELECT value FROM json_each(?5)) ORDER BY next_ms, id LIMIT ?3"
        )
        left_out = (msgspec.json.encode(but).decode(), msgspec.json.encode(of).decode())
        return self._all(condition, now_ms, far_ms, most, *left_out)

    def next_due(self, after_ms: int) -> int | None:
        """Return when the next one after a time is due."""
        told = self._store.execute("SELECT min(next_ms) FROM firings WHERE next_ms > ?", (after_ms,))
        found: int | None = next(told)[0]
        return found

    def begun(self) -> list[FiringRecord]:
        """Return those that had begun and may not be begun again; a webhook may be."""
        return self._all("attempts > 0 AND kind != 'webhook' ORDER BY created_ms, id")

    def count(self, trigger: str | None = None) -> int:
        """Return how many there are, of all triggers or of one."""
        told = self._store.execute(
            "SELECT count(*) FROM firings WHERE ?1 IS NULL OR trigger_name = ?1", (trigger,)
        )
        return int(next(told)[0])

    def _all(self, condition: str, *values: Any) -> list[FiringRecord]:
        rows = self._store.execute(f"SELECT * FROM firings WHERE {condition}", values)  # noqa: S608  # our own words
        return [FiringRecord(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]
