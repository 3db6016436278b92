"""An MCP server at an address: streamable HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from apexbridge_trio.plugins.mcp.mount import MAX_MESSAGE_BYTES, Mount

if TYPE_CHECKING:
    from mcp.client import Transport
    from mcp.client._transport import TransportStreams

# For connecting and for sending, seconds.
CONNECT_S: Final = 10.0
# How long an answer, or the stream of what a server says unasked, may be silent at least: the
# library's own figure (mcp 2.3.0). A stream that was cut is opened again by it.
SILENCE_S: Final = 300.0


def http(mount: Mount) -> "Transport":
    """Return the transport to `mount`'s address."""
    return _open(mount)


@asynccontextmanager
async def _open(mount: Mount) -> AsyncIterator["TransportStreams"]:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    from apexbridge_trio.plugins.mcp.bounded import Bounded

    # What is compressed can not be counted before it is in memory.
    headers = {"Accept-Encoding": "identity"}
    if mount.token:
        headers["Authorization"] = f"Bearer {mount.token.reveal()}"
    timeout = httpx2.Timeout(CONNECT_S, read=max(SILENCE_S, mount.limits.max_execution_s))
    # No trust_env: a proxy of the environment does not lead to a server at home.
    door = Bounded(httpx2.AsyncHTTPTransport(trust_env=False), MAX_MESSAGE_BYTES)
    client = httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=False, transport=door)
    session = streamable_http_client(mount.url, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES)
    async with client, session as streams:
        yield streams
