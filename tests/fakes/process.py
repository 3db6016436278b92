"""The fake provider as a process of its own, for tests over real sockets."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import trio


@dataclass(frozen=True)
class ProviderProcess:
    """A running provider."""

    port: int

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def seen(self, **query: int) -> list[dict[str, Any]]:
        """Ask for the connections it saw; `closed=N` waits for the end of connection N."""
        async with httpx.AsyncClient(trust_env=False, timeout=None) as client:
            answer = await client.get(f"http://127.0.0.1:{self.port}/seen", params=query)
        connections: list[dict[str, Any]] = answer.json()["connections"]
        return connections


@asynccontextmanager
async def provider_process() -> AsyncIterator[ProviderProcess]:
    """Start the provider; it is gone when the block is left."""
    command = [sys.executable, "-m", "tests.fakes.upstream", "--port", "0"]
    run = partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(run)
        assert process.stdout
        async with process.stdout:
            yield ProviderProcess(int(await process.stdout.receive_some()))
        nursery.cancel_scope.cancel(reason="the test is over")
