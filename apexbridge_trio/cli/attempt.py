"""One call of a plugin's tool, in a process that is not the hub."""

import sys
from typing import Any, Final

import trio

from apexbridge_trio.cli.exits import Exit, Failure
from apexbridge_trio.cli.listener import Listener
from apexbridge_trio.cli.words import printable
from apexbridge_trio.errors import ToolFailed, ToolTimeout
from apexbridge_trio.flights import Flights
from apexbridge_trio.identity import Principal
from apexbridge_trio.plugins import CallContext, Later, Pending, Tool
from apexbridge_trio.plugins.ongoing import Ongoing
from apexbridge_trio.plugins.plugin import Plugin

_WHO: Final = Principal("cli", scopes=frozenset({"chat"}))


class Attempt:
    """One call from its start to its result.

    Attributes:
        result: What the tool returned, or brought by callback; without tools, a static plugin's text.
        fault: Why there is no result.
    """

    def __init__(self, plugin: Plugin, name: str, arguments: dict[str, Any], expires_s: float) -> None:
        self._plugin = plugin
        self._name = name
        self._arguments = arguments
        self._expires_s = expires_s
        self._is_up = trio.Event()
        self.result: Any = None
        self.fault: Failure | None = None

    async def run(self, ongoing: Ongoing) -> None:
        """Start what the plugin keeps up, call the tool, and wait for its callback if it says so.

        Cancellation: all of the plugin's processes are ended.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(ongoing.run, name="ongoing")
            nursery.start_soon(self._keep_up, name="what stays up")
            await self._is_up.wait()
            if self.fault is None:
                await self._ask(nursery)
            nursery.cancel_scope.cancel(reason="the call has ended")

    async def _keep_up(self) -> None:
        """Run what the plugin keeps up; a call that needs it and finds it gone fails by itself."""
        try:
            if self._plugin.standing is not None:
                await self._plugin.standing.run(self._is_up.set)
        except ToolFailed as fault:
            self.fault = _failure(fault)
        self._is_up.set()

    async def _ask(self, nursery: trio.Nursery) -> None:
        try:
            self.result = await self._asked(nursery)
        except ToolFailed as fault:
            self.fault = _failure(fault)
        except Failure as fault:
            self.fault = fault

    async def _asked(self, nursery: trio.Nursery) -> Any:
        text = self._plugin.text
        if text is not None and not self._name:
            return text.value
        tool = find_tool(self._plugin, self._name)
        listener = Listener()
        await nursery.start(listener.run, name="listener")
        with Flights().open("req_cli", tool.kind, _WHO) as flight:
            answer = await tool.call(
                self._arguments, CallContext(flight, listener.address if tool.later else None)
            )
            return await self._late(tool, answer, listener) if isinstance(answer, Pending) else answer

    async def _late(self, tool: Tool, pending: Pending, listener: Listener) -> Any:
        _say(f"pending: task {pending.task_id}")
        expires_s = (tool.later or Later()).expires_s or self._expires_s
        try:
            with trio.move_on_after(expires_s):
                return await _brought(pending, listener)
        finally:
            if pending.running is not None:
                await pending.running.aclose()
        raise ToolTimeout(f"{tool.name} did not bring its result within {expires_s:g} s.")


async def _brought(pending: Pending, listener: Listener) -> Any:
    while True:
        task_id, callback = await listener.callbacks.receive()
        if task_id != pending.task_id:
            _say(f"a callback for another task: {task_id}")
        elif callback.status == "progress":
            part = "" if callback.progress is None else f" {callback.progress:.0%}"
            _say(f"progress:{part} {callback.message}".rstrip())
        elif callback.status == "failed":
            raise ToolFailed(callback.message)
        else:
            return callback.value


def _failure(fault: ToolFailed) -> Failure:
    return Failure(" ".join(fault.message.split()), Exit.FAILED)


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr)


def find_tool(plugin: Plugin, name: str) -> Tool:
    """Return the tool of that name, or the only one there is if there is no name.

    Raises:
        Failure: There is none, or there are several.
    """
    fitting = [tool for tool in plugin.tools.values() if not name or tool.name == name]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(f"{plugin.name}.{tool}" for tool in plugin.tools)
    raise Failure(f"say which tool: {names}" if names else f"{plugin.name} has no tools", Exit.USAGE)
