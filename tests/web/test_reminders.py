"""``/v1/reminders`` over real HTTP: scopes, tenants, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.store import Tasks
from tests.harness.world import World, open_world
from tests.reminders.place import Clock


def key_of(world: World, *scopes: str, **whose: Any) -> str:
    return f"Authorization: Bearer {world.hub.keys.create(scopes=scopes or ['chat'], **whose)[0]}"


def notice_of(world: World, notice_id: str) -> Any:
    return Tasks(world.hub.nodes._written._store).notice(notice_id)


async def test_set_look_remove(tmp_path: Path, autojump_clock: Any) -> None:
    async with open_world(tmp_path) as world:
        key = key_of(world)
        made = await world.ask("POST", "/v1/reminders", {"text": "tea", "in": 600}, key)
        assert made.status == 201
        path = f"/v1/reminders/{made.json['id']}"
        assert (await world.ask("GET", path, None, key)).json == made.json
        assert (await world.ask("GET", "/v1/reminders", None, key)).json == [made.json]
        assert (await world.ask("DELETE", path, None, key)).json == made.json
        assert (await world.ask("DELETE", path, None, key)).status == 404
        assert (await world.ask("GET", "/v1/reminders", None, key)).json == []


async def test_who_may(tmp_path: Path, autojump_clock: Any) -> None:
    async with open_world(tmp_path) as world:
        mine, theirs = key_of(world), key_of(world, "chat", "admin", tenant_id="other")
        made = (await world.ask("POST", "/v1/reminders", {"text": "tea", "in": 600}, mine)).json
        for method, path in (
            ("GET", "/v1/reminders"),
            ("POST", "/v1/reminders"),
            ("GET", f"/v1/reminders/{made['id']}"),
        ):
            assert (await world.ask(method, path, {} if method == "POST" else None)).status == 401
            assert (await world.ask(method, path, None, key_of(world, "node"))).status == 403
        assert (await world.ask("GET", "/v1/reminders", None, theirs)).json == []
        for method in ("GET", "DELETE"):
            assert (await world.ask(method, f"/v1/reminders/{made['id']}", None, theirs)).status == 404
        child = await world.ask("POST", "/v1/reminders", {"text": "x", "in": 9}, mine, "X-Family-Id: child")
        assert child.json["familyId"] == "child"
        assert (
            await world.ask("POST", "/v1/reminders", {"text": "x", "in": 9}, mine, "X-Tenant-Id: b")
        ).status == 403
        body = {"text": "x", "in": 9, "familyId": "child", "colour": "what is not known is ignored"}
        assert (await world.ask("POST", "/v1/reminders", body, mine)).json["familyId"] == "child"
        body = {"text": "x", "in": 9, "tenantId": "b"}
        assert (await world.ask("POST", "/v1/reminders", body, mine)).status == 403


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"text": "tea"}, "at"),
        ({"text": "tea", "cron": "0 0 31 2 *"}, "cron"),
        ({"text": "tea", "in": 5, "timezone": "Asia/Shanghi"}, "timezone"),
        ({"text": "tea", "at": "2020-01-01T00:00"}, "at"),
        ({"text": "tea", "in": 5, "action": {"tool": "pong"}}, "action.tool"),
        ([], None),
        (b"{", None),
        (b"[" * 5000, None),
        ({"text": "\ud800", "in": 5}, None),
    ],
)  # fmt: skip
async def test_what_is_refused(tmp_path: Path, autojump_clock: Any, body: Any, param: str | None) -> None:
    async with open_world(tmp_path) as world:
        refused = await world.ask("POST", "/v1/reminders", body, key_of(world))
        assert refused.status == 400
        assert refused.json["error"]["type"] == "invalid_request_error"
        assert param is None or refused.json["error"]["param"] == param


async def test_what_it_has_done_is_in_the_live_tree_and_can_be_stopped(
    tmp_path: Path, autojump_clock: Any
) -> None:
    clock = Clock()
    async with open_world(tmp_path, now=clock) as world:
        key = key_of(world)
        tool = world.add_tool("lamp", hold=True)
        answers: list[Any] = []
        world.hub.reminders.owed = lambda notice_id: answers.append(notice_of(world, notice_id))
        wanted = {"text": "light", "in": 10, "action": {"tool": "lamp", "args": {"on": True}}}
        assert (await world.ask("POST", "/v1/reminders", wanted, key)).status == 201
        chat = {"text": "noon", "in": 10, "action": {"chat": "What are my reminders?"}}
        assert (await world.ask("POST", "/v1/reminders", chat, key)).status == 201
        await tool.started.wait()
        await trio.sleep(1)
        [root] = (await world.ask("GET", "/v1/requests", None, key)).json
        assert (root["kind"], [child["name"] for child in root["children"]]) == ("reminder", ["lamp"])
        stopped = await world.ask("POST", "/v1/interrupt", {"requestId": root["id"]}, key)
        assert stopped.json["state"] == "stopped"
        await trio.sleep(1)
        said = [(notice.level, notice.body) for notice in answers]
        assert "There are no reminders." in said[0][1]
        assert '"state":"interrupted"' in said[1][1]
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


async def test_a_key_that_was_revoked_has_nothing_done_any_more(tmp_path: Path, autojump_clock: Any) -> None:
    async with open_world(tmp_path, now=Clock()) as world:
        key, record = world.hub.keys.create(scopes=["chat"])
        tool = world.add_tool("lamp")
        answers: list[Any] = []
        world.hub.reminders.owed = lambda notice_id: answers.append(notice_of(world, notice_id))
        wanted = {"text": "light", "in": 10, "action": {"tool": "lamp"}}
        await world.ask("POST", "/v1/reminders", wanted, f"Authorization: Bearer {key}")
        world.hub.keys.revoke(record.id)
        await trio.sleep(20)
        assert not tool.started.is_set()
        assert "revoked" in answers[0].body
