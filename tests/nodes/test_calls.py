"""A chat that runs a tool on another machine, and every way in which that ends."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.nodes.nodes import SWEEP_S
from apexbridge_trio.nodes.reports import UNCONFIRMED_S
from apexbridge_trio.protocol.frames import (
    Heartbeat,
    HeartbeatAck,
    NodeRegister,
    RegisterConfig,
    TaskAccepted,
    TaskLimits,
    TaskProgress,
    TaskResultAck,
)
from apexbridge_trio.store import Tasks
from tests.harness.node import connected, joined, key_for
from tests.harness.wire import Reply
from tests.harness.world import Client, World, content, open_world, say

ONE_AT_A_TIME = RegisterConfig(TaskLimits(max_concurrent=1))
QUIET = {"flights": 0, "slots": 0, "faults": 0}


def use(tool: str = "echo", model: str = "hands", **fields: Any) -> dict[str, Any]:
    """A chat whose model calls a tool, and then says what came of it."""
    return say(tool, model, **fields)


@asynccontextmanager
async def asked(world: World, body: dict[str, Any] | None = None) -> AsyncIterator[Client]:
    """A chat that somebody waits for."""
    async with world.client() as client:
        await client.chat(body or use())
        yield client


async def settled(check: Callable[[], bool]) -> None:
    """Wait, on the virtual clock, until something has come to be."""
    with trio.fail_after(1000):
        while not check():
            await trio.sleep(0.01)


def is_queued(world: World, number: int) -> bool:
    return world.hub.nodes.tasks.queued == number


def state_of(world: World, task_id: str) -> str:
    record = world.hub.nodes.rows.task(task_id)
    assert record is not None
    return record.state


async def interrupt(world: World, path: str, **fields: Any) -> Reply:
    return await world.ask("POST", "/v1/interrupt", {"path": path, **fields})


class TestAnswers:
    async def test_the_model_is_told_what_the_node_said(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
            task = await node.task()
            assert (task.tool_name, task.attempt, task.node_id) == ("echo", 1, "attic")
            assert 0 < task.remaining_ms <= task.timeout
            await node.tell(TaskAccepted(task.task_id))
            await node.tell(TaskProgress(task.task_id, progress=0.5, message="half"))
            await node.answer(task.task_id, {"said": "hello from the attic"})
            ack = await node.hear(TaskResultAck)
            assert (ack.success, ack.stale) == (True, False)
            assert state_of(world, task.task_id) == "succeeded"
            assert "hello from the attic" in content(await client.reply())
            await settled(lambda: world.look() == QUIET)

    async def test_its_history_is_kept(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
            task = await node.task()
            await node.tell(TaskAccepted(task.task_id))
            await node.answer(task.task_id, 42)
            await client.reply()
            key = key_for(world, "admin")
            said = await world.ask("GET", f"/v1/tasks/{task.task_id}", None, f"Authorization: Bearer {key}")
            assert [step["state"] for step in said.json["history"]] == ["assigned", "running", "succeeded"]
            assert said.json["result"] == 42
            assert said.json["nodeId"] == "attic"

    async def test_the_arguments_come_as_they_were(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            async with asked(world, use('echo {"text": "茶 \\u00e9", "n": 1.50}')) as client:
                task = await node.task()
                assert json.loads(bytes(task.tool_args)) == {"text": "茶 é", "n": 1.5}
                await node.answer(task.task_id, "茶")
                assert "茶" in content(await client.reply())

    @pytest.mark.parametrize(
        "result",
        [
            {"success": False, "error": "no such file"},
            {"success": False, "error": {"code": "enoent", "message": "no such file"}},
            {"success": False, "message": "no such file"},
        ],
    )
    async def test_a_failure_inside_a_success_is_a_failure(
        self, result: Any, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
            task = await node.task()
            await node.answer(task.task_id, result)
            assert "no such file" in content(await client.reply())
            assert state_of(world, task.task_id) == "failed"

    async def test_a_failure_is_told_to_the_model(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
            task = await node.task()
            await node.answer(task.task_id, None, success=False, error={"code": "E1", "message": "it broke"})
            said = content(await client.reply())
            assert "it broke" in said
            assert "E1" in said

    async def test_a_large_result_is_cut_for_the_model_and_kept_whole(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
            task = await node.task()
            await node.answer(task.task_id, "x" * 4_000_000)
            assert "the limit is 65536" in content(await client.reply())
            record = world.hub.nodes.rows.task(task.task_id)
            assert record is not None
            assert record.output is not None
            assert len(record.output) == 4_000_002

    async def test_the_hubs_own_tool_wins_over_a_nodes_of_that_name(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world, tools=["ping"]):
            assert "pong" in content(await world.chat(use("ping")))

    async def test_unless_the_request_names_the_node(self, tmp_path: Path, autojump_clock: object) -> None:
        async with (
            open_world(tmp_path) as world,
            joined(world, tools=["ping"]) as node,
            joined(world, "other"),
        ):
            async with asked(world, use("ping", apex={"node": "attic"})) as client:
                task = await node.task()
                await node.answer(task.task_id, "from the attic")
                assert "from the attic" in content(await client.reply())

    async def test_a_node_that_is_not_there_is_told(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world:
            reply = await world.chat(use(apex={"node": "nowhere"}))
            assert (reply.status, reply.json["error"]["param"]) == (404, "apex.node")


class TestStops:
    async def test_an_interrupt_waits_for_the_nodes_word(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, trio.open_nursery() as nursery:
            async with asked(world, use(requestId="r1")) as client:
                task = await node.task()
                receipts: list[Reply] = []

                async def stop() -> None:
                    receipts.append(await interrupt(world, "r1"))

                nursery.start_soon(stop)
                assert (await node.cancelled()).task_id == task.task_id
                await trio.sleep(1)
                assert not receipts
                assert (await world.ask("GET", "/health")).status == 200
                await node.confirm(task.task_id)
                reply = await client.reply()
                assert (reply.status, reply.json["error"]["code"]) == (499, "interrupted")
                await settled(lambda: bool(receipts))
                receipt = receipts[0].json
                assert receipt["state"] == "stopped"
                assert receipt["notStopped"] == []
                kinds = {branch["path"]: branch["kind"] for branch in receipt["branches"]}
                assert kinds["r1/round1/echo"] == "node"
                assert 990 <= receipt["tookMs"] <= 1500
                assert state_of(world, task.task_id) == "interrupted"
                assert world.look() == QUIET

    async def test_a_node_that_does_not_confirm_is_named(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, asked(world, use(requestId="r1")):
            task = await node.task()
            early = (await interrupt(world, "r1", waitS=1)).json
            assert (early["state"], early["notStopped"][-1]) == ("stopping", "r1/round1/echo")
            late = (await interrupt(world, "r1", waitS=60)).json
            assert (late["state"], late["notStopped"]) == ("stopping", ["r1/round1/echo"])
            # Until it says so, it holds its slot.
            assert task.task_id in next(iter(world.hub.nodes.registry)).tasks
            await trio.sleep(20)
            await node.confirm(task.task_id)
            await settled(lambda: world.look() == QUIET)
            last = (await interrupt(world, "r1", waitS=0)).json
            assert (last["state"], last["notStopped"]) == ("stopped", [])
            assert last["tookMs"] == last["branches"][-1]["ms"] >= 25_000

    async def test_one_that_never_confirms_has_its_slot_back_whatever_the_clock_says(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        # The clock on the wall stands still here, as one does that was set back.
        async with open_world(tmp_path) as world, joined(world) as node, asked(world, use(requestId="r1")):
            await node.task()
            await interrupt(world, "r1", waitS=1)
            attic = next(iter(world.hub.nodes.registry))
            stopped = trio.current_time()
            while attic.tasks and trio.current_time() < stopped + 2 * UNCONFIRMED_S:
                await node.tell(Heartbeat())
                await trio.sleep(1)
            assert UNCONFIRMED_S - SWEEP_S < trio.current_time() - stopped <= UNCONFIRMED_S + 2 * SWEEP_S

    @pytest.mark.parametrize("is_running", [True, False])
    async def test_a_node_that_was_lost_confirms_when_it_is_back(
        self, is_running: bool, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world:
            key = key_for(world, "node")
            async with joined(world, key=key) as node, asked(world, use(requestId="r1")):
                task = await node.task()
                assert (await interrupt(world, "r1", waitS=1)).json["state"] == "stopping"
            await settled(lambda: world.look() == QUIET)
            assert (await interrupt(world, "r1")).json["notStopped"] == ["r1/round1/echo"]
            async with connected(world, key) as again:
                said = await again.register(active_tasks=[task.task_id] if is_running else [])
                if is_running:
                    assert said.resume == {"keep": [], "cancel": [task.task_id]}
                    assert (await interrupt(world, "r1")).json["state"] == "stopping"
                    await again.confirm(task.task_id)
                    await again.tell(Heartbeat())
                    await again.hear(HeartbeatAck)
                assert (await interrupt(world, "r1")).json["state"] == "stopped"

    async def test_a_result_is_a_confirmation_too(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, trio.open_nursery() as nursery:
            async with asked(world, use(requestId="r1")) as client:
                task = await node.task()
                nursery.start_soon(interrupt, world, "r1")
                await node.cancelled()
                await node.answer(task.task_id, "too late")
                ack = await node.hear(TaskResultAck)
                assert (ack.success, ack.stale) == (True, True)
                assert (await client.reply()).status == 499
                assert state_of(world, task.task_id) == "interrupted"
                record = world.hub.nodes.rows.task(task.task_id)
                assert record is not None
                assert record.late == 1
                assert world.look() == QUIET

    async def test_one_branch_is_stopped_and_the_model_is_told(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, trio.open_nursery() as nursery:
            async with asked(world, use(requestId="r1")) as client:
                task = await node.task()
                nursery.start_soon(interrupt, world, "r1/round1/echo")
                await node.cancelled()
                await node.confirm(task.task_id)
                assert "interrupted" in content(await client.reply())

    async def test_a_task_can_be_named_by_its_id(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, trio.open_nursery() as nursery:
            async with asked(world) as client:
                task = await node.task()
                body = {"taskId": task.task_id, "reason": "enough"}
                nursery.start_soon(world.ask, "POST", "/v1/interrupt", body)
                assert "enough" in (await node.cancelled()).reason
                await node.confirm(task.task_id)
                assert (await client.reply()).status == 200
            record = world.hub.nodes.rows.task(task.task_id)
            assert record is not None
            assert "enough" in (record.error or "")

    async def test_a_second_interrupt_by_the_tasks_id_joins_the_first(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
            task = await node.task()

            async def stop(**fields: Any) -> Reply:
                return await world.ask("POST", "/v1/interrupt", {"taskId": task.task_id, **fields})

            first = (await stop(waitS=1)).json
            assert (first["state"], first["tookMs"]) == ("stopping", 1000)
            # Its end is on disk by now, and its node has not said a word.
            assert state_of(world, task.task_id) == "interrupted"
            assert (await stop(waitS=0)).json["notStopped"] == first["notStopped"]
            await node.confirm(task.task_id)
            last = (await stop()).json
            assert (last["state"], last["branches"][0]["path"]) == ("stopped", first["notStopped"][0])
            assert (await client.reply()).status == 200
            assert (await stop()).json == last

    async def test_a_client_that_leaves_stops_its_task(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            async with asked(world):
                task = await node.task()
            assert (await node.cancelled()).task_id == task.task_id
            await settled(lambda: state_of(world, task.task_id) == "interrupted")
            await node.confirm(task.task_id)
            await settled(lambda: world.look() == QUIET)

    async def test_the_deadline_of_the_request_reaches_the_node(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            async with asked(world, use(apex={"timeoutS": 7})) as client:
                task = await node.task()
                assert 6000 < task.remaining_ms <= 7000
                assert (await client.reply()).status == 504
                await node.cancelled()
                await settled(lambda: state_of(world, task.task_id) == "timed_out")
                await node.confirm(task.task_id)
                await settled(lambda: world.look() == QUIET)

    async def test_the_time_of_the_task_is_told_to_the_model(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path, nodes={"task_timeout_s": 5.0}) as world, joined(world) as node:
            async with asked(world) as client:
                task = await node.task()
                assert "Its time was over" in content(await client.reply())
                await node.cancelled()
                assert state_of(world, task.task_id) == "timed_out"


class TestLosses:
    async def test_a_node_that_comes_back_in_time_goes_on(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world:
            key = key_for(world, "node")
            async with joined(world, key=key) as node, asked(world) as client:
                task = await node.task()
                await node.stream.aclose()
                await trio.sleep(5)
                async with connected(world, key) as again:
                    said = await again.register("attic", active_tasks=[task.task_id, "task_unknown"])
                    assert said.resume == {"keep": [task.task_id], "cancel": ["task_unknown"]}
                    await trio.sleep(20)
                    await again.tell(Heartbeat())
                    await again.answer(task.task_id, "still here")
                    assert "still here" in content(await client.reply())

    async def test_results_right_behind_the_registration_count(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world:
            key = key_for(world, "node")
            async with joined(world, key=key) as node, asked(world) as client:
                task = await node.task()
                await node.stream.aclose()
                async with connected(world, key) as again:
                    register = again.end.register(NodeRegister(name="attic", node_id="attic", tools=["echo"]))
                    await again.say(register)
                    await again.answer(task.task_id, "queued while away")
                    assert (await again.hear(TaskResultAck)).success
                    assert "queued while away" in content(await client.reply())

    async def test_an_idempotent_task_moves(self, tmp_path: Path, autojump_clock: object) -> None:
        tools = [{"name": "echo", "idempotent": True}]
        async with open_world(tmp_path) as world, joined(world, "a", tools=tools) as first:
            async with joined(world, "b", tools=tools) as second, asked(world) as client:
                task = await first.task()
                await first.stream.aclose()
                moved = await second.task()
                assert (moved.task_id, moved.attempt) == (task.task_id, 2)
                assert moved.remaining_ms < task.remaining_ms - 9_000
                await second.answer(task.task_id, "from b")
                assert "from b" in content(await client.reply())

    async def test_it_moves_only_if_every_node_that_has_the_tool_agrees(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        agrees, refuses = [{"name": "echo", "idempotent": True}], ["echo"]
        async with open_world(tmp_path) as world, joined(world, "a", tools=agrees) as first:
            async with joined(world, "b", tools=refuses), asked(world) as client:
                await first.task()
                await first.stream.aclose()
                assert "node_lost" in content(await client.reply())

    async def test_what_is_late_then_is_stale(self, tmp_path: Path, autojump_clock: object) -> None:
        tools = [{"name": "echo", "idempotent": True}]
        async with open_world(tmp_path) as world:
            key = key_for(world, "node")
            async with (
                joined(world, "a", key, tools=tools) as first,
                joined(world, "b", tools=tools) as second,
            ):
                async with asked(world) as client:
                    task = await first.task()
                    await first.stream.aclose()
                    await second.task()
                    async with connected(world, key) as thawed:
                        said = await thawed.register("a", tools=tools, active_tasks=[task.task_id])
                        assert said.resume == {"keep": [], "cancel": [task.task_id]}
                        await thawed.answer(task.task_id, "from a")
                        assert (await thawed.hear(TaskResultAck)).stale
                        await second.answer(task.task_id, "from b")
                        assert "from b" in content(await client.reply())

    async def test_another_is_lost_and_its_owner_is_owed_a_notice(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, joined(world, "other"):
            async with asked(world) as client:
                task = await node.task()
                await node.stream.aclose()
                assert "node_lost" in content(await client.reply())
                assert state_of(world, task.task_id) == "lost"
                (notice,) = Tasks(world.hub.keys._store).notices()
                assert json.loads(notice.body)["actions"] == [{"retry": task.task_id}]

    async def test_a_silent_node_is_lost(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
            began = trio.current_time()
            await node.task()
            assert "node_lost" in content(await client.reply())
            # Three intervals of 10 s, and 10 s in which it may come back.
            assert 39 <= trio.current_time() - began <= 41
            assert await node.close_code() == 1008


class TestQueue:
    async def test_tasks_wait_for_room_in_order(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world, config=ONE_AT_A_TIME) as node:
            async with asked(world, use('echo {"n": 1}')), trio.open_nursery() as nursery:
                first = await node.task()
                replies: dict[int, Reply] = {}

                async def ask(number: int) -> None:
                    replies[number] = await world.chat(use(f'echo {{"n": {number}}}'))

                for number in (2, 3):
                    nursery.start_soon(ask, number)
                    await settled(partial(is_queued, world, number - 1))
                await node.answer(first.task_id, 1)
                for number in (2, 3):
                    task = await node.task()
                    assert json.loads(bytes(task.tool_args)) == {"n": number}
                    await node.answer(task.task_id, number)
                await settled(lambda: len(replies) == 2)

    async def test_a_full_queue_refuses(self, tmp_path: Path, autojump_clock: object) -> None:
        async with (
            open_world(tmp_path, nodes={"max_queued": 1}) as world,
            joined(world, config=ONE_AT_A_TIME) as node,
        ):
            async with asked(world), asked(world):
                await node.task()
                await settled(lambda: world.hub.nodes.tasks.queued == 1)
                assert "overloaded" in content(await world.chat(use()))
                key = key_for(world, "admin")
                body = {"toolName": "echo"}
                reply = await world.ask("POST", "/v1/tasks", body, f"Authorization: Bearer {key}")
                assert (reply.status, reply.json["error"]["code"]) == (503, "overloaded")
                assert int(reply.headers["retry-after"]) >= 1

    async def test_what_waits_for_a_node_that_never_comes_back_is_told_so(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world, config=ONE_AT_A_TIME) as node:
            key = key_for(world, "admin")
            async with asked(world), asked(world) as waiting:
                await node.task()
                body = {"toolName": "echo"}
                reply = await world.ask("POST", "/v1/tasks", body, f"Authorization: Bearer {key}")
                began = trio.current_time()
                await node.stream.aclose()
                assert "no_node" in content(await waiting.reply())
                assert trio.current_time() - began < 20
                assert state_of(world, reply.json["taskId"]) == "failed"
            await settled(lambda: world.look() == QUIET)

    async def test_one_whose_time_is_over_leaves_the_queue(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path, nodes={"task_timeout_s": 5.0}) as world:
            async with joined(world, config=ONE_AT_A_TIME) as node:
                key = key_for(world, "admin")
                body = {"toolName": "echo", "timeout": 60_000}
                first = await world.ask("POST", "/v1/tasks", body, f"Authorization: Bearer {key}")
                await node.task()
                assert "Its time was over" in content(await world.chat(use()))
                assert world.hub.nodes.tasks.queued == 0
                await node.answer(first.json["taskId"], 1)
                await settled(lambda: world.look() == QUIET)

    async def test_a_client_that_leaves_the_queue_is_not_served(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with (
            open_world(tmp_path) as world,
            joined(world, config=ONE_AT_A_TIME) as node,
            asked(world) as client,
        ):
            first = await node.task()
            async with asked(world):
                await settled(lambda: world.hub.nodes.tasks.queued == 1)
            await settled(lambda: world.hub.nodes.tasks.queued == 0)
            await node.answer(first.task_id, "only one")
            await client.reply()
            await settled(lambda: world.look() == QUIET)
