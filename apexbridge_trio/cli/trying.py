"""``plugins call``: one tool, run as the hub runs it, with somebody watching."""

import os
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from apexbridge_trio import log
from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.listener import Listener
from apexbridge_trio.cli.words import printable
from apexbridge_trio.config import config_path, load, state_directory
from apexbridge_trio.daemon import load_plugins
from apexbridge_trio.errors import ToolFailed, ToolTimeout
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.plugins import CallContext, Later, Pending, Plugins, Tool

_WHO: Final = Principal("cli", scopes=frozenset({"chat"}))


def run(wanted: str, text: str, *, config: Path | None, state: Path | None) -> Any:
    """Call one tool of the configured plugins and return its result.

    A hybrid one's callback is taken by a listener of this process. The plugin has the state directory
    that it has in the hub; the hub's own database is not opened.

    Raises:
        Failure: There is no such tool, the arguments are no object, or the call failed.
        ConfigInvalid: The config can not be used.
    """
    arguments = _decoded(text)
    directory = state_directory(state, os.environ)
    loaded = load(config_path(config, directory), env=os.environ)
    log.configure("info", "text")
    plugins = load_plugins(loaded, directory)
    tool = find(plugins, wanted)
    attempt = Attempt(tool, arguments, loaded.callbacks.expires_s)
    try:
        trio.run(attempt.run, plugins)
    except* KeyboardInterrupt:
        raise Failure("stopped", Exit.INTERRUPTED) from None
    if attempt.fault is not None:
        raise Failure(" ".join(attempt.fault.message.split()), Exit.FAILED)
    return attempt.result


def _decoded(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as fault:
        raise Failure(f"the arguments are no JSON object: {fault}", Exit.USAGE) from None


def find(plugins: Plugins, wanted: str) -> Tool:
    """Return the tool that ``NAME`` or ``NAME.TOOL`` means.

    Raises:
        Failure: There is none, or the plugin has several.
    """
    plugin, _, name = wanted.partition(".")
    own = [tool for tool in plugins.tools.values() if tool.plugin == plugin]
    fitting = [tool for tool in own if not name or tool.name == name]
    if len(fitting) == 1:
        return fitting[0]
    if own:
        names = ", ".join(f"{plugin}.{tool.name}" for tool in own)
        raise Failure(f"say which tool: {names}", Exit.USAGE)
    faults = "".join(f"\n{fault}" for fault in plugins.faults)
    known = ", ".join(sorted({tool.plugin for tool in plugins.tools.values()}))
    raise Failure(f"there is no plugin {plugin!r} (there are: {known}){faults}", Exit.NOT_FOUND)


class Attempt:
    """One call from its start to its result.

    Attributes:
        result: What the tool returned, or brought by callback.
        fault: Why there is no result.
    """

    def __init__(self, tool: Tool, arguments: dict[str, Any], expires_s: float) -> None:
        self._tool = tool
        self._arguments = arguments
        self._expires_s = expires_s
        self.result: Any = None
        self.fault: ToolFailed | None = None

    async def run(self, plugins: Plugins) -> None:
        """Call the tool, and wait for its callback if it says so.

        Cancellation: the tool's processes are ended.
        """
        listener = Listener()
        async with trio.open_nursery() as nursery:
            await nursery.start(plugins.run, name="plugins")
            await nursery.start(listener.run, name="listener")
            with Flights().open("req_cli", self._tool.kind, _WHO) as flight:
                context = CallContext(flight, listener.address if self._tool.later else None)
                try:
                    answer = await self._tool.call(self._arguments, context)
                    is_later = isinstance(answer, Pending)
                    self.result = await self._late(answer, listener) if is_later else answer
                except ToolFailed as fault:
                    self.fault = fault
            nursery.cancel_scope.cancel(reason="the call has ended")

    async def _late(self, pending: Pending, listener: Listener) -> Any:
        _say(f"pending: task {pending.task_id}")
        expires_s = (self._tool.later or Later()).expires_s or self._expires_s
        try:
            with trio.move_on_after(expires_s):
                return await self._brought(pending, listener)
        finally:
            if pending.running is not None:
                await pending.running.aclose()
        raise ToolTimeout(f"{self._tool.name} did not bring its result within {expires_s:g} s.")

    async def _brought(self, pending: Pending, listener: Listener) -> Any:
        async for task_id, callback in listener.callbacks:
            if task_id != pending.task_id:
                _say(f"a callback for another task: {task_id}")
            elif callback.status == "progress":
                part = "" if callback.progress is None else f" {callback.progress:.0%}"
                _say(f"progress:{part} {callback.message}".rstrip())
            elif callback.status == "failed":
                raise ToolFailed(callback.message)
            else:
                return callback.value
        raise AssertionError  # the listener outlives this loop


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr)
