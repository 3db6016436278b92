"""Agents of the field, frame for frame, by another WebSocket library: they join without a change on their side."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, wrap_client_stream

from tests.harness import process
from tests.harness.house import NET_S, House, house

# Who is cut off comes again at once, and a busy machine may take its time for that.
GRACE = "[nodes]\nrejoin_grace_s = 600\nregister_timeout_s = 600\n"


class Legacy:
    """A scripted agent: it says what it is told to, and nothing by itself."""

    def __init__(self, ws: Any) -> None:
        self.ws = ws

    async def say(self, kind: str, **data: Any) -> None:
        await self.ws.send_message(json.dumps({"type": kind, "data": data}))

    async def hear(self, *kinds: str) -> Any:
        """Return the data of the next frame of these kinds, passing over others."""
        with trio.fail_after(NET_S):
            while True:
                frame = json.loads(await self.ws.get_message())
                if not kinds or frame["type"] in kinds:
                    return frame["data"]

    async def register(self, name: str, **more: Any) -> Any:
        config = {"tasks": {"maxConcurrent": 2}, "heartbeat": {"intervalMs": 30000}}
        known = {"capabilities": ["demo"], "tools": ["demo_tool"], "config": config, "version": "1.0.0"}
        await self.say("node_register", nodeId=name, name=name, type="worker", **{**known, **more})
        return await self.hear("node_registered")


@asynccontextmanager
async def socket(home: House, path: str) -> AsyncIterator[Any]:
    """Connect; the stream is ours, since the library leaves it open when it is refused."""
    port = int(home.hub.url.rpartition(":")[2])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
        ws = await wrap_client_stream(nursery, stream, "127.0.0.1", path)
        try:
            yield ws
        finally:
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def legacy(home: House, path: str) -> AsyncIterator[Legacy]:
    async with socket(home, f"/{path}/VCP_Key={home.node_key}") as ws:
        agent = Legacy(ws)
        ack = await agent.hear("connection_ack")
        assert ack["connectionId"]
        yield agent


async def create(home: House, tool: str = "demo_tool", **fields: Any) -> str:
    asked = {"toolName": tool, "toolArgs": {"text": "hi"}, "timeout": 600_000}
    reply = await home.post("/v1/tasks", asked | fields)
    assert reply.status_code == 202, reply.text
    return str(reply.json()["taskId"])


async def ended(home: House, task_id: str) -> Any:
    return await home.until(f"/v1/tasks/{task_id}", lambda task: task["endedAt"] is not None)


@pytest.mark.parametrize("path", ["abp-distributed-server", "distributed-server", "vcp-distributed-server"])
async def test_an_agent_of_the_apex_dialect(path: str, tmp_path: Path) -> None:
    async with process.provider() as provider:
        toml = GRACE + process.upstream(provider.url, models=["hello"])
        async with house(tmp_path, toml) as home:
            async with legacy(home, path) as agent:
                said = await agent.register("worker-1")
                assert said["success"]
                assert said["hubInfo"]["llmAvailable"]
                await agent.say("heartbeat", nodeId="worker-1", status="online", stats={"activeTasks": 0})
                assert (await agent.hear("heartbeat_ack"))["success"]

                first = await create(home)
                task = await agent.hear("task_assign")
                assert (task["taskId"], task["toolName"], task["toolArgs"]) == (
                    first,
                    "demo_tool",
                    {"text": "hi"},
                )
                assert task["timeout"] > 0
                # Its handler has failed, and it says so inside of a success.
                failure = {"success": False, "error": "no such file"}
                await agent.say(
                    "task_result",
                    taskId=first,
                    nodeId="worker-1",
                    success=True,
                    result=failure,
                    executionTime=12,
                )
                ack = await agent.hear("task_result_ack")
                assert (ack["taskId"], ack["success"]) == (first, True)
                failed = await ended(home, first)
                assert (failed["state"], failed["error"]["message"]) == ("failed", "no such file")

                # A stream, as an agent takes one that ends only on llm_response.
                messages = [{"role": "user", "content": "hi"}]
                options = {"stream": True, "maxTokens": 50}
                await agent.say(
                    "llm_request",
                    requestId="llm-1",
                    nodeId="worker-1",
                    model="hello",
                    messages=messages,
                    options=options,
                )
                text, done = "", False
                while not done:
                    piece = await agent.hear("llm_response_stream")
                    text, done = text + piece["chunk"], piece["done"]
                whole = await agent.hear("llm_response")
                assert (whole["success"], whole["content"]) == (True, text)

                second = await create(home)
                await agent.hear("task_assign")
            # The line is cut; the agent goes on, and brings its result right behind the registration.
            async with legacy(home, path) as agent:
                await agent.say("node_register", nodeId="worker-1", name="worker-1", type="worker",
                                capabilities=["demo"], tools=["demo_tool"])  # fmt: skip
                await agent.say(
                    "task_result", taskId=second, nodeId="worker-1", success=True, result={"n": 1}
                )
                assert (await agent.hear("node_registered"))["success"]
                assert (await agent.hear("task_result_ack"))["success"]
                assert (await ended(home, second))["result"] == {"n": 1}


async def test_a_duplicate_is_refused_and_let_in_later(tmp_path: Path) -> None:
    async with house(tmp_path) as home, legacy(home, "distributed-server") as old:
        assert (await old.register("worker-1"))["success"]
        async with legacy(home, "distributed-server") as new:
            refused = await new.register("worker-1")
            assert (refused["success"], refused["code"]) == (False, "duplicate_node")
            await old.ws.aclose()
            assert (await new.hear("node_registered"))["success"]
            await new.say("heartbeat", nodeId="worker-1", status="online")
            assert (await new.hear("heartbeat_ack"))["success"]


async def test_a_wrong_key_is_401_to_the_upgrade(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        with pytest.RaisesGroup(ConnectionRejected, flatten_subgroups=True) as refused:
            async with socket(home, "/vcp-distributed-server/VCP_Key=wrong"):
                pass
        (rejected,) = refused.value.exceptions
        assert isinstance(rejected, ConnectionRejected)
        assert rejected.status_code == 401


async def test_a_server_of_the_vcp_dialect(tmp_path: Path) -> None:
    manifest = {
        "manifestVersion": "1.0.0",
        "name": "FileOperator",
        "displayName": "文件",
        "pluginType": "synchronous",
        "entryPoint": {"type": "nodejs", "command": "node FileOperator.js"},
        "communication": {"protocol": "stdio", "timeout": 30000},
        "capabilities": {"invocationCommands": [{"commandIdentifier": "ListDir", "description": "List."}]},
        "pluginSpecificEnvConfig": {"TOKEN": "of-the-node"},
    }
    async with house(tmp_path, GRACE) as home:
        async with legacy(home, "vcp-distributed-server") as server:
            await server.say("register_tools", serverName="书房", tools=[manifest])
            await server.say("report_ip", serverName="书房", localIPs=["192.0.2.7"], publicIP="198.51.100.7")
            await home.until("/v1/nodes", lambda nodes: any(node["name"] == "书房" for node in nodes))
            first = await create(home, "FileOperator")
            asked = await server.hear("execute_tool")
            assert asked == {"requestId": first, "toolName": "FileOperator", "toolArgs": {"text": "hi"}}
            await server.say(
                "tool_result", requestId=first, status="success", result={"files": ["a"] * 100_000}
            )
            assert (await ended(home, first))["state"] == "succeeded"
            second = await create(home, "FileOperator")
            await server.hear("execute_tool")
        async with legacy(home, "vcp-distributed-server") as server:
            await server.say("report_ip", serverName="书房", localIPs=[], publicIP=None)
            await home.until("/v1/nodes", lambda nodes: nodes[0]["status"] == "online")
            await server.say("tool_result", requestId=second, status="error", error="disk full")
            failed = await ended(home, second)
            assert (failed["state"], failed["error"]["message"]) == ("failed", "disk full")
            with pytest.raises(ConnectionClosed):
                await server.say("unregister_tools", serverName="书房")
                await server.hear()
        assert "of-the-node" not in home.hub.said.decode()
