"""VCPToolBox's distributed servers, frame for frame as they send them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.harness.node import FakeNode, connected, joined, key_for
from tests.harness.world import World, content, open_world, say
from tests.nodes.test_api import Admin
from tests.nodes.test_calls import QUIET, asked, interrupt, settled, state_of, use

SECRET = "sk-of-the-node-1234567890"


def manifest(name: str, kind: str = "synchronous", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "displayName": f"The {name}",
        "description": f"Does {name}.",
        "pluginType": kind,
        "entryPoint": {"command": "node x.js"},
        "capabilities": {"invocationCommands": [{"commandIdentifier": "go", "description": "Goes."}]},
        "pluginSpecificEnvConfig": {"API_KEY": SECRET},
        **more,
    }


def holding(folder: Path, text: str) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


class VcpNode:
    """Such a server."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node

    async def say(self, kind: str, **data: Any) -> None:
        await self.node.say(json.dumps({"type": kind, "data": data}))

    async def register(self, name: str = "客厅", *tools: dict[str, Any], **more: Any) -> None:
        await self.say("register_tools", serverName=name, tools=list(tools) or [manifest("echo")], **more)

    async def hear(self) -> tuple[str, Any]:
        text = await self.node.raw()
        assert text is not None
        frame = json.loads(text)
        return frame["type"], frame["data"]


@asynccontextmanager
async def vcp(world: World, key: str | None = None) -> AsyncIterator[VcpNode]:
    async with connected(world, key, "/vcp-distributed-server") as node:
        yield VcpNode(node)


async def test_a_tool_is_run_with_text_for_values(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, vcp(world) as node:
        await node.register()
        await settled(lambda: len(world.hub.nodes.registry) == 1)
        async with asked(world, use('echo {"text": "hi", "n": 7, "deep": {"a": [true]}}')) as client:
            kind, data = await node.hear()
            assert kind == "execute_tool"
            assert data["toolName"] == "echo"
            assert data["toolArgs"] == {"text": "hi", "n": "7", "deep": '{"a":[true]}'}
            await node.say(
                "tool_result", requestId=data["requestId"], status="success", result={"said": "hi"}
            )
            assert "hi" in content(await client.reply())
        await settled(lambda: world.look() == QUIET)


async def test_a_failure(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, vcp(world) as node:
        await node.register()
        await settled(lambda: len(world.hub.nodes.registry) == 1)
        async with asked(world) as client:
            _, data = await node.hear()
            await node.say("tool_result", requestId=data["requestId"], status="error", error="no such thing")
            assert "no such thing" in content(await client.reply())
            assert state_of(world, data["requestId"]) == "failed"


async def test_its_secrets_are_nowhere(
    tmp_path: Path, autojump_clock: object, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_world(tmp_path) as world, vcp(world) as node:
        await node.register()
        await settled(lambda: len(world.hub.nodes.registry) == 1)
        listed = await Admin(world).ask("GET", "/v1/nodes")
        assert SECRET not in listed.body.decode()
        assert listed.json[0]["name"] == "客厅"
    assert not holding(tmp_path, SECRET)
    said = capsys.readouterr()
    assert SECRET not in said.err + said.out


async def test_the_first_frame_may_be_an_address(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, vcp(world) as node:
        await node.say("report_ip", serverName="nas", localIPs=["192.0.2.1"], publicIP=None)
        await settled(lambda: world.hub.nodes.registry.get("nas") is not None)
        await node.register("nas")
        await settled(lambda: "echo" in world.hub.nodes.registry.get("nas").tools)  # type: ignore[union-attr]


async def test_a_new_connection_replaces_the_old_and_keeps_its_tools(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world:
        key = key_for(world, "node")
        async with vcp(world, key) as old, vcp(world, key) as new:
            await old.register("nas")
            await settled(lambda: world.hub.nodes.registry.get("nas") is not None)
            await new.say("report_ip", serverName="nas")
            assert await old.node.close_code() == 4001
            registered = world.hub.nodes.registry.get("nas")
            assert registered is not None
            assert "echo" in registered.tools
            async with asked(world) as client:
                _, data = await new.hear()
                await new.say("tool_result", requestId=data["requestId"], status="success", result="new")
                assert "new" in content(await client.reply())


async def test_it_does_not_take_the_name_of_another_kind_of_node(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world, "nas") as other, vcp(world) as node:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.raw)
            await node.register("nas")
            await trio.sleep(3)
            registered = world.hub.nodes.registry.get("nas")
            assert registered is not None
            assert registered.link is not None
            assert not registered.link.is_vcp
            nursery.cancel_scope.cancel()


async def test_only_what_a_model_can_call_is_a_tool(tmp_path: Path, autojump_clock: object) -> None:
    tools = [
        manifest("echo"),
        manifest("later", "asynchronous"),
        manifest("weather", "static"),
        manifest("clean", "messagePreprocessor"),
        manifest("internal_request_file"),
        manifest("中文名"),
        {"description": "has no name"},
    ]
    async with open_world(tmp_path) as world, vcp(world) as node:
        await node.register("nas", *tools)
        await settled(lambda: world.hub.nodes.registry.get("nas") is not None)
        registered = world.hub.nodes.registry.get("nas")
        assert registered is not None
        assert set(registered.tools) == {"echo", "later"}
        assert "go: Goes." in registered.tools["echo"].description


@pytest.mark.parametrize("can_cancel", [True, False])
async def test_it_is_told_to_stop_if_it_can(can_cancel: bool, tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, vcp(world) as node, trio.open_nursery() as nursery:
        await node.register(capabilities={"cancelTool": can_cancel})
        await settled(lambda: len(world.hub.nodes.registry) == 1)
        async with asked(world, use(requestId="r1")) as client:
            _, data = await node.hear()
            receipts: list[Any] = []

            async def stop() -> None:
                receipts.append((await interrupt(world, "r1", waitS=30)).json)

            nursery.start_soon(stop)
            if can_cancel:
                assert await node.hear() == ("cancel_tool", {"requestId": data["requestId"]})
                await node.say("tool_result", requestId=data["requestId"], status="error", error="cancelled")
            assert (await client.reply()).status == 499
            await settled(lambda: bool(receipts))
            assert receipts[0]["state"] == ("stopped" if can_cancel else "stopping")


async def test_its_texts_are_for_prompts(tmp_path: Path, autojump_clock: object) -> None:
    models = [{"id": "wise", "upstream": "up", "name": "echo", "system": "It is {{VCPWeather}}, {{other}}."}]
    async with open_world(tmp_path, models=models) as world, vcp(world) as node:
        await node.register("nas")
        await node.say(
            "update_static_placeholders", serverName="nas", placeholders={"{{VCPWeather}}": "sunny"}
        )
        await settled(lambda: bool(getattr(world.hub.nodes.registry.get("nas"), "texts", None)))
        await world.chat(say("hi", "wise"))
        sent = world.provider.connections[-1].requests[-1].json
        assert sent["messages"][0]["content"] == "It is sunny, {{other}}."


async def test_unknown_frames_are_ignored(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, vcp(world) as node:
        await node.register("nas")
        for kind in ("music_list", "plugin_callback_forward", "async_task", "heartbeat"):
            await node.say(kind, pluginName="echo", taskId="t1", data={"status": "success"})
        await node.say("unregister_tools", serverName="nas")
        assert await node.node.close_code() == 1000


async def test_a_first_frame_may_be_large_on_its_own_path_only(
    tmp_path: Path, autojump_clock: object
) -> None:
    tools = [manifest(f"tool{n}", description="x" * 5000) for n in range(100)]
    async with open_world(tmp_path) as world, vcp(world) as node:
        await node.register("nas", *tools)
        await settled(lambda: world.hub.nodes.registry.get("nas") is not None)
        async with connected(world) as other:
            await VcpNode(other).register("nas2", *tools)
            assert await other.close_code() == 1009


async def test_both_dialects_side_by_side(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, vcp(world) as old, joined(world, "new", tools=["shout"]) as new:
        await old.register("nas")
        await settled(lambda: len(world.hub.nodes.registry) == 2)
        async with asked(world, use("echo\nshout")) as client:
            _, data = await old.hear()
            task = await new.task()
            await old.say("tool_result", requestId=data["requestId"], status="success", result="one")
            await new.answer(task.task_id, "two")
            said = content(await client.reply())
            assert "one" in said
            assert "two" in said
