"""``GET /v1/events``: what a client channel tells, as server-sent events.

An ASGI callable like the chat's: Quart's responses end with their generator, and this one ends with
whatever comes first: the client leaves, the hub drains, or the client does not read.
"""

from typing import Final

import trio

from apexbridge_trio.errors import MethodNotAllowed, SlowReader
from apexbridge_trio.events import Event, Subscription
from apexbridge_trio.events.event import NOWHERE, sse, write_frame
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Principal
from apexbridge_trio.links import DID_NOT_READ
from apexbridge_trio.notices import Shown
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.web.arrival import Arrival, ended_with_client
from apexbridge_trio.web.asking import EventQuery
from apexbridge_trio.web.reading import narrowed
from apexbridge_trio.web.streaming import EventReply

EVENTS: Final = "/v1/events"

# What may wait for a reader, as on the client channel; one that leaves more is cut, and may come back.
MAX_UNSENT_BYTES: Final = 2 * 1024 * 1024


class Outbox:
    """What is to be sent to one reader.

    Attributes:
        is_over: Nothing more comes.
        is_full: More came than waits for a reader.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._bytes = 0
        self._news = trio.Event()
        self.is_over = self.is_full = False

    def post(self, event: Event) -> bool:
        """Take an event, if the reader keeps up."""
        if self._bytes > MAX_UNSENT_BYTES:
            self.is_full = True
            self.leave(DID_NOT_READ)
            return False
        self.add(event.as_sse())
        return True

    def add(self, part: bytes) -> None:
        """Take a part of the stream."""
        self._parts.append(part)
        self._bytes += len(part)
        self._news.set()

    def end(self) -> None:
        """Take nothing more; what is there is still sent."""
        self.is_over = True
        self._news.set()

    def leave(self, reason: str) -> None:
        """Take nothing more, and say why."""
        self.add(b": %s\n\n" % reason.encode())
        self.end()

    async def take(self) -> bytes:
        """Wait for something to send, and return all of it; empty: it is over."""
        await self._news.wait()
        if not self.is_over:
            self._news = trio.Event()
        taken = b"".join(self._parts)
        self._parts.clear()
        self._bytes = 0
        return taken


async def events(hub: Hub, arrival: Arrival) -> None:
    """Tell what happens until the client leaves, or the hub ends.

    Raises:
        ApexError: Why it is not told.
    """
    if arrival.scope["method"] != "GET":
        raise MethodNotAllowed("Events are read with GET.", allowed=["GET"])
    assert arrival.principal is not None
    reader = narrowed(arrival.principal, arrival, None, None)
    asked = EventQuery.of(arrival)
    hub.notices.arrive(reader, asked.device)
    outbox = Outbox()
    subscription = hub.events.subscribe(reader, outbox.post, kinds=asked.kinds, on_close=outbox.end)
    arrival.opening.end = outbox.leave
    try:
        _begin(hub, reader, subscription, outbox, asked)
        with ended_with_client(arrival, "closed_by_client"):
            async with trio.open_nursery() as nursery:
                await _send(EventReply(arrival, hub.config.chat.keepalive_s), outbox, nursery)
                nursery.cancel_scope.cancel(reason="nothing more is told")
    finally:
        subscription.close()
        if outbox.is_full:
            arrival.outcome = SlowReader.code


def _begin(
    hub: Hub, reader: Principal, subscription: Subscription, outbox: Outbox, asked: EventQuery
) -> None:
    """Tell where the reader stands, and what it has missed."""
    position = asked.position
    missed = subscription.missed(position.epoch, position.seq) if position is not None else None
    if missed is not None:
        outbox.add(b": resumed\n\n")
        _add(outbox, missed)
    elif position is None and not asked.follows:
        _add(outbox, subscription.kept())
    else:
        _show_what_is(hub, reader, subscription, outbox, asked)
    if not asked.follows:
        outbox.end()


def _show_what_is(
    hub: Hub, reader: Principal, subscription: Subscription, outbox: Outbox, asked: EventQuery
) -> None:
    """Show what nobody comes knowing; positions are as on the client channel."""
    running = subscription.running()
    owed: list[Shown] = []
    if asked.follows:
        owed = hub.notices.frames(reader, subscription, asked.device, is_all=not running)
    epoch, seq = NOWHERE if owed or running else (hub.events.epoch, subscription.seq)
    kind, said = ("connected", {}) if asked.position is None else ("resumed", {"recovered": False})
    outbox.add(sse(epoch, seq, kind, write_frame(kind, seq, epoch, encode(said), hub.events.now_ms())))
    for shown in owed:
        outbox.add(sse(*shown.at, shown.kind, shown.frame))
    _add(outbox, running)


def _add(outbox: Outbox, found: list[Event]) -> None:
    for event in found:
        outbox.add(event.as_sse())


async def _send(reply: EventReply, outbox: Outbox, nursery: trio.Nursery) -> None:
    nursery.start_soon(reply.keep_alive, name="sign of life")
    while not outbox.is_over:
        if taken := await outbox.take():
            await reply.write(taken)
    await reply.close(await outbox.take() or b": the end\n\n")
