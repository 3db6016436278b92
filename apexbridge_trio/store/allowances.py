"""What was used of each day's allowance: rows, no rules."""

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import Struct

from apexbridge_trio.store.database import Store

# What a key has used itself, and what the nodes have that it has opened.
AllowanceKind = Literal["key", "nodes"]


class AllowanceRecord(Struct, frozen=True):
    """A day that has begun.

    Attributes:
        kind: Of what.
        id: The key's.
        used: So many tokens.
        until_ms: When the day is over, milliseconds since the epoch.
    """

    kind: AllowanceKind
    id: str
    used: int
    until_ms: int


class AllowanceRows:
    """The rows, through one connection."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def save(self, records: Iterable[AllowanceRecord]) -> None:
        """Write days as they are now."""
        for record in records:
            self._store.execute(
                "INSERT INTO allowances VALUES (?, ?, ?, ?) ON CONFLICT (kind, id)"
                " DO UPDATE SET used = excluded.used, until_ms = excluded.until_ms",
                msgspec.structs.astuple(record),
            )

    def forget_over(self, now_ms: int) -> None:
        """Forget the days that are over."""
        self._store.execute("DELETE FROM allowances WHERE until_ms <= ?", (now_ms,))

    def all(self) -> list[AllowanceRecord]:
        """Return every day that is kept."""
        rows = self._store.execute("SELECT kind, id, used, until_ms FROM allowances")
        return [AllowanceRecord(*row) for row in rows]
