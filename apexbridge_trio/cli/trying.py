"""``plugins call``: one tool, run as the hub runs it, with somebody watching."""

import os
from pathlib import Path
from typing import Any

import trio

from apexbridge_trio import log
from apexbridge_trio.cli.attempt import Attempt
from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.options import json_object
from apexbridge_trio.composition import load_plugins
from apexbridge_trio.config import config_path, load, state_directory
from apexbridge_trio.plugins import Plugins
from apexbridge_trio.plugins.plugin import Plugin


def run(wanted: str, text: str, *, config: Path | None, state: Path | None) -> Any:
    """Call one tool of the configured plugins and return its result.

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
    plugins = load_plugins(loaded, directory)
    plugin, _, name = wanted.partition(".")
    attempt = Attempt(find(plugins, plugin), name, arguments, loaded.callbacks.expires_s)
    try:
        trio.run(attempt.run, plugins.ongoing)
    except* KeyboardInterrupt:
        raise Failure("stopped", Exit.INTERRUPTED) from None
    if attempt.fault is not None:
        raise attempt.fault
    return attempt.result


def find(plugins: Plugins, name: str) -> Plugin:
    """Return the plugin of that name.

    Raises:
        Failure: There is none, or it did not load.
    """
    offered = plugins.offer.plugins
    if name in offered:
        return offered[name]
    faults = "".join(f"\n{fault}" for fault in plugins.faults)
    raise Failure(f"there is no plugin {name!r} (there are: {', '.join(offered)}){faults}", Exit.NOT_FOUND)
