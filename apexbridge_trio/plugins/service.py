"""A service: a program, or a function in the hub, that is up for as long as the hub is."""

from collections.abc import Awaitable, Callable

import trio
from msgspec import Struct

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.log import get_logger
from apexbridge_trio.plugins.boundary import shown
from apexbridge_trio.plugins.conversation import LAST_WORDS_S
from apexbridge_trio.plugins.process import Program
from apexbridge_trio.plugins.tree import open_tree
from apexbridge_trio.plugins.voice import Voice

log = get_logger("plugins")


class Service(Struct, frozen=True, eq=False):
    """What a plugin of type service keeps up.

    Args:
        name: The plugin's.
        serve: Is up until it ends, whatever the reason.
    """

    name: str
    serve: Callable[[], Awaitable[None]]

    async def run(self, up: Callable[[], None]) -> None:
        """Serve until the end.

        Cancellation: reaches the function at its next checkpoint; of a program nothing is left.

        Raises:
            ToolFailed: Why a program has ended.
        """
        up()
        await self.serve()

    def note_end(self, _fault: str, _retry_in_s: float) -> None:
        """Nobody calls it."""

    async def idle(self) -> None:
        """Nobody calls it."""


async def serve(program: Program) -> None:
    """Run a program until it ends; its stdin stays open, both of its outputs go to the log.

    Cancellation: nothing of the program is left.

    Raises:
        ToolFailed: How it has ended.
    """
    said = log.bind(plugin=program.manifest.name)
    voice, words = Voice(said, ""), Voice(said, "")
    opened = open_tree(program.command, cwd=program.folder, env=program.env, cage=program.cage, remarks={})
    async with opened as tree, trio.open_nursery() as nursery:
        nursery.start_soon(tree.listen, name="guard")
        nursery.start_soon(voice.run, tree.stderr, name="stderr")
        nursery.start_soon(words.run, tree.stdout, name="stdout")
        await tree.exited.wait()
        with trio.move_on_after(LAST_WORDS_S):
            await voice.ended.wait()
        nursery.cancel_scope.cancel(reason="the service has ended")
    if tree.fault:
        raise ToolFailed(f"It could not be run: {tree.fault}.")
    last = f": {voice.last}" if voice.last else "."
    raise ToolFailed(shown(f"It has ended with exit code {tree.exit_code}{last}"))
