"""What triggers do that takes a while, from the row that says so to its end.

==========  ====================================================================================
piece       what is on disk once it is
==========  ====================================================================================
add         that it is to be done
begin       that a tool or a chat begins: it is not begun again
again       that a webhook was not taken, and when it is sent the next time
end         that it has ended, and the notice that its tenant is owed, if any
==========  ====================================================================================
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

import trio
from msgspec import Struct

from apexbridge_trio.actions import Actions
from apexbridge_trio.clock import WallClock
from apexbridge_trio.config import Trigger
from apexbridge_trio.errors import (
    ApexError,
    DeadlinePassed,
    Draining,
    Interrupted,
    StoreUnusable,
)
from apexbridge_trio.flights import Flight, Flights
from apexbridge_trio.identity import owner_of
from apexbridge_trio.journal import Journal
from apexbridge_trio.log import get_logger
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.store import FiringRecord, FiringRows, Notice, Store, Tasks, WatchRows
from apexbridge_trio.triggers.armed import Armed, mark_of
from apexbridge_trio.triggers.step import Step
from apexbridge_trio.triggers.webhook import MOST_PATIENCE_S, Webhooks, pause_s

# At a time, of all triggers; of one tenant; and of one trigger. Who is over it waits as a row: other sides
# that hang must not hold up those of others.
MOST_RUNNING: Final = 16
MOST_OF_TENANT: Final = 8
MOST_OF_TRIGGER: Final = 4
# Rows of one trigger; what is over it is left out, and logged. Who is hurt: who reads what it tells. A
# webhook whose other side is away keeps 60 rows an hour, for the 18 hours until it is given up.
MOST_WAITING: Final = 1100
# Of one tenant, the newest notices of how its firings have ended that nobody took.
MOST_OWED: Final = 500
# What the ids of firings begin with, and of those notices.
_KIND: Final = "trg_"
# The wall clock may be set, or the machine may sleep.
LOOK_S: Final = 60.0
# Nothing is ever put off for longer: what is due after it was written by a clock that has been put back.
FAR_S: Final = 2 * MOST_PATIENCE_S
# After a fault of the store.
AGAIN_S: Final = 1.0

log = get_logger("triggers")


class End(Struct, frozen=True):
    """How an attempt has ended.

    Attributes:
        message: What the tenant is told; empty: nothing.
        again_ms: When it is tried again; None: it has ended.
        off: The trigger that is off from now on, also over restarts.
        reason: Why it is.
    """

    state: Literal["done", "failed", "interrupted", "waits", "left"]
    message: str = ""
    again_ms: int | None = None
    off: Trigger | None = None
    reason: str = ""


class Firings:
    """The rows, and the tasks that work them off.

    Args:
        flights: The live tree.
        journal: The one writer.
        read: The loop's connection.
        written: The journal's connection.
        find: Finds a trigger by its name; None: it is not in the config any more.
        notified: Told of each notice that is owed since just now, by its id.
        now: Seconds since the epoch.

    Attributes:
        actions: What runs chats and tools; to be set before `run`.
        clock: Whether that time is to be believed; None: it is.
        webhooks: What sends.
    """

    actions: Actions

    def __init__(
        self,
        flights: Flights,
        journal: Journal,
        *,
        read: Store,
        written: Store,
        find: Callable[[str], Armed | None],
        notified: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.clock: WallClock | None = None
        self.rows = FiringRows(read)
        self.webhooks = Webhooks()
        self._written = FiringRows(written)
        self._watched = WatchRows(written)
        self._notices = Tasks(written)
        self._flights = flights
        self._journal = journal
        self._find = find
        self._notified = notified
        self._now = now
        self._running: dict[str, FiringRecord] = {}
        self._faulty: set[str] = set()
        self._news = trio.Event()
        self._jitter = random.uniform

    def __len__(self) -> int:
        return len(self._running)

    def add(self, record: FiringRecord, step: Step, failed: Callable[[Exception], None]) -> None:
        """Have something done, once that is on disk; or have it said that it can not be written."""
        step.add(partial(self._written.add, record), self.tell, failed)

    def tell(self, _change: object = None) -> None:
        """Have the rows looked at again."""
        self._news.set()
        self._news = trio.Event()

    async def news(self) -> None:
        """Wait until the rows are to be looked at again."""
        await self._news.wait()

    async def recover(self) -> None:
        """Tell of what had begun when the hub was gone; a webhook is just due again."""
        try:
            notices = await self._journal.post(self._recover).wait()
        except StoreUnusable as fault:
            log.error("what was left of triggers is told at the next start", reason=fault.message)
            return
        for notice in notices:
            self._notified(notice.id)

    def _recover(self) -> list[Notice]:
        said = "The hub ended while this ran; it may have run, in part or as a whole, and is not run again."
        end = End("failed", said)
        notices = [self._notice(record, end) for record in self._written.begun()]
        for notice in notices:
            self._write_end(notice.id, notice, end)
        return notices

    def begin_due(self, nursery: trio.Nursery) -> float | None:
        """Begin what is due, as far as there is room; returns the seconds until the next look.

        None: there is nothing to look for until `news`.
        """
        now_ms = int(self._now() * 1000)
        # With a clock that is behind it may well be that later is right; other sides refuse its signatures.
        is_believed = self.clock is None or self.clock.fires
        far_ms = now_ms + int(FAR_S * 1000) if is_believed else None
        while (record := self._next(now_ms, far_ms)) is not None:
            self._running[record.id] = record
            nursery.start_soon(self._run, record, name=f"trigger {record.id}")
        next_ms = self.rows.next_due(now_ms)
        return None if next_ms is None else min(max(next_ms / 1000 - self._now(), 0.001), LOOK_S)

    def _next(self, now_ms: int, far_ms: int | None) -> FiringRecord | None:
        """Return what may begin now, the oldest first."""
        if len(self._running) >= MOST_RUNNING or self._flights.is_draining:
            return None
        running = self._running.values()
        triggers = Counter(record.trigger for record in running)
        tenants = Counter(record.tenant_id for record in running)
        known = self._running.keys() | self._faulty
        due = self.rows.due(
            now_ms,
            1 + len(known),
            far_ms=far_ms,
            but=[name for name, number in triggers.items() if number >= MOST_OF_TRIGGER],
            of=[name for name, number in tenants.items() if number >= MOST_OF_TENANT],
        )
        return next((record for record in due if record.id not in known), None)

    async def _run(self, record: FiringRecord) -> None:
        """Make one attempt, and write how it has ended."""
        end = await self._boxed(record)
        log.info(
            "a trigger's action", trigger=record.trigger, id=record.id, kind=record.kind, state=end.state
        )
        if end.again_ms is not None:
            now_ms = int(self._now() * 1000)
            self._post(record, partial(self._written.again, record.id, now_ms, end.again_ms))
        elif end.state != "left":
            notice = self._notice(record, end) if end.message else None
            self._post(record, partial(self._write_end, record.id, notice, end), notice)
        else:
            del self._running[record.id]
            self.tell()

    def _post(self, record: FiringRecord, work: Callable[[], None], notice: Notice | None = None) -> None:
        """Write an end; only then the row may be looked at again."""

        def after(_: None) -> None:
            del self._running[record.id]
            if notice is not None:
                self._notified(notice.id)
            self.tell()

        def failed(fault: Exception) -> None:
            # It stands as begun, so the next start tells of it; it is not begun again before.
            self._faulty.add(record.id)
            del self._running[record.id]
            self._lose(fault)

        self._journal.post(work, after, failed=failed)

    async def _boxed(self, record: FiringRecord) -> End:
        armed = self._find(record.trigger)
        if armed is None or not _is_of(armed.trigger, record):
            return End("failed", "It was taken out of the config before this was done.")
        if armed.disabled:
            return End("failed")
        try:
            return await self._attempt(record, armed)
        except (Draining, StoreUnusable):
            # What could not be noted has not begun; not at once again, for the disk's sake.
            await trio.sleep(AGAIN_S)
            return End("left")
        except Exception as fault:  # the boundary of one firing
            log.error("a trigger's action failed", trigger=record.trigger, id=record.id, exc_info=fault)
            armed.failed += 1
            return End("failed", "The hub failed; its log says how.")

    async def _attempt(self, record: FiringRecord, armed: Armed) -> End:
        flight = self._open(record, armed.trigger.timeout_s)
        try:
            with flight:
                if record.kind == "webhook":
                    return await self._send(record, armed)
                return await self._act(record, flight)
        except Interrupted as fault:
            is_kept = record.kind == "webhook" and self._flights.is_draining
            return End("left") if is_kept else End("interrupted", fault.message)
        except DeadlinePassed as fault:
            if record.kind == "webhook":
                return self._again(record, armed, fault.message, 0.0)
            armed.failed += 1
            return End("failed", fault.message)
        except StoreUnusable:
            raise
        except ApexError as fault:
            armed.failed += 1
            return End("failed", fault.message)

    def _open(self, record: FiringRecord, timeout_s: float) -> Flight:
        owner = owner_of(record, frozenset({"chat"}))
        return self._flights.open_as(record.id, "trigger", owner, prefix="trg", timeout_s=timeout_s)

    async def _act(self, record: FiringRecord, flight: Flight) -> End:
        await self._journal.post(partial(self._written.begin, record.id)).wait()
        return End("done", await self.actions.run(record.kind, record.action, flight))

    async def _send(self, record: FiringRecord, armed: Armed) -> End:
        asked = armed.trigger
        answer = await self.webhooks.send(asked, record.id, record.action.encode("utf-8"), self._now())
        if answer.word == "taken":
            return End("done")
        if answer.word == "again":
            return self._again(record, armed, answer.reason, answer.wait_s)
        armed.failed += 1
        if answer.word == "gone":
            return self._switch_off(armed, asked, f"{answer.reason}: it wants no more webhooks")
        return End("failed", f"The webhook was given up: {answer.reason}.")

    def _switch_off(self, armed: Armed, asked: Trigger, reason: str) -> End:
        if not armed.is_still(asked):
            return End("failed", f"{reason}. The trigger was changed since, and stays on.")
        armed.disabled = reason
        said = f"{reason}. The trigger is off until it is changed, or tried out."
        return End("failed", said, off=asked, reason=reason)

    def _again(self, record: FiringRecord, armed: Armed, reason: str, wait_s: float) -> End:
        wait = pause_s(record.attempts + 1, wait_s, self._jitter)
        if wait is None:
            armed.failed += 1
            return End("failed", f"The webhook was given up after {record.attempts + 1} attempts: {reason}.")
        log.warning("a webhook was not taken", trigger=record.trigger, reason=reason, retry_in_s=round(wait))
        return End("waits", again_ms=int((self._now() + wait) * 1000))

    def _write_end(self, firing_id: str, notice: Notice | None, end: End) -> None:
        self._written.end(firing_id)
        if end.off is not None:
            now_ms = int(self._now() * 1000)
            self._watched.switch_off(end.off.name, mark_of(end.off), end.reason, now_ms)
        if notice is not None:
            self._notices.owe(notice)
            self._notices.settle_older(_KIND, notice.tenant_id, MOST_OWED)

    def _notice(self, record: FiringRecord, end: End) -> Notice:
        said = {"trigger": record.trigger, "message": end.message, "state": end.state}
        level = "info" if end.state in {"done", "interrupted"} else "warning"
        owner = (record.principal_id, record.tenant_id, record.family_id)
        now_ms = int(self._now() * 1000)
        return Notice(record.id, *owner, level, encode(said).decode(), now_ms, title=record.trigger)

    def _lose(self, fault: Exception) -> None:
        log.error("what a trigger does is not written", reason=str(fault))


def _is_of(trigger: Trigger, record: FiringRecord) -> bool:
    """Tell whether the trigger of that name is still one that would have made this firing.

    A config may give the name to another one: what a tenant had coming goes to nobody else.
    """
    return (trigger.do, trigger.tenant, trigger.family or None) == (
        record.kind,
        record.tenant_id,
        record.family_id,
    )
