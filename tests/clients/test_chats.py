"""Chats told as they are answered: asked for over HTTP or the channel, watched by any device of the owner."""

import json
from typing import Any

import pytest
import trio

from apexbridge_trio.clients.chatting import answer_chat
from tests.clients.test_channel import HOUSE, QUIET, settled
from tests.harness.client import Memory, listening
from tests.harness.kill import kill_at_every_step
from tests.harness.node import key_for
from tests.harness.world import content, open_world, say
from tests.test_killed import Caller

PUSH: dict[str, Any] = {"apex": {"push": True}}


def bearer(key):
    return f"Authorization: Bearer {key}"


async def whole_chat(client):
    """Read one chat's events, from start to end."""
    frames = [await client.hear("chat.started")]
    while frames[-1]["type"] not in {"chat.completed", "chat.failed"}:
        frames.append(await client.hear("chat.chunk", "chat.completed", "chat.failed"))
    return frames


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "document"])
async def test_a_chat_over_http_is_watched_over_the_channel(tmp_path, autojump_clock, stream):
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        async with listening(world, key) as client:
            body = say("x", "stream:5:100", stream=stream, requestId="mine", **PUSH)
            reply = await world.chat(body, bearer(key))
            frames = await whole_chat(client)
        assert [frame["data"]["requestId"] for frame in frames] == ["mine"] * len(frames)
        chunks = [frame["data"] for frame in frames if frame["type"] == "chat.chunk"]
        assert len(chunks) >= 5
        assert [chunk["index"] for chunk in chunks] == list(range(len(chunks)))
        text = "".join(chunk["delta"]["content"] for chunk in chunks)
        end = frames[-1]["data"]
        assert text == content(reply) == end["content"] == client.memory.texts["mine"]
        assert end["finishReason"] == "stop"
        assert world.look() == QUIET


async def test_the_pieces_come_while_it_is_answered(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client, world.client() as http:
        began = trio.current_time()
        await http.chat(say("x", "stream:5:100", **PUSH))
        await client.hear("chat.chunk")
        assert trio.current_time() - began < 0.2
        await client.chat_end((await client.hear("chat.chunk"))["data"]["requestId"])
        assert trio.current_time() - began >= 0.4


async def test_without_push_nothing_is_told(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        assert (await world.chat(say("x", "hello", stream=True))).status == 200
        assert (await world.chat(say("x", "hello"))).status == 200
        await client.say("ping")
        assert (await client.next())["type"] == "pong"
        assert world.hub.events.history("default").seq == 0


async def test_a_background_chat_is_told(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        reply = await world.chat(say("x", "stream:5:100", requestId="later", apex={"background": True}))
        assert reply.status == 202
        frames = await whole_chat(client)
        kept = await world.ask("GET", "/v1/requests/later", None, bearer(key_for(world, "chat")))
        assert kept.json["result"]["choices"][0]["message"]["content"] == frames[-1]["data"]["content"]
        assert len(frames) > 5


async def test_tools_of_the_hub_are_one_chat(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        reply = await world.chat(say("ping {}", "hands", stream=True, **PUSH))
        frames = await whole_chat(client)
        assert frames[-1]["data"]["content"] == content(reply)
        assert frames[-1]["type"] == "chat.completed"


@pytest.mark.parametrize(
    ("model", "code"),
    [("status:400", "upstream_refused"), ("dead-mid:2", "upstream_broken"), ("none", "model_not_found")],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "document"])
async def test_what_fails_is_told(tmp_path, autojump_clock, model, code, stream):
    async with open_world(tmp_path, upstream={"attempts": 1}) as world, listening(world) as client:
        await world.chat(say("x", model, stream=stream, **PUSH))
        frames = await whole_chat(client)
        assert frames[-1]["type"] == "chat.failed"
        assert frames[-1]["data"]["error"]["code"] == code
        assert world.hub.events.history("default").chats == 0


async def test_a_client_that_leaves_ends_its_chat_and_the_others_are_told(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        async with world.client() as http:
            await http.chat(say("x", "endless:50", stream=True, **PUSH))
            await client.hear("chat.chunk")
        end = (await client.hear("chat.failed"))["data"]
        assert end["error"]["code"] == "cancelled"
        assert end["content"]


async def test_several_devices_on_one_chat_one_of_which_comes_in_the_middle(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        async with listening(world, key) as first, listening(world, key) as second, world.client() as http:
            body = say("x", "stream:20:100", requestId="shared", **PUSH)
            await http.chat(body, bearer(key))
            for _ in range(5):
                await first.hear("chat.chunk")
            async with listening(world, key) as late:
                ends = [await client.chat_end("shared") for client in (first, second, late)]
                assert await late.wire.raw() is None if late.wire.closed else True
            reply = content(await http.reply())
        assert [end["content"] for end in ends] == [reply] * 3
        assert first.memory.texts == second.memory.texts == late.memory.texts == {"shared": reply}


async def test_a_refresh_in_mid_answer_loses_and_repeats_nothing(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, world.client() as http:
        key, memory = key_for(world, "chat"), Memory()
        pieces = []
        async with listening(world, key, memory) as client:
            await http.chat(say("x", "stream:20:100", requestId="one", **PUSH), bearer(key))
            pieces += [(await client.hear("chat.chunk"))["data"]["index"] for _ in range(5)]
        await trio.sleep(0.35)
        async with listening(world, key, memory) as client:
            assert (await client.next())["data"] == {"recovered": True}
            while (frame := await client.hear("chat.chunk", "chat.completed"))["type"] == "chat.chunk":
                pieces.append(frame["data"]["index"])
        assert pieces == list(range(len(pieces)))
        assert len(pieces) >= 20
        assert memory.texts["one"] == content(await http.reply())


async def test_who_was_away_for_the_end_gets_it_whole(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        key, memory = key_for(world, "chat"), Memory()
        async with listening(world, key, memory), world.client():
            pass
        reply = await world.chat(say("x", "stream:5:100", requestId="one", **PUSH), bearer(key))
        async with listening(world, key, memory) as client:
            await client.chat_end("one")
        assert memory.texts == {"one": content(reply)}


async def test_a_chat_over_the_channel(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        await client.say(
            "chat", say("x", "stream:5:100", requestId="here", stream_options={"include_usage": True})
        )
        frames = await whole_chat(client)
        assert frames[-1]["type"] == "chat.completed"
        assert len(frames) > 5
        again = await world.chat(say("x", "stream:5:100"))
        assert frames[-1]["data"]["content"] == content(again)
        await settled(lambda: world.look() == QUIET)


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        ({}, "invalid_request", None),
        ({"messages": []}, "invalid_request", None),
        ({"messages": [], "messageId": "mine"}, "invalid_request", "mine"),
        ({"messages": [], "requestId": "not one"}, "invalid_request", None),
        ({"messages": [], "requestId": 7}, "invalid_request", None),
        ([], "invalid_request", None),
        (say("x", tenantId="other", requestId="mine"), "forbidden", "mine"),
        (say("x", "slow", requestId="taken"), "request_id_in_flight", "taken"),
    ],
)
async def test_a_chat_that_is_refused_gets_an_error(tmp_path, autojump_clock, body, code, named):
    async with open_world(tmp_path) as world, listening(world) as client:
        await client.say("chat", say("x", "endless:50", requestId="taken"))
        await client.hear("chat.started")
        await client.say("chat", body)
        refused = (await client.hear("error"))["data"]
        assert (refused["code"], refused.get("requestId")) == (code, named)


async def test_a_chat_in_the_background_outlives_its_connection(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        key, memory = key_for(world, "chat"), Memory()
        async with listening(world, key, memory) as client:
            body = say("x", "stream:20:100", requestId="long")
            await client.say("chat", body | {"apex": {"background": True}})
            await client.say("chat", say("x", "endless:50", requestId="short"))
            for _ in range(4):
                await client.hear("chat.chunk")
        await settled(lambda: "short" not in {flight.name for flight in world.hub.flights._roots.values()})
        async with listening(world, key, memory) as client:
            await client.chat_end("long")
        assert memory.ended == {"long": "chat.completed", "short": "chat.failed"}


async def test_an_interrupt_over_the_channel_has_the_same_receipt(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        await client.say("chat", say("x", "endless:50", requestId="stop-me"))
        await client.hear("chat.chunk")
        await client.say("interrupt", {"requestId": "stop-me", "reason": "enough"})
        receipt = (await client.hear("interrupt_receipt"))["data"]
        assert receipt["state"] == "stopped"
        assert receipt["interrupted"]
        assert [branch["path"] for branch in receipt["branches"]] == ["stop-me/round1/llm"]
        body = {"requestId": "stop-me"}
        http = await world.ask("POST", "/v1/interrupt", body)
        assert http.json == receipt
        await client.say("interrupt", {"path": "nothing/llm"})
        none = (await client.hear("interrupt_receipt"))["data"]
        assert none["reason"] == "not_found"
        assert none["requestId"] == "nothing"


async def test_an_interrupted_chat_has_one_end(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        await client.say("chat", say("x", "endless:50", requestId="stop-me"))
        await client.hear("chat.chunk")
        await world.ask("POST", "/v1/interrupt", {"requestId": "stop-me"})
        end = await client.chat_end("stop-me")
        assert end["error"]["code"] == "interrupted"
        assert end["content"]
        await settled(lambda: world.look() == QUIET)


async def test_another_tenant_neither_hears_nor_stops_it(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        other = key_for(world, "chat", tenant="other")
        async with listening(world) as client, listening(world, other) as stranger:
            await client.say("chat", say("x", "endless:50", requestId="mine"))
            await client.hear("chat.chunk")
            await stranger.say("interrupt", {"requestId": "mine"})
            frame = await stranger.next()
            assert frame["data"]["reason"] == "not_found"
            await client.hear("chat.chunk")


async def test_more_questions_than_a_connection_may_ask_are_refused(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        for number in range(33):
            await client.say("chat", say("x", "stall", requestId=f"r{number}"))
        error = await client.hear("error")
        assert error["data"]["code"] == "rate_limited"
        async with listening(world) as other:
            await other.say("chat", say("x", "hello"))
            await other.hear("chat.completed")


@pytest.mark.parametrize("way", ["stream", "document", "channel"])
async def test_a_told_chat_cut_at_every_step_has_one_start_and_one_end(tmp_path, autojump_clock, way):
    async with open_world(tmp_path) as world:
        told = []
        events = world.hub.events

        def post(event):
            told.append(json.loads(event.frame))
            return True

        events.subscribe(HOUSE, post)

        async def scenario():
            told.clear()
            body = say("ping {}", "hands", stream=way == "stream", requestId="cut", **PUSH)
            if way == "channel":
                await answer_chat(world.hub, HOUSE, json.dumps(body).encode())
                return
            caller = Caller(body)
            await world.front(caller.scope, caller.receive, caller.send)

        async def check(whole):
            await settled(lambda: world.look() == QUIET)
            kinds = [frame["type"] for frame in told]
            assert kinds.count("chat.started") == len(
                [k for k in kinds if k in {"chat.completed", "chat.failed"}]
            )
            assert kinds.count("chat.started") <= 1
            assert kinds == [] or (
                kinds[0] == "chat.started" and kinds[-1] in {"chat.completed", "chat.failed"}
            )
            assert events.history("default").chats == 0
            if whole:
                assert kinds[-1] == "chat.completed"
            if kinds:
                said = [f["data"]["delta"].get("content", "") for f in told if f["type"] == "chat.chunk"]
                assert "".join(said) == told[-1]["data"]["content"]

        assert await kill_at_every_step(scenario, check) > 10
