"""The clock that reminders go by, and what is done when one is due.

Theory of operation. The rows are the truth; nothing of a reminder is kept in memory, but which are due in
so long (`Spans`). One task sleeps until the next one is due, and a minute at most, since it sleeps by a
clock that stands still while the machine does, and that nobody sets. Awake, it looks at the clock on the
wall, and posts a claim for each row that is due to the journal. When the claim is on disk, and only then,
the firing is made: it is published, and an action begins in a task and a flight of its own.

Rules.
- What is claimed is never claimed again (see `Book`): a crash anywhere loses and doubles nothing.
- While the hub drains nothing is claimed; the next one finds it due.
- One `except Exception` for each firing. A row whose claim fails is left alone until the next start.
- While nothing is to come, nothing wakes up.
"""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

import trio

from apexbridge_trio.actions import Actions
from apexbridge_trio.clock import WallClock
from apexbridge_trio.errors import (
    ApexError,
    ClockWrong,
    Draining,
    Interrupted,
    StoreUnusable,
)
from apexbridge_trio.flights import Flight, Flights
from apexbridge_trio.identity import Principal, owner_of
from apexbridge_trio.journal import Entry, Journal
from apexbridge_trio.log import get_logger
from apexbridge_trio.reminders.book import Book, Claim, State
from apexbridge_trio.reminders.spans import Spans
from apexbridge_trio.store import Notice, ReminderRecord, ReminderRows, RunRecord, Store

# The wall clock may be set, or the machine may sleep: libraries.md §6.
LOOK_S: Final = 60.0
# After a fault of the store, and while there is no room.
AGAIN_S: Final = 1.0
# A step that the clock is put back is more than it drifts.
PUT_BACK_S: Final = 1.0
# Claims in one look, so that the journal's queue stays short; the rest is looked at next.
MOST_CLAIMED: Final = 64
# Actions at a time. Who is over it waits, unclaimed, and is late.
MOST_RUNNING: Final = 32
# Of those, of one tenant, so that none takes all of them: actions that hang do so for `chat.timeout_s`.
MOST_OF_TENANT: Final = 8

log = get_logger("reminders")


class Reminders:
    """The reminders of all tenants.

    Args:
        flights: The live tree.
        journal: The one writer.
        read: The loop's connection.
        written: The journal's connection.
        home: The zone of reminders that name none.
        now: Seconds since the epoch, by the clock on the wall.
        clock: Whether that may be gone by; None: it is not asked.

    Attributes:
        actions: What runs chats and tools; to be set before `run`.
        fired: Told of each firing, and whose it is, once that is on disk.
        owed: Told of each notice that is owed since just now, by its id.
    """

    actions: Actions

    def __init__(
        self,
        flights: Flights,
        journal: Journal,
        *,
        read: Store,
        written: Store,
        home: ZoneInfo,
        now: Callable[[], float] = time.time,
        clock: WallClock | None = None,
    ) -> None:
        self.rows = ReminderRows(read)
        self.home = home
        self.now = now
        self.fired: Callable[[Principal, dict[str, Any]], None] = lambda _owner, _event: None
        self.owed: Callable[[str], None] = lambda _notice_id: None
        self._flights = flights
        self._journal = journal
        self._book = Book(written, home, now)
        self._news = trio.Event()
        self._running: dict[str, RunRecord] = {}
        self._faulty: set[str] = set()
        self._turns: trio.Nursery | None = None
        self._seen = (now(), 0.0)
        self._clock = clock
        self._spans = Spans(clock, self._shift)
        # What is to come is reckoned anew at the start, once the clock can be gone by.
        self._is_held = True

    def __len__(self) -> int:
        return len(self._running)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fire what falls due, until cancelled; what is running then ends too, and is told at the next start.

        Started means: what a hub before this one left has been told.
        """
        await self._recover()
        self._seen = (self.now(), trio.current_time())
        try:
            async with trio.open_nursery() as self._turns:
                task_status.started()
                while True:
                    news = self._news
                    await self._sleep(await self._look(), news)
        finally:
            self._turns = None
            self._running.clear()

    async def _recover(self) -> None:
        try:
            for notice in await self._journal.post(self._book.recover).wait():
                self.owed(notice.id)
        except StoreUnusable as fault:
            log.error("what was left of reminders is told at the next start", reason=fault.message)

    async def add(self, record: ReminderRecord) -> None:
        """Set a reminder; it is on disk when this returns.

        Raises:
            ClockWrong: The clock shows a time that can not be; any time would be wrong.
            TooMany: The tenant has as many as it may.
            StoreUnusable: It could not be written.
        """
        if self._clock is not None and self._clock.look() == "impossible":
            raise ClockWrong("The hub's clock is wrong; set it, and then the reminder.", retry_after_s=LOOK_S)
        self._spans.add(record)
        try:
            await self._journal.post(partial(self._book.add, record), self._tell).wait()
        except ApexError:
            self._spans.drop(record.id)
            raise

    async def remove(self, reminder_id: str) -> bool:
        """Forget a reminder, on disk when this returns; False if it was not there.

        Raises:
            StoreUnusable: It could not be written.
        """
        self._spans.drop(reminder_id)
        return await self._journal.post(partial(self._book.remove, reminder_id), self._tell).wait()

    def move(self, home: ZoneInfo) -> None:
        """Have the home in another zone from now on; what names no zone of its own is reckoned anew."""
        self.home = self._book.home = home
        self._journal.post(self._book.reckon, self._tell, failed=self._unmoved)

    def _unmoved(self, fault: Exception) -> None:
        log.error("reminders stay at the times of the zone before", reason=str(fault))

    def _tell(self, _change: object) -> None:
        """Have the clock look again."""
        self._news.set()
        self._news = trio.Event()

    async def _sleep(self, seconds: float | None, news: trio.Event) -> None:
        """Wait for a time, or until something has changed; None: only for that."""
        # At least a millisecond: the two clocks differ by less, and looking again would not help.
        with trio.move_on_after(LOOK_S if seconds is None else max(seconds, 0.001)) as waiting:
            if seconds is None:
                waiting.deadline = float("inf")
            await news.wait()

    async def _look(self) -> float | None:
        """Claim what is due; returns the seconds until the next look."""
        if self._flights.is_draining:
            return LOOK_S
        if self._clock is not None and not self._clock.fires:
            self._is_held = True
            return LOOK_S
        try:
            self._spans.follow()
            if self._was_put_back() or self._is_held:
                await self._journal.post(self._book.reckon).wait()
                self._is_held = False
            is_moving = await self._claim_due()
            next_ms = self.rows.next_due()
        except ApexError as fault:
            log.error("reminders can not be looked at now", reason=fault.message)
            return AGAIN_S
        if next_ms is None:
            return None
        left = next_ms / 1000 - self.now()
        # What is due and was not claimed has no room, or is faulty.
        return min(max(left, 0.0), LOOK_S) if left > 0 or is_moving else AGAIN_S

    def _shift(self, ids: list[str], by_ms: int, failed: Callable[[Exception], None]) -> None:
        self._journal.post(partial(self._book.shift, ids, by_ms), self._tell, failed=failed)

    def _was_put_back(self) -> bool:
        wall, steady = self.now(), trio.current_time()
        moved = (wall - self._seen[0]) - (steady - self._seen[1])
        self._seen = (wall, steady)
        return moved < -PUT_BACK_S

    async def _claim_due(self) -> bool:
        """Claim what is due; False if there is nothing that can be claimed."""
        now_ms = int(self.now() * 1000)
        due = [*self.rows.due(now_ms, MOST_CLAIMED, acts=False), *self._with_room(now_ms)]
        entries = [self._claim(record) for record in due if record.id not in self._faulty]
        for entry in entries:
            await self._written(entry)
        return bool(entries)

    def _with_room(self, now_ms: int) -> list[ReminderRecord]:
        """Return what is due of actions, as far as there is room for it, and for its tenant."""
        running = Counter(run.tenant_id for run in self._running.values())
        full = [tenant for tenant, runs in running.items() if runs >= MOST_OF_TENANT]
        found = []
        for record in self.rows.due(now_ms, MOST_RUNNING - len(self._running), acts=True, but=full):
            running[record.tenant_id] += 1
            if running[record.tenant_id] <= MOST_OF_TENANT:
                found.append(record)
        return found

    def _claim(self, record: ReminderRecord) -> Entry[Claim | None]:
        assert record.next_ms is not None  # it is due
        is_busy = any(run.reminder_id == record.id for run in self._running.values())
        work = partial(self._book.claim, record.id, record.next_ms, is_busy=is_busy)
        return self._journal.post(work, self._fire, failed=partial(self._leave, record.id))

    async def _written(self, entry: Entry[Claim | None]) -> None:
        try:
            await entry.wait()
        except ApexError:
            raise
        except Exception:  # noqa: BLE001  # the boundary of one reminder: `_leave` has said why
            return

    def _leave(self, reminder_id: str, fault: Exception) -> None:
        if not isinstance(fault, ApexError):
            log.error("a reminder can not be fired", reminder=reminder_id, exc_info=fault)
            self._faulty.add(reminder_id)

    def _fire(self, claim: Claim | None) -> None:
        """Make a firing whose claim is on disk."""
        if claim is None:
            return
        self._spans.drop(claim.record.id)
        self.fired(_owner_of(claim.run), _event(claim))
        if claim.notice is not None:
            self.owed(claim.notice.id)
        elif self._turns is not None:
            self._running[claim.run.id] = claim.run
            self._turns.start_soon(self._run, claim.run, name=f"reminder {claim.run.id}")

    async def _run(self, run: RunRecord) -> None:
        try:
            flight = self._open(run)
        except Draining:
            self._journal.post(partial(self._book.release, run), failed=self._lose)
        else:
            state, message = await self._outcome(run, flight)
            log.info("a reminder's action has ended", run=run.id, kind=run.kind, state=state)
            self._journal.post(partial(self._book.end, run, state, message), self._note, failed=self._lose)
        self._running.pop(run.id, None)
        self._tell(run)

    def _open(self, run: RunRecord) -> Flight:
        owner, timeout_s = _owner_of(run), self.actions.timeout_s
        return self._flights.open_as(run.id, "reminder", owner, prefix="rem", timeout_s=timeout_s)

    async def _outcome(self, run: RunRecord, flight: Flight) -> tuple[State, str]:
        try:
            with flight:
                return "answered", await self.actions.run(run.kind, run.action, flight)
        except Interrupted as fault:
            return "interrupted", fault.message
        except ApexError as fault:
            return "failed", fault.message
        except Exception as fault:  # the boundary of a turn that nobody waits for
            log.error("a reminder's action failed", run=run.id, exc_info=fault)
            return "failed", "The hub failed; its log says how."

    def _note(self, notice: Notice | None) -> None:
        if notice is not None:
            self.owed(notice.id)

    def _lose(self, fault: Exception) -> None:
        log.error(
            "how a reminder's action has ended is not written; it is told at the next start",
            reason=str(fault),
        )


def _owner_of(run: RunRecord) -> Principal:
    # A reminder does what a chat may do for its owner, whatever else the key that set it can.
    return owner_of(run, frozenset({"chat"}))


def _event(claim: Claim) -> dict[str, Any]:
    run = claim.run
    return {
        "id": run.reminder_id,
        "runId": run.id,
        "text": run.text,
        "action": run.kind,
        "dueAt": run.due_ms,
        "late": run.is_late,
    }
