"""A socket as a stream of bytes, for connections that wait most of the time."""

import os
from typing import Final

import trio
from trio.lowlevel import wait_readable  # noqa: TID251  # Trio's own read tries first and waits then

READ_BYTES: Final = 65536


class PlainStream(trio.abc.HalfCloseableStream):
    """Trio's stream of a socket, which waits before it reads and writes without a turn of the others.

    Trio tries each read before it waits. Where the peer has yet to speak, as a model that thinks or a client
    between two requests, that is a system call and an exception for nothing.

    Cancellation: as of Trio's own, but that a write which the kernel takes at once is no checkpoint. Who
    writes on and on has to make one.

    One sender at a time, as of Trio's own: a second one is refused while the first waits for the peer, as its
    bytes would stand in the middle of the other's.

    Args:
        stream: The connection; it belongs to this one from now on.

    Attributes:
        socket: Its socket.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket: Final = stream.socket
        self._stream: Final = stream
        self._is_sending = False

    def send_nowait(self, data: bytes | bytearray | memoryview) -> int:
        """Send what the kernel takes now, and return how many bytes that were.

        Raises:
            OSError: The connection is lost.
            BusyResourceError: Another sender waits.
        """
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        try:
            return os.write(self.socket.fileno(), data)
        except BlockingIOError:
            return 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it.

        Raises:
            BrokenResourceError: The connection is lost.
            ClosedResourceError: It was closed here.
            BusyResourceError: Another sender waits.
        """
        try:
            sent = self.send_nowait(data)
        except OSError:
            sent = 0  # Trio's stream meets the same, and has the words for it
        if sent == len(data):
            return
        self._is_sending = True
        try:
            await self._stream.send_all(memoryview(data)[sent:])
        finally:
            self._is_sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what the peer has sent, once it has; `b""` at its end.

        Raises:
            BrokenResourceError: The connection is lost.
            ClosedResourceError: It was closed here.
        """
        while True:
            try:
                await wait_readable(self._fileno())
                # Asked for again: closed meanwhile, its number may be another's.
                return os.read(self._fileno(), max_bytes or READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as fault:
                raise trio.BrokenResourceError(f"socket connection broken: {fault}") from fault

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a write is taken."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Say the end, and go on reading."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    def _fileno(self) -> int:
        if (number := self.socket.fileno()) < 0:
            raise trio.ClosedResourceError("this socket was already closed")
        return number
