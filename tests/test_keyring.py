"""A key that ends takes along what it has open, whatever that is doing, and nothing else."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest
import trio
from wsproto.events import AcceptConnection

from apexbridge_trio import keyring as room
from apexbridge_trio.audit import HUB, Actor
from apexbridge_trio.errors import BadRequest, KeyEnded, NotFound
from apexbridge_trio.identity import Keys, Principal
from apexbridge_trio.openings import LAST_WORDS_S, Openings
from apexbridge_trio.store import Store
from tests.clients.test_channel import settled
from tests.fakes.memory import MemoryStream
from tests.harness.client import listening
from tests.harness.journal import broken
from tests.harness.node import FakeNode, connected, joined, key_for
from tests.harness.world import events, open_world, say
from tests.web.test_callback import Song
from tests.web.test_events import Stream

QUIET = {"flights": 0, "slots": 0, "faults": 0}
ANNE = Actor("anne", "10.0.0.7")
START_S = 1_763_000_000.0


class Clock:
    """The clock on the wall, moved by hand."""

    def __init__(self) -> None:
        self.at = START_S

    def __call__(self) -> float:
        return self.at


def bearer(key):
    return f"Authorization: Bearer {key}"


def id_of(key):
    return key.split("_")[1]


async def by_http(world, key_id):
    admin = bearer(key_for(world, "admin"))
    reply = await world.ask("DELETE", f"/v1/keys/{key_id}", None, admin)
    assert reply.status == 200, reply
    return reply.json


async def by_another_process(world, key_id):
    """As `apexbridge keys revoke` does it: with a connection of its own."""
    with Store(Path(world.hub.keys._store._db.filename).parent) as store:
        assert Keys(store).revoke(key_id)
    await trio.sleep(room.LOOK_EVERY_S * 1.5)


@pytest.fixture(params=[by_http, by_another_process], ids=["by HTTP", "by another process"])
def revoke(request):
    return request.param


@asynccontextmanager
async def watched(state, **more):
    async with open_world(state, **more) as world:
        async with trio.open_nursery() as nursery:
            await nursery.start(world.hub.keyring.run)
            yield world
            await settled(lambda: world.look() == QUIET)
            assert len(world.hub.openings) == 0
            nursery.cancel_scope.cancel(reason="the hub is about to end")


def last_use(world, record):
    """As it is on disk."""
    return world.hub.keyring.find(record.id).last_used_ms


def interrupted(reply):
    assert (reply.status, reply.json["error"]["code"]) == (499, "interrupted"), reply
    assert reply.json["error"]["message"] == "Interrupted: its key was revoked"


class TestWhatItWasDoing:
    async def test_a_body_was_on_its_way(self, tmp_path, autojump_clock, revoke):
        async with watched(tmp_path) as world, world.client() as http:
            key = key_for(world, "chat")
            head = [
                "POST /v1/chat/completions HTTP/1.1",
                "Host: localhost:8088",
                bearer(key),
                "Content-Length: 99",
            ]
            await http.send(("\r\n".join(head) + "\r\n\r\n{").encode())
            await settled(lambda: world.hub.openings.counts()[id_of(key)] == 1)
            await revoke(world, id_of(key))
            reply = await http.reply()
            assert (reply.status, reply.json["error"]["code"]) == (401, "key_ended")
            assert "its key was revoked" in reply.json["error"]["message"]

    @pytest.mark.parametrize("phase", ["stall", "stall-mid:2", "tool", "callback"])
    async def test_an_answer_was_waited_for(self, tmp_path, autojump_clock, revoke, phase):
        async with watched(tmp_path) as world, world.client() as http:
            key = key_for(world, "chat")
            tool, song = world.add_tool("held", hold=True), Song(world)
            body = {"tool": say("held {}", "hands"), "callback": say("sing {}", "hands")}.get(
                phase, say("x", phase)
            )
            await http.chat(body, bearer(key))
            await settled(lambda: len(world.hub.flights) == 1)
            if phase in {"tool", "callback"}:
                await (tool.started if phase == "tool" else song.called).wait()
            await trio.sleep(0.1)
            await revoke(world, id_of(key))
            interrupted(await http.reply())

    async def test_an_answer_was_streamed(self, tmp_path, autojump_clock, revoke):
        async with watched(tmp_path) as world, world.client() as http:
            key = key_for(world, "chat")
            await http.chat(say("x", "endless:50", stream=True), bearer(key))
            await trio.sleep(1)
            await revoke(world, id_of(key))
            *_, last = events(await http.reply())
            assert (last["choices"][0]["finish_reason"], last["apex"]) == ("stop", {"interrupted": True})

    async def test_a_stream_that_is_not_read_is_cut_after_a_while(
        self, tmp_path, autojump_clock, revoke, monkeypatch
    ):
        send_all = MemoryStream.send_all

        async def send_slowly(stream, data):
            if b'"chatcmpl_' in data:  # the hub's own; the client has stopped reading
                await trio.sleep_forever()
            await send_all(stream, data)

        async with watched(tmp_path) as world, world.client() as http:
            key = key_for(world, "chat")
            monkeypatch.setattr(MemoryStream, "send_all", send_slowly)
            await http.chat(say("x", "endless:50", stream=True), bearer(key))
            await trio.sleep(1)
            with trio.fail_after(LAST_WORDS_S * 2 + 5):
                await revoke(world, id_of(key))
                await settled(lambda: world.look() == QUIET)
                await settled(lambda: world.hub.openings.counts()[id_of(key)] == 0)

    async def test_a_node_worked_for_it(self, tmp_path, autojump_clock, revoke):
        async with watched(tmp_path) as world, joined(world) as node, world.client() as http:
            key = key_for(world, "chat")
            await http.chat(say("echo {}", "hands"), bearer(key))
            task = await node.task()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(revoke, world, id_of(key))
                assert (await node.cancelled()).task_id == task.task_id
                await node.confirm(task.task_id)
            interrupted(await http.reply())
            assert world.hub.nodes.registry.get("attic").status == "online"

    async def test_a_task_that_stands_for_itself(self, tmp_path, autojump_clock, revoke):
        async with watched(tmp_path) as world, joined(world) as node:
            key = key_for(world, "admin")
            reply = await world.ask("POST", "/v1/tasks", {"toolName": "echo"}, bearer(key))
            task = await node.task()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(revoke, world, id_of(key))
                await node.cancelled()
                await node.confirm(task.task_id)
            other = Principal("x", scopes=frozenset({"admin"}))
            assert world.hub.nodes.find(reply.json["taskId"], other).state == "interrupted"

    async def test_a_chat_in_the_background(self, tmp_path, autojump_clock, revoke):
        async with watched(tmp_path) as world:
            key, other = key_for(world, "chat"), key_for(world, "chat")
            body = say("x", "endless:50", requestId="r1", apex={"background": True})
            assert (await world.chat(body, bearer(key))).status == 202
            await trio.sleep(1)
            async with listening(world, other) as device:
                await revoke(world, id_of(key))
                assert (await device.chat_end("r1"))["error"]["code"] == "interrupted"
            entry = (await world.ask("GET", "/v1/requests/r1", None, bearer(other))).json
            assert entry["status"] == "interrupted"
            assert "its key was revoked" in entry["error"]["message"]

    async def test_a_device_listened_and_chatted(self, tmp_path, autojump_clock, revoke):
        async with watched(tmp_path) as world:
            key = key_for(world, "chat")
            async with listening(world, key) as idle, listening(world, key) as chatting:
                await chatting.say("chat", say("x", "endless:50"))
                await chatting.hear("chat.chunk")
                await revoke(world, id_of(key))
                for client in (idle, chatting):
                    assert await client.wire.close_code() == 1008
            assert len(world.hub.events) == 0

    async def test_a_stream_of_events_was_idle(self, tmp_path, autojump_clock, revoke):
        async with watched(tmp_path) as world, world.client() as http:
            key = key_for(world, "chat")
            stream = Stream(http)
            await stream.open(key)
            assert (await stream.next())["event"] == "connected"
            await revoke(world, id_of(key))
            assert await stream.next() is None
            assert len(world.hub.events) == 0

    async def test_the_log_was_read(self, tmp_path, autojump_clock, revoke):
        async with watched(tmp_path) as world, world.client() as http, world.client() as events_of:
            key = key_for(world, "logs")
            viewer = FakeNode(http.stream)
            assert isinstance(await viewer.open(f"/ABPlog/VCP_Key={key}"), AcceptConnection)
            await events_of.start("GET", "/v1/logs", None, bearer(key))
            await settled(lambda: len(world.hub.logs) == 2)
            await revoke(world, id_of(key))
            assert await viewer.close_code() == 1008
            assert b": the end" in (await events_of.reply()).body
            assert len(world.hub.logs) == 0

    async def test_a_node_was_idle_and_worked_for_others(self, tmp_path, autojump_clock, revoke):
        async with watched(tmp_path, nodes={"rejoin_grace_s": 2}) as world, world.client() as http:
            key = key_for(world, "node")
            async with joined(world, "attic", key) as node, connected(world, key) as unregistered:
                await http.chat(say("echo {}", "hands"))
                await node.task()
                await revoke(world, id_of(key))
                assert await node.close_code() == 1008
                assert await unregistered.close_code() == 1008
            assert world.hub.nodes.registry.get("attic").status == "offline"
            assert (await http.reply()).status == 200  # the model is told that the tool was lost

    async def test_others_go_on(self, tmp_path, autojump_clock, revoke):
        async with watched(tmp_path) as world, world.client() as http:
            key, other = key_for(world, "chat"), key_for(world, "chat")
            await http.chat(say("x", "stream:20:100"), bearer(other))
            async with listening(world, key) as theirs, listening(world, other) as mine:
                await revoke(world, id_of(key))
                assert await theirs.wire.close_code() == 1008
                await mine.say("ping")
                assert (await mine.hear("pong"))["type"] == "pong"
                assert (await http.reply()).status == 200
            assert (await world.ask("GET", "/v1/requests", None, bearer(key))).status == 401


class AtStep(trio.abc.Instrument):
    """Do something just before one step of the scheduler."""

    def __init__(self, step: int, deed: Callable[[], object]) -> None:
        self.left = step
        self.deed = deed

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self.deed()


@pytest.mark.parametrize("stream", [True, False])
async def test_revoked_at_every_step_of_a_chat_nothing_is_left(tmp_path, autojump_clock, stream):
    statuses: dict[bytes, int] = {}
    async with open_world(tmp_path) as world:
        key = key_for(world, "chat")
        for step in range(1, 1000):
            instrument = AtStep(step, lambda: world.hub.keyring.end(id_of(key), room.REVOKED))
            async with world.client() as http:
                trio.lowlevel.add_instrument(instrument)
                try:
                    await http.chat(say("ping {}", "hands", stream=stream), bearer(key), "Connection: close")
                    with trio.fail_after(60):
                        reply = await http.end()
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            await settled(lambda: world.look() == QUIET)
            assert len(world.hub.openings) == 0
            status = reply[9:12]
            statuses[status] = statuses.get(status, 0) + 1
            assert not stream or status != b"200" or reply.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), reply
            if instrument.left > 0:
                break
        assert step > 30
    # Before its reply began, or later; a body that comes at once leaves no step before the flight.
    assert statuses.keys() == {b"499", b"200"}, statuses


async def test_the_receipt_says_what_was_ended(tmp_path, autojump_clock):
    async with watched(tmp_path) as world, world.client() as http, world.client() as other:
        key = key_for(world, "chat")
        await http.chat(say("x", "endless:50", requestId="r1"), bearer(key))
        await Stream(other).open(key)
        async with listening(world, key):
            await settled(lambda: len(world.hub.flights) == 1)
            said = await by_http(world, id_of(key))
            assert (said["closed"], said["notClosed"], said["interrupted"]) == (3, 0, ["r1"])
            assert (said["notStopped"], said["state"]) == ([], "revoked")


async def test_a_node_that_does_not_confirm_is_named(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, joined(world) as node, world.client() as http:
        key = key_for(world, "chat")
        await http.chat(say("echo {}", "hands", requestId="r1"), bearer(key))
        await node.task()
        said = await by_http(world, id_of(key))
        assert said["interrupted"] == ["r1"]
        assert [path for path in said["notStopped"] if path.startswith("r1/")]


async def test_a_key_that_revokes_itself_is_told(tmp_path, autojump_clock):
    async with watched(tmp_path) as world:
        key = key_for(world, "admin", "chat")
        async with listening(world, key) as device:
            reply = await world.ask("DELETE", f"/v1/keys/{id_of(key)}", None, bearer(key))
            assert (reply.status, reply.json["closed"]) == (200, 1)
            assert await device.wire.close_code() == 1008
        assert (await world.ask("GET", "/v1/keys", None, bearer(key))).status == 401


class TestExpiry:
    async def test_what_is_open_ends_when_it_is_due(self, tmp_path, autojump_clock):
        clock = Clock()
        async with watched(tmp_path, now=clock) as world, world.client() as http:
            expires_ms = int(START_S * 1000) + 60_000
            key, record = world.hub.keys.create(scopes=["chat"], expires_ms=expires_ms)
            await http.chat(say("x", "endless:50"), bearer(key))
            async with listening(world, key) as device:
                clock.at += 59
                await trio.sleep(3)
                await device.say("ping")
                await device.hear("pong")
                clock.at += 1
                assert await device.wire.close_code() == 1008
            reply = await http.reply()
            assert reply.json["error"]["message"] == "Interrupted: its key has expired"
            assert (await world.ask("GET", "/v1/models", None, bearer(key))).status == 401
            (line,) = world.hub.audit.rows.listed(limit=10)
            assert (line.action, line.target, line.principal_id) == ("key.expired", record.id, HUB.id)

    async def test_it_is_noted_once_also_when_the_hub_was_not_there(self, tmp_path, autojump_clock):
        clock = Clock()
        async with open_world(tmp_path, now=clock) as world:
            world.hub.keys.create(scopes=["chat"], expires_ms=int(START_S * 1000) + 1)
        clock.at += 10
        for _ in range(2):
            async with open_world(tmp_path, now=clock) as world:
                world.hub.keyring.look()
                assert [one.action for one in world.hub.audit.rows.listed(limit=10)] == ["key.expired"]

    async def test_a_clock_that_jumps_to_and_fro_takes_no_key_for_ever(self, tmp_path, autojump_clock):
        clock = Clock()
        async with watched(tmp_path, now=clock) as world:
            key, _ = world.hub.keys.create(scopes=["chat"], expires_ms=int(START_S * 1000) + 60_000)
            clock.at += 10 * 366 * 86_400
            await trio.sleep(2)
            assert world.hub.keys.principal_of(key) is None
            clock.at = START_S
            assert world.hub.keys.principal_of(key) is not None
            async with listening(world, key) as device:
                await trio.sleep(3)
                clock.at += 61
                assert await device.wire.close_code() == 1008
            assert [one.action for one in world.hub.audit.rows.listed(limit=10)] == ["key.expired"]


class TestLastUse:
    async def test_it_is_known_at_once_and_written_once_a_minute(self, tmp_path, autojump_clock):
        clock = Clock()
        async with watched(tmp_path, now=clock) as world:
            key, record = world.hub.keys.create(scopes=["chat"])
            for _ in range(50):
                assert (await world.ask("GET", "/v1/models", None, bearer(key))).status == 200
            assert world.hub.keyring.last_used_ms(record) == START_S * 1000
            assert last_use(world, record) is None
            await trio.sleep(room.WRITE_EVERY_S + 2)
            assert last_use(world, record) == START_S * 1000
            assert world.hub.keys.used == {}

    async def test_it_is_written_when_the_hub_ends(self, tmp_path, autojump_clock):
        async with watched(tmp_path) as world:
            key, record = world.hub.keys.create(scopes=["chat"])
            assert world.hub.keys.principal_of(key)
        with Store(tmp_path) as store:
            kept = store.key(record.id)
            assert kept is not None
            assert kept.last_used_ms is not None

    async def test_a_disk_that_is_full_loses_none(self, tmp_path, autojump_clock):
        async with open_world(tmp_path) as world:
            key, record = world.hub.keys.create(scopes=["chat"])
            world.hub.keys.principal_of(key)
            with broken(world):
                world.hub.keyring.write_uses()
            assert world.hub.keys.used.keys() == {record.id}
            world.hub.keyring.write_uses()
            assert last_use(world, record) is not None

    async def test_it_never_goes_back(self, tmp_path, autojump_clock):
        clock = Clock()
        async with open_world(tmp_path, now=clock) as world:
            key, record = world.hub.keys.create(scopes=["chat"])
            for at in (START_S + 5, START_S):
                clock.at = at
                world.hub.keys.principal_of(key)
                world.hub.keyring.write_uses()
            assert last_use(world, record) == (START_S + 5) * 1000


async def test_what_is_not_on_disk_ends_nothing(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        key, admin = key_for(world, "chat"), key_for(world, "admin")
        async with listening(world, key) as device:
            with broken(world):
                reply = await world.ask("DELETE", f"/v1/keys/{id_of(key)}", None, bearer(admin))
                assert reply.status == 503
                made = await world.ask("POST", "/v1/keys", {"scopes": ["chat"]}, bearer(admin))
                assert made.status == 503
            await device.say("ping")
            await device.hear("pong")
        assert world.hub.audit.rows.listed(limit=1) == []


async def test_looking_costs_nothing_while_nobody_writes(tmp_path, autojump_clock, monkeypatch):
    async with open_world(tmp_path) as world:
        world.hub.keyring.look()
        looked: list[int] = []
        monkeypatch.setattr(world.hub.keyring.rows, "next_expiry", looked.append)
        for _ in range(100):
            world.hub.keyring.look()
        assert looked == []
        with Store(tmp_path) as store:
            Keys(store).create(scopes=["chat"])
        world.hub.keyring.look()
        assert len(looked) == 1


async def test_a_store_that_can_not_be_read_does_not_end_the_hub(tmp_path, autojump_clock, monkeypatch):
    async with watched(tmp_path) as world:

        def fail():
            raise apsw.IOError("disk I/O error")

        with monkeypatch.context() as patch:
            patch.setattr(world.hub.keyring.rows, "version", fail)
            await trio.sleep(5)
        key = key_for(world, "chat")
        async with listening(world, key) as device:
            await by_another_process(world, id_of(key))
            assert await device.wire.close_code() == 1008


async def test_a_key_that_was_removed_from_the_store_ends_too(tmp_path, autojump_clock):
    async with watched(tmp_path) as world:
        key = key_for(world, "chat")
        async with listening(world, key) as device:
            with Store(tmp_path) as store:
                store.execute("DELETE FROM keys")
            assert await device.wire.close_code() == 1008


def test_too_many_keys_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "MOST_KEYS", 2)

    async def main() -> None:
        async with open_world(tmp_path) as world:
            for _ in range(2):
                world.hub.keyring.create(ANNE, scopes=["chat"])
            with pytest.raises(BadRequest, match="2 good keys"):
                world.hub.keyring.create(ANNE, scopes=["chat"])
            (first, *_) = world.hub.keyring.rows.listed(limit=1)
            await world.hub.keyring.revoke(first.id, ANNE).wait()
            world.hub.keyring.create(ANNE, scopes=["chat"])
            with pytest.raises(NotFound):
                await world.hub.keyring.revoke(first.id, ANNE).wait()
            actions = [one.action for one in world.hub.audit.rows.listed(limit=10)]
            assert actions == ["key.created", "key.revoked", "key.created", "key.created"]
            world.nursery.cancel_scope.cancel()

    trio.run(main)


async def test_an_opening_is_cut_or_ends_itself(autojump_clock):
    openings = Openings()

    async def held(end: Callable[[str], object] | None, for_s: float) -> str:
        opening = openings.new()
        opening.principal, opening.end = Principal("anne"), end
        try:
            with opening:
                await trio.sleep(for_s)
        except KeyEnded as fault:
            return fault.message
        return "its own end"

    async def stop_after(seconds: float) -> None:
        await trio.sleep(seconds)
        assert all(not event.is_set() for event in openings.stop("anne", "its key was revoked"))
        assert openings.stop("bert", "x") == []

    heard: list[str] = []
    for end, for_s, said in [
        (None, 10, "This was ended: its key was revoked."),
        (heard.append, 3, "its own end"),
        (heard.append, 1 + LAST_WORDS_S * 2, "This was ended: its key was revoked."),
    ]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_after, 1)
            assert await held(end, for_s) == said
        assert len(openings) == 0
    assert heard == ["its key was revoked"] * 2
