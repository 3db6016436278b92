"""Keep-alive connections to one upstream, and the responses that come over them."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from apexbridge_trio.errors import UpstreamBroken, UpstreamSilent, UpstreamUnreachable
from apexbridge_trio.relay.parse import ResponseParse
from apexbridge_trio.relay.route import Connect, Route, open_plain, socket_of

READ_BYTES: Final = 65536  # what one recv takes; several chunks of a fast stream then cost one wake-up
SEND_BYTES: Final = 262144  # a piece of the request; the provider is silent if it takes none in time
# nginx closes idle connections after 75 s. Servers that close earlier (Node and uvicorn: 5 s) are
# noticed by the look before the next use.
IDLE_AGE_S: Final = 60.0


class _Connection:
    """One connection, with what Trio's streams lack: a close and a look that do not await."""

    def __init__(self, stream: trio.abc.Stream, name: str, idle_timeout_s: float) -> None:
        self.idle_since = 0.0
        self.is_writable = True
        self._stream = stream
        self._socket = socket_of(stream)
        self._name = name
        self._idle_timeout_s = idle_timeout_s

    async def ask(self, request: bytes, sent: Callable[[], None]) -> bytes:
        """Send a whole request, say that it is sent, and read once; `b""`: it ended without a byte.

        One scope bounds both, as it costs as much as a read: each piece that is taken moves it.
        """
        rest = memoryview(request)
        with trio.move_on_after(self._idle_timeout_s) as wait:
            try:
                while len(rest) > SEND_BYTES:
                    await self._stream.send_all(rest[:SEND_BYTES])
                    rest = rest[SEND_BYTES:]
                    wait.deadline = trio.current_time() + self._idle_timeout_s
                await self._stream.send_all(rest)
                sent()
            except trio.BrokenResourceError:
                # It may have answered (413) before it hung up: what there is to read tells.
                self.is_writable = False
            try:
                return bytes(await self._stream.receive_some(READ_BYTES))
            except trio.BrokenResourceError:
                return b""
        raise self._silence()

    async def receive(self) -> bytes:
        """Read once; `b""` at the end of the connection."""
        with trio.move_on_after(self._idle_timeout_s):
            try:
                return bytes(await self._stream.receive_some(READ_BYTES))
            except trio.BrokenResourceError as fault:
                raise UpstreamBroken(f"Upstream {self._name} dropped the connection.") from fault
        raise self._silence()

    def is_quiet(self) -> bool:
        """Whether nothing came while idle: neither its end nor bytes nobody asked for."""
        return not self._socket.is_readable()

    def close(self) -> None:
        """Close in this very step; TLS ends without a farewell."""
        self._socket.close()

    def _silence(self) -> UpstreamSilent:
        return UpstreamSilent(f"Upstream {self._name} was silent for {self._idle_timeout_s:g} s.")


class RelayResponse:
    """The provider's answer, as it comes. Made by `RelayPool.open`, valid inside its block."""

    def __init__(self, connection: _Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._parse = ResponseParse(name)

    @property
    def status(self) -> int:
        """The HTTP status, 200 or above."""
        return self._parse.status

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The headers by lower-case name; of a repeated one the first."""
        return self._parse.headers

    @property
    def is_reusable(self) -> bool:
        """Whether the connection is ready for another request: all was sent, all was read."""
        return self._parse.is_reusable and self._connection.is_writable

    def close(self) -> None:
        """Be done with; what was not received by now is lost."""
        self._parse.close()

    async def receive(self) -> bytes:
        """Return the next bytes of the body, as many as one read brought; `b""` once it is complete.

        A checkpoint only when it has to wait for the provider: the bytes that came with the head,
        and the end, are at hand.

        Raises:
            UpstreamBroken: The body ended early or breaks HTTP's rules.
            UpstreamSilent: Nothing came for `idle_timeout_s`.
        """
        while not (body := self._parse.take()) and not self._parse.is_complete:
            await self._read()
        return body

    async def begin(self, request: bytes, sent: Callable[[], None]) -> None:
        """Ask, and wait for status and headers; 1xx answers are passed over.

        Raises:
            UpstreamUnreachable: The connection ended before the first byte.
            UpstreamBroken: As `receive`.
            UpstreamSilent: As `receive`.
        """
        data = await self._connection.ask(request, sent)
        if not data:
            raise UpstreamUnreachable(f"Upstream {self._name} closed the connection without an answer.")
        self._parse.feed(data)
        while not self._parse.has_head:
            await self._read()

    async def _read(self) -> None:
        if data := await self._connection.receive():
            self._parse.feed(data)
        else:
            self._parse.end()


class RelayPool:
    """Asks one upstream, and keeps its connections for the next time.

    Args:
        base_url: ``http://`` or ``https://``, with the path that goes before each request's.
        name: What errors call the upstream; they never show the URL.
        connect_timeout_s: For DNS, TCP, the proxy and TLS together.
        idle_timeout_s: For each wait: a piece of the request taken, a piece of the answer sent.
        proxy: ``http://[user:password@]host:port``, or empty.
        connect: Opens TCP; tests put memory streams here.
        max_idle: Connections kept for later; one more is closed, and its next use pays a handshake.

    Raises:
        ConfigInvalid: An address can not be used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        name: str,
        connect_timeout_s: float,
        idle_timeout_s: float,
        proxy: str = "",
        connect: Connect = open_plain,
        max_idle: int = 64,
    ) -> None:
        self._route = Route(base_url, name, proxy, connect, connect_timeout_s)
        self._name = name
        self._idle_timeout_s = idle_timeout_s
        self._max_idle = max_idle
        self._idle: deque[_Connection] = deque()  # oldest first

    @asynccontextmanager
    async def open(
        self,
        method: bytes,
        path: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        sent: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[RelayResponse]:
        """Send a request and hold its response open inside the block.

        A connection that went stale while idle, with nothing received, is replaced once by a fresh
        one. Leaving the block before the body is complete, in any way, closes the socket at once.

        Cancellation: at every point; the socket is closed in the step that leaves.

        Args:
            method: One whose answer has a body: not HEAD, not CONNECT.
            path: Goes behind the path of `base_url`; begins with a slash.
            headers: Sent as they are; Host, Accept-Encoding and Content-Length are added.
            body: Whole.
            sent: Is called each time that all of it is written to a connection.

        Raises:
            UpstreamUnreachable: No connection, or it ended before the first byte.
            UpstreamBroken: The answer breaks HTTP's rules, or is headers without end.
            UpstreamSilent: Nothing was taken or sent for `idle_timeout_s`.
        """
        connection, response = await self._ask(self._request(method, path, headers, body), sent)
        try:
            yield response
        finally:
            self._release(connection, is_reusable=response.is_reusable)
            response.close()

    def close(self) -> None:
        """Close all idle connections; those in use are closed when their blocks are left."""
        self._max_idle = 0
        while self._idle:
            self._idle.pop().close()

    def _request(
        self, method: bytes, path: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> bytes:
        first = b"%b %b%b HTTP/1.1\r\n" % (method, self._route.target, path)
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        # What is passed on is not decoded, so it must not come encoded.
        own = b"Accept-Encoding: identity\r\nContent-Length: %d\r\n\r\n" % len(body)
        return b"".join((first, self._route.headers, lines, own, body))

    async def _ask(self, request: bytes, sent: Callable[[], None]) -> tuple[_Connection, RelayResponse]:
        if connection := self._take_idle():
            with suppress(UpstreamUnreachable):  # stale: nothing was received, so once more
                return connection, await self._exchange(connection, request, sent)
        connection = _Connection(await self._route.dial(), self._name, self._idle_timeout_s)
        return connection, await self._exchange(connection, request, sent)

    async def _exchange(
        self, connection: _Connection, request: bytes, sent: Callable[[], None]
    ) -> RelayResponse:
        response = RelayResponse(connection, self._name)
        try:
            await response.begin(request, sent)
        except BaseException:  # nothing is handled: whatever ends it, Cancelled too, closes the socket
            connection.close()
            response.close()
            raise
        return response

    def _take_idle(self) -> _Connection | None:
        self._close_aged()
        while self._idle:
            connection = self._idle.pop()  # the newest: the others may age and go
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    def _release(self, connection: _Connection, *, is_reusable: bool) -> None:
        self._close_aged()
        if is_reusable and len(self._idle) < self._max_idle:
            connection.idle_since = trio.current_time()
            self._idle.append(connection)
        else:
            connection.close()

    def _close_aged(self) -> None:
        aged = trio.current_time() - IDLE_AGE_S
        while self._idle and self._idle[0].idle_since < aged:
            self._idle.popleft().close()
