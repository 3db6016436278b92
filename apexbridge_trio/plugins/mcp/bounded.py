"""How much of one answer over HTTP is taken into memory.

The library bounds an event of a stream, and reads any other answer whole (mcp 2.3.0). So that is
counted here, below the library, where the bytes arrive.
"""

from collections.abc import AsyncIterator
from contextlib import suppress

import httpx2

_PLAIN = frozenset({"", "identity"})
_STREAM = "text/event-stream"


class Bounded(httpx2.AsyncBaseTransport):
    """A transport whose answers end with a fault where they would be too long.

    What the library catches is a `StreamError`: it fails the one call, and the session goes on.

    Args:
        inner: Does the work.
        max_bytes: Of one answer; an event stream may go on, as its events are bounded by the library.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, max_bytes: int) -> None:
        self._inner = inner
        self._max_bytes = max_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Ask, and return an answer that is counted as it is read."""
        response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)  # it is, of an async transport
        response.stream = _Counted(response.stream, self._bound(response), _fault(response))
        return response

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._inner.aclose()

    def _bound(self, response: httpx2.Response) -> float:
        kind = response.headers.get("content-type", "").lower()
        return float("inf") if kind.startswith(_STREAM) else self._max_bytes


def _fault(response: httpx2.Response) -> str:
    # A few kilobytes that were compressed can be gigabytes, of which no count here would know.
    coding = response.headers.get("content-encoding", "").strip().lower()
    return "" if coding in _PLAIN else "The MCP server compressed its answer, which it was not asked to."


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, bound: float, fault: str) -> None:
        self._stream = stream
        self._bound = bound
        self._fault = fault

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._fault:
            raise httpx2.StreamError(self._fault)
        came = 0
        pieces = aiter(self._stream)
        async for data in pieces:
            came += len(data)
            if came > self._bound:
                await self._cut(pieces)
                raise httpx2.StreamError(f"The MCP server sent an answer over {self._bound} bytes.")
            yield data

    async def _cut(self, pieces: AsyncIterator[bytes]) -> None:
        """Close the connection, which is an error to every generator below and ends them.

        One that is only left is ended by the garbage collector, which has no task to do it in
        (httpx2 2.16.2). What they still hand out was in memory already.
        """
        await self._stream.aclose()
        with suppress(httpx2.HTTPError):
            async for _ in pieces:
                pass

    async def aclose(self) -> None:
        await self._stream.aclose()
