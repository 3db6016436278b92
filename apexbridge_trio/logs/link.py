"""One connection of a log viewer: told lines as fast as it reads them, and hardly heard.

Two tasks: one reads, and one writes and waits until the viewer has taken what was written. So what waits
for a slow viewer waits in its `Reader`, which has a size; one that takes nothing at all is dropped by the
server (`limits.send_timeout_s`). The reason it ended with goes into the one line of its request: the log
channel says nothing per line, so that no line begets another.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import trio
from trio.lowlevel import checkpoint  # noqa: TID251  # sleep(0) by its proper name

from apexbridge_trio.ids import new_id
from apexbridge_trio.logs.logs import Logs
from apexbridge_trio.logs.reader import Reader
from apexbridge_trio.protocol.frames import ConnectionAck, FrameInvalid, frame, read_envelope
from apexbridge_trio.protocol.openai import encode

# A viewer has nothing to say; contract §2 has it keep its connection when it says something else.
MAX_FRAME_BYTES: Final = 64 * 1024
# A frame weighs so many messages: some fifty a second are taken of a flood.
FRAME_WEIGHT: Final = 20
# What viewers in the field know the acknowledgement by, and do not show.
LEGACY_WELCOME: Final = "WebSocket connection successful for VCPLog."
# RFC 6455, 7.4.1.
SLOW_READER: Final = 1013


class Socket(Protocol):
    """What a viewer's connection needs of a WebSocket, beside what ASGI has."""

    def limit(self, max_bytes: int) -> None:
        """Bound what the peer may send at a time."""
        ...

    def slow(self, messages: int) -> None:
        """Read the peer as if it had sent so many messages more."""
        ...

    def post(self, text: bytes) -> bool:
        """Send a text message without waiting; False if the peer leaves too much unread."""
        ...

    async def send_all(self, texts: Sequence[bytes]) -> None:
        """Send text messages, and wait until the peer has taken them."""
        ...


class LogLink:
    """One connection; `run` is its whole life.

    Args:
        logs: Where the reader is entered.
        reader: What is told; left when this ends.
        socket: The connection's.
        server_id: The hub's.

    Attributes:
        code: What the connection is closed with, and `reason` why.
    """

    def __init__(self, logs: Logs, reader: Reader, socket: Socket, server_id: str) -> None:
        self._logs = logs
        self._reader = reader
        self._socket = socket
        self._server_id = server_id
        self._scope = trio.CancelScope()
        self.code = 1000
        self.reason = "the viewer has gone"

    async def run(self, receive: Callable[[], Awaitable[dict[str, Any]]], now_ms: int) -> None:
        """Serve the connection until it ends, from either side.

        Cancellation: as any other end; it is told nothing more.
        """
        try:
            with self._scope:
                self._socket.limit(MAX_FRAME_BYTES)
                self._post(self._welcome(now_ms))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, name="log lines out")
                    await self._read(receive)
                    nursery.cancel_scope.cancel(reason=self.reason)
        finally:
            self._logs.leave(self._reader)

    async def _write(self) -> None:
        while frames := await self._reader.take():
            await self._socket.send_all(frames)
            await checkpoint()  # what is taken at once must still let others have their turn

    async def _read(self, receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        while (message := await receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.receive":
                self._take(message.get("text") or message.get("bytes") or b"")
            await checkpoint()

    def _take(self, text: str | bytes) -> None:
        self._socket.slow(FRAME_WEIGHT)
        try:
            read_envelope(text)
        except FrameInvalid as fault:
            self._post(encode({"type": "error", "data": {"code": "invalid_frame", "message": fault.message}}))

    def end(self, code: int, reason: str) -> None:
        """End the connection from this side."""
        self.code, self.reason = code, reason
        self._scope.cancel(reason=reason)

    def _post(self, text: bytes) -> None:
        if not self._socket.post(text):
            self.end(SLOW_READER, "it did not read what it was sent")

    def _welcome(self, now_ms: int) -> bytes:
        is_legacy = self._reader.style.kind == "vcp_log"
        said = LEGACY_WELCOME if is_legacy else "Connected."
        ack = ConnectionAck(new_id("conn"), self._server_id, said, now_ms)
        if not is_legacy:
            return frame(ack)
        return encode({"type": "connection_ack", "message": said, "data": ack})
