"""What only an administrator sees."""

import pytest
import trio
import trio.testing

from apexbridge_trio.errors import ToolFailed
from tests.harness.world import open_world
from tests.plugins.folders import ECHO, call_tool, write_plugin

BROKEN = 'name = "echo"\ndescription = "x"\nentri = "echo.py"\n'
NET_S = 60


@pytest.fixture
def state(tmp_path):
    return tmp_path


def bearer(world, scope):
    return f"Authorization: Bearer {world.hub.keys.create(scopes=[scope])[0]}"


async def plugins_of(world):
    return (await world.ask("GET", "/v1/plugins", None, bearer(world, "admin"))).json


async def test_plugins_are_listed_with_what_they_have_done(state, autojump_clock):
    async with open_world(state) as world:
        clock = world.hub.plugins.tools["clock_now"]
        await call_tool(clock, {})
        with pytest.raises(ToolFailed):
            await call_tool(clock, {"zone": "Atlantis"})
        entries = {entry["name"]: entry for entry in await plugins_of(world)}
        assert {"agenda", "clock", "file_organize", "household"} <= entries.keys()
        assert entries["file_organize"]["type"] == "hybrid"
        assert entries["agenda"]["health"] == "ok"
        assert entries["agenda"]["tools"] == ["agenda_list", "agenda_add", "agenda_remove"]
        failing = entries["clock"]
        assert (failing["state"], failing["health"]) == ("ready", "failing")
        assert failing["lastError"].startswith("LookupError: no time zone 'Atlantis'")
        assert failing["calls"] == {"started": 2, "running": 0, "succeeded": 1, "failed": 1, "stopped": 0}
        await call_tool(clock, {})
        entries = {entry["name"]: entry for entry in await plugins_of(world)}
        assert entries["clock"]["health"] == "ok"


async def test_a_plugin_that_was_refused_is_listed_with_the_reason(state, autojump_clock):
    directory = state / "own"
    write_plugin(directory, manifest=BROKEN)
    async with open_world(state, plugins={"directories": [str(directory)]}) as world:
        *_, last = await plugins_of(world)
        assert last == {
            "name": "echo",
            "state": "refused",
            "health": "failing",
            "lastError": 'plugin.toml: entri: unknown key, did you mean "entry"?',
        }


async def test_a_folder_is_loaded_again_by_name(state):
    """Without the virtual clock: plugins are opened in a thread."""
    directory = state / "own"
    folder = write_plugin(directory, manifest=BROKEN)
    with trio.fail_after(NET_S):
        async with open_world(state, plugins={"directories": [str(directory)]}) as world:
            admin = bearer(world, "admin")
            (folder / "plugin.toml").write_text(ECHO)
            reply = await world.ask("POST", "/v1/plugins/echo/reload", None, admin)
            assert [(entry["name"], entry["state"]) for entry in reply.json] == [("echo", "ready")]
            assert await call_tool(world.hub.plugins.tools["echo"], {"a": 1}) == {"a": 1}
            (folder / "plugin.toml").write_text(BROKEN)
            reply = await world.ask("POST", "/v1/plugins/echo/reload", None, admin)
            assert [entry["state"] for entry in reply.json] == ["ready", "refused"]
            for name in ("nothing", "..", "%2e%2e", "own"):
                assert (await world.ask("POST", f"/v1/plugins/{name}/reload", None, admin)).status == 404
            stranger = bearer(world, "chat")
            assert (await world.ask("POST", "/v1/plugins/echo/reload", None, stranger)).status == 403


async def test_what_is_kept_up_is_listed_with_its_state(state, autojump_clock):
    directory = state / "own"
    text = "async def echo(arguments, home):\n    return 'hello'\n"
    failing = "async def echo(arguments, home):\n    raise LookupError('no ink')\n"
    static = 'runtime = "inline"\nentry = "echo.py"\ntype = "static"\ndescription = "x"\n'
    write_plugin(directory, manifest=f'name = "echo"\n{static}', code=text, folder="good")
    write_plugin(
        directory, manifest=f'name = "bad"\n{static}', code=failing.replace("echo", "bad"), folder="bad"
    )
    async with open_world(state, plugins={"directories": [str(directory)]}) as world:
        await trio.testing.wait_all_tasks_blocked()
        entries = {entry["name"]: entry for entry in await plugins_of(world)}
        assert (entries["echo"]["state"], entries["echo"]["health"]) == ("running", "ok")
        down = entries["bad"]
        assert (down["state"], down["health"], down["lastError"]) == (
            "restarting",
            "failing",
            "LookupError: no ink",
        )


@pytest.mark.parametrize(("scope", "status"), [("admin", 200), ("chat", 403), (None, 401)])
async def test_only_an_administrator_sees_them(state, autojump_clock, scope, status):
    async with open_world(state) as world:
        headers = [bearer(world, scope)] if scope else []
        assert (await world.ask("GET", "/v1/plugins", None, *headers)).status == status
