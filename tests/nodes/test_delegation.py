"""Results that ask for other tasks."""

from pathlib import Path
from typing import Any

import pytest
import trio

from tests.harness.node import joined
from tests.harness.world import content, open_world
from tests.nodes.test_api import Admin
from tests.nodes.test_calls import QUIET, asked, interrupt, settled, state_of, use


def delegating(*tools: str, **more: Any) -> dict[str, Any]:
    return {"n": 1, "delegations": [{"toolName": tool, "args": {"of": tool}, **more} for tool in tools]}


async def test_they_run_side_by_side_and_are_added_to_the_result(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world, "a") as first, asked(world) as client:
        async with joined(world, "b", tools=["left", "right"]) as second:
            task = await first.task()
            await first.answer(task.task_id, delegating("left", "right"))
            one, other = await second.task(), await second.task()
            assert {one.task_id, other.task_id} == {f"{task.task_id}-delegation-{n}" for n in (1, 2)}
            assert one.remaining_ms <= task.remaining_ms
            await second.answer(one.task_id, "did it")
            await second.answer(other.task_id, None, success=False, error="could not")
            said = content(await client.reply())
            assert "delegationResults" in said
            assert "did it" in said
            assert "could not" in said
            assert state_of(world, task.task_id) == "succeeded"
            assert state_of(world, other.task_id) == "failed"
            await settled(lambda: world.look() == QUIET)


async def test_nobody_can_run_one(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
        task = await node.task()
        await node.answer(task.task_id, delegating("nothing", capability="gpu"))
        assert "no_node" in content(await client.reply())


async def test_they_go_three_levels_deep(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
        for _ in range(4):
            await node.answer((await node.task()).task_id, delegating("echo"))
        said = content(await client.reply())
        assert "too_many_delegations" in said
        assert said.count("delegationResults") == 4
        await settled(lambda: world.look() == QUIET)


@pytest.mark.parametrize("asked_for", [7, ["nonsense"], [{"args": 7}], {}])
async def test_what_is_no_delegation_is_a_value(
    asked_for: Any, tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
        await node.answer((await node.task()).task_id, {"delegations": asked_for})
        assert "delegations" in content(await client.reply())


async def test_an_interrupt_reaches_them(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, trio.open_nursery() as nursery:
        async with asked(world, use(requestId="r1")) as client:
            task = await node.task()
            await node.answer(task.task_id, delegating("echo"))
            child = await node.task()
            nursery.start_soon(interrupt, world, "r1")
            assert (await node.cancelled()).task_id == child.task_id
            await node.confirm(child.task_id)
            assert (await client.reply()).status == 499
            assert state_of(world, child.task_id) == "interrupted"
            assert state_of(world, task.task_id) == "interrupted"
        await settled(lambda: world.look() == QUIET)


async def test_the_same_result_over_http_does_not_end_what_it_delegates(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        task_id = await Admin(world).create(callback="http")
        task = await node.task()
        result = delegating("echo")
        await node.answer(task_id, result)
        child = await node.task()
        assert task.callback is not None
        path = "/plugin-callback" + task.callback["url"].partition("/plugin-callback")[2]
        await world.ask("POST", path, {"status": "success", "result": result})
        assert state_of(world, task_id) == "assigned"
        await node.answer(child.task_id, "done")
        await settled(lambda: state_of(world, task_id) == "succeeded")
        record = world.hub.nodes.rows.task(task_id)
        assert record is not None
        assert b"delegationResults" in (record.output or b"")
