"""What others must not learn, and what must not grow."""

import time
from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.protocol.channel import MOST_HELD_BYTES, Rejected
from apexbridge_trio.protocol.vcp import VcpEnd
from tests.harness.node import joined, key_for
from tests.harness.world import content, open_world
from tests.nodes.test_api import Admin
from tests.nodes.test_calls import QUIET, asked, settled, state_of, use
from tests.nodes.test_delegation import delegating


async def test_an_interrupt_of_anothers_task_does_not_say_where_it_runs(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        async with asked(world, use(requestId="secret-request")):
            task = await node.task()
            spy = Admin(world, "chat", tenant="others")
            reply = await spy.ask("POST", "/v1/interrupt", {"taskId": task.task_id})
            assert reply.status == 404
            assert "secret-request" not in str(reply.json)
            assert reply.json["requestId"] == task.task_id


async def test_a_task_that_has_ended_is_not_stopped_and_that_is_said(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        admin = Admin(world)
        task_id = await admin.create()
        await node.task()
        await node.answer(task_id, 1)
        await settled(lambda: state_of(world, task_id) == "succeeded")
        reply = await admin.ask("DELETE", f"/v1/tasks/{task_id}")
        assert (reply.status, reply.json["error"]["code"]) == (409, "task_over")
        assert "succeeded" in reply.json["error"]["message"]


async def test_ten_thousand_delegations_are_sixteen(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
        task = await node.task()
        await node.answer(task.task_id, delegating(*["nothing"] * 10_000))
        await client.reply()
        record = world.hub.nodes.rows.task(task.task_id)
        assert record is not None
        assert record.output is not None
        assert record.output.count(b"-delegation-") == 17
        assert record.output.count(b"too_many_delegations") == 1
        await settled(lambda: world.look() == QUIET)


@pytest.mark.parametrize("timeout_ms", [1e300, -5, 0])
async def test_a_delegation_with_an_absurd_timeout_harms_nobody(
    timeout_ms: float, tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
        task = await node.task()
        async with trio.open_nursery() as nursery:

            async def child() -> None:
                await node.answer((await node.task()).task_id, "done")

            nursery.start_soon(child)
            await node.answer(task.task_id, delegating("echo", timeout=timeout_ms))
            assert "delegationResults" in content(await client.reply())
            nursery.cancel_scope.cancel()
        await settled(lambda: world.look() == QUIET)


async def test_a_list_of_tasks_does_not_load_what_is_in_them(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        task_id = await Admin(world).create(toolArgs={"a": "x" * 1000})
        await node.task()
        await node.answer(task_id, "y" * 1000)
        await settled(lambda: state_of(world, task_id) == "succeeded")
        (listed,) = world.hub.nodes.rows.list_tasks(None, None, None)
        assert len(listed.args) + len(listed.output or b"") < 100


async def test_more_tasks_are_swept_than_fit_into_one_sweep(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apexbridge_trio.nodes.nodes.MOST_SWEPT", 2)
    async with open_world(tmp_path, results={"keep_days": 1e-9}) as world, joined(world) as node:
        admin = Admin(world)
        for _ in range(7):
            await node.answer(await admin.create(), 1)
        await settled(lambda: len(world.hub.nodes.tasks) == 0)
        with trio.fail_after(4000):
            while world.hub.nodes.rows.list_tasks(None, None, None):
                await trio.sleep(5)
                world.hub.nodes.sweep()


async def test_a_clock_that_was_set_back_gives_a_task_no_more_time(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node:
        task_id = await Admin(world).create(timeout=60_000)
        await node.task()
        world.hub.nodes.close()
        world.nursery.cancel_scope.cancel()
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() - 10_000_000)
    async with open_world(tmp_path) as world:
        task = world.hub.nodes.tasks.live(task_id)
        assert task is not None
        assert task.deadline <= trio.current_time() + 60


def test_frames_that_a_vcp_server_sends_too_early_are_bounded_in_bytes() -> None:
    end = VcpEnd("x")
    end.receive('{"type":"register_tools","data":{"serverName":"x","tools":[]}}')
    big = '{"type":"tool_result","data":{"requestId":"r","result":"%s"}}' % ("x" * (MOST_HELD_BYTES // 4))
    said: list[Any] = [end.receive(big) for _ in range(5)]
    assert isinstance(said[-1], Rejected)


async def test_families_that_are_made_up_fill_no_memory(tmp_path: Path, autojump_clock: object) -> None:
    async with open_world(tmp_path) as world, joined(world):
        admin = Admin(world, "chat")
        for number in range(300):
            headers = (f"Authorization: Bearer {admin.key}", f"X-Family-Id: f{number}")
            await world.ask("POST", "/v1/chat/completions", use("hi"), *headers)
        assert len(world.hub.nodes.registry.offers._tools) <= 256


async def test_quotas_of_nodes_that_were_forgotten_are_forgotten(
    tmp_path: Path, autojump_clock: object
) -> None:
    from tests.nodes.test_llm import ask  # its own name is short

    async with open_world(tmp_path) as world, joined(world, key=key_for(world, "node")) as node:
        await ask(node, "hello")
        await node.hear()
        await Admin(world).ask("DELETE", "/v1/nodes/attic")
        await node.close_code()
        await trio.sleep(10)
        assert not world.hub.nodes.llm._quotas
