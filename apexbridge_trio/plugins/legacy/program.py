"""Runs a legacy plugin: its arguments as texts, its result out of ``{status, result}``."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec
import trio
from msgspec import Struct
from msgspec.structs import replace

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
from apexbridge_trio.plugins.tree import open_tree
from apexbridge_trio.plugins.voice import Voice

_READ: Final = 65_536
# In an answer that is for the model to read: their server puts the result in its place when it is there.
_PLACEHOLDER: Final = re.compile(rb"VCP_ASYNC_RESULT::[^:{}]+::([A-Za-z0-9._:-]+)\}\}")

log = get_logger("plugins")


class LegacyProgram(Struct, frozen=True):
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
        printed = _Printed(ready.manifest.limits.max_output_bytes)
        async with (
            ready.slots,
            open_tree(ready.command, cwd=ready.folder, env=ready.env, cage=ready.cage, remarks={}) as tree,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(tree.listen, name="guard")
            nursery.start_soon(voice.run, tree.stderr, name="stderr")
            nursery.start_soon(printed.read, tree.stdout, name="stdout")
            await tree.stdin.aclose()
            await tree.exited.wait()
            with trio.move_on_after(LAST_WORDS_S):
                await voice.ended.wait()
                await printed.ended.wait()
            nursery.cancel_scope.cancel(reason="it has printed its text")
        if tree.fault or not printed.text:
            why = tree.fault or voice.last or f"exit code {tree.exit_code}"
            raise ToolFailed(shown(f"It printed no text: {why}"))
        json = msgspec.json.encode(printed.text)
        return Output(json, max(len(json), printed.size))

    def _ready(self) -> Program:
        env = {
            **self.program.env,
            "PROJECT_BASE_PATH": self.program.env["APEXBRIDGE_STATE"],
            "PLUGIN_NAME_FOR_CALLBACK": self.legacy.name,
            "SERVER_PORT": str(self.port()),
        }
        return replace(self.program, env=env, promised=_promised)


class _Printed:
    """What a program prints: the beginning is kept, the rest is counted.

    Attributes:
        size: Bytes of all of it.
        ended: Set at its end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.size = 0
        self.ended = trio.Event()

    @property
    def text(self) -> str:
        """Its beginning, without half a letter where it is cut."""
        faults = "ignore" if self.size > self._limit else "replace"
        return self._kept.decode("utf-8", faults).strip()

    async def read(self, stdout: trio.abc.ReceiveStream) -> None:
        """Read until the end."""
        while data := await stdout.receive_some(_READ):
            self._kept += data[: self._limit - len(self._kept)]
            self.size += len(data)
        self.ended.set()


def _promised(answer: bytes) -> str:
    """Return what an answer calls its task, which it does in several ways; empty if there is none."""
    try:
        told = msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.DecodeError:  # longer than was kept
        told = {}
    for place in (told, told.get("result")):
        for key in ("taskId", "requestId"):
            if isinstance(place, dict) and isinstance(name := place.get(key), str):
                return name
    found = _PLACEHOLDER.search(answer)
    return found[1].decode() if found else ""


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
