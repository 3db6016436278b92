"""A provider in memory, an `Upstream` that asks it, and how the tests of this room do it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from apexbridge_trio import config
from apexbridge_trio.upstream import Upstream
from tests.fakes.upstream import FakeUpstream

KEY = "sk-hush-1234567890"


def entry_of(**more: Any) -> config.Upstream:
    return config.Upstream(**{"name": "fake", "base_url": "http://fake/v1"} | more)


def most(low: float, high: float) -> float:
    """Draw the longest pause, so that times can be told."""
    return high


@asynccontextmanager
async def world(*, key: str = "", **more: Any) -> AsyncIterator[tuple[FakeUpstream, Upstream]]:
    """Nothing of it is left afterwards, and no request was anything but HTTP."""
    async with FakeUpstream(key=key) as provider:
        upstream = Upstream(
            entry_of(**more), connect=provider.connect, transport=provider.transport, jitter=most
        )
        try:
            yield provider, upstream
        finally:
            upstream.close()
        assert not provider.faults


async def ask(upstream: Upstream, model: str, *, stream: bool = False) -> bytes:
    asked = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    body = b""
    async with upstream.open_answer(json.dumps(asked).encode(), model) as answer:
        while piece := await answer.receive():
            body += piece
    return body
