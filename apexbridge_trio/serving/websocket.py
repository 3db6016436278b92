"""WebSockets over Hypercorn's stream for wsproto."""

from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Final, cast

import h11
import trio
from hypercorn.protocol import events
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from trio.lowlevel import checkpoint  # noqa: TID251 - sleep(0) by its proper name
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason

from apexbridge_trio.errors import BadRequest, CutShort, SocketVersionUnsupported
from apexbridge_trio.links import SOCKET
from apexbridge_trio.serving.phase import LINGER_S, Phase
from apexbridge_trio.serving.refusal import SOCKET_VERSION, of_status

if TYPE_CHECKING:
    from apexbridge_trio.serving.call import Calls
    from apexbridge_trio.serving.http import HttpProtocol

# What a peer may send before the app has answered its upgrade; RFC 6455 4.1 lets it send nothing.
EARLY_BYTES: Final = 64 * 1024
# Unread messages an app may have, in messages of the largest size; then the peer is told to come
# again (1013), because a reader that waits for the app does not see the peer leave.
UNREAD_MESSAGES: Final = 2
# The same the other way: what an app may have posted that the peer has not taken.
UNSENT_MESSAGES: Final = 2
# A peer silent for so many intervals has missed two pings and had half an interval to answer.
SILENT_INTERVALS: Final = 2.5
# Answers to pings that wait for a peer that does not read; RFC 6455 5.5.3 lets a later one do.
OWED_PONGS: Final = 64
_MALFORMED: Final = "An upgrade is HTTP/1.1 with Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key."
_UPGRADE_HEADERS: Final = (b"connection", b"sec-websocket-extensions", b"sec-websocket-protocol")


def is_upgrade(request: h11.Request) -> bool:
    """Tell whether `request` asks for a WebSocket."""
    headers = dict(request.headers)
    tokens = headers.get(b"connection", b"").lower().split(b",")
    return (
        request.method == b"GET"
        and headers.get(b"upgrade", b"").strip().lower() == b"websocket"
        and any(token.strip() == b"upgrade" for token in tokens)
    )


class SocketStream(WSStream):
    """One WebSocket: ASGI's messages one way, frames the other.

    A message is counted in bytes as its frames come; the inbox of the app is bounded by
    `UNREAD_MESSAGES`. The app is hurt by neither: the peer is, which is closed 1009 or 1013.

    Beside ASGI's messages there is a shorter way out, `post`: no task, no copy, no await. An app uses
    one of the two.

    Attributes:
        is_behind: Messages that were read wait for the peer's next turn.
    """

    def __init__(self, protocol: "HttpProtocol") -> None:
        super().__init__(*protocol.stream_parts(self))  # it asks for one thing, `spawn_app`
        self._protocol = protocol
        self._wire = protocol.wire
        self._limits = protocol.limits
        self._max_bytes = self._max_unsent_bytes = 0
        self.limit(self._limits.max_message_bytes)
        self._early = bytearray()
        self.is_behind = False
        self._message_bytes = 0
        self._owed_pongs = 0
        self._code: int = CloseReason.ABNORMAL_CLOSURE
        self._why = ""
        self._heard_at = self._ping_at = trio.current_time()
        self._heard = trio.Event()
        self._attending: Callable[[], None] = _nobody

    async def spawn_app(
        self, app: Any, config: object, scope: dict[str, Any], send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Any], Awaitable[int]]:
        """Start the app; it finds this in its scope, for what ASGI has no words for."""
        scope["extensions"][SOCKET] = self
        calls = cast("Calls", self._protocol.task_group)
        return await calls.spawn_app(app, config, scope, send)

    def limit(self, max_bytes: int) -> None:
        """Bound a message of the peer from now on, and what it may leave unread of ours."""
        self._max_bytes = min(max_bytes, self._limits.max_message_bytes)
        self._max_unsent_bytes = UNSENT_MESSAGES * self._max_bytes
        self.buffer.max_length = self._max_bytes  # in characters: never the lower one

    def slow(self, messages: int) -> None:
        """Read the peer as if it had sent so many messages more: it says what nobody wants to hear."""
        self._protocol.pace.note(messages)

    def attend(self, heard: Callable[[], None]) -> None:
        """Have `heard` called with each piece of a message, before the whole is there; pongs are none."""
        self._attending = heard

    def post(self, text: bytes) -> bool:
        """Send a text message, without waiting; the text is UTF-8.

        What the peer has not taken stays here, and is sent in the order of posting. False: it leaves
        more than `UNSENT_MESSAGES` of the largest messages lying, this one is dropped, and it is time
        to close (1013).
        """
        if self.state is not ASGIWebsocketState.CONNECTED or self.closed:
            return True
        if self._wire.unsent_bytes > self._max_unsent_bytes:
            return False
        self._wire.post(_text_head(len(text)))
        self._wire.post(text)
        self._wire.push()
        return True

    async def send_all(self, texts: Sequence[bytes]) -> None:
        """Send text messages with one write, and wait until the peer has taken them, or is gone.

        Cancellation: they were sent, whole.
        """
        if self.state is not ASGIWebsocketState.CONNECTED or self.closed:
            return
        for text in texts:
            self._wire.post(_text_head(len(text)))
            self._wire.post(text)
        self._wire.push()
        await self._wire.drained()

    async def answers(self, within_s: float) -> bool:
        """Ping the peer, and tell whether it was heard within so many seconds."""
        self._heard = trio.Event()
        await self._send_wsproto_event(Ping())
        self._wire.push()
        with trio.move_on_after(within_s):
            await self._heard.wait()
        return self._heard.is_set() and not self.closed

    async def handle(self, event: events.Event) -> None:
        """Take what the peer sends, or its end."""
        self._heard_at = trio.current_time()
        self._heard.set()
        if self.closed:
            return
        if isinstance(event, events.Request) and (malformed := _fault_of(event)):
            self.closed = True
            await self._protocol.refuse(malformed)
        elif isinstance(event, events.Data) and not self.handshake.accepted:
            await self._keep_early(event.data)
        elif isinstance(event, events.StreamClosed):
            self.closed = True
            if self.app_put is not None:
                fault = self._wire.fault
                why = self._why or (fault.message if fault is not None else "")
                await self.app_put({"type": "websocket.disconnect", "code": int(self._code), "reason": why})
        elif not isinstance(event, events.Data) or self.connection.state is not ConnectionState.CLOSED:
            await super().handle(event)

    async def app_send(self, message: Any) -> None:
        """Send what the app says, and wait until the peer has taken it; a close only so long."""
        await super().app_send(message)
        self._wire.push()
        with trio.move_on_after(LINGER_S if self.state is ASGIWebsocketState.CLOSED else inf):
            await self._wire.drained()
        await checkpoint()  # a loop that only sends must still see its cancellation

    async def on_tick(self) -> None:
        """Ping when it is time to, and drop a peer that is silent for too long."""
        now = trio.current_time()
        interval_s = self._limits.ping_interval_s
        if now >= self._heard_at + SILENT_INTERVALS * interval_s:
            self._wire.lose(CutShort("it answered no ping"), reset=True)
            return
        if now >= self._ping_at:
            self._ping_at = now + interval_s
            await self._send_wsproto_event(Ping())
            self._wire.push()
        self._protocol.patience.until(min(self._ping_at, self._heard_at + SILENT_INTERVALS * interval_s))

    async def go_away(self) -> None:
        """Close with 1001; before the app has accepted it, leave the answer to the app."""
        if self.state is ASGIWebsocketState.CONNECTED:
            await self._cut(CloseReason.GOING_AWAY, "the hub is about to end")
            self._wire.push()

    async def _accept(self, message: Any) -> None:
        self.handshake.extensions = None  # no permessage-deflate: 389 KB of it became 598 MB
        await super()._accept(message)
        self._protocol.patience.enter(Phase.SOCKET)
        self._ping_at = trio.current_time() + self._limits.ping_interval_s
        await self.on_tick()
        if self._early:
            self.connection.receive_data(bytes(self._early))
            self._early.clear()
            self.is_behind = True
            self._protocol.patience.until(trio.current_time())  # wakes the reader, whose turn it is

    async def _keep_early(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > EARLY_BYTES:
            await self._protocol.refuse(BadRequest("Frames came before the upgrade was answered."))

    async def take_turn(self) -> None:
        """Take messages that were read, as many as the peer's turn has."""
        self.is_behind = False
        if not self.closed:
            await self._handle_events()

    async def _handle_events(self) -> None:
        self.is_behind = False
        pace = self._protocol.pace
        for event in self.connection.events():
            pace.note()
            if isinstance(event, (TextMessage, BytesMessage)):
                await self._on_message(event)
            elif isinstance(event, Ping):
                await self._on_ping(event)
            elif isinstance(event, CloseConnection):
                await self._on_close(event)
            if self.closed:
                return
            if pace.is_spent:
                self.is_behind = True
                return

    async def _on_message(self, event: TextMessage | BytesMessage) -> None:
        if self.state is not ASGIWebsocketState.CONNECTED:
            return
        self._message_bytes += _size_bytes(event.data)
        if self._message_bytes > self._max_bytes:
            await self._cut(CloseReason.MESSAGE_TOO_BIG, "a message of it was larger than it may be")
            return
        self._attending()
        self.buffer.extend(event)
        if event.message_finished:
            assert self.app_put is not None
            unread_bytes = await self.app_put(self.buffer.to_message())
            self.buffer.clear()
            self._message_bytes = 0
            if unread_bytes > UNREAD_MESSAGES * self._max_bytes:
                await self._cut(CloseReason.TRY_AGAIN_LATER, "it sent faster than it was heard")

    async def _on_ping(self, event: Ping) -> None:
        self._owed_pongs = 0 if self._wire.is_clear else self._owed_pongs + 1
        if self._owed_pongs <= OWED_PONGS:
            await self._send_wsproto_event(event.response())

    async def _on_close(self, event: CloseConnection) -> None:
        """Take the peer's close, or what wsproto makes of a frame that may not be."""
        if self.connection.state is ConnectionState.OPEN:
            self._why = self._why or f"it broke the protocol: {event.reason}"
        await self._end(event.code, event.reason)

    async def _cut(self, code: int, why: str) -> None:
        """Close it from this side, and tell the app why."""
        self._why = why
        await self._end(code)

    async def _end(self, code: int, reason: str | None = None) -> None:
        self._code = code
        # Dropped by wsproto when a close frame went out already: then this was the answer to it.
        await self._send_wsproto_event(CloseConnection(code=code, reason=reason))
        await self.send(events.StreamClosed(stream_id=self.stream_id))

    async def _send_error_response(self, status_code: int) -> None:
        is_malformed = status_code == BadRequest.status
        fault = BadRequest(_MALFORMED, code="malformed_request") if is_malformed else of_status(status_code)
        await self._protocol.refuse(fault)


def _nobody() -> None:
    """Nobody attends."""


def _text_head(size: int) -> bytes:
    """Return the head of a whole text frame from a server (RFC 6455, 5.2): final, and not masked."""
    if size < 126:
        return bytes((0x81, size))
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")


def _size_bytes(data: bytes | bytearray | str) -> int:
    if isinstance(data, str) and not data.isascii():
        return len(data.encode())
    return len(data)


def _fault_of(request: events.Request) -> BadRequest | None:
    """Say what is wrong with an upgrade that Hypercorn would fall over, or should not let through."""
    for name, value in request.headers:
        if name in _UPGRADE_HEADERS and not value.isascii():
            return BadRequest(f"{name.decode().title()} holds bytes that are not ASCII.")
        if name == b"sec-websocket-version" and value.strip() != SOCKET_VERSION:
            return SocketVersionUnsupported("The hub speaks WebSocket version 13.")
        if name in {b"transfer-encoding", b"content-length"}:
            return BadRequest("An upgrade to WebSocket has no body.")
    return None
