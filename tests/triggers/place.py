"""One state directory, and hubs' triggers on it, one after the other."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from apexbridge_trio.actions import Actions
from apexbridge_trio.clock import WallClock
from apexbridge_trio.config import Chat, Trigger
from apexbridge_trio.events import Events
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.journal import Journal
from apexbridge_trio.notices import Notices
from apexbridge_trio.store import FiringRows, NodeRecord, NodeRows, Store, Tasks
from apexbridge_trio.triggers import Triggers, Webhooks
from apexbridge_trio.triggers.webhook import Answer

ANNE = Principal("anne", "default", None, frozenset({"chat"}))


class Wall:
    """A clock on the wall: seconds since the epoch, that go with Trio's."""

    def __init__(self, start: float = 1_780_000_000.0) -> None:
        self.start = start
        self._zero: float | None = None

    def __call__(self) -> float:
        if self._zero is None:
            self._zero = trio.current_time()
        return self.start + trio.current_time() - self._zero

    def put(self, seconds: float) -> None:
        """Set it forward, or back."""
        self.start += seconds


class FakeActions(Actions):
    """Actions that note what they were asked."""

    def __init__(self) -> None:
        self.config = Chat()
        self.ran: list[str] = []
        self.holds = False

    async def run(self, kind: Any, action: Any, flight: Any) -> str:
        self.ran.append(flight.name)
        await trio.lowlevel.checkpoint()
        if self.holds:
            await trio.sleep_forever()
        return "done"


class FakeWebhooks(Webhooks):
    """Another side that notes what it took."""

    def __init__(self) -> None:
        self.took: list[str] = []
        self.sent: list[str] = []
        self.is_up = True
        self.holds = False

    async def send(self, trigger: Any, message_id: str, body: Any, now: float) -> Answer:
        self.sent.append(message_id)
        await trio.lowlevel.checkpoint()
        if self.holds:
            await trio.sleep_forever()
        if not self.is_up:
            return Answer("again", "it is away")
        self.took.append(message_id)
        await trio.lowlevel.checkpoint()
        return Answer("taken")


@dataclass
class Place:
    """What outlives a hub."""

    state: Path
    triggers: list[Trigger]
    clock: Wall = field(default_factory=Wall)
    actions: FakeActions = field(default_factory=FakeActions)
    webhooks: FakeWebhooks = field(default_factory=FakeWebhooks)
    store_type: type[Store] = Store
    doubts: bool = False
    # How nodes stand that are here, and since when.
    here: dict[str, tuple[str, int | None]] = field(default_factory=dict)

    @asynccontextmanager
    async def hub(self) -> AsyncIterator["Rooms"]:
        """Open the rooms that triggers need; the journal writes at once, as in `open_world`."""
        self.here.clear()
        with Store(self.state) as read, self.store_type(self.state) as written:
            events, journal, flights = Events(), Journal(written), Flights()
            notices = Notices(read, written, journal, events)
            triggers = Triggers(
                self.triggers,
                flights,
                journal,
                read=read,
                written=written,
                notices=notices,
                nodes=lambda: self.told(read),
                now=self.clock,
            )
            events.listen(triggers.hearing.listener)
            if self.doubts:
                triggers.firings.clock = WallClock(self.clock, trio.current_time, 0.0)
            triggers.firings.actions, triggers.firings.webhooks = self.actions, self.webhooks
            async with trio.open_nursery() as nursery:
                await nursery.start(triggers.run)
                yield Rooms(events, notices, triggers, flights, journal, written)
                nursery.cancel_scope.cancel(reason="the hub ends")

    def told(self, read: Store) -> Iterator[tuple[NodeRecord, str, int | None]]:
        """Yield the nodes, and how they stand, as the nodes' room does."""
        for record in NodeRows(read).nodes():
            yield record, *self.here.get(record.id, ("offline", None))

    def owed(self) -> list[str]:
        """What is owed on disk."""
        with Store(self.state) as store:
            return [json.loads(notice.body)["message"] for notice in Tasks(store).notices()]

    def rows(self) -> int:
        with Store(self.state) as store:
            return FiringRows(store).count()


@dataclass
class Rooms:
    """One hub's."""

    events: Events
    notices: Notices
    triggers: Triggers
    flights: Flights
    journal: Journal
    written: Store

    def write(self, work: Callable[[Store], None], kind: Any, owner: Principal, data: Any) -> None:
        """Have something written, and told once it is on disk."""

        def told(_: None) -> None:
            self.events.publish(kind, owner, data)

        self.journal.post(partial(work, self.written), told)

    def lose(self, task: str) -> None:
        """Have a task lost."""
        said = {"taskId": task, "toolName": "echo", "state": "lost", "nodeId": "attic"}
        self.events.publish("task.status", ANNE, said)
