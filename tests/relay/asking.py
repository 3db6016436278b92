"""A pool, a provider in memory, and how the tests of this room ask it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from apexbridge_trio.relay import Connect, RelayPool, RelayResponse
from tests.fakes.upstream import FakeUpstream

PATH = b"/chat/completions"


def pool_of(
    connect: Connect = trio.open_tcp_stream, base_url: str = "http://fake/v1", **more: Any
) -> RelayPool:
    settings: dict[str, Any] = {"connect_timeout_s": 5.0, "idle_timeout_s": 60.0} | more
    return RelayPool(base_url, name="fake", connect=connect, **settings)


def body_of(model: str, *, stream: bool = False) -> bytes:
    asked = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps(asked).encode()


async def read(response: RelayResponse) -> bytes:
    whole = b""
    while piece := await response.receive():
        whole += piece
    return whole


async def ask(pool: RelayPool, model: str, *, stream: bool = False) -> bytes:
    async with pool.open(b"POST", PATH, [], body_of(model, stream=stream)) as response:
        return await read(response)


@asynccontextmanager
async def world(**more: Any) -> AsyncIterator[tuple[FakeUpstream, RelayPool]]:
    """A provider in memory and a pool that asks it; nothing of it is left afterwards."""
    async with FakeUpstream() as provider:
        pool = pool_of(provider.connect, **more)
        try:
            yield provider, pool
        finally:
            pool.close()
