"""What triggers can wait for is really published, with the fields that the config knows of."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from apexbridge_trio.errors import ToolFailed, ToolTimeout
from apexbridge_trio.events import KINDS, Listener
from apexbridge_trio.identity import Principal
from apexbridge_trio.plugins import Later
from apexbridge_trio.protocol.happened import FIELDS, LEVELS, NODE_STATES, TASK_STATES, flat
from apexbridge_trio.protocol.openai import encode
from apexbridge_trio.store import NodeTaskState
from tests.harness.client import Memory, listening
from tests.harness.node import joined, key_for
from tests.harness.world import World, open_world, say
from tests.triggers.place import Wall
from tests.triggers.test_triggers import HOME, THEM, told, trigger, watched
from tests.web.test_callback import waiting


class Ear:
    """Hears everything that a trigger can wait for."""

    def __init__(self, world: World) -> None:
        self.heard: list[tuple[str, Principal, dict[str, Any]]] = []
        listener = Listener(self._hear)
        listener.kinds = frozenset(KINDS) & FIELDS.keys()
        world.hub.events.listen(listener)

    def _hear(self, kind: str, owner: Principal, data: Any) -> None:
        self.heard.append((kind, owner, flat(msgspec.json.decode(encode(data)))))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [data for heard, _, data in self.heard if heard == kind]


@asynccontextmanager
async def heard(state: Path, **sections: Any) -> AsyncIterator[tuple[World, Ear]]:
    async with open_world(state, now=Wall(), **sections) as world:
        yield world, Ear(world)


def picked(data: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(data.get(name) for name in names)


def test_the_words_are_those_of_the_hub() -> None:
    assert FIELDS.keys() <= set(KINDS)
    assert set(TASK_STATES) == set(NodeTaskState.__args__)  # type: ignore[attr-defined]
    assert set(LEVELS) == {"info", "warning", "error"}
    assert set(NODE_STATES) == {"online", "busy", "draining", "offline"}


class TestChats:
    @pytest.mark.parametrize("how", [{}, {"stream": True}, {"apex": {"push": True}}])
    async def test_one_that_ends_well(self, how: Any, tmp_path: Path, autojump_clock: Any) -> None:
        async with heard(tmp_path) as (world, ear):
            assert (await world.chat(say("hello", "hello", requestId="r1", **how))).status == 200
            assert [kind for kind, *_ in ear.heard] == ["chat.completed"]
            assert picked(ear.heard[0][2], "requestId", "model") == ("r1", "hello")

    @pytest.mark.parametrize("how", [{}, {"stream": True}, {"apex": {"push": True}}])
    async def test_one_that_fails(self, how: Any, tmp_path: Path, autojump_clock: Any) -> None:
        async with heard(tmp_path) as (world, ear):
            assert (await world.chat(say("hello", "status:400", requestId="r1", **how))).status == 400
            assert [kind for kind, *_ in ear.heard] == ["chat.failed"]
            assert picked(ear.heard[0][2], "requestId", "error.code") == ("r1", "upstream_refused")

    async def test_one_that_is_not_pushed_is_told_to_no_device(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        async with (
            open_world(tmp_path) as world,
            listening(world, key_for(world, "chat"), Memory()) as device,
        ):
            assert (await world.chat(say("hello", "hello"))).status == 200
            world.hub.events.publish("node.status", HOME, {})
            assert (await device.next())["type"] == "node.status"

    async def test_one_whose_client_leaves(self, tmp_path: Path, autojump_clock: Any) -> None:
        async with heard(tmp_path) as (world, ear):
            async with world.client() as client:
                await client.chat(say("x", "endless:50", stream=True))
                await trio.sleep(1)
            await trio.testing.wait_all_tasks_blocked()
            assert [picked(data, "error.code") for data in ear.of("chat.failed")] == [("cancelled",)]

    async def test_one_of_a_tenant_is_not_heard_by_the_triggers_of_another(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        mine, theirs = (trigger(name, on="chat.failed", tenant=name) for name in ("default", "others"))
        async with watched(tmp_path, mine, theirs) as world:
            key = f"Authorization: Bearer {key_for(world, 'chat', tenant='others')}"
            assert (await world.chat(say("x", "dead"), key)).status == 502
            assert (told(world), told(world, THEM)) == ([], [("notification", "", "others: chat.failed")])


class TestPlugins:
    @pytest.mark.parametrize(
        ("fault", "code"),
        [(ToolFailed("no bulb"), "tool_failed"), (ToolTimeout("too slow"), "tool_timeout")],
    )
    async def test_a_call_that_fails(
        self, fault: Exception, code: str, tmp_path: Path, autojump_clock: Any
    ) -> None:
        async with heard(tmp_path) as (world, ear):
            world.add_tool("lamp", fault)
            assert (await world.chat(say("lamp {}", "hands", requestId="r1"))).status == 200
            [(kind, owner, data)] = [one for one in ear.heard if one[0] != "chat.completed"]
            assert (kind, owner.tenant_id) == ("plugin.failed", "default")
            assert picked(data, "plugin", "tool", "what", "code", "requestId") == (
                "test",
                "lamp",
                "call",
                code,
                "r1",
            )

    async def test_neither_wrong_arguments_nor_an_interrupt_is_its_fault(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        async with heard(tmp_path) as (world, ear), world.client() as client:
            world.add_tool("lamp", ToolFailed("no", code="invalid_arguments"))
            world.add_tool("slow", hold=True)
            await client.chat(say("lamp {}\nslow {}", "hands", requestId="r1"))
            await trio.sleep(1)
            key = f"Authorization: Bearer {key_for(world, 'chat')}"
            await world.ask("POST", "/v1/interrupt", {"path": "r1/round1/slow"}, key)
            assert (await client.reply()).status == 200
            assert ear.of("plugin.failed") == []

    async def test_a_task_that_fails_when_nobody_waits_and_one_that_is_waited_for(
        self, tmp_path: Path, autojump_clock: Any
    ) -> None:
        async with waiting(tmp_path, Later(wait_s=5)) as (world, song, client):
            ear = Ear(world)
            assert (await client.reply()).status == 200
            failed = {"status": "failed", "error": "no voice"}
            assert (await world.ask("POST", song.path, failed)).status == 200
            [data] = ear.of("plugin.failed")
            assert picked(data, "plugin", "tool", "what", "code", "taskId") == (
                "suno", "sing", "task", "failed", "song-1"
            )  # fmt: skip
            song.name, song.called = "song-2", trio.Event()
            await client.chat(say("sing {}", "hands", requestId="r2"))
            await song.called.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert (await world.ask("POST", song.path, failed)).status == 200
            assert (await client.reply()).status == 200
            [_, data] = ear.of("plugin.failed")
            assert picked(data, "what", "code", "requestId") == ("call", "task_failed", "r2")

    async def test_a_service_that_ends_again_and_again(self, tmp_path: Path, autojump_clock: Any) -> None:
        folder = tmp_path / "own/lamp"
        folder.mkdir(parents=True)
        (folder / "plugin.toml").write_text(
            'name = "lamp"\ndescription = "x"\ntype = "service"\nruntime = "inline"\nentry = "lamp.py"\n'
        )
        (folder / "lamp.py").write_text("async def run(home):\n    raise ValueError('no power')\n")
        async with heard(tmp_path, plugins={"directories": [str(tmp_path / "own")]}) as (world, ear):
            await trio.sleep(60)
            [(kind, owner, data)] = ear.heard
            assert (kind, owner.id) == ("plugin.failed", "hub")
            assert picked(data, "plugin", "what", "code") == ("lamp", "down", "plugin_down")
            assert data["message"]


async def test_a_node_that_is_away_for_a_while_and_the_task_it_had(
    tmp_path: Path, autojump_clock: Any
) -> None:
    triggers = [
        trigger("away", on="node.status", when={"to": "offline"}, for_s=20, text="{nodeId} is gone: {reason}"),
        trigger("lost", on="task.status", when={"state": "lost"}, do="alert", text="{toolName} on {nodeId}: {error.code}"),
    ]  # fmt: skip
    async with watched(tmp_path, *triggers) as world:
        ear = Ear(world)
        async with world.client() as client:
            async with joined(world, "attic", tools=["echo"]) as node:
                await client.chat(say("echo {}", "hands"))
                await node.hear()
                await trio.sleep(1)
            await trio.sleep(5)
            async with joined(world, "attic", tools=["echo"]):
                await trio.sleep(22)
                assert not [said for *_, said in told(world) if "gone" in said]
            assert (await client.reply()).status == 200
        await trio.sleep(25)
        said = [said for *_, said in told(world)]
        assert len([one for one in said if one.startswith("attic is gone: ")]) == 1
        assert "echo on attic: node_lost" in said
        changes = [picked(data, "from", "to") for data in ear.of("node.status")]
        assert ("offline", "online") in changes
        assert changes[-1][1] == "offline"
        for kind in ("node.status", "task.status"):
            known = set().union(*ear.of(kind))
            assert FIELDS[kind].keys() - known <= {"error.type"}


async def test_reminders_notifications_and_alerts(tmp_path: Path, autojump_clock: Any) -> None:
    async with heard(tmp_path) as (world, ear):
        key = f"Authorization: Bearer {key_for(world, 'chat')}"
        for action in ({"notify": True}, {"tool": "ping"}, {"tool": "lamp"}):
            world.add_tool("lamp", ToolFailed("no bulb"))
            body = {"text": "tea", "in": 10, "action": action}
            assert (await world.ask("POST", "/v1/reminders", body, key)).status == 201
        await trio.sleep(20)
        told = [picked(data, "text", "message", "action", "state") for data in ear.of("reminder")]
        assert sorted(told, key=str) == sorted(
            [
                ("tea", "tea", "notify", "due"),
                ("tea", None, "tool", None),
                ("tea", None, "tool", None),
                (None, "no bulb", None, "failed"),
            ],
            key=str,
        )
        for kind in ("notification", "alert"):
            body = {"message": "x", "title": "y", "level": "error", "kind": kind}
            assert (await world.ask("POST", "/v1/notifications", body, key)).status == 201
            assert picked(ear.of(kind)[-1], "message", "title", "level") == ("x", "y", "error")
