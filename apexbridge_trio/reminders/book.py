"""What becomes of a reminder: rules over its row, what it has begun, and the notices it owes.

Every method is one piece of the journal's work: it runs in a transaction, with no other writer.

==========  =====================================================================================
piece       what is on disk once it is
==========  =====================================================================================
claim       when it fires next; and its notice, or that its action begins
end         that the action has ended, and the notice that says how
release     that the action did not begin after all: it is due again
recover     a notice for each action that had begun and not ended when the hub was gone
==========  =====================================================================================

So each time that a reminder is due is claimed once. What only tells has told when it is claimed; a
chat or a tool begins at most once, and however it ends, exactly one notice bears the run's id (but
for a tool that succeeds, which owes none).

When it fires next is reckoned from the later of now and the time for which it last fired. So a clock
that is put forward, fires, and is put back has fired for the one time it claimed, and for those between
once it comes to them. A time that was claimed more than a day before it comes was claimed by a wrong
clock, and counts no more: else one day with a clock in the next year left a year without reminders.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from apexbridge_trio.errors import BadRequest, TooMany
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.schedule import Cron, read_zone
from apexbridge_trio.store import Notice, ReminderRecord, ReminderRows, RunRecord, Store, Tasks

# Of one tenant, still to come; as many that have ended can be looked at for a week.
MOST_KEPT: Final = 500
KEEP_MS: Final = 7 * 86_400_000
# Of one reminder, the newest notices that nobody took; a cron line of every minute makes so many in 100.
MOST_OWED: Final = 100
# Of all of one tenant; who comes is shown no more. Every look at what is owed reads all of it.
MOST_OWED_OF_TENANT: Final = 1000
# The clock is looked at once a minute at least: what is later than two was missed.
LATE_MS: Final = 120_000
# As far as a clock may be put back, and nothing is told twice.
WRONG_MS: Final = 86_400_000

State = Literal["due", "answered", "failed", "interrupted", "unknown", "skipped"]


class Claim(Struct, frozen=True):
    """A firing that is this hub's to make, once it is on disk.

    Attributes:
        record: The reminder, as it was when it fell due.
        notice: What its owner is told already; None: its action is to begin.
    """

    record: ReminderRecord
    run: RunRecord
    notice: Notice | None


class Book:
    """The rules.

    Args:
        store: The journal's connection.
        home: The zone of reminders that name none.
        now: Seconds since the epoch.
    """

    def __init__(self, store: Store, home: ZoneInfo, now: Callable[[], float]) -> None:
        self._rows = ReminderRows(store)
        self._tasks = Tasks(store)
        self.home = home
        self._now = now

    def add(self, record: ReminderRecord) -> ReminderRecord:
        """Set a reminder.

        Raises:
            TooMany: The tenant has as many as it may.
        """
        now_ms = self._now_ms()
        self._rows.forget_ended(record.tenant_id, now_ms - KEEP_MS, MOST_KEPT)
        if self._rows.count(record.tenant_id) >= MOST_KEPT:
            raise TooMany(f"There are {MOST_KEPT} reminders already; remove some.", code="too_many_reminders")
        self._rows.save(record)
        return record

    def remove(self, reminder_id: str) -> bool:
        """Forget a reminder; False if it was not there. What it has begun goes on."""
        is_there = self._rows.find(reminder_id) is not None
        self._rows.delete(reminder_id)
        return is_there

    def claim(self, reminder_id: str, due_ms: int, *, is_busy: bool) -> Claim | None:
        """Claim the firing for one time; None if it was claimed, removed or is to be skipped.

        Args:
            reminder_id: Which one.
            due_ms: The time it is for, as its row had it.
            is_busy: What it began the last time goes on: this firing is only told.
        """
        record = self._rows.find(reminder_id)
        if record is None or record.next_ms != due_ms:
            return None
        is_late = self._now_ms() - due_ms > LATE_MS
        if is_late and record.missed == "skip":
            self._rows.save(self._advanced(record))
            return None
        self._rows.save(self._advanced(replace(record, last_ms=due_ms, fired=record.fired + 1)))
        run = _run_of(record, due_ms, is_late=is_late)
        if due_ms <= (record.last_ms or 0):
            self._tasks.settle_notice(run.id)  # of a wrong clock; it is not what this firing owes
        return Claim(record, run, self._begun(run, is_busy=is_busy))

    def end(self, run: RunRecord, state: State, message: str) -> Notice | None:
        """Record how a run has ended, with the notice for its owner; an empty message owes none."""
        self._rows.end(run.id)
        return self._owe(run, state, message) if message else None

    def release(self, run: RunRecord) -> None:
        """Take back a claim whose action did not begin: it is due again."""
        self._rows.end(run.id)
        record = self._rows.find(run.reminder_id)
        if record is not None and record.last_ms == run.due_ms:
            again = replace(
                record, next_ms=run.due_ms, last_ms=run.due_ms - 1, fired=record.fired - 1, ended_ms=None
            )
            self._rows.save(again)

    def recover(self) -> list[Notice]:
        """Tell of what had begun when the hub was gone; at the start of the hub."""
        message = (
            "The hub ended while this ran; it may have run, in part or as a whole, and is not run again."
        )
        notices = [self.end(run, "unknown", message) for run in self._rows.runs()]
        return [notice for notice in notices if notice is not None]

    def reckon(self) -> None:
        """Reckon anew what is to come: the clock, the home's zone or the rules of zones have changed."""
        for record in self._rows.recurring(self._now_ms()):
            reckoned = self._advanced(record)
            # Of a zone that this machine knows no more, what was reckoned before is better than nothing.
            if reckoned.next_ms is not None:
                self._rows.save(reckoned)

    def shift(self, ids: Sequence[str], by_ms: int) -> None:
        """Have what is due in a while due when that has passed: the clock was set by so much."""
        self._rows.shift(ids, by_ms)

    def _advanced(self, record: ReminderRecord) -> ReminderRecord:
        """Return a reminder that waits for its next time, or has ended."""
        now_ms = self._now_ms()
        last_ms = record.last_ms or 0
        after_ms = now_ms if last_ms > now_ms + WRONG_MS else max(now_ms, last_ms)
        next_ms = self._next(record.cron, record.timezone, after_ms) if record.cron else None
        return replace(record, next_ms=next_ms, ended_ms=now_ms if next_ms is None else None)

    def _next(self, line: str, timezone: str, after_ms: int) -> int | None:
        try:
            zone = read_zone(timezone) if timezone else self.home
            due = Cron.read(line).next_after(after_ms / 1000, zone)
        except BadRequest:
            return None  # a zone that this machine knows no more; it has fired for the last time
        return None if due is None else int(due * 1000)

    def _begun(self, run: RunRecord, *, is_busy: bool) -> Notice | None:
        if run.kind == "notify":
            return self._owe(run, "due", run.text)
        if is_busy:
            return self._owe(
                run, "skipped", "It was still running from the last time, and was not begun again."
            )
        self._rows.begin(run)
        return None

    def _owe(self, run: RunRecord, state: State, message: str) -> Notice:
        said: dict[str, Any] = {
            "reminderId": run.reminder_id,
            "message": message,
            "state": state,
            "dueAt": run.due_ms,
            "late": run.is_late,
        }
        if state == "due":  # the firing itself: it says what that of a chat or a tool does
            said |= {"text": run.text, "action": run.kind}
        level = "info" if state in {"due", "answered", "interrupted"} else "warning"
        owner = (run.principal_id, run.tenant_id, run.family_id)
        body = encode(said).decode()
        notice = Notice(run.id, *owner, level, body, self._now_ms(), "reminder", title=_title(run))
        self._tasks.owe(notice)
        self._tasks.settle_older(f"{run.reminder_id}-", run.tenant_id, MOST_OWED)
        self._tasks.forget_unread(run.tenant_id, "reminder", MOST_OWED_OF_TENANT)
        return notice

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


def _run_of(record: ReminderRecord, due_ms: int, *, is_late: bool) -> RunRecord:
    return RunRecord(
        # Milliseconds of thirteen digits until the year 2286: the ids sort as the times do.
        id=f"{record.id}-{due_ms}",
        reminder_id=record.id,
        due_ms=due_ms,
        principal_id=record.principal_id,
        tenant_id=record.tenant_id,
        family_id=record.family_id,
        text=record.text,
        kind=record.kind,
        action=record.action,
        is_late=is_late,
    )


def _title(run: RunRecord) -> str:
    """Return what stands above the message: the reminder's text, where the message is another one."""
    if run.kind != "notify":
        return run.text
    title: str | None = msgspec.json.decode(run.action).get("title")
    return title or ""
