"""What people have to be told, also those who are not here: on disk until somebody has seen it.

A notice is owed in the transaction of what it is about, told when that is over, and shown to every
device that comes later, until it is acknowledged or its time is over. An alert or a reminder asks that
something be done: one acknowledgement settles it for everybody. A notification informs: each device that
is remembered (it has given its name, or has acknowledged something once) is told it until it has
acknowledged it itself; any other device, until somebody has.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, NamedTuple

import msgspec
import trio

from apexbridge_trio.clock import now_ms
from apexbridge_trio.errors import NotFound, TooMany
from apexbridge_trio.events import Events, Subscription
from apexbridge_trio.events.event import NOWHERE, write_frame
from apexbridge_trio.events.history import EVENT_BYTES
from apexbridge_trio.identity import Principal, owner_of
from apexbridge_trio.ids import new_id
from apexbridge_trio.journal import Entry, Journal
from apexbridge_trio.limits import Rate
from apexbridge_trio.log import get_logger
from apexbridge_trio.protocol.callback import Callback
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.store import DeviceRecord, Devices, Notice, Store, TaskRecord, Tasks
from apexbridge_trio.store.devices import SETTLED_BY_ONE, named

NoticeKind = Literal["notification", "alert", "reminder"]
Level = Literal["info", "warning", "error"]

# A tenant that has so many of a kind unread is asked to read them first; who is hurt: who writes more of
# that kind. An alert is never refused because of what only informs.
MOST_OWED: Final = 1000
# Of those, a device is shown so many bytes when it comes: with the pieces of running chats they are what
# it may leave unread, so that coming never overflows it. Who is hurt: who acknowledges nothing.
MOST_SHOWN_BYTES: Final = 1024 * 1024
# Told of one task's progress a minute, and tasks that are counted; what is more is left out.
PROGRESS_RATE: Final = 120
_MOST_TASKS: Final = 1000
# How often it is written that a device was here.
NOTE_EVERY_MS: Final = 3_600_000

log = get_logger("notices")


class Shown(NamedTuple):
    """A notice as it is shown to who comes.

    Attributes:
        at: Its position: epoch and number.
    """

    kind: str
    at: tuple[str, int]
    frame: bytes


class Notices:
    """All notices of the hub.

    Args:
        read: The loop's connection.
        written: The journal's.
        journal: Writes.
        events: Tells.
    """

    def __init__(self, read: Store, written: Store, journal: Journal, events: Events) -> None:
        self._read = Tasks(read)
        self._written = Tasks(written)
        self._devices = Devices(read)
        self._written_devices = Devices(written)
        self._journal = journal
        self._events = events
        self._rates: dict[str, Rate] = {}

    def owe(
        self,
        kind: NoticeKind,
        owner: Principal,
        message: str,
        *,
        level: Level = "info",
        title: str = "",
        more: dict[str, Any] | None = None,
        expires_s: float | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> tuple[str, Entry[None]]:
        """Tell somebody something that must not be lost; returns its id, and when it is on disk.

        Who does not wait for that says with `failed` who is told that it could not be written.

        Raises:
            TooMany: They have not read what they were told before.
        """
        notice = self.draft(kind, owner, message, level=level, title=title, more=more, expires_s=expires_s)
        work = partial(self._written.owe, notice)
        entry = self._journal.post(work, lambda _: self._tell(notice), failed=failed)
        return notice.id, entry

    def draft(
        self,
        kind: NoticeKind,
        owner: Principal,
        message: str,
        *,
        level: Level = "info",
        title: str = "",
        more: dict[str, Any] | None = None,
        expires_s: float | None = None,
    ) -> Notice:
        """Return what `owe` would write, for who writes it together with something else.

        Raises:
            TooMany: As `owe`.
        """
        if self._read.count_notices(owner.tenant_id, kind) >= MOST_OWED:
            raise TooMany("There are too many notices that nobody has read.", retry_after_s=60)
        made_ms = now_ms()
        return Notice(
            id=new_id("evt"),
            principal_id=owner.id,
            tenant_id=owner.tenant_id,
            family_id=owner.family_id,
            level=level,
            body=encode((more or {}) | {"message": message}).decode(),
            created_ms=made_ms,
            kind=kind,
            title=title,
            expires_ms=None if expires_s is None else made_ms + int(expires_s * 1000),
        )

    def owed(self, notice_id: str) -> None:
        """Tell what is owed since just now; it is on disk."""
        if (notice := self._read.notice(notice_id)) is not None:
            self._tell(notice)

    def arrive(self, reader: Principal, device: str) -> None:
        """Remember a device that has given its name; one without a name is no other than before."""
        if not device:
            return
        known = self._devices.find(reader.id, device)
        here = _here(reader, device)
        # It is kept for weeks, so that it was here need not be written each time.
        if known is None or known.last_ms + NOTE_EVERY_MS < here.last_ms:
            self._journal.post(partial(self._written_devices.arrive, here), failed=_log_unwritten)

    def pending(self, reader: Principal, device: str = "") -> list[Notice]:
        """Return what somebody has still to be told on a device, oldest first."""
        known = self._devices.find(reader.id, device)
        return self._devices.due(known, reader.tenant_id, reader.family_id, now_ms(), MOST_OWED)

    def find(self, notice_id: str, reader: Principal) -> Notice:
        """Return a notice that is kept, acknowledged or not.

        Raises:
            NotFound: There is none, for them.
        """
        notice = self._read.notice(notice_id)
        if notice is None or not _may_see(reader, notice):
            raise NotFound("There is no such notice.")
        return notice

    def seen_on(self, notice: Notice) -> list[dict[str, Any]]:
        """Say on which devices a notice was acknowledged, and when."""
        found = self._devices.seen_on(notice.id)
        return [{**named(key_id, device), "at": at_ms} for key_id, device, at_ms in found]

    def frames(
        self, reader: Principal, subscription: Subscription, device: str = "", *, is_all: bool
    ) -> list[Shown]:
        """Write what somebody has still to be told as frames, oldest first.

        Of much it is the alerts, and then the newest. What is left out is told on the next coming, when what
        was shown is acknowledged; all of it is listed by ``GET /v1/notifications``.

        Args:
            reader: Who is told.
            subscription: Of theirs.
            device: Where.
            is_all: That nothing else is shown to who comes: the last frame bears the position of now, and
                the others none. Who is cut before the last one must not go on from there.
        """
        pending = [one for one in self.pending(reader, device) if one.kind in subscription.kinds]
        first = sorted(pending, key=lambda one: (one.kind == "alert", one.created_ms, one.id), reverse=True)
        chosen: dict[str, bytes] = {}
        size = 0
        for notice in first:
            said = encode(told(notice))
            size += len(said) + EVENT_BYTES
            if size > MOST_SHOWN_BYTES:
                break
            chosen[notice.id] = said
        shown = [one for one in pending if one.id in chosen]
        now = (self._events.epoch, subscription.seq)
        ats = [NOWHERE] * (len(shown) - 1) + [now if is_all else NOWHERE]
        return [
            Shown(one.kind, at, write_frame(one.kind, at[1], at[0], chosen[one.id], one.created_ms))
            for one, at in zip(shown, ats, strict=False)  # of none there is no last one
        ]

    def ack(
        self,
        notice_id: str,
        reader: Principal,
        done: Callable[[bool], None],
        failed: Callable[[Exception], None] | None = None,
        device: str = "",
    ) -> None:
        """Note that somebody has seen a notice; who else is still told it, the module's head says.

        Args:
            notice_id: Its id.
            reader: Who has.
            done: Called once that is on disk, or with False if there is no such notice, for them, or
                not any more.
            failed: Called instead with why it could not be written; None: `done` is, with False.
            device: Where.
        """
        notice = self._read.notice(notice_id)
        if notice is None or not _may_see(reader, notice):
            done(False)  # noqa: FBT003  # the answer
            return

        def after(acked: Notice | None) -> None:
            if acked is not None:
                self._events.publish("notification.acked", owner_of(acked), _acked(acked, reader, device))
            done(acked is not None)

        self._journal.post(
            partial(self._written_devices.ack, notice_id, _here(reader, device)),
            after,
            failed=failed or (lambda _: done(False)),  # noqa: FBT003  # the answer
        )

    async def settle(self, notice_id: str, reader: Principal, device: str = "") -> None:
        """Note that somebody has seen a notice, and wait until that is on disk.

        Raises:
            NotFound: There is none, for them.
            StorageFailed: It could not be written; it is shown again.
        """
        over, found = trio.Event(), list[bool | Exception]()

        def done(outcome: bool | Exception) -> None:  # noqa: FBT001  # a callback
            found.append(outcome)
            over.set()

        self.ack(notice_id, reader, done, failed=done, device=device)
        await over.wait()
        if isinstance(found[0], Exception):
            raise found[0]
        if not found[0]:
            raise NotFound("There is no such notice.")

    def heard_progress(self, record: TaskRecord, callback: Callback) -> None:
        """Tell how far a plugin's task is; nothing of that is kept on disk."""
        self.progress(owner_of(record), record.task_id or record.call_id, callback.progress, callback.message)

    def progress(self, owner: Principal, task_id: str, progress: float | None, message: str) -> None:
        """Tell how far a task is, if that was not told too often."""
        rate = self._rates.pop(task_id, None) or Rate(PROGRESS_RATE)
        self._rates[task_id] = rate
        if len(self._rates) > _MOST_TASKS:
            del self._rates[next(iter(self._rates))]
        if rate.take(trio.current_time()):
            return
        said: dict[str, Any] = {"id": new_id("evt"), "level": "info", "message": message, "taskId": task_id}
        self._events.publish("notification", owner, said | {"progress": progress})

    def _tell(self, notice: Notice) -> None:
        kind: NoticeKind = notice.kind  # type: ignore[assignment]  # as it was written
        self._events.publish(kind, owner_of(notice), told(notice))


def told(notice: Notice) -> dict[str, Any]:
    """Write a notice as its frame's ``data``."""
    said: dict[str, Any] = {"id": notice.id, "level": notice.level}
    said |= {"title": notice.title} if notice.title else {}
    said |= msgspec.json.decode(notice.body, type=dict[str, Any])
    if not said.get("message"):
        said["message"] = f"{said.get('tool', 'The task')}: {said.get('state', 'over')}"
    return said


def _acked(notice: Notice, reader: Principal, device: str) -> dict[str, Any]:
    """Write who has acknowledged a notice, as the other devices are told it."""
    is_settled = notice.kind in SETTLED_BY_ONE
    return {"id": notice.id, "kind": notice.kind, "by": named(reader.id, device), "settled": is_settled}


def _here(reader: Principal, device: str) -> DeviceRecord:
    here_ms = now_ms()
    return DeviceRecord(reader.id, device, reader.tenant_id, reader.family_id, here_ms, here_ms)


def _log_unwritten(fault: Exception) -> None:
    log.warning("a device could not be remembered", reason=str(fault))


def _may_see(reader: Principal, notice: Notice) -> bool:
    same_family = reader.family_id is None or reader.family_id == notice.family_id
    return reader.tenant_id == notice.tenant_id and same_family
