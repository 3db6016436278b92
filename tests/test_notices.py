"""What people have to be told: durable, shown to who comes later, until somebody has seen it."""

import json
from contextlib import ExitStack
from typing import Any

import pytest
import trio

from apexbridge_trio import notices as room
from apexbridge_trio.errors import TooMany
from apexbridge_trio.identity import Principal
from apexbridge_trio.plugins import Later
from apexbridge_trio.push import Push
from apexbridge_trio.store import Notice, Store, Tasks
from tests.harness.client import Memory, listening
from tests.harness.node import joined, key_for
from tests.harness.world import content, open_world, say
from tests.web.test_callback import DONE, Song, waiting
from tests.web.test_events import Stream


def bearer(key):
    return f"Authorization: Bearer {key}"


async def post(world, key, **body):
    return await world.ask("POST", "/v1/notifications", body, bearer(key))


async def pending(world, key):
    return (await world.ask("GET", "/v1/notifications", None, bearer(key))).json


async def test_a_notice_is_told_now_and_shown_later_until_it_is_acknowledged(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        async with listening(world, key) as here:
            reply = await post(world, key, message="喝水", title="Water", level="warning", kind="alert")
            assert reply.status == 201
            notice_id = reply.json["id"]
            said = (await here.hear("alert"))["data"]
            assert said == {"id": notice_id, "level": "warning", "title": "Water", "message": "喝水"}
        async with listening(world, key) as later, listening(world, key) as another:
            assert (await later.hear("alert"))["data"] == said
            assert (await another.hear("alert"))["data"] == said
            await later.say("ack", {"id": notice_id})
            assert (await later.hear("acked"))["data"] == {"id": notice_id, "settled": True}
            said = (await another.hear("notification.acked"))["data"]
            by = {"keyId": key.split("_")[1], "device": None}
            assert said == {"id": notice_id, "kind": "alert", "by": by, "settled": True}
            await later.say("ack", {"id": notice_id})
            assert (await later.hear("acked"))["data"]["settled"] is False
        async with listening(world, key) as last:
            await last.say("ping")
            assert (await last.next())["type"] == "pong"


async def test_it_survives_the_hub(tmp_path, autojump_clock):
    memory = Memory()
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        async with listening(world, key, memory):
            pass
        await post(world, key, message="one")
    async with open_world(tmp_path) as world, listening(world, key, memory) as client:
        assert (await client.hear("resumed"))["data"] == {"recovered": False}
        assert (await client.hear("notification"))["data"]["message"] == "one"
        assert memory.epoch == world.hub.events.epoch


async def test_over_http_it_is_listed_and_acknowledged(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        anne, bert = (key_for(world, "chat", family=name) for name in ("anne", "bert"))
        house, other = key_for(world, "chat"), key_for(world, "chat", "admin", tenant="other")
        notice_id = (await post(world, anne, message="hers")).json["id"]
        path = f"/v1/notifications/{notice_id}/ack"
        for key in (bert, other):
            assert await pending(world, key) == []
            assert (await world.ask("POST", path, {}, bearer(key))).status == 404
        for key in (anne, house):
            assert [one["message"] for one in await pending(world, key)] == ["hers"]
        assert (await world.ask("POST", path, {}, bearer(anne))).status == 200
        assert (await world.ask("POST", path, {}, bearer(anne))).status == 404
        assert await pending(world, house) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"message": ""}, 400),
        ({"message": "x", "level": "loud"}, 400),
        ({"message": "x", "kind": "chat.chunk"}, 400),
        ({"message": "x", "expiresS": -1}, 400),
        ({"message": "x", "tenantId": "other"}, 403),
        ({"message": "x" * 10_001}, 400),
    ],
)
async def test_what_can_not_be_told(tmp_path, autojump_clock, body, status):
    async with open_world(tmp_path) as world:
        assert (await post(world, key_for(world, "chat"), **body)).status == status


async def test_too_many_that_nobody_reads_are_refused(tmp_path, autojump_clock, monkeypatch):
    monkeypatch.setattr(room, "MOST_OWED", 2)
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        assert [(await post(world, key, message="x")).status for _ in range(3)] == [201, 201, 429]
        assert (await post(world, key_for(world, "chat", tenant="other"), message="x")).status == 201


async def test_what_is_over_is_not_shown(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        for notice_id, expires_ms in (("gone", 1), ("there", None)):
            made = Notice(notice_id, "p", "default", None, "info", '{"message":""}', 0, expires_ms=expires_ms)
            Tasks(world.hub.nodes._written._store).owe(made)
        assert [one["id"] for one in await pending(world, key)] == ["there"]


def test_what_is_over_is_forgotten(tmp_path):
    with Store(tmp_path) as store:
        rows = Tasks(store)
        day = 86_400_000
        rows.owe(Notice("short", "p", "t", None, "info", "{}", 0, expires_ms=10))
        rows.owe(Notice("long", "p", "t", None, "info", "{}", 0))
        rows.owe(Notice("other", "p", "u", None, "info", "{}", 0))
        rows.forget_notices(11)
        assert [notice.id for notice in rows.notices()] == ["long", "other"]
        rows.forget_notices(31 * day)
        assert rows.notices() == []


async def test_a_lost_task_is_told_to_its_owner(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        async with joined(world) as node:
            key = key_for(world, "chat", "admin")
            body = {"toolName": "echo", "toolArgs": {}}
            made = await world.ask("POST", "/v1/tasks", body, bearer(key))
            task_id = made.json["taskId"]
            await node.task()
        frames: list[dict[str, Any]] = []
        while not frames or frames[-1]["type"] != "notification":
            frames.append(await client.hear("node.status", "task.status", "notification"))
        said = frames[-1]["data"]
        assert said["id"] == said["taskId"] == task_id
        assert said["actions"] == [{"retry": task_id}]
        assert [f["data"]["state"] for f in frames if f["type"] == "task.status"] == [
            "queued",
            "assigned",
            "lost",
        ]
        nodes = [f["data"] for f in frames if f["type"] == "node.status"]
        assert [(node["from"], node["to"]) for node in nodes] == [
            ("offline", "online"),
            ("online", "offline"),
        ]


async def test_progress_is_told_and_not_kept(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        owner = Principal("house")
        for number in range(300):
            world.hub.notices.progress(owner, "task_1", number / 300, "going")
        said = (await client.hear("notification"))["data"]
        assert said["taskId"] == "task_1"
        assert said["progress"] == 0
        assert world.hub.notices.pending(owner) == []
        assert world.hub.events.history("default").seq <= room.PROGRESS_RATE
        for number in range(1100):
            world.hub.notices.progress(owner, f"task_{number}", 1.0, "")
        assert len(world.hub.notices._rates) <= 1000


async def test_a_callback_that_nobody_waits_for_is_told_and_its_progress_before(tmp_path, autojump_clock):
    async with waiting(tmp_path, Later(wait_s=5)) as (world, song, chat), listening(world) as client:
        await world.ask("POST", song.path, {"status": "progress", "progress": 0.5, "message": "verse"})
        said = (await client.hear("notification"))["data"]
        assert (said["taskId"], said["progress"], said["message"]) == ("song-1", 0.5, "verse")
        await chat.reply()
        await world.ask("POST", song.path, DONE)
        said = (await client.hear("notification"))["data"]
        assert (said["taskId"], said["state"], said["message"]) == ("song-1", "succeeded", "sing: succeeded")
        await client.say("ack", {"id": said["id"]})
        assert (await client.hear("acked"))["data"]["settled"]
        assert world.hub.pendings._tasks.notices() == []


async def test_a_callback_that_a_chat_waits_for_is_not_told(tmp_path, autojump_clock):
    async with waiting(tmp_path) as (world, song, chat), listening(world) as client:
        await world.ask("POST", song.path, DONE)
        await chat.reply()
        await client.say("ping")
        assert (await client.next())["type"] == "pong"


async def test_a_chat_that_is_gone_when_the_callback_comes_is_told_to_the_device(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, listening(world) as client:
        song = Song(world)
        async with world.client() as http:
            await http.chat(say("sing {}", "hands"))
            await song.called.wait()
            await trio.testing.wait_all_tasks_blocked()
        await world.ask("POST", song.path, {"status": "failed", "error": "no voice"})
        said = (await client.hear("notification"))["data"]
        assert (said["level"], said["state"]) == ("warning", "failed")


async def test_the_seeds_7_5_http_and_the_channel_together(tmp_path, autojump_clock):
    """A pushed chat, a plugin's progress and its end by callback, and a device that reconnects in between."""
    memory = Memory()
    async with open_world(tmp_path) as world, world.client() as http:
        song = Song(world, Later(wait_s=1))
        key = key_for(world, "chat")
        async with listening(world, key, memory) as client:
            await http.chat(say("sing {}", "hands", requestId="r1", apex={"push": True}), bearer(key))
            await song.called.wait()
            await world.ask("POST", song.path, {"status": "progress", "progress": 0.1, "message": "verse"})
            await client.hear("notification")
        await world.ask("POST", song.path, {"status": "progress", "progress": 0.9, "message": "chorus"})
        reply = await http.reply()
        await world.ask("POST", song.path, DONE)
        async with listening(world, key, memory) as client:
            while len(memory.told) < 3:
                await client.hear("notification")
        assert memory.is_whole
        assert memory.texts == {"r1": content(reply)}
        assert memory.ended == {"r1": "chat.completed"}
        assert [data["message"] for _, data in memory.told] == ["verse", "chorus", "sing: succeeded"]


async def test_more_than_a_device_takes_at_once_does_not_keep_it_out(tmp_path, autojump_clock):
    """Were all of it posted, it would be cut as a slow reader each time that it comes, before it can ack."""
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        home = Principal("somebody", "default")
        for number in range(300):
            world.hub.notices.owe("notification", home, f"{number} {'水' * 5000}")
        shown: set[str] = set()
        for _ in range(20):
            async with listening(world, key, query="?device=phone") as device:
                told = []
                await device.say("ping")
                while (frame := await device.next())["type"] != "pong":
                    told.append(frame["data"])
                for one in told:
                    await device.say("ack", {"id": one["id"]})
                for _ in told:
                    await device.hear("acked")
            shown |= {one["message"].split()[0] for one in told}
            if len(shown) == 300:
                break
            # The newest of what is left, in the order in which they were made.
            numbers = [int(one["message"].split()[0]) for one in told]
            assert numbers == sorted(numbers)
            assert max(numbers) + len(shown) == 299 + len(numbers)
        assert len(shown) == 300


async def test_a_flood_of_notifications_hides_no_alert_and_keeps_none_out(
    tmp_path, autojump_clock, monkeypatch
):
    monkeypatch.setattr(room, "MOST_OWED", 3)
    monkeypatch.setattr(room, "MOST_SHOWN_BYTES", 2000)
    async with open_world(tmp_path) as world:
        key, home, owe = key_for(world, "chat"), Principal("somebody", "default"), world.hub.notices.owe
        owe("alert", home, "smoke")
        for _ in range(3):
            owe("notification", home, "x" * 500)
        with pytest.raises(TooMany):
            owe("notification", home, "one too many")
        owe("alert", home, "fire")
        said = [one["message"][:5] for one in await pending(world, key)]
        assert said == ["smoke", "xxxxx", "fire"]
        async with listening(world, key) as device:
            said = [(await device.next())["data"]["message"][:5] for _ in range(3)]
        assert said == ["smoke", "xxxxx", "fire"]


async def came(world, over, key, at, most):
    """Come, hear so many frames at most, and hang up: the last one's position, and what was told."""
    frames = []
    if over == "websocket":
        query = "?epoch={}&seq={}".format(*at) if at else ""
        async with listening(world, key, query=query) as device:
            frames.append(device.ack)
            await device.say("ping")
            while len(frames) < most and (frame := await device.next())["type"] != "pong":
                frames.append(frame)
        at = (frames[-1]["epoch"], frames[-1]["seq"])
    else:
        async with world.client() as http:
            stream = Stream(http)
            await stream.open(key, "", *(["Last-Event-ID: {}:{}".format(*at)] if at else []))
            with trio.move_on_after(1):
                while len(frames) < most:
                    frames.append(await stream.next())
        at = frames[-1]["id"].rpartition(":")[::2] if frames else at
        frames = [json.loads(frame["data"]) for frame in frames]
    told = [frame["data"] for frame in frames]
    return at, [one.get("message") or one.get("delta", {}).get("content") for one in told]


@pytest.mark.parametrize("is_answered", [True, False])
@pytest.mark.parametrize("over", ["websocket", "sse"])
async def test_who_is_dropped_while_it_is_shown_what_is_owed_has_all_of_it_in_the_end(
    tmp_path, autojump_clock, over, is_answered
):
    """Whoever goes on from the last frame it has, after any number of them, has missed nothing."""
    async with open_world(tmp_path) as world:
        key, home = key_for(world, "chat"), Principal("somebody", "default")
        for number in range(3):
            world.hub.notices.owe("notification", home, str(number))
        with ExitStack() as chats:
            if is_answered:
                chat = chats.enter_context(Push(world.hub.events, home, "req_1", "m"))
                for piece in "abc":
                    chat.text(piece)
            wanted = "012abc" if is_answered else "012"
            for most in range(1, 9):
                at, heard = await came(world, over, key, None, most)
                for _ in range(2):
                    at, again = await came(world, over, key, at, 99)
                    heard += again
                assert set(filter(None, heard)) - {"Connected."} == set(wanted), f"dropped after {most}"
