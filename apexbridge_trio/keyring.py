"""Keys are made, revoked and expire, and what a key has open ends with it.

Whatever is changed here is written with its line in the audit, before it is acknowledged. A key that is
revoked over HTTP ends what it has open as soon as that is on disk. One that is revoked by a command
beside the hub is noticed within a second: SQLite tells cheaply (`data_version`, 4 µs) that somebody has
written, and only then is looked which of those who have something open may still be here. The same
look comes when the next key expires.

When a key was used last is kept in memory, and written once a minute at most, and at the end. What is
known of a key that has ended is kept as long as the audit, and then forgotten.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import trio
from msgspec import Struct, field

from apexbridge_trio.audit import HUB, Actor, Audit
from apexbridge_trio.clock import MADE
from apexbridge_trio.errors import BadRequest, NotFound, StoreUnusable
from apexbridge_trio.flights import Flights, Stop
from apexbridge_trio.identity import Keys
from apexbridge_trio.journal import Entry, Journal
from apexbridge_trio.log import get_logger
from apexbridge_trio.openings import Opening, Openings
from apexbridge_trio.store import KeyRecord, KeyRows, Store

REVOKED: Final = "its key was revoked"
EXPIRED: Final = "its key has expired"
UNKNOWN: Final = "its key is not known any more"

LOOK_EVERY_S: Final = 1.0
WRITE_EVERY_S: Final = 60.0
# Of keys that are good. Who is hurt: the administrator who makes more; a home has tens.
MOST_KEYS: Final = 10_000
# Keys whose end is noted, or that are forgotten, in one transaction; the rest in the next.
_MOST_NOTED: Final = 100

log = get_logger("keys")


class Ended(Struct, frozen=True):
    """What a key had open when it ended.

    Attributes:
        stops: Of its flights.
        gone: Set when each of its connections and requests is gone.
    """

    stops: list[Stop] = field(default_factory=list)
    gone: list[trio.Event] = field(default_factory=list)

    async def receipt(self, wait_s: float) -> dict[str, Any]:
        """Wait until all of it is gone, at most `wait_s` seconds, and say what has stopped."""
        with trio.move_on_after(wait_s):
            for stop in self.stops:
                await stop.over()
            for one in self.gone:
                await one.wait()
        written = [stop.written() for stop in self.stops]
        return {
            "closed": sum(one.is_set() for one in self.gone),
            "notClosed": sum(not one.is_set() for one in self.gone),
            "interrupted": [one["requestId"] for one in written],
            "notStopped": [path for one in written for path in one["notStopped"]],
        }


class Keyring:
    """The keys of the hub, as they are changed and as they end.

    Args:
        keys: Who they stand for.
        flights: The live tree.
        openings: What is open.
        audit: Notes the changes.
        journal: Writes.
        read: The loop's connection.
        written: The journal's.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        keys: Keys,
        flights: Flights,
        openings: Openings,
        audit: Audit,
        journal: Journal,
        *,
        read: Store,
        written: Store,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._flights = flights
        self._openings = openings
        self._audit = audit
        self._journal = journal
        self._store = read
        self.rows = KeyRows(read)
        self._written_store = written
        self._written = KeyRows(written)
        self._now = now
        self._version: int | None = None
        self._due_ms: int | None = None
        self._is_blind = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look for keys that have ended, and write when keys were used, until cancelled.

        Cancellation: what is not written yet of their use is handed to the journal.
        """
        try:
            task_status.started()
            write_at = trio.current_time() + WRITE_EVERY_S
            while True:
                self._look_safely()
                if trio.current_time() >= write_at:
                    self.write_uses()
                    write_at = trio.current_time() + WRITE_EVERY_S
                await trio.sleep(LOOK_EVERY_S)
        finally:
            self.write_uses()

    def create(
        self,
        by: Actor,
        *,
        scopes: Iterable[str],
        tenant_id: str = "default",
        family_id: str | None = None,
        name: str = "",
        expires_ms: int | None = None,
    ) -> tuple[str, KeyRecord, Entry[None]]:
        """Make a key; it is good once its entry is written, and is shown this once.

        Raises:
            BadRequest: It may not be, or there are too many.
        """
        if self.rows.count_good(self._now_ms()) >= MOST_KEYS:
            raise BadRequest(
                f"There are {MOST_KEYS} good keys already; revoke some first.", code="too_many_keys"
            )
        key, record = self._keys.make(
            scopes=scopes, tenant_id=tenant_id, family_id=family_id, name=name, expires_ms=expires_ms
        )
        work = partial(self._written_store.add_key, record)
        return key, record, self._audit.change("key.created", record.id, by, work, after=summary_of(record))

    def revoke(self, key_id: str, by: Actor, *, but: Opening | None = None) -> Entry[Ended]:
        """Make a key worthless for ever, and end what it has open as soon as that is on disk.

        Waiting for the entry raises NotFound if no key of that id could be used: there is none, or it was
        revoked before. One that has expired can be revoked.

        Args:
            key_id: Its id.
            by: Who wants it.
            but: What is left open for the reply.
        """
        record = self._store.key(key_id)
        ended = Ended()

        def work() -> Ended:
            if not self._written_store.revoke_key(key_id, self._now_ms()):
                raise NotFound("There is no good key of that id.")
            return ended

        def then(_: Ended) -> None:
            found = self.end(key_id, REVOKED, but=but)
            ended.stops.extend(found.stops)
            ended.gone.extend(found.gone)

        before = summary_of(record) if record is not None else None
        return self._audit.change("key.revoked", key_id, by, work, then, before=before)

    def end(self, key_id: str, reason: str, *, but: Opening | None = None) -> Ended:
        """End all that a key has open, without waiting for it."""
        # First the flights: who waits for them is told why before its connection ends.
        stops = self._flights.interrupt_of(key_id, reason)
        gone = self._openings.stop(key_id, reason, but=but)
        if stops or gone:
            log.info(
                "what a key had open was ended", key=key_id, reason=reason, flights=len(stops), open=len(gone)
            )
        return Ended(stops, gone)

    def _look_safely(self) -> None:
        try:
            with self._store.reading():
                self.look()
        except StoreUnusable as fault:
            # Without its store the hub lets nobody in; who is in is looked for again in a second.
            if not self._is_blind:
                log.error("keys can not be looked at", reason=str(fault))
            self._is_blind = True
        else:
            self._is_blind = False

    def look(self) -> None:
        """End what keys have open that ended without us, if one can have."""
        now_ms, version = self._now_ms(), self.rows.version()
        if version == self._version and (self._due_ms is None or now_ms < self._due_ms):
            return
        self._version = version
        self._note_expired(now_ms)
        self._due_ms = self.rows.next_expiry(now_ms)
        here = {one for one in (*self._openings.counts(), *self._flights.owners()) if self._keys.is_id(one)}
        if not here:
            return
        for key_id in here - self.rows.good_of(here, now_ms):
            self.end(key_id, self._reason(key_id))

    def write_uses(self) -> None:
        """Have written when keys were used last; what can not be is tried again."""
        uses, self._keys.used = self._keys.used, {}
        if uses:

            def again(fault: Exception) -> None:
                self._keys.used = uses | self._keys.used
                log.warning("when keys were used last could not be written", reason=str(fault))

            self._journal.post(partial(self._written.note_uses, uses), failed=again)

    def forget_some(self, keep_s: float) -> bool:
        """Forget some keys that ended longer ago, each with a line in the audit; False: there are no more.

        To be called inside a piece of the journal's work, in its transaction.
        """
        before_ms = self._now_ms() - int(keep_s * 1000)
        # What ended before any hub was, did so by a clock that was wrong, and may be of today.
        ended = self._written.ended(int(MADE * 1000), before_ms, _MOST_NOTED)
        for key_id in ended:
            self._written.forget(key_id)
            self._audit.write(self._audit.line("key.forgotten", key_id, HUB))
        return len(ended) == _MOST_NOTED

    def records(self) -> list[KeyRecord]:
        """Return what is kept of every key, also of those that ended, oldest first."""
        return self._keys.records()

    def tenants(self, scope: str = "") -> set[str]:
        """Return the tenants that somebody may act for, with a scope if one is named."""
        return self.rows.tenants(scope, self._now_ms())

    def find(self, key_id: str) -> KeyRecord | None:
        """Return what is kept of a key."""
        return self._store.key(key_id)

    def state_of(self, record: KeyRecord) -> str:
        """Return ``good``, ``expired`` or ``revoked``."""
        if record.revoked_ms is not None:
            return "revoked"
        return "good" if record.is_good(self._now_ms()) else "expired"

    def last_used_ms(self, record: KeyRecord) -> int | None:
        """Return when a key was used last; None: never."""
        return self._keys.used.get(record.id, record.last_used_ms)

    def opened(self) -> dict[str, int]:
        """Return how much each key has open, by its id."""
        return self._openings.counts()

    def _note_expired(self, now_ms: int) -> None:
        for key_id in self.rows.expired(now_ms, _MOST_NOTED):
            self._audit.change("key.expired", key_id, HUB, partial(self._noted, key_id, now_ms))

    def _noted(self, key_id: str, now_ms: int) -> None:
        if not self._written.note_expired(key_id, now_ms):
            raise NotFound("Another one has noted it.")  # so that no second line is written

    def _reason(self, key_id: str) -> str:
        record = self._store.key(key_id)
        if record is None:
            return UNKNOWN
        return EXPIRED if record.revoked_ms is None else REVOKED

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


def entry_of(keyring: Keyring, record: KeyRecord) -> dict[str, Any]:
    """Write what is known of a key as ``GET /v1/keys`` shows it; the key itself is not kept."""
    return {
        "id": record.id,
        **summary_of(record),
        "state": keyring.state_of(record),
        "lastUsedAt": keyring.last_used_ms(record),
        "revokedAt": record.revoked_ms,
    }


def summary_of(record: KeyRecord) -> dict[str, Any]:
    """Say what a key is, without itself."""
    return {
        "name": record.name,
        "tenantId": record.tenant_id,
        "familyId": record.family_id,
        "scopes": sorted(record.scopes),
        "createdAt": record.created_ms,
        "expiresAt": record.expires_ms,
    }
