"""What was changed, by whom: rows that are only ever added; the database itself refuses the rest.

The oldest may be let go, once a line says up to which number: the database looks for that line.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

from apexbridge_trio.store.database import Store

# Of a page of lines.
MOST_LISTED: Final = 1000


class AuditRecord(Struct, frozen=True, kw_only=True):
    """One change.

    Attributes:
        seq: Counts up from 1 in the order of writing; 0 until it is written.
        at_ms: Milliseconds since the epoch.
        action: What was done, as ``key.revoked``.
        target: What it was done to: an id, or a name.
        principal_id: Who did it: a key's id, or one of `audit.Actor`'s words.
        tenant_id: Of who did it.
        origin: From where: an address, or ``cli``, ``file``, ``signal`` or ``hub``.
        request_id: The request it came with.
        before: A JSON document, as is `after`; None: there is none.
    """

    seq: int = 0
    at_ms: int
    action: str
    target: str
    principal_id: str
    tenant_id: str | None
    family_id: str | None
    origin: str
    request_id: str | None
    before: str | None
    after: str | None


_COLUMNS: Final = [field.name for field in msgspec.structs.fields(AuditRecord)]
_NAMES: Final = ", ".join(_COLUMNS[1:])
_ADD: Final = f"INSERT INTO audit ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS[1:]))})"  # noqa: S608  # our own names
_SELECT: Final = f"SELECT seq, {_NAMES} FROM audit WHERE "  # noqa: S608  # our own names


class AuditRows:
    """The rows, through one connection."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, record: AuditRecord) -> None:
        """Add a line; its number is the next one, whatever it has."""
        self._store.execute(_ADD, msgspec.structs.astuple(record)[1:])

    def listed(
        self, *, limit: int, before: int | None = None, action: str | None = None
    ) -> list[AuditRecord]:
        """Return lines, newest first.

        Args:
            limit: How many, at most `MOST_LISTED`.
            before: Only those with a lower number.
            action: Only those of this action, or of all that begin with it and a dot.
        """
        rows = self._store.execute(
            f"{_SELECT}(?1 IS NULL OR seq < ?1)"
            " AND (?2 IS NULL OR action = ?2 OR substr(action, 1, length(?2) + 1) = ?2 || '.')"
            " ORDER BY seq DESC LIMIT ?3",
            (before, action, min(limit, MOST_LISTED)),
        )
        return [_record(row) for row in rows]

    def oldest(self, most: int) -> list[tuple[int, int]]:
        """Return number and time of the oldest lines, in the order of writing."""
        rows = self._store.execute("SELECT seq, at_ms FROM audit ORDER BY seq LIMIT ?", (most,))
        return [(row[0], row[1]) for row in rows]

    def let_go(self, last: int) -> None:
        """Remove the lines up to a number; a line that says so was added before."""
        self._store.execute("DELETE FROM audit WHERE seq <= ?", (last,))


def _record(row: tuple[Any, ...]) -> AuditRecord:
    return AuditRecord(**dict(zip(_COLUMNS, row, strict=True)))
