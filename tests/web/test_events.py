"""Events over HTTP: the same as on the client channel, with the position as the id."""

import json

import pytest
import trio

from apexbridge_trio.identity import Principal
from apexbridge_trio.web import events as web_events
from tests.clients.test_channel import settled
from tests.harness.node import key_for
from tests.harness.world import open_world, say

HOUSE = Principal("house")


class Stream:
    """Reads the events of one reply, as they come."""

    def __init__(self, client):
        self.client = client
        self.text = b""
        self.is_over = False

    async def open(self, key, query="", *headers):
        head = f"GET /v1/events{query} HTTP/1.1"
        lines = [head, "Host: localhost:8088", f"Authorization: Bearer {key}", *headers, "", ""]
        await self.client.send("\r\n".join(lines).encode())
        while b"\r\n\r\n" not in self.text:
            await self._more()
        head_text, _, self.text = self.text.partition(b"\r\n\r\n")
        return head_text.decode()

    async def _more(self):
        with trio.fail_after(60):
            data = await self.client.stream.receive_some(65536)
        self.is_over = self.is_over or not data
        self.text += data

    async def next(self):
        """Return the next event as its fields, or a comment's text; None at the end."""
        while True:
            while b"\n\n" not in self.text:
                if self.is_over or self.text.endswith(b"0\r\n\r\n"):
                    return None
                await self._more()
            block, _, self.text = self.text.partition(b"\n\n")
            lines = [line for line in block.decode().split("\n") if line.strip()]
            # The chunk sizes of HTTP stand on lines of their own.
            lines = [line for line in lines if line.startswith(("id:", "event:", "data:", ":"))]
            if lines and not lines[0].startswith(":"):
                return dict(line.split(": ", 1) for line in lines)


async def test_events_come_as_they_are_published(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, world.client() as http:
        stream = Stream(http)
        head = await stream.open(key_for(world, "chat"))
        assert "text/event-stream" in head
        assert (await stream.next())["event"] == "connected"
        event = world.hub.events.publish("notification", HOUSE, {"message": "水"})
        said = await stream.next()
        assert said["id"] == f"{event.epoch}:{event.seq}"
        assert said["event"] == "notification"
        assert json.loads(said["data"]) == json.loads(event.frame)
        assert len(world.hub.events) == 1
    await settled(lambda: len(world.hub.events) == 0)


async def test_last_event_id_resumes_exactly(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        sent = [world.hub.events.publish("notification", HOUSE, {"n": n}) for n in range(5)]
        async with world.client() as http:
            stream = Stream(http)
            await stream.open(key_for(world, "chat"), "", f"Last-Event-ID: {sent[1].epoch}:{sent[1].seq}")
            assert [json.loads((await stream.next())["data"])["seq"] for _ in range(3)] == [3, 4, 5]
            world.hub.events.publish("notification", HOUSE, {"n": 5})
            assert json.loads((await stream.next())["data"])["seq"] == 6


@pytest.mark.parametrize(
    "last", ["ep_other:1", "nonsense", ":", "{epoch}:99", "{epoch}:-1", "{epoch}:" + "9" * 30]
)
async def test_what_can_not_be_resumed_is_said_first(tmp_path, autojump_clock, last):
    async with open_world(tmp_path) as world, world.client() as http:
        world.hub.events.publish("notification", HOUSE, {})
        stream = Stream(http)
        last = last.replace("{epoch}", world.hub.events.epoch)
        await stream.open(key_for(world, "chat"), "", f"Last-Event-ID: {last}")
        said = await stream.next()
        assert said["event"] == "resumed"
        assert json.loads(said["data"])["data"] == {"recovered": False}
        assert said["id"] == f"{world.hub.events.epoch}:1"


async def test_what_is_kept_can_be_read_without_waiting(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        for n in range(3):
            world.hub.events.publish("alert", HOUSE, {"n": n})
        world.hub.events.publish("reminder", HOUSE, {})
        key = f"Authorization: Bearer {key_for(world, 'chat')}"
        reply = await world.ask("GET", "/v1/events?follow=false&topics=alert", None, key)
        assert reply.body.count(b"event: alert") == 3
        assert b"reminder" not in reply.body
        assert (await world.ask("GET", "/v1/events?topics=x", None, key)).status == 400
        assert (await world.ask("POST", "/v1/events", {}, key)).status == 405
        assert (await world.ask("GET", "/v1/events")).status == 401


async def test_an_administrator_is_told_of_its_own_tenant_alone(tmp_path, autojump_clock):
    """Naming a tenant narrows what a key has, and widens nothing, whatever its scopes."""
    async with open_world(tmp_path) as world, world.client() as http:
        key = key_for(world, "admin", "chat", tenant="office")
        for named in ("X-Tenant-Id: default", "X-Tenant-Id: *", "X-Tenant-Id: a b"):
            reply = await world.ask(
                "GET", "/v1/events?follow=false", None, f"Authorization: Bearer {key}", named
            )
            assert reply.status in {400, 403}, named
        stream = Stream(http)
        await stream.open(key, "", "X-Tenant-Id: office")
        assert (await stream.next())["event"] == "connected"
        world.hub.events.publish("alert", HOUSE, {"message": "theirs"})
        world.hub.events.publish("alert", Principal("x", "office"), {"message": "ours"})
        assert json.loads((await stream.next())["data"])["data"]["message"] == "ours"


async def test_it_ends_when_the_hub_does_and_is_not_begun_again(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, world.client() as http:
        key = key_for(world, "chat")
        stream = Stream(http)
        await stream.open(key)
        assert await stream.next()
        world.hub.events.close()
        assert await stream.next() is None
        assert (await world.ask("GET", "/v1/events", None, f"Authorization: Bearer {key}")).status == 503


async def test_a_pushed_chat_is_seen_from_its_start(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, world.client() as http, world.client() as other:
        key = key_for(world, "chat")
        await other.chat(say("x", "stream:20:100", apex={"push": True}), f"Authorization: Bearer {key}")
        await trio.sleep(0.5)
        stream = Stream(http)
        await stream.open(key)
        kinds = [(await stream.next())["event"]]
        text = ""
        while kinds[-1] != "chat.completed":
            said = await stream.next()
            kinds.append(said["event"])
            data = json.loads(said["data"])["data"]
            text += data.get("delta", {}).get("content", "")
        assert kinds[:2] == ["connected", "chat.started"]
        assert text == data["content"]


async def test_silence_has_a_sign_of_life(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, world.client() as http:
        stream = Stream(http)
        await stream.open(key_for(world, "chat"))
        await stream.next()
        while b"keep-alive" not in stream.text:
            await stream._more()


def test_a_reader_that_leaves_too_much_is_cut(monkeypatch):
    monkeypatch.setattr(web_events, "MAX_UNSENT_BYTES", 1000)
    from apexbridge_trio.events import Events

    bus, outbox = Events(), web_events.Outbox()
    bus.subscribe(HOUSE, outbox.post)
    for _ in range(20):
        bus.publish("notification", HOUSE, {"text": "x" * 100})
    assert outbox.is_over
    assert len(bus) == 0
    assert outbox._bytes < 2000
