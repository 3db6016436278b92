"""What people have to be told, also those who are not here: on disk until somebody has seen it.

A notice is owed in the transaction of what it is about, told when that is over, and shown to every
device that comes later, until it is acknowledged (by any device that may see it) or its time is over.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

import msgspec
import trio

from apexbridge_trio.errors import NotFound, TooMany
from apexbridge_trio.events import Events, Subscription
from apexbridge_trio.events.event import write_frame
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.journal import Entry, Journal
from apexbridge_trio.ledger import owner_of
from apexbridge_trio.limits import Rate
from apexbridge_trio.log import get_logger
from apexbridge_trio.protocol.callback import Callback
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.store import Notice, Store, TaskRecord, Tasks

NoticeKind = Literal["notification", "alert", "reminder"]
Level = Literal["info", "warning", "error"]

# A tenant that has so many unread is asked to read them first; who is hurt: who writes more notices.
MOST_OWED: Final = 1000
# Told of one task's progress a minute, and tasks that are counted; what is more is left out.
PROGRESS_RATE: Final = 120
_MOST_TASKS: Final = 1000

log = get_logger("notices")


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
    ) -> tuple[str, Entry[None]]:
        """Tell somebody something that must not be lost; returns its id, and when it is on disk.

        Raises:
            TooMany: They have not read what they were told before.
        """
        if self._read.count_notices(owner.tenant_id) >= MOST_OWED:
            raise TooMany("There are too many notices that nobody has read.", retry_after_s=60)
        now_ms = int(time.time() * 1000)
        notice = Notice(
            id=new_id("evt"),
            principal_id=owner.id,
            tenant_id=owner.tenant_id,
            family_id=owner.family_id,
            level=level,
            body=encode((more or {}) | {"message": message}).decode(),
            created_ms=now_ms,
            kind=kind,
            title=title,
            expires_ms=None if expires_s is None else now_ms + int(expires_s * 1000),
        )
        entry = self._journal.post(partial(self._written.owe, notice), lambda _: self._tell(notice))
        return notice.id, entry

    def owed(self, notice_id: str) -> None:
        """Tell what is owed since just now; it is on disk."""
        if (notice := self._read.notice(notice_id)) is not None:
            self._tell(notice)

    def pending(self, reader: Principal) -> list[Notice]:
        """Return what somebody has still to be told, oldest first."""
        now_ms = int(time.time() * 1000)
        return [
            notice
            for notice in self._read.notices_of(reader.tenant_id, MOST_OWED)
            if _may_see(reader, notice) and (notice.expires_ms or now_ms) >= now_ms
        ]

    def frames(self, reader: Principal, subscription: Subscription) -> list[tuple[str, bytes]]:
        """Write what somebody has still to be told as frames; the position is that of the last event."""
        return [
            (
                notice.kind,
                write_frame(
                    notice.kind,
                    subscription.seq,
                    self._events.epoch,
                    encode(told(notice)),
                    notice.created_ms,
                ),
            )
            for notice in self.pending(reader)
            if notice.kind in subscription.kinds
        ]

    def ack(self, notice_id: str, reader: Principal, done: Callable[[bool], None]) -> None:
        """Note that somebody has seen a notice; it is shown to nobody any more.

        Args:
            notice_id: Its id.
            reader: Who has.
            done: Called once that is on disk, or with False if there is no such notice, for them.
        """
        notice = self._read.notice(notice_id)
        if notice is None or not _may_see(reader, notice):
            done(False)  # noqa: FBT003  # the answer
            return

        def after(_: None) -> None:
            self._events.publish("notification.acked", _owner(notice), {"id": notice.id})
            done(True)  # noqa: FBT003  # the answer

        self._journal.post(
            partial(self._written.settle_notice, notice_id),
            after,
            failed=lambda _: done(False),  # noqa: FBT003  # the answer
        )

    async def settle(self, notice_id: str, reader: Principal) -> None:
        """Note that somebody has seen a notice, and wait until that is on disk.

        Raises:
            NotFound: There is none, for them, or it could not be written.
        """
        over, found = trio.Event(), []

        def done(is_settled: bool) -> None:  # noqa: FBT001  # a callback
            found.append(is_settled)
            over.set()

        self.ack(notice_id, reader, done)
        await over.wait()
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
        self._events.publish(kind, _owner(notice), told(notice))


def told(notice: Notice) -> dict[str, Any]:
    """Write a notice as its frame's ``data``."""
    said: dict[str, Any] = {"id": notice.id, "level": notice.level}
    said |= {"title": notice.title} if notice.title else {}
    said |= msgspec.json.decode(notice.body, type=dict[str, Any])
    if not said.get("message"):
        said["message"] = f"{said.get('tool', 'The task')}: {said.get('state', 'over')}"
    return said


def _owner(notice: Notice) -> Principal:
    return Principal(notice.principal_id, notice.tenant_id, notice.family_id)


def _may_see(reader: Principal, notice: Notice) -> bool:
    same_family = reader.family_id is None or reader.family_id == notice.family_id
    return reader.tenant_id == notice.tenant_id and same_family
