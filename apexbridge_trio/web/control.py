"""What only an administrator sees and does: the plugins, for now."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from quart import Response, request
from quart_trio import QuartTrio

from apexbridge_trio.errors import BadRequest, NotFound
from apexbridge_trio.hub import Hub
from apexbridge_trio.plugins import Plugins, entry_of, roster
from apexbridge_trio.web.replies import current_actor, reply


def add_plugins(app: QuartTrio, hub: Hub) -> None:
    """Add the routes below ``/v1/plugins``."""

    @app.get("/v1/plugins")
    async def plugins() -> Response:
        return reply(roster(hub.plugins))

    @app.post("/v1/plugins/<name>/enable")
    async def enable(name: str) -> Response:
        await hub.switches.enable(name, current_actor())
        return reply(_switched(hub, name))

    @app.post("/v1/plugins/<name>/disable")
    async def disable(name: str) -> Response:
        stopped = await hub.switches.disable(name, current_actor(), interrupt=_wants_interrupt())
        return reply(_switched(hub, name) | {"interrupted": stopped})

    @app.post("/v1/plugins/<name>/reload")
    async def reload(name: str) -> Response:
        folder = folder_of(hub.plugins, name)
        await hub.plugins.reload([folder])
        await hub.audit.note("plugin.reloaded", name, current_actor()).wait()
        names = {name, folder.name}
        return reply([entry for entry in roster(hub.plugins) if entry["name"] in names])


def _switched(hub: Hub, name: str) -> dict[str, Any]:
    """Say how a plugin is that was there a moment ago."""
    plugin = hub.plugins.found(name)
    if plugin is None:
        raise NotFound(f"The plugin {name!r} was removed meanwhile.")
    return entry_of(plugin, hub.plugins)


def _wants_interrupt() -> bool:
    value = request.args.get("interrupt", "false")
    if value not in {"true", "1", "false", "0"}:
        raise BadRequest("interrupt: expected true or false.", param="interrupt")
    return value in {"true", "1"}


def folder_of(plugins: Plugins, name: str) -> Path:
    """Return the folder of a plugin, by the plugin's name or, of one that was refused, the folder's.

    Raises:
        NotFound: There is none; what the config declares has no folder.
    """
    if (found := plugins.found(name)) is not None:
        folder = found.source.parent
        if folder.parent in plugins.directories:
            return folder
    for directory in plugins.directories:
        # Names are compared, never joined to a path.
        with suppress(OSError):  # that it can not be looked into is a fault of the list already
            for folder in directory.iterdir():
                if folder.name == name and folder.is_dir():
                    return folder
    raise NotFound(f"There is no folder of a plugin {name[:200]!r}.")
