"""Notices that somebody adds, changes or removes a plugin's folder.

Not every file of a folder is looked at: plugins may write into their own, and a program is read anew
with each call. What counts is in `_matters`.
"""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Final

import trio

from apexbridge_trio.log import get_logger
from apexbridge_trio.plugins import environment, legacy, manifest
from apexbridge_trio.plugins.shelf import Plugins

# The watcher's thread looks this often whether it shall end; its default is five seconds
# (watchfiles 1.3.0), for which a hub that ends would have to wait.
LOOK_MS: Final = 250

_ALWAYS: Final = frozenset({manifest.FILE, legacy.FILE, environment.FILE})

log = get_logger("plugins")


Reloaded = Callable[[], Awaitable[object]]
Noted = Callable[[list[Path]], object]


def _nobody(_: list[Path]) -> None:
    """Nobody notes it."""


async def watch(plugins: Plugins, reloaded: Reloaded, noted: Noted = _nobody) -> None:
    """Open each folder again in which something changes that matters, until cancelled.

    Changes are gathered for a moment, so that a folder that is being copied is opened once or twice,
    not for each file. Where the kernel lends no watch the hub goes on without.

    Args:
        plugins: Whose directories are watched, those that are there.
        reloaded: Called after each time, also when the config has brought other plugins.
        noted: Told of folders that hold something else than before because somebody has edited them.
    """
    while True:
        # Taken before the directories are: a change of them in between is seen.
        moved = plugins.moved
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, plugins, reloaded, noted, name="watch plugin folders")
            await moved.wait()
            nursery.cancel_scope.cancel(reason="the directories are others now")
        await reloaded()


async def _watch(plugins: Plugins, reloaded: Reloaded, noted: Noted) -> None:
    from watchfiles import awatch

    try:
        places = [directory for directory in plugins.directories if directory.is_dir()]
        async with aclosing(awatch(*places, rust_timeout=LOOK_MS)) as news:
            async for changes in news:
                if folders := touched(plugins, (Path(path) for _, path in changes)):
                    noted(await plugins.reload(folders))
                    await reloaded()
    except (OSError, RuntimeError) as fault:  # the library's own error is a RuntimeError
        log.warning("plugin folders are not watched: restart the hub after a change", reason=str(fault))


def touched(plugins: Plugins, paths: Iterable[Path]) -> set[Path]:
    """Return the folders that are to be opened again because of changes at these paths."""
    found = set()
    for path in paths:
        for place in plugins.directories:
            if path.is_relative_to(place) and path != place:
                folder = place / path.relative_to(place).parts[0]
                if _matters(plugins, folder, path):
                    found.add(folder)
    return found


def _matters(plugins: Plugins, folder: Path, path: Path) -> bool:
    place = plugins.place(folder)
    if path == folder or path.name in _ALWAYS or place.plugin is None or place.fault:
        return True
    said = place.plugin.manifest
    if said.runtime == "inline":
        return path.suffix == ".py"
    # Of what stays up the program is read only once.
    return place.plugin.standing is not None and path.name == said.entry
