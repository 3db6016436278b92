"""A hub as a node meets it: the real `HubEnd` behind a real WebSocket, over memory or TCP.

It does what it is told to: admits or refuses, acknowledges or not, falls silent, closes with a code.
What nodes say is kept, and can be waited for.
"""

import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import msgspec
import trio
import trio_websocket
from msgspec import Raw
from wsproto.events import CloseConnection

from apexbridge_trio.agent import HubAddress
from apexbridge_trio.protocol.channel import HubEnd
from apexbridge_trio.protocol.frames import (
    Heartbeat,
    HeartbeatAck,
    NodeRegister,
    NodeRegistered,
    NodeUnregister,
    NodeUnregistered,
    TaskAssign,
    TaskCancel,
    TaskFault,
    TaskResult,
    TaskResultAck,
)

T = TypeVar("T")
KEY = "apx_0123456789abcdef_0123456789012345678901234567890123456789abc"
ADDRESS = HubAddress("hub.test", 8088, is_tls=False)


def why(result: TaskResult) -> TaskFault:
    """Return why a task has failed, as our agent says it."""
    return msgspec.json.decode(result.error, type=TaskFault)


class Wire:
    """One connection of a node, at the hub's end."""

    def __init__(self, hub: "FakeHub", socket: trio_websocket.WebSocketConnection) -> None:
        self.hub = hub
        self.socket = socket
        self.end = HubEnd(lambda: 0)
        self.said: list[Any] = []
        self.is_closed = False
        self._unseen: deque[Any] = deque()
        self._news = trio.Event()

    async def run(self) -> None:
        try:
            while True:
                text = await self.socket.get_message()
                self.hub.largest = max(self.hub.largest, len(text))
                if self.hub.is_silent:
                    await trio.sleep_forever()
                if (event := self.end.receive(text)) is not None:
                    await self._take(event)
        except trio_websocket.ConnectionClosed:
            pass
        finally:
            self.is_closed = True
            self._wake()

    async def say(self, value: Any) -> None:
        await self.socket.send_message(self.end.say(value).decode())

    async def hear(self, kind: type[T]) -> T:
        """Return the next frame of this kind; those before it are skipped."""
        while True:
            while self._unseen:
                if isinstance(found := self._unseen.popleft(), kind):
                    return found
            await trio.lowlevel.checkpoint()  # who is cut by that is told so
            assert not self.is_closed, f"closed before a {kind.__name__}: {self.said}"
            await self._news.wait()

    async def close(self, code: int) -> None:
        """Say that this is the end, and let the node close."""
        await self.socket._send(CloseConnection(code=code))
        await self.closed()

    def go_deaf(self) -> None:
        """Take nothing and say nothing any more, as the far end of a half-open connection."""
        for name in ("receive_some", "send_all"):
            setattr(self.socket._stream, name, _for_ever)

    async def closed(self) -> None:
        while not self.is_closed:
            await self._news.wait()

    async def assign(self, task_id: str, tool: str = "echo", timeout_ms: int = 60_000, **more: Any) -> None:
        arguments = Raw(msgspec.json.encode(more.pop("arguments", {})))
        await self.say(
            TaskAssign(
                task_id=task_id,
                node_id=self.end.node_id,
                tool_name=tool,
                tool_args=arguments,
                timeout=timeout_ms,
                remaining_ms=more.pop("remaining_ms", timeout_ms),
                priority=5,
                attempt=1,
                **more,
            )
        )

    async def result_of(self, task_id: str) -> TaskResult:
        while (result := await self.hear(TaskResult)).task_id != task_id:
            pass
        return result

    async def cancel(self, task_id: str, reason: str = "") -> None:
        await self.say(TaskCancel(task_id, reason))

    async def ack(self, task_id: str, *, success: bool = True) -> None:
        await self.say(TaskResultAck(task_id, self.end.node_id, success=success, timestamp=0))

    async def admit(self, register: NodeRegister) -> None:
        node_id = register.node_id or "node_given"
        beat = {"intervalMs": self.hub.interval_ms, "timeoutMs": self.hub.timeout_ms}
        resume = self.hub.resume(register)
        welcome = NodeRegistered(node_id, success=True, message="", heartbeat=beat, resume=resume)
        frame, held = self.end.admit(node_id, welcome)
        await self.socket.send_message(frame.decode())
        for event in held:
            await self._take(event)

    async def refuse(self, code: str) -> None:
        for frame in self.end.refuse(NodeRegistered(None, success=False, message="no", code=code)):
            await self.socket.send_message(frame.decode())

    async def _take(self, event: Any) -> None:
        self.said.append(event)
        self.hub.heard.append(event)
        self._unseen.append(event)
        self._wake()
        match event:
            case NodeRegister() if self.hub.decides:
                if self.hub.refusal:
                    await self.refuse(self.hub.refusal)
                else:
                    await self.admit(event)
            case Heartbeat():
                await self.say(HeartbeatAck(event.node_id, success=True, status=event.status, timestamp=0))
            case TaskResult() if self.hub.acks:
                await self.ack(event.task_id)
            case NodeUnregister():
                await self.say(NodeUnregistered(self.end.node_id))

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()


async def _for_ever(*_: object) -> None:
    await trio.sleep_forever()


def _keep_all(register: NodeRegister) -> dict[str, list[str]]:
    return {"keep": register.active_tasks or [], "cancel": []}


@dataclass
class FakeHub:
    """Where nodes connect to.

    Args:
        status: In place of an upgrade.
        refusal: The code with which a registration is refused.
        decides: Whether a registration is answered.
        acks: Whether results are acknowledged.
        is_silent: Whether all that comes is left unread.
        is_gone: Whether nothing is there.
        tls: With what it is served, if it is.
    """

    key: str = KEY
    status: int = 0
    refusal: str = ""
    decides: bool = True
    acks: bool = True
    is_silent: bool = False
    is_gone: bool = False
    tls: ssl.SSLContext | None = None
    interval_ms: int = 10_000
    timeout_ms: int = 30_000
    resume: Callable[[NodeRegister], dict[str, list[str]]] = _keep_all
    wires: list[Wire] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)
    requests: list[trio_websocket.WebSocketRequest] = field(default_factory=list)
    dialled: list[float] = field(default_factory=list)
    largest: int = 0
    _nursery: trio.Nursery | None = None
    _news: trio.Event = field(default_factory=trio.Event)

    async def dial(self, address: HubAddress) -> trio.abc.Stream:
        """Connect to it over memory, as an agent's `Door` does."""
        self.dialled.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.is_gone or self._nursery is None:
            from apexbridge_trio.agent.socket import Unreachable

            raise Unreachable("nothing is there")
        near, far = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.serve, far)
        return near

    async def serve(self, stream: trio.abc.Stream) -> None:
        async with stream, trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, stream, max_message_size=2**24)
            self.requests.append(request)
            await self.on_request(request)
            nursery.cancel_scope.cancel(reason="the node's connection is over")

    async def on_request(self, request: trio_websocket.WebSocketRequest) -> None:
        shown = dict(request.headers).get(b"authorization", b"").decode()
        status = self.status or (0 if shown == f"Bearer {self.key}" else 401)
        if status:
            await request.reject(status, body=b"no")
            return
        wire = Wire(self, await request.accept())
        self.wires.append(wire)
        self._news.set()
        self._news = trio.Event()
        await wire.run()

    async def wire(self, number: int = 0) -> Wire:
        """Wait for a node's connection of this number."""
        while len(self.wires) <= number:
            await self._news.wait()
        return self.wires[number]

    @asynccontextmanager
    async def open(self) -> AsyncIterator["FakeHub"]:
        async with trio.open_nursery() as self._nursery:
            yield self
            self._nursery.cancel_scope.cancel(reason="the test is over")

    @asynccontextmanager
    async def listen(self, port: int = 0) -> AsyncIterator[str]:
        """Serve on TCP; gives the address."""
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, self._boxed, port, host="127.0.0.1"))
            port = listeners[0].socket.getsockname()[1]
            yield f"{'https' if self.tls else 'http'}://127.0.0.1:{port}"
            nursery.cancel_scope.cancel(reason="the hub is gone")

    async def _boxed(self, stream: trio.abc.Stream) -> None:
        if self.tls:
            stream = trio.SSLStream(stream, self.tls, server_side=True, https_compatible=True)
        # A node that dies in the middle of a frame is no fault of this one.
        try:
            await self.serve(stream)
        except* (trio.BrokenResourceError, trio_websocket.ConnectionClosed):
            pass
