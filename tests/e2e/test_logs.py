"""The log channel by real sockets and a client library that is not the hub's own."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, connect_websocket_url

from tests.harness.house import NET_S, House, house, make_key
from tests.harness.node import FakeNode
from tests.harness.process import command

# A plugin of this one is run by the embedded model.
QUESTION = {"messages": [{"role": "user", "content": "现在几点"}], "requestId": "r1"}


@asynccontextmanager
async def viewer(url: str, path: str, key: str, query: str = "", **options: Any) -> AsyncIterator[Any]:
    address = f"{url.replace('http', 'ws')}{path}{f'/VCP_Key={key}' if key else ''}{query}"
    async with trio.open_nursery() as nursery:
        socket = await connect_websocket_url(nursery, address, **options)
        try:
            yield socket
        finally:
            with trio.move_on_after(1, shield=True):
                await socket.aclose()
            # trio_websocket 0.12 leaves the connection open when the other side closed it.
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(socket._stream)
            nursery.cancel_scope.cancel(reason="the viewer has left")


async def frame(socket: Any) -> dict[str, Any]:
    with trio.fail_after(NET_S):
        said: dict[str, Any] = json.loads(await socket.get_message())
    return said


async def tools_of(socket: Any, request_id: str) -> list[dict[str, Any]]:
    """Read until the line of a request's end; returns the frames of its tools."""
    found = []
    while True:
        said = await frame(socket)
        data = said["data"]
        if data.get("requestId") == request_id:
            if data["log_type"] == "tool_log":
                found.append(said)
            if data["content"].startswith("request "):
                return found


async def ask(house: House, body: dict[str, Any] = QUESTION) -> None:
    reply = await house.post("/v1/chat/completions", body)
    assert reply.status_code == 200, reply.text


async def test_both_dialects_see_a_tool_run_and_the_hub_end(tmp_path: Path) -> None:
    async with house(tmp_path) as hub:
        state = tmp_path / "hub"
        key, other = await make_key(state, "logs"), await make_key(state, "chat")
        url = hub.hub.url
        headers = [(b"Authorization", f"Bearer {key}".encode())]
        async with (
            viewer(url, "/ABPlog", key) as new,
            viewer(url, "/log", "", extra_headers=headers) as by_header,
            viewer(url, "/VCPlog", key) as old,
        ):
            assert (await frame(new))["data"]["connectionId"].startswith("conn_")
            assert (await frame(by_header))["type"] == "connection_ack"
            assert (await frame(old))["message"] == "WebSocket connection successful for VCPLog."
            await ask(hub)
            for socket, kind in ((new, "abp_log"), (by_header, "abp_log"), (old, "vcp_log")):
                tools = await tools_of(socket, "r1")
                assert [(one["type"], one["data"]["status"]) for one in tools] == [
                    (kind, "executing"),
                    (kind, "success"),
                ]
                assert all(one["data"]["tool_name"] and one["data"]["content"] for one in tools)
            for path, wrong, status in (("/ABPlog", "apx_wrong", 401), ("/log", other, 403)):
                # The library leaves its socket open when it is refused.
                host, port = url.removeprefix("http://").split(":")
                async with await trio.open_tcp_stream(host, int(port)) as stream:
                    refusal = await FakeNode(stream).open(f"{path}/VCP_Key={wrong}")
                assert refusal[0] == status
            hub.hub.process.terminate()
            for socket in (new, old):
                with trio.fail_after(NET_S), pytest.raises(ConnectionClosed) as closed:
                    while True:
                        await socket.get_message()
                assert closed.value.reason is not None
                assert closed.value.reason.code == 1001
        assert await hub.hub.ended() == 0
    assert key.encode() not in bytes(hub.hub.said)


async def test_the_command_and_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as hub, hub.node("attic"):
        key = await make_key(tmp_path / "hub", "logs")
        monkeypatch.setenv("APEXBRIDGE_URL", hub.hub.url)
        monkeypatch.setenv("APEXBRIDGE_KEY", key)
        reply = await hub.post("/v1/nodes/attic/tasks", {"toolName": "nothing_like_it"})
        assert reply.status_code >= 400
        (tmp_path / "go").touch()
        work = {"toolName": "work", "toolArgs": {"folder": str(tmp_path), "id": "t"}, "waitForResult": True}
        reply = await hub.post("/v1/nodes/attic/tasks", work)
        assert reply.status_code == 200, reply.text
        lines = json.loads(await command("logs", "--json", "--node", "attic"))
        states = [line["status"] for line in lines if line["log_type"] == "tool_log"]
        assert states == ["executing", "success"]
        assert {line["nodeId"] for line in lines} == {"attic"}
        assert any("node status" in line["content"] for line in lines)
        assert await command("logs", "--level", "error") == ""


async def test_a_viewer_that_never_reads_is_dropped_and_chats_go_on(tmp_path: Path) -> None:
    # Short: what is tested is that it is dropped, and not when.
    async with house(tmp_path, "[limits]\nsend_timeout_s = 2.0\n") as hub:
        key = await make_key(tmp_path / "hub", "logs", "chat")
        host, port = hub.hub.url.removeprefix("http://").split(":")
        async with (
            await trio.open_tcp_stream(host, int(port)) as frozen,
            viewer(hub.hub.url, "/ABPlog", key) as quick,
        ):
            frozen.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
            await frozen.send_all(
                f"GET /ABPlog/VCP_Key={key} HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            assert b"101" in await frozen.receive_some(12)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drop_seen, quick, nursery.cancel_scope)
                number = 0
                while True:
                    # The path is in the line of the request, and the log's readers see it.
                    await hub.admin.get(f"{hub.hub.url}/v1/models/{'x' * 7000}", headers=bearer(key))
                    number += 1
                    assert number < 5000
            await ask(hub)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def drop_seen(quick: Any, scope: trio.CancelScope) -> None:
    """Read until the line of the viewer that was dropped, and say so."""
    while True:
        data = (await frame(quick))["data"]
        if data.get("content", "").startswith("request ") and 'path="/ABPlog/' in data["content"]:
            assert "lines_missed=" in data["content"]
            scope.cancel(reason="it was dropped")
