"""The inline runtime: a plugin's async functions, run inside the hub.

For code that is trusted and fast. A function is called as ``await tool(arguments, home)`` and runs
in the caller's task, so an interrupt, a deadline or a disconnect reach it as a cancel scope, like
everything else. What it does to the loop is its own care: blocking work goes to a thread.

`boundary` is where the plugin's faults end: whatever it raises becomes one `ToolFailed`.
"""

import importlib.util
import inspect
import itertools
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec
import trio

from apexbridge_trio.errors import ToolFailed, ToolTimeout
from apexbridge_trio.plugins.manifest import DeclaredTool, Manifest
from apexbridge_trio.plugins.tool import CallContext, Kind, Later

# Each load has modules of its own, so a reloaded plugin does not change under calls in flight.
_LOADS: Final = itertools.count(1)

# The model reads the message; a fault with a whole document in it would fill its context.
MAX_MESSAGE: Final = 500
_PATH: Final = re.compile(r"(?<![\w:/.])/[^\s'\":,;)]+/[^\s'\":,;)]*")


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


@dataclass(frozen=True, slots=True)
class InlineTool:
    """One async function of a plugin, as a `Tool`."""

    name: str
    description: str
    parameters: dict[str, Any]
    plugin: str
    max_execution_s: float
    idempotent: bool
    max_output_bytes: int
    slots: trio.CapacityLimiter
    function: Function
    home: PluginHome
    kind: Kind = "plugin"
    later: Later | None = None

    async def call(self, arguments: dict[str, Any], _context: CallContext) -> Any:
        """Run the function once and return its result as plain JSON.

        Waiting for a slot counts as running. A thread the function waits for is finished first,
        so after a timeout nothing of the call goes on.

        Cancellation: reaches the function at its next checkpoint.

        Raises:
            ToolFailed: The function raised, or its result is no JSON or too large.
            ToolTimeout: It was still running after `max_execution_s`.
        """
        if not isinstance(arguments, dict):
            raise ToolFailed("The arguments are not a JSON object.", code="invalid_arguments")
        result = b""
        with trio.move_on_after(self.max_execution_s) as scope:
            async with self.slots:
                with boundary():
                    result = msgspec.json.encode(await self.function(arguments, self.home))
        if scope.cancelled_caught:
            raise ToolTimeout(f"{self.name} did not end within {self.max_execution_s:g} s.")
        if len(result) > self.max_output_bytes:
            raise ToolFailed(f"The result is {len(result)} bytes, the limit {self.max_output_bytes}.")
        return msgspec.json.decode(result)


def load_tools(folder: Path, manifest: Manifest, home: PluginHome) -> list[InlineTool]:
    """Import a plugin's entry and bind its functions.

    Raises:
        ToolFailed: The module can not be imported, or a declared function is not in it.
    """
    module = load_module(folder, manifest)
    slots = trio.CapacityLimiter(manifest.limits.max_concurrency)
    return [
        InlineTool(
            name=tool.name,
            description=tool.description,
            parameters=tool.parameters,
            plugin=manifest.name,
            max_execution_s=manifest.limits.max_execution_s,
            idempotent=manifest.idempotent if tool.idempotent is None else tool.idempotent,
            max_output_bytes=manifest.limits.max_output_bytes,
            slots=slots,
            function=_function(module, tool, manifest.entry),
            home=home,
        )
        for tool in manifest.declared_tools
    ]


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


@contextmanager
def boundary() -> Iterator[None]:
    """Turn whatever a plugin raises into a `ToolFailed` that names the fault, and no more.

    Raises:
        ToolFailed: Type and message of the fault, without trace and paths.
    """
    try:
        yield
    except ToolFailed:
        raise
    except Exception as fault:  # the trust boundary of a plugin
        raise ToolFailed(_words(fault)) from fault


def _words(fault: BaseException) -> str:
    while isinstance(fault, BaseExceptionGroup) and len(fault.exceptions) == 1:
        fault = fault.exceptions[0]
    said = fault.strerror if isinstance(fault, OSError) else str(fault)
    words = f"{type(fault).__name__}: {said}" if said else type(fault).__name__
    return _PATH.sub("…", words)[:MAX_MESSAGE]
