"""A server under test over real sockets, and a peer that says exactly the bytes it is told to.

Nothing that the server waits for is over before a test's next step, however slow the machine is: it has no
times but those that a test gives it. What its times are is shown on the virtual clock, in memory.
"""

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Request

from apexbridge_trio.serving import ServingLimits, http, phase, serve

# A safety net, not a bound that is tested.
SAFETY_S = 120.0

PATIENT = {
    **dict.fromkeys(
        ("header_timeout_s", "body_timeout_s", "idle_timeout_s", "ping_interval_s", "grace_s"), math.inf
    ),
    "send_timeout_s": 1e6,  # the kernel counts it in milliseconds
}


@dataclass
class Reply:
    """One HTTP reply as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Peer:
    """A client of raw bytes over any stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.unread = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def more(self) -> bool:
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:  # reset
            data = b""
        self.unread += data
        return bool(data)

    async def until(self, mark: bytes) -> bytes:
        """Return what comes up to and with `mark`."""
        while mark not in self.unread:
            assert await self.more(), f"ended before {mark!r}: {self.unread!r}"
        found, _, self.unread = self.unread.partition(mark)
        return found + mark

    async def end(self) -> bytes:
        """Return what is left until the server hangs up."""
        while await self.more():
            pass
        left, self.unread = self.unread, b""
        return left

    async def head(self) -> Reply:
        lines = (await self.until(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return Reply(int(lines[0].split()[1]), headers, b"")

    async def reply(self) -> Reply:
        """Read one whole reply: sized, or chunked."""
        reply = await self.head()
        if "content-length" in reply.headers:
            length = int(reply.headers["content-length"])
            while len(self.unread) < length:
                assert await self.more(), "ended inside a body"
            reply.body, self.unread = self.unread[:length], self.unread[length:]
        elif reply.headers.get("transfer-encoding") == "chunked":
            while size := int(await self.until(b"\r\n"), 16):
                reply.body += (await self.until(b"\r\n"))[:-2]
                assert len(reply.body) >= size
            await self.until(b"\r\n")
        return reply

    async def get(self, path: str, *headers: str) -> Reply:
        await self.send(request("GET", path, *headers))
        return await self.reply()

    async def post(self, path: str, body: bytes) -> Reply:
        await self.send(request("POST", path, f"Content-Length: {len(body)}") + body)
        return await self.reply()


def request(method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: hub", *headers, "", ""]
    return "\r\n".join(lines).encode("latin1")


UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


class SocketPeer:
    """A WebSocket client that answers nothing by itself."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self.waiting: list[Event] = []

    async def open(self, path: str) -> AcceptConnection:
        await self.say(Request(host="hub", target=path))
        event = await self.hear()
        assert isinstance(event, AcceptConnection), event
        return event

    async def say(self, *events: Event) -> None:
        await self.stream.send_all(b"".join(self.protocol.send(event) for event in events))

    async def hear(self) -> Event | None:
        """Return the next event, or None once the server hangs up."""
        while not self.waiting:
            try:
                data = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self.protocol.receive_data(bytes(data))
            self.waiting += self.protocol.events()
        return self.waiting.pop(0)

    async def closed(self) -> int | None:
        """Return the code the server closes with, once it has hung up too."""
        code = None
        while (event := await self.hear()) is not None:
            if isinstance(event, CloseConnection):
                code = int(event.code)
        return code


@dataclass
class Served:
    """A running server.

    Attributes:
        limits: They may be changed, and count for the next connection.
    """

    limits: ServingLimits
    address: tuple[str, int] = ("", 0)
    faults: list[tuple[str, BaseException]] = field(default_factory=list)
    started: trio.Event = field(default_factory=trio.Event)
    stop: trio.Event = field(default_factory=trio.Event)
    stopped: trio.Event = field(default_factory=trio.Event)

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[Peer]:
        async with await trio.open_tcp_stream(*self.address) as stream:
            yield Peer(stream)

    @asynccontextmanager
    async def socket(self, path: str) -> AsyncIterator[SocketPeer]:
        async with await trio.open_tcp_stream(*self.address) as stream:
            peer = SocketPeer(stream)
            await peer.open(path)
            yield peer

    async def lives(self) -> None:
        """Another client gets its answer."""
        async with self.peer() as peer:
            assert (await peer.get("/hello")).body == b"hello"


@asynccontextmanager
async def serving(app: Any, *, safety_s: float = SAFETY_S, **limits: Any) -> AsyncIterator[Served]:
    """Serve `app` on a free port; a fault of the server's own fails the test, and so does a task left."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    served = Served(ServingLimits(**{**PATIENT, **limits}))
    with trio.fail_after(safety_s), pytest.MonkeyPatch.context() as patch:
        for room, name in ((phase, "LINGER_S"), (phase, "LINGER_SILENCE_S"), (http, "ARRIVAL_S")):
            patch.setattr(room, name, math.inf)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve, app, served)
            await served.started.wait()
            yield served
            served.stop.set()
        assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert not [fault for where, fault in served.faults if where == "connection"]


async def _serve(app: Any, served: Served) -> None:
    run = partial(
        serve,
        app,
        binds=["127.0.0.1:0"],
        limits=lambda: served.limits,
        shutdown=served.stop.wait,
        on_fault=lambda where, fault: served.faults.append((where, fault)),
    )
    async with trio.open_nursery() as nursery:
        served.address = (await nursery.start(run))[0]
        served.started.set()
    served.stopped.set()


Handler = Callable[[Any, Any, Any], Awaitable[None]]


class Paths:
    """An ASGI app of one handler a path, with what the tests wait for."""

    def __init__(self, **handlers: Handler) -> None:
        self.handlers: dict[str, Handler] = {"hello": hello, **handlers}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self.handlers[scope["path"].strip("/").partition("/")[0]](scope, receive, send)


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, b"hello")


async def whole_body(receive: Any) -> bytes | None:
    """Read the request's body, or None when the peer left first."""
    body = b""
    while True:
        message: dict[str, Any] = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


class Silent:
    """A handler that answers nothing, and says when it runs and when it hears the peer leave."""

    def __init__(self) -> None:
        self.began = trio.Event()
        self.left = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.began.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()


class Stream:
    """A handler that streams `piece` until the peer leaves or `over` is set."""

    def __init__(self, piece: bytes, pause_s: float = 0.0) -> None:
        self.piece = piece
        self.pause_s = pause_s
        self.began = trio.Event()
        self.over = trio.Event()
        self.left = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, receive, nursery.cancel_scope)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while not self.over.is_set():
                await send({"type": "http.response.body", "body": self.piece, "more_body": True})
                self.began.set()
                await trio.sleep(self.pause_s)
            await send({"type": "http.response.body", "body": b""})
            nursery.cancel_scope.cancel(reason="streamed")

    async def _listen(self, receive: Any, scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()
        scope.cancel(reason="the peer left")
