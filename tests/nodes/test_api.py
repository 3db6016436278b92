"""``/v1/nodes`` and ``/v1/tasks``: looked at, asked for, stopped, tried again."""

from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.protocol.frames import Heartbeat, HeartbeatAck, TaskProgress, TaskResultAck
from tests.harness.node import connected, joined, key_for
from tests.harness.wire import Reply
from tests.harness.world import World, open_world
from tests.nodes.test_calls import ONE_AT_A_TIME, QUIET, settled, state_of


class Admin:
    """Who may do all of it."""

    def __init__(self, world: World, *scopes: str, **of: Any) -> None:
        self.world = world
        self.key = key_for(world, *(scopes or ("admin",)), **of)

    async def ask(self, method: str, path: str, body: Any = None) -> Reply:
        return await self.world.ask(method, path, body, f"Authorization: Bearer {self.key}")

    async def create(self, **fields: Any) -> str:
        reply = await self.ask("POST", "/v1/tasks", {"toolName": "echo", **fields})
        assert reply.status == 202, reply.body
        assert reply.json["status"] == "accepted"
        return str(reply.json["taskId"])


class TestNodes:
    async def test_they_are_listed_and_filtered(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world, "b", capabilities=["gpu"]):
            async with joined(world, "a", type="companion"):
                admin = Admin(world)
                listed = (await admin.ask("GET", "/v1/nodes")).json
                assert [node["id"] for node in listed] == ["a", "b"]
                for query, found in {
                    "type=companion": ["a"],
                    "capability=gpu": ["b"],
                    "status=offline": [],
                    "status=online": ["a", "b"],
                }.items():
                    assert [one["id"] for one in (await admin.ask("GET", f"/v1/nodes?{query}")).json] == found
            await settled(lambda: world.hub.nodes.registry.get("a").status == "offline")  # type: ignore[union-attr]
            shown = (await admin.ask("GET", "/v1/nodes/a")).json
            assert shown["status"] == "offline"
            assert shown["lastDisconnect"]["reason"] == "the node has gone"

    async def test_those_of_others_are_not_there(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world):
            mine, theirs = Admin(world, "chat"), Admin(world, "chat", tenant="others")
            assert (await mine.ask("GET", "/v1/nodes/attic")).status == 200
            assert (await theirs.ask("GET", "/v1/nodes")).json == []
            one = await theirs.ask("GET", "/v1/nodes/attic")
            none = await theirs.ask("GET", "/v1/nodes/nowhere")
            assert one.status == none.status == 404
            assert one.json["error"]["message"].replace("attic", "") == none.json["error"]["message"].replace(
                "nowhere", ""
            )

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("DELETE", "/v1/nodes/attic"),
            ("POST", "/v1/nodes/attic/drain"),
            ("POST", "/v1/nodes/attic/resume"),
            ("POST", "/v1/nodes/attic/tasks"),
            ("POST", "/v1/tasks"),
        ],
    )
    async def test_only_an_administrator_changes_them(
        self, method: str, path: str, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world):
            reply = await Admin(world, "chat").ask(method, path, {"toolName": "echo"})
            assert (reply.status, reply.json["error"]["code"]) == (403, "forbidden")
            assert (await world.ask(method, path, {"toolName": "echo"})).status == 401

    async def test_one_that_is_drained_is_given_nothing_more(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            admin = Admin(world)
            running = await admin.create()
            await node.task()
            assert (await admin.ask("POST", "/v1/nodes/attic/drain")).json["status"] == "draining"
            assert (await admin.ask("POST", "/v1/tasks", {"toolName": "echo"})).json["error"][
                "code"
            ] == "no_node"
            await node.answer(running, "done all the same")
            await settled(lambda: state_of(world, running) == "succeeded")
            assert (await admin.ask("POST", "/v1/nodes/attic/resume")).json["status"] == "online"
            await admin.create()
            await node.answer((await node.task()).task_id, 1)
            await settled(lambda: world.look() == QUIET)

    async def test_being_drained_survives_a_restart(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world:
            key = key_for(world, "node")
            async with joined(world, key=key):
                await Admin(world).ask("POST", "/v1/nodes/attic/drain")
        async with open_world(tmp_path) as world, joined(world, key=key):
            assert (await Admin(world).ask("GET", "/v1/nodes/attic")).json["status"] == "draining"

    async def test_one_that_is_forgotten_is_gone(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            admin = Admin(world)
            task_id = await admin.create()
            await node.task()
            assert (await admin.ask("DELETE", "/v1/nodes/attic")).status == 200
            assert await node.close_code() == 4003
            assert (await admin.ask("GET", "/v1/nodes/attic")).status == 404
            await settled(lambda: state_of(world, task_id) == "lost")
            async with connected(world, key_for(world, "node", tenant="others")) as other:
                assert (await other.register()).success
        async with open_world(tmp_path) as world:
            shown = (await Admin(world).ask("GET", "/v1/nodes/attic")).json
            assert shown["tenantId"] == "others"


class TestTasks:
    async def test_one_is_accepted_done_and_shown(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            admin = Admin(world)
            task_id = await admin.create(toolArgs={"a": 1}, priority=7, metadata={"why": "test"})
            task = await node.task()
            assert (task.task_id, task.priority, task.metadata) == (task_id, 7, {"why": "test"})
            assert task.request_id is None
            assert (await admin.ask("GET", "/v1/tasks?state=assigned&node=attic")).json[0][
                "taskId"
            ] == task_id
            await node.answer(task_id, [1, 2])
            await node.hear(TaskResultAck)
            shown = (await admin.ask("GET", f"/v1/tasks/{task_id}")).json
            assert (shown["state"], shown["result"], shown["toolArgs"]) == ("succeeded", [1, 2], {"a": 1})
            assert (await admin.ask("GET", "/v1/tasks?state=queued")).json == []
            await settled(lambda: world.look() == QUIET)

    async def test_its_result_can_be_waited_for(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, trio.open_nursery() as nursery:
            admin, replies = Admin(world), []

            async def create() -> None:
                body = {"toolName": "echo", "waitForResult": True}
                replies.append(await admin.ask("POST", "/v1/tasks", body))

            nursery.start_soon(create)
            await node.answer((await node.task()).task_id, "here")
            await settled(lambda: bool(replies))
            assert replies[0].status == 200
            assert (replies[0].json["success"], replies[0].json["result"]) == (True, "here")

    async def test_who_waits_and_leaves_stops_it(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            async with world.client() as client:
                header = f"Authorization: Bearer {Admin(world).key}"
                body = {"toolName": "echo", "waitForResult": True}
                await client.start("POST", "/v1/tasks", body, header)
                task = await node.task()
            await node.cancelled()
            await node.confirm(task.task_id)
            await settled(lambda: state_of(world, task.task_id) == "interrupted")

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({}, "toolName"),
            ({"toolName": "a b"}, "toolName"),
            ({"toolName": "echo", "toolArgs": []}, "toolArgs"),
            ({"toolName": "echo", "timeout": 0}, "timeout"),
            ({"toolName": "echo", "priority": 1000}, "priority"),
            ({"toolName": "echo", "callback": 7}, "callback"),
        ],
    )
    async def test_a_bad_one_is_told(
        self, body: Any, param: str, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world:
            reply = await Admin(world).ask("POST", "/v1/tasks", body)
            assert (reply.status, reply.json["error"]["param"]) == (400, param)

    async def test_without_an_able_node_it_is_not_accepted(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world):
            reply = await Admin(world).ask("POST", "/v1/tasks", {"toolName": "nothing"})
            assert (reply.status, reply.json["error"]["code"]) == (503, "no_node")
            body = {"toolName": "echo", "capability": "gpu"}
            assert (await Admin(world).ask("POST", "/v1/tasks", body)).status == 503

    async def test_one_is_given_to_the_node_that_is_named(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world, "a"), joined(world, "b") as node:
            for _ in range(3):
                reply = await Admin(world).ask("POST", "/v1/nodes/b/tasks", {"toolName": "echo"})
                assert reply.status == 202
                assert (await node.task()).node_id == "b"

    async def test_higher_priorities_come_first(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world, config=ONE_AT_A_TIME) as node:
            admin = Admin(world)
            first = await admin.create()
            await node.task()
            later = [await admin.create(priority=priority) for priority in (1, 9, 5)]
            order = []
            await node.answer(first, 1)
            for _ in later:
                task = await node.task()
                order.append(task.priority)
                await node.answer(task.task_id, 1)
            assert order == [9, 5, 1]

    async def test_one_is_stopped_with_a_receipt(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node, trio.open_nursery() as nursery:
            admin, replies = Admin(world), []
            task_id = await admin.create()
            await node.task()

            async def stop() -> None:
                replies.append(await admin.ask("DELETE", f"/v1/tasks/{task_id}"))

            nursery.start_soon(stop)
            await node.cancelled()
            await node.confirm(task_id)
            await settled(lambda: bool(replies))
            assert replies[0].json["state"] == "stopped"
            assert [branch["kind"] for branch in replies[0].json["branches"]] == ["node"]
            assert state_of(world, task_id) == "interrupted"
            assert (await admin.ask("DELETE", "/v1/tasks/task_none")).status == 404

    async def test_the_tree_shows_how_it_stands(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            admin = Admin(world)
            task_id = await admin.create(timeout=5000)
            await node.task()
            await trio.sleep(1)
            await node.tell(TaskProgress(task_id, progress=0.5, message="half"))
            await node.tell(Heartbeat())
            await node.hear(HeartbeatAck)
            (root,) = (await admin.ask("GET", "/v1/requests")).json
            (branch,) = root["children"]
            assert (branch["nodeId"], branch["progress"], branch["message"]) == ("attic", 0.5, "half")
            assert 3500 < branch["deadlineInMs"] <= 4000

    async def test_why_one_failed_is_told_as_its_node_said_it(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            admin = Admin(world)
            for details, kept in (({"at": "line 3"}, {"at": "line 3"}), ("x" * 20_000, None)):
                task_id = await admin.create()
                error = {"code": "enoent", "message": "no such file", "details": details}
                await node.answer((await node.task()).task_id, None, success=False, error=error)
                await node.hear(TaskResultAck)
                told = (await admin.ask("GET", f"/v1/tasks/{task_id}")).json["error"]
                assert (told["code"], told["message"], told.get("details")) == (
                    "enoent",
                    "no such file",
                    kept,
                )

    async def test_one_that_has_ended_is_tried_again(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            admin = Admin(world)
            task_id = await admin.create(toolArgs={"a": 1})
            assert (await admin.ask("POST", f"/v1/tasks/{task_id}/retry")).status == 400
            await node.answer((await node.task()).task_id, None, success=False, error="no")
            await settled(lambda: state_of(world, task_id) == "failed")
            # Its owner may, not only an administrator.
            reply = await Admin(world, "chat").ask("POST", f"/v1/tasks/{task_id}/retry")
            assert reply.status == 202
            again = await node.task()
            assert again.task_id == reply.json["taskId"] != task_id
            assert bytes(again.tool_args) == b'{"a":1}'

    async def test_a_result_may_come_over_http(self, tmp_path: Path, autojump_clock: object) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            task_id = await Admin(world).create(callback="http")
            task = await node.task()
            assert task.callback is not None
            assert task.callback["mode"] == "http"
            path = "/plugin-callback" + task.callback["url"].partition("/plugin-callback")[2]
            progress = {"status": "progress", "progress": 0.5, "message": "half"}
            assert (await world.ask("POST", path, progress)).status == 200
            assert state_of(world, task_id) == "assigned"
            reply = await world.ask("POST", path, {"status": "success", "output": {"n": 1}})
            assert (reply.status, reply.json["taskId"]) == (200, task_id)
            await settled(lambda: state_of(world, task_id) == "succeeded")
            again = await world.ask("POST", path, {"status": "success", "output": {"n": 1}})
            assert again.json["duplicate"] is True
            other = await world.ask("POST", path, {"status": "success", "output": {"n": 2}})
            assert other.status == 409
            late = {"status": "failed", "error": "no"}
            assert (await world.ask("POST", path, late)).status == 409
            overtaken = await world.ask("POST", path, progress)
            assert (overtaken.status, overtaken.json["message"]) == (
                200,
                "The task has its result already; the progress is of no use any more.",
            )
            forged = path.replace(task_id, "task_other")
            assert (await world.ask("POST", forged, {"status": "success"})).status == 403

    async def test_progress_of_a_task_that_nobody_wants_is_gone(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world, joined(world) as node:
            admin = Admin(world)
            task_id = await admin.create(callback="http")
            callback = (await node.task()).callback
            assert callback is not None
            path = "/plugin-callback" + callback["url"].partition("/plugin-callback")[2]
            await admin.ask("DELETE", f"/v1/tasks/{task_id}")
            late = await world.ask("POST", path, {"status": "progress", "progress": 0.5})
            assert (late.status, late.json["error"]["code"]) == (410, "task_interrupted")

    async def test_a_task_goes_on_while_its_node_is_away_and_the_hub_lives(
        self, tmp_path: Path, autojump_clock: object
    ) -> None:
        async with open_world(tmp_path) as world:
            key = key_for(world, "node")
            async with joined(world, key=key) as node:
                task_id = await Admin(world).create()
                await node.task()
            async with connected(world, key) as again:
                assert (await again.register(active_tasks=[task_id])).resume == {
                    "keep": [task_id],
                    "cancel": [],
                }
                await again.tell(Heartbeat())
                await again.answer(task_id, 1)
                await settled(lambda: state_of(world, task_id) == "succeeded")
