"""Being told, by real sockets and a real client library."""

import json
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed, connect_websocket_url
from wsproto.events import Pong

from tests.harness import process
from tests.harness.client import Memory
from tests.harness.house import NET_S, make_key
from tests.harness.wire import SocketPeer

PIECES = 30


@asynccontextmanager
async def device(url: str, key: str, memory: Memory):
    """Connect, and go on where `memory` stands."""
    address = f"{url.replace('http', 'ws')}/abp-client/VCP_Key={key}{memory.query}"
    async with trio.open_nursery() as nursery:
        socket = await connect_websocket_url(nursery, address)
        try:
            yield socket
        finally:
            with trio.move_on_after(1, shield=True):
                await socket.aclose()
            # trio_websocket 0.12 leaves the connection open when the other side closed it.
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(socket._stream)
            nursery.cancel_scope.cancel(reason="the device has left")


async def hear(socket, memory: Memory, *kinds: str) -> dict[str, Any]:
    with trio.fail_after(NET_S):
        while True:
            frame: dict[str, Any] = json.loads(await socket.get_message())
            memory.take(frame)
            if frame["type"] in kinds:
                return frame


def chat(**apex: Any) -> dict[str, Any]:
    words = [{"role": "user", "content": "x"}]
    return {
        "model": f"stream:{PIECES}:30",
        "messages": words,
        "requestId": "r1",
        "stream": True,
        "apex": apex,
    }


async def test_a_chat_over_http_is_watched_over_a_socket_that_is_lost_in_the_middle(tmp_path: Path) -> None:
    async with process.provider() as provider:
        toml = process.upstream(provider.url, models=[f"stream:{PIECES}:30"])
        async with process.hub(tmp_path, toml) as hub:
            key, memory = await make_key(tmp_path, "chat"), Memory()
            headers = {"Authorization": f"Bearer {key}"}
            async with (
                httpx.AsyncClient(trust_env=False, timeout=NET_S, headers=headers) as client,
                trio.open_nursery() as nursery,
            ):
                replies: list[httpx.Response] = []

                async def ask() -> None:
                    body = chat(push=True)
                    replies.append(await client.post(f"{hub.url}/v1/chat/completions", json=body))

                async with device(hub.url, key, memory) as socket:
                    nursery.start_soon(ask)
                    for _ in range(PIECES // 3):
                        await hear(socket, memory, "chat.chunk")
                async with device(hub.url, key, memory) as socket:
                    assert (await hear(socket, memory, "resumed"))["data"] == {"recovered": True}
                    end = await hear(socket, memory, "chat.completed")
                assert memory.is_whole
                assert end["data"]["finishReason"] == "stop"
            text = "".join(
                choice["delta"].get("content") or ""
                for line in replies[0].text.splitlines()
                if line.startswith("data: {")
                for choice in json.loads(line[6:])["choices"]
            )
            assert memory.texts == {"r1": text}


async def test_the_end_of_the_hub_reaches_devices_and_readers(tmp_path: Path) -> None:
    # Nobody who only listens holds a drain up: one that did would do so for longer than the net is.
    async with process.hub(tmp_path, "[server]\ndrain_timeout_s = 600\n") as hub:
        key, memory = await make_key(tmp_path, "chat"), Memory()
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            httpx.AsyncClient(trust_env=False, timeout=NET_S, headers=headers) as client,
            client.stream("GET", f"{hub.url}/v1/events") as reply,
            device(hub.url, key, memory) as socket,
        ):
            lines = reply.aiter_lines()
            assert (await anext(lines)).startswith("id: ")
            told = await client.post(f"{hub.url}/v1/notifications", json={"message": "水", "kind": "alert"})
            assert told.status_code == 201
            assert (await hear(socket, memory, "alert"))["data"]["message"] == "水"
            hub.process.terminate()
            with trio.fail_after(NET_S):
                assert any("水" in line for line in [line async for line in lines])
                with pytest.raises(ConnectionClosed) as closed:
                    while True:
                        await socket.get_message()
            assert closed.value.reason is not None
            assert closed.value.reason.code == 1001
        assert await hub.ended() == 0
    async with process.hub(tmp_path) as hub:
        async with device(hub.url, key, memory) as socket:
            assert (await hear(socket, memory, "resumed"))["data"] == {"recovered": False}
            assert (await hear(socket, memory, "alert"))["data"]["message"] == "水"


async def test_a_device_that_never_reads_is_cut_and_the_others_are_told(tmp_path: Path) -> None:
    # What lies unread is to cut it, and not the time that it lies there: that has no end here.
    async with process.hub(tmp_path, "[limits]\nsend_timeout_s = 3600\n") as hub:
        key, memory = await make_key(tmp_path, "chat"), Memory()
        headers = {"Authorization": f"Bearer {key}"}
        watching = {"Authorization": f"Bearer {await make_key(tmp_path, 'admin')}"}
        host, port = hub.url.removeprefix("http://").split(":")
        async with (
            httpx.AsyncClient(trust_env=False, timeout=NET_S, headers=headers) as client,
            await trio.open_tcp_stream(host, int(port)) as stream,
            device(hub.url, key, memory) as socket,
        ):
            frozen = SocketPeer(stream)
            await frozen.open(f"/client/VCP_Key={key}")
            sent = 0
            metrics = partial(client.get, f"{hub.url}/metrics", headers=watching)
            while "apexbridge_event_subscribers_cut_total 0" in (await metrics()).text:
                reply = await client.post(f"{hub.url}/v1/notifications", json={"message": "水" * 10_000})
                assert reply.status_code == 201
                said = await hear(socket, memory, "notification")
                path = f"/v1/notifications/{said['data']['id']}/ack"
                assert (await client.post(f"{hub.url}{path}", json={})).status_code == 200
                sent += 1
                assert sent < 3000
                await frozen.say(Pong())  # it lives: or a slow machine's pings would be what cuts it
            assert sent > 20
            assert await frozen.closed() == 1013
