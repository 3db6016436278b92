"""An MCP server as a process of ours: lines of JSON over its standard streams.

The library could start it too. It is started here, as every plugin's process is, so that the same
holds for it: its environment, its limits, its network, and that nothing of it is left at the end.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.log import get_logger
from apexbridge_trio.plugins.boundary import shown
from apexbridge_trio.plugins.mcp.mount import MAX_MESSAGE_BYTES, Mount
from apexbridge_trio.plugins.tree import Tree, open_tree
from apexbridge_trio.plugins.voice import Voice

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.client import Transport
    from mcp.shared.message import SessionMessage

# Messages that wait for a server that does not read; with more, its callers wait too. There is room, so
# that a call which is cancelled can leave word of it and go.
UNREAD: Final = 64

# The protocol asks a server to end by closing its stdin; after this many seconds it is told to.
LEAVE_S: Final = 1.0

log = get_logger("plugins")


def stdio(mount: Mount) -> "Transport":
    """Return the transport that runs `mount`'s command for as long as it is entered."""
    return _open(mount)


@asynccontextmanager
async def _open(
    mount: Mount,
) -> AsyncIterator[
    tuple["MemoryObjectReceiveStream[SessionMessage | Exception]", "MemoryObjectSendStream[SessionMessage]"]
]:
    import anyio

    to_session, received = anyio.create_memory_object_stream["SessionMessage | Exception"](0)
    sent, to_server = anyio.create_memory_object_stream["SessionMessage"](UNREAD)
    voice = Voice(log.bind(plugin=mount.name), "")
    async with open_tree(mount.command, cwd=mount.folder, env=mount.env, cage=mount.cage, remarks={}) as tree:
        with to_session, received, sent, to_server:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tree.listen, name=f"{mount.name} guard")
                nursery.start_soon(voice.run, tree.stderr, name=f"{mount.name} stderr")
                nursery.start_soon(_write, to_server, tree.stdin, name=f"{mount.name} stdin")
                farewell = trio.Event()
                program = mount.command[0]
                nursery.start_soon(
                    _read, tree, program, to_session, voice, farewell, name=f"{mount.name} stdout"
                )
                try:
                    yield received, sent
                finally:
                    farewell.set()
                    # Shielded, and bounded: the protocol's farewell is due to one that is cancelled, too.
                    with trio.move_on_after(LEAVE_S, shield=True):
                        await tree.stdin.aclose()
                        await tree.exited.wait()
                    nursery.cancel_scope.cancel(reason="the session is over")


async def _read(
    tree: Tree,
    program: str,
    to_session: "MemoryObjectSendStream[SessionMessage | Exception]",
    voice: Voice,
    farewell: trio.Event,
) -> None:
    """Hand each line on; the end of the output is the end of the session.

    Raises:
        ToolFailed: The server has ended before the `farewell`, or could not be started.
    """
    from mcp.shared.message import SessionMessage
    from mcp.types import jsonrpc_message_adapter

    buffer = bytearray()
    async for data in tree.stdout:
        *lines, rest = data.split(b"\n")
        for line in lines:
            buffer += line
            if buffer.strip():
                try:
                    message = jsonrpc_message_adapter.validate_json(bytes(buffer), by_name=False)
                except ValueError:  # no message: it is beside the protocol, like what is said on stderr
                    voice.say(bytes(buffer))
                    await trio.sleep(0)  # noqa: ASYNC115  # who writes nothing else must not hold up the hub
                else:
                    await to_session.send(SessionMessage(message))
            buffer.clear()
        buffer += rest
        if len(buffer) > MAX_MESSAGE_BYTES:
            raise ToolFailed(f"The MCP server sent a message over {MAX_MESSAGE_BYTES} bytes.")
    await tree.exited.wait()
    if not farewell.is_set():  # or it would hide why the session is at its end
        raise ToolFailed(_how_it_ended(tree, program, voice))


def _how_it_ended(tree: Tree, program: str, voice: Voice) -> str:
    if tree.fault:
        hint = (
            "" if "/" in program else " It is looked for in the hub's PATH; a whole path is found anywhere."
        )
        return shown(f"The MCP server could not be run: {Path(program).name}: {tree.fault}.{hint}")
    ended = f"The MCP server has ended with exit code {tree.exit_code}"
    return shown(f"{ended}: {voice.last}" if voice.last else f"{ended}.")


async def _write(messages: "MemoryObjectReceiveStream[SessionMessage]", stdin: trio.abc.SendStream) -> None:
    """Write each message as one line; in a task of its own, so that a cancelled call can not cut one."""
    async for message in messages:
        text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
        try:
            await stdin.send_all(text.encode() + b"\n")
        except trio.BrokenResourceError:
            return  # it has ended, or is about to: the end of its output tells
