"""One mounted MCP server, over all its sessions.

`run` holds one session, from the start of the server to its end, and is begun again by who keeps it
up. Calls are made in their callers' tasks, so an interrupt cancels the call where it waits, and the
library tells the server in the protocol's own words (``notifications/cancelled``), for which it
takes 5 seconds at most (mcp 2.3.0). A session that ends fails the calls that are in it.

Whatever ends a session (the process, the connection, a message that is too long) is raised inside
its nursery and comes out in a group; `boundary` makes one fault of it.
"""

import importlib
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from apexbridge_trio.errors import ToolFailed
from apexbridge_trio.installation import remedy
from apexbridge_trio.log import get_logger
from apexbridge_trio.plugins.boundary import boundary, shown
from apexbridge_trio.plugins.declared import PluginTool
from apexbridge_trio.plugins.mcp.content import output_of
from apexbridge_trio.plugins.mcp.http import http
from apexbridge_trio.plugins.mcp.listing import bind_tools, hear_changes, list_tools
from apexbridge_trio.plugins.mcp.mount import Mount
from apexbridge_trio.plugins.mcp.stdio import stdio
from apexbridge_trio.plugins.output import Output
from apexbridge_trio.plugins.tool import CallContext

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client import IncomingMessage

# From the start of a server to its tools, seconds: the first `uvx` or `npx` loads its packages.
START_S: Final = 60.0
# How long a server may take to tell its tools again, and how long it is not asked then, however often
# it says that they have changed, seconds.
LIST_S: Final = 30.0
REST_S: Final = 1.0
# How long a call waits for a session that is about to be there, within its own limit, seconds.
SOON_S: Final = 10.0

log = get_logger("plugins")

MISSING: Final = f"The library for MCP is not installed: {remedy('mcp')}"


class McpServer:
    """A server and its tools.

    Args:
        mount: Where it is.
        on_tools: Called when `tools` has changed.

    Attributes:
        tools: What it last said it has, by the names of the hub; kept while it is down.
        has_told: Whether it ever has.
        calls: How many are being made.
    """

    def __init__(self, mount: Mount, on_tools: Callable[[], None] = lambda: None) -> None:
        self.mount = mount
        self.tools: Mapping[str, PluginTool] = {}
        self.has_told = False
        self.calls = 0
        self._on_tools = on_tools
        self._slots = trio.CapacityLimiter(mount.limits.max_concurrency)
        self._client: Client | None = None
        self._fault = ""
        self._left_out: Mapping[str, str] = {}
        self._moved = trio.Event()
        self._asked = trio.Event()
        self._idle = trio.Event()

    @property
    def name(self) -> str:
        """The plugin's."""
        return self.mount.name

    async def run(self, up: Callable[[], None]) -> None:
        """Hold one session until it ends, which is a fault; `up` is called once it has told its tools.

        Cancellation: the server is asked to end, then ended; when this returns it is gone.

        Raises:
            ToolFailed: Why there is no session any more, in one sentence.
        """
        self._fault = ""  # of a server that was switched off and is wanted again
        with boundary(), trio.CancelScope(deadline=trio.current_time() + START_S) as patience:
            async with self._connected() as client:
                await self._learn(client)
                patience.deadline = math.inf
                self._move(client, "")
                up()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(hear_changes, client, self._ask_again, name=f"{self.mount.name} news")
                    await self._follow(client)
        raise ToolFailed(f"The MCP server did not answer within {START_S:g} s.")

    def note_end(self, fault: str, retry_in_s: float) -> None:
        """Take note that a session has ended, why, and when the next one is tried."""
        self._move(None, fault if retry_in_s > SOON_S else "")

    async def idle(self) -> None:
        """Wait until no call is being made."""
        while self.calls:
            await self._idle.wait()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator["Client"]:
        make_client = await _library()
        transport = stdio(self.mount) if self.mount.command else http(self.mount)
        async with make_client(transport, cache=None, message_handler=self._hear) as client:
            try:
                yield client
            finally:
                # Before it is closed, which takes a moment: who calls meanwhile waits for the next one.
                self._client = None

    async def _hear(self, message: "IncomingMessage") -> None:
        """Take what the server says unasked; what matters here is that its tools have changed."""
        if getattr(message, "method", "") == "notifications/tools/list_changed":
            self._ask_again()

    def _ask_again(self) -> None:
        self._asked.set()

    async def _follow(self, client: "Client") -> None:
        """Learn the tools again whenever somebody asks for it."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            with trio.move_on_after(LIST_S) as patience:
                await self._learn(client)
            if patience.cancelled_caught:
                raise ToolFailed(f"The MCP server did not tell its tools within {LIST_S:g} s.")
            await trio.sleep(REST_S)

    async def _learn(self, client: "Client") -> None:
        self.tools, left_out = bind_tools(await list_tools(client), self.mount, self._call)
        for tool in left_out.keys() - self._left_out.keys():
            log.warning("tool left out", plugin=self.mount.name, tool=tool, reason=left_out[tool])
        self._left_out = left_out
        self.has_told = True
        self._on_tools()

    async def _call(self, tool: str, arguments: dict[str, Any], _context: CallContext) -> Output:
        self.calls += 1
        try:
            async with self._slots:
                return await self._ask(await self._session(), tool, arguments)
        finally:
            self.calls -= 1
            if not self.calls:
                self._idle.set()
                self._idle = trio.Event()

    async def _ask(self, client: "Client", tool: str, arguments: dict[str, Any]) -> Output:
        from mcp import MCPError
        from mcp.types import CONNECTION_CLOSED

        try:
            return output_of(await client.call_tool(tool, arguments))
        except MCPError as fault:
            if fault.code == CONNECTION_CLOSED:
                self._client = None  # its end is on the way; the next call waits for the next session
            # Over HTTP a session can be dead without anybody having said so. To ask for its
            # tools is how to find out; if it is, that ends it.
            self._ask_again()
            raise ToolFailed(shown(fault.message)) from fault

    async def _session(self) -> "Client":
        """Return the session, or wait a moment for one that is about to be there."""
        with trio.move_on_after(SOON_S):
            while self._client is None and not self._fault:
                await self._moved.wait()
        if self._client is None:
            raise ToolFailed(f"{self.mount.name} is not there: {self._fault or 'it is being started'}")
        return self._client

    def _move(self, client: "Client | None", fault: str) -> None:
        self._client, self._fault = client, fault
        self._moved.set()
        self._moved = trio.Event()


async def _library() -> "type[Client]":
    """Import the library, in a thread: it takes about a second, in which the hub goes on."""
    try:
        library = await trio.to_thread.run_sync(importlib.import_module, "mcp")
    except ImportError:
        raise ToolFailed(MISSING) from None
    client: type[Client] = library.Client
    return client
