"""What a server says its tools are, as tools of the hub."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from apexbridge_trio.errors import ConfigInvalid
from apexbridge_trio.plugins.arguments import ArgumentSchema
from apexbridge_trio.plugins.declared import PluginTool
from apexbridge_trio.plugins.mcp.mount import Mount
from apexbridge_trio.plugins.output import Output
from apexbridge_trio.plugins.tool import CallContext

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import Tool as TheirTool

# Of a server with more, the rest is left out: no provider takes more tools in one request (OpenAI's limit),
# and no home model chooses well among them.
MAX_TOOLS: Final = 128
MAX_PAGES: Final = 32
# Letters of a description, and bytes of a schema as JSON: they go into each prompt that offers the tool.
MAX_DESCRIPTION: Final = 16_384
MAX_SCHEMA: Final = 65_536

Ask = Callable[[str, dict[str, Any], CallContext], Awaitable[Output]]


async def list_tools(client: "Client") -> "list[TheirTool]":
    """Ask a server for its tools, page by page, until there are too many."""
    page = await client.list_tools()
    theirs = list(page.tools)
    for _ in range(MAX_PAGES - 1):
        if page.next_cursor is None or len(theirs) > MAX_TOOLS:
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


def bind_tools(
    theirs: "Sequence[TheirTool]", mount: Mount, ask: Ask
) -> tuple[dict[str, PluginTool], dict[str, str]]:
    """Put each tool behind the limits of its mount; returns why the others are left out, too."""
    tools: dict[str, PluginTool] = {}
    left_out: dict[str, str] = {}
    for their in theirs[:MAX_TOOLS]:
        name = mount.tool_name(their.name)
        if name in tools:
            left_out[their.name] = f"another tool of it is called {name} already"
            continue
        try:
            tools[name] = _bound(name, their, mount, ask)
        except ConfigInvalid as fault:
            left_out[their.name] = fault.message
    if len(theirs) > MAX_TOOLS:
        left_out[theirs[MAX_TOOLS].name] = f"it has more than {MAX_TOOLS} tools: this one and the next"
    return tools, left_out


def _bound(name: str, their: "TheirTool", mount: Mount, ask: Ask) -> PluginTool:
    if len(msgspec.json.encode(their.input_schema)) > MAX_SCHEMA:
        raise ConfigInvalid(f"its schema is larger than {MAX_SCHEMA} bytes")
    said = their.annotations
    return PluginTool(
        name=name,
        description=(their.description or their.title or their.name)[:MAX_DESCRIPTION],
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
