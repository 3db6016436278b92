"""The client channel: who is let in, what it hears, what it may say."""

import base64
import json

import pytest
import trio
from wsproto.events import AcceptConnection

from apexbridge_trio.clients import link
from apexbridge_trio.identity import Principal
from tests.harness.client import FakeClient, Memory, listening
from tests.harness.node import FakeNode, key_for
from tests.harness.world import LIMITS, open_world, say

HOUSE = Principal("house")
QUIET = {"flights": 0, "slots": 0, "faults": 0}


def notify(world, text, owner=HOUSE):
    return world.hub.events.publish("notification", owner, {"message": text})


async def settled(holds):
    for _ in range(1000):
        if holds():
            return
        await trio.sleep(0.01)
    raise AssertionError("it did not settle")


@pytest.mark.parametrize("path", ["/abp-client", "/client"])
@pytest.mark.parametrize("where", ["path", "alias", "header", "subprotocol"])
async def test_a_key_lets_a_device_in_wherever_it_stands(tmp_path, autojump_clock, path, where):
    async with open_world(tmp_path) as world, world.client() as http:
        key = key_for(world, "chat")
        coded = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
        wire = FakeNode(http.stream)
        accepted = await {
            "path": lambda: wire.open(f"{path}/VCP_Key={key}"),
            "alias": lambda: wire.open(f"{path}/ABP_Key={key}"),
            "header": lambda: wire.open(path, ("Authorization", f"Bearer {key}")),
            "subprotocol": lambda: wire.open(path, subprotocols=["apexbridge.v1", f"bearer.{coded}"]),
        }[where]()
        assert isinstance(accepted, AcceptConnection)
        client = FakeClient(wire, Memory())
        ack = await client.hear("connection_ack")
        assert ack["data"]["connectionId"].startswith("conn_")
        assert ack["data"]["serverId"] == world.hub.nodes.server_id
        assert (ack["epoch"], ack["seq"]) == (world.hub.events.epoch, 0)


async def test_who_is_not_let_in(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        for path, status in [
            ("/abp-client", 401),
            ("/abp-client/VCP_Key=apx_no", 401),
            (f"/client/VCP_Key={key_for(world, 'node')}", 403),
            (f"/client/VCP_Key={key_for(world, 'chat')}?topics=nonsense", 400),
            ("/abp-clients", 404),
        ]:
            async with world.client() as http:
                assert (await FakeNode(http.stream).open(path))[0] == status, path


async def test_an_event_reaches_every_device_of_its_family_and_nobody_else(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        anne = key_for(world, "chat", family="anne")
        bert = key_for(world, "chat", family="bert")
        other = key_for(world, "chat", "admin", tenant="other")
        async with (
            listening(world) as house,
            listening(world, anne) as phone,
            listening(world, anne) as tablet,
            listening(world, bert) as neighbour,
            listening(world, other) as stranger,
        ):
            sent = notify(world, "水", Principal("x", "default", "anne"))
            for client in (house, phone, tablet):
                frame = await client.hear("notification")
                assert frame == json.loads(sent.frame)
                assert frame["data"] == {"message": "水"}
            for client in (neighbour, stranger):
                await client.say("ping")
                assert (await client.next())["type"] == "pong"


async def test_a_device_that_comes_back_has_all_of_it(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        key, memory = key_for(world, "chat"), Memory()
        async with listening(world, key, memory) as client:
            notify(world, "one")
            await client.hear("notification")
        for text in ("two", "three"):
            notify(world, text)
        async with listening(world, key, memory) as client:
            notify(world, "four")
            assert (await client.next())["type"] == "resumed"
            for _ in range(3):
                await client.hear("notification")
        assert [data["message"] for _, data in memory.told] == ["one", "two", "three", "four"]
        assert memory.is_whole
        assert len(world.hub.events) == 0


async def test_resume_as_a_frame_tells_again_what_came_since(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        for text in ("one", "two", "three"):
            notify(world, text)
        await client.hear("notification")
        await client.say("resume", {"epoch": world.hub.events.epoch, "seq": 1})
        assert (await client.hear("resumed"))["data"] == {"recovered": True}
        again = [(await client.next())["seq"] for _ in range(2)]
        assert again == [2, 3]


@pytest.mark.parametrize(
    "asked",
    [{"epoch": "ep_another", "seq": 1}, {"seq": 10**9}, {"seq": -1}, {"seq": 2}],
    ids=["another epoch", "the future", "the past", "another tenant's"],
)
async def test_what_can_not_be_resumed_is_said_so_and_nothing_is_told_in_part(
    tmp_path, autojump_clock, asked
):
    async with open_world(tmp_path) as world, listening(world) as client:
        notify(world, "one")
        for _ in range(5):
            notify(world, "secret", Principal("x", "other"))
        await client.hear("notification")
        await client.say("resume", {"epoch": world.hub.events.epoch, **asked})
        assert (await client.next())["data"] == {"recovered": False}
        await client.say("ping")
        assert (await client.next())["type"] == "pong"


async def test_resumes_without_end_are_refused(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        for _ in range(link.RESUMES_A_MINUTE + 1):
            await client.say("resume", {"epoch": world.hub.events.epoch, "seq": 0})
        assert (await client.hear("error"))["data"]["code"] == "rate_limited"
        await trio.sleep(2)
        await client.say("resume", {"epoch": world.hub.events.epoch, "seq": 0})
        assert (await client.hear("resumed"))["data"] == {"recovered": True}


async def test_acknowledgements_without_end_are_refused(tmp_path, autojump_clock, monkeypatch):
    monkeypatch.setattr(link, "MOST_ACKS", 3)
    written = []
    async with open_world(tmp_path) as world, listening(world) as client:
        # A disk that takes its time.
        monkeypatch.setattr(
            world.hub.notices, "ack", lambda _id, _reader, done, device="": written.append(done)
        )
        for _ in range(4):
            await client.say("ack", {"id": "evt_1"})
        assert (await client.hear("error"))["data"]["code"] == "rate_limited"
        assert len(written) == 3
        for done in written[:]:
            done(True)
        await client.say("ack", {"id": "evt_1"})
        for _ in range(3):
            assert (await client.hear("acked", "error"))["type"] == "acked"
        await settled(lambda: len(written) == 4)


async def test_topics(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        await client.say("subscribe", {"topics": ["alert", "chat"]})
        told = (await client.hear("subscribed"))["data"]["topics"]
        assert told == ["alert", "chat.chunk", "chat.completed", "chat.failed", "chat.started"]
        notify(world, "not this")
        world.hub.events.publish("alert", HOUSE, {"message": "this"})
        assert (await client.next())["type"] == "alert"
        await client.say("subscribe", {"topics": ["soup"]})
        assert (await client.hear("error"))["data"]["param"] == "topics"
        await client.say("subscribe")
        await client.hear("subscribed")
        notify(world, "now this")
        await client.hear("notification")


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "soup", '{"type": 1}', '{"type": "dance"}', '{"type": "resume"}', '{"type": "ack", "data": []}',
     '{"type": "resume", "data": {"epoch": "x", "seq": 1e30}}', '{"type":"chat","data":[]}', '{"type":"chat"}',
     '{"type":"interrupt","data":{}}', '{"type":"interrupt","data":{"waitS":-1}}', "[" * 5000],
)  # fmt: skip
async def test_what_is_no_frame_gets_an_error_and_the_device_stays(tmp_path, autojump_clock, text):
    async with open_world(tmp_path) as world, listening(world) as client:
        await client.wire.say(text)
        said = await client.next()
        assert said["type"] == "error", said
        assert said["data"]["message"]
        await client.say("ping")
        assert (await client.next())["type"] == "pong"


async def test_a_frame_over_the_limit_closes_1009(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        await client.wire.say(" " * (link.MAX_FRAME_BYTES + 1))
        assert await client.wire.close_code() == 1009
        await settled(lambda: len(world.hub.events) == 0)


class FullSocket:
    """A peer that leaves too much unread."""

    def post(self, text):
        return False


async def test_a_device_that_never_reads_is_cut_1013_and_the_others_are_told(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        key, memory = key_for(world, "chat"), Memory()
        async with listening(world, key, memory) as frozen, listening(world, key) as reader:
            first = next(iter(world.hub.events._readers["default"]))
            first.post.__self__._socket = FullSocket()  # type: ignore[attr-defined]
            notify(world, "one")
            notify(world, "two")
            assert [(await reader.hear("notification"))["seq"] for _ in range(2)] == [1, 2]
            assert len(world.hub.events) == 1
            assert await frozen.frame() is None
            assert frozen.wire.closed == 1013
        async with listening(world, key, memory) as again:
            assert (await again.hear("resumed"))["data"] == {"recovered": True}
            assert [(await again.hear("notification"))["seq"] for _ in range(2)] == [1, 2]


async def test_the_end_of_the_hub_closes_1001(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        world.hub.flights.is_draining = True
        async with world.client() as http:
            path = f"/client/VCP_Key={key_for(world, 'chat')}"
            assert (await FakeNode(http.stream).open(path))[0] == 503
        await client.say("ping")
        assert (await client.next())["type"] == "pong"


async def test_ten_thousand_frames_leave_others_their_turn(tmp_path, autojump_clock):
    async with open_world(tmp_path, limits=LIMITS) as world, listening(world) as client:
        for _ in range(200):
            await client.say("ping")
        assert (await world.chat(say("x", "hello"))).status == 200
        for _ in range(200):
            await client.hear("pong")
