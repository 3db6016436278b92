"""A node that drives the real channel in the node's role, so it can not lie, over a connection of the world's."""

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from apexbridge_trio.protocol.channel import NodeEnd
from apexbridge_trio.protocol.envelope import frame
from apexbridge_trio.protocol.frames import (
    ConnectionAck,
    NodeRegister,
    NodeRegistered,
    TaskAssign,
    TaskCancel,
    TaskCancelled,
    TaskResult,
)
from tests.harness.world import World

PATH = "/abp-distributed-server"


class FakeNode:
    """One connection as a node has it.

    Attributes:
        closed: The code the hub closed it with, once it has.
        does_pong: Whether pings are answered.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.ws = WSConnection(ConnectionType.CLIENT)
        self.end = NodeEnd()
        self.closed: int | None = None
        self.does_pong = True
        self._text = ""
        self._heard: list[str] = []
        self._sending = trio.StrictFIFOLock()

    async def open(self, path: str, *headers: tuple[str, str], subprotocols: list[str] | None = None) -> Any:
        """Ask for the upgrade; returns its acceptance, or the status and body of the refusal."""
        extra = [(name.encode(), value.encode()) for name, value in headers]
        asked = Request(host="hub", target=path, extra_headers=extra, subprotocols=subprotocols or [])
        await self.stream.send_all(self.ws.send(asked))
        status, body = 0, b""
        while True:
            events = await self._events()
            for place, event in enumerate(events):
                if isinstance(event, AcceptConnection):
                    for early in events[place + 1 :]:  # frames may come with the answer
                        await self._take(early)
                    return event
                if isinstance(event, RejectConnection):
                    status = event.status_code
                if isinstance(event, RejectData):
                    body += event.data
                    if event.body_finished:
                        return status, json.loads(body)

    async def _events(self) -> list[Event]:
        try:
            data = await self.stream.receive_some(65536)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        self.ws.receive_data(bytes(data) or None)
        return list(self.ws.events())

    async def say(self, text: bytes | str) -> None:
        """Send a frame as it is."""
        said = text if isinstance(text, str) else text.decode()
        async with self._sending:
            await self.stream.send_all(self.ws.send(TextMessage(said)))

    async def raw(self) -> str | None:
        """Return the next frame, or None once the hub has closed."""
        while not self._heard:
            if self.closed is not None:
                return None
            for event in await self._events():
                await self._take(event)
        return self._heard.pop(0)

    async def _take(self, event: Event) -> None:
        if isinstance(event, TextMessage):
            self._text += event.data
            if event.message_finished:
                self._heard.append(self._text)
                self._text = ""
        elif isinstance(event, Ping) and self.does_pong and self.ws.state is ConnectionState.OPEN:
            async with self._sending:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self.stream.send_all(self.ws.send(event.response()))
        elif isinstance(event, CloseConnection):
            self.closed = int(event.code)

    async def hear(self, kind: type[Any] | None = None) -> Any:
        """Return the next frame, as the channel reads it; of `kind`, passing over others."""
        while True:
            text = await self.raw()
            if text is None:
                return None
            value = self.end.receive(text)
            if kind is None or isinstance(value, kind):
                return value

    async def close_code(self) -> int | None:
        """Read until the hub closes, and return the code."""
        while await self.raw() is not None:
            pass
        return self.closed

    async def register(self, name: str = "attic", **fields: Any) -> NodeRegistered:
        """Register, and return what the hub says to that."""
        known = {"node_id": name, "tools": ["echo"], "features": ["task_cancel"], **fields}
        await self.say(self.end.register(NodeRegister(name=name, **known)))
        said: NodeRegistered = await self.hear(NodeRegistered)
        return said

    async def task(self) -> TaskAssign:
        """Wait for a task."""
        said: TaskAssign = await self.hear(TaskAssign)
        return said

    async def cancelled(self) -> TaskCancel:
        """Wait to be told to stop a task."""
        said: TaskCancel = await self.hear(TaskCancel)
        return said

    async def answer(self, task_id: str, result: Any = None, **fields: Any) -> None:
        """Send a result."""
        raw = msgspec.Raw(json.dumps(result).encode())
        await self.say(self.end.end_task(TaskResult(task_id, result=raw, **fields)))

    async def confirm(self, task_id: str) -> None:
        """Say that a task has stopped."""
        await self.say(self.end.end_task(TaskCancelled(task_id)))

    async def tell(self, value: Any) -> None:
        """Send any frame."""
        await self.say(frame(value))


def key_for(world: World, *scopes: str, tenant: str = "default", family: str | None = None) -> str:
    """Make a key."""
    return world.hub.keys.create(scopes=scopes, tenant_id=tenant, family_id=family)[0]


@asynccontextmanager
async def connected(world: World, key: str | None = None, path: str = PATH) -> AsyncIterator[FakeNode]:
    """Connect with a key of the scope `node`; leaving hangs up."""
    async with world.client() as client:
        node = FakeNode(client.stream)
        key = key or key_for(world, "node")
        accepted = await node.open(path, ("Authorization", f"Bearer {key}"))
        assert isinstance(accepted, AcceptConnection), accepted
        assert isinstance(await node.hear(), ConnectionAck)
        yield node


@asynccontextmanager
async def joined(
    world: World, name: str = "attic", key: str | None = None, **fields: Any
) -> AsyncIterator[FakeNode]:
    """Connect and register."""
    async with connected(world, key) as node:
        said = await node.register(name, **fields)
        assert said.success, said
        yield node
