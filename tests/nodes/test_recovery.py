"""A hub that is started anew takes up what is on disk: nothing is lost, nothing runs twice."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.protocol.frames import Heartbeat, TaskResultAck
from apexbridge_trio.store import Tasks
from tests.harness.node import connected, joined, key_for
from tests.harness.world import open_world
from tests.nodes.test_api import Admin
from tests.nodes.test_calls import ONE_AT_A_TIME, QUIET, asked, settled, state_of
from tests.nodes.test_delegation import delegating


def copied(state: Path) -> Path:
    """The state directory as it is on disk now."""
    copy = state / "copy"
    copy.mkdir()
    for file in state.glob("hub.sqlite3*"):
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


async def test_a_returning_node_is_told_what_to_keep(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world:
        key = key_for(world, "node")
        async with joined(world, key=key) as node:
            task_id = await Admin(world).create()
            await node.task()
            world.hub.nodes.close()
            world.nursery.cancel_scope.cancel()
    async with open_world(tmp_path) as world, connected(world, key) as again:
        assert state_of(world, task_id) == "assigned"
        said = await again.register(active_tasks=[task_id, "task_other"])
        assert said.resume == {"keep": [task_id], "cancel": ["task_other"]}
        await trio.sleep(20)
        await again.tell(Heartbeat())
        await again.answer(task_id, "after all")
        assert (await again.hear(TaskResultAck)).success
        assert state_of(world, task_id) == "succeeded"
        await settled(lambda: world.look() == QUIET)


async def test_a_task_of_a_node_that_does_not_return_is_lost_or_moves(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        admin, key = Admin(world), key_for(world, "node")
        lost, moves = await admin.create(), await admin.create(idempotent=True)
        await node.task()
        await node.task()
        world.hub.nodes.close()
        world.nursery.cancel_scope.cancel()
    async with open_world(tmp_path) as world, joined(world, "other", key) as other:
        moved = await other.task()
        assert (moved.task_id, moved.attempt) == (moves, 2)
        await other.answer(moves, 1)
        await settled(lambda: state_of(world, lost) == "lost" and state_of(world, moves) == "succeeded")
        (notice,) = Tasks(world.hub.keys._store).notices()
        assert notice.id == lost


async def test_one_that_was_queued_is_given_out(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world:
        key = key_for(world, "node")
        async with joined(world, key=key, config=ONE_AT_A_TIME) as node:
            admin = Admin(world)
            first, second = await admin.create(), await admin.create()
            await node.task()
            world.hub.nodes.close()
            world.nursery.cancel_scope.cancel()
    async with open_world(tmp_path) as world, connected(world, key) as again:
        await again.register(active_tasks=[first], config=ONE_AT_A_TIME)
        await again.answer(first, 1)
        assert (await again.task()).task_id == second
        await again.answer(second, 2)
        await settled(lambda: world.look() == QUIET)


async def test_a_task_of_a_chat_that_died_with_the_hub_keeps_its_result(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world:
        key = key_for(world, "node")
        async with joined(world, key=key) as node, asked(world):
            task = await node.task()
            world.hub.nodes.tasks.is_closing = True
            # As SIGKILL leaves it: assigned, on disk.
            copy = copied(tmp_path)
    async with open_world(copy) as world, connected(world, key) as again:
        assert (await again.register(active_tasks=[task.task_id])).resume["keep"] == [task.task_id]  # type: ignore[index]
        await again.answer(task.task_id, "paid for")
        assert (await again.hear(TaskResultAck)).success
        assert state_of(world, task.task_id) == "succeeded"


@pytest.mark.parametrize("is_killed", [True, False])
async def test_what_a_task_had_delegated_is_told_with_its_result(
    is_killed: bool, tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world:
        key = key_for(world, "node")
        tools = ["left", "right", "third"]
        async with (
            joined(world, key=key) as node,
            joined(world, "b", key, tools=tools, config=ONE_AT_A_TIME) as other,
        ):
            task_id = await Admin(world).create()
            await node.task()
            await node.answer(task_id, delegating(*tools))
            await other.answer((await other.task()).task_id, "before")
            running = await other.task()
            state = copied(tmp_path) if is_killed else tmp_path
            world.hub.nodes.close()
            world.nursery.cancel_scope.cancel()
    async with open_world(state) as world, connected(world, key) as again:
        assert state_of(world, task_id) == "assigned"
        said = await again.register("b", tools=tools, active_tasks=[running.task_id])
        assert said.resume == {"keep": [running.task_id], "cancel": []}
        await again.answer(running.task_id, "after")
        await settled(lambda: state_of(world, task_id) == "succeeded")
        record = world.hub.nodes.rows.task(task_id)
        assert record is not None
        told = json.loads(record.output or b"")
        assert told["n"] == 1
        outcomes = [one.get("result") or one["error"]["code"] for one in told["delegationResults"]]
        assert sorted(outcomes) == ["after", "before", "interrupted"]
        await settled(lambda: world.look() == QUIET)


async def test_an_interrupt_reaches_what_a_task_had_delegated(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world:
        key = key_for(world, "node")
        async with joined(world, key=key) as node:
            task_id = await Admin(world).create()
            await node.task()
            await node.answer(task_id, delegating("echo"))
            running = await node.task()
            world.hub.nodes.close()
            copy = copied(tmp_path)
            world.nursery.cancel_scope.cancel()
    async with open_world(copy) as world, connected(world, key) as again, trio.open_nursery() as nursery:
        await again.register(active_tasks=[running.task_id])
        receipts: list[Any] = []

        async def stop() -> None:
            receipts.append((await Admin(world).ask("DELETE", f"/v1/tasks/{task_id}")).json)

        nursery.start_soon(stop)
        assert (await again.cancelled()).task_id == running.task_id
        await again.confirm(running.task_id)
        await settled(lambda: bool(receipts))
        assert receipts[0]["state"] == "stopped"
        assert [one["path"] for one in receipts[0]["branches"]] == [f"{task_id}/echo", f"{task_id}/echo/echo"]
        assert state_of(world, running.task_id) == state_of(world, task_id) == "interrupted"


async def test_a_duplicate_after_a_restart_is_acknowledged_again(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world:
        key = key_for(world, "node")
        async with joined(world, key=key) as node:
            task_id = await Admin(world).create()
            await node.task()
            await node.answer(task_id, 1)
            await node.hear(TaskResultAck)
    async with open_world(tmp_path) as world, joined(world, key=key) as again:
        await again.answer(task_id, 1)
        ack = await again.hear(TaskResultAck)
        assert (ack.success, ack.stale) == (True, False)


async def test_a_drain_leaves_what_stands_for_itself(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        task_id = await Admin(world).create()
        await node.task()
        world.hub.flights.is_draining = True
        with trio.fail_after(1):
            await world.hub.flights.empty()
        assert world.hub.flights.interrupt_all("the end") == []
        assert state_of(world, task_id) == "assigned"
        reply = await Admin(world).ask("POST", "/v1/tasks", {"toolName": "echo"})
        assert (reply.status, reply.json["error"]["code"]) == (503, "draining")
        world.hub.flights.is_draining = False
        await node.answer(task_id, 1)
        await settled(lambda: world.look() == QUIET)
