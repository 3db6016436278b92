"""The mcp runtime: servers of the Model Context Protocol, their tools as tools of the hub.

Through the official library (the extra ``mcp``), which runs on anyio's Trio backend. It is heavy, so
it is imported when the first server is started; nothing at the top of these modules needs it.
"""

from apexbridge_trio.plugins.mcp.mount import Mount
from apexbridge_trio.plugins.mcp.server import McpServer

__all__ = ["McpServer", "Mount"]
