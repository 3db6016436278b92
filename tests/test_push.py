"""A chat told as events: what is told of answers that are not plain text, and of defects."""

import json

import pytest

from apexbridge_trio import push
from apexbridge_trio.errors import UpstreamBroken
from apexbridge_trio.events import Events
from apexbridge_trio.identity import Principal
from tests.clients.test_chats import PUSH, whole_chat
from tests.harness.client import listening
from tests.harness.world import content, open_world, say

HOUSE = Principal("house")


@pytest.mark.parametrize("apex", [{"push": True}, {"background": True}])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "document"])
async def test_of_several_choices_the_first_is_the_content(tmp_path, autojump_clock, apex, stream):
    async with open_world(tmp_path) as world, listening(world) as client:
        await world.chat(say("x", "stream:5:100", n=2, stream=stream, apex=apex))
        frames = await whole_chat(client)
        first = [frame["data"] for frame in frames[1:-1] if "choice" not in frame["data"]]
        told = "".join(data["delta"].get("content", "") for data in first)
        assert told == frames[-1]["data"]["content"] != ""


async def test_calls_of_the_clients_own_tools_are_told(tmp_path, autojump_clock):
    mine = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}
    async with open_world(tmp_path) as world, listening(world) as client:
        await world.chat(say("mine {}", "hands", tools=[mine], stream=True, **PUSH))
        frames = await whole_chat(client)
        deltas = [frame["data"]["delta"] for frame in frames[1:-1]]
        calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
        assert [call["function"]["name"] for call in calls if call["function"].get("name")] == ["mine"]
        assert frames[-1]["data"]["finishReason"] == "tool_calls"


async def test_the_embedded_model_is_told_too(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        reply = await world.chat(say("你会什么", **PUSH))
        assert (await whole_chat(client))[-1]["data"]["content"] == content(reply)


@pytest.mark.parametrize("apex", [{"push": True}, {"background": True}])
async def test_a_defect_is_told_without_what_it_says(tmp_path, autojump_clock, apex, monkeypatch):
    async with open_world(tmp_path) as world, listening(world) as client:

        async def find(_):
            raise RuntimeError("a secret")

        monkeypatch.setattr(world.hub.models, "find", find)
        await world.chat(say("x", "hello", apex=apex))
        end = (await client.hear("chat.failed"))["data"]
        assert end["error"]["type"] == "api_error"
        assert "secret" not in json.dumps(end)


async def test_a_defect_of_a_question_on_the_channel_is_told_and_the_device_stays(
    tmp_path, autojump_clock, monkeypatch
):
    async with open_world(tmp_path) as world, listening(world) as client:

        async def find(_):
            raise RuntimeError("a secret")

        monkeypatch.setattr(world.hub.models, "find", find)
        await client.say("chat", say("x", "hello"))
        assert (await client.hear("chat.failed"))["data"]["error"]["type"] == "api_error"
        assert (await client.hear("error"))["data"]["type"] == "api_error"
        await client.say("ping")
        assert (await client.hear("pong"))["data"] == {}


def test_an_answer_that_is_larger_than_the_hub_holds_ends(monkeypatch):
    monkeypatch.setattr(push, "MAX_ANSWER_BYTES", 10)
    events = Events()
    with pytest.raises(UpstreamBroken), push.Push(events, HOUSE, "r1", "m") as told:
        told.text("x" * 11)
    assert events.history("default").chats == 0


def test_usage_and_reason_are_told_as_the_stream_says():
    events, heard = Events(), []

    def post(event):
        heard.append(json.loads(event.frame))
        return True

    events.subscribe(HOUSE, post)
    with push.Push(events, HOUSE, "r1", "m") as told:
        told.read(b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}]}\n\n')
        told.read(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\n')
        told.read(b'data: {"choices":[],"usage":{"total_tokens":3}}\n\ndata: [DONE]\n\n')
    end = heard[-1]["data"]
    assert (end["finishReason"], end["usage"], end["content"]) == ("length", {"total_tokens": 3}, "a")
