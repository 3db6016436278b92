"""The inline runtime: a plugin's async functions, run inside the hub.

For code that is trusted and fast. A function is called as ``await tool(arguments, home)`` and runs
in the caller's task, so an interrupt, a deadline or a disconnect reach it as a cancel scope, like
everything else. What it does to the loop is its own care: blocking work goes to a thread.
"""

import importlib.util
import inspect
import itertools
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec
import trio

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.plugins.boundary import boundary
from apexbridge_trio.plugins.declared import PluginTool, Run, declare
from apexbridge_trio.plugins.manifest import DeclaredTool, Manifest
from apexbridge_trio.plugins.output import Output
from apexbridge_trio.plugins.tool import CallContext

# Each load has modules of its own, so a reloaded plugin does not change under calls in flight.
_LOADS: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class PluginHome:
    """What a plugin has of the hub.

    Args:
        state: A directory of its own.
        now: The time, with the home's time zone.
    """

    state: Path
    now: Callable[[], datetime]


Function = Callable[[dict[str, Any], PluginHome], Awaitable[Any]]


def load_tools(folder: Path, manifest: Manifest, home: PluginHome) -> list[PluginTool]:
    """Import a plugin's entry and bind its functions.

    Raises:
        ToolFailed: The module can not be imported, or a declared function is not in it.
        ConfigInvalid: A tool's parameters are no JSON Schema.
    """
    module = load_module(folder, manifest)
    slots = trio.CapacityLimiter(manifest.limits.max_concurrency)
    return [
        declare(manifest, tool, "plugin", _bound(_function(module, tool, manifest.entry), home, slots))
        for tool in manifest.declared_tools
    ]


def _bound(function: Function, home: PluginHome, slots: trio.CapacityLimiter) -> Run:
    async def run(arguments: dict[str, Any], _context: CallContext) -> Output:
        """Run the function once.

        A thread it waits for is finished first, so when this is left nothing of the call goes on.

        Cancellation: reaches the function at its next checkpoint.
        """
        async with slots:
            with boundary():
                result = msgspec.json.encode(await function(arguments, home))
        return Output(result, len(result))

    return run


def load_module(folder: Path, manifest: Manifest) -> ModuleType:
    """Import ``folder/entry`` under a private name; its siblings are ``from .sibling import ...``.

    Neither the working directory nor `sys.path` is looked at, and a failed import leaves nothing.

    Raises:
        ToolFailed: Whatever the module raised.
    """
    package = f"_apexbridge_plugin_{next(_LOADS)}_{manifest.name}"
    spec = ModuleSpec(package, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        with boundary():
            return importlib.import_module(f"{package}.{manifest.entry.removesuffix('.py')}")
    except ToolFailed:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]
        raise


def _function(module: ModuleType, tool: DeclaredTool, entry: str) -> Function:
    found: Function | None = getattr(module, tool.name, None)
    if found is None or not inspect.iscoroutinefunction(found):
        raise ToolFailed(f"{entry} has no async function {tool.name}")
    return found
