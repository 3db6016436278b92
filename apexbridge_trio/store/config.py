"""Revisions of the config: what was in force when, who brought it, and the text without its secrets."""

from typing import Final

import msgspec

from apexbridge_trio.store.database import Store

# Some months of a house that is worked on, and some megabytes; who is hurt: who wants to go back further.
MOST_KEPT: Final = 200


class RevisionRecord(msgspec.Struct, frozen=True):
    """One revision.

    Attributes:
        number: Counts up; never used twice for what somebody was told.
        digest: Stands for the file's content.
        origin: How it came: ``api``, ``rollback``, ``signal``, ``edit`` or ``start``.
        principal_id: Who brought it; empty: whoever may write the file.
        address: From where.
        changed: By key, when its change counts; JSON.
        diff: Of each key that changed, what it was and is, without secrets; JSON.
        text: The file's, without secrets.
        lost: Where it had some, beside headers; JSON.
    """

    number: int
    digest: str
    at_ms: int
    origin: str
    principal_id: str
    address: str
    changed: str
    diff: str
    text: str
    lost: str

    @property
    def revision(self) -> str:
        """What it is called."""
        return f"{self.number}-{self.digest}"


class RevisionRows:
    """The rows, through one connection."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, record: RevisionRecord) -> None:
        """Keep a revision, and forget those that are too old."""
        row = msgspec.structs.astuple(record)
        self._store.execute(
            "INSERT OR REPLACE INTO config_revisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row
        )
        self._store.execute("DELETE FROM config_revisions WHERE number <= ?", (record.number - MOST_KEPT,))

    def latest(self) -> RevisionRecord | None:
        """Return the newest one."""
        return next(iter(self.listed(1)), None)

    def listed(self, most: int) -> list[RevisionRecord]:
        """Return revisions, the newest first."""
        rows = self._store.execute("SELECT * FROM config_revisions ORDER BY number DESC LIMIT ?", (most,))
        return [RevisionRecord(*row) for row in rows]

    def find(self, number: int) -> RevisionRecord | None:
        """Return one revision."""
        rows = self._store.execute("SELECT * FROM config_revisions WHERE number = ?", (number,))
        return next((RevisionRecord(*row) for row in rows), None)
