"""What the table in `config.applied` promises is true of a hub that runs, for whoever is connected already."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.daemon import _call_back_at, _limits_of
from apexbridge_trio.log import capture
from apexbridge_trio.serving import Address
from tests.harness.client import listening
from tests.harness.node import FakeNode, key_for
from tests.harness.world import Client, say
from tests.settings.house import NET_S, TOML, House, house

AWAY = "192.0.2.7"
Ask = Callable[[House, Client, str], Awaitable[int]]


def asks(method: str, path: str, body: Any = None, *headers: str) -> Ask:
    async def ask(_: House, client: Client, key: str) -> int:
        said = [f"Authorization: Bearer {key}", *headers] if key else headers
        return (await client.ask(method, path, body, *said)).status

    return ask


async def joins(home: House, _: Client, key: str) -> int:
    """A client's channel, while another one of that key is open."""
    async with listening(home.world, key), home.world.client() as client:
        answer = await FakeNode(client.stream).open("/abp-client", ("Authorization", f"Bearer {key}"))
        return answer[0] if isinstance(answer, tuple) else 101


CHAT = asks("POST", "/v1/chat/completions", say("x", "hello"))
STREAM = asks("POST", "/v1/chat/completions", say("x", "hello", stream=True))
UNNAMED = asks("POST", "/v1/chat/completions", say("x"))
LIST = asks("GET", "/v1/models")
LARGE = asks("POST", "/v1/chat/completions", say("x" * 2000, "hello"))
BACK = asks("POST", "/plugin-callback/suno/song-1", {"status": "success", "output": "x" * 2000})
TOLD = asks("GET", "/v1/models", None, "Authorization: Bearer wrong", "X-Forwarded-For: 198.51.100.1")
NAMED = asks("GET", "/v1/models", None, "Host: hub.lan")

# By key: the patch, who asks ("" is nobody with a key, from away "-"), what, and its status before and after.
# What is asked thrice: of a rate one is left, and of tokens what the first one takes.
TABLE: dict[str, tuple[Any, str, Ask, int, int]] = {
    "auth.loopback": ({"auth": {"loopback": "none"}}, "", LIST, 200, 401),
    "auth.allowed_hosts": ({"auth": {"allowed_hosts": ["hub.lan"]}}, "", NAMED, 403, 200),
    "chat.default_model": ({"chat": {"default_model": "nobody"}}, "chat", UNNAMED, 200, 404),
    "upstreams": ({"upstreams": None, "models": None}, "chat", CHAT, 200, 404),
    "callbacks.max_body_bytes": ({"callbacks": {"max_body_bytes": 1000}}, "callback", BACK, 404, 413),
    "limits.max_body_bytes": ({"limits": {"max_body_bytes": 1000}}, "chat", LARGE, 200, 413),
    "limits.chats_per_minute": ({"limits": {"chats_per_minute": 1}}, "chat", CHAT, 200, 429),
    "limits.callbacks_per_minute": ({"limits": {"callbacks_per_minute": 1}}, "callback", BACK, 404, 429),
    "limits.control_per_minute": ({"limits": {"control_per_minute": 1}}, "chat", LIST, 200, 429),
    "limits.keyless_per_minute": ({"limits": {"keyless_per_minute": 1}}, "-", LIST, 401, 429),
    "limits.wrong_keys_per_minute": ({"limits": {"wrong_keys_per_minute": 1}}, "-", TOLD, 401, 429),
    "limits.tokens_per_day": ({"limits": {"tokens_per_day": 1}}, "chat", CHAT, 200, 429),
    "limits.channels_per_key": ({"limits": {"channels_per_key": 1}}, "chat", joins, 101, 503),
    "limits.keys": ({"limits": {"keys": {"?": {"control_per_minute": 1}}}}, "chat", LIST, 200, 429),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
async def test_a_changed_key_counts_with_the_next_request_of_a_connection_that_is_open(
    name: str, tmp_path: Path
) -> None:
    patch, who, ask, before, after = TABLE[name]
    async with house(tmp_path) as home, home.world.client(AWAY if who == "-" else "127.0.0.1") as client:
        key = key_for(home.world, who) if who not in {"", "-"} else ""
        if name == "limits.keys":
            patch = {"limits": {"keys": {key.split("_")[1]: patch["limits"]["keys"]["?"]}}}
        with trio.fail_after(NET_S):
            assert {await ask(home, client, key) for _ in range(3)} == {before}
            reply = await home.patch(patch)
            assert reply.status == 200, reply
            assert name in [one["key"] for one in reply.json["changed"]]
            assert [await ask(home, client, key) for _ in range(3)][-1] == after


async def test_chats_in_flight_count_against_a_limit_that_came_later(tmp_path: Path) -> None:
    for what, ask, stream in (("concurrent_chats", CHAT, False), ("concurrent_streams", STREAM, True)):
        async with house(tmp_path, TOML) as home, home.world.client() as busy, home.world.client() as client:
            key = key_for(home.world, "chat")
            tool = home.world.add_tool("held", hold=True)
            said = say("held {}", "hands", stream=stream)
            await busy.chat(said, f"Authorization: Bearer {key}")
            with trio.fail_after(NET_S):
                await tool.started.wait()
                assert await ask(home, client, key) == 200
                assert (await home.patch({"limits": {what: 1}})).status == 200
                assert await ask(home, client, key) == 429
                assert (await home.patch({"limits": {what: 2}})).status == 200
                assert await ask(home, client, key) == 200


async def test_where_plugins_call_back_moves_also_without_an_address_of_tcp(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        hub = home.world.hub
        with capture():
            _call_back_at(hub, [Address(f"{tmp_path}/hub.sock", 0)])
        assert (await home.patch({"server": {"public_url": "https://home.example"}})).status == 200
        assert hub.pendings.url == "https://home.example/plugin-callback"


@pytest.mark.parametrize(("config", "server"), [(100_000, 16 << 20), (20 << 20, 20 << 20)])
async def test_the_server_takes_frames_as_large_as_a_nodes_may_be(
    config: int, server: int, tmp_path: Path
) -> None:
    async with house(tmp_path) as home:
        assert (await home.patch({"nodes": {"max_frame_bytes": config}})).status == 200
        assert _limits_of(home.world.hub).max_message_bytes == server


async def test_whom_a_proxy_brings_counts_as_soon_as_it_is_trusted(tmp_path: Path) -> None:
    async with house(tmp_path, "[limits]\nwrong_keys_per_minute = 1\n") as home:
        statuses = []
        for trusted in ([], [AWAY], []):
            assert (await home.patch({"server": {"trusted_proxies": trusted}})).status == 200
            async with home.world.client(AWAY) as client:
                statuses.append(await TOLD(home, client, ""))
        assert statuses == [401, 401, 429]
