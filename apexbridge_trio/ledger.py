"""What becomes of a task that answers later: rules over the store and the result files.

Every method is one piece of the journal's work: it runs in a transaction, with no other writer, so
it decides and acts at once. The row is the truth. A result's file is written before its row says so;
a file without such a row is of a callback that was never acknowledged, and the next one replaces it.

=================  =====================  =======================================================
state              what has happened      a callback with a result
=================  =====================  =======================================================
running            the call is made       names the task (it overtook the plugin's answer), settles
waiting_callback   the plugin named it    settles
succeeded, failed  it has its result      the same one: duplicate; another one: conflict
interrupted        somebody said stop     gone; counted
timed_out          its time is over       gone; counted
=================  =====================  =======================================================

The last three are final. A callback with a key or a signature does not say which of the plugin's
running calls it is of; its result waits in a row without a `tool` until a call answers with its name.
"""

import time
from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.identity import Principal, owner_of
from apexbridge_trio.ids import new_id
from apexbridge_trio.protocol.callback import Callback, read_callback
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.protocol.signature import TOLERANCE_S, Signed
from apexbridge_trio.results import Results, is_file_name
from apexbridge_trio.store import Devices, Notice, Store, TaskRecord, Tasks, TaskState

# One sweep's transaction: some tens of milliseconds, for which callbacks wait.
MOST_SWEPT: Final = 200

Word = Literal["accepted", "progress", "overtaken", "duplicate", "conflict", "gone", "unknown", "replayed"]


class Sender(Struct, frozen=True):
    """Who brings a callback; one of the three.

    Attributes:
        call_id: The call its token was made for.
        principal: Who its key stands for.
        signed: The signature with the plugin's secret.
    """

    call_id: str | None = None
    principal: Principal | None = None
    signed: Signed | None = None

    def may_answer(self, record: TaskRecord) -> bool:
        """Tell whether the task is this sender's business."""
        if self.call_id is not None:
            return self.call_id == record.call_id
        return self.principal is None or self.principal.may_see(owner_of(record))


class Verdict(Struct, frozen=True):
    """What became of a callback.

    Attributes:
        record: The plugin's task, if it is of one.
        was: How a task has ended that waits for no result any more.
    """

    word: Word
    record: TaskRecord | None = None
    was: str = ""


class Swept(Struct, frozen=True):
    """What one sweep did: tasks it ended, and how many it forgot."""

    timed_out: list[TaskRecord]
    deleted: int

    @property
    def is_all(self) -> bool:
        """Whether there was no more to do."""
        return len(self.timed_out) < MOST_SWEPT and self.deleted < MOST_SWEPT


class Ledger:
    """The rules.

    Args:
        store: The journal's connection.
        now: Seconds since the epoch: a task may live longer than the hub.
    """

    def __init__(self, store: Store, results: Results, *, now: Callable[[], float] = time.time) -> None:
        self._tasks = Tasks(store)
        self._devices = Devices(store)
        self._results = results
        self._now = now

    def open(
        self, call_id: str, *, plugin: str, tool: str, owner: Principal, token_hash: bytes, expires_s: float
    ) -> None:
        """Record a call, before the plugin is told where to bring its result."""
        now_ms = self._now_ms()
        record = TaskRecord(
            call_id=call_id,
            plugin=plugin,
            tool=tool,
            token_hash=token_hash,
            principal_id=owner.id,
            tenant_id=owner.tenant_id,
            family_id=owner.family_id,
            created_ms=now_ms,
            expires_ms=now_ms + int(expires_s * 1000),
        )
        self._tasks.save(record)

    def name(self, call_id: str, task_id: str) -> tuple[TaskRecord, bytes | None]:
        """Record how the plugin calls its task; returns its result too, if that came first.

        Raises:
            ToolFailed: It is no id, or the name of another task.
        """
        own = self._tasks.of_call(call_id)
        assert own is not None  # an open call is neither closed nor swept
        if own.task_id is None and is_file_name(task_id):
            own = self._take_name(own, task_id)
        if own.task_id is None and own.ended_ms is not None:
            return own, None
        if own.task_id != task_id:
            raise ToolFailed("The plugin gave its task a name that may not be.", code="bad_task_id")
        return own, self._results.find(own.plugin, task_id) if own.digest else None

    def accept(self, plugin: str, task_id: str, callback: Callback, sender: Sender) -> Verdict:
        """Take a callback, if it is still wanted.

        "accepted": the result is on disk once the transaction is.
        """
        if sender.signed and not self._tasks.see(plugin, sender.signed.id, task_id, self._now_ms()):
            return Verdict("replayed")
        record = self._tasks.named(plugin, task_id) or self._named_first(plugin, task_id, sender)
        if record is None or not sender.may_answer(record):
            return Verdict("unknown")
        if record.ended_ms is None and record.expires_ms <= self._now_ms():
            record = self._expire(record)
        if record.ended_ms is not None and record.digest is None:
            return Verdict("gone", self._save(replace(record, late=record.late + 1)), record.state)
        if callback.status == "progress":
            return Verdict("progress" if record.ended_ms is None else "overtaken", record)
        if record.digest is not None:
            return Verdict("duplicate" if record.digest == callback.digest else "conflict", record)
        return Verdict("accepted", self._settle(record, callback))

    def result(self, record: TaskRecord) -> Callback | None:
        """Return what a task's callback said, if it has one."""
        if record.task_id is None or record.digest is None:
            return None
        came = self._results.find(record.plugin, record.task_id)
        return None if came is None else read_callback(came)

    def withdraw(self, call_id: str) -> bool:
        """End a task for which somebody said stop; False if it had ended."""
        record = self._tasks.of_call(call_id)
        if record is None or record.ended_ms is not None:
            return False
        self._end(replace(record, state="interrupted"))
        return True

    def close(self, call_id: str) -> None:
        """Forget a call that has answered by itself, if it has no result by callback."""
        record = self._tasks.of_call(call_id)
        if record is not None and record.ended_ms is None:
            self._tasks.delete(call_id)

    def taken(self, call_id: str) -> None:
        """Record that who waited has the result, so that the owner need not be told."""
        self._tasks.settle_notice(call_id)

    def sweep(self, keep_s: float, *, forgets: bool = True) -> Swept:
        """End tasks whose time is over; forget those, with their files, that ended `keep_s` ago."""
        now_ms = self._now_ms()
        timed_out = [self._expire(record) for record in self._tasks.overdue(now_ms, MOST_SWEPT)]
        if not forgets:
            return Swept(timed_out, 0)
        old = self._tasks.ended(now_ms - int(keep_s * 1000), MOST_SWEPT)
        for record in old:
            self._drop_result(record)
            self._tasks.settle_notice(record.call_id)
            self._tasks.delete(record.call_id)
        # A message of now may bear a time of TOLERANCE_S ahead, and be good as long after it.
        self._tasks.forget_notices(now_ms)
        self._devices.forget(now_ms)
        self._tasks.forget_seen(now_ms - 2 * TOLERANCE_S * 1000)
        return Swept(timed_out, len(old))

    def _named_first(self, plugin: str, task_id: str, sender: Sender) -> TaskRecord | None:
        """Name the task of a running call by its callback, which overtook the plugin's answer."""
        if sender.call_id is not None:
            own = self._tasks.of_call(sender.call_id)
            if own is None or own.plugin != plugin or own.task_id is not None:
                return None
            return self._take_name(own, task_id)
        running = [record for record in self._tasks.unnamed(plugin) if sender.may_answer(record)]
        if not running:
            return None
        by = sender.principal or Principal("", "")
        return self._save(
            TaskRecord(
                call_id=new_id("task"),
                plugin=plugin,
                tool="",
                task_id=task_id,
                principal_id=by.id,
                tenant_id=by.tenant_id,
                family_id=by.family_id,
                state="waiting_callback",
                created_ms=self._now_ms(),
                expires_ms=max(record.expires_ms for record in running),
            )
        )

    def _take_name(self, own: TaskRecord, task_id: str) -> TaskRecord:
        """Name a task, with the result that waits under that name for its call."""
        early = self._tasks.named(own.plugin, task_id)
        if early is not None and (early.tool or early.tenant_id not in {"", own.tenant_id}):
            return own
        if early is not None and own.ended_ms is not None:
            return own  # it has ended as it has; what waits there is taken by no other end
        if early is not None:
            self._tasks.delete(early.call_id)
            self._tasks.settle_notice(early.call_id)
        state: TaskState = "waiting_callback" if own.state == "running" else own.state
        named = self._save(replace(own, task_id=task_id, state=state))
        came = self._results.find(own.plugin, task_id) if early is not None and early.digest else None
        return named if came is None else self._settle(named, read_callback(came))

    def _settle(self, record: TaskRecord, callback: Callback) -> TaskRecord:
        assert record.task_id is not None
        self._results.keep(record.plugin, record.task_id, callback.body)
        state: Literal["succeeded", "failed"] = "succeeded" if callback.status == "success" else "failed"
        ended = self._save(replace(record, state=state, digest=callback.digest, ended_ms=self._now_ms()))
        self._owe(ended, callback.message)
        return ended

    def _expire(self, record: TaskRecord) -> TaskRecord:
        ended = self._end(replace(record, state="timed_out"))
        self._owe(ended, "Its time was over before a result came.")
        return ended

    def _end(self, record: TaskRecord) -> TaskRecord:
        self._drop_result(record)
        return self._save(replace(record, ended_ms=self._now_ms()))

    def _drop_result(self, record: TaskRecord) -> None:
        if record.task_id is not None:
            self._results.drop(record.plugin, record.task_id)

    def _owe(self, record: TaskRecord, message: str) -> None:
        """Owe the owner a notice; `taken` settles it when somebody waits for the result."""
        said = {
            "taskId": record.task_id,
            "plugin": record.plugin,
            "tool": record.tool,
            "state": record.state,
            "message": message,
        }
        level = "info" if record.state == "succeeded" else "warning"
        owner = (record.principal_id, record.tenant_id, record.family_id)
        self._tasks.owe(Notice(record.call_id, *owner, level, encode(said).decode(), self._now_ms()))

    def _save(self, record: TaskRecord) -> TaskRecord:
        self._tasks.save(record)
        return record

    def _now_ms(self) -> int:
        return int(self._now() * 1000)
