"""What keys, and their nodes, have used of their day's tokens, kept so that a restart is no new day.

A chat that only relays writes nothing to the disk. So what it used is noted in memory, and a task of its
own writes the notes: at once when the first one comes, then what has come every few seconds, and the rest
when the hub ends. A hub that is killed forgets the tokens of the last `WRITE_EVERY_S` seconds, in favour of
who used them.

A day is 24 hours from its first token, so it has no zone, and summer time does not move it. While the hub
runs it goes by elapsed time; its end is on disk as the clock on the wall shows it. That clock may be set:

==============================  =====================================================================
the clock                       what becomes of a day
==============================  =====================================================================
is set while it was believed    it lasts as long as it would have: its end on disk is set along
was not believed at the start   a day of an earlier hub lasts for 24 h at most; when the clock is
                                right, until when it would have
says that a day has years left  it has 24 h
was set while no hub ran        the clock is taken at its word: put forward, days are over; put back,
                                they last for 24 h at most
==============================  =====================================================================
"""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final

import trio
from msgspec import Struct

from apexbridge_trio.clock import WallClock
from apexbridge_trio.journal import Journal
from apexbridge_trio.limits import DAY_S, Allowance
from apexbridge_trio.store import AllowanceKind, AllowanceRecord, AllowanceRows, Store

WRITE_EVERY_S: Final = 5.0
# While a day goes on: the wall clock may be set, or the machine may sleep.
LOOK_S: Final = 60.0
# A step that the clock is set by is more than it drifts in between.
SET_S: Final = 1.0
# What a row can hold, and more than any day has.
_MOST_USED: Final = 2**53

Name = tuple[AllowanceKind, str]


class Day(Struct):
    """One day that goes on.

    Attributes:
        allowance: Where it is counted.
        until: Its end as the allowance has it; another one there is another day.
        ends_s: The same on the wall, seconds since the epoch.
        is_read: It is of an earlier hub, and the clock has not been believed since.
    """

    allowance: Allowance
    until: float
    ends_s: float
    is_read: bool = False


class DayBook:
    """The days of all keys whose tokens are limited, their own and those of their nodes.

    Args:
        journal: The one writer.
        read: The loop's connection.
        written: The journal's.
        clock: The one on the wall.
    """

    def __init__(self, journal: Journal, *, read: Store, written: Store, clock: WallClock) -> None:
        self._journal = journal
        self._found = AllowanceRows(read).all()
        self._rows = AllowanceRows(written)
        self._clock = clock
        self._is_believed, self._set_by_s = clock.fires, clock.set_by_s
        # Two for each key that has a limit and has used something today.
        self._days: dict[Name, Day] = {}
        self._dirty: set[Name] = set()
        self._news = trio.Event()
        self._is_running = False

    def __len__(self) -> int:
        """Days that go on."""
        return len(self._days)

    def restore(self, kind: AllowanceKind, find: Callable[[str], Allowance]) -> None:
        """Go on with the days of an earlier hub.

        Args:
            kind: Of what.
            find: Returns where one is counted, by its key's id.
        """
        wall, now = self._clock.now(), trio.current_time()
        for record in self._found:
            if record.kind != kind or record.until_ms <= wall * 1000:
                continue
            allowance = find(record.id)
            day = Day(allowance, 0.0, record.until_ms / 1000, is_read=True)
            self._days[kind, record.id] = day
            allowance.used = record.used
            self._follow((kind, record.id), day, wall, now)

    def note(self, kind: AllowanceKind, name: str, allowance: Allowance) -> None:
        """Take note that something was used; it is written by `run`, or now where that is not there."""
        day = self._days.get((kind, name))
        if day is None or day.allowance is not allowance or day.until != allowance.until:
            ends_s = self._clock.now() + allowance.until - trio.current_time()
            self._days[kind, name] = Day(allowance, allowance.until, ends_s)
        self._dirty.add((kind, name))
        self._news.set()
        if not self._is_running:
            self.write()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what was used, until cancelled; the rest is then handed to the journal."""
        self._is_running = True
        task_status.started()
        try:
            while True:
                with trio.move_on_after(LOOK_S if self._days else inf):
                    await self._news.wait()
                self._news = trio.Event()
                self.look()
                self.write()
                await trio.sleep(WRITE_EVERY_S)
        finally:
            self._is_running = False
            self.write()

    def look(self) -> None:
        """Follow the clock on the wall, and let go of the days that are over."""
        was_believed, self._is_believed = self._is_believed, self._clock.fires
        was_s, self._set_by_s = self._set_by_s, self._clock.set_by_s
        moved_s = self._set_by_s - was_s if abs(self._set_by_s - was_s) > SET_S else 0.0
        wall, now = self._clock.now(), trio.current_time()
        for name, day in list(self._days.items()):
            if moved_s and (was_believed or not day.is_read):
                day.ends_s += moved_s
                self._dirty.add(name)
            self._follow(name, day, wall, now)
            if day.until <= now:
                del self._days[name]
                self._dirty.discard(name)

    def write(self) -> None:
        """Hand what has changed to the journal; what the disk does not take is written the next time."""
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, set()
        records = [_record(name, self._days[name]) for name in dirty]
        over_ms = int(self._clock.now() * 1000) if self._clock.forgets else None
        self._journal.post(
            partial(self._save, records, over_ms),
            failed=lambda _: self._dirty.update(dirty & set(self._days)),
        )

    def _save(self, records: list[AllowanceRecord], over_ms: int | None) -> None:
        self._rows.save(records)
        if over_ms is not None:
            self._rows.forget_over(over_ms)

    def _follow(self, name: Name, day: Day, wall: float, now: float) -> None:
        """Have a day end when the wall says so, and never later than a day from now."""
        left_s = day.ends_s - wall
        if left_s > DAY_S and self._is_believed:
            day.ends_s = wall + DAY_S
            self._dirty.add(name)
        day.is_read = day.is_read and not self._is_believed
        day.until = day.allowance.until = now + min(left_s, DAY_S)


def _record(name: Name, day: Day) -> AllowanceRecord:
    return AllowanceRecord(*name, min(day.allowance.used, _MOST_USED), int(day.ends_s * 1000))
