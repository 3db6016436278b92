"""One connection of a log viewer: told lines as fast as it reads them, and hardly heard.

Two tasks: one reads, and one writes and waits until the viewer has taken what was written. So what waits
for a slow viewer waits in its `Reader`, which has a size; one that takes nothing at all is dropped by the
server (`limits.send_timeout_s`). The reason it ended with goes into the one line of its request: the log
channel says nothing per line, so that no line begets another.
"""

from typing import Final

import trio
from trio.lowlevel import checkpoint  # noqa: TID251  # sleep(0) by its proper name

from apexbridge_trio.ids import new_id
from apexbridge_trio.links import DID_NOT_READ, SLOW_READER, Receive, Socket, hear
from apexbridge_trio.logs.logs import Logs
from apexbridge_trio.logs.reader import Reader
from apexbridge_trio.protocol.envelope import FrameInvalid, frame, read_envelope
from apexbridge_trio.protocol.frames import ConnectionAck
from apexbridge_trio.protocol.openai import encode

# A viewer has nothing to say; contract §2 has it keep its connection when it says something else.
MAX_FRAME_BYTES: Final = 64 * 1024
# A frame weighs so many messages: some fifty a second are taken of a flood.
FRAME_WEIGHT: Final = 20
# What viewers in the field know the acknowledgement by, and do not show.
LEGACY_WELCOME: Final = "WebSocket connection successful for VCPLog."


class LogLink:
    """One connection; `run` is its whole life.

    Args:
        logs: Where the reader is entered.
        reader: What is told; left when this ends.
        socket: The connection's.
        server_id: The hub's.
        now_ms: When it comes, for its acknowledgement.

    Attributes:
        code: What the connection is closed with, and `reason` why.
    """

    def __init__(self, logs: Logs, reader: Reader, socket: Socket, server_id: str, now_ms: int) -> None:
        self._logs = logs
        self._reader = reader
        self._socket = socket
        self._server_id = server_id
        self._now_ms = now_ms
        self._scope = trio.CancelScope()
        self.code = 1000
        self.reason = "the viewer has gone"

    async def run(self, receive: Receive) -> None:
        """Serve the connection until it ends, from either side.

        Cancellation: as any other end; it is told nothing more.
        """
        try:
            with self._scope:
                self._socket.limit(MAX_FRAME_BYTES)
                self._post(self._welcome())
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, name="log lines out")
                    self.reason = await hear(receive, self._take, self._scope) or self.reason
                    nursery.cancel_scope.cancel(reason=self.reason)
        finally:
            self._logs.leave(self._reader)

    async def _write(self) -> None:
        while frames := await self._reader.take():
            await self._socket.send_all(frames)
            await checkpoint()  # what is taken at once must still let others have their turn

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
            self.end(SLOW_READER, DID_NOT_READ)

    def _welcome(self) -> bytes:
        is_legacy = self._reader.style.kind == "vcp_log"
        said = LEGACY_WELCOME if is_legacy else "Connected."
        ack = ConnectionAck(new_id("conn"), self._server_id, said, self._now_ms)
        if not is_legacy:
            return frame(ack)
        return encode({"type": "connection_ack", "message": said, "data": ack})
