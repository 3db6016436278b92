"""Who changed what, over HTTP: for administrators, in pages."""

import pytest
import trio
import trio.testing

from apexbridge_trio.audit import FILE
from tests.harness.journal import broken, held
from tests.harness.node import connected, joined, key_for
from tests.harness.world import open_world


def bearer(key):
    return f"Authorization: Bearer {key}"


async def lines(world, key, query=""):
    reply = await world.ask("GET", f"/v1/audit{query}", None, bearer(key))
    assert reply.status == 200, reply
    return reply.json


async def test_only_administrators_look(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        for scope in ("chat", "node", "callback", "logs"):
            reply = await world.ask("GET", "/v1/audit", None, bearer(key_for(world, scope)))
            assert reply.status == 403
        assert (await world.ask("GET", "/v1/audit")).status == 401
        for method in ("POST", "DELETE", "PUT", "PATCH"):
            admin = bearer(key_for(world, "admin"))
            assert (await world.ask(method, "/v1/audit", {}, admin)).status == 405


async def test_pages(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        admin = key_for(world, "admin")
        assert await lines(world, admin) == {"entries": [], "next": None}
        for number in range(5):
            world.hub.audit.note("config.changed", str(number), FILE)
        first = await lines(world, admin, "?limit=2")
        assert [line["target"] for line in first["entries"]] == ["4", "3"]
        second = await lines(world, admin, f"?limit=2&before={first['next']}")
        assert [line["target"] for line in second["entries"]] == ["2", "1"]
        last = await lines(world, admin, f"?limit=2&before={second['next']}")
        assert ([line["target"] for line in last["entries"]], last["next"]) == (["0"], None)
        assert (await lines(world, admin, "?action=key"))["entries"] == []
        assert len((await lines(world, admin, "?action=config"))["entries"]) == 5


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=1e3", "limit=", "before=0", "limit=%D9%A3",
     f"before={'9' * 30}", "before=1%20OR%201=1"],
)  # fmt: skip
async def test_a_query_that_is_none(tmp_path, autojump_clock, query):
    async with open_world(tmp_path) as world:
        reply = await world.ask("GET", f"/v1/audit?{query}", None, bearer(key_for(world, "admin")))
        assert (reply.status, reply.json["error"]["param"]) == (400, query.partition("=")[0])


async def test_who_drains_a_node_and_leaves_is_noted_all_the_same(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, joined(world, "attic"):
        admin = key_for(world, "admin", tenant="home")
        with held(world) as journal:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.ask, "POST", "/v1/nodes/attic/drain", {}, bearer(admin))
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            journal.write()
        said = (await lines(world, admin))["entries"]
        assert [line["action"] for line in said] == ["node.drained", "node.registered"]


async def test_a_node_that_joins_is_noted_once_with_its_key(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        admin, key = key_for(world, "admin", tenant="home"), key_for(world, "node", tenant="home")
        for tools in (["a"], ["a", "b"]):  # it is written anew when it comes with more
            async with joined(world, "attic", key, tools=tools):
                pass
        (line,) = (await lines(world, admin))["entries"]
        principal = world.hub.keys.principal_of(key)
        assert principal is not None
        assert (line["action"], line["target"], line["from"]) == ("node.registered", "attic", "127.0.0.1")
        assert line["by"] == {"principal": principal.id, "tenantId": "home", "familyId": None}
        assert (line["after"]["name"], line["after"]["type"]) == ("attic", "worker")
        assert line["requestId"].startswith("req_")
        await world.ask("DELETE", "/v1/nodes/attic", {}, bearer(admin))
        async with joined(world, "attic", key):
            pass
        said = (await lines(world, admin))["entries"]
        assert [line["action"] for line in said] == ["node.registered", "node.forgotten", "node.registered"]


async def test_a_node_that_the_disk_did_not_take_is_noted_when_it_does(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world:
        admin, key = key_for(world, "admin"), key_for(world, "node")
        with broken(world):
            async with connected(world, key) as node:
                assert await node.register("attic") is None
        assert (await lines(world, admin))["entries"] == []
        async with joined(world, "attic", key):
            pass
        (line,) = (await lines(world, admin))["entries"]
        assert line["action"] == "node.registered"


async def test_what_is_done_to_a_node_is_noted_before_it_is_acknowledged(tmp_path, autojump_clock):
    async with open_world(tmp_path) as world, joined(world, "attic"):
        admin = key_for(world, "admin", tenant="home")
        asked = [("POST", "/drain"), ("POST", "/resume"), ("DELETE", "")]
        for number, (method, path) in enumerate(asked):
            named = f"X-Request-Id: req_{number}"
            reply = await world.ask(method, f"/v1/nodes/attic{path}", {}, bearer(admin), named)
            assert reply.status == 200
            (newest, *_) = (await lines(world, admin))["entries"]
            assert newest["requestId"] == f"req_{number}"
        assert (await world.ask("DELETE", "/v1/nodes/other", None, bearer(admin))).status == 404
        said = (await lines(world, admin))["entries"]
        actions = ["node.forgotten", "node.resumed", "node.drained", "node.registered"]
        assert [line["action"] for line in said] == actions
        principal = world.hub.keys.principal_of(admin)
        assert principal is not None
        assert said[0]["by"] == {"principal": principal.id, "tenantId": "home", "familyId": None}
        assert (said[0]["target"], said[0]["from"]) == ("attic", "127.0.0.1")
