"""A node's tool whose result comes by callback: a hybrid plugin on another machine."""

from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.protocol.frames import Heartbeat, HeartbeatAck
from tests.harness.node import joined
from tests.harness.wire import Reply
from tests.harness.world import World, content, open_world
from tests.nodes.test_calls import QUIET, asked, interrupt, settled, use

TOOLS = [{"name": "compose", "later": True, "plugin": "suno"}]


async def call_back(world: World, callback: dict[str, Any], task_id: str, body: Any) -> Reply:
    """As a plugin does that can only append to the address it was given."""
    base = callback["url"].partition("/plugin-callback")[2].rsplit("/", 2)[0]
    return await world.ask("POST", f"/plugin-callback{base}/suno/{task_id}", body)


async def test_the_result_comes_by_callback(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world, tools=TOOLS) as node:
        async with asked(world, use("compose")) as client:
            task = await node.task()
            assert task.callback is not None
            assert task.callback["mode"] == "http"
            assert "/suno/" in task.callback["url"]
            await node.answer(task.task_id, {"status": "pending", "taskId": "song-1"})
            await trio.sleep(5)
            reply = await call_back(world, task.callback, "song-1", {"status": "success", "output": "la la"})
            assert reply.status == 200
            # What still runs of it is ended, and says so.
            assert (await node.cancelled()).task_id == task.task_id
            await node.confirm(task.task_id)
            assert "la la" in content(await client.reply())
        await settled(lambda: world.look() == QUIET)


async def test_it_may_answer_at_once(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world, tools=TOOLS) as node:
        async with asked(world, use("compose")) as client:
            await node.answer((await node.task()).task_id, "here already")
            assert "here already" in content(await client.reply())
        await settled(lambda: world.look() == QUIET)


@pytest.mark.parametrize("confirms", [True, False])
async def test_an_interrupt_reaches_what_goes_on(
    confirms: bool, tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world, tools=TOOLS) as node:
        async with asked(world, use("compose", requestId="r1")) as client, trio.open_nursery() as nursery:
            task = await node.task()
            await node.answer(task.task_id, {"status": "pending", "taskId": "song-1"})
            await trio.sleep(1)
            receipts: list[Any] = []

            async def stop() -> None:
                receipts.append((await interrupt(world, "r1", waitS=60)).json)

            nursery.start_soon(stop)
            assert (await node.cancelled()).task_id == task.task_id
            if confirms:
                await node.confirm(task.task_id)
            assert (await client.reply()).status == 499
            await settled(lambda: bool(receipts))
            assert receipts[0]["state"] == ("stopped" if confirms else "stopping")
            assert receipts[0]["notStopped"] == ([] if confirms else ["r1/round1/compose"])
            if not confirms:
                await node.confirm(task.task_id)
                await node.tell(Heartbeat())
                await node.hear(HeartbeatAck)
                assert (await interrupt(world, "r1")).json["state"] == "stopped"
            assert task.callback is not None
            late = await call_back(world, task.callback, "song-1", {"status": "success", "output": 1})
            assert late.status == 410
        await settled(lambda: world.look() == QUIET)


async def test_its_node_may_be_gone_by_then(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world, tools=TOOLS) as node:
        async with asked(world, use("compose")) as client:
            task = await node.task()
            await node.answer(task.task_id, {"status": "pending", "taskId": "song-1"})
            await trio.sleep(1)
            await node.stream.aclose()
            assert task.callback is not None
            await call_back(world, task.callback, "song-1", {"status": "success", "output": "all the same"})
            assert "all the same" in content(await client.reply())
        await settled(lambda: world.look() == QUIET)
