"""The inline runtime: a plugin's async functions, run inside the hub.

For code that is trusted and fast. A function is called as ``await tool(arguments, home)`` and runs
in the caller's task, so an interrupt, a deadline or a disconnect reach it as a cancel scope, like
everything else. What it does to the loop is its own care: blocking work goes to a thread.
"""

import importlib.util
import inspect
import itertools
import sys
import weakref
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec
import trio
from msgspec import Struct
from msgspec.structs import replace

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.plugins.boundary import boundary
from apexbridge_trio.plugins.declared import PluginTool, declare
from apexbridge_trio.plugins.manifest import DeclaredTool, Manifest
from apexbridge_trio.plugins.output import Output
from apexbridge_trio.plugins.permissions import RemindersOf, Reminding
from apexbridge_trio.plugins.tool import CallContext

# Each load has modules of its own, so a reloaded plugin does not change under calls in flight.
_LOADS: Final = itertools.count(1)


class PluginHome(Struct, frozen=True):
    """What a plugin has of the hub.

    Args:
        state: A directory of its own.
        now: The time, with the home's time zone.
        reminders: Of who called, if the manifest asks for the permission ``reminders`` and the hub
            has them; made for one call.
    """

    state: Path
    now: Callable[[], datetime]
    reminders: Reminding | None = None


Function = Callable[[dict[str, Any], PluginHome], Awaitable[Any]]


class Code(Struct, frozen=True, weakref=True, eq=False):
    """A plugin's entry, imported; its modules are forgotten with it, so its tools hold on to it."""

    manifest: Manifest
    module: ModuleType
    home: PluginHome
    slots: trio.CapacityLimiter
    reminders: RemindersOf | None = None

    def tool(self, declared: DeclaredTool) -> PluginTool:
        """Return the tool that is the function of its name.

        Raises:
            ToolFailed: There is no such function.
            ConfigInvalid: Its parameters are no JSON Schema.
        """
        run = partial(self._run, self._function(declared.name))
        return declare(self.manifest, declared, "plugin", run)

    async def serve(self) -> None:
        """Run what is named ``run``, for as long as a service is up.

        Raises:
            ToolFailed: Whatever it raised.
        """
        with boundary():
            await self.module.run(self.home)

    async def _run(self, function: Function, arguments: dict[str, Any], context: CallContext) -> Output:
        """Run a function once.

        A thread it waits for is finished first, so when this is left nothing of the call goes on.

        Cancellation: reaches the function at its next checkpoint.
        """
        home = self.home
        if self.reminders is not None:
            home = replace(home, reminders=self.reminders(context.flight.owner))
        async with self.slots:
            result = msgspec.json.encode(await function(arguments, home))
        return Output(result, len(result))

    def _function(self, name: str) -> Function:
        found: Function | None = getattr(self.module, name, None)
        if found is None or not inspect.iscoroutinefunction(found):
            raise ToolFailed(f"{self.manifest.entry} has no async function {name}")
        return found


def load_code(
    folder: Path, manifest: Manifest, home: PluginHome, reminders: RemindersOf | None = None
) -> Code:
    """Import a plugin's entry; of `reminders` it has what its manifest asks for.

    Raises:
        ToolFailed: It can not be imported, or is a service without ``run``.
    """
    slots = trio.CapacityLimiter(manifest.limits.max_concurrency)
    granted = reminders if "reminders" in manifest.permissions else None
    code = Code(manifest, load_module(folder, manifest), home, slots, granted)
    weakref.finalize(code, _forget, code.module.__name__).atexit = False
    if manifest.type == "service" and not inspect.iscoroutinefunction(getattr(code.module, "run", None)):
        raise ToolFailed(f"{manifest.entry} has no async function run")
    return code


def load_module(folder: Path, manifest: Manifest) -> ModuleType:
    """Import ``folder/entry`` under a private name; its siblings are ``from .sibling import ...``.

    Neither the working directory nor `sys.path` is looked at, a failed import leaves nothing, and
    nothing is written beside the sources: two changes within a second would look the same to a cache.

    Raises:
        ToolFailed: Whatever the module raised.
    """
    package = f"_apexbridge_plugin_{next(_LOADS)}_{manifest.name}"
    spec = ModuleSpec(package, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[package] = importlib.util.module_from_spec(spec)
    importlib.invalidate_caches()
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        with boundary():
            return importlib.import_module(f"{package}.{manifest.entry.removesuffix('.py')}")
    except ToolFailed:
        _forget(package)
        raise
    finally:
        sys.dont_write_bytecode = writes


def _forget(module: str) -> None:
    """Take the package of a module out of Python's list, which would keep each one that was ever loaded."""
    package = module.partition(".")[0]
    for name in [name for name in list(sys.modules) if name.partition(".")[0] == package]:
        del sys.modules[name]
