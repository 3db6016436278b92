"""``plugins call``: one tool, run as the hub runs it, with somebody watching."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
from msgspec.structs import replace

from apexbridge_trio import log
from apexbridge_trio.cli.attempt import Attempt
from apexbridge_trio.cli.checking import alone
from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.following import until_pressed
from apexbridge_trio.cli.options import json_object
from apexbridge_trio.composition import load_plugins
from apexbridge_trio.config import Config, config_path, load, state_directory
from apexbridge_trio.plugins import Plugins
from apexbridge_trio.plugins.plugin import Plugin


def run(wanted: str, text: str, *, config: Path | None, state: Path | None) -> Any:
    """Call one tool of the configured plugins, or of one in a folder, and return its result.

    A hybrid one's callback is taken by a listener of this process. The plugin has the state directory
    that it has in the hub; the hub's own database is not opened.

    Raises:
        Failure: There is no such tool, the arguments are no object, or the call failed.
        ConfigInvalid: The config can not be used.
    """
    arguments = json_object(text)
    directory = state_directory(state, os.environ)
    loaded = load(config_path(config, directory), env=os.environ)
    log.configure("info", "text")
    with _found(wanted, loaded, directory) as (plugins, plugin, name):
        attempt = Attempt(plugin, name, arguments, loaded.callbacks.expires_s)
        try:
            trio.run(until_pressed, partial(attempt.run, plugins.ongoing))
        except KeyboardInterrupt:
            raise Failure("stopped", Exit.INTERRUPTED) from None
    if attempt.fault is not None:
        raise attempt.fault
    return attempt.result


@contextmanager
def _found(wanted: str, loaded: Config, state: Path) -> Iterator[tuple[Plugins, Plugin, str]]:
    """Open what is wanted: ``NAME[.TOOL]`` of those of the config, or ``DIR[.TOOL]``, with a slash in it."""
    if "/" not in wanted and wanted not in {".", ".."}:
        plugins = load_plugins(loaded, state)
        plugin, _, name = wanted.partition(".")
        yield plugins, find(plugins, plugin), name
        return
    folder, name = _split(wanted)
    with alone(Path(folder)) as link:
        # Alone, so that it may have the name of another; and what the config mounts is not started for it.
        held = replace(loaded.plugins, mcp=())
        plugins = load_plugins(replace(loaded, plugins=held), state, directories=[link.parent])
        yield plugins, _in_folder(plugins, link, folder), name


def _split(wanted: str) -> tuple[str, str]:
    """Return a folder, and the tool that is named behind its own name."""
    path = Path(wanted)
    if not path.is_dir() and path.with_suffix("").is_dir():
        return wanted.removesuffix(path.suffix), path.suffix[1:]
    return wanted, ""


def _in_folder(plugins: Plugins, link: Path, folder: str) -> Plugin:
    for plugin in plugins.offer.plugins.values():
        if plugin.source.parent == link:
            return plugin
    faults = [fault.replace(str(link), folder) for fault in plugins.faults]
    raise Failure("\n".join(faults) or f"{folder}: there is no plugin in it", Exit.NOT_FOUND)


def find(plugins: Plugins, name: str) -> Plugin:
    """Return the plugin of that name.

    Raises:
        Failure: There is none, or it did not load.
    """
    offered = plugins.offer.plugins
    if name in offered:
        return offered[name]
    faults = "".join(f"\n{fault}" for fault in plugins.faults)
    there = f"there are: {', '.join(offered)}; one in a folder is called by it, ./{name}"
    raise Failure(f"there is no plugin {name!r} ({there}){faults}", Exit.NOT_FOUND)
