"""Plugins switched off and on: at once, over restarts, and with what they run."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.identity import Principal
from apexbridge_trio.protocol.openai import Call, CalledFunction
from apexbridge_trio.reconfiguration import note_plugins
from tests.harness.journal import broken, held
from tests.harness.world import World, open_world, say
from tests.plugins.folders import call_tool, write_plugin

HOLD = "import trio\nasync def echo(arguments, home):\n    await trio.sleep(float(arguments['s']))\n    return 'done'\n"
NET_S = 60
SERVICE = 'name = "echo"\ndescription = "x"\nruntime = "inline"\ntype = "service"\nentry = "echo.py"\n'
SERVING = """
import trio
from pathlib import Path
async def run(home):
    Path(home.state, "up").touch()
    try:
        await trio.sleep_forever()
    finally:
        Path(home.state, "up").unlink()
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path


def bearer(world: World, *scopes: str, **more: Any) -> str:
    return f"Authorization: Bearer {world.hub.keys.create(scopes=list(scopes), **more)[0]}"


async def post(world: World, name: str, deed: str, *headers: str) -> Any:
    return await world.ask("POST", f"/v1/plugins/{name}/{deed}", None, *(headers or [bearer(world, "admin")]))


async def entry_of(world: World, name: str) -> dict[str, Any]:
    listed = (await world.ask("GET", "/v1/plugins", None, bearer(world, "admin"))).json
    (found,) = [entry for entry in listed if entry["name"] == name]
    return dict(found)


def own(state: Path) -> dict[str, Any]:
    return {"plugins": {"directories": [str(state / "own")]}}


async def test_what_is_off_is_not_offered_and_says_so(state, autojump_clock):
    async with open_world(state) as world:
        world.hub.plugins.exchange()  # without what the harness has put there
        before = world.hub.plugins.offer
        old = before.tools["clock_now"]
        reply = await post(world, "clock", "disable")
        assert (reply.status, reply.json["state"], reply.json["interrupted"]) == (200, "disabled", [])
        offer = world.hub.plugins.offer
        gone = before.tools.keys() - offer.tools.keys()
        assert {before.tools[name].plugin for name in gone} == {"clock"}
        assert "clock" not in offer.sentences
        assert (await entry_of(world, "clock"))["state"] == "disabled"
        with pytest.raises(ToolFailed, match="switched off"):
            await call_tool(old, {})  # of a turn that began with it
        assert (await post(world, "clock", "disable")).status == 200, "a second time changes nothing"
        on = await post(world, "clock", "enable")
        assert (on.status, on.json["state"]) == (200, "ready")
        assert world.hub.plugins.offer.tools.keys() == before.tools.keys()
        assert await call_tool(old, {})


async def test_it_stays_off_over_restarts_and_reloads(state):
    """Without the virtual clock: plugins are opened in a thread."""
    write_plugin(state / "own")
    with trio.fail_after(NET_S):
        await _off_and_on(state)


async def _off_and_on(state: Path) -> None:
    async with open_world(state, **own(state)) as world:
        await post(world, "echo", "disable")
    async with open_world(state, **own(state)) as world:
        assert (await entry_of(world, "echo"))["state"] == "disabled"
        assert "echo" not in world.hub.plugins.tools
        reloaded = await post(world, "echo", "reload")
        assert [entry["state"] for entry in reloaded.json] == ["disabled"]
        await post(world, "echo", "enable")
    async with open_world(state, **own(state)) as world:
        assert (await entry_of(world, "echo"))["state"] == "ready"


async def test_a_call_that_runs_comes_to_its_end(state, autojump_clock):
    write_plugin(state / "own", code=HOLD)
    async with open_world(state, **own(state)) as world, world.client() as client:
        await client.chat(say('echo {"s": 5}', "hands", requestId="r1"))
        await trio.testing.wait_all_tasks_blocked()
        off = await post(world, "echo", "disable")
        assert (off.json["state"], off.json["calls"]["running"]) == ("disabled", 1)
        assert (await client.reply()).status == 200
        assert (await entry_of(world, "echo"))["calls"]["succeeded"] == 1


async def test_a_call_that_runs_is_stopped_with_a_receipt_if_that_is_wanted(state, autojump_clock):
    """And the chat goes on: the model is told. Another plugin's calls go on too."""
    write_plugin(state / "own", code=HOLD)
    async with open_world(state, **own(state)) as world:
        flights = world.hub.flights
        ended: list[str] = []
        async with trio.open_nursery() as nursery:
            for tenant in ("a", "b"):
                nursery.start_soon(_call_in_a_chat, world, tenant, ended)
            await trio.testing.wait_all_tasks_blocked()
            assert len(list(flights.all())) == 4
            reply = await world.ask(
                "POST", "/v1/plugins/echo/disable?interrupt=true", None, bearer(world, "admin")
            )
        assert [receipt["state"] for receipt in reply.json["interrupted"]] == ["stopped", "stopped"]
        assert reply.json["calls"]["running"] == 0
        assert sorted(ended) == ["a interrupted", "b interrupted"]


async def _call_in_a_chat(world: World, tenant: str, ended: list[str]) -> None:
    toolbox = world.hub.toolbox(owner := Principal("k", tenant))
    call = Call("c1", CalledFunction("echo", '{"s": 3600}'))
    with world.hub.flights.open("r1", "chat", owner) as flight:
        (outcome,) = await toolbox.run([call], flight, "round1/")
        ended.append(f"{tenant} {outcome.state}")


async def test_a_service_that_is_off_ends_and_is_begun_again(state, autojump_clock):
    write_plugin(state / "own", manifest=SERVICE, code=SERVING)
    up = state / "plugins/echo/up"
    async with open_world(state, **own(state)) as world:
        await trio.testing.wait_all_tasks_blocked()
        assert up.exists()
        await post(world, "echo", "disable")
        await trio.testing.wait_all_tasks_blocked()
        assert not up.exists()
        assert (await entry_of(world, "echo"))["state"] == "disabled"
        await post(world, "echo", "enable")
        await trio.testing.wait_all_tasks_blocked()
        assert up.exists()
        assert (await entry_of(world, "echo"))["state"] == "running"


async def test_nothing_is_told_or_changed_before_it_is_on_disk(state, autojump_clock):
    async with open_world(state) as world, world.client() as client:
        with held(world) as disk:
            await client.start("POST", "/v1/plugins/clock/disable", None, bearer(world, "admin"))
            await trio.testing.wait_all_tasks_blocked()
            assert world.hub.plugins.is_on("clock")
            disk.write()
            assert (await client.reply()).json["state"] == "disabled"
        assert not world.hub.plugins.is_on("clock")


async def test_who_switched_what_is_in_the_audit(state):
    """Without the virtual clock: plugins are opened in a thread."""
    with trio.fail_after(NET_S):
        async with open_world(state) as world:
            admin = bearer(world, "admin")
            for deed in ("disable", "enable", "reload"):
                assert (await post(world, "clock", deed, admin)).status == 200
            lines = (await world.ask("GET", "/v1/audit", None, admin)).json
            told = [(line["action"], line["target"], line["from"]) for line in lines["entries"]]
            assert [one for one in told if one[0].startswith("plugin.")] == [
                ("plugin.reloaded", "clock", "127.0.0.1"),
                ("plugin.enabled", "clock", "127.0.0.1"),
                ("plugin.disabled", "clock", "127.0.0.1"),
            ]


async def test_what_somebody_has_put_into_a_plugins_folder_is_in_the_audit(state):
    place = state / "mine"
    place.mkdir()
    with trio.fail_after(NET_S):
        async with open_world(state, plugins={"directories": [str(place)]}) as world:
            plugins = world.hub.plugins
            folder = write_plugin(place, code=HOLD)
            note_plugins(world.hub, await plugins.reload([folder]))
            (folder / "echo.py").write_text("def")
            note_plugins(world.hub, await plugins.reload([folder]))
            note_plugins(world.hub, await plugins.reload([folder]))
            shutil.rmtree(folder)
            note_plugins(world.hub, await plugins.reload([folder]))
            lines = world.hub.audit.rows.listed(limit=10, action="plugin")
            assert [(line.action, line.target, line.origin) for line in lines] == [
                ("plugin.reloaded", folder.name, "file")
            ] * 3
            assert [line.after for line in lines] == [
                f'{{"is":"{word}"}}' for word in ("removed", "refused", "loaded")
            ]


async def test_a_broken_disk_changes_nothing(state, autojump_clock):
    async with open_world(state) as world:
        with broken(world):
            reply = await post(world, "clock", "disable")
        assert (reply.status, reply.json["error"]["code"]) == (503, "storage")
        assert world.hub.plugins.is_on("clock")


@pytest.mark.parametrize("name", ["nothing", "..", "%2e%2e", "%2Fetc", "x" * 300, "clock%00", "{}"])
@pytest.mark.parametrize("deed", ["enable", "disable"])
async def test_a_name_that_is_no_plugins_is_told(state, autojump_clock, name, deed):
    async with open_world(state) as world:
        assert (await post(world, name, deed)).status == 404
        assert not world.hub.plugins.disabled


@pytest.mark.parametrize(("scope", "status"), [("chat", 403), ("node", 403), (None, 401)])
async def test_only_an_administrator_switches(state, autojump_clock, scope, status):
    async with open_world(state) as world:
        for deed in ("enable", "disable", "reload"):
            headers = [bearer(world, scope)] if scope else ["X-None: none"]
            assert (await post(world, "clock", deed, *headers)).status == status
        assert world.hub.plugins.is_on("clock")


async def test_a_wish_that_is_none_is_told(state, autojump_clock):
    async with open_world(state) as world:
        reply = await post(world, "clock", "disable?interrupt=perhaps")
        assert (reply.status, reply.json["error"]["param"]) == (400, "interrupt")
        assert world.hub.plugins.is_on("clock")
