"""Who is told: publish and subscribe, all of it synchronous."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from apexbridge_trio.errors import BadRequest, Draining
from apexbridge_trio.events.event import KINDS, Event, Kind, write_frame
from apexbridge_trio.events.history import Bounds, History
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.protocol.openai import encode

Post = Callable[[Event], bool]


class Subscription:
    """One reader of one tenant's events, from `Events.subscribe` until it is closed or cut.

    It sees what is of its family; without one, all of its tenant. An administrator is no exception.

    Attributes:
        kinds: What it wants to be told; may be changed at any time.
    """

    def __init__(
        self,
        events: "Events",
        reader: Principal,
        post: Post,
        kinds: frozenset[Kind],
        on_close: Callable[[], None] | None,
    ) -> None:
        self._events = events
        self.tenant_id = reader.tenant_id
        self._family_id = reader.family_id
        self.post = post
        self.kinds = kinds
        self.on_close = on_close

    def sees(self, event: Event) -> bool:
        """Tell whether an event of its tenant is for it."""
        return event.kind in self.kinds and (self._family_id is None or self._family_id == event.family_id)

    @property
    def seq(self) -> int:
        """The number of the last event of the tenant."""
        return self._events.history(self.tenant_id).seq

    def missed(self, epoch: str, seq: int) -> list[Event] | None:
        """Return what came after a position; None: that can not be said in full."""
        found = self._events.history(self.tenant_id).after(seq) if epoch == self._events.epoch else None
        return None if found is None else [event for event in found if self.sees(event)]

    def running(self) -> list[Event]:
        """Return what was told so far of the chats that are being answered."""
        return [event for event in self._events.history(self.tenant_id).running() if self.sees(event)]

    def kept(self) -> list[Event]:
        """Return all that is still kept."""
        return [event for event in self._events.history(self.tenant_id).kept() if self.sees(event)]

    def close(self) -> None:
        """Hear nothing more; a second time does nothing."""
        self._events.leave(self)


class Listener:
    """The hub's own ear: it hears of all tenants, in the very step in which something happens.

    Attributes:
        kinds: What it hears; may be changed at any time.
        hear: Called with the kind, whose it is, and the data. It neither waits nor raises.
    """

    def __init__(self, hear: Callable[[Kind, Principal, Any], None]) -> None:
        self.kinds: frozenset[Kind] = frozenset()
        self.hear = hear


class Events:
    """All events of the hub.

    Histories are as many as tenants, which only an administrator makes.

    Args:
        bounds: Of each tenant's history.
        now: Seconds since the epoch, for the frames' `timestamp`.

    Attributes:
        epoch: Of this hub; positions of another one say nothing here.
        published: Events so far.
        cut: Readers that did not keep up, so far.
    """

    def __init__(self, *, bounds: Bounds | None = None, now: Callable[[], float] = time.time) -> None:
        self.epoch = new_id("ep")
        self._bounds = bounds or Bounds()
        self._now = now
        self._histories: dict[str, History] = {}
        self._readers: dict[str, dict[Subscription, None]] = {}
        self._listeners: tuple[Listener, ...] = ()
        self._is_closed = False
        self.published = self.cut = 0

    def __len__(self) -> int:
        """Readers there are."""
        return sum(map(len, self._readers.values()))

    def history(self, tenant_id: str) -> History:
        """Return what a tenant was told lately."""
        if tenant_id not in self._histories:
            self._histories[tenant_id] = History(self._bounds)
        return self._histories[tenant_id]

    def keep(self, events: int) -> None:
        """Keep so many events of each tenant; what is too many goes with the tenant's next one."""
        self._bounds = replace(self._bounds, events=events)
        for history in self._histories.values():
            history.bounds = self._bounds

    def publish(
        self, kind: Kind, owner: Principal, data: Any, *, chat: str | None = None, ends: str | None = None
    ) -> Event:
        """Tell all who may see it, without waiting for anybody.

        Args:
            kind: What has happened.
            owner: Whose it is: their tenant and family count.
            data: The frame's `data`, as anything msgspec writes.
            chat: The request it is a piece of: it is kept until that ends.
            ends: The request it is the end of.
        """
        history = self.history(owner.tenant_id)
        seq = history.seq + 1
        frame = write_frame(kind, seq, self.epoch, encode(data), self.now_ms())
        event = Event(seq, self.epoch, kind, owner.family_id, chat, frame)
        if ends is not None:
            history.end_chat(ends)
        history.add(event)
        self.published += 1
        for reader in tuple(self._readers.get(owner.tenant_id, ())):
            if reader.sees(event) and not reader.post(event):
                self.cut += 1
                self.leave(reader)
        self.note(kind, owner, data)
        return event

    def note(self, kind: Kind, owner: Principal, data: Any) -> None:
        """Let the hub's own listeners hear of what is told to nobody; without any it costs nothing."""
        for listener in self._listeners:
            if kind in listener.kinds:
                listener.hear(kind, owner, data)

    def listen(self, listener: Listener) -> None:
        """Have a listener hear, for as long as the hub is there."""
        self._listeners = (*self._listeners, listener)

    def subscribe(
        self,
        reader: Principal,
        post: Post,
        *,
        kinds: frozenset[Kind] = frozenset(KINDS),
        on_close: Callable[[], None] | None = None,
    ) -> Subscription:
        """Tell somebody from now on.

        Args:
            reader: Who; decides what is seen.
            post: Takes an event at once; False: it can not, and is told nothing more.
            kinds: What is wanted.
            on_close: Called when the hub has nothing more to tell.

        Raises:
            Draining: The hub is about to end.
        """
        if self._is_closed:
            raise Draining("The hub is about to end; come again in a moment.", retry_after_s=5)
        subscription = Subscription(self, reader, post, kinds, on_close)
        self._readers.setdefault(reader.tenant_id, {})[subscription] = None
        return subscription

    def leave(self, reader: Subscription) -> None:
        """Tell somebody nothing more."""
        if (readers := self._readers.get(reader.tenant_id)) is not None:
            readers.pop(reader, None)
            if not readers:
                del self._readers[reader.tenant_id]

    def close(self) -> None:
        """Tell every reader that there will be nothing more; the hub is about to end."""
        self._is_closed = True
        for readers in list(self._readers.values()):
            for reader in tuple(readers):
                self.leave(reader)
                if reader.on_close is not None:
                    reader.on_close()

    def now_ms(self) -> int:
        """Return the time, milliseconds since the epoch."""
        return int(self._now() * 1000)


def kinds_of(topics: Iterable[str] | None) -> frozenset[Kind]:
    """Return the kinds that topics stand for: a kind, or the part of some before the dot; None: all.

    Raises:
        BadRequest: There is no such topic.
    """
    if topics is None:
        return frozenset(KINDS)
    found: set[Kind] = set()
    for topic in topics:
        name = topic.removesuffix(".*")
        kinds = {kind for kind in KINDS if kind == name or kind.startswith(f"{name}.")}
        if not kinds:
            raise BadRequest(
                f"There is no topic {topic[:100]!r}; there are {', '.join(KINDS)}.", param="topics"
            )
        found |= kinds
    return frozenset(found)
