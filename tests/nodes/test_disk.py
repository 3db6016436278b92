"""A disk that is slow, full or broken: nothing is told before it is written, and later all goes on."""

from pathlib import Path

import trio

from apexbridge_trio.protocol.frames import NodeRegistered, TaskAssign, TaskResultAck
from tests.harness.journal import broken, held
from tests.harness.node import connected, joined, key_for
from tests.harness.world import World, content, open_world
from tests.nodes.test_api import Admin
from tests.nodes.test_calls import ONE_AT_A_TIME, QUIET, asked, settled, state_of
from tests.nodes.test_names import node_of


def tasks_in(world: World) -> list[str]:
    return [record.id for record in world.hub.nodes.rows.list_tasks(None, None, None)]


async def test_a_second_result_is_not_acknowledged_before_the_first_is_on_disk(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world) as node, asked(world) as client:
        task = await node.task()
        with held(world) as journal:
            await node.answer(task.task_id, "once")
            await node.answer(task.task_id, "once")
            with trio.move_on_after(1):
                raise AssertionError(f"told too soon: {await node.hear(TaskResultAck)}")
            with broken(world):
                journal.write()
            first = await node.hear(TaskResultAck)
            assert not first.success
        with trio.move_on_after(1):
            assert not (await node.hear(TaskResultAck)).success
        await node.answer(task.task_id, "once")
        assert (await node.hear(TaskResultAck)).success
        assert "once" in content(await client.reply())


async def test_a_task_is_not_sent_before_the_registration_is_answered(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world:
        key = key_for(world, "node")
        async with joined(world, key=key):
            pass
        await settled(lambda: node_of(world, "attic").status == "offline")
        async with joined(world, key=key) as node:
            with held(world) as journal:
                async with asked(world) as client:
                    await settled(lambda: bool(node_of(world, "attic").tasks))
                    node.stream.close()  # type: ignore[attr-defined]
                    await settled(lambda: node_of(world, "attic").link is None)
                    async with connected(world, key) as again, trio.open_nursery() as nursery:
                        said: list[NodeRegistered] = []

                        async def register() -> None:
                            said.append(await again.register(version="2"))

                        nursery.start_soon(register)
                        await settled(lambda: node_of(world, "attic").link is not None)
                        for _ in range(3):
                            journal.write()
                            await trio.testing.wait_all_tasks_blocked()
                        await settled(lambda: bool(said))
                        journal.journal._is_running = False
                        journal.write()
                        with trio.fail_after(5):
                            task = await again.hear(TaskAssign)
                        await again.answer(task.task_id, "there")
                        assert "there" in content(await client.reply())


async def test_a_registration_that_could_not_be_written_is_not_told_the_next_time(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world:
        key = key_for(world, "node")
        with broken(world):
            for _ in range(2):
                async with connected(world, key) as node:
                    assert await node.register() is None
                    assert node.closed == 1011
        async with joined(world, key=key):
            assert [record.id for record in world.hub.nodes.rows.nodes()] == ["attic"]


async def test_a_task_that_stands_for_itself_outlives_a_full_disk(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world, config=ONE_AT_A_TIME) as node:
        admin = Admin(world)
        first, second = await admin.create(), await admin.create()
        assert (await node.task()).task_id == first
        await node.answer(first, 1)
        with trio.fail_after(20):
            assert (await node.task()).task_id == second
        with broken(world):
            await node.answer(second, 2)
            assert not (await node.hear(TaskResultAck)).success
            await trio.sleep(20)
        assert state_of(world, second) == "assigned"
        await node.answer(second, 2)
        await settled(lambda: state_of(world, second) == "succeeded")
        shown = (await admin.ask("GET", f"/v1/tasks/{second}")).json
        assert [step["state"] for step in shown["history"]] == ["queued", "assigned", "succeeded"]
        await settled(lambda: world.look() == QUIET)


async def test_a_task_that_can_not_be_given_for_a_full_disk_is_given_later(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world, config=ONE_AT_A_TIME) as node:
        admin, created = Admin(world), list[str]()

        async def create() -> None:
            created.append(await admin.create())

        with held(world) as journal:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(create)
                await trio.testing.wait_all_tasks_blocked()
                journal.write()
                await settled(lambda: bool(created))
                await trio.testing.wait_all_tasks_blocked()
                with broken(world):
                    journal.write()
                    await trio.testing.wait_all_tasks_blocked()
            journal.journal._is_running = False
            journal.write()
            with trio.fail_after(20):
                task = await node.task()
            assert (task.task_id, task.attempt) == (created[0], 1)


async def test_a_result_that_could_not_be_written_for_who_had_left_frees_its_slot(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world, config=ONE_AT_A_TIME) as node:
        with held(world) as journal:
            async with asked(world):
                await trio.testing.wait_all_tasks_blocked()
                journal.write()
                task = await node.task()
                await node.answer(task.task_id, "too late")
                await trio.testing.wait_all_tasks_blocked()
            await trio.testing.wait_all_tasks_blocked()
            with broken(world):
                journal.write()
        await trio.sleep(30)
        assert world.look() == QUIET
        assert state_of(world, task.task_id) == "succeeded"


async def test_an_end_that_could_not_be_written_for_who_had_left_is_written_later(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world, config=ONE_AT_A_TIME) as node:
        async with asked(world):
            task = await node.task()
            world_is_broken = broken(world)
            world_is_broken.__enter__()
        await node.cancelled()
        await node.confirm(task.task_id)
        await trio.testing.wait_all_tasks_blocked()
        world_is_broken.__exit__(None, None, None)
        await settled(lambda: state_of(world, task.task_id) == "interrupted")
        await settled(lambda: world.look() == QUIET)


async def test_a_call_that_could_not_be_written_ends_on_disk_all_the_same_or_is_not_there(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world, config=ONE_AT_A_TIME):
        with broken(world):
            async with asked(world) as client:
                assert (await client.reply()).status in {200, 500, 503}
        await trio.sleep(30)
        assert world.look() == QUIET
        for task_id in tasks_in(world):
            assert state_of(world, task_id) == "interrupted"


async def test_what_can_not_be_written_is_told_with_when_to_try_again(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_world(tmp_path) as world, joined(world):
        admin = Admin(world, "admin", "chat")
        made = await admin.ask("POST", "/v1/notifications", {"message": "soup"})
        assert made.status == 201
        notice = made.json["id"]
        with broken(world):
            replies = [
                await admin.ask("POST", "/v1/tasks", {"toolName": "echo", "toolArgs": {}}),
                await admin.ask("POST", "/v1/notifications", {"message": "tea"}),
                await admin.ask("POST", f"/v1/notifications/{notice}/ack"),
                await admin.ask("POST", "/v1/reminders", {"text": "tea", "in": 60}),
            ]
            for reply in replies:
                assert (reply.status, reply.json["error"]["code"]) == (503, "storage"), reply
                assert reply.headers["retry-after"]
            assert world.hub.journal.trouble is not None
            assert world.hub.journal.trouble.reason == "The disk is full."
        assert (await admin.ask("POST", f"/v1/notifications/{notice}/ack")).status == 200
        assert world.hub.journal.trouble is None
