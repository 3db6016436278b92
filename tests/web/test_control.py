"""What only an administrator sees."""

import pytest

from apexbridge_trio.errors import ToolFailed
from tests.harness.world import open_world
from tests.plugins.folders import call_tool, write_plugin

BROKEN = 'name = "echo"\ndescription = "x"\nentri = "echo.py"\n'


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


@pytest.mark.parametrize(("scope", "status"), [("admin", 200), ("chat", 403), (None, 401)])
async def test_only_an_administrator_sees_them(state, autojump_clock, scope, status):
    async with open_world(state) as world:
        headers = [bearer(world, scope)] if scope else []
        assert (await world.ask("GET", "/v1/plugins", None, *headers)).status == status
