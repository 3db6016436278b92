"""One state directory, and hubs' reminders on it, one after the other, on a clock that can be set."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import trio

from apexbridge_trio.actions import Actions
from apexbridge_trio.clock import WallClock
from apexbridge_trio.config import Chat
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.journal import Journal
from apexbridge_trio.reminders import OwnReminders, Reminders
from apexbridge_trio.reminders.wanted import read_wanted
from apexbridge_trio.store import ReminderRows, Store, Tasks

BERLIN = ZoneInfo("Europe/Berlin")
ANNE = Principal("anne", "home", None, frozenset({"chat"}))
START = datetime(2026, 11, 22, 8, 0, tzinfo=BERLIN).timestamp()


class Clock:
    """A clock on the wall: it goes with Trio's, until somebody sets it."""

    def __init__(self, start: float = START) -> None:
        self.start = start
        self._zero: float | None = None

    def __call__(self) -> float:
        if self._zero is None:
            self._zero = trio.current_time()
        return self.start + trio.current_time() - self._zero

    def put(self, seconds: float) -> None:
        """Set it forward, or back."""
        self.start += seconds

    def at(self, text: str) -> float:
        return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


class FakeActions(Actions):
    """Actions that note what they were asked, and end as `ends` says."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.ends: Any = "The answer."
        self.news = trio.Event()

    timeout_s = Chat().timeout_s

    def check(self, kind: Any, action: Any, owner: Any) -> None:
        """Any tool will do."""

    async def run(self, kind: Any, action: Any, flight: Any) -> str:
        self.ran.append(flight.name)
        self.news.set()
        self.news = trio.Event()
        await trio.lowlevel.checkpoint()
        if self.ends is None:
            await trio.sleep_forever()
        if isinstance(self.ends, Exception):
            raise self.ends
        return str(self.ends)


@dataclass
class Place:
    """What outlives a hub."""

    state: Path
    clock: Clock = field(default_factory=Clock)
    actions: FakeActions = field(default_factory=FakeActions)
    events: list[dict[str, Any]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    store_type: type[Store] = Store
    takes: bool = False
    is_lasting: bool = True
    doubts: bool = False
    flights: Flights = field(default_factory=Flights)

    @asynccontextmanager
    async def hub(self, *, runs: bool = True) -> AsyncIterator[Reminders]:
        """Open the rooms that reminders need; the journal writes at once, as in `open_world`."""
        with Store(self.state) as read, self.store_type(self.state) as written:
            if not self.is_lasting:  # a power cut is not what this test is about
                written.execute("PRAGMA synchronous = OFF")
            flights = self.flights = Flights()
            newest = read.newest_ms() / 1000
            clock = WallClock(self.clock, trio.current_time, newest) if self.doubts else None
            reminders = Reminders(
                flights,
                Journal(written),
                read=read,
                written=written,
                home=BERLIN,
                now=self.clock,
                clock=clock,
            )
            reminders.actions = self.actions
            reminders.fired = lambda _owner, event: self.events.append(event)
            self._tasks = Tasks(written)
            reminders.owed = self._take
            async with trio.open_nursery() as nursery:
                if runs:
                    await nursery.start(reminders.run)
                yield reminders
                nursery.cancel_scope.cancel(reason="the hub ends")

    def _take(self, notice_id: str) -> None:
        self.told.append(notice_id)
        if self.takes:
            self._tasks.settle_notice(notice_id)

    async def add(self, reminders: Reminders, text: str, /, owner: Principal = ANNE, **wanted: Any) -> Any:
        body = json.dumps({"text": text, **wanted}).encode()
        return await OwnReminders(reminders, owner).add(read_wanted(body))

    def owed(self) -> list[tuple[str, str, str]]:
        """What is owed on disk: state, title and message."""
        with Store(self.state) as store:
            owed = [(notice.title, json.loads(notice.body)) for notice in Tasks(store).notices()]
        return [(body["state"], title, body["message"]) for title, body in owed]

    def runs(self) -> int:
        with Store(self.state) as store:
            return len(ReminderRows(store).runs())

    def fired(self) -> list[str]:
        """When what was published was due, as Berlin's clock shows it."""
        return [
            datetime.fromtimestamp(data["dueAt"] / 1000, BERLIN).strftime("%m-%d %H:%M:%S")
            for data in self.events
        ]
