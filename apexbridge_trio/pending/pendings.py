"""Who waits for tasks that answer later, and what is done when nobody does."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import trio

from apexbridge_trio.clock import WallClock
from apexbridge_trio.errors import StoreUnusable, TooMany
from apexbridge_trio.flights import Flight
from apexbridge_trio.identity import Principal, owner_of
from apexbridge_trio.journal import Entry, Journal
from apexbridge_trio.ledger import Ledger, Sender, Swept, Verdict
from apexbridge_trio.log import get_logger
from apexbridge_trio.pending.call import LEAVE_S, PendingCall, hash_of
from apexbridge_trio.plugins import Tool
from apexbridge_trio.protocol.callback import Callback
from apexbridge_trio.store import Store, TaskRecord, Tasks

# Bodies that wait for the disk; beyond it a plugin is told to send its callback again in a second.
MOST_WAITING_BYTES: Final = 64 * 1024 * 1024
SWEEP_EVERY_S: Final = 60.0

log = get_logger("pending")


class Pendings:
    """All tasks of the hub that answer later.

    Args:
        store: Another connection than the journal's, to look a token up.
        url: The address of the callback paths, without a slash at its end; it may be set later, as
            the port is known only then.
        expires_s: A task's time, where its tool does not say.
        keep_s: How long a result is kept.
        clock: Whether the time may be gone by; None: it is not asked.

    Attributes:
        expires_s: The same; counts for what is called from now on.
        keep_s: The same; counts with the next sweep.
        owed: Told of each task, by its call's id, whose owner is owed a notice since just now.
        progressed: Told of each task's progress.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        ledger: Ledger,
        *,
        url: str,
        expires_s: float,
        keep_s: float,
        clock: WallClock | None = None,
    ) -> None:
        self.url = url
        self._tasks = Tasks(store)
        self._journal = journal
        self._ledger = ledger
        self.expires_s = expires_s
        self.keep_s = keep_s
        self._clock = clock
        self._calls: dict[str, PendingCall] = {}
        self._nursery: trio.Nursery | None = None
        self.owed: Callable[[str], None] = _nobody
        self.progressed: Callable[[TaskRecord, Callback], None] = _nobody

    def __len__(self) -> int:
        """Calls that somebody waits for, or of which something still runs."""
        return len(self._calls)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write, sweep, and close what nobody waits for, until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self._nursery.start(self._journal.run, name="journal")
                await self._sweep()
                task_status.started()
                while True:
                    await trio.sleep(SWEEP_EVERY_S)
                    await self._sweep()
        finally:
            self._nursery = None

    @asynccontextmanager
    async def open_call(self, tool: Tool, flight: Flight) -> AsyncIterator[PendingCall]:
        """Record a call that may answer later, and hold it open inside the block.

        Raises:
            StoreUnusable: On entering: it can not be recorded, so the plugin must not be started.
        """
        call = PendingCall(self._journal, self._ledger, tool, flight, self.url)
        self._calls[call.call_id] = call
        try:
            await call.open(self.expires_s)
            yield call
        finally:
            call.is_awaited = False
            with trio.move_on_after(LEAVE_S, shield=True):
                await call.leave()
            if call.is_owed:
                self.owed(call.call_id)
            if call.running is None:
                self._calls.pop(call.call_id, None)

    async def accept(self, plugin: str, task_id: str, callback: Callback, sender: Sender) -> Verdict:
        """Take a callback; what is "accepted" is on disk when this returns.

        Cancellation: the callback may be accepted all the same; sent again, it is a duplicate.

        Raises:
            TooMany: Too much waits for the disk already.
            StoreUnusable: It could not be written.
        """
        size = len(callback.body)
        if self._journal.size + size > MOST_WAITING_BYTES:
            raise TooMany("Too many callbacks wait to be written.", retry_after_s=1)
        work = partial(self._ledger.accept, plugin, task_id, callback, sender)
        entry: Entry[Verdict] = self._journal.post(work, partial(self._hear, callback), size=size)
        return await entry.wait()

    def task_of(self, token: str) -> TaskRecord | None:
        """Return the task a token was made for."""
        return self._tasks.of_token(hash_of(token))

    def of_call(self, call_id: str) -> TaskRecord | None:
        """Return the task of a call."""
        return self._tasks.of_call(call_id)

    def find(self, task_id: str, principal: Principal) -> TaskRecord | None:
        """Return a task by the plugin's name for it, or the hub's; the newest, if plugins share a name."""
        return next((one for one in self._tasks.called(task_id) if principal.may_see(owner_of(one))), None)

    def result(self, record: TaskRecord) -> Callback | None:
        """Return what a task's callback said, if it has one: its file is there whole, or not at all.

        Raises:
            OSError: It can not be read.
        """
        return self._ledger.result(record)

    def listed(self, principal: Principal, state: str | None) -> list[TaskRecord]:
        """Return the tasks that somebody may see, newest first."""
        tenant = None if "admin" in principal.scopes else principal.tenant_id
        return [one for one in self._tasks.listed(tenant, state) if principal.may_see(owner_of(one))]

    def path_of(self, record: TaskRecord) -> str | None:
        """Return where a task is waited for in the live tree; None if nobody waits."""
        call = self._calls.get(record.call_id)
        return call.path if call is not None and call.is_awaited else None

    async def withdraw(self, record: TaskRecord) -> bool:
        """End a task that nobody waits for: a later result is refused, and what runs of it has ended.

        False: it had ended before.

        Raises:
            StoreUnusable: It could not be written.
        """
        withdrawn = self._journal.post(partial(self._ledger.withdraw, record.call_id))
        call = self._calls.get(record.call_id)
        if call is not None:
            # Shielded: who asked is told next that it is gone. Bounded, as in an interrupt.
            with trio.move_on_after(LEAVE_S, shield=True):
                await call.close_running()
            self._calls.pop(record.call_id, None)
        return await withdrawn.wait()

    def _hear(self, callback: Callback, verdict: Verdict) -> None:
        if verdict.word == "accepted" and verdict.record is not None and verdict.record.tool:
            self._owe(verdict.record.call_id)
        elif verdict.word == "progress" and verdict.record is not None:
            self.progressed(verdict.record, callback)
        if verdict.record is not None and (call := self._calls.get(verdict.record.call_id)) is not None:
            call.hear(verdict, callback)
            self._release(call)
        if verdict.word in {"gone", "conflict", "replayed"}:
            log.warning("callback refused", reason=verdict.word, **_named(verdict.record))

    def _owe(self, call_id: str) -> None:
        """Tell of a notice; whoever waits for the task says later whether it was needed."""
        call = self._calls.get(call_id)
        if call is None or not call.is_awaited:
            self.owed(call_id)

    def _release(self, call: PendingCall) -> None:
        """Close what still runs of a task that has ended and that nobody waits for."""
        if call.state is not None and not call.is_awaited and self._nursery is not None:
            del self._calls[call.call_id]
            self._nursery.start_soon(call.close_running, name=f"close {call.call_id}")

    async def _sweep(self) -> None:
        if self._clock is not None and not self._clock.fires:
            return  # whose time is over is not known
        forgets = self._clock is None or self._clock.forgets
        work = partial(self._ledger.sweep, self.keep_s, forgets=forgets)
        try:
            while not (await self._journal.post(work, self._hear_sweep).wait()).is_all:
                pass
        except (StoreUnusable, OSError) as fault:
            # Chats go on without a disk; the next sweep finds what is left.
            log.error("tasks could not be swept", reason=str(fault))

    def _hear_sweep(self, swept: Swept) -> None:
        for record in swept.timed_out:
            self._owe(record.call_id)
            if (call := self._calls.get(record.call_id)) is not None:
                call.end("timed_out")
                self._release(call)
        if swept.timed_out or swept.deleted:
            log.info("tasks swept", timed_out=len(swept.timed_out), deleted=swept.deleted)


def _nobody(*_: object) -> None:
    """Nobody listens yet."""


def _named(record: TaskRecord | None) -> dict[str, Any]:
    return {"plugin": record.plugin, "task_id": record.task_id, "state": record.state} if record else {}
