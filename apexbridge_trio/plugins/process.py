"""The process runtime: one process for each call, and nothing of it left afterwards.

The arguments go to its stdin as one JSON object, its stdout is searched for one JSON document, its
stderr goes to the log. The document is the result whatever the exit code says. What the process may do
is said by `environment` and `tree.Cage`; `tree` ends it with all it has started.

============  ==========================================================================
phase         ends with
============  ==========================================================================
asked         the document, the end of stdout, or the exit of the first process
answered      its exit, at most `LINGER_S` later; a hybrid's processes go on as they like
gone          the whole tree is ended, always
============  ==========================================================================
"""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import trio
from msgspec import Struct

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.log import get_logger
from apexbridge_trio.plugins.conversation import Conversation, open_conversation
from apexbridge_trio.plugins.declared import PluginTool, declare
from apexbridge_trio.plugins.environment import environment
from apexbridge_trio.plugins.manifest import DeclaredTool, Limits, Manifest
from apexbridge_trio.plugins.ongoing import Ongoing, Running
from apexbridge_trio.plugins.output import Output
from apexbridge_trio.plugins.sandbox import probe
from apexbridge_trio.plugins.tool import CallContext, Pending
from apexbridge_trio.plugins.tree import Cage, open_tree
from apexbridge_trio.plugins.voice import Voice

# What runs a file that can not be run by itself, by its ending.
INTERPRETERS: Final = {
    ".py": sys.executable,
    ".js": "node",
    ".mjs": "node",
    ".cjs": "node",
    ".sh": "sh",
}

# A task without an end of its own is given a day.
LONGEST_S: Final = 86_400.0

Network = Literal["on", "off", "cannot be turned off here"]

log = get_logger("plugins")


class Program(Struct, frozen=True):
    """What is run for a plugin's calls.

    Args:
        manifest: The plugin's.
        command: With its arguments; started in `folder`.
        env: What every call finds in its environment.
        slots: One for each call, and for as long as its processes live.
        ongoing: Who owns processes that go on after a pending answer; None: an answer is a result.
        expires_s: Seconds for which they may go on.
        promised: Reads the name of a task out of an answer that does not say ``pending``; it counts if
            the process stays.
    """

    manifest: Manifest
    command: tuple[str, ...]
    folder: Path
    env: Mapping[str, str]
    cage: Cage
    slots: trio.CapacityLimiter
    ongoing: Ongoing | None
    expires_s: float
    promised: Callable[[bytes], str] = lambda _answer: ""

    def tool(self, declared: DeclaredTool) -> PluginTool:
        """Return a tool that is this program, run once for each call.

        Raises:
            ConfigInvalid: Its parameters are no JSON Schema.
        """
        return declare(self.manifest, declared, "process", partial(self.run, declared.name))

    async def run(self, tool: str, arguments: dict[str, Any], context: CallContext) -> Output | Pending:
        """Run the program once, for one call of one of the plugin's tools.

        Cancellation: the whole process tree is ended first; see `open_tree` for how long that takes.

        Raises:
            ToolFailed: It could not be run, answered with a failure, or did not answer with JSON.
        """
        if self.ongoing is None:
            return await self._direct(tool, arguments, context)
        answer: Output | Pending = await self.ongoing.start(partial(self._hybrid, tool, arguments, context))
        return answer

    async def _direct(self, tool: str, arguments: dict[str, Any], context: CallContext) -> Output:
        async with self.slots, self._open(tool, arguments, context) as talk:
            await talk.hear()
            await talk.linger()
        return talk.result()

    async def _hybrid(
        self,
        tool: str,
        arguments: dict[str, Any],
        context: CallContext,
        *,
        task_status: trio.TaskStatus[Output | Pending],
    ) -> None:
        running = Running()
        try:
            with running.scope:
                async with self.slots, self._open(tool, arguments, context) as talk:
                    await talk.hear()
                    if task_id := talk.task_id or await talk.promise(self.promised):
                        task_status.started(Pending(task_id, running))
                        with trio.move_on_after(self.expires_s):
                            await talk.go_on()
        finally:
            running.ended.set()
        if not task_id:
            task_status.started(talk.result())

    @asynccontextmanager
    async def _open(
        self, tool: str, arguments: dict[str, Any], context: CallContext
    ) -> AsyncIterator[Conversation]:
        said = log.bind(plugin=self.manifest.name, call=context.flight.path)
        voice = Voice(said, context.callback.token if context.callback else "")
        env = {**self.env, **self._of_call(tool, context)}
        remarks = context.flight.remarks
        async with (
            open_tree(self.command, cwd=self.folder, env=env, cage=self.cage, remarks=remarks) as tree,
            open_conversation(tree, arguments, voice, self.manifest.limits.max_output_bytes) as talk,
        ):
            yield talk

    def _of_call(self, tool: str, context: CallContext) -> dict[str, str]:
        if context.callback is None:
            return {"APEXBRIDGE_TOOL": tool}
        # The names of the callback are those of plugins that were there before this program.
        return {
            "APEXBRIDGE_TOOL": tool,
            "CALLBACK_BASE_URL": context.callback.base_url,
            "PLUGIN_NAME_FOR_CALLBACK": self.manifest.name,
        }


def load_program(
    folder: Path, manifest: Manifest, state: Path, *, ongoing: Ongoing, kill_grace_s: float
) -> Program:
    """Find out how a plugin is run.

    Args:
        folder: Where its manifest is.
        manifest: What it declares.
        state: A directory of its own.
        ongoing: Who owns what goes on after a pending answer.
        kill_grace_s: Seconds between SIGTERM and SIGKILL.

    Raises:
        ConfigInvalid: The key, and why it can not be run.
    """
    limits, later = manifest.limits, manifest.later
    return Program(
        manifest=manifest,
        command=tuple(manifest.command) or find_command(folder, manifest.entry),
        folder=folder.absolute(),
        env=environment(folder, state.absolute()),
        cage=cage_of(limits, kill_grace_s),
        slots=trio.CapacityLimiter(limits.max_concurrency),
        ongoing=ongoing if later else None,
        expires_s=later.expires_s or LONGEST_S if later else 0,
    )


def cage_of(limits: Limits, kill_grace_s: float) -> Cage:
    """Return what a process of these limits may not do, as far as this machine can hold it."""
    sandbox = probe()
    return Cage(
        kill_grace_s=kill_grace_s,
        max_memory_mb=limits.max_memory_mb or None,
        cut_network=not limits.allow_network and sandbox.can_cut_network,
        cgroup=sandbox.cgroup,
    )


def network_of(manifest: Manifest) -> Network:
    """Return what a plugin has of the network; code in the hub's process has the hub's."""
    if manifest.runtime == "inline" or manifest.url or manifest.limits.allow_network:
        return "on"
    return "off" if probe().can_cut_network else "cannot be turned off here"


def find_command(folder: Path, entry: str) -> tuple[str, ...]:
    """Return how a plugin's entry is run: by its ending, or as the program that it is.

    Raises:
        ConfigInvalid: It is not there, or there is nothing to run it.
    """
    file = folder / entry
    if not file.is_file():
        raise ConfigInvalid(f"entry: there is no file {entry}")
    interpreter = INTERPRETERS.get(file.suffix)
    if interpreter is None:
        if not os.access(file, os.X_OK):
            known = ", ".join(INTERPRETERS)
            raise ConfigInvalid(f"entry: {entry} is not executable, and its ending is none of {known}")
        return (str(file.absolute()),)
    found = shutil.which(interpreter)
    if found is None:
        raise ConfigInvalid(f"entry: {entry} needs {interpreter}, which is not installed")
    return (found, str(file.absolute()))
