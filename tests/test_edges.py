"""Each size that a peer may send, at its bound and one over it; and how many connections."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from wsproto.events import BytesMessage

from apexbridge_trio.clients.link import MAX_FRAME_BYTES
from apexbridge_trio.nodes.link import MAX_FIRST_BYTES, MAX_FIRST_VCP_BYTES
from apexbridge_trio.serving import ServingLimits
from apexbridge_trio.serving.http import HEAD_BYTES
from tests.harness.client import listening
from tests.harness.node import FakeNode, connected, joined, key_for
from tests.harness.wire import Paths, Peer, Served, request, serving
from tests.harness.world import open_world, say

OVER = pytest.mark.parametrize("over", [0, 1])


def padded(body: bytes, size: int) -> bytes:
    return body + b" " * (size - len(body))


@OVER
async def test_a_head(tmp_path: Path, autojump_clock: object, over: int) -> None:
    async with open_world(tmp_path) as world, world.client() as client:
        known = len("/health") + len("host") + len("localhost:8088") + len("x-pad")
        pad = "x" * (HEAD_BYTES - known + over)
        await client.send(f"GET /health HTTP/1.1\r\nHost: localhost:8088\r\nX-Pad: {pad}\r\n\r\n".encode())
        reply = await client.reply()
        assert reply.status == (431 if over else 200)
        assert not over or reply.json["error"]["code"] == "head_too_large"


@OVER
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("held_by", ["server", "hub"])
async def test_a_body(tmp_path: Path, autojump_clock: object, over: int, chunked: bool, held_by: str) -> None:
    limits = ServingLimits(max_body_bytes=1000) if held_by == "server" else ServingLimits()
    quota = {"max_body_bytes": 1000} if held_by == "hub" else {}
    async with open_world(tmp_path, limits, quota=quota) as world, world.client() as client:
        body = padded(json.dumps(say("x", "hello")).encode(), 1000 + over)
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:8088\r\n"
        if chunked:
            pieces = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:500], body[500:]))
            await client.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + pieces + b"0\r\n\r\n")
        else:
            await client.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        reply = await client.reply()
        assert reply.status == (413 if over else 200)
        assert not over or reply.json["error"]["code"] == "body_too_large"


@OVER
async def test_a_body_for_another_route(tmp_path: Path, autojump_clock: object, over: int) -> None:
    async with open_world(tmp_path, ServingLimits(max_body_bytes=1000)) as world:
        body = padded(b'{"requestId":"nothing"}', 1000 + over)
        assert (await world.ask("POST", "/v1/interrupt", body)).status == (413 if over else 404)


@OVER
async def test_a_callback(tmp_path: Path, autojump_clock: object, over: int) -> None:
    async with open_world(tmp_path, callbacks={"max_body_bytes": 1000}) as world:
        key = f"Authorization: Bearer {key_for(world, 'callback')}"
        body = padded(b'{"status":"success","output":1}', 1000 + over)
        reply = await world.ask("POST", "/plugin-callback/suno/song-1", body, key)
        assert reply.status == (413 if over else 404)


@OVER
async def test_a_frame_of_a_device(tmp_path: Path, autojump_clock: object, over: int) -> None:
    async with open_world(tmp_path) as world, listening(world) as device:
        await device.wire.say(padded(b'{"type":"ping"}', MAX_FRAME_BYTES + over))
        if over:
            assert await device.wire.close_code() == 1009
        else:
            await device.hear("pong")


@OVER
@pytest.mark.parametrize(
    ("path", "bound"),
    [("/abp-distributed-server", MAX_FIRST_BYTES), ("/vcp-distributed-server", MAX_FIRST_VCP_BYTES)],
)
async def test_a_frame_of_a_node_before_it_has_registered(
    tmp_path: Path, autojump_clock: object, over: int, path: str, bound: int
) -> None:
    async with open_world(tmp_path) as world, connected(world, path=path) as node:
        await node.say(padded(b'{"type":"heartbeat","data":{}}', bound + over))
        await expect(node, over)


@OVER
async def test_a_frame_of_a_node(tmp_path: Path, autojump_clock: object, over: int) -> None:
    async with open_world(tmp_path, nodes={"max_frame_bytes": 100_000}) as world, joined(world) as node:
        await node.say(padded(b'{"type":"heartbeat","data":{"nodeId":"attic"}}', 100_000 + over))
        await expect(node, over)


async def expect(node: FakeNode, over: int) -> None:
    if over:
        assert await node.close_code() == 1009
    else:
        assert await node.raw() is not None


@OVER
async def test_the_largest_frame_of_all(over: int) -> None:
    """Whatever the configuration allows a node: the server's own bound."""

    async def heard(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        message = await receive()
        told.append(len(message.get("bytes") or b""))
        if message["type"] == "websocket.receive":
            await send({"type": "websocket.close", "code": 1000})

    told: list[int] = []
    bound = 200_000
    async with serving(Paths(ws=heard), max_message_bytes=bound) as served, served.socket("/ws") as ws:
        await ws.say(BytesMessage(bytes(bound + over)))
        assert await ws.closed() == (1009 if over else 1000)
    assert told == ([0] if over else [bound])


class TestConnections:
    """127.0.0.2 stands for another machine: only 127.0.0.1 is this one to the server."""

    async def test_of_one_address(self) -> None:
        async with serving(Paths(), connections_per_address=2) as served:
            first, second = await from_elsewhere(served), await from_elsewhere(served)
            for peer in (first, second):
                assert (await peer.get("/hello")).status == 200
            third = await from_elsewhere(served)
            reply = await third.get("/hello")
            assert (reply.status, reply.json["error"]["code"]) == (503, "too_many_connections")
            assert reply.headers["retry-after"] == "1"
            await served.lives()  # this machine's own are not counted
            await third.stream.aclose()
            await first.stream.aclose()
            while (await asked_from_elsewhere(served)) != 200:
                pass
            await second.stream.aclose()

    async def test_a_change_counts_for_the_next(self) -> None:
        async with serving(Paths(), connections_per_address=1) as served:
            first = await from_elsewhere(served)
            assert (await first.get("/hello")).status == 200
            assert await asked_from_elsewhere(served) == 503
            served.limits = replace(served.limits, connections_per_address=0)
            assert await asked_from_elsewhere(served) == 200
            served.limits = replace(served.limits, max_body_bytes=10)
            async with served.peer() as peer:
                assert (await peer.post("/hello", bytes(11))).status == 413
            await first.stream.aclose()

    async def test_those_that_are_turned_away_are_few(self) -> None:
        async with serving(Paths(), connections_per_address=1) as served:
            peers = [await from_elsewhere(served) for _ in range(80)]
            for peer in peers[1:]:
                with suppress(trio.BrokenResourceError):  # those that are closed unread
                    await peer.send(request("GET", "/hello"))
            ends = [await peer.end() for peer in peers[1:]]
            assert sum(b"503" in end for end in ends) == 64
            for peer in peers:
                await peer.stream.aclose()
            await served.lives()


async def from_elsewhere(served: Served) -> Peer:
    return Peer(await trio.open_tcp_stream(*served.address, local_address="127.0.0.2"))


async def asked_from_elsewhere(served: Served) -> int:
    peer = await from_elsewhere(served)
    async with peer.stream:
        await peer.send(request("GET", "/hello"))
        return (await peer.reply()).status
