"""`/v1/logs`: the log channel as server-sent events."""

import json
from typing import Any

import pytest
import structlog
import trio

from apexbridge_trio import log
from apexbridge_trio.identity import Principal
from apexbridge_trio.origin import doing
from tests.harness.node import key_for
from tests.harness.world import open_world, say

HOUSE = Principal("house", "default")
said = log.get_logger("test")


@pytest.fixture(autouse=True)
def sink():
    ours = structlog.get_config()
    log.configure("info", "text")
    yield
    structlog.configure(**ours)


def write(event: str, **fields: Any) -> None:
    with doing(HOUSE):
        said.info(event, **fields)


def frames(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: ")]


async def test_the_last_lines_can_be_read_without_waiting(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        for number in range(250):
            write(f"line {number}")
        key = f"Authorization: Bearer {key_for(world, 'logs')}"
        reply = await world.ask("GET", "/v1/logs?follow=false", None, key)
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert [frame["data"]["content"] for frame in frames(reply.body)] == [
            f"line {number}" for number in range(50, 250)
        ]
        last = [line for line in reply.body.split(b"\n") if line.startswith(b"id: ")][-1].decode()
        write("new")
        again = await world.ask("GET", "/v1/logs?follow=false", None, key, f"Last-Event-ID: {last[4:]}")
        own, new = [frame["data"]["content"] for frame in frames(again.body)]
        assert "path=/v1/logs" in own
        assert "status=200" in own
        assert new == "new"


@pytest.mark.parametrize("model", ["hello", "status:400"])
async def test_the_end_of_a_background_chat_is_told_to_whose_it_is(tmp_path, autojump_clock, model):
    async with open_world(tmp_path) as world:
        chat = f"Authorization: Bearer {key_for(world, 'chat')}"
        await world.chat(say("x", model, requestId="r1", apex={"background": True}), chat)
        await trio.testing.wait_all_tasks_blocked()
        for tenant, is_theirs in [("default", True), ("other", False)]:
            key = f"Authorization: Bearer {key_for(world, 'logs', tenant=tenant)}"
            reply = await world.ask("GET", "/v1/logs?follow=false&request=r1", None, key)
            said = [frame["data"]["content"] for frame in frames(reply.body)]
            assert any(line.startswith("background chat ended") for line in said) is is_theirs


@pytest.mark.parametrize("stream", [False, True])
async def test_a_defect_in_a_chat_is_told_to_whose_it_is(tmp_path, autojump_clock, monkeypatch, stream):
    async with open_world(tmp_path) as world:

        async def broken(model_id):
            raise RuntimeError("a detail")

        monkeypatch.setattr(world.hub.models, "find", broken)
        chat = f"Authorization: Bearer {key_for(world, 'chat')}"
        assert (await world.chat(say("x", requestId="r1", stream=stream), chat)).status == 500
        for tenant, is_theirs in [("default", True), ("other", False)]:
            key = f"Authorization: Bearer {key_for(world, 'logs', tenant=tenant)}"
            reply = await world.ask("GET", "/v1/logs?follow=false&level=error", None, key)
            told = [frame["data"] for frame in frames(reply.body)]
            assert [line["requestId"] for line in told] == ["r1"] * is_theirs
            assert not is_theirs or "RuntimeError: a detail" in told[0]["content"]


async def test_who_may_not_is_told_so(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        key = f"Authorization: Bearer {key_for(world, 'logs')}"
        other = f"Authorization: Bearer {key_for(world, 'chat')}"
        assert (await world.ask("GET", "/v1/logs?level=loud", None, key)).status == 400
        assert (await world.ask("GET", "/v1/logs?node=%00", None, key)).status == 400
        assert (await world.ask("POST", "/v1/logs", {}, key)).status == 405
        assert (await world.ask("GET", "/v1/logs", None, other)).status == 403
        assert (await world.ask("GET", "/v1/logs", None, key, "X-Tenant-Id: other")).status == 403


async def test_it_follows_until_the_hub_ends(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, world.client() as http:
        key = key_for(world, "logs")
        await http.start("GET", "/v1/logs?level=warning", None, f"Authorization: Bearer {key}")
        head = b""
        while b": the log" not in head:
            head += await http.stream.receive_some(65536)
        write("fine")
        with doing(HOUSE):
            said.warning("careful")
        text = b""
        while b"careful" not in text:
            text += await http.stream.receive_some(65536)
        assert b"fine" not in text
        world.hub.logs.close()
        while b": the end" not in text:
            text += await http.stream.receive_some(65536)
        assert len(world.hub.logs) == 0
        reply = await world.ask("GET", "/v1/logs", None, f"Authorization: Bearer {key}")
        assert reply.status == 503
