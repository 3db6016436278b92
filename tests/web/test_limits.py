"""What a key may take, told on each reply and refused at every edge."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.config import KeyLimits, Limits
from apexbridge_trio.flights import Flight
from apexbridge_trio.plugins import CallContext, Later, Pending
from apexbridge_trio.protocol.estimate import prompt_tokens
from tests.harness.client import listening
from tests.harness.node import FakeNode, key_for
from tests.harness.wire import Reply
from tests.harness.world import World, content, events, open_world, say

AWAY = "192.0.2.7"
UPGRADE = "/abp-client"


def bearer(key: str) -> str:
    return f"Authorization: Bearer {key}"


async def ask_from(
    world: World, address: str, method: str, path: str, body: Any = None, *headers: str
) -> Reply:
    async with world.client(address) as client:
        return await client.ask(method, path, body, *headers)


def refusal(reply: Reply) -> tuple[int, str, str]:
    return reply.status, reply.json["error"]["type"], reply.json["error"]["code"]


class TestRates:
    async def test_each_reply_says_how_one_stands(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path, quota={"chats_per_minute": 2}) as world:
            began = time.time()
            first, second, third = [await world.chat(say("x", "hello")) for _ in range(3)]
            took_s = time.time() - began
            assert [reply.status for reply in (first, second, third)] == [200, 200, 429]
            shown = [reply.headers["x-ratelimit-remaining"] for reply in (first, second, third)]
            assert shown == ["1", "0", "0"]
            assert first.headers["x-ratelimit-limit"] == "2"
            # Half a minute for each that was taken; in seconds since the epoch.
            for reply, full_in_s in ((first, 30), (third, 60)):
                full_at = int(reply.headers["x-ratelimit-reset"])
                assert began + full_in_s - 1 < full_at < began + full_in_s + took_s + 2
            assert refusal(third) == (429, "rate_limit_error", "rate_limited")
            assert third.headers["retry-after"] == "30"
            assert "x-should-retry" not in third.headers, "nothing has run: it may be sent again"
            assert third.json["request_id"] == third.headers["x-request-id"]
            await trio.sleep(30)
            assert (await world.chat(say("x", "hello"))).status == 200

    async def test_a_stream_says_it_too(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path, quota={"chats_per_minute": 7}) as world:
            reply = await world.chat(say("x", "hello", stream=True))
            assert (reply.status, reply.headers["x-ratelimit-remaining"]) == (200, "6")

    async def test_chats_and_everything_else_are_counted_apart(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path, quota={"chats_per_minute": 1, "control_per_minute": 1}) as world:
            assert (await world.chat(say("x", "hello"))).status == 200
            assert (await world.ask("GET", "/v1/models")).status == 200
            assert (await world.chat(say("x", "hello"))).status == 429
            assert (await world.ask("GET", "/v1/models")).status == 429

    async def test_who_says_stop_is_always_heard_and_health_is_always_told(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path, quota={"chats_per_minute": 1, "control_per_minute": 1}) as world:
            async with world.client() as client:
                await client.chat(say("x", "stall", requestId="r1"))
                await trio.sleep(0.001)
                assert (await world.ask("GET", "/v1/models")).status == 200
                for _ in range(5):
                    health = await world.ask("GET", "/health")
                    assert (health.status, "x-ratelimit-limit" in health.headers) == (200, False)
                receipt = await world.ask("POST", "/v1/interrupt", {"requestId": "r1"})
                assert receipt.json["state"] == "stopped"
                assert (await client.reply()).status == 499
                gone = await world.ask("DELETE", "/v1/tasks/none", None, bearer(key_for(world, "chat")))
                assert (gone.status, "x-ratelimit-limit" in gone.headers) == (404, False)
                other = await world.ask("GET", "/v1/tasks/none", None, bearer(key_for(world, "chat")))
                assert (other.status, other.headers["x-ratelimit-remaining"]) == (404, "0")

    async def test_a_refused_request_is_refused_before_its_body(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path, quota={"chats_per_minute": 1}) as world:
            await world.chat(say("x", "hello"))
            async with world.client() as client:
                head = (
                    "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n"
                )
                await client.send(head.encode())
                assert (await client.reply()).status == 429

    async def test_keys_are_counted_apart_and_may_have_numbers_of_their_own(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world:
            one, other = (world.hub.keys.create(scopes=["chat"]) for _ in range(2))
            own = KeyLimits(chats_per_minute=1)
            world.hub.limiter.replace(Limits(chats_per_minute=2, keys={one[1].id: own}))
            for key, allowed in ((one[0], 1), (other[0], 2)):
                for number in range(3):
                    reply = await world.chat(say("x", "hello"), bearer(key))
                    assert reply.status == (200 if number < allowed else 429)
                    assert reply.headers["x-ratelimit-limit"] == str(allowed)

    async def test_without_a_key_an_address_is_counted_and_this_machine_is_a_key(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path, quota={"keyless_per_minute": 1}) as world:
            near, far = "2001:db8:0:1::1", "2001:db8:0:1:ffff::2"
            assert (await ask_from(world, near, "GET", "/v1/models")).status == 401
            assert (await ask_from(world, far, "GET", "/v1/models")).status == 429
            assert (await ask_from(world, AWAY, "GET", "/v1/models")).status == 401
            assert (await world.ask("GET", "/v1/models")).headers["x-ratelimit-limit"] == "3000"

    async def test_a_page_of_another_site_uses_up_nothing_of_this_machines(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path, quota={"chats_per_minute": 1, "keyless_per_minute": 2}) as world:
            for status in (403, 403, 429):
                reply = await world.chat(say("x", "hello"), "Origin: https://evil.example")
                assert reply.status == status
            assert (await world.chat(say("x", "hello"))).status == 200
            assert (await world.chat(say("x", "hello"))).status == 429

    @pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/v1/models"])
    async def test_a_page_that_loads_images_from_here_keeps_nobody_from_looking(
        self, path: str, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path, quota={"keyless_per_minute": 1}) as world:
            for _ in range(2):
                image = await world.ask(
                    "GET", path, None, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"
                )
            assert image.status == 429
            assert (await world.ask("GET", path)).status == 200

    async def test_results_of_plugins_here_are_counted_apart_from_what_proves_nothing(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path, quota={"callbacks_per_minute": 2, "keyless_per_minute": 1}) as world:
            later = world.add_tool("later")
            later.later = Later(wait_s=900.0)
            addresses: list[Any] = []

            async def call(_arguments: Any, context: CallContext) -> Any:
                addresses.append(context.callback)
                await trio.lowlevel.checkpoint()
                return Pending("song-1")

            later.call = call  # type: ignore[method-assign, assignment]
            async with world.client() as client:
                await client.chat(say("later {}", "hands"))
                await trio.sleep(0.001)
                path, done = "/plugin-callback/test/song-1", {"status": "success", "output": 1}
                for status in (401, 429):
                    signed = await world.ask("POST", path, done, "webhook-id: m", "webhook-signature: v1,x")
                    assert signed.status == status
                progress = {"status": "progress", "progress": 0.5}
                own = f"/plugin-callback/~{addresses[0].token}/test/song-1"
                replies = [await world.ask("POST", own, said) for said in (progress, done, done)]
                assert [reply.status for reply in replies] == [200, 200, 429]
                assert (await client.reply()).status == 200

    async def test_a_change_counts_at_once(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path, quota={"chats_per_minute": 3}) as world:
            assert (await world.chat(say("x", "hello"))).status == 200
            world.hub.limiter.replace(Limits(chats_per_minute=1))
            assert (await world.chat(say("x", "hello"))).status == 429
            world.hub.limiter.replace(Limits(chats_per_minute=0))
            reply = await world.chat(say("x", "hello"))
            assert (reply.status, "x-ratelimit-limit" in reply.headers) == (200, False)

    async def test_a_device_is_counted_as_its_key_is(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path, quota={"chats_per_minute": 1}) as world:
            key = key_for(world, "chat")
            async with listening(world, key) as device:
                await device.say("chat", say("x", "hello", requestId="r1"))
                await device.chat_end("r1")
                await device.say("chat", say("x", "hello", requestId="r2"))
                assert (await device.hear("error"))["data"]["code"] == "rate_limited"
            assert (await world.chat(say("x", "hello"), bearer(key))).status == 429

    async def test_an_upgrade_is_counted(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path, quota={"control_per_minute": 1}) as world:
            key = key_for(world, "chat")
            async with listening(world, key):
                assert (await upgrade(world, key))[0] == 429


async def upgrade(world: World, key: str, address: str = "127.0.0.1", path: str = UPGRADE) -> Any:
    async with world.client(address) as client:
        answer = await FakeNode(client.stream).open(path, ("Authorization", f"Bearer {key}"))
        return answer if isinstance(answer, tuple) else (101, {})


@asynccontextmanager
async def slowed(state: Path, address: str = AWAY, **sections: Any) -> AsyncIterator[tuple[World, str, str]]:
    """A hub that has heard so many wrong keys from an address; a key that was right, and one that is new."""
    async with open_world(state, quota={"wrong_keys_per_minute": 3}, **sections) as world:
        right, fresh = key_for(world, "chat", "callback"), key_for(world, "chat", "callback")
        assert (await ask_from(world, "198.51.100.9", "GET", "/v1/models", None, bearer(right))).status == 200
        for number in range(3):
            reply = await ask_from(world, address, "GET", "/v1/models", None, bearer(f"wrong{number}"))
            assert refusal(reply) == (401, "authentication_error", "invalid_api_key")
        yield world, right, fresh


class TestWrongKeys:
    @pytest.mark.parametrize("address", [AWAY, "127.0.0.1", "2001:db8::1"])
    async def test_they_slow_their_address_on_http(
        self, tmp_path: Path, autojump_clock: object, address: str
    ) -> None:
        async with slowed(tmp_path, address) as (world, right, fresh):
            looked_up = world.hub.keys.principal_of
            world.hub.keys.principal_of = _never  # type: ignore[assignment, method-assign]
            async with world.client(address) as client:
                # Neither the body nor the JSON in it is waited for.
                head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: hub\r\n{bearer(fresh)}\r\n"
                await client.send(f"{head}Content-Length: 5000000\r\n\r\n".encode())
                reply = await client.reply()
            assert refusal(reply) == (429, "rate_limit_error", "too_many_wrong_keys")
            assert reply.headers["retry-after"] == "20"
            world.hub.keys.principal_of = looked_up  # type: ignore[method-assign]
            assert (await ask_from(world, address, "GET", "/v1/models", None, bearer(right))).status == 200
            assert (
                await ask_from(world, "192.0.2.8", "GET", "/v1/models", None, bearer(fresh))
            ).status == 200
            await trio.sleep(20)
            assert (await ask_from(world, address, "GET", "/v1/models", None, bearer(fresh))).status == 200

    async def test_a_network_of_ipv6_is_one_address(self, tmp_path: Path, autojump_clock: object) -> None:
        async with slowed(tmp_path, "2001:db8::1") as (world, _, _):
            for address, status in (("2001:db8::ffff:1", 429), ("2001:db8:0:1::1", 401)):
                assert (
                    await ask_from(world, address, "GET", "/v1/models", None, bearer("x"))
                ).status == status

    async def test_they_slow_it_on_upgrades(self, tmp_path: Path, autojump_clock: object) -> None:
        async with slowed(tmp_path) as (world, right, fresh):
            for path in (UPGRADE, "/abp-distributed-server"):
                assert (await upgrade(world, fresh, AWAY, path))[0] == 429
            assert (await upgrade(world, right, AWAY))[0] == 101
            assert (await upgrade(world, fresh, "192.0.2.8"))[0] == 101

    async def test_upgrades_with_wrong_keys_slow_it(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path, quota={"wrong_keys_per_minute": 2}) as world:
            key = key_for(world, "chat")
            answers = [await upgrade(world, f"wrong{number}", AWAY) for number in range(3)]
            assert [status for status, _ in answers] == [401, 401, 429]
            async with world.client(AWAY) as client:
                answer = await FakeNode(client.stream).open(f"{UPGRADE}/VCP_Key={key}")
                assert answer[0] == 429
            assert (await ask_from(world, AWAY, "GET", "/v1/models", None, bearer("x"))).status == 429

    async def test_they_slow_it_on_callbacks(self, tmp_path: Path, autojump_clock: object) -> None:
        done = {"status": "success", "output": 1}
        async with slowed(tmp_path) as (world, right, fresh):
            path = "/plugin-callback/suno/song-1"
            for headers, status in (
                ([bearer(fresh)], 429),
                ([bearer(right)], 404),
                (["webhook-signature: v1,x"], 429),
                ([], 429),
            ):
                assert (await ask_from(world, AWAY, "POST", path, done, *headers)).status == status, headers
            wrong = "/plugin-callback/~wrong/suno/song-1"
            assert (await ask_from(world, AWAY, "POST", wrong, done)).status == 429

    @pytest.mark.parametrize(
        ("path", "headers"),
        [
            ("/plugin-callback/~wrong{}/suno/song-1", []),
            ("/plugin-callback/suno/song-1", ["Authorization: Bearer wrong{}"]),
            (
                "/plugin-callback/suno/song-1",
                ["webhook-id: m", "webhook-timestamp: {}", "webhook-signature: v1,x"],
            ),
        ],
    )
    async def test_callbacks_with_wrong_proofs_slow_it(
        self, tmp_path: Path, autojump_clock: object, path: str, headers: list[str]
    ) -> None:
        async with open_world(tmp_path, quota={"wrong_keys_per_minute": 2}) as world:
            statuses = [
                (
                    await ask_from(
                        world,
                        AWAY,
                        "POST",
                        path.format(number),
                        {"status": "success"},
                        *(header.format(number) for header in headers),
                    )
                ).status
                for number in range(3)
            ]
            assert statuses == [401, 401, 429]

    async def test_no_key_at_all_is_no_wrong_key(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path, quota={"wrong_keys_per_minute": 1}) as world:
            for path in ("/v1/models", "/plugin-callback/suno/song-1"):
                for _ in range(3):
                    reply = await ask_from(world, AWAY, "POST", path, {"status": "success"})
                    assert reply.status == 401

    async def test_behind_a_proxy_that_is_trusted_it_is_whoever_is_behind(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        server = {"trusted_proxies": ["127.0.0.1"]}
        async with open_world(tmp_path, quota={"wrong_keys_per_minute": 1}, server=server) as world:
            said = [
                ("198.51.100.1", 401),
                ("198.51.100.1", 429),
                ("6.6.6.6, 198.51.100.1", 429),
                ("198.51.100.2", 401),
            ]
            for forwarded, status in said:
                headers = bearer("wrong"), f"X-Forwarded-For: {forwarded}"
                assert (await world.ask("GET", "/v1/models", None, *headers)).status == status, forwarded

    async def test_what_a_proxy_says_in_a_line_of_its_own_counts(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        """HAProxy adds a line below what came; whoever comes would else choose who they are."""
        server = {"trusted_proxies": ["127.0.0.1"]}
        async with open_world(tmp_path, quota={"wrong_keys_per_minute": 1}, server=server) as world:
            for forged, status in (("198.51.100.1", 401), ("198.51.100.2", 429), ("198.51.100.3", 429)):
                lines = f"X-Forwarded-For: {forged}", f"X-Forwarded-For: {AWAY}"
                assert (await world.ask("GET", "/v1/models", None, bearer("wrong"), *lines)).status == status


def _never(_key: str) -> None:
    raise AssertionError("a key was looked up")


class TestInFlight:
    @pytest.mark.parametrize("stream", [True, False])
    async def test_one_more_is_refused_and_the_next_is_not(
        self, tmp_path: Path, autojump_clock: object, stream: bool
    ) -> None:
        limits = {"concurrent_streams": 1} if stream else {"concurrent_chats": 1}
        async with open_world(tmp_path, quota=limits) as world, world.client() as client:
            for _ in range(3):  # whoever has the whole answer may ask again at once
                await client.chat(say("x", "stream:5:100", stream=stream))
                await trio.sleep(0.25)
                reply = await world.chat(say("x", "hello", stream=stream))
                assert refusal(reply) == (429, "rate_limit_error", "too_many_in_flight")
                assert (reply.headers["retry-after"], "x-should-retry" in reply.headers) == ("1", False)
                assert (await client.reply()).status == 200
            assert (await world.chat(say("x", "hello", stream=stream))).status == 200
            assert world.hub.limiter.held("chats") == 0

    async def test_a_background_chat_is_one_until_it_ends(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path, quota={"concurrent_chats": 1}) as world:
            asked = say("x", "stream:5:100", requestId="r1", apex={"background": True})
            assert (await world.chat(asked)).status == 202
            assert (await world.chat(say("x", "hello"))).status == 429
            assert (await world.chat({**asked, "requestId": "r2"})).status == 429
            await trio.sleep(1)
            assert (await world.chat(say("x", "hello"))).status == 200

    async def test_what_was_refused_otherwise_holds_nothing(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path, quota={"concurrent_chats": 2}) as world, world.client() as client:
            await client.chat(say("x", "stall", requestId="r1"))
            await trio.sleep(0.001)
            for background in (True, False):
                asked = say("x", "hello", requestId="r1", apex={"background": background})
                assert (await world.chat(asked)).status == 409
            assert world.hub.limiter.held("chats") == 1

    async def test_a_device_is_bounded_too(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path, quota={"concurrent_chats": 1}) as world:
            async with listening(world) as device:
                await device.say("chat", say("x", "stall", requestId="r1"))
                await device.hear("chat.started")
                await device.say("chat", say("x", "hello", requestId="r2"))
                assert (await device.hear("error"))["data"]["code"] == "too_many_in_flight"
            await trio.sleep(0.1)
            assert world.hub.limiter.held("chats") == 0

    async def test_channels_of_a_key(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path, quota={"channels_per_key": 2}) as world, AsyncExitStack() as stack:
            key = key_for(world, "chat", "node")
            for _ in range(2):
                await stack.enter_async_context(listening(world, key))
            for path in (UPGRADE, "/abp-distributed-server"):
                status, said = await upgrade(world, key, path=path)
                assert (status, said["error"]["code"]) == (503, "too_many_connections")
            assert (await upgrade(world, key_for(world, "chat")))[0] == 101
            await stack.aclose()
            assert (await upgrade(world, key))[0] == 101
            assert world.hub.limiter.held("channels") == 0


class Watcher:
    """Takes what calls of models are about, when they end."""

    def __init__(self, seen: list[dict[str, Any]]) -> None:
        self.seen = seen

    def begun(self, flight: Flight) -> None:
        """Nothing is known yet."""

    def left(self, flight: Flight) -> None:
        if flight.kind == "upstream":
            self.seen.append(flight.facts)


class TestTokens:
    """The provider says 5 tokens of prompt and one a word, as its fake does."""

    @pytest.mark.parametrize("form", ["JSON", "stream", "background", "device"])
    async def test_each_form_of_a_chat_is_counted(
        self, tmp_path: Path, autojump_clock: object, form: str
    ) -> None:
        async with open_world(tmp_path) as world:
            key, record = world.hub.keys.create(scopes=["chat"])
            spent = await self.spent_by(world, record.id, key, form, "hello")
            assert spent == await self.cost_of(world, "hello")

    async def test_rounds_with_tools_are_counted_whole(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world:
            key, record = world.hub.keys.create(scopes=["chat"])
            once = await self.spent_by(world, record.id, key, "JSON", "hands", "ping {}")
            reply = await world.chat(say("ping {}", "hands"))
            assert reply.json["apex"]["rounds"] == 2
            assert once == reply.json["usage"]["total_tokens"]

    async def spent_by(
        self, world: World, key_id: str, key: str, form: str, model: str, text: str = "x"
    ) -> int:
        world.hub.limiter.replace(Limits(tokens_per_day=1000))
        body = say(text, model, requestId="r1")
        if form == "device":
            async with listening(world, key) as device:
                await device.say("chat", body)
                await device.chat_end("r1")
        else:
            body |= {"stream": form == "stream", "apex": {"background": form == "background"}}
            reply = await world.chat(body, bearer(key))
            assert reply.status in {200, 202}
            if form == "stream":
                assert not any("usage" in event for event in events(reply)), "it was not asked for"
        await trio.sleep(0.1)
        return world.hub.limiter.tokens.of(key_id).used

    async def cost_of(self, world: World, model: str) -> int:
        reply = await world.chat(say("x", model))
        return int(reply.json["usage"]["total_tokens"])

    async def test_used_up_is_said_and_not_tried_again(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path, now=_Clock(), quota={"tokens_per_day": 1}) as world:
            assert content(await world.chat(say("x", "hello")))
            reply = await world.chat(say("x", "hello"))
            assert refusal(reply) == (429, "rate_limit_error", "quota_exceeded")
            assert reply.headers["x-should-retry"] == "false"
            assert int(reply.headers["retry-after"]) == pytest.approx(86_400, abs=5)
            await trio.sleep(86_400)
            assert (await world.chat(say("x", "hello"))).status == 200

    async def test_a_stream_that_was_cut_counts_what_was_made(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path, quota={"tokens_per_day": 1000}) as world:
            async with world.client() as client:
                await client.chat(say("x", "endless:50", stream=True))
                await trio.sleep(1.05)
            await trio.sleep(0.1)
            made = world.hub.limiter.tokens.of("local").used - prompt_tokens(say("x"))
            assert 20 <= made <= 25

    @pytest.mark.parametrize("how", ["stream", "JSON", "interrupt"])
    async def test_a_prompt_is_paid_whoever_leaves_before_the_answer(
        self, tmp_path: Path, autojump_clock: object, how: str
    ) -> None:
        text = "word " * 800
        async with open_world(tmp_path, quota={"tokens_per_day": 1000}) as world:
            async with world.client() as client:
                await client.chat(say(text, "stall", stream=how == "stream", requestId="r1"))
                await trio.sleep(1)
                if how == "interrupt":
                    stopped = await world.ask("POST", "/v1/interrupt", {"requestId": "r1"})
                    assert stopped.json["state"] == "stopped"
            await trio.sleep(0.1)
            used = world.hub.limiter.tokens.of("local").used
            assert used == pytest.approx(prompt_tokens(say(text)), abs=1)
            assert refusal(await world.chat(say("x", "hello")))[2] == "quota_exceeded"

    @pytest.mark.parametrize(
        ("model", "fields"),
        [
            ("status:500", {}),
            ("dead", {}),
            ("apex-intents", {}),
            ("apex-intents", {"stream": True}),
        ],
    )
    async def test_what_nobody_has_worked_on_costs_nothing(
        self, tmp_path: Path, autojump_clock: object, model: str, fields: dict[str, Any]
    ) -> None:
        async with open_world(tmp_path, quota={"tokens_per_day": 1000}) as world:
            await world.chat(say("word " * 800, model, **fields))
            assert world.hub.limiter.tokens.of("local").used == 0

    async def test_a_prompt_that_waits_for_its_turn_costs_nothing(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with (
            open_world(tmp_path, quota={"tokens_per_day": 1000}, upstream={"max_concurrency": 1}) as world,
            world.client() as first,
        ):
            await first.chat(say("x", "stall"))
            await trio.sleep(1)  # until it has the one slot: who comes second waits
            async with world.client() as second:
                await second.chat(say("word " * 800, "stall"))
                await trio.sleep(1)
            await trio.sleep(0.1)
            assert world.hub.limiter.tokens.of("local").used == 0

    async def test_an_estimate_is_marked_as_one(self, tmp_path: Path, autojump_clock: object) -> None:
        seen: list[dict[str, Any]] = []
        watcher = Watcher(seen)
        async with open_world(tmp_path, quota={"tokens_per_day": 1000}) as world:
            world.hub.flights.watchers.append(watcher)
            async with world.client() as client:
                await client.chat(say("x", "stall"))
                await trio.sleep(1)
            await trio.sleep(0.1)
            await world.chat(say("x", "hello"))
        cut, whole = seen
        assert cut["apex.usage.estimated_tokens"] == pytest.approx(prompt_tokens(say("x")), abs=1)
        assert "apex.usage.estimated_tokens" not in whole
        assert whole["gen_ai.usage.output_tokens"] > 0

    async def test_a_reminder_counts_for_its_owner(self, tmp_path: Path, autojump_clock: object) -> None:
        clock = _Clock()
        async with open_world(
            tmp_path, now=clock, quota={"tokens_per_day": 1}, chat={"default_model": "hello"}
        ) as world:
            key, record = world.hub.keys.create(scopes=["chat"])
            for _ in range(2):
                body = {"text": "news", "in": 5, "action": {"chat": "what is new?"}}
                assert (await world.ask("POST", "/v1/reminders", body, bearer(key))).status == 201
                await trio.sleep(70)
            assert world.hub.limiter.tokens.of(record.id).used > 0
            told = (await world.ask("GET", "/v1/notifications", None, bearer(key))).json
            assert "Hello from hello." in json.dumps(told)
            assert "used up its tokens" in json.dumps(told)


class _Clock:
    def __init__(self) -> None:
        self.began = trio.current_time()

    def __call__(self) -> float:
        return 1_800_000_000.0 + trio.current_time() - self.began
