"""The client of the benchmarks: prepared requests, raw bytes back, one await a read.

An HTTP library would be slower than what it measures. This one knows the two kinds of reply that
matter, a sized body and a chunked one, and looks for their ends and for nothing else.
"""

import os
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Self

import trio

READ: Final = 262144
# Both are found over the seam of two reads by keeping the last bytes of the read before.
CHUNK: Final = b"data: {"
STREAM_END: Final = b"\n0\r\n\r\n"
_SEAM: Final = 6

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"connection: *close", re.IGNORECASE)


class Refused(Exception):
    """A side did not do what the scenario asks of it."""


class Connection:
    """A keep-alive connection to a side; opens itself, and again where the side has closed it.

    Cancellation: a request that was cut off leaves the connection in its middle; close it then.
    """

    def __init__(self, port: int) -> None:
        self._port: Final = port
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it, as a client that has lost interest does."""
        if self._socket:
            self._socket.close()
            self._socket = None

    async def ask(self, request: bytes) -> bytes:
        """Send a request and read its whole reply; returns the body of a sized one.

        Raises:
            Refused: The reply is not a 200.
            OSError: The connection broke.
        """
        data, body_at = await self._start(request)
        if length := _LENGTH.search(data, 0, body_at):
            end = body_at + int(length[1])
            while len(data) < end:
                data += await self._receive()
        else:
            while not data.endswith(STREAM_END):
                data += await self._receive()
        if _CLOSES.search(data, 0, body_at):
            self.close()
        return data[body_at:]

    async def start_stream(self, request: bytes) -> bytes:
        """Send a request and read its streamed reply up to its first chunk; returns the body so far.

        Raises:
            Refused: The reply is not a 200, or not a stream.
            OSError: The connection broke.
        """
        data, body_at = await self._start(request)
        while CHUNK not in data[body_at:]:
            if data.endswith(STREAM_END):
                raise Refused(f"a stream without a chunk: {data[body_at : body_at + 200]!r}")
            data += await self._receive()
        return data[body_at:]

    async def stream(self, request: bytes, on_chunks: Callable[[int], None]) -> None:
        """Send a request and read its streamed reply to the end; tells at each read how many chunks came.

        Raises:
            Refused: The reply is not a 200, or not a stream.
            OSError: The connection broke.
        """
        data = await self.start_stream(request)
        while True:
            if count := data.count(CHUNK):
                on_chunks(count)
            seam = data[-_SEAM:]
            if seam == STREAM_END:
                return
            data = seam + await self._receive()

    async def _start(self, request: bytes) -> tuple[bytes, int]:
        """Send a request, and read until its head is whole; returns what came and where the body is."""
        is_used = self._socket is not None
        try:
            data = await self._exchange(request)
        except ConnectionError:
            # Sides close an idle connection when they like; on a new one it must work.
            self.close()
            if not is_used:
                raise
            data = await self._exchange(request)
        while (body_at := data.find(b"\r\n\r\n") + 4) < 4:
            data += await self._receive()
        if data[9:12] != b"200":
            raise Refused(data[:400].decode(errors="replace"))
        return data, body_at

    async def _exchange(self, request: bytes) -> bytes:
        if not self._socket:
            self._socket = await _connected(self._port)
        # A request is smaller than an empty send buffer, so this takes all of it or fails.
        self._socket.send(request)
        return await self._receive()

    async def _receive(self) -> bytes:
        assert self._socket
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                data = self._socket.recv(READ)
            except BlockingIOError:
                continue
            if not data:
                raise ConnectionResetError("the side has closed the connection")
            return data


async def _connected(port: int) -> socket.socket:
    with ExitStack() as undo:
        opened = undo.enter_context(socket.socket())
        opened.settimeout(0)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.connect_ex(("127.0.0.1", port))
        await trio.lowlevel.wait_writable(opened)
        if fault := opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(fault, os.strerror(fault))
        undo.pop_all()
        return opened
