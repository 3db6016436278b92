"""What is said between the hub and the processes of one call: arguments, answer, and words beside it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import trio
from msgspec import Struct

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.plugins.boundary import shown
from apexbridge_trio.plugins.document import Document
from apexbridge_trio.plugins.output import Output
from apexbridge_trio.plugins.tree import Tree
from apexbridge_trio.plugins.voice import Voice

# A process that has answered may finish its files for this long; one that stays is ended.
LINGER_S: Final = 1.0
# What an exited process has written is in the pipe: reading it takes no waiting. Only where another
# process holds the pipe open is this time used up.
LAST_WORDS_S: Final = 0.2
# The size of a Linux pipe.
_READ: Final = 65_536


class _Told(Struct, rename="camel"):
    """What an answer may say of itself."""

    status: str = ""
    task_id: str = ""
    error: Any = None
    message: Any = None


class Conversation:
    """One call's, from the arguments on."""

    def __init__(self, tree: Tree, voice: Voice, limit: int) -> None:
        self._tree = tree
        self._voice = voice
        self._document = Document(limit)

    async def write(self, data: bytes) -> None:
        """Give the arguments to a process that may read them, late, or never."""
        try:
            await self._tree.stdin.send_all(data)
        except trio.BrokenResourceError:  # it does not care for them
            return
        await self._tree.stdin.aclose()

    async def hear(self) -> None:
        """Read stdout until the answer is there or can not come any more."""
        with trio.CancelScope() as reading:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hurry, reading, name="until it exits")
                while not self._document.is_complete:
                    data = await self._tree.stdout.receive_some(_READ)
                    if not data:
                        break
                    self._document.feed(bytes(data))
                nursery.cancel_scope.cancel(reason="the answer is there, or none will come")

    async def _hurry(self, reading: trio.CancelScope) -> None:
        await self._tree.exited.wait()
        reading.deadline = trio.current_time() + LAST_WORDS_S

    async def linger(self) -> None:
        """Let the first process exit by itself, and hear its last words."""
        with trio.move_on_after(LINGER_S):
            await self._tree.exited.wait()
        if self._tree.exited.is_set():
            with trio.move_on_after(LAST_WORDS_S):
                await self._voice.ended.wait()

    async def promise(self, promised: Callable[[bytes], str]) -> str:
        """Let the first process exit by itself; if it stays, return what its answer calls its task."""
        await self.linger()
        output = self._document.output()
        return "" if output is None or self._tree.exited.is_set() else promised(output.json)

    async def go_on(self) -> None:
        """Wait until all processes are gone by themselves; what they write to stdout is dropped."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._drop, name="stdout")
            await self._tree.gone()
            nursery.cancel_scope.cancel(reason="all processes are gone")

    async def _drop(self) -> None:
        while await self._tree.stdout.receive_some(_READ):
            pass

    @property
    def task_id(self) -> str:
        """The task whose result comes later; empty if the answer is the result."""
        told = _told(self._document.output())
        return told.task_id if told.status == "pending" else ""

    def result(self) -> Output:
        """Return the answer.

        Raises:
            ToolFailed: There is none, or it says that the call failed.
        """
        if self._tree.fault:
            raise ToolFailed(f"The plugin could not be run: {self._tree.fault}.")
        output = self._document.output()
        told = _told(output)
        if told.status in {"error", "failed"}:
            raise ToolFailed(shown(_words(told.error or told.message or "The plugin reports a failure.")))
        if output is not None:
            return output
        if self._document.beginning:
            raise ToolFailed(shown(f"The plugin's answer is not JSON: {self._document.beginning}"))
        raise ToolFailed(shown(f"The plugin ended without an answer{self._epitaph()}"))

    def _epitaph(self) -> str:
        code = "" if self._tree.exit_code is None else f" (exit code {self._tree.exit_code})"
        return f"{code}: {self._voice.last}" if self._voice.last else f"{code}."


@asynccontextmanager
async def open_conversation(
    tree: Tree, arguments: dict[str, Any], voice: Voice, limit: int
) -> AsyncIterator[Conversation]:
    """Write the arguments and log stderr while the block runs.

    Its body raises no domain error: it would come out in a group.

    Args:
        tree: The processes.
        arguments: Written to stdin, as one JSON object.
        voice: What becomes of stderr.
        limit: Bytes of the answer that are kept.
    """
    talk = Conversation(tree, voice, limit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.listen, name="guard")
        nursery.start_soon(voice.run, tree.stderr, name="stderr")
        nursery.start_soon(talk.write, msgspec.json.encode(arguments), name="stdin")
        yield talk
        nursery.cancel_scope.cancel(reason="the conversation is over")


def _told(output: Output | None) -> _Told:
    try:
        return msgspec.json.decode(output.json if output else b"{}", type=_Told)
    except msgspec.DecodeError:  # no object, or one that is cut: it says nothing of itself
        return _Told()


def _words(told: object) -> str:
    return told if isinstance(told, str) else msgspec.json.encode(told).decode()
