"""A small MCP server, run as ``python -m tests.fakes.mcp_server [stdio | SOCKET [json]]``.

SOCKET is the number of a descriptor that it inherits and that listens: so nobody else takes its port, and who
connects early waits.

Its notes go to the file that NOTES names, a line each: what happened to a call is seen there.
"""

import base64
import os
import socket
import sys
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

server = MCPServer("fake")
ENV = dict(os.environ)
DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def note(text: str) -> None:
    with Path(ENV["NOTES"]).open("a") as file:
        file.write(text + "\n")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def environment() -> dict[str, Any]:
    """Tell what the server finds."""
    return {name: ENV.get(name) for name in ("LAMP", "OPENAI_API_KEY")} | {"pid": os.getpid()}


@server.tool(structured_output=False)
def picture() -> list[Any]:
    """Show a dot."""
    return ["a dot:", Image(data=DOT, format="png")]


@server.tool(structured_output=False)
def say(text: str) -> str:
    """Say it again."""
    return text


@server.tool()
def fail() -> str:
    """Fail."""
    raise ToolError("the lamp is broken")


@server.tool()
async def hold() -> str:
    """Never answer."""
    note("hold begun")
    try:
        await anyio.sleep_forever()
    finally:
        note("hold ended")
    return ""


@server.tool()
def leave(code: int) -> str:
    """End the server."""
    sys.stderr.write("I am leaving\n")
    sys.stderr.flush()
    os._exit(code)


@server.tool()
async def grow(ctx: Context) -> str:
    """Get one more tool."""
    server.add_tool(add, name="sum")
    await ctx.session.send_tool_list_changed()  # of the handshake's kind
    await ctx.notify_tools_changed()  # of the newer kind
    return "grown"


if __name__ == "__main__":
    if sys.argv[1:] in ([], ["stdio"]):
        server.run()
    else:
        app = server.streamable_http_app(json_response=sys.argv[2:] == ["json"])
        uvicorn.Server(uvicorn.Config(app)).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
