"""Runs a legacy plugin: its arguments as texts, its result out of ``{status, result}``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import msgspec
import trio

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.log import get_logger
from apexbridge_trio.plugins.boundary import shown
from apexbridge_trio.plugins.conversation import LAST_WORDS_S
from apexbridge_trio.plugins.declared import PluginTool, declare
from apexbridge_trio.plugins.legacy.manifest import LegacyManifest
from apexbridge_trio.plugins.manifest import DeclaredTool
from apexbridge_trio.plugins.output import Output
from apexbridge_trio.plugins.process import Program
from apexbridge_trio.plugins.tool import CallContext, Pending
from apexbridge_trio.plugins.tree import Tree, open_tree
from apexbridge_trio.plugins.voice import Voice

_READ: Final = 65_536

log = get_logger("plugins")


@dataclass(frozen=True, slots=True)
class LegacyProgram:
    """One plugin.

    Args:
        legacy: What its own manifest says.
        program: What is run.
        port: Where the hub listens; known once it does.
    """

    legacy: LegacyManifest
    program: Program
    port: Callable[[], int]

    def tool(self, declared: DeclaredTool) -> PluginTool:
        """Return one of its commands as a tool; of a static one, what prints its text."""
        manifest = self.program.manifest
        run = self._print if manifest.type == "static" else partial(self._call, declared.name)
        return declare(manifest, declared, "process", run)

    async def _call(self, tool: str, arguments: dict[str, Any], context: CallContext) -> Output | Pending:
        given = {name: _text(value) for name, value in arguments.items()}
        if len(self.legacy.commands) > 1:
            given = {"command": self.legacy.commands[tool].word} | given
        output = await self._ready().run(tool, given, context)
        return output if isinstance(output, Pending) else _result(output)

    async def _print(self, _arguments: Mapping[str, Any], _context: CallContext) -> Output:
        """Run it with nothing on stdin, and take all that it prints.

        Raises:
            ToolFailed: It could not be run, or printed nothing.
        """
        ready = self._ready()
        voice = Voice(log.bind(plugin=self.legacy.name), "")
        text = bytearray()
        async with (
            ready.slots,
            open_tree(ready.command, cwd=ready.folder, env=ready.env, cage=ready.cage, remarks={}) as tree,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(tree.listen, name="guard")
            nursery.start_soon(voice.run, tree.stderr, name="stderr")
            nursery.start_soon(self._read, tree, text, name="stdout")
            await tree.stdin.aclose()
            await tree.exited.wait()
            with trio.move_on_after(LAST_WORDS_S):
                await voice.ended.wait()
            nursery.cancel_scope.cancel(reason="it has printed its text")
        if tree.fault or not text.strip():
            why = tree.fault or voice.last or f"exit code {tree.exit_code}"
            raise ToolFailed(shown(f"It printed no text: {why}"))
        json = msgspec.json.encode(text.decode("utf-8", "replace").strip())
        return Output(json, len(json))

    async def _read(self, tree: Tree, into: bytearray) -> None:
        limit = self.program.manifest.limits.max_output_bytes
        while data := await tree.stdout.receive_some(_READ):
            into += data[: limit - len(into)]

    def _ready(self) -> Program:
        env = {
            **self.program.env,
            "PROJECT_BASE_PATH": self.program.env["APEXBRIDGE_STATE"],
            "PLUGIN_NAME_FOR_CALLBACK": self.legacy.name,
            "SERVER_PORT": str(self.port()),
        }
        return replace(self.program, env=env)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _result(output: Output) -> Output:
    """Take the result out of the answer; one without it is the result itself."""
    try:
        answer = msgspec.json.decode(output.json)
    except msgspec.DecodeError:  # longer than was kept: it is cut, and told so
        return output
    if not isinstance(answer, dict) or "result" not in answer or "status" not in answer:
        return output
    json = msgspec.json.encode(answer["result"])
    return Output(json, len(json))
