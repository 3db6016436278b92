"""The history of the config: its revisions, without secrets."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from apexbridge_trio.config import When
from apexbridge_trio.config.document import masked
from apexbridge_trio.errors import NotFound
from apexbridge_trio.journal import Entry, Journal
from apexbridge_trio.settings.change import Origin
from apexbridge_trio.settings.snapshot import Snapshot
from apexbridge_trio.store import RevisionRecord, RevisionRows

# Revisions that wait for a disk that refuses; each may hold a file. Who is hurt: who makes more meanwhile.
_MOST_OWED: Final = 20


class History:
    """The revisions.

    Args:
        read: Through the loop's connection.
        written: The same through the journal's.
        journal: Writes them.
        now: Seconds since the epoch.

    Attributes:
        rows: Through the loop's connection.
    """

    def __init__(
        self, read: RevisionRows, written: RevisionRows, journal: Journal, now: Callable[[], float]
    ) -> None:
        self.rows = read
        self._written = written
        self._journal = journal
        self._now = now
        self._owed: list[Callable[[], None]] = []

    def find(self, revision: str) -> RevisionRecord:
        """Return a revision by its name.

        Raises:
            NotFound: It is none, or is not kept any more.
        """
        number = revision.partition("-")[0]
        is_number = number.isascii() and number.isdigit() and len(number) < 18
        record = self.rows.find(int(number)) if is_number else None
        if record is None or record.revision != revision:
            raise NotFound(f"There is no revision {revision[:50]!r}; GET /v1/config/history lists them.")
        return record

    def post(
        self,
        snapshot: Snapshot,
        origin: Origin,
        applied: Mapping[str, When],
        diff: list[dict[str, Any]],
        *,
        note: Callable[[], None],
        after: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> Entry[None]:
        """Have a revision written.

        Args:
            snapshot: What is in force since just now.
            origin: Who brought it.
            applied: By key that changed, when that counts.
            diff: What was changed, without secrets.
            note: Called in the transaction that writes it.
            after: Called on the loop once it is on disk.
            failed: Called on the loop instead, with why it is not.
        """
        at_ms = int(self._now() * 1000)

        def work() -> None:
            text, lost = masked(snapshot.source.text)
            self._written.add(
                RevisionRecord(
                    number=snapshot.number,
                    digest=snapshot.source.digest,
                    at_ms=at_ms,
                    origin=origin.kind,
                    principal_id=origin.principal_id,
                    address=origin.address,
                    changed=msgspec.json.encode(applied).decode(),
                    diff=msgspec.json.encode(diff).decode(),
                    text=text,
                    lost=msgspec.json.encode(lost).decode(),
                )
            )
            note()

        def owe(fault: Exception) -> None:
            self._owe(work)
            failed(fault)

        return self._journal.post(work, lambda _: after(), failed=owe, size=len(snapshot.source.data))

    def write_again(self) -> None:
        """Have written what the disk has refused, with its note, once it takes something; nobody is told.

        Of a hub that ends before, the next start notes what it finds.
        """
        if self._owed and self._journal.trouble is None:
            owed, self._owed = self._owed, []
            for work in owed:
                self._journal.post(work, failed=partial(self._owe_again, work))

    def _owe_again(self, work: Callable[[], None], _: Exception) -> None:
        self._owe(work)

    def _owe(self, work: Callable[[], None]) -> None:
        self._owed = [*self._owed, work][-_MOST_OWED:]
