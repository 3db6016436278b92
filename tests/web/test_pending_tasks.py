"""Tasks of plugins that answer later, beside those of nodes: listed, looked at, and stopped when nobody waits."""

from pathlib import Path
from typing import Any

import pytest
import trio

from apexbridge_trio.plugins import Later
from tests.web.test_callback import DONE, key, told, waiting


class Running(trio.abc.AsyncResource):
    """Processes that go on."""

    def __init__(self) -> None:
        self.is_closed = False

    async def aclose(self) -> None:
        self.is_closed = True
        await trio.lowlevel.checkpoint()


async def test_they_are_listed_and_shown(tmp_path: Path, autojump_clock: object) -> None:
    async with waiting(tmp_path) as (world, _song, _client):
        mine, theirs = key(world, "chat"), key(world, "chat", tenant_id="others")
        (listed,) = (await world.ask("GET", "/v1/tasks", None, mine)).json
        assert (listed["taskId"], listed["toolName"], listed["state"]) == (
            "song-1",
            "sing",
            "waiting_callback",
        )
        assert (await world.ask("GET", "/v1/tasks?state=failed", None, mine)).json == []
        assert (await world.ask("GET", "/v1/tasks?node=attic", None, mine)).json == []
        began = {"state": "running", "at": listed["createdAt"], "nodeId": None, "attempt": 1}
        shown = (await world.ask("GET", "/v1/tasks/song-1", None, mine)).json
        assert shown == {**listed, "history": [began], "result": None}
        assert (await world.ask("GET", "/v1/tasks", None, theirs)).json == []
        assert (await world.ask("GET", "/v1/tasks/song-1", None, theirs)).status == 404


@pytest.mark.parametrize(
    ("brought", "state", "result", "error"),
    [
        (DONE, "succeeded", DONE["output"], None),
        ({"status": "failed", "error": "no voice"}, "failed", None, ("task_failed", "no voice")),
    ],
)
async def test_a_result_that_came_when_nobody_waited_can_be_fetched(
    brought: Any, state: str, result: Any, error: Any, tmp_path: Path, autojump_clock: object
) -> None:
    async with waiting(tmp_path, Later(wait_s=5)) as (world, song, client):
        assert "pending" in await told(client)
        assert (await world.ask("POST", song.path, brought)).status == 200
        mine = key(world, "chat")
        shown = (await world.ask("GET", "/v1/tasks/song-1", None, mine)).json
        assert (shown["state"], shown["result"]) == (state, result)
        assert shown["error"] == (error and {"code": error[0], "message": error[1]})
        assert [(one["state"], one["at"]) for one in shown["history"]] == [
            ("running", shown["createdAt"]),
            (state, shown["endedAt"]),
        ]
        (listed,) = (await world.ask("GET", "/v1/tasks", None, mine)).json
        assert (listed["error"] or {}).get("code") == (error and error[0])


async def test_what_is_not_kept_is_not_tried_again(tmp_path: Path, autojump_clock: object) -> None:
    async with waiting(tmp_path) as (world, _song, _client):
        mine, theirs = key(world, "chat"), key(world, "chat", tenant_id="others")
        refused = await world.ask("POST", "/v1/tasks/song-1/retry", None, mine)
        assert (refused.status, refused.json["error"]["code"]) == (400, "task_not_repeatable")
        assert (await world.ask("POST", "/v1/tasks/song-1/retry", None, theirs)).status == 404


async def test_progress_that_comes_after_the_result_is_no_news(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with waiting(tmp_path) as (world, song, client):
        heard: list[Any] = []
        world.hub.pendings.progressed = lambda _record, callback: heard.append(callback.progress)
        assert (await world.ask("POST", song.path, {"status": "progress", "progress": 0.5})).status == 200
        assert (await world.ask("POST", song.path, DONE)).status == 200
        await told(client)
        late = await world.ask("POST", song.path, {"status": "progress", "progress": 0.6})
        assert (late.status, late.json["status"]) == (200, "success")
        assert late.json["message"].startswith("The task has its result already")
        assert heard == [0.5]


@pytest.mark.parametrize("by", ["interrupt", "DELETE"])
async def test_one_that_nobody_waits_for_is_stopped(by: str, tmp_path: Path, autojump_clock: object) -> None:
    async with waiting(tmp_path, Later(wait_s=5)) as (world, song, client):
        assert "pending" in await told(client)
        mine, theirs = key(world, "chat"), key(world, "chat", tenant_id="others")

        async def stop(header: str) -> Any:
            if by == "DELETE":
                return await world.ask("DELETE", "/v1/tasks/song-1", None, header)
            return await world.ask("POST", "/v1/interrupt", {"taskId": "song-1"}, header)

        assert (await stop(theirs)).status == 404
        receipt = (await stop(mine)).json
        assert (receipt["state"], receipt["notStopped"]) == ("stopped", [])
        assert receipt["branches"][0]["kind"] == "callback"
        assert (await stop(mine)).status == (409 if by == "DELETE" else 404)
        late = await world.ask("POST", song.path, DONE)
        assert (late.status, late.json["error"]["code"]) == (410, "task_interrupted")
        assert world.look() == {"flights": 0, "slots": 0, "faults": 0}


async def test_what_runs_of_it_has_ended_then(tmp_path: Path, autojump_clock: object) -> None:
    running = Running()
    async with waiting(tmp_path, Later(wait_s=5)) as (world, song, client):
        song.running = running
        await client.reply()
        song.name = "song-2"
        reply = await world.chat({"model": "hands", "messages": [{"role": "user", "content": "sing {}"}]})
        assert reply.status == 200
        assert not running.is_closed
        receipt = await world.ask("POST", "/v1/interrupt", {"taskId": "song-2"}, key(world, "chat"))
        assert receipt.json["state"] == "stopped"
        assert running.is_closed
        assert len(world.hub.pendings) == 0


async def test_one_that_is_waited_for_is_stopped_where_it_is_waited_for(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with waiting(tmp_path) as (world, _song, client):
        receipt = await world.ask("POST", "/v1/interrupt", {"taskId": "song-1"}, key(world, "chat"))
        assert receipt.json["requestId"] == "r1"
        assert receipt.json["state"] == "stopped"
        assert "interrupted" in await told(client)
