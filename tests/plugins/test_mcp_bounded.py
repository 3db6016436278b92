"""What a server may send over HTTP: counted where it arrives, below the library that reads it whole."""

import gzip
from collections.abc import AsyncIterator

import httpx2
import pytest

from apexbridge_trio.plugins.mcp.bounded import Bounded

MAX = 1000


class Pieces(httpx2.AsyncByteStream):
    """A body in pieces that tells how many of them were taken, and that it was closed, which ends it."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.taken = 0
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if self.is_closed:
                raise httpx2.ReadError("closed")
            self.taken += 1
            yield piece

    async def aclose(self) -> None:
        self.is_closed = True


async def read(body: Pieces, **headers: str) -> bytes:
    async def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(
            200, headers={name.replace("_", "-"): headers[name] for name in headers}, stream=body
        )

    door = Bounded(httpx2.MockTransport(answer), MAX)
    async with httpx2.AsyncClient(transport=door) as client, client.stream("GET", "http://lamps") as reply:
        return await reply.aread()


async def test_an_answer_of_the_bound_is_read_whole() -> None:
    assert len(await read(Pieces(b"x" * 600, b"x" * 400), content_type="application/json")) == MAX


@pytest.mark.parametrize("kind", ["application/json", "text/html", ""])
async def test_one_byte_more_is_a_fault_and_the_rest_is_not_taken(kind: str) -> None:
    body = Pieces(b"x" * 600, b"x" * 401, b"x" * 1000)
    with pytest.raises(httpx2.StreamError, match="over 1000 bytes"):
        await read(body, content_type=kind)
    assert (body.taken, body.is_closed) == (2, True)


async def test_a_stream_of_events_may_go_on() -> None:
    pieces = Pieces(*[b"data: x\n\n"] * MAX)
    assert len(await read(pieces, content_type="text/event-stream; charset=utf-8")) == 9 * MAX


async def test_what_is_compressed_is_not_unpacked() -> None:
    body = Pieces(gzip.compress(b"x" * 100_000_000, 1)[:900])
    with pytest.raises(httpx2.StreamError, match="compressed its answer"):
        await read(body, content_type="application/json", content_encoding="gzip")
    assert (body.taken, body.is_closed) == (0, True)
