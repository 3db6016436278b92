"""A chat that runs a tool on another machine, and every way in which that ends."""

from pathlib import Path
from typing import Any

import trio

from apexbridge_trio.protocol.frames import (
    NodeUnregister,
    TaskAccepted,
    TaskProgress,
    TaskResultAck,
)
from tests.harness.node import connected, joined, key_for
from tests.harness.world import World, content, open_world, say

QUIET = {"flights": 0, "slots": 0, "faults": 0}


def use(tool: str = "echo", **fields: Any) -> dict[str, Any]:
    """A chat whose model calls one tool, and then says what came."""
    return say(tool, "hands", **fields)


async def chat(world: World, into: list[Any], body: dict[str, Any], *headers: str) -> None:
    into.append(await world.chat(body, *headers))


async def test_a_chat_runs_a_tool_on_a_node(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, trio.open_nursery() as nursery:
        replies: list[Any] = []
        nursery.start_soon(chat, world, replies, use())
        task = await node.task()
        assert task.tool_name == "echo"
        assert task.attempt == 1
        assert 0 < task.remaining_ms <= task.timeout
        await node.tell(TaskAccepted(task.task_id))
        await node.tell(TaskProgress(task.task_id, progress=0.5, message="half"))
        await node.answer(task.task_id, {"said": "hello from the attic"})
        ack = await node.hear(TaskResultAck)
        assert ack.success
        assert not ack.stale
        nursery.cancel_scope.deadline = trio.current_time() + 100
        while not replies:
            await trio.sleep(0.1)
        assert "hello from the attic" in content(replies[0])
        record = world.hub.nodes.rows.task(task.task_id)
        assert record is not None
        assert record.state == "succeeded"
        assert world.look() == QUIET
