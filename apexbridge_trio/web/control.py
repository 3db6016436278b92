"""What only an administrator sees and does: the plugins, for now."""

from pathlib import Path

from quart import Response
from quart_trio import QuartTrio

from apexbridge_trio.errors import NotFound
from apexbridge_trio.hub import Hub
from apexbridge_trio.plugins import Plugins, roster
from apexbridge_trio.web.replies import reply


def add_plugins(app: QuartTrio, hub: Hub) -> None:
    """Add the routes below ``/v1/plugins``."""

    @app.get("/v1/plugins")
    async def plugins() -> Response:
        return reply(roster(hub.plugins))

    @app.post("/v1/plugins/<name>/reload")
    async def reload(name: str) -> Response:
        folder = folder_of(hub.plugins, name)
        await hub.plugins.reload([folder])
        names = {name, folder.name}
        return reply([entry for entry in roster(hub.plugins) if entry["name"] in names])


def folder_of(plugins: Plugins, name: str) -> Path:
    """Return the folder of a plugin, by the plugin's name or, of one that was refused, the folder's.

    Raises:
        NotFound: There is none; what the config declares has no folder.
    """
    if name in plugins.offer.plugins:
        folder = plugins.offer.plugins[name].source.parent
        if folder.parent in plugins.directories:
            return folder
    for directory in plugins.directories:
        # Names are compared, never joined to a path.
        for folder in directory.iterdir() if directory.is_dir() else ():
            if folder.name == name and folder.is_dir():
                return folder
    raise NotFound(f"There is no folder of a plugin {name[:200]!r}.")
