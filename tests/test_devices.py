"""Each device is told what it has not had, whatever the others did, over restarts and cuts."""

import json

import pytest
import trio

from apexbridge_trio import notices as room
from apexbridge_trio.identity import Principal
from apexbridge_trio.notices import Notices
from apexbridge_trio.store import DeviceRecord, Devices, Notice, Store, Tasks
from apexbridge_trio.store import devices as rows_room
from tests.harness.client import listening
from tests.harness.journal import broken, held
from tests.harness.kill import kill_at_every_step
from tests.harness.node import FakeNode, key_for
from tests.harness.world import open_world
from tests.test_notices import bearer, pending, post
from tests.web.test_events import Stream

DAY_MS = 86_400_000


def at(device):
    return f"?device={device}"


async def shown(client):
    """What a device is shown on coming: the messages, until it is answered."""
    await client.say("ping")
    messages = []
    while (frame := await client.next())["type"] != "pong":
        if frame["type"] in {"notification", "alert", "reminder"}:
            messages.append(frame["data"]["message"])
    return messages


async def ack(client, notice_id):
    await client.say("ack", {"id": notice_id})
    return (await client.hear("acked"))["data"]["settled"]


async def ids(world, key, *messages, kind="notification"):
    return [(await post(world, key, message=message, kind=kind)).json["id"] for message in messages]


async def test_a_device_that_was_away_is_told_what_another_has_acknowledged(tmp_path, autojump_clock):
    """Two devices, one away for the whole time, and the hub ends twice in between."""
    async with open_world(tmp_path) as world:
        phone_key, tablet_key = key_for(world, "chat"), key_for(world, "chat")
        async with listening(world, tablet_key, query=at("tablet")) as tablet:
            assert await shown(tablet) == []
        async with listening(world, phone_key, query=at("phone")) as phone:
            one, two = await ids(world, phone_key, "one", "two")
            assert await shown(phone) == ["one", "two"]
            assert await ack(phone, one)
    async with open_world(tmp_path) as world, listening(world, phone_key, query=at("phone")) as phone:
        assert await shown(phone) == ["two"]
        assert await ack(phone, two)
        assert not await ack(phone, two)
        await ids(world, phone_key, "three")
    async with open_world(tmp_path) as world:
        for _ in range(2):  # seen is what it says, not what was sent
            async with listening(world, tablet_key, query=at("tablet")) as tablet:
                assert await shown(tablet) == ["one", "two", "three"]
        async with listening(world, tablet_key, query=at("tablet")) as tablet:
            assert await ack(tablet, one)
            assert await ack(tablet, two)
        async with listening(world, tablet_key, query=at("tablet")) as tablet:
            assert await shown(tablet) == ["three"]
        async with listening(world, phone_key, query=at("phone")) as phone:
            assert await shown(phone) == ["three"]


@pytest.mark.parametrize("kind", ["alert", "reminder"])
async def test_what_is_to_be_done_is_done_once_and_the_others_are_told_by_whom(
    tmp_path, autojump_clock, kind
):
    async with open_world(tmp_path) as world:
        phone_key, tablet_key = key_for(world, "chat"), key_for(world, "chat")
        async with (
            listening(world, phone_key, query=at("phone")) as phone,
            listening(world, tablet_key, query=at("tablet")) as tablet,
        ):
            (notice_id,) = await ids(world, phone_key, "water", kind=kind)
            await tablet.hear(kind)
            assert await ack(phone, notice_id)
            by = {"keyId": phone_key.split("_")[1], "device": "phone"}
            said = (await tablet.hear("notification.acked"))["data"]
            assert said == {"id": notice_id, "kind": kind, "by": by, "settled": True}
            assert not await ack(tablet, notice_id)
    async with open_world(tmp_path) as world:
        async with listening(world, tablet_key, query=at("tablet")) as tablet:
            assert await shown(tablet) == []
        path = f"/v1/notifications/{notice_id}"
        told = (await world.ask("GET", path, None, bearer(phone_key))).json
        assert (told["message"], told["type"]) == ("water", kind)
        assert [one | {"at": 0} for one in told["seenOn"]] == [{**by, "at": 0}]
        assert told["ackedAt"] == told["seenOn"][0]["at"]
        assert (await world.ask("POST", f"{path}/ack", {}, bearer(tablet_key))).status == 404


async def test_a_new_device_is_not_told_what_is_old(tmp_path, autojump_clock, monkeypatch):
    monkeypatch.setattr(room, "now_ms", lambda: int(trio.current_time() * 1000))
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        async with listening(world, key, query=at("phone")) as phone:
            (old, _) = await ids(world, key, "old", "open")
            assert await ack(phone, old)
        await trio.sleep(1)
        async with listening(world, key, query=at("new")) as new:
            assert await shown(new) == ["open"]


async def test_a_device_without_a_name_is_remembered_from_its_first_acknowledgement(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        phone, tablet = key_for(world, "chat"), key_for(world, "chat")
        async with listening(world, tablet) as client:
            first, second = await ids(world, phone, "one", "two")
            await world.ask("POST", f"/v1/notifications/{first}/ack", {}, bearer(phone))
            assert [one["message"] for one in await pending(world, tablet)] == ["two"]
            assert await ack(client, second)
        (third,) = await ids(world, phone, "three")
        await world.ask("POST", f"/v1/notifications/{third}/ack", {}, bearer(phone))
        assert [one["message"] for one in await pending(world, tablet)] == ["three"]
        assert [one["message"] for one in await pending(world, phone)] == ["two"]


async def test_several_devices_of_one_key_are_told_apart_over_http_and_events(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        for name in ("a", "b"):
            async with world.client() as http:
                stream = Stream(http)
                await stream.open(key, at(name))
                assert (await stream.next())["event"] == "connected"
        (notice_id,) = await ids(world, key, "one")
        path = f"/v1/notifications/{notice_id}/ack{at('a')}"
        assert [(await world.ask("POST", path, {}, bearer(key))).status for _ in range(2)] == [200, 404]
        assert (await world.ask("GET", f"/v1/notifications{at('a')}", None, bearer(key))).json == []
        assert len((await world.ask("GET", f"/v1/notifications{at('b')}", None, bearer(key))).json) == 1
        async with world.client() as http:
            stream = Stream(http)
            await stream.open(key, at("b"))
            assert (await stream.next())["event"] == "connected"
            assert json.loads((await stream.next())["data"])["data"]["message"] == "one"


@pytest.mark.parametrize("name", ["a b", "x" * 65, "../a", "%00", "%0a", "é", "a/b"])
async def test_a_name_that_is_none_is_refused(tmp_path, autojump_clock, name):
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        query = at(name.replace(" ", "%20").replace("é", "%C3%A9"))
        for path in (f"/v1/events{query}", f"/v1/notifications{query}"):
            reply = await world.ask("GET", path, None, bearer(key))
            assert (reply.status, reply.json["error"]["param"]) == (400, "device")
        async with world.client() as http:
            assert (await FakeNode(http.stream).open(f"/client/VCP_Key={key}{query}"))[0] == 400


async def test_families_and_tenants_are_kept_apart(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        anne, bert = (key_for(world, "chat", family=name) for name in ("anne", "bert"))
        house, other = key_for(world, "chat"), key_for(world, "chat", "admin", tenant="other")
        for key in (anne, bert, house, other):
            async with listening(world, key, query=at("same-name")):
                pass
        (notice_id,) = await ids(world, anne, "hers")
        for key in (bert, other):
            async with listening(world, key, query=at("same-name")) as client:
                assert await shown(client) == []
                assert not await ack(client, notice_id)
            for method, path in [("GET", ""), ("POST", "/ack")]:
                reply = await world.ask(method, f"/v1/notifications/{notice_id}{path}", {}, bearer(key))
                assert reply.status == 404
        async with listening(world, anne, query=at("same-name")) as client:
            assert await ack(client, notice_id)
        async with listening(world, house, query=at("same-name")) as client:
            assert await shown(client) == ["hers"]


async def test_what_somebody_has_read_counts_no_more_against_who_tells(tmp_path, autojump_clock, monkeypatch):
    monkeypatch.setattr(room, "MOST_OWED", 2)
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        async with listening(world, key_for(world, "chat"), query=at("away")):
            pass
        async with listening(world, key) as phone:
            for number in range(5):
                (notice_id,) = await ids(world, key, str(number))
                assert await ack(phone, notice_id)


async def test_an_acknowledgement_that_is_not_on_disk_is_not_said_to_be(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        (notice_id,) = await ids(world, key, "one")
        async with listening(world, key) as phone:
            with broken(world):
                assert not await ack(phone, notice_id)
            with held(world):
                await phone.say("ack", {"id": notice_id})
                await phone.say("ping")
                assert (await phone.next())["type"] == "pong"
            assert (await phone.hear("acked"))["data"]["settled"]
        assert await pending(world, key) == []


async def test_two_devices_that_settle_at_once_settle_once(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        (notice_id,) = await ids(world, key, "water", kind="alert")
        async with listening(world, key, query=at("a")) as one, listening(world, key, query=at("b")) as two:
            with held(world):
                for client in (one, two):
                    await client.say("ack", {"id": notice_id})
                    await client.say("ping")
                    await client.hear("pong")
            said = [(await client.hear("acked"))["data"]["settled"] for client in (one, two)]
        assert sorted(said) == [False, True]


async def test_cut_at_every_step_a_device_has_it_seen_or_is_told_again(tmp_path, autojump_clock):
    """Told, acknowledged on the phone, cut: the tablet is told; the phone is, unless it was said to have it."""
    said: list[str] = []
    async with open_world(tmp_path) as world:
        phone, tablet = (key_for(world, "chat") for _ in range(2))
        async with listening(world, tablet, query=at("tablet")), listening(world, phone, query=at("phone")):
            pass

        async def scenario() -> None:
            said.clear()
            said.extend(await ids(world, phone, "one"))
            path = f"/v1/notifications/{said[0]}/ack{at('phone')}"
            if (await world.ask("POST", path, {}, bearer(phone))).status == 200:
                said.append("seen")

        async def check(_is_whole: bool) -> None:
            if not said:
                return
            with Store(tmp_path) as store:
                devices = Devices(store)
                due = [
                    {
                        one.id: one
                        for one in devices.due(
                            devices.find(key.split("_")[1], name), "default", None, 0, 1000
                        )
                    }
                    for key, name in ((phone, "phone"), (tablet, "tablet"))
                ]
            assert said[0] in due[1]
            assert (said[0] in due[0]) == (due[1][said[0]].acked_ms is None)
            assert not ("seen" in said and said[0] in due[0])

        assert await kill_at_every_step(scenario, check) > 20


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path) as opened:
        yield opened


def device(name, key_id="k", at_ms=0, family=None):
    return DeviceRecord(key_id, name, "t", family, at_ms, at_ms)


def notice(notice_id, at_ms=0, **fields):
    return Notice(notice_id, "p", "t", None, "info", "{}", at_ms, **fields)


def test_a_key_has_so_many_devices_and_hurts_only_itself(store):
    devices = Devices(store)
    devices.arrive(device("other", "k2"))
    for number in range(rows_room.MOST_DEVICES + 5):
        devices.arrive(device(f"d{number}", at_ms=number))
    kept = [number for number in range(rows_room.MOST_DEVICES + 5) if devices.find("k", f"d{number}")]
    assert kept == list(range(5, rows_room.MOST_DEVICES + 5))
    assert devices.find("k2", "other")
    devices.arrive(device("late", at_ms=-1))  # the clock was put back: who comes now stays
    assert devices.find("k", "late")


def test_devices_are_forgotten_with_what_they_have_seen(store):
    devices, tasks = Devices(store), Tasks(store)
    tasks.owe(notice("n"))
    for name, at_ms in (("old", 0), ("new", 50 * DAY_MS)):
        devices.arrive(device(name, at_ms=at_ms))
        assert devices.ack("n", device(name, at_ms=at_ms))
    devices.forget(61 * DAY_MS)
    assert devices.find("k", "old") is None
    assert devices.seen_on("n") == [("k", "new", 50 * DAY_MS)]
    tasks.settle_notice("n")
    assert devices.seen_on("n") == []


def test_devices_go_with_their_key(store, tmp_path):
    from apexbridge_trio.identity import Keys

    devices, keys = Devices(store), Keys(store)
    _, record = keys.create(scopes=["chat"])
    devices.arrive(device("phone", record.id))
    devices.forget(0)
    assert devices.find(record.id, "phone")
    keys.revoke(record.id)
    devices.forget(0)
    assert devices.find(record.id, "phone") is None


def test_what_is_kept_for_who_is_away_is_bounded(store, monkeypatch):
    monkeypatch.setattr(rows_room, "MOST_ACKED", 3)
    devices, tasks = Devices(store), Tasks(store)
    devices.arrive(device("away"))
    tasks.owe(notice("open"))
    for number in range(10):
        tasks.owe(notice(f"n{number}", at_ms=number))
        assert devices.ack(f"n{number}", device("phone", at_ms=number))
    due = devices.due(devices.find("k", "away"), "t", None, 0, 100)
    assert [one.id for one in due] == ["open", "n7", "n8", "n9"]


def test_a_second_telling_of_what_was_acknowledged_changes_nothing(store):
    devices, tasks = Devices(store), Tasks(store)
    tasks.owe(notice("n"))
    acked = devices.ack("n", device("", at_ms=5))
    assert acked is not None
    assert (acked.acked_ms, acked.acked_by) == (5, "k")
    tasks.owe(notice("n"))
    assert tasks.notices() == []
    assert tasks.notice("n") == acked


def test_a_device_that_comes_often_is_written_rarely(tmp_path):
    from apexbridge_trio.events import Events
    from apexbridge_trio.journal import Journal

    with Store(tmp_path) as read, Store(tmp_path) as written:
        notices = Notices(read, written, Journal(written), Events())
        before = read.version()
        notices.arrive(Principal("k"), "phone")
        after = read.version()
        for _ in range(100):
            notices.arrive(Principal("k"), "phone")
            notices.arrive(Principal("k"), "")
        assert before != after == read.version()
