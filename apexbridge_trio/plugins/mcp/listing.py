"""What a server says its tools are, as tools of the hub."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.log import get_logger
from apexbridge_trio.plugins.arguments import ArgumentSchema
from apexbridge_trio.plugins.declared import PluginTool
from apexbridge_trio.plugins.mcp.mount import Mount
from apexbridge_trio.plugins.output import Output
from apexbridge_trio.plugins.tool import CallContext

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import Tool as TheirTool

# Pages of a listing; of a server with more the rest is left out.
MAX_PAGES: Final = 32

Ask = Callable[[str, dict[str, Any], CallContext], Awaitable[Output]]

log = get_logger("plugins")


async def list_tools(client: "Client") -> "list[TheirTool]":
    """Ask a server for its tools, page by page."""
    page = await client.list_tools()
    theirs = list(page.tools)
    for _ in range(MAX_PAGES - 1):
        if page.next_cursor is None:
            break
        page = await client.list_tools(cursor=page.next_cursor)
        theirs += page.tools
    return theirs


async def hear_changes(client: "Client", changed: Callable[[], None]) -> None:
    """Call `changed` whenever a server of the protocol's newer kind says that its tools are others.

    One of the older kind, of the handshake, says so unasked; one that refuses is left alone.
    """
    from mcp import MCPError
    from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost

    with suppress(ListenNotSupportedError, SubscriptionLost, MCPError):
        async with client.listen(tools_list_changed=True) as news:
            changed()  # what happened before it listened is not told again
            async for _ in news:
                changed()


def bind_tools(theirs: "Iterable[TheirTool]", mount: Mount, ask: Ask) -> dict[str, PluginTool]:
    """Put each tool behind the limits of its mount; one that can not be offered is left out, and told."""
    tools: dict[str, PluginTool] = {}
    for their in theirs:
        name, fault = mount.tool_name(their.name), ""
        if name in tools:
            fault = f"another tool of it is called {name} already"
        else:
            try:
                tools[name] = _bound(name, their, mount, ask)
            except ConfigInvalid as invalid:
                fault = invalid.message
        if fault:
            log.warning("tool left out", plugin=mount.name, tool=their.name, reason=fault)
    return tools


def _bound(name: str, their: "TheirTool", mount: Mount, ask: Ask) -> PluginTool:
    said = their.annotations
    return PluginTool(
        name=name,
        description=their.description or their.title or their.name,
        parameters=their.input_schema,
        plugin=mount.name,
        kind="plugin",
        max_execution_s=mount.limits.max_execution_s,
        max_output_bytes=mount.limits.max_output_bytes,
        idempotent=bool(said and (said.read_only_hint or said.idempotent_hint)),
        later=None,
        schema=ArgumentSchema(their.input_schema),
        run=partial(ask, their.name),
    )
