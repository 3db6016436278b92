"""One connection of a client's device: told what happens, and heard.

The reader reads, understands and acts at once; what takes time (a chat, a receipt) runs in the
connection's nursery, and ends with it. What goes out is posted without waiting: events as they are
published, answers as they come. A device that does not read is cut (1013), and may come back with the
position of what it had last.

Whoever comes without a position is shown what it can not know: what its owner is still to be told, and
the chats that are being answered, from their start.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import trio
from msgspec import to_builtins

from apexbridge_trio.clients.chatting import answer_chat
from apexbridge_trio.errors import ApexError, InternalFault, NotFound, TaskSettled, TooMany
from apexbridge_trio.events import Event, Kind, kinds_of
from apexbridge_trio.events.event import NOWHERE, write_frame
from apexbridge_trio.hub import Hub
from apexbridge_trio.identity import Principal
from apexbridge_trio.ids import new_id
from apexbridge_trio.limits import Rate
from apexbridge_trio.links import DID_NOT_READ, SLOW_READER, Receive, Socket, hear
from apexbridge_trio.log import get_logger
from apexbridge_trio.protocol.client import (
    Ack,
    ChatAsked,
    InterruptRequest,
    Ping,
    Resume,
    Subscribe,
    named_in,
    nothing_to_stop,
    read_client_frame,
)
from apexbridge_trio.protocol.envelope import FrameInvalid
from apexbridge_trio.protocol.openai import encode, error_body

# Contract §2.
MAX_FRAME_BYTES: Final = 1024 * 1024
# Chats and receipts one connection waits for; a client that asks for more is refused, and only it.
MOST_ASKED: Final = 32
# Acknowledgements of one connection that wait for the disk: as many as there can be to acknowledge. What
# is more is refused, and only it; everybody's writes go through the same queue.
MOST_ACKS: Final = 1000
# A frame of 60 bytes may bring back 2 MiB; one that asks for more is refused, and only it.
RESUMES_A_MINUTE: Final = 60

log = get_logger("clients")


class ClientLink:
    """One connection; `run` is its whole life.

    Args:
        hub: The hub.
        socket: The connection's.
        reader: Who is told.
        position: What it had last, if it has said so on coming.
        kinds: What it wants to be told.
        device: What it calls itself; empty: it does not say.

    Attributes:
        code: What the connection is closed with, and `reason` why.
    """

    def __init__(
        self,
        hub: Hub,
        socket: Socket,
        reader: Principal,
        *,
        position: Resume | None = None,
        kinds: frozenset[Kind] | None = None,
        device: str = "",
    ) -> None:
        self._hub = hub
        self._socket = socket
        self._reader = reader
        self._position = position
        self._device = device
        self.connection_id = new_id("conn")
        self.code = 1000
        self.reason = "the client has gone"
        self._asked = 0
        self._acks = 0
        self._resumes = Rate(RESUMES_A_MINUTE)
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._subscription = hub.events.subscribe(reader, self._post_event, kinds=kinds or kinds_of(None))
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            Resume: self._on_resume,
            Subscribe: self._on_subscribe,
            Ack: self._on_ack,
            InterruptRequest: lambda asked: self._start(asked, self._interrupt, asked),
            ChatAsked: lambda asked: self._start(asked, answer_chat, self._hub, self._reader, asked.body),
            Ping: lambda _: self._say("pong", {}),
        }

    async def run(self, receive: Receive) -> None:
        """Serve the connection until it ends, from either side.

        Cancellation: as any other end; its chats end with it, and it is told nothing more.
        """
        try:
            with self._scope:
                self._socket.limit(MAX_FRAME_BYTES)
                self._welcome()
                async with trio.open_nursery() as self._nursery:
                    self.reason = await hear(receive, self._take, self._scope) or self.reason
                    self._nursery.cancel_scope.cancel(reason=self.reason)
        finally:
            self._nursery = None
            self._subscription.close()

    def end(self, code: int, reason: str) -> None:
        """End the connection from this side; it is told nothing more."""
        self.code, self.reason = code, reason
        self._subscription.close()
        self._scope.cancel(reason=reason)

    def _take(self, text: str | bytes) -> None:
        try:
            asked = read_client_frame(text)
        except FrameInvalid as fault:
            self._say("error", {"code": "invalid_frame", "message": fault.message})
            return
        try:
            self._handlers[type(asked)](asked)
        except ApexError as fault:
            self._refuse(asked, fault)

    def _welcome(self) -> None:
        acknowledged = {
            "connectionId": self.connection_id,
            "serverId": self._hub.nodes.server_id,
            "message": "Connected.",
            "timestamp": self._hub.events.now_ms(),
        }
        self._hub.notices.arrive(self._reader, self._device)
        asked = self._position
        if asked is None:
            self._show_what_is("connection_ack", acknowledged)
            return
        missed = self._subscription.missed(asked.epoch, asked.seq)
        self._say("connection_ack", acknowledged, self._before(asked, missed))
        self._tell_missed(asked, missed)

    def _show_what_is(self, kind: str, data: Any) -> None:
        """Show what nobody comes knowing, behind a frame of its own.

        Until the last of it the frames are nowhere, or at the piece of a chat that they are: who is cut
        before that, and goes on from the last frame it has, has not missed what was still to be shown.
        """
        running = self._subscription.running()
        owed = self._hub.notices.frames(self._reader, self._subscription, self._device, is_all=not running)
        self._say(kind, data, NOWHERE if owed or running else None)
        for shown in owed:
            self._post(shown.frame)
        for event in running:
            self._post_event(event)

    def _on_resume(self, asked: Resume) -> None:
        if wait_s := self._resumes.take(trio.current_time()):
            raise TooMany("Too many resumes on one connection.", retry_after_s=wait_s)
        self._tell_missed(asked, self._subscription.missed(asked.epoch, asked.seq))

    def _tell_missed(self, asked: Resume, missed: list[Event] | None) -> None:
        if missed is None:
            self._show_what_is("resumed", {"recovered": False})
            return
        self._say("resumed", {"recovered": True}, self._before(asked, missed))
        for event in missed:
            self._post_event(event)

    def _before(self, asked: Resume, missed: list[Event] | None) -> tuple[str, int]:
        """Return where somebody is who has not been told yet what it missed."""
        return NOWHERE if missed is None else (self._hub.events.epoch, asked.seq)

    def _on_subscribe(self, asked: Subscribe) -> None:
        self._subscription.kinds = kinds_of(asked.topics)
        self._say("subscribed", {"topics": sorted(self._subscription.kinds)})

    def _on_ack(self, asked: Ack) -> None:
        if self._acks >= MOST_ACKS:
            raise TooMany(f"{MOST_ACKS} acknowledgements of this connection are being written already.")
        self._acks += 1

        def done(is_settled: bool) -> None:  # noqa: FBT001  # a callback
            self._acks -= 1
            self._say("acked", {"id": asked.id, "settled": is_settled})

        self._hub.notices.ack(asked.id, self._reader, done, device=self._device)

    def _start(self, asked: Any, work: Callable[..., Awaitable[None]], *args: Any) -> None:
        if self._asked >= MOST_ASKED:
            raise TooMany(f"{MOST_ASKED} questions of this connection wait for an answer already.")
        if self._nursery is not None:
            self._asked += 1
            boxed = partial(self._boxed, asked, work, *args)
            self._nursery.start_soon(boxed, name=f"asked on {self.connection_id}")

    async def _boxed(self, asked: Any, work: Callable[..., Awaitable[None]], *args: Any) -> None:
        try:
            await work(*args)
        except ApexError as fault:
            self._refuse(asked, fault)
        except Exception as fault:  # the boundary of one question
            log.error("a client's question failed", connection=self.connection_id, exc_info=fault)
            self._refuse(asked, InternalFault("The hub failed at this; its log says how."))
        finally:
            self._asked -= 1

    async def _interrupt(self, asked: InterruptRequest) -> None:
        try:
            receipt = await self._hub.interrupt(asked, self._reader)
        except (NotFound, TaskSettled) as fault:
            receipt = nothing_to_stop(asked, fault)
        self._say("interrupt_receipt", receipt)

    def _refuse(self, asked: Any, fault: ApexError) -> None:
        self._say("error", to_builtins(error_body(fault)) | named_in(asked))

    def _say(self, kind: str, data: Any, at: tuple[str, int] | None = None) -> None:
        """Send a frame to this connection alone; None: its position is that of the last event."""
        events = self._hub.events
        epoch, seq = at or (events.epoch, self._subscription.seq)
        self._post(write_frame(kind, seq, epoch, encode(data), events.now_ms()))

    def _post_event(self, event: Event) -> bool:
        return self._post(event.frame)

    def _post(self, frame: bytes) -> bool:
        if self._socket.post(frame):
            return True
        if not self._scope.cancel_called:
            self.end(SLOW_READER, DID_NOT_READ)
        return False
