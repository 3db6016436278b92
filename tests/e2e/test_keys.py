"""A key that is revoked beside a running hub, by the command: real sockets, real processes."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed

from apexbridge_trio.store import Store
from tests.e2e.test_events import device, hear
from tests.harness import process
from tests.harness.client import Memory
from tests.harness.house import NET_S, house

STREAM: dict[str, Any] = {
    "model": "endless:30",
    "stream": True,
    "messages": [{"role": "user", "content": "x"}],
}


async def _read(url: str, key: str, path: str, body: Any, began: trio.Event, said: list[str]) -> None:
    """Read a reply to its end."""
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        httpx.AsyncClient(trust_env=False, timeout=NET_S, headers=headers) as client,
        client.stream("POST" if body else "GET", f"{url}{path}", json=body) as reply,
    ):
        async for line in reply.aiter_lines():
            said.append(line)
            began.set()


async def _closed_with(url: str, key: str, began: trio.Event) -> None:
    async with device(url, key, memory := Memory()) as socket:
        await hear(socket, memory, "connection_ack")
        began.set()
        with trio.fail_after(NET_S), pytest.raises(ConnectionClosed) as closed:
            while True:
                await socket.get_message()
    reason = closed.value.reason
    assert reason is not None
    assert (reason.code, reason.reason) == (1008, "its key was revoked")


async def test_a_key_that_is_revoked_by_the_command_takes_along_what_it_has_open(tmp_path: Path) -> None:
    async with process.provider() as provider:
        toml = process.upstream(provider.url, models=["endless:30"])
        async with house(tmp_path, toml) as at:
            state, url = str(at.state / "hub"), at.hub.url
            made, others = [(await at.post("/v1/keys", {"scopes": ["chat"]})).json() for _ in range(2)]
            key, key_id, other = made["key"], made["id"], others["key"]
            streamed: list[str] = []
            events: list[str] = []
            begun = [trio.Event() for _ in range(3)]
            async with trio.open_nursery() as nursery:
                chat = partial(_read, url, key, "/v1/chat/completions", STREAM, begun[0], streamed)
                nursery.start_soon(chat)
                nursery.start_soon(_read, url, key, "/v1/events", None, begun[1], events)
                nursery.start_soon(_closed_with, url, key, begun[2])
                with trio.fail_after(NET_S):
                    for event in begun:
                        await event.wait()
                await at.until(f"/v1/keys/{key_id}", lambda said: said["open"] == 3)
                async with device(url, other, memory := Memory()) as socket:
                    await hear(socket, memory, "connection_ack")
                    said = await process.command("keys", "revoke", key_id, "--state", state, "--json")
                    assert json.loads(said) == {"id": key_id, "revoked": True}
                    await at.until(f"/v1/keys/{key_id}", lambda said: said["open"] == 0)
                    await socket.send_message(json.dumps({"type": "ping"}))
                    await hear(socket, memory, "pong")
            assert streamed[-2] == "data: [DONE]"
            assert '"apex":{"interrupted":true}' in "".join(streamed[-6:])
            assert ": its key was revoked" in events
            assert await at.get("/v1/requests") == []
            (entry,) = [one for one in (await at.get("/v1/keys"))["keys"] if one["id"] == key_id]
            assert entry["state"] == "revoked"
            (newest, *_) = (await at.get("/v1/audit"))["entries"]
            assert (newest["action"], newest["target"], newest["from"]) == ("key.revoked", key_id, "cli")
        with Store(Path(state)) as store:
            kept = store.keys()
        used = {one.id: one.last_used_ms for one in kept}
        assert used[key_id]
        assert used[others["id"]]
