"""Nodes: how fast a task goes to one and its result comes back, and what an idle one costs.

The nodes are as thin as can be: they find the task's id in the frame and answer with a prepared one, so
what is measured is the hub. A round trip is ``POST /v1/tasks`` with `waitForResult`: over HTTP in, to the
disk twice (assigned, ended), over the WebSocket out and back.
"""

import re
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Final

import trio

from benchmarks.load import Connection
from benchmarks.slices import Figures, Slice, spread, turns

IDLE: Final = 1000
# A node says so often that it lives; a slice is shorter.
_TASK: Final = re.compile(rb'"task_assign","data":\{"taskId":"([^"]+)"')
_REGISTER: Final = (
    b'{"type":"node_register","data":{"name":"%(name)s","nodeId":"%(name)s","tools":["echo"],'
    b'"config":{"tasks":{"maxConcurrent":1000}}}}'
)
_PING: Final = b"\x89\x00"
_PONG: Final = b"\x8a\x80\0\0\0\0"
_SETTLE_S: Final = 2.0


class BenchNode:
    """One connection of a node, by raw bytes."""

    def __init__(self, port: int, key: str, name: str) -> None:
        self._port = port
        self._key = key
        self._name = name

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Join, and answer every task; "started" means registered."""
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            await stream.send_all(self._upgrade())
            await stream.send_all(_text(_REGISTER % {b"name": self._name.encode()}))
            said = b""
            while b'"node_registered"' not in said:
                said += await stream.receive_some(65536)
            task_status.started()
            rest = b""
            async for data in stream:
                rest = await self._answer(stream, rest + bytes(data))

    async def _answer(self, stream: trio.SocketStream, data: bytes) -> bytes:
        end = 0
        replies = [_PONG] if _PING in data else []  # one that does not pong is dropped
        for found in _TASK.finditer(data):
            end = found.end()
            replies.append(
                _text(b'{"type":"task_result","data":{"taskId":"%s","result":{"ok":true}}}' % found[1])
            )
        if replies:
            await stream.send_all(b"".join(replies))
        return data[end:].replace(_PING, b"")[-4096:]

    def _upgrade(self) -> bytes:
        return (
            "GET /abp-distributed-server HTTP/1.1\r\n"
            f"Host: 127.0.0.1\r\nAuthorization: Bearer {self._key}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()


def _text(payload: bytes) -> bytes:
    """A client's text frame, masked with zeros."""
    size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return b"\x81" + size + b"\0\0\0\0" + payload


@asynccontextmanager
async def _nodes(part: Slice, many: int) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for number in range(many):
            node = BenchNode(part.target.port, part.target.keys["node"], f"bench{number}")
            await nursery.start(node.run)
        yield
        nursery.cancel_scope.cancel(reason="measured")


async def round_trips(part: Slice, *, nodes: int, at_once: int) -> Figures:
    """Tasks there and back, so many at a time."""
    took: list[float] = []
    body = {"toolName": "echo", "toolArgs": {"text": "hello"}, "waitForResult": True}
    ask = part.target.post("/v1/tasks", body, key="admin")

    async def client() -> None:
        with Connection(part.target.port) as connection:
            for _ in turns(part.seconds):
                began = time.perf_counter()
                await connection.ask(ask)
                took.append(time.perf_counter() - began)

    async with _nodes(part, nodes):
        began = time.perf_counter()
        async with trio.open_nursery() as clients:
            for _ in range(at_once):
                clients.start_soon(client)
        return {"per s": len(took) / (time.perf_counter() - began), **spread(took)}


async def idle(part: Slice) -> Figures:
    """Many nodes that do nothing: memory, processor, and whether a request is still answered."""
    process = part.target.process
    before_mb = process.rss_mb()
    with ExitStack() as held:
        connection = held.enter_context(Connection(part.target.port))
        async with _nodes(part, IDLE):
            before_s = process.cpu_s()
            await trio.sleep(_SETTLE_S)
            used_s = process.cpu_s() - before_s
            took = []
            for _ in range(50):
                began = time.perf_counter()
                await connection.ask(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                took.append(time.perf_counter() - began)
            kb = (process.rss_mb() - before_mb) * 1000 / IDLE
            return {"KB each": kb, "CPU %": 100 * used_s / _SETTLE_S, "health p99 ms": spread(took)["p99 ms"]}
